//===- TileMap.h - what programs know of a tensor ---------------*- C++ -*-===//

#ifndef GOSSAMER_ENGINE_TILEMAP_H
#define GOSSAMER_ENGINE_TILEMAP_H

#include "llvm/ADT/ArrayRef.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/raw_ostream.h"

#include <algorithm>
#include <cstdint>
#include <string>

namespace gossamer {

/// A tensor where the hardware has no maps of its own: on the processor, and on
/// GPUs other than Hopper (passes/tile/ampere/AmpereCopies.cpp reads its
/// words).
struct TileMap {
  char *address;
  int64_t elementBytes;
  int64_t sizes[4];   ///< batch, head, row, column
  int64_t strides[4]; ///< in bytes; columns lie side by side

  /// Fills one, from strides of elements; what is wrong, if anything is.
  static std::string fill(void *map, void *address, int64_t elementBytes,
                          const int64_t *sizes, const int64_t *strides) {
    TileMap &to = *static_cast<TileMap *>(map);
    to = {static_cast<char *>(address), elementBytes, {}, {}};
    std::copy_n(sizes, 4, to.sizes);
    for (int n = 0; n < 3; ++n)
      to.strides[n] = strides[n] * elementBytes;
    to.strides[3] = elementBytes;
    // As a GPU's driver has it.
    bool isAligned = reinterpret_cast<uintptr_t>(address) % 16 == 0;
    for (int n = 0; n < 3; ++n)
      isAligned &= to.strides[n] % 16 == 0 && to.strides[n] >= 0;
    if (isAligned)
      return {};
    std::string text;
    llvm::raw_string_ostream os(text);
    os << "a tensor of tile programs has an address and strides that are "
          "multiples of 16 bytes, not "
       << address << " and ";
    llvm::interleaveComma(llvm::ArrayRef(to.strides, 3), os);
    return text;
  }
};
static_assert(sizeof(TileMap) <= 128);

} // namespace gossamer

#endif // GOSSAMER_ENGINE_TILEMAP_H
