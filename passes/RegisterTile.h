//===- RegisterTile.h - products with their sums in registers ---*- C++ -*-===//
//
// sums[m][n] += a[m][k] * b[k][n] for a tile of fixed size: every row of the
// tile is a number of `a` broadcast against vectors of `b`, and the sums are
// SSA values, which a loop carries. Where operands come from, and what becomes
// of the sums, is the caller's: loads are callbacks, initial sums are given and
// final ones returned, so that an epilogue runs on them before they are stored.
//
//   RegisterTile tile(loc, {/*rows=*/6, /*vectors=*/4, /*lanes=*/16}, f32);
//   SmallVector<Value> sums = tile.fill(b, zero);
//   sums = tile.carry(b, first, last, sums,           // blocks of a row
//       [&](OpBuilder &in, Value block, ValueRange sums) {
//         return tile.accumulate(in, lower, upper, sums, loadA, loadB);
//       });
//   tile.forEach(sums, [&](int64_t row, int64_t vector, Value sum) { ... });
//
//===----------------------------------------------------------------------===//

#ifndef GOSSAMER_PASSES_REGISTERTILE_H
#define GOSSAMER_PASSES_REGISTERTILE_H

#include "mlir/IR/Builders.h"
#include "mlir/IR/BuiltinTypes.h"

namespace gossamer {

/// `rows` x (`vectors` * `lanes`) numbers.
struct TileShape {
  int64_t rows, vectors, lanes;
};

class RegisterTile {
public:
  /// A number of `a` for a row of the tile.
  using LoadScalar = llvm::function_ref<mlir::Value(mlir::OpBuilder &,
                                                    int64_t row, mlir::Value)>;
  /// `lanes` numbers of `b` for a vector of the tile.
  using LoadVector = llvm::function_ref<mlir::Value(
      mlir::OpBuilder &, int64_t vector, mlir::Value)>;
  using Sums = llvm::SmallVector<mlir::Value>;

  /// `sum` is the type of the sums: operands of narrower ones are extended.
  RegisterTile(mlir::Location loc, TileShape shape, mlir::Type sum);

  const TileShape &getShape() const { return shape; }
  mlir::VectorType getVectorType() const { return vector; }

  /// Sums that all are `scalar`.
  Sums fill(mlir::OpBuilder &builder, mlir::Value scalar) const;
  /// The sums of one more `k`.
  Sums step(mlir::OpBuilder &builder, mlir::Value k, mlir::ValueRange sums,
            LoadScalar loadA, LoadVector loadB) const;
  /// A loop over k in [lower, upper).
  Sums accumulate(mlir::OpBuilder &builder, mlir::Value lower,
                  mlir::Value upper, mlir::ValueRange sums, LoadScalar loadA,
                  LoadVector loadB) const;
  /// A loop that carries the sums through what `body` makes of them.
  Sums carry(mlir::OpBuilder &builder, mlir::Value lower, mlir::Value upper,
             mlir::ValueRange sums,
             llvm::function_ref<Sums(mlir::OpBuilder &, mlir::Value iv,
                                     mlir::ValueRange sums)>
                 body) const;
  /// Visits (row, vector, sum), rows outermost.
  void
  forEach(mlir::ValueRange sums,
          llvm::function_ref<void(int64_t, int64_t, mlir::Value)> body) const;

private:
  mlir::Location loc;
  TileShape shape;
  mlir::VectorType vector;
};

/// A scalar or vector in the wider type `sum` (or a vector of it); integers
/// are extended with their sign, bool is 0 or 1.
mlir::Value extendTo(mlir::OpBuilder &builder, mlir::Location loc,
                     mlir::Value value, mlir::Type sum);

/// `lanes` elements from `indices` on along the last dimension of a buffer that
/// is contiguous there; with `mask` (vector<lanes x i1>) lanes that are off
/// read nothing and are 0.
mlir::Value loadLanes(mlir::OpBuilder &builder, mlir::Location loc,
                      int64_t lanes, mlir::Value buffer,
                      mlir::ValueRange indices, mlir::Value mask = {});
void storeLanes(mlir::OpBuilder &builder, mlir::Location loc,
                mlir::Value vector, mlir::Value buffer,
                mlir::ValueRange indices, mlir::Value mask = {});

/// Covers [0, size) with strips of `vectors` * `lanes` numbers, then with
/// single vectors, of which the last is masked. `body` is emitted once for each
/// kind; it gets the first place, the number of vectors, and the mask or null.
void forEachStrip(mlir::OpBuilder &builder, mlir::Location loc,
                  mlir::Value size, int64_t vectors, int64_t lanes,
                  llvm::function_ref<void(mlir::OpBuilder &, mlir::Value first,
                                          int64_t vectors, mlir::Value mask)>
                      body);

/// Covers [0, size) with strips of `rows`, then with single ones.
void forEachRowStrip(
    mlir::OpBuilder &builder, mlir::Location loc, mlir::Value size,
    int64_t rows,
    llvm::function_ref<void(mlir::OpBuilder &, mlir::Value first, int64_t rows)>
        body);

} // namespace gossamer

#endif // GOSSAMER_PASSES_REGISTERTILE_H
