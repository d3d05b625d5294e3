//===- TileOps.td - operations on tiles ---------------------*- tablegen -*-===//

#ifndef GOSSAMER_TILE_OPS
#define GOSSAMER_TILE_OPS

include "dialect/tile/TileTypes.td"
include "mlir/IR/OpBase.td"
include "mlir/IR/SymbolInterfaces.td"
include "mlir/Interfaces/ControlFlowInterfaces.td"
include "mlir/Interfaces/InferTypeOpInterface.td"
include "mlir/Interfaces/SideEffectInterfaces.td"

class Tile_Op<string mnemonic, list<Trait> traits = []>
    : Op<Tile_Dialect, mnemonic, traits>;

//===----------------------------------------------------------------------===//
// Programs
//===----------------------------------------------------------------------===//

def Tile_ProgramOp : Tile_Op<"program", [IsolatedFromAbove, Symbol, SingleBlock,
                                         NoTerminator]> {
  let summary = "what one thread block does";
  let description = [{
    First what is shared by all roles (`tile.alloc`, numbers), then the roles.
    Arguments are maps, numbers (`i32`, `f32`) and buffers in global memory
    (`memref<?xT>`). `blocks_per_processor` of such programs are to fit one
    multiprocessor at once. `chip` is the GPU that it is made for, as LLVM names
    it: sm_80 and newer.

    ```mlir
    tile.program @copy(%from: !tile.map<64x64xbf16>, %to: !tile.map<64x64xbf16>) {
      %ring = tile.alloc : !tile.ring<2x64x64xbf16>
      tile.role producer registers(40) { ... }
      tile.role consumer warpgroups(1) registers(216) {
      ^bb0(%warpgroup: i32):
        ...
      }
    }
    ```
  }];
  let arguments = (ins SymbolNameAttr:$sym_name,
                       DefaultValuedAttr<I32Attr, "1">:$blocks_per_processor,
                       DefaultValuedStrAttr<StrAttr, "sm_90a">:$chip);
  let regions = (region SizedRegion<1>:$body);
  let hasCustomAssemblyFormat = 1;
  let hasVerifier = 1;
  let skipDefaultBuilders = 1;
  let builders = [OpBuilder<(ins "::llvm::StringRef":$name,
                                 "::mlir::TypeRange":$arguments,
                                 CArg<"int32_t", "1">:$blocksPerProcessor,
                                 CArg<"::llvm::StringRef", "\"sm_90a\"">:$chip)>];
  let extraClassDeclaration = [{
    Target getTarget() { return *Target::of(getChip()); }
    int64_t getNumWarpgroups();
    /// Threads of all roles, on the GPU that it is made for.
    int64_t getNumThreads();
    /// Warpgroups of the consumers.
    int64_t getNumConsumers();
  }];
}

def Tile_RoleOp : Tile_Op<"role", [HasParent<"ProgramOp">, SingleBlock,
                                   NoTerminator]> {
  let summary = "what some warpgroups of a program do";
  let description = [{
    A *producer* is one thread of a warpgroup, which issues loads (for chips other
    than sm_90a one warp); *consumers* compute, and every one of them takes and
    releases every tile of every ring. `registers` is what a thread of the role may
    use, where registers move between roles (sm_90a). The argument is the number
    of the warpgroup in its role.

    ```mlir
    tile.role consumer warpgroups(2) registers(232) {
    ^bb0(%warpgroup: i32):
      ...
    }
    ```
  }];
  let arguments = (ins Tile_RoleKind:$kind, I32Attr:$warpgroups,
                       I32Attr:$registers);
  let regions = (region SizedRegion<1>:$body);
  let assemblyFormat = [{
    $kind `warpgroups` `(` $warpgroups `)` `registers` `(` $registers `)`
    attr-dict-with-keyword $body
  }];
  let hasVerifier = 1;
  let skipDefaultBuilders = 1;
  let builders = [OpBuilder<(ins "RoleKind":$kind, "int32_t":$warpgroups,
                                 "int32_t":$registers)>];
}

