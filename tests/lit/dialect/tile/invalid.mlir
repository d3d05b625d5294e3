// RUN: gossamer-opt %s --split-input-file --verify-diagnostics

// expected-error@+1 {{has 64, 128, 192 or 256 columns, not 100}}
tile.program @columns(%a: !tile.map<64x100xbf16>) {}

// -----

// expected-error@+1 {{holds bf16 or f16, not 'f32'}}
tile.program @element(%a: !tile.map<64x64xf32>) {}

// -----

// expected-error@+1 {{has 64 rows}}
func.func private @f() -> !tile.fragment<32x64xf32>

// -----

// expected-error@+1 {{holds f32, not 'f16'}}
func.func private @f() -> !tile.pending<64x64xf16>

// -----

// expected-error@+1 {{has 64 rows of a panel of 32}}
func.func private @f() -> !tile.shared<64x64xbf16, panel = 32>

// -----

// expected-error@+1 {{is 64xf32}}
func.func private @f() -> !tile.rows<32xf32>

// -----

// expected-error@+1 {{has slots x numbers, 1 to 8 of these}}
func.func private @f() -> !tile.queue<2x9xi32>

// -----

// expected-error@+1 {{holds i1, not 'f32'}}
func.func private @f() -> !tile.bits<64x128xf32>

// -----

// expected-error@+1 {{has 64 rows}}
func.func private @f() -> !tile.bits<128x128xi1>

// -----

// expected-error@+1 {{has 32, 64, ... or 256 columns, not 48}}
func.func private @f() -> !tile.bits<64x48xi1>

// -----

// expected-error@+1 {{argument 0 is 'i64'; a program takes maps, i32, f32 and memref<?xT>}}
tile.program @argument(%a: i64) {}

// -----

// expected-error@+1 {{has no role}}
tile.program @roles() {
  %c0 = arith.constant 0 : i32
}

// -----

// expected-error@+1 {{gives its warpgroups 512 registers, where 3 are launched with 504}}
tile.program @registers() {
  tile.role producer warpgroups(1) registers(48) {
  ^bb0(%w: i32):
  }
  tile.role consumer warpgroups(2) registers(232) {
  ^bb0(%w: i32):
  }
}

// -----

tile.program @producers() {
  // expected-error@+1 {{is one thread of one warpgroup, not of 2}}
  tile.role producer warpgroups(2) registers(40) {
  ^bb0(%w: i32):
  }
}

// -----

tile.program @odd() {
  // expected-error@+1 {{has 24, 32, ... or 256 registers, not 100}}
  tile.role consumer warpgroups(1) registers(100) {
  ^bb0(%w: i32):
  }
}

// -----

tile.program @half_loaded(%m: !tile.map<32x64xbf16>) {
  %ring = tile.alloc : !tile.ring<2x128x64xbf16>
  %c0 = arith.constant 0 : i32
  tile.role producer warpgroups(1) registers(40) {
  ^bb0(%w: i32):
    // expected-error@+1 {{fills 64 of 128 rows}}
    tile.load %m[%c0, %c0, %c0] rows(%c0, %c0) into %ring[%c0] : <32x64xbf16> into <2x128x64xbf16>
  }
}

// -----

tile.program @loading_consumer(%m: !tile.map<64x64xbf16>) {
  %ring = tile.alloc : !tile.ring<2x64x64xbf16>
  %c0 = arith.constant 0 : i32
  tile.role consumer warpgroups(1) registers(128) {
  ^bb0(%w: i32):
    // expected-error@+1 {{is for a producer}}
    tile.load %m[%c0, %c0, %c0] rows(%c0) into %ring[%c0] : <64x64xbf16> into <2x64x64xbf16>
  }
}

// -----

tile.program @one_turn() {
  tile.role consumer warpgroups(1) registers(128) {
  ^bb0(%w: i32):
    // expected-error@+1 {{is for two warpgroups, not 1}}
    tile.take_turn
  }
}

// -----

