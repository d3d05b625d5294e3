//===- ProgramParts.cpp - what programs are put together from -------------===//

#include "passes/tile/ProgramParts.h"

#include "mlir/IR/IRMapping.h"

#include <limits>

using namespace mlir;
using namespace gossamer::tile;

Value ProgramParts::f32(double value) {
  return arith::ConstantOp::create(b, loc, b.getF32FloatAttr(value));
}

Value ProgramParts::lowest() {
  return f32(-std::numeric_limits<double>::infinity());
}

Value ProgramParts::times(Value x, Value y) {
  return arith::MulFOp::create(b, loc, x, y);
}

Value ProgramParts::read(Value memory, Value index) {
  return ReadOp::create(b, loc, b.getI32Type(), memory, index);
}

Value ProgramParts::elementwise(ValueRange inputs, Type type, Body body) {
  auto op = ElementwiseOp::create(b, loc, type, inputs);
  SmallVector<Type> types;
  for (Type input : inputs.getTypes())
    types.push_back(isa<BitsType>(input) ? Type(b.getI1Type())
                                         : b.getF32Type());
  types.append(2, b.getI32Type());
  OpBuilder::InsertionGuard guard(b);
  Block *block = b.createBlock(&op.getBody(), {}, types,
                               SmallVector<Location>(types.size(), loc));
  YieldOp::create(b, loc, body(block->getArguments()));
  return op;
}

Value ProgramParts::scaled(Value fragment, Value factor) {
  return elementwise(fragment, fragment.getType(),
                     [&](ValueRange x) { return times(x[0], factor); });
}

ProgramParts::Values ProgramParts::scoreOf(Region &function, Value x,
                                           Value scale, const Place &place,
                                           ValueRange captured) {
  Values given{
      arith::MulFOp::create(b, loc, x, scale, arith::FastMathFlags::contract),
      place.batch, place.head, place.query, place.key};
  llvm::append_range(given, captured);
  Block &block = function.front();
  IRMapping mapping;
  mapping.map(block.getArguments(), ValueRange(given));
  for (Operation &op : block.without_terminator())
    b.clone(op, mapping);
  Values results;
  for (Value result : block.getTerminator()->getOperands())
    results.push_back(mapping.lookup(result));
  return results;
}

Value ProgramParts::mma(Value lhs, Value rhs, int64_t columns,
                        Value accumulator, bool transposed) {
  return MmaOp::create(b, loc, PendingType::get({64, columns}, b.getF32Type()),
                       lhs, rhs, accumulator, transposed);
}

Value ProgramParts::rowsOf(Value tile, Value warpgroup) {
  auto type = cast<SharedType>(tile.getType());
  return SubtileOp::create(b, loc,
                           SharedType::get({64, type.getColumns()},
                                           type.getElementType(),
                                           type.getPanel()),
                           tile, n.mul(warpgroup, 64));
}

ProgramParts::Coordinates ProgramParts::coordinatesOf(Value tile, Value blocks,
                                                      Value heads) {
  Value head = n.div(tile, blocks);
  return {n.div(head, heads), n.rem(head, heads), n.rem(tile, blocks)};
}

Value ProgramParts::listRow(const Coordinates &at, Value rowsOfBatch,
                            Value rowsOfHead) {
  return n.add(n.add(n.mul(at.batch, rowsOfBatch), n.mul(at.head, rowsOfHead)),
               at.block);
}

scf::ForOp ProgramParts::loop(Value from, Value to, ValueRange inits) {
  return scf::ForOp::create(b, loc, from, to, literal(1), inits);
}

void ProgramParts::doWhile(
    ValueRange inits, llvm::function_ref<Value(ValueRange, Values &)> body) {
  TypeRange types = inits.getTypes();
  SmallVector<Location> locs(types.size(), loc);
  auto op = scf::WhileOp::create(b, loc, types, inits);
  OpBuilder::InsertionGuard guard(b);
  Block *before = b.createBlock(&op.getBefore(), {}, types, locs);
  Values carried;
  Value condition = body(before->getArguments(), carried);
  scf::ConditionOp::create(b, loc, condition, carried);
  Block *after = b.createBlock(&op.getAfter(), {}, types, locs);
  scf::YieldOp::create(b, loc, after->getArguments());
}

void ProgramParts::ifSo(Value condition, llvm::function_ref<void()> body) {
  auto op = scf::IfOp::create(b, loc, condition, /*withElseRegion=*/false);
  OpBuilder::InsertionGuard guard(b);
  b.setInsertionPoint(op.thenBlock()->getTerminator());
  body();
}

Value ProgramParts::ifSo(Value condition, Value before,
                         llvm::function_ref<Value()> body) {
  auto op = scf::IfOp::create(b, loc, before.getType(), condition,
                              /*withElseRegion=*/true);
  OpBuilder::InsertionGuard guard(b);
  b.setInsertionPointToStart(op.elseBlock());
  scf::YieldOp::create(b, loc, before);
  b.setInsertionPointToStart(op.thenBlock());
  scf::YieldOp::create(b, loc, body());
  return op.getResult(0);
}

void ProgramParts::produceTiles(
    Value order, Value counter, Value tiles,
    llvm::function_ref<Value(Value, Value, Value, Value)> send) {
  Value blocks = BlocksOp::create(b, loc), zero = literal(0);
  Value numbers = n.add(tiles, blocks), first = BlockOp::create(b, loc);
  doWhile({first, zero, zero}, [&](ValueRange state, Values &carried) {
    Value number = state[0], before = state[1], count = state[2];
    Value exists = n.less(number, tiles);
    Value tile = read(order, n.min(number, n.add(tiles, -1)));
    Value after = send(tile, count, before, exists);
    // Takes a while, but the producer is ahead of the consumers.
    Value following =
        n.add(NextOp::create(b, loc, b.getI32Type(), counter, numbers), blocks);
    carried = {following, after, n.add(count, 1)};
    return exists;
  });
}

void ProgramParts::consumeTiles(
    Value headers, llvm::function_ref<void(ValueRange, Value, Value)> compute) {
  Value zero = literal(0);
  doWhile({zero, zero}, [&](ValueRange state, Values &carried) {
    Value before = state[0], count = state[1];
    ValueRange message = ReceiveOp::create(b, loc, headers, count).getWords();
    Value exists = n.less(literal(-1), message[0]);
    ifSo(exists, [&] { compute(message, count, before); });
    carried = {n.add(before, message[1]), n.add(count, 1)};
    return exists;
  });
}
