// RUN: gossamer-opt %s --gossamer-lower-stored --split-input-file -verify-diagnostics

#CSR = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 : dense, d1 : compressed) }>

func.func @new_pattern(%x: tensor<4x4xf32>, %out: memref<?xf32>) {
  // expected-error @+1 {{makes a new pattern, which only the runtime does}}
  %0 = gossamer.convert %x {fill = 0.0 : f32} : tensor<4x4xf32> to tensor<4x4xf32, #CSR>
  gossamer.store_values %0, %out : tensor<4x4xf32, #CSR>, memref<?xf32>
  return
}

// -----

#CSR = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 : dense, d1 : compressed) }>

// Another argument has another pattern, unless it says whose it shares.
func.func @two_patterns(%a: tensor<?x?xf32, #CSR>, %b: tensor<?x?xf32, #CSR>, %out: memref<?xf32>) {
  // expected-error @+1 {{has a sparse operand on another pattern}}
  %0 = gossamer.map ins(%a : tensor<?x?xf32, #CSR>) with(%b : tensor<?x?xf32, #CSR>)
      maps [affine_map<(i, j) -> (i, j)>, affine_map<(i, j) -> (i, j)>] {
  ^bb0(%x: f32, %y: f32):
    %1 = arith.addf %x, %y : f32
    gossamer.yield %1 : f32
  } -> tensor<?x?xf32, #CSR>
  gossamer.store_values %0, %out : tensor<?x?xf32, #CSR>, memref<?xf32>
  return
}
