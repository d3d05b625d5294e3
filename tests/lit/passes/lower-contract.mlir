// RUN: gossamer-opt %s --gossamer-lower-contract | FileCheck %s

#CSR = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 : dense, d1 : compressed) }>
#BSR = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 floordiv 4 : dense, d1 floordiv 4 : compressed, d0 mod 4 : dense, d1 mod 4 : dense) }>
#CSF = #sparse_tensor.encoding<{ map = (d0, d1, d2) -> (d0 : compressed, d1 : compressed, d2 : compressed) }>

// CHECK-DAG: #[[OUTER:.*]] = affine_map<(d0, d1, d2) -> (d0, d1)>
// CHECK-DAG: #[[INNER:.*]] = affine_map<(d0, d1, d2) -> (d1, d2)>
// CHECK-DAG: #[[RESULT:.*]] = affine_map<(d0, d1, d2) -> (d0, d2)>
// CHECK-DAG: #[[A:.*]] = affine_map<(d0, d1, d2, d3, d4, d5) -> (d0, d1, d2, d4)>
// CHECK-DAG: #[[B:.*]] = affine_map<(d0, d1, d2, d3, d4, d5) -> (d1, d3, d4, d5)>
// CHECK-DAG: #[[C:.*]] = affine_map<(d0, d1, d2, d3, d4, d5) -> (d0, d2, d3, d5)>
// CHECK-DAG: #[[LAST:.*]] = affine_map<(d0, d1, d2, d3) -> (d3)>

// Rows of both: i, k, j.
// CHECK-LABEL: func @rows
// CHECK: linalg.fill
// CHECK: linalg.generic {indexing_maps = [#[[OUTER]], #[[INNER]], #[[RESULT]]], iterator_types = ["parallel", "reduction", "parallel"]}
// CHECK-SAME: sorted = true
// CHECK: arith.mulf
// CHECK: arith.addf
func.func @rows(%a: tensor<?x?xf32, #CSR>, %b: tensor<?x?xf32, #CSR>, %e: tensor<?x?xf32>) -> tensor<?x?xf32> {
  %0 = gossamer.contract ins(%a, %b : tensor<?x?xf32, #CSR>, tensor<?x?xf32, #CSR>) outs(%e : tensor<?x?xf32>)
      maps [affine_map<(i, j, k) -> (i, k)>, affine_map<(i, j, k) -> (k, j)>, affine_map<(i, j, k) -> (i, j)>] -> tensor<?x?xf32>
  return %0 : tensor<?x?xf32>
}

// Blocks of both: the result is seen in blocks too.
// CHECK-LABEL: func @blocks
// CHECK-COUNT-2: sparse_tensor.reinterpret_map
// CHECK: memref.expand_shape
// CHECK: linalg.generic {indexing_maps = [#[[A]], #[[B]], #[[C]]]
func.func @blocks(%a: tensor<?x?xf32, #BSR>, %b: tensor<?x?xf32, #BSR>, %e: tensor<?x?xf32>) -> tensor<?x?xf32> {
  %0 = gossamer.contract ins(%a, %b : tensor<?x?xf32, #BSR>, tensor<?x?xf32, #BSR>) outs(%e : tensor<?x?xf32>)
      maps [affine_map<(i, j, k) -> (i, k)>, affine_map<(i, j, k) -> (k, j)>, affine_map<(i, j, k) -> (i, j)>] -> tensor<?x?xf32>
  return %0 : tensor<?x?xf32>
}

// Dense loops innermost; a broadcast dimension is dropped; narrow factors are widened.
// CHECK-LABEL: func @mttkrp
// CHECK: memref.collapse_shape %{{.*}} {{\[}}[0, 1]] : memref<1x?xf16> into memref<?xf16>
// CHECK: indexing_maps = [#{{.*}}, #{{.*}}, #[[LAST]], #{{.*}}], iterator_types = ["parallel", "reduction", "reduction", "parallel"]
// CHECK-COUNT-3: arith.extf
func.func @mttkrp(%x: tensor<?x?x?xf16, #CSF>, %b: tensor<?x?xf16>, %c: tensor<1x?xf16>, %e: tensor<?x?xf32>) -> tensor<?x?xf32> {
  %0 = gossamer.contract ins(%x, %b, %c : tensor<?x?x?xf16, #CSF>, tensor<?x?xf16>, tensor<1x?xf16>) outs(%e : tensor<?x?xf32>)
      maps [affine_map<(i, j, k, l) -> (i, k, l)>, affine_map<(i, j, k, l) -> (k, j)>,
            affine_map<(i, j, k, l) -> (0, j)>, affine_map<(i, j, k, l) -> (i, j)>] -> tensor<?x?xf32>
  return %0 : tensor<?x?xf32>
}
