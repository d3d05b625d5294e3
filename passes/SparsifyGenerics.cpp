//===- SparsifyGenerics.cpp - MLIR's sparsifier ---------------------------===//

#include "mlir/Dialect/Bufferization/IR/Bufferization.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/SparseTensor/IR/SparseTensorType.h"
#include "mlir/Dialect/SparseTensor/Transforms/Passes.h"
#include "mlir/IR/TypeUtilities.h"
#include "mlir/Transforms/GreedyPatternRewriteDriver.h"
#include "passes/Elementwise.h"
#include "passes/Passes.h"
#include "passes/Report.h"

namespace gossamer {
#define GEN_PASS_DEF_SPARSIFYGENERICS
#include "passes/Passes.h.inc"
} // namespace gossamer

using namespace mlir;
using namespace gossamer;
using namespace mlir::sparse_tensor;

namespace {

/// A generic may read the one sparse operand that it has directly if that skips
/// nothing but zeros: every use of the element is multiplied, or summed.
/// Upstream crashes on a constant in a map, and is not relied on for diagonals
/// and windows.
bool mayReadSparse(linalg::GenericOp op, OpOperand &operand) {
  auto source = getSparseSource(operand.get());
  if (!source || !isZero(source.fill) || op->getNumResults() != 1 ||
      !getSparseTensorType(source.tensor).isPermutation() ||
      !llvm::all_of(op.getIndexingMapsArray(),
                    [](AffineMap map) { return map.isProjectedPermutation(); }))
    return false;
  return llvm::none_of(op->getOpOperands(), [&](OpOperand &other) {
    return &other != &operand && getSparseTensorEncoding(other.get().getType());
  });
}

/// What the sparsifier would not take (exp of a sparse tensor, say, is not zero
/// where that is) reads its operand densely.
bool readDensely(linalg::GenericOp op) {
  OpBuilder builder(op);
  bool refused = false;
  for (OpOperand *operand : op.getDpsInputOperands()) {
    auto type = dyn_cast<RankedTensorType>(operand->get().getType());
    if (!type || !getSparseTensorEncoding(type))
      continue;
    op.emitRemark() << "not sparsified: its sparse operand is made dense";
    report(op, "linalg.generic", Road::Dense,
           "not zero where its sparse operand is; that is made dense");
    operand->set(gossamer::ConvertOp::create(
        builder, op.getLoc(),
        RankedTensorType::get(type.getShape(), type.getElementType()),
        operand->get(), builder.getZeroAttr(type.getElementType())));
    refused = true;
  }
  return refused;
}

struct SparsifyGenerics
    : gossamer::impl::SparsifyGenericsBase<SparsifyGenerics> {
  void runOnOperation() override {
    unsigned folded = 0, refused = 0;
    getOperation().walk([&](linalg::GenericOp op) {
      for (OpOperand *operand : op.getDpsInputOperands())
        if (mayReadSparse(op, *operand)) {
          operand->set(getSparseSource(operand->get()).tensor);
          ++folded;
          return;
        }
    });
    // Loops are put in storage order first; those of gossamer.matmul are
    // already.
    RewritePatternSet schedule(&getContext()), patterns(&getContext());
    populateSparseReinterpretMap(schedule, ReinterpretMapScope::kGenericOnly);
    populateSparsificationPatterns(
        patterns, SparsificationOptions(SparseParallelizationStrategy::kNone,
                                        SparseEmitStrategy::kFunctional,
                                        /*enableRT=*/false));
    if (failed(applyPatternsGreedily(getOperation(), std::move(schedule))) ||
        failed(applyPatternsGreedily(getOperation(), std::move(patterns))))
      return signalPassFailure();
    getOperation().walk(
        [&](linalg::GenericOp op) { refused += readDensely(op); });
    for (unsigned n = refused; n < folded; ++n)
      report(getOperation().getBody().front().getTerminator(), "linalg.generic",
             Road::General, "MLIR's sparsifier, serial, in storage order");
  }
};

} // namespace