tile.program @depth() {
  %ring = tile.alloc : !tile.ring<2x64x128xbf16>
  %c0 = arith.constant 0 : i32
  tile.role consumer warpgroups(1) registers(128) {
  ^bb0(%w: i32):
    %t = tile.wait %ring[%c0] : <2x64x128xbf16>
    // expected-error@+1 {{sums over 128 columns on the left and 64 on the right}}
    %p = tile.mma %t, %t : (!tile.shared<64x128xbf16>, !tile.shared<64x128xbf16>) -> !tile.pending<64x128xf32>
    %f = tile.await %p : <64x128xf32>
  }
}

// -----

tile.program @never_awaited() {
  %ring = tile.alloc : !tile.ring<2x64x64xbf16>
  %c0 = arith.constant 0 : i32
  tile.role consumer warpgroups(1) registers(128) {
  ^bb0(%w: i32):
    %t = tile.wait %ring[%c0] : <2x64x64xbf16>
    // expected-error@+1 {{must be awaited, once, in its own block}}
    %p = tile.mma %t, %t : (!tile.shared<64x64xbf16>, !tile.shared<64x64xbf16>) -> !tile.pending<64x64xf32>
  }
}

// -----

tile.program @released_early() {
  %ring = tile.alloc : !tile.ring<2x64x64xbf16>
  %c0 = arith.constant 0 : i32
  tile.role consumer warpgroups(1) registers(128) {
  ^bb0(%w: i32):
    %t = tile.wait %ring[%c0] : <2x64x64xbf16>
    // expected-note@+1 {{this one}}
    %p = tile.mma %t, %t : (!tile.shared<64x64xbf16>, !tile.shared<64x64xbf16>) -> !tile.pending<64x64xf32>
    // expected-error@+1 {{of a tile that a product is still reading}}
    tile.release %ring[%c0] : !tile.ring<2x64x64xbf16>
    %f = tile.await %p : <64x64xf32>
  }
}

// -----

tile.program @rewritten_operand(%x: f32) {
  %ring = tile.alloc : !tile.ring<2x64x64xbf16>
  %c0 = arith.constant 0 : i32
  tile.role consumer warpgroups(1) registers(128) {
  ^bb0(%w: i32):
    %s = tile.splat %x : !tile.fragment<64x64xf32>
    %a = tile.to_operand %s : <64x64xf32> to <64x64xbf16>
    %t = tile.wait %ring[%c0] : <2x64x64xbf16>
    // expected-note@+1 {{this one}}
    %p = tile.mma %a, %t : (!tile.operand<64x64xbf16>, !tile.shared<64x64xbf16>) -> !tile.pending<64x64xf32>
    // expected-error@+1 {{while a product reads its left side from registers: behind tile.await}}
    %b = tile.to_operand %s : <64x64xf32> to <64x64xbf16>
    %f = tile.await %p : <64x64xf32>
  }
}

// -----

tile.program @spread_partial(%x: f32) {
  tile.role consumer warpgroups(1) registers(128) {
  ^bb0(%w: i32):
    %s = tile.splat %x : !tile.fragment<64x64xf32>
    %m = tile.reduce max %s : <64x64xf32> -> <64xf32, partial>
    // expected-error@+1 {{spreads partial rows over a fragment; tile.combine makes them whole}}
    %e = tile.elementwise %m : !tile.rows<64xf32, partial> -> !tile.fragment<64x64xf32> {
    ^bb0(%a: f32, %row: i32, %column: i32):
      tile.yield %a : f32
    }
  }
}

// -----

tile.program @arguments(%x: f32) {
  tile.role consumer warpgroups(1) registers(128) {
  ^bb0(%w: i32):
    %s = tile.splat %x : !tile.fragment<64x64xf32>
    // expected-error@+1 {{has 1 arguments, not one for each of 1 operands, a row and a column}}
    %e = tile.elementwise %s : !tile.fragment<64x64xf32> -> !tile.fragment<64x64xf32> {
    ^bb0(%a: f32):
      tile.yield %a : f32
    }
  }
}

// -----

