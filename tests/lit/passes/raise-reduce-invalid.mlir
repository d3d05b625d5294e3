// RUN: gossamer-opt %s --gossamer-raise-reduce -verify-diagnostics | FileCheck %s

#CSR = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 : dense, d1 : compressed) }>
#ij = affine_map<(i, j) -> (i, j)>
#i = affine_map<(i, j) -> (i)>
#two = {indexing_maps = [#ij, #ij, #ij], iterator_types = ["parallel", "parallel"]}
#rows = {indexing_maps = [#ij, #i], iterator_types = ["parallel", "reduction"]}

// CHECK-NOT: = gossamer.reduce

// s + d is d where s stores nothing.
func.func @dense(%s: tensor<?x?xf32, #CSR>, %d: tensor<?x?xf32>, %e: tensor<?x?xf32>, %r: tensor<?xf32>) -> tensor<?xf32> {
  %zero = arith.constant 0.0 : f32
  %sd = gossamer.convert %s {fill = 0.0 : f32} : tensor<?x?xf32, #CSR> to tensor<?x?xf32>
  %0 = linalg.generic #two ins(%sd, %d : tensor<?x?xf32>, tensor<?x?xf32>) outs(%e : tensor<?x?xf32>) {
  ^bb0(%x: f32, %y: f32, %o: f32):
    %p = arith.addf %x, %y : f32
    linalg.yield %p : f32
  } -> tensor<?x?xf32>
  %f = linalg.fill ins(%zero : f32) outs(%r : tensor<?xf32>) -> tensor<?xf32>
  // expected-remark @+1 {{not raised to gossamer.reduce: what it reduces is not one number where nothing is stored}}
  %1 = linalg.generic #rows ins(%0 : tensor<?x?xf32>) outs(%f : tensor<?xf32>) {
  ^bb0(%x: f32, %o: f32):
    %p = arith.addf %x, %o : f32
    linalg.yield %p : f32
  } -> tensor<?xf32>
  return %1 : tensor<?xf32>
}

// cos(0) is neither 0 nor 1 after doubling.
func.func @product(%s: tensor<?x?xf32, #CSR>, %e: tensor<?x?xf32>, %r: tensor<?xf32>) -> tensor<?xf32> {
  %one = arith.constant 1.0 : f32
  %two = arith.constant 2.0 : f32
  %sd = gossamer.convert %s {fill = 0.0 : f32} : tensor<?x?xf32, #CSR> to tensor<?x?xf32>
  %0 = linalg.generic {indexing_maps = [#ij, #ij], iterator_types = ["parallel", "parallel"]}
      ins(%sd : tensor<?x?xf32>) outs(%e : tensor<?x?xf32>) {
  ^bb0(%x: f32, %o: f32):
    %p = arith.addf %x, %two : f32
    linalg.yield %p : f32
  } -> tensor<?x?xf32>
  %f = linalg.fill ins(%one : f32) outs(%r : tensor<?xf32>) -> tensor<?xf32>
  // expected-remark @+1 {{a product of entries that are neither 0 nor 1 where nothing is stored}}
  %1 = linalg.generic #rows ins(%0 : tensor<?x?xf32>) outs(%f : tensor<?xf32>) {
  ^bb0(%x: f32, %o: f32):
    %p = arith.mulf %x, %o : f32
    linalg.yield %p : f32
  } -> tensor<?xf32>
  return %1 : tensor<?xf32>
}
