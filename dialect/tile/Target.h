//===- Target.h - GPUs that tile programs are made for ----------*- C++ -*-===//

#ifndef GOSSAMER_DIALECT_TILE_TARGET_H
#define GOSSAMER_DIALECT_TILE_TARGET_H

#include "llvm/ADT/StringRef.h"

#include <algorithm>
#include <optional>

namespace gossamer::tile {

/// What a program may count on.
struct Target {
  /// TMA, wgmma, and registers that move between roles: sm_90a. Others have
  /// cp.async and mma.sync.
  bool isHopper;
  /// What a thread block can have; a multiprocessor has 1 KB more.
  int64_t sharedBytes;

  /// That of a chip as LLVM names it; none for those older than sm_80.
  static std::optional<Target> of(llvm::StringRef chip);

  /// What each of so many thread blocks of a multiprocessor can have: the
  /// driver takes 1 KB for each of them.
  int64_t sharedBytesOf(int64_t blocks) const {
    return (sharedBytes + 1024) / blocks - 1024;
  }

  /// The registers of a thread, of so many warps of a multiprocessor: these are
  /// spread over four parts, of which each has a quarter of the registers.
  static int64_t registersOf(int64_t warps) {
    return std::min<int64_t>(512 / ((warps + 3) / 4) / 8 * 8, 248);
  }
};

} // namespace gossamer::tile

#endif // GOSSAMER_DIALECT_TILE_TARGET_H
