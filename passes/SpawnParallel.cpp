//===- SpawnParallel.cpp - ranges are handed to threads -------------------===//

#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "passes/Passes.h"

namespace gossamer {
#define GEN_PASS_DEF_SPAWNPARALLEL
#include "passes/Passes.h.inc"
} // namespace gossamer

using namespace mlir;
using namespace gossamer;

namespace {

/// void gs_parallel_for(i64 lo, i64 hi, i64 grain, void (*)(void *, i64, i64),
/// void *), of the runtime.
LLVM::LLVMFuncOp declareParallelFor(ModuleOp module) {
  if (auto known = module.lookupSymbol<LLVM::LLVMFuncOp>("gs_parallel_for"))
    return known;
  OpBuilder builder = OpBuilder::atBlockBegin(module.getBody());
  auto pointer = LLVM::LLVMPointerType::get(module.getContext());
  Type word = builder.getI64Type();
  auto type =
      LLVM::LLVMFunctionType::get(LLVM::LLVMVoidType::get(module.getContext()),
                                  {word, word, word, pointer, pointer});
  return LLVM::LLVMFuncOp::create(builder, module.getLoc(), "gs_parallel_for",
                                  type);
}

/// Packs what the body needs into a struct on the stack, and calls the runtime
/// with a function that unpacks it.
void spawn(LLVM::CallOp call, ModuleOp module) {
  OpBuilder builder(call);
  Location loc = call.getLoc();
  MLIRContext *context = module.getContext();
  auto pointer = LLVM::LLVMPointerType::get(context);
  Type word = builder.getI64Type();
  auto arguments = call.getArgOperands();
  auto captured = arguments.drop_front(2);
  auto frame = LLVM::LLVMStructType::getLiteral(
      context, SmallVector<Type>(captured.getTypes()));

  auto parent = call->getParentOfType<LLVM::LLVMFuncOp>();
  OpBuilder atEntry = OpBuilder::atBlockBegin(&parent.getBody().front());
  Value one = LLVM::ConstantOp::create(atEntry, loc, word,
                                       atEntry.getI64IntegerAttr(1));
  Value memory = LLVM::AllocaOp::create(atEntry, loc, pointer, frame, one);
  for (auto [n, value] : llvm::enumerate(captured)) {
    Value at = LLVM::GEPOp::create(builder, loc, pointer, frame, memory,
                                   ArrayRef<LLVM::GEPArg>{0, int32_t(n)});
    LLVM::StoreOp::create(builder, loc, value, at);
  }

  OpBuilder atModule = OpBuilder::atBlockEnd(module.getBody());
  auto unpack = LLVM::LLVMFuncOp::create(
      atModule, loc, (*call.getCallee() + "_unpack").str(),
      LLVM::LLVMFunctionType::get(LLVM::LLVMVoidType::get(context),
                                  {pointer, word, word}),
      LLVM::Linkage::Internal);
  Block *block = unpack.addEntryBlock(atModule);
  OpBuilder inside = OpBuilder::atBlockBegin(block);
  SmallVector<Value> passed{block->getArgument(1), block->getArgument(2)};
  for (auto [n, type] : llvm::enumerate(captured.getTypes())) {
    Value at =
        LLVM::GEPOp::create(inside, loc, pointer, frame, block->getArgument(0),
                            ArrayRef<LLVM::GEPArg>{0, int32_t(n)});
    passed.push_back(LLVM::LoadOp::create(inside, loc, type, at));
  }
  LLVM::CallOp::create(inside, loc, TypeRange{}, *call.getCallee(), passed);
  LLVM::ReturnOp::create(inside, loc, ValueRange{});

  Value address = LLVM::AddressOfOp::create(builder, loc, unpack);
  Value grain = LLVM::ConstantOp::create(builder, loc, word,
                                         builder.getI64IntegerAttr(1));
  LLVM::CallOp::create(
      builder, loc, declareParallelFor(module),
      ValueRange{arguments[0], arguments[1], grain, address, memory});
  call.erase();
}

struct SpawnParallel : gossamer::impl::SpawnParallelBase<SpawnParallel> {
  void runOnOperation() override {
    ModuleOp module = getOperation();
    SmallVector<LLVM::CallOp> calls;
    module.walk([&](LLVM::CallOp call) {
      if (call->hasAttr("gossamer.parallel"))
        calls.push_back(call);
    });
    for (LLVM::CallOp call : calls)
      spawn(call, module);
    for (auto function : module.getOps<LLVM::LLVMFuncOp>()) {
      // Only the entry is called from outside: what was inlined need not be
      // compiled a second time.
      if (!function.isExternal() && function.getName() != "gs_entry")
        function.setLinkage(LLVM::Linkage::Internal);
      if (!function->hasAttr("gossamer.noalias"))
        continue;
      for (auto [n, type] : llvm::enumerate(function.getArgumentTypes()))
        if (isa<LLVM::LLVMPointerType>(type))
          function.setArgAttr(n, LLVM::LLVMDialect::getNoAliasAttrName(),
                              UnitAttr::get(module.getContext()));
    }
  }
};

} // namespace
