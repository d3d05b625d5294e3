//===- TileBlock.cpp - a thread block of a tile program -------------------===//
//
// Everything is counted, so that what a GPU would answer by waiting for ever,
// or by wrong numbers, is an error that says where: a ring that nobody fills, a
// tile that is taken twice, turns that do not match. A wait needs no time-out:
// nobody but the warpgroups of a block can end it, so when all of them wait,
// none ever will.
//
// What is in shared memory is overwritten by NaN when all have released it.
//
//===----------------------------------------------------------------------===//

#include "engine/TileBlock.h"

#include "llvm/ADT/StringExtras.h"
#include "llvm/ADT/Twine.h"
#include "llvm/Support/raw_ostream.h"

#include <algorithm>
#include <cstring>
#include <thread>

using namespace llvm;
using namespace gossamer::tiles;

/// Swizzled tiles begin at multiples of this on a GPU; here, vectors.
static constexpr size_t alignment = 64;

static char *alignedUp(char *memory) {
  auto address = reinterpret_cast<uintptr_t>(memory);
  return memory + (-address & (alignment - 1));
}

Program::Program(gs_tile_program run, StringRef text, const int64_t *words)
    : run(run), warpgroups(words[0]), consumers(words[1]),
      sharedBytes(words[2]), scratchBytes(words[3]) {
  SmallVector<StringRef> lines;
  text.split(lines, '\n');
  name = lines.front().str();
  for (int64_t n = 0; n < words[4]; ++n) {
    const int64_t *of = words + 5 + 3 * n;
    rings.push_back({lines[1 + n].str(), of[0], of[1], of[2]});
  }
}

Block::Block(const Program &program, int64_t number)
    : program(program), number(number),
      shared(new char[program.sharedBytes + alignment]),
      scratch(new char[program.warpgroups * program.scratchBytes + alignment]),
      waits(program.warpgroups), ended(program.warpgroups) {
  memset(shared.get(), 0xff, program.sharedBytes + alignment);
  Stage unused{0, std::vector<int64_t>(program.warpgroups)};
  for (const Program::Ring &ring : program.rings)
    rings.emplace_back(ring.stages, unused);
}

//===----------------------------------------------------------------------===//
// Threads
//===----------------------------------------------------------------------===//

std::string Block::run(void **arguments, int64_t blocks) {
  std::vector<std::thread> threads;
  for (int64_t n = 1; n < program.warpgroups; ++n)
    threads.emplace_back([=] { runWarpgroup(n, arguments, blocks); });
  runWarpgroup(0, arguments, blocks);
  for (std::thread &thread : threads)
    thread.join();
  return error;
}

void Block::runWarpgroup(int64_t warpgroup, void **arguments, int64_t blocks) {
  gs_tile_warpgroup self{this, warpgroup, {}};
  char *mine = alignedUp(scratch.get()) + warpgroup * program.scratchBytes;
  if (!setjmp(self.exit))
    program.run(&self, arguments, alignedUp(shared.get()), mine,
                static_cast<int32_t>(number), static_cast<int32_t>(blocks),
                static_cast<int32_t>(warpgroup));
  end(warpgroup);
}

void Block::end(int64_t warpgroup) {
  std::lock_guard<std::mutex> lock(mutex);
  ended[warpgroup] = true;
  // Those who wait find out whether anyone is left who could help them.
  changed.notify_all();
}

//===----------------------------------------------------------------------===//
// Waiting
//===----------------------------------------------------------------------===//

bool Block::holds(const Wait &wait) {
  switch (wait.kind) {
  case Wait::None:
    return true;
  case Wait::Free:
    return isFree(stageOf(wait.ring, wait.number),
                  roundOf(wait.ring, wait.number));
  case Wait::Full:
    return stageOf(wait.ring, wait.number).filled >
           roundOf(wait.ring, wait.number);
  case Wait::Turn:
    return given[wait.number] > taken[wait.number];
  }
  return true;
}

bool Block::isStuck() {
  for (auto [wait, isOver] : zip(waits, ended))
    if (!isOver && holds(wait))
      return false;
  return true;
}

bool Block::wait(std::unique_lock<std::mutex> &lock, int64_t warpgroup,
                 Wait what) {
  waits[warpgroup] = what;
  while (error.empty() && !holds(what)) {
    if (isStuck()) {
      std::string text = "waits for ever:";
      for (auto [n, wait] : enumerate(waits))
        text += (n ? "; warpgroup " : " warpgroup ") + std::to_string(n) +
                (ended[n] ? " has ended" : " waits for " + describe(wait));
      fail(-1, text);
      break;
    }
    changed.wait(lock);
  }
  waits[warpgroup] = Wait();
  return error.empty();
}

