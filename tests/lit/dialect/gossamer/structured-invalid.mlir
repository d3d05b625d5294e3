// What the verifier refuses of operations with maps and a body.
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

// -----

#CSR = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 : dense, d1 : compressed) }>
func.func @matmul_dense(%d: tensor<4x4xf32>) {
  // expected-error @+1 {{exactly one of lhs and rhs must be sparse}}
  %0 = gossamer.matmul ins(%d, %d : tensor<4x4xf32>, tensor<4x4xf32>)
      outs(%d : tensor<4x4xf32>)
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
func.func @matmul_sparse(%s: tensor<4x4xf32, #CSR>, %d: tensor<4x4xf32>) {
  // expected-error @+1 {{exactly one of lhs and rhs must be sparse}}
  %0 = gossamer.matmul ins(%s, %s : tensor<4x4xf32, #CSR>, tensor<4x4xf32, #CSR>)
      outs(%d : tensor<4x4xf32>)
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
func.func @matmul_result(%s: tensor<4x4xf32, #CSR>, %d: tensor<4x4xf32>) {
  // expected-error @+1 {{result and init must be dense}}
  %0 = gossamer.matmul ins(%s, %d : tensor<4x4xf32, #CSR>, tensor<4x4xf32>)
      outs(%s : tensor<4x4xf32, #CSR>)
      maps [affine_map<(i, j, k) -> (i, k)>,
            affine_map<(i, j, k) -> (k, j)>,
            affine_map<(i, j, k) -> (i, j)>] {
  ^bb0(%v: f32):
    gossamer.yield %v : f32
  } -> tensor<4x4xf32, #CSR>
  return
}

// -----

#CSR = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 : dense, d1 : compressed) }>
func.func @matmul_init(%s: tensor<4x4xf32, #CSR>, %d: tensor<4x4xf32>, %e: tensor<4x?xf32>) {
  // expected-error @+1 {{init and result must have the same type}}
  %0 = gossamer.matmul ins(%s, %d : tensor<4x4xf32, #CSR>, tensor<4x4xf32>)
      outs(%e : tensor<4x?xf32>)
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
func.func @matmul_types(%s: tensor<4x4xf64, #CSR>, %d: tensor<4x4xf32>) {
  // expected-error @+1 {{lhs and rhs must have the same element type}}
  %0 = gossamer.matmul ins(%s, %d : tensor<4x4xf64, #CSR>, tensor<4x4xf32>)
      outs(%d : tensor<4x4xf32>)
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
func.func @matmul_result_map(%s: tensor<4x4xf32, #CSR>, %d: tensor<4x4xf32>, %e: tensor<4x1xf32>) {
  // expected-error @+1 {{the result's map must be a projected permutation}}
  %0 = gossamer.matmul ins(%s, %d : tensor<4x4xf32, #CSR>, tensor<4x4xf32>)
      outs(%e : tensor<4x1xf32>)
      maps [affine_map<(i, j, k) -> (i, k)>,
            affine_map<(i, j, k) -> (k, j)>,
            affine_map<(i, j, k) -> (i, 0)>] {
  ^bb0(%v: f32):
    gossamer.yield %v : f32
  } -> tensor<4x1xf32>
  return
}

// -----

#CSR = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 : dense, d1 : compressed) }>
func.func @matmul_sparse_map(%s: tensor<1x4xf32, #CSR>, %d: tensor<4x4xf32>) {
  // expected-error @+1 {{the sparse operand's map must be a projected permutation}}
  %0 = gossamer.matmul ins(%s, %d : tensor<1x4xf32, #CSR>, tensor<4x4xf32>)
      outs(%d : tensor<4x4xf32>)
      maps [affine_map<(i, j, k) -> (0, k)>,
            affine_map<(i, j, k) -> (k, j)>,
            affine_map<(i, j, k) -> (i, j)>] {
  ^bb0(%v: f32):
    gossamer.yield %v : f32
  } -> tensor<4x4xf32>
  return
}

// -----

#CSR = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 : dense, d1 : compressed) }>
func.func @matmul_epilogue(%s: tensor<4x4xf32, #CSR>, %d: tensor<4x4xf32>) {
  // expected-error @+1 {{an epilogue operand is indexed by a summed loop}}
  %0 = gossamer.matmul ins(%s, %d : tensor<4x4xf32, #CSR>, tensor<4x4xf32>)
      epilogue(%d : tensor<4x4xf32>)
      outs(%d : tensor<4x4xf32>)
      maps [affine_map<(i, j, k) -> (i, k)>,
            affine_map<(i, j, k) -> (k, j)>,
            affine_map<(i, j, k) -> (i, k)>,
            affine_map<(i, j, k) -> (i, j)>] {
  ^bb0(%v: f32, %w: f32):
    gossamer.yield %v : f32
  } -> tensor<4x4xf32>
  return
}

// -----

#CSR = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 : dense, d1 : compressed) }>
func.func @matmul_sparse_epilogue(%s: tensor<4x4xf32, #CSR>, %d: tensor<4x4xf32>) {
  // expected-error @+1 {{epilogue operands must be dense}}
  %0 = gossamer.matmul ins(%s, %d : tensor<4x4xf32, #CSR>, tensor<4x4xf32>)
      epilogue(%s : tensor<4x4xf32, #CSR>)
      outs(%d : tensor<4x4xf32>)
      maps [affine_map<(i, j, k) -> (i, k)>,
            affine_map<(i, j, k) -> (k, j)>,
            affine_map<(i, j, k) -> (i, j)>,
            affine_map<(i, j, k) -> (i, j)>] {
  ^bb0(%v: f32, %w: f32):
    gossamer.yield %v : f32
  } -> tensor<4x4xf32>
  return
}

// -----

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
  // expected-error @+1 {{further operands must be dense}}
  %0 = gossamer.sddmm ins(%s, %d, %d : tensor<4x4xf32, #CSR>,
          tensor<4x4xf32>, tensor<4x4xf32>)
      with(%s : tensor<4x4xf32, #CSR>)
      maps [affine_map<(i, j, k) -> (i, j)>,
            affine_map<(i, j, k) -> (i, k)>,
            affine_map<(i, j, k) -> (k, j)>,
            affine_map<(i, j, k) -> (i, j)>] {
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

// -----

#CSR = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 : dense, d1 : compressed) }>
func.func @attention_loops(%q: tensor<4x4xf32>, %m: tensor<4x4xi1, #CSR>) {
  // expected-error @+1 {{iteration space must be (batch..., i, j, d, e)}}
  %0 = gossamer.attention ins(%q, %q, %q, %m : tensor<4x4xf32>,
          tensor<4x4xf32>, tensor<4x4xf32>, tensor<4x4xi1, #CSR>)
      outs(%q : tensor<4x4xf32>)
      maps [affine_map<(i, j, e) -> (i, e)>,
            affine_map<(i, j, e) -> (j, e)>,
            affine_map<(i, j, e) -> (j, e)>,
            affine_map<(i, j, e) -> (i, j)>,
            affine_map<(i, j, e) -> (i, e)>] {
  ^bb0(%s: f32, %b: i1):
    gossamer.yield %s : f32
  } -> tensor<4x4xf32>
  return
}

// -----

#CSR = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 : dense, d1 : compressed) }>
func.func @attention_query(%q: tensor<4x4xf32>, %m: tensor<4x4xi1, #CSR>) {
  // expected-error @+1 {{query must be (batch..., i, d)}}
  %0 = gossamer.attention ins(%q, %q, %q, %m : tensor<4x4xf32>,
          tensor<4x4xf32>, tensor<4x4xf32>, tensor<4x4xi1, #CSR>)
      outs(%q : tensor<4x4xf32>)
      maps [affine_map<(i, j, d, e) -> (d, i)>,
            affine_map<(i, j, d, e) -> (j, d)>,
            affine_map<(i, j, d, e) -> (j, e)>,
            affine_map<(i, j, d, e) -> (i, j)>,
            affine_map<(i, j, d, e) -> (i, e)>] {
  ^bb0(%s: f32, %b: i1):
    gossamer.yield %s : f32
  } -> tensor<4x4xf32>
  return
}

// -----

#CSR = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 : dense, d1 : compressed) }>
func.func @attention_key(%q: tensor<4x4xf32>, %m: tensor<4x4xi1, #CSR>) {
  // expected-error @+1 {{key must be (batch..., j, d)}}
  %0 = gossamer.attention ins(%q, %q, %q, %m : tensor<4x4xf32>,
          tensor<4x4xf32>, tensor<4x4xf32>, tensor<4x4xi1, #CSR>)
      outs(%q : tensor<4x4xf32>)
      maps [affine_map<(i, j, d, e) -> (i, d)>,
            affine_map<(i, j, d, e) -> (d, j)>,
            affine_map<(i, j, d, e) -> (j, e)>,
            affine_map<(i, j, d, e) -> (i, j)>,
            affine_map<(i, j, d, e) -> (i, e)>] {
  ^bb0(%s: f32, %b: i1):
    gossamer.yield %s : f32
  } -> tensor<4x4xf32>
  return
}

// -----

#CSR = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 : dense, d1 : compressed) }>
func.func @attention_value(%q: tensor<4x4xf32>, %m: tensor<4x4xi1, #CSR>) {
  // expected-error @+1 {{value must be (batch..., j, e)}}
  %0 = gossamer.attention ins(%q, %q, %q, %m : tensor<4x4xf32>,
          tensor<4x4xf32>, tensor<4x4xf32>, tensor<4x4xi1, #CSR>)
      outs(%q : tensor<4x4xf32>)
      maps [affine_map<(i, j, d, e) -> (i, d)>,
            affine_map<(i, j, d, e) -> (j, d)>,
            affine_map<(i, j, d, e) -> (e, j)>,
            affine_map<(i, j, d, e) -> (i, j)>,
            affine_map<(i, j, d, e) -> (i, e)>] {
  ^bb0(%s: f32, %b: i1):
    gossamer.yield %s : f32
  } -> tensor<4x4xf32>
  return
}

// -----

#CSR = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 : dense, d1 : compressed) }>
func.func @attention_mask(%q: tensor<4x4xf32>, %m: tensor<4x4xi1, #CSR>) {
  // expected-error @+1 {{mask must be (batch..., i, j)}}
  %0 = gossamer.attention ins(%q, %q, %q, %m : tensor<4x4xf32>,
          tensor<4x4xf32>, tensor<4x4xf32>, tensor<4x4xi1, #CSR>)
      outs(%q : tensor<4x4xf32>)
      maps [affine_map<(i, j, d, e) -> (i, d)>,
            affine_map<(i, j, d, e) -> (j, d)>,
            affine_map<(i, j, d, e) -> (j, e)>,
            affine_map<(i, j, d, e) -> (j, i)>,
            affine_map<(i, j, d, e) -> (i, e)>] {
  ^bb0(%s: f32, %b: i1):
    gossamer.yield %s : f32
  } -> tensor<4x4xf32>
  return
}

// -----

#CSR = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 : dense, d1 : compressed) }>
func.func @attention_result(%q: tensor<4x4xf32>, %m: tensor<4x4xi1, #CSR>) {
  // expected-error @+1 {{result must be (batch..., i, e)}}
  %0 = gossamer.attention ins(%q, %q, %q, %m : tensor<4x4xf32>,
          tensor<4x4xf32>, tensor<4x4xf32>, tensor<4x4xi1, #CSR>)
      outs(%q : tensor<4x4xf32>)
      maps [affine_map<(i, j, d, e) -> (i, d)>,
            affine_map<(i, j, d, e) -> (j, d)>,
            affine_map<(i, j, d, e) -> (j, e)>,
            affine_map<(i, j, d, e) -> (i, j)>,
            affine_map<(i, j, d, e) -> (e, i)>] {
  ^bb0(%s: f32, %b: i1):
    gossamer.yield %s : f32
  } -> tensor<4x4xf32>
  return
}

// -----

#CSR = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 : dense, d1 : compressed) }>
func.func @attention_broadcast_result(%q: tensor<4x4xf32>, %m: tensor<4x4xi1, #CSR>, %o: tensor<1x4x4xf32>) {
  // Only operands are broadcast.
  // expected-error @+1 {{result must be (batch..., i, e)}}
  %0 = gossamer.attention ins(%q, %q, %q, %m : tensor<4x4xf32>,
          tensor<4x4xf32>, tensor<4x4xf32>, tensor<4x4xi1, #CSR>)
      outs(%o : tensor<1x4x4xf32>)
      maps [affine_map<(i, j, d, e) -> (i, d)>,
            affine_map<(i, j, d, e) -> (j, d)>,
            affine_map<(i, j, d, e) -> (j, e)>,
            affine_map<(i, j, d, e) -> (i, j)>,
            affine_map<(i, j, d, e) -> (0, i, e)>] {
  ^bb0(%s: f32, %b: i1):
    gossamer.yield %s : f32
  } -> tensor<1x4x4xf32>
  return
}

// -----

#CSR = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 : dense, d1 : compressed) }>
func.func @attention_operand(%q: tensor<4x4xf32>, %m: tensor<4x4xi1, #CSR>) {
  // expected-error @+1 {{a score operand is indexed by d or e}}
  %0 = gossamer.attention ins(%q, %q, %q, %m : tensor<4x4xf32>,
          tensor<4x4xf32>, tensor<4x4xf32>, tensor<4x4xi1, #CSR>)
      with(%q : tensor<4x4xf32>)
      outs(%q : tensor<4x4xf32>)
      maps [affine_map<(i, j, d, e) -> (i, d)>,
            affine_map<(i, j, d, e) -> (j, d)>,
            affine_map<(i, j, d, e) -> (j, e)>,
            affine_map<(i, j, d, e) -> (i, j)>,
            affine_map<(i, j, d, e) -> (i, d)>,
            affine_map<(i, j, d, e) -> (i, e)>] {
  ^bb0(%s: f32, %b: i1, %x: f32):
    gossamer.yield %s : f32
  } -> tensor<4x4xf32>
  return
}

// -----

#CSR = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 : dense, d1 : compressed) }>
func.func @attention_sparse_operand(%q: tensor<4x4xf32>, %m: tensor<4x4xi1, #CSR>) {
  // expected-error @+1 {{score operands must be dense}}
  %0 = gossamer.attention ins(%q, %q, %q, %m : tensor<4x4xf32>,
          tensor<4x4xf32>, tensor<4x4xf32>, tensor<4x4xi1, #CSR>)
      with(%m : tensor<4x4xi1, #CSR>)
      outs(%q : tensor<4x4xf32>)
      maps [affine_map<(i, j, d, e) -> (i, d)>,
            affine_map<(i, j, d, e) -> (j, d)>,
            affine_map<(i, j, d, e) -> (j, e)>,
            affine_map<(i, j, d, e) -> (i, j)>,
            affine_map<(i, j, d, e) -> (i, j)>,
            affine_map<(i, j, d, e) -> (i, e)>] {
  ^bb0(%s: f32, %b: i1, %x: i1):
    gossamer.yield %s : f32
  } -> tensor<4x4xf32>
  return
}

// -----

#CSR = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 : dense, d1 : compressed) }>
func.func @attention_sparse(%q: tensor<4x4xf32>, %m: tensor<4x4xi1, #CSR>, %k: tensor<4x4xf32, #CSR>) {
  // expected-error @+1 {{query, key, value and result must be dense}}
  %0 = gossamer.attention ins(%q, %k, %q, %m : tensor<4x4xf32>,
          tensor<4x4xf32, #CSR>, tensor<4x4xf32>, tensor<4x4xi1, #CSR>)
      outs(%q : tensor<4x4xf32>)
      maps [affine_map<(i, j, d, e) -> (i, d)>,
            affine_map<(i, j, d, e) -> (j, d)>,
            affine_map<(i, j, d, e) -> (j, e)>,
            affine_map<(i, j, d, e) -> (i, j)>,
            affine_map<(i, j, d, e) -> (i, e)>] {
  ^bb0(%s: f32, %b: i1):
    gossamer.yield %s : f32
  } -> tensor<4x4xf32>
  return
}

// -----

#CSR = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 : dense, d1 : compressed) }>
func.func @attention_init(%q: tensor<4x4xf32>, %m: tensor<4x4xi1, #CSR>, %o: tensor<4x?xf32>) {
  // expected-error @+1 {{init and result must have the same type}}
  %0 = gossamer.attention ins(%q, %q, %q, %m : tensor<4x4xf32>,
          tensor<4x4xf32>, tensor<4x4xf32>, tensor<4x4xi1, #CSR>)
      outs(%o : tensor<4x?xf32>)
      maps [affine_map<(i, j, d, e) -> (i, d)>,
            affine_map<(i, j, d, e) -> (j, d)>,
            affine_map<(i, j, d, e) -> (j, e)>,
            affine_map<(i, j, d, e) -> (i, j)>,
            affine_map<(i, j, d, e) -> (i, e)>] {
  ^bb0(%s: f32, %b: i1):
    gossamer.yield %s : f32
  } -> tensor<4x4xf32>
  return
}

// -----

#CSR = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 : dense, d1 : compressed) }>
func.func @attention_types(%q: tensor<4x4xf32>, %m: tensor<4x4xi1, #CSR>, %v: tensor<4x4xf64>) {
  // expected-error @+1 {{query, key, value and result must have one floating-point element type}}
  %0 = gossamer.attention ins(%q, %q, %v, %m : tensor<4x4xf32>,
          tensor<4x4xf32>, tensor<4x4xf64>, tensor<4x4xi1, #CSR>)
      outs(%q : tensor<4x4xf32>)
      maps [affine_map<(i, j, d, e) -> (i, d)>,
            affine_map<(i, j, d, e) -> (j, d)>,
            affine_map<(i, j, d, e) -> (j, e)>,
            affine_map<(i, j, d, e) -> (i, j)>,
            affine_map<(i, j, d, e) -> (i, e)>] {
  ^bb0(%s: f32, %b: i1):
    gossamer.yield %s : f32
  } -> tensor<4x4xf32>
  return
}