def Tile_AllocOp : Tile_Op<"alloc", [HasParent<"ProgramOp">,
                                     MemoryEffects<[MemAlloc]>]> {
  let summary = "shared memory of a program";
  let description = [{
    ```mlir
    %ring = tile.alloc : !tile.ring<2x128x128xbf16>
    %scratch = tile.alloc : !tile.shared<128x128xbf16>
    %headers = tile.alloc : !tile.queue<2x3xi32>
    ```
  }];
  let results = (outs AnyTypeOf<[Tile_Ring, Tile_Shared, Tile_Queue,
                                 Tile_Series]>:$result);
  let assemblyFormat = "attr-dict `:` type($result)";
}

def Tile_BlockOp : Tile_Op<"block", [Pure]> {
  let summary = "the number of this thread block among all that were launched";
  let description = [{ Example: `%n = tile.block` }];
  let results = (outs I32:$result);
  let assemblyFormat = "attr-dict";
}

def Tile_BlocksOp : Tile_Op<"blocks", [Pure]> {
  let summary = "how many thread blocks were launched";
  let description = [{ Example: `%n = tile.blocks` }];
  let results = (outs I32:$result);
  let assemblyFormat = "attr-dict";
}

//===----------------------------------------------------------------------===//
// Global memory
//===----------------------------------------------------------------------===//

def Tile_ReadOp : Tile_Op<"read", [TypesMatchWith<
    "the result is an element", "memory", "result",
    "::llvm::cast<::mlir::MemRefType>($_self).getElementType()">]> {
  let summary = "a number from global memory, read where the operation stands";
  let description = [{
    Not moved by a compiler: a number that is needed later is read early on
    purpose.

    Example: `%n = tile.read %count[%row] : memref<?xi32>`
  }];
  let arguments = (ins MemRefRankOf<[I32], [1]>:$memory, I32:$index);
  let results = (outs I32:$result);
  let assemblyFormat = "$memory `[` $index `]` attr-dict `:` type($memory)";
}

def Tile_LookUpOp : Tile_Op<"look_up", [Pure, TypesMatchWith<
    "the result is an element", "table", "result",
    "::llvm::cast<::mlir::MemRefType>($_self).getElementType()">]> {
  let summary = "a number from global memory that no program writes";
  let description = [{
    Read wherever a compiler likes. The index must be inside the table.

    Example: `%x = tile.look_up %table[%n] : memref<?xf32>`
  }];
  let arguments = (ins MemRefRankOf<[I32, F32], [1]>:$table, I32:$index);
  let results = (outs AnyTypeOf<[I32, F32]>:$result);
  let assemblyFormat = "$table `[` $index `]` attr-dict `:` type($table)";
}

def Tile_NextOp : Tile_Op<"next"> {
  let summary = "the next number of a counter that all thread blocks share";
  let description = [{
    Numbers from 0 on. When `wrap` of them were given the counter is back at 0:
    a program whose blocks take that many together leaves it as it was.

    Example: `%n = tile.next %counter wrap(%total) : memref<?xi32>`
  }];
  let arguments = (ins MemRefRankOf<[I32], [1]>:$counter, I32:$wrap);
  let results = (outs I32:$result);
  let assemblyFormat =
      "$counter `wrap` `(` $wrap `)` attr-dict `:` type($counter)";
}

def Tile_ArriveOp : Tile_Op<"arrive"> {
  let summary = "whether this warpgroup is the last that arrives at a counter";
  let description = [{
    Of `count` warpgroups, of any thread blocks, each of which arrives once; the last
    one leaves the counter at 0, where it was. Behind it the last one may read what
    all of them have stored before. For consumers.

    Example: `%last = tile.arrive %counters[%n] of(%count) : memref<?xi32>`
  }];
  let arguments = (ins MemRefRankOf<[I32], [1]>:$counters, I32:$index,
                       I32:$count);
  let results = (outs I1:$last);
  let assemblyFormat = [{
    $counters `[` $index `]` `of` `(` $count `)` attr-dict `:` type($counters)
  }];
  let hasVerifier = 1;
}

