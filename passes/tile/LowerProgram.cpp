//===- LowerProgram.cpp - memory, barriers and roles of a kernel ----------===//

#include "passes/tile/LowerProgram.h"
#include "passes/tile/Runtime.h"

#include "llvm/ADT/TypeSwitch.h"

using namespace mlir;
using namespace gossamer::tile;

ProgramLowering::ProgramLowering(ProgramOp program, ModuleOp kernels,
                                 int64_t number)
    : ControlFlow(program), kernels(kernels), number(number), ptx(b, loc) {}

FailureOr<KernelInfo> ProgramLowering::run() {
  placeMemory();
  int64_t limit =
      program.getTarget().sharedBytesOf(program.getBlocksPerProcessor());
  if (sharedBytes > limit)
    return program.emitOpError("takes ")
           << sharedBytes << " bytes of shared memory, of which there are "
           << limit;
  createFunction();
  emitThreadNumbers();
  emitBarriers();
  if (failed(emitRoles(warpgroup)))
    return failure();
  LLVM::ReturnOp::create(b, loc, ValueRange());
  return KernelInfo{number, program.getNumThreads(), sharedBytes};
}

//===----------------------------------------------------------------------===//
// Types
//===----------------------------------------------------------------------===//

SmallVector<Type> ProgramLowering::typesOf(Type type) {
  using Types = SmallVector<Type>;
  return llvm::TypeSwitch<Type, Types>(type)
      .Case<FragmentType, PendingType>([&](auto tile) {
        return Types(tile.getColumns() / 2, b.getF32Type());
      })
      .Case([&](OperandType tile) {
        return Types(tile.getColumns() / 4, b.getI32Type());
      })
      .Case([&](RowsType) { return Types(2, b.getF32Type()); })
      .Case<SharedType, ColumnsType>(
          [&](auto) { return Types{b.getI32Type()}; })
      .Case([&](BitsType bits) {
        return Types(bits.getColumns() / 16, b.getI32Type());
      })
      .Default([&](Type other) { return Types{other}; });
}

//===----------------------------------------------------------------------===//
// Memory, threads, barriers
//===----------------------------------------------------------------------===//

void ProgramLowering::placeMemory() {
  // A swizzle repeats every 1024 bytes, and so begins each tile.
  auto place = [&](int64_t bytes, int64_t alignment) {
    int64_t at = llvm::alignTo(sharedBytes, alignment);
    sharedBytes = at + bytes;
    return at;
  };
  SmallVector<AllocOp> allocs(program.getOps<AllocOp>());
  for (AllocOp alloc : allocs) {
    Place &to = places[alloc.getResult()];
    if (auto tile = dyn_cast<SharedType>(alloc.getType())) {
      if (storesByScratch)
        to.data = place(tile.getRows() * tile.getColumns() * 2, 1024);
    } else if (auto ring = dyn_cast<RingType>(alloc.getType())) {
      to.stages = ring.getShape().front();
      to.stageBytes =
          llvm::alignTo(ring.getRows() * ring.getColumns() * 2, 1024);
      to.data = place(to.stages * to.stageBytes, 1024);
    }
  }
  for (AllocOp alloc : allocs) {
    Place &to = places[alloc.getResult()];
    if (auto queue = dyn_cast<QueueType>(alloc.getType())) {
      to.stages = queue.getShape().front();
      to.stageBytes = llvm::alignTo(4 * queue.getShape().back(), 16);
      to.data = place(to.stages * to.stageBytes, 16);
    } else if (auto series = dyn_cast<SeriesType>(alloc.getType())) {
      to.stages = series.getShape().front();
      to.stageBytes = series.getRows() * series.getColumns() * 4;
      to.data = place(to.stages * to.stageBytes, 16);
    }
    to.full = place(to.stages * 8, 8);
    to.empty = place(to.stages * 8, 8);
  }
}

