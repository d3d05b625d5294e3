//===- AttentionLoops.cpp - what loops over a masked attention share ------===//

#include "passes/AttentionLoops.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Bufferization/IR/Bufferization.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/IR/TypeUtilities.h"
#include "passes/HalfPrecision.h"

using namespace mlir;
using namespace gossamer;

AttentionLoops::AttentionLoops(AttentionOp op)
    : op(op), builder(op), loc(op.getLoc()), maps(op.getMaps()),
      numBatch(op.getNumBatchDims()), rank(maps[3].getNumResults()),
      mask(builder, loc, op.getMask()),
      operand(cast<FloatType>(getElementTypeOrSelf(op.getQuery()))),
      element(cast<FloatType>(sumTypeOf(operand))) {
  query = toBuffer(builder, loc, op.getQuery(), true);
  key = toBuffer(builder, loc, op.getKey(), true);
  value = toBuffer(builder, loc, op.getValue(), true);
  for (Value extra : op.getExtras())
    extras.push_back(toBuffer(builder, loc, extra, true));
  out = destination(builder, loc, op.getInit());
  sizeD = sizeOf(query, maps[0], numBatch + 2);
  sizeE = sizeOf(value, maps[2], numBatch + 3);
  zeroIndex = indexConstant(builder, loc, 0);
  oneIndex = indexConstant(builder, loc, 1);
  zero = constant(0.0);
  one = constant(1.0);
  lowest = constant(-std::numeric_limits<double>::infinity());
}

Value AttentionLoops::sizeOf(Value buffer, AffineMap map, unsigned loop) {
  AffineExpr expr = getAffineDimExpr(loop, op.getContext());
  return memref::DimOp::create(builder, loc, buffer,
                               *map.getResultPosition(expr));
}

Value AttentionLoops::constant(double value) {
  return arith::ConstantOp::create(builder, loc,
                                   builder.getFloatAttr(element, value));
}

Value AttentionLoops::narrow(OpBuilder &b, Value sum) {
  if (!isNarrow())
    return sum;
  Type type = operand;
  if (auto vector = dyn_cast<VectorType>(sum.getType()))
    type = vector.clone(operand);
  return arith::TruncFOp::create(b, loc, type, sum);
}

void AttentionLoops::forEachRow(
    Value rows, llvm::function_ref<void(OpBuilder &, ValueRange)> body) {
  SmallVector<Value> lower(numBatch + 1, zeroIndex), upper,
      step(numBatch + 1, oneIndex);
  for (unsigned loop = 0; loop < numBatch; ++loop)
    upper.push_back(sizeOf(out, maps.back(), loop));
  upper.push_back(rows);
  auto loops = scf::ParallelOp::create(builder, loc, lower, upper, step);
  OpBuilder inside = OpBuilder::atBlockTerminator(loops.getBody());
  body(inside, loops.getInductionVars());

  Value result = bufferization::ToTensorOp::create(
      builder, loc, op.getResult().getType(), out, /*restrict=*/true,
      /*writable=*/true);
  op.getResult().replaceAllUsesWith(result);
  op.erase();
}
