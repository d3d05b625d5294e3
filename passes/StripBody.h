//===- StripBody.h - a body on vectors of stored entries --------*- C++ -*-===//

#ifndef GOSSAMER_PASSES_STRIPBODY_H
#define GOSSAMER_PASSES_STRIPBODY_H

#include "passes/StoredLines.h"
#include "passes/StoredOps.h"

namespace gossamer {

/// The body of an operation on stored entries, many at once. Its dense operands
/// are read as vectors along blocks; where coordinates are stored one by one,
/// they must not depend on them.
class StripBody {
public:
  /// `map` is that of the pattern, from the operation's loops. Null if the body
  /// cannot run on vectors, of `vectorBytes` bytes.
  static std::optional<StripBody>
  find(mlir::Location loc, mlir::Block &body, const Storage &storage,
       const StoredRuns &runs, mlir::AffineMap map,
       const BodyOperands &operands, unsigned vectorBytes);

  const StoredLines &getLines() const { return lines; }
  /// What the body makes of the pattern's values and the operands at a strip;
  /// `total`, if given, is the argument between them.
  mlir::Value emit(mlir::OpBuilder &builder, const StoredLines::Strip &strip,
                   mlir::Value total = {}) const;

private:
  StripBody(mlir::Location loc, mlir::Block &body, const Storage &storage,
            mlir::AffineMap map, const BodyOperands &operands,
            const StoredLines &lines, unsigned lane)
      : loc(loc), body(body), storage(storage), map(map), operands(operands),
        lines(lines), lane(lane) {}

  mlir::Location loc;
  mlir::Block &body;
  const Storage &storage;
  mlir::AffineMap map;
  const BodyOperands &operands;
  StoredLines lines;
  /// The loop along the lanes; one that is none where coordinates are stored.
  unsigned lane;
};

/// Where an entry lies in an array of values.
mlir::AffineMap placeOfEntry(mlir::MLIRContext *context);

} // namespace gossamer

#endif // GOSSAMER_PASSES_STRIPBODY_H
