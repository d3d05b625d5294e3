// RUN: gossamer-opt %s --gossamer-lower-tile-to-nvvm | FileCheck %s

// Numbers of rows and columns: what a producer copies, and what a thread reads.

// CHECK-LABEL: llvm.func @kernel_0
// A stage has 2 x 64 numbers.
// CHECK: mbarrier.arrive.expect_tx.shared::cta.b64 _, [$0], 512;
// CHECK: cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [$0], [$1], 512, [$2];
// Two rows of a thread, those of the tensor alone.
// CHECK-COUNT-2: @p ld.global.f32 $0, [$1]
// CHECK: ldmatrix
// Before anything may be copied there.
// CHECK: fence.proxy.async.shared::cta;
// Pairs of 16-bit numbers become f32.
// CHECK: llvm.bitcast %{{.*}} : i32 to vector<2xbf16>
// CHECK: llvm.fpext %{{.*}} : bf16 to f32
// CHECK: mbarrier.try_wait
// Two columns of a thread at once, once for both of its rows.
// CHECK: llvm.load %{{.*}} {alignment = 8 : i64} : !llvm.ptr<3> -> vector<2xf32>
// CHECK-COUNT-4: arith.subf
// CHECK: llvm.load %{{.*}} {alignment = 8 : i64} : !llvm.ptr<3> -> vector<2xf32>
// CHECK: fence.proxy.async.shared::cta;
// CHECK: bar.warp.sync
// CHECK: mbarrier.arrive
tile.program @numbers(%in: memref<?xf32>, %out: memref<?xf32>, %x: f32) {
  %series = tile.alloc : !tile.series<2x2x64xf32>
  %tile = tile.alloc : !tile.shared<64x64xbf16>
  %c0 = arith.constant 0 : i32
  tile.role producer warpgroups(1) registers(40) {
  ^bb0(%w: i32):
    tile.load_numbers %in[%c0] into %series[%c0] : memref<?xf32> into <2x2x64xf32>
  }
  tile.role consumer warpgroups(1) registers(128) {
  ^bb0(%w: i32):
    %rows = tile.load_rows %in[%c0] limit(%c0) otherwise(%x) : memref<?xf32> to !tile.rows<64xf32>
    %left = tile.load_operand %tile : <64x64xbf16> to <64x64xbf16>
    %f = tile.to_fragment %left : <64x64xbf16> to <64x64xf32>
    %c:2 = tile.columns %series[%c0] : <2x2x64xf32>
    %e = tile.elementwise %f, %c#1 : !tile.fragment<64x64xf32>, !tile.columns<64xf32> -> !tile.fragment<64x64xf32> {
    ^bb0(%a: f32, %d: f32, %row: i32, %column: i32):
      %y = arith.subf %a, %d : f32
      tile.yield %y : f32
    }
    tile.release %series[%c0] : !tile.series<2x2x64xf32>
    %part = tile.reduce sum %e : <64x64xf32> -> <64xf32, partial>
    %sum = tile.combine sum %part : <64xf32, partial> -> <64xf32>
    tile.store_rows %sum to %out[%c0] limit(%c0) : !tile.rows<64xf32>, memref<?xf32>
  }
}
