//===- CudaPrograms.cpp - what entries of tile programs call --------------===//
//
// Tile programs read tensors through tensor maps, use more shared memory than
// kernels may without being asked, and have arguments other than words.
//
//===----------------------------------------------------------------------===//

#include "engine/CudaCall.h"
#include "engine/TileMap.h"
#include "engine/include/gossamer-c.h"

#include "llvm/ADT/StringExtras.h"
#include "llvm/ADT/Twine.h"

#include <climits>
#include <cstring>

using namespace llvm;
using namespace gossamer::cuda;

/// Bytes of a line of a tile in shared memory, as wide as a swizzle.
static constexpr unsigned lineBytes = 128, elementBytes = 2;

/// What no kernel has to be asked for.
static constexpr int64_t plainSharedBytes = 48 * 1024;

void gs_gpu_tensor_map(void *map, void *address, int64_t is_bfloat16,
                       const int64_t *sizes, const int64_t *strides,
                       int64_t rows) {
  Call &call = *current;
  if (call.isOver())
    return;
  const Driver &d = *call.module->driver;
  if (!d.tensorMapEncodeTiled) {
    call.error = "the NVIDIA driver has no cuTensorMapEncodeTiled; it is older "
                 "than CUDA 12";
    return;
  }
  // Innermost first.
  uint64_t extents[4], bytes[3];
  for (int n = 0; n < 4; ++n)
    extents[n] = static_cast<uint64_t>(sizes[3 - n]);
  for (int n = 0; n < 3; ++n)
    bytes[n] = static_cast<uint64_t>(strides[2 - n]) * elementBytes;
  unsigned box[4] = {lineBytes / elementBytes, static_cast<unsigned>(rows), 1,
                     1};
  unsigned steps[4] = {1, 1, 1, 1};
  Result result = d.tensorMapEncodeTiled(
      map, is_bfloat16 ? tensorMapBFloat16 : tensorMapFloat16, 4, address,
      extents, bytes, box, steps, /*interleave=*/0, tensorMapSwizzle128,
      tensorMapPromotion256, /*fill=*/0);
  if (!result)
    return;
  std::string text;
  raw_string_ostream os(text);
  os << "cuTensorMapEncodeTiled(" << address << ", sizes ";
  interleaveComma(ArrayRef(sizes, 4), os);
  os << ", strides ";
  interleaveComma(ArrayRef(strides, 3), os);
  os << ", " << rows << " rows)";
  call.error = toString(d.failure(text, result));
}

void gs_gpu_tile_map(void *map, void *address, const int64_t *sizes,
                     const int64_t *strides) {
  Call &call = *current;
  std::string wrong =
      gossamer::TileMap::fill(map, address, elementBytes, sizes, strides);
  // Copies are of 16 bytes, and nothing is cut off.
  constexpr int64_t copied = 16 / elementBytes;
  if (wrong.empty() && sizes[3] % copied)
    wrong = "a tensor of tile programs has a multiple of " +
            std::to_string(copied) + " columns on GPUs without tensor maps, " +
            "not " + std::to_string(sizes[3]);
  if (!call.isOver())
    call.error = std::move(wrong);
}

int64_t gs_gpu_processors(void) {
  Call &call = *current;
  int count = 0;
  const Driver &d = *call.module->driver;
  if (Result result = d.deviceGetAttribute(&count, multiprocessorCount,
                                           call.module->device))
    call.error = toString(d.failure("cuDeviceGetAttribute", result));
  return count;
}

void gs_gpu_launch_program(int64_t kernel, int64_t blocks, int64_t threads,
                           int64_t shared_bytes, void **arguments) {
  Call &call = *current;
  if (blocks <= 0 || call.isOver())
    return;
  const Driver &d = *call.module->driver;
  Function function = call.module->kernels[kernel];
  if (blocks > INT_MAX) {
    call.error = "kernel_" + std::to_string(kernel) + " would need " +
                 std::to_string(blocks) + " blocks, more than a grid may have";
    return;
  }
  if (shared_bytes > plainSharedBytes)
    if (Result result = d.funcSetAttribute(function, maxDynamicSharedBytes,
                                           static_cast<int>(shared_bytes))) {
      call.error = toString(
          d.failure("cuFuncSetAttribute(kernel_" + Twine(kernel) + ", " +
                        Twine(shared_bytes) + " bytes of shared memory)",
                    result));
      return;
    }
  call.led = false;
  if (Result result = d.launchKernel(function, static_cast<unsigned>(blocks), 1,
                                     1, static_cast<unsigned>(threads), 1, 1,
                                     static_cast<unsigned>(shared_bytes),
                                     call.stream, arguments, nullptr))
    call.error = toString(d.failure("cuLaunchKernel(kernel_" + Twine(kernel) +
                                        ", " + Twine(blocks) + " x " +
                                        Twine(threads) + " threads)",
                                    result));
}
