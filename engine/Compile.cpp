//===- Compile.cpp - gs_compile and gs_emit
//--------------------------------===//
//
// Parse, raise, lower, generate code: one context a compile, without threads of
// its own, inside the crash guard.
//
//===----------------------------------------------------------------------===//

#include "engine/Artifact.h"
#include "engine/Codegen.h"
#include "engine/CrashGuard.h"
#include "engine/Options.h"
#include "engine/Target.h"
#include "engine/TestCrash.h"
#include "engine/include/gossamer-c.h"
#include "passes/Passes.h"
#include "passes/tile/TilePasses.h"

#include "mlir/IR/AsmState.h"
#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/Diagnostics.h"
#include "mlir/IR/MLIRContext.h"
#include "mlir/Parser/Parser.h"
#include "mlir/Pass/PassManager.h"

#include "llvm/Target/TargetMachine.h"

using namespace mlir;
using gossamer::CompileOptions;
using gossamer::Stage;

namespace {

void appendLine(llvm::raw_ostream &os, Diagnostic &diagnostic,
                llvm::StringRef severity) {
  Location location = diagnostic.getLocation();
  if (auto file = location->findInstanceOf<FileLineColLoc>())
    os << file.getFilename().getValue() << ':' << file.getLine() << ':'
       << file.getColumn();
  else
    os << location;
  os << ": " << severity << ": " << diagnostic << '\n';
}

void appendDiagnostic(std::string &text, Diagnostic &diagnostic) {
  llvm::raw_string_ostream os(text);
  appendLine(os, diagnostic, "error");
  for (Diagnostic &note : diagnostic.getNotes())
    appendLine(os, note, "note");
}

std::string printModule(ModuleOp module) {
  std::string text;
  llvm::raw_string_ostream os(text);
  module.print(os);
  os << '\n';
  return text;
}

/// On success `object` or `text` of the artifact is filled.
/// `gpu` is null for code that runs on the processor.
LogicalResult compile(llvm::StringRef source, Stage stage,
                      llvm::TargetMachine &machine, llvm::TargetMachine *gpu,
                      gs_artifact &artifact) {
  DialectRegistry registry;
  gossamer::registerDialects(registry);
  gossamer::tile::registerDialects(registry);
  gossamer::registerTranslations(registry);
  // Threads of a pool would be outside the crash guard.
  MLIRContext context(registry, MLIRContext::Threading::DISABLED);
  context.printOpOnDiagnostic(false);
  ScopedDiagnosticHandler collect(&context, [&](Diagnostic &diagnostic) {
    if (diagnostic.getSeverity() == DiagnosticSeverity::Error)
      appendDiagnostic(artifact.error, diagnostic);
    return success();
  });

  OwningOpRef<ModuleOp> module =
      parseSourceString<ModuleOp>(source, &context, "region");
  if (!module)
    return failure();
  gossamer::testCrash(*module);

  // Tile programs are written, not raised.
  bool tiles = gossamer::tile::isTileModule(*module);
  if (tiles && gpu &&
      failed(gossamer::tile::verifyMadeFor(*module, gpu->getTargetCPU())))
    return failure();
  PassManager raise(&context);
  if (!tiles)
    gossamer::buildRaisePipeline(raise);
  if (failed(raise.run(*module)))
    return failure();
  if (stage == Stage::Raise) {
    artifact.text = printModule(*module);
    return success();
  }

  PassManager lower(&context);
  gossamer::CpuOptions processor;
  processor.vectorBytes = gossamer::widestVectorBytes(machine);
  if (tiles && gpu)
    gossamer::tile::buildTilePipeline(lower);
  else if (tiles)
    gossamer::tile::buildTileHostPipeline(lower, processor.vectorBytes);
  else if (gpu)
    gossamer::buildLowerToGpuPipeline(lower);
  else
    gossamer::buildLowerToCpuPipeline(lower, processor);
  if (failed(lower.run(*module)))
    return failure();
  if (stage == Stage::Lower) {
    artifact.text = printModule(*module);
    return success();
  }

  if (auto signature =
          (*module)->getAttrOfType<StringAttr>("gossamer.signature"))
    artifact.signature = signature.str();
  if (auto kernels = module->lookupSymbol<ModuleOp>("kernels");
      gpu && kernels) {
    llvm::SmallVector<char, 0> ptx;
    llvm::raw_svector_ostream os(ptx);
    if (failed(gossamer::codegenKernels(kernels, *gpu, stage, os)))
      return failure();
    (stage == Stage::Object ? artifact.kernels : artifact.text)
        .assign(ptx.begin(), ptx.end());
    if (stage != Stage::Object)
      return success();
    kernels.erase();
  }
  llvm::SmallVector<char, 0> code;
  llvm::raw_svector_ostream os(code);
  if (failed(gossamer::codegen(*module, machine, stage, os)))
    return failure();
  if (stage == Stage::Object)
    artifact.object = std::move(code);
  else
    artifact.text.assign(code.begin(), code.end());
  return success();
}

int run(llvm::StringRef source, const char *optionsText, bool emitText,
        gs_artifact **out) {
  auto artifact = std::make_unique<gs_artifact>();
  int status = GS_ERROR;
  // Reading the options asks LLVM about the host, so the guard is around it
  // all.
  std::optional<std::string> crash = gossamer::runGuarded([&] {
    llvm::Expected<CompileOptions> options =
        gossamer::parseOptions(optionsText ? optionsText : "");
    if (!options) {
      artifact->error = llvm::toString(options.takeError());
      return;
    }
    if (emitText == (options->stage == Stage::Object)) {
      artifact->error = emitText ? "options: gs_emit needs a \"stage\""
                                 : "options: a \"stage\" is for gs_emit";
      return;
    }
    auto machine = gossamer::makeTargetMachine(*options);
    if (!machine) {
      artifact->error = llvm::toString(machine.takeError());
      return;
    }
    std::unique_ptr<llvm::TargetMachine> gpu;
    if (!options->chip.empty()) {
      auto made = gossamer::makeGpuTargetMachine(*options);
      if (!made) {
        artifact->error = llvm::toString(made.takeError());
        return;
      }
      gpu = std::move(*made);
    }
    if (succeeded(
            compile(source, options->stage, **machine, gpu.get(), *artifact)))
      status = GS_OK;
    else if (artifact->error.empty())
      artifact->error = "the compiler failed without saying why\n";
  });
  if (crash) {
    status = GS_CRASHED;
    // What the thread that crashed has allocated must not be freed
    // (CrashGuard.cpp), so the artifact is left as it is.
    std::string error = artifact->error + *crash;
    artifact.release();
    artifact = std::make_unique<gs_artifact>();
    artifact->error = std::move(error);
  }
  *out = artifact.release();
  return status;
}

} // namespace

int gs_compile(const char *mlir, size_t len, const char *options,
               gs_artifact **out) {
  return run(llvm::StringRef(mlir, len), options, /*emitText=*/false, out);
}

int gs_emit(const char *mlir, size_t len, const char *options,
            gs_artifact **out) {
  return run(llvm::StringRef(mlir, len), options, /*emitText=*/true, out);
}

const char *gs_artifact_error(gs_artifact *artifact) {
  return artifact->error.c_str();
}

const char *gs_artifact_signature(gs_artifact *artifact) {
  return artifact->signature.c_str();
}

const char *gs_artifact_text(gs_artifact *artifact) {
  return artifact->text.c_str();
}

const void *gs_artifact_object(gs_artifact *artifact, size_t *len) {
  *len = artifact->object.size();
  return artifact->object.data();
}

const char *gs_artifact_kernels(gs_artifact *artifact) {
  return artifact->kernels.c_str();
}

void gs_artifact_free(gs_artifact *artifact) { delete artifact; }
