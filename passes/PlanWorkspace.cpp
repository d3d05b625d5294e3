//===- PlanWorkspace.cpp - temporaries in one piece of memory -------------===//
//
// All that a call needs beside its arguments is asked for once, before anything
// is launched: gs_gpu_workspace(bytes) gives its address. The runtime has it
// from PyTorch's allocator, so that it counts there, is reused there, and may
// be part of a CUDA graph.
//
//===----------------------------------------------------------------------===//

#include "mlir/Conversion/LLVMCommon/TypeConverter.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/GPU/IR/GPUDialect.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "passes/Passes.h"

namespace gossamer {
#define GEN_PASS_DEF_PLANWORKSPACE
#include "passes/Passes.h.inc"
} // namespace gossamer

using namespace mlir;
using namespace gossamer;

namespace {

/// As torch aligns what it gives, and more than any access needs.
constexpr int64_t alignment = 256;

int64_t bytesOf(Type type) {
  if (type.isIndex())
    return 8;
  return std::max<int64_t>(1, type.getIntOrFloatBitWidth() / 8);
}

struct PlanWorkspace : gossamer::impl::PlanWorkspaceBase<PlanWorkspace> {
  void runOnOperation() override {
    for (auto function : getOperation().getOps<func::FuncOp>())
      if (!function.isPrivate() && failed(plan(function)))
        return signalPassFailure();
  }

  LogicalResult plan(func::FuncOp function) {
    SmallVector<memref::AllocOp> allocs;
    WalkResult result = function.walk([&](memref::AllocOp op) {
      if (op->getParentOp() != function) {
        op.emitOpError("is made by a thread or under a condition; temporaries "
                       "of a GPU are planned before anything runs");
        return WalkResult::interrupt();
      }
      allocs.push_back(op);
      return WalkResult::advance();
    });
    if (result.wasInterrupted())
      return failure();
    if (allocs.empty())
      return success();
    hoistSizes(function.getBody().front());
    sinkUsers(allocs);

    OpBuilder b(allocs.back());
    Location loc = function.getLoc();
    Value total = arith::ConstantIndexOp::create(b, loc, 0);
    Value mask = arith::ConstantIndexOp::create(b, loc, -alignment);
    Value round = arith::ConstantIndexOp::create(b, loc, alignment - 1);
    SmallVector<Value> offsets;
    for (memref::AllocOp op : allocs) {
      offsets.push_back(total);
      auto type = op.getType();
      Value size = arith::ConstantIndexOp::create(
          b, loc, bytesOf(type.getElementType()));
      auto dynamic = op.getDynamicSizes().begin();
      for (int64_t extent : type.getShape()) {
        Value by = ShapedType::isDynamic(extent)
                       ? *dynamic++
                       : arith::ConstantIndexOp::create(b, loc, extent);
        size = arith::MulIOp::create(b, loc, size, by);
      }
      size = arith::AndIOp::create(
          b, loc, arith::AddIOp::create(b, loc, size, round), mask);
      total = arith::AddIOp::create(b, loc, total, size);
    }
    Value base = request(b, loc, total);
    for (auto [op, offset] : llvm::zip(allocs, offsets)) {
      auto place = memref::ViewOp::create(b, loc, op.getType(), base, offset,
                                          op.getDynamicSizes());
      // For noalias, it counts as memory of its own.
      place->setAttr("gossamer.temporary", b.getUnitAttr());
      op.replaceAllUsesWith(place.getResult());
    }
    for (memref::AllocOp op : allocs)
      op.erase();
    return success();
  }

  /// What sizes are computed from stands before the first launch.
  void hoistSizes(Block &block) {
    Operation *first = nullptr;
    SmallVector<Operation *> later;
    for (Operation &op : block.without_terminator()) {
      bool launches = op.walk([](gpu::LaunchOp) {
                          return WalkResult::interrupt();
                        }).wasInterrupted();
      if (launches && !first)
        first = &op;
      else if (first && !launches)
        later.push_back(&op);
    }
    for (Operation *op : later)
      op->moveBefore(first);
  }

  /// What uses a temporary stands behind the last one: there, all of them get
  /// their places.
  void sinkUsers(ArrayRef<memref::AllocOp> allocs) {
    llvm::SmallPtrSet<Operation *, 8> moved;
    Operation *last = allocs.back();
    SmallVector<Operation *> users;
    for (Operation &op : *last->getBlock()) {
      if (&op == last)
        break;
      bool uses = llvm::any_of(op.getOperands(), [&](Value value) {
        Operation *source = value.getDefiningOp();
        return source &&
               (isa<memref::AllocOp>(source) || moved.contains(source));
      });
      if (uses && moved.insert(&op).second)
        users.push_back(&op);
    }
    for (Operation *op : llvm::reverse(users))
      op->moveAfter(last);
  }

  /// memref<?xi8> of `bytes`.
  Value request(OpBuilder &b, Location loc, Value bytes) {
    ModuleOp module = getOperation();
    auto pointer = LLVM::LLVMPointerType::get(b.getContext());
    Type word = b.getI64Type();
    StringRef name = "gs_gpu_workspace";
    if (!module.lookupSymbol(name)) {
      OpBuilder atModule = OpBuilder::atBlockBegin(module.getBody());
      func::FuncOp::create(atModule, loc, name,
                           b.getFunctionType(word, pointer))
          .setPrivate();
    }
    Value size = arith::IndexCastOp::create(b, loc, word, bytes);
    Value address =
        func::CallOp::create(b, loc, name, pointer, size).getResult(0);
    auto type = MemRefType::get({ShapedType::kDynamic}, b.getI8Type());
    Type descriptor = LLVMTypeConverter(b.getContext()).convertType(type);
    Value value = LLVM::UndefOp::create(b, loc, descriptor);
    auto literal = [&](int64_t n) -> Value {
      return LLVM::ConstantOp::create(b, loc, word, b.getI64IntegerAttr(n));
    };
    auto insert = [&](Value part, ArrayRef<int64_t> at) {
      value = LLVM::InsertValueOp::create(b, loc, value, part, at);
    };
    insert(address, {0});
    insert(address, {1});
    insert(literal(0), {2});
    insert(size, {3, 0});
    insert(literal(1), {4, 0});
    return UnrealizedConversionCastOp::create(b, loc, type, value).getResult(0);
  }
};

} // namespace
