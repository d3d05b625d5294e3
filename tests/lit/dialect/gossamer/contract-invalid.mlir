// What the verifier refuses of gossamer.contract.
// RUN: gossamer-opt %s -verify-diagnostics -split-input-file

#CSR = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 : dense, d1 : compressed) }>
func.func @dense(%a: tensor<4x4xf32>, %b: tensor<4x4xf32>, %e: tensor<4x4xf32>) {
  // expected-error @+1 {{at least one operand must be sparse}}
  %0 = gossamer.contract ins(%a, %b : tensor<4x4xf32>, tensor<4x4xf32>) outs(%e : tensor<4x4xf32>)
      maps [affine_map<(i, j, k) -> (i, k)>, affine_map<(i, j, k) -> (k, j)>, affine_map<(i, j, k) -> (i, j)>] -> tensor<4x4xf32>
  return
}

// -----

#CSR = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 : dense, d1 : compressed) }>
func.func @sparse_result(%a: tensor<4x4xf32, #CSR>, %b: tensor<4x4xf32>, %e: tensor<4x4xf32, #CSR>) {
  // expected-error @+1 {{result and init must be dense}}
  %0 = gossamer.contract ins(%a, %b : tensor<4x4xf32, #CSR>, tensor<4x4xf32>) outs(%e : tensor<4x4xf32, #CSR>)
      maps [affine_map<(i, j, k) -> (i, k)>, affine_map<(i, j, k) -> (k, j)>, affine_map<(i, j, k) -> (i, j)>] -> tensor<4x4xf32, #CSR>
  return
}

// -----

#CSR = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 : dense, d1 : compressed) }>
func.func @init(%a: tensor<4x4xf32, #CSR>, %b: tensor<4x4xf32>, %e: tensor<4x4xf32>) {
  // expected-error @+1 {{init and result must have the same type}}
  %0 = gossamer.contract ins(%a, %b : tensor<4x4xf32, #CSR>, tensor<4x4xf32>) outs(%e : tensor<4x4xf32>)
      maps [affine_map<(i, j, k) -> (i, k)>, affine_map<(i, j, k) -> (k, j)>, affine_map<(i, j, k) -> (i, j)>] -> tensor<4x4xf64>
  return
}

// -----

#CSR = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 : dense, d1 : compressed) }>
func.func @elements(%a: tensor<4x4xf32, #CSR>, %b: tensor<4x4xf64>, %e: tensor<4x4xf32>) {
  // expected-error @+1 {{operands must have the same element type}}
  %0 = gossamer.contract ins(%a, %b : tensor<4x4xf32, #CSR>, tensor<4x4xf64>) outs(%e : tensor<4x4xf32>)
      maps [affine_map<(i, j, k) -> (i, k)>, affine_map<(i, j, k) -> (k, j)>, affine_map<(i, j, k) -> (i, j)>] -> tensor<4x4xf32>
  return
}

// -----

#CSR = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 : dense, d1 : compressed) }>
func.func @bools(%a: tensor<4x4xi1, #CSR>, %b: tensor<4x4xi1>, %e: tensor<4x4xi1>) {
  // expected-error @+1 {{takes numbers, of a byte at least}}
  %0 = gossamer.contract ins(%a, %b : tensor<4x4xi1, #CSR>, tensor<4x4xi1>) outs(%e : tensor<4x4xi1>)
      maps [affine_map<(i, j, k) -> (i, k)>, affine_map<(i, j, k) -> (k, j)>, affine_map<(i, j, k) -> (i, j)>] -> tensor<4x4xi1>
  return
}

// -----

#CSR = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 : dense, d1 : compressed) }>
func.func @narrower(%a: tensor<4x4xf32, #CSR>, %b: tensor<4x4xf32>, %e: tensor<4x4xf16>) {
  // expected-error @+1 {{result must have the operands' element type, or a wider float type}}
  %0 = gossamer.contract ins(%a, %b : tensor<4x4xf32, #CSR>, tensor<4x4xf32>) outs(%e : tensor<4x4xf16>)
      maps [affine_map<(i, j, k) -> (i, k)>, affine_map<(i, j, k) -> (k, j)>, affine_map<(i, j, k) -> (i, j)>] -> tensor<4x4xf16>
  return
}

// -----

#CSR = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 : dense, d1 : compressed) }>
func.func @constant(%a: tensor<1x4xf32, #CSR>, %b: tensor<4x4xf32>, %e: tensor<4x4xf32>) {
  // expected-error @+1 {{a sparse operand's map must be a projected permutation}}
  %0 = gossamer.contract ins(%a, %b : tensor<1x4xf32, #CSR>, tensor<4x4xf32>) outs(%e : tensor<4x4xf32>)
      maps [affine_map<(i, j, k) -> (0, k)>, affine_map<(i, j, k) -> (k, j)>, affine_map<(i, j, k) -> (i, j)>] -> tensor<4x4xf32>
  return
}

// -----

#CSR = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 : dense, d1 : compressed) }>
func.func @result_constant(%a: tensor<4x4xf32, #CSR>, %b: tensor<4x4xf32>, %e: tensor<1x4xf32>) {
  // expected-error @+1 {{the result's map must be a projected permutation}}
  %0 = gossamer.contract ins(%a, %b : tensor<4x4xf32, #CSR>, tensor<4x4xf32>) outs(%e : tensor<1x4xf32>)
      maps [affine_map<(i, j, k) -> (i, k)>, affine_map<(i, j, k) -> (k, j)>, affine_map<(i, j, k) -> (0, j)>] -> tensor<1x4xf32>
  return
}

// -----

#CSR = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 : dense, d1 : compressed) }>
func.func @diagonal(%a: tensor<4x4xf32, #CSR>, %b: tensor<4x4xf32>, %e: tensor<4x4xf32>) {
  // expected-error @+1 {{map 0 is not a projected permutation}}
  %0 = gossamer.contract ins(%a, %b : tensor<4x4xf32, #CSR>, tensor<4x4xf32>) outs(%e : tensor<4x4xf32>)
      maps [affine_map<(i, j, k) -> (i, i)>, affine_map<(i, j, k) -> (k, j)>, affine_map<(i, j, k) -> (i, j)>] -> tensor<4x4xf32>
  return
}

// -----

#CSR = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 : dense, d1 : compressed) }>
func.func @maps(%a: tensor<4x4xf32, #CSR>, %b: tensor<4x4xf32>, %e: tensor<4x4xf32>) {
  // expected-error @+1 {{has 2 maps for 3 operands and results}}
  %0 = gossamer.contract ins(%a, %b : tensor<4x4xf32, #CSR>, tensor<4x4xf32>) outs(%e : tensor<4x4xf32>)
      maps [affine_map<(i, j) -> (i, j)>, affine_map<(i, j) -> (i, j)>] -> tensor<4x4xf32>
  return
}
