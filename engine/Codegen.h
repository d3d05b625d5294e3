//===- Codegen.h - from the LLVM dialect to machine code
//-------------------===//

#ifndef GOSSAMER_ENGINE_CODEGEN_H
#define GOSSAMER_ENGINE_CODEGEN_H

#include "mlir/Support/LLVM.h"

namespace llvm {
class TargetMachine;
class raw_pwrite_stream;
} // namespace llvm

namespace mlir {
class DialectRegistry;
class ModuleOp;
} // namespace mlir

namespace gossamer {

enum class Stage : int;

/// What the translation to LLVM IR needs to be known in the context.
void registerTranslations(mlir::DialectRegistry &registry);

/// Translates a module of the LLVM dialect, optimizes it and writes, by the
/// stage, LLVM IR (text), assembly or an object. Errors become diagnostics at
/// the module's location.
mlir::LogicalResult codegen(mlir::ModuleOp module, llvm::TargetMachine &machine,
                            Stage stage, llvm::raw_pwrite_stream &os);

/// The same for a module of kernels: LLVM IR, or PTX.
mlir::LogicalResult codegenKernels(mlir::ModuleOp kernels,
                                   llvm::TargetMachine &machine, Stage stage,
                                   llvm::raw_pwrite_stream &os);

/// Registers `gossamer-codegen`, a pass that runs `codegen` and throws the
/// object away: with it gossamer-opt reproduces what fails behind the last
/// pass.
void registerCodegenPass();

} // namespace gossamer

#endif // GOSSAMER_ENGINE_CODEGEN_H
