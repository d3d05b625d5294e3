// RUN: gossamer-opt %s | gossamer-opt | FileCheck %s
// RUN: gossamer-opt %s --mlir-print-op-generic | gossamer-opt | FileCheck %s

// CHECK-LABEL: tile.program @all(%{{.*}}: !tile.map<128x128xbf16>, %{{.*}}: !tile.map<64x128xbf16>, %{{.*}}: memref<?xf32>, %{{.*}}: memref<?xi32>, %{{.*}}: f32) {
tile.program @all(%in: !tile.map<128x128xbf16>, %out: !tile.map<64x128xbf16>,
                  %sums: memref<?xf32>, %list: memref<?xi32>, %x: f32) {
  // CHECK: %[[RING:.*]] = tile.alloc : !tile.ring<2x128x128xbf16>
  %ring = tile.alloc : !tile.ring<2x128x128xbf16>
  // CHECK: %[[SCRATCH:.*]] = tile.alloc : !tile.shared<128x128xbf16>
  %scratch = tile.alloc : !tile.shared<128x128xbf16>
  // CHECK: %[[QUEUE:.*]] = tile.alloc : !tile.queue<2x2xi32>
  %queue = tile.alloc : !tile.queue<2x2xi32>
  %c0 = arith.constant 0 : i32
  %c64 = arith.constant 64 : i32
  // CHECK: tile.role producer warpgroups(1) registers(40)
  tile.role producer warpgroups(1) registers(40) {
  ^bb0(%warpgroup: i32):
    // CHECK: %[[BLOCK:.*]] = tile.block
    %block = tile.block
    // CHECK: %[[BLOCKS:.*]] = tile.blocks
    %blocks = tile.blocks
    // CHECK: %[[READ:.*]] = tile.read %{{.*}}[%[[BLOCK]]] : memref<?xi32>
    %row = tile.read %list[%block] : memref<?xi32>
    // CHECK: tile.next %{{.*}} wrap(%[[BLOCKS]]) : memref<?xi32>
    %next = tile.next %list wrap(%blocks) : memref<?xi32>
    // CHECK: tile.send %[[QUEUE]][%{{.*}}], %[[READ]], %[[BLOCK]] : <2x2xi32>
    tile.send %queue[%c0], %row, %block : <2x2xi32>
    // CHECK: tile.load %{{.*}}[%{{.*}}, %{{.*}}, %{{.*}}] rows(%[[READ]]) into %[[RING]][%{{.*}}] : <128x128xbf16> into <2x128x128xbf16>
    tile.load %in[%c0, %c0, %c0] rows(%row) into %ring[%c0] : <128x128xbf16> into <2x128x128xbf16>
  }
  // CHECK: tile.role consumer warpgroups(2) registers(232)
  tile.role consumer warpgroups(2) registers(232) {
  ^bb0(%warpgroup: i32):
    // CHECK: %[[WORDS:.*]]:2 = tile.receive %[[QUEUE]][%{{.*}}] : <2x2xi32>
    %words:2 = tile.receive %queue[%c0] : <2x2xi32>
    // CHECK: %[[TILE:.*]] = tile.wait %[[RING]][%{{.*}}] : <2x128x128xbf16>
    %tile = tile.wait %ring[%c0] : <2x128x128xbf16>
    // CHECK: %[[PART:.*]] = tile.subtile %[[TILE]][%{{.*}}] : <128x128xbf16> to <64x128xbf16, panel = 128>
    %part = tile.subtile %tile[%c64] : <128x128xbf16> to <64x128xbf16, panel = 128>
    // CHECK: %[[LEFT:.*]] = tile.load_operand %[[PART]] : <64x128xbf16, panel = 128> to <64x128xbf16>
    %left = tile.load_operand %part : <64x128xbf16, panel = 128> to <64x128xbf16>
    // CHECK: tile.take_turn
    tile.take_turn
    // CHECK: %[[P0:.*]] = tile.mma %[[LEFT]], %[[TILE]] transposed : (!tile.operand<64x128xbf16>, !tile.shared<128x128xbf16>) -> !tile.pending<64x128xf32>
    %p0 = tile.mma %left, %tile transposed
        : (!tile.operand<64x128xbf16>, !tile.shared<128x128xbf16>) -> !tile.pending<64x128xf32>
    // CHECK: tile.pass_turn
    tile.pass_turn
    // CHECK: %[[S:.*]] = tile.await %[[P0]] : <64x128xf32>
    %s = tile.await %p0 : <64x128xf32>
    // CHECK: %[[MAX:.*]] = tile.reduce max %[[S]] : <64x128xf32> -> <64xf32, partial>
    %part_max = tile.reduce max %s : <64x128xf32> -> <64xf32, partial>
    // CHECK: %[[WHOLE:.*]] = tile.combine max %[[MAX]] : <64xf32, partial> -> <64xf32>
    %max = tile.combine max %part_max : <64xf32, partial> -> <64xf32>
    // CHECK: tile.reduce max %[[S]] init(%[[WHOLE]] : !tile.rows<64xf32>) : <64x128xf32> -> <64xf32, partial>
    %more = tile.reduce max %s init(%max : !tile.rows<64xf32>) : <64x128xf32> -> <64xf32, partial>
    // CHECK: %[[E:.*]] = tile.elementwise %[[S]], %[[WHOLE]] : !tile.fragment<64x128xf32>, !tile.rows<64xf32> -> !tile.fragment<64x128xf32> {
    // CHECK-NEXT: ^bb0(%{{.*}}: f32, %{{.*}}: f32, %{{.*}}: i32, %{{.*}}: i32):
    %e = tile.elementwise %s, %max : !tile.fragment<64x128xf32>, !tile.rows<64xf32> -> !tile.fragment<64x128xf32> {
    ^bb0(%a: f32, %b: f32, %row: i32, %column: i32):
      %d = arith.subf %a, %b : f32
      %y = math.exp2 %d : f32
      // CHECK: tile.yield %{{.*}} : f32
      tile.yield %y : f32
    }
    // CHECK: %[[BITS:.*]] = tile.load_bits %{{.*}}[%{{.*}}, %{{.*}}] : memref<?xi32> -> <64x128xi1>
    %bits = tile.load_bits %list[%c0, %c64] : memref<?xi32> -> <64x128xi1>
    // CHECK: tile.elementwise %[[E]], %[[BITS]] : !tile.fragment<64x128xf32>, !tile.bits<64x128xi1> -> !tile.fragment<64x128xf32> {
    // CHECK-NEXT: ^bb0(%{{.*}}: f32, %{{.*}}: i1, %{{.*}}: i32, %{{.*}}: i32):
    %masked = tile.elementwise %e, %bits : !tile.fragment<64x128xf32>, !tile.bits<64x128xi1> -> !tile.fragment<64x128xf32> {
    ^bb0(%a: f32, %bit: i1, %row: i32, %column: i32):
      %y = arith.select %bit, %a, %x : f32
      tile.yield %y : f32
    }
    // CHECK: %[[ZERO:.*]] = tile.splat %{{.*}} : !tile.fragment<64x128xf32>
    %zero = tile.splat %x : !tile.fragment<64x128xf32>
    // CHECK: %[[A:.*]] = tile.to_operand %[[E]] : <64x128xf32> to <64x128xbf16>
    %a = tile.to_operand %e : <64x128xf32> to <64x128xbf16>
    // CHECK: tile.mma %[[A]], %[[TILE]] plus %[[ZERO]] : (!tile.operand<64x128xbf16>, !tile.shared<128x128xbf16>, !tile.fragment<64x128xf32>) -> !tile.pending<64x128xf32>
    %p1 = tile.mma %a, %tile plus %zero
        : (!tile.operand<64x128xbf16>, !tile.shared<128x128xbf16>, !tile.fragment<64x128xf32>) -> !tile.pending<64x128xf32>
    %o = tile.await %p1 : <64x128xf32>
    // CHECK: tile.release %[[RING]][%{{.*}}] : !tile.ring<2x128x128xbf16>
    tile.release %ring[%c0] : !tile.ring<2x128x128xbf16>
    %by = tile.subtile %scratch[%c64] : <128x128xbf16> to <64x128xbf16, panel = 128>
    // CHECK: tile.store %{{.*}} to %{{.*}}[%{{.*}}] by %{{.*}} : <64x128xf32>, <64x128xbf16>, <64x128xbf16, panel = 128>
    tile.store %o to %out[%c0, %c0, %c0, %c0] by %by : <64x128xf32>, <64x128xbf16>, <64x128xbf16, panel = 128>
    // CHECK: tile.store_rows %[[WHOLE]] to %{{.*}}[%{{.*}}] limit(%{{.*}}) : !tile.rows<64xf32>, memref<?xf32>
    tile.store_rows %max to %sums[%c0] limit(%c64) : !tile.rows<64xf32>, memref<?xf32>
  }
}

