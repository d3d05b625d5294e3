// RUN: gossamer-opt %s | gossamer-opt | FileCheck %s

#CSR = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 : dense, d1 : compressed) }>

// CHECK-LABEL: func @mean
func.func @mean(%s: tensor<?x?xbf16, #CSR>, %d: tensor<?x?xbf16>, %e: tensor<?x?xbf16>) -> tensor<?x?xbf16> {
  // CHECK: gossamer.matmul combine mean ins(
  // CHECK: ^bb0(%{{.*}}: f32):
  %0 = gossamer.matmul combine mean ins(%s, %d : tensor<?x?xbf16, #CSR>, tensor<?x?xbf16>) outs(%e : tensor<?x?xbf16>)
      maps [affine_map<(i, j, k) -> (i, k)>, affine_map<(i, j, k) -> (k, j)>, affine_map<(i, j, k) -> (i, j)>] {
  ^bb0(%v: f32):
    %1 = arith.truncf %v : f32 to bf16
    gossamer.yield %1 : bf16
  } -> tensor<?x?xbf16>
  return %0 : tensor<?x?xbf16>
}
