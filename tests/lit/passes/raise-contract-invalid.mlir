// RUN: gossamer-opt %s --gossamer-raise-contract -verify-diagnostics -split-input-file -o %t
// RUN: FileCheck %s < %t

#CSR = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 : dense, d1 : compressed) }>
#diagonal = {indexing_maps = [affine_map<(i) -> (i, i)>, affine_map<(i) -> (i, i)>, affine_map<(i) -> ()>], iterator_types = ["reduction"]}

// CHECK-LABEL: func @diagonal
// CHECK-NOT: = gossamer.contract
func.func @diagonal(%a: tensor<?x?xf32, #CSR>, %b: tensor<?x?xf32, #CSR>, %e: tensor<f32>) -> tensor<f32> {
  %zero = arith.constant 0.0 : f32
  %ad = gossamer.convert %a {fill = 0.0 : f32} : tensor<?x?xf32, #CSR> to tensor<?x?xf32>
  %bd = gossamer.convert %b {fill = 0.0 : f32} : tensor<?x?xf32, #CSR> to tensor<?x?xf32>
  %f = linalg.fill ins(%zero : f32) outs(%e : tensor<f32>) -> tensor<f32>
  // expected-remark @+1 {{an index occurs twice in one operand}}
  %0 = linalg.generic #diagonal ins(%ad, %bd : tensor<?x?xf32>, tensor<?x?xf32>) outs(%f : tensor<f32>) {
  ^bb0(%x: f32, %y: f32, %o: f32):
    %p = arith.mulf %x, %y : f32
    %s = arith.addf %p, %o : f32
    linalg.yield %s : f32
  } -> tensor<f32>
  return %0 : tensor<f32>
}

// -----

#CSR = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 : dense, d1 : compressed) }>
#product = {indexing_maps = [affine_map<(i, j, k) -> (i, k)>, affine_map<(i, j, k) -> (k, j)>, affine_map<(i, j, k) -> (i, j)>],
            iterator_types = ["parallel", "parallel", "reduction"]}

// CHECK-LABEL: func @fill
// CHECK-NOT: = gossamer.contract
func.func @fill(%a: tensor<?x?xf32, #CSR>, %b: tensor<?x?xf32, #CSR>, %e: tensor<?x?xf32>) -> tensor<?x?xf32> {
  %zero = arith.constant 0.0 : f32
  %ad = gossamer.convert %a {fill = 0.0 : f32} : tensor<?x?xf32, #CSR> to tensor<?x?xf32>
  %bd = gossamer.convert %b {fill = 1.0 : f32} : tensor<?x?xf32, #CSR> to tensor<?x?xf32>
  %f = linalg.fill ins(%zero : f32) outs(%e : tensor<?x?xf32>) -> tensor<?x?xf32>
  // expected-remark @+1 {{the sparse operand's fill is not 0}}
  %0 = linalg.generic #product ins(%ad, %bd : tensor<?x?xf32>, tensor<?x?xf32>) outs(%f : tensor<?x?xf32>) {
  ^bb0(%x: f32, %y: f32, %o: f32):
    %p = arith.mulf %x, %y : f32
    %s = arith.addf %p, %o : f32
    linalg.yield %s : f32
  } -> tensor<?x?xf32>
  return %0 : tensor<?x?xf32>
}
