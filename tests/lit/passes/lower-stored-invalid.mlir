// RUN: gossamer-opt %s --gossamer-lower-stored -verify-diagnostics

#CSR = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 : dense, d1 : compressed) }>

func.func @new_pattern(%x: tensor<4x4xf32>, %out: memref<?xf32>) {
  // expected-error @+1 {{makes a new pattern, which only the runtime does}}
  %0 = gossamer.convert %x {fill = 0.0 : f32} : tensor<4x4xf32> to tensor<4x4xf32, #CSR>
  gossamer.store_values %0, %out : tensor<4x4xf32, #CSR>, memref<?xf32>
  return
}
