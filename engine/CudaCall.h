//===- CudaCall.h - what a compiled entry is running in ---------*- C++ -*-===//

#ifndef GOSSAMER_ENGINE_CUDACALL_H
#define GOSSAMER_ENGINE_CUDACALL_H

#include "engine/CudaDriver.h"

#include "llvm/ADT/SmallVector.h"

#include <cstdint>
#include <string>

namespace gossamer::cuda {

struct CudaModule {
  const Driver *driver;
  Device device;
  Context context;
  Module code;
  llvm::SmallVector<Function> kernels;
  bool overlaps; ///< a kernel may begin before the one before it is done
};

/// The call of gs_cuda_run that a thread is in.
struct Call {
  const CudaModule *module;
  Stream stream;
  void *workspace;
  int64_t capacity, needed;
  std::string error;
  bool led = false; ///< the last kernel lets the next one begin

  /// Nothing more is done: not before there is memory, or not after an error.
  bool isOver() const { return needed || !error.empty(); }
};

extern thread_local Call *current;

} // namespace gossamer::cuda

#endif // GOSSAMER_ENGINE_CUDACALL_H
