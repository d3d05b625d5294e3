//===- GossamerOps.td - operations of the gossamer dialect --*- tablegen -*-===//

#ifndef GOSSAMER_OPS
#define GOSSAMER_OPS

include "gossamer/GossamerDialect.td"
include "gossamer/GossamerEnums.td"
include "mlir/Dialect/Arith/IR/ArithBase.td"
include "mlir/Dialect/SparseTensor/IR/SparseTensorTypes.td"
include "mlir/Interfaces/ControlFlowInterfaces.td"
include "mlir/Interfaces/InferTypeOpInterface.td"
include "mlir/Interfaces/SideEffectInterfaces.td"
include "mlir/IR/BuiltinAttributes.td"
include "mlir/IR/OpBase.td"

class Gossamer_Op<string mnemonic, list<Trait> traits = []>
    : Op<Gossamer_Dialect, mnemonic, traits>;

// Operations with one affine map an operand, from an iteration space to the
// operand's dimensions, and a scalar body, as linalg.generic has them.
class Gossamer_StructuredOp<string mnemonic, list<Trait> traits = []>
    : Gossamer_Op<mnemonic, !listconcat([
        Pure, SingleBlockImplicitTerminator<"::gossamer::YieldOp">], traits)> {
  let hasVerifier = 1;
  code structuredDeclaration = [{
    ::llvm::SmallVector<::mlir::AffineMap> getMaps() {
      return ::llvm::to_vector(
          getIndexingMaps().getAsValueRange<::mlir::AffineMapAttr>());
    }
    ::mlir::Block &getBlock() { return getBody().front(); }
  }];
}

def Gossamer_YieldOp : Gossamer_Op<"yield",
    [Pure, Terminator, ReturnLike,
     ParentOneOf<["AttentionOp", "MapOp", "MatmulOp", "ReduceOp",
                       "SDDMMOp"]>]> {
  let summary = "the value of a scalar body";
  let arguments = (ins Variadic<AnyType>:$values);
  let assemblyFormat = "$values attr-dict `:` type($values)";
  let builders = [OpBuilder<(ins), [{ }]>];
}

def Gossamer_IndexOp : Gossamer_Op<"index",
    [Pure, ParentOneOf<["AttentionOp", "MapOp", "MatmulOp", "ReduceOp",
                       "SDDMMOp"]>]> {
  let summary = "the iteration index of a dimension, inside a scalar body";
  let description = [{
    As `linalg.index`. A body may ask for the dimensions of the value that it
    makes: those of the result of `matmul`, of the scores of `attention`, of the
    pattern of `sddmm`, `map` and `reduce`.
  }];
  let arguments = (ins ConfinedAttr<I64Attr, [IntMinValue<0>]>:$dim);
  let results = (outs Index:$result);
  let assemblyFormat = "$dim attr-dict";
  let hasVerifier = 1;
}

def Gossamer_ConvertOp : Gossamer_Op<"convert", [Pure]> {
  let summary = "the same tensor, stored in another way";
  let description = [{
    Source and result stand for the same dense tensor, of which `fill` is the
    value of every entry that is not stored. Either may be dense (no encoding).
    Converting a dense tensor to a sparse format drops entries equal to `fill`
    and no others; that needs a new pattern, which only the runtime makes, so the
    lowering takes sparse -> dense, and sparse -> sparse of an argument.

    ```mlir
    %d = gossamer.convert %s {fill = 0.0 : f32}
       : tensor<?x?xf32, #CSR> to tensor<?x?xf32>
    ```
  }];
  let arguments = (ins AnyRankedTensor:$source, TypedAttrInterface:$fill);
  let results = (outs AnyRankedTensor:$result);
  let assemblyFormat =
      "$source attr-dict `:` type($source) `to` type($result)";
  let hasVerifier = 1;
  let hasFolder = 1;
  let hasCanonicalizer = 1;
}

