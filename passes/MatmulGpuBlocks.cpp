//===- MatmulGpuBlocks.cpp - rows of blocks, 16 bytes of columns a thread -===//

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "passes/GpuLanes.h"
#include "passes/MatmulGpu.h"

using namespace mlir;
using namespace gossamer;

void GpuProduct::emitBlocks(OpBuilder &b, unsigned lane, int64_t count) {
  SmallVector<unsigned> outer = lanesBut(lane);
  int64_t rows = tileRows(4);
  Value chunks =
      arith::DivUIOp::create(b, loc, sizeOfLoop(b, lane), constant(b, count));
  // A warp's width of columns at a time, for all rows: what these read of the
  // dense operand stays in the first-level cache.
  Value width = arith::MinUIOp::create(b, loc, chunks, constant(b, warpSize));
  width = arith::MaxUIOp::create(b, loc, width, constant(b, 1));
  Value strips = arith::CeilDivUIOp::create(b, loc, chunks, width);
  auto loop = rowLoop(b, rows, outer, strips, width);
  OpBuilder in = OpBuilder::atBlockTerminator(loop.getBody());
  auto vars = loop.getInductionVars();
  Value chunk = addIndex(in, loc, mulIndex(in, loc, vars[outer.size()], width),
                         vars.back());
  auto isInside = scf::IfOp::create(
      in, loc,
      arith::CmpIOp::create(in, loc, arith::CmpIPredicate::ult, chunk, chunks),
      /*withElseRegion=*/false);
  in = isInside.getThenBodyBuilder();
  unsigned first = outer.size() + 1;
  Row row = enterRow(in, vars[first]);
  for (auto [n, other] : llvm::enumerate(outer))
    row.loops[other] = vars[n];
  row.loops[lane] = mulIndex(in, loc, chunk, constant(in, count));
  Value rowInBlock = constant(in, 0);
  if (rows < format.blockRows)
    rowInBlock = mulIndex(in, loc, vars[first + 1], constant(in, rows));
  auto pointsAt = [&](ValueRange loops) {
    return LanePoints{llvm::to_vector(loops), lane, count, Value()};
  };
  Sums sums = sumRow(in, row, rowInBlock, TileShape{rows, 1, count},
                     [&](OpBuilder &at, int64_t, Value k) -> Value {
                       LanePoints points = pointsAt(row.loops);
                       points.loops[format.summed] = k;
                       return loadPoints(at, loc, dense, denseMap, points);
                     });
  for (int64_t m = 0; m < rows; ++m)
    storeSums(in, sums[m], pointsAt(loopsOf(in, row, rowInBlock, m)));
}

void GpuProduct::inBlocks(OpBuilder &b, unsigned lane) {
  int64_t count = vectorLength();
  auto aligned = scf::IfOp::create(b, loc, isAligned(b, lane, count),
                                   /*withElseRegion=*/true);
  OpBuilder then = aligned.getThenBodyBuilder();
  emitBlocks(then, lane, count);
  OpBuilder otherwise = aligned.getElseBodyBuilder();
  emitBlocks(otherwise, lane, 1);
}
