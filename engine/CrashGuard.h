//===- CrashGuard.h - a compile never takes the process down --------------===//

#ifndef GOSSAMER_ENGINE_CRASHGUARD_H
#define GOSSAMER_ENGINE_CRASHGUARD_H

#include "llvm/ADT/STLFunctionalExtras.h"

#include <optional>
#include <string>

namespace gossamer {

/// Runs `work` on a thread of its own with a large stack. Returns nothing if it
/// came back, and how it ended if it did not: by abort, by a signal, by LLVM's
/// report_fatal_error, or by running out of stack. After a crash the objects
/// that `work` had made are leaked, not destroyed.
std::optional<std::string> runGuarded(llvm::function_ref<void()> work);

} // namespace gossamer

#endif // GOSSAMER_ENGINE_CRASHGUARD_H
