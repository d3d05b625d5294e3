//===- HostFragments.cpp - fragments, rows, stores on the host ------------===//

#include "passes/tile/host/HostProgram.h"

#include "llvm/ADT/TypeSwitch.h"

using namespace mlir;
using namespace gossamer::tile;

void HostProgram::forEach(Extent extent,
                          llvm::function_ref<void(Value, Value, Value)> body) {
  code.loop(extent.rows, 1, [&](Value row) {
    if (extent.columns == 1)
      return body(row, code.i64(0), row);
    Value begin = code.mul(row, extent.columns);
    code.loop(extent.columns, 1, [&](Value column) {
      body(row, column, code.add(begin, column));
    });
  });
}

void HostProgram::lowerSplat(SplatOp op) {
  Value to = place(op);
  forEach(*extentOf(op.getType()), [&](Value, Value, Value index) {
    code.store(get(op.getValue()), to, index);
  });
}

Value HostProgram::element(Value tile, Value row, Value column, Value index) {
  return llvm::TypeSwitch<Type, Value>(tile.getType())
      .Case([&](RowsType) { return code.load(place(tile), f32, row); })
      .Case([&](ColumnsType) { return code.load(get(tile), f32, column); })
      .Case([&](BitsType) -> Value {
        Value bit = code.load(place(tile), b.getI32Type(), index);
        return arith::CmpIOp::create(b, loc, arith::CmpIPredicate::ne, bit,
                                     code.i32(0));
      })
      .Default([&](Type) { return code.load(place(tile), f32, index); });
}

void HostProgram::lowerElementwise(ElementwiseOp op) {
  Block &block = op.getBody().front();
  size_t numInputs = op.getInputs().size();
  Value to = place(op);
  forEach(*extentOf(op.getType()), [&](Value row, Value column, Value index) {
    IRMapping mapping;
    for (auto [operand, argument] :
         llvm::zip(op.getInputs(), block.getArguments()))
      mapping.map(argument, element(operand, row, column, index));
    mapping.map(block.getArgument(numInputs), code.narrow(row));
    mapping.map(block.getArgument(numInputs + 1), code.narrow(column));
    for (Operation &inner : block.without_terminator()) {
      for (Value operand : inner.getOperands())
        if (operand.getParentBlock() != &block)
          mapping.map(operand, get(operand));
      if (auto lookUp = dyn_cast<LookUpOp>(inner)) {
        Value number = code.widen(mapping.lookup(lookUp.getIndex()));
        mapping.map(lookUp.getResult(),
                    code.load(mapping.lookup(lookUp.getTable()),
                              lookUp.getType(), number));
      } else {
        b.clone(inner, mapping);
      }
    }
    Value result = block.getTerminator()->getOperand(0);
    code.store(result.getParentBlock() == &block ? mapping.lookup(result)
                                                 : get(result),
               to, index);
  });
}

void HostProgram::lowerReduce(ReduceOp op) {
  int64_t columns = op.getSource().getType().getColumns();
  Value from = place(op.getSource()), to = place(op);
  auto combined = [&](Value x, Value y) -> Value {
    if (op.getKind() == Combining::Max)
      return LLVM::MaxNumOp::create(b, loc, x, y);
    // A GPU adds in another order, too.
    return LLVM::FAddOp::create(b, loc, x, y, LLVM::FastmathFlags::reassoc);
  };
  code.loop(64, 1, [&](Value row) {
    Value begin = code.mul(row, columns);
    Value first = code.load(from, f32, begin);
    if (op.getInit())
      first = combined(code.load(place(op.getInit()), f32, row), first);
    HostCode::Values whole =
        code.fold(1, columns, first,
                  [&](Value column, ValueRange sofar) -> HostCode::Values {
                    Value next = code.load(from, f32, code.add(begin, column));
                    return {combined(sofar[0], next)};
                  });
    code.store(whole[0], to, row);
  });
}

Value HostProgram::rounded(Value x, Type half) {
  return arith::TruncFOp::create(b, loc, half, x);
}

void HostProgram::lowerToOperand(ToOperandOp op) {
  Value from = place(op.getSource()), to = place(op);
  Type half = op.getResult().getType().getElementType();
  forEach(*extentOf(op.getType()), [&](Value, Value, Value index) {
    Value value = rounded(code.load(from, f32, index), half);
    code.store(arith::ExtFOp::create(b, loc, f32, value), to, index);
  });
}

