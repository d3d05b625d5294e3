//===- OutlineKernels.cpp - gpu.launch becomes a kernel and a call --------===//
//
// A kernel's arguments are 64-bit words: the address of every buffer that it
// uses, with its sizes, and numbers of the host. It stands in a module of its
// own, @kernels, as a plain function; the launch becomes a call of the runtime,
// gs_gpu_launch(kernel, blocks, threads, order, words, count). `order` says
// whether it lets the next one begin (1) or may begin before the one before it
// is done (2).
//
//===----------------------------------------------------------------------===//

#include "mlir/Conversion/LLVMCommon/TypeConverter.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/GPU/IR/GPUDialect.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Dialect/LLVMIR/NVVMDialect.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/IR/IRMapping.h"
#include "mlir/IR/Matchers.h"
#include "mlir/Interfaces/ViewLikeInterface.h"
#include "mlir/Transforms/RegionUtils.h"
#include "passes/GpuLanes.h"
#include "passes/Passes.h"
#include "llvm/Support/JSON.h"

namespace gossamer {
#define GEN_PASS_DEF_OUTLINEKERNELS
#include "passes/Passes.h.inc"
} // namespace gossamer

using namespace mlir;
using namespace gossamer;

namespace {

bool isTemporary(Operation *op) { return op->hasAttr("gossamer.temporary"); }

/// What is cheaper made again in a kernel than passed to it. Views must be:
/// only whole buffers are passed, so that no two arguments alias.
bool isRematerialized(Operation *op) {
  return op && !isTemporary(op) &&
         (op->hasTrait<OpTrait::ConstantLike>() ||
          isa<ViewLikeOpInterface, memref::DimOp>(op) ||
          (isa<arith::ArithDialect>(op->getDialect()) && isPure(op)));
}

class Outliner {
public:
  Outliner(gpu::LaunchOp launch, ModuleOp kernels, unsigned number)
      : launch(launch), kernels(kernels), number(number), host(launch),
        loc(launch.getLoc()), types(launch.getContext()) {}
  LogicalResult run();

private:
  LogicalResult capture(Value value, OpBuilder &inside);
  /// A word of the host's, as an argument of the kernel.
  Value pass(Value word, Type type);
  Value captureBuffer(Value value, OpBuilder &inside);
  Value special(OpBuilder &inside, Value id);
  void call();

