//===- LowerRings.cpp - loads, rings, messages, turns ---------------------===//
//
// Tile n of a ring is in slot n mod stages, the (n / stages)-th to be there:
// the parity of that is what mbarriers are asked for.
//
//===----------------------------------------------------------------------===//

#include "passes/tile/LowerProgram.h"

using namespace mlir;
using namespace gossamer::tile;

/// Named barriers: 0 is the whole block's; turns have 2 and 3, staging 4 on.
static constexpr int64_t turnBarrier = 2;

Value ProgramLowering::address(int64_t offset) {
  return ptx.add(shared, ptx.i32(offset));
}

Value ProgramLowering::slotAddress(int64_t offset, int64_t bytes,
                                   int64_t stages, Value n) {
  Value slot = LLVM::URemOp::create(b, loc, n, ptx.i32(stages));
  return ptx.add(address(offset), ptx.mul(slot, ptx.i32(bytes)));
}

Value ProgramLowering::parity(int64_t stages, Value n) {
  Value round = LLVM::UDivOp::create(b, loc, n, ptx.i32(stages));
  return ptx.bitAnd(round, 1);
}

void ProgramLowering::waitFor(int64_t barriers, const Place &place, Value n,
                              bool toBeFree) {
  Value phase = parity(place.stages, n);
  // A stage that was never used is free: the phase before the first has ended.
  if (toBeFree)
    phase = ptx.bitXor(phase, ptx.i32(1));
  waitBarrier(slotAddress(barriers, 8, place.stages, n), phase);
}

void ProgramLowering::waitBarrier(Value barrier, Value parity) {
  ptx.waitBarrier(barrier, parity);
}

void ProgramLowering::lowerRead(ReadOp op) {
  Value index =
      LLVM::SExtOp::create(b, loc, b.getI64Type(), get(op.getIndex()));
  Value memory = get(op.getMemory());
  Value at = LLVM::GEPOp::create(b, loc, memory.getType(), b.getI32Type(),
                                 memory, ArrayRef<LLVM::GEPArg>{index});
  set(op, ptx.assembly("ld.global.b32 $0, [$1];", "=r,l", at, op.getType()));
}

void ProgramLowering::lowerNext(NextOp op) {
  Value last = ptx.add(get(op.getWrap()), ptx.i32(-1));
  set(op, ptx.assembly("atom.global.inc.u32 $0, [$1], $2;", "=r,l,r,~{memory}",
                       {get(op.getCounter()), last}, op.getType()));
}

void ProgramLowering::lowerLoad(LoadOp op) {
  const Place &place = places[op.getRing()];
  auto ring = op.getRing().getType();
  Value n = get(op.getNumber());
  waitFor(place.empty, place, n, /*toBeFree=*/true);
  Value barrier = slotAddress(place.full, 8, place.stages, n);
  ptx.arriveExpecting(barrier, ring.getRows() * ring.getColumns() * 2);
  Value slot = slotAddress(place.data, place.stageBytes, place.stages, n);
  int64_t boxRows = op.getMap().getType().getRows();
  int64_t panelBytes = ring.getRows() * lineBytes;
  for (auto [g, row] : llvm::enumerate(op.getRows())) {
    auto [map, rowOfPart] = partOf(op.getMap(), row);
    for (int64_t c = 0; c < ring.getColumns(); c += panelColumns) {
      int64_t offset = c / panelColumns * panelBytes +
                       static_cast<int64_t>(g) * boxRows * lineBytes;
      Value column = ptx.add(get(op.getColumn()), ptx.i32(c));
      ptx.loadBox(ptx.add(slot, ptx.i32(offset)), map,
                  {column, rowOfPart, get(op.getHead()), get(op.getBatch())},
                  barrier);
    }
  }
}

