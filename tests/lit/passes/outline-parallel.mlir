// RUN: gossamer-opt %s --gossamer-outline-parallel | FileCheck %s

// The body as a function of a range of the flattened space; the call does it all.
// CHECK-LABEL: func.func @two_loops
// CHECK-SAME: (%[[N:[^:]*]]: index, %[[M:[^:]*]]: index,
func.func @two_loops(%n: index, %m: index, %x: memref<?x?xf32>, %a: f32) {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %c2 = arith.constant 2 : index
  // CHECK-NOT: scf.parallel
  // CHECK: %[[NROWS:.*]] = arith.ceildivui
  // CHECK: %[[MCOLUMNS:.*]] = arith.ceildivui
  // CHECK: %[[TOTAL:.*]] = arith.muli %{{.*}}, %[[MCOLUMNS]]
  // CHECK: call @two_loops_parallel_0(%{{.*}}, %[[TOTAL]], {{.*}}) {gossamer.parallel}
  scf.parallel (%i, %j) = (%c1, %c0) to (%n, %m) step (%c1, %c2) {
    memref.store %a, %x[%i, %j] : memref<?x?xf32>
  }
  return
}
// CHECK: func.func private @two_loops_parallel_0(%[[FIRST:[^:]*]]: index, %[[LAST:[^:]*]]: index,
// CHECK-SAME: attributes {gossamer.noalias}
// CHECK: scf.for %[[AT:.*]] = %[[FIRST]] to %[[LAST]]
// CHECK: %[[J0:.*]] = arith.remui %[[AT]], %[[COUNT:.*]] : index
// CHECK: %[[I0:.*]] = arith.divui %[[AT]], %[[COUNT]] : index
// CHECK: %[[J1:.*]] = arith.muli %[[J0]], %c2
// CHECK: %[[J:.*]] = arith.addi %[[J1]], %c0
// CHECK: %[[I1:.*]] = arith.muli %[[I0]], %c1
// CHECK: %[[I:.*]] = arith.addi %[[I1]], %c1
// CHECK: memref.store %{{.*}}, %{{.*}}[%[[I]], %[[J]]]

// A view goes in as the buffer that it is of (two views would alias), and so do
// sizes; a number that is loaded goes in as it is.
// CHECK-LABEL: func.func @views
func.func @views(%x: memref<16xf32>, %y: memref<?xf32>, %at: memref<index>) {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %left = memref.subview %x[0] [8] [1] : memref<16xf32> to memref<8xf32, strided<[1]>>
  %right = memref.subview %x[8] [8] [1] : memref<16xf32> to memref<8xf32, strided<[1], offset: 8>>
  %n = memref.dim %y, %c0 : memref<?xf32>
  %k = memref.load %at[] : memref<index>
  // CHECK: call @views_parallel_1(%{{.*}}) {gossamer.parallel} : (index, index, index, memref<16xf32>, index, memref<?xf32>) -> ()
  scf.parallel (%i) = (%c0) to (%n) step (%c1) {
    %a = memref.load %left[%i] : memref<8xf32, strided<[1]>>
    %b = memref.load %right[%k] : memref<8xf32, strided<[1], offset: 8>>
    %s = arith.addf %a, %b : f32
    memref.store %s, %y[%i] : memref<?xf32>
    // What is parallel inside stays with its iteration.
    scf.parallel (%j) = (%c0) to (%n) step (%c1) {
      memref.store %s, %y[%j] : memref<?xf32>
    }
  }
  return
}
// CHECK: func.func private @views_parallel_1
// CHECK-DAG: memref.subview
// CHECK-DAG: memref.subview
// CHECK: scf.for
// CHECK: scf.parallel

// A reduction is not a matter of ranges: it stays.
// CHECK-LABEL: func.func @reduction
// CHECK: scf.parallel
func.func @reduction(%n: index, %x: memref<?xf32>) -> f32 {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %zero = arith.constant 0.0 : f32
  %r = scf.parallel (%i) = (%c0) to (%n) step (%c1) init (%zero) -> f32 {
    %a = memref.load %x[%i] : memref<?xf32>
    scf.reduce(%a : f32) {
    ^bb0(%l: f32, %m: f32):
      %s = arith.addf %l, %m : f32
      scf.reduce.return %s : f32
    }
  }
  return %r : f32
}