tile.program @groups(%bits: memref<?xi32>) {
  %c0 = arith.constant 0 : i32
  tile.role consumer warpgroups(1) registers(128) {
  ^bb0(%w: i32):
    // expected-error@+1 {{reads groups of 16, 32, 64 or 128 columns, not 64 columns in 8 groups}}
    %b = tile.load_bits %bits[%c0, %c0, %c0, %c0, %c0, %c0, %c0, %c0] : memref<?xi32> -> <64x64xi1>
  }
}

// -----

tile.program @bit_argument(%x: f32, %bits: memref<?xi32>) {
  %c0 = arith.constant 0 : i32
  tile.role consumer warpgroups(1) registers(128) {
  ^bb0(%w: i32):
    %s = tile.splat %x : !tile.fragment<64x64xf32>
    %b = tile.load_bits %bits[%c0] : memref<?xi32> -> <64x64xi1>
    // expected-error@+1 {{argument 1 is 'f32', not i1}}
    %e = tile.elementwise %s, %b : !tile.fragment<64x64xf32>, !tile.bits<64x64xi1> -> !tile.fragment<64x64xf32> {
    ^bb0(%a: f32, %c: f32, %row: i32, %column: i32):
      tile.yield %a : f32
    }
  }
}

// -----

tile.program @other_bits(%x: f32, %bits: memref<?xi32>) {
  %c0 = arith.constant 0 : i32
  tile.role consumer warpgroups(1) registers(128) {
  ^bb0(%w: i32):
    %s = tile.splat %x : !tile.fragment<64x64xf32>
    %b = tile.load_bits %bits[%c0] : memref<?xi32> -> <64x128xi1>
    // expected-error@+1 {{makes '!tile.fragment<64x64xf32>' of '!tile.bits<64x128xi1>'}}
    %e = tile.elementwise %s, %b : !tile.fragment<64x64xf32>, !tile.bits<64x128xi1> -> !tile.fragment<64x64xf32> {
    ^bb0(%a: f32, %c: i1, %row: i32, %column: i32):
      tile.yield %a : f32
    }
  }
}

// -----

tile.program @whole_sum(%x: f32) {
  tile.role consumer warpgroups(1) registers(128) {
  ^bb0(%w: i32):
    %s = tile.splat %x : !tile.fragment<64x64xf32>
    %r = tile.splat %x : !tile.rows<64xf32>
    // expected-error@+1 {{of kind sum begins with partial rows}}
    %m = tile.reduce sum %s init(%r : !tile.rows<64xf32>) : <64x64xf32> -> <64xf32, partial>
  }
}

// -----

tile.program @partial_stored(%x: f32, %to: memref<?xf32>) {
  %c0 = arith.constant 0 : i32
  tile.role consumer warpgroups(1) registers(128) {
  ^bb0(%w: i32):
    %r = tile.splat %x : !tile.rows<64xf32, partial>
    // expected-error@+1 {{moves whole rows; these are partial}}
    tile.store_rows %r to %to[%c0] limit(%c0) : !tile.rows<64xf32, partial>, memref<?xf32>
  }
}

// -----

// expected-error@+1 {{has heads of 64, 128, 192 or 256 columns, not 96}}
tile.attention @head element(bf16) head(96) blocks(128, 128)

// -----

// expected-error@+1 {{of heads of 192 columns has key blocks of up to 64, and is causal by its list}}
tile.attention @wide element(bf16) head(192) blocks(128, 128)

// -----

// expected-error@+1 {{of heads of 256 columns has key blocks of up to 64, and is causal by its list}}
tile.attention @wide_causal element(bf16) head(256) blocks(64, 64) causal

// -----

// expected-error@+1 {{multiplies bf16 or f16, not 'f32'}}
tile.attention @single element(f32) head(64) blocks(128, 128)

// -----

// expected-error@+1 {{is causal without a list, in square blocks}}
tile.attention @causal element(bf16) head(64) blocks(128, 128) listed causal

// -----

// expected-error@+1 {{has key blocks of 16, 32, 64 or 128, not 256}}
tile.attention @wide element(bf16) head(64) blocks(128, 256)

// -----

