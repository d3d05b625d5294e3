// RUN: gossamer-opt %s --gossamer-raise-matmul -canonicalize | FileCheck %s

#CSR = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 : dense, d1 : compressed) }>
#product = {indexing_maps = [affine_map<(i, j, k) -> (i, k)>, affine_map<(i, j, k) -> (k, j)>, affine_map<(i, j, k) -> (i, j)>],
            iterator_types = ["parallel", "parallel", "reduction"]}

// What the frontend marks as no sum is none; half precision may be summed in single.
// CHECK-LABEL: func @largest
func.func @largest(%a: tensor<?x?xf16, #CSR>, %b: tensor<?x?xf16>, %e: tensor<?x?xf32>) -> tensor<?x?xf32> {
  %zero = arith.constant 0.0 : f32
  %ad = gossamer.convert %a {fill = 0.0 : f16} : tensor<?x?xf16, #CSR> to tensor<?x?xf16>
  %f = linalg.fill ins(%zero : f32) outs(%e : tensor<?x?xf32>) -> tensor<?x?xf32>
  // CHECK: gossamer.matmul combine amax ins(%{{.*}}, %{{.*}} : tensor<?x?xf16, #{{.*}}>, tensor<?x?xf16>)
  // CHECK: ^bb0(%{{.*}}: f32):
  %0 = linalg.generic #product ins(%ad, %b : tensor<?x?xf16>, tensor<?x?xf16>) outs(%f : tensor<?x?xf32>)
      attrs = {gossamer.combine = "amax"} {
  ^bb0(%x: f16, %y: f16, %o: f32):
    %xw = arith.extf %x : f16 to f32
    %yw = arith.extf %y : f16 to f32
    %p = arith.mulf %xw, %yw : f32
    %s = arith.addf %p, %o : f32
    linalg.yield %s : f32
  } -> tensor<?x?xf32>
  return %0 : tensor<?x?xf32>
}
