//===- Cuda.cpp - kernels on NVIDIA GPUs
//-----------------------------------===//
//
// Code lives in the primary context of a device, which is the one that torch
// works in, so that addresses and streams are torch's as they are. A compiled
// entry runs on the calling thread and launches; what it is running in is kept
// beside the thread, since entries know nothing but their arguments.
//
//===----------------------------------------------------------------------===//

#include "engine/CudaCall.h"
#include "engine/include/gossamer-c.h"

#include "llvm/ADT/ScopeExit.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/ADT/Twine.h"

#include <climits>
#include <cstdlib>
#include <cstring>

using namespace llvm;
using namespace gossamer::cuda;

thread_local Call *gossamer::cuda::current = nullptr;

namespace {

int report(Error error, char **text) {
  if (!error)
    return GS_OK;
  *text = strdup(toString(std::move(error)).c_str());
  return GS_ERROR;
}

/// Makes a context the thread's, unless it is.
class Entered {
public:
  Entered(const Driver &driver, Context context) : driver(driver) {
    Context now = nullptr;
    driver.ctxGetCurrent(&now);
    pushed = now != context && driver.ctxPushCurrent(context) == success;
  }
  ~Entered() {
    Context popped;
    if (pushed)
      driver.ctxPopCurrent(&popped);
  }

private:
  const Driver &driver;
  bool pushed;
};

Error describe(int number, int *capability, int *version) {
  Expected<const Driver *> driver = gossamer::cuda::driver();
  if (!driver)
    return driver.takeError();
  const Driver &d = **driver;
  Device device;
  int major = 0, minor = 0;
  if (Result result = d.deviceGet(&device, number))
    return d.failure("cuDeviceGet(" + Twine(number) + ")", result);
  for (auto [attribute, value] :
       {std::pair(capabilityMajor, &major), {capabilityMinor, &minor}})
    if (Result result = d.deviceGetAttribute(value, attribute, device))
      return d.failure("cuDeviceGetAttribute", result);
  if (Result result = d.driverGetVersion(version))
    return d.failure("cuDriverGetVersion", result);
  *capability = 10 * major + minor;
  return Error::success();
}

Error assemble(const char *ptx, int number, char **cubin, size_t *len,
               char **log) {
  Expected<const Driver *> driver = gossamer::cuda::driver();
  if (!driver)
    return driver.takeError();
  const Driver &d = **driver;
  Device device;
  Context context;
  if (Result result = d.deviceGet(&device, number))
    return d.failure("cuDeviceGet(" + Twine(number) + ")", result);
  if (Result result = d.primaryCtxRetain(&context, device))
    return d.failure("cuDevicePrimaryCtxRetain", result);
  llvm::scope_exit release([&] { d.primaryCtxRelease(device); });
  Entered entered(d, context);

  std::string info(1 << 14, '\0'), errors(1 << 14, '\0');
  int options[] = {jitInfoLog, jitInfoLogSize, jitErrorLog, jitErrorLogSize,
                   jitLogVerbose};
  void *values[] = {info.data(), reinterpret_cast<void *>(info.size()),
                    errors.data(), reinterpret_cast<void *>(errors.size()),
                    reinterpret_cast<void *>(1)};
  LinkState state;
  if (Result result = d.linkCreate(5, options, values, &state))
    return d.failure("cuLinkCreate", result);
  llvm::scope_exit destroy([&] { d.linkDestroy(state); });
  void *image = nullptr;
  Result result =
      d.linkAddData(state, jitPtx, const_cast<char *>(ptx), strlen(ptx) + 1,
                    "kernels.ptx", 0, nullptr, nullptr);
  if (!result)
    result = d.linkComplete(state, &image, len);
  if (result == unsupportedPtxVersion) {
    int version = 0;
    d.driverGetVersion(&version);
    StringRef wanted = StringRef(ptx).split(".version ").second;
    return createStringError(
        "the driver is for CUDA " + Twine(version / 1000) + "." +
        Twine(version % 1000 / 10) + ", which is older than PTX " +
        wanted.take_until(isSpace) +
        " of these kernels (CUDA_ERROR_UNSUPPORTED_PTX_VERSION): a newer one "
        "is needed");
  }
  if (result)
    return joinErrors(d.failure("the driver's assembler", result),
                      createStringError(errors.c_str()));
  *cubin = static_cast<char *>(malloc(*len));
  memcpy(*cubin, image, *len);
  *log = strdup(info.c_str());
  return Error::success();
}

Error load(const void *cubin, int kernels, int number, void **out) {
  Expected<const Driver *> driver = gossamer::cuda::driver();
  if (!driver)
    return driver.takeError();
  const Driver &d = **driver;
  auto module = std::make_unique<CudaModule>();
  module->driver = *driver;
  if (Result result = d.deviceGet(&module->device, number))
    return d.failure("cuDeviceGet(" + Twine(number) + ")", result);
  if (Result result = d.primaryCtxRetain(&module->context, module->device))
    return d.failure("cuDevicePrimaryCtxRetain", result);
  llvm::scope_exit release([&] { d.primaryCtxRelease(module->device); });
  int major = 0;
  if (Result result =
          d.deviceGetAttribute(&major, capabilityMajor, module->device))
    return d.failure("cuDeviceGetAttribute", result);
  module->overlaps = major >= 9 && d.launchKernelEx;
  Entered entered(d, module->context);
  if (Result result = d.moduleLoadData(&module->code, cubin))
    return d.failure("cuModuleLoadData", result);
  for (int n = 0; n < kernels; ++n) {
    std::string name = "kernel_" + std::to_string(n);
    Function function;
    if (Result result =
            d.moduleGetFunction(&function, module->code, name.c_str())) {
      d.moduleUnload(module->code);
      return d.failure("cuModuleGetFunction(" + Twine(name) + ")", result);
    }
    module->kernels.push_back(function);
  }
  release.release();
  *out = module.release();
  return Error::success();
}

} // namespace

