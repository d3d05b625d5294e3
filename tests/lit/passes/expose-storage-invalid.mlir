// RUN: gossamer-opt %s --gossamer-expose-storage -verify-diagnostics -split-input-file

// expected-error @+1 {{must have its results bound first (gossamer-bind-results)}}
func.func @unbound(%x: tensor<4xf32>) -> tensor<4xf32> {
  return %x : tensor<4xf32>
}

// -----

// expected-error @+1 {{takes a 'f32'; a region takes ranked tensors and numbers (index) only}}
func.func @scalar(%x: f32) attributes {gossamer.results = []} {
  return
}

// -----

#CSR = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 : dense, d1 : compressed) }>
func.func @unlowered(%s: tensor<4x4xf32, #CSR>) attributes {gossamer.results = []} {
  // expected-error @+1 {{has no lowering for an operand stored as #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 : dense, d1 : compressed) }>}}
  %0 = gossamer.convert %s {fill = 0.0 : f32} : tensor<4x4xf32, #CSR> to tensor<4x4xf32>
  return
}

// -----

#CSR = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 : dense, d1 : compressed) }>
func.func @computed(%s: tensor<4x4xf32, #CSR>) attributes {gossamer.results = []} {
  // expected-error @+1 {{has no lowering for an operand stored as}}
  %0 = gossamer.softmax %s dim 1 : tensor<4x4xf32, #CSR>
  return
}

// -----

#CSR = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 : dense, d1 : compressed) }>
func.func @new_pattern(%x: tensor<4x4xf32>) attributes {gossamer.results = []} {
  // expected-error @+1 {{has a sparse result that nothing lowers}}
  %0 = gossamer.convert %x {fill = 0.0 : f32} : tensor<4x4xf32> to tensor<4x4xf32, #CSR>
  %1 = sparse_tensor.values %0 : tensor<4x4xf32, #CSR> to memref<?xf32>
  return
}

// -----

// expected-note @+1 {{the first is here}}
func.func @one() attributes {gossamer.results = []} {
  return
}
// expected-error @+1 {{is a second public function; a module holds one region}}
func.func @two() attributes {gossamer.results = []} {
  return
}
