//===- AttentionEntry.cpp - the host's side of an attention ---------------===//
//
// gs_entry(words) describes q, k, v and the output to the device and launches
// as many thread blocks as fit it at once. The words, in order (docs/tile.md):
//
//   addresses: q k v out lse count index order counter
//   sizes: batch heads kvHeads queries keys columns
//   strides of batch, head and row, in elements, of: q k v out
//   list: rows a batch, rows a head, entries a row
//   keys of a window; bits of the scale (f32)
//   blocks that are allowed in part: addresses of count, index, bits of an
//   entry, bits; entries a row
//   with packed keys: how many, the row of the first other key, strides;
//   addresses of k v
//   of a split program: addresses of partial outputs and of their log-sum-exp;
//   parts of a tile
//   what a function of scores captures
//
//===----------------------------------------------------------------------===//

#include "passes/tile/AttentionPlan.h"
#include "passes/tile/EntryWords.h"
#include "passes/tile/ProgramParts.h"

using namespace mlir;
using namespace gossamer::tile;

namespace {

class EntryBuilder : EntryWords {
public:
  EntryBuilder(AttentionOp op, const AttentionPlan &plan)
      : EntryWords(op), plan(plan), captured(capturedTypes(op.getScore())) {}

  void build(ProgramOp program) {
    SmallVector<Value> arguments(plan.numArguments());
    Tensor q, k, v, out;
    for (Tensor *tensor : {&q, &k, &v, &out})
      tensor->address = next(pointer);
    for (unsigned at : {LogSumExp, Count, Index, Order, Counter})
      arguments[at] = next(pointer);
    Value batch = next(), heads = next(), kvHeads = next(), queries = next(),
          keys = next(), columns = next();
    for (Tensor *tensor : {&q, &k, &v, &out})
      nextStrides(*tensor);

    Value queryBlocks = n.ceilDiv(queries, plan.queries);
    Value tiles = n.mul(n.mul(batch, heads), queryBlocks);
    arguments[Heads] = narrow(heads);
    arguments[Group] = narrow(n.div(heads, kvHeads));
    arguments[Queries] = narrow(queries);
    arguments[QueryBlocks] = narrow(queryBlocks);
    arguments[Tiles] = narrow(tiles);
    for (unsigned at : {RowsOfBatch, RowsOfHead, ListLength, WindowLength})
      arguments[at] = narrow(next());
    arguments[Scale] = nextFloat();
    for (unsigned at : {PartialCount, PartialIndex, PartialBits, Bits})
      arguments[at] = next(pointer);
    arguments[PartialLength] = narrow(next());
    if (plan.packed)
      nextPacked({&k, &v});
    arguments[Keys] = narrow(plan.packed ? n.add(packedRows, keys) : keys);
    if (plan.split) {
      arguments[PartOut] = next(pointer);
      arguments[PartLogSumExp] = next(pointer);
      Value parts = next();
      arguments[Parts] = narrow(parts);
      arguments[Rows] = narrow(n.mul(n.mul(batch, heads), queries));
      tiles = n.mul(tiles, parts);
      arguments[Tiles] = narrow(tiles);
    }
    llvm::append_range(arguments, nextOf(captured));

    SmallVector<Value> querySizes{batch, heads, queries, columns};
    SmallVector<Value> keySizes{batch, kvHeads, keys, columns};
    MapType keyBox = boxOf(plan.gathered > 1 ? plan.block : plan.keys);
    arguments[QueryMap] = describe(q, querySizes, boxOf(plan.queries));
    arguments[KeyMap] = describe(k, keySizes, keyBox);
    arguments[ValueMap] = describe(v, keySizes, keyBox);
    // Parts are stored row by row, which follow one another.
    arguments[OutMap] =
        plan.split ? out.address : describe(out, querySizes, boxOf(64));
    launch(program, tiles, arguments);
    end();
  }

private:
  MapType boxOf(int64_t rows) {
    return MapType::get({rows, plan.head}, plan.element);
  }

  const AttentionPlan &plan;
  TypeRange captured;
};

} // namespace

void gossamer::tile::buildAttentionEntry(AttentionOp op,
                                         const AttentionPlan &plan,
                                         ProgramOp program) {
  EntryBuilder(op, plan).build(program);
}