def Tile_LoadRowsOp : Tile_Op<"load_rows"> {
  let summary = "the numbers of rows from global memory";
  let description = [{
    Of row r `memory[base + r]` for r < `limit`, and `otherwise` for the others,
    for which nothing is read. As many rows in a row as `span` says, 1, 2, 4, 8 or
    16, have the same number: that of row r is `memory[base + r / span]`. Of a
    fragment, whose rows follow one another in memory, row r is the row `base + r`.
    For consumers.

    Example: `%lse = tile.load_rows %in[%base] limit(%n) otherwise(%x) :
    memref<?xf32> to !tile.rows<64xf32>`
  }];
  let arguments = (ins MemRefRankOf<[F32], [1]>:$memory, I32:$base, I32:$limit,
                       F32:$otherwise, DefaultValuedAttr<I32Attr, "1">:$span);
  let results = (outs AnyTypeOf<[Tile_Rows, Tile_Fragment]>:$result);
  let assemblyFormat = [{
    $memory `[` $base `]` `limit` `(` $limit `)` `otherwise` `(` $otherwise `)`
    (`span` `(` $span^ `)`)? attr-dict `:` type($memory) `to` type($result)
  }];
  let hasVerifier = 1;
}

def Tile_LoadBitsOp : Tile_Op<"load_bits"> {
  let summary = "bits of a fragment's elements from global memory";
  let description = [{
    Columns are in as many groups side by side as there are numbers in brackets:
    where in `memory` the group's bits begin, row by row, those of a row in the
    low bits of its words of 32, a whole number of words. Nothing is read for a
    group whose number is below 0: -1 - n sets the bits of its first n columns.

    Example: `%b = tile.load_bits %memory[%left, %right] : memref<?xi32> ->
    !tile.bits<64x128xi1>`
  }];
  let arguments = (ins MemRefRankOf<[I32], [1]>:$memory, Variadic<I32>:$groups);
  let results = (outs Tile_Bits:$result);
  let assemblyFormat = [{
    $memory `[` $groups `]` attr-dict `:` type($memory) `->` type($result)
  }];
  let hasVerifier = 1;
}

def Tile_StoreRowsOp : Tile_Op<"store_rows"> {
  let summary = "the numbers of rows to global memory";
  let description = [{
    To where `tile.load_rows` finds them, for r < `limit`; rows that share a number
    have the same one. A fragment is rounded to the memory's type. For consumers.

    Example: `tile.store_rows %lse to %out[%base] limit(%n) : !tile.rows<64xf32>,
    memref<?xf32>`
  }];
  let arguments = (ins AnyTypeOf<[Tile_Rows, Tile_Fragment]>:$value,
                       MemRefRankOf<[F32, BF16, F16], [1]>:$memory, I32:$base,
                       I32:$limit, DefaultValuedAttr<I32Attr, "1">:$span);
  let assemblyFormat = [{
    $value `to` $memory `[` $base `]` `limit` `(` $limit `)`
    (`span` `(` $span^ `)`)? attr-dict `:` type($value) `,` type($memory)
  }];
  let hasVerifier = 1;
}

//===----------------------------------------------------------------------===//
// Rings and queues
//===----------------------------------------------------------------------===//

def Tile_LoadOp : Tile_Op<"load"> {
  let summary = "a tile from global memory to a ring";
  let description = [{
    Waits until the stage of tile `number` is free and begins to fill it with
    boxes of the map, one below the other, whose first rows are `rows`. All of the
    stage's rows are filled; a box that lies behind the end of the tensor is 0.
    For a producer.

    ```mlir
    tile.load %map[%b, %h, %column] rows(%r0, %r1) into %ring[%n]
        : !tile.map<64x128xbf16> into !tile.ring<2x128x128xbf16>
    ```
  }];
  let arguments = (ins Tile_Map:$map, I32:$batch, I32:$head, I32:$column,
                       Variadic<I32>:$rows, Tile_Ring:$ring, I32:$number);
  let assemblyFormat = [{
    $map `[` $batch `,` $head `,` $column `]` `rows` `(` $rows `)`
    `into` $ring `[` $number `]` attr-dict `:` type($map) `into` type($ring)
  }];
  let hasVerifier = 1;
}

def Tile_WaitOp : Tile_Op<"wait", [InferTypeOpAdaptor]> {
  let summary = "waits for a tile of a ring";
  let description = [{
    The tile may be read until it is released. For consumers.

    Example: `%k = tile.wait %ring[%n] : !tile.ring<2x128x128xbf16>`
  }];
  let arguments = (ins Tile_Ring:$ring, I32:$number);
  let results = (outs Tile_Shared:$result);
  let assemblyFormat = "$ring `[` $number `]` attr-dict `:` type($ring)";
}

