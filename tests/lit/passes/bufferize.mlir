// RUN: gossamer-opt %s --gossamer-bufferize -canonicalize --split-input-file | FileCheck %s

// A result written in place stays there: no memory, no copy.
// CHECK-LABEL: func @in_place
// CHECK-SAME: (%[[X:.*]]: memref<?x4xf32>, %[[OUT:.*]]: memref<?x4xf32>)
func.func @in_place(%x: tensor<?x4xf32>, %out: memref<?x4xf32>) {
  // CHECK-NOT: memref.alloc
  // CHECK-NOT: memref.copy
  // CHECK: linalg.generic {{.*}} ins(%[[X]] : {{.*}}) outs(%[[OUT]] :
  // CHECK-NOT: memref.copy
  // CHECK: return
  %e = bufferization.to_tensor %out restrict writable : memref<?x4xf32> to tensor<?x4xf32>
  %0 = linalg.generic {indexing_maps = [affine_map<(i, j) -> (i, j)>, affine_map<(i, j) -> (i, j)>], iterator_types = ["parallel", "parallel"]}
      ins(%x : tensor<?x4xf32>) outs(%e : tensor<?x4xf32>) {
  ^bb0(%a: f32, %o: f32):
    %y = math.exp %a : f32
    linalg.yield %y : f32
  } -> tensor<?x4xf32>
  bufferization.materialize_in_destination %0 in writable %out : (tensor<?x4xf32>, memref<?x4xf32>) -> ()
  return
}

// -----

// Memory in between is freed where its block ends, in the iteration that makes it.
// CHECK-LABEL: func @freed
// CHECK: scf.for
// CHECK: %[[T:.*]] = memref.alloc
// CHECK: memref.dealloc %[[T]]
// CHECK-NEXT: }
func.func @freed(%n: index, %x: tensor<4xf32>, %out: memref<4xf32>) {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  scf.for %i = %c0 to %n step %c1 {
    %e = tensor.empty() : tensor<4xf32>
    %0 = linalg.generic {indexing_maps = [affine_map<(i) -> (i)>, affine_map<(i) -> (i)>], iterator_types = ["parallel"]}
        ins(%x : tensor<4xf32>) outs(%e : tensor<4xf32>) {
    ^bb0(%a: f32, %o: f32):
      %y = math.exp %a : f32
      linalg.yield %y : f32
    } -> tensor<4xf32>
    %v = tensor.extract %0[%i] : tensor<4xf32>
    memref.store %v, %out[%i] : memref<4xf32>
  }
  return
}

// -----

// The caller's inputs are only read: what would be done in place is done on a copy.
// CHECK-LABEL: func @inputs
// CHECK-SAME: (%[[X:.*]]: memref<4xf32>, %[[OUT:.*]]: memref<4xf32>)
func.func @inputs(%x: tensor<4xf32>, %out: memref<4xf32>) {
  // CHECK: memref.copy %[[X]], %[[COPY:.*]] :
  // CHECK: linalg.generic {{.*}} outs(%[[COPY]] :
  // CHECK-NOT: outs(%[[X]]
  %0 = linalg.generic {indexing_maps = [affine_map<(i) -> (i)>], iterator_types = ["parallel"]} outs(%x : tensor<4xf32>) {
  ^bb0(%o: f32):
    %y = arith.mulf %o, %o : f32
    linalg.yield %y : f32
  } -> tensor<4xf32>
  bufferization.materialize_in_destination %0 in writable %out : (tensor<4xf32>, memref<4xf32>) -> ()
  return
}

// -----

// Memory that a loop hands on is not freed inside of it.
// CHECK-LABEL: func @handed_on
// CHECK: scf.if
// CHECK: %[[T:.*]] = memref.alloc
// CHECK-NOT: memref.dealloc %[[T]]
// CHECK: scf.yield
func.func @handed_on(%c: i1, %x: memref<4xf32>) -> f32 {
  %c0 = arith.constant 0 : index
  %0 = scf.if %c -> memref<4xf32> {
    %t = memref.alloc() : memref<4xf32>
    memref.copy %x, %t : memref<4xf32> to memref<4xf32>
    scf.yield %t : memref<4xf32>
  } else {
    scf.yield %x : memref<4xf32>
  }
  %1 = memref.load %0[%c0] : memref<4xf32>
  return %1 : f32
}