// CHECK-LABEL: tile.program @two(%{{.*}}: i32) attributes {blocks_per_processor = 2 : i32} {
tile.program @two(%n: i32) attributes {blocks_per_processor = 2 : i32} {
  tile.role consumer warpgroups(1) registers(128) {
  ^bb0(%warpgroup: i32):
  }
}

// CHECK-LABEL: tile.program @numbers(
tile.program @numbers(%sums: memref<?xf32>, %x: f32) {
  // CHECK: %[[SERIES:.*]] = tile.alloc : !tile.series<3x2x64xf32>
  %series = tile.alloc : !tile.series<3x2x64xf32>
  // CHECK: %[[TILE:.*]] = tile.alloc : !tile.shared<64x64xf16>
  %tile = tile.alloc : !tile.shared<64x64xf16>
  %c0 = arith.constant 0 : i32
  tile.role producer warpgroups(1) registers(40) {
  ^bb0(%warpgroup: i32):
    // CHECK: tile.load_numbers %{{.*}}[%{{.*}}] into %[[SERIES]][%{{.*}}] : memref<?xf32> into <3x2x64xf32>
    tile.load_numbers %sums[%c0] into %series[%c0] : memref<?xf32> into <3x2x64xf32>
  }
  tile.role consumer warpgroups(1) registers(128) {
  ^bb0(%warpgroup: i32):
    // CHECK: %[[ROWS:.*]] = tile.load_rows %{{.*}}[%{{.*}}] limit(%{{.*}}) otherwise(%{{.*}}) : memref<?xf32> to !tile.rows<64xf32>
    %rows = tile.load_rows %sums[%c0] limit(%c0) otherwise(%x) : memref<?xf32> to !tile.rows<64xf32>
    // CHECK: %[[LEFT:.*]] = tile.load_operand %[[TILE]]
    %left = tile.load_operand %tile : <64x64xf16> to <64x64xf16>
    // CHECK: %[[F:.*]] = tile.to_fragment %[[LEFT]] : <64x64xf16> to <64x64xf32>
    %f = tile.to_fragment %left : <64x64xf16> to <64x64xf32>
    // CHECK: %[[C:.*]]:2 = tile.columns %[[SERIES]][%{{.*}}] : <3x2x64xf32>
    %c:2 = tile.columns %series[%c0] : <3x2x64xf32>
    // CHECK: tile.elementwise %[[F]], %[[ROWS]], %[[C]]#1 : !tile.fragment<64x64xf32>, !tile.rows<64xf32>, !tile.columns<64xf32> -> !tile.fragment<64x64xf32>
    %e = tile.elementwise %f, %rows, %c#1 : !tile.fragment<64x64xf32>, !tile.rows<64xf32>, !tile.columns<64xf32> -> !tile.fragment<64x64xf32> {
    ^bb0(%a: f32, %b: f32, %d: f32, %row: i32, %column: i32):
      %y = arith.subf %a, %d : f32
      tile.yield %y : f32
    }
    // CHECK: tile.release %[[SERIES]][%{{.*}}] : !tile.series<3x2x64xf32>
    tile.release %series[%c0] : !tile.series<3x2x64xf32>
  }
}

