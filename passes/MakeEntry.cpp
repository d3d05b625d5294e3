//===- MakeEntry.cpp - one packed array of arguments ----------------------===//

#include "mlir/Conversion/LLVMCommon/TypeConverter.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "passes/Passes.h"

namespace gossamer {
#define GEN_PASS_DEF_MAKEENTRY
#include "passes/Passes.h.inc"
} // namespace gossamer

using namespace mlir;
using namespace gossamer;

namespace {

/// Reads the arguments of one function out of an array of 64-bit words.
class EntryBuilder {
public:
  EntryBuilder(func::FuncOp function)
      : function(function), builder(function->getContext()),
        loc(function.getLoc()), types(function->getContext()) {}

  void run() {
    builder.setInsertionPointAfter(function);
    auto pointer = LLVM::LLVMPointerType::get(builder.getContext());
    auto entry = func::FuncOp::create(builder, loc, "gs_entry",
                                      builder.getFunctionType(pointer, {}));
    builder.setInsertionPointToStart(entry.addEntryBlock());
    packed = entry.getArgument(0);
    SmallVector<Value> arguments;
    for (Type type : function.getArgumentTypes())
      arguments.push_back(isa<MemRefType>(type)
                              ? readBuffer(cast<MemRefType>(type))
                              : readIndex());
    func::CallOp::create(builder, loc, function, arguments);
    func::ReturnOp::create(builder, loc);
    function.setPrivate();
  }

private:
  Value word(int64_t value) {
    return LLVM::ConstantOp::create(builder, loc, builder.getI64Type(),
                                    builder.getI64IntegerAttr(value));
  }
  Value read(Type type) {
    auto pointer = LLVM::LLVMPointerType::get(builder.getContext());
    Value at = LLVM::GEPOp::create(builder, loc, pointer, builder.getI64Type(),
                                   packed, ArrayRef<LLVM::GEPArg>(next++));
    return LLVM::LoadOp::create(builder, loc, type, at);
  }
  Value readIndex() {
    return arith::IndexCastOp::create(builder, loc, builder.getIndexType(),
                                      read(builder.getI64Type()));
  }
  /// A pointer and the sizes; strides follow, since buffers are row-major.
  Value readBuffer(MemRefType type) {
    Type descriptor = types.convertType(type);
    Value value = LLVM::UndefOp::create(builder, loc, descriptor);
    auto insert = [&](Value part, ArrayRef<int64_t> at) {
      value = LLVM::InsertValueOp::create(builder, loc, value, part, at);
    };
    Value pointer = read(LLVM::LLVMPointerType::get(builder.getContext()));
    insert(pointer, {0});
    insert(pointer, {1});
    insert(word(0), {2});
    SmallVector<Value> sizes;
    for (int64_t dim = 0; dim < type.getRank(); ++dim)
      sizes.push_back(read(builder.getI64Type()));
    Value stride = word(1);
    for (int64_t dim = type.getRank() - 1; dim >= 0; --dim) {
      insert(sizes[dim], {3, dim});
      insert(stride, {4, dim});
      stride = LLVM::MulOp::create(builder, loc, stride, sizes[dim]);
    }
    return UnrealizedConversionCastOp::create(builder, loc, type, value)
        .getResult(0);
  }

  func::FuncOp function;
  OpBuilder builder;
  Location loc;
  LLVMTypeConverter types;
  Value packed;
  int32_t next = 0;
};

struct MakeEntry : gossamer::impl::MakeEntryBase<MakeEntry> {
  void runOnOperation() override {
    func::FuncOp other;
    for (auto function :
         llvm::make_early_inc_range(getOperation().getOps<func::FuncOp>())) {
      if (function->hasAttr("gossamer.results")) {
        EntryBuilder(function).run();
        return;
      }
      if (!function.isExternal())
        other = function;
    }
    // A module without any is of the LLVM dialect already, with its own entry.
    if (other) {
      other.emitOpError("cannot be the entry: its results are not bound to "
                        "arguments (gossamer-bind-results)");
      signalPassFailure();
    }
  }
};

} // namespace
