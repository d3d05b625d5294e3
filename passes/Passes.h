//===- Passes.h - Gossamer's passes and pipelines ---------------*- C++ -*-===//

#ifndef GOSSAMER_PASSES_PASSES_H
#define GOSSAMER_PASSES_PASSES_H

#include "dialect/gossamer/Gossamer.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/GPU/IR/GPUDialect.h"
#include "mlir/Dialect/LLVMIR/NVVMDialect.h"
#include "mlir/Pass/Pass.h"

namespace gossamer {

#define GEN_PASS_DECL
#include "passes/Passes.h.inc"

#define GEN_PASS_REGISTRATION
#include "passes/Passes.h.inc"

/// What the lowering may know of the processor that it makes code for.
struct CpuOptions {
  /// Width of the widest vector register, in bytes.
  unsigned vectorBytes = 32;
};

/// Annotated linalg on tensors -> gossamer operations, and linalg for the rest.
void buildRaisePipeline(mlir::OpPassManager &pm);

/// That -> the LLVM dialect, with a `gs_entry` and a `gossamer.signature`.
void buildLowerToCpuPipeline(mlir::OpPassManager &pm,
                             const CpuOptions &options);

/// The same for a GPU: kernels in a module of their own, @kernels, and the
/// host's code, which launches them.
void buildLowerToGpuPipeline(mlir::OpPassManager &pm);

/// Every dialect that a module may hold between import and code generation.
void registerDialects(mlir::DialectRegistry &registry);

/// Gossamer's passes and pipelines, and the upstream passes that they use.
void registerPasses();

} // namespace gossamer

#endif // GOSSAMER_PASSES_PASSES_H
