//===- BackwardEntry.cpp - the host's side of a backward ------------------===//
//
// gs_entry(words) describes the tensors to the device and launches the program
// of the queries, and then that of the keys. The words, in order
// (docs/tile.md):
//
//   tensors: address and strides of batch, head and row, in elements, of
//            q k v out dout dq dk dv
//   addresses: lse dlse, the shifts and deltas of rows, counter
//   sizes: batch heads kvHeads queries keys columns, queries with a dlse, rows
//          with shifts a head; bits of the scale (f32)
//   lists, of the queries and of the keys: addresses count index order, and of
//          partial blocks count index bitmaps bits; rows a batch, rows a head,
//          entries a row, of partial blocks
//   with packed keys: how many, the row of the first other key, strides;
//          addresses of k v dk dv
//   what a function of scores captures
//
//===----------------------------------------------------------------------===//

#include "passes/tile/BackwardPlan.h"
#include "passes/tile/EntryWords.h"
#include "passes/tile/ProgramParts.h"

using namespace mlir;
using namespace gossamer::tile;

namespace {

class EntryBuilder : EntryWords {
public:
  EntryBuilder(AttentionBackwardOp op, const BackwardPlan &plan)
      : EntryWords(op), plan(plan), captured(capturedTypes(op.getScore())) {}

  void build(ProgramOp queriesProgram, ProgramOp keysProgram);

private:
  struct List {
    Value count, index, order, partialCount, partialIndex, partialBits, bits;
    Value rowsOfBatch, rowsOfHead, length, partialLength;
  };

  List nextList();
  MapType boxOf(int64_t rows) {
    return MapType::get({rows, plan.head}, plan.element);
  }