def Gossamer_SampleOp : Gossamer_Op<"sample", [Pure]> {
  let summary = "the entries of a dense tensor at the stored positions of a pattern";
  let description = [{
    The result has the storage of `pattern` and the values of `source` there. The
    frontend returns results that stay sparse through it; raising folds it into
    whatever makes `source`, so that nothing else of `source` is computed.

    ```mlir
    %r = gossamer.sample %d, %s
       : tensor<?x?xf32>, tensor<?x?xi1, #CSR> -> tensor<?x?xf32, #CSR>
    ```
  }];
  let arguments = (ins AnyRankedTensor:$source, AnySparseTensor:$pattern);
  let results = (outs AnySparseTensor:$result);
  let assemblyFormat = [{
    $source `,` $pattern attr-dict
    `:` type($source) `,` type($pattern) `->` type($result)
  }];
  let hasVerifier = 1;
}

def Gossamer_StorageIndexOp : Gossamer_Op<"storage_index", [Pure]> {
  let summary = "where the values of a pattern lie in another storage of it";
  let description = [{
    The pattern of `source` in the storage of the result, whose values are places
    among the values of `source`: one for every entry, or, where both storages
    end in the same dense levels, in any order (blocks), one for every block,
    counted in blocks. `gossamer.gather` takes values there.

    The source is an argument of the function: the runtime makes the pattern and
    the places once, and keeps them with the argument's pattern. Places are as
    wide as the positions of the result.

    ```mlir
    %i = gossamer.storage_index %s
       : tensor<?x?xi1, #CSR> to tensor<?x?xi32, #CSC>
    ```
  }];
  let arguments = (ins AnySparseTensor:$source);
  let results = (outs AnySparseTensor:$result);
  let assemblyFormat = "$source attr-dict `:` type($source) `to` type($result)";
  let hasVerifier = 1;
}

def Gossamer_GatherOp : Gossamer_Op<"gather", [Pure]> {
  let summary = "the same tensor in another storage, by an index";
  let description = [{
    The values of `source`, which has the pattern that `index` was made of, in the
    storage of `index`. A product with a transposed tensor that was computed here,
    or whose values change from call to call, reads it so: rows can run in
    parallel, and a row's sum stays in place.

    ```mlir
    %t = gossamer.gather %p, %i : tensor<?x?xf32, #CSR>, tensor<?x?xi32, #CSC>
                               -> tensor<?x?xf32, #CSC>
    ```
  }];
  let arguments = (ins AnySparseTensor:$source, AnySparseTensor:$index);
  let results = (outs AnySparseTensor:$result);
  let assemblyFormat = [{
    $source `,` $index attr-dict
    `:` type($source) `,` type($index) `->` type($result)
  }];
  let hasVerifier = 1;
  let extraClassDeclaration = [{
    /// Whether the index counts blocks.
    bool isByBlock();
  }];
}

def Gossamer_AssembleOp : Gossamer_Op<"assemble", [Pure]> {
  let summary = "a pattern with other values";
  let description = [{
    The positions and coordinates of `pattern`, and `values` (flat, in storage
    order). How a lowered operation hands on a sparse result; nothing is copied.
  }];
  let arguments = (ins AnySparseTensor:$pattern, 1DTensorOf<[AnyType]>:$values);
  let results = (outs AnySparseTensor:$result);
  let assemblyFormat = [{
    $pattern `,` $values attr-dict
    `:` type($pattern) `,` type($values) `->` type($result)
  }];
  let hasVerifier = 1;
}

def Gossamer_StoreValuesOp : Gossamer_Op<"store_values"> {
  let summary = "writes the values of a sparse result into the caller's array";
  let description = [{
    The end of a function whose results are bound to the caller's memory: `buffer`
    takes the stored values, flat, in storage order. The caller has the pattern.
  }];
  let arguments = (ins AnySparseTensor:$source,
      Arg<MemRefRankOf<[AnyType], [1]>, "", [MemWrite]>:$buffer);
  let assemblyFormat =
      "$source `,` $buffer attr-dict `:` type($source) `,` type($buffer)";
  let hasVerifier = 1;
}

