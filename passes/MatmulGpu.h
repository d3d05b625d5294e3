//===- MatmulGpu.h - products with storage by rows, on a GPU ----*- C++ -*-===//
//
// Kinds, by what is contiguous and what is stored:
//
// * Entries, with lanes (columns) contiguous in the dense operand and in the
//   result (MatmulGpuRows.cpp): a warp sums a row for a strip of columns, of 16
//   bytes a lane. Where that fills the GPU, a strip is a warp wide. Where it
//   does not, eight lanes have a strip, a line of 128 bytes, and four such
//   groups take entries of the row by turns. Strips are outermost, so that what
//   is read of the dense operand stays in the first-level cache. Eight entries
//   are loaded before the first is used.
// * Blocks with contiguous lanes (MatmulGpuBlocks.cpp): a thread sums 16 bytes
//   of a few rows of a block, which share what they read.
// * There are no lanes (a vector, MatmulGpuDots.cpp): a warp sums a row, or a
//   quarter of one where rows are short.
// * Anything else: a thread has one number of the result.
//
// A long row must not keep everybody waiting: entries beyond its first few
// hundred are summed in pieces, by a kernel before, and whoever has the row
// adds the pieces in order. So a sum does not depend on timing.
//
//===----------------------------------------------------------------------===//

#ifndef GOSSAMER_PASSES_MATMULGPU_H
#define GOSSAMER_PASSES_MATMULGPU_H

#include "mlir/Dialect/SCF/IR/SCF.h"
#include "passes/Matmul.h"

namespace gossamer {

class GpuProduct : RowProduct {
public:
  GpuProduct(const MatmulLoops &loops, const RowFormat &format)
      : RowProduct(loops, format) {}

  std::optional<unsigned> contiguousLane() const;
  /// The lane of y[.., t, o] = sum_k x[.., t, k] w[o, k] that is t.
  std::optional<unsigned> lanesInColumns() const;
  void inColumns(unsigned lane);
  void asLinear(unsigned lane);
  void asDots();
  void byNumber();

private:
  using Value = mlir::Value;
  using OpBuilder = mlir::OpBuilder;

  /// Pieces begin at multiples of `length` entries, a few times the rows' mean
  /// at least; a row keeps what is before its second such place. Rows can only
  /// be long in matrices that are wider than `columns`.
  struct Pieces {
    int64_t columns;
    Value length, sums;
  };
  /// Lanes beside one another, for as many vectors of `count` numbers.
  struct Strip {
    unsigned lane;
    int64_t lanes, count;
    Value chunks;     ///< vectors in all
    int64_t resident; ///< blocks on a multiprocessor, at least
  };
  /// What is loaded for one entry, and a sum with it.
  struct Factors {
    Value value, dense;
  };
  using Load = llvm::function_ref<llvm::SmallVector<Factors>(
      OpBuilder &, llvm::ArrayRef<Value> entries)>;
  using Add = llvm::function_ref<Value(OpBuilder &, const Factors &, Value)>;
  /// What entries are multiplied from; `loadDense` gets the summed coordinate.
  /// Coordinates come first: what they point at takes longest.
  llvm::SmallVector<Factors>
  loadFactors(OpBuilder &b, llvm::ArrayRef<Value> entries,
              llvm::function_ref<Value(Value)> loadDense) const;

  /// `sum` with every `apart`-th entry of [first, last) from `place` on, of
  /// which several are loaded before the first is used.
  Value sumShare(OpBuilder &b, Value first, Value last, int64_t apart,
                 Value place, Value sum, Load load, Add add) const;

  /// Pieces are for entries, not blocks, and for plain sums.
  bool mayBeCut() const {
    return format.blockSize() == 1 && combiner == Combiner::Sum;
  }
  /// Plans pieces of `least` entries at least, with memory for a sum of `sizes`
  /// of each.
  Pieces plan(OpBuilder &b, int64_t columns, Value least,
              llvm::ArrayRef<Value> sizes) const;
  /// Entries of a row, on average.
  Value meanOfRows(OpBuilder &b) const;
  Value isVeryWide(OpBuilder &b) const;
  Value isWide(OpBuilder &b, const Pieces &pieces) const;
  Value countPieces(OpBuilder &b, const Pieces &pieces) const;
  /// Where the entries end that a row keeps if it is long.
  Value endOfHead(OpBuilder &b, Value first, const Pieces &pieces) const;
  /// The row with the entries alone that it keeps.
  Row headOf(OpBuilder &b, const Row &row, const Pieces &pieces) const;
  /// The row that an entry is of, found by all lanes of a warp together.
  Value rowOfEntry(OpBuilder &b, Value entry) const;
  /// Emits `body` where a piece is one; with the row cut to the piece.
  void emitPiece(OpBuilder &b, Value piece, const Pieces &pieces,
                 llvm::function_ref<void(OpBuilder &, const Row &)> body) const;
  /// A lane's share of a row: `sum` with entries of its head, then with sums of
  /// pieces (if there are any), which `loadPiece` gives.
  Value
  sumWithPieces(OpBuilder &b, const Row &row, const Pieces *pieces,
                int64_t apart, Value place, Value sum, Load load, Add add,
                llvm::function_ref<Value(OpBuilder &, Value)> loadPiece) const;

  /// Whether all that is read and written along `lane` is aligned for vectors
  /// of `count`; a condition that the host evaluates.
  Value isAligned(OpBuilder &b, unsigned lane, int64_t count) const;
  int64_t vectorLength() const; ///< numbers of the operands in 16 bytes
  /// The parallel loop over outer lanes, strips if there are some, rows (in
  /// steps of `rows` in a block) and what else is given.
  mlir::scf::ParallelOp rowLoop(OpBuilder &b, int64_t rows,
                                llvm::ArrayRef<unsigned> outer,
                                Value strips = {}, Value inner = {});
  llvm::SmallVector<unsigned> lanesBut(std::optional<unsigned> lane) const;

  /// Whether a strip of the dense operand is what `loadLine` loads.
  bool isByLines(const Strip &strip) const;
  Value loadLine(OpBuilder &b, const Strip &strip, Value k, Value column) const;
  Value sumInStrip(OpBuilder &b, const Row &row, const Strip &strip,
                   const Pieces *pieces, Value column) const;
  void emitStrips(OpBuilder &b, const Strip &strip, const Pieces *pieces);
  std::optional<Pieces> planRows(unsigned lane);
  void inRows(OpBuilder &at, unsigned lane,
              const std::optional<Pieces> &pieces);
  void inBlocks(OpBuilder &b, unsigned lane);
  /// Memory for the dense operand with `lane` last, in whose place it comes;
  /// what copies it goes to `at`.
  void turnOver(OpBuilder &at, unsigned lane, Value copy, mlir::AffineMap map);
  void emitBlocks(OpBuilder &b, unsigned lane, int64_t count);
  Value dotOfRow(OpBuilder &b, const Row &row, const Pieces *pieces,
                 int64_t rowLanes) const;
  void emitBlockDots(OpBuilder &at);
  void emitDots(OpBuilder &at, const Pieces *pieces, int64_t rowLanes);
  Value multiplyAdd(OpBuilder &b, const Factors &factors, Value sum) const;
  Value product(OpBuilder &b, const Row &row, Value rowInBlock,
                llvm::ArrayRef<Value> loops, Value entry, Value sum) const;
};

} // namespace gossamer

#endif // GOSSAMER_PASSES_MATMULGPU_H
