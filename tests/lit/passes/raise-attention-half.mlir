// Attention in half precision: float32 inside, one rounding at the end.
// RUN: gossamer-opt %s --gossamer-raise-attention --canonicalize | FileCheck %s

#CSR = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 : dense, d1 : compressed) }>
#qk = affine_map<(i, j, d) -> (i, d)>
#kk = affine_map<(i, j, d) -> (j, d)>
#ss = affine_map<(i, j, d) -> (i, j)>
#vv = affine_map<(i, e, j) -> (j, e)>
#pp = affine_map<(i, e, j) -> (i, j)>
#oo = affine_map<(i, e, j) -> (i, e)>
#id = affine_map<(i, j) -> (i, j)>

// An additive mask is widened where it is read; the scale is a float32 number.
// CHECK-LABEL: func @additive
// CHECK-SAME: %[[Q:[^:]*]]: tensor<8x4xbf16>, %{{.*}}: tensor<8x4xbf16>, %{{.*}}: tensor<8x4xbf16>, %[[M:[^:]*]]: tensor<8x8xbf16
func.func @additive(%q: tensor<8x4xbf16>, %k: tensor<8x4xbf16>, %v: tensor<8x4xbf16>,
                    %m: tensor<8x8xbf16, #CSR>) -> tensor<8x4xbf16> {
  // CHECK: %[[SCALE:.*]] = arith.constant 1.250000e-01 : f32
  // CHECK: %[[WIDE:.*]] = linalg.generic {{.*}} ins(%[[Q]] : tensor<8x4xbf16>)
  // CHECK: arith.extf %{{.*}} : bf16 to f32
  // CHECK: %[[A:.*]] = gossamer.attention ins(%[[WIDE]], %{{.*}}, %{{.*}}, %[[M]] :
  // CHECK-SAME: outs(%{{.*}} : tensor<8x4xf32>)
  // CHECK-NEXT: ^bb0(%[[S:.*]]: f32, %[[X:.*]]: bf16):
  // CHECK-NEXT: %[[SCALED:.*]] = arith.mulf %[[S]], %[[SCALE]] : f32
  // CHECK-NEXT: %[[ADDED:.*]] = arith.extf %[[X]] : bf16 to f32
  // CHECK-NEXT: %[[R:.*]] = arith.addf %[[SCALED]], %[[ADDED]] : f32
  // CHECK-NEXT: gossamer.yield %[[R]] : f32
  // CHECK: linalg.generic {{.*}} ins(%[[A]] : tensor<8x4xf32>)
  // CHECK: arith.truncf %{{.*}} : f32 to bf16
  %zero = arith.constant 0.0 : f32
  %scale = arith.constant 0.125 : bf16
  %mask = gossamer.convert %m {fill = 0xFF80 : bf16} : tensor<8x8xbf16, #CSR> to tensor<8x8xbf16>
  %e0 = tensor.empty() : tensor<8x8xf32>
  %f0 = linalg.fill ins(%zero : f32) outs(%e0 : tensor<8x8xf32>) -> tensor<8x8xf32>
  %qk = linalg.generic {indexing_maps = [#qk, #kk, #ss], iterator_types = ["parallel", "parallel", "reduction"]}
      ins(%q, %k : tensor<8x4xbf16>, tensor<8x4xbf16>) outs(%f0 : tensor<8x8xf32>) {
  ^bb0(%a: bf16, %b: bf16, %c: f32):
    %0 = arith.extf %a : bf16 to f32
    %1 = arith.extf %b : bf16 to f32
    %2 = arith.mulf %0, %1 : f32
    %3 = arith.addf %2, %c : f32
    linalg.yield %3 : f32
  } -> tensor<8x8xf32>
  %e1 = tensor.empty() : tensor<8x8xbf16>
  %scores = linalg.generic {indexing_maps = [#id, #id, #id], iterator_types = ["parallel", "parallel"]}
      ins(%qk, %mask : tensor<8x8xf32>, tensor<8x8xbf16>) outs(%e1 : tensor<8x8xbf16>) {
  ^bb0(%a: f32, %b: bf16, %c: bf16):
    %0 = arith.truncf %a : f32 to bf16
    %1 = arith.mulf %0, %scale : bf16
    %2 = arith.addf %1, %b : bf16
    linalg.yield %2 : bf16
  } -> tensor<8x8xbf16>
  %p = linalg.softmax dimension(1) ins(%scores : tensor<8x8xbf16>) outs(%e1 : tensor<8x8xbf16>) -> tensor<8x8xbf16>
  %e2 = tensor.empty() : tensor<8x4xf32>
  %f2 = linalg.fill ins(%zero : f32) outs(%e2 : tensor<8x4xf32>) -> tensor<8x4xf32>
  %pv = linalg.generic {indexing_maps = [#pp, #vv, #oo], iterator_types = ["parallel", "parallel", "reduction"]}
      ins(%p, %v : tensor<8x8xbf16>, tensor<8x4xbf16>) outs(%f2 : tensor<8x4xf32>) {
  ^bb0(%a: bf16, %b: bf16, %c: f32):
    %0 = arith.extf %a : bf16 to f32
    %1 = arith.extf %b : bf16 to f32
    %2 = arith.mulf %0, %1 : f32
    %3 = arith.addf %2, %c : f32
    linalg.yield %3 : f32
  } -> tensor<8x4xf32>
  %e3 = tensor.empty() : tensor<8x4xbf16>
  %out = linalg.generic {indexing_maps = [#id, #id], iterator_types = ["parallel", "parallel"]}
      ins(%pv : tensor<8x4xf32>) outs(%e3 : tensor<8x4xbf16>) {
  ^bb0(%a: f32, %c: bf16):
    %0 = arith.truncf %a : f32 to bf16
    linalg.yield %0 : bf16
  } -> tensor<8x4xbf16>
  return %out : tensor<8x4xbf16>
}
