//===- LowerAttention.cpp - attention under a sparse mask, row by row -----===//
//
// One pass over the stored entries of a row of the mask, with the running
// maximum and sum of an online softmax (Milakov and Gimelshein,
// arXiv:1805.02867) in registers and the output row as accumulator: no scores
// are ever stored.
//
//===----------------------------------------------------------------------===//

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Bufferization/IR/Bufferization.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/IR/TypeUtilities.h"
#include "passes/AttentionLoops.h"
#include "passes/GpuLanes.h"
#include "passes/Passes.h"
#include "passes/RegisterTile.h"
#include "passes/Report.h"

namespace gossamer {
#define GEN_PASS_DEF_LOWERATTENTION
#include "passes/Passes.h.inc"
} // namespace gossamer

using namespace mlir;
using namespace gossamer;

namespace {

class AttentionLowering : AttentionLoops {
public:
  AttentionLowering(AttentionOp op, bool gpu)
      : AttentionLoops(op), gpu(gpu), accumulator(out) {}

  void run() {
    if (gpu && isNarrow())
      accumulator = makeAccumulator();
    forEachRow(sizeOf(out, maps.back(), numBatch),
               [&](OpBuilder &b, ValueRange ivs) { emitRow(b, ivs); });
  }

private:
  using Pair = std::pair<Value, Value>;
  void emitRow(OpBuilder &b, ValueRange ivs);
  /// The running maximum and sum after one more stored entry.
  Pair emitEntry(OpBuilder &b, Value j, Value position, Pair state);
  void forEachOut(OpBuilder &b,
                  llvm::function_ref<Value(OpBuilder &, Value)> update,
                  bool isLast = false);
  /// The product of the query's row with the key's.
  Value emitDot(OpBuilder &b);

  /// The output row in the type of sums: what is added up over many entries
  /// must not be rounded in between.
  Value makeAccumulator();

