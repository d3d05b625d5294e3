//===- Target.cpp - the machine that code is generated for ----------------===//

#include "engine/Target.h"
#include "engine/Options.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/MC/MCSubtargetInfo.h"
#include "llvm/MC/TargetRegistry.h"
#include "llvm/Support/TargetSelect.h"
#include "llvm/Target/TargetMachine.h"
#include "llvm/TargetParser/Host.h"
#include "llvm/TargetParser/SubtargetFeature.h"

#include <mutex>

using namespace llvm;

static void registerTargets() {
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

static Error check(const MCSubtargetInfo &known, const Triple &triple,
                   const gossamer::CompileOptions &options) {
  if (!known.isCPUStringValid(options.cpu))
    return createStringError("unknown processor '" + options.cpu + "' for " +
                             triple.getArchName());
  SubtargetFeatures features(options.features);
  for (const std::string &feature : features.getFeatures()) {
    StringRef name = SubtargetFeatures::StripFlag(feature);
    if (none_of(known.getAllProcessorFeatures(),
                [&](const auto &entry) { return name == entry.Key; }))
      return createStringError("unknown processor feature '" + feature +
                               "' for " + triple.getArchName());
  }
  return Error::success();
}

static Expected<const Target *> findTarget(const Triple &triple) {
  registerTargets();
  std::string error;
  const Target *target = TargetRegistry::lookupTarget(triple, error);
  if (!target)
    return createStringError("no code generator for " + triple.str() + ": " +
                             error);
  return target;
}

Expected<std::unique_ptr<TargetMachine>>
gossamer::makeTargetMachine(const CompileOptions &options) {
  Triple triple(sys::getProcessTriple());
  Expected<const Target *> target = findTarget(triple);
  if (!target)
    return target.takeError();
  // Checked on a generic machine: making one for an unknown processor prints
  // to stderr.
  std::unique_ptr<MCSubtargetInfo> known(
      (*target)->createMCSubtargetInfo(triple, "", ""));
  if (Error wrong = check(*known, triple, options))
    return std::move(wrong);
  return std::unique_ptr<TargetMachine>((*target)->createTargetMachine(
      triple, options.cpu, options.features, TargetOptions(), Reloc::PIC_,
      CodeModel::Small, CodeGenOptLevel::Aggressive));
}

Expected<std::unique_ptr<TargetMachine>>
gossamer::makeGpuTargetMachine(const CompileOptions &options) {
  Triple triple("nvptx64-nvidia-cuda");
  Expected<const Target *> target = findTarget(triple);
  if (!target)
    return target.takeError();
  std::unique_ptr<MCSubtargetInfo> known(
      (*target)->createMCSubtargetInfo(triple, "", ""));
  if (!known->isCPUStringValid(options.chip))
    return createStringError("unknown chip '" + options.chip + "' for " +
                             triple.getArchName());
  // Kernels use what came with this one (bf16, max that keeps NaN).
  unsigned generation = 0;
  StringRef number = StringRef(options.chip).drop_front(strlen("sm_"));
  if (number.consumeInteger(10, generation) || generation < 80)
    return createStringError("chip '" + options.chip +
                             "' is older than sm_80, the oldest that kernels "
                             "are made for");
  // Of PTX LLVM writes the oldest version that knows the chip; barriers of tile
  // programs need that of sm_89.
  const char *features = generation < 89 ? "+ptx78" : "";
  return std::unique_ptr<TargetMachine>((*target)->createTargetMachine(
      triple, options.chip, features, TargetOptions(), Reloc::PIC_,
      std::nullopt, CodeGenOptLevel::Aggressive));
}

unsigned gossamer::widestVectorBytes(const TargetMachine &machine) {
  const MCSubtargetInfo &processor = *machine.getMCSubtargetInfo();
  if (processor.checkFeatures("+avx512f"))
    return 64;
  return processor.checkFeatures("+avx") ? 32 : 16;
}
