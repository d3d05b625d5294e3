// RUN: gossamer-opt %s --gossamer-plan-workspace | FileCheck %s

// A view of one temporary may stand before the next one is asked for.
// CHECK-LABEL: func @view_between
// CHECK: %[[BASE:.*]] = builtin.unrealized_conversion_cast {{.*}} to memref<?xi8>
// CHECK: %[[FIRST:.*]] = memref.view %[[BASE]]
// CHECK: %[[SECOND:.*]] = memref.view %[[BASE]]
// CHECK: memref.cast %[[FIRST]]
// CHECK: memref.cast %[[SECOND]]
// CHECK: gpu.launch
func.func @view_between(%n: index, %v: f32) {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %a = memref.alloc(%n) : memref<1x?xf32>
  %x = memref.cast %a : memref<1x?xf32> to memref<?x?xf32>
  %b = memref.alloc(%n) : memref<1x?xf32>
  %y = memref.cast %b : memref<1x?xf32> to memref<?x?xf32>
  gpu.launch blocks(%bx, %by, %bz) in (%gx = %n, %gy = %c1, %gz = %c1)
             threads(%tx, %ty, %tz) in (%sx = %c1, %sy = %c1, %sz = %c1) {
    memref.store %v, %x[%c0, %bx] : memref<?x?xf32>
    memref.store %v, %y[%c0, %bx] : memref<?x?xf32>
    gpu.terminator
  }
  return
}