bool Block::fail(int64_t warpgroup, const Twine &text) {
  if (error.empty()) {
    raw_string_ostream os(error);
    os << "tile program @" << program.name << ", block " << number;
    if (warpgroup >= 0)
      os << ", warpgroup " << warpgroup;
    os << ' ' << text;
  }
  changed.notify_all();
  return false;
}

std::string Block::describe(const Wait &wait) const {
  if (wait.kind == Wait::Turn)
    return "its turn";
  if (wait.kind == Wait::Full)
    return tile(wait.ring, wait.number);
  const Stage &stage =
      rings[wait.ring][wait.number % program.rings[wait.ring].stages];
  std::string names;
  for (int64_t n = 0; n < program.warpgroups; ++n)
    if (program.isConsumer(n) &&
        stage.released[n] < roundOf(wait.ring, wait.number))
      names += (names.empty() ? "" : " and ") + std::to_string(n);
  return "the stage of " + tile(wait.ring, wait.number) + ", which warpgroup " +
         names + " has not released";
}

std::string Block::tile(int64_t ring, uint32_t number) const {
  return "number " + std::to_string(number) + " of " + program.rings[ring].name;
}

//===----------------------------------------------------------------------===//
// Rings
//===----------------------------------------------------------------------===//

Block::Stage &Block::stageOf(int64_t ring, uint32_t number) {
  return rings[ring][number % program.rings[ring].stages];
}

int64_t Block::roundOf(int64_t ring, uint32_t number) const {
  return number / program.rings[ring].stages;
}

bool Block::isFree(const Stage &stage, int64_t round) const {
  for (int64_t n = 0; n < program.warpgroups; ++n)
    if (program.isConsumer(n) && stage.released[n] < round)
      return false;
  return true;
}

char *Block::stage(int64_t ring, uint32_t number) {
  const Program::Ring &of = program.rings[ring];
  return alignedUp(shared.get()) + of.begin + number % of.stages * of.bytes;
}

bool Block::acquire(int64_t warpgroup, int64_t ring, uint32_t number) {
  std::unique_lock<std::mutex> lock(mutex);
  Stage &stage = stageOf(ring, number);
  int64_t round = roundOf(ring, number);
  if (stage.filled != round)
    return fail(warpgroup, "fills " + tile(ring, number) +
                               ", whose stage has " + "been filled " +
                               Twine(stage.filled) + " times, not " +
                               Twine(round));
  return wait(lock, warpgroup, {Wait::Free, ring, number});
}

void Block::publish(int64_t ring, uint32_t number) {
  std::lock_guard<std::mutex> lock(mutex);
  ++stageOf(ring, number).filled;
  changed.notify_all();
}

bool Block::await(int64_t warpgroup, int64_t ring, uint32_t number) {
  std::unique_lock<std::mutex> lock(mutex);
  if (stageOf(ring, number).released[warpgroup] > roundOf(ring, number))
    return fail(warpgroup,
                "takes " + tile(ring, number) + ", which it has released");
  return wait(lock, warpgroup, {Wait::Full, ring, number});
}

bool Block::release(int64_t warpgroup, int64_t ring, uint32_t number) {
  std::lock_guard<std::mutex> lock(mutex);
  Stage &stage = stageOf(ring, number);
  int64_t round = roundOf(ring, number);
  if (stage.filled <= round || stage.released[warpgroup] != round)
    return fail(warpgroup, "releases " + tile(ring, number) +
                               (stage.released[warpgroup] > round
                                    ? ", which it has released"
                                    : ", which is not there"));
  ++stage.released[warpgroup];
  if (isFree(stage, round + 1)) {
    memset(this->stage(ring, number), 0xff, program.rings[ring].bytes);
    changed.notify_all();
  }
  return true;
}

//===----------------------------------------------------------------------===//
// Turns
//===----------------------------------------------------------------------===//

bool Block::takeTurn(int64_t warpgroup, int64_t number) {
  std::unique_lock<std::mutex> lock(mutex);
  if (!wait(lock, warpgroup, {Wait::Turn, -1, static_cast<uint32_t>(number)}))
    return false;
  ++taken[number];
  return true;
}

bool Block::passTurn(int64_t warpgroup, int64_t number) {
  std::lock_guard<std::mutex> lock(mutex);
  int64_t other = 1 - number;
  // A barrier that is arrived at twice is not one that was arrived at once.
  if (given[other] > taken[other])
    return fail(warpgroup, "passes its turn to one that has a turn");
  ++given[other];
  changed.notify_all();
  return true;
}
