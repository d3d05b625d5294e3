//===- Pipelines.cpp - the named pipelines --------------------------------===//

#include "mlir/Conversion/AffineToStandard/AffineToStandard.h"
#include "mlir/Conversion/ArithToLLVM/ArithToLLVM.h"
#include "mlir/Conversion/ControlFlowToLLVM/ControlFlowToLLVM.h"
#include "mlir/Conversion/FuncToLLVM/ConvertFuncToLLVMPass.h"
#include "mlir/Conversion/IndexToLLVM/IndexToLLVM.h"
#include "mlir/Conversion/MathToLLVM/MathToLLVM.h"
#include "mlir/Conversion/MathToLibm/MathToLibm.h"
#include "mlir/Conversion/MemRefToLLVM/MemRefToLLVM.h"
#include "mlir/Conversion/ReconcileUnrealizedCasts/ReconcileUnrealizedCasts.h"
#include "mlir/Conversion/SCFToControlFlow/SCFToControlFlow.h"
#include "mlir/Conversion/VectorToLLVM/ConvertVectorToLLVMPass.h"
#include "mlir/Dialect/Arith/Transforms/Passes.h"
#include "mlir/Dialect/Linalg/Passes.h"
#include "mlir/Dialect/Math/Transforms/Passes.h"
#include "mlir/Dialect/MemRef/Transforms/Passes.h"
#include "mlir/Pass/PassManager.h"
#include "mlir/Transforms/Passes.h"
#include "passes/Passes.h"

using namespace mlir;

void gossamer::buildRaisePipeline(OpPassManager &pm) {
  pm.addPass(createCanonicalizerPass());
  pm.addPass(createCSEPass());
  OpPassManager &function = pm.nest<func::FuncOp>();
  function.addPass(createLinalgGeneralizeNamedOpsPass());
  function.addPass(createRaiseAttention());
  function.addPass(createRaiseContract());
  function.addPass(createRaiseMatmul());
  function.addPass(createRaiseSample());
  function.addPass(createRaiseReduce());
  pm.addPass(createCanonicalizerPass());
  pm.addPass(createCSEPass());
}

/// Half precision is computed in f32.
static void addHalvesInSingle(OpPassManager &pm) {
  pm.addPass(math::createMathExtendToSupportedTypes());
  arith::ArithEmulateUnsupportedFloatsOptions halves;
  halves.sourceTypeStrs = {"f16", "bf16"};
  halves.targetTypeStr = "f32";
  pm.addPass(arith::createArithEmulateUnsupportedFloats(halves));
  pm.addPass(gossamer::createRoundHalves());
}

/// What is left when loops, vectors and memory are gone.
static void addScalarsToLlvm(OpPassManager &pm) {
  pm.addPass(createConvertControlFlowToLLVMPass());
  pm.addPass(createArithToLLVMConversionPass());
  pm.addPass(createConvertIndexToLLVMPass());
  pm.addPass(createConvertFuncToLLVMPass());
  pm.addPass(createReconcileUnrealizedCastsPass());
}