void ProgramLowering::createFunction() {
  MLIRContext *context = b.getContext();
  auto pointer = LLVM::LLVMPointerType::get(context);
  auto global = LLVM::LLVMPointerType::get(context, 1);
  SmallVector<Type> types;
  for (Type type : program.getBody().getArgumentTypes())
    types.push_back(isa<MapType>(type)      ? Type(pointer)
                    : isa<MemRefType>(type) ? Type(global)
                                            : type);
  b.setInsertionPointToEnd(kernels.getBody());
  std::string name = "kernel_" + std::to_string(number);
  auto memory = LLVM::GlobalOp::create(
      b, loc, LLVM::LLVMArrayType::get(b.getI8Type(), 0), /*isConstant=*/false,
      LLVM::Linkage::External, name + "_shared", Attribute(),
      /*alignment=*/1024, /*addrSpace=*/3);
  function = LLVM::LLVMFuncOp::create(
      b, loc, name,
      LLVM::LLVMFunctionType::get(LLVM::LLVMVoidType::get(context), types));
  function->setAttr(NVVM::NVVMDialect::getKernelFuncAttrName(),
                    b.getUnitAttr());
  // Not reqntid: the assembler takes a change of register counts only with
  // these two.
  function->setAttr(
      NVVM::NVVMDialect::getMaxntidAttrName(),
      b.getDenseI32ArrayAttr({static_cast<int32_t>(program.getNumThreads())}));
  function->setAttr(NVVM::NVVMDialect::getMinctasmAttrName(),
                    b.getI32IntegerAttr(program.getBlocksPerProcessor()));
  for (auto [n, type] : llvm::enumerate(program.getBody().getArgumentTypes())) {
    if (auto map = dyn_cast<MapType>(type)) {
      function.setArgAttr(n, LLVM::LLVMDialect::getByValAttrName(),
                          TypeAttr::get(storageOf(map)));
      function.setArgAttr(n, LLVM::LLVMDialect::getAlignAttrName(),
                          b.getI32IntegerAttr(64));
      function.setArgAttr(n, NVVM::NVVMDialect::getGridConstantAttrName(),
                          b.getUnitAttr());
    } else if (isa<MemRefType>(type)) {
      function.setArgAttr(n, LLVM::LLVMDialect::getNoAliasAttrName(),
                          b.getUnitAttr());
    }
  }
  Block *entry = function.addEntryBlock(b);
  b.setInsertionPointToStart(entry);
  for (auto [argument, lowered] :
       llvm::zip(program.getBody().getArguments(), entry->getArguments()))
    set(argument, {lowered});
  Value base = LLVM::AddressOfOp::create(b, loc, memory);
  shared = LLVM::PtrToIntOp::create(b, loc, b.getI32Type(), base);
}

void ProgramLowering::emitThreadNumbers() {
  thread = NVVM::ThreadIdXOp::create(b, loc, b.getI32Type());
  lane = ptx.bitAnd(thread, 31);
  warp = ptx.bitAnd(ptx.shiftRight(thread, 5), 3);
  // Through a shuffle, so that the assembler knows it to be the same in a warp.
  warpgroup = ptx.broadcast(warpgroupOf(thread));
  isFirstLane = ptx.equals(lane, 0);
  isElected = ptx.equals(ptx.bitAnd(thread, 127), 0);
}

Value ProgramLowering::warpgroupOf(Value thread) {
  return ptx.shiftRight(thread, 7);
}

void ProgramLowering::emitBarriers() {
  auto only = scf::IfOp::create(b, loc, ptx.equals(thread, 0),
                                /*withElseRegion=*/false);
  {
    OpBuilder::InsertionGuard guard(b);
    b.setInsertionPoint(only.thenBlock()->getTerminator());
    // One arrival a warp frees a stage: products are waited for by warps.
    int64_t warps = 4 * program.getNumConsumers();
    for (AllocOp alloc : program.getOps<AllocOp>()) {
      const Place &place = places[alloc.getResult()];
      for (int64_t n = 0; n < place.stages; ++n) {
        ptx.initBarrier(address(place.full + 8 * n),
                        arrivalsToFill(alloc.getType()));
        ptx.initBarrier(address(place.empty + 8 * n), warps);
      }
    }
    publishBarriers();
  }
  NVVM::Barrier0Op::create(b, loc);
}

void ProgramLowering::publishBarriers() {
  ptx.assembly("fence.mbarrier_init.release.cluster;", "~{memory}", {}, {});
  ptx.fenceAsync();
  for (BlockArgument argument : program.getBody().getArguments())
    if (auto map = dyn_cast<MapType>(argument.getType()))
      for (int32_t part = 0; part <= map.getJoined(); ++part) {
        Value at = get(argument);
        if (part)
          at = byteOf(b, loc, at, static_cast<int32_t>(mapBytes));
        ptx.assembly("prefetch.tensormap [$0];", "l,~{memory}", at, {});
      }
}

//===----------------------------------------------------------------------===//
// Roles
//===----------------------------------------------------------------------===//

