//===- Runtime.h - calls of the runtime -------------------------*- C++ -*-===//

#ifndef GOSSAMER_PASSES_TILE_RUNTIME_H
#define GOSSAMER_PASSES_TILE_RUNTIME_H

#include "dialect/tile/Tile.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/IR/BuiltinOps.h"

namespace gossamer::tile {

/// A map is an argument of so many bytes. A joined one is both of its parts
/// and, as an i32, the first row of the second.
constexpr int64_t mapBytes = 128, joinedBytes = 2 * mapBytes + 4;

inline mlir::Type storageOf(MapType type) {
  return mlir::LLVM::LLVMArrayType::get(
      mlir::IntegerType::get(type.getContext(), 8),
      type.getJoined() ? joinedBytes : mapBytes);
}

/// Where byte `offset` of memory is.
inline mlir::Value byteOf(mlir::OpBuilder &b, mlir::Location loc,
                          mlir::Value memory, mlir::LLVM::GEPArg offset) {
  return mlir::LLVM::GEPOp::create(b, loc, memory.getType(), b.getI8Type(),
                                   memory, offset);
}

/// A call of a function of engine/include/gossamer-c.h, declared where it is
/// not yet; null for one without a result.
inline mlir::Value callRuntime(mlir::OpBuilder &b, mlir::Location loc,
                               mlir::ModuleOp module, llvm::StringRef name,
                               mlir::Type result, mlir::ValueRange arguments) {
  auto function = module.lookupSymbol<mlir::LLVM::LLVMFuncOp>(name);
  if (!function) {
    mlir::OpBuilder::InsertionGuard guard(b);
    b.setInsertionPointToStart(module.getBody());
    llvm::SmallVector<mlir::Type> types(arguments.getTypes());
    function = mlir::LLVM::LLVMFuncOp::create(
        b, module.getLoc(), name,
        mlir::LLVM::LLVMFunctionType::get(result, types));
  }
  auto call = mlir::LLVM::CallOp::create(b, loc, function, arguments);
  return call.getNumResults() ? call.getResult() : mlir::Value();
}

} // namespace gossamer::tile

#endif // GOSSAMER_PASSES_TILE_RUNTIME_H
