//===- Memory.cpp - temporaries of kernels, kept for the next call --------===//
//
// Memory that is fresh from the system costs a page fault each 4 KiB, about as
// much as a pass over it. A kernel's large temporaries are of the same sizes at
// every call, so a few are kept. Small ones are what malloc is good at.
//
//===----------------------------------------------------------------------===//

#include "engine/Memory.h"

#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <new>
#include <vector>

namespace {

/// Where a block of memory begins; what a kernel gets lies behind it, aligned
/// as the block is.
struct Header {
  size_t capacity;
};
constexpr size_t kAlignment = 64;
static_assert(sizeof(Header) <= kAlignment);

constexpr size_t kLarge = size_t(64) << 10;
/// Bytes that are kept in all, at most.
constexpr size_t kKeptBytes = size_t(256) << 20;

struct Kept {
  std::mutex mutex;
  std::vector<Header *> blocks;
  size_t bytes = 0;
};

/// Never destroyed: a kernel on another thread may outlive static objects.
Kept &kept() {
  static Kept &kept = *new Kept();
  return kept;
}

/// The smallest block that is kept, fits, and is not much too large; or null.
Header *takeKept(size_t size) {
  // Not waited for: in a child of fork() the thread that holds it is not there.
  std::unique_lock lock(kept().mutex, std::try_to_lock);
  if (!lock)
    return nullptr;
  auto &blocks = kept().blocks;
  size_t best = blocks.size();
  for (size_t n = 0; n < blocks.size(); ++n)
    if (blocks[n]->capacity >= size && blocks[n]->capacity <= size + size / 4 &&
        (best == blocks.size() || blocks[n]->capacity < blocks[best]->capacity))
      best = n;
  if (best == blocks.size())
    return nullptr;
  Header *block = blocks[best];
  blocks[best] = blocks.back();
  blocks.pop_back();
  kept().bytes -= block->capacity;
  return block;
}

bool keep(Header *block) {
  std::unique_lock lock(kept().mutex, std::try_to_lock);
  if (!lock || kept().bytes + block->capacity > kKeptBytes)
    return false;
  kept().blocks.push_back(block);
  kept().bytes += block->capacity;
  return true;
}

/// A kernel has no way to return without its memory.
[[noreturn]] void giveUp(size_t size) {
  fprintf(stderr, "gossamer: a kernel is out of memory (%zu bytes wanted)\n",
          size);
  abort();
}

} // namespace

void *gossamer::allocateTemporary(size_t /*alignment*/, size_t size) {
  if (size > SIZE_MAX - 2 * kAlignment)
    giveUp(size);
  size_t capacity = (size + kAlignment - 1) / kAlignment * kAlignment;
  Header *block = capacity >= kLarge ? takeKept(capacity) : nullptr;
  if (!block) {
    void *memory = aligned_alloc(kAlignment, capacity + kAlignment);
    if (!memory)
      giveUp(size);
    block = new (memory) Header{capacity};
  }
  return reinterpret_cast<char *>(block) + kAlignment;
}

void gossamer::freeTemporary(void *memory) {
  if (!memory)
    return;
  auto *block =
      reinterpret_cast<Header *>(static_cast<char *>(memory) - kAlignment);
  if (block->capacity < kLarge || !keep(block))
    free(block);
}
