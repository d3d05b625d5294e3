//===- MatmulBlocks.cpp - linear layers with weights in blocks ------------===//
//
// y[t, o] = sum_k x[t, k] w[o, k], rows of x and y contiguous: lanes are the
// rows o of a block. Each thread turns the blocks of a block row over once,
// into [k][o], where they stay in its first-level cache for all tokens; from
// there it is the tile of a dense product, (tokens) x (vectors of o), with the
// sums in registers over all blocks of the row. Neither x nor y is copied.
//
//===----------------------------------------------------------------------===//

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "passes/Matmul.h"
#include "passes/Report.h"
#include "passes/TransposedCopy.h"

using namespace mlir;
using namespace gossamer;

/// Tokens up to which blocks are not worth turning over: the products of each
/// with the rows of a block are summed across vectors.
static constexpr int64_t kFewTokens = 4;

namespace {

class TurnedBlocks : RowProduct {
public:
  TurnedBlocks(const MatmulLoops &loops, const RowFormat &format);
  static int64_t lanesFor(const MatmulLoops &loops, const RowFormat &format) {
    return std::gcd(format.blockRows, loops.lanesOfVector);
  }
  void run(OpBuilder b);

private:
  /// The blocks of a row as [block * columns + column][row].
  Value emitTurned(OpBuilder &b, const Row &row);
  void emitBlockRow(OpBuilder &b, Value number);
  void emitTokens(OpBuilder &b, const Row &row, Value turned, Value token,
                  int64_t count);

