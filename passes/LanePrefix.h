//===- LanePrefix.h - sums over the lanes before one ------------*- C++ -*-===//

#ifndef GOSSAMER_PASSES_LANEPREFIX_H
#define GOSSAMER_PASSES_LANEPREFIX_H

#include "dialect/gossamer/Gossamer.h"
#include "mlir/IR/Builders.h"

namespace gossamer {

/// Whether every gossamer.lane_prefix in a function stands where a warp has a
/// lane for each iteration; says what does not.
llvm::LogicalResult verifyLanePrefixes(mlir::Operation *function);

/// Replaces one with shuffles.
///
/// `lane` is the lane in the warp, of which `lanes` work together; `mask` (i32)
/// says which do.
void expandLanePrefix(mlir::OpBuilder &builder, LanePrefixOp op,
                      mlir::Value lane, int64_t lanes, mlir::Value mask);

} // namespace gossamer

#endif // GOSSAMER_PASSES_LANEPREFIX_H
