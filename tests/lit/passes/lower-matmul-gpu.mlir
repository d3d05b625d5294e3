// RUN: gossamer-opt %s --gossamer-lower-matmul="vector-bytes=16 gpu=true" -cse --split-input-file | FileCheck %s

// Rows in 16 bytes a thread where addresses and sizes allow that, which the host
// finds out; else a column a thread. Strips of a warp's width are outermost.
#CSR = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 : dense, d1 : compressed) }>
// CHECK-LABEL: func @rows
// CHECK: memref.extract_aligned_pointer_as_index
// CHECK: %[[ALIGNED:.*]] = arith.cmpi eq
// CHECK: scf.if %[[ALIGNED]] {
// CHECK: scf.parallel (%{{.*}}, %{{.*}}, %{{.*}}) =
// CHECK: scf.for {{.*}} step %c4 iter_args({{.*}}) -> (vector<4xf32>, vector<4xf32>, vector<4xf32>, vector<4xf32>)
// CHECK-COUNT-4: vector.load %{{.*}} : memref<?x?xf32>, vector<4xf32>
// CHECK: vector.store
// CHECK: } else {
// CHECK: scf.for {{.*}} -> (vector<1xf32>
func.func @rows(%s: tensor<?x?xf32, #CSR>, %d: tensor<?x?xf32>, %e: tensor<?x?xf32>) -> tensor<?x?xf32> {
  %0 = gossamer.matmul ins(%s, %d : tensor<?x?xf32, #CSR>, tensor<?x?xf32>) outs(%e : tensor<?x?xf32>)
      maps [affine_map<(i, j, k) -> (i, k)>, affine_map<(i, j, k) -> (k, j)>, affine_map<(i, j, k) -> (i, j)>] {
  ^bb0(%v: f32):
    gossamer.yield %v : f32
  } -> tensor<?x?xf32>
  return %0 : tensor<?x?xf32>
}

// -----

// A vector: a warp sums a row.
#CSR = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 : dense, d1 : compressed) }>
// CHECK-LABEL: func @vector
// CHECK: scf.parallel (%[[I:.*]]) =
// CHECK: %[[SUM:.*]] = scf.parallel {{.*}} init
// CHECK: scf.reduce
// CHECK: } {gossamer.lanes = 32 : i64}
// CHECK: memref.store %[[SUM]], %{{.*}}[%[[I]]]
func.func @vector(%s: tensor<?x?xf32, #CSR>, %d: tensor<?xf32>, %e: tensor<?xf32>) -> tensor<?xf32> {
  %0 = gossamer.matmul ins(%s, %d : tensor<?x?xf32, #CSR>, tensor<?xf32>) outs(%e : tensor<?xf32>)
      maps [affine_map<(i, k) -> (i, k)>, affine_map<(i, k) -> (k)>, affine_map<(i, k) -> (i)>] {
  ^bb0(%v: f32):
    gossamer.yield %v : f32
  } -> tensor<?xf32>
  return %0 : tensor<?xf32>
}

// -----

// y[t, o]: a thread has one number.
#CSR = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 : dense, d1 : compressed) }>
// CHECK-LABEL: func @linear
// CHECK: scf.parallel (%[[T:.*]], %[[O:.*]]) =
// CHECK: %[[SUM:.*]] = scf.for {{.*}} -> (f32)
// CHECK: memref.store %[[SUM]], %{{.*}}[%[[T]], %[[O]]]
func.func @linear(%d: tensor<?x?xf32>, %s: tensor<?x?xf32, #CSR>, %e: tensor<?x?xf32>) -> tensor<?x?xf32> {
  %0 = gossamer.matmul ins(%d, %s : tensor<?x?xf32>, tensor<?x?xf32, #CSR>) outs(%e : tensor<?x?xf32>)
      maps [affine_map<(t, o, k) -> (t, k)>, affine_map<(t, o, k) -> (o, k)>, affine_map<(t, o, k) -> (t, o)>] {
  ^bb0(%v: f32):
    gossamer.yield %v : f32
  } -> tensor<?x?xf32>
  return %0 : tensor<?x?xf32>
}
