//===- RaiseContract.cpp - products that matmul does not take -------------===//

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/IR/TypeUtilities.h"
#include "passes/Passes.h"
#include "passes/Report.h"
#include "passes/SparseOperand.h"

namespace gossamer {
#define GEN_PASS_DEF_RAISECONTRACT
#include "passes/Passes.h.inc"
} // namespace gossamer

using namespace mlir;
using namespace gossamer;
using sparse_tensor::getSparseTensorEncoding;

namespace {

/// Counts how often each input is a factor of `value`; false if that is no
/// product of inputs (which may be widened first).
bool countFactors(Value value, Block *body, SmallVectorImpl<unsigned> &counts) {
  if (auto arg = dyn_cast<BlockArgument>(value)) {
    if (arg.getOwner() != body || arg.getArgNumber() >= counts.size())
      return false;
    ++counts[arg.getArgNumber()];
    return true;
  }
  Operation *op = value.getDefiningOp();
  if (isa<arith::MulFOp, arith::MulIOp>(op))
    return countFactors(op->getOperand(0), body, counts) &&
           countFactors(op->getOperand(1), body, counts);
  return isa<arith::ExtFOp>(op) && isa<BlockArgument>(op->getOperand(0)) &&
         countFactors(op->getOperand(0), body, counts);
}

/// Whether `op` sums the product of all its inputs, each once, onto zero.
bool isSumOfProduct(linalg::GenericOp op) {
  if (op->hasAttr("gossamer.combine") || op->getNumResults() != 1 ||
      op.getNumDpsInputs() < 2 || !op.hasPureTensorSemantics() ||
      !isZero(getSplat(op.getDpsInits()[0])))
    return false;
  Block *body = op.getBody();
  Operation *add = body->getTerminator()->getOperand(0).getDefiningOp();
  if (!isa_and_nonnull<arith::AddFOp, arith::AddIOp>(add))
    return false;
  Value out = body->getArguments().back();
  if (add->getOperand(0) != out && add->getOperand(1) != out)
    return false;
  SmallVector<unsigned> counts(op.getNumDpsInputs());
  return countFactors(add->getOperand(add->getOperand(0) == out ? 1 : 0), body,
                      counts) &&
         llvm::all_of(counts, [](unsigned count) { return count == 1; }) &&
         op.getIndexingMapsArray().back().isProjectedPermutation();
}

void raise(linalg::GenericOp op) {
  StringRef name = ContractOp::getOperationName();
  Type element = getElementTypeOrSelf(op.getDpsInputs()[0]);
  if (element.getIntOrFloatBitWidth() < 8)
    return;
  SmallVector<Access> operands;
  unsigned sparse = 0;
  for (auto [input, map] :
       llvm::zip(op.getDpsInputs(), op.getIndexingMapsArray())) {
    if (!isProjection(map)) {
      reportRefusal(op, name, "an index occurs twice in one operand");
      return;
    }
    Access operand = asSparse(op, {input, map}, name);
    if (getSparseTensorEncoding(operand.tensor.getType()))
      ++sparse;
    else
      operand = traceView(operand);
    operands.push_back(operand);
  }
  bool taken = sparse > 0 && (sparse > 1 || operands.size() > 2 ||
                              op.getNumReductionLoops() == 0);
  if (!taken) {
    for (Access &operand : operands)
      if (auto sample = operand.tensor.getDefiningOp<SampleOp>();
          sample && sample->use_empty())
        sample.erase();
    return;
  }
  // A dimension of a sparse operand that is read at 0 (its size is 1) gets a
  // loop of its own: storage has no constants in it.
  unsigned numLoops = op.getNumLoops();
  for (Access &operand : operands) {
    SmallVector<AffineExpr> exprs(operand.map.getResults());
    if (getSparseTensorEncoding(operand.tensor.getType()))
      for (AffineExpr &expr : exprs)
        if (isa<AffineConstantExpr>(expr))
          expr = getAffineDimExpr(numLoops++, op.getContext());
    operand.map = AffineMap::get(numLoops, 0, exprs, op.getContext());
  }
  SmallVector<Value> inputs;
  SmallVector<AffineMap> maps;
  AffineMap result = op.getIndexingMapsArray().back();
  for (Access &operand : operands) {
    inputs.push_back(operand.tensor);
    maps.push_back(
        AffineMap::get(numLoops, 0, operand.map.getResults(), op.getContext()));
  }
  maps.push_back(
      AffineMap::get(numLoops, 0, result.getResults(), op.getContext()));
  OpBuilder builder(op);
  auto contract = ContractOp::create(
      builder, op.getLoc(), op.getResult(0).getType(), inputs,
      shapeOnly(op.getDpsInits()[0]), builder.getAffineMapArrayAttr(maps));
  op.getResult(0).replaceAllUsesWith(contract.getResult());
  op.erase();
}

struct RaiseContract : gossamer::impl::RaiseContractBase<RaiseContract> {
  void runOnOperation() override {
    SmallVector<linalg::GenericOp> generics;
    getOperation().walk([&](linalg::GenericOp op) { generics.push_back(op); });
    for (linalg::GenericOp op : generics)
      if (isSumOfProduct(op))
        raise(op);
  }
};

} // namespace