void gossamer::buildLowerToCpuPipeline(OpPassManager &pm,
                                       const CpuOptions &options) {
  // Sparse operations to loops over storage.
  {
    OpPassManager &function = pm.nest<func::FuncOp>();
    function.addPass(createChooseFormats());
    function.addPass(createDecomposeSoftmax());
    function.addPass(createLinalgElementwiseOpFusionPass());
    function.addPass(createBindResults());
    function.addPass(createLowerBlockAttention({options.vectorBytes}));
    function.addPass(createLowerAttention());
    function.addPass(createLowerReduce());
    function.addPass(createLowerMatmul({options.vectorBytes}));
    function.addPass(createLowerContract());
    function.addPass(createSparsifyGenerics());
    function.addPass(createLowerSddmm({options.vectorBytes}));
    function.addPass(createLowerStoredRows({options.vectorBytes}));
    function.addPass(createLowerStored());
  }
  // No canonicalizer between here and bufferization: it turns a load from a
  // tensor's buffer into an extract from the tensor, which is a read of what
  // the tensor was before the loops around it wrote that buffer.
  pm.addPass(createExposeStorage());

  // Tensors to memory, loops to threads.
  pm.addPass(createBufferize());
  pm.addPass(createCanonicalizerPass());
  pm.addPass(createCSEPass());
  {
    OpPassManager &function = pm.nest<func::FuncOp>();
    function.addPass(createConvertLinalgToParallelLoopsPass());
    function.addPass(createParallelizeLoops());
  }
  pm.addPass(createOutlineParallel());
  pm.addPass(createSetFastMath());
  pm.addPass(createMakeEntry());

  // To the LLVM dialect.
  addHalvesInSingle(pm);
  pm.addPass(createExpandMath());
  pm.addPass(memref::createExpandStridedMetadataPass());
  pm.addPass(createLowerAffinePass());
  pm.addPass(createSCFToControlFlowPass());
  pm.addPass(createConvertMathToLLVMPass());
  pm.addPass(createConvertMathToLibmPass());
  pm.addPass(createConvertVectorToLLVMPass());
  // aligned_alloc and not malloc: LLVM would lose the pointer's origin in the
  // arithmetic that aligns it, and with it that buffers do not alias.
  FinalizeMemRefToLLVMConversionPassOptions memory;
  memory.useAlignedAlloc = true;
  pm.addPass(createFinalizeMemRefToLLVMConversionPass(memory));
  addScalarsToLlvm(pm);
  pm.addPass(createSpawnParallel());
  pm.addPass(createCanonicalizerPass());
}

void gossamer::buildLowerToGpuPipeline(OpPassManager &pm) {
  // As for a CPU, with loops that say what lanes are for.
  {
    OpPassManager &function = pm.nest<func::FuncOp>();
    function.addPass(createChooseFormats({/*gpu=*/true}));
    function.addPass(createDecomposeSoftmax());
    function.addPass(createLinalgElementwiseOpFusionPass());
    function.addPass(createBindResults());
    function.addPass(createLowerAttention({/*gpu=*/true}));
    function.addPass(createLowerReduce({/*gpu=*/true}));
    function.addPass(createLowerMatmul({/*vectorBytes=*/16, /*gpu=*/true}));
    function.addPass(createLowerContract());
    function.addPass(createSparsifyGenerics());
    function.addPass(createLowerStored({/*gpu=*/true}));
  }
  pm.addPass(createExposeStorage());
  pm.addPass(createBufferize());
  pm.addPass(createCanonicalizerPass());
  pm.addPass(createCSEPass());
  {
    OpPassManager &function = pm.nest<func::FuncOp>();
    function.addPass(createConvertLinalgToParallelLoopsPass());
    function.addPass(createParallelizeLoops());
    function.addPass(createMapToGpu());
  }
  pm.addPass(createCanonicalizerPass());
  pm.addPass(createCSEPass());
  pm.addPass(createPlanWorkspace());
  pm.addPass(createOutlineKernels());
  pm.addPass(createSetFastMath());
  pm.addPass(createMakeEntry());

  // To the LLVM dialect, the host's code and the kernels alike.
  addHalvesInSingle(pm);
  pm.addPass(createExpandDeviceMath());
  pm.addPass(memref::createExpandStridedMetadataPass());
  pm.addPass(createLowerAffinePass());
  pm.addPass(createSCFToControlFlowPass());
  pm.addPass(createConvertMathToLLVMPass());
  // Vectors are loaded where the host has found them aligned, and only there.
  ConvertVectorToLLVMPassOptions vectors;
  vectors.useVectorAlignment = true;
  pm.addPass(createConvertVectorToLLVMPass(vectors));
  pm.addPass(createFinalizeMemRefToLLVMConversionPass());
  addScalarsToLlvm(pm);
  pm.addPass(createFinishKernels());
  pm.addPass(createCanonicalizerPass());
}
