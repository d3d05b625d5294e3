//===- MatmulRows.cpp - products with lanes contiguous on both sides ------===//
//
// C[i, j] = sum_k A[i, k] B[k, j]: a tile of (rows of a block) x (vectors of
// j) is summed over the entries of a row with the sums in registers, and goes
// through the epilogue into the result, which is neither filled nor read. A
// tile's lanes are the outer loop, so that what rows read of B stays in the
// second-level cache. Where B is wider than a tile and read often, its strips
// are copied apart first: as they lie, in rows of a large power of two, they
// fit into a part of the cache's sets only.
//
//===----------------------------------------------------------------------===//

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/IR/TypeUtilities.h"
#include "passes/Matmul.h"
#include "passes/Report.h"

using namespace mlir;
using namespace gossamer;

/// How often an element of B is read, on average, where a copy pays.
static constexpr int64_t kReadsWorthCopy = 16;

namespace {

class RowsInRegisters : RowProduct {
public:
  RowsInRegisters(const MatmulLoops &loops, const RowFormat &format,
                  unsigned lane)
      : RowProduct(loops, format), lane(lane), size(sizeOfLoop(builder, lane)) {
    rows = tileRows(8);
    vectors = std::clamp<int64_t>(accumulators / rows, 1, 8);
  }
  void run();

private:
  /// All rows of [first, last) in the lanes from `from` on; `masked` if some of
  /// these may lie beyond the last.
  void emitRows(OpBuilder &b, Value first, Value last, Value from,
                int64_t vectors, bool masked);
  /// Where the strip begins in `strips`.
  Value strip;
  LanePoints pointsAt(OpBuilder &b, ValueRange loops, Value from, int64_t n,
                      bool masked);

  /// Sets `strips`, from a copy if that pays; returns the copy's memory.
  Value copyStrips(Value width, Value wholeStrips);
  /// B as strips of columns in a flat buffer: how far apart rows are, and how
  /// far strips.
  struct Strips {
    Value buffer, stride, apart;
  };
  std::optional<Strips> strips;

