//===- Options.h - what a caller of the C API asks for
//---------------------===//

#ifndef GOSSAMER_ENGINE_OPTIONS_H
#define GOSSAMER_ENGINE_OPTIONS_H

#include "llvm/ADT/StringRef.h"
#include "llvm/Support/Error.h"

#include <string>

namespace gossamer {

/// How far a compile goes, and what is kept of it.
enum class Stage : int { Raise, Lower, LLVM, Asm, Object };

struct CompileOptions {
  std::string cpu; ///< as LLVM names it; the host's if not given
  std::string
      features; ///< "+avx2,-avx512f,..."; the host's if no cpu was given either
  /// An NVIDIA chip, as LLVM names it ("sm_90a"): what touches memory runs
  /// there, and the processor only launches. Empty: all runs on the processor.
  std::string chip;
  Stage stage = Stage::Object;
};

/// Reads the JSON of gs_compile and gs_emit. An unknown key or stage is an
/// error that names it.
llvm::Expected<CompileOptions> parseOptions(llvm::StringRef json);

/// The machine this runs on.
std::string hostCpu();
std::string hostFeatures();

} // namespace gossamer

#endif // GOSSAMER_ENGINE_OPTIONS_H
