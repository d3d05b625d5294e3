//===- TileDialect.td - the tile dialect --------------------*- tablegen -*-===//

#ifndef GOSSAMER_TILE_DIALECT
#define GOSSAMER_TILE_DIALECT

include "mlir/IR/DialectBase.td"

def Tile_Dialect : Dialect {
  let name = "tile";
  let cppNamespace = "::gossamer::tile";
  let summary = "What one thread block of a GPU does with dense tiles";
  let description = [{
    A *program* is what one thread block does: warpgroups in *roles*, some that
    fetch tiles from global memory and some that compute with them, and *rings*
    of tiles in shared memory between the two. Values are whole tiles and
    fragments of them; control flow is `scf`, numbers are `arith`.

    What a program does not say is chosen by its lowering: the layout of tiles in
    shared memory and of fragments in registers, barriers and their phases,
    fences, descriptors, and which instruction multiplies.

    A ring is addressed by the number of the tile that passes through it, counted
    from 0 by each role for itself: tile n is in slot n modulo the ring's stages.
    So its state is a plain `i32` in loops, and two roles agree if they count
    alike. See docs/tile.md.
  }];
  let dependentDialects = ["::mlir::arith::ArithDialect",
                           "::mlir::memref::MemRefDialect"];
  let useDefaultTypePrinterParser = 1;
}

#endif // GOSSAMER_TILE_DIALECT
