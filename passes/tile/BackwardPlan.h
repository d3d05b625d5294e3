//===- BackwardPlan.h - attention's gradients, cut into tiles ---*- C++ -*-===//

#ifndef GOSSAMER_PASSES_TILE_BACKWARDPLAN_H
#define GOSSAMER_PASSES_TILE_BACKWARDPLAN_H

#include "passes/tile/TilePasses.h"

namespace gossamer::tile {

/// Sizes and budgets of the two programs of a backward (docs/tile.md). That of
/// the queries has a block of queries for a tile and goes through its keys;
/// that of the keys has a block of keys and goes through the queries that see
/// it. Both go in steps of 64, so that what a step makes fits the registers.
struct BackwardPlan {
  explicit BackwardPlan(AttentionBackwardOp op);

  /// One of the programs: a warpgroup for each 64 rows of its tile.
  struct Tiling {
    int64_t rows;         // of a tile
    int64_t block;        // along the steps, of the list
    int64_t parts;        // steps of a block
    int64_t stages;       // of what steps load
    int64_t tileStages;   // of what tiles load
    int64_t numberStages; // of the numbers of steps
    int64_t consumers, producerRegisters, consumerRegisters, blocksPerProcessor;

    Tiling(int64_t rows, int64_t block);
  };

  std::string chip;
  mlir::Type element;
  int64_t head; // columns of q, k and v
  Tiling queries, keys;
  /// Whether blocks of keys reach behind the last one. Such keys are 0, and so
  /// is what they add, but only as long as it is finite: exponents of scores
  /// are kept below 0.
  bool tail;
  /// Whether there are lists of blocks that are allowed in part, too.
  bool partial;
  /// Whether some keys are packed, before the others.
  bool packed;
  /// Whether scores go through a function.
  bool scored;
  /// Whether the program of the queries keeps a tile's do in registers, so that
  /// the next may be loaded at once; else it is read again for every step.
  bool keepsOutGrads;

private:
  void fit(const Target &target);
  void fitHopper();
};

/// The arguments of the program of the queries, in order; then, with a function
/// of scores, the number of keys and what it captures.
enum QueriesArgument : unsigned {
  QueriesQueryMap,
  QueriesKeyMap,
  QueriesValueMap,
  QueriesOutMap,
  QueriesOutGradMap,
  QueriesQueryGradMap,
  QueriesLogSumExp,
  QueriesLogSumExpGrad,
  QueriesNumbers,
  QueriesCount,
  QueriesIndex,
  QueriesOrder,
  QueriesPartialCount,
  QueriesPartialIndex,
  QueriesPartialBits,
  QueriesBits,
  QueriesCounter,
  QueriesHeads,
  QueriesGroup,
  QueriesLength,
  QueriesPaddedLength,
  QueriesLogSumExpGradLength,
  QueriesBlocks,
  QueriesTiles,
  QueriesRowsOfBatch,
  QueriesRowsOfHead,
  QueriesListLength,
  QueriesPartialLength,
  QueriesScale,
  NumQueriesArguments
};

/// The arguments of the program of the keys, and the same behind them.
enum KeysArgument : unsigned {
  KeysKeyMap,
  KeysValueMap,
  KeysQueryMap,
  KeysOutGradMap,
  KeysKeyGradMap,
  KeysValueGradMap,
  KeysNumbers,
  KeysCount,
  KeysIndex,
  KeysOrder,
  KeysPartialCount,
  KeysPartialIndex,
  KeysPartialBits,
  KeysBits,
  KeysCounter,
  KeysHeads,
  KeysKeyHeads,
  KeysGroup,
  KeysPaddedLength,
  KeysBlocks,
  KeysTiles,
  KeysRowsOfBatch,
  KeysRowsOfHead,
  KeysListLength,
  KeysPartialLength,
  KeysScale,
  NumKeysArguments
};

/// The programs, before `op`.
ProgramOp buildQueriesProgram(AttentionBackwardOp op, const BackwardPlan &plan,
                              llvm::StringRef name);
ProgramOp buildKeysProgram(AttentionBackwardOp op, const BackwardPlan &plan,
                           llvm::StringRef name);

/// The function gs_entry(words), which launches one after the other.
void buildBackwardEntry(AttentionBackwardOp op, const BackwardPlan &plan,
                        ProgramOp queries, ProgramOp keys);

} // namespace gossamer::tile

#endif // GOSSAMER_PASSES_TILE_BACKWARDPLAN_H
