// RUN: gossamer-opt %s --gossamer-lower-tile-to-host --canonicalize --cse --split-input-file | FileCheck %s

// Loads, products, elements, a store.

// CHECK-LABEL: llvm.func internal @square_warpgroup
// CHECK-SAME: (%[[SELF:.*]]: !llvm.ptr, %[[ARGS:.*]]: !llvm.ptr, %[[SHARED:.*]]: !llvm.ptr, %[[MINE:.*]]: !llvm.ptr, %{{.*}}: i32, %{{.*}}: i32, %[[WG:.*]]: i32)
// CHECK-DAG: %[[IN:.*]] = llvm.load %[[ARGS]] {{.*}} -> !llvm.ptr
// CHECK-DAG: %[[SCRATCH:.*]] = llvm.getelementptr %[[SHARED]][16384]

// The producer; two boxes of 32 rows, one below the other.
// CHECK: %[[PRODUCES:.*]] = llvm.icmp "ult" %[[WG]]
// CHECK: scf.if %[[PRODUCES]] {
// CHECK: %[[STEPS:.*]] = llvm.load volatile
// CHECK: scf.for %[[N:.*]] = %{{.*}} to %[[STEPS]]
// CHECK: %[[STAGE:.*]] = llvm.call @gs_tile_acquire(%[[SELF]], %c0_i64, %[[N]])
// CHECK: llvm.call @gs_tile_load(%[[STAGE]], %[[IN]], %c0_i32, %c0_i32, %c0_i32, %c0_i32, %c32_i64, %c64_i64)
// CHECK: %[[BELOW:.*]] = llvm.getelementptr %[[STAGE]][4096]
// CHECK: llvm.call @gs_tile_load(%[[BELOW]], %[[IN]], %c0_i32, %c0_i32, %c32_i32, %c0_i32, %c32_i64, %c64_i64)
// CHECK: llvm.call @gs_tile_publish(%[[SELF]], %c0_i64, %[[N]])

// The consumer. Products are made where they begin.
// CHECK: } else {
// CHECK: llvm.store %cst, {{.*}} : f32
// CHECK: %[[TILE:.*]] = llvm.call @gs_tile_await(%[[SELF]], %c0_i64, %c0_i32)
// CHECK: llvm.call @tile_widen_64x64xbf16(%[[TILE]], %[[LEFT:[a-z0-9]+]])
// CHECK: llvm.call @tile_widen_64x64xbf16_transposed(%[[TILE]], %[[RIGHT:[a-z0-9]+]])
// CHECK: llvm.call @tile_multiply_64x64x64(%[[LEFT]], %[[RIGHT]], %[[S0:[a-z0-9]+]])
// CHECK: llvm.call @tile_multiply_add_64x64x64(%[[LEFT]], %[[RIGHT]], %[[S1:[a-z0-9]+]], %{{.*}})
// CHECK: llvm.call @gs_tile_release(%[[SELF]], %c0_i64, %c0_i32)
// CHECK: scf.for %[[ROW:.*]] = %c0_i64 to %c64_i64 step %c1_i64
// CHECK: scf.for %[[COLUMN:.*]] = %c0_i64 to %c64_i64 step %c1_i64
// CHECK: %[[AT:.*]] = arith.addi
// CHECK: %[[P0:.*]] = llvm.getelementptr %[[S0]][%[[AT]]]
// CHECK: %[[A:.*]] = llvm.load %[[P0]]
// CHECK: %[[P1:.*]] = llvm.getelementptr %[[S1]][%[[AT]]]
// CHECK: %[[B:.*]] = llvm.load %[[P1]]
// CHECK: %[[C:.*]] = arith.addf %[[A]], %[[B]]
// CHECK: llvm.store %[[C]]
// CHECK: arith.truncf {{.*}} : f32 to bf16
// CHECK: llvm.call @gs_tile_store(%[[SCRATCH]]

