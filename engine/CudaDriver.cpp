//===- CudaDriver.cpp - the NVIDIA driver, opened at run time -------------===//

#include "engine/CudaDriver.h"

#include "llvm/ADT/Twine.h"

#include <dlfcn.h>

using namespace llvm;
using namespace gossamer::cuda;

namespace {

struct Opened {
  Driver driver;
  std::string error;
};

template <typename Fn>
bool find(void *library, const char *name, Fn *&function, std::string &error) {
  function = reinterpret_cast<Fn *>(dlsym(library, name));
  if (!function)
    error = std::string("the NVIDIA driver has no ") + name +
            "; it is older than CUDA 11";
  return function != nullptr;
}

Opened open() {
  Opened opened;
  // Never closed: kernels may be running until the process ends.
  void *library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
  if (!library) {
    opened.error = std::string("there is no NVIDIA driver: ") + dlerror();
    return opened;
  }
  Driver &d = opened.driver;
  auto get = [&](const char *name, auto *&function) {
    return find(library, name, function, opened.error);
  };
  if (!get("cuInit", d.init) ||
      !get("cuDriverGetVersion", d.driverGetVersion) ||
      !get("cuGetErrorName", d.getErrorName) ||
      !get("cuGetErrorString", d.getErrorString) ||
      !get("cuDeviceGet", d.deviceGet) ||
      !get("cuDeviceGetAttribute", d.deviceGetAttribute) ||
      !get("cuDevicePrimaryCtxRetain", d.primaryCtxRetain) ||
      !get("cuDevicePrimaryCtxRelease_v2", d.primaryCtxRelease) ||
      !get("cuCtxGetCurrent", d.ctxGetCurrent) ||
      !get("cuCtxPushCurrent_v2", d.ctxPushCurrent) ||
      !get("cuCtxPopCurrent_v2", d.ctxPopCurrent) ||
      !get("cuLinkCreate_v2", d.linkCreate) ||
      !get("cuLinkAddData_v2", d.linkAddData) ||
      !get("cuLinkComplete", d.linkComplete) ||
      !get("cuLinkDestroy", d.linkDestroy) ||
      !get("cuModuleLoadData", d.moduleLoadData) ||
      !get("cuModuleUnload", d.moduleUnload) ||
      !get("cuModuleGetFunction", d.moduleGetFunction) ||
      !get("cuFuncSetAttribute", d.funcSetAttribute) ||
      !get("cuStreamQuery", d.streamQuery) ||
      !get("cuLaunchKernel", d.launchKernel))
    return opened;
  std::string unused;
  find(library, "cuTensorMapEncodeTiled", d.tensorMapEncodeTiled, unused);
  d.launchKernelEx = reinterpret_cast<decltype(d.launchKernelEx)>(
      dlsym(library, "cuLaunchKernelEx"));
  if (Result result = d.init(0))
    opened.error = toString(d.failure("cuInit", result));
  return opened;
}

} // namespace

Error Driver::failure(const Twine &call, Result result) const {
  const char *name = nullptr, *text = nullptr;
  getErrorName(result, &name);
  getErrorString(result, &text);
  return createStringError(call + ": " + (name ? name : "an unknown error") +
                           ": " + (text ? text : ""));
}

Expected<const Driver *> gossamer::cuda::driver() {
  static const Opened opened = open();
  if (!opened.error.empty())
    return createStringError(opened.error);
  return &opened.driver;
}
