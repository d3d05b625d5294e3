//===- LowerEntry.h - the host's side of programs ---------------*- C++ -*-===//

#ifndef GOSSAMER_PASSES_TILE_LOWERENTRY_H
#define GOSSAMER_PASSES_TILE_LOWERENTRY_H

#include "passes/tile/TilePasses.h"
#include "llvm/ADT/DenseMap.h"

namespace gossamer::tile {

/// What the host does, as calls of the runtime (engine/include/gossamer-c.h);
/// of which one is for a lowering to say.
class EntryLowering {
public:
  mlir::LogicalResult run();

protected:
  explicit EntryLowering(mlir::ModuleOp module)
      : module(module), b(module.getContext()),
        pointer(mlir::LLVM::LLVMPointerType::get(module.getContext())),
        word(b.getI64Type()),
        nothing(mlir::LLVM::LLVMVoidType::get(module.getContext())) {}
  virtual ~EntryLowering() = default;

  /// Fills `map`, 128 bytes.
  virtual void describe(DescribeOp op, mlir::Value map) = 0;
  virtual mlir::Value resident(ResidentOp op, ProgramOp program) = 0;
  /// With an array of the addresses of arguments.
  virtual void launch(LaunchOp op, ProgramOp program,
                      mlir::Value arguments) = 0;

  mlir::Value literal(int64_t value);
  /// An array of these words, in memory of the calling function.
  mlir::Value words(mlir::Operation *op, mlir::ValueRange values);
  mlir::Value call(mlir::Operation *op, llvm::StringRef name, mlir::Type result,
                   mlir::ValueRange arguments);

  mlir::ModuleOp module;
  mlir::OpBuilder b;
  mlir::Type pointer, word, nothing;

private:
  mlir::LogicalResult lower(mlir::Operation *op);
  void lowerJoin(JoinOp op);
  mlir::LogicalResult lowerLaunch(LaunchOp op, ProgramOp program);
  ProgramOp find(mlir::Operation *op, llvm::StringRef program);
  /// Memory of the calling function, uninitialised.
  mlir::Value reserve(mlir::Operation *op, mlir::Type type, int64_t alignment);
  mlir::Value array(mlir::Operation *op, mlir::Type type,
                    mlir::ValueRange values);

  llvm::DenseMap<mlir::Value, mlir::Value> maps;
};

} // namespace gossamer::tile

#endif // GOSSAMER_PASSES_TILE_LOWERENTRY_H