// CHECK-LABEL: tile.program @rows(
tile.program @rows(%in: memref<?xf32>, %out: memref<?xbf16>, %counters: memref<?xi32>, %n: i32, %x: f32) {
  tile.role consumer warpgroups(1) registers(128) {
  ^bb0(%warpgroup: i32):
    // CHECK: tile.arrive %{{.*}}[%{{.*}}] of(%{{.*}}) : memref<?xi32>
    %last = tile.arrive %counters[%n] of(%n) : memref<?xi32>
    // CHECK: tile.load_rows %{{.*}}[%{{.*}}] limit(%{{.*}}) otherwise(%{{.*}}) span(8) : memref<?xf32> to !tile.rows<64xf32>
    %r = tile.load_rows %in[%n] limit(%n) otherwise(%x) span(8) : memref<?xf32> to !tile.rows<64xf32>
    // CHECK: %[[F:.*]] = tile.load_rows {{.*}} otherwise(%{{.*}}) : memref<?xf32> to !tile.fragment<64x16xf32>
    %f = tile.load_rows %in[%n] limit(%n) otherwise(%x) : memref<?xf32> to !tile.fragment<64x16xf32>
    // CHECK: tile.store_rows %{{.*}} span(8) : !tile.rows<64xf32>, memref<?xf32>
    tile.store_rows %r to %in[%n] limit(%n) span(8) : !tile.rows<64xf32>, memref<?xf32>
    // CHECK: tile.store_rows %[[F]] {{.*}} : !tile.fragment<64x16xf32>, memref<?xbf16>
    tile.store_rows %f to %out[%n] limit(%n) : !tile.fragment<64x16xf32>, memref<?xbf16>
  }
}

