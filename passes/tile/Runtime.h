//===- Runtime.h - calls of the runtime -------------------------*- C++ -*-===//

#ifndef GOSSAMER_PASSES_TILE_RUNTIME_H
#define GOSSAMER_PASSES_TILE_RUNTIME_H

#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/IR/BuiltinOps.h"

namespace gossamer::tile {

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