  unsigned lane;
  Value size;
  int64_t rows, vectors;
  /// The other lanes, which are loops around everything.
  SmallVector<std::pair<unsigned, Value>> outer;
};

LanePoints RowsInRegisters::pointsAt(OpBuilder &b, ValueRange loops, Value from,
                                     int64_t n, bool masked) {
  LanePoints points{llvm::to_vector(loops), lane, lanesOfVector,
                    masked ? size : Value()};
  points.loops[lane] = addIndex(b, loc, from, constant(b, n * lanesOfVector));
  for (auto [loop, var] : outer)
    points.loops[loop] = var;
  return points;
}

void RowsInRegisters::emitRows(OpBuilder &b, Value first, Value last,
                               Value from, int64_t vectors, bool masked) {
  auto loop = scf::ForOp::create(b, loc, first, last, constant(b, 1));
  OpBuilder in = OpBuilder::atBlockTerminator(loop.getBody());
  Row row = enterRow(in, loop.getInductionVar());
  TileShape shape{rows, vectors, lanesOfVector};
  forEachTile(in, rows, [&](OpBuilder &at, Value rowInBlock) {
    Sums sums = sumRow(
        at, row, rowInBlock, shape,
        [&](OpBuilder &inner, int64_t n, Value k) -> Value {
          LanePoints points = pointsAt(inner, row.loops, from, n, masked);
          points.loops[format.summed] = k;
          if (!strips || masked)
            return loadPoints(inner, loc, dense, denseMap, points);
          Value at = addIndex(inner, loc, strip,
                              mulIndex(inner, loc, k, strips->stride));
          return loadLanes(
              inner, loc, lanesOfVector, strips->buffer,
              addIndex(inner, loc, at, constant(inner, n * lanesOfVector)));
        });
    for (int64_t m = 0; m < rows; ++m)
      for (int64_t n = 0; n < vectors; ++n)
        storeSums(
            at, sums[m * vectors + n],
            pointsAt(at, loopsOf(at, row, rowInBlock, m), from, n, masked));
  });
}

Value RowsInRegisters::copyStrips(Value width, Value wholeStrips) {
  MLIRContext *context = op.getContext();
  AffineMap rowsOfB = AffineMap::get(denseMap.getNumDims(), 0,
                                     {getAffineDimExpr(format.summed, context),
                                      getAffineDimExpr(lane, context)},
                                     context);
  if (denseMap != rowsOfB || lanes.size() != 1)
    return {};
  OpBuilder &b = builder;
  Type type = getElementTypeOrSelf(dense);
  Value zero = constant(b, 0), one = constant(b, 1);
  Value depth = sizeOfLoop(b, format.summed);
  Value reads =
      mulIndex(b, loc, storage.firstPosition(b, format.leading.size(), numRows),
               constant(b, format.blockColumns));
  Value enough = arith::CmpIOp::create(
      b, loc, arith::CmpIPredicate::uge, reads,
      mulIndex(b, loc, depth, constant(b, kReadsWorthCopy)));
  Value wide = arith::CmpIOp::create(b, loc, arith::CmpIPredicate::ugt,
                                     wholeStrips, one);
  Value pays = arith::AndIOp::create(b, loc, enough, wide);
  Value count = arith::SelectOp::create(b, loc, pays, wholeStrips, zero);
  Value ofStrip = mulIndex(b, loc, depth, width);
  auto flatType = MemRefType::get({ShapedType::kDynamic}, type);
  Value copy = memref::AllocOp::create(b, loc, flatType,
                                       mulIndex(b, loc, count, ofStrip),
                                       b.getI64IntegerAttr(64));
  // A few rows at a time, each from end to end.
  Value rowsAtOnce = constant(b, 16);
  Value noRows = arith::SelectOp::create(b, loc, pays, depth, zero);
  auto parallel = scf::ParallelOp::create(b, loc, zero, noRows, rowsAtOnce);
  OpBuilder in = OpBuilder::atBlockTerminator(parallel.getBody());
  Value first = parallel.getInductionVars()[0];
  Value last = arith::MinUIOp::create(
      in, loc, addIndex(in, loc, first, rowsAtOnce), depth);
  auto rowLoop = scf::ForOp::create(in, loc, first, last, one);
  in = OpBuilder::atBlockTerminator(rowLoop.getBody());
  Value k = rowLoop.getInductionVar();
  auto stripLoop = scf::ForOp::create(in, loc, zero, count, one);
  in = OpBuilder::atBlockTerminator(stripLoop.getBody());
  Value number = stripLoop.getInductionVar();
  Value to = addIndex(in, loc, mulIndex(in, loc, number, ofStrip),
                      mulIndex(in, loc, k, width));
  Value column = mulIndex(in, loc, number, width);
  for (int64_t n = 0; n < vectors; ++n) {
    Value offset = constant(in, n * lanesOfVector);
    Value vector = loadLanes(in, loc, lanesOfVector, dense,
                             {k, addIndex(in, loc, column, offset)});
    storeLanes(in, loc, vector, copy, addIndex(in, loc, to, offset));
  }
  Value all = mulIndex(b, loc, depth, size);
  Value flat = memref::ReinterpretCastOp::create(
      b, loc, flatType, dense, OpFoldResult(b.getIndexAttr(0)),
      ArrayRef<OpFoldResult>{all}, ArrayRef<OpFoldResult>{b.getIndexAttr(1)});
  strips = {arith::SelectOp::create(b, loc, pays, copy, flat),
            arith::SelectOp::create(b, loc, pays, width, size),
            arith::SelectOp::create(b, loc, pays, ofStrip, width)};
  return copy;
}

void RowsInRegisters::run() {
  Value zero = constant(builder, 0), one = constant(builder, 1);
  Value width = constant(builder, vectors * lanesOfVector);
  Value work = mulIndex(builder, loc, constant(builder, format.blockSize()),
                        arith::MinUIOp::create(builder, loc, size, width));
  RowParts parts(builder, loc, storage, format.leading.size(), numRows, work);
  SmallVector<Value> upper;
  for (unsigned loop : lanes)
    if (loop != lane) {
      outer.push_back({loop, Value()});
      upper.push_back(sizeOfLoop(builder, loop));
    }
  Value wholeStrips = arith::DivUIOp::create(builder, loc, size, width);
  Value copy = copyStrips(width, wholeStrips);
  upper.push_back(arith::CeilDivUIOp::create(builder, loc, size, width));
  upper.push_back(parts.count);
  auto parallel = scf::ParallelOp::create(
      builder, loc, SmallVector<Value>(upper.size(), zero), upper,
      SmallVector<Value>(upper.size(), one));
  OpBuilder b = OpBuilder::atBlockTerminator(parallel.getBody());
  auto vars = parallel.getInductionVars();
  for (auto [entry, var] : llvm::zip(outer, vars))
    entry.second = var;
  Value first, last;
  std::tie(first, last) = parts.range(b, vars.back());
  Value from = mulIndex(b, loc, vars[outer.size()], width);
  Value left = arith::SubIOp::create(b, loc, size, from);
  if (copy)
    memref::DeallocOp::create(builder, loc, copy);

  Value full =
      arith::CmpIOp::create(b, loc, arith::CmpIPredicate::uge, left, width);
  auto whole = scf::IfOp::create(b, loc, full, /*withElseRegion=*/true);
  OpBuilder then = whole.getThenBodyBuilder();
  if (strips)
    strip = mulIndex(then, loc, vars[outer.size()], strips->apart);
  emitRows(then, first, last, from, vectors, /*masked=*/false);
  // The rest in strips of half a tile, but for what fits into one vector.
  OpBuilder rest = whole.getElseBodyBuilder();
  int64_t half = std::max<int64_t>(1, vectors / 2);
  auto emitStrips = [&](OpBuilder &at, int64_t count) {
    auto strip = scf::ForOp::create(at, loc, from, size,
                                    constant(at, count * lanesOfVector));
    OpBuilder in = OpBuilder::atBlockTerminator(strip.getBody());
    emitRows(in, first, last, strip.getInductionVar(), count, /*masked=*/true);
  };
  if (half == 1)
    return emitStrips(rest, 1);
  Value narrow = arith::CmpIOp::create(rest, loc, arith::CmpIPredicate::ule,
                                       left, constant(rest, lanesOfVector));
  auto few = scf::IfOp::create(rest, loc, narrow, /*withElseRegion=*/true);
  OpBuilder one1 = few.getThenBodyBuilder();
  emitStrips(one1, 1);
  OpBuilder more = few.getElseBodyBuilder();
  emitStrips(more, half);
}

} // namespace

bool gossamer::lowerInRows(const MatmulLoops &loops, const RowFormat &format) {
  std::optional<unsigned> lane = loops.lastLoop(loops.resultMap);
  if (!lane || loops.lastLoop(loops.denseMap) != lane || !loops.isLane(*lane) ||
      !isVectorizable(*loops.body))
    return false;
  report(loops.op, "gossamer.matmul", Road::General,
         "rows in parallel, their sums in registers");
  RowsInRegisters(loops, format, *lane).run();
  return true;
}
