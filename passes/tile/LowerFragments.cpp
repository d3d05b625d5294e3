//===- LowerFragments.cpp - products, fragments, stores -------------------===//

#include "passes/tile/LowerProgram.h"

#include "llvm/ADT/StringExtras.h"
#include "llvm/ADT/TypeSwitch.h"

using namespace mlir;
using namespace gossamer::tile;

/// Which of the two rows of a thread its register is of.
static int64_t rowOf(int64_t n) { return n / 2 % 2; }

//===----------------------------------------------------------------------===//
// Products
//===----------------------------------------------------------------------===//

/// A matrix descriptor of wgmma: 16-byte units; eight rows are 1024 bytes on,
/// the next 64 columns of a right side that is not transposed `leading`.
Value ProgramLowering::descriptor(Value at, int64_t leading) {
  uint64_t fixed = uint64_t(1) << 62 | uint64_t(1024 / 16) << 32 |
                   uint64_t(leading / 16) << 16;
  Value start = ptx.widen(ptx.shiftRight(ptx.bitAnd(at, 0x3ffff), 4));
  return LLVM::OrOp::create(b, loc, start, ptx.i64(fixed));
}

static std::string operandRange(int64_t first, int64_t count) {
  std::string text = "{";
  for (int64_t n = first; n < first + count; ++n)
    text += (n > first ? ", $" : "$") + std::to_string(n);
  return text + "}";
}

static std::string tied(int64_t count) {
  std::string text;
  for (int64_t n = 0; n < count; ++n)
    text += "," + std::to_string(n);
  return text;
}

static std::string repeated(StringRef constraint, int64_t count) {
  std::string text;
  for (int64_t n = 0; n < count; ++n)
    text += (n ? "," : "") + constraint.str();
  return text;
}

/// One block of assembly, so that nothing comes between the fence, the steps of
/// 16 along K, and the commit.
void ProgramLowering::lowerMma(MmaOp op) {
  auto rhs = op.getRhs().getType();
  auto lhs = dyn_cast<SharedType>(op.getLhs().getType());
  bool transposed = op.getTransposed();
  int64_t n = op.getResult().getType().getColumns(), results = n / 2;
  int64_t depth = transposed ? rhs.getColumns() : rhs.getRows();
  int64_t rhsPanel = rhs.getPanel() * lineBytes;

  Registers operands;
  std::string constraints = repeated("=f", results);
  if (op.getAccumulator()) {
    append(op.getAccumulator(), operands);
    constraints += tied(results);
  }
  int64_t left = results + operands.size();
  if (lhs) {
    operands.push_back(descriptor(get(op.getLhs()), /*leading=*/16));
    constraints += ",l";
  } else {
    append(op.getLhs(), operands);
    constraints += "," + repeated("r", depth / 4);
  }
  int64_t right = results + operands.size();
  operands.push_back(descriptor(get(op.getRhs()), transposed ? 16 : rhsPanel));
  constraints += ",l";

  std::string half = rhs.getElementType().isBF16() ? "bf16" : "f16";
  std::string text = "{ .reg .b64 da, db; wgmma.fence.sync.aligned; ";
  // 16 columns are 32 bytes of a line, 16 rows 2048 bytes.
  auto alongLine = [](int64_t step, int64_t panelBytes) {
    return step % 4 * 2 + step / 4 * (panelBytes / 16);
  };
  for (int64_t step = 0; step < depth / 16; ++step) {
    std::string a = operandRange(left + 4 * step, 4);
    if (lhs) {
      a = "da";
      text += "add.s64 da, $" + std::to_string(left) + ", " +
              std::to_string(alongLine(step, lhs.getPanel() * lineBytes)) +
              "; ";
    }
    int64_t offset =
        transposed ? alongLine(step, rhsPanel) : step * (2048 / 16);
    text += "add.s64 db, $" + std::to_string(right) + ", " +
            std::to_string(offset) + "; ";
    bool accumulates = step > 0 || op.getAccumulator();
    text += "wgmma.mma_async.sync.aligned.m64n" + std::to_string(n) +
            "k16.f32." + half + "." + half + " " + operandRange(0, results) +
            ", " + a + ", db, " + (accumulates ? "1" : "0") + ", 1, 1" +
            (lhs ? ", 0" : "") + (transposed ? ", 0; " : ", 1; ");
  }
  text += "wgmma.commit_group.sync.aligned; }";
  set(op, ptx.assembly(text, constraints, operands,
                       SmallVector<Type>(results, b.getF32Type())));
}

