// RUN: gossamer-opt %s --gossamer-plan-workspace --gossamer-outline-kernels | FileCheck %s

// All temporaries are asked for at once, before the first launch; a kernel takes
// addresses, and the sizes that are not in the types.
// CHECK-DAG: func.func private @gs_gpu_launch(i64, i64, i64, i64, !llvm.ptr, i64)
// CHECK-DAG: func.func private @gs_gpu_workspace(i64) -> !llvm.ptr
// CHECK-LABEL: func @main
// CHECK-SAME: (%[[N:.*]]: index, %[[X:.*]]: memref<?x4xf32>)
// CHECK: %[[TOTAL:.*]] = arith.index_cast %{{.*}} : index to i64
// CHECK: %[[BASE:.*]] = call @gs_gpu_workspace(%[[TOTAL]])
// CHECK: %[[TEMPORARY:.*]] = memref.view %{{.*}}[%{{.*}}][%[[N]]] {gossamer.temporary}
// CHECK-NOT: gpu.launch
// CHECK-DAG: memref.extract_aligned_pointer_as_index %[[TEMPORARY]]
// CHECK-DAG: memref.extract_aligned_pointer_as_index %[[X]]
// CHECK-DAG: memref.dim %[[X]], %c0
// CHECK: call @gs_gpu_launch(%{{.*}}, %{{.*}}, %{{.*}}, %[[LEADS:[^,]*]], %{{.*}}, %{{.*}})
// CHECK: %[[FOLLOWS:.*]] = llvm.mlir.constant(2 : i64)
// CHECK: call @gs_gpu_launch(%{{.*}}, %{{.*}}, %{{.*}}, %[[FOLLOWS]], %{{.*}}, %{{.*}})
// CHECK: module @kernels
// CHECK: func.func @kernel_0({{.*}}!llvm.ptr
// CHECK-SAME: gossamer.kernel = 128 : i64, gossamer.resident = 8 : i64
// CHECK: nvvm.read.ptx.sreg.ctaid.x
// CHECK: nvvm.read.ptx.sreg.tid.x
// CHECK: memref.load %{{.*}} : memref<?x4xf32>
// CHECK: memref.store %{{.*}} : memref<?xf32>
// A kernel that may begin before the one before it is done: its temporaries are
// stored to while it runs, so that they are no memory of its own.
// CHECK: func.func @kernel_1(%{{.*}}: !llvm.ptr {gossamer.follows}, %{{[a-z0-9]*}}: i64, %{{[a-z0-9]*}}: !llvm.ptr, 
func.func @main(%n: index, %x: memref<?x4xf32>) {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %c128 = arith.constant 128 : index
  %t = memref.alloc(%n) : memref<?xf32>
  gpu.launch blocks(%bx, %by, %bz) in (%gx = %n, %gy = %c1, %gz = %c1)
             threads(%tx, %ty, %tz) in (%sx = %c128, %sy = %c1, %sz = %c1) {
    %i = arith.addi %bx, %tx : index
    %v = memref.load %x[%i, %c0] : memref<?x4xf32>
    memref.store %v, %t[%i] : memref<?xf32>
    gpu.terminator
  } {gossamer.leads, gossamer.resident = 8 : i64}
  gpu.launch blocks(%bx, %by, %bz) in (%gx = %n, %gy = %c1, %gz = %c1)
             threads(%tx, %ty, %tz) in (%sx = %c128, %sy = %c1, %sz = %c1) {
    %i = arith.addi %bx, %tx : index
    %v = memref.load %t[%i] : memref<?xf32>
    memref.store %v, %x[%i, %c0] : memref<?x4xf32>
    gpu.terminator
  } {gossamer.follows}
  return
}
