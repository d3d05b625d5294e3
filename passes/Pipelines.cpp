//===- Pipelines.cpp - the named pipelines --------------------------------===//

#include "passes/Passes.h"
#include "mlir/Dialect/Linalg/Passes.h"
#include "mlir/Dialect/MemRef/Transforms/Passes.h"
#include "mlir/Pass/PassManager.h"
#include "mlir/Transforms/Passes.h"

using namespace mlir;

void gossamer::buildRaisePipeline(OpPassManager &pm) {
  pm.addPass(createCanonicalizerPass());
  pm.addPass(createCSEPass());
  OpPassManager &function = pm.nest<func::FuncOp>();
  function.addPass(createLinalgGeneralizeNamedOpsPass());
  function.addPass(createRaiseAttention());
  function.addPass(createRaiseMatmul());
  function.addPass(createRaiseSample());
  pm.addPass(createCanonicalizerPass());
  pm.addPass(createCSEPass());
}

void gossamer::buildLowerToCpuPipeline(OpPassManager &pm,
                                       const CpuOptions &options) {}
