//===- SparseValues.cpp - what computed tensors are off a pattern ---------===//

#include "passes/SparseValues.h"
#include "mlir/IR/TypeUtilities.h"
#include "passes/SharedPattern.h"
#include "passes/Softmax.h"

using namespace mlir;
using namespace gossamer;

DenseMap<Value, TypedAttr> gossamer::fillsOn(Value pattern, AffineMap map,
                                             const ScalarEmitter &emitter) {
  DenseMap<Value, TypedAttr> fills;
  for (auto &[leaf, arg] : emitter.leaves())
    if (leaf.map == map)
      if (SparseSource source = findPattern(leaf.tensor);
          source && samePattern(source.tensor, pattern))
        fills[arg] = source.fill;
  return fills;
}

/// The pattern of a softmax's scores, if what it does not store is masked: the
/// probability there is 0.
static SparseSource patternOfSoftmax(ScratchEmitter &scratch, Value value,
                                     AffineMap identity) {
  unsigned rank = identity.getNumDims();
  for (unsigned j : llvm::reverse(llvm::seq(rank)))
    if (auto scores =
            matchSoftmax(scratch.emitter, scratch.builder, value, j, rank)) {
      SparseSource source;
      if (scores->map == identity)
        source = findPattern(scores->tensor);
      if (!source || !isMaskedScore(source.fill))
        return {};
      source.fill = Builder(value.getContext()).getZeroAttr(value.getType());
      return source;
    }
  return {};
}

SparseSource gossamer::findPattern(Value dense) {
  auto type = dyn_cast<RankedTensorType>(dense.getType());
  if (!type || type.getEncoding())
    return {};
  AffineMap identity =
      AffineMap::getMultiDimIdentityMap(type.getRank(), dense.getContext());
  Access access = traceView({dense, identity});
  if (access.map != identity || access.tensor.getType() != type)
    return {};
  if (SparseSource source = getSparseSource(access.tensor))
    return source;
  auto generic = access.tensor.getDefiningOp<linalg::GenericOp>();
  if (!access.tensor.getDefiningOp<linalg::SoftmaxOp>() &&
      !(generic &&
        isElementwise(generic,
                      cast<OpResult>(access.tensor).getResultNumber())))
    return {};
  ScratchEmitter scratch(dense.getLoc());
  Value value = scratch.emitter.emit(scratch.builder, access);
  if (SparseSource source = patternOfSoftmax(scratch, value, identity))
    return source;
  SmallVector<std::pair<Access, Value>> leaves(scratch.emitter.leaves());
  for (auto &[leaf, arg] : leaves) {
    if (leaf.map != identity || leaf.tensor == access.tensor)
      continue;
    SparseSource source = findPattern(leaf.tensor);
    if (!source)
      continue;
    source.fill =
        evaluate(value, fillsOn(source.tensor, identity, scratch.emitter));
    if (source.fill)
      return source;
  }
  return {};
}

Value gossamer::sampleOn(OpBuilder &builder, Location loc, Value dense,
                         Value pattern) {
  auto shape = cast<RankedTensorType>(pattern.getType());
  auto type = RankedTensorType::get(
      shape.getShape(), getElementTypeOrSelf(dense), shape.getEncoding());
  return SampleOp::create(builder, loc, type, dense, pattern);
}
