//===- SharedPattern.cpp - sparse tensors on one pattern ------------------===//

#include "passes/SharedPattern.h"
#include "mlir/Interfaces/FunctionInterfaces.h"

using namespace mlir;
using namespace gossamer;
using sparse_tensor::getSparseTensorEncoding;

/// The operand whose pattern `op` computes on; null if it has none.
static Value patternOperand(Operation *op) {
  if (auto sddmm = dyn_cast<SDDMMOp>(op))
    return sddmm.getPattern();
  if (auto map = dyn_cast<MapOp>(op))
    return map.getPattern();
  if (auto sample = dyn_cast<SampleOp>(op))
    return sample.getPattern();
  if (auto softmax = dyn_cast<SoftmaxOp>(op))
    return softmax.getSource();
  if (auto assemble = dyn_cast<AssembleOp>(op))
    return assemble.getPattern();
  if (auto index = dyn_cast<StorageIndexOp>(op))
    return index.getSource();
  if (auto gather = dyn_cast<GatherOp>(op))
    return gather.getIndex();
  if (auto convert = dyn_cast<ConvertOp>(op))
    return getSparseTensorEncoding(convert.getSource().getType())
               ? convert.getSource()
               : Value();
  return {};
}

BlockArgument gossamer::patternArgument(Value sparse) {
  while (sparse && sparse.getDefiningOp())
    sparse = patternOperand(sparse.getDefiningOp());
  auto argument = dyn_cast_or_null<BlockArgument>(sparse);
  if (!argument)
    return {};
  auto function =
      dyn_cast<FunctionOpInterface>(argument.getOwner()->getParentOp());
  if (!function)
    return argument;
  auto shared = function.getArgAttrOfType<IntegerAttr>(
      argument.getArgNumber(), GossamerDialect::getPatternAttrName());
  return shared ? function.getArgument(shared.getInt()) : argument;
}

bool gossamer::samePattern(Value a, Value b) {
  auto encoding = getSparseTensorEncoding(a.getType());
  if (!encoding || encoding != getSparseTensorEncoding(b.getType()))
    return false;
  if (a == b)
    return true;
  BlockArgument argument = patternArgument(a);
  return argument && argument == patternArgument(b);
}
