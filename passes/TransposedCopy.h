//===- TransposedCopy.h - matrices turned over in registers -----*- C++ -*-===//

#ifndef GOSSAMER_PASSES_TRANSPOSEDCOPY_H
#define GOSSAMER_PASSES_TRANSPOSEDCOPY_H

#include "mlir/IR/Builders.h"
#include "mlir/IR/BuiltinTypes.h"

namespace gossamer {

/// As many vectors as they have lanes (a power of two), with lane l of vector r
/// in lane r of vector l.
llvm::SmallVector<mlir::Value> transposeLanes(mlir::OpBuilder &builder,
                                              mlir::Location loc,
                                              mlir::ValueRange vectors);

/// A vector of the sums of vectors: lane n is the sum of the lanes of vector n.
/// Their number is a power of two, and not above their lanes.
mlir::Value sumLanes(mlir::OpBuilder &builder, mlir::Location loc,
                     mlir::ValueRange vectors);

/// Copies a matrix of `rows` x `columns`, transposed, a square of `lanes` at a
/// time. Both callbacks get the row and the column of the matrix where a vector
/// begins, and a mask that is null for a whole vector: `load` reads along the
/// columns, `store` writes what lies along the rows.
void emitTransposedCopy(
    mlir::OpBuilder &builder, mlir::Location loc, mlir::Value rows,
    mlir::Value columns, int64_t lanes,
    llvm::function_ref<mlir::Value(mlir::OpBuilder &, mlir::Value row,
                                   mlir::Value column, mlir::Value mask)>
        load,
    llvm::function_ref<void(mlir::OpBuilder &, mlir::Value row,
                            mlir::Value column, mlir::Value vector,
                            mlir::Value mask)>
        store);

} // namespace gossamer

#endif // GOSSAMER_PASSES_TRANSPOSEDCOPY_H