void ProgramLowering::lowerAwait(AwaitOp op) {
  // Products end in order: those begun after this one may go on.
  int64_t later = 0;
  Operation *product = op.getPending().getDefiningOp();
  for (Operation *at = product->getNextNode(); at != op; at = at->getNextNode())
    later += isa<MmaOp>(at);
  ArrayRef<Value> values = all(op.getPending());
  int64_t count = values.size();
  // The wait owns the registers, or LLVM would read them before it.
  set(op, ptx.assembly("wgmma.wait_group.sync.aligned " + Twine(later) + ";",
                       repeated("=f", count) + tied(count), Registers(values),
                       SmallVector<Type>(count, b.getF32Type())));
}

//===----------------------------------------------------------------------===//
// Fragments
//===----------------------------------------------------------------------===//

void ProgramLowering::lowerSplat(SplatOp op) {
  set(op, Registers(typesOf(op.getType()).size(), get(op.getValue())));
}

Value ProgramLowering::scalar(Operation &op, ValueRange operands) {
  auto reciprocal = [&](arith::DivFOp division) -> Value {
    Value inverse = ptx.unary("rcp.approx.ftz.f32", operands[1]);
    return ptx.times(operands[0], inverse);
  };
  return llvm::TypeSwitch<Operation *, Value>(&op)
      .Case([&](math::Exp2Op) {
        return ptx.unary("ex2.approx.ftz.f32", operands[0]);
      })
      .Case([&](math::Log2Op) {
        return ptx.unary("lg2.approx.ftz.f32", operands[0]);
      })
      .Case([&](math::TanhOp) {
        return ptx.unary("tanh.approx.f32", operands[0]);
      })
      .Case([&](math::SqrtOp) {
        return ptx.unary("sqrt.approx.ftz.f32", operands[0]);
      })
      .Case([&](math::AbsFOp) {
        return LLVM::FAbsOp::create(b, loc, operands[0]);
      })
      .Case([&](LookUpOp lookUp) {
        Value at = LLVM::GEPOp::create(b, loc, operands[0].getType(),
                                       lookUp.getType(), operands[0],
                                       ArrayRef<LLVM::GEPArg>{operands[1]});
        return LLVM::LoadOp::create(b, loc, lookUp.getType(), at,
                                    /*alignment=*/4, /*isVolatile=*/false,
                                    /*isNonTemporal=*/false,
                                    /*isInvariant=*/true);
      })
      .Case([&](math::FmaOp) {
        return LLVM::FMAOp::create(b, loc, operands[0], operands[1],
                                   operands[2]);
      })
      .Case([&](arith::MaxNumFOp) {
        return ptx.maximum(operands[0], operands[1]);
      })
      .Case([&](arith::MinNumFOp) {
        return ptx.minimum(operands[0], operands[1]);
      })
      .Case([&](arith::DivFOp division) -> Value {
        bool approximate = bitEnumContainsAll(division.getFastmath(),
                                              arith::FastMathFlags::arcp);
        return approximate
                   ? reciprocal(division)
                   : LLVM::FDivOp::create(b, loc, operands[0], operands[1]);
      })
      .Default([&](Operation *other) -> Value {
        if (!isa<arith::ArithDialect>(other->getDialect()))
          return {};
        IRMapping mapping;
        for (auto [from, to] : llvm::zip(other->getOperands(), operands))
          mapping.map(from, to);
        return b.clone(*other, mapping)->getResult(0);
      });
}

