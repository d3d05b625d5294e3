//===- AttentionLoops.h - what loops over a masked attention share --------===//

#ifndef GOSSAMER_PASSES_ATTENTIONLOOPS_H
#define GOSSAMER_PASSES_ATTENTIONLOOPS_H

#include "mlir/Dialect/SCF/IR/SCF.h"
#include "passes/Storage.h"

namespace gossamer {

/// The operands of one attention as buffers, its sizes, and the box of loops
/// that run in parallel. Loop variables are (batch..., i, j, d, e).
class AttentionLoops {
protected:
  explicit AttentionLoops(AttentionOp op);

  /// Parallel loops over the batch and `rows`; the body gets their variables.
  /// Afterwards the operation is replaced by what the loops wrote.
  void forEachRow(
      mlir::Value rows,
      llvm::function_ref<void(mlir::OpBuilder &, mlir::ValueRange)> body);

  mlir::Value sizeOf(mlir::Value buffer, mlir::AffineMap map, unsigned loop);
  mlir::Value constant(double value);

  /// Whether sums are wider than what they are sums of.
  bool isNarrow() const { return element != operand; }
  /// A sum as an operand's type has it, a vector of sums as a vector of them.
  mlir::Value narrow(mlir::OpBuilder &builder, mlir::Value sum);

  AttentionOp op;
  mlir::OpBuilder builder;
  mlir::Location loc;
  llvm::SmallVector<mlir::AffineMap> maps;
  unsigned numBatch;
  /// Dimensions of the mask.
  unsigned rank;
  Storage mask;
  /// The type of operands and result, and that of sums: f32 at least.
  mlir::FloatType operand, element;
  mlir::Value query, key, value, out;
  llvm::SmallVector<mlir::Value> extras;
  mlir::Value sizeD, sizeE, zeroIndex, oneIndex, zero, one, lowest;
};

} // namespace gossamer

#endif // GOSSAMER_PASSES_ATTENTIONLOOPS_H
