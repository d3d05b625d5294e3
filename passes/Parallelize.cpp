//===- Parallelize.cpp - loops whose iterations touch nothing in common ---===//

#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Interfaces/ViewLikeInterface.h"
#include "passes/Passes.h"

namespace gossamer {
#define GEN_PASS_DEF_PARALLELIZELOOPS
#include "passes/Passes.h.inc"
} // namespace gossamer

using namespace mlir;
using namespace gossamer;

namespace {

Value rootOf(Value buffer) {
  while (auto view = buffer.getDefiningOp<ViewLikeOpInterface>())
    buffer = view.getViewSource();
  return buffer;
}

/// Whether `buffer` is memory that an iteration of the loop makes for itself.
bool isMadeInside(Value buffer, scf::ForOp loop) {
  return loop.getRegion().isAncestor(rootOf(buffer).getParentRegion());
}

/// Whether every memory that the loop writes is only touched in the slice that
/// the induction variable selects, by being the same index of every access.
bool hasDisjointIterations(scf::ForOp loop) {
  struct Use {
    Value buffer;
    ValueRange indices;
    bool writes;
  };
  SmallVector<Use> uses;
  WalkResult result = loop.getBody()->walk([&](Operation *op) {
    if (auto load = dyn_cast<memref::LoadOp>(op))
      uses.push_back({load.getMemRef(), load.getIndices(), false});
    else if (auto store = dyn_cast<memref::StoreOp>(op))
      uses.push_back({store.getMemRef(), store.getIndices(), true});
    else if (!isMemoryEffectFree(op) &&
             !op->hasTrait<OpTrait::HasRecursiveMemoryEffects>())
      return WalkResult::interrupt();
    return WalkResult::advance();
  });
  if (result.wasInterrupted())
    return false;
  for (Use &write : uses) {
    if (!write.writes || isMadeInside(write.buffer, loop))
      continue;
    auto at = llvm::find(write.indices, loop.getInductionVar());
    if (at == write.indices.end())
      return false;
    unsigned dim = at - write.indices.begin();
    for (Use &other : uses) {
      if (rootOf(other.buffer) != rootOf(write.buffer))
        continue;
      if (other.buffer != write.buffer ||
          other.indices[dim] != loop.getInductionVar())
        return false;
    }
  }
  return true;
}

void makeParallel(scf::ForOp loop) {
  OpBuilder builder(loop);
  auto parallel =
      scf::ParallelOp::create(builder, loop.getLoc(), loop.getLowerBound(),
                              loop.getUpperBound(), loop.getStep());
  Block *body = parallel.getBody();
  loop.getInductionVar().replaceAllUsesWith(parallel.getInductionVars()[0]);
  loop.getBody()->getTerminator()->erase();
  body->getOperations().splice(body->begin(), loop.getBody()->getOperations());
  loop.erase();
}

struct ParallelizeLoops
    : gossamer::impl::ParallelizeLoopsBase<ParallelizeLoops> {
  void runOnOperation() override {
    // What a region calls runs inside of its parallel loops.
    if (getOperation().isPrivate())
      return;
    SmallVector<scf::ForOp> loops;
    for (scf::ForOp loop : getOperation().getBody().getOps<scf::ForOp>())
      if (loop.getInitArgs().empty() && hasDisjointIterations(loop))
        loops.push_back(loop);
    for (scf::ForOp loop : loops)
      makeParallel(loop);
  }
};

} // namespace
