//===- Gossamer.cpp - the gossamer dialect --------------------------------===//

#include "dialect/gossamer/Gossamer.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/IR/Builders.h"
#include "mlir/IR/DialectImplementation.h"
#include "mlir/IR/PatternMatch.h"
#include "mlir/IR/TypeUtilities.h"

#include "dialect/gossamer/GossamerDialect.cpp.inc"
#include "dialect/gossamer/GossamerEnums.cpp.inc"

#define GET_OP_CLASSES
#include "dialect/gossamer/GossamerOps.cpp.inc"

using namespace mlir;
using namespace gossamer;

void GossamerDialect::initialize() {
  addOperations<
#define GET_OP_LIST
#include "dialect/gossamer/GossamerOps.cpp.inc"
      >();
}

OpFoldResult ConvertOp::fold(FoldAdaptor) {
  if (getSource().getType() == getResult().getType())
    return getSource();
  // There and back again: the fill is the same, so nothing was dropped.
  if (auto inner = getSource().getDefiningOp<ConvertOp>())
    if (inner.getSource().getType() == getResult().getType() &&
        inner.getFill() == getFill())
      return inner.getSource();
  return {};
}

namespace {
/// The size of a converted tensor is the size of its source.
struct DimOfConvert : OpRewritePattern<tensor::DimOp> {
  using OpRewritePattern::OpRewritePattern;
  LogicalResult matchAndRewrite(tensor::DimOp op,
                                PatternRewriter &rewriter) const override {
    auto convert = op.getSource().getDefiningOp<ConvertOp>();
    if (!convert)
      return rewriter.notifyMatchFailure(op,
                                         "not the size of a converted tensor");
    rewriter.modifyOpInPlace(
        op, [&] { op.getSourceMutable().assign(convert.getSource()); });
    return success();
  }
};
} // namespace

void ConvertOp::getCanonicalizationPatterns(RewritePatternSet &patterns,
                                            MLIRContext *context) {
  patterns.add<DimOfConvert>(context);
}

bool MatmulOp::isSparseLhs() {
  return sparse_tensor::getSparseTensorEncoding(getLhs().getType()) != nullptr;
}

TypedAttr ReduceOp::getIdentity() {
  Builder builder(getContext());
  Type type = getElementTypeOrSelf(getResult());
  // Upstream's identity of a sum is -0.0, which is none of torch's sums.
  if (getKind() == arith::AtomicRMWKind::addf)
    return builder.getZeroAttr(type);
  OpBuilder unused(getContext());
  return arith::getIdentityValueAttr(getKind(), type, unused, getLoc());
}

bool ReduceOp::isFillNeutral() {
  if (getKind() == arith::AtomicRMWKind::addf)
    return cast<FloatAttr>(getFill()).getValue().isZero();
  return getFill() == getIdentity();
}

bool MatmulOp::hasEpilogue() {
  Block &block = getBlock();
  return block.getTerminator()->getOperand(0) != block.getArgument(0);
}
