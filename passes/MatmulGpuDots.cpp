//===- MatmulGpuDots.cpp - a warp sums a row, of a vector -----------------===//

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "passes/GpuLanes.h"
#include "passes/MatmulGpu.h"

using namespace mlir;
using namespace gossamer;

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

void GpuProduct::asDots() {
  Value one = constant(builder, 1), zero = constant(builder, 0);
  auto sumOfBlocks = [&](OpBuilder &b, const Row &row, Value rowInBlock,
                         ArrayRef<Value> loops) {
    return reduceOverLanes(
        b, loc, row.first, row.last, one, warpSize, initialSum(b),
        [&](OpBuilder &in, Value entry) {
          return product(in, row, rowInBlock, loops, entry, initialSum(in));
        },
        [&](OpBuilder &in, Value x, Value y) { return join(in, x, y); });
  };
  auto sumOf = [&](OpBuilder &b, const Row &row, const Pieces *pieces) {
    auto load = [&](OpBuilder &in, ArrayRef<Value> entries) {
      SmallVector<Value> summed;
      SmallVector<Factors> loaded;
      for (Value entry : entries)
        summed.push_back(storage.coordinate(in, format.leading.size(), entry));
      for (Value entry : entries)
        loaded.push_back(
            {memref::LoadOp::create(in, loc, storage.values, entry), Value()});
      for (auto [n, k] : llvm::enumerate(summed)) {
        SmallVector<Value> point(row.loops);
        point[format.summed] = k;
        loaded[n].dense = loadAt(in, loc, dense, denseMap, point);
      }
      return loaded;
    };
    return reduceOverLanes(
        b, loc, zero, constant(b, warpSize), one, warpSize, initialSum(b),
        [&](OpBuilder &in, Value lane) {
          return sumWithPieces(
              in, row, pieces, warpSize, lane, initialSum(in), load,
              [&](OpBuilder &at, const Factors &factors, Value sum) {
                return multiplyAdd(at, factors, sum);
              },
              [&](OpBuilder &at, Value piece) -> Value {
                return memref::LoadOp::create(at, loc, pieces->sums, piece);
              });
        },
        [&](OpBuilder &in, Value x, Value y) { return join(in, x, y); });
  };
  Pieces pieces{1024, 8192, {}, {}};
  if (mayBeCut()) {
    plan(builder, pieces, {});
    auto wide = scf::IfOp::create(builder, loc, isWide(builder, pieces),
                                  /*withElseRegion=*/false);
    OpBuilder in = wide.getThenBodyBuilder();
    auto loop =
        scf::ParallelOp::create(in, loc, zero, countPieces(in, pieces), one);
    OpBuilder at = OpBuilder::atBlockTerminator(loop.getBody());
    Value piece = loop.getInductionVars()[0];
    emitPiece(at, piece, pieces, [&](OpBuilder &to, const Row &row) {
      memref::StoreOp::create(to, loc, sumOf(to, row, nullptr), pieces.sums,
                              piece);
    });
  }
  auto loop = rowLoop(builder, 1, {});
  OpBuilder b = OpBuilder::atBlockTerminator(loop.getBody());
  auto vars = loop.getInductionVars();
  Row row = enterRow(b, vars[0]);
  Value rowInBlock = format.blockRows > 1 ? vars[1] : constant(b, 0);
  SmallVector<Value> loops = loopsOf(b, row, rowInBlock, 0);
  Value sum = format.blockSize() > 1
                  ? sumOfBlocks(b, row, rowInBlock, loops)
                  : sumOf(b, row, mayBeCut() ? &pieces : nullptr);
  Value value = emitEpilogue(b, finish(b, row, sum), loops);
  memref::StoreOp::create(b, loc, value, out,
                          applyMap(b, loc, resultMap, loops));
}
