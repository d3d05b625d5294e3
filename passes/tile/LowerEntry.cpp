//===- LowerEntry.cpp - the host's side of programs -----------------------===//

#include "passes/tile/LowerEntry.h"
#include "passes/tile/Runtime.h"

using namespace mlir;
using namespace gossamer::tile;

LogicalResult EntryLowering::run() {
  SmallVector<Operation *> ops;
  module.walk([&](Operation *op) {
    if (isa<DescribeOp, JoinOp, ResidentOp, LaunchOp>(op))
      ops.push_back(op);
  });
  for (Operation *op : ops) {
    b.setInsertionPoint(op);
    if (failed(lower(op)))
      return failure();
  }
  for (Operation *op : llvm::reverse(ops))
    op->erase();
  return success();
}

LogicalResult EntryLowering::lower(Operation *op) {
  if (auto map = dyn_cast<DescribeOp>(op)) {
    Value place = reserve(op, storageOf(map.getResult().getType()), 64);
    describe(map, place);
    maps[map.getResult()] = place;
    return success();
  }
  if (auto join = dyn_cast<JoinOp>(op)) {
    lowerJoin(join);
    return success();
  }
  if (auto count = dyn_cast<ResidentOp>(op)) {
    ProgramOp program = find(op, count.getProgram());
    if (!program)
      return failure();
    count.replaceAllUsesWith(resident(count, program));
    return success();
  }
  auto launched = cast<LaunchOp>(op);
  ProgramOp program = find(op, launched.getProgram());
  return program ? lowerLaunch(launched, program) : failure();
}

void EntryLowering::lowerJoin(JoinOp op) {
  Location loc = op.getLoc();
  Value place = reserve(op, storageOf(op.getResult().getType()), 64);
  auto at = [&](int64_t offset) {
    return byteOf(b, loc, place, static_cast<int32_t>(offset));
  };
  LLVM::MemcpyOp::create(b, loc, at(0), maps.lookup(op.getFirst()),
                         literal(mapBytes), /*isVolatile=*/false);
  LLVM::MemcpyOp::create(b, loc, at(mapBytes), maps.lookup(op.getSecond()),
                         literal(mapBytes), /*isVolatile=*/false);
  Value row = LLVM::TruncOp::create(b, loc, b.getI32Type(), op.getRow());
  LLVM::StoreOp::create(b, loc, row, at(2 * mapBytes));
  maps[op.getResult()] = place;
}

ProgramOp EntryLowering::find(Operation *op, StringRef program) {
  auto found = module.lookupSymbol<ProgramOp>(program);
  if (!found)
    op->emitOpError("names @") << program << ", which is no tile program";
  return found;
}

LogicalResult EntryLowering::lowerLaunch(LaunchOp op, ProgramOp program) {
  auto types = program.getBody().getArgumentTypes();
  if (types.size() != op.getArguments().size())
    return op.emitOpError("gives ")
           << op.getArguments().size() << " arguments to a program of "
           << types.size();
  SmallVector<Value> addresses;
  for (auto [n, value] : llvm::enumerate(op.getArguments())) {
    Type expected = types[n];
    if (isa<MemRefType>(expected) ? !isa<LLVM::LLVMPointerType>(value.getType())
                                  : value.getType() != expected)
      return op.emitOpError("gives ") << value.getType() << " as argument " << n
                                      << ", which is " << expected;
    if (Value map = maps.lookup(value)) {
      addresses.push_back(map);
      continue;
    }
    Value place = reserve(op, value.getType(), 8);
    LLVM::StoreOp::create(b, op.getLoc(), value, place);
    addresses.push_back(place);
  }
  launch(op, program, array(op, pointer, addresses));
  return success();
}

Value EntryLowering::literal(int64_t value) {
  return LLVM::ConstantOp::create(b, module.getLoc(), word,
                                  b.getI64IntegerAttr(value));
}

Value EntryLowering::reserve(Operation *op, Type type, int64_t alignment) {
  OpBuilder::InsertionGuard guard(b);
  auto function = op->getParentOfType<LLVM::LLVMFuncOp>();
  b.setInsertionPointToStart(&function.getBody().front());
  return LLVM::AllocaOp::create(b, op->getLoc(), pointer, type, literal(1),
                                alignment);
}

Value EntryLowering::array(Operation *op, Type type, ValueRange values) {
  Value array = reserve(op, LLVM::LLVMArrayType::get(type, values.size()), 8);
  for (auto [n, value] : llvm::enumerate(values)) {
    Value place =
        LLVM::GEPOp::create(b, op->getLoc(), pointer, type, array,
                            ArrayRef<LLVM::GEPArg>{static_cast<int32_t>(n)});
    LLVM::StoreOp::create(b, op->getLoc(), value, place);
  }
  return array;
}

Value EntryLowering::words(Operation *op, ValueRange values) {
  return array(op, word, values);
}

Value EntryLowering::call(Operation *op, StringRef name, Type result,
                          ValueRange arguments) {
  return callRuntime(b, op->getLoc(), module, name, result, arguments);
}
