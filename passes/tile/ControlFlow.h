//===- ControlFlow.h - what all lowerings of programs do alike --*- C++ -*-===//

#ifndef GOSSAMER_PASSES_TILE_CONTROLFLOW_H
#define GOSSAMER_PASSES_TILE_CONTROLFLOW_H

#include "passes/tile/TilePasses.h"
#include "llvm/ADT/DenseMap.h"

namespace gossamer::tile {

using Values = llvm::SmallVector<mlir::Value>;

/// Walks a program once and emits what it does: control flow and numbers are
/// copied, with other values in the place of tiles. What becomes of a tile is
/// for a lowering to say: values that travel as the tile did, or memory.
class ControlFlow {
protected:
  explicit ControlFlow(ProgramOp program)
      : program(program), b(program.getContext()), loc(program.getLoc()) {}
  virtual ~ControlFlow() = default;

  /// What a value becomes; nothing, if it is in memory.
  virtual llvm::SmallVector<mlir::Type> typesOf(mlir::Type type) = 0;
  virtual mlir::LogicalResult lower(mlir::Operation *op) = 0;
  /// Of a role whose first warpgroup this is, where `b` stands.
  virtual mlir::LogicalResult emitRole(RoleOp role, int64_t firstWarpgroup) = 0;
  /// At once, as far as values are in memory: all of `from` become `to`.
  virtual void assign(mlir::ValueRange from, mlir::ValueRange to) {}
  /// Of values in memory: two names of one.
  virtual void rename(mlir::Value value, mlir::Value as) {}

  /// What all roles share, and then a branch for each of them.
  mlir::LogicalResult emitRoles(mlir::Value warpgroup);
  mlir::LogicalResult lowerBlock(mlir::Block &block);
  mlir::LogicalResult lowerFor(mlir::scf::ForOp op);
  mlir::LogicalResult lowerWhile(mlir::scf::WhileOp op);
  mlir::LogicalResult lowerIf(mlir::scf::IfOp op);
  /// An operation on numbers; others are refused.
  mlir::LogicalResult copyScalar(mlir::Operation *op);

  mlir::Value get(mlir::Value value) { return registers[value].front(); }
  mlir::ArrayRef<mlir::Value> all(mlir::Value value) {
    return registers[value];
  }
  void set(mlir::Value value, Values to) { registers[value] = std::move(to); }
  /// The map of the tensor that has this row of a map, and its row there.
  std::pair<mlir::Value, mlir::Value> partOf(mlir::Value map, mlir::Value row);
  void append(mlir::ValueRange from, llvm::SmallVectorImpl<mlir::Value> &to);
  /// Takes as many of `from` as the value has registers.
  void take(mlir::Value value, mlir::ValueRange &from);
  llvm::SmallVector<mlir::Type> typesOf(mlir::TypeRange types);

  ProgramOp program;
  mlir::OpBuilder b;
  mlir::Location loc;

private:
  llvm::DenseMap<mlir::Value, Values> registers;
};

} // namespace gossamer::tile

#endif // GOSSAMER_PASSES_TILE_CONTROLFLOW_H
