// RUN: gossamer-opt %s --gossamer-lower-matmul="vector-bytes=16 gpu=true" -cse --split-input-file | FileCheck %s

// A warp sums a row, in 16 bytes a lane where addresses and sizes allow that,
// which the host finds out; else in a column a lane. Eight entries are loaded
// before the first is used. Where there are rows and columns for it, a strip is
// a warp wide, or, of short rows, half of one; else eight lanes have a strip,
// four groups of which take entries by turns. In wide matrices long rows are cut, and the row of a piece is found by
// a warp, 32 places at a time; rows may begin before the pieces are done, and
// wait where they are long.
#CSR = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 : dense, d1 : compressed) }>
// CHECK-LABEL: func @rows
// CHECK: memref.extract_aligned_pointer_as_index
// CHECK: %[[ALIGNED:.*]] = arith.cmpi eq
// CHECK: scf.if %[[ALIGNED]] {
// CHECK: %[[MANY:.*]] = arith.cmpi uge, %{{.*}}, %c3072
// CHECK: %[[STRIP:.*]] = arith.andi %[[MANY]], %{{.*}} : i1
// CHECK: %[[SHORT:.*]] = arith.cmpi ult, %{{.*}}, %c64
// CHECK: %[[HALF:.*]] = arith.andi %{{.*}}, %[[SHORT]] : i1
// CHECK: scf.if %[[STRIP]] {
// CHECK: scf.if %[[WIDE:.*]] {
// CHECK: scf.parallel (%{{.*}}, %[[PIECE:.*]]) =
// CHECK: %[[FROM:.*]] = arith.muli %[[PIECE]], %{{.*}}
// CHECK: scf.while
// CHECK: %[[BEGINS:.*]] = memref.load
// CHECK: arith.cmpi ule, %[[BEGINS]], %[[FROM]]
// CHECK: } {gossamer.lanes = 32 : i64}
// CHECK: vector.store
// CHECK: } {gossamer.lanes = 32 : i64}
// CHECK: } {gossamer.leads, gossamer.resident = 8 : i64}
// CHECK: scf.parallel (%{{.*}}, %{{.*}}) =
// CHECK: scf.for {{.*}} step %c8 iter_args({{.*}}) -> (vector<4xf32>)
// CHECK-COUNT-8: vector.load %{{.*}} : memref<?x?xf32>, vector<4xf32>
// CHECK: } {gossamer.follows}
// CHECK: vector.store
// CHECK: } {gossamer.lanes = 32 : i64}
// CHECK: } {gossamer.follows, gossamer.resident = 8 : i64}
// CHECK: } else {
// CHECK: scf.if %[[HALF]] {
// CHECK: } {gossamer.apart = 16 : i64, gossamer.lanes = 2 : i64}
// CHECK: } {gossamer.lanes = 16 : i64}
// CHECK: } {gossamer.follows, gossamer.resident = 7 : i64}
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
// CHECK: } {gossamer.follows, gossamer.resident = 6 : i64}
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

