//===- StoredLines.h - stored entries as lanes of vectors -------*- C++ -*-===//
//
// A line is a part of a run whose entries differ in one dimension alone: a row
// of every block of a block row, or the whole run where nothing is blocked. Its
// entries lie side by side, so that vectors hold them.
//
//===----------------------------------------------------------------------===//

#ifndef GOSSAMER_PASSES_STOREDLINES_H
#define GOSSAMER_PASSES_STOREDLINES_H

#include "passes/StoredRuns.h"
#include "passes/VectorBody.h"

namespace gossamer {

class StoredLines {
public:
  using Run = StoredRuns::Run;
  using Values = llvm::SmallVector<mlir::Value>;

  /// Lines for vectors of at most `lanes` entries; none if the rows of blocks
  /// are too short, or of an odd length.
  static std::optional<StoredLines> find(mlir::Location loc,
                                         const Storage &storage,
                                         const StoredRuns &runs, int64_t lanes);

  /// A vector of entries: their places, numbered as values are stored, and the
  /// level coordinates of the first (of a run that is not blocked, 0 for those
  /// that differ).
  struct Strip {
    LanePoints entries;
    Values coords;
  };

  int64_t getLanes() const { return lanes; }
  /// The last level, if vectors run along it through blocks.
  std::optional<unsigned> getBlockLevel() const;
  /// Whether every line is all that is stored along that dimension.
  bool areWhole(unsigned dim) const;

  /// Visits the lines of a run; the body gets the places in a block that a line
  /// stands for: coordinates of the block's levels but the last.
  void
  forEach(mlir::OpBuilder &builder, const Run &run,
          llvm::function_ref<void(mlir::OpBuilder &, mlir::ValueRange inBlock)>
              body) const;
  /// Visits the vectors of a line in storage order; what a step returns is
  /// carried to the next. Returns what the last did.
  using Step = llvm::function_ref<Values(mlir::OpBuilder &, const Strip &,
                                         mlir::ValueRange carried)>;
  Values visit(mlir::OpBuilder &builder, const Run &run,
               mlir::ValueRange inBlock, mlir::ValueRange carried,
               Step step) const;
  /// Visits the vectors of all lines of a run, in storage order.
  void forEachStrip(
      mlir::OpBuilder &builder, const Run &run,
      llvm::function_ref<void(mlir::OpBuilder &, const Strip &)> body) const;

private:
  StoredLines(mlir::Location loc, const Storage &storage,
              const StoredRuns &runs, int64_t lanes)
      : loc(loc), storage(storage), runs(runs), lanes(lanes) {}

  Strip blockStrip(mlir::OpBuilder &builder, const Run &run,
                   mlir::Value position, mlir::ValueRange inBlock,
                   mlir::Value first) const;
  Values visitRun(mlir::OpBuilder &builder, const Run &run,
                  mlir::ValueRange carried, Step step) const;

  mlir::Location loc;
  const Storage &storage;
  const StoredRuns &runs;
  int64_t lanes;
};

} // namespace gossamer

#endif // GOSSAMER_PASSES_STOREDLINES_H
