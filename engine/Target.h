//===- Target.h - the machine that code is generated for ------------------===//

#ifndef GOSSAMER_ENGINE_TARGET_H
#define GOSSAMER_ENGINE_TARGET_H

#include "llvm/Support/Error.h"

#include <memory>

namespace llvm {
class TargetMachine;
} // namespace llvm

namespace gossamer {

struct CompileOptions;

/// An error for a processor or a feature that LLVM does not know: it would
/// only warn on stderr, and later fail to select an instruction.
llvm::Expected<std::unique_ptr<llvm::TargetMachine>>
makeTargetMachine(const CompileOptions &options);

/// The same for kernels on the chip of the options.
llvm::Expected<std::unique_ptr<llvm::TargetMachine>>
makeGpuTargetMachine(const CompileOptions &options);

/// Width of the widest vector register, in bytes.
unsigned widestVectorBytes(const llvm::TargetMachine &machine);

} // namespace gossamer

#endif // GOSSAMER_ENGINE_TARGET_H