// expected-error@+1 {{has a window only if it is causal}}
tile.attention @window element(bf16) head(64) blocks(128, 128) window

// -----

// expected-error@+1 {{has stages x series x numbers}}
func.func private @f() -> !tile.series<2x64xf32>

// -----

// expected-error@+1 {{has 16, 32, ... or 256 numbers, not 60}}
func.func private @f() -> !tile.series<2x2x60xf32>

// -----

// expected-error@+1 {{is of 16, 32, ... or 256 columns, not 8}}
func.func private @f() -> !tile.columns<8xf32>

// -----

tile.program @p(%m: memref<?xf32>) {
  %series = tile.alloc : !tile.series<2x2x64xf32>
  %c0 = arith.constant 0 : i32
  tile.role consumer warpgroups(1) registers(128) {
  ^bb0(%w: i32):
    // expected-error@+1 {{is for a producer}}
    tile.load_numbers %m[%c0] into %series[%c0] : memref<?xf32> into <2x2x64xf32>
  }
}

// -----

tile.program @p(%m: memref<?xf32>, %x: f32) {
  %c0 = arith.constant 0 : i32
  tile.role producer warpgroups(1) registers(40) {
  ^bb0(%w: i32):
    // expected-error@+1 {{is for consumers}}
    %r = tile.load_rows %m[%c0] limit(%c0) otherwise(%x) : memref<?xf32> to !tile.rows<64xf32>
  }
}

// -----

tile.program @p(%m: memref<?xf32>, %x: f32) {
  %c0 = arith.constant 0 : i32
  tile.role consumer warpgroups(1) registers(128) {
  ^bb0(%w: i32):
    // expected-error@+1 {{moves whole rows; these are partial}}
    %r = tile.load_rows %m[%c0] limit(%c0) otherwise(%x) : memref<?xf32> to !tile.rows<64xf32, partial>
  }
}

// -----

tile.program @p(%x: f32) {
  %series = tile.alloc : !tile.series<2x1x32xf32>
  %c0 = arith.constant 0 : i32
  tile.role consumer warpgroups(1) registers(128) {
  ^bb0(%w: i32):
    %f = tile.splat %x : !tile.fragment<64x64xf32>
    %c = tile.columns %series[%c0] : <2x1x32xf32>
    // expected-error@+1 {{spreads '!tile.columns<32xf32>' over '!tile.fragment<64x64xf32>'}}
    %e = tile.elementwise %f, %c : !tile.fragment<64x64xf32>, !tile.columns<32xf32> -> !tile.fragment<64x64xf32> {
    ^bb0(%a: f32, %b: f32, %row: i32, %column: i32):
      tile.yield %a : f32
    }
  }
}

// -----

tile.program @p() {
  %tile = tile.alloc : !tile.shared<64x64xf16>
  tile.role consumer warpgroups(1) registers(128) {
  ^bb0(%w: i32):
    %left = tile.load_operand %tile : <64x64xf16> to <64x64xf16>
    // expected-error@+1 {{makes '!tile.fragment<64x128xf32>' of '!tile.operand<64x64xf16>'}}
    %f = tile.to_fragment %left : <64x64xf16> to <64x128xf32>
  }
}

// -----

// expected-error@+1 {{has key blocks of 64 or 128, not 32}}
tile.attention_backward @a element(bf16) head(128) blocks(128, 32)

// -----

// expected-error@+1 {{has heads of 64 or 128 columns, not 96}}
tile.attention_backward @a element(bf16) head(96) blocks(128, 128)

// -----

// expected-error@+1 {{has blocks that are allowed in part only with a list}}
tile.attention @partial element(bf16) head(64) blocks(128, 128) partial

// -----

// expected-error@+1 {{knows the end of its keys by itself where blocks are allowed in part}}
tile.attention @partial element(bf16) head(64) blocks(128, 128) listed partial tail

// -----

// expected-error@+1 {{has heads of 64 columns if blocks of 128 x 16 are allowed in part}}
tile.attention @partial element(bf16) head(128) blocks(128, 16) listed partial

// -----

