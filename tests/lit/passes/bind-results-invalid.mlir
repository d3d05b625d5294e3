// RUN: gossamer-opt %s --gossamer-bind-results -verify-diagnostics -split-input-file

// expected-error @+1 {{returns what is not a ranked tensor; only tensors are written in place}}
func.func @scalar(%x: f32) -> f32 {
  return %x : f32
}

// -----

// expected-error @+1 {{must have one block for its results to be bound}}
func.func @branches(%x: tensor<4xf32>) -> tensor<4xf32> {
  cf.br ^bb1
^bb1:
  return %x : tensor<4xf32>
}

// -----

#CSR = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 : dense, d1 : compressed) }>

// expected-error @+1 {{returns a sparse tensor whose pattern is no argument's; a kernel makes no new patterns}}
func.func @new_pattern(%x: tensor<4x4xf32>) -> tensor<4x4xf32, #CSR> {
  %0 = gossamer.convert %x {fill = 0.0 : f32} : tensor<4x4xf32> to tensor<4x4xf32, #CSR>
  return %0 : tensor<4x4xf32, #CSR>
}

// -----

#CSR = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 : dense, d1 : compressed) }>
#CSC = #sparse_tensor.encoding<{ map = (d0, d1) -> (d1 : dense, d0 : compressed) }>

// expected-error @+1 {{whose pattern is no argument's}}
func.func @other_storage(%s: tensor<4x4xf32, #CSR>) -> tensor<4x4xf32, #CSC> {
  %0 = gossamer.convert %s {fill = 0.0 : f32} : tensor<4x4xf32, #CSR> to tensor<4x4xf32, #CSC>
  return %0 : tensor<4x4xf32, #CSC>
}
