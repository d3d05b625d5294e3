//===- Matmul.h - what the roads of gossamer.matmul share -------*- C++ -*-===//
//
// The roads, each in its file, and when LowerMatmul takes which:
//   MatmulRows      sums of a row in registers, lanes contiguous on both sides
//   MatmulDots      no lanes, or so few that each is a product of a vector
//   MatmulPanels    lanes that lie elsewhere: operand and result transposed
//   MatmulBlocks    x[t, k] w[o, k] -> y[t, o] of blocks: these are transposed
//   MatmulGpu       the ones by rows, on a GPU
//   MatmulGeneral   every other storage and loop: MLIR's sparsifier
//
// A *lane* is a loop that the sparse operand does not have.
//
//===----------------------------------------------------------------------===//

#ifndef GOSSAMER_PASSES_MATMUL_H
#define GOSSAMER_PASSES_MATMUL_H

#include "passes/RegisterTile.h"
#include "passes/RowParts.h"
#include "passes/Storage.h"
#include "passes/VectorBody.h"

namespace gossamer {

/// What loops of a product are, and the buffers that it is between.
class MatmulLoops {
public:
  MatmulLoops(MatmulOp op, unsigned vectorBytes);

  bool isLane(unsigned loop) const { return !sparseMap.isFunctionOfDim(loop); }
  mlir::Value sizeOfLoop(mlir::OpBuilder &b, unsigned loop) const;
  /// The size of a loop where it is in the types, else kDynamic.
  int64_t staticSizeOfLoop(unsigned loop) const;
  /// How many points the lanes have, and their loops at one of these.
  mlir::Value countLanes(mlir::OpBuilder &b) const;
  void setLanes(mlir::OpBuilder &b, llvm::SmallVectorImpl<mlir::Value> &loops,
                mlir::Value linear) const;
  /// The loop of the last dimension that `map` indexes, if it is one.
  static std::optional<unsigned> lastLoop(mlir::AffineMap map);
  /// The epilogue on one sum.
  mlir::Value emitEpilogue(mlir::OpBuilder &b, mlir::Value sum,
                           mlir::ValueRange loops) const;
  /// The epilogue on sums (a vector) at points, stored.
  void storeSums(mlir::OpBuilder &b, mlir::Value sums,
                 const LanePoints &points) const;
  mlir::Value constant(mlir::OpBuilder &b, int64_t value) const {
    return indexConstant(b, loc, value);
  }

  MatmulOp op;
  mlir::OpBuilder builder;
  mlir::Location loc;
  mlir::AffineMap sparseMap, denseMap, resultMap;
  /// Of the operands, and of the sums.
  mlir::Type element, sumType;
  /// Numbers of the sum's type in a vector; how many vectors hold sums.
  int64_t lanesOfVector, accumulators;
  mlir::Value sparse, dense, out;
  llvm::SmallVector<mlir::Value> extras;
  llvm::SmallVector<mlir::AffineMap> extraMaps;
  mlir::Block *body;
  Combiner combiner;
  llvm::SmallVector<unsigned> lanes;
};

/// Storage by rows: dense levels, the last of which are rows (or block rows), a
/// compressed level that is summed over, and in a block rows and columns. An
/// entry is a block of 1 x 1.
struct RowFormat {
  /// The loops of the leading dense levels, and of the compressed one.
  llvm::SmallVector<unsigned> leading;
  unsigned row, summed;
  int64_t blockRows = 1, blockColumns = 1;

  static std::optional<RowFormat> match(const MatmulLoops &loops);
  int64_t blockSize() const { return blockRows * blockColumns; }
};

/// Whether a product is y[.., t, o] = sum_k x[.., t, k] w[o, k] of contiguous
/// rows.
bool isLinear(const MatmulLoops &loops, const RowFormat &format);

/// A product with storage by rows, row after row.
class RowProduct : public MatmulLoops {
public:
  RowProduct(const MatmulLoops &loops, const RowFormat &format);

protected:
  using Sums = RegisterTile::Sums;
  /// Numbers of the dense operand for a vector of a tile, at a summed index.
  using LoadDense = llvm::function_ref<mlir::Value(
      mlir::OpBuilder &, int64_t vector, mlir::Value)>;

