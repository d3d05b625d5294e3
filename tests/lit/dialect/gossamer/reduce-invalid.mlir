// What the verifier refuses of gossamer.reduce.
// RUN: gossamer-opt %s --split-input-file -verify-diagnostics

#CSR = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 : dense, d1 : compressed) }>
func.func @pattern(%s: tensor<4x1xf32, #CSR>, %e: tensor<4xf32>) {
  // expected-error @+1 {{the pattern's map must be a permutation}}
  %0 = gossamer.reduce addf ins(%s : tensor<4x1xf32, #CSR>)
      outs(%e : tensor<4xf32>) fill(0.0 : f32)
      maps [affine_map<(i, j) -> (i, 0)>, affine_map<(i, j) -> (j)>] {
  ^bb0(%v: f32):
    gossamer.yield %v : f32
  } -> tensor<4xf32>
  return
}

// -----

#CSR = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 : dense, d1 : compressed) }>
func.func @result(%s: tensor<4x4xf32, #CSR>, %e: tensor<4x1xf32>) {
  // expected-error @+1 {{the result's map must be a projected permutation}}
  %0 = gossamer.reduce addf ins(%s : tensor<4x4xf32, #CSR>)
      outs(%e : tensor<4x1xf32>) fill(0.0 : f32)
      maps [affine_map<(i, j) -> (i, j)>, affine_map<(i, j) -> (i, 0)>] {
  ^bb0(%v: f32):
    gossamer.yield %v : f32
  } -> tensor<4x1xf32>
  return
}

// -----

#CSR = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 : dense, d1 : compressed) }>
func.func @kind(%s: tensor<4x4xf32, #CSR>, %e: tensor<4xf32>) {
  // expected-error @+1 {{does not reduce 'f32' by maxs}}
  %0 = gossamer.reduce maxs ins(%s : tensor<4x4xf32, #CSR>)
      outs(%e : tensor<4xf32>) fill(0.0 : f32)
      maps [affine_map<(i, j) -> (i, j)>, affine_map<(i, j) -> (i)>] {
  ^bb0(%v: f32):
    gossamer.yield %v : f32
  } -> tensor<4xf32>
  return
}

// -----

#CSR = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 : dense, d1 : compressed) }>
func.func @no_reduction(%s: tensor<4x4xf32, #CSR>, %e: tensor<4xf32>) {
  // expected-error @+1 {{does not reduce 'f32' by assign}}
  %0 = gossamer.reduce assign ins(%s : tensor<4x4xf32, #CSR>)
      outs(%e : tensor<4xf32>) fill(0.0 : f32)
      maps [affine_map<(i, j) -> (i, j)>, affine_map<(i, j) -> (i)>] {
  ^bb0(%v: f32):
    gossamer.yield %v : f32
  } -> tensor<4xf32>
  return
}

// -----

#CSR = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 : dense, d1 : compressed) }>
func.func @fill(%s: tensor<4x4xf32, #CSR>, %e: tensor<4xf32>) {
  // expected-error @+1 {{fill has type 'f64', expected 'f32'}}
  %0 = gossamer.reduce addf ins(%s : tensor<4x4xf32, #CSR>)
      outs(%e : tensor<4xf32>) fill(0.0 : f64)
      maps [affine_map<(i, j) -> (i, j)>, affine_map<(i, j) -> (i)>] {
  ^bb0(%v: f32):
    gossamer.yield %v : f32
  } -> tensor<4xf32>
  return
}

// -----

#CSR = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 : dense, d1 : compressed) }>
func.func @product(%s: tensor<4x4xf32, #CSR>, %e: tensor<4xf32>) {
  // expected-error @+1 {{a product takes a fill of 0 or 1}}
  %0 = gossamer.reduce mulf ins(%s : tensor<4x4xf32, #CSR>)
      outs(%e : tensor<4xf32>) fill(2.0 : f32)
      maps [affine_map<(i, j) -> (i, j)>, affine_map<(i, j) -> (i)>] {
  ^bb0(%v: f32):
    gossamer.yield %v : f32
  } -> tensor<4xf32>
  return
}

// -----

#CSR = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 : dense, d1 : compressed) }>
func.func @body(%s: tensor<4x4xf32, #CSR>, %e: tensor<4xf64>) {
  // expected-error @+1 {{body must yield one 'f64'}}
  %0 = gossamer.reduce addf ins(%s : tensor<4x4xf32, #CSR>)
      outs(%e : tensor<4xf64>) fill(0.0 : f64)
      maps [affine_map<(i, j) -> (i, j)>, affine_map<(i, j) -> (i)>] {
  ^bb0(%v: f32):
    gossamer.yield %v : f32
  } -> tensor<4xf64>
  return
}

// -----

#CSR = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 : dense, d1 : compressed) }>
func.func @operand(%s: tensor<4x4xf32, #CSR>, %e: tensor<4xf32>) {
  // expected-error @+1 {{a sparse operand must be stored and indexed as the pattern is}}
  %0 = gossamer.reduce addf ins(%s : tensor<4x4xf32, #CSR>) with(%s : tensor<4x4xf32, #CSR>)
      outs(%e : tensor<4xf32>) fill(0.0 : f32)
      maps [affine_map<(i, j) -> (i, j)>, affine_map<(i, j) -> (j, i)>, affine_map<(i, j) -> (i)>] {
  ^bb0(%v: f32, %w: f32):
    gossamer.yield %v : f32
  } -> tensor<4xf32>
  return
}

// -----

#CSR = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 : dense, d1 : compressed) }>
func.func @sparse_result(%s: tensor<4x4xf32, #CSR>, %e: tensor<4x4xf32, #CSR>) {
  // expected-error @+1 {{init and result must have the same dense type}}
  %0 = gossamer.reduce addf ins(%s : tensor<4x4xf32, #CSR>)
      outs(%e : tensor<4x4xf32, #CSR>) fill(0.0 : f32)
      maps [affine_map<(i, j) -> (i, j)>, affine_map<(i, j) -> (i, j)>] {
  ^bb0(%v: f32):
    gossamer.yield %v : f32
  } -> tensor<4x4xf32, #CSR>
  return
}

// -----

#CSR = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 : dense, d1 : compressed) }>
func.func @index(%s: tensor<4x4xf32, #CSR>, %e: tensor<4xf32>) {
  %0 = gossamer.reduce addf ins(%s : tensor<4x4xf32, #CSR>)
      outs(%e : tensor<4xf32>) fill(0.0 : f32)
      maps [affine_map<(i, j) -> (i, j)>, affine_map<(i, j) -> (i)>] {
  ^bb0(%v: f32):
    // expected-error @+1 {{dim 2 is out of range: the body of gossamer.reduce has 2}}
    %i = gossamer.index 2
    gossamer.yield %v : f32
  } -> tensor<4xf32>
  return
}
