//===- Codegen.cpp - from the LLVM dialect to machine code
//-----------------===//

#include "engine/Codegen.h"
#include "engine/Options.h"
#include "engine/Target.h"

#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/Diagnostics.h"
#include "mlir/Target/LLVMIR/Dialect/Builtin/BuiltinToLLVMIRTranslation.h"
#include "mlir/Target/LLVMIR/Dialect/LLVMIR/LLVMToLLVMIRTranslation.h"
#include "mlir/Target/LLVMIR/Dialect/NVVM/NVVMToLLVMIRTranslation.h"
#include "mlir/Target/LLVMIR/Export.h"

#include "llvm/IR/DiagnosticInfo.h"
#include "llvm/IR/DiagnosticPrinter.h"
#include "llvm/IR/LLVMContext.h"
#include "llvm/IR/LegacyPassManager.h"
#include "llvm/IR/Module.h"
#include "llvm/Passes/PassBuilder.h"
#include "llvm/Target/TargetMachine.h"

using namespace mlir;

namespace {

/// LLVM's own answer to an error is to print it and exit.
class ForwardDiagnostics : public llvm::DiagnosticHandler {
public:
  explicit ForwardDiagnostics(ModuleOp module) : module(module) {}

  bool handleDiagnostics(const llvm::DiagnosticInfo &info) override {
    if (info.getSeverity() != llvm::DS_Error)
      return true;
    std::string text;
    llvm::raw_string_ostream os(text);
    llvm::DiagnosticPrinterRawOStream printer(os);
    info.print(printer);
    module.emitError("LLVM: ") << text;
    failed = true;
    return true;
  }

  bool failed = false;

private:
  ModuleOp module;
};

void optimize(llvm::Module &module, llvm::TargetMachine &machine) {
  llvm::PipelineTuningOptions tuning;
  tuning.LoopVectorization = tuning.LoopInterleaving = tuning.SLPVectorization =
      true;
  llvm::PassBuilder builder(&machine, tuning);
  llvm::LoopAnalysisManager loops;
  llvm::FunctionAnalysisManager functions;
  llvm::CGSCCAnalysisManager callGraph;
  llvm::ModuleAnalysisManager modules;
  builder.registerModuleAnalyses(modules);
  builder.registerCGSCCAnalyses(callGraph);
  builder.registerFunctionAnalyses(functions);
  builder.registerLoopAnalyses(loops);
  builder.crossRegisterProxies(loops, functions, callGraph, modules);
  builder.buildPerModuleDefaultPipeline(llvm::OptimizationLevel::O3)
      .run(module, modules);
}

LogicalResult emitMachineCode(ModuleOp module, llvm::Module &code,
                              llvm::TargetMachine &machine,
                              llvm::CodeGenFileType type,
                              llvm::raw_pwrite_stream &os) {
  llvm::legacy::PassManager passes;
  if (machine.addPassesToEmitFile(passes, os, nullptr, type))
    return module.emitError("LLVM cannot write this kind of file for ")
           << machine.getTargetTriple().str();
  passes.run(code);
  return success();
}

} // namespace

void gossamer::registerTranslations(DialectRegistry &registry) {
  registerBuiltinDialectTranslation(registry);
  registerLLVMDialectTranslation(registry);
  registerNVVMDialectTranslation(registry);
}

LogicalResult gossamer::codegen(ModuleOp module, llvm::TargetMachine &machine,
                                Stage stage, llvm::raw_pwrite_stream &os) {
  llvm::LLVMContext context;
  auto owned = std::make_unique<ForwardDiagnostics>(module);
  ForwardDiagnostics &diagnostics = *owned;
  context.setDiagnosticHandler(std::move(owned));

  std::unique_ptr<llvm::Module> code =
      translateModuleToLLVMIR(module, context, "region");
  if (!code)
    return module.emitError("the translation to LLVM IR failed");
  code->setTargetTriple(machine.getTargetTriple());
  code->setDataLayout(machine.createDataLayout());
  // Tuned for whole programs, LLVM prefers half-width vectors on server chips
  // of Intel; dense inner loops want the full width.
  if (widestVectorBytes(machine) == 64)
    for (llvm::Function &function : *code)
      function.addFnAttr("prefer-vector-width", "512");
  optimize(*code, machine);

  LogicalResult written = success();
  switch (stage) {
  case Stage::LLVM:
    code->print(os, nullptr);
    break;
  case Stage::Asm:
    written = emitMachineCode(module, *code, machine,
                              llvm::CodeGenFileType::AssemblyFile, os);
    break;
  default:
    written = emitMachineCode(module, *code, machine,
                              llvm::CodeGenFileType::ObjectFile, os);
  }
  return failure(diagnostics.failed || failed(written));
}

LogicalResult gossamer::codegenKernels(ModuleOp kernels,
                                       llvm::TargetMachine &machine,
                                       Stage stage,
                                       llvm::raw_pwrite_stream &os) {
  llvm::LLVMContext context;
  auto owned = std::make_unique<ForwardDiagnostics>(kernels);
  ForwardDiagnostics &diagnostics = *owned;
  context.setDiagnosticHandler(std::move(owned));
  // Before sm_90 a kernel never begins before the one before it is done, and
  // there is nothing to wait for.
  unsigned chip = 0;
  machine.getTargetCPU().drop_front(strlen("sm_")).consumeInteger(10, chip);
  if (chip < 90)
    kernels.walk([](LLVM::InlineAsmOp op) {
      if (op.getAsmString().starts_with("griddepcontrol"))
        op.erase();
    });
  std::unique_ptr<llvm::Module> code =
      translateModuleToLLVMIR(kernels, context, "kernels");
  if (!code)
    return kernels.emitError("the translation to LLVM IR failed");
  code->setTargetTriple(machine.getTargetTriple());
  code->setDataLayout(machine.createDataLayout());
  // A function that is called and not here is not anywhere: a driver would say
  // so only when the kernel is loaded.
  for (const llvm::Function &function : *code)
    if (function.isDeclaration() && !function.isIntrinsic())
      return kernels.emitError("kernels call ")
             << function.getName() << ", which no GPU has";
  optimize(*code, machine);
  LogicalResult written = success();
  if (stage == Stage::LLVM)
    code->print(os, nullptr);
  else
    written = emitMachineCode(kernels, *code, machine,
                              llvm::CodeGenFileType::AssemblyFile, os);
  return failure(diagnostics.failed || failed(written));
}
