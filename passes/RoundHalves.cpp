//===- RoundHalves.cpp - rounding to float16 and bfloat16 -----------------===//

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Arith/Transforms/Passes.h"
#include "mlir/IR/PatternMatch.h"
#include "mlir/IR/TypeUtilities.h"
#include "mlir/Transforms/GreedyPatternRewriteDriver.h"
#include "passes/HalfPrecision.h"
#include "passes/Passes.h"

namespace gossamer {
#define GEN_PASS_DEF_ROUNDHALVES
#include "passes/Passes.h.inc"
} // namespace gossamer

using namespace mlir;
using namespace gossamer;

namespace {

/// float64 is rounded to float32 on the way, as PyTorch does.
struct RoundTwice : OpRewritePattern<arith::TruncFOp> {
  using OpRewritePattern::OpRewritePattern;
  LogicalResult matchAndRewrite(arith::TruncFOp op,
                                PatternRewriter &rewriter) const override {
    Type from = op.getIn().getType();
    if (!getElementTypeOrSelf(from).isF64() ||
        !isHalf(getElementTypeOrSelf(op.getType())))
      return rewriter.notifyMatchFailure(op, "not from f64 to half precision");
    Type single = rewriter.getF32Type();
    if (auto shaped = dyn_cast<ShapedType>(from))
      single = shaped.clone(single);
    Value once =
        arith::TruncFOp::create(rewriter, op.getLoc(), single, op.getIn());
    rewriter.replaceOpWithNewOp<arith::TruncFOp>(op, op.getType(), once);
    return success();
  }
};

struct RoundHalves : gossamer::impl::RoundHalvesBase<RoundHalves> {
  void runOnOperation() override {
    RewritePatternSet patterns(&getContext());
    patterns.add<RoundTwice>(&getContext());
    arith::populateExpandBFloat16Patterns(patterns);
    if (failed(applyPatternsGreedily(getOperation(), std::move(patterns))))
      signalPassFailure();
  }
};

} // namespace
