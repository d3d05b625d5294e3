//===- AttentionPlan.h - how an attention is cut into tiles -----*- C++ -*-===//

#ifndef GOSSAMER_PASSES_TILE_ATTENTIONPLAN_H
#define GOSSAMER_PASSES_TILE_ATTENTIONPLAN_H

#include "passes/tile/TilePasses.h"

namespace gossamer::tile {

/// The arguments of the program, in order; then what a function of scores
/// captures.
enum AttentionArgument : unsigned {
  QueryMap,
  KeyMap,
  ValueMap,
  OutMap,
  LogSumExp,
  Count,
  Index,
  Order,
  Counter,
  Heads,
  Group,
  Queries,
  Keys,
  QueryBlocks,
  Tiles,
  RowsOfBatch,
  RowsOfHead,
  ListLength,
  WindowLength,
  Scale,
  PartialCount,
  PartialIndex,
  PartialBits,
  Bits,
  PartialLength,
  NumAttentionArguments,
  // Of split programs: thread blocks that share a tile; rows of all heads and
  // batches; and of each part the output and log-sum-exp of all these rows.
  Parts = NumAttentionArguments,
  Rows,
  PartOut,
  PartLogSumExp,
  NumSplitArguments
};

/// Sizes and budgets of a program, on sm_90a from what was measured on an H200
/// (docs/tile.md).
struct AttentionPlan {
  explicit AttentionPlan(AttentionOp op);

  std::string chip;
  mlir::Type element;
  int64_t head;     // columns of q, k and v
  int64_t queries;  // rows of a tile, a warpgroup for each 64
  int64_t keys;     // columns of a step
  int64_t block;    // keys of a block of the list
  int64_t gathered; // blocks of a step
  int64_t diagonal; // first steps, which the diagonal of a causal tile crosses
  int64_t staged;   // columns of the output that are stored at once
  int64_t consumers, queryStages, keyStages, valueStages;
  int64_t producerRegisters, consumerRegisters, blocksPerProcessor;
  bool listed, partial, packed, causal, window, tail, split;
  bool scored; // scores go through a function
  /// Whether consumers keep a tile's queries in registers, so that the next may
  /// be loaded at once; else they are read again for every step.
  bool keepsQueries;

  /// Whether the first step of a tile has keys that take no part. It has the
  /// highest keys of a list, and the blocks that do not make a whole step.
  bool masksFirst() const { return causal || tail || partial || gathered > 1; }

  unsigned numArguments() const {
    return split ? NumSplitArguments : NumAttentionArguments;
  }

  /// Words of a row of the bits of a block.
  int64_t blockWords() const { return llvm::divideCeil(block, 32); }

private:
  void fit(const Target &target);
  void fitHopper();
};

/// The program, before `op`, of the name `name`.
ProgramOp buildAttentionProgram(AttentionOp op, const AttentionPlan &plan,
                                llvm::StringRef name);

/// The function gs_entry(words), which launches it.
void buildAttentionEntry(AttentionOp op, const AttentionPlan &plan,
                         ProgramOp program);

} // namespace gossamer::tile

#endif // GOSSAMER_PASSES_TILE_ATTENTIONPLAN_H
