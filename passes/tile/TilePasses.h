//===- TilePasses.h - passes of the tile dialect ----------------*- C++ -*-===//

#ifndef GOSSAMER_PASSES_TILE_TILEPASSES_H
#define GOSSAMER_PASSES_TILE_TILEPASSES_H

#include "dialect/tile/Tile.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Dialect/LLVMIR/NVVMDialect.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/IR/BuiltinOps.h"
#include "mlir/Pass/Pass.h"

namespace gossamer::tile {

#define GEN_PASS_DECL
#include "passes/tile/TilePasses.h.inc"

/// Whether a module holds tile programs, or what becomes one, and takes a
/// pipeline below.
bool isTileModule(mlir::ModuleOp module);

/// That all of it is made for this chip, as LLVM names it.
mlir::LogicalResult verifyMadeFor(mlir::ModuleOp module, llvm::StringRef chip);

/// tile.attention and tile programs -> the LLVM dialect: kernels in @kernels,
/// and the host's code.
void buildTilePipeline(mlir::OpPassManager &pm);

/// The same for the processor: functions, and what runs them.
void buildTileHostPipeline(mlir::OpPassManager &pm, unsigned vectorBytes);

/// The dialect, and what it is lowered to.
void registerDialects(mlir::DialectRegistry &registry);

/// Passes, and the pipelines as `gossamer-lower-tile` and
/// `gossamer-lower-tile-host`.
void registerPasses();

} // namespace gossamer::tile

#endif // GOSSAMER_PASSES_TILE_TILEPASSES_H
