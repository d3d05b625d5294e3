//===- ExpandMath.cpp - elementary functions inline -----------------------===//

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/Math/Transforms/Passes.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "mlir/Transforms/GreedyPatternRewriteDriver.h"
#include "passes/Passes.h"

namespace gossamer {
#define GEN_PASS_DEF_EXPANDMATH
#include "passes/Passes.h.inc"
} // namespace gossamer

using namespace mlir;

namespace {

/// A constant of an element type, as many as a type of numbers has.
Value splat(OpBuilder &b, Location loc, Type like, FloatType element,
            double value) {
  TypedAttr number = b.getFloatAttr(element, value);
  if (auto vector = dyn_cast<VectorType>(like))
    number = DenseElementsAttr::get(vector.clone(element), number);
  return arith::ConstantOp::create(b, loc, number);
}

/// sin or cos of f32: MLIR's polynomials subtract multiples of pi / 2 in f32,
/// and soon have nothing left of a large number. Here half turns are subtracted
/// in f64, and a polynomial gets what is left. From 2^31 on, which are rare,
/// the mathematical library is asked, number by number.
template <typename Op> struct ReduceAngle : OpRewritePattern<Op> {
  explicit ReduceAngle(MLIRContext *context)
      : OpRewritePattern<Op>(context, /*benefit=*/2) {}

  LogicalResult matchAndRewrite(Op op, PatternRewriter &b) const override {
    Type type = op.getType();
    auto vector = dyn_cast<VectorType>(type);
    if (!getElementTypeOrSelf(type).isF32() ||
        (vector && (vector.getRank() != 1 || vector.isScalable())))
      return b.notifyMatchFailure(op, "not of f32");
    Location loc = op.getLoc();
    FloatType f64 = b.getF64Type();
    Value wide = arith::ExtFOp::create(
        b, loc, vector ? Type(vector.clone(f64)) : Type(f64), op.getOperand());
    Value isLarge = arith::CmpFOp::create(b, loc, arith::CmpFPredicate::OGE,
                                          math::AbsFOp::create(b, loc, wide),
                                          splat(b, loc, type, f64, 0x1p31));
    if (vector)
      isLarge = vector::ReductionOp::create(b, loc, vector::CombiningKind::OR,
                                            isLarge);
    auto branch =
        scf::IfOp::create(b, loc, type, isLarge, /*withElseRegion=*/true);
    OpBuilder large = branch.getThenBodyBuilder();
    OpBuilder small = branch.getElseBodyBuilder();
    scf::YieldOp::create(large, loc, byLibrary(large, loc, wide, type));
    scf::YieldOp::create(small, loc, byPolynomial(small, loc, wide, type));
    b.replaceOp(op, branch.getResult(0));
    return success();
  }

private:
  Value byLibrary(OpBuilder &b, Location loc, Value wide, Type type) const {
    auto vector = dyn_cast<VectorType>(type);
    auto one = [&](Value x) -> Value {
      return arith::TruncFOp::create(b, loc, b.getF32Type(),
                                     Op::create(b, loc, x));
    };
    if (!vector)
      return one(wide);
    SmallVector<Value> found;
    for (int64_t n = 0; n < vector.getNumElements(); ++n)
      found.push_back(one(vector::ExtractOp::create(b, loc, wide, n)));
    return vector::FromElementsOp::create(b, loc, vector, found);
  }

  /// Both are a sine, of what is left of half turns, or of those and a quarter.
  Value byPolynomial(OpBuilder &b, Location loc, Value wide, Type type) const {
    constexpr bool isCosine = std::is_same_v<Op, math::CosOp>;
    auto number = [&](double value) {
      return splat(b, loc, type, b.getF64Type(), value);
    };
    Value turns =
        arith::MulFOp::create(b, loc, wide, number(0.3183098861837907));
    if (isCosine)
      turns = arith::SubFOp::create(b, loc, turns, number(0.5));
    turns = math::FloorOp::create(
        b, loc, arith::AddFOp::create(b, loc, turns, number(0.5)));
    Value taken = turns;
    if (isCosine)
      taken = arith::AddFOp::create(b, loc, turns, number(0.5));
    taken = arith::NegFOp::create(b, loc, taken);
    Value rest =
        math::FmaOp::create(b, loc, taken, number(3.141592653589793), wide);
    rest = math::FmaOp::create(b, loc, taken, number(1.2246467991473532e-16),
                               rest);
    // An odd number of half turns is another sign, and so is a cosine's
    // quarter.
    Value half = arith::MulFOp::create(b, loc, turns, number(0.5));
    Value odd = arith::SubFOp::create(b, loc, half,
                                      math::FloorOp::create(b, loc, half));
    Value sign = math::FmaOp::create(b, loc, odd, number(isCosine ? 4.0 : -4.0),
                                     number(isCosine ? -1.0 : 1.0));
    rest = arith::MulFOp::create(b, loc, rest, sign);
    Value r = arith::TruncFOp::create(b, loc, type, rest);
    // Its Taylor series, whose first term left out is below 1e-9.
    Value square = arith::MulFOp::create(b, loc, r, r);
    Value sum;
    for (double factorial :
         {6227020800.0, -39916800.0, 362880.0, -5040.0, 120.0, -6.0}) {
      Value factor = splat(b, loc, type, b.getF32Type(), 1.0 / factorial);
      sum = sum ? math::FmaOp::create(b, loc, sum, square, factor).getResult()
                : factor;
    }
    return math::FmaOp::create(b, loc, arith::MulFOp::create(b, loc, square, r),
                               sum, r);
  }
};

struct ExpandMath : gossamer::impl::ExpandMathBase<ExpandMath> {
  void getDependentDialects(DialectRegistry &registry) const override {
    ExpandMathBase::getDependentDialects(registry);
    registry.insert<scf::SCFDialect>();
  }

  void runOnOperation() override {
    RewritePatternSet patterns(&getContext());
    patterns.add<ReduceAngle<math::CosOp>, ReduceAngle<math::SinOp>>(
        &getContext());
    populateMathPolynomialApproximationPatterns(patterns);
    if (failed(applyPatternsGreedily(getOperation(), std::move(patterns))))
      signalPassFailure();
  }
};

} // namespace
