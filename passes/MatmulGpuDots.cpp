//===- MatmulGpuDots.cpp - a warp sums a row, of a vector -----------------===//

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "passes/GpuLanes.h"
#include "passes/MatmulGpu.h"

using namespace mlir;
using namespace gossamer;

/// Blocks on a multiprocessor: registers for eight entries of a lane.
static constexpr int64_t residentBlocks = 8;
/// Entries of a row on average below which fewer lanes have it, so that a warp
/// has several rows.
static constexpr int64_t shortRows = 48, fewLanes = 8;

Value GpuProduct::multiplyAdd(OpBuilder &b, const Factors &factors,
                              Value sum) const {
  Value lhs = extendTo(b, loc, factors.value, sumType);
  Value rhs = extendTo(b, loc, factors.dense, sumType);
  Value product = isa<FloatType>(sumType)
                      ? arith::MulFOp::create(b, loc, lhs, rhs).getResult()
                      : arith::MulIOp::create(b, loc, lhs, rhs).getResult();
  return join(b, sum, product);
}

/// `sum` with what one entry (block) adds to a row of it.
Value GpuProduct::product(OpBuilder &b, const Row &row, Value rowInBlock,
                          ArrayRef<Value> loops, Value entry, Value sum) const {
  Value column = mulIndex(
      b, loc, storage.coordinate(b, this->format.leading.size(), entry),
      constant(b, format.blockColumns));
  auto at = [&](OpBuilder &in, Value k, Value carried) {
    SmallVector<Value> point(loops);
    point[format.summed] = addIndex(in, loc, column, k);
    Value value = memref::LoadOp::create(in, loc, storage.values,
                                         positionOf(in, entry, rowInBlock, k));
    return multiplyAdd(in, {value, loadAt(in, loc, dense, denseMap, point)},
                       carried);
  };
  if (format.blockColumns == 1)
    return at(b, constant(b, 0), sum);
  auto loop =
      scf::ForOp::create(b, loc, constant(b, 0),
                         constant(b, format.blockColumns), constant(b, 1), sum);
  OpBuilder in = OpBuilder::atBlockEnd(loop.getBody());
  scf::YieldOp::create(
      in, loc, at(in, loop.getInductionVar(), loop.getRegionIterArg(0)));
  return loop.getResult(0);
}

SmallVector<GpuProduct::Factors>
GpuProduct::loadFactors(OpBuilder &b, ArrayRef<Value> entries,
                        function_ref<Value(Value)> loadDense) const {
  SmallVector<Value> summed;
  SmallVector<Factors> loaded;
  for (Value entry : entries)
    summed.push_back(storage.coordinate(b, format.leading.size(), entry));
  for (Value entry : entries)
    loaded.push_back(
        {memref::LoadOp::create(b, loc, storage.values, entry), Value()});
  for (auto [factors, k] : llvm::zip(loaded, summed))
    factors.dense = loadDense(k);
  return loaded;
}

Value GpuProduct::dotOfRow(OpBuilder &b, const Row &row, const Pieces *pieces,
                           int64_t rowLanes) const {
  auto load = [&](OpBuilder &in, ArrayRef<Value> entries) {
    return loadFactors(in, entries, [&](Value k) {
      SmallVector<Value> point(row.loops);
      point[format.summed] = k;
      return loadAt(in, loc, dense, denseMap, point);
    });
  };
  return reduceOverLanes(
      b, loc, constant(b, 0), constant(b, rowLanes), constant(b, 1), rowLanes,
      initialSum(b),
      [&](OpBuilder &in, Value lane) {
        return sumWithPieces(
            in, row, pieces, rowLanes, lane, initialSum(in), load,
            [&](OpBuilder &at, const Factors &factors, Value sum) {
              return multiplyAdd(at, factors, sum);
            },
            [&](OpBuilder &at, Value piece) -> Value {
              return memref::LoadOp::create(at, loc, pieces->sums, piece);
            });
      },
      [&](OpBuilder &in, Value x, Value y) { return join(in, x, y); });
}