def Gossamer_MatmulOp : Gossamer_StructuredOp<"matmul"> {
  let summary = "a contraction with one sparse operand, and an epilogue";
  let description = [{
    For every point of the result, the sum over the remaining dimensions of the
    iteration space of lhs * rhs, then the body on that sum. Operands of f16 and
    bf16 are summed in f32 where the body takes an f32. Maps are those of
    lhs, rhs, each epilogue operand, and the result, and are projected
    permutations (epilogue operands may also broadcast by constant 0). Exactly
    one of lhs and rhs is sparse; its fill is 0. `init` gives the result its
    shape; its contents are not read.

    The body sees the sum and the epilogue operands; `gossamer.index` gives the
    dimensions of the result.

    ```mlir
    %y = gossamer.matmul ins(%x, %w : tensor<?x?xf32>, tensor<?x?xf32, #CSR>)
        epilogue(%bias : tensor<?xf32>) outs(%e : tensor<?x?xf32>)
        maps [affine_map<(t, o, k) -> (t, k)>, affine_map<(t, o, k) -> (o, k)>,
              affine_map<(t, o, k) -> (o)>, affine_map<(t, o, k) -> (t, o)>] {
    ^bb0(%sum: f32, %b: f32):
      %0 = arith.addf %sum, %b : f32
      gossamer.yield %0 : f32
    } -> tensor<?x?xf32>
    ```

    With another `combine` than `sum`, products are of stored entries alone:
    `mean` is their sum divided by how many there are, `amax` and `amin` the
    largest and smallest. Where nothing is stored, each is 0.

    ```mlir
    %y = gossamer.matmul combine amax ins(%a, %h : tensor<?x?xf32, #CSR>,
        tensor<?x?xf32>) outs(%e : tensor<?x?xf32>) maps [...] {...}
    ```
  }];
  let arguments = (ins AnyRankedTensor:$lhs, AnyRankedTensor:$rhs,
                       Variadic<AnyRankedTensor>:$extras,
                       AnyRankedTensor:$init,
                       AffineMapArrayAttr:$indexing_maps,
                       DefaultValuedAttr<Gossamer_Combiner,
                                         "::gossamer::Combiner::Sum">:$combiner);
  let results = (outs AnyRankedTensor:$result);
  let regions = (region SizedRegion<1>:$body);
  let assemblyFormat = [{
    (`combine` $combiner^)?
    `ins` `(` $lhs `,` $rhs `:` type($lhs) `,` type($rhs) `)`
    (`epilogue` `(` $extras^ `:` type($extras) `)`)?
    `outs` `(` $init `:` type($init) `)` `maps` $indexing_maps
    attr-dict-with-keyword $body `->` type($result)
  }];
  let extraClassDeclaration = structuredDeclaration # [{
    bool isSparseLhs();
    ::mlir::Value getSparse() { return isSparseLhs() ? getLhs() : getRhs(); }
    ::mlir::Value getDense() { return isSparseLhs() ? getRhs() : getLhs(); }
    ::mlir::AffineMap getSparseMap() { return getMaps()[isSparseLhs() ? 0 : 1]; }
    ::mlir::AffineMap getDenseMap() { return getMaps()[isSparseLhs() ? 1 : 0]; }
    ::mlir::AffineMap getResultMap() { return getMaps().back(); }
    /// The type of the sums: the operands', or a wider one.
    ::mlir::Type getSumType() { return getBlock().getArgument(0).getType(); }
    /// Whether the body yields the sum as it is.
    bool hasEpilogue();
  }];
}