def Tile_LoadNumbersOp : Tile_Op<"load_numbers"> {
  let summary = "numbers from global memory to series";
  let description = [{
    Waits until the stage `number` of the series is free and begins to fill it from
    `base` on, where the series follow one another. `base` is a multiple of four,
    the buffer's address of 16 bytes. For a producer.

    Example: `tile.load_numbers %in[%base] into %series[%n] : memref<?xf32> into
    !tile.series<2x2x64xf32>`
  }];
  let arguments = (ins MemRefRankOf<[F32], [1]>:$memory, I32:$base,
                       Tile_Series:$series, I32:$number);
  let assemblyFormat = [{
    $memory `[` $base `]` `into` $series `[` $number `]` attr-dict
    `:` type($memory) `into` type($series)
  }];
  let hasVerifier = 1;
}

def Tile_ColumnsOp : Tile_Op<"columns", [InferTypeOpAdaptor]> {
  let summary = "waits for series, whose numbers are of columns";
  let description = [{
    One result for each of the series. They are read where they are used, before
    the stage is released. For consumers.

    Example: `%c:2 = tile.columns %series[%n] : !tile.series<2x2x64xf32>`
  }];
  let arguments = (ins Tile_Series:$series, I32:$number);
  let results = (outs Variadic<Tile_Columns>:$results);
  let assemblyFormat = "$series `[` $number `]` attr-dict `:` type($series)";
}

def Tile_ReleaseOp : Tile_Op<"release"> {
  let summary = "gives a stage of a ring or of series back to the producer";
  let description = [{
    Nothing of this warp reads tile `number` any more; products that do have been
    awaited. For consumers.

    Example: `tile.release %ring[%n] : !tile.ring<2x128x128xbf16>`
  }];
  let arguments = (ins AnyTypeOf<[Tile_Ring, Tile_Series]>:$ring, I32:$number);
  let assemblyFormat = "$ring `[` $number `]` attr-dict `:` type($ring)";
}

def Tile_SendOp : Tile_Op<"send"> {
  let summary = "a message to all consumers";
  let description = [{
    Waits until the slot of message `number` is free. For a producer.

    Example: `tile.send %queue[%n], %a, %b : !tile.queue<2x2xi32>`
  }];
  let arguments = (ins Tile_Queue:$queue, I32:$number, Variadic<I32>:$words);
  let assemblyFormat =
      "$queue `[` $number `]` `,` $words attr-dict `:` type($queue)";
  let hasVerifier = 1;
}

def Tile_ReceiveOp : Tile_Op<"receive", [InferTypeOpAdaptor]> {
  let summary = "waits for a message, and gives its slot back";
  let description = [{
    For consumers, each of which receives every message.

    Example: `%m:2 = tile.receive %queue[%n] : !tile.queue<2x2xi32>`
  }];
  let arguments = (ins Tile_Queue:$queue, I32:$number);
  let results = (outs Variadic<I32>:$words);
  let assemblyFormat = "$queue `[` $number `]` attr-dict `:` type($queue)";
}

def Tile_SubtileOp : Tile_Op<"subtile", [Pure]> {
  let summary = "some rows of a tile in shared memory";
  let description = [{
    From row `row` on, a multiple of 8.

    Example: `%q = tile.subtile %tile[%row] : !tile.shared<128x64xbf16> to
    !tile.shared<64x64xbf16, panel = 128>`
  }];
  let arguments = (ins Tile_Shared:$source, I32:$row);
  let results = (outs Tile_Shared:$result);
  let assemblyFormat =
      "$source `[` $row `]` attr-dict `:` type($source) `to` type($result)";
  let hasVerifier = 1;
}

def Tile_StoreOp : Tile_Op<"store"> {
  let summary = "a fragment to global memory";
  let description = [{
    Rounded to the map's element type, by way of a tile in shared memory that no
    other warpgroup uses, as many columns at once as that has. Does not wait for the end, but waits for the former
    store by the same way to have left it. For consumers.

    ```mlir
    tile.store %o to %map[%b, %h, %row, %column] by %scratch
        : !tile.fragment<64x128xf32>, !tile.map<64x128xbf16>,
          !tile.shared<64x128xbf16>
    ```
  }];
  let arguments = (ins Tile_Fragment:$value, Tile_Map:$map, I32:$batch,
                       I32:$head, I32:$row, I32:$column, Tile_Shared:$scratch);
  let assemblyFormat = [{
    $value `to` $map `[` $batch `,` $head `,` $row `,` $column `]` `by` $scratch
    attr-dict `:` type($value) `,` type($map) `,` type($scratch)
  }];
  let hasVerifier = 1;
}

