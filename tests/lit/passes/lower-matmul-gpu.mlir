// RUN: gossamer-opt %s --gossamer-lower-matmul="vector-bytes=16 gpu=true" -cse --split-input-file | FileCheck %s

// A warp sums a row, in 16 bytes a lane where addresses and sizes allow that,
// which the host finds out; else in a column a lane. Eight entries are loaded
// before the first is used. Where there are rows and columns for it, a strip is
// a warp wide; else eight lanes have one, four groups of which take entries by
// turns. In wide matrices long rows are cut, and the row of a piece is found by
// a warp, 32 places at a time.
#CSR = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 : dense, d1 : compressed) }>
// CHECK-LABEL: func @rows
// CHECK: memref.extract_aligned_pointer_as_index
// CHECK: %[[ALIGNED:.*]] = arith.cmpi eq
// CHECK: scf.if %[[ALIGNED]] {
// CHECK: %[[MANY:.*]] = arith.cmpi uge, %{{.*}}, %c3072
// CHECK: scf.if %[[MANY]] {
// CHECK: scf.if %[[WIDE:.*]] {
// CHECK: scf.parallel (%{{.*}}, %[[PIECE:.*]]) =
// CHECK: %[[FROM:.*]] = arith.muli %[[PIECE]], %{{.*}}
// CHECK: scf.while
// CHECK: %[[BEGINS:.*]] = memref.load
// CHECK: arith.cmpi ule, %[[BEGINS]], %[[FROM]]
// CHECK: } {gossamer.lanes = 32 : i64}
// CHECK: vector.store
// CHECK: } {gossamer.lanes = 32 : i64}
// CHECK: } {gossamer.resident = 8 : i64}
// CHECK: scf.parallel (%{{.*}}, %{{.*}}) =
// CHECK: scf.for {{.*}} step %c8 iter_args({{.*}}) -> (vector<4xf32>)
// CHECK-COUNT-8: vector.load %{{.*}} : memref<?x?xf32>, vector<4xf32>
// CHECK: vector.store
// CHECK: } {gossamer.lanes = 32 : i64}
// CHECK: } {gossamer.resident = 8 : i64}
// CHECK: } else {
// CHECK: scf.parallel (%{{.*}}, %{{.*}}) =
// CHECK: scf.parallel (%{{.*}}, %{{.*}}) =
// CHECK: %[[SUM:.*]] = scf.parallel (%{{.*}}) = (%c0) to (%c4) {{.*}} -> vector<4xf32>
// CHECK: scf.for {{.*}} step %c32 iter_args({{.*}}) -> (vector<4xf32>)
// CHECK-COUNT-8: vector.load %{{.*}} : memref<?x?xf32>, vector<4xf32>
// CHECK: scf.reduce
// CHECK: } {gossamer.apart = 8 : i64, gossamer.lanes = 4 : i64}
// CHECK: vector.store %[[SUM]]
// CHECK: } {gossamer.lanes = 8 : i64}
// CHECK: } {gossamer.resident = 6 : i64}
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

// A vector: a warp sums a row, four to eight entries of a lane under way.
#CSR = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 : dense, d1 : compressed) }>
// CHECK-LABEL: func @vector
// CHECK: scf.while
// CHECK: memref.store %{{.*}} : memref<?xf32>
// CHECK: scf.parallel (%[[I:.*]]) =
// CHECK: %[[SUM:.*]] = scf.parallel {{.*}} init
// CHECK: scf.for {{.*}} step %c256
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

// -----

// Blocks: a thread has 16 bytes of the rows of a block, which are never cut.
#BSR = #sparse_tensor.encoding<{ map = (i, j) -> (i floordiv 4 : dense, j floordiv 4 : compressed, i mod 4 : dense, j mod 4 : dense) }>
// CHECK-LABEL: func @blocks
// CHECK-NOT: gossamer.lanes
// CHECK: scf.parallel (%{{.*}}, %{{.*}}, %{{.*}}) =
// CHECK: scf.for {{.*}} -> (vector<4xf32>, vector<4xf32>, vector<4xf32>, vector<4xf32>)
// CHECK-COUNT-4: vector.store
// CHECK-NOT: gossamer.lanes
func.func @blocks(%s: tensor<?x?xf32, #BSR>, %d: tensor<?x?xf32>, %e: tensor<?x?xf32>) -> tensor<?x?xf32> {
  %0 = gossamer.matmul ins(%s, %d : tensor<?x?xf32, #BSR>, tensor<?x?xf32>) outs(%e : tensor<?x?xf32>)
      maps [affine_map<(i, j, k) -> (i, k)>, affine_map<(i, j, k) -> (k, j)>, affine_map<(i, j, k) -> (i, j)>] {
  ^bb0(%v: f32):
    gossamer.yield %v : f32
  } -> tensor<?x?xf32>
  return %0 : tensor<?x?xf32>
}
