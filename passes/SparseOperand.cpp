//===- SparseOperand.cpp - operands of products that are sparse -----------===//

#include "passes/SparseOperand.h"
#include "passes/Report.h"
#include "passes/SparseValues.h"

using namespace mlir;
using namespace gossamer;
using sparse_tensor::getSparseTensorEncoding;

AffineMap gossamer::identityOf(Value tensor) {
  return AffineMap::getMultiDimIdentityMap(
      cast<ShapedType>(tensor.getType()).getRank(), tensor.getContext());
}

Access gossamer::asSparse(linalg::GenericOp op, Access access, StringRef user) {
  Access view = traceView(access);
  if (SparseSource source = getSparseSource(view.tensor)) {
    if (isZero(source.fill))
      return {source.tensor, view.map};
    reportRefusal(op, user, "the sparse operand's fill is not 0");
    return access;
  }
  if (getSparseTensorEncoding(view.tensor.getType()))
    return view;
  // Computed from sparse tensors on one pattern, and 0 where that has nothing
  // stored: then it has the same pattern.
  SparseSource source = findPattern(view.tensor);
  if (!source || !isZero(source.fill))
    return access;
  OpBuilder builder(op);
  return {sampleOn(builder, op.getLoc(), view.tensor, source.tensor), view.map};
}
