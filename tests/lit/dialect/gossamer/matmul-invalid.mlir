// What the verifier refuses of gossamer.matmul.
// RUN: gossamer-opt %s -verify-diagnostics -split-input-file

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
func.func @matmul_bits(%s: tensor<4x4xi1, #CSR>, %d: tensor<4x4xi1>) {
  // expected-error @+1 {{takes numbers, of a byte at least}}
  %0 = gossamer.matmul ins(%s, %d : tensor<4x4xi1, #CSR>, tensor<4x4xi1>)
      outs(%d : tensor<4x4xi1>)
      maps [affine_map<(i, j, k) -> (i, k)>,
            affine_map<(i, j, k) -> (k, j)>,
            affine_map<(i, j, k) -> (i, j)>] {
  ^bb0(%v: i1):
    gossamer.yield %v : i1
  } -> tensor<4x4xi1>
  return
}