// CHECK-LABEL: llvm.func @host
llvm.func @host(%p: !llvm.ptr, %n: i64, %i: i32) {
  // CHECK: tile.describe %{{.*}} sizes(%{{.*}}, %{{.*}}, %{{.*}}, %{{.*}}) strides(%{{.*}}, %{{.*}}, %{{.*}}) : !llvm.ptr -> <64x64xf16>
  %map = tile.describe %p sizes(%n, %n, %n, %n) strides(%n, %n, %n) : !llvm.ptr -> <64x64xf16>
  // CHECK: tile.join %{{.*}}, %{{.*}} at(%{{.*}}) : <64x64xf16>, <64x64xf16> -> <64x64xf16, joined>
  %joined = tile.join %map, %map at(%n) : !tile.map<64x64xf16>, !tile.map<64x64xf16> -> !tile.map<64x64xf16, joined>
  // CHECK: %[[N:.*]] = tile.resident @two
  %blocks = tile.resident @two
  // CHECK: tile.launch @two blocks(%[[N]]) (%{{.*}}) : i32
  tile.launch @two blocks(%blocks) (%i) : i32
  llvm.return
}

// CHECK: tile.attention @a element(bf16) head(128) blocks(128, 64) listed tail
tile.attention @a element(bf16) head(128) blocks(128, 64) listed tail
// CHECK: tile.attention @b element(f16) head(64) blocks(128, 128) causal window
tile.attention @b element(f16) head(64) blocks(128, 128) causal window
// CHECK: tile.attention_backward @e element(bf16) head(128) blocks(128, 64) tail
tile.attention_backward @e element(bf16) head(128) blocks(128, 64) tail
// CHECK: tile.attention @c element(bf16) head(128) blocks(128, 32) listed partial
tile.attention @c element(bf16) head(128) blocks(128, 32) listed partial
// CHECK: tile.attention @f element(bf16) head(128) blocks(128, 32) listed partial packed
tile.attention @f element(bf16) head(128) blocks(128, 32) listed partial packed
// CHECK: tile.attention_backward @g element(f16) head(64) blocks(64, 64) tail partial packed
tile.attention_backward @g element(f16) head(64) blocks(64, 64) tail partial packed
// CHECK: tile.attention @s element(bf16) head(128) blocks(64, 128) listed split
tile.attention @s element(bf16) head(128) blocks(64, 128) listed split
// CHECK: tile.attention_backward @d element(f16) head(64) blocks(64, 64) partial
tile.attention_backward @d element(f16) head(64) blocks(64, 64) partial
// CHECK: tile.attention @chip element(bf16) head(128) blocks(128, 64) causal chip("sm_80")
tile.attention @chip element(bf16) head(128) blocks(128, 64) causal chip("sm_80")
// CHECK: tile.attention_backward @chips element(f16) head(64) blocks(64, 64) chip("sm_120a")
tile.attention_backward @chips element(f16) head(64) blocks(64, 64) chip("sm_120a")

// CHECK-LABEL: tile.attention @scored element(bf16) head(64) blocks(128, 128) causal score {
// CHECK-NEXT: ^bb0(%[[S:.*]]: f32, %{{.*}}: i32, %[[H:.*]]: i32, %{{.*}}: i32, %{{.*}}: i32, %[[T:.*]]: memref<?xf32>, %[[A:.*]]: f32):
tile.attention @scored element(bf16) head(64) blocks(128, 128) causal score {
^bb0(%s: f32, %b: i32, %h: i32, %q: i32, %k: i32, %table: memref<?xf32>, %a: f32):
  // CHECK-NEXT: %[[X:.*]] = tile.look_up %[[T]][%[[H]]] : memref<?xf32>
  %x = tile.look_up %table[%h] : memref<?xf32>
  %y = arith.mulf %x, %a : f32
  // CHECK: %[[Z:.*]] = arith.addf %[[S]]
  %z = arith.addf %s, %y : f32
  // CHECK-NEXT: tile.yield %[[Z]] : f32
  tile.yield %z : f32
}

// CHECK-LABEL: tile.attention_backward @derived element(f16) head(128) blocks(128, 64) tail score {
tile.attention_backward @derived element(f16) head(128) blocks(128, 64) tail score {
^bb0(%s: f32, %b: i32, %h: i32, %q: i32, %k: i32):
  %y = math.tanh %s : f32
  // CHECK: tile.yield %{{.*}}, %{{.*}} : f32, f32
  tile.yield %y, %s : f32, f32
}
