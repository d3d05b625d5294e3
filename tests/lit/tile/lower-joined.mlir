// RUN: gossamer-opt %s --gossamer-lower-tile-to-nvvm --canonicalize --cse | FileCheck %s --check-prefixes=CHECK,NVVM
// RUN: gossamer-opt %s --gossamer-lower-tile-to-host --canonicalize --cse | FileCheck %s --check-prefixes=CHECK,HOST
// RUN: gossamer-opt %s --gossamer-lower-tile-to-nvvm --canonicalize --cse | FileCheck %s --check-prefix=ENTRY

// A map of two tensors is both of their maps and the first row of the second: a row says which of them it is in.

// NVVM: module @kernels
// NVVM: llvm.func @kernel_0(%[[MAP:.*]]: !llvm.ptr {llvm.align = 64 : i32, llvm.byval = !llvm.array<260 x i8>, nvvm.grid_constant}
// NVVM: prefetch.tensormap [$0];", "l,~{memory}" %[[MAP]]
// NVVM: %[[LAST:.*]] = llvm.getelementptr %[[MAP]][128]
// NVVM: prefetch.tensormap [$0];", "l,~{memory}" %[[LAST]]
// HOST: llvm.func internal @copy_warpgroup
// HOST: %[[MAP:.*]] = llvm.load %{{.*}} -> !llvm.ptr

// The producer.
// CHECK: scf.if
// CHECK: %[[PLACE:.*]] = llvm.getelementptr %[[MAP]][256]
// CHECK: %[[FIRST:.*]] = llvm.load %[[PLACE]] {{.*}} -> i32
// CHECK: %[[IS_FIRST:.*]] = llvm.icmp "slt" %[[ROW:.*]], %[[FIRST]]
// CHECK: %[[OFFSET:.*]] = llvm.select %[[IS_FIRST]], %{{.*}}, %{{.*}} : i1, i64
// CHECK: %[[BEFORE:.*]] = llvm.select %[[IS_FIRST]], %{{.*}}, %[[FIRST]] : i1, i32
// CHECK: %[[PART:.*]] = llvm.getelementptr %[[MAP]][%[[OFFSET]]]
// CHECK: %[[IN_PART:.*]] = llvm.sub %[[ROW]], %[[BEFORE]]
// NVVM: cp.async.bulk.tensor.4d.shared::cluster{{.*}} %[[PART]], %{{.*}}, %{{.*}}, %[[IN_PART]], %{{.*}}, %{{.*}} :
// HOST: llvm.call @gs_tile_load(%{{.*}}, %[[PART]], %{{.*}}, %{{.*}}, %[[IN_PART]],

// The consumer.
// CHECK: } else {
// CHECK: llvm.getelementptr %[[MAP]][256]
// CHECK: %[[PART:.*]] = llvm.getelementptr %[[MAP]][%{{.*}}]
// CHECK: %[[IN_PART:.*]] = llvm.sub
// NVVM: cp.async.bulk.tensor.4d.global{{.*}} %[[PART]], %{{.*}}, %{{.*}}, %{{.*}}, %[[IN_PART]], %{{.*}}, %{{.*}} :
// HOST: llvm.call @gs_tile_store(%{{.*}}, %[[PART]], %{{.*}}, %{{.*}}, %[[IN_PART]],

// ENTRY: llvm.func @host(%{{.*}}: !llvm.ptr, %[[N:.*]]: i64)
// ENTRY: %[[JOINED:.*]] = llvm.alloca %{{.*}} x !llvm.array<260 x i8> {alignment = 64 : i64}
// ENTRY: "llvm.intr.memcpy"(%[[JOINED]], %[[A:.*]], %[[BYTES:.*]]) <{isVolatile = false}>
// ENTRY: %[[SECOND:.*]] = llvm.getelementptr %[[JOINED]][128]
// ENTRY: "llvm.intr.memcpy"(%[[SECOND]], %[[B:.*]], %[[BYTES]])
// ENTRY-DAG: %[[END:.*]] = llvm.getelementptr %[[JOINED]][256]
// ENTRY-DAG: %[[BEGIN:.*]] = llvm.trunc %[[N]] : i64 to i32
// ENTRY: llvm.store %[[BEGIN]], %[[END]]
tile.program @copy(%map: !tile.map<64x64xbf16, joined>, %row: i32) {
  %ring = tile.alloc : !tile.ring<1x64x64xbf16>
  %scratch = tile.alloc : !tile.shared<64x64xbf16>
  %c0 = arith.constant 0 : i32
  tile.role producer warpgroups(1) registers(40) {
  ^bb0(%w: i32):
    tile.load %map[%c0, %c0, %c0] rows(%row) into %ring[%c0] : <64x64xbf16, joined> into <1x64x64xbf16>
  }
  tile.role consumer warpgroups(1) registers(128) {
  ^bb0(%w: i32):
    %zero = arith.constant 0.0 : f32
    %f = tile.splat %zero : !tile.fragment<64x64xf32>
    tile.store %f to %map[%c0, %c0, %row, %c0] by %scratch : <64x64xf32>, <64x64xbf16, joined>, <64x64xbf16>
  }
}

llvm.func @host(%p: !llvm.ptr, %n: i64) {
  %a = tile.describe %p sizes(%n, %n, %n, %n) strides(%n, %n, %n) : !llvm.ptr -> <64x64xbf16>
  %b = tile.describe %p sizes(%n, %n, %n, %n) strides(%n, %n, %n) : !llvm.ptr -> <64x64xbf16>
  %map = tile.join %a, %b at(%n) : !tile.map<64x64xbf16>, !tile.map<64x64xbf16> -> !tile.map<64x64xbf16, joined>
  %row = arith.constant 7 : i32
  tile.launch @copy blocks(%n) (%map, %row) : !tile.map<64x64xbf16, joined>, i32
  llvm.return
}
