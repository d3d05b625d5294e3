//===- main.cpp - the gossamer-opt command --------------------------------===//
//
// mlir-opt with Gossamer's dialect, passes and pipelines, and those of MLIR
// that Gossamer uses. All of it is in the library; this is only the door.
//
//===----------------------------------------------------------------------===//

extern "C" int gs_opt_main(int argc, char **argv);

int main(int argc, char **argv) { return gs_opt_main(argc, argv); }
