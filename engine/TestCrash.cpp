//===- TestCrash.cpp - crashes on demand, for the tests
//--------------------===//

#include "engine/TestCrash.h"

#include "mlir/IR/BuiltinAttributes.h"
#include "mlir/IR/BuiltinOps.h"

#include "llvm/Support/ErrorHandling.h"

#include <csignal>
#include <cstdlib>

/// Recurses until the stack is used up; volatile, so that the compiler cannot
/// see that it will, nor make a loop of it.
static int overrunStack(volatile char *caller) {
  volatile char frame[4096];
  frame[0] = *caller;
  return frame[0] ? 0 : overrunStack(frame) + frame[0];
}

void gossamer::testCrash(mlir::ModuleOp module) {
  auto kind = module->getAttrOfType<mlir::StringAttr>("gossamer.test_crash");
  if (!kind)
    return;
  if (kind == "abort")
    std::abort();
  if (kind == "segv")
    *reinterpret_cast<volatile int *>(8) = 0;
  if (kind == "fatal")
    llvm::report_fatal_error("a fatal error on demand");
  if (kind == "overflow") {
    volatile char first = 0;
    overrunStack(&first);
  }
}
