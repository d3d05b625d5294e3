//===- Elementwise.cpp - elementwise chains as scalar code ----------------===//

#include "passes/Elementwise.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/IR/IRMapping.h"
#include "mlir/IR/Matchers.h"
#include "mlir/IR/TypeUtilities.h"
#include "llvm/ADT/SmallBitVector.h"
#include "llvm/ADT/TypeSwitch.h"

using namespace mlir;
using namespace gossamer;

AffineMap gossamer::substitute(AffineMap map, ArrayRef<AffineExpr> replacements,
                               unsigned numLoops) {
  return map.replaceDimsAndSymbols(replacements, {}, numLoops, 0);
}

/// The access to the source of a reshape that only adds and removes unit
/// dimensions; null for any other reshape. `groups` maps source to result
/// dimensions of an expansion, result to source ones of a collapse.
static AffineMap accessOfReshape(AffineMap map,
                                 ArrayRef<ReassociationIndices> groups,
                                 ArrayRef<int64_t> longShape, bool expands) {
  Builder builder(map.getContext());
  AffineExpr zero = builder.getAffineConstantExpr(0);
  SmallVector<AffineExpr> exprs(expands ? groups.size() : longShape.size(),
                                zero);
  for (auto [n, group] : llvm::enumerate(groups)) {
    std::optional<int64_t> wide;
    for (int64_t dim : group) {
      if (longShape[dim] == 1)
        continue;
      if (wide)
        return {};
      wide = dim;
    }
    if (wide)
      exprs[expands ? n : *wide] = map.getResult(expands ? *wide : n);
  }
  return AffineMap::get(map.getNumDims(), 0, exprs, map.getContext());
}

/// One step back through a reshape or cast; the access itself if there is none.
static Access throughReshape(Access access) {
  Operation *op = access.tensor.getDefiningOp();
  if (auto cast = dyn_cast_or_null<tensor::CastOp>(op))
    return {cast.getSource(), access.map};
  AffineMap map;
  if (auto expand = dyn_cast_or_null<tensor::ExpandShapeOp>(op))
    map = accessOfReshape(access.map, expand.getReassociationIndices(),
                          expand.getResultType().getShape(), true);
  else if (auto collapse = dyn_cast_or_null<tensor::CollapseShapeOp>(op))
    map = accessOfReshape(access.map, collapse.getReassociationIndices(),
                          collapse.getSrcType().getShape(), false);
  return map ? Access{op->getOperand(0), map} : access;
}

Value gossamer::shapeOnly(Value init) {
  while (auto op = init.getDefiningOp<DestinationStyleOpInterface>()) {
    if (!isa<linalg::FillOp, linalg::GenericOp>(op))
      break;
    init = op.getDpsInits()[cast<OpResult>(init).getResultNumber()];
  }
  return init;
}

bool gossamer::isProjection(AffineMap map) {
  llvm::SmallBitVector used(map.getNumDims());
  for (AffineExpr expr : map.getResults()) {
    if (auto constant = dyn_cast<AffineConstantExpr>(expr);
        constant && constant.getValue() == 0)
      continue;
    auto dim = dyn_cast<AffineDimExpr>(expr);
    if (!dim || used.test(dim.getPosition()))
      return false;
    used.set(dim.getPosition());
  }
  return true;
}

bool gossamer::isElementwise(linalg::GenericOp op, unsigned result) {
  return op.hasPureTensorSemantics() &&
         op.getNumParallelLoops() == op.getNumLoops() &&
         llvm::all_of(op.getIndexingMapsArray(), isProjection) &&
         op.getIndexingMapMatchingResult(op->getResult(result))
             .isPermutation() &&
         llvm::all_of(op.getRegionOutputArgs(),
                      [](Value arg) { return arg.use_empty(); });
}

/// Maps points of the root space to loops of `op`.
static AffineMap loopsOf(linalg::GenericOp op, unsigned result, AffineMap map) {
  return inversePermutation(
             op.getIndexingMapMatchingResult(op->getResult(result)))
      .compose(map);
}

