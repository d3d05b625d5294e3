//===- HalfPrecision.cpp - float16 and bfloat16 in wider arithmetic -------===//

#include "passes/HalfPrecision.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/IR/TypeUtilities.h"

using namespace mlir;
using namespace gossamer;

bool gossamer::isHalf(Type type) { return type.isF16() || type.isBF16(); }

Type gossamer::sumTypeOf(Type element) {
  if (isa<FloatType>(element) && element.getIntOrFloatBitWidth() < 32)
    return Float32Type::get(element.getContext());
  return element;
}

Value gossamer::widened(OpBuilder &builder, Value tensor, Type element) {
  auto type = cast<RankedTensorType>(tensor.getType());
  if (type.getElementType() == element)
    return tensor;
  Location loc = tensor.getLoc();
  Value init = tensor::EmptyOp::create(
      builder, loc, tensor::getMixedSizes(builder, loc, tensor), element);
  AffineMap identity = builder.getMultiDimIdentityMap(type.getRank());
  SmallVector<utils::IteratorType> iterators(type.getRank(),
                                             utils::IteratorType::parallel);
  return linalg::GenericOp::create(
             builder, loc, init.getType(), tensor, init,
             ArrayRef<AffineMap>{identity, identity}, iterators,
             [&](OpBuilder &in, Location at, ValueRange args) {
               linalg::YieldOp::create(
                   in, at,
                   arith::ExtFOp::create(in, at, element, args[0]).getResult());
             })
      .getResult(0);
}

void gossamer::widenBody(Block &body, Type element) {
  DenseMap<Value, Value> wide; // of values in half precision
  OpBuilder builder(body.getParent());
  auto asWide = [&](Value value) {
    if (!isHalf(value.getType()))
      return value;
    Value &found = wide[value];
    if (!found) // an argument
      found = arith::ExtFOp::create(builder, value.getLoc(), element, value);
    return found;
  };
  SmallVector<Operation *> replaced;
  for (Operation &op : llvm::make_early_inc_range(body)) {
    bool isCast = isa<arith::ExtFOp, arith::TruncFOp>(op);
    bool touched = llvm::any_of(op.getOperandTypes(), isHalf) ||
                   llvm::any_of(op.getResultTypes(), isHalf);
    if (!touched)
      continue;
    builder.setInsertionPoint(&op);
    for (OpOperand &operand : op.getOpOperands())
      operand.set(asWide(operand.get()));
    if (op.getNumResults() != 1)
      continue;
    Value result = op.getResult(0);
    if (auto constant = dyn_cast<arith::ConstantOp>(op)) {
      double value = cast<FloatAttr>(constant.getValue()).getValueAsDouble();
      wide[result] = arith::ConstantOp::create(
          builder, op.getLoc(), builder.getFloatAttr(element, value));
      replaced.push_back(&op);
    } else if (isCast && op.getOperand(0).getType() == element &&
               (isHalf(result.getType()) || result.getType() == element)) {
      if (isHalf(result.getType()))
        wide[result] = op.getOperand(0);
      else
        result.replaceAllUsesWith(op.getOperand(0));
      replaced.push_back(&op);
    } else if (isHalf(result.getType())) {
      result.setType(element);
    }
  }
  for (Operation *op : llvm::reverse(replaced))
    op->erase();
}