// expected-error@+1 {{packs no keys if blocks of 128 x 16 are allowed in part}}
tile.attention @packed element(bf16) head(64) blocks(128, 16) listed partial packed

// -----

// expected-error@+1 {{has packed keys only with a list}}
tile.attention @packed element(bf16) head(64) blocks(128, 128) packed

// -----

llvm.func @joined(%p: !llvm.ptr, %n: i64) {
  // expected-error@+1 {{describes one tensor; tile.join joins two}}
  %map = tile.describe %p sizes(%n, %n, %n, %n) strides(%n, %n, %n) : !llvm.ptr -> <64x64xf16, joined>
  llvm.return
}

// -----

llvm.func @other_boxes(%p: !llvm.ptr, %n: i64) {
  %a = tile.describe %p sizes(%n, %n, %n, %n) strides(%n, %n, %n) : !llvm.ptr -> <64x64xf16>
  %b = tile.describe %p sizes(%n, %n, %n, %n) strides(%n, %n, %n) : !llvm.ptr -> <32x64xf16>
  // expected-error@+1 {{makes a joined map of two that are not joined, of the same box, not '!tile.map<64x64xf16, joined>' of '!tile.map<64x64xf16>' and '!tile.map<32x64xf16>'}}
  %map = tile.join %a, %b at(%n) : !tile.map<64x64xf16>, !tile.map<32x64xf16> -> !tile.map<64x64xf16, joined>
  llvm.return
}

// -----

llvm.func @not_joined(%p: !llvm.ptr, %n: i64) {
  %a = tile.describe %p sizes(%n, %n, %n, %n) strides(%n, %n, %n) : !llvm.ptr -> <64x64xf16>
  // expected-error@+1 {{makes a joined map of two that are not joined}}
  %map = tile.join %a, %a at(%n) : !tile.map<64x64xf16>, !tile.map<64x64xf16> -> !tile.map<64x64xf16>
  llvm.return
}
// -----

// expected-error@+1 {{shares the keys of lists and all keys, not causal or packed ones, nor those of heads of more than 128 columns}}
tile.attention @split element(bf16) head(64) blocks(128, 128) causal split

// -----

tile.program @p(%m: memref<?xi32>, %n: i32) {
  tile.role producer warpgroups(1) registers(40) {
  ^bb0(%w: i32):
    // expected-error@+1 {{is for consumers}}
    %last = tile.arrive %m[%n] of(%n) : memref<?xi32>
  }
}

// -----

tile.program @p(%m: memref<?xf32>, %n: i32, %x: f32) {
  tile.role consumer warpgroups(1) registers(128) {
  ^bb0(%w: i32):
    // expected-error@+1 {{has a span of 1, 2, 4, 8 or 16 rows, not 3}}
    %r = tile.load_rows %m[%n] limit(%n) otherwise(%x) span(3) : memref<?xf32> to !tile.rows<64xf32>
  }
}

// -----

tile.program @p(%m: memref<?xf32>, %n: i32, %x: f32) {
  tile.role consumer warpgroups(1) registers(128) {
  ^bb0(%w: i32):
    %f = tile.splat %x : !tile.fragment<64x16xf32>
    // expected-error@+1 {{has a span of rows, not of '!tile.fragment<64x16xf32>'}}
    tile.store_rows %f to %m[%n] limit(%n) span(2) : !tile.fragment<64x16xf32>, memref<?xf32>
  }
}

// -----

tile.program @p(%m: memref<?xbf16>, %n: i32, %x: f32) {
  tile.role consumer warpgroups(1) registers(128) {
  ^bb0(%w: i32):
    %r = tile.splat %x : !tile.rows<64xf32>
    // expected-error@+1 {{stores rows as f32, not as 'bf16'}}
    tile.store_rows %r to %m[%n] limit(%n) : !tile.rows<64xf32>, memref<?xbf16>
  }
}

// -----

// expected-error@+1 {{of heads of 256 columns packs no keys if blocks of 64 x 16 are allowed in part}}
tile.attention @packed element(bf16) head(256) blocks(64, 16) listed partial packed

