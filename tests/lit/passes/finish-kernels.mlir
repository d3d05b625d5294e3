// RUN: gossamer-opt %s --gossamer-finish-kernels | FileCheck %s

// CHECK-LABEL: llvm.func internal @kernel_0
// CHECK-SAME: llvm.noalias
// CHECK-SAME: nvvm.kernel
// CHECK-SAME: nvvm.reqntid = array<i32: 256>
// CHECK: llvm.load %{{.*}} {alignment = 8 : i64} : !llvm.ptr<1> -> i64
// CHECK: llvm.load %{{.*}} {alignment = 4 : i64} : !llvm.ptr<1> -> i32
// CHECK: llvm.store %{{.*}}, %{{.*}} {alignment = 8 : i64} : i64, !llvm.ptr<1>
llvm.func @kernel_0(%p: !llvm.ptr<1>) attributes {gossamer.kernel = 256 : i64} {
  %0 = llvm.load %p {alignment = 4 : i64} : !llvm.ptr<1> -> i64
  %1 = llvm.load %p {alignment = 4 : i64} : !llvm.ptr<1> -> i32
  %2 = llvm.zext %1 : i32 to i64
  %3 = llvm.add %0, %2 : i64
  llvm.store %3, %p {alignment = 4 : i64} : i64, !llvm.ptr<1>
  llvm.return
}

// Only kernels are on a GPU.
// CHECK-LABEL: llvm.func internal @host
// CHECK: llvm.load %{{.*}} {alignment = 4 : i64} : !llvm.ptr -> i64
llvm.func @host(%p: !llvm.ptr) -> i64 {
  %0 = llvm.load %p {alignment = 4 : i64} : !llvm.ptr -> i64
  llvm.return %0 : i64
}
