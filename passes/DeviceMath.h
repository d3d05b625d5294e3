//===- DeviceMath.h - elementary functions of f64 in plain arithmetic
//---------===//

#ifndef GOSSAMER_PASSES_DEVICEMATH_H
#define GOSSAMER_PASSES_DEVICEMATH_H

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/IR/PatternMatch.h"

namespace gossamer {

/// Writes arithmetic of f64 and i64 where an operation is expanded. Nothing
/// that it writes may be contracted: roundings are what some of it computes.
class Doubles {
public:
  Doubles(mlir::OpBuilder &builder, mlir::Location loc)
      : b(builder), loc(loc) {}

  mlir::OpBuilder &b;
  mlir::Location loc;

  mlir::Value number(double value) const {
    return mlir::arith::ConstantOp::create(b, loc, b.getF64FloatAttr(value));
  }
  mlir::Value word(uint64_t value) const {
    return mlir::arith::ConstantOp::create(
        b, loc, b.getI64IntegerAttr(static_cast<int64_t>(value)));
  }

  mlir::Value add(mlir::Value x, mlir::Value y) const {
    return mlir::arith::AddFOp::create(b, loc, x, y);
  }
  mlir::Value sub(mlir::Value x, mlir::Value y) const {
    return mlir::arith::SubFOp::create(b, loc, x, y);
  }
  mlir::Value mul(mlir::Value x, mlir::Value y) const {
    return mlir::arith::MulFOp::create(b, loc, x, y);
  }
  mlir::Value div(mlir::Value x, mlir::Value y) const {
    return mlir::arith::DivFOp::create(b, loc, x, y);
  }
  mlir::Value neg(mlir::Value x) const {
    return mlir::arith::NegFOp::create(b, loc, x);
  }
  mlir::Value fma(mlir::Value x, mlir::Value y, mlir::Value z) const {
    return mlir::math::FmaOp::create(b, loc, x, y, z);
  }
  mlir::Value abs(mlir::Value x) const {
    return mlir::math::AbsFOp::create(b, loc, x);
  }
  mlir::Value withSign(mlir::Value size, mlir::Value sign) const {
    return mlir::math::CopySignOp::create(b, loc, size, sign);
  }
  /// The nearest integer; halves go up.
  mlir::Value nearest(mlir::Value x) const {
    return mlir::math::FloorOp::create(b, loc, add(x, number(0.5)));
  }

  mlir::Value compare(mlir::arith::CmpFPredicate how, mlir::Value x,
                      mlir::Value y) const {
    return mlir::arith::CmpFOp::create(b, loc, how, x, y);
  }
  mlir::Value compare(mlir::arith::CmpFPredicate how, mlir::Value x,
                      double y) const {
    return compare(how, x, number(y));
  }
  mlir::Value isNan(mlir::Value x) const {
    return compare(mlir::arith::CmpFPredicate::UNO, x, x);
  }
  mlir::Value select(mlir::Value condition, mlir::Value x,
                     mlir::Value y) const {
    return mlir::arith::SelectOp::create(b, loc, condition, x, y);
  }

  mlir::Value bits(mlir::Value x) const {
    return mlir::arith::BitcastOp::create(b, loc, b.getI64Type(), x);
  }
  mlir::Value fromBits(mlir::Value word) const {
    return mlir::arith::BitcastOp::create(b, loc, b.getF64Type(), word);
  }
  mlir::Value toInteger(mlir::Value x) const {
    return mlir::arith::FPToSIOp::create(b, loc, b.getI64Type(), x);
  }
  template <typename Op>
  mlir::Value integer(mlir::Value x, mlir::Value y) const {
    return Op::create(b, loc, x, y);
  }
  template <typename Op> mlir::Value integer(mlir::Value x, uint64_t y) const {
    return Op::create(b, loc, x, word(y));
  }
  /// 2^n (i64), for numbers that are neither subnormal nor infinite.
  mlir::Value power(mlir::Value n) const {
    return fromBits(integer<mlir::arith::ShLIOp>(
        integer<mlir::arith::AddIOp>(n, 1023), 52));
  }
  /// The sum of coefficients times powers of x, the first one's the highest.
  mlir::Value polynomial(mlir::Value x, llvm::ArrayRef<double> factors) const {
    mlir::Value sum = number(factors.front());
    for (double factor : factors.drop_front())
      sum = fma(sum, x, number(factor));
    return sum;
  }
};

/// An operation of f64 becomes what a function writes.
template <typename Op, mlir::Value (*expand)(const Doubles &, Op)>
struct ExpandDouble : mlir::OpRewritePattern<Op> {
  using mlir::OpRewritePattern<Op>::OpRewritePattern;
  llvm::LogicalResult matchAndRewrite(Op op,
                                      mlir::PatternRewriter &b) const override {
    if (!op.getType().isF64())
      return b.notifyMatchFailure(op, "not of f64");
    b.replaceOp(op, expand(Doubles(b, op.getLoc()), op));
    return llvm::success();
  }
};

// They come before what MLIR knows of any type.

/// sin and cos, of f32, too; atan2, atan, asin, acos.
void addAnglePatterns(mlir::RewritePatternSet &patterns);

/// exp, exp2, expm1, log, log2, log10, log1p, powf, cbrt, and hyperbolic
/// functions.
void addPowerPatterns(mlir::RewritePatternSet &patterns);

} // namespace gossamer

#endif // GOSSAMER_PASSES_DEVICEMATH_H
