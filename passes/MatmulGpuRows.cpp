//===- MatmulGpuRows.cpp - a warp sums a row for a strip of columns -------===//

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "passes/GpuLanes.h"
#include "passes/MatmulGpu.h"

using namespace mlir;
using namespace gossamer;

/// Lanes for a line of the dense operand, 16 bytes each.
static constexpr int64_t lineLanes = 8;
/// Rows times strips that fill a GPU: with fewer, strips are a line wide, for
/// more warps, of which each is done sooner.
static constexpr int64_t manyWarps = 3072;
/// Blocks on a multiprocessor where there are many: all rows of a few thousand
/// are under way at once, and walk over the same part of the dense operand.
/// Elsewhere what counts is that a warp has all its loads under way at once.
static constexpr int64_t manyResident = 8, halfResident = 7, fewResident = 6;
/// In matrices wider than this a row may be so long that a warp would take
/// longer to add up its pieces than all others for what they do.
static constexpr int64_t veryWide = 1 << 15;
/// Entries of a row on average up to which four groups of lanes would mostly
/// have nothing to do.
static constexpr int64_t shortRows = 64;

bool GpuProduct::isByLines(const Strip &strip) const {
  MLIRContext *context = builder.getContext();
  auto coordinates =
      cast<MemRefType>(storage.coordinatesOf(format.leading.size()).getType());
  return strip.count > 1 && coordinates.getElementType().isInteger(32) &&
         denseMap == AffineMap::get(denseMap.getNumDims(), 0,
                                    {getAffineDimExpr(format.summed, context),
                                     getAffineDimExpr(strip.lane, context)},
                                    context);
}

/// Numbers of the dense operand from (k, column) on. The distance of rows is a
/// product of 32 bits by 32, in bytes, which with the address before it is one
/// instruction: the host has seen to it that rows are not longer.
Value GpuProduct::loadLine(OpBuilder &b, const Strip &strip, Value k,
                           Value column) const {
  int64_t bytes = 16 / strip.count;
  Value row = mulIndex(b, loc, sizeOfLoop(b, strip.lane), constant(b, bytes));
  row = arith::AndIOp::create(b, loc, row, constant(b, (int64_t(1) << 32) - 1));
  Value at = addIndex(b, loc, mulIndex(b, loc, column, constant(b, bytes)),
                      mulIndex(b, loc, k, row));
  Type byte = b.getI8Type();
  auto type =
      MemRefType::get(SmallVector<int64_t>(2, ShapedType::kDynamic), byte);
  Value buffer =
      UnrealizedConversionCastOp::create(b, loc, type, dense).getResult(0);
  Value line = vector::LoadOp::create(b, loc, VectorType::get(16, byte), buffer,
                                      ValueRange{constant(b, 0), at});
  return vector::BitCastOp::create(b, loc,
                                   VectorType::get(strip.count, element), line);
}

Value GpuProduct::sumInStrip(OpBuilder &b, const Row &row, const Strip &strip,
                             const Pieces *pieces, Value column) const {
  auto type = VectorType::get(strip.count, sumType);
  int64_t groups = warpSize / strip.lanes;
  auto load = [&](OpBuilder &in, ArrayRef<Value> entries) {
    return loadFactors(in, entries, [&](Value k) -> Value {
      if (isByLines(strip))
        return loadLine(in, strip, k, column);
      LanePoints points{row.loops, strip.lane, strip.count, Value()};
      points.loops[strip.lane] = column;
      points.loops[format.summed] = k;
      return loadPoints(in, loc, dense, denseMap, points);
    });
  };
  auto add = [&](OpBuilder &in, const Factors &factors, Value sum) -> Value {
    Value value = vector::BroadcastOp::create(
        in, loc, type, extendTo(in, loc, factors.value, sumType));
    return combine(in, value, extendTo(in, loc, factors.dense, sumType), sum);
  };
  auto loadPiece = [&](OpBuilder &in, Value piece) {
    return loadLanes(in, loc, strip.count, pieces->sums,
                     ValueRange{piece, column});
  };
  Value start = vector::BroadcastOp::create(b, loc, type, initialSum(b));
  auto share = [&](OpBuilder &in, Value group) {
    return sumWithPieces(in, row, pieces, groups, group, start, load, add,
                         loadPiece);
  };
  if (groups == 1)
    return share(b, constant(b, 0));
  return reduceOverLanes(
      b, loc, constant(b, 0), constant(b, groups), constant(b, 1), groups,
      start, share,
      [&](OpBuilder &in, Value x, Value y) { return join(in, x, y); },
      /*apart=*/strip.lanes);
}

