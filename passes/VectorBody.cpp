//===- VectorBody.cpp - scalar bodies on vectors of points ----------------===//

#include "passes/VectorBody.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "mlir/IR/IRMapping.h"
#include "mlir/IR/TypeUtilities.h"
#include "passes/RegisterTile.h"
#include "passes/Storage.h"

using namespace mlir;
using namespace gossamer;

Value LanePoints::mask(OpBuilder &builder, Location loc) const {
  if (!end)
    return {};
  Value left = arith::SubIOp::create(builder, loc, end, loops[lane]);
  return vector::CreateMaskOp::create(
      builder, loc, VectorType::get(count, builder.getI1Type()), left);
}

bool gossamer::isVectorizable(Block &body) {
  return llvm::all_of(body.without_terminator(), [](Operation &op) {
    return isa<IndexOp>(op) || op.hasTrait<OpTrait::ConstantLike>() ||
           (OpTrait::hasElementwiseMappableTraits(&op) &&
            op.getNumResults() == 1);
  });
}

static Value splat(OpBuilder &builder, Location loc, Value value,
                   int64_t lanes) {
  if (isa<VectorType>(value.getType()))
    return value;
  return vector::BroadcastOp::create(
      builder, loc, VectorType::get(lanes, value.getType()), value);
}

/// A bool is a byte in memory, but bits in a vector.
static Value asBytes(OpBuilder &builder, Location loc, Value buffer) {
  auto type = cast<MemRefType>(buffer.getType());
  if (!type.getElementType().isInteger(1))
    return buffer;
  return UnrealizedConversionCastOp::create(
             builder, loc,
             MemRefType::get(type.getShape(), builder.getI8Type()), buffer)
      .getResult(0);
}

static bool isContiguous(AffineMap map, unsigned lane) {
  return map.getNumResults() > 0 &&
         map.getResults().back() == getAffineDimExpr(lane, map.getContext());
}

/// The points one by one; those beyond the end repeat the last before it.
static SmallVector<Value> pointOf(OpBuilder &builder, Location loc,
                                  const LanePoints &points, int64_t n) {
  SmallVector<Value> loops(points.loops);
  Value at = addIndex(builder, loc, loops[points.lane],
                      indexConstant(builder, loc, n));
  if (points.end) {
    Value last = arith::SubIOp::create(builder, loc, points.end,
                                       indexConstant(builder, loc, 1));
    at = arith::MinUIOp::create(builder, loc, at, last);
  }
  loops[points.lane] = at;
  return loops;
}

Value gossamer::loadPoints(OpBuilder &builder, Location loc, Value buffer,
                           AffineMap map, const LanePoints &points) {
  if (!map.isFunctionOfDim(points.lane))
    return loadAt(builder, loc, buffer, map, points.loops);
  Type element = getElementTypeOrSelf(buffer);
  auto type = VectorType::get(points.count, element);
  if (isContiguous(map, points.lane)) {
    Value loaded = loadLanes(
        builder, loc, points.count, asBytes(builder, loc, buffer),
        applyMap(builder, loc, map, points.loops), points.mask(builder, loc));
    if (element.isInteger(1))
      loaded = arith::TruncIOp::create(builder, loc, type, loaded);
    return loaded;
  }
  Value result =
      arith::ConstantOp::create(builder, loc, builder.getZeroAttr(type));
  for (int64_t n = 0; n < points.count; ++n) {
    Value at =
        loadAt(builder, loc, buffer, map, pointOf(builder, loc, points, n));
    result = vector::InsertOp::create(builder, loc, at, result, n);
  }
  return result;
}

void gossamer::storePoints(OpBuilder &builder, Location loc, Value value,
                           Value buffer, AffineMap map,
                           const LanePoints &points) {
  value = splat(builder, loc, value, points.count);
  if (!isContiguous(map, points.lane)) {
    assert(!points.end && "every lane is stored");
    for (int64_t n = 0; n < points.count; ++n)
      memref::StoreOp::create(
          builder, loc, vector::ExtractOp::create(builder, loc, value, n),
          buffer,
          applyMap(builder, loc, map, pointOf(builder, loc, points, n)));
    return;
  }
  if (getElementTypeOrSelf(value).isInteger(1))
    value = arith::ExtUIOp::create(
        builder, loc, VectorType::get(points.count, builder.getI8Type()),
        value);
  storeLanes(builder, loc, value, asBytes(builder, loc, buffer),
             applyMap(builder, loc, map, points.loops),
             points.mask(builder, loc));
}

Value gossamer::inlineOnVectors(OpBuilder &builder, Location loc, Block &body,
                                ValueRange args, AffineMap dims,
                                const LanePoints &points) {
  IRMapping mapping;
  mapping.map(body.getArguments(), args);
  for (Operation &op : body.without_terminator()) {
    if (auto index = dyn_cast<IndexOp>(op)) {
      AffineExpr dim = dims.getResult(index.getDim());
      Value at = applyMap(builder, loc, dims, points.loops)[index.getDim()];
      if (dim == getAffineDimExpr(points.lane, dim.getContext())) {
        auto type = VectorType::get(points.count, builder.getIndexType());
        at = arith::AddIOp::create(builder, loc,
                                   splat(builder, loc, at, points.count),
                                   vector::StepOp::create(builder, loc, type));
      }
      mapping.map(index.getResult(), at);
      continue;
    }
    bool onVectors = llvm::any_of(op.getOperands(), [&](Value operand) {
      return isa<VectorType>(mapping.lookupOrDefault(operand).getType());
    });
    if (!onVectors) {
      builder.clone(op, mapping);
      continue;
    }
    OperationState state(loc, op.getName());
    state.addAttributes(op.getAttrs());
    for (Value operand : op.getOperands())
      state.addOperands(
          splat(builder, loc, mapping.lookupOrDefault(operand), points.count));
    state.addTypes(VectorType::get(points.count, op.getResult(0).getType()));
    mapping.map(op.getResult(0), builder.create(state)->getResult(0));
  }
  return mapping.lookupOrDefault(body.getTerminator()->getOperand(0));
}