void ProgramLowering::lowerLoadNumbers(LoadNumbersOp op) {
  const Place &place = places[op.getSeries()];
  Value n = get(op.getNumber());
  waitFor(place.empty, place, n, /*toBeFree=*/true);
  Value barrier = slotAddress(place.full, 8, place.stages, n);
  ptx.arriveExpecting(barrier, place.stageBytes);
  Value base = LLVM::SExtOp::create(b, loc, b.getI64Type(), get(op.getBase()));
  Value memory = get(op.getMemory());
  Value from = LLVM::GEPOp::create(b, loc, memory.getType(), b.getF32Type(),
                                   memory, ArrayRef<LLVM::GEPArg>{base});
  ptx.loadBytes(slotAddress(place.data, place.stageBytes, place.stages, n),
                from, place.stageBytes, barrier);
}

/// The address of this thread's first pair: of columns 8 j + 2 (lane mod 4) and
/// the one behind it, the j-th is 32 j bytes on. They are loaded where they are
/// used, since registers are short.
void ProgramLowering::lowerColumns(ColumnsOp op) {
  const Place &place = places[op.getSeries()];
  int64_t columns = op.getSeries().getType().getColumns();
  Value n = get(op.getNumber());
  waitFor(place.full, place, n, /*toBeFree=*/false);
  Value slot = slotAddress(place.data, place.stageBytes, place.stages, n);
  Value first = ptx.add(slot, ptx.shiftLeft(ptx.bitAnd(lane, 3), 3));
  for (auto [s, result] : llvm::enumerate(op.getResults()))
    set(result,
        {ptx.add(first, ptx.i32(static_cast<int64_t>(s) * columns * 4))});
}

void ProgramLowering::lowerWait(WaitOp op) {
  const Place &place = places[op.getRing()];
  Value n = get(op.getNumber());
  waitFor(place.full, place, n, /*toBeFree=*/false);
  set(op, {slotAddress(place.data, place.stageBytes, place.stages, n)});
}

void ProgramLowering::lowerRelease(ReleaseOp op) {
  const Place &place = places[op.getRing()];
  // Products and matrix loads are of whole warps, and over; numbers every lane
  // has read for itself.
  if (isa<SeriesType>(op.getRing().getType())) {
    ptx.fenceAsync();
    ptx.assembly("bar.warp.sync 0xffffffff;", "~{memory}", {}, {});
  }
  ptx.arrive(slotAddress(place.empty, 8, place.stages, get(op.getNumber())),
             isFirstLane);
}

void ProgramLowering::lowerSend(SendOp op) {
  const Place &place = places[op.getQueue()];
  Value n = get(op.getNumber());
  waitFor(place.empty, place, n, /*toBeFree=*/true);
  Value slot = slotAddress(place.data, place.stageBytes, place.stages, n);
  for (auto [w, word] : llvm::enumerate(op.getWords()))
    ptx.assembly("st.shared.b32 [$0], $1;", "r,r,~{memory}",
                 {ptx.add(slot, ptx.i32(4 * w)), get(word)}, {});
  ptx.assembly("mbarrier.arrive.shared::cta.b64 _, [$0];", "r,~{memory}",
               slotAddress(place.full, 8, place.stages, n), {});
}

void ProgramLowering::lowerReceive(ReceiveOp op) {
  const Place &place = places[op.getQueue()];
  Value n = get(op.getNumber());
  waitFor(place.full, place, n, /*toBeFree=*/false);
  Value slot = slotAddress(place.data, place.stageBytes, place.stages, n);
  for (auto [w, word] : llvm::enumerate(op.getWords()))
    // Volatile, so that all are read before the slot is given back.
    set(word, ptx.assembly("ld.volatile.shared.b32 $0, [$1];", "=r,r,~{memory}",
                           ptx.add(slot, ptx.i32(4 * w)), word.getType()));
  ptx.assembly("bar.warp.sync 0xffffffff;", "~{memory}", {}, {});
  ptx.arrive(slotAddress(place.empty, 8, place.stages, n), isFirstLane);
}

void ProgramLowering::lowerTurn(bool take) {
  // Both warpgroups meet at a barrier of the one whose turn it is to be.
  if (take)
    return ptx.namedBarrier("sync",
                            ptx.add(roleWarpgroup, ptx.i32(turnBarrier)), 256);
  Value other = ptx.bitXor(roleWarpgroup, ptx.i32(1));
  ptx.namedBarrier("arrive", ptx.add(other, ptx.i32(turnBarrier)), 256);
}
