//===- StoredOps.h - operations that make values on a pattern ---*- C++ -*-===//
//
// What the lowerings of operations with a sparse result share: where its values
// go, and what a body reads at a stored entry.
//
//===----------------------------------------------------------------------===//

#ifndef GOSSAMER_PASSES_STOREDOPS_H
#define GOSSAMER_PASSES_STOREDOPS_H

#include "passes/Storage.h"

namespace gossamer {

/// Where the values of a sparse result go: into the caller's array, if the
/// result is stored nowhere else, or one of our own.
mlir::Value makeValues(mlir::OpBuilder &builder, mlir::Location loc,
                       mlir::Value result, mlir::Value patternValues);

mlir::Value makeValuesOfSize(mlir::OpBuilder &builder, mlir::Location loc,
                             mlir::Value result, mlir::Value size);

/// Lowers to a copy of values, block by block or entry by entry.
llvm::LogicalResult lowerGather(GatherOp op);

/// For a GPU (GpuStored.cpp); false, and nothing is done, for what they are not
/// made for: a product over several dimensions or none, a softmax of rows that
/// are not stored as such.
bool lowerSddmmOnGpu(SDDMMOp op);
bool lowerSoftmaxOnGpu(SoftmaxOp op);

/// Replaces the only result of `op` by `pattern` with the values in `buffer`.
void replaceWithValues(mlir::OpBuilder &builder, mlir::Operation *op,
                       mlir::Value pattern, mlir::Value buffer);

/// Operands of a body at a stored entry: sparse ones have the pattern's
/// storage.
struct BodyOperands {
  llvm::SmallVector<mlir::Value> buffers;
  llvm::SmallVector<mlir::AffineMap> maps;
  llvm::SmallVector<bool> sparse;

  BodyOperands(mlir::OpBuilder &builder, mlir::Location loc,
               mlir::ValueRange operands, llvm::ArrayRef<mlir::AffineMap> maps);

  void load(mlir::OpBuilder &builder, mlir::Location loc,
            mlir::ValueRange loops, mlir::Value position,
            llvm::SmallVectorImpl<mlir::Value> &args) const;
};

/// Loop variables of a structured operation, of which the pattern's map is a
/// projected permutation: those of the pattern from its dimensions.
llvm::SmallVector<mlir::Value> loopsOfDims(mlir::AffineMap patternMap,
                                           mlir::ValueRange dims);

/// The one loop of a sampled product that is summed, if both operands have it
/// and there is no other.
std::optional<unsigned> summedLoop(SDDMMOp op);

/// Refuses operands whose entries are not those of the pattern one to one.
llvm::LogicalResult verifyShared(mlir::Operation *op, mlir::Value pattern,
                                 mlir::ValueRange operands);

} // namespace gossamer

#endif // GOSSAMER_PASSES_STOREDOPS_H
