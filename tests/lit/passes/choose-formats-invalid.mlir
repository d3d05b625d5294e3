// RUN: gossamer-opt %s --gossamer-choose-formats -verify-diagnostics

#CSC = #sparse_tensor.encoding<{ map = (d0, d1) -> (d1 : dense, d0 : compressed) }>

// The runtime knows the patterns of arguments only.
func.func @computed(%d: tensor<8x8xf32>, %x: tensor<8x8xf32>) -> tensor<8x8xf32> {
  %0 = gossamer.convert %d {fill = 0.0 : f32} : tensor<8x8xf32> to tensor<8x8xf32, #CSC>
  // expected-error-re @+1 {{needs an operand stored as #sparse_tensor.encoding<{{.*}}d0 : dense, d1 : compressed{{.*}}, but gossamer.convert makes it stored as {{.*}}d1 : dense, d0 : compressed{{.*}}; annotate the tensor that its pattern comes from with that format}}
  %1 = gossamer.matmul ins(%0, %x : tensor<8x8xf32, #CSC>, tensor<8x8xf32>) outs(%x : tensor<8x8xf32>)
      maps [affine_map<(i, j, k) -> (i, k)>, affine_map<(i, j, k) -> (k, j)>, affine_map<(i, j, k) -> (i, j)>] {
  ^bb0(%v: f32):
    gossamer.yield %v : f32
  } -> tensor<8x8xf32>
  return %1 : tensor<8x8xf32>
}
