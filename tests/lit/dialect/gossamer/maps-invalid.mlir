// What the verifier refuses of the maps and the body of any operation that has them.
// RUN: gossamer-opt %s -verify-diagnostics -split-input-file

#CSR = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 : dense, d1 : compressed) }>
func.func @number_of_maps(%s: tensor<4x4xf32, #CSR>, %d: tensor<4x4xf32>) {
  // expected-error @+1 {{has 2 maps for 3 operands and results}}
  %0 = gossamer.matmul ins(%s, %d : tensor<4x4xf32, #CSR>, tensor<4x4xf32>)
      outs(%d : tensor<4x4xf32>)
      maps [affine_map<(i, j, k) -> (i, k)>,
            affine_map<(i, j, k) -> (k, j)>] {
  ^bb0(%v: f32):
    gossamer.yield %v : f32
  } -> tensor<4x4xf32>
  return
}

// -----

#CSR = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 : dense, d1 : compressed) }>
func.func @dimensions_of_map(%s: tensor<4x4xf32, #CSR>, %d: tensor<4x4xf32>) {
  // expected-error @+1 {{map 1 must have 3 dimensions and no symbols, as map 0 has}}
  %0 = gossamer.matmul ins(%s, %d : tensor<4x4xf32, #CSR>, tensor<4x4xf32>)
      outs(%d : tensor<4x4xf32>)
      maps [affine_map<(i, j, k) -> (i, k)>,
            affine_map<(k, j) -> (k, j)>,
            affine_map<(i, j, k) -> (i, j)>] {
  ^bb0(%v: f32):
    gossamer.yield %v : f32
  } -> tensor<4x4xf32>
  return
}

// -----

#CSR = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 : dense, d1 : compressed) }>
func.func @symbols_of_map(%s: tensor<4x4xf32, #CSR>, %d: tensor<4x4xf32>) {
  // expected-error @+1 {{map 0 must have 3 dimensions and no symbols, as map 0 has}}
  %0 = gossamer.matmul ins(%s, %d : tensor<4x4xf32, #CSR>, tensor<4x4xf32>)
      outs(%d : tensor<4x4xf32>)
      maps [affine_map<(i, j, k)[n] -> (i, k)>,
            affine_map<(i, j, k) -> (k, j)>,
            affine_map<(i, j, k) -> (i, j)>] {
  ^bb0(%v: f32):
    gossamer.yield %v : f32
  } -> tensor<4x4xf32>
  return
}

// -----

#CSR = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 : dense, d1 : compressed) }>
func.func @results_of_map(%s: tensor<4x4xf32, #CSR>, %d: tensor<4x4xf32>) {
  // expected-error @+1 {{map 1 has 1 results for an operand of rank 2}}
  %0 = gossamer.matmul ins(%s, %d : tensor<4x4xf32, #CSR>, tensor<4x4xf32>)
      outs(%d : tensor<4x4xf32>)
      maps [affine_map<(i, j, k) -> (i, k)>,
            affine_map<(i, j, k) -> (k)>,
            affine_map<(i, j, k) -> (i, j)>] {
  ^bb0(%v: f32):
    gossamer.yield %v : f32
  } -> tensor<4x4xf32>
  return
}

// -----

#CSR = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 : dense, d1 : compressed) }>
func.func @constant_of_map(%s: tensor<4x4xf32, #CSR>, %d: tensor<4x4xf32>) {
  // expected-error @+1 {{map 1 may have a constant only as 0 on a dimension of size 1}}
  %0 = gossamer.matmul ins(%s, %d : tensor<4x4xf32, #CSR>, tensor<4x4xf32>)
      outs(%d : tensor<4x4xf32>)
      maps [affine_map<(i, j, k) -> (i, k)>,
            affine_map<(i, j, k) -> (0, j)>,
            affine_map<(i, j, k) -> (i, j)>] {
  ^bb0(%v: f32):
    gossamer.yield %v : f32
  } -> tensor<4x4xf32>
  return
}

// -----

#CSR = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 : dense, d1 : compressed) }>
func.func @other_constant(%s: tensor<4x4xf32, #CSR>, %d: tensor<4x4xf32>, %one: tensor<1x4xf32>) {
  // expected-error @+1 {{map 2 may have a constant only as 0 on a dimension of size 1}}
  %0 = gossamer.matmul ins(%s, %d : tensor<4x4xf32, #CSR>, tensor<4x4xf32>)
      epilogue(%one : tensor<1x4xf32>)
      outs(%d : tensor<4x4xf32>)
      maps [affine_map<(i, j, k) -> (i, k)>,
            affine_map<(i, j, k) -> (k, j)>,
            affine_map<(i, j, k) -> (1, j)>,
            affine_map<(i, j, k) -> (i, j)>] {
  ^bb0(%v: f32, %w: f32):
    gossamer.yield %v : f32
  } -> tensor<4x4xf32>
  return
}

// -----

#CSR = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 : dense, d1 : compressed) }>
func.func @repeated_loop(%s: tensor<4x4xf32, #CSR>, %d: tensor<4x4xf32>) {
  // expected-error @+1 {{map 0 is not a projected permutation (with 0 for a broadcast)}}
  %0 = gossamer.matmul ins(%s, %d : tensor<4x4xf32, #CSR>, tensor<4x4xf32>)
      outs(%d : tensor<4x4xf32>)
      maps [affine_map<(i, j, k) -> (k, k)>,
            affine_map<(i, j, k) -> (k, j)>,
            affine_map<(i, j, k) -> (i, j)>] {
  ^bb0(%v: f32):
    gossamer.yield %v : f32
  } -> tensor<4x4xf32>
  return
}

// -----

#CSR = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 : dense, d1 : compressed) }>
func.func @sum_of_loops(%s: tensor<4x4xf32, #CSR>, %d: tensor<4x4xf32>) {
  // expected-error @+1 {{map 1 is not a projected permutation (with 0 for a broadcast)}}
  %0 = gossamer.matmul ins(%s, %d : tensor<4x4xf32, #CSR>, tensor<4x4xf32>)
      outs(%d : tensor<4x4xf32>)
      maps [affine_map<(i, j, k) -> (i, k)>,
            affine_map<(i, j, k) -> (j + k, j)>,
            affine_map<(i, j, k) -> (i, j)>] {
  ^bb0(%v: f32):
    gossamer.yield %v : f32
  } -> tensor<4x4xf32>
  return
}

// -----

#CSR = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 : dense, d1 : compressed) }>
func.func @sizes_of_loop(%s: tensor<4x4xf32, #CSR>, %d: tensor<5x4xf32>, %e: tensor<4x4xf32>) {
  // expected-error @+1 {{loop d2 has size 4 and, in operand 1, 5}}
  %0 = gossamer.matmul ins(%s, %d : tensor<4x4xf32, #CSR>, tensor<5x4xf32>)
      outs(%e : tensor<4x4xf32>)
      maps [affine_map<(i, j, k) -> (i, k)>,
            affine_map<(i, j, k) -> (k, j)>,
            affine_map<(i, j, k) -> (i, j)>] {
  ^bb0(%v: f32):
    gossamer.yield %v : f32
  } -> tensor<4x4xf32>
  return
}

// -----

#CSR = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 : dense, d1 : compressed) }>
func.func @unused_loop(%s: tensor<4x4xf32, #CSR>, %d: tensor<4x4xf32>) {
  // expected-error @+1 {{loop d3 indexes no operand}}
  %0 = gossamer.matmul ins(%s, %d : tensor<4x4xf32, #CSR>, tensor<4x4xf32>)
      outs(%d : tensor<4x4xf32>)
      maps [affine_map<(i, j, k, n) -> (i, k)>,
            affine_map<(i, j, k, n) -> (k, j)>,
            affine_map<(i, j, k, n) -> (i, j)>] {
  ^bb0(%v: f32):
    gossamer.yield %v : f32
  } -> tensor<4x4xf32>
  return
}

// -----

#CSR = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 : dense, d1 : compressed) }>
func.func @body_arguments(%s: tensor<4x4xf32, #CSR>, %d: tensor<4x4xf32>) {
  // expected-error @+1 {{body takes 2 arguments, expected 1}}
  %0 = gossamer.matmul ins(%s, %d : tensor<4x4xf32, #CSR>, tensor<4x4xf32>)
      outs(%d : tensor<4x4xf32>)
      maps [affine_map<(i, j, k) -> (i, k)>,
            affine_map<(i, j, k) -> (k, j)>,
            affine_map<(i, j, k) -> (i, j)>] {
  ^bb0(%v: f32, %w: f32):
    gossamer.yield %v : f32
  } -> tensor<4x4xf32>
  return
}

// -----

#CSR = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 : dense, d1 : compressed) }>
func.func @body_types(%s: tensor<4x4xf32, #CSR>, %d: tensor<4x4xf32>) {
  // expected-error @+1 {{body argument 0 has type 'f64', expected 'f32'}}
  %0 = gossamer.matmul ins(%s, %d : tensor<4x4xf32, #CSR>, tensor<4x4xf32>)
      outs(%d : tensor<4x4xf32>)
      maps [affine_map<(i, j, k) -> (i, k)>,
            affine_map<(i, j, k) -> (k, j)>,
            affine_map<(i, j, k) -> (i, j)>] {
  ^bb0(%v: f64):
    gossamer.yield %v : f64
  } -> tensor<4x4xf32>
  return
}

// -----

#CSR = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 : dense, d1 : compressed) }>
func.func @body_yields(%s: tensor<4x4xf32, #CSR>, %d: tensor<4x4xf32>) {
  // expected-error @+1 {{body must yield one 'f32'}}
  %0 = gossamer.matmul ins(%s, %d : tensor<4x4xf32, #CSR>, tensor<4x4xf32>)
      outs(%d : tensor<4x4xf32>)
      maps [affine_map<(i, j, k) -> (i, k)>,
            affine_map<(i, j, k) -> (k, j)>,
            affine_map<(i, j, k) -> (i, j)>] {
  ^bb0(%v: f32):
    gossamer.yield %v, %v : f32, f32
  } -> tensor<4x4xf32>
  return
}
