/* A libcuda.so.1 that runs nothing: it remembers what was called, and fails
   where $FAKE_CUDA says ("cuLaunchKernel=701"). Built by test_cuda_driver.py.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char calls[1 << 16];

/* What was called since this was last asked. */
const char *fake_calls(void) {
  static char last[sizeof calls];
  strcpy(last, calls);
  calls[0] = 0;
  return last;
}

static int result(const char *call) {
  const char *wanted = getenv("FAKE_CUDA");
  size_t length = strlen(call);
  strcat(strcat(calls, call), " ");
  if (wanted && !strncmp(wanted, call, length) && wanted[length] == '=')
    return atoi(wanted + length + 1);
  return 0;
}

int cuInit(unsigned flags) { return result("cuInit"); }
int cuDriverGetVersion(int *version) {
  *version = 11040;
  return result("cuDriverGetVersion");
}
int cuGetErrorName(int error, const char **name) {
  static char text[32];
  snprintf(text, sizeof text, "ERROR_%d", error);
  *name = text;
  return 0;
}
int cuGetErrorString(int error, const char **text) {
  *text = "what it means";
  return 0;
}
int cuDeviceGet(int *device, int number) {
  *device = number;
  return number < 2 ? result("cuDeviceGet") : 101;
}
int cuDeviceGetAttribute(int *value, int attribute, int device) {
  /* 9.0, and 7.5; as many multiprocessors as an H200 */
  *value = attribute == 16   ? 132
           : attribute == 75 ? (device ? 7 : 9)
                             : (device ? 5 : 0);
  return result("cuDeviceGetAttribute");
}
int cuDevicePrimaryCtxRetain(void **context, int device) {
  *context = &cuInit;
  return result("cuDevicePrimaryCtxRetain");
}
int cuDevicePrimaryCtxRelease_v2(int device) {
  return result("cuDevicePrimaryCtxRelease");
}
int cuCtxGetCurrent(void **context) {
  *context = 0;
  return 0;
}
int cuCtxPushCurrent_v2(void *context) { return result("cuCtxPushCurrent"); }
int cuCtxPopCurrent_v2(void **context) { return result("cuCtxPopCurrent"); }
int cuLinkCreate_v2(unsigned count, int *options, void **values, void **state) {
  for (unsigned n = 0; n < count; ++n)
    if (options[n] == 5) /* the error log */
      strcpy(values[n], "ptxas: line 7: a bad instruction");
  return result("cuLinkCreate");
}
#ifndef OLD
int cuLinkAddData_v2(void *state, int type, void *data, size_t size,
                     const char *name, unsigned count, int *options,
                     void **values) {
  return result("cuLinkAddData");
}
#endif
int cuLinkComplete(void *state, void **image, size_t *size) {
  *image = "machine code";
  *size = 12;
  return result("cuLinkComplete");
}
int cuLinkDestroy(void *state) { return result("cuLinkDestroy"); }
int cuModuleLoadData(void **module, const void *image) {
  return result("cuModuleLoadData");
}
int cuModuleUnload(void *module) { return result("cuModuleUnload"); }
int cuModuleGetFunction(void **function, void *module, const char *name) {
  return result("cuModuleGetFunction");
}
int cuFuncSetAttribute(void *function, int attribute, int value) {
  return result("cuFuncSetAttribute");
}
int cuStreamQuery(void *stream) { return result("cuStreamQuery"); }
#ifndef BEFORE_12
int cuTensorMapEncodeTiled(void *map, int type, unsigned rank, void *address,
                           const unsigned long *sizes,
                           const unsigned long *strides, const unsigned *box,
                           const unsigned *steps, int interleave, int swizzle,
                           int promotion, int fill) {
  char text[128];
  snprintf(text, sizeof text, "map:%d:%lu,%lu,%lu,%lu:%lu,%lu,%lu:%u,%u", type,
           sizes[0], sizes[1], sizes[2], sizes[3], strides[0], strides[1],
           strides[2], box[0], box[1]);
  result(text);
  return result("cuTensorMapEncodeTiled");
}
#endif
int cuLaunchKernel(void *function, unsigned x, unsigned y, unsigned z,
                   unsigned threads, unsigned ty, unsigned tz, unsigned shared,
                   void *stream, void **arguments, void **extra) {
  if (shared) { /* a tile program */
    char text[64];
    snprintf(text, sizeof text, "grid:%u:%u:%u", x, threads, shared);
    result(text);
  }
  return result("cuLaunchKernel");
}
