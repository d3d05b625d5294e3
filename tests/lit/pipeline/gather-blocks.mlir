// RUN: gossamer-opt %s --gossamer-bind-results --gossamer-lower-stored --gossamer-expose-storage | FileCheck %s

// A block moves as a whole, and is transposed on the way.

#BSR = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 floordiv 2 : dense, d1 floordiv 4 : compressed, d0 mod 2 : dense, d1 mod 4 : dense) }>
#BSC = #sparse_tensor.encoding<{ map = (d0, d1) -> (d1 floordiv 4 : dense, d0 floordiv 2 : compressed, d1 mod 4 : dense, d0 mod 2 : dense) }>

// CHECK: \22places\22:\22blocks\22
// CHECK: func.func @main(
// CHECK: scf.parallel (%[[AT:.*]]) =
// CHECK: %[[PLACE:.*]] = memref.load %{{.*}}[%[[AT]]] : memref<?xi64>
// CHECK: scf.for %[[J:.*]] = %{{.*}} to %{{.*}}
// CHECK: scf.for %[[I:.*]] = %{{.*}} to %{{.*}}
// CHECK: memref.load %{{.*}} : memref<?xf32>
// CHECK: memref.store
func.func @main(%s: tensor<8x8xf32, #BSR>) -> tensor<8x8xf32> {
  %i = gossamer.storage_index %s : tensor<8x8xf32, #BSR> to tensor<8x8xi64, #BSC>
  %t = gossamer.gather %s, %i : tensor<8x8xf32, #BSR>, tensor<8x8xi64, #BSC> -> tensor<8x8xf32, #BSC>
  %d = gossamer.convert %t {fill = 0.0 : f32} : tensor<8x8xf32, #BSC> to tensor<8x8xf32>
  return %d : tensor<8x8xf32>
}
