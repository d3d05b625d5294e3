//===- TilePipeline.cpp - passes of the tile dialect, in order ------------===//

#include "mlir/Conversion/ArithToLLVM/ArithToLLVM.h"
#include "mlir/Conversion/ControlFlowToLLVM/ControlFlowToLLVM.h"
#include "mlir/Conversion/FuncToLLVM/ConvertFuncToLLVMPass.h"
#include "mlir/Conversion/MathToLLVM/MathToLLVM.h"
#include "mlir/Conversion/MathToLibm/MathToLibm.h"
#include "mlir/Conversion/ReconcileUnrealizedCasts/ReconcileUnrealizedCasts.h"
#include "mlir/Conversion/SCFToControlFlow/SCFToControlFlow.h"
#include "mlir/Dialect/Arith/Transforms/Passes.h"
#include "mlir/Dialect/ControlFlow/IR/ControlFlow.h"
#include "mlir/Pass/PassManager.h"
#include "mlir/Pass/PassRegistry.h"
#include "mlir/Transforms/Passes.h"
#include "passes/tile/TilePasses.h"

#include "llvm/ADT/TypeSwitch.h"

using namespace mlir;

namespace gossamer::tile {
#define GEN_PASS_REGISTRATION
#include "passes/tile/TilePasses.h.inc"
} // namespace gossamer::tile

bool gossamer::tile::isTileModule(ModuleOp module) {
  return llvm::any_of(*module.getBody(), [](Operation &op) {
    return isa<ProgramOp, AttentionOp, AttentionBackwardOp>(op);
  });
}

LogicalResult gossamer::tile::verifyMadeFor(ModuleOp module, StringRef chip) {
  for (Operation &op : *module.getBody()) {
    StringRef madeFor = llvm::TypeSwitch<Operation *, StringRef>(&op)
                            .Case<ProgramOp, AttentionOp, AttentionBackwardOp>(
                                [](auto op) { return op.getChip(); })
                            .Default(chip);
    if (madeFor != chip)
      return op.emitOpError("is made for ")
             << madeFor << ", and compiled for " << chip;
  }
  return success();
}

void gossamer::tile::buildTilePipeline(OpPassManager &pm) {
  pm.addPass(createBuildAttention());
  pm.addPass(createCSEPass());
  pm.addPass(createLowerTileToNvvm());
  pm.addPass(createCSEPass());
  pm.addPass(createSCFToControlFlowPass());
  pm.addPass(createConvertControlFlowToLLVMPass());
  pm.addPass(createArithToLLVMConversionPass());
  pm.addPass(createReconcileUnrealizedCastsPass());
  pm.addPass(createCSEPass());
}

void gossamer::tile::buildTileHostPipeline(OpPassManager &pm,
                                           unsigned vectorBytes) {
  pm.addPass(createBuildAttention());
  pm.addPass(createCSEPass());
  pm.addPass(createLowerTileToHost({vectorBytes}));
  pm.addPass(createCSEPass());
  pm.addPass(createSCFToControlFlowPass());
  pm.addPass(createConvertMathToLLVMPass());
  pm.addPass(createConvertMathToLibmPass());
  arith::ArithExpandOpsPassOptions halves;
  halves.includeBf16 = true;
  pm.addPass(arith::createArithExpandOpsPass(halves));
  pm.addPass(createConvertControlFlowToLLVMPass());
  pm.addPass(createArithToLLVMConversionPass());
  pm.addPass(createConvertFuncToLLVMPass());
  pm.addPass(createReconcileUnrealizedCastsPass());
  pm.addPass(createCSEPass());
}

void gossamer::tile::registerDialects(DialectRegistry &registry) {
  registry.insert<TileDialect, arith::ArithDialect, cf::ControlFlowDialect,
                  LLVM::LLVMDialect, NVVM::NVVMDialect, math::MathDialect,
                  memref::MemRefDialect, scf::SCFDialect>();
}

void gossamer::tile::registerPasses() {
  registerGossamerTilePasses();
  PassPipelineRegistration<>("gossamer-lower-tile",
                             "tile programs to the LLVM dialect, for sm_90a",
                             buildTilePipeline);
  PassPipelineRegistration<>(
      "gossamer-lower-tile-host",
      "tile programs to the LLVM dialect, for the processor",
      [](OpPassManager &pm) { buildTileHostPipeline(pm, /*vectorBytes=*/32); });
}
