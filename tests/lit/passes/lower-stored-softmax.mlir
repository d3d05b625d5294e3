// Softmax, conversion to dense, and results that are no one's own: three more of gossamer-lower-stored.
// RUN: gossamer-opt %s --gossamer-lower-stored -cse | FileCheck %s

#CSR = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 : dense, d1 : compressed) }>
#CSC = #sparse_tensor.encoding<{ map = (d0, d1) -> (d1 : dense, d0 : compressed) }>
#id = affine_map<(i, j) -> (i, j)>

// Maximum, exponentials and their sum, division; -inf and empty rows are 0.
// CHECK-LABEL: func @softmax
// CHECK-SAME: %[[OUT:[^:]*]]: memref<?xf32>)
func.func @softmax(%s: tensor<?x?xf32, #CSR>, %out: memref<?xf32>) {
  // CHECK-DAG: %[[LOWEST:.*]] = arith.constant 0xFF800000 : f32
  // CHECK-DAG: %[[ZERO:.*]] = arith.constant 0.000000e+00 : f32
  // CHECK: linalg.fill ins(%[[LOWEST]] : f32) outs(%[[MAX:.*]] : memref<?xf32>)
  // CHECK: linalg.fill ins(%[[ZERO]] : f32) outs(%[[SUM:.*]] : memref<?xf32>)
  // CHECK: scf.parallel (%[[I:.*]]) =
  // CHECK: arith.maximumf
  // CHECK: memref.store %{{.*}}, %[[MAX]][%[[I]]]
  // CHECK: scf.parallel
  // CHECK: %[[MASKED:.*]] = arith.cmpf oeq, %{{.*}}, %[[LOWEST]]
  // CHECK: %[[EXP:.*]] = math.exp
  // CHECK: %[[P:.*]] = arith.select %[[MASKED]], %[[ZERO]], %[[EXP]]
  // CHECK: memref.store %[[P]], %[[OUT]]
  // CHECK: scf.parallel
  // CHECK: %[[EMPTY:.*]] = arith.cmpf oeq, %{{.*}}, %[[ZERO]]
  // CHECK: %[[SHARE:.*]] = arith.divf
  // CHECK: arith.select %[[EMPTY]], %[[ZERO]], %[[SHARE]]
  // CHECK-DAG: memref.dealloc %[[MAX]]
  // CHECK-DAG: memref.dealloc %[[SUM]]
  %0 = gossamer.softmax %s dim 1 : tensor<?x?xf32, #CSR>
  gossamer.store_values %0, %out : tensor<?x?xf32, #CSR>, memref<?xf32>
  return
}

// Rows that cross the parallel loop's range: not parallel.
// CHECK-LABEL: func @crossing
// CHECK-NOT: scf.parallel
// CHECK: math.exp
// CHECK-NOT: scf.parallel
func.func @crossing(%s: tensor<?x?xf32, #CSC>, %out: memref<?xf32>) {
  %0 = gossamer.softmax %s dim 1 : tensor<?x?xf32, #CSC>
  gossamer.store_values %0, %out : tensor<?x?xf32, #CSC>, memref<?xf32>
  return
}

// A vector has one row, of rank 0.
// CHECK-LABEL: func @vector
// CHECK: memref<f32>
func.func @vector(%s: tensor<?xf32, #sparse_tensor.encoding<{ map = (d0) -> (d0 : compressed) }>>, %out: memref<?xf32>) {
  %0 = gossamer.softmax %s dim 0 : tensor<?xf32, #sparse_tensor.encoding<{ map = (d0) -> (d0 : compressed) }>>
  gossamer.store_values %0, %out : tensor<?xf32, #sparse_tensor.encoding<{ map = (d0) -> (d0 : compressed) }>>, memref<?xf32>
  return
}

// Dense: the fill, and what is stored at its place.
// CHECK-LABEL: func @dense
// CHECK-LABEL: tensor<?x8xf32, #{{.*}}>) -> tensor<?x8xf32>
func.func @dense(%s: tensor<?x8xf32, #CSC>) -> tensor<?x8xf32> {
  // CHECK-DAG: %[[LOWEST:.*]] = arith.constant 0xFF800000 : f32
  // CHECK-DAG: %[[D:.*]] = memref.alloc(%{{.*}}) : memref<?x8xf32>
  // CHECK: linalg.fill ins(%[[LOWEST]] : f32) outs(%[[D]] :
  // CHECK: scf.parallel (%[[J:.*]]) =
  // CHECK: scf.for %[[AT:.*]] =
  // CHECK: %[[I:.*]] = memref.load %{{.*}}[%[[AT]]]
  // CHECK: memref.store %{{.*}}, %[[D]][%[[I]], %[[J]]]
  // CHECK: bufferization.to_tensor %[[D]]
  %0 = gossamer.convert %s {fill = 0xFF800000 : f32} : tensor<?x8xf32, #CSC> to tensor<?x8xf32>
  return %0 : tensor<?x8xf32>
}

// Both dense: nothing to do but believe the sizes.
// CHECK-LABEL: func @sizes
// CHECK-NEXT: tensor.cast
// CHECK-NEXT: return
func.func @sizes(%d: tensor<?x8xf32>) -> tensor<8x?xf32> {
  %0 = gossamer.convert %d {fill = 0.0 : f32} : tensor<?x8xf32> to tensor<8x?xf32>
  return %0 : tensor<8x?xf32>
}

// Values that are used twice, or that are an argument's, are copied out.
// CHECK-LABEL: func @copied
// CHECK-SAME: %[[S:[^:]*]]: tensor<{{.*}}, %[[A:[^:]*]]: memref<?xf32>, %[[B:[^:]*]]: memref<?xf32>)
func.func @copied(%s: tensor<?x?xf32, #CSR>, %a: memref<?xf32>, %b: memref<?xf32>) {
  // CHECK: memref.alloc
  %0 = gossamer.map ins(%s : tensor<?x?xf32, #CSR>) maps [#id] {
  ^bb0(%v: f32):
    %1 = math.exp %v : f32
    gossamer.yield %1 : f32
  } -> tensor<?x?xf32, #CSR>
  // CHECK: memref.copy %{{.*}}, %[[A]]
  gossamer.store_values %0, %a : tensor<?x?xf32, #CSR>, memref<?xf32>
  %2 = gossamer.softmax %0 dim 1 : tensor<?x?xf32, #CSR>
  // CHECK: memref.copy %{{.*}}, %[[B]]
  gossamer.store_values %s, %b : tensor<?x?xf32, #CSR>, memref<?xf32>
  return
}
