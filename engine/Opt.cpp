//===- Opt.cpp - gossamer-opt, inside the library -------------------------===//
//
// Exported so that the command is a few kilobytes on top of the library instead
// of a second copy of the compiler.
//
//===----------------------------------------------------------------------===//

#include "engine/Codegen.h"
#include "passes/Passes.h"
#include "passes/tile/TilePasses.h"

#include "mlir/Tools/mlir-opt/MlirOptMain.h"

extern "C" __attribute__((visibility("default"))) int gs_opt_main(int argc,
                                                                  char **argv) {
  mlir::DialectRegistry registry;
  gossamer::registerDialects(registry);
  gossamer::tile::registerDialects(registry);
  gossamer::registerPasses();
  gossamer::tile::registerPasses();
  gossamer::registerCodegenPass();
  return mlir::asMainReturnCode(
      mlir::MlirOptMain(argc, argv, "Gossamer's optimizer driver\n", registry));
}
