//===- CudaDriver.h - the NVIDIA driver, opened at run time -----*- C++ -*-===//
//
// Nothing of CUDA is needed to build the library, nor to load it: what is used
// of the driver's interface is declared here, and found in libcuda.so.1 when a
// GPU is first asked for.
//
//===----------------------------------------------------------------------===//

#ifndef GOSSAMER_ENGINE_CUDADRIVER_H
#define GOSSAMER_ENGINE_CUDADRIVER_H

#include "llvm/Support/Error.h"

#include <cstddef>
#include <cstdint>

namespace gossamer::cuda {

using Result = int;
using Device = int;
using Context = void *;
using Module = void *;
using Function = void *;
using Stream = void *;
using LinkState = void *;

// CUresult
constexpr Result success = 0, unsupportedPtxVersion = 222, notReady = 600;
// CUdevice_attribute
constexpr int multiprocessorCount = 16, capabilityMajor = 75,
              capabilityMinor = 76;
// CUfunction_attribute
constexpr int maxDynamicSharedBytes = 8;
// CUtensorMapDataType, CUtensorMapSwizzle, CUtensorMapL2promotion
constexpr int tensorMapFloat16 = 6, tensorMapBFloat16 = 9,
              tensorMapSwizzle128 = 3, tensorMapPromotion256 = 3;
// CUjit_option
constexpr int jitInfoLog = 3, jitInfoLogSize = 4, jitErrorLog = 5,
              jitErrorLogSize = 6, jitLogVerbose = 12;
// CUlaunchAttributeID
constexpr int programmaticSerialization = 6;
// CUjitInputType
constexpr int jitPtx = 1;

/// CUlaunchAttribute, of those whose value is a number.
struct LaunchAttribute {
  int id;
  int padding;
  int value;
  int rest[15];
};
static_assert(sizeof(LaunchAttribute) == 72);

/// CUlaunchConfig
struct LaunchConfig {
  unsigned grid[3], block[3], sharedBytes;
  Stream stream;
  LaunchAttribute *attributes;
  unsigned numAttributes;
};

struct Driver {
  Result (*init)(unsigned);
  Result (*driverGetVersion)(int *);
  Result (*getErrorName)(Result, const char **);
  Result (*getErrorString)(Result, const char **);
  Result (*deviceGet)(Device *, int);
  Result (*deviceGetAttribute)(int *, int, Device);
  Result (*primaryCtxRetain)(Context *, Device);
  Result (*primaryCtxRelease)(Device);
  Result (*ctxGetCurrent)(Context *);
  Result (*ctxPushCurrent)(Context);
  Result (*ctxPopCurrent)(Context *);
  Result (*linkCreate)(unsigned, int *, void **, LinkState *);
  Result (*linkAddData)(LinkState, int, void *, size_t, const char *, unsigned,
                        int *, void **);
  Result (*linkComplete)(LinkState, void **, size_t *);
  Result (*linkDestroy)(LinkState);
  Result (*moduleLoadData)(Module *, const void *);
  Result (*moduleUnload)(Module);
  Result (*moduleGetFunction)(Function *, Module, const char *);
  Result (*funcSetAttribute)(Function, int, int);
  Result (*streamQuery)(Stream);
  /// Null in drivers older than CUDA 12.
  Result (*tensorMapEncodeTiled)(void *, int, unsigned, void *,
                                 const uint64_t *, const uint64_t *,
                                 const unsigned *, const unsigned *, int, int,
                                 int, int);
  Result (*launchKernel)(Function, unsigned, unsigned, unsigned, unsigned,
                         unsigned, unsigned, unsigned, Stream, void **,
                         void **);
  /// Null before CUDA 11.8.
  Result (*launchKernelEx)(const LaunchConfig *, Function, void **, void **);

  /// "cuLaunchKernel: CUDA_ERROR_...: what it means".
  llvm::Error failure(const llvm::Twine &call, Result result) const;
};

/// The driver, opened and initialised once; an error says what is missing.
llvm::Expected<const Driver *> driver();

} // namespace gossamer::cuda

#endif // GOSSAMER_ENGINE_CUDADRIVER_H
