// RUN: gossamer-opt %s --gossamer-lower-tile-to-nvvm | FileCheck %s

// Bits of two groups of 64 columns: two words of each of a thread's two rows at once, and what stands for a group of
// which nothing is read.

// CHECK-LABEL: llvm.func @kernel_0(
// CHECK: setmaxnreg.inc
// -1 - n is n with all bits turned.
// CHECK: llvm.xor %{{.*}}, %{{.*}} : i32
// CHECK: llvm.intr.smax
// CHECK: llvm.shl
// CHECK: llvm.select
// CHECK-COUNT-4: @p ld.global.v2.b32 {$0, $1}, [$4]; }", "=r,=r,0,1,l,r"
// CHECK-NOT: ld.global.v2.b32
// Each word is shifted once, and tested by constants.
// CHECK-COUNT-8: llvm.lshr
// CHECK: llvm.mlir.constant(1 : i32)
// CHECK: llvm.and
// CHECK: llvm.icmp "ne"
// CHECK: arith.select
// CHECK: llvm.mlir.constant(2 : i32)
// CHECK: llvm.and
// CHECK: llvm.icmp "ne"
// CHECK: arith.select
tile.program @wide(%bits: memref<?xi32>, %x: f32) {
  %c0 = arith.constant 0 : i32
  %whole = arith.constant -65 : i32
  tile.role consumer warpgroups(1) registers(128) {
  ^bb0(%w: i32):
    %s = tile.splat %x : !tile.fragment<64x128xf32>
    %b = tile.load_bits %bits[%c0, %whole] : memref<?xi32> -> <64x128xi1>
    %m = tile.elementwise %s, %b : !tile.fragment<64x128xf32>, !tile.bits<64x128xi1> -> !tile.fragment<64x128xf32> {
    ^bb0(%a: f32, %bit: i1, %row: i32, %column: i32):
      %y = arith.select %bit, %a, %x : f32
      tile.yield %y : f32
    }
  }
}

// Groups of 16 columns have half a word each, of which two are joined.

// CHECK-LABEL: llvm.func @kernel_1(
// CHECK-COUNT-8: @p ld.global.b32 $0, [$2]; }", "=r,0,l,r"
// CHECK-NOT: ld.global.b32
// CHECK: llvm.mlir.constant(65535 : i32)
// CHECK: llvm.and
// CHECK: llvm.mlir.constant(16 : i32)
// CHECK: llvm.shl
// CHECK: llvm.or
tile.program @narrow(%bits: memref<?xi32>) {
  %c0 = arith.constant 0 : i32
  tile.role consumer warpgroups(1) registers(128) {
  ^bb0(%w: i32):
    %b = tile.load_bits %bits[%c0, %c0, %c0, %c0] : memref<?xi32> -> <64x64xi1>
  }
}
