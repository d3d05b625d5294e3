// RUN: gossamer-opt %s --gossamer-lower-stored -verify-diagnostics

#CSR = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 : dense, d1 : compressed) }>
#CSC = #sparse_tensor.encoding<{ map = (d0, d1) -> (d1 : dense, d0 : compressed) }>

// Places of another tensor's pattern.
func.func @other(%s: tensor<8x8xf32, #CSR>, %other: tensor<8x8xf32, #CSR>) -> tensor<8x8xf32> {
  %i = gossamer.storage_index %other : tensor<8x8xf32, #CSR> to tensor<8x8xi64, #CSC>
  // expected-error @+1 {{needs an index that gossamer.storage_index made of the pattern of the source}}
  %t = gossamer.gather %s, %i : tensor<8x8xf32, #CSR>, tensor<8x8xi64, #CSC> -> tensor<8x8xf32, #CSC>
  %d = gossamer.convert %t {fill = 0.0 : f32} : tensor<8x8xf32, #CSC> to tensor<8x8xf32>
  return %d : tensor<8x8xf32>
}
