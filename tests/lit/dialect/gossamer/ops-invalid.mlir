// What the verifier refuses of single operations; those with maps and a body are in maps-, matmul-, stored- and attention-invalid.
// RUN: gossamer-opt %s -verify-diagnostics -split-input-file

#CSR = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 : dense, d1 : compressed) }>
func.func @convert_type(%s: tensor<4x4xf32, #CSR>) {
  // expected-error @+1 {{changes the element type; it may change only the storage}}
  %0 = gossamer.convert %s {fill = 0.0 : f32} : tensor<4x4xf32, #CSR> to tensor<4x4xf64>
  return
}

// -----

#CSR = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 : dense, d1 : compressed) }>
func.func @convert_shape(%s: tensor<4x?xf32, #CSR>) {
  // expected-error @+1 {{changes the shape; it may change only the storage}}
  %0 = gossamer.convert %s {fill = 0.0 : f32} : tensor<4x?xf32, #CSR> to tensor<5x?xf32>
  return
}

// -----

#CSR = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 : dense, d1 : compressed) }>
func.func @convert_fill(%s: tensor<4x4xi1, #CSR>) {
  // expected-error @+1 {{fill has type 'f32', expected 'i1'}}
  %0 = gossamer.convert %s {fill = 0.0 : f32} : tensor<4x4xi1, #CSR> to tensor<4x4xi1>
  return
}

// -----

#CSR = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 : dense, d1 : compressed) }>
#CSC = #sparse_tensor.encoding<{ map = (d0, d1) -> (d1 : dense, d0 : compressed) }>
func.func @sample_storage(%d: tensor<4x4xf32>, %s: tensor<4x4xf32, #CSR>) {
  // expected-error @+1 {{result must be stored and shaped as the pattern is}}
  %0 = gossamer.sample %d, %s : tensor<4x4xf32>, tensor<4x4xf32, #CSR> -> tensor<4x4xf32, #CSC>
  return
}

// -----

#CSR = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 : dense, d1 : compressed) }>
func.func @sample_sparse(%s: tensor<4x4xf32, #CSR>) {
  // expected-error @+1 {{source must be dense}}
  %0 = gossamer.sample %s, %s : tensor<4x4xf32, #CSR>, tensor<4x4xf32, #CSR> -> tensor<4x4xf32, #CSR>
  return
}

// -----

#CSR = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 : dense, d1 : compressed) }>
func.func @sample_type(%d: tensor<4x4xf32>, %s: tensor<4x4xi1, #CSR>) {
  // expected-error @+1 {{result must have the element type of the source}}
  %0 = gossamer.sample %d, %s : tensor<4x4xf32>, tensor<4x4xi1, #CSR> -> tensor<4x4xi1, #CSR>
  return
}

// -----

#CSR = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 : dense, d1 : compressed) }>
func.func @sample_shape(%d: tensor<4x5xf32>, %s: tensor<4x4xf32, #CSR>) {
  // expected-error @+1 {{source and pattern must have the same shape}}
  %0 = gossamer.sample %d, %s : tensor<4x5xf32>, tensor<4x4xf32, #CSR> -> tensor<4x4xf32, #CSR>
  return
}

// -----

#CSR = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 : dense, d1 : compressed) }>
func.func @assemble_shape(%s: tensor<4x4xf32, #CSR>, %v: tensor<?xf32>) {
  // expected-error @+1 {{result must be stored and shaped as the pattern is}}
  %0 = gossamer.assemble %s, %v : tensor<4x4xf32, #CSR>, tensor<?xf32> -> tensor<4x5xf32, #CSR>
  return
}

// -----

#CSR = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 : dense, d1 : compressed) }>
func.func @assemble_type(%s: tensor<4x4xf32, #CSR>, %v: tensor<?xf64>) {
  // expected-error @+1 {{result must have the element type of the values}}
  %0 = gossamer.assemble %s, %v : tensor<4x4xf32, #CSR>, tensor<?xf64> -> tensor<4x4xf32, #CSR>
  return
}

// -----

#CSR = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 : dense, d1 : compressed) }>
func.func @store_type(%s: tensor<4x4xf32, #CSR>, %b: memref<?xf64>) {
  // expected-error @+1 {{buffer must have the element type of the tensor}}
  gossamer.store_values %s, %b : tensor<4x4xf32, #CSR>, memref<?xf64>
  return
}

