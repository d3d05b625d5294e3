//===- TestCrash.h - crashes on demand, for the tests
//----------------------===//

#ifndef GOSSAMER_ENGINE_TESTCRASH_H
#define GOSSAMER_ENGINE_TESTCRASH_H

namespace mlir {
class ModuleOp;
} // namespace mlir

namespace gossamer {

/// Crashes as the module's attribute `gossamer.test_crash` says ("abort",
/// "segv", "fatal" or "overflow"), and does nothing without it. The importer
/// never sets it: only the tests of crash recovery do.
void testCrash(mlir::ModuleOp module);

} // namespace gossamer

#endif // GOSSAMER_ENGINE_TESTCRASH_H
