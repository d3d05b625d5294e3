//===- HostProgram.cpp - memory, roles and values on the host -------------===//

#include "passes/tile/host/HostProgram.h"

#include "llvm/ADT/DenseSet.h"
#include "llvm/ADT/TypeSwitch.h"

using namespace mlir;
using namespace gossamer::tile;

/// Of places in memory: a line of the cache, the widest vector.
static constexpr int64_t alignment = 64;

HostProgram::HostProgram(ProgramOp program, ModuleOp module, int64_t lanes)
    : ControlFlow(program), code(b, loc, module), lanes(lanes),
      f32(b.getF32Type()) {}

FailureOr<HostInfo> HostProgram::run() {
  info.warpgroups = program.getNumWarpgroups();
  placeShared();
  createFunction();
  placeSides();
  if (failed(emitRoles(warpgroup)))
    return failure();
  LLVM::ReturnOp::create(b, loc, ValueRange());
  return info;
}

//===----------------------------------------------------------------------===//
// Memory of the thread block
//===----------------------------------------------------------------------===//

/// What errors call a ring, its stages, and the bytes of one.
static HostInfo::Ring ringOf(Type type) {
  return llvm::TypeSwitch<Type, HostInfo::Ring>(type)
      .Case([](RingType ring) -> HostInfo::Ring {
        return {"ring", 0, ring.getRows() * ring.getColumns() * 2,
                ring.getShape().front()};
      })
      .Case([](QueueType queue) -> HostInfo::Ring {
        return {"queue", 0, queue.getColumns() * 4, queue.getRows()};
      })
      .Case([](SeriesType series) -> HostInfo::Ring {
        return {"series", 0, series.getRows() * series.getColumns() * 4,
                series.getShape().front()};
      });
}

void HostProgram::placeShared() {
  for (AllocOp alloc : program.getOps<AllocOp>()) {
    if (auto tile = dyn_cast<SharedType>(alloc.getType())) {
      sharedBegins[alloc.getResult()] = info.sharedBytes;
      info.sharedBytes +=
          llvm::alignTo(tile.getRows() * tile.getColumns() * 2, alignment);
      continue;
    }
    int64_t number = static_cast<int64_t>(info.rings.size());
    ringNumbers[alloc.getResult()] = number;
    HostInfo::Ring ring = ringOf(alloc.getType());
    llvm::raw_string_ostream(ring.name)
        << ' ' << number << " (" << alloc.getType() << ')';
    ring.begin = info.sharedBytes;
    ring.bytes = llvm::alignTo(ring.bytes, alignment);
    info.sharedBytes += ring.stages * ring.bytes;
    info.rings.push_back(std::move(ring));
  }
}

//===----------------------------------------------------------------------===//
// The function and its roles
//===----------------------------------------------------------------------===//

void HostProgram::createFunction() {
  Type pointer = code.pointer, i32 = b.getI32Type();
  b.setInsertionPoint(program);
  info.function = LLVM::LLVMFuncOp::create(
      b, loc, (program.getSymName() + "_warpgroup").str(),
      LLVM::LLVMFunctionType::get(
          code.nothing, {pointer, pointer, pointer, pointer, i32, i32, i32}),
      LLVM::Linkage::Internal);
  Block *entry = info.function.addEntryBlock(b);
  b.setInsertionPointToStart(entry);
  // As gs_tile_program has them.
  self = entry->getArgument(0);
  Value arguments = entry->getArgument(1);
  shared = entry->getArgument(2);
  scratch = entry->getArgument(3);
  block = entry->getArgument(4);
  blocks = entry->getArgument(5);
  warpgroup = entry->getArgument(6);
  for (BlockArgument argument : program.getBody().getArguments()) {
    Value place =
        code.load(arguments, pointer, code.i64(argument.getArgNumber()));
    Type type = argument.getType();
    if (isa<MapType>(type)) { // is where it is
      set(argument, {place});
      continue;
    }
    type = isa<MemRefType>(type) ? pointer : type;
    set(argument, {code.load(place, type, code.i64(0))});
  }
}

LogicalResult HostProgram::emitRole(RoleOp role, int64_t firstWarpgroup) {
  if (role.getKind() == RoleKind::Consumer)
    for (uint32_t n = 0; n < role.getWarpgroups(); ++n)
      info.consumers |= int64_t(1) << (firstWarpgroup + n);
  roleWarpgroup =
      arith::SubIOp::create(b, loc, warpgroup, code.i32(firstWarpgroup));
  set(role.getBody().getArgument(0), {roleWarpgroup});
  return lowerBlock(role.getBody().front());
}

