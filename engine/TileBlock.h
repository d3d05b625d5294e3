//===- TileBlock.h - a thread block of a tile program -----------*- C++ -*-===//
//
// What the warpgroups of a thread block tell one another: which tiles are in
// which ring, and whose turn it is. Each warpgroup is a thread.
//
//===----------------------------------------------------------------------===//

#ifndef GOSSAMER_ENGINE_TILEBLOCK_H
#define GOSSAMER_ENGINE_TILEBLOCK_H

#include "engine/include/gossamer-c.h"

#include "llvm/ADT/ArrayRef.h"
#include "llvm/ADT/StringRef.h"

#include <condition_variable>
#include <csetjmp>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

namespace gossamer::tiles {

/// What gs_tile_launch is told of a program.
struct Program {
  Program(gs_tile_program run, llvm::StringRef text, const int64_t *words);

  struct Ring {
    std::string name;
    int64_t begin, bytes, stages;
  };

  gs_tile_program run;
  std::string name;
  int64_t warpgroups, consumers, sharedBytes, scratchBytes;
  std::vector<Ring> rings;

  bool isConsumer(int64_t warpgroup) const {
    return consumers >> warpgroup & 1;
  }
};

class Block {
public:
  Block(const Program &program, int64_t number);

  /// Runs all warpgroups to their ends; what went wrong, or nothing.
  std::string run(void **arguments, int64_t blocks);

  // Of the thread of a warpgroup. False: the block cannot go on, and so the
  // thread must end.
  bool acquire(int64_t warpgroup, int64_t ring, uint32_t number);
  bool await(int64_t warpgroup, int64_t ring, uint32_t number);
  bool release(int64_t warpgroup, int64_t ring, uint32_t number);
  bool takeTurn(int64_t warpgroup, int64_t number);
  bool passTurn(int64_t warpgroup, int64_t number);

  void publish(int64_t ring, uint32_t number);

  char *stage(int64_t ring, uint32_t number);

private:
  /// Counts of what has happened to a stage.
  struct Stage {
    int64_t filled = 0;
    std::vector<int64_t> released; // by each warpgroup
  };
  /// What a warpgroup waits for; `ring` -1: for turn number `number`.
  struct Wait {
    enum Kind { None, Free, Full, Turn } kind = None;
    int64_t ring = 0;
    uint32_t number = 0;
  };

  Stage &stageOf(int64_t ring, uint32_t number);
  int64_t roundOf(int64_t ring, uint32_t number) const;
  /// Whether all consumers have given a stage back so often.
  bool isFree(const Stage &stage, int64_t round) const;
  bool holds(const Wait &wait);
  bool wait(std::unique_lock<std::mutex> &lock, int64_t warpgroup, Wait what);
  /// Nobody runs, and nothing that somebody waits for can happen any more.
  bool isStuck();
  bool fail(int64_t warpgroup, const llvm::Twine &text);
  std::string describe(const Wait &wait) const;
  std::string tile(int64_t ring, uint32_t number) const;
  void runWarpgroup(int64_t warpgroup, void **arguments, int64_t blocks);
  void end(int64_t warpgroup);

  const Program &program;
  int64_t number;
  std::unique_ptr<char[]> shared, scratch;
  std::mutex mutex;
  std::condition_variable changed;
  std::vector<std::vector<Stage>> rings;
  std::vector<Wait> waits; // of each warpgroup
  std::vector<bool> ended;
  int64_t given[2] = {1, 0}, taken[2] = {0, 0}; // turns
  std::string error;
};

} // namespace gossamer::tiles

/// Of the thread of a warpgroup: what programs hand on to the runtime.
struct gs_tile_warpgroup {
  gossamer::tiles::Block *block;
  int64_t number;
  jmp_buf exit; ///< out of the program, which has nothing to clean up
};

#endif // GOSSAMER_ENGINE_TILEBLOCK_H