// -----

// expected-error@+1 {{is made for sm_80 and newer GPUs, not for "sm_75"}}
tile.attention @older element(bf16) head(128) blocks(128, 64) chip("sm_75")

// -----

// expected-error@+1 {{is made for sm_80 and newer GPUs, not for "znver4"}}
tile.program @other() attributes {chip = "znver4"} {
  tile.role consumer warpgroups(1) registers(128) {
  ^bb0(%w: i32):
  }
}

// -----

// expected-error@+1 {{has key blocks of 16, 32 or 64 on sm_80, not 128}}
tile.attention @step element(bf16) head(128) blocks(128, 128) listed chip("sm_80")

// -----

// expected-error@+1 {{is causal without a list, in key blocks of 64}}
tile.attention @causal element(bf16) head(128) blocks(128, 32) causal chip("sm_80")

// -----

// expected-error@+1 {{has heads of 64 or 128 columns on sm_89, not 192}}
tile.attention @wide element(bf16) head(192) blocks(128, 64) chip("sm_89")

// -----

// expected-error@+1 {{has thread blocks that share the keys of a tile on sm_90a, not on sm_80}}
tile.attention @split element(bf16) head(64) blocks(128, 64) split chip("sm_80")

// -----

tile.program @registers() attributes {chip = "sm_80"} {
  // expected-error@+1 {{has 232 registers, where threads have 168 each}}
  tile.role consumer warpgroups(2) registers(232) {
  ^bb0(%w: i32):
  }
  tile.role producer warpgroups(1) registers(40) {
  ^bb0(%w: i32):
  }
}

// -----

// expected-error@+1 {{has blocks of 64 x 64 on sm_80, not of 128 x 64}}
tile.attention_backward @rows element(bf16) head(128) blocks(128, 64) chip("sm_80")

// -----

// expected-error@+1 {{has a score region whose argument 3 is 'f32'; the first is f32, four are i32, others f32, i32, memref<?xf32> or memref<?xi32>}}
tile.attention @score element(bf16) head(64) blocks(128, 128) score {
^bb0(%s: f32, %b: i32, %h: i32, %q: f32, %k: i32):
  tile.yield %s : f32
}

// -----

// expected-error@+1 {{has a score region of 4 arguments, which has the score, batch, head, query and key at least}}
tile.attention @score element(bf16) head(64) blocks(128, 128) score {
^bb0(%s: f32, %b: i32, %h: i32, %q: i32):
  tile.yield %s : f32
}

// -----

// expected-error@+1 {{ends in a tile.yield of a number}}
tile.attention @score element(bf16) head(64) blocks(128, 128) score {
^bb0(%s: f32, %b: i32, %h: i32, %q: i32, %k: i32):
  tile.yield %s, %s : f32, f32
}

// -----

// expected-error@+1 {{ends in a tile.yield of one or two numbers}}
tile.attention_backward @score element(bf16) head(64) blocks(128, 128) score {
^bb0(%s: f32, %b: i32, %h: i32, %q: i32, %k: i32):
  tile.yield %s, %s, %s : f32, f32, f32
}

// -----

tile.attention @score element(bf16) head(64) blocks(128, 128) score {
^bb0(%s: f32, %b: i32, %h: i32, %q: i32, %k: i32):
  // expected-error@+1 {{in a tile.attention, which holds operations of arith and math and tile.look_up}}
  %n = tile.block
  tile.yield %s : f32
}

// -----

// expected-error@+1 {{of heads of 128 columns whose scores go through a function shares keys in blocks of 64 x 64 only}}
tile.attention @score element(bf16) head(128) blocks(128, 128) split score {
^bb0(%s: f32, %b: i32, %h: i32, %q: i32, %k: i32):
  tile.yield %s : f32
}

// -----

// expected-error@+1 {{packs no keys if scores go through a function, which is told the place of a key}}
tile.attention @score element(bf16) head(64) blocks(128, 128) listed packed score {
^bb0(%s: f32, %b: i32, %h: i32, %q: i32, %k: i32):
  tile.yield %s : f32
}