void GpuProduct::emitStrips(OpBuilder &b, const Strip &strip,
                            const Pieces *pieces) {
  SmallVector<unsigned> outer = lanesBut(strip.lane);
  Value width = constant(b, strip.lanes), one = constant(b, 1);
  Value strips = arith::CeilDivUIOp::create(b, loc, strip.chunks, width);
  // The sums of a row, for all columns of a strip; `store` gets the first
  // column of a lane.
  auto forEachColumn = [&](OpBuilder &in, Value number, Row row,
                           const Pieces *rest, auto store) {
    forEachLane(in, loc, constant(in, 0), width, strip.lanes,
                [&](OpBuilder &at, Value place) {
                  Value chunk = addIndex(
                      at, loc, mulIndex(at, loc, number, width), place);
                  Value isInside = arith::CmpIOp::create(
                      at, loc, arith::CmpIPredicate::ult, chunk, strip.chunks);
                  // Beyond the end a lane does what the last one does: lanes
                  // stay together, and none is waited for.
                  Value end = arith::SubIOp::create(at, loc, strip.chunks, one);
                  chunk = arith::MinUIOp::create(at, loc, chunk, end);
                  Value column =
                      mulIndex(at, loc, chunk, constant(at, strip.count));
                  row.loops[strip.lane] = column;
                  Value sum = sumInStrip(at, row, strip, rest, column);
                  auto branch = scf::IfOp::create(at, loc, isInside,
                                                  /*withElseRegion=*/false);
                  OpBuilder then = branch.getThenBodyBuilder();
                  store(then, row, sum, column);
                });
  };
  if (pieces) {
    auto wide = scf::IfOp::create(b, loc, isWide(b, *pieces),
                                  /*withElseRegion=*/false);
    OpBuilder in = wide.getThenBodyBuilder();
    Value zero = constant(in, 0);
    auto loop = scf::ParallelOp::create(
        in, loc, ValueRange{zero, zero},
        ValueRange{strips, countPieces(in, *pieces)}, ValueRange{one, one});
    loop->setAttr(residentAttrName, b.getI64IntegerAttr(strip.resident));
    loop->setAttr(leadsAttrName, b.getUnitAttr());
    OpBuilder at = OpBuilder::atBlockTerminator(loop.getBody());
    auto vars = loop.getInductionVars();
    emitPiece(at, vars[1], *pieces, [&](OpBuilder &to, const Row &cut) {
      forEachColumn(to, vars[0], cut, nullptr,
                    [&](OpBuilder &then, const Row &, Value sum, Value column) {
                      storeLanes(then, loc, sum, pieces->sums,
                                 ValueRange{vars[1], column});
                    });
    });
  }
  auto loop = rowLoop(b, 1, outer, strips);
  loop->setAttr(residentAttrName, b.getI64IntegerAttr(strip.resident));
  if (pieces)
    loop->setAttr(followsAttrName, b.getUnitAttr());
  OpBuilder in = OpBuilder::atBlockTerminator(loop.getBody());
  auto vars = loop.getInductionVars();
  Row row = enterRow(in, vars.back());
  for (auto [n, other] : llvm::enumerate(outer))
    row.loops[other] = vars[n];
  forEachColumn(in, vars[outer.size()], row, pieces,
                [&](OpBuilder &then, const Row &at, Value sum, Value) {
                  storeSums(then, finish(then, at, sum),
                            LanePoints{at.loops, strip.lane, strip.count, {}});
                });
}

Value GpuProduct::isVeryWide(OpBuilder &b) const {
  return arith::CmpIOp::create(b, loc, arith::CmpIPredicate::ugt,
                               sizeOfLoop(b, format.summed),
                               constant(b, veryWide));
}

std::optional<GpuProduct::Pieces> GpuProduct::planRows(unsigned lane) {
  if (!mayBeCut() || lanes.size() > 1)
    return {};
  // Pieces are summed one beside the other, and then one behind the other: more
  // of them where they are short.
  Value least =
      arith::SelectOp::create(builder, loc, isVeryWide(builder),
                              constant(builder, 256), constant(builder, 128));
  return plan(builder, /*columns=*/512, least, {sizeOfLoop(builder, lane)});
}

void GpuProduct::inRows(OpBuilder &at, unsigned lane,
                        const std::optional<Pieces> &pieces) {
  int64_t count = vectorLength();
  auto aligned = scf::IfOp::create(at, loc, isAligned(at, lane, count),
                                   /*withElseRegion=*/true);
  auto emit = [&](OpBuilder b, Strip strip) {
    emitStrips(b, strip, pieces ? &*pieces : nullptr);
  };
  OpBuilder b = aligned.getThenBodyBuilder();
  Value chunks =
      arith::DivUIOp::create(b, loc, sizeOfLoop(b, lane), constant(b, count));
  auto areMany = [&](int64_t stripLanes) -> Value {
    Value warps = mulIndex(
        b, loc, arith::DivUIOp::create(b, loc, chunks, constant(b, stripLanes)),
        numRows);
    return arith::CmpIOp::create(b, loc, arith::CmpIPredicate::uge, warps,
                                 constant(b, manyWarps));
  };
  Value one = arith::ConstantIntOp::create(b, loc, 1, 1);
  Value isWide =
      arith::AndIOp::create(b, loc, areMany(warpSize),
                            arith::XOrIOp::create(b, loc, isVeryWide(b), one));
  Value areShort = arith::CmpIOp::create(b, loc, arith::CmpIPredicate::ult,
                                         meanOfRows(b), constant(b, shortRows));
  Value isHalf = arith::AndIOp::create(b, loc, areMany(warpSize / 2), areShort);
  auto wide = scf::IfOp::create(b, loc, isWide, /*withElseRegion=*/true);
  emit(wide.getThenBodyBuilder(),
       Strip{lane, warpSize, count, chunks, manyResident});
  OpBuilder in = wide.getElseBodyBuilder();
  auto half = scf::IfOp::create(in, loc, isHalf, /*withElseRegion=*/true);
  emit(half.getThenBodyBuilder(),
       Strip{lane, warpSize / 2, count, chunks, halfResident});
  emit(half.getElseBodyBuilder(),
       Strip{lane, lineLanes, count, chunks, fewResident});
  OpBuilder other = aligned.getElseBodyBuilder();
  emit(other, Strip{lane, warpSize, 1, sizeOfLoop(other, lane), fewResident});
}

void GpuProduct::inColumns(unsigned lane) {
  if (format.blockSize() > 1)
    inBlocks(builder, lane);
  else
    inRows(builder, lane, planRows(lane));
}
