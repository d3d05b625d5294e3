// RUN: gossamer-opt %s --gossamer-lower-reduce -verify-diagnostics

#CSR = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 : dense, d1 : compressed) }>

func.func @two_patterns(%a: tensor<?x?xf32, #CSR>, %b: tensor<?x?xf32, #CSR>, %e: tensor<?xf32>) -> tensor<?xf32> {
  // expected-error @+1 {{has a sparse operand on another pattern}}
  %0 = gossamer.reduce addf ins(%a : tensor<?x?xf32, #CSR>) with(%b : tensor<?x?xf32, #CSR>)
      outs(%e : tensor<?xf32>) fill(0.0 : f32)
      maps [affine_map<(i, j) -> (i, j)>, affine_map<(i, j) -> (i, j)>, affine_map<(i, j) -> (i)>] {
  ^bb0(%v: f32, %w: f32):
    gossamer.yield %v : f32
  } -> tensor<?xf32>
  return %0 : tensor<?xf32>
}
