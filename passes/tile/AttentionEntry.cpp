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
    SmallVector<Value> arguments(NumAttentionArguments);
    Value q = next(pointer), k = next(pointer), v = next(pointer),
          out = next(pointer);
    for (unsigned at : {LogSumExp, Count, Index, Order, Counter})
      arguments[at] = next(pointer);
    Value batch = next(), heads = next(), kvHeads = next(), queries = next(),
          keys = next(), columns = next();
    arguments[QueryMap] =
        describe(q, {batch, heads, queries, columns}, plan.queries);
    int64_t rows = plan.gathered > 1 ? plan.block : plan.keys;
    arguments[KeyMap] = describe(k, {batch, kvHeads, keys, columns}, rows);
    arguments[ValueMap] = describe(v, {batch, kvHeads, keys, columns}, rows);
    arguments[OutMap] = describe(out, {batch, heads, queries, columns}, 64);

    Value queryBlocks = n.ceilDiv(queries, plan.queries);
    Value tiles = n.mul(n.mul(batch, heads), queryBlocks);
    arguments[Heads] = narrow(heads);
    arguments[Group] = narrow(n.div(heads, kvHeads));
    arguments[Queries] = narrow(queries);
    arguments[Keys] = narrow(keys);
    arguments[QueryBlocks] = narrow(queryBlocks);
    arguments[Tiles] = narrow(tiles);
    for (unsigned at : {RowsOfBatch, RowsOfHead, ListLength, WindowLength})
      arguments[at] = narrow(next());
    arguments[Scale] = nextFloat();
    for (unsigned at : {PartialCount, PartialIndex, PartialBits, Bits})
      arguments[at] = next(pointer);
    arguments[PartialLength] = narrow(next());
    llvm::append_range(arguments, nextOf(captured));

    launch(program, tiles, arguments);
    end();
  }

private:
  Value describe(Value address, ValueRange sizes, int64_t rows) {
    SmallVector<Value> strides{next(), next(), next()};
    return DescribeOp::create(b, loc,
                              MapType::get({rows, plan.head}, plan.element),
                              address, sizes, strides);
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
