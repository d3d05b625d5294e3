// RUN: gossamer-opt %s --gossamer-sparsify-generics -verify-diagnostics -o %t
// RUN: FileCheck %s < %t

#CSR = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 : dense, d1 : compressed) }>

// exp is 1 where nothing is stored, which the sparsifier does not make: the operand becomes dense again.
// CHECK-LABEL: func @exp
func.func @exp(%s: tensor<?x?xf32, #CSR>, %e: tensor<?x?xf32>) -> tensor<?x?xf32> {
  %d = gossamer.convert %s {fill = 0.0 : f32} : tensor<?x?xf32, #CSR> to tensor<?x?xf32>
  // CHECK: %[[D:.*]] = gossamer.convert %{{.*}} {fill = 0.000000e+00 : f32} {{.*}} to tensor<?x?xf32>
  // CHECK: linalg.generic {{.*}} ins(%[[D]] : tensor<?x?xf32>)
  // expected-remark @+1 {{not sparsified: its sparse operand is made dense}}
  %0 = linalg.generic {indexing_maps = [affine_map<(i, j) -> (i, j)>, affine_map<(i, j) -> (i, j)>], iterator_types = ["parallel", "parallel"]}
      ins(%d : tensor<?x?xf32>) outs(%e : tensor<?x?xf32>) {
  ^bb0(%a: f32, %o: f32):
    %x = math.exp %a : f32
    linalg.yield %x : f32
  } -> tensor<?x?xf32>
  return %0 : tensor<?x?xf32>
}

// A broadcast (a constant in a map) crashes upstream; a diagonal is not tried.
// CHECK-LABEL: func @maps
func.func @maps(%s: tensor<1x8xf32, #CSR>, %t: tensor<8x8xf32, #CSR>, %e: tensor<8x8xf32>, %v: tensor<8xf32>) -> (tensor<8x8xf32>, tensor<8xf32>) {
  %d = gossamer.convert %s {fill = 0.0 : f32} : tensor<1x8xf32, #CSR> to tensor<1x8xf32>
  // CHECK: linalg.generic {{.*}} ins(%{{.*}}, %{{.*}} : tensor<1x8xf32>, tensor<8x8xf32>)
  %0 = linalg.generic {indexing_maps = [affine_map<(i, j) -> (0, j)>, affine_map<(i, j) -> (i, j)>, affine_map<(i, j) -> (i, j)>], iterator_types = ["parallel", "parallel"]}
      ins(%d, %e : tensor<1x8xf32>, tensor<8x8xf32>) outs(%e : tensor<8x8xf32>) {
  ^bb0(%a: f32, %b: f32, %o: f32):
    %x = arith.mulf %a, %b : f32
    linalg.yield %x : f32
  } -> tensor<8x8xf32>
  %d2 = gossamer.convert %t {fill = 0.0 : f32} : tensor<8x8xf32, #CSR> to tensor<8x8xf32>
  // CHECK: linalg.generic {{.*}} ins(%{{.*}} : tensor<8x8xf32>)
  %1 = linalg.generic {indexing_maps = [affine_map<(i) -> (i, i)>, affine_map<(i) -> (i)>], iterator_types = ["parallel"]}
      ins(%d2 : tensor<8x8xf32>) outs(%v : tensor<8xf32>) {
  ^bb0(%a: f32, %o: f32):
    %x = arith.addf %a, %a : f32
    linalg.yield %x : f32
  } -> tensor<8xf32>
  return %0, %1 : tensor<8x8xf32>, tensor<8xf32>
}