def Gossamer_ContractOp : Gossamer_Op<"contract", [Pure]> {
  let summary = "the sum of a product of several tensors, one or more sparse";
  let description = [{
    For every point of the result, the sum over the remaining loops of the product
    of all operands. What `gossamer.matmul` does not take: two sparse operands,
    three or more operands (MTTKRP), nothing to sum over. Maps are those of the
    operands and the result, and are projected permutations (of dense operands
    also with 0 for a broadcast). The fill of every sparse operand is 0. The
    result may be of a wider float type than the operands, in which then all is
    multiplied and summed. `init` gives the result its shape; its contents are
    not read.

    ```mlir
    %y = gossamer.contract ins(%x, %b, %c :
            tensor<?x?x?xf32, #CSF>, tensor<?x?xf32>, tensor<?x?xf32>)
        outs(%e : tensor<?x?xf32>)
        maps [affine_map<(i, j, k, l) -> (i, k, l)>,
              affine_map<(i, j, k, l) -> (k, j)>,
              affine_map<(i, j, k, l) -> (l, j)>,
              affine_map<(i, j, k, l) -> (i, j)>] -> tensor<?x?xf32>
    ```
  }];
  let arguments = (ins Variadic<AnyRankedTensor>:$inputs,
                       AnyRankedTensor:$init,
                       AffineMapArrayAttr:$indexing_maps);
  let results = (outs AnyRankedTensor:$result);
  let assemblyFormat = [{
    `ins` `(` $inputs `:` type($inputs) `)` `outs` `(` $init `:` type($init) `)`
    `maps` $indexing_maps attr-dict `->` type($result)
  }];
  let extraClassDeclaration = [{
    ::llvm::SmallVector<::mlir::AffineMap> getMaps() {
      return ::llvm::to_vector(
          getIndexingMaps().getAsValueRange<::mlir::AffineMapAttr>());
    }
    ::mlir::AffineMap getResultMap() { return getMaps().back(); }
  }];
  let hasVerifier = 1;
}

def Gossamer_SDDMMOp : Gossamer_StructuredOp<"sddmm"> {
  let summary = "a product of dense matrices, at the stored positions of a pattern";
  let description = [{
    For every stored entry of `pattern`, the body on its value, the sum of
    lhs * rhs over the dimensions that the pattern does not have, and the further
    operands, of which each is dense or has the very pattern. Maps are those of
    pattern, lhs, rhs, further operands. The result is stored as the pattern is.

    ```mlir
    %r = gossamer.sddmm ins(%s, %a, %b : tensor<?x?xf32, #CSR>,
                            tensor<?x?xf32>, tensor<?x?xf32>)
        maps [affine_map<(i, j, k) -> (i, j)>, affine_map<(i, j, k) -> (i, k)>,
              affine_map<(i, j, k) -> (j, k)>] {
    ^bb0(%v: f32, %sum: f32):
      %0 = arith.mulf %v, %sum : f32
      gossamer.yield %0 : f32
    } -> tensor<?x?xf32, #CSR>
    ```
  }];
  let arguments = (ins AnySparseTensor:$pattern, AnyRankedTensor:$lhs,
                       AnyRankedTensor:$rhs, Variadic<AnyRankedTensor>:$extras,
                       AffineMapArrayAttr:$indexing_maps);
  let results = (outs AnySparseTensor:$result);
  let regions = (region SizedRegion<1>:$body);
  let assemblyFormat = [{
    `ins` `(` $pattern `,` $lhs `,` $rhs `:`
    type($pattern) `,` type($lhs) `,` type($rhs) `)`
    (`with` `(` $extras^ `:` type($extras) `)`)?
    `maps` $indexing_maps attr-dict-with-keyword $body `->` type($result)
  }];
  let extraClassDeclaration = structuredDeclaration;
}

