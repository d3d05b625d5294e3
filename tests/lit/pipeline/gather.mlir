// RUN: gossamer-opt %s --gossamer-bind-results --gossamer-lower-stored --gossamer-expose-storage | FileCheck %s

// Places come in the pattern's other storage, and values are moved by them.

#CSR = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 : dense, d1 : compressed), posWidth = 32, crdWidth = 32 }>
#CSC = #sparse_tensor.encoding<{ map = (d0, d1) -> (d1 : dense, d0 : compressed), posWidth = 32, crdWidth = 32 }>
#map = affine_map<(d0, d1) -> (d0, d1)>

// CHECK: \22input\22:0,{{.*}}\22places\22:\22entries\22
// CHECK: func.func @main(
// CHECK: %[[OUT:.*]] = memref.alloc
// CHECK: scf.parallel (%[[AT:.*]]) =
// CHECK: %[[PLACE:.*]] = memref.load %{{.*}}[%[[AT]]] : memref<?xi32>
// CHECK: %[[FROM:.*]] = arith.index_castui %[[PLACE]] : i32 to index
// CHECK: %[[V:.*]] = memref.load %{{.*}}[%[[FROM]]] : memref<?xf32>
// CHECK: memref.store %[[V]], %[[OUT]][%[[AT]]]
func.func @main(%s: tensor<8x8xf32, #CSR>) -> tensor<8x8xf32> {
  %i = gossamer.storage_index %s : tensor<8x8xf32, #CSR> to tensor<8x8xi32, #CSC>
  %t = gossamer.gather %s, %i : tensor<8x8xf32, #CSR>, tensor<8x8xi32, #CSC> -> tensor<8x8xf32, #CSC>
  %d = gossamer.convert %t {fill = 0.0 : f32} : tensor<8x8xf32, #CSC> to tensor<8x8xf32>
  return %d : tensor<8x8xf32>
}
