// RUN: gossamer-opt %s --gossamer-lower-matmul -verify-diagnostics -split-input-file

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

// -----

#DCSR = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 : compressed, d1 : compressed) }>

func.func @mean_of_no_rows(%s: tensor<?x?xf32, #DCSR>, %d: tensor<?x?xf32>, %e: tensor<?x?xf32>) -> tensor<?x?xf32> {
  // expected-error @+1 {{combines products by mean, which needs storage by rows; its sparse operand is stored as}}
  %0 = gossamer.matmul combine mean ins(%s, %d : tensor<?x?xf32, #DCSR>, tensor<?x?xf32>) outs(%e : tensor<?x?xf32>)
      maps [affine_map<(i, j, k) -> (i, k)>, affine_map<(i, j, k) -> (k, j)>, affine_map<(i, j, k) -> (i, j)>] {
  ^bb0(%v: f32):
    gossamer.yield %v : f32
  } -> tensor<?x?xf32>
  return %0 : tensor<?x?xf32>
}
