// What the verifier refuses of gossamer.sddmm and gossamer.map.
// RUN: gossamer-opt %s -verify-diagnostics -split-input-file

#CSR = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 : dense, d1 : compressed) }>
func.func @sddmm_result(%s: tensor<4x4xf32, #CSR>, %d: tensor<4x4xf32>) {
  // expected-error @+1 {{result must be stored and shaped as the pattern is}}
  %0 = gossamer.sddmm ins(%s, %d, %d : tensor<4x4xf32, #CSR>,
          tensor<4x4xf32>, tensor<4x4xf32>)
      maps [affine_map<(i, j, k) -> (i, j)>,
            affine_map<(i, j, k) -> (i, k)>,
            affine_map<(i, j, k) -> (k, j)>] {
  ^bb0(%v: f32, %sum: f32):
    gossamer.yield %v : f32
  } -> tensor<5x4xf32, #CSR>
  return
}

// -----

#CSR = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 : dense, d1 : compressed) }>
func.func @sddmm_pattern(%s: tensor<1x4xf32, #CSR>, %d: tensor<4x4xf32>) {
  // expected-error @+1 {{the pattern's map must be a projected permutation}}
  %0 = gossamer.sddmm ins(%s, %d, %d : tensor<1x4xf32, #CSR>,
          tensor<4x4xf32>, tensor<4x4xf32>)
      maps [affine_map<(i, j, k) -> (0, j)>,
            affine_map<(i, j, k) -> (i, k)>,
            affine_map<(i, j, k) -> (k, j)>] {
  ^bb0(%v: f32, %sum: f32):
    gossamer.yield %v : f32
  } -> tensor<1x4xf32, #CSR>
  return
}

// -----

#CSR = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 : dense, d1 : compressed) }>
func.func @sddmm_sparse(%s: tensor<4x4xf32, #CSR>, %d: tensor<4x4xf32>) {
  // expected-error @+1 {{lhs and rhs must be dense}}
  %0 = gossamer.sddmm ins(%s, %s, %d : tensor<4x4xf32, #CSR>,
          tensor<4x4xf32, #CSR>, tensor<4x4xf32>)
      maps [affine_map<(i, j, k) -> (i, j)>,
            affine_map<(i, j, k) -> (i, k)>,
            affine_map<(i, j, k) -> (k, j)>] {
  ^bb0(%v: f32, %sum: f32):
    gossamer.yield %v : f32
  } -> tensor<4x4xf32, #CSR>
  return
}

// -----

#CSR = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 : dense, d1 : compressed) }>
func.func @sddmm_types(%s: tensor<4x4xf32, #CSR>, %d: tensor<4x4xf32>, %e: tensor<4x4xf64>) {
  // expected-error @+1 {{lhs and rhs must have the same element type}}
  %0 = gossamer.sddmm ins(%s, %d, %e : tensor<4x4xf32, #CSR>,
          tensor<4x4xf32>, tensor<4x4xf64>)
      maps [affine_map<(i, j, k) -> (i, j)>,
            affine_map<(i, j, k) -> (i, k)>,
            affine_map<(i, j, k) -> (k, j)>] {
  ^bb0(%v: f32, %sum: f32):
    gossamer.yield %v : f32
  } -> tensor<4x4xf32, #CSR>
  return
}

// -----

#CSR = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 : dense, d1 : compressed) }>
func.func @sddmm_sparse_operand(%s: tensor<4x4xf32, #CSR>, %d: tensor<4x4xf32>) {
  // expected-error @+1 {{a sparse operand must be stored and indexed as the pattern is}}
  %0 = gossamer.sddmm ins(%s, %d, %d : tensor<4x4xf32, #CSR>,
          tensor<4x4xf32>, tensor<4x4xf32>)
      with(%s : tensor<4x4xf32, #CSR>)
      maps [affine_map<(i, j, k) -> (i, j)>,
            affine_map<(i, j, k) -> (i, k)>,
            affine_map<(i, j, k) -> (k, j)>,
            affine_map<(i, j, k) -> (j, i)>] {
  ^bb0(%v: f32, %sum: f32, %w: f32):
    gossamer.yield %v : f32
  } -> tensor<4x4xf32, #CSR>
  return
}

// -----

#CSR = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 : dense, d1 : compressed) }>
func.func @map_pattern(%s: tensor<4x1xf32, #CSR>, %d: tensor<4x4xf32>) {
  // expected-error @+1 {{the pattern's map must be a permutation}}
  %0 = gossamer.map ins(%s : tensor<4x1xf32, #CSR>)
      with(%d : tensor<4x4xf32>)
      maps [affine_map<(i, j) -> (i, 0)>,
            affine_map<(i, j) -> (i, j)>] {
  ^bb0(%v: f32, %w: f32):
    gossamer.yield %v : f32
  } -> tensor<4x1xf32, #CSR>
  return
}

// -----

#CSR = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 : dense, d1 : compressed) }>
func.func @map_transposed(%s: tensor<4x4xf32, #CSR>, %d: tensor<4x4xf32>) {
  // expected-error @+1 {{a sparse operand must be stored and indexed as the pattern is}}
  %0 = gossamer.map ins(%s : tensor<4x4xf32, #CSR>)
      with(%s : tensor<4x4xf32, #CSR>)
      maps [affine_map<(i, j) -> (i, j)>,
            affine_map<(i, j) -> (j, i)>] {
  ^bb0(%v: f32, %w: f32):
    gossamer.yield %v : f32
  } -> tensor<4x4xf32, #CSR>
  return
}

// -----

#CSR = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 : dense, d1 : compressed) }>
func.func @map_storage(%s: tensor<4x4xf32, #CSR>, %d: tensor<4x4xf32>, %c: tensor<4x4xf32, #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 : compressed, d1 : compressed) }>>) {
  // expected-error @+1 {{a sparse operand must be stored and indexed as the pattern is}}
  %0 = gossamer.map ins(%s : tensor<4x4xf32, #CSR>)
      with(%c : tensor<4x4xf32, #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 : compressed, d1 : compressed) }>>)
      maps [affine_map<(i, j) -> (i, j)>,
            affine_map<(i, j) -> (i, j)>] {
  ^bb0(%v: f32, %w: f32):
    gossamer.yield %v : f32
  } -> tensor<4x4xf32, #CSR>
  return
}
