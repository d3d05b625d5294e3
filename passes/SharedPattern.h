//===- SharedPattern.h - sparse tensors on one pattern ----------*- C++ -*-===//
//
// Entries of two sparse tensors meet one to one if both are stored alike on the
// pattern of one argument: computed on it, or given as `gossamer.pattern` says.
//
//===----------------------------------------------------------------------===//

#ifndef GOSSAMER_PASSES_SHAREDPATTERN_H
#define GOSSAMER_PASSES_SHAREDPATTERN_H

#include "dialect/gossamer/Gossamer.h"

namespace gossamer {

/// The argument that brings the pattern of a sparse tensor; null if its pattern
/// comes from nowhere that is known.
mlir::BlockArgument patternArgument(mlir::Value sparse);

/// Whether two sparse tensors have one pattern, in one storage.
bool samePattern(mlir::Value a, mlir::Value b);

} // namespace gossamer

#endif // GOSSAMER_PASSES_SHAREDPATTERN_H
