//===- RowParts.h - rows cut into parts of about equal work -----*- C++ -*-===//
//
// Rows of a sparse matrix have from no to very many entries, so a range of rows
// is given to a thread by what it stores, not by its length. A row is never
// cut: which thread takes it does not change its sum.
//
//===----------------------------------------------------------------------===//

#ifndef GOSSAMER_PASSES_ROWPARTS_H
#define GOSSAMER_PASSES_ROWPARTS_H

#include "passes/Storage.h"

namespace gossamer {

class RowParts {
public:
  /// Cuts the `rows` segments of the compressed level `lvl`. An entry costs
  /// `work` (scalar operations, about), which decides how many parts there are.
  RowParts(mlir::OpBuilder &builder, mlir::Location loc, const Storage &storage,
           unsigned lvl, mlir::Value rows, mlir::Value work);

  mlir::Value count;
  /// The rows [first, last) of a part.
  std::pair<mlir::Value, mlir::Value> range(mlir::OpBuilder &builder,
                                            mlir::Value part) const;

private:
  /// What the rows before `row` cost, in entries.
  mlir::Value costBefore(mlir::OpBuilder &builder, mlir::Value row) const;
  mlir::Value firstRow(mlir::OpBuilder &builder, mlir::Value part) const;

  mlir::Location loc;
  const Storage &storage;
  unsigned lvl;
  mlir::Value rows, total;
};

} // namespace gossamer

#endif // GOSSAMER_PASSES_ROWPARTS_H