  /// Of a vector of rows, and vectors and tokens of a tile.
  int64_t width, vectors, tokens;
  Value numTokens;
};

TurnedBlocks::TurnedBlocks(const MatmulLoops &loops, const RowFormat &format)
    : RowProduct(loops, format), width(lanesFor(loops, format)) {
  int64_t inRow = format.blockRows / width;
  vectors = std::min<int64_t>(inRow, 4);
  while (inRow % vectors != 0)
    --vectors;
  tokens = std::clamp<int64_t>(accumulators * 3 / 2 / vectors, 1, 8);
}

Value TurnedBlocks::emitTurned(OpBuilder &b, const Row &row) {
  Value blocks = arith::SubIOp::create(b, loc, row.last, row.first);
  Value rows = constant(b, format.blockRows),
        columns = constant(b, format.blockColumns);
  Value depth = mulIndex(b, loc, blocks, columns);
  Value turned = memref::AllocOp::create(
      b, loc,
      MemRefType::get({ShapedType::kDynamic, format.blockRows}, sumType), depth,
      b.getI64IntegerAttr(64));
  auto loop =
      scf::ForOp::create(b, loc, constant(b, 0), blocks, constant(b, 1));
  OpBuilder in = OpBuilder::atBlockTerminator(loop.getBody());
  Value block = addIndex(in, loc, row.first, loop.getInductionVar());
  Value base = mulIndex(in, loc, loop.getInductionVar(), columns);
  emitTransposedCopy(
      in, loc, rows, columns, width,
      [&](OpBuilder &at, Value r, Value c, Value mask) {
        return extendTo(at, loc,
                        loadLanes(at, loc, width, storage.values,
                                  positionOf(at, block, r, c), mask),
                        sumType);
      },
      [&](OpBuilder &at, Value r, Value c, Value vector, Value mask) {
        storeLanes(at, loc, vector, turned,
                   ValueRange{addIndex(at, loc, base, c), r}, mask);
      });
  return turned;
}

void TurnedBlocks::emitTokens(OpBuilder &b, const Row &row, Value turned,
                              Value token, int64_t count) {
  SmallVector<SmallVector<Value>> at;
  for (int64_t m = 0; m < count; ++m) {
    at.push_back(row.loops);
    setLanes(b, at.back(), addIndex(b, loc, token, constant(b, m)));
  }
  TileShape shape{count, vectors, width};
  RegisterTile tile(loc, shape, sumType);
  auto chunk =
      scf::ForOp::create(b, loc, constant(b, 0), constant(b, format.blockRows),
                         constant(b, vectors * width));
  OpBuilder in = OpBuilder::atBlockTerminator(chunk.getBody());
  Value rowInBlock = chunk.getInductionVar();
  Value columns = constant(in, format.blockColumns);
  Sums sums = tile.carry(
      in, row.first, row.last, tile.fill(in, initialSum(in)),
      [&](OpBuilder &inner, Value block, ValueRange carried) {
        Value column = mulIndex(
            inner, loc, storage.coordinate(inner, format.leading.size(), block),
            columns);
        Value base = mulIndex(
            inner, loc, arith::SubIOp::create(inner, loc, block, row.first),
            columns);
        return tile.carry(
            inner, constant(inner, 0), columns, carried,
            [&](OpBuilder &deep, Value c, ValueRange sums) {
              return stepTile(
                  deep, tile, c, sums,
                  [&](OpBuilder &o, int64_t m, Value k) {
                    SmallVector<Value> point = at[m];
                    point[format.summed] = addIndex(o, loc, column, k);
                    return loadAt(o, loc, dense, denseMap, point);
                  },
                  [&](OpBuilder &o, int64_t n, Value k) {
                    Value r =
                        addIndex(o, loc, rowInBlock, constant(o, n * width));
                    return loadLanes(o, loc, width, turned,
                                     ValueRange{addIndex(o, loc, base, k), r});
                  });
            });
      });
  for (int64_t m = 0; m < count; ++m)
    for (int64_t n = 0; n < vectors; ++n) {
      LanePoints points{at[m], format.row, width, Value()};
      points.loops[format.row] =
          addIndex(in, loc, row.loops[format.row],
                   addIndex(in, loc, rowInBlock, constant(in, n * width)));
      storeSums(in, finish(in, row, sums[m * vectors + n]), points);
    }
}

void TurnedBlocks::emitBlockRow(OpBuilder &b, Value number) {
  Row row = enterRow(b, number);
  Value turned = emitTurned(b, row);
  // The last tile of tokens lies over the one before; fewer tokens than one
  // tile are taken by smaller ones.
  Value step = constant(b, tokens);
  Value enough =
      arith::CmpIOp::create(b, loc, arith::CmpIPredicate::uge, numTokens, step);
  auto choice = scf::IfOp::create(b, loc, enough, /*withElseRegion=*/true);
  OpBuilder then = choice.getThenBodyBuilder();
  auto loop = scf::ForOp::create(then, loc, constant(then, 0), numTokens, step);
  OpBuilder in = OpBuilder::atBlockTerminator(loop.getBody());
  Value lastTile = arith::SubIOp::create(in, loc, numTokens, step);
  Value token =
      arith::MinUIOp::create(in, loc, loop.getInductionVar(), lastTile);
  emitTokens(in, row, turned, token, tokens);
  OpBuilder otherwise = choice.getElseBodyBuilder();
  forEachRowStrip(otherwise, loc, numTokens, std::min<int64_t>(tokens, 2),
                  [&](OpBuilder &at, Value first, int64_t count) {
                    emitTokens(at, row, turned, first, count);
                  });
  memref::DeallocOp::create(b, loc, turned);
}

void TurnedBlocks::run(OpBuilder b) {
  numTokens = countLanes(b);
  RowParts parts(b, loc, storage, format.leading.size(), numRows,
                 mulIndex(b, loc, numTokens, constant(b, format.blockSize())));
  auto parallel = scf::ParallelOp::create(b, loc, constant(b, 0), parts.count,
                                          constant(b, 1));
  OpBuilder in = OpBuilder::atBlockTerminator(parallel.getBody());
  std::pair<Value, Value> range =
      parts.range(in, parallel.getInductionVars()[0]);
  auto rows =
      scf::ForOp::create(in, loc, range.first, range.second, constant(in, 1));
  OpBuilder inner = OpBuilder::atBlockTerminator(rows.getBody());
  emitBlockRow(inner, rows.getInductionVar());
}

} // namespace

bool gossamer::lowerInBlocks(const MatmulLoops &loops,
                             const RowFormat &format) {
  int64_t width = TurnedBlocks::lanesFor(loops, format);
  if (!isLinear(loops, format) || width < 4 ||
      width < loops.lanesOfVector / 2 || !isVectorizable(*loops.body))
    return false;
  report(loops.op, "gossamer.matmul", Road::General,
         "block rows in parallel, blocks turned over, sums in registers");
  TurnedBlocks blocks(loops, format);
  DotProducts dots(loops, format);
  OpBuilder b = loops.builder;
  Value few = arith::CmpIOp::create(b, loops.loc, arith::CmpIPredicate::ule,
                                    loops.countLanes(b),
                                    indexConstant(b, loops.loc, kFewTokens));
  auto choice = scf::IfOp::create(b, loops.loc, few, /*withElseRegion=*/true);
  dots.run(choice.getThenBodyBuilder());
  blocks.run(choice.getElseBodyBuilder());
  return true;
}
