//===- TileHostOps.td - the host's side of tile programs -----*- tablegen -*-===//
//
// What launches programs, and the kernels that passes build of a few words.
//
//===----------------------------------------------------------------------===//

#ifndef GOSSAMER_TILE_HOST_OPS
#define GOSSAMER_TILE_HOST_OPS

//===----------------------------------------------------------------------===//
// The host's side
//===----------------------------------------------------------------------===//

def Tile_DescribeOp : Tile_Op<"describe", [AttrSizedOperandSegments]> {
  let summary = "what a program must know of a tensor, made by the host";
  let description = [{
    Sizes of batch, head, row and column; strides of the first three, in elements.
    Address and strides are multiples of 16 bytes. A tensor of which several heads
    or batches are the same has the stride 0 there.

    Example: `%map = tile.describe %p sizes(%b, %h, %s, %d) strides(%x, %y, %z) :
    !tile.map<128x128xbf16>`
  }];
  let arguments = (ins AnyType:$address, Variadic<I64>:$sizes,
                       Variadic<I64>:$strides);
  let results = (outs Tile_Map:$result);
  let assemblyFormat = [{
    $address `sizes` `(` $sizes `)` `strides` `(` $strides `)` attr-dict
    `:` type($address) `->` type($result)
  }];
  let hasVerifier = 1;
}

def Tile_JoinOp : Tile_Op<"join"> {
  let summary = "the map of two tensors, one behind the other";
  let description = [{
    The first has the rows before `row`, those that it does not have itself being
    0, and the second those from there on. No box of the map has rows of both.

    ```mlir
    %map = tile.join %first, %second at(%row)
        : !tile.map<128x128xbf16>, !tile.map<128x128xbf16>
       -> !tile.map<128x128xbf16, joined>
    ```
  }];
  let arguments = (ins Tile_Map:$first, Tile_Map:$second, I64:$row);
  let results = (outs Tile_Map:$result);
  let assemblyFormat = [{
    $first `,` $second `at` `(` $row `)` attr-dict
    `:` type($first) `,` type($second) `->` type($result)
  }];
  let hasVerifier = 1;
}

def Tile_ResidentOp : Tile_Op<"resident", [Pure]> {
  let summary = "how many thread blocks of a program a device runs at once";
  let description = [{ Example: `%n = tile.resident @attention` }];
  let arguments = (ins FlatSymbolRefAttr:$program);
  let results = (outs I64:$result);
  let assemblyFormat = "$program attr-dict";
}

def Tile_LaunchOp : Tile_Op<"launch"> {
  let summary = "runs a program on so many thread blocks";
  let description = [{
    Arguments are those of the program; a buffer is given as its address. Nothing
    runs if there are no blocks.

    Example: `tile.launch @attention blocks(%n) (%q, %count) : !tile.map<..>,
    !llvm.ptr`
  }];
  let arguments = (ins FlatSymbolRefAttr:$program, I64:$blocks,
                       Variadic<AnyType>:$arguments);
  let assemblyFormat = [{
    $program `blocks` `(` $blocks `)` `(` $arguments `)` attr-dict
    `:` type($arguments)
  }];
}

//===----------------------------------------------------------------------===//
// Kernels that passes build
//===----------------------------------------------------------------------===//

