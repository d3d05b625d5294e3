//===- Storage.h - loops over what a sparse tensor stores -------*- C++ -*-===//
//
// The sparsifier makes the loops of sums with dense results. Results that live
// on an existing pattern, it gets wrong (docs/upstream.md); those need no more
// than to visit every stored entry of one tensor once, which is here, for every
// level format.
//
//===----------------------------------------------------------------------===//

#ifndef GOSSAMER_PASSES_STORAGE_H
#define GOSSAMER_PASSES_STORAGE_H

#include "dialect/gossamer/Gossamer.h"
#include "mlir/Dialect/SparseTensor/IR/SparseTensorType.h"
#include "mlir/IR/Builders.h"

namespace gossamer {

/// Whether the coordinate of a level depends on that of a dimension.
bool isAlong(mlir::sparse_tensor::SparseTensorType type, unsigned lvl,
             unsigned dim);

/// Whether the entries of a row along a dimension lie together: dense levels of
/// others, one of that dimension which is compressed, and in blocks what is
/// dense. A tensor of one dimension is one row.
bool storesRows(mlir::sparse_tensor::SparseTensorType type, unsigned dim);

/// The arrays of a sparse tensor, as memrefs, and its sizes.
class Storage {
public:
  Storage(mlir::OpBuilder &builder, mlir::Location loc, mlir::Value tensor);

  mlir::sparse_tensor::SparseTensorType type;
  mlir::Value values;

  mlir::Value lvlSize(unsigned lvl) const { return sizes[lvl]; }
  /// The range of positions that `parent` has at a compressed level.
  std::pair<mlir::Value, mlir::Value>
  segment(mlir::OpBuilder &builder, unsigned lvl, mlir::Value parent) const;
  /// Where the segment of `parent` begins at a compressed level; behind the
  /// last parent, where the last segment ends.
  mlir::Value firstPosition(mlir::OpBuilder &builder, unsigned lvl,
                            mlir::Value parent) const;
  /// `count` (a vector's lanes) coordinates from a position on, as they are
  /// stored; with `mask`, 0 where it is off.
  mlir::Value coordinates(mlir::OpBuilder &builder, unsigned lvl,
                          mlir::Value position, int64_t count,
                          mlir::Value mask) const;
  /// The buffer of a level that stores coordinates.
  mlir::Value coordinatesOf(unsigned lvl) const {
    return coordinateArrays[lvl];
  }
  /// The coordinate at a position of a level that stores them.
  mlir::Value coordinate(mlir::OpBuilder &builder, unsigned lvl,
                         mlir::Value position) const;
  /// Dimension coordinates of level coordinates.
  llvm::SmallVector<mlir::Value> toDims(mlir::OpBuilder &builder,
                                        mlir::ValueRange lvlCoords) const;
  bool isAlong(unsigned lvl, unsigned dim) const {
    return gossamer::isAlong(type, lvl, dim);
  }
  /// Number of leading dense levels: a box whose points have disjoint entries.
  unsigned numLeadingDense() const;

  /// Visits every stored entry once, in storage order within a point of the
  /// leading dense levels, which run in parallel if `parallel`. The body gets
  /// level coordinates and the position of the value.
  using Body = llvm::function_ref<void(mlir::OpBuilder &, mlir::ValueRange,
                                       mlir::Value)>;
  void forEach(mlir::OpBuilder &builder, bool parallel, Body body) const;
  /// The same for a GPU, in no order: outer nodes in parallel, what is stored
  /// below one of them by `lanes` of a warp (GpuLanes.h).
  void forEachOnGpu(mlir::OpBuilder &builder, int64_t lanes, Body body) const;

  /// Visits the nodes of level `end` - 1 (entries, if that is the last) below
  /// one node, which is `coords` and the position `parent`, in storage order.
  /// What a step returns is carried to the next; returns what the last did.
  using Step = llvm::function_ref<llvm::SmallVector<mlir::Value>(
      mlir::OpBuilder &, mlir::ValueRange coords, mlir::Value position,
      mlir::ValueRange carried)>;
  llvm::SmallVector<mlir::Value>
  visitBelow(mlir::OpBuilder &builder,
             llvm::SmallVectorImpl<mlir::Value> &coords, mlir::Value parent,
             unsigned end, mlir::ValueRange carried, Step step) const;

private:
  mlir::Location loc;
  llvm::SmallVector<mlir::Value> positions, coordinateArrays, sizes;
};

/// Index arithmetic and loads, with constants folded as they are made.
mlir::Value indexConstant(mlir::OpBuilder &builder, mlir::Location loc,
                          int64_t value);
mlir::Value addIndex(mlir::OpBuilder &builder, mlir::Location loc,
                     mlir::Value a, mlir::Value b);
mlir::Value mulIndex(mlir::OpBuilder &builder, mlir::Location loc,
                     mlir::Value a, mlir::Value b);
mlir::Value loadIndex(mlir::OpBuilder &builder, mlir::Location loc,
                      mlir::Value buffer, mlir::Value index);

/// The memref of a dense tensor: row-major, whole.
mlir::Value toBuffer(mlir::OpBuilder &builder, mlir::Location loc,
                     mlir::Value tensor, bool readOnly);

/// An element of a dense buffer where `map` puts a point of the loops.
/// The memory that an operation with the destination `init`, whose contents it
/// does not read, writes to: what `init` wraps, or memory of its own. (Never
/// through bufferization.to_buffer of a tensor: docs/upstream.md.)
mlir::Value destination(mlir::OpBuilder &builder, mlir::Location loc,
                        mlir::Value init);
mlir::Value loadAt(mlir::OpBuilder &builder, mlir::Location loc,
                   mlir::Value buffer, mlir::AffineMap map,
                   mlir::ValueRange loops);
llvm::SmallVector<mlir::Value> applyMap(mlir::OpBuilder &builder,
                                        mlir::Location loc, mlir::AffineMap map,
                                        mlir::ValueRange loops);

/// Copies a scalar body with `args` for its arguments and `indices` for
/// gossamer.index; returns what it yields.
mlir::Value inlineBody(mlir::OpBuilder &builder, mlir::Block &body,
                       mlir::ValueRange args, mlir::ValueRange indices);

} // namespace gossamer

#endif // GOSSAMER_PASSES_STORAGE_H
