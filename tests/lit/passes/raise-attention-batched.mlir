// Grouped queries, a mask for all batches and heads, a causal change of the
// scores by index: batch loops are numbered as the result has them.
// RUN: gossamer-opt %s --gossamer-raise-attention -canonicalize | FileCheck %s

#CSR4 = #sparse_tensor.encoding<{ map = (d0, d1, d2, d3) -> (d0 : dense, d1 : dense, d2 : dense, d3 : compressed) }>

// CHECK-DAG: #[[Q:.*]] = affine_map<(d0, d1, d2, d3, d4, d5, d6) -> (d0, d1, d2, d3, d5)>
// CHECK-DAG: #[[K:.*]] = affine_map<(d0, d1, d2, d3, d4, d5, d6) -> (d0, d1, d4, d5)>
// CHECK-DAG: #[[V:.*]] = affine_map<(d0, d1, d2, d3, d4, d5, d6) -> (d0, d1, d4, d6)>
// CHECK-DAG: #[[M:.*]] = affine_map<(d0, d1, d2, d3, d4, d5, d6) -> (0, 0, d3, d4)>
// CHECK-DAG: #[[R:.*]] = affine_map<(d0, d1, d2, d3, d4, d5, d6) -> (d0, d1, d2, d3, d6)>

// CHECK-LABEL: func @grouped
func.func @grouped(%q: tensor<?x?x?x?x?xf32>, %k: tensor<?x?x?x?xf32>, %v: tensor<?x?x?x?xf32>,
                   %m: tensor<1x1x?x?xi1, #CSR4>, %e: tensor<?x?x?x?x?xf32>) -> tensor<?x?x?x?x?xf32> {
  %zero = arith.constant 0.0 : f32
  %lowest = arith.constant -1.0e9 : f32
  %f = linalg.fill ins(%zero : f32) outs(%e : tensor<?x?x?x?x?xf32>) -> tensor<?x?x?x?x?xf32>
  %0 = linalg.generic {indexing_maps = [affine_map<(b, h, g, i, j, d) -> (b, h, g, i, d)>, affine_map<(b, h, g, i, j, d) -> (b, h, j, d)>,
                                        affine_map<(b, h, g, i, j, d) -> (b, h, g, i, j)>],
                       iterator_types = ["parallel", "parallel", "parallel", "parallel", "parallel", "reduction"]}
      ins(%q, %k : tensor<?x?x?x?x?xf32>, tensor<?x?x?x?xf32>) outs(%f : tensor<?x?x?x?x?xf32>) {
  ^bb0(%a: f32, %b: f32, %o: f32):
    %x = arith.mulf %a, %b : f32
    %y = arith.addf %x, %o : f32
    linalg.yield %y : f32
  } -> tensor<?x?x?x?x?xf32>
  %md = gossamer.convert %m {fill = false} : tensor<1x1x?x?xi1, #CSR4> to tensor<1x1x?x?xi1>
  // The mask reaches its five dimensions through a reshape.
  %m5 = tensor.collapse_shape %md [[0, 1, 2], [3]] : tensor<1x1x?x?xi1> into tensor<?x?xi1>
  %1 = linalg.generic {indexing_maps = [affine_map<(b, h, g, i, j) -> (b, h, g, i, j)>, affine_map<(b, h, g, i, j) -> (i, j)>,
                                        affine_map<(b, h, g, i, j) -> (b, h, g, i, j)>],
                       iterator_types = ["parallel", "parallel", "parallel", "parallel", "parallel"]}
      ins(%0, %m5 : tensor<?x?x?x?x?xf32>, tensor<?x?xi1>) outs(%e : tensor<?x?x?x?x?xf32>) {
  ^bb0(%a: f32, %b: i1, %o: f32):
    %i = linalg.index 3 : index
    %j = linalg.index 4 : index
    %past = arith.cmpi ule, %j, %i : index
    %both = arith.andi %past, %b : i1
    %x = arith.select %both, %a, %lowest : f32
    linalg.yield %x : f32
  } -> tensor<?x?x?x?x?xf32>
  %p = linalg.softmax dimension(4) ins(%1 : tensor<?x?x?x?x?xf32>) outs(%e : tensor<?x?x?x?x?xf32>) -> tensor<?x?x?x?x?xf32>
  // CHECK: gossamer.attention
  // CHECK-SAME: maps [#[[Q]], #[[K]], #[[V]], #[[M]], #[[R]]]
  // CHECK-DAG: %[[I:.*]] = gossamer.index 3
  // CHECK-DAG: %[[J:.*]] = gossamer.index 4
  // CHECK: arith.cmpi ule, %[[J]], %[[I]] : index
  // CHECK-NOT: linalg
  // CHECK: return
  %r = linalg.generic {indexing_maps = [affine_map<(b, h, g, i, e, j) -> (b, h, g, i, j)>, affine_map<(b, h, g, i, e, j) -> (b, h, j, e)>,
                                        affine_map<(b, h, g, i, e, j) -> (b, h, g, i, e)>],
                       iterator_types = ["parallel", "parallel", "parallel", "parallel", "parallel", "reduction"]}
      ins(%p, %v : tensor<?x?x?x?x?xf32>, tensor<?x?x?x?xf32>) outs(%f : tensor<?x?x?x?x?xf32>) {
  ^bb0(%a: f32, %b: f32, %o: f32):
    %x = arith.mulf %a, %b : f32
    %y = arith.addf %x, %o : f32
    linalg.yield %y : f32
  } -> tensor<?x?x?x?x?xf32>
  return %r : tensor<?x?x?x?x?xf32>
}
