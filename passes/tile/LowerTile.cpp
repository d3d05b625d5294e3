//===- LowerTile.cpp - tile programs become kernels, launches calls -------===//

#include "passes/tile/LowerProgram.h"

#include "mlir/IR/SymbolTable.h"
#include "llvm/ADT/StringMap.h"
#include "llvm/ADT/TypeSwitch.h"

namespace gossamer::tile {
#define GEN_PASS_DEF_LOWERTILETONVVM
#include "passes/tile/TilePasses.h.inc"
} // namespace gossamer::tile

using namespace mlir;
using namespace gossamer::tile;

namespace {

/// What the host does, as calls of the runtime (engine/include/gossamer-c.h).
class HostLowering {
public:
  HostLowering(ModuleOp module, const llvm::StringMap<KernelInfo> &infos)
      : module(module), infos(infos), b(module.getContext()),
        pointer(LLVM::LLVMPointerType::get(module.getContext())),
        word(b.getI64Type()) {}

  LogicalResult run() {
    WalkResult result = module.walk([&](Operation *op) {
      b.setInsertionPoint(op);
      LogicalResult lowered =
          llvm::TypeSwitch<Operation *, LogicalResult>(op)
              .Case<DescribeOp, ResidentOp, LaunchOp>(
                  [&](auto o) { return lower(o); })
              .Default([](Operation *) { return success(); });
      return failed(lowered) ? WalkResult::interrupt() : WalkResult::advance();
    });
    for (Operation *op : llvm::reverse(done))
      op->erase();
    return failure(result.wasInterrupted());
  }

private:
  LogicalResult lower(DescribeOp op);
  LogicalResult lower(ResidentOp op);
  LogicalResult lower(LaunchOp op);
  const KernelInfo *find(Operation *op, StringRef program);
  Value literal(int64_t value);
  /// Memory of the calling function, uninitialised.
  Value reserve(Operation *op, Type type, int64_t alignment);
  Value words(Operation *op, ValueRange values);
  void store(Value value, Value array, Type type, int64_t at);
  LLVM::LLVMFuncOp runtime(StringRef name, Type result, ArrayRef<Type> types);

  ModuleOp module;
  const llvm::StringMap<KernelInfo> &infos;
  OpBuilder b;
  Type pointer, word;
  DenseMap<Value, Value> maps;
  SmallVector<Operation *> done;
};

const KernelInfo *HostLowering::find(Operation *op, StringRef program) {
  auto info = infos.find(program);
  if (info != infos.end())
    return &info->second;
  op->emitOpError("names @") << program << ", which is no tile program";
  return nullptr;
}

Value HostLowering::literal(int64_t value) {
  return LLVM::ConstantOp::create(b, module.getLoc(), word,
                                  b.getI64IntegerAttr(value));
}

Value HostLowering::reserve(Operation *op, Type type, int64_t alignment) {
  OpBuilder::InsertionGuard guard(b);
  auto function = op->getParentOfType<LLVM::LLVMFuncOp>();
  b.setInsertionPointToStart(&function.getBody().front());
  return LLVM::AllocaOp::create(b, op->getLoc(), pointer, type, literal(1),
                                alignment);
}

void HostLowering::store(Value value, Value array, Type type, int64_t at) {
  Value place =
      LLVM::GEPOp::create(b, module.getLoc(), pointer, type, array,
                          ArrayRef<LLVM::GEPArg>{static_cast<int32_t>(at)});
  LLVM::StoreOp::create(b, module.getLoc(), value, place);
}

Value HostLowering::words(Operation *op, ValueRange values) {
  Value array = reserve(op, LLVM::LLVMArrayType::get(word, values.size()), 8);
  for (auto [n, value] : llvm::enumerate(values))
    store(value, array, word, n);
  return array;
}

LLVM::LLVMFuncOp HostLowering::runtime(StringRef name, Type result,
                                       ArrayRef<Type> types) {
  if (auto known = module.lookupSymbol<LLVM::LLVMFuncOp>(name))
    return known;
  OpBuilder::InsertionGuard guard(b);
  b.setInsertionPointToStart(module.getBody());
  return LLVM::LLVMFuncOp::create(b, module.getLoc(), name,
                                  LLVM::LLVMFunctionType::get(result, types));
}

LogicalResult HostLowering::lower(DescribeOp op) {
  auto type = op.getResult().getType();
  Value map = reserve(op, LLVM::LLVMArrayType::get(b.getI8Type(), 128), 64);
  auto function =
      runtime("gs_gpu_tensor_map", LLVM::LLVMVoidType::get(b.getContext()),
              {pointer, pointer, word, pointer, pointer, word});
  LLVM::CallOp::create(
      b, op.getLoc(), function,
      ValueRange{map, op.getAddress(),
                 literal(type.getElementType().isBF16() ? 1 : 0),
                 words(op, op.getSizes()), words(op, op.getStrides()),
                 literal(type.getRows())});
  maps[op.getResult()] = map;
  done.push_back(op);
  return success();
}

LogicalResult HostLowering::lower(ResidentOp op) {
  const KernelInfo *info = find(op, op.getProgram());
  if (!info)
    return failure();
  auto function = runtime("gs_gpu_processors", word, {});
  Value processors =
      LLVM::CallOp::create(b, op.getLoc(), function, ValueRange()).getResult();
  op.replaceAllUsesWith(LLVM::MulOp::create(b, op.getLoc(), processors,
                                            literal(info->blocksPerProcessor))
                            .getResult());
  done.push_back(op);
  return success();
}

LogicalResult HostLowering::lower(LaunchOp op) {
  const KernelInfo *info = find(op, op.getProgram());
  if (!info)
    return failure();
  if (info->arguments.size() != op.getArguments().size())
    return op.emitOpError("gives ")
           << op.getArguments().size() << " arguments to a program of "
           << info->arguments.size();
  SmallVector<Value> addresses;
  for (auto [n, value] : llvm::enumerate(op.getArguments())) {
    Type expected = info->arguments[n];
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
  Value array =
      reserve(op, LLVM::LLVMArrayType::get(pointer, addresses.size()), 8);
  for (auto [n, value] : llvm::enumerate(addresses))
    store(value, array, pointer, n);
  auto function =
      runtime("gs_gpu_launch_program", LLVM::LLVMVoidType::get(b.getContext()),
              {word, word, word, word, pointer});
  LLVM::CallOp::create(b, op.getLoc(), function,
                       ValueRange{literal(info->number), op.getBlocks(),
                                  literal(info->threads),
                                  literal(info->sharedBytes), array});
  done.push_back(op);
  return success();
}

struct LowerTileToNvvm
    : gossamer::tile::impl::LowerTileToNvvmBase<LowerTileToNvvm> {
  void runOnOperation() override {
    ModuleOp module = getOperation();
    SmallVector<ProgramOp> programs(module.getOps<ProgramOp>());
    if (programs.empty())
      return;
    OpBuilder b = OpBuilder::atBlockEnd(module.getBody());
    auto kernels = ModuleOp::create(b, module.getLoc(), StringRef("kernels"));
    llvm::StringMap<KernelInfo> infos;
    for (auto [n, program] : llvm::enumerate(programs)) {
      FailureOr<KernelInfo> info = ProgramLowering(program, kernels, n).run();
      if (failed(info))
        return signalPassFailure();
      infos[program.getSymName()] = *info;
    }
    if (failed(HostLowering(module, infos).run()))
      return signalPassFailure();
    for (ProgramOp program : programs)
      program.erase();
  }
};

} // namespace
