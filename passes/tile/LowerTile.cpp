//===- LowerTile.cpp - tile programs become kernels, launches calls -------===//

#include "passes/tile/LowerEntry.h"
#include "passes/tile/ampere/AmpereProgram.h"

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
  CudaEntries(ModuleOp module, const llvm::StringMap<KernelInfo> &infos,
              bool isHopper)
      : EntryLowering(module), infos(infos), isHopper(isHopper) {}

private:
  void describe(DescribeOp op, Value map) override {
    auto type = op.getResult().getType();
    if (!isHopper) {
      call(op, "gs_gpu_tile_map", nothing,
           {map, op.getAddress(), words(op, op.getSizes()),
            words(op, op.getStrides())});
      return;
    }
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
  bool isHopper;
};

/// What a program becomes on the GPU that it is made for.
FailureOr<KernelInfo> lowerProgram(ProgramOp program, ModuleOp kernels,
                                   int64_t number) {
  if (program.getTarget().isHopper)
    return ProgramLowering(program, kernels, number).run();
  return AmpereProgram(program, kernels, number).run();
}

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
      if (program.getChip() != programs.front().getChip()) {
        program.emitOpError("is made for ")
            << program.getChip() << ", the first program of the module for "
            << programs.front().getChip();
        return signalPassFailure();
      }
      FailureOr<KernelInfo> info = lowerProgram(program, kernels, n);
      if (failed(info))
        return signalPassFailure();
      infos[program.getSymName()] = *info;
    }
    bool isHopper = programs.front().getTarget().isHopper;
    if (failed(CudaEntries(module, infos, isHopper).run()))
      return signalPassFailure();
    for (ProgramOp program : programs)
      program.erase();
  }
};

} // namespace
