//===- LowerBlockAttention.cpp - attention over blocks, rows as lanes -----===//
//
// A vector holds one number each of as many query rows, so that nothing is ever
// summed across a vector: with q transposed once a block row, a tile of scores
// is S^T[j][row] = sum_d k[j][d] q^T[d][row], an element of k broadcast against
// a vector of q, eight columns at a time in registers; the softmax works on
// whole vectors; O^T[e][row] += v[j][e] p[j][row] is the same product again.
// Tiles are one block of the mask high, and stay in the first-level cache.
//
//===----------------------------------------------------------------------===//

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Bufferization/IR/Bufferization.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "mlir/IR/IRMapping.h"
#include "mlir/IR/TypeUtilities.h"
#include "passes/AttentionLoops.h"
#include "passes/Passes.h"
#include "passes/RegisterTile.h"
#include "passes/Report.h"

namespace gossamer {
#define GEN_PASS_DEF_LOWERBLOCKATTENTION
#include "passes/Passes.h.inc"
} // namespace gossamer

using namespace mlir;
using namespace gossamer;

namespace {

/// Columns of a tile whose sums are in registers at once; also of the result.
constexpr int64_t kColumns = 8;

/// A body of elementwise operations runs on vectors as it does on numbers.
bool isVectorizable(Block &body) {
  return llvm::all_of(body.without_terminator(), [](Operation &op) {
    return isa<IndexOp>(op) || op.hasTrait<OpTrait::ConstantLike>() ||
           (OpTrait::hasElementwiseMappableTraits(&op) &&
            op.getNumResults() == 1);
  });
}

class BlockAttention : AttentionLoops {
public:
  BlockAttention(AttentionOp op, unsigned lanes)
      : AttentionLoops(op), lanes(lanes),
        vector(VectorType::get(lanes, element)) {
    SmallVector<int64_t, 2> shape = blockShape(op);
    blockRows = shape[0];
    blockColumns = shape[1];
  }

  /// Rows and columns of the mask's blocks; empty if it has none.
  static SmallVector<int64_t, 2> blockShape(AttentionOp op);
  void run() {
    forEachRow(mask.lvlSize(rank - 2),
               [&](OpBuilder &b, ValueRange ivs) { emitBlockRow(b, ivs); });
  }

private:
  struct Tile {
    Value firstRow, rowInBlock, rows, query, scores, sums;
  };
  Value splat(OpBuilder &b, Value scalar) {
    return vector::BroadcastOp::create(
        b, loc, VectorType::get(lanes, scalar.getType()), scalar);
  }
  Value load(OpBuilder &b, Value tile, Value row) {
    return vector::LoadOp::create(b, loc, vector, tile,
                                  ValueRange{row, zeroIndex});
  }
  void store(OpBuilder &b, Value value, Value tile, Value row) {
    vector::StoreOp::create(b, loc, value, tile, ValueRange{row, zeroIndex});
  }
  void emitBlockRow(OpBuilder &b, ValueRange ivs);
  void emitLaneGroup(OpBuilder &b, const Tile &tile, Value first, Value last);
  Value emitIsFull(OpBuilder &b, Value block);
  Value emitScores(OpBuilder &b, const Tile &tile, Value block, Value column,
                   Value maximum, bool full);
  Value emitBody(OpBuilder &b, const Tile &tile, Value score, Value block,
                 Value column, Value inBlock, bool full);
  Value gather(OpBuilder &b, Type type, const Tile &tile,
               llvm::function_ref<Value(OpBuilder &, Value)> at);
  void emitProduct(OpBuilder &b, const Tile &tile, Value column, Value factor);

