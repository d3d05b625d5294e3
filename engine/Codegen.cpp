//===- Codegen.cpp - from the LLVM dialect to machine code
//-----------------===//

#include "engine/Codegen.h"
#include "engine/Options.h"

#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/Diagnostics.h"
#include "mlir/Target/LLVMIR/Dialect/Builtin/BuiltinToLLVMIRTranslation.h"
#include "mlir/Target/LLVMIR/Dialect/LLVMIR/LLVMToLLVMIRTranslation.h"
#include "mlir/Target/LLVMIR/Export.h"

#include "llvm/IR/DiagnosticInfo.h"
#include "llvm/IR/DiagnosticPrinter.h"
#include "llvm/IR/LLVMContext.h"
#include "llvm/IR/LegacyPassManager.h"
#include "llvm/IR/Module.h"
#include "llvm/MC/MCSubtargetInfo.h"
#include "llvm/MC/TargetRegistry.h"
#include "llvm/Passes/PassBuilder.h"
#include "llvm/Support/TargetSelect.h"
#include "llvm/Target/TargetMachine.h"
#include "llvm/TargetParser/Host.h"
#include "llvm/TargetParser/SubtargetFeature.h"

#include <mutex>

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

void registerTargets() {
  static std::once_flag once;
  std::call_once(once, [] {
    LLVMInitializeX86TargetInfo();
    LLVMInitializeX86Target();
    LLVMInitializeX86TargetMC();
    LLVMInitializeX86AsmPrinter();
    LLVMInitializeX86AsmParser();
    LLVMInitializeNVPTXTargetInfo();
    LLVMInitializeNVPTXTarget();
    LLVMInitializeNVPTXTargetMC();
    LLVMInitializeNVPTXAsmPrinter();
  });
}

/// Null, with a diagnostic, for a processor or features that LLVM does not
/// know: it would only warn on stderr, and later fail to select an instruction.
std::unique_ptr<llvm::TargetMachine>
makeTargetMachine(ModuleOp module, const gossamer::CompileOptions &options) {
  registerTargets();
  llvm::Triple triple(llvm::sys::getProcessTriple());
  std::string error;
  const llvm::Target *target =
      llvm::TargetRegistry::lookupTarget(triple, error);
  if (!target) {
    module.emitError("no code generator for ") << triple.str() << ": " << error;
    return nullptr;
  }
  // Checked on a generic machine, since making one for an unknown processor
  // prints to stderr.
  std::unique_ptr<llvm::MCSubtargetInfo> known(
      target->createMCSubtargetInfo(triple, "", ""));
  if (!known->isCPUStringValid(options.cpu)) {
    module.emitError("unknown processor '")
        << options.cpu << "' for " << triple.getArchName();
    return nullptr;
  }
  llvm::SubtargetFeatures features(options.features);
  for (const std::string &feature : features.getFeatures()) {
    llvm::StringRef name = llvm::SubtargetFeatures::StripFlag(feature);
    if (llvm::none_of(known->getAllProcessorFeatures(),
                      [&](const auto &entry) { return name == entry.Key; })) {
      module.emitError("unknown processor feature '")
          << feature << "' for " << triple.getArchName();
      return nullptr;
    }
  }
  return std::unique_ptr<llvm::TargetMachine>(target->createTargetMachine(
      triple, options.cpu, options.features, llvm::TargetOptions(),
      llvm::Reloc::PIC_, llvm::CodeModel::Small,
      llvm::CodeGenOptLevel::Aggressive));
}

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
}

LogicalResult gossamer::codegen(ModuleOp module, const CompileOptions &options,
                                llvm::raw_pwrite_stream &os) {
  std::unique_ptr<llvm::TargetMachine> machine =
      makeTargetMachine(module, options);
  if (!machine)
    return failure();

  llvm::LLVMContext context;
  auto owned = std::make_unique<ForwardDiagnostics>(module);
  ForwardDiagnostics &diagnostics = *owned;
  context.setDiagnosticHandler(std::move(owned));

  std::unique_ptr<llvm::Module> code =
      translateModuleToLLVMIR(module, context, "region");
  if (!code)
    return module.emitError("the translation to LLVM IR failed");
  code->setTargetTriple(machine->getTargetTriple());
  code->setDataLayout(machine->createDataLayout());
  optimize(*code, *machine);

  LogicalResult written = success();
  switch (options.stage) {
  case Stage::LLVM:
    code->print(os, nullptr);
    break;
  case Stage::Asm:
    written = emitMachineCode(module, *code, *machine,
                              llvm::CodeGenFileType::AssemblyFile, os);
    break;
  default:
    written = emitMachineCode(module, *code, *machine,
                              llvm::CodeGenFileType::ObjectFile, os);
  }
  return failure(diagnostics.failed || failed(written));
}
