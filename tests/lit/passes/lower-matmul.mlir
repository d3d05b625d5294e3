// RUN: gossamer-opt %s --gossamer-lower-matmul -cse --split-input-file | FileCheck %s
// RUN: gossamer-opt %s --gossamer-lower-matmul="vector-bytes=64" -cse --split-input-file | FileCheck %s --check-prefix=WIDE

// Storage that is not by rows, and sums that are not of a row, take the general
// road: a generic for the sparsifier.

#DCSR = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 : compressed, d1 : compressed) }>

// Lanes innermost on both sides: a generic over (row, entry, lane), in place, with
// the epilogue in a loop of its own behind.
// CHECK-DAG: #[[IK:.*]] = affine_map<(d0, d1, d2) -> (d0, d1)>
// CHECK-DAG: #[[KJ:.*]] = affine_map<(d0, d1, d2) -> (d1, d2)>
// CHECK-DAG: #[[IJ:.*]] = affine_map<(d0, d1, d2) -> (d0, d2)>
// CHECK-LABEL: func @in_place
// CHECK-SAME: %[[S:[^:]*]]: tensor<?x?xf32, #{{[^:]*}}, %[[D:[^:]*]]: tensor<?x?xf32>, %[[B:[^:]*]]: tensor<?xf32>, %[[OUT:[^:]*]]: memref<?x?xf32>)
func.func @in_place(%s: tensor<?x?xf32, #DCSR>, %d: tensor<?x?xf32>, %bias: tensor<?xf32>, %out: memref<?x?xf32>) -> tensor<?x?xf32> {
  %e = bufferization.to_tensor %out restrict writable : memref<?x?xf32> to tensor<?x?xf32>
  // CHECK-NOT: memref.alloc
  // CHECK: linalg.fill ins(%{{.*}} : f32) outs(%[[OUT]] : memref<?x?xf32>)
  // CHECK: %[[R:.*]] = linalg.generic {indexing_maps = [#[[IK]], #[[KJ]], #[[IJ]]], iterator_types = ["parallel", "reduction", "parallel"]}
  // CHECK-SAME: ins(%[[S]], %{{.*}} : tensor<?x?xf32, #{{.*}}>, tensor<?x?xf32>)
  // CHECK-SAME: attrs = {sorted = true}
  // CHECK: bufferization.materialize_in_destination %[[R]] in writable %[[OUT]]
  // CHECK: scf.parallel (%[[I:.*]]) =
  // CHECK: scf.for %[[J:.*]] =
  // CHECK: %[[SUM:.*]] = memref.load %[[OUT]][%[[I]], %[[J]]]
  // CHECK: %[[ROW:.*]] = memref.load %{{.*}}[%[[I]]]
  // CHECK: %[[Y:.*]] = arith.addf %[[SUM]], %[[ROW]]
  // CHECK: memref.store %[[Y]], %[[OUT]][%[[I]], %[[J]]]
  %0 = gossamer.matmul ins(%s, %d : tensor<?x?xf32, #DCSR>, tensor<?x?xf32>) epilogue(%bias : tensor<?xf32>) outs(%e : tensor<?x?xf32>)
      maps [affine_map<(i, j, k) -> (i, k)>, affine_map<(i, j, k) -> (k, j)>, affine_map<(i, j, k) -> (i)>, affine_map<(i, j, k) -> (i, j)>] {
  ^bb0(%v: f32, %b: f32):
    %1 = arith.addf %v, %b : f32
    gossamer.yield %1 : f32
  } -> tensor<?x?xf32>
  return %0 : tensor<?x?xf32>
}

// -----

// F.linear: panels of lanes, transposed there and back, the epilogue on the way.
#DCSR = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 : compressed, d1 : compressed) }>
// CHECK-LABEL: func @panels
// CHECK-SAME: %[[OUT:[^:]*]]: memref<?x?xf32>)
// WIDE-LABEL: func @panels
func.func @panels(%x: tensor<?x?xf32>, %w: tensor<?x?xf32, #DCSR>, %out: memref<?x?xf32>) -> tensor<?x?xf32> {
  %e = bufferization.to_tensor %out restrict writable : memref<?x?xf32> to tensor<?x?xf32>
  // CHECK: arith.ceildivui %{{.*}}, %c32
  // CHECK: scf.parallel
  // CHECK: %[[IN:.*]] = memref.alloc(%{{.*}}) {alignment = 64 : i64} : memref<?x32xf32>
  // WIDE: memref.alloc(%{{.*}}) {alignment = 64 : i64} : memref<?x64xf32>
  // CHECK: %[[SUMS:.*]] = memref.alloc(%{{.*}}) {alignment = 64 : i64} : memref<?x32xf32>
  // Lanes beyond the last token are zero.
  // CHECK: scf.if
  // CHECK: linalg.fill {{.*}} outs(%[[IN]] :
  // CHECK: memref.store %{{.*}}, %[[IN]]
  // CHECK: linalg.fill {{.*}} outs(%[[SUMS]] :
  // CHECK: linalg.generic {{.*}} iterator_types = ["parallel", "reduction", "parallel"]
  // CHECK: %[[SUM:.*]] = memref.load %[[SUMS]]
  // CHECK: %[[Y:.*]] = math.tanh %[[SUM]]
  // CHECK: memref.store %[[Y]], %[[OUT]]
  // CHECK-DAG: memref.dealloc %[[IN]]
  // CHECK-DAG: memref.dealloc %[[SUMS]]
  %0 = gossamer.matmul ins(%x, %w : tensor<?x?xf32>, tensor<?x?xf32, #DCSR>) outs(%e : tensor<?x?xf32>)
      maps [affine_map<(t, o, k) -> (t, k)>, affine_map<(t, o, k) -> (o, k)>, affine_map<(t, o, k) -> (t, o)>] {
  ^bb0(%v: f32):
    %1 = math.tanh %v : f32
    gossamer.yield %1 : f32
  } -> tensor<?x?xf32>
  return %0 : tensor<?x?xf32>
}

// -----

// Blocks: dense operands seen by blocks, the weight as four levels.
#DBSR = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 floordiv 2 : compressed, d1 floordiv 4 : compressed, d0 mod 2 : dense, d1 mod 4 : dense) }>
// CHECK-DAG: #[[LVL:.*]] = #sparse_tensor.encoding<{ map = (d0, d1, d2, d3) -> (d0 : compressed, d1 : compressed, d2 : dense, d3 : dense) }>
// CHECK-DAG: #[[W:.*]] = affine_map<(d0, d1, d2, d3, d4) -> (d0, d1, d2, d3)>
// CHECK-DAG: #[[X:.*]] = affine_map<(d0, d1, d2, d3, d4) -> (d1, d3, d4)>
// CHECK-DAG: #[[Y:.*]] = affine_map<(d0, d1, d2, d3, d4) -> (d0, d2, d4)>
// CHECK-LABEL: func @blocks
func.func @blocks(%w: tensor<8x8xf32, #DBSR>, %x: tensor<8x?xf32>, %out: memref<8x?xf32>) -> tensor<8x?xf32> {
  %e = bufferization.to_tensor %out restrict writable : memref<8x?xf32> to tensor<8x?xf32>
  // CHECK: sparse_tensor.reinterpret_map %{{.*}} : tensor<8x8xf32, #{{.*}}> to tensor<4x2x2x4xf32, #[[LVL]]>
  // CHECK-DAG: memref.expand_shape %{{.*}} {{\[}}[0, 1], [2]] {{.*}} : memref<8x?xf32> into memref<2x4x?xf32>
  // CHECK-DAG: memref.expand_shape %{{.*}} {{\[}}[0, 1], [2]] {{.*}} : memref<8x?xf32> into memref<4x2x?xf32>
  // CHECK: linalg.generic {indexing_maps = [#[[W]], #[[X]], #[[Y]]], iterator_types = ["parallel", "reduction", "parallel", "reduction", "parallel"]}
  %0 = gossamer.matmul ins(%w, %x : tensor<8x8xf32, #DBSR>, tensor<8x?xf32>) outs(%e : tensor<8x?xf32>)
      maps [affine_map<(i, j, k) -> (i, k)>, affine_map<(i, j, k) -> (k, j)>, affine_map<(i, j, k) -> (i, j)>] {
  ^bb0(%v: f32):
    gossamer.yield %v : f32
  } -> tensor<8x?xf32>
  return %0 : tensor<8x?xf32>
}

// -----

// A dimension that only the dense operand has is summed too: no lane of a panel,
// whose sums would each be the whole result.
#CSR = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 : dense, d1 : compressed) }>
// CHECK-LABEL: func @summed_lane
// CHECK-NOT: scf.parallel
// CHECK: linalg.generic {{.*}} iterator_types = ["parallel", "reduction", "reduction"]
func.func @summed_lane(%s: tensor<?x?xf32, #CSR>, %d: tensor<?x?xf32>, %out: memref<?xf32>) -> tensor<?xf32> {
  %e = bufferization.to_tensor %out restrict writable : memref<?xf32> to tensor<?xf32>
  %0 = gossamer.matmul ins(%s, %d : tensor<?x?xf32, #CSR>, tensor<?x?xf32>) outs(%e : tensor<?xf32>)
      maps [affine_map<(i, k, m) -> (i, k)>, affine_map<(i, k, m) -> (k, m)>, affine_map<(i, k, m) -> (i)>] {
  ^bb0(%v: f32):
    gossamer.yield %v : f32
  } -> tensor<?xf32>
  return %0 : tensor<?xf32>
}

// -----

// A product of vectors, of integers, into memory of its own (no tensor is written
// through to_buffer: its loads would fold to what it was).
// CHECK-LABEL: func @vectors
func.func @vectors(%s: tensor<?xi32, #sparse_tensor.encoding<{ map = (d0) -> (d0 : compressed) }>>, %d: tensor<?xi32>) -> tensor<i64> {
  %e = tensor.empty() : tensor<i64>
  // CHECK: %[[OUT:.*]] = memref.alloc() {{.*}} : memref<i64>
  // CHECK: arith.muli
  // CHECK: arith.addi
  // CHECK: %[[Y:.*]] = arith.extsi %{{.*}} : i32 to i64
  // CHECK: memref.store %[[Y]], %[[OUT]][]
  // CHECK: bufferization.to_tensor %[[OUT]]
  %0 = gossamer.matmul ins(%s, %d : tensor<?xi32, #sparse_tensor.encoding<{ map = (d0) -> (d0 : compressed) }>>, tensor<?xi32>) outs(%e : tensor<i64>)
      maps [affine_map<(k) -> (k)>, affine_map<(k) -> (k)>, affine_map<(k) -> ()>] {
  ^bb0(%v: i32):
    %1 = arith.extsi %v : i32 to i64
    gossamer.yield %1 : i64
  } -> tensor<i64>
  return %0 : tensor<i64>
}
