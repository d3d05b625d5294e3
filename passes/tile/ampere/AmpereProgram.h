//===- AmpereProgram.h - a tile program on other than Hopper ----*- C++ -*-===//

#ifndef GOSSAMER_PASSES_TILE_AMPERE_AMPEREPROGRAM_H
#define GOSSAMER_PASSES_TILE_AMPERE_AMPEREPROGRAM_H

#include "passes/tile/LowerProgram.h"

namespace gossamer::tile {

/// Lowers to sm_80 and newer: what sm_90a does by TMA, wgmma and stmatrix is
/// done by cp.async, ldmatrix and mma.sync (docs/tile.md).
///
/// The producer is one warp, the last of the block, all of whose lanes do what
/// its role says: a copy is shared by them, what must be done once is done by
/// the first lane. Products are over when they are begun, and every warp
/// multiplies its own 16 rows, so that there are no turns to take.
class AmpereProgram : public ProgramLowering {
public:
  AmpereProgram(ProgramOp program, mlir::ModuleOp kernels, int64_t number)
      : ProgramLowering(program, kernels, number) {
    storesByScratch = false;
  }

private:
  /// What a kernel reads of a map (engine/TileMap.h).
  struct Tensor {
    mlir::Value address, rows, columns;
    mlir::Value strides[3]; // of batch, head and row, in bytes
  };

  // AmpereProgram.cpp
  mlir::Value warpgroupOf(mlir::Value thread) override;
  mlir::LogicalResult emitRole(RoleOp role, int64_t firstWarpgroup) override;
  int64_t arrivalsToFill(mlir::Type type) override;
  void publishBarriers() override {}
  void waitBarrier(mlir::Value barrier, mlir::Value parity) override;
  void lowerNext(NextOp op) override;
  void lowerSend(SendOp op) override;
  void lowerRelease(ReleaseOp op) override;
  void lowerTurn(bool) override {}
  /// What follows is done when all lanes have come here.
  void joinWarp();
  /// `body` in the first lane.
  void once(llvm::function_ref<void()> body);

  // AmpereCopies.cpp
  void lowerLoad(LoadOp op) override;
  void lowerLoadNumbers(LoadNumbersOp op) override;
  void lowerStore(StoreOp op) override;
  Tensor tensorOf(mlir::Value map);
  mlir::Value rowAddress(const Tensor &tensor, mlir::Value batch,
                         mlir::Value head, mlir::Value row, mlir::Value column);
  mlir::Value isBelow(mlir::Value x, mlir::Value bound);
  Registers transposeInQuads(mlir::Value inQuad, Registers words);

  // AmpereProducts.cpp
  void lowerMma(MmaOp op) override;
  void lowerAwait(AwaitOp op) override;
  void lowerLoadOperand(LoadOperandOp op) override;
};

} // namespace gossamer::tile

#endif // GOSSAMER_PASSES_TILE_AMPERE_AMPEREPROGRAM_H
