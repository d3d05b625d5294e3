// RUN: gossamer-opt %s --gossamer-raise-reduce -canonicalize --split-input-file | FileCheck %s

#CSR = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 : dense, d1 : compressed) }>
#ij = affine_map<(i, j) -> (i, j)>
#i = affine_map<(i, j) -> (i)>
#two = {indexing_maps = [#ij, #ij, #ij], iterator_types = ["parallel", "parallel"]}
#rows = {indexing_maps = [#ij, #i], iterator_types = ["parallel", "reduction"]}

// The maximum over rows of exp(x), which is 1 where nothing is stored.
// CHECK-LABEL: func @maximum
// CHECK-SAME: %[[S:[^:]*]]: tensor<?x?xf32, #
// CHECK: gossamer.reduce maximumf ins(%[[S]] : {{.*}}) outs(%{{.*}} : tensor<?xf32>) fill(1.000000e+00 : f32)
// CHECK-NEXT: ^bb0(%[[V:.*]]: f32):
// CHECK-NEXT: %[[X:.*]] = math.exp %[[V]]
// CHECK-NEXT: gossamer.yield %[[X]]
func.func @maximum(%s: tensor<?x?xf32, #CSR>, %e: tensor<?x?xf32>, %r: tensor<?xf32>) -> tensor<?xf32> {
  %lowest = arith.constant 0xFF800000 : f32
  %sd = gossamer.convert %s {fill = 0.0 : f32} : tensor<?x?xf32, #CSR> to tensor<?x?xf32>
  %0 = linalg.generic {indexing_maps = [#ij, #ij], iterator_types = ["parallel", "parallel"]}
      ins(%sd : tensor<?x?xf32>) outs(%e : tensor<?x?xf32>) {
  ^bb0(%x: f32, %o: f32):
    %p = math.exp %x : f32
    linalg.yield %p : f32
  } -> tensor<?x?xf32>
  %f = linalg.fill ins(%lowest : f32) outs(%r : tensor<?xf32>) -> tensor<?xf32>
  %1 = linalg.generic #rows ins(%0 : tensor<?x?xf32>) outs(%f : tensor<?xf32>) {
  ^bb0(%x: f32, %o: f32):
    %p = arith.maximumf %x, %o : f32
    linalg.yield %p : f32
  } -> tensor<?xf32>
  return %1 : tensor<?xf32>
}

// -----

#CSR = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 : dense, d1 : compressed) }>
#ij = affine_map<(i, j) -> (i, j)>
#i = affine_map<(i, j) -> (i)>
#two = {indexing_maps = [#ij, #ij, #ij], iterator_types = ["parallel", "parallel"]}
#rows = {indexing_maps = [#ij, #i], iterator_types = ["parallel", "reduction"]}

// The sum over rows of p * (a @ b): the product is computed on the pattern.
// CHECK-LABEL: func @product
// CHECK-SAME: %[[P:[^:]*]]: tensor<?x?xf32, #
// CHECK: %[[D:.*]] = gossamer.sddmm ins(%[[P]],
// CHECK: gossamer.reduce addf ins(%[[P]] : {{.*}}) with(%[[D]] : tensor<?x?xf32, #{{.*}}>)
// CHECK: arith.mulf
func.func @product(%p: tensor<?x?xf32, #CSR>, %a: tensor<?x?xf32>, %b: tensor<?x?xf32>, %e: tensor<?x?xf32>, %r: tensor<?xf32>) -> tensor<?xf32> {
  %zero = arith.constant 0.0 : f32
  %pd = gossamer.convert %p {fill = 0.0 : f32} : tensor<?x?xf32, #CSR> to tensor<?x?xf32>
  %f = linalg.fill ins(%zero : f32) outs(%e : tensor<?x?xf32>) -> tensor<?x?xf32>
  %d = linalg.generic {indexing_maps = [affine_map<(i, j, k) -> (i, k)>, affine_map<(i, j, k) -> (k, j)>, affine_map<(i, j, k) -> (i, j)>],
                       iterator_types = ["parallel", "parallel", "reduction"]}
      ins(%a, %b : tensor<?x?xf32>, tensor<?x?xf32>) outs(%f : tensor<?x?xf32>) {
  ^bb0(%x: f32, %y: f32, %o: f32):
    %m = arith.mulf %x, %y : f32
    %q = arith.addf %m, %o : f32
    linalg.yield %q : f32
  } -> tensor<?x?xf32>
  %0 = linalg.generic #two ins(%pd, %d : tensor<?x?xf32>, tensor<?x?xf32>) outs(%e : tensor<?x?xf32>) {
  ^bb0(%x: f32, %y: f32, %o: f32):
    %m = arith.mulf %x, %y : f32
    linalg.yield %m : f32
  } -> tensor<?x?xf32>
  %g = linalg.fill ins(%zero : f32) outs(%r : tensor<?xf32>) -> tensor<?xf32>
  %1 = linalg.generic #rows ins(%0 : tensor<?x?xf32>) outs(%g : tensor<?xf32>) {
  ^bb0(%x: f32, %o: f32):
    %s = arith.addf %x, %o : f32
    linalg.yield %s : f32
  } -> tensor<?xf32>
  return %1 : tensor<?xf32>
}