  /// A warp has a row: lanes along D in products, along E in the output.
  bool gpu;
  Value accumulator;
  SmallVector<Value> loops;
};

Value AttentionLowering::makeAccumulator() {
  auto type = cast<MemRefType>(out.getType());
  SmallVector<Value> sizes;
  for (int64_t dim = 0; dim < type.getRank(); ++dim)
    if (type.isDynamicDim(dim))
      sizes.push_back(memref::DimOp::create(builder, loc, out, dim));
  return memref::AllocOp::create(builder, loc,
                                 MemRefType::get(type.getShape(), element),
                                 sizes, builder.getI64IntegerAttr(64));
}

void AttentionLowering::forEachOut(
    OpBuilder &b, llvm::function_ref<Value(OpBuilder &, Value)> update,
    bool isLast) {
  auto body = [&](OpBuilder &inner, Value e) {
    loops[numBatch + 3] = e;
    SmallVector<Value> at = applyMap(inner, loc, maps.back(), loops);
    Value old =
        extendTo(inner, loc,
                 memref::LoadOp::create(inner, loc, accumulator, at), element);
    Value value = update(inner, old);
    if (accumulator == out || isLast)
      memref::StoreOp::create(inner, loc, narrow(inner, value), out, at);
    else
      memref::StoreOp::create(inner, loc, value, accumulator, at);
  };
  if (gpu)
    return forEachLane(b, loc, zeroIndex, sizeE, warpSize, body);
  auto loop = scf::ForOp::create(b, loc, zeroIndex, sizeE, oneIndex);
  OpBuilder inner = OpBuilder::atBlockTerminator(loop.getBody());
  body(inner, loop.getInductionVar());
}

Value AttentionLowering::emitDot(OpBuilder &b) {
  auto product = [&](OpBuilder &inner, Value d) -> Value {
    loops[numBatch + 2] = d;
    return arith::MulFOp::create(
        inner, loc,
        extendTo(inner, loc, loadAt(inner, loc, query, maps[0], loops),
                 element),
        extendTo(inner, loc, loadAt(inner, loc, key, maps[1], loops), element));
  };
  if (gpu)
    return reduceOverLanes(
        b, loc, zeroIndex, sizeD, oneIndex, warpSize, zero, product,
        [&](OpBuilder &in, Value x, Value y) {
          return arith::AddFOp::create(in, loc, x, y).getResult();
        });
  auto dot = scf::ForOp::create(b, loc, zeroIndex, sizeD, oneIndex, zero);
  OpBuilder inner = OpBuilder::atBlockEnd(dot.getBody());
  scf::YieldOp::create(
      inner, loc,
      arith::AddFOp::create(inner, loc, dot.getRegionIterArg(0),
                            product(inner, dot.getInductionVar()))
          .getResult());
  return dot.getResult(0);
}

AttentionLowering::Pair AttentionLowering::emitEntry(OpBuilder &b, Value j,
                                                     Value position,
                                                     Pair state) {
  auto [maximum, sum] = state;
  loops[numBatch + 1] = j;
  SmallVector<Value> args{
      narrow(b, emitDot(b)),
      memref::LoadOp::create(b, loc, mask.values, position)};
  for (auto [buffer, map] :
       llvm::zip(extras, ArrayRef(maps).drop_front(4).drop_back()))
    args.push_back(loadAt(b, loc, buffer, map, loops));
  Value score =
      extendTo(b, loc, inlineBody(b, op.getBlock(), args, loops), element);

  // A new maximum rescales what was summed so far.
  Value grows =
      arith::CmpFOp::create(b, loc, arith::CmpFPredicate::OGT, score, maximum);
  auto rescale = scf::IfOp::create(b, loc, TypeRange{element, element}, grows,
                                   /*withElseRegion=*/true);
  {
    OpBuilder then = rescale.getThenBodyBuilder();
    Value factor = math::ExpOp::create(
        then, loc, arith::SubFOp::create(then, loc, maximum, score));
    forEachOut(then, [&](OpBuilder &in, Value old) -> Value {
      return arith::MulFOp::create(in, loc, old, factor);
    });
    Value scaled = arith::MulFOp::create(then, loc, sum, factor);
    scf::YieldOp::create(then, loc, ValueRange{score, scaled});
    OpBuilder otherwise = rescale.getElseBodyBuilder();
    scf::YieldOp::create(otherwise, loc, ValueRange{maximum, sum});
  }
  // -inf stays out, also before anything was allowed (-inf - -inf is NaN).
  Value masked =
      arith::CmpFOp::create(b, loc, arith::CmpFPredicate::OEQ, score, lowest);
  Value power = math::ExpOp::create(
      b, loc, arith::SubFOp::create(b, loc, score, rescale.getResult(0)));
  power = arith::SelectOp::create(b, loc, masked, zero, power);
  forEachOut(b, [&](OpBuilder &in, Value old) -> Value {
    Value product = arith::MulFOp::create(
        in, loc, power,
        extendTo(in, loc, loadAt(in, loc, value, maps[2], loops), element));
    return arith::AddFOp::create(in, loc, old, product);
  });
  return {rescale.getResult(0),
          arith::AddFOp::create(b, loc, rescale.getResult(1), power)};
}

void AttentionLowering::emitRow(OpBuilder &b, ValueRange ivs) {
  loops.assign(ivs.begin(), ivs.end());
  loops.resize(numBatch + 4);
  forEachOut(b, [&](OpBuilder &, Value) { return zero; });

  // The row's segment of the compressed level, and its place in a block.
  bool blocked = mask.type.getLvlRank() > rank;
  SmallVector<Value> dims =
      applyMap(b, loc, maps[3].dropResult(rank - 1), loops);
  Value row = dims.back(), rowInBlock, blockRows, blockColumns;
  if (blocked) {
    blockRows = mask.lvlSize(rank);
    blockColumns = mask.lvlSize(rank + 1);
    rowInBlock = arith::RemUIOp::create(b, loc, row, blockRows);
    dims.back() = arith::DivUIOp::create(b, loc, row, blockRows);
  }
  Value parent = indexConstant(b, loc, 0);
  for (auto [lvl, coord] : llvm::enumerate(dims))
    parent =
        addIndex(b, loc, mulIndex(b, loc, parent, mask.lvlSize(lvl)), coord);
  auto [first, last] = mask.segment(b, rank - 1, parent);

  auto entries = scf::ForOp::create(b, loc, first, last, oneIndex,
                                    ValueRange{lowest, zero});
  {
    OpBuilder inner = OpBuilder::atBlockEnd(entries.getBody());
    Value position = entries.getInductionVar();
    Value column = mask.coordinate(inner, rank - 1, position);
    Pair state{entries.getRegionIterArg(0), entries.getRegionIterArg(1)};
    if (!blocked) {
      state = emitEntry(inner, column, position, state);
    } else {
      column = mulIndex(inner, loc, column, blockColumns);
      position = addIndex(inner, loc, mulIndex(inner, loc, position, blockRows),
                          rowInBlock);
      position = mulIndex(inner, loc, position, blockColumns);
      auto block =
          scf::ForOp::create(inner, loc, zeroIndex, blockColumns, oneIndex,
                             ValueRange{state.first, state.second});
      OpBuilder in = OpBuilder::atBlockEnd(block.getBody());
      Value jj = block.getInductionVar();
      auto [m, l] = emitEntry(
          in, addIndex(in, loc, column, jj), addIndex(in, loc, position, jj),
          {block.getRegionIterArg(0), block.getRegionIterArg(1)});
      scf::YieldOp::create(in, loc, ValueRange{m, l});
      state = {block.getResult(0), block.getResult(1)};
    }
    scf::YieldOp::create(inner, loc, ValueRange{state.first, state.second});
  }
  // A row with nothing allowed has the sum 0, and is 0.
  Value sum = entries.getResult(1);
  Value empty =
      arith::CmpFOp::create(b, loc, arith::CmpFPredicate::OEQ, sum, zero);
  Value inverse = arith::DivFOp::create(b, loc, one, sum);
  inverse = arith::SelectOp::create(b, loc, empty, zero, inverse);
  forEachOut(
      b,
      [&](OpBuilder &in, Value old) -> Value {
        return arith::MulFOp::create(in, loc, old, inverse);
      },
      /*isLast=*/true);
}

struct LowerAttention : gossamer::impl::LowerAttentionBase<LowerAttention> {
  using LowerAttentionBase::LowerAttentionBase;

  void runOnOperation() override {
    SmallVector<AttentionOp> ops;
    getOperation().walk([&](AttentionOp op) { ops.push_back(op); });
    for (AttentionOp op : ops) {
      report(op, "gossamer.attention", Road::General,
             gpu ? "GPU: a warp has a row of the mask, scores never stored"
                 : "one loop nest, rows of the mask in parallel, scores never "
                   "stored");
      AttentionLowering(op, gpu).run();
    }
  }
};

} // namespace
