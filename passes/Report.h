//===- Report.h - what the compiler says of itself --------------*- C++ -*-===//

#ifndef GOSSAMER_PASSES_REPORT_H
#define GOSSAMER_PASSES_REPORT_H

#include "mlir/IR/Operation.h"

namespace gossamer {

/// How an operation is computed: over what is stored, on the general road, or
/// on all entries. (The fast road's passes will add theirs.)
enum class Road { General, Dense };

/// Adds a line to the `gossamer.report` of the function that `op` is in, which
/// ends up in the signature and in `gs.explain`.
void report(mlir::Operation *op, llvm::StringRef name, Road road,
            const llvm::Twine &why);

/// Says, as a remark and in the report, why an operation is not what it could
/// be.
void reportRefusal(mlir::Operation *op, llvm::StringRef wanted,
                   const llvm::Twine &why);

} // namespace gossamer

#endif // GOSSAMER_PASSES_REPORT_H
