//===- AmpereCopies.cpp - between global memory and tiles -----------------===//
//
// A warp copies a box by cp.async, 16 bytes a lane: lane l has chunk l mod 8 of
// rows l / 8 and l / 8 + 4 of each eight, so that eight lanes read a line of
// 128 bytes. What lies outside of the tensor is written as 0 without being
// read.
//
//===----------------------------------------------------------------------===//

#include "passes/tile/ampere/AmpereProgram.h"

using namespace mlir;
using namespace gossamer::tile;

static constexpr int64_t chunkBytes = 16, chunkColumns = 8;

/// The words of a map: address, bytes of an element, sizes, strides.
static constexpr int32_t addressWord = 0, rowsWord = 4, columnsWord = 5,
                         stridesWord = 6;

AmpereProgram::Tensor AmpereProgram::tensorOf(Value map) {
  auto word = [&](int32_t at) -> Value {
    Value place = LLVM::GEPOp::create(b, loc, map.getType(), b.getI64Type(),
                                      map, ArrayRef<LLVM::GEPArg>{at});
    return LLVM::LoadOp::create(b, loc, b.getI64Type(), place);
  };
  auto narrow = [&](Value x) -> Value {
    return LLVM::TruncOp::create(b, loc, b.getI32Type(), x);
  };
  Tensor tensor{
      word(addressWord), narrow(word(rowsWord)), narrow(word(columnsWord)), {}};
  for (int32_t n = 0; n < 3; ++n)
    tensor.strides[n] = word(stridesWord + n);
  return tensor;
}

Value AmpereProgram::rowAddress(const Tensor &tensor, Value batch, Value head,
                                Value row, Value column) {
  Value at = tensor.address, numbers[] = {batch, head, row};
  for (auto [number, stride] : llvm::zip(numbers, tensor.strides)) {
    Value wide = LLVM::SExtOp::create(b, loc, b.getI64Type(), number);
    at = ptx.add(at, ptx.mul(wide, stride));
  }
  Value bytes =
      LLVM::SExtOp::create(b, loc, b.getI64Type(), ptx.shiftLeft(column, 1));
  return ptx.add(at, bytes);
}

Value AmpereProgram::isBelow(Value x, Value bound) {
  return LLVM::ICmpOp::create(b, loc, LLVM::ICmpPredicate::ult, x, bound);
}

/// As the addresses of all rounds take more registers than there are.
static void keepRolled(scf::ForOp loop) {
  MLIRContext *context = loop.getContext();
  auto unroll = LLVM::LoopUnrollAttr::get(
      context, /*disable=*/BoolAttr::get(context, true), {}, {}, {}, {}, {},
      {});
  loop->setAttr("loop_annotation", LLVM::LoopAnnotationAttr::get(
                                       context, {}, {}, {}, unroll, {}, {}, {},
                                       {}, {}, {}, {}, {}, {}, {}, {}));
}

void AmpereProgram::lowerLoad(LoadOp op) {
  const Place &place = places[op.getRing()];
  auto ring = op.getRing().getType();
  Value n = get(op.getNumber());
  waitFor(place.empty, place, n, /*toBeFree=*/true);
  joinWarp();
  Value slot = slotAddress(place.data, place.stageBytes, place.stages, n);
  int64_t boxRows = op.getMap().getType().getRows();
  int64_t panelBytes = ring.getRows() * lineBytes;

  Value inEight = ptx.shiftRight(lane, 3), chunk = ptx.bitAnd(lane, 7);
  Value column = ptx.add(get(op.getColumn()), ptx.shiftLeft(chunk, 3));
  // Chunk c of row r is at c xor (r mod 8); that of row r + 4 four on or back.
  Value line = ptx.shiftLeft(inEight, 7);
  line = ptx.add(line, ptx.shiftLeft(ptx.bitXor(chunk, inEight), 4));

  for (auto [g, firstRow] : llvm::enumerate(op.getRows())) {
    auto [map, rowOfPart] = partOf(op.getMap(), firstRow);
    Tensor tensor = tensorOf(map);
    Value fourRows = LLVM::ShlOp::create(b, loc, tensor.strides[2], ptx.i64(2));
    Registers columnsIn;
    for (int64_t c = 0; c < ring.getColumns(); c += panelColumns)
      columnsIn.push_back(isBelow(ptx.add(column, ptx.i32(c)), tensor.columns));
    Value row = ptx.add(rowOfPart, inEight);
    Value from =
        rowAddress(tensor, get(op.getBatch()), get(op.getHead()), row, column);
    int64_t box = static_cast<int64_t>(g) * boxRows * lineBytes;
    Value to = ptx.add(ptx.add(slot, line), ptx.i32(box));
    auto loop = scf::ForOp::create(b, loc, ptx.i32(0), ptx.i32(boxRows / 8),
                                   ptx.i32(1), ValueRange{from, row, to});
    keepRolled(loop);
    OpBuilder::InsertionGuard guard(b);
    b.setInsertionPointToStart(loop.getBody());
    from = loop.getRegionIterArg(0);
    row = loop.getRegionIterArg(1);
    to = loop.getRegionIterArg(2);
    Value next = ptx.add(to, ptx.i32(8 * lineBytes));
    for (int half = 0; half < 2; ++half) {
      Value rowIn = isBelow(row, tensor.rows);
      for (auto [panel, columnIn] : llvm::enumerate(columnsIn)) {
        int64_t p = static_cast<int64_t>(panel);
        Value isIn = LLVM::AndOp::create(b, loc, rowIn, columnIn);
        Value bytes = LLVM::SelectOp::create(b, loc, isIn, ptx.i32(chunkBytes),
                                             ptx.i32(0));
        ptx.copyAsync(ptx.add(to, ptx.i32(p * panelBytes)),
                      ptx.add(from, ptx.i64(p * lineBytes)), bytes);
      }
      from = ptx.add(from, fourRows);
      row = ptx.add(row, ptx.i32(4));
      to = ptx.add(ptx.bitXor(to, ptx.i32(4 * chunkBytes)),
                   ptx.i32(4 * lineBytes));
    }
    scf::YieldOp::create(b, loc, ValueRange{from, row, next});
  }
  ptx.arriveCopied(slotAddress(place.full, 8, place.stages, n));
}