// -----

#CSR = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 : dense, d1 : compressed) }>
func.func @softmax_dimension(%s: tensor<4x4xf32, #CSR>) {
  // expected-error @+1 {{dimension 2 is out of range for rank 2}}
  %0 = gossamer.softmax %s dim 2 : tensor<4x4xf32, #CSR>
  return
}

// -----

#CSR = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 : dense, d1 : compressed) }>
func.func @softmax_type(%s: tensor<4x4xi32, #CSR>) {
  // expected-error @+1 {{takes floating-point values}}
  %0 = gossamer.softmax %s dim 1 : tensor<4x4xi32, #CSR>
  return
}

// -----

#CSR = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 : dense, d1 : compressed) }>
func.func @softmax_index_shape(%s: tensor<4x4xf32, #CSR>, %i: tensor<4x5xi32, #CSR>) {
  // expected-error @+1 {{index and source must have the same shape}}
  %0 = gossamer.softmax %s by %i : tensor<4x5xi32, #CSR> dim 1 : tensor<4x4xf32, #CSR>
  return
}

// -----

#CSR = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 : dense, d1 : compressed) }>
func.func @softmax_index_type(%s: tensor<4x4xf32, #CSR>, %i: tensor<4x4xf32, #CSR>) {
  // expected-error @+1 {{index must have places for values, not 'f32'}}
  %0 = gossamer.softmax %s by %i : tensor<4x4xf32, #CSR> dim 1 : tensor<4x4xf32, #CSR>
  return
}

// -----

func.func @softmax_dense(%d: tensor<4x4xf32>) {
  // expected-error @+1 {{must be sparse tensor of any type values}}
  %0 = gossamer.softmax %d dim 1 : tensor<4x4xf32>
  return
}

// -----

#CSR = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 : dense, d1 : compressed) }>
func.func @index_range(%s: tensor<4x4xf32, #CSR>) {
  %0 = gossamer.map ins(%s : tensor<4x4xf32, #CSR>)
      maps [affine_map<(i, j) -> (i, j)>] {
  ^bb0(%v: f32):
    // expected-error @+1 {{dim 2 is out of range: the body of gossamer.map has 2}}
    %i = gossamer.index 2
    gossamer.yield %v : f32
  } -> tensor<4x4xf32, #CSR>
  return
}

// -----

#CSR = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 : dense, d1 : compressed) }>
func.func @index_of_sum(%s: tensor<4x4xf32, #CSR>, %d: tensor<4x4xf32>) {
  %0 = gossamer.matmul ins(%s, %d : tensor<4x4xf32, #CSR>, tensor<4x4xf32>)
      outs(%d : tensor<4x4xf32>)
      maps [affine_map<(i, j, k) -> (i, k)>, affine_map<(i, j, k) -> (k, j)>,
            affine_map<(i, j, k) -> (i, j)>] {
  ^bb0(%v: f32):
    // The loop of the sum is over when the body runs.
    // expected-error @+1 {{dim 2 is out of range: the body of gossamer.matmul has 2}}
    %i = gossamer.index 2
    gossamer.yield %v : f32
  } -> tensor<4x4xf32>
  return
}

// -----

#CSR = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 : dense, d1 : compressed) }>
func.func @index_of_attention(%q: tensor<4x4xf32>, %m: tensor<4x4xi1, #CSR>) {
  %0 = gossamer.attention ins(%q, %q, %q, %m : tensor<4x4xf32>, tensor<4x4xf32>,
          tensor<4x4xf32>, tensor<4x4xi1, #CSR>) outs(%q : tensor<4x4xf32>)
      maps [affine_map<(i, j, d, e) -> (i, d)>, affine_map<(i, j, d, e) -> (j, d)>,
            affine_map<(i, j, d, e) -> (j, e)>, affine_map<(i, j, d, e) -> (i, j)>,
            affine_map<(i, j, d, e) -> (i, e)>] {
  ^bb0(%s: f32, %mask: i1):
    // expected-error @+1 {{dim 2 is out of range: the body of gossamer.attention has 2}}
    %i = gossamer.index 2
    gossamer.yield %s : f32
  } -> tensor<4x4xf32>
  return
}

// -----

func.func @index_alone() {
  // expected-error @+1 {{expects parent op to be one of}}
  %i = gossamer.index 0
  return
}
