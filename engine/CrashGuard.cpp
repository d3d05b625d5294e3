//===- CrashGuard.cpp - a compile never takes the process down ------------===//
//
// LLVM aborts on what it cannot select, and a pass can be wrong.
// llvm::CrashRecoveryContext turns the signals of a guarded thread into a
// return; on top of it come the text of a fatal error, which LLVM would only
// print, and the recovery of an overrun stack, for which a handler needs a
// stack of its own.
//
// Signal handlers belong to the whole process, and Python's faulthandler may
// have its own: ours are in place only while a compile runs, hand on the
// signals of unguarded threads, and give way to the former ones afterwards.
//
//===----------------------------------------------------------------------===//

#include "engine/CrashGuard.h"

#include "llvm/Support/CrashRecoveryContext.h"
#include "llvm/Support/ErrorHandling.h"
#include "llvm/Support/raw_ostream.h"
#include "llvm/Support/thread.h"

#include <condition_variable>
#include <csignal>
#include <cstring>
#include <memory>
#include <mutex>
#include <unistd.h>

using namespace llvm;

namespace {

constexpr unsigned stackSize = 64u << 20;
constexpr size_t alternateStackSize = 64u << 10;

/// Of the guarded thread: where a fatal error leaves its reason.
thread_local std::string *fatalReason = nullptr;

void onFatalError(void *, const char *reason, bool) {
  CrashRecoveryContext *guard = CrashRecoveryContext::GetCurrent();
  if (!guard || !fatalReason) {
    // Not a thread of ours: say what LLVM would have said, and let it abort.
    errs() << "LLVM ERROR: " << reason << '\n';
    return;
  }
  *fatalReason = reason;
  guard->HandleExit(1);
}

/// Keeps the process-wide handlers installed while any guard is alive.
class Handlers {
public:
  Handlers() {
    std::lock_guard<std::mutex> lock(mutex);
    if (users++ != 0)
      return;
    CrashRecoveryContext::Enable();
    for (int number : {SIGSEGV, SIGBUS}) {
      struct sigaction action;
      sigaction(number, nullptr, &action);
      action.sa_flags |= SA_ONSTACK;
      sigaction(number, &action, nullptr);
    }
    install_fatal_error_handler(onFatalError);
  }

  ~Handlers() {
    std::lock_guard<std::mutex> lock(mutex);
    if (--users != 0)
      return;
    remove_fatal_error_handler();
    CrashRecoveryContext::Disable();
  }

private:
  static inline std::mutex mutex;
  static inline int users = 0;
};

/// Gives the calling thread a stack on which the handler of an overrun stack
/// can run.
class AlternateStack {
public:
  AlternateStack() : memory(new char[alternateStackSize]) {
    stack_t stack = {};
    stack.ss_sp = memory.get();
    stack.ss_size = alternateStackSize;
    sigaltstack(&stack, nullptr);
  }

  ~AlternateStack() {
    stack_t stack = {};
    stack.ss_flags = SS_DISABLE;
    sigaltstack(&stack, nullptr);
  }

private:
  std::unique_ptr<char[]> memory;
};

/// One run of guarded work.
///
/// A thread that crashed inside of malloc holds the lock of its arena for ever.
/// If it ended, the arena would be given to the next thread, which would hang:
/// so it sleeps instead, and nothing that it allocated is freed.
struct Attempt {
  enum State { Running, Finished, Crashed };

  void end(State how) {
    std::lock_guard<std::mutex> lock(mutex);
    state = how;
    ended.notify_one();
  }

  State wait() {
    std::unique_lock<std::mutex> lock(mutex);
    ended.wait(lock, [&] { return state != Running; });
    return state;
  }

  std::string reason;
  CrashRecoveryContext guard;

private:
  State state = Running;
  std::mutex mutex;
  std::condition_variable ended;
};

std::string describe(int code, const std::string &reason) {
  if (!reason.empty())
    return "LLVM gave up: " + reason;
  // CrashRecoveryContext encodes a signal as a shell does.
  if (code > 128)
    return std::string("the compiler crashed: ") + strsignal(code - 128);
  return "the compiler stopped with exit code " + std::to_string(code);
}

} // namespace

std::optional<std::string> gossamer::runGuarded(function_ref<void()> work) {
  Handlers handlers;
  auto attempt = std::make_unique<Attempt>();
  llvm::thread worker(std::optional<unsigned>(stackSize), [&] {
    AlternateStack alternate;
    Attempt &mine = *attempt;
    fatalReason = &mine.reason;
    bool finished = mine.guard.RunSafely(work);
    mine.end(finished ? Attempt::Finished : Attempt::Crashed);
    if (finished)
      return;
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, nullptr);
    for (;;)
      pause();
  });
  if (attempt->wait() == Attempt::Finished) {
    worker.join();
    return std::nullopt;
  }
  worker.detach();
  std::string text = describe(attempt->guard.RetCode, attempt->reason);
  // Its memory may be of an arena that nobody can enter any more.
  attempt.release();
  return text;
}
