// What the verifier refuses of gossamer.attention.
// RUN: gossamer-opt %s -verify-diagnostics -split-input-file

#CSR = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 : dense, d1 : compressed) }>
func.func @attention_loops(%q: tensor<4x4xf32>, %m: tensor<4x4xi1, #CSR>) {
  // expected-error @+1 {{iteration space must be (batch..., i, j, d, e)}}
  %0 = gossamer.attention ins(%q, %q, %q, %m : tensor<4x4xf32>,
          tensor<4x4xf32>, tensor<4x4xf32>, tensor<4x4xi1, #CSR>)
      outs(%q : tensor<4x4xf32>)
      maps [affine_map<(i, j, e) -> (i, e)>,
            affine_map<(i, j, e) -> (j, e)>,
            affine_map<(i, j, e) -> (j, e)>,
            affine_map<(i, j, e) -> (i, j)>,
            affine_map<(i, j, e) -> (i, e)>] {
  ^bb0(%s: f32, %b: i1):
    gossamer.yield %s : f32
  } -> tensor<4x4xf32>
  return
}

// -----

#CSR = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 : dense, d1 : compressed) }>
func.func @attention_query(%q: tensor<4x4xf32>, %m: tensor<4x4xi1, #CSR>) {
  // expected-error @+1 {{query must be (batch..., i, d)}}
  %0 = gossamer.attention ins(%q, %q, %q, %m : tensor<4x4xf32>,
          tensor<4x4xf32>, tensor<4x4xf32>, tensor<4x4xi1, #CSR>)
      outs(%q : tensor<4x4xf32>)
      maps [affine_map<(i, j, d, e) -> (d, i)>,
            affine_map<(i, j, d, e) -> (j, d)>,
            affine_map<(i, j, d, e) -> (j, e)>,
            affine_map<(i, j, d, e) -> (i, j)>,
            affine_map<(i, j, d, e) -> (i, e)>] {
  ^bb0(%s: f32, %b: i1):
    gossamer.yield %s : f32
  } -> tensor<4x4xf32>
  return
}

// -----

#CSR = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 : dense, d1 : compressed) }>
func.func @attention_key(%q: tensor<4x4xf32>, %m: tensor<4x4xi1, #CSR>) {
  // expected-error @+1 {{key must be (batch..., j, d)}}
  %0 = gossamer.attention ins(%q, %q, %q, %m : tensor<4x4xf32>,
          tensor<4x4xf32>, tensor<4x4xf32>, tensor<4x4xi1, #CSR>)
      outs(%q : tensor<4x4xf32>)
      maps [affine_map<(i, j, d, e) -> (i, d)>,
            affine_map<(i, j, d, e) -> (d, j)>,
            affine_map<(i, j, d, e) -> (j, e)>,
            affine_map<(i, j, d, e) -> (i, j)>,
            affine_map<(i, j, d, e) -> (i, e)>] {
  ^bb0(%s: f32, %b: i1):
    gossamer.yield %s : f32
  } -> tensor<4x4xf32>
  return
}

// -----

#CSR = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 : dense, d1 : compressed) }>
func.func @attention_value(%q: tensor<4x4xf32>, %m: tensor<4x4xi1, #CSR>) {
  // expected-error @+1 {{value must be (batch..., j, e)}}
  %0 = gossamer.attention ins(%q, %q, %q, %m : tensor<4x4xf32>,
          tensor<4x4xf32>, tensor<4x4xf32>, tensor<4x4xi1, #CSR>)
      outs(%q : tensor<4x4xf32>)
      maps [affine_map<(i, j, d, e) -> (i, d)>,
            affine_map<(i, j, d, e) -> (j, d)>,
            affine_map<(i, j, d, e) -> (e, j)>,
            affine_map<(i, j, d, e) -> (i, j)>,
            affine_map<(i, j, d, e) -> (i, e)>] {
  ^bb0(%s: f32, %b: i1):
    gossamer.yield %s : f32
  } -> tensor<4x4xf32>
  return
}

// -----

#CSR = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 : dense, d1 : compressed) }>
func.func @attention_mask(%q: tensor<4x4xf32>, %m: tensor<4x4xi1, #CSR>) {
  // expected-error @+1 {{mask must be (batch..., i, j)}}
  %0 = gossamer.attention ins(%q, %q, %q, %m : tensor<4x4xf32>,
          tensor<4x4xf32>, tensor<4x4xf32>, tensor<4x4xi1, #CSR>)
      outs(%q : tensor<4x4xf32>)
      maps [affine_map<(i, j, d, e) -> (i, d)>,
            affine_map<(i, j, d, e) -> (j, d)>,
            affine_map<(i, j, d, e) -> (j, e)>,
            affine_map<(i, j, d, e) -> (j, i)>,
            affine_map<(i, j, d, e) -> (i, e)>] {
  ^bb0(%s: f32, %b: i1):
    gossamer.yield %s : f32
  } -> tensor<4x4xf32>
  return
}

// -----

#CSR = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 : dense, d1 : compressed) }>
func.func @attention_result(%q: tensor<4x4xf32>, %m: tensor<4x4xi1, #CSR>) {
  // expected-error @+1 {{result must be (batch..., i, e)}}
  %0 = gossamer.attention ins(%q, %q, %q, %m : tensor<4x4xf32>,
          tensor<4x4xf32>, tensor<4x4xf32>, tensor<4x4xi1, #CSR>)
      outs(%q : tensor<4x4xf32>)
      maps [affine_map<(i, j, d, e) -> (i, d)>,
            affine_map<(i, j, d, e) -> (j, d)>,
            affine_map<(i, j, d, e) -> (j, e)>,
            affine_map<(i, j, d, e) -> (i, j)>,
            affine_map<(i, j, d, e) -> (e, i)>] {
  ^bb0(%s: f32, %b: i1):
    gossamer.yield %s : f32
  } -> tensor<4x4xf32>
  return
}

// -----

#CSR = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 : dense, d1 : compressed) }>
func.func @attention_broadcast_result(%q: tensor<4x4xf32>, %m: tensor<4x4xi1, #CSR>, %o: tensor<1x4x4xf32>) {
  // Only operands are broadcast.
  // expected-error @+1 {{result must be (batch..., i, e)}}
  %0 = gossamer.attention ins(%q, %q, %q, %m : tensor<4x4xf32>,
          tensor<4x4xf32>, tensor<4x4xf32>, tensor<4x4xi1, #CSR>)
      outs(%o : tensor<1x4x4xf32>)
      maps [affine_map<(i, j, d, e) -> (i, d)>,
            affine_map<(i, j, d, e) -> (j, d)>,
            affine_map<(i, j, d, e) -> (j, e)>,
            affine_map<(i, j, d, e) -> (i, j)>,
            affine_map<(i, j, d, e) -> (0, i, e)>] {
  ^bb0(%s: f32, %b: i1):
    gossamer.yield %s : f32
  } -> tensor<1x4x4xf32>
  return
}

// -----

#CSR = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 : dense, d1 : compressed) }>
func.func @attention_operand(%q: tensor<4x4xf32>, %m: tensor<4x4xi1, #CSR>) {
  // expected-error @+1 {{a score operand is indexed by d or e}}
  %0 = gossamer.attention ins(%q, %q, %q, %m : tensor<4x4xf32>,
          tensor<4x4xf32>, tensor<4x4xf32>, tensor<4x4xi1, #CSR>)
      with(%q : tensor<4x4xf32>)
      outs(%q : tensor<4x4xf32>)
      maps [affine_map<(i, j, d, e) -> (i, d)>,
            affine_map<(i, j, d, e) -> (j, d)>,
            affine_map<(i, j, d, e) -> (j, e)>,
            affine_map<(i, j, d, e) -> (i, j)>,
            affine_map<(i, j, d, e) -> (i, d)>,
            affine_map<(i, j, d, e) -> (i, e)>] {
  ^bb0(%s: f32, %b: i1, %x: f32):
    gossamer.yield %s : f32
  } -> tensor<4x4xf32>
  return
}

// -----

#CSR = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 : dense, d1 : compressed) }>
func.func @attention_sparse_operand(%q: tensor<4x4xf32>, %m: tensor<4x4xi1, #CSR>) {
  // expected-error @+1 {{score operands must be dense}}
  %0 = gossamer.attention ins(%q, %q, %q, %m : tensor<4x4xf32>,
          tensor<4x4xf32>, tensor<4x4xf32>, tensor<4x4xi1, #CSR>)
      with(%m : tensor<4x4xi1, #CSR>)
      outs(%q : tensor<4x4xf32>)
      maps [affine_map<(i, j, d, e) -> (i, d)>,
            affine_map<(i, j, d, e) -> (j, d)>,
            affine_map<(i, j, d, e) -> (j, e)>,
            affine_map<(i, j, d, e) -> (i, j)>,
            affine_map<(i, j, d, e) -> (i, j)>,
            affine_map<(i, j, d, e) -> (i, e)>] {
  ^bb0(%s: f32, %b: i1, %x: i1):
    gossamer.yield %s : f32
  } -> tensor<4x4xf32>
  return
}

// -----

#CSR = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 : dense, d1 : compressed) }>
func.func @attention_sparse(%q: tensor<4x4xf32>, %m: tensor<4x4xi1, #CSR>, %k: tensor<4x4xf32, #CSR>) {
  // expected-error @+1 {{query, key, value and result must be dense}}
  %0 = gossamer.attention ins(%q, %k, %q, %m : tensor<4x4xf32>,
          tensor<4x4xf32, #CSR>, tensor<4x4xf32>, tensor<4x4xi1, #CSR>)
      outs(%q : tensor<4x4xf32>)
      maps [affine_map<(i, j, d, e) -> (i, d)>,
            affine_map<(i, j, d, e) -> (j, d)>,
            affine_map<(i, j, d, e) -> (j, e)>,
            affine_map<(i, j, d, e) -> (i, j)>,
            affine_map<(i, j, d, e) -> (i, e)>] {
  ^bb0(%s: f32, %b: i1):
    gossamer.yield %s : f32
  } -> tensor<4x4xf32>
  return
}

// -----

#CSR = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 : dense, d1 : compressed) }>
func.func @attention_init(%q: tensor<4x4xf32>, %m: tensor<4x4xi1, #CSR>, %o: tensor<4x?xf32>) {
  // expected-error @+1 {{init and result must have the same type}}
  %0 = gossamer.attention ins(%q, %q, %q, %m : tensor<4x4xf32>,
          tensor<4x4xf32>, tensor<4x4xf32>, tensor<4x4xi1, #CSR>)
      outs(%o : tensor<4x?xf32>)
      maps [affine_map<(i, j, d, e) -> (i, d)>,
            affine_map<(i, j, d, e) -> (j, d)>,
            affine_map<(i, j, d, e) -> (j, e)>,
            affine_map<(i, j, d, e) -> (i, j)>,
            affine_map<(i, j, d, e) -> (i, e)>] {
  ^bb0(%s: f32, %b: i1):
    gossamer.yield %s : f32
  } -> tensor<4x4xf32>
  return
}

// -----

#CSR = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 : dense, d1 : compressed) }>
func.func @attention_types(%q: tensor<4x4xf32>, %m: tensor<4x4xi1, #CSR>, %v: tensor<4x4xf64>) {
  // expected-error @+1 {{query, key, value and result must have one floating-point element type}}
  %0 = gossamer.attention ins(%q, %q, %v, %m : tensor<4x4xf32>,
          tensor<4x4xf32>, tensor<4x4xf64>, tensor<4x4xi1, #CSR>)
      outs(%q : tensor<4x4xf32>)
      maps [affine_map<(i, j, d, e) -> (i, d)>,
            affine_map<(i, j, d, e) -> (j, d)>,
            affine_map<(i, j, d, e) -> (j, e)>,
            affine_map<(i, j, d, e) -> (i, j)>,
            affine_map<(i, j, d, e) -> (i, e)>] {
  ^bb0(%s: f32, %b: i1):
    gossamer.yield %s : f32
  } -> tensor<4x4xf32>
  return
}
