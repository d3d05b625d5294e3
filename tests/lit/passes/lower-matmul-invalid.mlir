// RUN: gossamer-opt %s --gossamer-lower-matmul -verify-diagnostics

#CSR = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 : dense, d1 : compressed) }>

func.func @summed_and_changed(%s: tensor<?x?xf32, #CSR>, %d: tensor<?x?xf32>, %e: tensor<?xbf16>) -> tensor<?xbf16> {
  // expected-error @+1 {{sums over a dimension of its dense operand alone, and changes the type; do one after the other}}
  %0 = gossamer.matmul ins(%s, %d : tensor<?x?xf32, #CSR>, tensor<?x?xf32>) outs(%e : tensor<?xbf16>)
      maps [affine_map<(i, k, m) -> (i, k)>, affine_map<(i, k, m) -> (k, m)>, affine_map<(i, k, m) -> (i)>] {
  ^bb0(%v: f32):
    %1 = arith.truncf %v : f32 to bf16
    gossamer.yield %1 : bf16
  } -> tensor<?xbf16>
  return %0 : tensor<?xbf16>
}
