//===- BackwardSteps.h - what both programs of a backward do ----*- C++ -*-===//

#ifndef GOSSAMER_PASSES_TILE_BACKWARDSTEPS_H
#define GOSSAMER_PASSES_TILE_BACKWARDSTEPS_H

#include "passes/tile/BackwardPlan.h"
#include "passes/tile/ProgramParts.h"

namespace gossamer::tile {

class BackwardSteps : protected ProgramParts {
protected:
  BackwardSteps(AttentionBackwardOp op, const BackwardPlan &plan,
                const BackwardPlan::Tiling &tiling);

  void buildRoles(ProgramOp program, llvm::function_ref<void()> producer,
                  llvm::function_ref<void(mlir::Value)> consumers);
  /// Of base-2 exponentials, for all roles.
  void prepareScale(mlir::Value scale);

  /// Steps of a list of so many blocks.
  mlir::Value stepsOf(mlir::Value entries) {
    return n.mul(entries, tiling.parts);
  }
  /// First row of what a step loads: a part of a block of the list.
  mlir::Value firstRowOf(mlir::Value index, mlir::Value list, mlir::Value step);

  /// Which elements of a step of a list of partial blocks are allowed.
  /// `numbers` says which bitmap a block has; a bitmap has its parts of 64
  /// columns one after the other, two words a row.
  mlir::Value bitsOf(mlir::Value bits, mlir::Value numbers, mlir::Value list,
                     mlir::Value step, mlir::Value warpgroup);
  /// e^(scale s - lse), or 0 where a bit is not set; `shifts` has a number for
  /// each row, or each column, `bits` may be none.
  mlir::Value probabilities(mlir::Value scores, mlir::Value shifts,
                            mlir::Value bits);
  /// p (dp - delta)
  mlir::Value scoreGradients(mlir::Value p, mlir::Value pGrad,
                             mlir::Value deltas);

  const BackwardPlan &plan;
  const BackwardPlan::Tiling &tiling;
  FragmentType scoresType;
  OperandType stepType;
  mlir::Value scale;
};

} // namespace gossamer::tile

#endif // GOSSAMER_PASSES_TILE_BACKWARDSTEPS_H
