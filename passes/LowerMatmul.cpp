//===- LowerMatmul.cpp - the road that a product takes --------------------===//

#include "mlir/Dialect/Bufferization/IR/Bufferization.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "passes/Matmul.h"
#include "passes/Passes.h"

namespace gossamer {
#define GEN_PASS_DEF_LOWERMATMUL
#include "passes/Passes.h.inc"
} // namespace gossamer

using namespace mlir;
using namespace gossamer;

namespace {

struct LowerMatmul : gossamer::impl::LowerMatmulBase<LowerMatmul> {
  using LowerMatmulBase::LowerMatmulBase;

  LogicalResult lower(MatmulOp op) {
    MatmulLoops loops(op, vectorBytes);
    std::optional<RowFormat> format = RowFormat::match(loops);
    bool lowered = format && gpu;
    if (lowered)
      lowerOnGpu(loops, *format);
    else
      lowered =
          format &&
          (lowerAsDots(loops, *format) || lowerInRows(loops, *format) ||
           lowerInBlocks(loops, *format) || lowerInPanels(loops, *format));
    if (!lowered && failed(lowerGenerally(loops, gpu)))
      return failure();
    Value result = bufferization::ToTensorOp::create(
        loops.builder, loops.loc, op.getResult().getType(), loops.out,
        /*restrict=*/true, /*writable=*/true);
    op.getResult().replaceAllUsesWith(result);
    op.erase();
    return success();
  }

  void runOnOperation() override {
    SmallVector<MatmulOp> ops;
    getOperation().walk([&](MatmulOp op) { ops.push_back(op); });
    for (MatmulOp op : ops)
      if (failed(lower(op)))
        return signalPassFailure();
  }
};

} // namespace
