// RUN: gossamer-opt %s --gossamer-lower-tile-to-nvvm | FileCheck %s

// Rows of fragments, and who is the last of several warpgroups.

// CHECK-LABEL: llvm.func @kernel_0
// What all threads have stored is seen by who counts later; one thread counts, and tells the others.
// CHECK: fence.acq_rel.gpu;
// CHECK: bar.sync
// CHECK: @counts atom.global.inc.u32 before, [$1], $2; {{.*}} bar.red.or.pred last, $4, 128, last;
// CHECK: fence.acq_rel.gpu;
// Eight rows have the same number.
// CHECK: llvm.lshr %{{.*}}, %{{.*}} : i32
// CHECK: @p ld.global.f32 $0, [$1]
// CHECK: @p ld.global.f32 $0, [$1]
// Pairs of columns, eight columns apart, of two rows.
// CHECK: @p ld.global.v2.f32 {$0, $1}, [$2 + 0]
// CHECK: @p ld.global.v2.f32 {$0, $1}, [$2 + 32]
// CHECK: @p ld.global.v2.f32 {$0, $1}, [$2 + 0]
// CHECK: @p ld.global.v2.f32 {$0, $1}, [$2 + 32]
// CHECK-NOT: ld.global
// CHECK: @p st.global.v2.f32 [$0 + 0], {$2, $3}
// CHECK: @p st.global.v2.f32 [$0 + 32], {$2, $3}
// CHECK: cvt.rn.bf16x2.f32
// CHECK: @p st.global.b32 [$0 + 0], $2
// CHECK: @p st.global.b32 [$0 + 16], $2
tile.program @rows(%in: memref<?xf32>, %out: memref<?xbf16>, %counters: memref<?xi32>, %n: i32, %x: f32) {
  tile.role consumer warpgroups(1) registers(128) {
  ^bb0(%w: i32):
    %last = tile.arrive %counters[%n] of(%n) : memref<?xi32>
    %r = tile.load_rows %in[%n] limit(%n) otherwise(%x) span(8) : memref<?xf32> to !tile.rows<64xf32>
    %f = tile.load_rows %in[%n] limit(%n) otherwise(%x) : memref<?xf32> to !tile.fragment<64x16xf32>
    tile.store_rows %f to %in[%n] limit(%n) : !tile.fragment<64x16xf32>, memref<?xf32>
    tile.store_rows %f to %out[%n] limit(%n) : !tile.fragment<64x16xf32>, memref<?xbf16>
  }
}
