// RUN: gossamer-opt %s --gossamer-lower-contract -verify-diagnostics -split-input-file

#CSR = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 : dense, d1 : compressed) }>
#CSC = #sparse_tensor.encoding<{ map = (d0, d1) -> (d1 : dense, d0 : compressed) }>
func.func @order(%a: tensor<?x?xf32, #CSR>, %b: tensor<?x?xf32, #CSC>, %e: tensor<f32>) -> tensor<f32> {
  // expected-error @+1 {{has sparse operands whose levels are in no common order; gossamer-choose-formats makes them alike}}
  %0 = gossamer.contract ins(%a, %b : tensor<?x?xf32, #CSR>, tensor<?x?xf32, #CSC>) outs(%e : tensor<f32>)
      maps [affine_map<(i, j) -> (i, j)>, affine_map<(i, j) -> (i, j)>, affine_map<(i, j) -> ()>] -> tensor<f32>
  return %0 : tensor<f32>
}

// -----

#CSR = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 : dense, d1 : compressed) }>
#BSR = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 floordiv 4 : dense, d1 floordiv 4 : compressed, d0 mod 4 : dense, d1 mod 4 : dense) }>
func.func @blocks(%a: tensor<?x?xf32, #BSR>, %b: tensor<?x?xf32, #CSR>, %e: tensor<?x?xf32>) -> tensor<?x?xf32> {
  // expected-error @+1 {{has operands of different blocks, 4 and 1, along loop d2; gossamer-choose-formats makes them alike}}
  %0 = gossamer.contract ins(%a, %b : tensor<?x?xf32, #BSR>, tensor<?x?xf32, #CSR>) outs(%e : tensor<?x?xf32>)
      maps [affine_map<(i, j, k) -> (i, k)>, affine_map<(i, j, k) -> (k, j)>, affine_map<(i, j, k) -> (i, j)>] -> tensor<?x?xf32>
  return %0 : tensor<?x?xf32>
}
