//===- SparseOperand.h - operands of products that are sparse ---*- C++ -*-===//

#ifndef GOSSAMER_PASSES_SPARSEOPERAND_H
#define GOSSAMER_PASSES_SPARSEOPERAND_H

#include "passes/Elementwise.h"

namespace gossamer {

/// The identity over the dimensions of a tensor.
mlir::AffineMap identityOf(mlir::Value tensor);

/// An operand of the product `op` as a sparse tensor of which what is not
/// stored is 0: itself, or a sample of what is computed from one, elementwise,
/// on its pattern. An operand that is none stays as it is; one of another fill
/// is reported for `user`, the operation that would have taken it.
Access asSparse(mlir::linalg::GenericOp op, Access access,
                mlir::StringRef user);

} // namespace gossamer

#endif // GOSSAMER_PASSES_SPARSEOPERAND_H
