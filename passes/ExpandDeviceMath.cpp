//===- ExpandDeviceMath.cpp - elementary functions without a library ------===//
//
// A GPU has no libm, and NVIDIA's is not ours to ship: what has no instruction
// is computed here, and what is not known here is refused by name.
//
//===----------------------------------------------------------------------===//

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/Math/Transforms/Passes.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "mlir/IR/PatternMatch.h"
#include "mlir/Transforms/GreedyPatternRewriteDriver.h"
#include "passes/Passes.h"

namespace gossamer {
#define GEN_PASS_DEF_EXPANDDEVICEMATH
#include "passes/Passes.h.inc"
} // namespace gossamer

using namespace mlir;
using namespace gossamer;

namespace {

/// Numbers where an operation is expanded.
struct Constants {
  OpBuilder &b;
  Location loc;

  Value operator()(double value) const {
    return arith::ConstantOp::create(b, loc, b.getF64FloatAttr(value));
  }
  Value word(int64_t value) const {
    return arith::ConstantOp::create(b, loc, b.getI64IntegerAttr(value));
  }
};

/// exp of f64: 2^n times the Taylor series of what is left, |r| < 0.35, whose
/// first term left out is below 1e-17.
struct ExpandExp : OpRewritePattern<math::ExpOp> {
  using OpRewritePattern::OpRewritePattern;
  LogicalResult matchAndRewrite(math::ExpOp op,
                                PatternRewriter &b) const override {
    Type type = op.getType();
    if (!type.isF64())
      return b.notifyMatchFailure(op, "not of f64");
    Location loc = op.getLoc();
    Constants number{b, loc};
    Value x = op.getOperand();
    // Beyond these exp is 0 or infinite; NaN goes through both comparisons.
    Value low = arith::CmpFOp::create(b, loc, arith::CmpFPredicate::OLT, x,
                                      number(-745.2));
    Value high = arith::CmpFOp::create(b, loc, arith::CmpFPredicate::OGT, x,
                                       number(709.8));
    Value outside = arith::OrIOp::create(b, loc, low, high);
    Value in = arith::SelectOp::create(b, loc, outside, number(0.0), x);
    Value n = math::FloorOp::create(
        b, loc,
        math::FmaOp::create(b, loc, in, number(1.4426950408889634),
                            number(0.5)));
    Value r = math::FmaOp::create(b, loc, n, number(-0.6931471805599453), in);
    r = math::FmaOp::create(b, loc, n, number(-2.3190468138462996e-17), r);
    double factorial = 6227020800.0; // 13!
    Value sum = number(1.0 / factorial);
    for (int k = 12; k >= 0; --k) {
      factorial /= k + 1;
      sum = math::FmaOp::create(b, loc, sum, r, number(1.0 / factorial));
    }
    // 2^n in two steps: n may be below the least exponent.
    Value isNan =
        arith::CmpFOp::create(b, loc, arith::CmpFPredicate::UNO, x, x);
    Value safe = arith::SelectOp::create(b, loc, isNan, number(0.0), n);
    Value exponent = arith::FPToSIOp::create(b, loc, b.getI64Type(), safe);
    Value half = arith::ShRSIOp::create(b, loc, exponent, number.word(1));
    auto power = [&](Value e) -> Value {
      Value bits = arith::ShLIOp::create(
          b, loc, arith::AddIOp::create(b, loc, e, number.word(1023)),
          number.word(52));
      return arith::BitcastOp::create(b, loc, type, bits);
    };
    sum = arith::MulFOp::create(b, loc, sum, power(half));
    sum = arith::MulFOp::create(
        b, loc, sum, power(arith::SubIOp::create(b, loc, exponent, half)));
    sum = arith::SelectOp::create(b, loc, low, number(0.0), sum);
    sum = arith::SelectOp::create(
        b, loc, high, number(std::numeric_limits<double>::infinity()), sum);
    b.replaceOp(op, sum);
    return success();
  }
};

/// log of f64: of the fraction, in [sqrt(1/2), sqrt(2)), by the series of the
/// inverse hyperbolic tangent, and of the power of two.
struct ExpandLog : OpRewritePattern<math::LogOp> {
  using OpRewritePattern::OpRewritePattern;
  LogicalResult matchAndRewrite(math::LogOp op,
                                PatternRewriter &b) const override {
    Type type = op.getType();
    if (!type.isF64())
      return b.notifyMatchFailure(op, "not of f64");
    Location loc = op.getLoc();
    Constants number{b, loc};
    auto compare = [&](arith::CmpFPredicate how, Value x, double y) -> Value {
      return arith::CmpFOp::create(b, loc, how, x, number(y));
    };
    double infinity = std::numeric_limits<double>::infinity();
    Value x = op.getOperand();
    // Below the least normal number: 2^54 times it, and 54 off in the end.
    Value tiny = compare(arith::CmpFPredicate::OLT, x, 0x1p-1022);
    Value scaled = arith::MulFOp::create(b, loc, x, number(0x1p54));
    scaled = arith::SelectOp::create(b, loc, tiny, scaled, x);
    Value bits = arith::BitcastOp::create(b, loc, b.getI64Type(), scaled);
    // The exponent counts from sqrt(1/2), so that fractions are around 1.
    constexpr int64_t root = 0x3fe6a09e667f3bcd;
    Value above = arith::SubIOp::create(b, loc, bits, number.word(root));
    Value exponent = arith::ShRSIOp::create(b, loc, above, number.word(52));
    Value fraction = arith::BitcastOp::create(
        b, loc, type,
        arith::SubIOp::create(
            b, loc, bits,
            arith::ShLIOp::create(b, loc, exponent, number.word(52))));
    Value e = arith::SIToFPOp::create(b, loc, type, exponent);
    e = arith::AddFOp::create(
        b, loc, e,
        arith::SelectOp::create(b, loc, tiny, number(-54.0), number(0.0)));
    Value s = arith::DivFOp::create(
        b, loc, arith::SubFOp::create(b, loc, fraction, number(1.0)),
        arith::AddFOp::create(b, loc, fraction, number(1.0)));
    Value square = arith::MulFOp::create(b, loc, s, s);
    Value sum = number(2.0 / 23);
    for (int k = 21; k >= 3; k -= 2)
      sum = math::FmaOp::create(b, loc, sum, square, number(2.0 / k));
    sum = arith::MulFOp::create(b, loc,
                                arith::MulFOp::create(b, loc, sum, square), s);
    sum = math::FmaOp::create(b, loc, s, number(2.0), sum);
    sum = math::FmaOp::create(b, loc, e, number(2.3190468138462996e-17), sum);
    sum = math::FmaOp::create(b, loc, e, number(0.6931471805599453), sum);
    auto where = [&](arith::CmpFPredicate how, double y, Value then) {
      sum = arith::SelectOp::create(b, loc, compare(how, x, y), then, sum);
    };
    where(arith::CmpFPredicate::OEQ, 0.0, number(-infinity));
    where(arith::CmpFPredicate::OEQ, infinity, number(infinity));
    where(arith::CmpFPredicate::ULT, 0.0,
          number(std::numeric_limits<double>::quiet_NaN()));
    b.replaceOp(op, sum);
    return success();
  }
};

/// erf of f64: 2 x exp(-x^2) / sqrt(pi) times the sum of (2 x^2)^n / (1 3 5 ..
/// (2 n + 1)), of which all terms are positive. From 6 on it is 1.
struct ExpandErf : OpRewritePattern<math::ErfOp> {
  using OpRewritePattern::OpRewritePattern;
  LogicalResult matchAndRewrite(math::ErfOp op,
                                PatternRewriter &b) const override {
    Type type = op.getType();
    if (!type.isF64())
      return b.notifyMatchFailure(op, "not of f64");
    Location loc = op.getLoc();
    Constants number{b, loc};
    Value x = op.getOperand();
    Value size = math::AbsFOp::create(b, loc, x);
    Value large = arith::CmpFOp::create(b, loc, arith::CmpFPredicate::OGE, size,
                                        number(6.0));
    Value in = arith::SelectOp::create(b, loc, large, number(0.0), x);
    Value square = arith::MulFOp::create(b, loc, in, in);
    Value twice = arith::MulFOp::create(b, loc, square, number(2.0));
    constexpr int terms = 160; // at 6, the last is below 1e-17 of the sum
    Value zero = arith::ConstantIndexOp::create(b, loc, 0);
    Value one = arith::ConstantIndexOp::create(b, loc, 1);
    Value count = arith::ConstantIndexOp::create(b, loc, terms);
    auto loop = scf::ForOp::create(
        b, loc, zero, count, one,
        ValueRange{number(1.0), number(2.0 * terms + 1)},
        [&](OpBuilder &to, Location, Value, ValueRange carried) {
          Value share = arith::DivFOp::create(to, loc, twice, carried[1]);
          Value sum =
              math::FmaOp::create(to, loc, carried[0], share, number(1.0));
          Value next = arith::SubFOp::create(to, loc, carried[1], number(2.0));
          scf::YieldOp::create(to, loc, ValueRange{sum, next});
        });
    Value power =
        math::ExpOp::create(b, loc, arith::NegFOp::create(b, loc, square));
    Value factor =
        arith::MulFOp::create(b, loc, in, number(1.1283791670955126));
    Value result = arith::MulFOp::create(
        b, loc, arith::MulFOp::create(b, loc, factor, power),
        loop.getResult(0));
    Value limit = math::CopySignOp::create(b, loc, number(1.0), x);
    b.replaceOpWithNewOp<arith::SelectOp>(op, large, limit, result);
    return success();
  }
};

/// tanh of f64: from exp, and near 0, where that cancels, by its continued
/// fraction.
struct ExpandTanh : OpRewritePattern<math::TanhOp> {
  using OpRewritePattern::OpRewritePattern;
  LogicalResult matchAndRewrite(math::TanhOp op,
                                PatternRewriter &b) const override {
    Type type = op.getType();
    if (!type.isF64())
      return b.notifyMatchFailure(op, "not of f64");
    Location loc = op.getLoc();
    Constants number{b, loc};
    Value x = op.getOperand();
    Value size = math::AbsFOp::create(b, loc, x);
    Value power = math::ExpOp::create(
        b, loc, arith::MulFOp::create(b, loc, size, number(2.0)));
    Value far = arith::SubFOp::create(
        b, loc, number(1.0),
        arith::DivFOp::create(
            b, loc, number(2.0),
            arith::AddFOp::create(b, loc, power, number(1.0))));
    far = math::CopySignOp::create(b, loc, far, x);
    Value square = arith::MulFOp::create(b, loc, x, x);
    Value below = number(23.0);
    for (int k = 21; k >= 1; k -= 2)
      below = arith::AddFOp::create(
          b, loc, number(k), arith::DivFOp::create(b, loc, square, below));
    Value near = arith::DivFOp::create(b, loc, x, below);
    Value isNear = arith::CmpFOp::create(b, loc, arith::CmpFPredicate::OLT,
                                         size, number(0.5));
    b.replaceOpWithNewOp<arith::SelectOp>(op, isNear, near, far);
    return success();
  }
};

bool hasInstruction(Operation *op) {
  return isa<math::AbsFOp, math::AbsIOp, math::CeilOp, math::FloorOp,
             math::TruncOp, math::RoundEvenOp, math::RoundOp, math::CopySignOp,
             math::FmaOp, math::SqrtOp, math::IsNaNOp, math::IsInfOp,
             math::IsFiniteOp, math::IsNormalOp, math::CtPopOp,
             math::CountLeadingZerosOp, math::CountTrailingZerosOp>(op);
}

struct ExpandDeviceMath
    : gossamer::impl::ExpandDeviceMathBase<ExpandDeviceMath> {
  void getDependentDialects(DialectRegistry &registry) const override {
    ExpandDeviceMathBase::getDependentDialects(registry);
    registry.insert<scf::SCFDialect>();
  }

  void runOnOperation() override {
    RewritePatternSet patterns(&getContext());
    patterns.add<ExpandErf, ExpandExp, ExpandLog, ExpandTanh>(&getContext());
    math::populateExpansionPatterns(
        patterns,
        {"rsqrt", "powf", "sinh", "cosh", "asinh", "acosh", "atanh", "fpowi"});
    populateMathPolynomialApproximationPatterns(patterns);
    if (failed(applyPatternsGreedily(getOperation(), std::move(patterns))))
      return signalPassFailure();
    WalkResult result = getOperation().walk([](Operation *op) {
      if (!isa_and_nonnull<math::MathDialect>(op->getDialect()) ||
          hasInstruction(op))
        return WalkResult::advance();
      op->emitError() << op->getName() << " of " << op->getResult(0).getType()
                      << " has no code for a GPU yet";
      return WalkResult::interrupt();
    });
    if (result.wasInterrupted())
      signalPassFailure();
  }
};

} // namespace
