//===- LowerRows.cpp - rows between registers and global memory -----------===//
//
// A thread has rows lane / 4 and lane / 4 + 8 of its warp's 16, and of each of
// them pairs of columns, 8 j + 2 (lane mod 4). Nothing is done for a row that
// is none of the first `limit`.
//
//===----------------------------------------------------------------------===//

#include "passes/tile/LowerProgram.h"

using namespace mlir;
using namespace gossamer::tile;

/// Where a type is stored, an element.
static int64_t bytesOf(Type element) {
  return element.getIntOrFloatBitWidth() / 8;
}

ProgramLowering::RowPlace ProgramLowering::rowPlace(Value memory, Type element,
                                                    Value base, Value limit,
                                                    int64_t n, int64_t span,
                                                    int64_t columns) {
  Value firstRow = ptx.add(ptx.shiftLeft(warp, 4), ptx.shiftRight(lane, 2));
  Value row = ptx.add(firstRow, ptx.i32(8 * n));
  Value inside =
      LLVM::ICmpOp::create(b, loc, LLVM::ICmpPredicate::slt, row, limit);
  if (span > 1)
    row = ptx.shiftRight(row, llvm::Log2_64(span));
  Value index =
      LLVM::SExtOp::create(b, loc, b.getI64Type(), ptx.add(base, row));
  if (columns > 1) {
    index = ptx.mul(index, ptx.i64(columns));
    Value pair = ptx.shiftLeft(ptx.bitAnd(lane, 3), 1);
    index = ptx.add(index, ptx.widen(pair));
  }
  Value at = LLVM::GEPOp::create(b, loc, memory.getType(), element, memory,
                                 ArrayRef<LLVM::GEPArg>{index});
  return {at, inside};
}

void ProgramLowering::lowerLoadRows(LoadRowsOp op) {
  auto fragment = dyn_cast<FragmentType>(op.getResult().getType());
  int64_t columns = fragment ? fragment.getColumns() : 1;
  Type f32 = b.getF32Type();
  Value otherwise = get(op.getOtherwise());
  Registers numbers(fragment ? columns / 2 : 2);
  for (int64_t n = 0; n < 2; ++n) {
    RowPlace row = rowPlace(get(op.getMemory()), f32, get(op.getBase()),
                            get(op.getLimit()), n, op.getSpan(), columns);
    Value word = LLVM::ZExtOp::create(b, loc, b.getI32Type(), row.inside);
    if (!fragment) {
      numbers[n] = ptx.assembly("{ .reg .pred p; setp.ne.b32 p, $2, 0; "
                                "mov.b32 $0, $3; @p ld.global.f32 $0, [$1]; }",
                                "=&f,l,r,f", {row.at, word, otherwise}, f32)
                       .front();
      continue;
    }
    for (int64_t c = 0; c < columns; c += 8) {
      Registers pair =
          ptx.assembly("{ .reg .pred p; setp.ne.b32 p, $3, 0; mov.b32 $0, $4; "
                       "mov.b32 $1, $4; @p ld.global.v2.f32 {$0, $1}, [$2 + " +
                           Twine(c * bytesOf(f32)) + "]; }",
                       "=&f,=&f,l,r,f", {row.at, word, otherwise}, {f32, f32});
      numbers[c / 2 + 2 * n] = pair[0];
      numbers[c / 2 + 2 * n + 1] = pair[1];
    }
  }
  set(op, std::move(numbers));
}

void ProgramLowering::lowerStoreRows(StoreRowsOp op) {
  auto fragment = dyn_cast<FragmentType>(op.getValue().getType());
  int64_t columns = fragment ? fragment.getColumns() : 1;
  Type element = op.getMemory().getType().getElementType();
  ArrayRef<Value> values = all(op.getValue());
  for (int64_t n = 0; n < 2; ++n) {
    RowPlace row = rowPlace(get(op.getMemory()), element, get(op.getBase()),
                            get(op.getLimit()), n, op.getSpan(), columns);
    if (!fragment) {
      // Four lanes have the same row; one of them stores it.
      Value stores = LLVM::AndOp::create(
          b, loc, ptx.equals(ptx.bitAnd(lane, 3), 0), row.inside);
      Value word = LLVM::ZExtOp::create(b, loc, b.getI32Type(), stores);
      ptx.assembly("{ .reg .pred p; setp.ne.b32 p, $2, 0; "
                   "@p st.global.f32 [$0], $1; }",
                   "l,f,r,~{memory}", {row.at, values[n], word}, {});
      continue;
    }
    Value word = LLVM::ZExtOp::create(b, loc, b.getI32Type(), row.inside);
    for (int64_t c = 0; c < columns; c += 8) {
      Value low = values[c / 2 + 2 * n], high = values[c / 2 + 2 * n + 1];
      std::string to = " [$0 + " + std::to_string(c * bytesOf(element)) + "], ";
      std::string begin = "{ .reg .pred p; setp.ne.b32 p, $1, 0; @p st.global";
      if (element.isF32())
        ptx.assembly(begin + ".v2.f32" + to + "{$2, $3}; }",
                     "l,r,f,f,~{memory}", {row.at, word, low, high}, {});
      else
        ptx.assembly(begin + ".b32" + to + "$2; }", "l,r,r,~{memory}",
                     {row.at, word, ptx.pack(low, high, element)}, {});
    }
  }
}

/// Fences on both sides of the count: what this thread has stored is seen by
/// those that count later, and what others have stored before they counted by
/// this one.
void ProgramLowering::lowerArrive(ArriveOp op) {
  auto fence = [&] { ptx.assembly("fence.acq_rel.gpu;", "~{memory}", {}, {}); };
  Value barrier = ptx.add(roleWarpgroup, ptx.i32(stagingBarrier));
  Value index =
      LLVM::SExtOp::create(b, loc, b.getI64Type(), get(op.getIndex()));
  Value counters = get(op.getCounters());
  Value at = LLVM::GEPOp::create(b, loc, counters.getType(), b.getI32Type(),
                                 counters, ArrayRef<LLVM::GEPArg>{index});
  Value final = ptx.add(get(op.getCount()), ptx.i32(-1));
  Value counts = LLVM::ZExtOp::create(b, loc, b.getI32Type(), isElected);
  fence();
  ptx.namedBarrier("sync", barrier, 128);
  // One thread counts, and tells the others.
  Value last = ptx.assembly("{ .reg .pred counts, last; .reg .b32 before; "
                            "setp.ne.b32 counts, $3, 0; mov.b32 before, $2; "
                            "@counts atom.global.inc.u32 before, [$1], $2; "
                            "setp.eq.and.u32 last, before, $2, counts; "
                            "bar.red.or.pred last, $4, 128, last; "
                            "selp.b32 $0, 1, 0, last; }",
                            "=r,l,r,r,r,~{memory}",
                            {at, final, counts, barrier}, b.getI32Type())
                   .front();
  fence();
  set(op, {LLVM::ICmpOp::create(b, loc, LLVM::ICmpPredicate::ne, last,
                                ptx.i32(0))});
}
