// RUN: gossamer-opt %s --gossamer-lower-matmul -cse --split-input-file | FileCheck %s

// F.linear. A few tokens are a product each; else they are turned over into
// panels, the rows of w summed there, and turned over again.
#CSR = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 : dense, d1 : compressed) }>
// CHECK-LABEL: func @panels
// CHECK-SAME: %[[OUT:[^:]*]]: memref<?x?xf32>)
func.func @panels(%x: tensor<?x?xf32>, %w: tensor<?x?xf32, #CSR>, %out: memref<?x?xf32>) -> tensor<?x?xf32> {
  %e = bufferization.to_tensor %out restrict writable : memref<?x?xf32> to tensor<?x?xf32>
  // CHECK: arith.cmpi ule, %{{.*}}, %c2
  // CHECK: scf.if
  // CHECK: vector.gather
  // CHECK: } else {
  // CHECK: %[[PACKED:.*]] = memref.alloc(%{{.*}}) {alignment = 64 : i64} : memref<?xf32>
  // CHECK: scf.parallel
  // CHECK: vector.shuffle
  // CHECK: vector.store %{{.*}}, %[[PACKED]]
  // CHECK: scf.parallel
  // CHECK: %[[SUMS:.*]] = memref.alloc() {alignment = 64 : i64} : memref<8x32xf32>
  // CHECK: %[[TURNED:.*]] = memref.alloc() {alignment = 64 : i64} : memref<32x8xf32>
  // CHECK: scf.for {{.*}} -> (vector<8xf32>, vector<8xf32>, vector<8xf32>, vector<8xf32>) {
  // CHECK: vector.load %[[PACKED]]
  // CHECK: vector.store %{{.*}}, %[[SUMS]]
  // CHECK: vector.shuffle
  // CHECK: vector.store %{{.*}}, %[[TURNED]]
  // CHECK: %[[SUM:.*]] = vector.load %[[TURNED]]
  // CHECK: %[[Y:.*]] = math.tanh %[[SUM]] : vector<8xf32>
  // CHECK: vector.store %[[Y]], %[[OUT]]
  // CHECK: memref.dealloc %[[PACKED]]
  %0 = gossamer.matmul ins(%x, %w : tensor<?x?xf32>, tensor<?x?xf32, #CSR>) outs(%e : tensor<?x?xf32>)
      maps [affine_map<(t, o, k) -> (t, k)>, affine_map<(t, o, k) -> (o, k)>, affine_map<(t, o, k) -> (t, o)>] {
  ^bb0(%v: f32):
    %1 = math.tanh %v : f32
    gossamer.yield %1 : f32
  } -> tensor<?x?xf32>
  return %0 : tensor<?x?xf32>
}

// -----

// Blocks as high as a vector are turned over instead of x and y.
#BSR = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 floordiv 16 : dense, d1 floordiv 8 : compressed, d0 mod 16 : dense, d1 mod 8 : dense) }>
// CHECK-LABEL: func @turned
// CHECK-SAME: %[[X:[^:]*]]: tensor<?x?xf32>, %{{[^:]*}}: tensor<?x?xf32, #{{[^:]*}}, %[[OUT:[^:]*]]: memref<?x?xf32>)
func.func @turned(%x: tensor<?x?xf32>, %w: tensor<?x?xf32, #BSR>, %out: memref<?x?xf32>) -> tensor<?x?xf32> {
  %e = bufferization.to_tensor %out restrict writable : memref<?x?xf32> to tensor<?x?xf32>
  // CHECK: %[[TOKENS:.*]] = bufferization.to_buffer %[[X]]
  // CHECK: arith.cmpi ule, %{{.*}}, %c4
  // CHECK: } else {
  // CHECK: scf.parallel
  // CHECK: %[[BLOCKS:.*]] = memref.alloc(%{{.*}}) {alignment = 64 : i64} : memref<?x16xf32>
  // CHECK: vector.shuffle
  // CHECK: vector.store %{{.*}}, %[[BLOCKS]]
  // CHECK: vector.load %[[BLOCKS]]
  // CHECK: memref.load %[[TOKENS]]
  // CHECK: vector.fma
  // CHECK: vector.store %{{.*}}, %[[OUT]]
  // CHECK: memref.dealloc %[[BLOCKS]]
  %0 = gossamer.matmul ins(%x, %w : tensor<?x?xf32>, tensor<?x?xf32, #BSR>) outs(%e : tensor<?x?xf32>)
      maps [affine_map<(t, o, k) -> (t, k)>, affine_map<(t, o, k) -> (o, k)>, affine_map<(t, o, k) -> (t, o)>] {
  ^bb0(%v: f32):
    gossamer.yield %v : f32
  } -> tensor<?x?xf32>
  return %0 : tensor<?x?xf32>
}

// -----

// One weight [1, o, k] for a batch: its first dimension has a loop that nothing else
// has, which is summed (over one entry) and has no size in a panel.
#CSR3 = #sparse_tensor.encoding<{ map = (d0, d1, d2) -> (d0 : dense, d1 : dense, d2 : compressed) }>
// CHECK-LABEL: func @own_loop
// CHECK: scf.parallel
  // CHECK: vector.gather
func.func @own_loop(%x: tensor<?x?xf32>, %w: tensor<1x?x?xf32, #CSR3>, %out: memref<?x?xf32>) -> tensor<?x?xf32> {
  %e = bufferization.to_tensor %out restrict writable : memref<?x?xf32> to tensor<?x?xf32>
  %0 = gossamer.matmul ins(%x, %w : tensor<?x?xf32>, tensor<1x?x?xf32, #CSR3>) outs(%e : tensor<?x?xf32>)
      maps [affine_map<(t, o, k, z) -> (t, k)>, affine_map<(t, o, k, z) -> (z, o, k)>, affine_map<(t, o, k, z) -> (t, o)>] {
  ^bb0(%v: f32):
    gossamer.yield %v : f32
  } -> tensor<?x?xf32>
  return %0 : tensor<?x?xf32>
}
