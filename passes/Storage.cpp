//===- Storage.cpp - loops over what a sparse tensor stores ---------------===//

#include "passes/Storage.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Bufferization/IR/Bufferization.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/IR/IRMapping.h"
#include "mlir/IR/Matchers.h"
#include "passes/GpuLanes.h"
#include "passes/RegisterTile.h"

using namespace mlir;
using namespace gossamer;
using namespace mlir::sparse_tensor;

Value gossamer::indexConstant(OpBuilder &builder, Location loc, int64_t value) {
  return arith::ConstantIndexOp::create(builder, loc, value);
}

Value gossamer::addIndex(OpBuilder &builder, Location loc, Value a, Value b) {
  if (matchPattern(a, m_Zero()))
    return b;
  if (matchPattern(b, m_Zero()))
    return a;
  return arith::AddIOp::create(builder, loc, a, b);
}

Value gossamer::mulIndex(OpBuilder &builder, Location loc, Value a, Value b) {
  if (matchPattern(a, m_Zero()) || matchPattern(b, m_One()))
    return a;
  if (matchPattern(b, m_Zero()) || matchPattern(a, m_One()))
    return b;
  return arith::MulIOp::create(builder, loc, a, b);
}

Value gossamer::loadIndex(OpBuilder &builder, Location loc, Value buffer,
                          Value index) {
  Value value = memref::LoadOp::create(builder, loc, buffer, index);
  if (value.getType().isIndex())
    return value;
  // Positions and coordinates are not negative, so both extensions are right;
  // the unsigned one is free on x86.
  return arith::IndexCastUIOp::create(builder, loc, builder.getIndexType(),
                                      value);
}

Value gossamer::toBuffer(OpBuilder &builder, Location loc, Value tensor,
                         bool readOnly) {
  auto type = cast<RankedTensorType>(tensor.getType());
  auto buffer = MemRefType::get(type.getShape(), type.getElementType());
  auto op = bufferization::ToBufferOp::create(builder, loc, buffer, tensor);
  op.setReadOnly(readOnly);
  return op;
}

Value gossamer::destination(OpBuilder &builder, Location loc, Value init) {
  auto wrapped = init.getDefiningOp<bufferization::ToTensorOp>();
  if (wrapped && wrapped.getWritable() && init.hasOneUse())
    return wrapped.getBuffer();
  auto type = cast<RankedTensorType>(init.getType());
  SmallVector<Value> sizes;
  for (int64_t dim = 0; dim < type.getRank(); ++dim)
    if (type.isDynamicDim(dim))
      sizes.push_back(tensor::DimOp::create(builder, loc, init, dim));
  return memref::AllocOp::create(
      builder, loc, MemRefType::get(type.getShape(), type.getElementType()),
      sizes, builder.getI64IntegerAttr(64));
}

SmallVector<Value> gossamer::applyMap(OpBuilder &builder, Location loc,
                                      AffineMap map, ValueRange loops) {
  return llvm::map_to_vector(map.getResults(), [&](AffineExpr expr) -> Value {
    if (auto dim = dyn_cast<AffineDimExpr>(expr))
      return loops[dim.getPosition()];
    return indexConstant(builder, loc,
                         cast<AffineConstantExpr>(expr).getValue());
  });
}

Value gossamer::loadAt(OpBuilder &builder, Location loc, Value buffer,
                       AffineMap map, ValueRange loops) {
  return memref::LoadOp::create(builder, loc, buffer,
                                applyMap(builder, loc, map, loops));
}

Value gossamer::inlineBody(OpBuilder &builder, Block &body, ValueRange args,
                           ValueRange indices) {
  IRMapping mapping;
  mapping.map(body.getArguments(), args);
  for (Operation &op : body.without_terminator()) {
    if (auto index = dyn_cast<IndexOp>(op))
      mapping.map(index.getResult(), indices[index.getDim()]);
    else
      builder.clone(op, mapping);
  }
  return mapping.lookupOrDefault(body.getTerminator()->getOperand(0));
}