Access gossamer::traceView(Access access) {
  while (true) {
    Access next = throughReshape(access);
    if (auto op = access.tensor.getDefiningOp<linalg::GenericOp>()) {
      unsigned result = cast<OpResult>(access.tensor).getResultNumber();
      auto arg = dyn_cast<BlockArgument>(
          op.getBody()->getTerminator()->getOperand(result));
      if (arg && arg.getOwner() == op.getBody() && isElementwise(op, result) &&
          arg.getArgNumber() < op.getNumDpsInputs() &&
          isa<ShapedType>(op->getOperand(arg.getArgNumber()).getType()))
        next = {op.getDpsInputs()[arg.getArgNumber()],
                op.getIndexingMapsArray()[arg.getArgNumber()].compose(
                    loopsOf(op, result, access.map))};
    }
    if (next == access)
      return access;
    access = next;
  }
}

SparseSource gossamer::getSparseSource(Value dense) {
  auto convert = dense.getDefiningOp<ConvertOp>();
  if (!convert ||
      !sparse_tensor::getSparseTensorEncoding(convert.getSource().getType()) ||
      sparse_tensor::getSparseTensorEncoding(convert.getResult().getType()))
    return {};
  return {convert.getSource(), cast<TypedAttr>(convert.getFill())};
}

TypedAttr gossamer::getSplat(Value tensor) {
  Attribute attr;
  if (matchPattern(tensor, m_Constant(&attr))) {
    auto elements = dyn_cast<DenseElementsAttr>(attr);
    return elements && elements.isSplat()
               ? cast<TypedAttr>(elements.getSplatValue<Attribute>())
               : TypedAttr();
  }
  Value scalar;
  if (auto fill = tensor.getDefiningOp<linalg::FillOp>())
    scalar = fill.getInputs()[0];
  else if (auto op = tensor.getDefiningOp<linalg::GenericOp>()) {
    scalar = op.getBody()->getTerminator()->getOperand(
        cast<OpResult>(tensor).getResultNumber());
    if (auto arg = dyn_cast<BlockArgument>(scalar);
        arg && arg.getOwner() == op.getBody()) {
      scalar = op->getOperand(arg.getArgNumber());
      if (isa<ShapedType>(scalar.getType()))
        return getSplat(scalar);
    }
  }
  if (scalar && matchPattern(scalar, m_Constant(&attr)))
    return dyn_cast<TypedAttr>(attr);
  return {};
}

bool gossamer::isZero(TypedAttr attr) {
  if (auto value = dyn_cast_or_null<FloatAttr>(attr))
    return value.getValue().isZero();
  if (auto value = dyn_cast_or_null<IntegerAttr>(attr))
    return value.getValue().isZero();
  return false;
}

bool gossamer::isMaskedScore(TypedAttr attr) {
  auto value = dyn_cast_or_null<FloatAttr>(attr);
  return value && value.getValueAsDouble() <= -1e9;
}

/// The operand other than `out` of the last operation of a reduction's body, if
/// that is an `OpTy` on `out`.
template <typename OpTy>
static Value combinedWith(Block *body, unsigned result, Value out) {
  auto op = body->getTerminator()->getOperand(result).getDefiningOp<OpTy>();
  if (!op)
    return {};
  if (op.getLhs() == out)
    return op.getRhs();
  return op.getRhs() == out ? op.getLhs() : Value();
}

Contraction gossamer::matchContraction(Value value, bool mayWiden) {
  auto op = value.getDefiningOp<linalg::GenericOp>();
  if (!op || op->hasAttr("gossamer.combine") || op->getNumResults() != 1 ||
      op.getNumDpsInputs() != 2 || op.getNumReductionLoops() == 0 ||
      !op.hasPureTensorSemantics() || !isZero(getSplat(op.getDpsInits()[0])))
    return {};
  Block *body = op.getBody();
  Value out = body->getArgument(2);
  Value product = combinedWith<arith::AddFOp>(body, 0, out);
  if (!product)
    product = combinedWith<arith::AddIOp>(body, 0, out);
  Operation *mul = product ? product.getDefiningOp() : nullptr;
  if (!isa_and_nonnull<arith::MulFOp, arith::MulIOp>(mul))
    return {};
  auto factor = [&](unsigned n) {
    Value operand = mul->getOperand(n);
    auto widened = operand.getDefiningOp<arith::ExtFOp>();
    return mayWiden && widened ? widened.getIn() : operand;
  };
  auto isPair = [&](unsigned a, unsigned b) {
    return factor(0) == body->getArgument(a) &&
           factor(1) == body->getArgument(b);
  };
  if (!isPair(0, 1) && !isPair(1, 0))
    return {};
  auto maps = op.getIndexingMapsArray();
  // Windows (a convolution's d0 + d1) and diagonals are no product of tensors.
  if (!maps[2].isProjectedPermutation() || !isProjection(maps[0]) ||
      !isProjection(maps[1]))
    return {};
  return {op,
          {op.getDpsInputs()[0], maps[0]},
          {op.getDpsInputs()[1], maps[1]},
          maps[2]};
}

