//===- HostProgram.h - a tile program becomes a function --------*- C++ -*-===//

#ifndef GOSSAMER_PASSES_TILE_HOST_HOSTPROGRAM_H
#define GOSSAMER_PASSES_TILE_HOST_HOSTPROGRAM_H

#include "passes/tile/ControlFlow.h"
#include "passes/tile/host/HostCode.h"

#include <optional>

namespace gossamer::tile {

/// What the runtime must know to run a program (gs_tile_launch).
struct HostInfo {
  struct Ring {
    std::string name;
    int64_t begin, bytes, stages;
  };
  mlir::LLVM::LLVMFuncOp function;
  int64_t warpgroups = 0, consumers = 0, sharedBytes = 0, scratchBytes = 0;
  llvm::SmallVector<Ring> rings;
};

/// Emits what one warpgroup does, as one thread (engine/TileBlock.cpp).
///
/// Fragments, operands and rows are arrays of f32 in memory of the warpgroup,
/// row by row, each value in a place of its own; bits likewise, as 0 and 1 of
/// i32. What a loop or a branch hands on is copied. An operand's numbers are
/// rounded, and f32 all the same. Tiles in shared memory are arrays of 16-bit
/// numbers, row by row; columns are read where they are in shared memory. A
/// thread has whole rows, so partial ones are whole.
class HostProgram : ControlFlow {
public:
  HostProgram(ProgramOp program, mlir::ModuleOp module, int64_t lanes);
  mlir::FailureOr<HostInfo> run();

private:
  /// Numbers of a value in memory.
  struct Extent {
    int64_t rows, columns;
    int64_t size() const { return rows * columns; }
  };

  // HostProgram.cpp
  void placeShared();
  void createFunction();
  mlir::LogicalResult emitRole(RoleOp role, int64_t firstWarpgroup) override;
  mlir::LogicalResult lower(mlir::Operation *op) override;
  using ControlFlow::typesOf;
  llvm::SmallVector<mlir::Type> typesOf(mlir::Type type) override;
  void assign(mlir::ValueRange from, mlir::ValueRange to) override;
  void rename(mlir::Value value, mlir::Value as) override;
  static std::optional<Extent> extentOf(mlir::Type type);
  /// Where the numbers of a value are, in memory of this warpgroup.
  mlir::Value place(mlir::Value value);
  mlir::Value allocate(int64_t numbers);

  // HostRings.cpp
  void lowerRead(ReadOp op);
  void lowerNext(NextOp op);
  void lowerArrive(ArriveOp op);
  void lowerLoad(LoadOp op);
  void lowerLoadNumbers(LoadNumbersOp op);
  void lowerWait(WaitOp op);
  void lowerColumns(ColumnsOp op);
  void lowerRelease(ReleaseOp op);
  void lowerSend(SendOp op);
  void lowerReceive(ReceiveOp op);
  void lowerTurn(llvm::StringRef function);
  void lowerSubtile(SubtileOp op);
  mlir::Value callRing(llvm::StringRef function, mlir::Type result,
                       mlir::Value ring, mlir::Value number);

  // HostFragments.cpp
  void lowerSplat(SplatOp op);
  void lowerElementwise(ElementwiseOp op);
  void lowerReduce(ReduceOp op);
  void lowerToOperand(ToOperandOp op);
  void lowerStore(StoreOp op);
  void lowerLoadRows(LoadRowsOp op);
  void lowerStoreRows(StoreRowsOp op);
  void lowerLoadBits(LoadBitsOp op);
  /// Once for each number of an extent: its row, its column, and its index.
  void
  forEach(Extent extent,
          llvm::function_ref<void(mlir::Value, mlir::Value, mlir::Value)> body);
  /// What an elementwise operation is given of an operand.
  mlir::Value element(mlir::Value tile, mlir::Value row, mlir::Value column,
                      mlir::Value index);
  mlir::Value rounded(mlir::Value x, mlir::Type half);
  /// Once for each number of rows below `limit`: its index in memory, counted
  /// from `base` on, and among the numbers of the rows.
  void forRows(mlir::Value base, mlir::Value limit, Extent extent, int64_t span,
               llvm::function_ref<void(mlir::Value, mlir::Value)> body);

  // HostProducts.cpp
  void placeSides();
  void lowerMma(MmaOp op);
  void lowerLoadOperand(LoadOperandOp op);
  void widen(mlir::Value from, mlir::Value to, SharedType type,
             bool transposed);
  void multiply(mlir::Value lhs, mlir::Value rhs, mlir::Value accumulator,
                mlir::Value result, Extent extent, int64_t depth);

  HostCode code;
  /// Numbers in a vector register.
  int64_t lanes;
  HostInfo info;
  mlir::Type f32;

  llvm::DenseMap<mlir::Value, int64_t> ringNumbers, sharedBegins;
  llvm::DenseMap<mlir::Value, mlir::Value> places;
  /// Of products, while they are made: their sides.
  mlir::Value left, right;

  mlir::Value self, shared, scratch, block, blocks, warpgroup;
  mlir::Value roleWarpgroup; // in its role
};

} // namespace gossamer::tile

#endif // GOSSAMER_PASSES_TILE_HOST_HOSTPROGRAM_H