/// Rows of entries, with `rowLanes` lanes each.
void GpuProduct::emitDots(OpBuilder &at, const Pieces *pieces,
                          int64_t rowLanes) {
  auto loop = rowLoop(at, 1, lanes);
  loop->setAttr(residentAttrName, at.getI64IntegerAttr(residentBlocks));
  if (pieces)
    loop->setAttr(followsAttrName, at.getUnitAttr());
  OpBuilder b = OpBuilder::atBlockTerminator(loop.getBody());
  Row row = enterRow(b, loop.getInductionVars().back());
  for (auto [lane, var] : llvm::zip(lanes, loop.getInductionVars()))
    row.loops[lane] = var;
  Value sum = dotOfRow(b, row, pieces, rowLanes);
  Value value = emitEpilogue(b, finish(b, row, sum), row.loops);
  memref::StoreOp::create(b, loc, value, out,
                          applyMap(b, loc, resultMap, row.loops));
}

/// The same of blocks, with a warp each.
void GpuProduct::emitBlockDots(OpBuilder &at) {
  auto loop = rowLoop(at, 1, lanes);
  OpBuilder b = OpBuilder::atBlockTerminator(loop.getBody());
  auto vars = loop.getInductionVars();
  Row row = enterRow(b, vars[lanes.size()]);
  for (auto [lane, var] : llvm::zip(lanes, vars))
    row.loops[lane] = var;
  Value rowInBlock = format.blockRows > 1 ? vars.back() : constant(b, 0);
  SmallVector<Value> loops = loopsOf(b, row, rowInBlock, 0);
  Value sum = reduceOverLanes(
      b, loc, row.first, row.last, constant(b, 1), warpSize, initialSum(b),
      [&](OpBuilder &in, Value entry) {
        return product(in, row, rowInBlock, loops, entry, initialSum(in));
      },
      [&](OpBuilder &in, Value x, Value y) { return join(in, x, y); });
  Value value = emitEpilogue(b, finish(b, row, sum), loops);
  memref::StoreOp::create(b, loc, value, out,
                          applyMap(b, loc, resultMap, loops));
}

void GpuProduct::asDots() {
  Value one = constant(builder, 1), zero = constant(builder, 0);
  if (format.blockSize() > 1) {
    emitBlockDots(builder);
    return;
  }
  Value areShort =
      arith::CmpIOp::create(builder, loc, arith::CmpIPredicate::ult,
                            meanOfRows(builder), constant(builder, shortRows));
  Pieces pieces;
  if (mayBeCut()) {
    // Where few lanes have a row, they keep less of it.
    Value least =
        arith::SelectOp::create(builder, loc, areShort, constant(builder, 256),
                                constant(builder, 1024));
    pieces = plan(builder, /*columns=*/2048, least, {});
    auto wide = scf::IfOp::create(builder, loc, isWide(builder, pieces),
                                  /*withElseRegion=*/false);
    OpBuilder in = wide.getThenBodyBuilder();
    auto loop =
        scf::ParallelOp::create(in, loc, zero, countPieces(in, pieces), one);
    loop->setAttr(residentAttrName, in.getI64IntegerAttr(residentBlocks));
    loop->setAttr(leadsAttrName, in.getUnitAttr());
    OpBuilder at = OpBuilder::atBlockTerminator(loop.getBody());
    Value piece = loop.getInductionVars()[0];
    emitPiece(at, piece, pieces, [&](OpBuilder &to, const Row &row) {
      memref::StoreOp::create(to, loc, dotOfRow(to, row, nullptr, warpSize),
                              pieces.sums, piece);
    });
  }
  auto branch =
      scf::IfOp::create(builder, loc, areShort, /*withElseRegion=*/true);
  OpBuilder then = branch.getThenBodyBuilder();
  emitDots(then, mayBeCut() ? &pieces : nullptr, fewLanes);
  OpBuilder otherwise = branch.getElseBodyBuilder();
  emitDots(otherwise, mayBeCut() ? &pieces : nullptr, warpSize);
}