// Eight rows by a vector; the right side is read line by line.
// CHECK-LABEL: llvm.func internal @tile_multiply_64x64x64
// CHECK-SAME: (%[[L:.*]]: !llvm.ptr {llvm.noalias}, %[[R:.*]]: !llvm.ptr {llvm.noalias}, %{{.*}}: !llvm.ptr {llvm.noalias})
// CHECK: scf.for {{.*}} step %c8_i64
// CHECK: scf.for {{.*}} step %c8_i64
// CHECK: scf.for %{{.*}} = %c0_i64 to %c64_i64 step %c1_i64 iter_args
// CHECK: llvm.load {{.*}} -> vector<8xf32>
// CHECK-COUNT-8: llvm.intr.fma
// CHECK: scf.yield
// CHECK-COUNT-8: llvm.store {{.*}} : vector<8xf32>
tile.program @square(%in: !tile.map<32x64xbf16>, %out: !tile.map<64x64xbf16>, %steps: memref<?xi32>) {
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

// -----

// Messages, turns, a counter, rows; what a loop hands on is copied, and what it exchanges goes through a third place.

// CHECK-LABEL: llvm.func internal @rest_warpgroup
// CHECK: llvm.atomicrmw uinc_wrap {{.*}} acq_rel
// CHECK: %[[SLOT:.*]] = llvm.call @gs_tile_acquire(%[[SELF:.*]], %c1_i64, %c0_i32)
// CHECK: llvm.store {{.*}}, %[[SLOT]]
// CHECK: llvm.getelementptr %[[SLOT]][1] {{.*}}, i32
// CHECK: llvm.call @gs_tile_publish(%{{.*}}, %c1_i64, %c0_i32)
// CHECK: } else {
// CHECK: %[[W:.*]] = arith.subi %{{.*}}, %c1_i32
// CHECK: %[[SLOT:.*]] = llvm.call @gs_tile_await(%{{.*}}, %c1_i64, %c0_i32)
// CHECK: llvm.load %[[SLOT]]
// CHECK: %[[SECOND:.*]] = llvm.load
// CHECK: llvm.call @gs_tile_release(%{{.*}}, %c1_i64, %c0_i32)
// CHECK: llvm.call @gs_tile_take_turn(%{{.*}}, %[[W]])
// CHECK: %[[TILE:.*]] = llvm.call @gs_tile_await(%{{.*}}, %c0_i64, %c0_i32)
// 64 columns of two bytes.
// CHECK: %[[OFFSET:.*]] = arith.muli %{{.*}}, %c128_i64
// CHECK: %[[PART:.*]] = llvm.getelementptr %[[TILE]][%[[OFFSET]]]
// CHECK: llvm.call @tile_widen_64x64xf16(%[[PART]], %[[OPERAND:[a-z0-9]+]])
// CHECK: llvm.call @tile_multiply_64x128x64(%[[OPERAND]]
// CHECK: llvm.call @gs_tile_pass_turn(%{{.*}}, %[[W]])
// CHECK: "llvm.intr.memcpy"(%[[A:[a-z0-9]+]], %{{.*}}, %{{.*}}) <{isVolatile = false}>
// CHECK: "llvm.intr.memcpy"(%[[B:[a-z0-9]+]], %{{.*}}, %{{.*}}) <{isVolatile = false}>
// CHECK: scf.for {{.*}} to %[[SECOND]]
// CHECK: "llvm.intr.memcpy"(%[[ASIDE:[a-z0-9]+]], %[[A]],
// CHECK: "llvm.intr.memcpy"(%[[A]], %[[B]],
// CHECK: "llvm.intr.memcpy"(%[[B]], %[[ASIDE]],
// CHECK: llvm.intr.maxnum
// CHECK: scf.for
// CHECK: llvm.intr.maxnum
// CHECK: math.exp2
// CHECK: llvm.fadd {{.*}} {fastmathFlags = #llvm.fastmath<reassoc>}
// CHECK: %[[ROUNDED:.*]] = arith.truncf {{.*}} : f32 to f16
// CHECK: arith.extf %[[ROUNDED]]
// CHECK: %[[LIMIT:.*]] = arith.minsi {{.*}}, %c64_i64
// CHECK: scf.for {{.*}} to %[[LIMIT]]
tile.program @rest(%in: !tile.map<128x64xf16>, %counter: memref<?xi32>, %rows: memref<?xf32>, %n: i32) {
  %ring = tile.alloc : !tile.ring<1x128x64xf16>
  %queue = tile.alloc : !tile.queue<1x2xi32>
  %c0 = arith.constant 0 : i32
  %c1 = arith.constant 1 : i32
  %c64 = arith.constant 64 : i32
  tile.role producer warpgroups(1) registers(40) {
  ^bb0(%w: i32):
    %next = tile.next %counter wrap(%n) : memref<?xi32>
    tile.send %queue[%c0], %next, %n : !tile.queue<1x2xi32>
    tile.load %in[%c0, %c0, %c0] rows(%c0) into %ring[%c0] : <128x64xf16> into <1x128x64xf16>
  }
  tile.role consumer warpgroups(2) registers(200) {
  ^bb0(%w: i32):
    %m:2 = tile.receive %queue[%c0] : !tile.queue<1x2xi32>
    tile.take_turn
    %t = tile.wait %ring[%c0] : <1x128x64xf16>
    %row = arith.muli %w, %c64 : i32
    %part = tile.subtile %t[%row] : !tile.shared<128x64xf16> to !tile.shared<64x64xf16, panel = 128>
    %q = tile.load_operand %part : !tile.shared<64x64xf16, panel = 128> to !tile.operand<64x64xf16>
    %p = tile.mma %q, %t transposed : (!tile.operand<64x64xf16>, !tile.shared<128x64xf16>) -> !tile.pending<64x128xf32>
    tile.pass_turn
    %s = tile.await %p : <64x128xf32>
    %x = arith.sitofp %m#0 : i32 to f32
    %f = tile.splat %x : !tile.fragment<64x128xf32>
    %r:2 = scf.for %i = %c0 to %m#1 step %c1 iter_args(%a = %s, %b = %f) -> (!tile.fragment<64x128xf32>, !tile.fragment<64x128xf32>) : i32 {
      scf.yield %b, %a : !tile.fragment<64x128xf32>, !tile.fragment<64x128xf32>
    }
    %one = tile.splat %x : !tile.rows<64xf32>
    %highest = tile.reduce max %r#0 init(%one : !tile.rows<64xf32>) : !tile.fragment<64x128xf32> -> !tile.rows<64xf32, partial>
    %max = tile.combine max %highest : !tile.rows<64xf32, partial> -> !tile.rows<64xf32>
    %e = tile.elementwise %r#0, %max : !tile.fragment<64x128xf32>, !tile.rows<64xf32> -> !tile.fragment<64x128xf32> {
    ^bb0(%y: f32, %z: f32, %at: i32, %column: i32):
      %d = arith.subf %y, %z : f32
      %power = math.exp2 %d : f32
      tile.yield %power : f32
    }
    %added = tile.reduce sum %e : !tile.fragment<64x128xf32> -> !tile.rows<64xf32, partial>
    %sum = tile.combine sum %added : !tile.rows<64xf32, partial> -> !tile.rows<64xf32>
    %o = tile.to_operand %e : !tile.fragment<64x128xf32> to !tile.operand<64x128xf16>
    %p2 = tile.mma %o, %t : (!tile.operand<64x128xf16>, !tile.shared<128x64xf16>) -> !tile.pending<64x64xf32>
    %s2 = tile.await %p2 : <64x64xf32>
    tile.release %ring[%c0] : !tile.ring<1x128x64xf16>
    tile.store_rows %sum to %rows[%row] limit(%n) : !tile.rows<64xf32>, memref<?xf32>
  }
}

