//===- LowerProgram.h - a tile program becomes a kernel ---------*- C++ -*-===//

#ifndef GOSSAMER_PASSES_TILE_LOWERPROGRAM_H
#define GOSSAMER_PASSES_TILE_LOWERPROGRAM_H

#include "passes/tile/ControlFlow.h"
#include "passes/tile/Ptx.h"

namespace gossamer::tile {

/// Bytes of a line of a tile in shared memory: 64 columns of a row. Lines of a
/// panel follow one another row by row, panels of 64 columns one another; eight
/// lines are swizzled together.
constexpr int64_t lineBytes = 128, panelColumns = 64;

/// Named barriers of the warpgroups of a role, one each.
constexpr int64_t stagingBarrier = 4;

/// What the host must know to launch a kernel.
struct KernelInfo {
  int64_t number, threads, sharedBytes;
};

/// Emits a kernel: a tile value is replaced by the registers that a thread
/// holds of it.
///
/// A fragment's register i of thread t is row 16 (t / 32 mod 4) + (t mod 32) /
/// 4
/// + 8 (i / 2 mod 2), column 8 (i / 4) + 2 (t mod 4) + i mod 2: what wgmma
/// accumulates in, and mma.sync of 16 x 8, too. The same pairs of registers,
/// rounded, are a left side.
///
/// This is the lowering to sm_90a; what others do another way they override
/// (ampere/AmpereProgram.h).
class ProgramLowering : protected ControlFlow {
public:
  ProgramLowering(ProgramOp program, mlir::ModuleOp kernels, int64_t number);
  virtual ~ProgramLowering() = default;
  mlir::FailureOr<KernelInfo> run();

protected:
  struct Place {
    /// Bytes from the start of shared memory: data, barriers.
    int64_t data = 0, full = 0, empty = 0, stages = 0, stageBytes = 0;
  };

  // LowerProgram.cpp
  void placeMemory();
  void createFunction();
  void emitThreadNumbers();
  /// Of a thread, in the order of roles.
  virtual mlir::Value warpgroupOf(mlir::Value thread);
  void emitBarriers();
  /// How many arrivals fill a stage of what was allocated.
  virtual int64_t arrivalsToFill(mlir::Type type) { return 1; }
  /// In the thread that has made them: all units may see them.
  virtual void publishBarriers();
  mlir::LogicalResult emitRole(RoleOp role, int64_t firstWarpgroup) override;
  mlir::LogicalResult lower(mlir::Operation *op) override;
  using ControlFlow::typesOf;
  llvm::SmallVector<mlir::Type> typesOf(mlir::Type type) override;

  // LowerRings.cpp
  mlir::Value address(int64_t offset);
  mlir::Value slotAddress(int64_t offset, int64_t bytes, int64_t stages,
                          mlir::Value number);
  mlir::Value parity(int64_t stages, mlir::Value number);
  void waitFor(int64_t barriers, const Place &place, mlir::Value number,
               bool toBeFree);
  virtual void waitBarrier(mlir::Value barrier, mlir::Value parity);
  void lowerRead(ReadOp op);
  virtual void lowerNext(NextOp op);
  virtual void lowerLoad(LoadOp op);
  virtual void lowerLoadNumbers(LoadNumbersOp op);
  void lowerWait(WaitOp op);
  void lowerColumns(ColumnsOp op);
  virtual void lowerRelease(ReleaseOp op);
  virtual void lowerSend(SendOp op);
  void lowerReceive(ReceiveOp op);
  virtual void lowerTurn(bool take);

  // LowerFragments.cpp
  virtual void lowerMma(MmaOp op);
  virtual void lowerAwait(AwaitOp op);
  void lowerSplat(SplatOp op);
  mlir::LogicalResult lowerElementwise(ElementwiseOp op);
  mlir::Value scalar(mlir::Operation &op, mlir::ValueRange operands);
  void lowerReduce(ReduceOp op);
  void lowerCombine(CombineOp op);
  void lowerToOperand(ToOperandOp op);
  void lowerToFragment(ToFragmentOp op);
  virtual void lowerLoadOperand(LoadOperandOp op);
  virtual void lowerStore(StoreOp op);

  // LowerRows.cpp
  void lowerLoadRows(LoadRowsOp op);
  void lowerStoreRows(StoreRowsOp op);
  void lowerArrive(ArriveOp op);
  /// Where in memory the first of its numbers in a row is, and whether the row
  /// is one of the first `limit`.
  struct RowPlace {
    mlir::Value at, inside;
  };
  /// Of the thread's n-th row.
  RowPlace rowPlace(mlir::Value memory, mlir::Type element, mlir::Value base,
                    mlir::Value limit, int64_t n, int64_t span,
                    int64_t columns);

  // LowerBits.cpp
  void lowerLoadBits(LoadBitsOp op);
  mlir::Value bitsWithout(mlir::Value number, int64_t word);
  Registers loadBitsOfRow(mlir::Value memory, mlir::Value number,
                          mlir::Value row, mlir::ValueRange without);
  /// The bit of a fragment's register.
  mlir::Value bitOf(mlir::Value bits, int64_t element);

  mlir::Value descriptor(mlir::Value address, int64_t leading);
  /// Addresses of what this lane gives to, or gets from, groups of four 8x8
  /// matrices: 16 rows of this warp and 16 columns each.
  Registers matrixAddresses(mlir::Value tile, SharedType type);

  mlir::ModuleOp kernels;
  int64_t number;
  Ptx ptx;
  mlir::LLVM::LLVMFuncOp function;

  llvm::DenseMap<mlir::Value, Place> places;
  int64_t sharedBytes = 0;
  /// Whether a store goes through its scratch, which else has no memory.
  bool storesByScratch = true;

  mlir::Value shared;                 // address of shared memory
  mlir::Value thread, lane, warp;     // warp: in its warpgroup
  mlir::Value warpgroup;              // in the block
  mlir::Value roleWarpgroup;          // in its role
  mlir::Value isFirstLane, isElected; // of its warp, of its warpgroup
};

} // namespace gossamer::tile

#endif // GOSSAMER_PASSES_TILE_LOWERPROGRAM_H