  const BackwardPlan &plan;
  TypeRange captured;
};

EntryBuilder::List EntryBuilder::nextList() {
  List list;
  for (Value *address :
       {&list.count, &list.index, &list.order, &list.partialCount,
        &list.partialIndex, &list.partialBits, &list.bits})
    *address = next(pointer);
  for (Value *number :
       {&list.rowsOfBatch, &list.rowsOfHead, &list.length, &list.partialLength})
    *number = narrow(next());
  return list;
}

void EntryBuilder::build(ProgramOp queriesProgram, ProgramOp keysProgram) {
  Tensor q = nextTensor(), k = nextTensor(), v = nextTensor(),
         out = nextTensor(), outGrad = nextTensor(), qGrad = nextTensor(),
         kGrad = nextTensor(), vGrad = nextTensor();
  Value lse = next(pointer), lseGrad = next(pointer), numbers = next(pointer),
        counter = next(pointer);
  Value batch = next(), heads = next(), kvHeads = next(), queries = next(),
        keys = next(), columns = next(), lseGradLength = next(),
        padded = next(), scale = nextFloat();
  List ofQueries = nextList(), ofKeys = nextList();
  SmallVector<Value> querySizes{batch, heads, queries, columns};
  SmallVector<Value> keySizes{batch, kvHeads, keys, columns};
  Value group = n.div(heads, kvHeads);
  Value rowsOfKeys = keys;
  if (plan.packed) {
    nextPacked({&k, &v, &kGrad, &vGrad});
    rowsOfKeys = n.add(packedRows, keys);
  }
  SmallVector<Value> ofScores;
  if (plan.scored) {
    ofScores = nextOf(captured);
    ofScores.insert(ofScores.begin(), narrow(keys));
  }

  SmallVector<Value> arguments(NumQueriesArguments);
  int64_t rows = plan.queries.rows;
  arguments[QueriesQueryMap] = describe(q, querySizes, boxOf(rows));
  arguments[QueriesKeyMap] = describe(k, keySizes, boxOf(64));
  arguments[QueriesValueMap] = describe(v, keySizes, boxOf(64));
  arguments[QueriesOutMap] = describe(out, querySizes, boxOf(rows));
  arguments[QueriesOutGradMap] = describe(outGrad, querySizes, boxOf(rows));
  arguments[QueriesQueryGradMap] = describe(qGrad, querySizes, boxOf(64));
  arguments[QueriesLogSumExp] = lse;
  arguments[QueriesLogSumExpGrad] = lseGrad;
  arguments[QueriesNumbers] = numbers;
  arguments[QueriesCount] = ofQueries.count;
  arguments[QueriesIndex] = ofQueries.index;
  arguments[QueriesOrder] = ofQueries.order;
  arguments[QueriesCounter] = counter;
  arguments[QueriesHeads] = narrow(heads);
  arguments[QueriesGroup] = narrow(group);
  arguments[QueriesLength] = narrow(queries);
  arguments[QueriesPaddedLength] = narrow(padded);
  arguments[QueriesLogSumExpGradLength] = narrow(lseGradLength);
  Value blocks = n.ceilDiv(queries, rows);
  Value tiles = n.mul(n.mul(batch, heads), blocks);
  arguments[QueriesBlocks] = narrow(blocks);
  arguments[QueriesTiles] = narrow(tiles);
  arguments[QueriesRowsOfBatch] = ofQueries.rowsOfBatch;
  arguments[QueriesRowsOfHead] = ofQueries.rowsOfHead;
  arguments[QueriesListLength] = ofQueries.length;
  arguments[QueriesPartialCount] = ofQueries.partialCount;
  arguments[QueriesPartialIndex] = ofQueries.partialIndex;
  arguments[QueriesPartialBits] = ofQueries.partialBits;
  arguments[QueriesBits] = ofQueries.bits;
  arguments[QueriesPartialLength] = ofQueries.partialLength;
  arguments[QueriesScale] = scale;
  llvm::append_range(arguments, ofScores);
  launch(queriesProgram, tiles, arguments);

  arguments.assign(NumKeysArguments, Value());
  rows = plan.keys.rows;
  arguments[KeysKeyMap] = describe(k, keySizes, boxOf(rows));
  arguments[KeysValueMap] = describe(v, keySizes, boxOf(rows));
  arguments[KeysQueryMap] = describe(q, querySizes, boxOf(64));
  arguments[KeysOutGradMap] = describe(outGrad, querySizes, boxOf(64));
  arguments[KeysKeyGradMap] = describe(kGrad, keySizes, boxOf(64));
  arguments[KeysValueGradMap] = describe(vGrad, keySizes, boxOf(64));
  arguments[KeysNumbers] = numbers;
  arguments[KeysCount] = ofKeys.count;
  arguments[KeysIndex] = ofKeys.index;
  arguments[KeysOrder] = ofKeys.order;
  arguments[KeysCounter] = counter;
  arguments[KeysHeads] = narrow(heads);
  arguments[KeysKeyHeads] = narrow(kvHeads);
  arguments[KeysGroup] = narrow(group);
  arguments[KeysPaddedLength] = narrow(padded);
  blocks = n.ceilDiv(rowsOfKeys, rows);
  tiles = n.mul(n.mul(batch, kvHeads), blocks);
  arguments[KeysBlocks] = narrow(blocks);
  arguments[KeysTiles] = narrow(tiles);
  arguments[KeysRowsOfBatch] = ofKeys.rowsOfBatch;
  arguments[KeysRowsOfHead] = ofKeys.rowsOfHead;
  arguments[KeysListLength] = ofKeys.length;
  arguments[KeysPartialCount] = ofKeys.partialCount;
  arguments[KeysPartialIndex] = ofKeys.partialIndex;
  arguments[KeysPartialBits] = ofKeys.partialBits;
  arguments[KeysBits] = ofKeys.bits;
  arguments[KeysPartialLength] = ofKeys.partialLength;
  arguments[KeysScale] = scale;
  llvm::append_range(arguments, ofScores);
  launch(keysProgram, tiles, arguments);
  end();
}

} // namespace

void gossamer::tile::buildBackwardEntry(AttentionBackwardOp op,
                                        const BackwardPlan &plan,
                                        ProgramOp queries, ProgramOp keys) {
  EntryBuilder(op, plan).build(queries, keys);
}
