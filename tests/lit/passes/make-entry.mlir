// RUN: gossamer-opt %s --gossamer-make-entry | FileCheck %s

// Words of the packed array in the order of the arguments: a pointer and the sizes
// of a buffer (strides follow), a number as it is.
// CHECK: func.func private @region
func.func @region(%x: memref<?x8xf32>, %n: index, %scalar: memref<f32>) attributes {gossamer.results = [-1]} {
  return
}
// CHECK: func.func @gs_entry(%[[P:.*]]: !llvm.ptr)
// CHECK: %[[A0:.*]] = llvm.getelementptr %[[P]][0] : (!llvm.ptr) -> !llvm.ptr, i64
// CHECK: %[[X:.*]] = llvm.load %[[A0]] : !llvm.ptr -> !llvm.ptr
// CHECK: llvm.insertvalue %[[X]], %{{.*}}[0]
// CHECK: llvm.insertvalue %[[X]], %{{.*}}[1]
// CHECK: %[[A1:.*]] = llvm.getelementptr %[[P]][1]
// CHECK: %[[ROWS:.*]] = llvm.load %[[A1]] : !llvm.ptr -> i64
// CHECK: %[[A2:.*]] = llvm.getelementptr %[[P]][2]
// CHECK: %[[COLUMNS:.*]] = llvm.load %[[A2]] : !llvm.ptr -> i64
// CHECK: %[[ONE:.*]] = llvm.mlir.constant(1 : i64)
// CHECK: llvm.insertvalue %[[COLUMNS]], %{{.*}}[3, 1]
// CHECK: llvm.insertvalue %[[ONE]], %{{.*}}[4, 1]
// CHECK: %[[STRIDE:.*]] = llvm.mul %[[ONE]], %[[COLUMNS]]
// CHECK: llvm.insertvalue %[[ROWS]], %{{.*}}[3, 0]
// CHECK: llvm.insertvalue %[[STRIDE]], %{{.*}}[4, 0]
// CHECK: %[[XM:.*]] = builtin.unrealized_conversion_cast {{.*}} to memref<?x8xf32>
// CHECK: llvm.getelementptr %[[P]][3]
// CHECK: %[[N:.*]] = arith.index_cast %{{.*}} : i64 to index
// CHECK: llvm.getelementptr %[[P]][4]
// CHECK: %[[S:.*]] = builtin.unrealized_conversion_cast {{.*}} to memref<f32>
// CHECK: call @region(%[[XM]], %[[N]], %[[S]])

// What has no bound results is not the region.
// CHECK-NOT: @gs_entry
// CHECK: func.func private @helper
func.func private @helper(%n: index) {
  return
}
