//===- MatmulPanels.cpp - linear layers with weights in entries -----------===//
//
// y[t, o] = sum_k x[t, k] w[o, k], rows of x and y contiguous: lanes are tokens
// t. x is turned over into panels [k][t] of a few vectors, all at once and in
// parallel; then rows of w, with the sums of a panel in registers; what a few
// rows make of a panel is turned over again, goes through the epilogue, and is
// stored along o.
//
//===----------------------------------------------------------------------===//

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "passes/Matmul.h"
#include "passes/Report.h"
#include "passes/TransposedCopy.h"

using namespace mlir;
using namespace gossamer;

/// Tokens up to which each is a product of its own: gathered, not packed.
static constexpr int64_t kFewTokens = 2;
/// Vectors of a wide panel.
static constexpr int64_t kVectors = 4;

namespace {

class TokenPanels : RowProduct {
public:
  TokenPanels(const MatmulLoops &loops, const RowFormat &format)
      : RowProduct(loops, format), wide(kVectors * lanesOfVector) {}
  void run(OpBuilder b);

private:
  /// A panel while it is worked on.
  struct Panel {
    Value firstToken; // of all
    Value start;      // of its numbers in the buffer of a batch
    int64_t vectors;
  };
  void planPanels(OpBuilder &b);
  /// Where the panel of a token begins, and its width.
  std::pair<Value, Value> placeOf(OpBuilder &b, Value token);
  void emitPacking(OpBuilder &b);
  void emitProducts(OpBuilder &b);
  void emitPanel(OpBuilder &b, const Panel &panel, Value first, Value last);
  void emitRows(OpBuilder &b, const Panel &panel, Value first, Value last,
                Value sums);
  void emitResults(OpBuilder &b, const Panel &panel, const Row &row,
                   Value count, Value sums, Value turned);
  /// The number of batches before a row's: the leading levels but the last.
  Value batchOf(OpBuilder &b, const Row &row);

