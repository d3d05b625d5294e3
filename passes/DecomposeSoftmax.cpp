//===- DecomposeSoftmax.cpp - dense softmax as reductions -----------------===//

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "passes/Passes.h"

namespace gossamer {
#define GEN_PASS_DEF_DECOMPOSESOFTMAX
#include "passes/Passes.h.inc"
} // namespace gossamer

using namespace mlir;

namespace {

/// What no sparse operation took: max, exp, sum, divide. As everywhere here a
/// row of -inf is 0.
void decompose(linalg::SoftmaxOp op) {
  OpBuilder builder(op);
  Location loc = op.getLoc();
  Value input = op.getInput();
  auto type = cast<RankedTensorType>(input.getType());
  auto element = cast<FloatType>(type.getElementType());
  int64_t rank = type.getRank(), dim = op.getDimension();
  AffineMap all = builder.getMultiDimIdentityMap(rank),
            row = all.dropResult(dim);
  SmallVector<utils::IteratorType> parallel(rank,
                                            utils::IteratorType::parallel);
  SmallVector<utils::IteratorType> reduction = parallel;
  reduction[dim] = utils::IteratorType::reduction;
  auto constant = [&](APFloat value) -> Value {
    return arith::ConstantOp::create(builder, loc,
                                     builder.getFloatAttr(element, value));
  };
  const llvm::fltSemantics &semantics = element.getFloatSemantics();
  Value zero = constant(APFloat::getZero(semantics));
  Value lowest = constant(APFloat::getInf(semantics, /*Negative=*/true));

  SmallVector<OpFoldResult> sizes = tensor::getMixedSizes(builder, loc, input);
  SmallVector<OpFoldResult> rowSizes = sizes;
  rowSizes.erase(rowSizes.begin() + dim);
  auto reduce = [&](Value source, Value start, auto combine) -> Value {
    Value empty = tensor::EmptyOp::create(builder, loc, rowSizes, element);
    Value init =
        linalg::FillOp::create(builder, loc, start, empty).getResult(0);
    return linalg::GenericOp::create(
               builder, loc, init.getType(), source, init,
               ArrayRef<AffineMap>{all, row}, reduction,
               [&](OpBuilder &b, Location l, ValueRange args) {
                 linalg::YieldOp::create(b, l, combine(b, l, args[0], args[1]));
               })
        .getResult(0);
  };
  auto map = [&](Value source, Value perRow, auto function) -> Value {
    Value empty = tensor::EmptyOp::create(builder, loc, sizes, element);
    return linalg::GenericOp::create(
               builder, loc, type, ValueRange{source, perRow}, empty,
               ArrayRef<AffineMap>{all, row, all}, parallel,
               [&](OpBuilder &b, Location l, ValueRange args) {
                 linalg::YieldOp::create(b, l,
                                         function(b, l, args[0], args[1]));
               })
        .getResult(0);
  };
  auto equals = [](OpBuilder &b, Location l, Value a, Value c) -> Value {
    return arith::CmpFOp::create(b, l, arith::CmpFPredicate::OEQ, a, c);
  };
  Value maxima = reduce(
      input, lowest, [](OpBuilder &b, Location l, Value x, Value acc) -> Value {
        return arith::MaximumFOp::create(b, l, x, acc);
      });
  Value powers = map(
      input, maxima, [&](OpBuilder &b, Location l, Value x, Value m) -> Value {
        Value power =
            math::ExpOp::create(b, l, arith::SubFOp::create(b, l, x, m));
        return arith::SelectOp::create(b, l, equals(b, l, x, lowest), zero,
                                       power);
      });
  Value sums = reduce(
      powers, zero, [](OpBuilder &b, Location l, Value x, Value acc) -> Value {
        return arith::AddFOp::create(b, l, x, acc);
      });
  Value shares = map(
      powers, sums, [&](OpBuilder &b, Location l, Value x, Value sum) -> Value {
        Value share = arith::DivFOp::create(b, l, x, sum);
        return arith::SelectOp::create(b, l, equals(b, l, sum, zero), zero,
                                       share);
      });
  op.getResult().front().replaceAllUsesWith(shares);
  op.erase();
}

struct DecomposeSoftmax
    : gossamer::impl::DecomposeSoftmaxBase<DecomposeSoftmax> {
  void runOnOperation() override {
    SmallVector<linalg::SoftmaxOp> ops;
    getOperation().walk([&](linalg::SoftmaxOp op) { ops.push_back(op); });
    for (linalg::SoftmaxOp op : ops) {
      auto type = dyn_cast<RankedTensorType>(op.getInput().getType());
      if (!type || !isa<FloatType>(type.getElementType())) {
        op.emitOpError(
            "is decomposed on tensors of floating-point numbers only");
        return signalPassFailure();
      }
      decompose(op);
    }
  }
};

} // namespace
