//===- Jit.cpp - linking an object into the process
//------------------------===//
//
// ORC over JITLink, one session a kernel: a kernel is unloaded whole, and two
// share nothing that needs a lock. A kernel sees gs_parallel_for, memory for
// temporaries, what LLVM calls for halves, gs_gpu_*, gs_tile_*, libm and libc,
// and no other symbol of the process.
//
//===----------------------------------------------------------------------===//

#include "engine/CrashGuard.h"
#include "engine/Memory.h"
#include "engine/include/gossamer-c.h"

#include "llvm/ADT/bit.h"
#include "llvm/ExecutionEngine/Orc/AbsoluteSymbols.h"
#include "llvm/ExecutionEngine/Orc/Core.h"
#include "llvm/ExecutionEngine/Orc/ExecutionUtils.h"
#include "llvm/ExecutionEngine/Orc/ObjectLinkingLayer.h"
#include "llvm/ExecutionEngine/Orc/SelfExecutorProcessControl.h"
#include "llvm/ExecutionEngine/Orc/TaskDispatch.h"
#include "llvm/Support/MemoryBuffer.h"

#include <cstring>

using namespace llvm;
using namespace llvm::orc;

namespace {

/// Where a processor has no instructions for bfloat16, LLVM keeps one as a
/// float32 from block to block, and calls this to store it.
__bf16 roundToBFloat16(float value) {
  uint32_t bits = llvm::bit_cast<uint32_t>(value);
  if (value != value)
    bits |= 1u << 22; // stays a NaN
  else
    bits += 0x7fff + (bits >> 16 & 1);
  return llvm::bit_cast<__bf16>(static_cast<uint16_t>(bits >> 16));
}

/// Processors of before 2012 have no instructions for float16 either.
_Float16 roundToFloat16(float value) { return static_cast<_Float16>(value); }
float extendFloat16(_Float16 value) { return static_cast<float>(value); }

class Kernel {
public:
  explicit Kernel(std::unique_ptr<ExecutorProcessControl> control)
      : session(std::move(control)),
        linker(session, session.getExecutorProcessControl().getMemMgr()) {
    session.setErrorReporter(
        [this](Error error) { messages += toString(std::move(error)) + "\n"; });
  }

  ~Kernel() { consumeError(session.endSession()); }

  Expected<gs_entry> load(StringRef object, StringRef entry) {
    JITDylib &library = session.createBareJITDylib("kernel");
    auto symbol = [](auto *function) -> ExecutorSymbolDef {
      return {ExecutorAddr::fromPtr(function),
              JITSymbolFlags::Exported | JITSymbolFlags::Callable};
    };
    if (Error error = library.define(absoluteSymbols(
            {{session.intern("gs_parallel_for"), symbol(&gs_parallel_for)},
             {session.intern("aligned_alloc"),
              symbol(&gossamer::allocateTemporary)},
             {session.intern("free"), symbol(&gossamer::freeTemporary)},
             {session.intern("__truncsfbf2"), symbol(&roundToBFloat16)},
             {session.intern("__truncsfhf2"), symbol(&roundToFloat16)},
             {session.intern("__extendhfsf2"), symbol(&extendFloat16)},
             {session.intern("gs_gpu_launch"), symbol(&gs_gpu_launch)},
             {session.intern("gs_gpu_workspace"), symbol(&gs_gpu_workspace)},
             {session.intern("gs_gpu_tensor_map"), symbol(&gs_gpu_tensor_map)},
             {session.intern("gs_gpu_tile_map"), symbol(&gs_gpu_tile_map)},
             {session.intern("gs_gpu_processors"), symbol(&gs_gpu_processors)},
             {session.intern("gs_gpu_launch_program"),
              symbol(&gs_gpu_launch_program)},
             {session.intern("gs_tile_map"), symbol(&gs_tile_map)},
             {session.intern("gs_tile_resident"), symbol(&gs_tile_resident)},
             {session.intern("gs_tile_launch"), symbol(&gs_tile_launch)},
             {session.intern("gs_tile_acquire"), symbol(&gs_tile_acquire)},
             {session.intern("gs_tile_publish"), symbol(&gs_tile_publish)},
             {session.intern("gs_tile_await"), symbol(&gs_tile_await)},
             {session.intern("gs_tile_release"), symbol(&gs_tile_release)},
             {session.intern("gs_tile_take_turn"), symbol(&gs_tile_take_turn)},
             {session.intern("gs_tile_pass_turn"), symbol(&gs_tile_pass_turn)},
             {session.intern("gs_tile_load"), symbol(&gs_tile_load)},
             {session.intern("gs_tile_store"), symbol(&gs_tile_store)}})))
      return std::move(error);
    for (const char *name : {"libm.so.6", "libc.so.6"}) {
      auto symbols =
          DynamicLibrarySearchGenerator::Load(name, /*GlobalPrefix=*/'\0');
      if (!symbols)
        return symbols.takeError();
      library.addGenerator(std::move(*symbols));
    }
    // Copied: it need not outlive this call, nor be aligned.
    if (Error error = linker.add(
            library, MemoryBuffer::getMemBufferCopy(object, "kernel.o")))
      return std::move(error);
    Expected<ExecutorSymbolDef> found = session.lookup({&library}, entry);
    if (!found)
      return found.takeError();
    return found->getAddress().toPtr<gs_entry>();
  }

  /// What the session reported on the way: the reason why a symbol could not be
  /// had.
  std::string messages;

private:
  ExecutionSession session;
  ObjectLinkingLayer linker;
};

char *copyText(const std::string &text) { return strdup(text.c_str()); }

} // namespace

int gs_load(const void *object, size_t len, const char *entry, void **kernel,
            gs_entry *fn, char **error) {
  std::string failure;
  std::optional<std::string> crash = gossamer::runGuarded([&] {
    // In place: a thread of its own would be outside the crash guard.
    auto control = SelfExecutorProcessControl::Create(
        nullptr, std::make_unique<InPlaceTaskDispatcher>());
    if (!control) {
      failure = toString(control.takeError());
      return;
    }
    auto loaded = std::make_unique<Kernel>(std::move(*control));
    Expected<gs_entry> found =
        loaded->load(StringRef(static_cast<const char *>(object), len), entry);
    if (!found) {
      failure = loaded->messages + toString(found.takeError());
      return;
    }
    *fn = *found;
    *kernel = loaded.release();
  });
  if (!crash && failure.empty())
    return GS_OK;
  *error = copyText(crash ? *crash : failure);
  return crash ? GS_CRASHED : GS_ERROR;
}

void gs_unload(void *kernel) { delete static_cast<Kernel *>(kernel); }

void gs_free_text(char *text) { free(text); }