  int64_t wide;
  Value numTokens, numWide, numNarrow, inWide, depth, batchStride, packed;
};

void TokenPanels::planPanels(OpBuilder &b) {
  numTokens = countLanes(b);
  // More than half of a wide panel is worth one; the rest goes into panels of
  // one vector.
  Value half = constant(b, wide / 2 - 1);
  numWide = arith::DivUIOp::create(b, loc, addIndex(b, loc, numTokens, half),
                                   constant(b, wide));
  inWide = mulIndex(b, loc, numWide, constant(b, wide));
  Value covered = arith::MinUIOp::create(b, loc, inWide, numTokens);
  numNarrow = arith::CeilDivUIOp::create(
      b, loc, arith::SubIOp::create(b, loc, numTokens, covered),
      constant(b, lanesOfVector));
  depth =
      mulIndex(b, loc,
               arith::CeilDivUIOp::create(b, loc, sizeOfLoop(b, format.summed),
                                          constant(b, lanesOfVector)),
               constant(b, lanesOfVector));
  Value tokens = addIndex(
      b, loc, inWide, mulIndex(b, loc, numNarrow, constant(b, lanesOfVector)));
  batchStride = mulIndex(b, loc, tokens, depth);
}

std::pair<Value, Value> TokenPanels::placeOf(OpBuilder &b, Value token) {
  Value isWide =
      arith::CmpIOp::create(b, loc, arith::CmpIPredicate::ult, token, inWide);
  Value width = arith::SelectOp::create(b, loc, isWide, constant(b, wide),
                                        constant(b, lanesOfVector));
  // The tokens before a panel fill `depth` rows each; inWide is a multiple of
  // the width.
  Value inPanel = arith::RemUIOp::create(b, loc, token, width);
  Value before = arith::SubIOp::create(b, loc, token, inPanel);
  return {addIndex(b, loc, mulIndex(b, loc, before, depth), inPanel), width};
}

void TokenPanels::emitPacking(OpBuilder &b) {
  Value one = constant(b, 1), zero = constant(b, 0);
  Value strips = addIndex(
      b, loc, mulIndex(b, loc, numWide, constant(b, kVectors)), numNarrow);
  SmallVector<Value> upper;
  for (unsigned lvl = 0; lvl + 1 < format.leading.size(); ++lvl)
    upper.push_back(storage.lvlSize(lvl));
  upper.push_back(strips);
  auto parallel =
      scf::ParallelOp::create(b, loc, SmallVector<Value>(upper.size(), zero),
                              upper, SmallVector<Value>(upper.size(), one));
  OpBuilder in = OpBuilder::atBlockTerminator(parallel.getBody());
  auto vars = parallel.getInductionVars();
  SmallVector<Value> loops(resultMap.getNumDims());
  Value batch = zero;
  for (unsigned lvl = 0; lvl + 1 < format.leading.size(); ++lvl) {
    loops[format.leading[lvl]] = vars[lvl];
    batch = addIndex(in, loc, mulIndex(in, loc, batch, storage.lvlSize(lvl)),
                     vars[lvl]);
  }
  Value token = mulIndex(in, loc, vars.back(), constant(in, lanesOfVector));
  auto [place, width] = placeOf(in, token);
  Value start = addIndex(in, loc, mulIndex(in, loc, batch, batchStride), place);
  // Lanes beyond the last token repeat it; what they make is never stored.
  Value lastToken = arith::SubIOp::create(in, loc, numTokens, one);
  SmallVector<LanePoints> at;
  for (int64_t n = 0; n < lanesOfVector; ++n) {
    Value t = addIndex(in, loc, token, constant(in, n));
    at.push_back({loops, format.summed, lanesOfVector, Value()});
    setLanes(in, at.back().loops,
             arith::MinUIOp::create(in, loc, t, lastToken));
  }
  Value size = sizeOfLoop(in, format.summed),
        step = constant(in, lanesOfVector);
  Value whole = arith::SubIOp::create(
      in, loc, size, arith::RemUIOp::create(in, loc, size, step));
  Value rowStride = width, panelStart = start;
  auto emitSquare = [&](OpBuilder &o, Value k, Value end) {
    SmallVector<Value> vectors;
    for (LanePoints points : at) {
      points.loops[format.summed] = k;
      points.end = end;
      vectors.push_back(extendTo(
          o, loc, loadPoints(o, loc, dense, denseMap, points), sumType));
    }
    for (auto [n, vector] : llvm::enumerate(transposeLanes(o, loc, vectors))) {
      Value row = addIndex(o, loc, k, constant(o, n));
      storeLanes(
          o, loc, vector, packed,
          addIndex(o, loc, panelStart, mulIndex(o, loc, row, rowStride)));
    }
  };
  auto squares = scf::ForOp::create(in, loc, zero, whole, step);
  OpBuilder inner = OpBuilder::atBlockTerminator(squares.getBody());
  emitSquare(inner, squares.getInductionVar(), Value());
  Value ragged =
      arith::CmpIOp::create(in, loc, arith::CmpIPredicate::ult, whole, size);
  auto rest = scf::IfOp::create(in, loc, ragged, /*withElseRegion=*/false);
  OpBuilder then = rest.getThenBodyBuilder();
  emitSquare(then, whole, size);
}

Value TokenPanels::batchOf(OpBuilder &b, const Row &row) {
  Value batch = constant(b, 0);
  for (unsigned lvl = 0; lvl + 1 < format.leading.size(); ++lvl)
    batch = addIndex(b, loc, mulIndex(b, loc, batch, storage.lvlSize(lvl)),
                     row.loops[format.leading[lvl]]);
  return batch;
}

/// The sums of the rows [first, last), one behind the other.
void TokenPanels::emitRows(OpBuilder &b, const Panel &panel, Value first,
                           Value last, Value sums) {
  auto loop = scf::ForOp::create(b, loc, first, last, constant(b, 1));
  OpBuilder in = OpBuilder::atBlockTerminator(loop.getBody());
  Row row = enterRow(in, loop.getInductionVar());
  Value start = addIndex(
      in, loc, mulIndex(in, loc, batchOf(in, row), batchStride), panel.start);
  Value place = mulIndex(
      in, loc, arith::SubIOp::create(in, loc, loop.getInductionVar(), first),
      constant(in, format.blockRows));
  int64_t rows = tileRows(std::max<int64_t>(1, accumulators / panel.vectors));
  TileShape shape{rows, panel.vectors, lanesOfVector};
  forEachTile(in, rows, [&](OpBuilder &at, Value rowInBlock) {
    Sums made = sumRow(
        at, row, rowInBlock, shape, [&](OpBuilder &o, int64_t n, Value k) {
          Value from =
              mulIndex(o, loc, k, constant(o, panel.vectors * lanesOfVector));
          from = addIndex(o, loc, addIndex(o, loc, start, from),
                          constant(o, n * lanesOfVector));
          return loadLanes(o, loc, lanesOfVector, packed, from);
        });
    Value base = addIndex(at, loc, place, rowInBlock);
    for (int64_t m = 0; m < rows; ++m)
      for (int64_t n = 0; n < panel.vectors; ++n)
        storeLanes(at, loc, made[m * panel.vectors + n], sums,
                   ValueRange{addIndex(at, loc, base, constant(at, m)),
                              constant(at, n * lanesOfVector)});
  });
}

/// `count` rows of sums from `row` on, turned over, into the result.
void TokenPanels::emitResults(OpBuilder &b, const Panel &panel, const Row &row,
                              Value count, Value sums, Value turned) {
  Value one = constant(b, 1), zero = constant(b, 0);
  Value left = arith::SubIOp::create(b, loc, numTokens, panel.firstToken);
  Value filled = arith::MinUIOp::create(
      b, loc, left, constant(b, panel.vectors * lanesOfVector));
  emitTransposedCopy(
      b, loc, constant(b, cast<MemRefType>(sums.getType()).getDimSize(0)),
      constant(b, panel.vectors * lanesOfVector), lanesOfVector,
      [&](OpBuilder &at, Value r, Value c, Value mask) {
        return loadLanes(at, loc, lanesOfVector, sums, ValueRange{r, c}, mask);
      },
      [&](OpBuilder &at, Value r, Value c, Value vector, Value mask) {
        storeLanes(at, loc, vector, turned, ValueRange{c, r}, mask);
      });
  auto tokens = scf::ForOp::create(b, loc, zero, filled, one);
  OpBuilder in = OpBuilder::atBlockTerminator(tokens.getBody());
  LanePoints points{row.loops, format.row, lanesOfVector, Value()};
  setLanes(in, points.loops,
           addIndex(in, loc, panel.firstToken, tokens.getInductionVar()));
  Value step = constant(in, lanesOfVector);
  auto emit = [&](OpBuilder &at, Value from, bool masked) {
    LanePoints here = points;
    here.loops[format.row] = addIndex(at, loc, row.loops[format.row], from);
    if (masked)
      here.end = addIndex(at, loc, row.loops[format.row], count);
    storeSums(at,
              loadLanes(at, loc, lanesOfVector, turned,
                        ValueRange{tokens.getInductionVar(), from}),
              here);
  };
  Value whole = arith::SubIOp::create(
      in, loc, count, arith::RemUIOp::create(in, loc, count, step));
  auto loop = scf::ForOp::create(in, loc, zero, whole, step);
  OpBuilder inner = OpBuilder::atBlockTerminator(loop.getBody());
  emit(inner, loop.getInductionVar(), /*masked=*/false);
  Value ragged =
      arith::CmpIOp::create(in, loc, arith::CmpIPredicate::ult, whole, count);
  auto rest = scf::IfOp::create(in, loc, ragged, /*withElseRegion=*/false);
  OpBuilder then = rest.getThenBodyBuilder();
  emit(then, whole, /*masked=*/true);
}

void TokenPanels::emitPanel(OpBuilder &b, const Panel &panel, Value first,
                            Value last) {
  // As many rows as fill a vector.
  int64_t group = llvm::divideCeil(lanesOfVector, format.blockRows);
  int64_t height = llvm::alignTo(group * format.blockRows, lanesOfVector);
  auto allocate = [&](int64_t rows, int64_t columns) -> Value {
    return memref::AllocOp::create(b, loc,
                                   MemRefType::get({rows, columns}, sumType),
                                   ValueRange(), b.getI64IntegerAttr(64));
  };
  Value sums = allocate(height, panel.vectors * lanesOfVector);
  Value turned = allocate(panel.vectors * lanesOfVector, height);
  // A group of rows ends with its batch.
  auto loop = scf::WhileOp::create(
      b, loc, TypeRange{b.getIndexType()}, ValueRange{first},
      [&](OpBuilder &at, Location l, ValueRange from) {
        Value more = arith::CmpIOp::create(at, l, arith::CmpIPredicate::ult,
                                           from[0], last);
        scf::ConditionOp::create(at, l, more, from);
      },
      [&](OpBuilder &at, Location l, ValueRange from) {
        Value next = addIndex(at, l, from[0], constant(at, group));
        next = arith::MinUIOp::create(at, l, next, last);
        if (format.leading.size() > 1) {
          Value size = storage.lvlSize(format.leading.size() - 1);
          Value batch = arith::DivUIOp::create(at, l, from[0], size);
          Value end =
              mulIndex(at, l, addIndex(at, l, batch, constant(at, 1)), size);
          next = arith::MinUIOp::create(at, l, next, end);
        }
        emitRows(at, panel, from[0], next, sums);
        Value count =
            mulIndex(at, l, arith::SubIOp::create(at, l, next, from[0]),
                     constant(at, format.blockRows));
        emitResults(at, panel, enterRow(at, from[0]), count, sums, turned);
        scf::YieldOp::create(at, l, next);
      });
  (void)loop;
  memref::DeallocOp::create(b, loc, sums);
  memref::DeallocOp::create(b, loc, turned);
}

void TokenPanels::emitProducts(OpBuilder &b) {
  Value one = constant(b, 1), zero = constant(b, 0);
  Value work =
      mulIndex(b, loc, constant(b, format.blockSize()),
               arith::MinUIOp::create(b, loc, numTokens, constant(b, wide)));
  RowParts parts(b, loc, storage, format.leading.size(), numRows, work);
  SmallVector<Value> upper{addIndex(b, loc, numWide, numNarrow), parts.count};
  auto parallel = scf::ParallelOp::create(b, loc, SmallVector<Value>(2, zero),
                                          upper, SmallVector<Value>(2, one));
  OpBuilder in = OpBuilder::atBlockTerminator(parallel.getBody());
  Value number = parallel.getInductionVars()[0];
  std::pair<Value, Value> rows =
      parts.range(in, parallel.getInductionVars()[1]);
  Value isWide = arith::CmpIOp::create(in, loc, arith::CmpIPredicate::ult,
                                       number, numWide);
  auto choice = scf::IfOp::create(in, loc, isWide, /*withElseRegion=*/true);
  auto emit = [&](OpBuilder at, int64_t vectors, Value token) {
    Panel panel{token, placeOf(at, token).first, vectors};
    emitPanel(at, panel, rows.first, rows.second);
  };
  OpBuilder then = choice.getThenBodyBuilder();
  emit(then, kVectors, mulIndex(then, loc, number, constant(then, wide)));
  OpBuilder other = choice.getElseBodyBuilder();
  Value narrow = arith::SubIOp::create(other, loc, number, numWide);
  emit(other, 1,
       addIndex(other, loc, inWide,
                mulIndex(other, loc, narrow, constant(other, lanesOfVector))));
}

void TokenPanels::run(OpBuilder b) {
  planPanels(b);
  Value size = batchStride;
  for (unsigned lvl = 0; lvl + 1 < format.leading.size(); ++lvl)
    size = mulIndex(b, loc, size, storage.lvlSize(lvl));
  packed = memref::AllocOp::create(
      b, loc, MemRefType::get({ShapedType::kDynamic}, sumType), size,
      b.getI64IntegerAttr(64));
  emitPacking(b);
  emitProducts(b);
  memref::DeallocOp::create(b, loc, packed);
}

} // namespace

bool gossamer::lowerInPanels(const MatmulLoops &loops,
                             const RowFormat &format) {
  if (!isLinear(loops, format) || !isVectorizable(*loops.body))
    return false;
  report(loops.op, "gossamer.matmul", Road::General,
         "rows in parallel, on panels of tokens, sums in registers");
  TokenPanels panels(loops, format);
  DotProducts dots(loops, format);
  OpBuilder b = loops.builder;
  Value few = arith::CmpIOp::create(b, loops.loc, arith::CmpIPredicate::ule,
                                    loops.countLanes(b),
                                    indexConstant(b, loops.loc, kFewTokens));
  auto choice = scf::IfOp::create(b, loops.loc, few, /*withElseRegion=*/true);
  dots.run(choice.getThenBodyBuilder());
  panels.run(choice.getElseBodyBuilder());
  return true;
}
