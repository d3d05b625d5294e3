//===- LowerBits.cpp - a bit for each element of a fragment ---------------===//
//
// A thread has columns 8 j + 2 (t mod 4) + {0, 1} of two rows. It keeps all
// bits of these rows, in words of 32 columns, shifted right by 2 (t mod 4):
// then the place of an element's bit is the same for all threads, and known
// here.
//
//===----------------------------------------------------------------------===//

#include "passes/tile/LowerProgram.h"

using namespace mlir;
using namespace gossamer::tile;

static constexpr int64_t wordBits = 32;

/// The word-th word of a row of a group of which nothing is read: its number
/// is -1 - n, and the first n columns are set.
Value ProgramLowering::bitsWithout(Value number, int64_t word) {
  Value columns = LLVM::XOrOp::create(b, loc, number, ptx.i32(-1));
  Value inWord = LLVM::SMaxOp::create(
      b, loc, ptx.add(columns, ptx.i32(-wordBits * word)), ptx.i32(0));
  Value some =
      ptx.add(LLVM::ShlOp::create(b, loc, ptx.i32(1), inWord), ptx.i32(-1));
  Value isWhole = LLVM::ICmpOp::create(b, loc, LLVM::ICmpPredicate::sge, inWord,
                                       ptx.i32(wordBits));
  return LLVM::SelectOp::create(b, loc, isWhole, ptx.i32(-1), some);
}

/// Words of one row of a group, all at once: one, two or four.
Registers ProgramLowering::loadBitsOfRow(Value memory, Value number, Value row,
                                         ValueRange without) {
  int64_t words = without.size();
  Value index = LLVM::SExtOp::create(
      b, loc, b.getI64Type(), ptx.add(number, ptx.mul(row, ptx.i32(words))));
  Value at = LLVM::GEPOp::create(b, loc, memory.getType(), b.getI32Type(),
                                 memory, ArrayRef<LLVM::GEPArg>{index});
  std::string to, outputs, tied;
  for (int64_t w = 0; w < words; ++w) {
    to += (w ? ", $" : "$") + std::to_string(w);
    outputs += "=r,";
    tied += std::to_string(w) + ",";
  }
  if (words > 1)
    to = "{" + to + "}";
  std::string vector = words > 1 ? ".v" + std::to_string(words) : "";
  SmallVector<Value> operands(without);
  operands.append({at, number});
  return ptx.assembly("{ .reg .pred p; setp.ge.s32 p, $" +
                          std::to_string(2 * words + 1) + ", 0; @p ld.global" +
                          vector + ".b32 " + to + ", [$" +
                          std::to_string(2 * words) + "]; }",
                      outputs + tied + "l,r", operands,
                      SmallVector<Type>(words, b.getI32Type()));
}

void ProgramLowering::lowerLoadBits(LoadBitsOp op) {
  int64_t columns = op.getResult().getType().getColumns();
  int64_t groupColumns = columns / static_cast<int64_t>(op.getGroups().size());
  int64_t groupWords = llvm::divideCeil(groupColumns, wordBits);
  Value memory = get(op.getMemory());
  Value firstRow = ptx.add(ptx.shiftLeft(warp, 4), ptx.shiftRight(lane, 2));
  Value shift = ptx.shiftLeft(ptx.bitAnd(lane, 3), 1);

  SmallVector<Registers> without;
  for (Value number : op.getGroups()) {
    Registers &words = without.emplace_back();
    for (int64_t w = 0; w < groupWords; ++w)
      words.push_back(bitsWithout(get(number), w));
  }
  Registers words;
  for (int64_t row : {0, 8}) {
    Value rowNumber = ptx.add(firstRow, ptx.i32(row));
    for (auto [number, otherwise] : llvm::zip(op.getGroups(), without))
      llvm::append_range(
          words, loadBitsOfRow(memory, get(number), rowNumber, otherwise));
  }
  if (groupColumns < wordBits) { // two halves make a word
    Registers whole;
    for (size_t w = 0; w < words.size(); w += 2) {
      Value low = ptx.bitAnd(words[w], 0xffff);
      Value high = ptx.shiftLeft(words[w + 1], 16);
      whole.push_back(LLVM::OrOp::create(b, loc, low, high));
    }
    words = std::move(whole);
  }
  for (Value &word : words)
    word = LLVM::LShrOp::create(b, loc, word, shift);
  set(op, std::move(words));
}

Value ProgramLowering::bitOf(Value bits, int64_t element) {
  ArrayRef<Value> words = all(bits);
  int64_t row = element / 2 % 2, column = element / 4 * 8 + element % 2;
  Value word = words[row * (words.size() / 2) + column / wordBits];
  Value bit = ptx.bitAnd(word, int64_t(1) << column % wordBits);
  return LLVM::ICmpOp::create(b, loc, LLVM::ICmpPredicate::ne, bit, ptx.i32(0));
}
