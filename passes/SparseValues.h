//===- SparseValues.h - what computed tensors are off a pattern -*- C++ -*-===//
//
// A tensor that is computed densely may still be one number wherever some
// pattern stores nothing: an elementwise function of sparse tensors, a softmax
// of masked scores. Raising computes such tensors on the pattern alone.
//
//===----------------------------------------------------------------------===//

#ifndef GOSSAMER_PASSES_SPARSEVALUES_H
#define GOSSAMER_PASSES_SPARSEVALUES_H

#include "passes/Elementwise.h"

namespace gossamer {

/// A sparse tensor with a pattern off which `dense` is one number, and that
/// number; null if there is none.
SparseSource findPattern(mlir::Value dense);

/// What the leaves of an emitter that lie on `pattern`, accessed by `map`, are
/// off it.
llvm::DenseMap<mlir::Value, mlir::TypedAttr>
fillsOn(mlir::Value pattern, mlir::AffineMap map, const ScalarEmitter &emitter);

/// The values of `dense` where `pattern` has entries (gossamer.sample).
mlir::Value sampleOn(mlir::OpBuilder &builder, mlir::Location loc,
                     mlir::Value dense, mlir::Value pattern);

} // namespace gossamer

#endif // GOSSAMER_PASSES_SPARSEVALUES_H
