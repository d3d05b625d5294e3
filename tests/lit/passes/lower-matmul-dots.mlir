// RUN: gossamer-opt %s --gossamer-lower-matmul -cse --split-input-file | FileCheck %s

// No lanes: entries of a row in the lanes of vectors, x gathered.
#CSR = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 : dense, d1 : compressed), posWidth = 32, crdWidth = 32 }>
// CHECK-LABEL: func @entries
func.func @entries(%s: tensor<?x?xf32, #CSR>, %x: tensor<?xf32>, %out: memref<?xf32>) -> tensor<?xf32> {
  %e = bufferization.to_tensor %out restrict writable : memref<?xf32> to tensor<?xf32>
  // CHECK: scf.parallel
  // CHECK: scf.for {{.*}} -> (vector<8xf32>, vector<8xf32>, vector<8xf32>, vector<8xf32>) {
  // CHECK: vector.load {{.*}} : memref<?xi32>, vector<8xi32>
  // CHECK: vector.gather
  // CHECK: vector.fma
  // The last entries.
  // CHECK: vector.maskedload
  // CHECK: vector.reduction <add>
  // CHECK: math.tanh
  // CHECK: memref.store
  %0 = gossamer.matmul ins(%s, %x : tensor<?x?xf32, #CSR>, tensor<?xf32>) outs(%e : tensor<?xf32>)
      maps [affine_map<(i, k) -> (i, k)>, affine_map<(i, k) -> (k)>, affine_map<(i, k) -> (i)>] {
  ^bb0(%v: f32):
    %1 = math.tanh %v : f32
    gossamer.yield %1 : f32
  } -> tensor<?xf32>
  return %0 : tensor<?xf32>
}

// -----

// Columns of a block are contiguous; a lane of size 1 is none.
#BSR = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 floordiv 2 : dense, d1 floordiv 16 : compressed, d0 mod 2 : dense, d1 mod 16 : dense) }>
// CHECK-LABEL: func @blocks
func.func @blocks(%s: tensor<?x?xf32, #BSR>, %x: tensor<?x1xf32>, %out: memref<?x1xf32>) -> tensor<?x1xf32> {
  %e = bufferization.to_tensor %out restrict writable : memref<?x1xf32> to tensor<?x1xf32>
  // CHECK: %[[FLAT:.*]] = memref.collapse_shape
  // CHECK-NOT: vector.gather
  // CHECK: vector.load %[[FLAT]]
  // CHECK-COUNT-2: vector.fma
  // CHECK-COUNT-2: vector.reduction <add>
  %0 = gossamer.matmul ins(%s, %x : tensor<?x?xf32, #BSR>, tensor<?x1xf32>) outs(%e : tensor<?x1xf32>)
      maps [affine_map<(i, j, k) -> (i, k)>, affine_map<(i, j, k) -> (k, j)>, affine_map<(i, j, k) -> (i, j)>] {
  ^bb0(%v: f32):
    gossamer.yield %v : f32
  } -> tensor<?x1xf32>
  return %0 : tensor<?x1xf32>
}
