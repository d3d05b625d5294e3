//===- Softmax.cpp - recognising a softmax --------------------------------===//

#include "passes/Softmax.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Math/IR/Math.h"

using namespace mlir;
using namespace gossamer;

ScratchEmitter::ScratchEmitter(Location loc)
    : builder(loc.getContext()),
      emitter(&block, [loc](OpBuilder &b, unsigned loop) -> Value {
        return arith::ConstantIndexOp::create(b, loc, loop);
      }) {
  builder.setInsertionPointToEnd(&block);
}

std::optional<unsigned> gossamer::onlyReductionLoop(AffineMap result) {
  std::optional<unsigned> found;
  for (unsigned loop = 0; loop < result.getNumDims(); ++loop) {
    if (result.isFunctionOfDim(loop))
      continue;
    if (found)
      return {};
    found = loop;
  }
  return found;
}

/// The access to what the reduction behind the leaf `value` reduces, over the
/// root's loops, the reduced one being `j`.
static std::optional<Access> findReduced(const ScalarEmitter &emitter,
                                         Value value, ReductionKind kind,
                                         unsigned j, unsigned numLoops) {
  for (auto &[access, leaf] : emitter.leaves()) {
    if (leaf != value)
      continue;
    Reduction reduction = matchReduction(access.tensor, kind);
    if (!reduction || access.map.isFunctionOfDim(j))
      return {};
    auto loop = onlyReductionLoop(reduction.result);
    if (!loop)
      return {};
    // Unit loops that the result keeps (keepdim) stay 0.
    MLIRContext *context = access.map.getContext();
    SmallVector<AffineExpr> exprs(reduction.result.getNumDims(),
                                  getAffineConstantExpr(0, context));
    exprs[*loop] = getAffineDimExpr(j, context);
    for (auto [n, expr] : llvm::enumerate(reduction.result.getResults()))
      if (auto dim = dyn_cast<AffineDimExpr>(expr))
        exprs[dim.getPosition()] = access.map.getResult(n);
    return Access{reduction.input.tensor,
                  substitute(reduction.input.map, exprs, numLoops)};
  }
  return {};
}

/// The access to the source of the linalg.softmax over `j` behind the leaf
/// `value`.
static std::optional<Access> findNamed(const ScalarEmitter &emitter,
                                       Value value, unsigned j) {
  for (auto &[access, leaf] : emitter.leaves()) {
    auto op = access.tensor.getDefiningOp<linalg::SoftmaxOp>();
    if (leaf != value || !op)
      continue;
    auto dim = dyn_cast<AffineDimExpr>(access.map.getResult(op.getDimension()));
    if (dim && dim.getPosition() == j)
      return Access{op.getInput(), access.map};
  }
  return {};
}

std::optional<Access> gossamer::matchSoftmax(ScalarEmitter &emitter,
                                             OpBuilder &builder, Value value,
                                             unsigned j, unsigned numLoops) {
  // Rounded to half precision for the product that follows.
  while (Operation *cast = value.getDefiningOp()) {
    if (!isa<arith::TruncFOp, arith::ExtFOp>(cast))
      break;
    value = cast->getOperand(0);
  }
  if (auto scores = findNamed(emitter, value, j))
    return scores;
  auto div = value.getDefiningOp<arith::DivFOp>();
  auto exp = div ? div.getLhs().getDefiningOp<math::ExpOp>() : nullptr;
  auto sub = exp ? exp.getOperand().getDefiningOp<arith::SubFOp>() : nullptr;
  if (!sub)
    return {};
  auto summed =
      findReduced(emitter, div.getRhs(), ReductionKind::Sum, j, numLoops);
  auto scores =
      findReduced(emitter, sub.getRhs(), ReductionKind::Max, j, numLoops);
  // The sum must be that of these very exponentials, the maximum that of these
  // very scores: the emitter gives one value for one access.
  if (!summed || !scores || emitter.emit(builder, *summed) != exp.getResult() ||
      emitter.emit(builder, *scores) != sub.getLhs())
    return {};
  return scores;
}