def Gossamer_MapOp : Gossamer_StructuredOp<"map"> {
  let summary = "an elementwise function, at the stored positions of a pattern";
  let description = [{
    For every stored entry of `pattern`, the body on its value and the operands,
    of which each is dense or has the very pattern (of an argument that shares
    it, `gossamer.pattern`, or computed on it). Maps are those of pattern and
    operands. The result is stored as the pattern is.

    ```mlir
    func.func @sum(%a: tensor<?x?xf32, #CSR>,
                   %b: tensor<?x?xf32, #CSR> {gossamer.pattern = 0})
        -> tensor<?x?xf32, #CSR> {
      %r = gossamer.map ins(%a : tensor<?x?xf32, #CSR>)
          with(%b : tensor<?x?xf32, #CSR>)
          maps [affine_map<(i, j) -> (i, j)>, affine_map<(i, j) -> (i, j)>] {
      ^bb0(%x: f32, %y: f32):
        %0 = arith.addf %x, %y : f32
        gossamer.yield %0 : f32
      } -> tensor<?x?xf32, #CSR>
      return %r : tensor<?x?xf32, #CSR>
    }
    ```
  }];
  let arguments = (ins AnySparseTensor:$pattern,
                       Variadic<AnyRankedTensor>:$extras,
                       AffineMapArrayAttr:$indexing_maps);
  let results = (outs AnySparseTensor:$result);
  let regions = (region SizedRegion<1>:$body);
  let assemblyFormat = [{
    `ins` `(` $pattern `:` type($pattern) `)`
    (`with` `(` $extras^ `:` type($extras) `)`)?
    `maps` $indexing_maps attr-dict-with-keyword $body `->` type($result)
  }];
  let extraClassDeclaration = structuredDeclaration;
}

def Gossamer_ReduceOp : Gossamer_StructuredOp<"reduce"> {
  let summary = "a reduction of a sparse tensor over some of its dimensions, or all";
  let description = [{
    For every point of the result, the entries along the loops that the result's
    map lacks, combined by `kind` (`addf`, `addi`, `mulf`, `muli`, `maximumf`,
    `minimumf`, `maxs`, `mins`, `ori`, `andi`). A stored entry is the body on its
    value and the operands, of which each is dense or has the very pattern; one
    that is not stored is `fill`, which is what the body gives there. So the
    maximum over a row of negative entries is 0 where the fill is 0 and the row
    is not full, and a fill that is neutral (0 in a sum, -inf in a maximum) costs
    nothing. In a product the fill is 0 or 1.

    Maps are those of pattern (a permutation), operands, result. `init` gives the
    result its shape; its contents are not read. NaN and infinities are as in the
    dense reduction; the order of a floating-point sum depends on sizes alone.

    ```mlir
    %r = gossamer.reduce addf ins(%s : tensor<?x?xf32, #CSR>)
        outs(%e : tensor<?xf32>) fill(0.0 : f32)
        maps [affine_map<(i, j) -> (i, j)>, affine_map<(i, j) -> (i)>] {
    ^bb0(%v: f32):
      %0 = arith.mulf %v, %v : f32
      gossamer.yield %0 : f32
    } -> tensor<?xf32>
    ```
  }];
  let arguments = (ins AnySparseTensor:$pattern,
                       Variadic<AnyRankedTensor>:$extras, AnyRankedTensor:$init,
                       AtomicRMWKindAttr:$kind, TypedAttrInterface:$fill,
                       AffineMapArrayAttr:$indexing_maps);
  let results = (outs AnyRankedTensor:$result);
  let regions = (region SizedRegion<1>:$body);
  let assemblyFormat = [{
    $kind `ins` `(` $pattern `:` type($pattern) `)`
    (`with` `(` $extras^ `:` type($extras) `)`)?
    `outs` `(` $init `:` type($init) `)` `fill` `(` $fill `)`
    `maps` $indexing_maps attr-dict-with-keyword $body `->` type($result)
  }];
  let extraClassDeclaration = structuredDeclaration # [{
    ::mlir::AffineMap getPatternMap() { return getMaps().front(); }
    ::mlir::AffineMap getResultMap() { return getMaps().back(); }
    /// What a reduction of nothing gives.
    ::mlir::TypedAttr getIdentity();
    /// Whether entries that are not stored change nothing.
    bool isFillNeutral();
  }];
}