//===----------------------------------------------------------------------===//
// Turns
//===----------------------------------------------------------------------===//

def Tile_TakeTurnOp : Tile_Op<"take_turn"> {
  let summary = "waits for this warpgroup's turn";
  let description = [{
    Two warpgroups of a role take turns, the first one first: while one multiplies,
    the other does what is between its products. Both must take and pass as many
    turns.

    Example: `tile.take_turn`
  }];
  let assemblyFormat = "attr-dict";
  let hasVerifier = 1;
}

def Tile_PassTurnOp : Tile_Op<"pass_turn"> {
  let summary = "lets the other warpgroup have its turn";
  let description = [{ Example: `tile.pass_turn` }];
  let assemblyFormat = "attr-dict";
  let hasVerifier = 1;
}

//===----------------------------------------------------------------------===//
// Products
//===----------------------------------------------------------------------===//

def Tile_MmaOp : Tile_Op<"mma"> {
  let summary = "begins a product of tiles";
  let description = [{
    lhs (M x K) times rhs (K x N), or times the transpose of rhs (N x K) with
    `transposed`, plus `accumulator`. lhs is in registers or in shared memory, rhs
    in shared memory.

    The result must be awaited once, in the same block. Until then lhs and rhs must
    stay as they are: a tile is released behind the await, and where lhs is in
    registers no `tile.to_operand` stands between the two (the next operand would
    be given the same registers, and the hardware be made to wait for them).

    ```mlir
    %s = tile.mma %q, %k transposed
        : (!tile.operand<64x128xbf16>, !tile.shared<128x128xbf16>)
        -> !tile.pending<64x128xf32>
    ```
  }];
  let arguments = (ins AnyTypeOf<[Tile_Operand, Tile_Shared]>:$lhs,
                       Tile_Shared:$rhs, Optional<Tile_Fragment>:$accumulator,
                       UnitAttr:$transposed);
  let results = (outs Tile_Pending:$result);
  let assemblyFormat = [{
    $lhs `,` $rhs (`plus` $accumulator^)? (`transposed` $transposed^)? attr-dict
    `:` functional-type(operands, results)
  }];
  let hasVerifier = 1;
  let extraClassDeclaration = [{
    /// The operation that waits for the result; null if there is none.
    AwaitOp getAwait();
  }];
}

def Tile_AwaitOp : Tile_Op<"await", [InferTypeOpAdaptor]> {
  let summary = "waits for a product";
  let description = [{
    Products end in the order in which they begin; those that were begun later may
    still be running.

    Example: `%s = tile.await %p : !tile.pending<64x128xf32>`
  }];
  let arguments = (ins Tile_Pending:$pending);
  let results = (outs Tile_Fragment:$result);
  let assemblyFormat = "$pending attr-dict `:` type($pending)";
}

//===----------------------------------------------------------------------===//
// Fragments
//===----------------------------------------------------------------------===//

def Tile_SplatOp : Tile_Op<"splat", [Pure]> {
  let summary = "a number everywhere";
  let description = [{
    Example: `%zero = tile.splat %c0 : !tile.fragment<64x128xf32>`
  }];
  let arguments = (ins F32:$value);
  let results = (outs AnyTypeOf<[Tile_Fragment, Tile_Rows]>:$result);
  let assemblyFormat = "$value attr-dict `:` type($result)";
}

def Tile_ElementwiseOp : Tile_Op<"elementwise", [Pure, SingleBlock]> {
  let summary = "a function of each element";
  let description = [{
    Operands are fragments of the result's shape, bits of that shape (`i1` each), or
    rows or columns, whose number stands for the whole row or column. The region has
    an argument for each, and then the element's row and column in the fragment
    (`i32`); it holds operations of `arith` and `math` on numbers and `tile.look_up`,
    and may use numbers from outside.

    The result has rows only if all operands have; it is partial if one is.

    ```mlir
    %p = tile.elementwise %s, %m : !tile.fragment<64x128xf32>, !tile.rows<64xf32>
        -> !tile.fragment<64x128xf32> {
    ^bb0(%x: f32, %y: f32, %row: i32, %column: i32):
      %d = arith.subf %x, %y : f32
      %e = math.exp2 %d : f32
      tile.yield %e : f32
    }
    ```
  }];
  let arguments = (ins Variadic<AnyTypeOf<[Tile_Fragment, Tile_Rows,
                                           Tile_Columns,
                                           Tile_Bits]>>:$inputs);
  let results = (outs AnyTypeOf<[Tile_Fragment, Tile_Rows]>:$result);
  let regions = (region SizedRegion<1>:$body);
  let assemblyFormat = [{
    $inputs attr-dict `:` type($inputs) `->` type($result) $body
  }];
  let hasVerifier = 1;
}

