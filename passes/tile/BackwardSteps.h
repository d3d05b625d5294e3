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

  /// Where the scores of a step begin, as a function of scores must know:
  /// first query and key of a warpgroup's rows and of the columns.
  struct Corner {
    mlir::Value batch, head, query, key;
    bool keysAreRows;
  };
  // Of what follows nothing is done without a function of scores. More
  // arguments of the program:
  void addScoreTypes(llvm::SmallVectorImpl<mlir::Type> &types);
  /// For so many numbers of a step that only the producer knows.
  void allocPlaces(int64_t numbers);
  void sendPlace(mlir::Value number, mlir::ValueRange words);
  Values receivePlace(mlir::Value number);

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
  /// e^(f(scale s) - lse), or 0 where a bit is not set; `shifts` has a number
  /// for each row, or each column, `bits` may be none.
  mlir::Value probabilities(mlir::Value scores, mlir::Value shifts,
                            mlir::Value bits, const Corner &corner);
  /// Whether a function of scores has a derivative that is not 1.
  bool derives() {
    return plan.scored &&
           function.front().getTerminator()->getNumOperands() == 2;
  }
  /// p f'(scale s)
  mlir::Value withDerivative(mlir::Value p, mlir::Value scores,
                             const Corner &corner);
  /// p (dp - delta)
  mlir::Value scoreGradients(mlir::Value p, mlir::Value pGrad,
                             mlir::Value deltas);

  const BackwardPlan &plan;
  const BackwardPlan::Tiling &tiling;
  mlir::Region &function; // of scores
  FragmentType scoresType;
  OperandType stepType;
  mlir::Value scale;
  /// Where there is a function of scores: the scale of what it is given,
  /// numbers of steps, and more arguments (the number of keys, what it
  /// captures).
  mlir::Value scoreScale, places;
  mlir::ValueRange scoreArguments;

private:
  Place placeOf(const Corner &corner, mlir::ValueRange element);
  mlir::ValueRange captured() { return scoreArguments.drop_front(); }
};

} // namespace gossamer::tile

#endif // GOSSAMER_PASSES_TILE_BACKWARDSTEPS_H
