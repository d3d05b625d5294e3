//===- CodegenPass.cpp - code generation as a pass, for reproducers
//--------===//

#include "engine/Codegen.h"
#include "engine/Options.h"
#include "engine/Target.h"

#include "mlir/IR/BuiltinOps.h"
#include "mlir/Pass/Pass.h"

#include "llvm/Target/TargetMachine.h"

using namespace mlir;

namespace {

struct CodegenPass : PassWrapper<CodegenPass, OperationPass<ModuleOp>> {
  MLIR_DEFINE_EXPLICIT_INTERNAL_INLINE_TYPE_ID(CodegenPass)

  CodegenPass() = default;
  CodegenPass(const CodegenPass &other) : PassWrapper(other) {}

  StringRef getArgument() const override { return "gossamer-codegen"; }
  StringRef getDescription() const override {
    return "Generate an object from the LLVM dialect and throw it away; the "
           "module stays as it is. For reproducing "
           "what fails behind the last pass.";
  }

  void getDependentDialects(DialectRegistry &registry) const override {
    gossamer::registerTranslations(registry);
  }

  void runOnOperation() override {
    gossamer::CompileOptions options;
    options.cpu = cpu.empty() ? gossamer::hostCpu() : cpu.getValue();
    options.features = cpu.empty() && features.empty()
                           ? gossamer::hostFeatures()
                           : features.getValue();
    auto machine = gossamer::makeTargetMachine(options);
    if (!machine) {
      getOperation().emitError(llvm::toString(machine.takeError()));
      return signalPassFailure();
    }
    SmallVector<char, 0> object;
    llvm::raw_svector_ostream os(object);
    OwningOpRef<ModuleOp> host;
    ModuleOp module = getOperation();
    if (auto kernels = module.lookupSymbol<ModuleOp>("kernels")) {
      if (failed(writeKernels(kernels)))
        return signalPassFailure();
      host = module.clone();
      host->lookupSymbol<ModuleOp>("kernels").erase();
      module = *host;
    }
    if (failed(
            gossamer::codegen(module, **machine, gossamer::Stage::Object, os)))
      signalPassFailure();
  }

  /// PTX, to stdout: what tests and people want to look at.
  LogicalResult writeKernels(ModuleOp kernels) {
    gossamer::CompileOptions options;
    options.chip = chip;
    auto machine = gossamer::makeGpuTargetMachine(options);
    if (!machine)
      return kernels.emitError(llvm::toString(machine.takeError()));
    SmallVector<char, 0> ptx;
    llvm::raw_svector_ostream os(ptx);
    if (failed(gossamer::codegenKernels(kernels, **machine,
                                        gossamer::Stage::Asm, os)))
      return failure();
    if (printPtx)
      llvm::outs() << ptx;
    return success();
  }

  Option<std::string> chip{
      *this, "chip", llvm::cl::init("sm_90a"),
      llvm::cl::desc("NVIDIA chip of the kernels in @kernels")};
  Option<bool> printPtx{*this, "print-ptx", llvm::cl::init(false),
                        llvm::cl::desc("print the PTX of these")};
  Option<std::string> cpu{
      *this, "cpu",
      llvm::cl::desc("processor, as LLVM names it (the host's if empty)")};
  Option<std::string> features{
      *this, "features", llvm::cl::desc("features, as \"+avx2,-avx512f\"")};
};

} // namespace

void gossamer::registerCodegenPass() { PassRegistration<CodegenPass>(); }
