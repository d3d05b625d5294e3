//===- StoredOps.cpp - operations that make values on a pattern -----------===//

#include "passes/StoredOps.h"
#include "mlir/Dialect/Bufferization/IR/Bufferization.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/IR/TypeUtilities.h"
#include "passes/SharedPattern.h"

using namespace mlir;
using namespace gossamer;
using sparse_tensor::getSparseTensorEncoding;

Value gossamer::makeValues(OpBuilder &builder, Location loc, Value result,
                           Value patternValues) {
  Value size = memref::DimOp::create(builder, loc, patternValues, 0);
  return makeValuesOfSize(builder, loc, result, size);
}

Value gossamer::makeValuesOfSize(OpBuilder &builder, Location loc, Value result,
                                 Value size) {
  if (result.hasOneUse())
    if (auto store = dyn_cast<StoreValuesOp>(*result.user_begin()))
      return store.getBuffer();
  auto type =
      MemRefType::get({ShapedType::kDynamic}, getElementTypeOrSelf(result));
  return memref::AllocOp::create(builder, loc, type, size);
}

void gossamer::replaceWithValues(OpBuilder &builder, Operation *op,
                                 Value pattern, Value buffer) {
  Location loc = op->getLoc();
  auto type = cast<MemRefType>(buffer.getType());
  Value values = bufferization::ToTensorOp::create(
      builder, loc,
      RankedTensorType::get(type.getShape(), type.getElementType()), buffer,
      /*restrict=*/true, /*writable=*/true);
  Value result = AssembleOp::create(builder, loc, op->getResult(0).getType(),
                                    pattern, values);
  op->getResult(0).replaceAllUsesWith(result);
  op->erase();
}

BodyOperands::BodyOperands(OpBuilder &builder, Location loc,
                           ValueRange operands, ArrayRef<AffineMap> maps)
    : maps(maps) {
  for (Value operand : operands) {
    sparse.push_back(getSparseTensorEncoding(operand.getType()) != nullptr);
    buffers.push_back(
        sparse.back()
            ? Value(sparse_tensor::ToValuesOp::create(builder, loc, operand))
            : toBuffer(builder, loc, operand, /*readOnly=*/true));
  }
}

void BodyOperands::load(OpBuilder &builder, Location loc, ValueRange loops,
                        Value position, SmallVectorImpl<Value> &args) const {
  for (auto [buffer, map, isSparse] : llvm::zip(buffers, maps, sparse))
    args.push_back(
        isSparse
            ? memref::LoadOp::create(builder, loc, buffer, position).getResult()
            : loadAt(builder, loc, buffer, map, loops));
}

SmallVector<Value> gossamer::loopsOfDims(AffineMap patternMap,
                                         ValueRange dims) {
  SmallVector<Value> loops(patternMap.getNumDims());
  for (auto [expr, dim] : llvm::zip(patternMap.getResults(), dims))
    loops[cast<AffineDimExpr>(expr).getPosition()] = dim;
  return loops;
}

LogicalResult gossamer::verifyShared(Operation *op, Value pattern,
                                     ValueRange operands) {
  for (Value operand : operands)
    if (getSparseTensorEncoding(operand.getType()) &&
        !samePattern(operand, pattern))
      return op->emitOpError(
          "has a sparse operand on another pattern; an argument says with "
          "gossamer.pattern whose pattern it shares");
  return success();
}

std::optional<unsigned> gossamer::summedLoop(SDDMMOp op) {
  SmallVector<AffineMap> maps = op.getMaps();
  std::optional<unsigned> summed;
  for (unsigned loop = 0; loop < maps[0].getNumDims(); ++loop) {
    if (maps[0].isFunctionOfDim(loop))
      continue;
    if (summed || !maps[1].isFunctionOfDim(loop) ||
        !maps[2].isFunctionOfDim(loop))
      return {};
    summed = loop;
  }
  return summed;
}