LogicalResult ProgramLowering::lowerElementwise(ElementwiseOp op) {
  Block &block = op.getBody().front();
  int64_t numInputs = op.getInputs().size();
  bool isFragment = isa<FragmentType>(op.getType());
  Value rowArgument = block.getArgument(numInputs),
        columnArgument = block.getArgument(numInputs + 1);
  Value firstRow, firstColumn;
  // LLVM must not see that these are the same in every round of a loop: it
  // would keep the row and column of every register in a register.
  auto opaque = [&](Value x) {
    return ptx.assembly("mov.b32 $0, $1;", "=r,r", x, x.getType()).front();
  };
  if (!rowArgument.use_empty())
    firstRow = opaque(ptx.add(ptx.shiftLeft(warp, 4), ptx.shiftRight(lane, 2)));
  if (!columnArgument.use_empty())
    firstColumn = opaque(ptx.shiftLeft(ptx.bitAnd(lane, 3), 1));

  Registers results;
  llvm::DenseMap<Value, Registers> pairs;
  int64_t count = typesOf(op.getType()).size();
  for (int64_t n = 0; n < count; ++n) {
    int64_t row = isFragment ? rowOf(n) : n;
    for (auto [operand, argument] :
         llvm::zip(op.getInputs(), block.getArguments())) {
      if (isa<ColumnsType>(operand.getType())) {
        // Of a pair of columns there are two rows.
        Registers &pair = pairs[operand];
        if (n % 4 == 0)
          pair = ptx.loadPair(ptx.add(get(operand), ptx.i32(n / 4 * 32)));
        set(argument, {pair[n % 2]});
        continue;
      }
      if (isa<BitsType>(operand.getType())) {
        set(argument, {bitOf(operand, n)});
        continue;
      }
      bool perRow = isa<RowsType>(operand.getType());
      set(argument, {all(operand)[perRow ? row : n]});
    }
    if (firstRow)
      set(rowArgument, {ptx.add(firstRow, ptx.i32(8 * row))});
    if (firstColumn)
      set(columnArgument,
          {ptx.add(firstColumn, ptx.i32(isFragment ? n / 4 * 8 + n % 2 : 0))});
    for (Operation &inner : block.without_terminator()) {
      Registers operands;
      append(inner.getOperands(), operands);
      Value value = scalar(inner, operands);
      if (!value)
        return inner.emitOpError("has no lowering in a tile program");
      set(inner.getResult(0), {value});
    }
    results.push_back(get(block.getTerminator()->getOperand(0)));
  }
  set(op, std::move(results));
  return success();
}

void ProgramLowering::lowerReduce(ReduceOp op) {
  auto combined = [&](Value x, Value y) {
    if (!x)
      return y;
    return op.getKind() == Combining::Max ? ptx.maximum(x, y) : ptx.plus(x, y);
  };
  ArrayRef<Value> values = all(op.getSource());
  Registers results;
  for (int64_t row = 0; row < 2; ++row) {
    // Four chains, since one would wait for itself.
    Value chains[4];
    if (op.getInit())
      chains[0] = all(op.getInit())[row];
    int64_t next = 0;
    for (int64_t n = 0, end = values.size(); n < end; ++n)
      if (rowOf(n) == row) {
        Value &chain = chains[next++ % 4];
        chain = combined(chain, values[n]);
      }
    results.push_back(combined(combined(chains[0], chains[1]),
                               combined(chains[2], chains[3])));
  }
  set(op, std::move(results));
}

void ProgramLowering::lowerCombine(CombineOp op) {
  // Four neighbouring lanes have the columns of a row.
  Registers values(all(op.getSource()));
  for (int64_t mask : {1, 2})
    for (Value &value : values) {
      Value other = ptx.shuffleXor(value, mask);
      value = op.getKind() == Combining::Max ? ptx.maximum(value, other)
                                             : ptx.plus(value, other);
    }
  set(op, std::move(values));
}

void ProgramLowering::lowerToOperand(ToOperandOp op) {
  ArrayRef<Value> values = all(op.getSource());
  Registers words;
  for (size_t n = 0; n < values.size(); n += 2)
    words.push_back(ptx.pack(values[n], values[n + 1],
                             op.getResult().getType().getElementType()));
  set(op, std::move(words));
}

