//===- GpuLanes.cpp - loops whose iterations are lanes of a warp ----------===//

#include "passes/GpuLanes.h"
#include "mlir/Dialect/Arith/IR/Arith.h"

using namespace mlir;

static void setLanes(scf::ParallelOp loop, int64_t lanes) {
  loop->setAttr(gossamer::lanesAttrName,
                OpBuilder(loop).getI64IntegerAttr(lanes));
}

void gossamer::forEachLane(OpBuilder &builder, Location loc, Value lower,
                           Value upper, int64_t lanes,
                           llvm::function_ref<void(OpBuilder &, Value)> body) {
  Value one = arith::ConstantIndexOp::create(builder, loc, 1);
  auto loop = scf::ParallelOp::create(builder, loc, lower, upper, one);
  setLanes(loop, lanes);
  OpBuilder in = OpBuilder::atBlockTerminator(loop.getBody());
  body(in, loop.getInductionVars()[0]);
}

Value gossamer::reduceOverLanes(
    OpBuilder &builder, Location loc, Value lower, Value upper, Value step,
    int64_t lanes, Value identity,
    llvm::function_ref<Value(OpBuilder &, Value)> body,
    llvm::function_ref<Value(OpBuilder &, Value, Value)> combine,
    int64_t apart) {
  auto loop =
      scf::ParallelOp::create(builder, loc, lower, upper, step, identity);
  setLanes(loop, lanes);
  if (apart > 1)
    loop->setAttr(apartAttrName, builder.getI64IntegerAttr(apart));
  OpBuilder in = OpBuilder::atBlockBegin(loop.getBody());
  Value value = body(in, loop.getInductionVars()[0]);
  auto reduce = scf::ReduceOp::create(in, loc, value);
  Block &block = reduce.getReductions().front().front();
  OpBuilder at = OpBuilder::atBlockEnd(&block);
  scf::ReduceReturnOp::create(
      at, loc, combine(at, block.getArgument(0), block.getArgument(1)));
  return loop.getResult(0);
}
