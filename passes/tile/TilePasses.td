//===- TilePasses.td - passes of the tile dialect -----------*- tablegen -*-===//

#ifndef GOSSAMER_TILE_PASSES
#define GOSSAMER_TILE_PASSES

include "mlir/Pass/PassBase.td"

def BuildAttention : Pass<"gossamer-build-attention", "::mlir::ModuleOp"> {
  let summary = "tile.attention becomes a tile program and the entry that runs it";
  let description = [{
    One producer, and a consumer warpgroup for every 64 rows of a block of queries.
    Thread blocks stay and take tiles, the longest first, from a counter; the first
    scores of a tile are multiplied while the last product of the tile before runs,
    and within a tile the next scores before the softmax of these.
  }];
  let dependentDialects = [
    "::gossamer::tile::TileDialect", "::mlir::LLVM::LLVMDialect",
    "::mlir::arith::ArithDialect", "::mlir::math::MathDialect",
    "::mlir::scf::SCFDialect"
  ];
}

def LowerTileToNvvm : Pass<"gossamer-lower-tile-to-nvvm", "::mlir::ModuleOp"> {
  let summary = "tile programs become kernels for sm_90a, in @kernels";
  let description = [{
    Roles become branches on the warpgroup, with its share of the registers; rings
    become shared memory, swizzled in lines of 128 bytes, with two mbarriers a
    stage; loads become TMA, products wgmma; a fragment becomes the registers that
    a thread holds of it. What the host does becomes calls of the runtime.
  }];
  let dependentDialects = [
    "::mlir::LLVM::LLVMDialect", "::mlir::NVVM::NVVMDialect",
    "::mlir::arith::ArithDialect", "::mlir::scf::SCFDialect"
  ];
}

def LowerTileToHost : Pass<"gossamer-lower-tile-to-host", "::mlir::ModuleOp"> {
  let summary = "tile programs become functions of the processor";
  let description = [{
    So that what runs on a GPU is tested without one. A program becomes what one of
    its warpgroups does, as one thread: roles are branches on the warpgroup, rings
    and queues calls of the runtime, which counts what is in them
    (engine/TileBlock.cpp), fragments arrays in memory. A product is made where it
    begins, so tiles are read there and not where it is awaited.
  }];
  let options = [
    Option<"vectorBytes", "vector-bytes", "unsigned", "32", "width of a vector">
  ];
  let dependentDialects = [
    "::mlir::LLVM::LLVMDialect", "::mlir::arith::ArithDialect",
    "::mlir::scf::SCFDialect"
  ];
}

#endif // GOSSAMER_TILE_PASSES
