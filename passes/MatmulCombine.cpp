//===- MatmulCombine.cpp - sums, means, and extremes of products ----------===//

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "mlir/IR/TypeUtilities.h"
#include "passes/Matmul.h"

using namespace mlir;
using namespace gossamer;

Value RowProduct::initialSum(OpBuilder &b) const {
  bool least = combiner == Combiner::Amax;
  if (combiner == Combiner::Sum || combiner == Combiner::Mean)
    return arith::ConstantOp::create(b, loc, b.getZeroAttr(sumType));
  if (auto type = dyn_cast<FloatType>(sumType))
    return arith::ConstantOp::create(
        b, loc,
        b.getFloatAttr(type, APFloat::getInf(type.getFloatSemantics(), least)));
  unsigned width = sumType.getIntOrFloatBitWidth();
  return arith::ConstantOp::create(
      b, loc,
      b.getIntegerAttr(sumType, least ? APInt::getSignedMinValue(width)
                                      : APInt::getSignedMaxValue(width)));
}

Value RowProduct::join(OpBuilder &b, Value lhs, Value rhs) const {
  bool isFloat = isa<FloatType>(sumType);
  switch (combiner) {
  case Combiner::Sum:
  case Combiner::Mean:
    return isFloat ? arith::AddFOp::create(b, loc, lhs, rhs).getResult()
                   : arith::AddIOp::create(b, loc, lhs, rhs).getResult();
  case Combiner::Amax: // a NaN is the result
    return isFloat ? arith::MaximumFOp::create(b, loc, lhs, rhs).getResult()
                   : arith::MaxSIOp::create(b, loc, lhs, rhs).getResult();
  case Combiner::Amin:
    return isFloat ? arith::MinimumFOp::create(b, loc, lhs, rhs).getResult()
                   : arith::MinSIOp::create(b, loc, lhs, rhs).getResult();
  }
  llvm_unreachable("no such combiner");
}

Value RowProduct::combine(OpBuilder &b, Value lhs, Value rhs, Value sum) const {
  bool isFloat = isa<FloatType>(sumType);
  if (isFloat && (combiner == Combiner::Sum || combiner == Combiner::Mean))
    return vector::FMAOp::create(b, loc, lhs, rhs, sum);
  Value product = isFloat ? arith::MulFOp::create(b, loc, lhs, rhs).getResult()
                          : arith::MulIOp::create(b, loc, lhs, rhs).getResult();
  return join(b, sum, product);
}

Value RowProduct::reduce(OpBuilder &b, Value sums) const {
  bool isFloat = isa<FloatType>(sumType);
  auto kind = vector::CombiningKind::ADD;
  if (combiner == Combiner::Amax)
    kind = isFloat ? vector::CombiningKind::MAXIMUMF
                   : vector::CombiningKind::MAXSI;
  else if (combiner == Combiner::Amin)
    kind = isFloat ? vector::CombiningKind::MINIMUMF
                   : vector::CombiningKind::MINSI;
  // Lanes in any order, but always the same.
  auto flags = isFloat && kind == vector::CombiningKind::ADD
                   ? arith::FastMathFlags::reassoc
                   : arith::FastMathFlags::none;
  return vector::ReductionOp::create(b, loc, kind, sums, flags);
}

Value RowProduct::finish(OpBuilder &b, const Row &row, Value sum) const {
  if (combiner == Combiner::Sum)
    return sum;
  auto like = [&](Value scalar) -> Value {
    if (auto type = dyn_cast<VectorType>(sum.getType()))
      return vector::BroadcastOp::create(b, loc, type.clone(scalar.getType()),
                                         scalar);
    return scalar;
  };
  Value blocks = arith::SubIOp::create(b, loc, row.last, row.first);
  if (combiner == Combiner::Mean) {
    Value count = mulIndex(b, loc, blocks, constant(b, format.blockColumns));
    count = arith::MaxUIOp::create(b, loc, count, constant(b, 1));
    Value word = arith::IndexCastOp::create(b, loc, b.getI64Type(), count);
    if (isa<FloatType>(sumType))
      return arith::DivFOp::create(
          b, loc, sum, like(arith::SIToFPOp::create(b, loc, sumType, word)));
    return arith::DivSIOp::create(
        b, loc, sum, like(arith::TruncIOp::create(b, loc, sumType, word)));
  }
  Value none = arith::CmpIOp::create(b, loc, arith::CmpIPredicate::eq, blocks,
                                     constant(b, 0));
  Value zero = arith::ConstantOp::create(b, loc, b.getZeroAttr(sum.getType()));
  return arith::SelectOp::create(b, loc, like(none), zero, sum);
}