LogicalResult HostProgram::lower(Operation *op) {
  auto done = [](auto) { return success(); };
  return llvm::TypeSwitch<Operation *, LogicalResult>(op)
      .Case([&](AllocOp alloc) {
        if (isa<SharedType>(alloc.getType()))
          set(alloc, {code.at(shared, b.getI8Type(),
                              code.i64(sharedBegins[alloc.getResult()]))});
        return success();
      })
      .Case([&](BlockOp o) { return set(o, {block}), done(o); })
      .Case([&](BlocksOp o) { return set(o, {blocks}), done(o); })
      .Case([&](SubtileOp o) { return lowerSubtile(o), done(o); })
      .Case([&](ReadOp o) { return lowerRead(o), done(o); })
      .Case([&](NextOp o) { return lowerNext(o), done(o); })
      .Case([&](LoadOp o) { return lowerLoad(o), done(o); })
      .Case([&](LoadNumbersOp o) { return lowerLoadNumbers(o), done(o); })
      .Case([&](WaitOp o) { return lowerWait(o), done(o); })
      .Case([&](ColumnsOp o) { return lowerColumns(o), done(o); })
      .Case([&](ReleaseOp o) { return lowerRelease(o), done(o); })
      .Case([&](SendOp o) { return lowerSend(o), done(o); })
      .Case([&](ReceiveOp o) { return lowerReceive(o), done(o); })
      .Case(
          [&](TakeTurnOp o) { return lowerTurn("gs_tile_take_turn"), done(o); })
      .Case(
          [&](PassTurnOp o) { return lowerTurn("gs_tile_pass_turn"), done(o); })
      .Case([&](MmaOp o) { return lowerMma(o), done(o); })
      .Case([&](AwaitOp o) { return rename(o, o.getPending()), done(o); })
      .Case([&](SplatOp o) { return lowerSplat(o), done(o); })
      .Case([&](ElementwiseOp o) { return lowerElementwise(o), done(o); })
      .Case([&](ReduceOp o) { return lowerReduce(o), done(o); })
      .Case([&](CombineOp o) { return rename(o, o.getSource()), done(o); })
      .Case([&](ToOperandOp o) { return lowerToOperand(o), done(o); })
      .Case([&](ToFragmentOp o) { return rename(o, o.getSource()), done(o); })
      .Case([&](LoadOperandOp o) { return lowerLoadOperand(o), done(o); })
      .Case([&](StoreOp o) { return lowerStore(o), done(o); })
      .Case([&](LoadRowsOp o) { return lowerLoadRows(o), done(o); })
      .Case([&](StoreRowsOp o) { return lowerStoreRows(o), done(o); })
      .Case([&](ArriveOp o) { return lowerArrive(o), done(o); })
      .Case([&](LoadBitsOp o) { return lowerLoadBits(o), done(o); })
      .Case([&](scf::ForOp o) { return lowerFor(o); })
      .Case([&](scf::WhileOp o) { return lowerWhile(o); })
      .Case([&](scf::IfOp o) { return lowerIf(o); })
      .Default([&](Operation *o) { return copyScalar(o); });
}

//===----------------------------------------------------------------------===//
// Values
//===----------------------------------------------------------------------===//

std::optional<HostProgram::Extent> HostProgram::extentOf(Type type) {
  using Result = std::optional<Extent>;
  return llvm::TypeSwitch<Type, Result>(type)
      .Case<FragmentType, PendingType, OperandType, BitsType>(
          [](auto tile) -> Result {
            return Extent{tile.getRows(), tile.getColumns()};
          })
      .Case([](RowsType rows) -> Result { return Extent{rows.getRows(), 1}; })
      .Default([](Type) -> Result { return std::nullopt; });
}

SmallVector<Type> HostProgram::typesOf(Type type) {
  if (extentOf(type))
    return {};
  if (isa<SharedType, ColumnsType>(type))
    return {code.pointer};
  return {type};
}

Value HostProgram::allocate(int64_t numbers) {
  OpBuilder::InsertionGuard guard(b);
  b.setInsertionPointToStart(&info.function.getBody().front());
  int64_t begin = info.scratchBytes;
  info.scratchBytes += llvm::alignTo(numbers * 4, alignment);
  return code.at(scratch, b.getI8Type(), code.i64(begin));
}

Value HostProgram::place(Value value) {
  Value found = places.lookup(value);
  if (!found)
    found = places[value] = allocate(extentOf(value.getType())->size());
  return found;
}

void HostProgram::rename(Value value, Value as) {
  if (extentOf(value.getType()))
    places[value] = place(as);
}

void HostProgram::assign(ValueRange from, ValueRange to) {
  struct Copy {
    Value from, to;
    int64_t bytes;
  };
  SmallVector<Copy> copies;
  for (auto [source, target] : llvm::zip(from, to))
    if (std::optional<Extent> extent = extentOf(source.getType()))
      if (place(source) != place(target))
        copies.push_back({place(source), place(target), 4 * extent->size()});
  // What another copy writes first is set aside before any of them.
  llvm::SmallDenseSet<Value> written;
  for (Copy &copy : copies) {
    if (written.contains(copy.from)) {
      Value aside = allocate(copy.bytes / 4);
      code.copy(copy.from, aside, copy.bytes);
      copy.from = aside;
    }
    written.insert(copy.to);
  }
  for (Copy &copy : copies)
    code.copy(copy.from, copy.to, copy.bytes);
}