Storage::Storage(OpBuilder &builder, Location loc, Value tensor)
    : type(getSparseTensorType(tensor)), loc(loc) {
  for (unsigned lvl = 0; lvl < type.getLvlRank(); ++lvl) {
    LevelType level = type.getLvlType(lvl);
    positions.push_back(level.isWithPosLT()
                            ? ToPositionsOp::create(builder, loc, tensor, lvl)
                            : Value());
    coordinateArrays.push_back(
        level.isWithCrdLT() ? ToCoordinatesOp::create(builder, loc, tensor, lvl)
                            : Value());
    // A block's size is in the format: loops over it have a known trip count.
    AffineExpr expr =
        type.isIdentity() ? AffineExpr() : type.getDimToLvl().getResult(lvl);
    sizes.push_back(
        expr && expr.getKind() == AffineExprKind::Mod
            ? indexConstant(builder, loc,
                            cast<AffineConstantExpr>(
                                cast<AffineBinaryOpExpr>(expr).getRHS())
                                .getValue())
            : LvlOp::create(builder, loc, tensor,
                            indexConstant(builder, loc, lvl))
                  .getResult());
  }
  values = ToValuesOp::create(builder, loc, tensor);
}

std::pair<Value, Value> Storage::segment(OpBuilder &builder, unsigned lvl,
                                         Value parent) const {
  Value lower = parent;
  if (type.isLooseCompressedLvl(lvl))
    lower = mulIndex(builder, loc, parent, indexConstant(builder, loc, 2));
  Value upper = addIndex(builder, loc, lower, indexConstant(builder, loc, 1));
  return {loadIndex(builder, loc, positions[lvl], lower),
          loadIndex(builder, loc, positions[lvl], upper)};
}

Value Storage::firstPosition(OpBuilder &builder, unsigned lvl,
                             Value parent) const {
  return loadIndex(builder, loc, positions[lvl], parent);
}

Value Storage::coordinates(OpBuilder &builder, unsigned lvl, Value position,
                           int64_t count, Value mask) const {
  return loadLanes(builder, loc, count, coordinateArrays[lvl], position, mask);
}

Value Storage::coordinate(OpBuilder &builder, unsigned lvl,
                          Value position) const {
  return loadIndex(builder, loc, coordinateArrays[lvl], position);
}

bool gossamer::isAlong(SparseTensorType type, unsigned lvl, unsigned dim) {
  if (type.isIdentity())
    return lvl == dim;
  return type.getDimToLvl().getResult(lvl).isFunctionOfDim(dim);
}

bool gossamer::storesRows(SparseTensorType type, unsigned dim) {
  unsigned lvl = 0, rank = type.getLvlRank();
  while (lvl < rank && type.isDenseLvl(lvl) && !isAlong(type, lvl, dim))
    ++lvl;
  if (lvl == rank || !type.isCompressedLvl(lvl) || !isAlong(type, lvl, dim))
    return false;
  while (++lvl < rank)
    if (!type.isDenseLvl(lvl))
      return false;
  return true;
}

unsigned Storage::numLeadingDense() const {
  unsigned n = 0;
  while (n < type.getLvlRank() && type.isDenseLvl(n))
    ++n;
  return n;
}

SmallVector<Value> Storage::toDims(OpBuilder &builder,
                                   ValueRange lvlCoords) const {
  if (type.isIdentity())
    return llvm::to_vector(lvlCoords);
  // From the levels of each dimension, not with the encoding's lvlToDim: that
  // is in the order of the levels where one dimension alone is blocked.
  SmallVector<Value> dims(type.getDimRank());
  for (auto [expr, coordinate] :
       llvm::zip(type.getDimToLvl().getResults(), lvlCoords)) {
    auto binary = dyn_cast<AffineBinaryOpExpr>(expr);
    Value &dim = dims[cast<AffineDimExpr>(binary ? binary.getLHS() : expr)
                          .getPosition()];
    Value part = coordinate;
    if (expr.getKind() == AffineExprKind::FloorDiv)
      part = mulIndex(
          builder, loc, coordinate,
          indexConstant(builder, loc,
                        cast<AffineConstantExpr>(binary.getRHS()).getValue()));
    dim = dim ? addIndex(builder, loc, dim, part) : part;
  }
  return dims;
}