// Coordinates of 32 bits, and rows of the dense operand that are not longer than
// 32 bits can say: a row's place is one product of these, in bytes.
#CSR = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 : dense, d1 : compressed), posWidth = 32, crdWidth = 32 }>
// CHECK-LABEL: func @lines
// CHECK: %[[N:.*]] = memref.dim %{{.*}}, %c1 : memref<?x?xf16>
// CHECK: %[[LONG:.*]] = arith.shrui %[[N]], %c28
// CHECK: %[[BYTES:.*]] = arith.muli %[[N]], %c2
// CHECK: %[[ROW:.*]] = arith.andi %[[BYTES]], %c4294967295
// CHECK: %[[OFFSET:.*]] = arith.muli %{{.*}}, %[[ROW]]
// CHECK: %[[AT:.*]] = arith.addi %{{.*}}, %[[OFFSET]]
// CHECK: %[[LINE:.*]] = vector.load %{{.*}}[%c0, %[[AT]]] : memref<?x?xi8>, vector<16xi8>
// CHECK: vector.bitcast %[[LINE]] : vector<16xi8> to vector<8xf16>
func.func @lines(%s: tensor<?x?xf16, #CSR>, %d: tensor<?x?xf16>, %e: tensor<?x?xf16>) -> tensor<?x?xf16> {
  %0 = gossamer.matmul ins(%s, %d : tensor<?x?xf16, #CSR>, tensor<?x?xf16>) outs(%e : tensor<?x?xf16>)
      maps [affine_map<(i, j, k) -> (i, k)>, affine_map<(i, j, k) -> (k, j)>, affine_map<(i, j, k) -> (i, j)>] {
  ^bb0(%v: f32):
    %r = arith.truncf %v : f32 to f16
    gossamer.yield %r : f16
  } -> tensor<?x?xf16>
  return %0 : tensor<?x?xf16>
}

// -----

// A vector: a warp sums a row, or eight lanes where rows are short; four to
// eight entries of a lane are under way.
#CSR = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 : dense, d1 : compressed) }>
// CHECK-LABEL: func @vector
// CHECK: scf.while
// CHECK: memref.store %{{.*}} : memref<?xf32>
// CHECK: scf.if %[[SHORT:.*]] {
// CHECK: scf.for {{.*}} step %c64
// CHECK: } {gossamer.lanes = 8 : i64}
// CHECK: } else {
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

// y[t, o] of contiguous rows of x: a few of them by dot products; else `x` is
// turned over, 16 bytes of a row at a time, and lanes have rows of it, whose
// results are stored one by one.
#CSR = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 : dense, d1 : compressed) }>
// CHECK-LABEL: func @linear
// CHECK: %[[COPY:.*]] = memref.alloc(%[[K:.*]], %[[T:.*]]) {{.*}} : memref<?x?xf32>
// CHECK: %[[FEW:.*]] = arith.cmpi ule, %{{.*}}, %c4
// CHECK: scf.if %[[FEW]] {
// CHECK: scf.parallel (%[[TOKEN:.*]], %[[O:.*]]) =
// CHECK: } {gossamer.lanes = 32 : i64}
// CHECK: memref.store %{{.*}}, %{{.*}}[%[[TOKEN]], %[[O]]]
// CHECK: } else {
// CHECK: scf.parallel (%[[I:.*]], %[[J:.*]]) =
// CHECK: %[[FIRST:.*]] = arith.muli %[[I]], %c4
// CHECK: vector.load %{{.*}}[%[[J]], %[[FIRST]]] : memref<?x?xf32>, vector<4xf32>
// CHECK-COUNT-4: memref.store %{{.*}}, %[[COPY]][%{{.*}}, %[[J]]]
// CHECK: vector.load %[[COPY]]{{.*}} vector<4xf32>
// CHECK-COUNT-4: vector.extract
func.func @linear(%d: tensor<?x?xf32>, %s: tensor<?x?xf32, #CSR>, %e: tensor<?x?xf32>) -> tensor<?x?xf32> {
  %0 = gossamer.matmul ins(%d, %s : tensor<?x?xf32>, tensor<?x?xf32, #CSR>) outs(%e : tensor<?x?xf32>)
      maps [affine_map<(t, o, k) -> (t, k)>, affine_map<(t, o, k) -> (o, k)>, affine_map<(t, o, k) -> (t, o)>] {
  ^bb0(%v: f32):
    gossamer.yield %v : f32
  } -> tensor<?x?xf32>
  return %0 : tensor<?x?xf32>
}

// -----

// Columns of the dense operand are contiguous, but not those of the result: a
// thread has one number.
#CSR = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 : dense, d1 : compressed) }>
// CHECK-LABEL: func @turned
// CHECK: scf.parallel (%[[T:.*]], %[[O:.*]]) =
// CHECK: %[[SUM:.*]] = scf.for {{.*}} -> (f32)
// CHECK: memref.store %[[SUM]], %{{.*}}[%[[T]], %[[O]]]
func.func @turned(%d: tensor<?x?xf32>, %s: tensor<?x?xf32, #CSR>, %e: tensor<?x?xf32>) -> tensor<?x?xf32> {
  %0 = gossamer.matmul ins(%d, %s : tensor<?x?xf32>, tensor<?x?xf32, #CSR>) outs(%e : tensor<?x?xf32>)
      maps [affine_map<(t, o, k) -> (k, t)>, affine_map<(t, o, k) -> (o, k)>, affine_map<(t, o, k) -> (t, o)>] {
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