void AmpereProgram::lowerLoadNumbers(LoadNumbersOp op) {
  const Place &place = places[op.getSeries()];
  Value n = get(op.getNumber());
  waitFor(place.empty, place, n, /*toBeFree=*/true);
  joinWarp();
  Value inWarp = ptx.shiftLeft(lane, 4);
  Value memory = get(op.getMemory());
  Value base = LLVM::SExtOp::create(b, loc, b.getI64Type(), get(op.getBase()));
  Value first = LLVM::GEPOp::create(b, loc, memory.getType(), b.getF32Type(),
                                    memory, ArrayRef<LLVM::GEPArg>{base});
  Value from = LLVM::PtrToIntOp::create(b, loc, b.getI64Type(), first);
  from = ptx.add(from, ptx.widen(inWarp));
  Value to = slotAddress(place.data, place.stageBytes, place.stages, n);
  to = ptx.add(to, inWarp);
  for (int64_t at = 0; at < place.stageBytes; at += 32 * chunkBytes) {
    OpBuilder::InsertionGuard guard(b);
    if (place.stageBytes - at < 32 * chunkBytes) { // not for all lanes
      auto some = scf::IfOp::create(
          b, loc, isBelow(inWarp, ptx.i32(place.stageBytes - at)),
          /*withElseRegion=*/false);
      b.setInsertionPoint(some.thenBlock()->getTerminator());
    }
    ptx.copyAsync(ptx.add(to, ptx.i32(at)), ptx.add(from, ptx.i64(at)),
                  ptx.i32(chunkBytes));
  }
  ptx.arriveCopied(slotAddress(place.full, 8, place.stages, n));
}

/// Four words of each lane of a quad: afterwards lane t has the t-th word of
/// lanes 0 to 3.
Registers AmpereProgram::transposeInQuads(Value inQuad, Registers words) {
  for (int64_t mask : {1, 2}) {
    Value isUpper = LLVM::ICmpOp::create(b, loc, LLVM::ICmpPredicate::ne,
                                         ptx.bitAnd(inQuad, mask), ptx.i32(0));
    for (int64_t low = 0; low < 4; ++low) {
      if (low & mask)
        continue;
      Value &x = words[low], &y = words[low | mask];
      Value given = LLVM::SelectOp::create(b, loc, isUpper, x, y);
      Value taken = ptx.shuffleXor(given, mask);
      x = LLVM::SelectOp::create(b, loc, isUpper, taken, x);
      y = LLVM::SelectOp::create(b, loc, isUpper, y, taken);
    }
  }
  return words;
}

/// A quad has four pairs of columns of each row, of four chunks; transposed, a
/// chunk each, and 64 bytes side by side.
void AmpereProgram::lowerStore(StoreOp op) {
  Type element = op.getScratch().getType().getElementType();
  ArrayRef<Value> values = all(op.getValue());
  auto [map, firstOfAll] = partOf(op.getMap(), op.getRow());
  Tensor tensor = tensorOf(map);
  // Of the thread's number as it is read here, so that no register keeps what
  // follows from it all through the loops before.
  Value thread = ptx.threadNumber();
  Value inQuad = ptx.bitAnd(thread, 3);
  Value inWarp = ptx.shiftRight(ptx.bitAnd(thread, 31), 2);
  Value firstRow = ptx.add(
      ptx.shiftLeft(ptx.bitAnd(ptx.shiftRight(thread, 5), 3), 4), inWarp);
  int64_t columns = op.getValue().getType().getColumns();
  for (int64_t half = 0; half < 2; ++half) {
    Value row = ptx.add(ptx.add(firstOfAll, firstRow), ptx.i32(8 * half));
    Value column = ptx.add(get(op.getColumn()), ptx.shiftLeft(inQuad, 3));
    Value to =
        rowAddress(tensor, get(op.getBatch()), get(op.getHead()), row, column);
    Value rowIn = isBelow(row, tensor.rows);
    for (int64_t c = 0; c < columns; c += 4 * chunkColumns) {
      Registers words;
      for (int64_t chunk = 0; chunk < 4; ++chunk) {
        int64_t pair = (c / chunkColumns + chunk) * 4 + 2 * half;
        words.push_back(ptx.pack(values[pair], values[pair + 1], element));
      }
      Value columnIn = isBelow(ptx.add(column, ptx.i32(c)), tensor.columns);
      Value isIn = LLVM::AndOp::create(b, loc, rowIn, columnIn);
      ptx.storeWords(ptx.add(to, ptx.i64(2 * c)),
                     transposeInQuads(inQuad, words), isIn);
    }
  }
}
