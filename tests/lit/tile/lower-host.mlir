// RUN: gossamer-opt %s --gossamer-lower-tile-to-nvvm --split-input-file --verify-diagnostics | FileCheck %s

tile.program @p(%m: !tile.map<64x128xf16>, %list: memref<?xi32>, %n: i32) {
  %ring = tile.alloc : !tile.ring<2x64x128xf16>
  tile.role consumer warpgroups(1) registers(128) {
  ^bb0(%w: i32):
  }
}

// CHECK-LABEL: llvm.func @host
// CHECK-SAME: (%[[P:.*]]: !llvm.ptr, %[[N:.*]]: i64, %[[I:.*]]: i32)
// CHECK-DAG: %[[MAP:.*]] = llvm.alloca %{{.*}} x !llvm.array<128 x i8> {alignment = 64 : i64}
// 16-bit floats that are no bfloat16; boxes of 64 rows
// CHECK: llvm.call @gs_gpu_tensor_map(%[[MAP]], %[[P]], %{{.*}}, %{{.*}}, %{{.*}}, %{{.*}})
// CHECK: llvm.call @gs_gpu_processors()
// CHECK: llvm.store %[[P]]
// CHECK: llvm.store %[[I]]
// CHECK: llvm.call @gs_gpu_launch_program
llvm.func @host(%p: !llvm.ptr, %n: i64, %i: i32) {
  %map = tile.describe %p sizes(%n, %n, %n, %n) strides(%n, %n, %n) : !llvm.ptr -> <64x128xf16>
  %blocks = tile.resident @p
  tile.launch @p blocks(%blocks) (%map, %p, %i) : !tile.map<64x128xf16>, !llvm.ptr, i32
  llvm.return
}

// -----

tile.program @p(%n: i32) {
  tile.role consumer warpgroups(1) registers(128) {
  ^bb0(%w: i32):
  }
}
llvm.func @few(%n: i64) {
  // expected-error@+1 {{gives 2 arguments to a program of 1}}
  tile.launch @p blocks(%n) (%n, %n) : i64, i64
  llvm.return
}

// -----

tile.program @p(%n: i32) {
  tile.role consumer warpgroups(1) registers(128) {
  ^bb0(%w: i32):
  }
}
llvm.func @other(%n: i64) {
  // expected-error@+1 {{gives 'i64' as argument 0, which is 'i32'}}
  tile.launch @p blocks(%n) (%n) : i64
  llvm.return
}

// -----

tile.program @p() {
  tile.role consumer warpgroups(1) registers(128) {
  ^bb0(%w: i32):
  }
}
llvm.func @unknown(%n: i64) {
  // expected-error@+1 {{names @q, which is no tile program}}
  tile.launch @q blocks(%n) (%n) : i64
  llvm.return
}

// -----

// expected-error@+1 {{takes 262176 bytes of shared memory, of which there are 232448}}
tile.program @large() {
  %ring = tile.alloc : !tile.ring<2x256x256xf16>
  tile.role consumer warpgroups(1) registers(128) {
  ^bb0(%w: i32):
  }
}

// -----

tile.program @p(%x: f32) {
  tile.role consumer warpgroups(1) registers(128) {
  ^bb0(%w: i32):
    %s = tile.splat %x : !tile.fragment<64x64xf32>
    %e = tile.elementwise %s : !tile.fragment<64x64xf32> -> !tile.fragment<64x64xf32> {
    ^bb0(%a: f32, %row: i32, %column: i32):
      // expected-error@+1 {{has no lowering in a tile program}}
      %y = math.sin %a : f32
      tile.yield %y : f32
    }
  }
}
