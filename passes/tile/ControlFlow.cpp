//===- ControlFlow.cpp - what all lowerings of programs do alike ----------===//

#include "passes/tile/ControlFlow.h"
#include "passes/tile/Runtime.h"

using namespace mlir;
using namespace gossamer::tile;

SmallVector<Type> ControlFlow::typesOf(TypeRange types) {
  SmallVector<Type> all;
  for (Type type : types)
    llvm::append_range(all, typesOf(type));
  return all;
}

void ControlFlow::append(ValueRange from, SmallVectorImpl<Value> &to) {
  for (Value value : from)
    llvm::append_range(to, all(value));
}

void ControlFlow::take(Value value, ValueRange &from) {
  size_t count = typesOf(value.getType()).size();
  set(value, Values(from.take_front(count)));
  from = from.drop_front(count);
}

std::pair<Value, Value> ControlFlow::partOf(Value map, Value row) {
  Value memory = get(map), at = get(row);
  if (!cast<MapType>(map.getType()).getJoined())
    return {memory, at};
  auto number = [&](Type type, int64_t value) -> Value {
    return LLVM::ConstantOp::create(b, loc, type,
                                    b.getIntegerAttr(type, value));
  };
  Type i32 = b.getI32Type(), i64 = b.getI64Type();
  Value begin = LLVM::LoadOp::create(
      b, loc, i32, byteOf(b, loc, memory, static_cast<int32_t>(2 * mapBytes)));
  Value isFirst =
      LLVM::ICmpOp::create(b, loc, LLVM::ICmpPredicate::slt, at, begin);
  Value offset = LLVM::SelectOp::create(b, loc, isFirst, number(i64, 0),
                                        number(i64, mapBytes));
  Value before = LLVM::SelectOp::create(b, loc, isFirst, number(i32, 0), begin);
  return {byteOf(b, loc, memory, offset),
          LLVM::SubOp::create(b, loc, at, before)};
}

//===----------------------------------------------------------------------===//
// Roles
//===----------------------------------------------------------------------===//

LogicalResult ControlFlow::emitRoles(Value warpgroup) {
  for (Operation &op : program.getBody().front())
    if (!isa<RoleOp>(op) && failed(lower(&op)))
      return failure();
  SmallVector<RoleOp> roles(program.getOps<RoleOp>());
  Block *entry = b.getInsertionBlock();
  int64_t first = 0;
  for (RoleOp role : roles) {
    if (role == roles.back()) {
      if (failed(emitRole(role, first)))
        return failure();
      break;
    }
    first += role.getWarpgroups();
    Value end = LLVM::ConstantOp::create(b, loc, b.getI32Type(),
                                         b.getI32IntegerAttr(first));
    Value here =
        LLVM::ICmpOp::create(b, loc, LLVM::ICmpPredicate::ult, warpgroup, end);
    auto branch = scf::IfOp::create(b, loc, here, /*withElseRegion=*/true);
    b.setInsertionPoint(branch.thenBlock()->getTerminator());
    if (failed(emitRole(role, first - role.getWarpgroups())))
      return failure();
    b.setInsertionPoint(branch.elseBlock()->getTerminator());
  }
  b.setInsertionPointToEnd(entry);
  return success();
}

//===----------------------------------------------------------------------===//
// Control flow
//===----------------------------------------------------------------------===//

LogicalResult ControlFlow::lowerBlock(Block &block) {
  for (Operation &op : block)
    if (!op.hasTrait<OpTrait::IsTerminator>() && failed(lower(&op)))
      return failure();
  return success();
}