void HostProgram::lowerStore(StoreOp op) {
  auto scratch = op.getScratch().getType();
  Value from = place(op.getValue()), by = get(op.getScratch());
  auto [map, row] = partOf(op.getMap(), op.getRow());
  int64_t all = op.getValue().getType().getColumns();
  int64_t columns = scratch.getColumns();
  for (int64_t first = 0; first < all; first += columns) {
    Extent part{scratch.getRows(), columns};
    forEach(part, [&](Value line, Value column, Value index) {
      Value at =
          code.add(code.mul(line, all), code.add(column, code.i64(first)));
      Value x = code.load(from, f32, at);
      code.store(rounded(x, scratch.getElementType()), by, index);
    });
    Value column = code.add(code.widen(get(op.getColumn())), code.i64(first));
    code.call("gs_tile_store", code.nothing,
              {by, map, get(op.getBatch()), get(op.getHead()), row,
               code.narrow(column), code.i64(part.rows), code.i64(columns)});
  }
}

void HostProgram::forRows(Value base, Value limit, Extent extent, int64_t span,
                          llvm::function_ref<void(Value, Value)> body) {
  Value end =
      arith::MinSIOp::create(b, loc, code.widen(limit), code.i64(extent.rows));
  code.loop(end, 1, [&](Value row) {
    Value place = arith::DivUIOp::create(b, loc, row, code.i64(span));
    Value first = code.mul(code.add(code.widen(base), place), extent.columns);
    if (extent.columns == 1)
      return body(first, row);
    Value begin = code.mul(row, extent.columns);
    code.loop(extent.columns, 1, [&](Value column) {
      body(code.add(first, column), code.add(begin, column));
    });
  });
}

void HostProgram::lowerLoadRows(LoadRowsOp op) {
  Value to = place(op), memory = get(op.getMemory());
  Extent extent = *extentOf(op.getType());
  forEach(extent, [&](Value, Value, Value index) {
    code.store(get(op.getOtherwise()), to, index);
  });
  forRows(get(op.getBase()), get(op.getLimit()), extent, op.getSpan(),
          [&](Value from, Value index) {
            code.store(code.load(memory, f32, from), to, index);
          });
}

void HostProgram::lowerStoreRows(StoreRowsOp op) {
  Value from = place(op.getValue()), memory = get(op.getMemory());
  Type element = op.getMemory().getType().getElementType();
  forRows(get(op.getBase()), get(op.getLimit()),
          *extentOf(op.getValue().getType()), op.getSpan(),
          [&](Value to, Value index) {
            Value value = code.load(from, f32, index);
            code.store(element.isF32() ? value : rounded(value, element),
                       memory, to);
          });
}

void HostProgram::lowerLoadBits(LoadBitsOp op) {
  Type i32 = b.getI32Type();
  int64_t columns = op.getResult().getType().getColumns();
  int64_t groupColumns = columns / static_cast<int64_t>(op.getGroups().size());
  int64_t words = llvm::divideCeil(groupColumns, 32);
  Value to = place(op), memory = get(op.getMemory());
  for (auto [g, group] : llvm::enumerate(op.getGroups())) {
    // Below 0 it is -1 - n, for n columns that are set, and what is read (of
    // the first bitmap) does not count.
    Value number = get(group);
    Value isStored = arith::CmpIOp::create(b, loc, arith::CmpIPredicate::sge,
                                           number, code.i32(0));
    Value first = code.widen(
        arith::SelectOp::create(b, loc, isStored, number, code.i32(0)));
    Value set = arith::XOrIOp::create(b, loc, number, code.i32(-1));
    Value begin = code.i64(static_cast<int64_t>(g) * groupColumns);
    forEach({64, groupColumns}, [&](Value row, Value column, Value) {
      Value word =
          code.add(code.add(first, code.mul(row, words)),
                   arith::ShRUIOp::create(b, loc, column, code.i64(5)));
      Value place =
          arith::AndIOp::create(b, loc, code.narrow(column), code.i32(31));
      Value stored = arith::AndIOp::create(
          b, loc,
          arith::ShRUIOp::create(b, loc, code.load(memory, i32, word), place),
          code.i32(1));
      Value isBefore = arith::CmpIOp::create(b, loc, arith::CmpIPredicate::slt,
                                             code.narrow(column), set);
      Value otherwise = arith::ExtUIOp::create(b, loc, i32, isBefore);
      Value index = code.add(code.mul(row, columns), code.add(begin, column));
      code.store(arith::SelectOp::create(b, loc, isStored, stored, otherwise),
                 to, index);
    });
  }
}
