// RUN: gossamer-opt %s --gossamer-bind-results | FileCheck %s

#CSR = #sparse_tensor.encoding<{ map = (d0, d1) -> (d0 : dense, d1 : compressed) }>
#id = affine_map<(i, j) -> (i, j)>

// The tensor.empty at the root of a result is the caller's memory.
// CHECK-LABEL: func @dense
// CHECK-SAME: (%[[X:.*]]: tensor<?x4xf32>, %[[OUT:.*]]: memref<?x4xf32>)
// CHECK-SAME: attributes {gossamer.noalias, gossamer.results = [-1]}
func.func @dense(%x: tensor<?x4xf32>) -> tensor<?x4xf32> {
  %c0 = arith.constant 0 : index
  %zero = arith.constant 0.0 : f32
  %n = tensor.dim %x, %c0 : tensor<?x4xf32>
  // CHECK-NOT: tensor.empty
  // CHECK: %[[T:.*]] = bufferization.to_tensor %[[OUT]] restrict writable
  %e = tensor.empty(%n) : tensor<?x4xf32>
  // CHECK: %[[F:.*]] = linalg.fill {{.*}} outs(%[[T]] :
  %f = linalg.fill ins(%zero : f32) outs(%e : tensor<?x4xf32>) -> tensor<?x4xf32>
  // CHECK: %[[R:.*]] = linalg.generic {{.*}} outs(%[[F]] :
  %r = linalg.generic {indexing_maps = [#id, #id], iterator_types = ["parallel", "parallel"]}
      ins(%x : tensor<?x4xf32>) outs(%f : tensor<?x4xf32>) {
  ^bb0(%a: f32, %o: f32):
    %s = arith.addf %a, %o : f32
    linalg.yield %s : f32
  } -> tensor<?x4xf32>
  // CHECK: bufferization.materialize_in_destination %[[R]] in writable %[[OUT]]
  // CHECK-NEXT: return{{$}}
  return %r : tensor<?x4xf32>
}

// The values of a sparse result are flat; its pattern is argument 1's.
// CHECK-LABEL: func @sparse
// CHECK-SAME: %[[OUT:[^:]*]]: memref<?xf32>)
// CHECK-SAME: gossamer.results = [1]
func.func @sparse(%x: tensor<8x8xf32>, %s: tensor<8x8xi1, #CSR>) -> tensor<8x8xf32, #CSR> {
  %0 = gossamer.map ins(%s : tensor<8x8xi1, #CSR>) with(%x : tensor<8x8xf32>) maps [#id, #id] {
  ^bb0(%m: i1, %a: f32):
    gossamer.yield %a : f32
  } -> tensor<8x8xf32, #CSR>
  // CHECK: %[[R:.*]] = gossamer.softmax
  %1 = gossamer.softmax %0 dim 1 : tensor<8x8xf32, #CSR>
  // CHECK: gossamer.store_values %[[R]], %[[OUT]] : tensor<8x8xf32, #{{.*}}>, memref<?xf32>
  return %1 : tensor<8x8xf32, #CSR>
}

// One empty tensor, made one by CSE, under two results: each gets its own.
// CHECK-LABEL: func @shared
// CHECK-SAME: %[[A:[^:]*]]: memref<4xf32>, %[[B:[^:]*]]: memref<4xf32>)
// CHECK-SAME: gossamer.results = [-1, -1]
func.func @shared() -> (tensor<4xf32>, tensor<4xf32>) {
  %zero = arith.constant 0.0 : f32
  %one = arith.constant 1.0 : f32
  %e = tensor.empty() : tensor<4xf32>
  // CHECK-DAG: %[[TA:.*]] = bufferization.to_tensor %[[A]]
  // CHECK-DAG: %[[TB:.*]] = bufferization.to_tensor %[[B]]
  // CHECK: linalg.fill {{.*}} outs(%[[TA]] :
  %f = linalg.fill ins(%zero : f32) outs(%e : tensor<4xf32>) -> tensor<4xf32>
  // CHECK: linalg.fill {{.*}} outs(%[[TB]] :
  %g = linalg.fill ins(%one : f32) outs(%e : tensor<4xf32>) -> tensor<4xf32>
  return %f, %g : tensor<4xf32>, tensor<4xf32>
}

// An argument as a result, and the same result twice, are copied.
// CHECK-LABEL: func @handed_on
// CHECK-SAME: (%[[X:.*]]: tensor<f32>, %[[A:.*]]: memref<f32>, %[[B:.*]]: memref<f32>)
func.func @handed_on(%x: tensor<f32>) -> (tensor<f32>, tensor<f32>) {
  // CHECK: materialize_in_destination %[[X]] in writable %[[A]]
  // CHECK: materialize_in_destination %[[X]] in writable %[[B]]
  return %x, %x : tensor<f32>, tensor<f32>
}

// What is read once more may not be the memory that is written.
// CHECK-LABEL: func @read_again
// CHECK-SAME: %[[OUT:[^:]*]]: memref<4xf32>,
func.func @read_again(%x: tensor<4xf32>) -> (tensor<4xf32>, tensor<4xf32>) {
  %e = tensor.empty() : tensor<4xf32>
  %0 = linalg.generic {indexing_maps = [affine_map<(i) -> (i)>, affine_map<(i) -> (i)>], iterator_types = ["parallel"]}
      ins(%x : tensor<4xf32>) outs(%e : tensor<4xf32>) {
  ^bb0(%a: f32, %o: f32):
    %s = arith.negf %a : f32
    linalg.yield %s : f32
  } -> tensor<4xf32>
  // CHECK: %[[Y:.*]] = linalg.generic {{.*}} outs(%[[Z:.*]] :
  %1 = linalg.generic {indexing_maps = [affine_map<(i) -> (i)>, affine_map<(i) -> (i)>], iterator_types = ["parallel"]}
      ins(%x : tensor<4xf32>) outs(%0 : tensor<4xf32>) {
  ^bb0(%a: f32, %o: f32):
    %s = arith.addf %a, %o : f32
    linalg.yield %s : f32
  } -> tensor<4xf32>
  // CHECK: materialize_in_destination %{{.*}} in writable %[[OUT]]
  return %1, %0 : tensor<4xf32>, tensor<4xf32>
}

// No result is no trouble; a declaration has none to bind.
// CHECK-LABEL: func @nothing
// CHECK-SAME: gossamer.results = []
func.func @nothing() {
  return
}
// CHECK: func.func private @declared(tensor<4xf32>) -> tensor<4xf32>
func.func private @declared(tensor<4xf32>) -> tensor<4xf32>

// A function of buffers that says which are its results has them bound already.
// CHECK: func.func @bound(%{{.*}}: memref<?xi64>, %{{.*}}: memref<?xi8>) attributes {gossamer.results = [-1, -1]}
func.func @bound(%numbers: memref<?xi64>, %mask: memref<?xi8>) attributes {gossamer.results = [-1, -1]} {
  return
}
// CHECK: func.func private @part(%{{.*}}: index) {
func.func private @part(%n: index) {
  return
}
