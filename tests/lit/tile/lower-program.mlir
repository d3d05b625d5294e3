// RUN: gossamer-opt %s --gossamer-lower-tile-to-nvvm | FileCheck %s

// A small program: its memory, barriers, roles, loads and products.

// CHECK: module @kernels
// CHECK: llvm.mlir.global external @kernel_0_shared() {addr_space = 3 : i32, alignment = 1024 : i64} : !llvm.array<0 x i8>
// CHECK: llvm.func @kernel_0(
// CHECK-SAME: !llvm.ptr {llvm.align = 64 : i32, llvm.byval = !llvm.array<128 x i8>, nvvm.grid_constant}
// CHECK-SAME: !llvm.ptr<1> {llvm.noalias}
// CHECK-SAME: attributes {nvvm.kernel, nvvm.maxntid = array<i32: 256>, nvvm.minctasm = 2 : i32}

// The warpgroup, through a shuffle.
// CHECK: %[[TID:.*]] = nvvm.read.ptx.sreg.tid.x
// CHECK: nvvm.shfl.sync idx

// Two stages of 8 KiB, their barriers behind them: one arrival fills, four warps free.
// CHECK: mbarrier.init.shared::cta.b64 [$0], 1;
// CHECK: mbarrier.init.shared::cta.b64 [$0], 4;
// CHECK: fence.mbarrier_init.release.cluster;
// CHECK: prefetch.tensormap
// CHECK: nvvm.barrier

// The producer: one thread.
// CHECK: scf.if
// CHECK: setmaxnreg.dec.sync.aligned.u32 40;
// CHECK: scf.if
// CHECK: scf.for
// CHECK: mbarrier.try_wait.parity.shared::cta.b64
// CHECK: mbarrier.arrive.expect_tx.shared::cta.b64 _, [$0], 8192;
// CHECK-COUNT-2: cp.async.bulk.tensor.4d.shared::cluster.global
// CHECK-NOT: cp.async.bulk.tensor.4d.shared::cluster.global

// The consumers; a product of four steps, and a wait that lets the later one run.
// CHECK: } else {
// CHECK: setmaxnreg.inc.sync.aligned.u32 128;
// CHECK: mbarrier.try_wait.parity.shared::cta.b64
// CHECK: wgmma.fence.sync.aligned;
// CHECK-SAME: add.s64 da, $32, 0; add.s64 db, $33, 0; wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16
// CHECK-SAME: da, db, 0, 1, 1, 0, 0;
// CHECK-SAME: add.s64 da, $32, 2; add.s64 db, $33, 2;
// CHECK-SAME: da, db, 1, 1, 1, 0, 0;
// CHECK-SAME: wgmma.commit_group.sync.aligned;
// CHECK: wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16
// CHECK-SAME: da, db, 1, 1, 1, 0, 1;
// CHECK: wgmma.wait_group.sync.aligned 1;
// CHECK: wgmma.wait_group.sync.aligned 0;
// CHECK: mbarrier.arrive.shared::cta.b64 _, [$0];
// CHECK: cvt.rn.bf16x2.f32
// CHECK: cp.async.bulk.wait_group.read 0;
// CHECK: bar.sync $0, 128;
// CHECK-COUNT-4: stmatrix.sync.aligned.m8n8.x4.shared.b16
// CHECK: fence.proxy.async.shared::cta;
// CHECK: bar.sync $0, 128;
// CHECK: cp.async.bulk.tensor.4d.global.shared::cta.bulk_group
// CHECK: cp.async.bulk.commit_group;
tile.program @square(%in: !tile.map<32x64xbf16>, %out: !tile.map<64x64xbf16>, %steps: memref<?xi32>) attributes {blocks_per_processor = 2 : i32} {
  %ring = tile.alloc : !tile.ring<2x64x64xbf16>
  %scratch = tile.alloc : !tile.shared<64x64xbf16>
  %c0 = arith.constant 0 : i32
  %c1 = arith.constant 1 : i32
  %c32 = arith.constant 32 : i32
  tile.role producer warpgroups(1) registers(40) {
  ^bb0(%w: i32):
    %n = tile.read %steps[%c0] : memref<?xi32>
    scf.for %i = %c0 to %n step %c1 : i32 {
      tile.load %in[%c0, %c0, %c0] rows(%c0, %c32) into %ring[%i] : <32x64xbf16> into <2x64x64xbf16>
    }
  }
  tile.role consumer warpgroups(1) registers(128) {
  ^bb0(%w: i32):
    %zero = arith.constant 0.0 : f32
    %o = tile.splat %zero : !tile.fragment<64x64xf32>
    %t = tile.wait %ring[%c0] : <2x64x64xbf16>
    %p0 = tile.mma %t, %t transposed : (!tile.shared<64x64xbf16>, !tile.shared<64x64xbf16>) -> !tile.pending<64x64xf32>
    %p1 = tile.mma %t, %t plus %o : (!tile.shared<64x64xbf16>, !tile.shared<64x64xbf16>, !tile.fragment<64x64xf32>) -> !tile.pending<64x64xf32>
    %s0 = tile.await %p0 : <64x64xf32>
    %s1 = tile.await %p1 : <64x64xf32>
    tile.release %ring[%c0] : !tile.ring<2x64x64xbf16>
    %sum = tile.elementwise %s0, %s1 : !tile.fragment<64x64xf32>, !tile.fragment<64x64xf32> -> !tile.fragment<64x64xf32> {
    ^bb0(%a: f32, %b: f32, %row: i32, %column: i32):
      %c = arith.addf %a, %b : f32
      tile.yield %c : f32
    }
    tile.store %sum to %out[%c0, %c0, %c0, %c0] by %scratch : <64x64xf32>, <64x64xbf16>, <64x64xbf16>
  }
}
