//===- VectorBody.h - scalar bodies on vectors of points --------*- C++ -*-===//
//
// Points of an iteration space that differ in one loop lie in the lanes of a
// vector. What a scalar body does at a point, it does at all of them at once;
// operands come contiguous, broadcast, or an element at a time, whatever their
// maps make of the loop.
//
//===----------------------------------------------------------------------===//

#ifndef GOSSAMER_PASSES_VECTORBODY_H
#define GOSSAMER_PASSES_VECTORBODY_H

#include "dialect/gossamer/Gossamer.h"
#include "mlir/IR/Builders.h"

namespace gossamer {

/// `count` points, one a lane: loop `lane` is `loops[lane]` in the first, and
/// one more in each; the other loops are the same in all.
struct LanePoints {
  llvm::SmallVector<mlir::Value> loops;
  unsigned lane;
  int64_t count;
  /// The end of the loop, where lanes may lie beyond it; else null.
  mlir::Value end;

  /// vector<count x i1>, on where a lane lies before `end`; null if all do.
  mlir::Value mask(mlir::OpBuilder &builder, mlir::Location loc) const;
};

/// Whether a body is made of elementwise operations.
bool isVectorizable(mlir::Block &body);

/// Elements of a dense buffer at the points: a scalar if the map does not
/// depend on the lane, else a vector, in which lanes beyond the end hold
/// anything.
mlir::Value loadPoints(mlir::OpBuilder &builder, mlir::Location loc,
                       mlir::Value buffer, mlir::AffineMap map,
                       const LanePoints &points);
/// Stores a vector (or the same scalar) at the points before the end; where
/// they are not contiguous, there is no end.
void storePoints(mlir::OpBuilder &builder, mlir::Location loc,
                 mlir::Value value, mlir::Value buffer, mlir::AffineMap map,
                 const LanePoints &points);

/// Copies a body with `args`, vectors or scalars, for its arguments; loops of
/// the points are what `dims` says of gossamer.index. Returns what it yields,
/// as a vector if one of its arguments is.
mlir::Value inlineOnVectors(mlir::OpBuilder &builder, mlir::Location loc,
                            mlir::Block &body, mlir::ValueRange args,
                            mlir::AffineMap dims, const LanePoints &points);

} // namespace gossamer

#endif // GOSSAMER_PASSES_VECTORBODY_H