  gpu::LaunchOp launch;
  ModuleOp kernels;
  unsigned number;
  OpBuilder host;
  Location loc;
  LLVMTypeConverter types;
  func::FuncOp kernel;
  IRMapping mapping;
  SmallVector<Value> words;
  SmallVector<unsigned> shared; ///< arguments that others store to
};

Value Outliner::pass(Value word, Type type) {
  words.push_back(word);
  return kernel.getBody().addArgument(type, loc);
}

Value Outliner::captureBuffer(Value value, OpBuilder &inside) {
  auto type = cast<MemRefType>(value.getType());
  auto pointer = LLVM::LLVMPointerType::get(host.getContext());
  Type word = host.getI64Type();
  Value address =
      pass(memref::ExtractAlignedPointerAsIndexOp::create(host, loc, value),
           pointer);
  Value descriptor =
      LLVM::UndefOp::create(inside, loc, types.convertType(type));
  auto insert = [&](Value part, ArrayRef<int64_t> at) {
    descriptor = LLVM::InsertValueOp::create(inside, loc, descriptor, part, at);
  };
  auto literal = [&](int64_t n) -> Value {
    return LLVM::ConstantOp::create(inside, loc, word,
                                    inside.getI64IntegerAttr(n));
  };
  // Temporaries may be stored to while the kernel runs, by the one before:
  // that is no memory of its own then.
  Operation *made = value.getDefiningOp();
  if (launch->hasAttr(followsAttrName) && made && isTemporary(made))
    shared.push_back(words.size() - 1);
  insert(address, {0});
  insert(address, {1});
  insert(literal(0), {2});
  SmallVector<Value> sizes;
  for (int64_t dim = 0; dim < type.getRank(); ++dim)
    sizes.push_back(
        type.isDynamicDim(dim)
            ? pass(memref::DimOp::create(host, loc, value, dim), word)
            : literal(type.getDimSize(dim)));
  Value stride = literal(1);
  for (int64_t dim = type.getRank(); dim-- > 0;) {
    insert(sizes[dim], {3, dim});
    insert(stride, {4, dim});
    if (dim > 0)
      stride = LLVM::MulOp::create(inside, loc, stride, sizes[dim]);
  }
  return UnrealizedConversionCastOp::create(inside, loc, type, descriptor)
      .getResult(0);
}

LogicalResult Outliner::capture(Value value, OpBuilder &inside) {
  if (mapping.contains(value))
    return success();
  Operation *op = value.getDefiningOp();
  if (isRematerialized(op)) {
    for (Value operand : op->getOperands())
      if (failed(capture(operand, inside)))
        return failure();
    inside.clone(*op, mapping);
    return success();
  }
  if (isa<MemRefType>(value.getType())) {
    mapping.map(value, captureBuffer(value, inside));
    return success();
  }
  if (!value.getType().isIndex())
    return launch.emitOpError("uses a ")
           << value.getType() << " of the host; kernels take buffers and sizes";
  Value word = pass(value, host.getI64Type());
  mapping.map(value, arith::IndexCastOp::create(inside, loc,
                                                host.getIndexType(), word));
  return success();
}

Value Outliner::special(OpBuilder &inside, Value id) {
  return arith::IndexCastUIOp::create(inside, loc, inside.getIndexType(), id);
}

LogicalResult Outliner::run() {
  OpBuilder atEnd = OpBuilder::atBlockEnd(kernels.getBody());
  kernel = func::FuncOp::create(atEnd, loc, ("kernel_" + Twine(number)).str(),
                                atEnd.getFunctionType({}, {}));
  OpBuilder inside = OpBuilder::atBlockBegin(kernel.addEntryBlock());
  auto kernelReturn = func::ReturnOp::create(inside, loc);
  inside.setInsertionPoint(kernelReturn);
  Type i32 = inside.getI32Type();
  auto ids = launch.getBlockIds();
  auto threads = launch.getThreadIds();
  if (!ids.x.use_empty())
    mapping.map(ids.x,
                special(inside, NVVM::BlockIdXOp::create(inside, loc, i32)));
  if (!threads.x.use_empty())
    mapping.map(threads.x,
                special(inside, NVVM::ThreadIdXOp::create(inside, loc, i32)));

  llvm::SetVector<Value> used;
  getUsedValuesDefinedAbove(launch.getBody(), used);
  for (Value value : used)
    if (failed(capture(value, inside)))
      return failure();
  for (Operation &op : launch.getBody().front().without_terminator())
    inside.clone(op, mapping);
  kernel.setType(
      inside.getFunctionType(kernel.getBody().getArgumentTypes(), {}));
  // For gossamer-finish-kernels, behind the conversion of functions.
  IntegerAttr size;
  int64_t block = matchPattern(launch.getBlockSizeX(), m_Constant(&size))
                      ? size.getInt()
                      : 1024;
  kernel->setAttr("gossamer.kernel", inside.getI64IntegerAttr(block));
  if (Attribute resident = launch->getAttr(residentAttrName))
    kernel->setAttr(residentAttrName, resident);
  for (unsigned argument : shared)
    kernel.setArgAttr(argument, followsAttrName, inside.getUnitAttr());
  call();
  return success();
}

void Outliner::call() {
  auto pointer = LLVM::LLVMPointerType::get(host.getContext());
  Type word = host.getI64Type();
  auto literal = [&](OpBuilder &b, int64_t n) -> Value {
    return LLVM::ConstantOp::create(b, loc, word, b.getI64IntegerAttr(n));
  };
  auto function = launch->getParentOfType<func::FuncOp>();
  OpBuilder atEntry = OpBuilder::atBlockBegin(&function.getBody().front());
  Value memory = LLVM::AllocaOp::create(
      atEntry, loc, pointer, word,
      literal(atEntry, std::max<int64_t>(1, words.size())));
  for (auto [n, value] : llvm::enumerate(words)) {
    Value at = LLVM::GEPOp::create(host, loc, pointer, word, memory,
                                   ArrayRef<LLVM::GEPArg>(int32_t(n)));
    LLVM::StoreOp::create(
        host, loc, arith::IndexCastOp::create(host, loc, word, value), at);
  }
  auto asWord = [&](Value index) -> Value {
    return arith::IndexCastOp::create(host, loc, word, index);
  };
  int64_t order = launch->hasAttr(followsAttrName) ? 2
                  : launch->hasAttr(leadsAttrName) ? 1
                                                   : 0;
  func::CallOp::create(
      host, loc, "gs_gpu_launch", TypeRange{},
      ValueRange{literal(host, number), asWord(launch.getGridSizeX()),
                 asWord(launch.getBlockSizeX()), literal(host, order), memory,
                 literal(host, words.size())});
  launch.erase();
}

struct OutlineKernels : gossamer::impl::OutlineKernelsBase<OutlineKernels> {
  void runOnOperation() override {
    ModuleOp module = getOperation();
    SmallVector<gpu::LaunchOp> launches;
    module.walk([&](gpu::LaunchOp launch) { launches.push_back(launch); });
    OpBuilder b = OpBuilder::atBlockEnd(module.getBody());
    Location loc = module.getLoc();
    auto kernels = ModuleOp::create(b, loc, StringRef("kernels"));
    b.setInsertionPointToStart(module.getBody());
    Type word = b.getI64Type();
    auto pointer = LLVM::LLVMPointerType::get(b.getContext());
    func::FuncOp::create(
        b, loc, "gs_gpu_launch",
        b.getFunctionType({word, word, word, word, pointer, word}, {}))
        .setPrivate();
    for (auto [n, launch] : llvm::enumerate(launches))
      if (failed(Outliner(launch, kernels, n).run()))
        return signalPassFailure();
    countInSignature(launches.size());
  }

  /// How many kernels there are; their names are kernel_0, kernel_1, ...
  void countInSignature(int64_t count) {
    auto attr = getOperation()->getAttrOfType<StringAttr>("gossamer.signature");
    if (!attr)
      return;
    llvm::Expected<llvm::json::Value> known =
        llvm::json::parse(attr.getValue());
    if (!known) {
      llvm::consumeError(known.takeError());
      return;
    }
    (*known->getAsObject())["kernels"] = count;
    std::string text;
    llvm::raw_string_ostream(text) << *known;
    getOperation()->setAttr("gossamer.signature",
                            StringAttr::get(&getContext(), text));
  }
};

} // namespace
