//===- Bufferize.cpp - tensors become memrefs -----------------------------===//

#include "mlir/Dialect/Bufferization/IR/Bufferization.h"
#include "mlir/Dialect/Bufferization/Transforms/OneShotAnalysis.h"
#include "mlir/Dialect/Bufferization/Transforms/OneShotModuleBufferize.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Interfaces/ViewLikeInterface.h"
#include "passes/Passes.h"

namespace gossamer {
#define GEN_PASS_DEF_BUFFERIZE
#include "passes/Passes.h.inc"
} // namespace gossamer

using namespace mlir;
using namespace gossamer;

namespace {

struct Bufferize : gossamer::impl::BufferizeBase<Bufferize> {
  void runOnOperation() override {
    // Buffers that the lowering passes wrap as tensors are each wrapped for one
    // use: nothing else writes them while the tensor lives.
    getOperation().walk(
        [](bufferization::ToTensorOp op) { op.setRestrict(true); });
    // Nor are a region's arguments its own: what writes one gets a copy.
    getOperation().walk([&](func::FuncOp function) {
      for (unsigned n = 0; n < function.getNumArguments(); ++n)
        if (isa<TensorType>(function.getArgumentTypes()[n]))
          function.setArgAttr(
              n, bufferization::BufferizationDialect::kWritableAttrName,
              BoolAttr::get(&getContext(), false));
    });
    bufferization::OneShotBufferizationOptions options;
    options.bufferizeFunctionBoundaries = true;
    options.setFunctionBoundaryTypeConversion(
        bufferization::LayoutMapOption::IdentityLayoutMap);
    bufferization::BufferizationState state;
    if (failed(bufferization::runOneShotModuleBufferize(getOperation(), options,
                                                        state)))
      return signalPassFailure();
    freeAllocations();
  }

  /// Whether a buffer, or a view of it, is handed on behind the block that it
  /// is made in.
  static bool leavesBlock(Value buffer) {
    return llvm::any_of(buffer.getUsers(), [](Operation *user) {
      return user->hasTrait<OpTrait::IsTerminator>() ||
             (isa<ViewLikeOpInterface>(user) &&
              leavesBlock(user->getResult(0)));
    });
  }

  /// Results are in memory of the caller; so what is made here dies here, at
  /// the end of the iteration that makes it.
  void freeAllocations() {
    getOperation().walk([](memref::AllocOp op) {
      op.setAlignment(64); // a cache line, and the widest vector
      if (leavesBlock(op) ||
          llvm::any_of(op->getUsers(), llvm::IsaPred<memref::DeallocOp>))
        return;
      OpBuilder builder(op->getBlock()->getTerminator());
      memref::DeallocOp::create(builder, op.getLoc(), op);
    });
  }
};

} // namespace