Reduction gossamer::matchReduction(Value value, ReductionKind kind) {
  auto op = value.getDefiningOp<linalg::GenericOp>();
  if (!op || op.getNumDpsInputs() != 1 || op.getNumReductionLoops() != 1 ||
      !op.hasPureTensorSemantics())
    return {};
  unsigned result = cast<OpResult>(value).getResultNumber();
  Block *body = op.getBody();
  Value out = body->getArgument(1 + result);
  Value in = kind == ReductionKind::Max
                 ? combinedWith<arith::MaximumFOp>(body, result, out)
                 : combinedWith<arith::AddFOp>(body, result, out);
  if (!in && kind == ReductionKind::Max)
    in = combinedWith<arith::MaxNumFOp>(body, result, out);
  if (in != body->getArgument(0))
    return {};
  TypedAttr init = getSplat(op.getDpsInits()[result]);
  if (kind == ReductionKind::Max ? !isMaskedScore(init) : !isZero(init))
    return {};
  return {{op.getDpsInputs()[0], op.getIndexingMapsArray()[0]},
          op.getIndexingMapMatchingResult(op->getResult(result))};
}

/// How an operation of two scalars reduces.
static std::optional<arith::AtomicRMWKind> kindOf(Operation *op) {
  using Kind = arith::AtomicRMWKind;
  return llvm::TypeSwitch<Operation *, std::optional<Kind>>(op)
      .Case([](arith::AddFOp) { return Kind::addf; })
      .Case([](arith::AddIOp) { return Kind::addi; })
      .Case([](arith::MulFOp) { return Kind::mulf; })
      .Case([](arith::MulIOp) { return Kind::muli; })
      .Case([](arith::MaximumFOp) { return Kind::maximumf; })
      .Case([](arith::MinimumFOp) { return Kind::minimumf; })
      .Case([](arith::MaxSIOp) { return Kind::maxs; })
      .Case([](arith::MinSIOp) { return Kind::mins; })
      .Case([](arith::OrIOp) { return Kind::ori; })
      .Case([](arith::AndIOp) { return Kind::andi; })
      .Default([](Operation *) { return std::nullopt; });
}

Accumulation gossamer::matchAccumulation(linalg::GenericOp op) {
  if (op->getNumResults() != 1 || op.getNumReductionLoops() == 0 ||
      !op.hasPureTensorSemantics() ||
      !op.getIndexingMapMatchingResult(op->getResult(0))
           .isProjectedPermutation())
    return {};
  Value out = op.getRegionOutputArgs()[0];
  Operation *last =
      op.getBody()->getTerminator()->getOperand(0).getDefiningOp();
  auto kind = last ? kindOf(last) : std::nullopt;
  if (!kind || !out.hasOneUse() || last->getBlock() != op.getBody() ||
      !llvm::is_contained(last->getOperands(), out))
    return {};
  TypedAttr init = getSplat(op.getDpsInits()[0]);
  OpBuilder builder(op);
  Type type = last->getResult(0).getType();
  bool neutral = *kind == arith::AtomicRMWKind::addf
                     ? isZero(init)
                     : init == arith::getIdentityValueAttr(*kind, type, builder,
                                                           op.getLoc());
  if (!neutral)
    return {};
  return {last, *kind, last->getOperand(last->getOperand(0) == out ? 1 : 0)};
}

bool ScalarEmitter::hasEmitted(Value tensor) const {
  return llvm::any_of(emitted,
                      [&](auto &entry) { return entry.first.first == tensor; });
}

void ScalarEmitter::bind(Access access, Value value) {
  access = traceView(access);
  emitted[{access.tensor, access.map}] = value;
  arguments.push_back({access, value});
}

