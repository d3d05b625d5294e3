//===- MatmulGpu.cpp - which mapping a product has on a GPU ---------------===//

#include "passes/MatmulGpu.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/IR/TypeUtilities.h"
#include "passes/Report.h"

using namespace mlir;
using namespace gossamer;

std::optional<unsigned> GpuProduct::contiguousLane() const {
  std::optional<unsigned> lane = lastLoop(resultMap);
  if (!lane || lastLoop(denseMap) != lane || !isLane(*lane) ||
      !isVectorizable(*body))
    return {};
  return lane;
}

int64_t GpuProduct::vectorLength() const {
  return 128 / std::max<int64_t>(8, element.getIntOrFloatBitWidth());
}

Value GpuProduct::isAligned(OpBuilder &b, unsigned lane, int64_t count) const {
  // Addresses and sizes by one: any bit that should not be set shows.
  Value bits = constant(b, 0);
  auto add = [&](Value buffer, AffineMap map) {
    if (lastLoop(map) != lane)
      return;
    int64_t bytes =
        std::max<int64_t>(
            8, getElementTypeOrSelf(buffer).getIntOrFloatBitWidth()) /
        8;
    Value address =
        memref::ExtractAlignedPointerAsIndexOp::create(b, loc, buffer);
    address =
        arith::AndIOp::create(b, loc, address, constant(b, count * bytes - 1));
    bits = arith::OrIOp::create(b, loc, bits, address);
  };
  add(dense, denseMap);
  add(out, resultMap);
  for (auto [buffer, map] : llvm::zip(extras, extraMaps))
    add(buffer, map);
  Value rest =
      arith::RemUIOp::create(b, loc, sizeOfLoop(b, lane), constant(b, count));
  bits = arith::OrIOp::create(b, loc, bits, rest);
  // Rows of fewer bytes than 32 bits can say.
  Value much =
      arith::ShRUIOp::create(b, loc, sizeOfLoop(b, lane), constant(b, 28));
  bits = arith::OrIOp::create(b, loc, bits, much);
  return arith::CmpIOp::create(b, loc, arith::CmpIPredicate::eq, bits,
                               constant(b, 0));
}

scf::ParallelOp GpuProduct::rowLoop(OpBuilder &b, int64_t rows,
                                    ArrayRef<unsigned> outer, Value strips,
                                    Value inner) {
  SmallVector<Value> upper;
  for (unsigned loop : outer)
    upper.push_back(sizeOfLoop(b, loop));
  if (strips)
    upper.push_back(strips);
  upper.push_back(numRows);
  if (rows < format.blockRows)
    upper.push_back(constant(b, format.blockRows / rows));
  if (inner)
    upper.push_back(inner);
  return scf::ParallelOp::create(
      b, loc, SmallVector<Value>(upper.size(), constant(b, 0)), upper,
      SmallVector<Value>(upper.size(), constant(b, 1)));
}

SmallVector<unsigned> GpuProduct::lanesBut(std::optional<unsigned> lane) const {
  SmallVector<unsigned> rest;
  for (unsigned loop : lanes)
    if (loop != lane)
      rest.push_back(loop);
  return rest;
}

void GpuProduct::byNumber() {
  // The last loop of the result is the last of the grid's, for neighbours.
  std::optional<unsigned> last = lastLoop(resultMap);
  SmallVector<unsigned> outer;
  for (unsigned lane : lanes)
    if (lane != last)
      outer.push_back(lane);
  bool laneLast = outer.size() < lanes.size();
  auto loop = rowLoop(builder, 1, outer, Value(),
                      laneLast ? sizeOfLoop(builder, *last) : Value());
  OpBuilder b = OpBuilder::atBlockTerminator(loop.getBody());
  auto vars = loop.getInductionVars();
  Row row = enterRow(b, vars[outer.size()]);
  for (auto [n, lane] : llvm::enumerate(outer))
    row.loops[lane] = vars[n];
  if (laneLast)
    row.loops[*last] = vars.back();
  Value rowInBlock =
      format.blockRows > 1 ? vars[outer.size() + 1] : constant(b, 0);
  SmallVector<Value> loops = loopsOf(b, row, rowInBlock, 0);
  auto entries = scf::ForOp::create(b, loc, row.first, row.last, constant(b, 1),
                                    initialSum(b));
  OpBuilder in = OpBuilder::atBlockEnd(entries.getBody());
  scf::YieldOp::create(in, loc,
                       product(in, row, rowInBlock, loops,
                               entries.getInductionVar(),
                               entries.getRegionIterArg(0)));
  Value value = emitEpilogue(b, finish(b, row, entries.getResult(0)), loops);
  memref::StoreOp::create(b, loc, value, out,
                          applyMap(b, loc, resultMap, loops));
}

void gossamer::lowerOnGpu(const MatmulLoops &loops, const RowFormat &format) {
  GpuProduct product(loops, format);
  if (std::optional<unsigned> lane = product.contiguousLane()) {
    report(loops.op, "gossamer.matmul", Road::General,
           format.blockSize() == 1
               ? "GPU: a warp sums a row for a strip of columns, 16 bytes a "
                 "lane"
               : "GPU: a thread sums 16 bytes of a block's rows, in registers");
    product.inColumns(*lane);
  } else if (std::optional<unsigned> lane = product.lanesInColumns()) {
    report(loops.op, "gossamer.matmul", Road::General,
           "GPU: the dense operand is turned over; then as for one with "
           "contiguous columns. Up to four tokens: a warp sums a row");
    product.asLinear(*lane);
  } else if (loops.lanes.empty()) {
    report(loops.op, "gossamer.matmul", Road::General,
           "GPU: a warp sums a row, put together by shuffles");
    product.asDots();
  } else {
    report(loops.op, "gossamer.matmul", Road::General,
           "GPU: a thread sums one number of the result");
    product.byNumber();
  }
}