def Gossamer_SoftmaxOp : Gossamer_Op<"softmax",
    [Pure, AllTypesMatch<["source", "result"]>]> {
  let summary = "softmax over the stored entries along a dimension";
  let description = [{
    Unstored entries of the source are -inf, and so 0 in the result, which has
    the same pattern. A row with nothing stored, or only -inf, gives 0, not NaN.

    Where the source does not store rows together, `index` may say which entries
    a row has: places of `gossamer.storage_index`, in storage that does.

    ```mlir
    %p = gossamer.softmax %s dim 1 : tensor<?x?xf32, #CSR>
    %q = gossamer.softmax %t by %i : tensor<?x?xi32, #CSR> dim 1
       : tensor<?x?xf32, #COO>
    ```
  }];
  let arguments = (ins AnySparseTensor:$source,
                       Optional<AnySparseTensor>:$index,
                       ConfinedAttr<I64Attr, [IntMinValue<0>]>:$dimension);
  let results = (outs AnySparseTensor:$result);
  let assemblyFormat = [{
    $source (`by` $index^ `:` type($index))? `dim` $dimension attr-dict
    `:` type($source)
  }];
  let hasVerifier = 1;
}

def Gossamer_AttentionOp : Gossamer_StructuredOp<"attention"> {
  let summary = "attention under a sparse mask";
  let description = [{
    Over an iteration space (batch..., i, j, d, e) with q (batch..., i, d),
    k (batch..., j, d), v (batch..., j, e), mask (batch..., i, j) and the result
    (batch..., i, e):

      s = body(sum_d q * k, mask, operands...)   at stored (i, j); else -inf
      result = sum_j softmax_j(s) * v

    In q, k and v the row may stand anywhere before the last dimension (tokens
    before heads, as a projection leaves them, needs no transpose).
    A batch dimension that an operand lacks or maps to constant 0 is broadcast
    (so grouped-query attention is two batch dimensions, of which k and v lack
    one). A row with nothing allowed gives 0. The body sees the score, the stored
    value of the mask, and further operands, with maps into (batch..., i, j);
    `gossamer.index` gives those dimensions. It must not depend on `d` or `e`.
    `init` gives the result its shape; its contents are not read.

    Maps are those of q, k, v, mask, further operands, result.
  }];
  let arguments = (ins AnyRankedTensor:$query, AnyRankedTensor:$key,
                       AnyRankedTensor:$value, AnySparseTensor:$mask,
                       Variadic<AnyRankedTensor>:$extras,
                       AnyRankedTensor:$init,
                       AffineMapArrayAttr:$indexing_maps);
  let results = (outs AnyRankedTensor:$result);
  let regions = (region SizedRegion<1>:$body);
  let assemblyFormat = [{
    `ins` `(` $query `,` $key `,` $value `,` $mask `:`
    type($query) `,` type($key) `,` type($value) `,` type($mask) `)`
    (`with` `(` $extras^ `:` type($extras) `)`)?
    `outs` `(` $init `:` type($init) `)` `maps` $indexing_maps
    attr-dict-with-keyword $body `->` type($result)
  }];
  let extraClassDeclaration = structuredDeclaration # [{
    /// Number of batch dimensions; i, j, d, e follow them.
    unsigned getNumBatchDims() { return getMaps().back().getNumDims() - 4; }
  }];
}

def Gossamer_LanePrefixOp : Gossamer_Op<"lane_prefix"> {
  let summary = "sums over the lanes before this one, and over all of them";
  let description = [{
    Stands in a parallel loop whose iterations are exactly its lanes: over
    [0, gossamer.lanes), with a step of one. Every lane gives a number; `before`
    is the sum of those of the lanes before it, `total` of all. So lanes that
    keep some of what each has read know where to store it.

    ```mlir
    scf.parallel (%lane) = (%c0) to (%c32) step (%c1) {
      ...
      %before, %total = gossamer.lane_prefix %kept : i32
      ...
    } {gossamer.lanes = 32 : i64}
    ```

    For GPUs alone: `gossamer-map-to-gpu` makes shuffles of it.
  }];
  let arguments = (ins I32:$value);
  let results = (outs I32:$before, I32:$total);
  let assemblyFormat = "$value attr-dict `:` type($value)";
  let hasVerifier = 1;
}

#endif // GOSSAMER_OPS
