// RUN: gossamer-opt %s --gossamer-lower-tile-to-host --split-input-file --verify-diagnostics

tile.program @p(%n: i32) {
  tile.role consumer warpgroups(1) registers(128) {
  ^bb0(%w: i32):
    %i = arith.index_cast %n : i32 to index
    // expected-error@+1 {{has no lowering in a tile program}}
    %m = memref.alloc(%i) : memref<?xf32>
  }
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

llvm.func @unknown(%n: i64) {
  // expected-error@+1 {{names @q, which is no tile program}}
  tile.launch @q blocks(%n) (%n) : i64
  llvm.return
}
