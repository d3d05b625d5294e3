//===- StoredRuns.h - stored entries, a run at a time -----------*- C++ -*-===//
//
// A run is a range of positions whose entries differ only in the coordinates of
// the last levels: the entries of a row (CSR), the blocks of a block row (BSR),
// all of them (COO). Work on several entries of a run at once knows what they
// have in common, which a loop over single entries does not.
//
//===----------------------------------------------------------------------===//

#ifndef GOSSAMER_PASSES_STOREDRUNS_H
#define GOSSAMER_PASSES_STOREDRUNS_H

#include "passes/Storage.h"

namespace gossamer {

class StoredRuns {
public:
  StoredRuns(mlir::Location loc, const Storage &storage);

  /// Positions [lower, upper) of the level `getLevel()`, each of which has
  /// `getBlockSize()` values, under the coordinates `parents` of the levels
  /// above it.
  struct Run {
    llvm::SmallVector<mlir::Value> parents;
    mlir::Value lower, upper;
    /// The first position under `parents`, where a run may be a part of them.
    mlir::Value base;
  };

  /// Visits every run, or part of one, in parallel over the outermost level.
  void
  forEach(mlir::OpBuilder &builder,
          llvm::function_ref<void(mlir::OpBuilder &, const Run &)> body) const;

  unsigned getLevel() const { return level; }
  /// The outermost level whose coordinate differs within a run.
  unsigned getTop() const { return top; }
  /// Values of a position: the product of the dense levels of constant size
  /// that end the storage.
  int64_t getBlockSize() const;
  llvm::ArrayRef<int64_t> getBlockShape() const { return block; }

  /// Level coordinates without those inside of a block.
  llvm::SmallVector<mlir::Value> outerCoords(mlir::OpBuilder &builder,
                                             const Run &run,
                                             mlir::Value position) const;
  /// Level coordinates of a value, which is numbered as values are stored.
  llvm::SmallVector<mlir::Value>
  coords(mlir::OpBuilder &builder, const Run &run, mlir::Value value) const;
  /// Whether that dimension is the same for all entries of a run.
  bool isCommon(unsigned dim) const;

private:
  void
  visit(mlir::OpBuilder &builder, unsigned lvl,
        llvm::SmallVectorImpl<mlir::Value> &coords, mlir::Value parent,
        llvm::function_ref<void(mlir::OpBuilder &, const Run &)> body) const;
  std::pair<mlir::Value, mlir::Value>
  range(mlir::OpBuilder &builder, unsigned lvl, mlir::Value parent) const;
  mlir::Value lvlCoordinate(mlir::OpBuilder &builder, unsigned lvl,
                            mlir::Value position, mlir::Value lower) const;

  mlir::Location loc;
  const Storage &storage;
  /// The level whose positions runs consist of; above it `top` may be, which is
  /// that of the groups of n:m.
  unsigned level, top;
  llvm::SmallVector<int64_t> block;
};

} // namespace gossamer

#endif // GOSSAMER_PASSES_STOREDRUNS_H
