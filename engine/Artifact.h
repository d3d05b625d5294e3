//===- Artifact.h - what a compile produced -------------------------------===//

#ifndef GOSSAMER_ENGINE_ARTIFACT_H
#define GOSSAMER_ENGINE_ARTIFACT_H

#include "llvm/ADT/SmallVector.h"

#include <string>

/// One of `text` and `object` is filled on success, `error` otherwise; with
/// `object`, for a GPU, the PTX of its kernels.
struct gs_artifact {
  std::string error;
  std::string signature;
  std::string text;
  llvm::SmallVector<char, 0> object;
  std::string kernels;
};

#endif // GOSSAMER_ENGINE_ARTIFACT_H