// -----

// Series, read where they are in shared memory; rows with a limit; an operand is a fragment as it is.

// CHECK-LABEL: llvm.func internal @numbers_warpgroup
// CHECK: %[[STAGE:.*]] = llvm.call @gs_tile_acquire(%{{.*}}, %c0_i64, %[[N:[a-z0-9]+]])
// CHECK: %[[FROM:.*]] = llvm.getelementptr %{{.*}}[%{{.*}}] : (!llvm.ptr, i64) -> !llvm.ptr, f32
// CHECK: "llvm.intr.memcpy"(%[[STAGE]], %[[FROM]], %c512_i64)
// CHECK: llvm.call @gs_tile_publish(%{{.*}}, %c0_i64, %[[N]])
// CHECK: } else {
// CHECK: %[[STAGE:.*]] = llvm.call @gs_tile_await(%{{.*}}, %c0_i64, %{{.*}})
// CHECK: %[[SECOND:.*]] = llvm.getelementptr %[[STAGE]][64]
// CHECK: llvm.store %{{.*}}, %{{.*}} : f32
// CHECK: %[[LIMIT:.*]] = arith.minsi %{{.*}}, %c64_i64
// CHECK: scf.for {{.*}} to %[[LIMIT]]
// CHECK: scf.for %[[ROW:.*]] = %c0_i64
// CHECK: scf.for %[[COLUMN:.*]] = %c0_i64
// CHECK: %[[AT:.*]] = llvm.getelementptr %[[SECOND]][%[[COLUMN]]]
// CHECK: %[[X:.*]] = llvm.load %[[AT]]
// CHECK: arith.addf %{{.*}}, %[[X]]
// CHECK: llvm.call @gs_tile_release(%{{.*}}, %c0_i64, %{{.*}})
tile.program @numbers(%in: memref<?xf32>, %n: i32, %x: f32) {
  %series = tile.alloc : !tile.series<2x2x64xf32>
  %scratch = tile.alloc : !tile.shared<64x64xbf16>
  tile.role producer warpgroups(1) registers(40) {
  ^bb0(%w: i32):
    tile.load_numbers %in[%n] into %series[%n] : memref<?xf32> into !tile.series<2x2x64xf32>
  }
  tile.role consumer warpgroups(1) registers(128) {
  ^bb0(%w: i32):
    %s:2 = tile.columns %series[%n] : !tile.series<2x2x64xf32>
    %r = tile.load_rows %in[%n] limit(%n) otherwise(%x) : memref<?xf32> to !tile.rows<64xf32>
    %o = tile.load_operand %scratch : !tile.shared<64x64xbf16> to !tile.operand<64x64xbf16>
    %f = tile.to_fragment %o : !tile.operand<64x64xbf16> to !tile.fragment<64x64xf32>
    %e = tile.elementwise %f, %s#1, %r : !tile.fragment<64x64xf32>, !tile.columns<64xf32>, !tile.rows<64xf32> -> !tile.fragment<64x64xf32> {
    ^bb0(%a: f32, %b: f32, %c: f32, %row: i32, %column: i32):
      %d = arith.addf %a, %b : f32
      tile.yield %d : f32
    }
    tile.release %series[%n] : !tile.series<2x2x64xf32>
  }
}