  /// One (block) row: its loops, with those of its first row, and the entries.
  struct Row {
    llvm::SmallVector<mlir::Value> loops;
    mlir::Value first, last;
  };
  Row enterRow(mlir::OpBuilder &b, mlir::Value row) const;
  /// The sums of a tile of one block row, from `rowInBlock` on.
  Sums sumRow(mlir::OpBuilder &b, const Row &row, mlir::Value rowInBlock,
              TileShape shape, LoadDense load) const;
  /// The sums of one more column of a block.
  Sums stepTile(mlir::OpBuilder &b, const RegisterTile &tile, mlir::Value k,
                mlir::ValueRange sums, RegisterTile::LoadScalar loadValue,
                RegisterTile::LoadVector loadDense) const;
  /// Row of a tile of a block row: `row.loops` with that row in it.
  llvm::SmallVector<mlir::Value> loopsOf(mlir::OpBuilder &b, const Row &row,
                                         mlir::Value rowInBlock,
                                         int64_t m) const;
  /// Position of a value: of a block, and in it.
  mlir::Value positionOf(mlir::OpBuilder &b, mlir::Value block, mlir::Value row,
                         mlir::Value column) const;
  /// Visits tiles of rows of a block row, `rows` high.
  void forEachTile(
      mlir::OpBuilder &b, int64_t rows,
      llvm::function_ref<void(mlir::OpBuilder &, mlir::Value)> body) const;
  /// The largest number of rows of a tile, at most `limit`, that divides a
  /// block's.
  int64_t tileRows(int64_t limit) const;
  /// What sums begin with: the neutral element of the combiner.
  mlir::Value initialSum(mlir::OpBuilder &b) const;
  /// A sum with one more product.
  mlir::Value combine(mlir::OpBuilder &b, mlir::Value lhs, mlir::Value rhs,
                      mlir::Value sum) const;
  /// Two sums as one.
  mlir::Value join(mlir::OpBuilder &b, mlir::Value lhs, mlir::Value rhs) const;
  /// The lanes of a sum as one.
  mlir::Value reduce(mlir::OpBuilder &b, mlir::Value sums) const;
  /// What a row's sum, a scalar or vector, is in the end: divided for a mean, 0
  /// where nothing is stored.
  mlir::Value finish(mlir::OpBuilder &b, const Row &row, mlir::Value sum) const;

  RowFormat format;
  Storage storage;
  mlir::Value numRows;
};

/// Rows whose sums are in lanes.
class DotProducts : public RowProduct {
public:
  DotProducts(const MatmulLoops &loops, const RowFormat &format);
  /// Whether the dense operand is contiguous along the summed loop.
  static bool fits(const MatmulLoops &loops, const RowFormat &format);
  void run(mlir::OpBuilder b);
  /// A (block) row, at a point of the lanes, into the result.
  void emitRow(mlir::OpBuilder &b, mlir::Value number,
               mlir::ValueRange lanes) const;

private:
  llvm::SmallVector<mlir::Value>
  denseAt(mlir::OpBuilder &b, mlir::ValueRange loops, mlir::Value k) const;
  mlir::Value sumEntries(mlir::OpBuilder &b, mlir::ValueRange loops,
                         mlir::Value position, mlir::Value sum,
                         mlir::Value mask) const;
  mlir::Value sumOfEntries(mlir::OpBuilder &b, const Row &row,
                           mlir::ValueRange loops) const;
  Sums sumOfBlocks(mlir::OpBuilder &b, const Row &row, mlir::Value rowInBlock,
                   int64_t rows, mlir::ValueRange loops) const;
  /// The dense operand, without what is of size 1 behind the summed loop.
  mlir::Value flat;
  unsigned numDense;
};

/// Each writes the product of `loops` to its result's memory, if it is of the
/// kind that this road is for.
bool lowerInRows(const MatmulLoops &loops, const RowFormat &format);
bool lowerAsDots(const MatmulLoops &loops, const RowFormat &format);
bool lowerInPanels(const MatmulLoops &loops, const RowFormat &format);
bool lowerInBlocks(const MatmulLoops &loops, const RowFormat &format);
mlir::LogicalResult lowerGenerally(const MatmulLoops &loops, bool gpu);
/// The same for a GPU (MatmulGpu.cpp), which takes every product by rows.
void lowerOnGpu(const MatmulLoops &loops, const RowFormat &format);

} // namespace gossamer

#endif // GOSSAMER_PASSES_MATMUL_H
