//===- TileHost.cpp - tile programs on the processor ----------------------===//
//
// What compiled entries and programs call: launches, tensors, and the messages
// of a thread block (TileBlock.cpp). A program that cannot go on leaves by
// longjmp: compiled code has nothing to clean up.
//
//===----------------------------------------------------------------------===//

#include "engine/TileBlock.h"
#include "engine/TileMap.h"

#include <algorithm>
#include <atomic>
#include <climits>
#include <cstring>
#include <thread>

using namespace llvm;
using namespace gossamer::tiles;
using gossamer::TileMap;

namespace {

/// The call of gs_tile_run that a thread is in.
struct Call {
  std::string error;
};
thread_local Call *current = nullptr;

/// Of rows and columns that a box has, those that the tensor has.
struct Part {
  char *memory;
  int64_t firstRow, rows, firstColumn, columns;
};

Part partOf(const TileMap &map, int64_t batch, int64_t head, int64_t row,
            int64_t column, int64_t rows, int64_t columns) {
  auto isIn = [&](int64_t at, int dimension) {
    return at >= 0 && at < map.sizes[dimension];
  };
  auto cut = [](int64_t at, int64_t length, int64_t size) {
    int64_t first = std::clamp<int64_t>(-at, 0, length);
    int64_t end = std::clamp<int64_t>(size - at, first, length);
    return std::pair(first, end - first);
  };
  if (!isIn(batch, 0) || !isIn(head, 1))
    return {};
  auto [firstRow, height] = cut(row, rows, map.sizes[2]);
  auto [firstColumn, width] = cut(column, columns, map.sizes[3]);
  char *memory = map.address + batch * map.strides[0] + head * map.strides[1] +
                 (row + firstRow) * map.strides[2] +
                 (column + firstColumn) * map.elementBytes;
  return {memory, firstRow, height, firstColumn, width};
}

/// Gives up if a message says so.
void *orLeave(gs_tile_warpgroup *self, bool goesOn, void *result = nullptr) {
  if (!goesOn)
    longjmp(self->exit, 1);
  return result;
}

} // namespace

int gs_tile_run(gs_entry entry, int64_t *packed, char **error) {
  Call call, *before = current;
  current = &call;
  entry(packed);
  current = before;
  if (call.error.empty())
    return GS_OK;
  *error = strdup(call.error.c_str());
  return GS_ERROR;
}

void gs_tile_map(void *map, void *address, int64_t element_bytes,
                 const int64_t *sizes, const int64_t *strides) {
  std::string wrong =
      TileMap::fill(map, address, element_bytes, sizes, strides);
  if (current->error.empty())
    current->error = std::move(wrong);
}

int64_t gs_tile_resident(void) {
  // Two at least, so that blocks run side by side everywhere.
  return std::max<int64_t>(2, std::thread::hardware_concurrency() / 2);
}

void gs_tile_launch(gs_tile_program run, const char *text, const int64_t *words,
                    int64_t blocks, void **arguments) {
  if (blocks <= 0 || !current->error.empty())
    return;
  Program program(run, text, words);
  if (blocks > INT_MAX) {
    current->error = "tile program @" + program.name + " would need " +
                     std::to_string(blocks) +
                     " blocks, more than a grid may have";
    return;
  }
  std::atomic<int64_t> next = 0;
  std::mutex mutex;
  std::string error;
  auto work = [&] {
    for (int64_t n; (n = next++) < blocks;) {
      std::string what = Block(program, n).run(arguments, blocks);
      std::lock_guard<std::mutex> lock(mutex);
      if (error.empty())
        error = what;
      if (!error.empty())
        return;
    }
  };
  std::vector<std::thread> threads;
  for (int64_t n = 1, end = std::min(blocks, gs_tile_resident()); n < end; ++n)
    threads.emplace_back(work);
  work();
  for (std::thread &thread : threads)
    thread.join();
  current->error = error;
}

void *gs_tile_acquire(gs_tile_warpgroup *self, int64_t ring, int32_t number) {
  return orLeave(self, self->block->acquire(self->number, ring, number),
                 self->block->stage(ring, number));
}

void gs_tile_publish(gs_tile_warpgroup *self, int64_t ring, int32_t number) {
  self->block->publish(ring, number);
}

void *gs_tile_await(gs_tile_warpgroup *self, int64_t ring, int32_t number) {
  return orLeave(self, self->block->await(self->number, ring, number),
                 self->block->stage(ring, number));
}

void gs_tile_release(gs_tile_warpgroup *self, int64_t ring, int32_t number) {
  orLeave(self, self->block->release(self->number, ring, number));
}

void gs_tile_take_turn(gs_tile_warpgroup *self, int32_t number) {
  orLeave(self, self->block->takeTurn(self->number, number));
}

void gs_tile_pass_turn(gs_tile_warpgroup *self, int32_t number) {
  orLeave(self, self->block->passTurn(self->number, number));
}

void gs_tile_load(void *to, const void *map, int32_t batch, int32_t head,
                  int32_t row, int32_t column, int64_t rows, int64_t columns) {
  const TileMap &from = *static_cast<const TileMap *>(map);
  Part part = partOf(from, batch, head, row, column, rows, columns);
  int64_t line = columns * from.elementBytes;
  memset(to, 0, rows * line);
  for (int64_t r = 0; r < part.rows; ++r)
    memcpy(static_cast<char *>(to) + (part.firstRow + r) * line +
               part.firstColumn * from.elementBytes,
           part.memory + r * from.strides[2], part.columns * from.elementBytes);
}

void gs_tile_store(const void *from, const void *map, int32_t batch,
                   int32_t head, int32_t row, int32_t column, int64_t rows,
                   int64_t columns) {
  const TileMap &to = *static_cast<const TileMap *>(map);
  Part part = partOf(to, batch, head, row, column, rows, columns);
  int64_t line = columns * to.elementBytes;
  for (int64_t r = 0; r < part.rows; ++r)
    memcpy(part.memory + r * to.strides[2],
           static_cast<const char *>(from) + (part.firstRow + r) * line +
               part.firstColumn * to.elementBytes,
           part.columns * to.elementBytes);
}
