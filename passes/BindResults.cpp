//===- BindResults.cpp - results are written where the caller wants them --===//

#include "mlir/Dialect/Bufferization/IR/Bufferization.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/IR/TypeUtilities.h"
#include "passes/Passes.h"
#include "passes/SharedPattern.h"

namespace gossamer {
#define GEN_PASS_DEF_BINDRESULTS
#include "passes/Passes.h.inc"
} // namespace gossamer

using namespace mlir;
using namespace gossamer;

namespace {

/// CSE gives one tensor.empty (and one fill of it) to many; but each will be
/// written in place.
void isolateInits(func::FuncOp function) {
  bool changed = true;
  while (changed) {
    changed = false;
    SmallVector<Operation *> shared;
    function.walk([&](Operation *op) {
      if (op->getNumResults() != 1 || op->hasOneUse() || op->use_empty())
        return;
      auto generic = dyn_cast<linalg::GenericOp>(op);
      bool fills = isa<linalg::FillOp>(op) ||
                   (generic && generic.getNumDpsInputs() == 1 &&
                    !isa<ShapedType>(generic->getOperand(0).getType())) ||
                   (generic && generic.getNumDpsInputs() == 0);
      if (isa<tensor::EmptyOp>(op) || fills)
        shared.push_back(op);
    });
    for (Operation *op : shared) {
      OpBuilder builder(op);
      for (OpOperand &use : llvm::make_early_inc_range(
               llvm::drop_begin(op->getResult(0).getUses())))
        use.set(builder.clone(*op)->getResult(0));
      changed = true;
    }
  }
}

/// The operand that gives a destination-passing operation its memory.
OpOperand *initOf(Value value) {
  Operation *op = value.getDefiningOp();
  if (auto matmul = dyn_cast_or_null<MatmulOp>(op))
    return &matmul.getInitMutable();
  if (auto contract = dyn_cast_or_null<ContractOp>(op))
    return &contract.getInitMutable();
  if (auto attention = dyn_cast_or_null<AttentionOp>(op))
    return &attention.getInitMutable();
  if (auto reduce = dyn_cast_or_null<ReduceOp>(op))
    return &reduce.getInitMutable();
  if (auto dps = dyn_cast_or_null<DestinationStyleOpInterface>(op))
    return dps.getTiedOpOperand(cast<OpResult>(value));
  return nullptr;
}

/// The tensor.empty at the beginning of the chain whose memory `value` is.
tensor::EmptyOp rootOf(Value value) {
  while (OpOperand *init = initOf(value)) {
    value = init->get();
    if (!value.hasOneUse())
      return {};
  }
  return value.getDefiningOp<tensor::EmptyOp>();
}

/// The argument whose pattern a sparse value has; -1 if it has none's.
int64_t patternOf(Value value) {
  BlockArgument argument = patternArgument(value);
  // Another storage is another pattern, also where only a conversion is
  // between.
  return argument && samePattern(value, argument)
             ? int64_t(argument.getArgNumber())
             : -1;
}

/// Why the results of `function` cannot be bound; empty if they can.
StringRef findObstacle(func::FuncOp function) {
  if (!function.getBody().hasOneBlock())
    return "must have one block for its results to be bound";
  for (Value value :
       function.getBody().front().getTerminator()->getOperands()) {
    auto type = dyn_cast<RankedTensorType>(value.getType());
    if (!type)
      return "returns what is not a ranked tensor; only tensors are written in "
             "place";
    if (sparse_tensor::getSparseTensorEncoding(type) && patternOf(value) < 0)
      return "returns a sparse tensor whose pattern is no argument's; a kernel "
             "makes no new patterns";
  }
  return "";
}

struct BindResults : gossamer::impl::BindResultsBase<BindResults> {
  void runOnOperation() override {
    func::FuncOp function = getOperation();
    // A function of buffers, such as a conversion kernel, comes bound.
    if (function.isExternal() || function.isPrivate() ||
        function->hasAttr("gossamer.results"))
      return;
    if (StringRef why = findObstacle(function); !why.empty()) {
      function.emitOpError() << why;
      return signalPassFailure();
    }
    isolateInits(function);
    auto ret = cast<func::ReturnOp>(function.getBody().front().getTerminator());
    OpBuilder builder(ret);
    Location loc = ret.getLoc();
    SmallVector<Attribute> results;
    for (Value value : ret.getOperands()) {
      auto type = cast<RankedTensorType>(value.getType());
      bool sparse = sparse_tensor::getSparseTensorEncoding(type) != nullptr;
      auto buffer =
          sparse
              ? MemRefType::get({ShapedType::kDynamic}, type.getElementType())
              : MemRefType::get(type.getShape(), type.getElementType());
      unsigned position = function.getNumArguments();
      if (failed(function.insertArgument(position, buffer, {}, loc)))
        return signalPassFailure();
      Value argument = function.getArgument(position);
      // The input that a sparse result shares its pattern with; -1 if it is
      // dense.
      results.push_back(
          builder.getI64IntegerAttr(sparse ? patternOf(value) : -1));
      if (sparse) {
        StoreValuesOp::create(builder, loc, value, argument);
        continue;
      }
      if (tensor::EmptyOp root = rootOf(value)) {
        OpBuilder atRoot(root);
        root.replaceAllUsesWith(
            bufferization::ToTensorOp::create(atRoot, loc, type, argument,
                                              /*restrict=*/true,
                                              /*writable=*/true)
                .getResult());
        root.erase();
      }
      auto store = bufferization::MaterializeInDestinationOp::create(
          builder, loc, value, argument);
      store.setWritable(true);
    }
    function->setAttr("gossamer.noalias", builder.getUnitAttr());
    function->setAttr("gossamer.results", builder.getArrayAttr(results));
    ret.getOperandsMutable().clear();
    llvm::BitVector all(function.getNumResults(), true);
    if (failed(function.eraseResults(all)))
      return signalPassFailure();
  }
};

} // namespace