def Tile_YieldOp : Tile_Op<"yield", [
    Pure, Terminator, ReturnLike,
    ParentOneOf<["ElementwiseOp", "AttentionOp", "AttentionBackwardOp"]>]> {
  let summary = "what a region of scalar operations gives";
  let description = [{ Example: `tile.yield %x : f32` }];
  let arguments = (ins Variadic<F32>:$values);
  let assemblyFormat = "$values attr-dict `:` type($values)";
}

def Tile_ReduceOp : Tile_Op<"reduce", [Pure]> {
  let summary = "maximum or sum of each row, as far as a thread has it";
  let description = [{
    Begins with `init` where it is given, whole rows for a maximum, partial ones
    for a sum. `tile.combine` makes the result whole; a sum over many fragments is
    combined once, at the end.

    Example: `%m = tile.reduce max %s init(%old : !tile.rows<64xf32>)
    : !tile.fragment<64x128xf32> -> !tile.rows<64xf32, partial>`
  }];
  let arguments = (ins Tile_Combining:$kind, Tile_Fragment:$source,
                       Optional<Tile_Rows>:$init);
  let results = (outs Tile_Rows:$result);
  let assemblyFormat = [{
    $kind $source (`init` `(` $init^ `:` type($init) `)`)? attr-dict
    `:` type($source) `->` type($result)
  }];
  let hasVerifier = 1;
}

def Tile_CombineOp : Tile_Op<"combine", [Pure]> {
  let summary = "whole rows of what threads have";
  let description = [{
    Example: `%m = tile.combine max %part : !tile.rows<64xf32, partial> ->
    !tile.rows<64xf32>`
  }];
  let arguments = (ins Tile_Combining:$kind, Tile_Rows:$source);
  let results = (outs Tile_Rows:$result);
  let assemblyFormat = [{
    $kind $source attr-dict `:` type($source) `->` type($result)
  }];
  let hasVerifier = 1;
}

def Tile_ToOperandOp : Tile_Op<"to_operand", [Pure]> {
  let summary = "a fragment, rounded, as a left side of products";
  let description = [{
    Example: `%p = tile.to_operand %f : !tile.fragment<64x128xf32> to
    !tile.operand<64x128xbf16>`
  }];
  let arguments = (ins Tile_Fragment:$source);
  let results = (outs Tile_Operand:$result);
  let assemblyFormat =
      "$source attr-dict `:` type($source) `to` type($result)";
  let hasVerifier = 1;
}

def Tile_ToFragmentOp : Tile_Op<"to_fragment", [Pure]> {
  let summary = "a left side of products as a fragment";
  let description = [{
    Example: `%f = tile.to_fragment %p : !tile.operand<64x128xbf16> to
    !tile.fragment<64x128xf32>`
  }];
  let arguments = (ins Tile_Operand:$source);
  let results = (outs Tile_Fragment:$result);
  let assemblyFormat =
      "$source attr-dict `:` type($source) `to` type($result)";
  let hasVerifier = 1;
}

def Tile_LoadOperandOp : Tile_Op<"load_operand"> {
  let summary = "a tile in shared memory as a left side of products";
  let description = [{
    Example: `%q = tile.load_operand %tile : !tile.shared<64x128xbf16> to
    !tile.operand<64x128xbf16>`
  }];
  let arguments = (ins Tile_Shared:$source);
  let results = (outs Tile_Operand:$result);
  let assemblyFormat =
      "$source attr-dict `:` type($source) `to` type($result)";
  let hasVerifier = 1;
}

// Of the same class as these.
include "dialect/tile/TileHostOps.td"

#endif // GOSSAMER_TILE_OPS
