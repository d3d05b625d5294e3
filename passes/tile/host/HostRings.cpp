//===- HostRings.cpp - loads, rings, messages, turns on the host ----------===//

#include "passes/tile/host/HostProgram.h"

using namespace mlir;
using namespace gossamer::tile;

static constexpr int64_t halfBytes = 2;

void HostProgram::lowerRead(ReadOp op) {
  Value at = code.at(get(op.getMemory()), op.getType(),
                     code.widen(get(op.getIndex())));
  // Not moved, as on a GPU.
  set(op, {LLVM::LoadOp::create(b, loc, op.getType(), at, /*alignment=*/4,
                                /*isVolatile=*/true)});
}

void HostProgram::lowerNext(NextOp op) {
  Value last = code.add(get(op.getWrap()), code.i32(-1));
  set(op, {LLVM::AtomicRMWOp::create(b, loc, LLVM::AtomicBinOp::uinc_wrap,
                                     get(op.getCounter()), last,
                                     LLVM::AtomicOrdering::acq_rel)});
}

void HostProgram::lowerArrive(ArriveOp op) {
  Value final = code.add(get(op.getCount()), code.i32(-1));
  Value at = code.at(get(op.getCounters()), b.getI32Type(),
                     code.widen(get(op.getIndex())));
  Value before =
      LLVM::AtomicRMWOp::create(b, loc, LLVM::AtomicBinOp::uinc_wrap, at, final,
                                LLVM::AtomicOrdering::acq_rel);
  set(op,
      {arith::CmpIOp::create(b, loc, arith::CmpIPredicate::eq, before, final)});
}

//===----------------------------------------------------------------------===//
// Rings and queues
//===----------------------------------------------------------------------===//

Value HostProgram::callRing(StringRef function, Type result, Value ring,
                            Value number) {
  return code.call(function, result,
                   {self, code.i64(ringNumbers[ring]), get(number)});
}

void HostProgram::lowerLoad(LoadOp op) {
  auto ring = op.getRing().getType();
  Value stage =
      callRing("gs_tile_acquire", code.pointer, op.getRing(), op.getNumber());
  int64_t rows = op.getMap().getType().getRows();
  int64_t boxBytes = rows * ring.getColumns() * halfBytes;
  for (auto [n, row] : llvm::enumerate(op.getRows())) {
    Value to = code.at(stage, b.getI8Type(),
                       code.i64(static_cast<int64_t>(n) * boxBytes));
    auto [map, rowOfPart] = partOf(op.getMap(), row);
    code.call("gs_tile_load", code.nothing,
              {to, map, get(op.getBatch()), get(op.getHead()), rowOfPart,
               get(op.getColumn()), code.i64(rows),
               code.i64(ring.getColumns())});
  }
  callRing("gs_tile_publish", code.nothing, op.getRing(), op.getNumber());
}

void HostProgram::lowerLoadNumbers(LoadNumbersOp op) {
  auto series = op.getSeries().getType();
  Value stage =
      callRing("gs_tile_acquire", code.pointer, op.getSeries(), op.getNumber());
  Value from = code.at(get(op.getMemory()), f32, code.widen(get(op.getBase())));
  code.copy(from, stage, series.getRows() * series.getColumns() * 4);
  callRing("gs_tile_publish", code.nothing, op.getSeries(), op.getNumber());
}

void HostProgram::lowerColumns(ColumnsOp op) {
  Value stage =
      callRing("gs_tile_await", code.pointer, op.getSeries(), op.getNumber());
  int64_t columns = op.getSeries().getType().getColumns();
  for (auto [n, result] : llvm::enumerate(op.getResults()))
    set(result,
        {code.at(stage, f32, code.i64(static_cast<int64_t>(n) * columns))});
}

void HostProgram::lowerWait(WaitOp op) {
  set(op,
      {callRing("gs_tile_await", code.pointer, op.getRing(), op.getNumber())});
}

void HostProgram::lowerRelease(ReleaseOp op) {
  callRing("gs_tile_release", code.nothing, op.getRing(), op.getNumber());
}

void HostProgram::lowerSend(SendOp op) {
  Value slot =
      callRing("gs_tile_acquire", code.pointer, op.getQueue(), op.getNumber());
  for (auto [n, word] : llvm::enumerate(op.getWords()))
    code.store(get(word), slot, code.i64(static_cast<int64_t>(n)));
  callRing("gs_tile_publish", code.nothing, op.getQueue(), op.getNumber());
}

void HostProgram::lowerReceive(ReceiveOp op) {
  Value slot =
      callRing("gs_tile_await", code.pointer, op.getQueue(), op.getNumber());
  for (auto [n, word] : llvm::enumerate(op.getWords()))
    set(word,
        {code.load(slot, word.getType(), code.i64(static_cast<int64_t>(n)))});
  callRing("gs_tile_release", code.nothing, op.getQueue(), op.getNumber());
}

void HostProgram::lowerTurn(StringRef function) {
  code.call(function, code.nothing, {self, roleWarpgroup});
}

void HostProgram::lowerSubtile(SubtileOp op) {
  int64_t bytes = op.getSource().getType().getColumns() * halfBytes;
  Value offset = code.mul(code.widen(get(op.getRow())), bytes);
  set(op, {code.at(get(op.getSource()), b.getI8Type(), offset)});
}