SmallVector<Value> Storage::visitBelow(OpBuilder &builder,
                                       SmallVectorImpl<Value> &coords,
                                       Value parent, unsigned end,
                                       ValueRange carried, Step step) const {
  unsigned lvl = coords.size();
  if (lvl == end)
    return step(builder, coords, parent, carried);
  LevelType level = type.getLvlType(lvl);
  Value zero = indexConstant(builder, loc, 0);
  Value one = indexConstant(builder, loc, 1);
  Value lower = zero, upper = sizes[lvl];
  bool stored = level.isWithCrdLT();
  if (level.isWithPosLT()) {
    std::tie(lower, upper) = segment(builder, lvl, parent);
  } else if (type.isSingletonLvl(lvl)) {
    coords.push_back(coordinate(builder, lvl, parent));
    SmallVector<Value> results =
        visitBelow(builder, coords, parent, end, carried, step);
    coords.pop_back();
    return results;
  } else if (type.isNOutOfMLvl(lvl)) {
    upper = indexConstant(builder, loc, getN(level));
  }
  auto loop = scf::ForOp::create(builder, loc, lower, upper, one, carried);
  // A loop that carries nothing has its terminator already.
  OpBuilder inner = carried.empty()
                        ? OpBuilder::atBlockTerminator(loop.getBody())
                        : OpBuilder::atBlockEnd(loop.getBody());
  Value position = loop.getInductionVar();
  // Positions of a level that has no segments are numbered through its parent.
  if (!level.isWithPosLT())
    position =
        addIndex(inner, loc, mulIndex(inner, loc, parent, upper), position);
  coords.push_back(stored ? coordinate(inner, lvl, position)
                          : loop.getInductionVar());
  SmallVector<Value> next =
      visitBelow(inner, coords, position, end, loop.getRegionIterArgs(), step);
  if (!carried.empty())
    scf::YieldOp::create(inner, loc, next);
  coords.pop_back();
  return llvm::to_vector_of<Value>(loop.getResults());
}

void Storage::forEach(OpBuilder &builder, bool parallel, Body body) const {
  SmallVector<Value> coords;
  Value root = indexConstant(builder, loc, 0);
  unsigned leading = parallel ? numLeadingDense() : 0;
  auto step = [&](OpBuilder &b, ValueRange at, Value position, ValueRange) {
    body(b, at, position);
    return SmallVector<Value>();
  };
  if (leading == 0) {
    visitBelow(builder, coords, root, type.getLvlRank(), {}, step);
    return;
  }
  SmallVector<Value> zeros(leading, root);
  SmallVector<Value> ones(leading, indexConstant(builder, loc, 1));
  auto loop = scf::ParallelOp::create(
      builder, loc, zeros, ArrayRef(sizes).take_front(leading), ones);
  OpBuilder inner = OpBuilder::atBlockTerminator(loop.getBody());
  Value position = root;
  for (auto [lvl, iv] : llvm::enumerate(loop.getInductionVars())) {
    position =
        addIndex(inner, loc, mulIndex(inner, loc, position, sizes[lvl]), iv);
    coords.push_back(iv);
  }
  visitBelow(inner, coords, position, type.getLvlRank(), {}, step);
}

void Storage::forEachOnGpu(OpBuilder &builder, int64_t lanes, Body body) const {
  SmallVector<Value> coords;
  Value zero = indexConstant(builder, loc, 0),
        one = indexConstant(builder, loc, 1);
  unsigned numLvls = type.getLvlRank(), leading = numLeadingDense();
  auto step = [&](OpBuilder &b, ValueRange at, Value position, ValueRange) {
    body(b, at, position);
    return SmallVector<Value>();
  };
  if (leading == 0) {
    if (!type.getLvlType(0).isWithPosLT()) {
      visitBelow(builder, coords, zero, numLvls, {}, step);
      return;
    }
    // Where nothing is padded the host knows how many there are.
    Value lower = zero, upper;
    if (type.isCompressedLvl(0))
      upper = memref::DimOp::create(builder, loc, coordinateArrays[0], 0);
    else
      std::tie(lower, upper) = segment(builder, 0, zero);
    auto loop = scf::ParallelOp::create(builder, loc, lower, upper, one);
    OpBuilder in = OpBuilder::atBlockTerminator(loop.getBody());
    Value position = loop.getInductionVars()[0];
    coords.push_back(coordinate(in, 0, position));
    visitBelow(in, coords, position, numLvls, {}, step);
    return;
  }
  auto loop = scf::ParallelOp::create(
      builder, loc, SmallVector<Value>(leading, zero),
      ArrayRef(sizes).take_front(leading), SmallVector<Value>(leading, one));
  OpBuilder in = OpBuilder::atBlockTerminator(loop.getBody());
  Value position = zero;
  for (auto [lvl, iv] : llvm::enumerate(loop.getInductionVars())) {
    position = addIndex(in, loc, mulIndex(in, loc, position, sizes[lvl]), iv);
    coords.push_back(iv);
  }
  if (leading == numLvls || !type.getLvlType(leading).isWithPosLT()) {
    visitBelow(in, coords, position, numLvls, {}, step);
    return;
  }
  auto [lower, upper] = segment(in, leading, position);
  forEachLane(in, loc, lower, upper, lanes, [&](OpBuilder &b, Value at) {
    coords.push_back(coordinate(b, leading, at));
    visitBelow(b, coords, at, numLvls, {}, step);
  });
}
