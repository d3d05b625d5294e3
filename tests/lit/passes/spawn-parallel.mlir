// RUN: gossamer-opt %s --gossamer-spawn-parallel | FileCheck %s

// CHECK: llvm.func @gs_parallel_for(i64, i64, i64, !llvm.ptr, !llvm.ptr)

// What the body needs goes through a struct on the stack (of the function, not of
// the loop around the call); a function unpacks it for the runtime.
// CHECK-LABEL: llvm.func internal @region
// CHECK-SAME: (%[[X:.*]]: !llvm.ptr {llvm.noalias}, %[[N:.*]]: i64)
llvm.func @region(%x: !llvm.ptr, %n: i64) attributes {gossamer.noalias} {
  // CHECK: %[[FRAME:.*]] = llvm.alloca %{{.*}} x !llvm.struct<(ptr, i64)>
  %zero = llvm.mlir.constant(0 : i64) : i64
  // CHECK: llvm.br ^[[BB:.*]]{{$}}
  llvm.br ^loop
^loop:
  // CHECK: ^[[BB]]:
  // CHECK-DAG: %[[P0:.*]] = llvm.getelementptr %[[FRAME]][0, 0]
  // CHECK-DAG: llvm.store %[[X]], %[[P0]]
  // CHECK-DAG: %[[P1:.*]] = llvm.getelementptr %[[FRAME]][0, 1]
  // CHECK-DAG: llvm.store %[[N]], %[[P1]]
  // CHECK: %[[BODY:.*]] = llvm.mlir.addressof @body_unpack
  // CHECK: %[[GRAIN:.*]] = llvm.mlir.constant(1 : i64)
  // CHECK: llvm.call @gs_parallel_for(%{{.*}}, %[[N]], %[[GRAIN]], %[[BODY]], %[[FRAME]])
  // CHECK-NOT: llvm.call @body
  llvm.call @body(%zero, %n, %x, %n) {gossamer.parallel} : (i64, i64, !llvm.ptr, i64) -> ()
  %c = llvm.icmp "eq" %n, %zero : i64
  llvm.cond_br %c, ^loop, ^end
^end:
  // An ordinary call stays one.
  // CHECK: llvm.call @other
  llvm.call @other(%x) : (!llvm.ptr) -> ()
  llvm.return
}

// CHECK: llvm.func internal @body(%{{.*}}: i64, %{{.*}}: i64, %{{.*}}: !llvm.ptr {llvm.noalias}, %{{.*}}: i64)
llvm.func @body(%lo: i64, %hi: i64, %x: !llvm.ptr, %n: i64) attributes {gossamer.noalias} {
  llvm.return
}
// CHECK: llvm.func internal @other(%{{.*}}: !llvm.ptr)
llvm.func @other(%x: !llvm.ptr) {
  llvm.return
}

// CHECK: llvm.func internal @body_unpack(%[[CONTEXT:.*]]: !llvm.ptr, %[[LO:.*]]: i64, %[[HI:.*]]: i64)
// CHECK: llvm.getelementptr %[[CONTEXT]][0, 0]
// CHECK: %[[A:.*]] = llvm.load %{{.*}} : !llvm.ptr -> !llvm.ptr
// CHECK: llvm.getelementptr %[[CONTEXT]][0, 1]
// CHECK: %[[B:.*]] = llvm.load %{{.*}} : !llvm.ptr -> i64
// CHECK: llvm.call @body(%[[LO]], %[[HI]], %[[A]], %[[B]])
