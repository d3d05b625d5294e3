// RUN: gossamer-opt %s -verify-diagnostics -split-input-file

#CSR = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 : dense, d1 : compressed), posWidth = 32, crdWidth = 32 }>
#CSC = #sparse_tensor.encoding<{ map = (d0, d1) -> (d1 : dense, d0 : compressed), posWidth = 32, crdWidth = 32 }>
func.func @width(%m: tensor<4x4xi1, #CSR>) {
  // expected-error @+1 {{places must be i32, as wide as the positions of the result}}
  %i = gossamer.storage_index %m : tensor<4x4xi1, #CSR> to tensor<4x4xi64, #CSC>
  return
}

// -----

#CSR = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 : dense, d1 : compressed) }>
#BSR = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 floordiv 2 : dense, d1 floordiv 2 : compressed, d0 mod 2 : dense, d1 mod 2 : dense) }>
func.func @blocks(%m: tensor<4x4xi1, #CSR>) {
  // expected-error @+1 {{cannot store blocks that the source does not store}}
  %i = gossamer.storage_index %m : tensor<4x4xi1, #CSR> to tensor<4x4xi64, #BSR>
  return
}

// -----

#CSR = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 : dense, d1 : compressed) }>
#CSC = #sparse_tensor.encoding<{ map = (d0, d1) -> (d1 : dense, d0 : compressed) }>
func.func @shape(%m: tensor<4x5xi1, #CSR>) {
  // expected-error @+1 {{changes the shape; it may change only the storage}}
  %i = gossamer.storage_index %m : tensor<4x5xi1, #CSR> to tensor<5x4xi64, #CSC>
  return
}

// -----

#CSR = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 : dense, d1 : compressed) }>
#CSC = #sparse_tensor.encoding<{ map = (d0, d1) -> (d1 : dense, d0 : compressed) }>
func.func @places(%m: tensor<4x4xf32, #CSR>, %i: tensor<4x4xi32, #CSC>) {
  // expected-error @+1 {{index must hold places of i64}}
  %t = gossamer.gather %m, %i : tensor<4x4xf32, #CSR>, tensor<4x4xi32, #CSC> -> tensor<4x4xf32, #CSC>
  return
}

// -----

#CSR = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 : dense, d1 : compressed) }>
#CSC = #sparse_tensor.encoding<{ map = (d0, d1) -> (d1 : dense, d0 : compressed) }>
func.func @element(%m: tensor<4x4xf32, #CSR>, %i: tensor<4x4xi64, #CSC>) {
  // expected-error @+1 {{result must have the element type of the source}}
  %t = gossamer.gather %m, %i : tensor<4x4xf32, #CSR>, tensor<4x4xi64, #CSC> -> tensor<4x4xf64, #CSC>
  return
}