int gs_cuda_device(int device, int *capability, int *driver, char **error) {
  return report(describe(device, capability, driver), error);
}

int gs_cuda_assemble(const char *ptx, int device, char **cubin, size_t *len,
                     char **log, char **error) {
  return report(assemble(ptx, device, cubin, len, log), error);
}

int gs_cuda_load(const void *cubin, int kernels, int device, void **module,
                 char **error) {
  return report(load(cubin, kernels, device, module), error);
}

void gs_cuda_unload(void *handle) {
  auto *module = static_cast<CudaModule *>(handle);
  {
    Entered entered(*module->driver, module->context);
    module->driver->moduleUnload(module->code);
  }
  module->driver->primaryCtxRelease(module->device);
  delete module;
}

int64_t gs_cuda_run(void *handle, gs_entry entry, int64_t *packed, void *stream,
                    void *workspace, int64_t capacity, char **error) {
  auto *module = static_cast<CudaModule *>(handle);
  Call call{module, stream, workspace, capacity, 0, {}};
  Entered entered(*module->driver, module->context);
  Call *outer = current;
  current = &call;
  entry(packed);
  current = outer;
  if (!call.error.empty()) {
    *error = strdup(call.error.c_str());
    return -1;
  }
  return call.needed;
}

int64_t gs_cuda_wait(void *handle, void *stream, const int64_t *word,
                     char **error) {
  auto *module = static_cast<CudaModule *>(handle);
  const Driver &d = *module->driver;
  Entered entered(d, module->context);
  auto read = [&] { return __atomic_load_n(word, __ATOMIC_ACQUIRE); };
  // To ask the driver costs more than to look, and holds up other threads.
  constexpr int looks = 1 << 12;
  while (true) {
    for (int n = 0; n < looks; ++n)
      if (int64_t number = read(); number >= 0)
        return number;
    Result result = d.streamQuery(stream);
    if (result == notReady)
      continue;
    if (int64_t number = read(); result == success && number >= 0)
      return number;
    Error failed =
        result ? d.failure("cuStreamQuery", result)
               : createStringError("all kernels are done, and none has said "
                                   "how much there is");
    *error = strdup(toString(std::move(failed)).c_str());
    return -1;
  }
}

void gs_gpu_launch(int64_t kernel, int64_t blocks, int64_t threads,
                   int64_t order, int64_t *words, int64_t count) {
  Call &call = *current;
  constexpr int64_t leads = 1, follows = 2;
  // Nothing to do, or not before there is memory, or not after an error.
  if (blocks <= 0 || call.needed || !call.error.empty())
    return;
  if (blocks > INT_MAX) {
    call.error = "kernel_" + std::to_string(kernel) + " would need " +
                 std::to_string(blocks) + " blocks, more than a grid may have";
    return;
  }
  SmallVector<void *, 32> arguments;
  for (int64_t n = 0; n < count; ++n)
    arguments.push_back(words + n);
  const Driver &d = *call.module->driver;
  Function function = call.module->kernels[kernel];
  auto grid = static_cast<unsigned>(blocks),
       block = static_cast<unsigned>(threads);
  Result result;
  // Behind a kernel of this call alone: what others before it have stored is
  // complete when that one begins.
  if (order == follows && call.led && call.module->overlaps) {
    LaunchAttribute early{programmaticSerialization, 0, 1, {}};
    LaunchConfig config{{grid, 1, 1}, {block, 1, 1}, 0, call.stream, &early, 1};
    result = d.launchKernelEx(&config, function, arguments.data(), nullptr);
  } else {
    result = d.launchKernel(function, grid, 1, 1, block, 1, 1, 0, call.stream,
                            arguments.data(), nullptr);
  }
  call.led = order == leads;
  if (result)
    call.error = toString(d.failure("cuLaunchKernel(kernel_" + Twine(kernel) +
                                        ", " + Twine(blocks) + " x " +
                                        Twine(threads) + " threads)",
                                    result));
}

void *gs_gpu_workspace(int64_t bytes) {
  Call &call = *current;
  if (bytes > call.capacity)
    call.needed = bytes;
  return call.workspace;
}