def Tile_AttentionOp : Tile_Op<"attention", [Symbol]> {
  let summary = "block-sparse attention, to be built as a program and an entry";
  let description = [{
    softmax(scale q k^T) v over the key blocks that a list allows each block of
    queries, with its log-sum-exp; a row with nothing allowed gives 0 and -inf.
    `gossamer-build-attention` makes a `tile.program` of it and the function
    `gs_entry` that launches it; docs/tile.md has the order of its words.

    * `head`: columns of q, k and v, filled up to 64, 128, 192 or 256;
    * `block_q`, `block_k`: the blocks of the list; with more than 128 columns
      `block_k` is at most 64;
    * `listed`: whether there is a list; else every key is allowed, or with
      `causal` those that are not behind the query (as many queries as keys), and
      with `window` of these as many of the last as the call says;
    * `partial`: the list has blocks that are allowed in part, with their bits;
    * `packed`: the list has blocks of packed keys, which are in tensors of their
      own, before those of the others;
    * `tail`: the number of keys is no multiple of `block_k`; with `partial` the
      program looks for itself;
     * `split`: the keys of a tile are shared by as many thread blocks as the call
       says, the last of which merges their results;
     * `chip`: the GPU that it is for, sm_90a if nothing is said. Others go through
       the keys in steps of 64, have key blocks of up to 64 and heads of up to 128
       columns, and do not split;
     * `score`: what becomes of scale q k^T before it is masked, a region of what a
       `tile.elementwise` may hold. Its arguments are the score, the numbers of
       batch, head, query and key, which may be behind the last ones, and then what
       it reads: tables (`memref<?xf32>`, `memref<?xi32>`) and numbers, which are
       words of the entry. Keys are not packed then, as they are at other places.

    ```mlir
    tile.attention @main element(bf16) head(128) blocks(128, 64) listed score {
    ^bb0(%s: f32, %b: i32, %h: i32, %q: i32, %k: i32, %table: memref<?xf32>):
      %bias = tile.look_up %table[%h] : memref<?xf32>
      %x = arith.addf %s, %bias : f32
      tile.yield %x : f32
    }
    ```
  }];
  let arguments = (ins SymbolNameAttr:$sym_name, TypeAttr:$element, I32Attr:$head,
                       I32Attr:$block_q, I32Attr:$block_k, UnitAttr:$listed,
                       UnitAttr:$partial, UnitAttr:$packed, UnitAttr:$causal,
                       UnitAttr:$window, UnitAttr:$tail, UnitAttr:$split,
                       DefaultValuedStrAttr<StrAttr, "sm_90a">:$chip);
  let regions = (region MaxSizedRegion<1>:$score);
  let assemblyFormat = [{
    $sym_name `element` `(` $element `)` `head` `(` $head `)`
    `blocks` `(` $block_q `,` $block_k `)` (`listed` $listed^)?
    (`partial` $partial^)? (`packed` $packed^)? (`causal` $causal^)?
    (`window` $window^)? (`tail` $tail^)? (`split` $split^)?
    (`chip` `(` $chip^ `)`)? (`score` $score^)? attr-dict
  }];
  let extraClassDeclaration = [{
    Target getTarget() { return *Target::of(getChip()); }
  }];
  let hasVerifier = 1;
}

def Tile_AttentionBackwardOp : Tile_Op<"attention_backward", [Symbol]> {
  let summary = "the gradients of block-sparse attention, to be built";
  let description = [{
    From q, k, v, the output, its gradient and the log-sum-exp: the gradients of
    q, k and v, under the lists of the keys that each block of queries sees, and
    of the queries that see each block of keys.
    `gossamer-build-attention` makes two programs of it, which add nothing to
    memory that others add to, so that results are the same every time, and the
    function `gs_entry` that launches them; docs/tile.md has the order of its
    words. Attributes and region are those of `tile.attention`; blocks have 64 or 128
    rows and columns, for chips other than sm_90a 64. The region gives a second number
    where the derivative of what becomes of the score is not 1.

    Example: `tile.attention_backward @main element(bf16) head(128) blocks(128, 64)`
  }];
  let arguments = (ins SymbolNameAttr:$sym_name, TypeAttr:$element, I32Attr:$head,
                       I32Attr:$block_q, I32Attr:$block_k, UnitAttr:$tail,
                       UnitAttr:$partial, UnitAttr:$packed,
                       DefaultValuedStrAttr<StrAttr, "sm_90a">:$chip);
  let regions = (region MaxSizedRegion<1>:$score);
  let assemblyFormat = [{
    $sym_name `element` `(` $element `)` `head` `(` $head `)`
    `blocks` `(` $block_q `,` $block_k `)` (`tail` $tail^)?
    (`partial` $partial^)? (`packed` $packed^)? (`chip` `(` $chip^ `)`)?
    (`score` $score^)? attr-dict
  }];
  let extraClassDeclaration = [{
    Target getTarget() { return *Target::of(getChip()); }
  }];
  let hasVerifier = 1;
}

#endif // GOSSAMER_TILE_HOST_OPS