LogicalResult ControlFlow::lowerFor(scf::ForOp op) {
  Values inits;
  append(op.getInitArgs(), inits);
  assign(op.getInitArgs(), op.getRegionIterArgs());
  auto loop =
      scf::ForOp::create(b, loc, get(op.getLowerBound()),
                         get(op.getUpperBound()), get(op.getStep()), inits);
  set(op.getInductionVar(), {loop.getInductionVar()});
  ValueRange arguments = loop.getRegionIterArgs();
  for (Value argument : op.getRegionIterArgs())
    take(argument, arguments);
  OpBuilder::InsertionGuard guard(b);
  if (inits.empty())
    b.setInsertionPoint(loop.getBody()->getTerminator());
  else
    b.setInsertionPointToEnd(loop.getBody());
  if (failed(lowerBlock(*op.getBody())))
    return failure();
  Values yielded;
  append(op.getBody()->getTerminator()->getOperands(), yielded);
  assign(op.getBody()->getTerminator()->getOperands(), op.getRegionIterArgs());
  if (!inits.empty())
    scf::YieldOp::create(b, loc, yielded);
  ValueRange results = loop.getResults();
  for (auto [result, carried] :
       llvm::zip(op.getResults(), op.getRegionIterArgs())) {
    take(result, results);
    rename(result, carried);
  }
  return success();
}

LogicalResult ControlFlow::lowerWhile(scf::WhileOp op) {
  Values inits;
  append(op.getInits(), inits);
  Block &before = op.getBefore().front(), &after = op.getAfter().front();
  assign(op.getInits(), before.getArguments());
  auto loop = scf::WhileOp::create(b, loc, typesOf(op.getResultTypes()), inits);
  OpBuilder::InsertionGuard guard(b);
  auto lowerRegion = [&](Block &from, Region &to, TypeRange types) {
    SmallVector<Type> expanded = typesOf(types);
    Block *block = b.createBlock(&to, to.end(), expanded,
                                 SmallVector<Location>(expanded.size(), loc));
    ValueRange arguments = block->getArguments();
    for (Value argument : from.getArguments())
      take(argument, arguments);
    return lowerBlock(from);
  };
  if (failed(lowerRegion(before, loop.getBefore(), before.getArgumentTypes())))
    return failure();
  Values kept;
  append(op.getConditionOp().getArgs(), kept);
  assign(op.getConditionOp().getArgs(), after.getArguments());
  scf::ConditionOp::create(b, loc, get(op.getConditionOp().getCondition()),
                           kept);
  if (failed(lowerRegion(after, loop.getAfter(), after.getArgumentTypes())))
    return failure();
  Values yielded;
  append(op.getYieldOp().getOperands(), yielded);
  assign(op.getYieldOp().getOperands(), before.getArguments());
  scf::YieldOp::create(b, loc, yielded);
  ValueRange results = loop.getResults();
  for (auto [result, carried] :
       llvm::zip(op.getResults(), after.getArguments())) {
    take(result, results);
    rename(result, carried);
  }
  return success();
}

LogicalResult ControlFlow::lowerIf(scf::IfOp op) {
  bool hasElse = !op.getElseRegion().empty();
  auto branch = scf::IfOp::create(b, loc, typesOf(op.getResultTypes()),
                                  get(op.getCondition()), hasElse);
  auto lowerBranch = [&](Block &from, Block &to) -> LogicalResult {
    OpBuilder::InsertionGuard guard(b);
    bool ended = !to.empty();
    if (ended)
      b.setInsertionPoint(to.getTerminator());
    else
      b.setInsertionPointToEnd(&to);
    if (failed(lowerBlock(from)))
      return failure();
    Values yielded;
    append(from.getTerminator()->getOperands(), yielded);
    assign(from.getTerminator()->getOperands(), op.getResults());
    if (!ended)
      scf::YieldOp::create(b, loc, yielded);
    return success();
  };
  if (failed(lowerBranch(*op.thenBlock(), *branch.thenBlock())) ||
      (hasElse && failed(lowerBranch(*op.elseBlock(), *branch.elseBlock()))))
    return failure();
  ValueRange results = branch.getResults();
  for (Value result : op.getResults())
    take(result, results);
  return success();
}

LogicalResult ControlFlow::copyScalar(Operation *op) {
  if (!isa<arith::ArithDialect, LLVM::LLVMDialect>(op->getDialect()) ||
      op->getNumRegions())
    return op->emitOpError("has no lowering in a tile program");
  IRMapping mapping;
  for (Value operand : op->getOperands())
    mapping.map(operand, get(operand));
  Operation *copy = b.clone(*op, mapping);
  for (auto [from, to] : llvm::zip(op->getResults(), copy->getResults()))
    set(from, {to});
  return success();
}