LogicalResult ProgramLowering::emitRole(RoleOp role, int64_t firstWarpgroup) {
  bool producer = role.getKind() == RoleKind::Producer;
  ptx.assembly(Twine("setmaxnreg.") + (producer ? "dec" : "inc") +
                   ".sync.aligned.u32 " + Twine(role.getRegisters()) + ";",
               "~{memory}", {}, {});
  roleWarpgroup = ptx.add(warpgroup, ptx.i32(-firstWarpgroup));
  set(role.getBody().getArgument(0), {roleWarpgroup});
  if (producer) {
    auto only = scf::IfOp::create(b, loc, isElected, /*withElseRegion=*/false);
    OpBuilder::InsertionGuard guard(b);
    b.setInsertionPoint(only.thenBlock()->getTerminator());
    return lowerBlock(role.getBody().front());
  }
  bool takesTurns =
      role.walk([](TakeTurnOp) { return WalkResult::interrupt(); })
          .wasInterrupted();
  if (takesTurns) { // the first turn is the first warpgroup's
    auto first = scf::IfOp::create(b, loc, ptx.equals(roleWarpgroup, 0),
                                   /*withElseRegion=*/false);
    OpBuilder::InsertionGuard guard(b);
    b.setInsertionPoint(first.thenBlock()->getTerminator());
    ptx.namedBarrier("arrive", ptx.add(roleWarpgroup, ptx.i32(2)), 256);
  }
  if (failed(lowerBlock(role.getBody().front())))
    return failure();
  // Shared memory must outlive the stores that read it.
  bool stores = role.walk([](StoreOp) { return WalkResult::interrupt(); })
                    .wasInterrupted();
  if (stores)
    ptx.awaitStores(isElected);
  return success();
}

//===----------------------------------------------------------------------===//
// Operations
//===----------------------------------------------------------------------===//

LogicalResult ProgramLowering::lower(Operation *op) {
  auto done = [](auto) { return success(); };
  return llvm::TypeSwitch<Operation *, LogicalResult>(op)
      .Case([&](AllocOp alloc) {
        if (isa<SharedType>(alloc.getType()))
          set(alloc, {address(places[alloc.getResult()].data)});
        return success();
      })
      .Case([&](BlockOp block) {
        Value id = NVVM::BlockIdXOp::create(b, loc, b.getI32Type());
        set(block, {id});
        return success();
      })
      .Case([&](BlocksOp blocks) {
        Value count = NVVM::GridDimXOp::create(b, loc, b.getI32Type());
        set(blocks, {count});
        return success();
      })
      .Case([&](SubtileOp subtile) {
        Value offset = ptx.mul(get(subtile.getRow()), ptx.i32(lineBytes));
        set(subtile, {ptx.add(get(subtile.getSource()), offset)});
        return success();
      })
      .Case([&](ReadOp o) { return lowerRead(o), done(o); })
      .Case([&](NextOp o) { return lowerNext(o), done(o); })
      .Case([&](LoadOp o) { return lowerLoad(o), done(o); })
      .Case([&](LoadNumbersOp o) { return lowerLoadNumbers(o), done(o); })
      .Case([&](LoadRowsOp o) { return lowerLoadRows(o), done(o); })
      .Case([&](WaitOp o) { return lowerWait(o), done(o); })
      .Case([&](ColumnsOp o) { return lowerColumns(o), done(o); })
      .Case([&](ReleaseOp o) { return lowerRelease(o), done(o); })
      .Case([&](SendOp o) { return lowerSend(o), done(o); })
      .Case([&](ReceiveOp o) { return lowerReceive(o), done(o); })
      .Case([&](TakeTurnOp o) { return lowerTurn(true), done(o); })
      .Case([&](PassTurnOp o) { return lowerTurn(false), done(o); })
      .Case([&](MmaOp o) { return lowerMma(o), done(o); })
      .Case([&](AwaitOp o) { return lowerAwait(o), done(o); })
      .Case([&](SplatOp o) { return lowerSplat(o), done(o); })
      .Case([&](ElementwiseOp o) { return lowerElementwise(o); })
      .Case([&](ReduceOp o) { return lowerReduce(o), done(o); })
      .Case([&](CombineOp o) { return lowerCombine(o), done(o); })
      .Case([&](ToOperandOp o) { return lowerToOperand(o), done(o); })
      .Case([&](ToFragmentOp o) { return lowerToFragment(o), done(o); })
      .Case([&](LoadOperandOp o) { return lowerLoadOperand(o), done(o); })
      .Case([&](StoreOp o) { return lowerStore(o), done(o); })
      .Case([&](StoreRowsOp o) { return lowerStoreRows(o), done(o); })
      .Case([&](ArriveOp o) { return lowerArrive(o), done(o); })
      .Case([&](LoadBitsOp o) { return lowerLoadBits(o), done(o); })
      .Case([&](scf::ForOp o) { return lowerFor(o); })
      .Case([&](scf::WhileOp o) { return lowerWhile(o); })
      .Case([&](scf::IfOp o) { return lowerIf(o); })
      .Default([&](Operation *o) { return copyScalar(o); });
}