  int64_t lanes, blockRows, blockColumns;
  VectorType vector;
  SmallVector<Value> loops;
};

SmallVector<int64_t, 2> BlockAttention::blockShape(AttentionOp op) {
  auto type = sparse_tensor::getSparseTensorType(op.getMask());
  unsigned rank = type.getDimRank();
  if (type.getLvlRank() != rank + 2)
    return {};
  SmallVector<int64_t, 2> shape;
  for (unsigned lvl : {rank, rank + 1})
    shape.push_back(
        cast<AffineConstantExpr>(
            cast<AffineBinaryOpExpr>(type.getDimToLvl().getResult(lvl))
                .getRHS())
            .getValue());
  return shape;
}

void BlockAttention::emitBlockRow(OpBuilder &b, ValueRange ivs) {
  loops.assign(ivs.begin(), ivs.end());
  loops.resize(numBatch + 4);
  Value blockRow = ivs.back();
  // The map of the mask's leading levels, where i stands for its block row.
  SmallVector<Value> coords =
      applyMap(b, loc, maps[3].dropResult(rank - 1), loops);
  Value parent = indexConstant(b, loc, 0);
  for (auto [lvl, coord] : llvm::enumerate(coords))
    parent =
        addIndex(b, loc, mulIndex(b, loc, parent, mask.lvlSize(lvl)), coord);
  auto [first, last] = mask.segment(b, rank - 1, parent);

  auto allocate = [&](int64_t rows, ValueRange size) -> Value {
    return memref::AllocOp::create(b, loc,
                                   MemRefType::get({rows, lanes}, element),
                                   size, b.getI64IntegerAttr(64));
  };
  Tile tile;
  tile.query = allocate(ShapedType::kDynamic, sizeD);
  tile.scores = allocate(blockColumns, {});
  tile.sums = allocate(ShapedType::kDynamic, sizeE);
  Value rowsOfBlock = indexConstant(b, loc, blockRows);
  Value width = indexConstant(b, loc, lanes);
  Value base = mulIndex(b, loc, blockRow, rowsOfBlock);
  auto groups = scf::ForOp::create(b, loc, zeroIndex, rowsOfBlock, width);
  OpBuilder in = OpBuilder::atBlockTerminator(groups.getBody());
  tile.rowInBlock = groups.getInductionVar();
  tile.firstRow = addIndex(in, loc, base, tile.rowInBlock);
  Value left = arith::SubIOp::create(in, loc, rowsOfBlock, tile.rowInBlock);
  tile.rows = arith::MinUIOp::create(in, loc, left, width);
  emitLaneGroup(in, tile, first, last);
  for (Value buffer : {tile.query, tile.scores, tile.sums})
    memref::DeallocOp::create(b, loc, buffer);
}

/// A vector of what `at` gives for each row. Lanes beyond the block's last row
/// repeat it: what they make is never stored.
Value BlockAttention::gather(OpBuilder &b, Type type, const Tile &tile,
                             llvm::function_ref<Value(OpBuilder &, Value)> at) {
  Value last = arith::SubIOp::create(b, loc, tile.rows, oneIndex);
  Value result = arith::ConstantOp::create(
      b, loc, b.getZeroAttr(VectorType::get(lanes, type)));
  for (int64_t lane = 0; lane < lanes; ++lane) {
    Value row = indexConstant(b, loc, lane);
    if (blockRows % lanes != 0)
      row = arith::MinUIOp::create(b, loc, row, last);
    result = vector::InsertOp::create(b, loc, at(b, row), result, lane);
  }
  return result;
}

/// Whether all stored values of a block are true: then the mask need not be
/// read an entry at a time.
Value BlockAttention::emitIsFull(OpBuilder &b, Value block) {
  // i1 is a byte in memory, but LLVM vectorises only what it knows to be one.
  Value bytes =
      UnrealizedConversionCastOp::create(
          b, loc, MemRefType::get({ShapedType::kDynamic}, b.getI8Type()),
          mask.values)
          .getResult(0);
  Value size = indexConstant(b, loc, blockRows * blockColumns);
  Value start = mulIndex(b, loc, block, size);
  Value one = arith::ConstantIntOp::create(b, loc, b.getI8Type(), 1);
  auto loop = scf::ForOp::create(b, loc, start, addIndex(b, loc, start, size),
                                 oneIndex, one);
  OpBuilder in = OpBuilder::atBlockEnd(loop.getBody());
  Value byte = memref::LoadOp::create(in, loc, bytes, loop.getInductionVar());
  scf::YieldOp::create(
      in, loc,
      arith::AndIOp::create(in, loc, loop.getRegionIterArg(0), byte)
          .getResult());
  return arith::CmpIOp::create(b, loc, arith::CmpIPredicate::eq,
                               loop.getResult(0), one);
}

Value BlockAttention::emitBody(OpBuilder &b, const Tile &tile, Value score,
                               Value block, Value column, Value inBlock,
                               bool full) {
  Type stored = mask.type.getElementType();
  SmallVector<Value> point(loops);
  point[numBatch + 1] = column;
  SmallVector<Value> args{score};
  if (full) {
    args.push_back(splat(b, arith::ConstantIntOp::create(b, loc, stored, 1)));
  } else {
    args.push_back(
        gather(b, stored, tile, [&](OpBuilder &in, Value row) -> Value {
          Value at =
              mulIndex(in, loc, block, indexConstant(in, loc, blockRows));
          at = addIndex(in, loc, at, addIndex(in, loc, tile.rowInBlock, row));
          at = mulIndex(in, loc, at, indexConstant(in, loc, blockColumns));
          return memref::LoadOp::create(in, loc, mask.values,
                                        addIndex(in, loc, at, inBlock));
        }));
  }
  for (auto [n, operand] : llvm::enumerate(extras)) {
    Value buffer = operand;
    AffineMap map = maps[4 + n];
    if (map.isFunctionOfDim(numBatch))
      args.push_back(gather(b, getElementTypeOrSelf(buffer), tile,
                            [&](OpBuilder &in, Value row) -> Value {
                              point[numBatch] =
                                  addIndex(in, loc, tile.firstRow, row);
                              return loadAt(in, loc, buffer, map, point);
                            }));
    else
      args.push_back(splat(b, loadAt(b, loc, buffer, map, point)));
  }
  IRMapping mapping;
  mapping.map(op.getBlock().getArguments(), args);
  auto asVector = [&](Value operand) -> Value {
    Value known = mapping.lookupOrDefault(operand);
    return isa<VectorType>(known.getType()) ? known : splat(b, known);
  };
  for (Operation &inner : op.getBlock().without_terminator()) {
    if (auto index = dyn_cast<IndexOp>(inner)) {
      Value vector;
      if (index.getDim() == numBatch)
        vector = arith::AddIOp::create(
            b, loc, splat(b, tile.firstRow),
            vector::StepOp::create(b, loc,
                                   VectorType::get(lanes, b.getIndexType())));
      else
        vector = splat(b, point[index.getDim()]);
      mapping.map(index.getResult(), vector);
      continue;
    }
    if (inner.hasTrait<OpTrait::ConstantLike>()) {
      b.clone(inner, mapping);
      continue;
    }
    OperationState state(loc, inner.getName());
    state.addAttributes(inner.getAttrs());
    for (Value operand : inner.getOperands())
      state.addOperands(asVector(operand));
    state.addTypes(VectorType::get(lanes, inner.getResult(0).getType()));
    mapping.map(inner.getResult(0), b.create(state)->getResult(0));
  }
  return asVector(op.getBlock().getTerminator()->getOperand(0));
}

/// Fills the tile of scores of a block; returns the maximum so far.
Value BlockAttention::emitScores(OpBuilder &b, const Tile &tile, Value block,
                                 Value column, Value maximum, bool full) {
  int64_t columns = std::gcd(kColumns, blockColumns);
  auto strip =
      scf::ForOp::create(b, loc, zeroIndex, indexConstant(b, loc, blockColumns),
                         indexConstant(b, loc, columns), maximum);
  OpBuilder in = OpBuilder::atBlockEnd(strip.getBody());
  Value inBlock = strip.getInductionVar();
  SmallVector<Value> places, at;
  for (int64_t n = 0; n < columns; ++n) {
    places.push_back(addIndex(in, loc, inBlock, indexConstant(in, loc, n)));
    at.push_back(addIndex(in, loc, column, places.back()));
  }
  RegisterTile product(loc, {columns, 1, lanes}, element);
  SmallVector<Value> point(loops);
  SmallVector<Value> dots = product.accumulate(
      in, zeroIndex, sizeD, product.fill(in, zero),
      [&](OpBuilder &inner, int64_t n, Value d) {
        point[numBatch + 1] = at[n];
        point[numBatch + 2] = d;
        return loadAt(inner, loc, key, maps[1], point);
      },
      [&](OpBuilder &inner, int64_t, Value d) {
        return load(inner, tile.query, d);
      });
  Value running = strip.getRegionIterArg(0);
  for (int64_t n = 0; n < columns; ++n) {
    Value score = emitBody(in, tile, dots[n], block, at[n], places[n], full);
    store(in, score, tile.scores, places[n]);
    running = arith::MaximumFOp::create(in, loc, running, score);
  }
  scf::YieldOp::create(in, loc, running);
  return strip.getResult(0);
}

/// sums = sums * factor + v^T p, over the columns of a block.
void BlockAttention::emitProduct(OpBuilder &b, const Tile &tile, Value column,
                                 Value factor) {
  forEachRowStrip(
      b, loc, sizeE, kColumns, [&](OpBuilder &in, Value first, int64_t count) {
        RegisterTile product(loc, {count, 1, lanes}, element);
        SmallVector<Value> at, sums;
        for (int64_t n = 0; n < count; ++n) {
          at.push_back(addIndex(in, loc, first, indexConstant(in, loc, n)));
          sums.push_back(arith::MulFOp::create(
              in, loc, load(in, tile.sums, at[n]), factor));
        }
        SmallVector<Value> point(loops);
        sums = product.accumulate(
            in, zeroIndex, indexConstant(in, loc, blockColumns), sums,
            [&](OpBuilder &inner, int64_t n, Value j) {
              point[numBatch + 1] = addIndex(inner, loc, column, j);
              point[numBatch + 3] = at[n];
              return loadAt(inner, loc, value, maps[2], point);
            },
            [&](OpBuilder &inner, int64_t, Value j) {
              return load(inner, tile.scores, j);
            });
        for (int64_t n = 0; n < count; ++n)
          store(in, sums[n], tile.sums, at[n]);
      });
}

void BlockAttention::emitLaneGroup(OpBuilder &b, const Tile &tile, Value first,
                                   Value last) {
  // q^T, and nothing in the lanes that have no row.
  if (blockRows % lanes != 0)
    linalg::FillOp::create(b, loc, zero, tile.query);
  linalg::FillOp::create(b, loc, zero, tile.sums);
  auto row = scf::ForOp::create(b, loc, zeroIndex, tile.rows, oneIndex);
  {
    OpBuilder in = OpBuilder::atBlockTerminator(row.getBody());
    SmallVector<Value> point(loops);
    point[numBatch] = addIndex(in, loc, tile.firstRow, row.getInductionVar());
    auto d = scf::ForOp::create(in, loc, zeroIndex, sizeD, oneIndex);
    OpBuilder inner = OpBuilder::atBlockTerminator(d.getBody());
    point[numBatch + 2] = d.getInductionVar();
    memref::StoreOp::create(
        inner, loc, loadAt(inner, loc, query, maps[0], point), tile.query,
        ValueRange{d.getInductionVar(), row.getInductionVar()});
  }

  Value none = splat(b, lowest), nothing = splat(b, zero);
  auto blocks = scf::ForOp::create(b, loc, first, last, oneIndex,
                                   ValueRange{none, nothing});
  {
    OpBuilder in = OpBuilder::atBlockEnd(blocks.getBody());
    Value block = blocks.getInductionVar();
    Value maximum = blocks.getRegionIterArg(0),
          sum = blocks.getRegionIterArg(1);
    Value column = mulIndex(in, loc, mask.coordinate(in, rank - 1, block),
                            indexConstant(in, loc, blockColumns));
    Value reached;
    if (mask.type.getElementType().isInteger(1)) {
      auto choice =
          scf::IfOp::create(in, loc, TypeRange{vector}, emitIsFull(in, block),
                            /*withElseRegion=*/true);
      OpBuilder then = choice.getThenBodyBuilder();
      scf::YieldOp::create(
          then, loc, emitScores(then, tile, block, column, maximum, true));
      OpBuilder otherwise = choice.getElseBodyBuilder();
      scf::YieldOp::create(
          otherwise, loc,
          emitScores(otherwise, tile, block, column, maximum, false));
      reached = choice.getResult(0);
    } else {
      reached = emitScores(in, tile, block, column, maximum, false);
    }
    // While nothing was allowed the maximum is -inf; measured from 0 instead,
    // what is masked comes out as exp(-inf) = 0 and not as NaN.
    Value empty = arith::CmpFOp::create(in, loc, arith::CmpFPredicate::OEQ,
                                        reached, none);
    Value from = arith::SelectOp::create(in, loc, empty, nothing, reached);
    Value factor = math::ExpOp::create(
        in, loc, arith::SubFOp::create(in, loc, maximum, from));
    Value scaled = arith::MulFOp::create(in, loc, sum, factor);
    auto powers = scf::ForOp::create(in, loc, zeroIndex,
                                     indexConstant(in, loc, blockColumns),
                                     oneIndex, scaled);
    OpBuilder inner = OpBuilder::atBlockEnd(powers.getBody());
    Value score = load(inner, tile.scores, powers.getInductionVar());
    Value power = math::ExpOp::create(
        inner, loc, arith::SubFOp::create(inner, loc, score, from));
    store(inner, power, tile.scores, powers.getInductionVar());
    scf::YieldOp::create(
        inner, loc,
        arith::AddFOp::create(inner, loc, powers.getRegionIterArg(0), power)
            .getResult());
    emitProduct(in, tile, column, factor);
    scf::YieldOp::create(in, loc, ValueRange{reached, powers.getResult(0)});
  }

  // A row with nothing allowed has the sum 0, and is 0.
  Value sum = blocks.getResult(1);
  Value empty =
      arith::CmpFOp::create(b, loc, arith::CmpFPredicate::OEQ, sum, nothing);
  Value inverse = arith::DivFOp::create(b, loc, splat(b, one), sum);
  inverse = arith::SelectOp::create(b, loc, empty, nothing, inverse);
  auto e = scf::ForOp::create(b, loc, zeroIndex, sizeE, oneIndex);
  OpBuilder scale = OpBuilder::atBlockTerminator(e.getBody());
  Value scaled = arith::MulFOp::create(
      scale, loc, load(scale, tile.sums, e.getInductionVar()), inverse);
  store(scale, scaled, tile.sums, e.getInductionVar());
  auto back = scf::ForOp::create(b, loc, zeroIndex, tile.rows, oneIndex);
  OpBuilder in = OpBuilder::atBlockTerminator(back.getBody());
  SmallVector<Value> point(loops);
  point[numBatch] = addIndex(in, loc, tile.firstRow, back.getInductionVar());
  auto column = scf::ForOp::create(in, loc, zeroIndex, sizeE, oneIndex);
  OpBuilder inner = OpBuilder::atBlockTerminator(column.getBody());
  point[numBatch + 3] = column.getInductionVar();
  Value result = memref::LoadOp::create(
      inner, loc, tile.sums,
      ValueRange{column.getInductionVar(), back.getInductionVar()});
  memref::StoreOp::create(inner, loc, result, out,
                          applyMap(inner, loc, maps.back(), point));
}

struct LowerBlockAttention
    : gossamer::impl::LowerBlockAttentionBase<LowerBlockAttention> {
  using LowerBlockAttentionBase::LowerBlockAttentionBase;
  void runOnOperation() override {
    SmallVector<AttentionOp> ops;
    getOperation().walk([&](AttentionOp op) { ops.push_back(op); });
    for (AttentionOp op : ops) {
      unsigned bits =
          getElementTypeOrSelf(op.getQuery()).getIntOrFloatBitWidth();
      if (bits < 32)
        continue;
      unsigned lanes = vectorBytes * 8 / bits;
      SmallVector<int64_t, 2> shape = BlockAttention::blockShape(op);
      // Lower blocks would leave most lanes empty.
      if (shape.empty() || shape[0] < lanes || !isVectorizable(op.getBlock()))
        continue;
      report(op, "gossamer.attention", Road::General,
             "one loop nest over " + Twine(shape[0]) + "x" + Twine(shape[1]) +
                 " blocks, " + Twine(lanes) +
                 " rows a vector, block rows in parallel, scores never stored");
      BlockAttention(op, lanes).run();
    }
  }
};

} // namespace
