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
#include "passes/DeviceMath.h"
#include "passes/Passes.h"

namespace gossamer {
#define GEN_PASS_DEF_EXPANDDEVICEMATH
#include "passes/Passes.h.inc"
} // namespace gossamer

using namespace mlir;
using namespace gossamer;

namespace {

/// erf: 2 x exp(-x^2) / sqrt(pi) times the sum of (2 x^2)^n / (1 3 5 .. (2 n +
/// 1)), of which all terms are positive. From 6 on it is 1.
Value expand(const Doubles &d, math::ErfOp op) {
  Value x = op.getOperand();
  Value large = d.compare(arith::CmpFPredicate::OGE, d.abs(x), 6.0);
  Value in = d.select(large, d.number(0.0), x);
  Value square = d.mul(in, in);
  Value twice = d.mul(square, d.number(2.0));
  constexpr int terms = 160; // at 6, the last is below 1e-17 of the sum
  Value zero = arith::ConstantIndexOp::create(d.b, d.loc, 0);
  Value one = arith::ConstantIndexOp::create(d.b, d.loc, 1);
  Value count = arith::ConstantIndexOp::create(d.b, d.loc, terms);
  auto loop = scf::ForOp::create(
      d.b, d.loc, zero, count, one,
      ValueRange{d.number(1.0), d.number(2.0 * terms + 1)},
      [&](OpBuilder &to, Location loc, Value, ValueRange carried) {
        Doubles in(to, loc);
        Value share = in.div(twice, carried[1]);
        Value sum = in.fma(carried[0], share, in.number(1.0));
        Value next = in.sub(carried[1], in.number(2.0));
        scf::YieldOp::create(to, loc, ValueRange{sum, next});
      });
  Value power = math::ExpOp::create(d.b, d.loc, d.neg(square));
  Value factor = d.mul(in, d.number(1.1283791670955126));
  Value result = d.mul(d.mul(factor, power), loop.getResult(0));
  return d.select(large, d.withSign(d.number(1.0), x), result);
}

/// tanh: from exp, and near 0, where that cancels, by its continued fraction.
Value expand(const Doubles &d, math::TanhOp op) {
  Value x = op.getOperand();
  Value size = d.abs(x);
  Value power = math::ExpOp::create(d.b, d.loc, d.mul(size, d.number(2.0)));
  Value far =
      d.sub(d.number(1.0), d.div(d.number(2.0), d.add(power, d.number(1.0))));
  far = d.withSign(far, x);
  Value square = d.mul(x, x);
  Value below = d.number(23.0);
  for (int k = 21; k >= 1; k -= 2)
    below = d.add(d.number(k), d.div(square, below));
  Value near = d.div(x, below);
  return d.select(d.compare(arith::CmpFPredicate::OLT, size, 0.5), near, far);
}

bool hasInstruction(Operation *op) {
  return isa<math::AbsFOp, math::AbsIOp, math::CeilOp, math::FloorOp,
             math::TruncOp, math::RoundEvenOp, math::RoundOp, math::CopySignOp,
             math::FmaOp, math::SqrtOp, math::IsNaNOp, math::IsInfOp,
             math::IsFiniteOp, math::IsNormalOp, math::CtPopOp,
             math::CountLeadingZerosOp, math::CountTrailingZerosOp>(op);
}

/// What is computed in f64 where it is of f32: MLIR's polynomials of these lose
/// digits, small numbers or large ones, or there are none.
bool isInDouble(Operation *op) {
  return isa<math::AcosOp, math::AcoshOp, math::AsinOp, math::AsinhOp,
             math::Atan2Op, math::AtanOp, math::AtanhOp, math::CbrtOp,
             math::CoshOp, math::Exp2Op, math::Log10Op, math::PowFOp,
             math::SinhOp, math::TanOp>(op);
}

/// Whether the operation has code of ours for a type of element.
bool isOurs(Operation *op, Type element) {
  return element.isF64() ||
         (element.isF32() &&
          (isInDouble(op) || isa<math::SinOp, math::CosOp>(op)));
}

struct InDouble : RewritePattern {
  explicit InDouble(MLIRContext *context)
      : RewritePattern(MatchAnyOpTypeTag(), /*benefit=*/3, context) {}
  LogicalResult matchAndRewrite(Operation *op,
                                PatternRewriter &b) const override {
    if (!isInDouble(op) || !op->getResult(0).getType().isF32())
      return b.notifyMatchFailure(op, "is not computed in f64");
    SmallVector<Value> operands;
    for (Value operand : op->getOperands())
      operands.push_back(
          arith::ExtFOp::create(b, op->getLoc(), b.getF64Type(), operand));
    OperationState state(op->getLoc(), op->getName(), operands, b.getF64Type(),
                         op->getAttrs());
    b.replaceOpWithNewOp<arith::TruncFOp>(op, b.getF32Type(),
                                          b.create(state)->getResult(0));
    return success();
  }
};

/// Of a vector, what has code of ours is computed number by number.
struct NumberByNumber : RewritePattern {
  explicit NumberByNumber(MLIRContext *context)
      : RewritePattern(MatchAnyOpTypeTag(), /*benefit=*/3, context) {}
  LogicalResult matchAndRewrite(Operation *op,
                                PatternRewriter &b) const override {
    if (!isa<math::MathDialect>(op->getDialect()) || hasInstruction(op))
      return b.notifyMatchFailure(op, "has an instruction");
    auto type = dyn_cast<VectorType>(op->getResult(0).getType());
    if (!type || !isOurs(op, type.getElementType()) || type.getRank() != 1 ||
        type.isScalable())
      return b.notifyMatchFailure(op, "not of a vector that is ours");
    SmallVector<Value> results;
    for (int64_t n = 0; n < type.getNumElements(); ++n) {
      SmallVector<Value> operands;
      for (Value operand : op->getOperands())
        operands.push_back(
            isa<VectorType>(operand.getType())
                ? vector::ExtractOp::create(b, op->getLoc(), operand, n)
                : operand);
      OperationState state(op->getLoc(), op->getName(), operands,
                           type.getElementType(), op->getAttrs());
      results.push_back(b.create(state)->getResult(0));
    }
    b.replaceOpWithNewOp<vector::FromElementsOp>(op, type, results);
    return success();
  }
};

struct ExpandDeviceMath
    : gossamer::impl::ExpandDeviceMathBase<ExpandDeviceMath> {
  void getDependentDialects(DialectRegistry &registry) const override {
    ExpandDeviceMathBase::getDependentDialects(registry);
    registry.insert<scf::SCFDialect>();
  }

  void runOnOperation() override {
    RewritePatternSet patterns(&getContext());
    patterns.add<ExpandDouble<math::ErfOp, expand>,
                 ExpandDouble<math::TanhOp, expand>, InDouble, NumberByNumber>(
        &getContext());
    addAnglePatterns(patterns);
    addPowerPatterns(patterns);
    math::populateExpansionPatterns(patterns, {"rsqrt", "tan", "fpowi"});
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