Value ScalarEmitter::emitGeneric(OpBuilder &builder, linalg::GenericOp op,
                                 unsigned result, AffineMap map) {
  AffineMap loops = loopsOf(op, result, map);
  IRMapping mapping;
  Block *body = op.getBody();
  for (auto [n, input] : llvm::enumerate(op.getDpsInputs())) {
    BlockArgument arg = body->getArgument(n);
    if (!isa<ShapedType>(input.getType()))
      mapping.map(arg, input);
    else if (!arg.use_empty())
      mapping.map(
          arg,
          emit(builder, {input, op.getIndexingMapsArray()[n].compose(loops)}));
  }
  for (Operation &inner : body->without_terminator()) {
    auto index = dyn_cast<linalg::IndexOp>(inner);
    if (!index) {
      builder.clone(inner, mapping);
      continue;
    }
    AffineExpr expr = loops.getResult(index.getDim());
    Value replacement;
    if (auto dim = dyn_cast<AffineDimExpr>(expr))
      replacement = indexOf(builder, dim.getPosition());
    else
      replacement = arith::ConstantIndexOp::create(
          builder, op.getLoc(), cast<AffineConstantExpr>(expr).getValue());
    mapping.map(index.getResult(), replacement);
  }
  return mapping.lookupOrDefault(body->getTerminator()->getOperand(result));
}

Value ScalarEmitter::emit(OpBuilder &builder, Access access) {
  access = traceView(access);
  auto key = std::make_pair(access.tensor, access.map);
  if (Value value = emitted.lookup(key))
    return value;
  Value value;
  if (TypedAttr splat = getSplat(access.tensor)) {
    value = arith::ConstantOp::create(builder, access.tensor.getLoc(), splat);
  } else if (auto op = access.tensor.getDefiningOp<linalg::GenericOp>();
             op && isElementwise(
                       op, cast<OpResult>(access.tensor).getResultNumber())) {
    value = emitGeneric(builder, op,
                        cast<OpResult>(access.tensor).getResultNumber(),
                        access.map);
  } else {
    value = block->addArgument(getElementTypeOrSelf(access.tensor),
                               access.tensor.getLoc());
    arguments.push_back({access, value});
  }
  return emitted[key] = value;
}

static bool isNegativeInfinity(TypedAttr attr) {
  auto value = dyn_cast_or_null<FloatAttr>(attr);
  return value && value.getValue().isInfinity() &&
         value.getValue().isNegative();
}

TypedAttr gossamer::evaluate(Value value,
                             const DenseMap<Value, TypedAttr> &known) {
  if (TypedAttr attr = known.lookup(value))
    return attr;
  Operation *op = value.getDefiningOp();
  if (!op || op->getNumResults() != 1)
    return {};
  SmallVector<Attribute> operands;
  for (Value operand : op->getOperands())
    operands.push_back(evaluate(operand, known));
  auto typed = [&](unsigned n) { return cast_or_null<TypedAttr>(operands[n]); };
  if (isa<arith::SelectOp>(op)) {
    if (auto condition = dyn_cast_or_null<IntegerAttr>(operands[0]))
      return typed(condition.getValue().isZero() ? 2 : 1);
    return operands[1] && operands[1] == operands[2] ? typed(1) : TypedAttr();
  }
  if (isa<arith::MulFOp, arith::MulIOp, arith::AndIOp>(op))
    for (unsigned n : {0, 1})
      if (isZero(typed(n)))
        return typed(n);
  if (isa<arith::DivFOp>(op) && isZero(typed(0)))
    return typed(0);
  if (isa<arith::AddFOp, arith::MinimumFOp, arith::MinNumFOp>(op))
    for (unsigned n : {0, 1})
      if (isNegativeInfinity(typed(n)))
        return typed(n);
  if (isa<arith::SubFOp>(op) && isNegativeInfinity(typed(0)))
    return typed(0);
  if (isa<math::ExpOp>(op) && isNegativeInfinity(typed(0)))
    return FloatAttr::get(op->getResult(0).getType(), 0.0);
  if (auto power = dyn_cast<math::FPowIOp>(op)) // has no folder
    if (auto exponent = dyn_cast_or_null<IntegerAttr>(operands[1]);
        exponent && isZero(typed(0)) && exponent.getInt() > 0)
      return typed(0);
  SmallVector<OpFoldResult> folded;
  if (failed(op->fold(operands, folded)) || folded.size() != 1)
    return {};
  if (auto attr = dyn_cast<Attribute>(folded[0]))
    return dyn_cast<TypedAttr>(attr);
  return evaluate(cast<Value>(folded[0]), known);
}