//===----------------------------------------------------------------------===//
// Between registers and memory
//===----------------------------------------------------------------------===//

/// Lane l names a line of the (l / 8)-th matrix: rows 0-7 and 8-15 of the left
/// half, then of the right; four of its registers are one of each.
Registers ProgramLowering::matrixAddresses(Value tile, SharedType type) {
  // Of the thread's number as it is read here, so that no register keeps what
  // follows from it all through the loops before.
  Value thread = ptx.threadNumber();
  Value lane = ptx.bitAnd(thread, 31);
  Value warp = ptx.bitAnd(ptx.shiftRight(thread, 5), 3);
  Value inMatrix = ptx.bitAnd(lane, 7), matrix = ptx.shiftRight(lane, 3);
  Value row = ptx.add(ptx.add(ptx.shiftLeft(warp, 4), inMatrix),
                      ptx.shiftLeft(ptx.bitAnd(matrix, 1), 3));
  Value half = ptx.shiftRight(matrix, 1);
  Value line = ptx.add(tile, ptx.mul(row, ptx.i32(lineBytes)));
  Registers addresses;
  for (int64_t c = 0; c < type.getColumns(); c += 16) {
    // 16 bytes of a line, at the place that the swizzle gives them in row r:
    // their number exclusive-or r mod 8.
    Value chunk = ptx.add(half, ptx.i32(c % panelColumns / 8));
    Value at = ptx.shiftLeft(ptx.bitXor(chunk, inMatrix), 4);
    int64_t panel = c / panelColumns * type.getPanel() * lineBytes;
    addresses.push_back(ptx.add(ptx.add(line, at), ptx.i32(panel)));
  }
  return addresses;
}

void ProgramLowering::lowerToFragment(ToFragmentOp op) {
  Type half = op.getSource().getType().getElementType();
  Registers numbers;
  for (Value word : all(op.getSource()))
    llvm::append_range(numbers, ptx.unpack(word, half));
  set(op, std::move(numbers));
}

void ProgramLowering::lowerLoadOperand(LoadOperandOp op) {
  Registers words;
  for (Value at :
       matrixAddresses(get(op.getSource()), op.getSource().getType()))
    llvm::append_range(words, ptx.loadMatrices(at));
  // Reads must be over before a copy may write there: an arrival at a barrier
  // overtakes them.
  ptx.fenceAsync();
  set(op, std::move(words));
}

void ProgramLowering::lowerStore(StoreOp op) {
  auto scratch = op.getScratch().getType();
  Value barrier = ptx.add(roleWarpgroup, ptx.i32(stagingBarrier));
  Registers words;
  ArrayRef<Value> values = all(op.getValue());
  for (size_t n = 0; n < values.size(); n += 2)
    words.push_back(
        ptx.pack(values[n], values[n + 1], scratch.getElementType()));

  auto [map, row] = partOf(op.getMap(), op.getRow());
  int64_t columns = op.getValue().getType().getColumns();
  for (int64_t first = 0; first < columns; first += scratch.getColumns()) {
    // The former store has left the scratch, and all of the warpgroup know.
    ptx.awaitStores(isElected);
    ptx.namedBarrier("sync", barrier, 128);
    for (auto [n, at] :
         llvm::enumerate(matrixAddresses(get(op.getScratch()), scratch)))
      ptx.storeMatrices(at, ArrayRef(words).slice(first / 4 + 4 * n, 4));
    // What was written as usual is read by another unit.
    ptx.fenceAsync();
    ptx.namedBarrier("sync", barrier, 128);
    for (int64_t c = 0; c < scratch.getColumns(); c += panelColumns) {
      int64_t panel = c / panelColumns * scratch.getPanel() * lineBytes;
      Value column = ptx.add(get(op.getColumn()), ptx.i32(first + c));
      ptx.storeBox(map, {column, row, get(op.getHead()), get(op.getBatch())},
                   ptx.add(get(op.getScratch()), ptx.i32(panel)), isElected);
    }
    ptx.commitStores(isElected);
  }
}
