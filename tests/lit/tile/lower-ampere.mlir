// RUN: gossamer-opt %s --gossamer-lower-tile-to-nvvm | FileCheck %s --implicit-check-not=wgmma \
// RUN:   --implicit-check-not=setmaxnreg --implicit-check-not=bulk --implicit-check-not=try_wait --implicit-check-not=stmatrix

// A small program for a GPU without TMA and wgmma. Four warps of consumers, and one that produces.

// CHECK: llvm.func @kernel_0(
// CHECK-SAME: attributes {nvvm.kernel, nvvm.maxntid = array<i32: 160>, nvvm.minctasm = 2 : i32}

// Every lane of the producer arrives at a stage that is full; the message is sent by one.
// CHECK: mbarrier.init.shared::cta.b64 [$0], 32;
// CHECK: mbarrier.init.shared::cta.b64 [$0], 4;
// CHECK: mbarrier.init.shared::cta.b64 [$0], 1;
// CHECK: nvvm.barrier

// The producer: the last warp, as the first role.
// CHECK: scf.if
// One lane takes a number, and all know it.
// CHECK: @p atom.global.inc.u32
// CHECK: nvvm.shfl.sync idx
// CHECK: scf.if
// CHECK: mbarrier.test_wait.parity.shared.b64
// CHECK: st.shared.b32
// CHECK: bar.warp.sync
// A box is copied eight rows at a time, two instructions of four rows each.
// CHECK: mbarrier.test_wait.parity.shared.b64
// CHECK: scf.for
// CHECK-COUNT-2: cp.async.cg.shared.global.L2::128B [$0], [$1], 16, $2;
// CHECK-NOT: cp.async.cg
// CHECK: scf.for
// CHECK-COUNT-2: cp.async.cg.shared.global.L2::128B [$0], [$1], 16, $2;
// CHECK-NOT: cp.async.cg
// CHECK: cp.async.mbarrier.arrive.noinc.shared.b64 [$0];
// Two series of 64 numbers are one copy of all lanes.
// CHECK: cp.async.cg
// CHECK-NOT: cp.async.cg
// CHECK: cp.async.mbarrier.arrive.noinc.shared.b64 [$0];
// CHECK: cp.async.wait_all;

// The consumers: a product of four steps of 16, each with its left side and four pairs of columns.
// CHECK: } else {
// CHECK: mbarrier.test_wait.parity.shared.b64
// CHECK: ldmatrix.sync.aligned.m8n8.x4.shared.b16 {$0, $1, $2, $3}, [$4];
// CHECK: ldmatrix.sync.aligned.m8n8.x4.shared.b16 {$0, $1, $2, $3}, [$4];
// CHECK-COUNT-2: mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32
// CHECK: ldmatrix.sync.aligned.m8n8.x4.shared.b16 {$0, $1, $2, $3}, [$4+2048];
// CHECK-COUNT-30: mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32
// And of one whose right side is not transposed.
// CHECK: ldmatrix.sync.aligned.m8n8.x4.shared.b16 {$0, $1, $2, $3}, [$4];
// CHECK: ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {$0, $1, $2, $3}, [$4];
// CHECK-COUNT-32: mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32
// CHECK: bar.warp.sync
// CHECK: mbarrier.arrive.shared::cta.b64 _, [$0];
// Pairs of columns are passed round in quads, and stored as 16 bytes.
// CHECK: cvt.rn.bf16x2.f32
// CHECK-COUNT-4: nvvm.shfl.sync bfly
// CHECK: st.global.v4.b32
// CHECK-COUNT-3: st.global.v4.b32
// CHECK-NOT: st.global.v4.b32
tile.program @square(%in: !tile.map<32x64xbf16>, %out: !tile.map<64x64xbf16>, %numbers: memref<?xf32>, %counter: memref<?xi32>) attributes {blocks_per_processor = 2 : i32, chip = "sm_80"} {
  %ring = tile.alloc : !tile.ring<2x64x64xbf16>
  %queue = tile.alloc : !tile.queue<2x2xi32>
  %series = tile.alloc : !tile.series<1x2x64xf32>
  %scratch = tile.alloc : !tile.shared<64x64xbf16>
  %c0 = arith.constant 0 : i32
  %c32 = arith.constant 32 : i32
  tile.role producer warpgroups(1) registers(168) {
  ^bb0(%w: i32):
    %n = tile.next %counter wrap(%c32) : memref<?xi32>
    tile.send %queue[%c0], %n, %c32 : !tile.queue<2x2xi32>
    tile.load %in[%c0, %c0, %c0] rows(%c0, %c32) into %ring[%c0] : <32x64xbf16> into <2x64x64xbf16>
    tile.load_numbers %numbers[%c0] into %series[%c0] : memref<?xf32> into !tile.series<1x2x64xf32>
  }
  tile.role consumer warpgroups(1) registers(168) {
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
