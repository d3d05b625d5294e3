//===- LanePrefix.cpp - sums over the lanes before one --------------------===//

#include "passes/LanePrefix.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/LLVMIR/NVVMDialect.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Utils/StaticValueUtils.h"
#include "passes/GpuLanes.h"

using namespace mlir;
using namespace gossamer;

static LogicalResult verifyPlace(LanePrefixOp op) {
  auto loop = cast<scf::ParallelOp>(op->getParentOp());
  auto lanes = loop->getAttrOfType<IntegerAttr>(lanesAttrName);
  if (!lanes || loop.getNumLoops() != 1 || lanes.getInt() < 2 ||
      !isConstantIntValue(loop.getLowerBound()[0], 0) ||
      !isConstantIntValue(loop.getUpperBound()[0], lanes.getInt()) ||
      !isConstantIntValue(loop.getStep()[0], 1))
    return op.emitOpError("needs a loop from 0 to gossamer.lanes, with a step "
                          "of 1: an iteration for every lane");
  scf::ParallelOp kernel;
  for (Operation *at = loop->getParentOp(); at; at = at->getParentOp())
    if (auto outer = dyn_cast<scf::ParallelOp>(at))
      kernel = outer;
  if (!kernel || !isa<func::FuncOp, scf::IfOp>(kernel->getParentOp()))
    return op.emitOpError("needs a parallel loop around that of the lanes, "
                          "which becomes a kernel");
  WalkResult nested = loop.getBody()->walk([&](scf::ParallelOp inner) {
    return inner->hasAttr(lanesAttrName) ? WalkResult::interrupt()
                                         : WalkResult::advance();
  });
  if (nested.wasInterrupted())
    return op.emitOpError("cannot stand beside a loop that divides its lanes");
  return success();
}

LogicalResult gossamer::verifyLanePrefixes(Operation *function) {
  WalkResult result = function->walk([](LanePrefixOp op) {
    return failed(verifyPlace(op)) ? WalkResult::interrupt()
                                   : WalkResult::advance();
  });
  return failure(result.wasInterrupted());
}

void gossamer::expandLanePrefix(OpBuilder &b, LanePrefixOp op, Value lane,
                                int64_t lanes, Value mask) {
  Location loc = op.getLoc();
  Type i32 = b.getI32Type();
  auto literal = [&](int64_t value) -> Value {
    return arith::ConstantOp::create(b, loc, b.getIntegerAttr(i32, value));
  };
  auto shuffle = [&](NVVM::ShflKind kind, Value value, int64_t by,
                     int64_t limit) -> Value {
    // Lanes that work together are a segment of the warp.
    int64_t segment = (warpSize - lanes) << 8;
    return NVVM::ShflOp::create(b, loc, i32, mask, value, literal(by),
                                literal(segment | limit), kind, UnitAttr());
  };
  Value place = arith::IndexCastOp::create(b, loc, i32, lane);
  place = arith::AndIOp::create(b, loc, place, literal(lanes - 1));
  Value sum = op.getValue();
  for (int64_t apart = 1; apart < lanes; apart *= 2) {
    Value other = shuffle(NVVM::ShflKind::up, sum, apart, 0);
    Value more = arith::AddIOp::create(b, loc, sum, other);
    Value has = arith::CmpIOp::create(b, loc, arith::CmpIPredicate::sge, place,
                                      literal(apart));
    sum = arith::SelectOp::create(b, loc, has, more, sum);
  }
  Value total = shuffle(NVVM::ShflKind::idx, sum, lanes - 1, warpSize - 1);
  Value before = arith::SubIOp::create(b, loc, sum, op.getValue());
  op.replaceAllUsesWith(ValueRange{before, total});
  op.erase();
}
