//===- LowerTile.cpp - tile programs become kernels, launches calls -------===//

#include "passes/tile/LowerEntry.h"
#include "passes/tile/LowerProgram.h"

#include "llvm/ADT/StringMap.h"

namespace gossamer::tile {
#define GEN_PASS_DEF_LOWERTILETONVVM
#include "passes/tile/TilePasses.h.inc"
} // namespace gossamer::tile

using namespace mlir;
using namespace gossamer::tile;

namespace {

/// Launches of kernels, through the driver.
class CudaEntries : public EntryLowering {
public:
  CudaEntries(ModuleOp module, const llvm::StringMap<KernelInfo> &infos)
      : EntryLowering(module), infos(infos) {}

private:
  void describe(DescribeOp op, Value map) override {
    auto type = op.getResult().getType();
    call(op, "gs_gpu_tensor_map", nothing,
         {map, op.getAddress(), literal(type.getElementType().isBF16() ? 1 : 0),
          words(op, op.getSizes()), words(op, op.getStrides()),
          literal(type.getRows())});
  }

  Value resident(ResidentOp op, ProgramOp program) override {
    Value processors = call(op, "gs_gpu_processors", word, {});
    return LLVM::MulOp::create(b, op.getLoc(), processors,
                               literal(program.getBlocksPerProcessor()));
  }

  void launch(LaunchOp op, ProgramOp program, Value arguments) override {
    const KernelInfo &info = infos.at(program.getSymName());
    call(op, "gs_gpu_launch_program", nothing,
         {literal(info.number), op.getBlocks(), literal(info.threads),
          literal(info.sharedBytes), arguments});
  }

  const llvm::StringMap<KernelInfo> &infos;
};

struct LowerTileToNvvm
    : gossamer::tile::impl::LowerTileToNvvmBase<LowerTileToNvvm> {
  void runOnOperation() override {
    ModuleOp module = getOperation();
    SmallVector<ProgramOp> programs(module.getOps<ProgramOp>());
    if (programs.empty())
      return;
    OpBuilder b = OpBuilder::atBlockEnd(module.getBody());
    auto kernels = ModuleOp::create(b, module.getLoc(), StringRef("kernels"));
    llvm::StringMap<KernelInfo> infos;
    for (auto [n, program] : llvm::enumerate(programs)) {
      FailureOr<KernelInfo> info = ProgramLowering(program, kernels, n).run();
      if (failed(info))
        return signalPassFailure();
      infos[program.getSymName()] = *info;
    }
    if (failed(CudaEntries(module, infos).run()))
      return signalPassFailure();
    for (ProgramOp program : programs)
      program.erase();
  }
};

} // namespace