// -----

// Rows of fragments, as many as there are; and whether a warpgroup is the last.

// CHECK-LABEL: llvm.func internal @rows_warpgroup
// CHECK: %[[FINAL:.*]] = arith.addi %{{.*}}, %c-1_i32
// CHECK: %[[BEFORE:.*]] = llvm.atomicrmw uinc_wrap %{{.*}}, %[[FINAL]] acq_rel
// CHECK: %[[LAST:.*]] = arith.cmpi eq, %[[BEFORE]], %[[FINAL]]
// CHECK: scf.if %[[LAST]]
// CHECK: %[[LIMIT:.*]] = arith.minsi %{{.*}}, %c64_i64
// CHECK: scf.for %[[ROW:.*]] = %c0_i64 to %[[LIMIT]]
// CHECK: arith.divui %[[ROW]], %c8_i64
// CHECK: scf.for {{.*}} to %{{.*}}
// CHECK: scf.for {{.*}} to %c16_i64
// CHECK: arith.truncf %{{.*}} : f32 to bf16
tile.program @rows(%in: memref<?xf32>, %out: memref<?xbf16>, %counters: memref<?xi32>, %n: i32, %x: f32) {
  tile.role consumer warpgroups(1) registers(128) {
  ^bb0(%w: i32):
    %last = tile.arrive %counters[%n] of(%n) : memref<?xi32>
    scf.if %last {
      %f = tile.splat %x : !tile.fragment<64x16xf32>
      %r = tile.load_rows %in[%n] limit(%n) otherwise(%x) span(8) : memref<?xf32> to !tile.rows<64xf32>
      tile.store_rows %f to %out[%n] limit(%n) : !tile.fragment<64x16xf32>, memref<?xbf16>
    }
  }
}

// -----

// The launch: three warpgroups, the last two of which consume; 16 KiB and a line are shared.

// CHECK: llvm.mlir.global internal constant @p_text("p\0Aring 0 (!tile.ring<2x64x64xf16>)\0Aqueue 1 (!tile.queue<1x2xi32>)\00")
// CHECK-LABEL: llvm.func @host
// CHECK-SAME: (%[[P:.*]]: !llvm.ptr, %[[N:.*]]: i64, %[[I:.*]]: i32)
// CHECK-DAG: %[[MAP:.*]] = llvm.alloca %{{.*}} x !llvm.array<128 x i8> {alignment = 64 : i64}
// CHECK-DAG: %[[TEXT:.*]] = llvm.mlir.addressof @p_text
// CHECK-DAG: %[[PROGRAM:.*]] = llvm.mlir.addressof @p_warpgroup
// CHECK-DAG: %[[TWO:.*]] = llvm.mlir.constant(2 : i64)
// CHECK: llvm.call @gs_tile_map(%[[MAP]], %[[P]], %[[TWO]], %{{.*}}, %{{.*}})
// CHECK: %[[BLOCKS:.*]] = llvm.call @gs_tile_resident()
// CHECK: llvm.call @gs_tile_launch(%[[PROGRAM]], %[[TEXT]], %{{.*}}, %[[BLOCKS]], %{{.*}})
tile.program @p(%m: !tile.map<64x64xf16>, %list: memref<?xi32>, %n: i32) {
  %ring = tile.alloc : !tile.ring<2x64x64xf16>
  %queue = tile.alloc : !tile.queue<1x2xi32>
  tile.role producer warpgroups(1) registers(40) {
  ^bb0(%w: i32):
  }
  tile.role consumer warpgroups(2) registers(128) {
  ^bb0(%w: i32):
  }
}
llvm.func @host(%p: !llvm.ptr, %n: i64, %i: i32) {
  %map = tile.describe %p sizes(%n, %n, %n, %n) strides(%n, %n, %n) : !llvm.ptr -> <64x64xf16>
  %blocks = tile.resident @p
  tile.launch @p blocks(%blocks) (%map, %p, %i) : !tile.map<64x64xf16>, !llvm.ptr, i32
  llvm.return
}
