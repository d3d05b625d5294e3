//===- HostCode.h - loops over numbers in memory ----------------*- C++ -*-===//

#ifndef GOSSAMER_PASSES_TILE_HOST_HOSTCODE_H
#define GOSSAMER_PASSES_TILE_HOST_HOSTCODE_H

#include "passes/tile/TilePasses.h"

namespace gossamer::tile {

/// Code of a processor, shortly written. Indices are i64.
class HostCode {
public:
  HostCode(mlir::OpBuilder &b, mlir::Location loc, mlir::ModuleOp module)
      : pointer(mlir::LLVM::LLVMPointerType::get(b.getContext())),
        nothing(mlir::LLVM::LLVMVoidType::get(b.getContext())), b(b), loc(loc),
        module(module) {}

  mlir::Value i32(int64_t n);
  mlir::Value i64(int64_t n);
  mlir::Value add(mlir::Value x, mlir::Value y);
  mlir::Value mul(mlir::Value x, int64_t n);
  /// An i32 as an index, and back.
  mlir::Value widen(mlir::Value x);
  mlir::Value narrow(mlir::Value x);

  /// Where element `index` of an array is.
  mlir::Value at(mlir::Value array, mlir::Type element, mlir::Value index);
  mlir::Value load(mlir::Value array, mlir::Type element, mlir::Value index);
  void store(mlir::Value value, mlir::Value array, mlir::Value index);
  void copy(mlir::Value from, mlir::Value to, int64_t bytes);

  using Values = llvm::SmallVector<mlir::Value>;
  using Body = llvm::function_ref<void(mlir::Value)>;
  using Step = llvm::function_ref<Values(mlir::Value, mlir::ValueRange)>;
  /// For 0, step, 2 step, ... below `end`.
  void loop(mlir::Value end, int64_t step, Body body);
  void loop(int64_t end, int64_t step, Body body);
  /// For begin, ..., end - 1, with what the body makes of what it is given.
  Values fold(int64_t begin, int64_t end, mlir::ValueRange inits, Step body);

  /// A call of a function of the runtime.
  mlir::Value call(llvm::StringRef name, mlir::Type result,
                   mlir::ValueRange arguments);
  /// A call of a function of this module, without a result, of pointers that do
  /// not alias; `body` makes it where it is not there yet.
  void callShared(const llvm::Twine &name, mlir::ValueRange pointers,
                  llvm::function_ref<void(mlir::ValueRange)> body);

  mlir::Type pointer, nothing;

private:
  mlir::OpBuilder &b;
  mlir::Location loc;
  mlir::ModuleOp module;
};

} // namespace gossamer::tile

#endif // GOSSAMER_PASSES_TILE_HOST_HOSTCODE_H
