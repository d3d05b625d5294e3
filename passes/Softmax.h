//===- Softmax.h - recognising a softmax ------------------------*- C++ -*-===//

#ifndef GOSSAMER_PASSES_SOFTMAX_H
#define GOSSAMER_PASSES_SOFTMAX_H

#include "passes/Elementwise.h"

namespace gossamer {

/// An emitter into a block that belongs to no operation, for scalar code that
/// is only looked at.
struct ScratchEmitter {
  explicit ScratchEmitter(mlir::Location loc);
  ScratchEmitter(const ScratchEmitter &) = delete;

  mlir::Region region;
  mlir::Block &block = region.emplaceBlock();
  mlir::OpBuilder builder;
  ScalarEmitter emitter;
};

/// The one loop that `result` does not know, if there is just one.
std::optional<unsigned> onlyReductionLoop(mlir::AffineMap result);

/// Matches linalg.softmax, or exp(s - max_j s) / sum_j exp(s - max_j s) spelt
/// out, which `emitter` emitted as `value` over `numLoops` loops. Returns the
/// access to s.
std::optional<Access> matchSoftmax(ScalarEmitter &emitter,
                                   mlir::OpBuilder &builder, mlir::Value value,
                                   unsigned j, unsigned numLoops);

} // namespace gossamer

#endif // GOSSAMER_PASSES_SOFTMAX_H
