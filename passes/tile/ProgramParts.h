//===- ProgramParts.h - what programs are put together from -----*- C++ -*-===//

#ifndef GOSSAMER_PASSES_TILE_PROGRAMPARTS_H
#define GOSSAMER_PASSES_TILE_PROGRAMPARTS_H

#include "passes/tile/Numbers.h"
#include "passes/tile/TilePasses.h"

namespace gossamer::tile {

constexpr double log2OfE = 1.4426950408889634, lnOf2 = 0.6931471805599453;

/// What barriers and messages of a program take of shared memory, at most.
constexpr int64_t barrierBytes = 512;

/// Of what a function of scores captures: behind the score, batch, head, query
/// and key. None if there is no function.
inline mlir::TypeRange capturedTypes(mlir::Region &function) {
  if (function.empty())
    return {};
  mlir::ValueRange arguments = function.front().getArguments();
  return mlir::TypeRange(arguments.drop_front(5));
}

/// Writes programs whose thread blocks stay and take tiles from a counter.
///
/// Every block takes a number for each tile that it does, and one that is none:
/// together as many as the counter wraps at, so that it is 0 again at the end.
class ProgramParts {
protected:
  using Values = llvm::SmallVector<mlir::Value>;
  using Body = llvm::function_ref<mlir::Value(mlir::ValueRange)>;

  /// Of a tile: its batch and head, and its block of rows in these.
  struct Coordinates {
    mlir::Value batch, head, block;
  };

  /// Of an element of the scores.
  struct Place {
    mlir::Value batch, head, query, key;
  };

  explicit ProgramParts(mlir::Operation *before)
      : b(before), loc(before->getLoc()), n(b, loc, b.getI32Type()) {}

  mlir::Value literal(int64_t value) { return n.literal(value); }
  mlir::Value f32(double value);
  mlir::Value lowest();
  mlir::Value times(mlir::Value x, mlir::Value y);

  mlir::Value alloc(mlir::Type type) { return AllocOp::create(b, loc, type); }
  mlir::Value read(mlir::Value memory, mlir::Value index);
  /// `body` gets an element of each input, its row and its column.
  mlir::Value elementwise(mlir::ValueRange inputs, mlir::Type type, Body body);
  mlir::Value scaled(mlir::Value fragment, mlir::Value factor);
  /// What a function of scores gives for scale x; `captured` is what a program
  /// has of what it captures.
  Values scoreOf(mlir::Region &function, mlir::Value x, mlir::Value scale,
                 const Place &place, mlir::ValueRange captured);
  mlir::Value mma(mlir::Value lhs, mlir::Value rhs, int64_t columns,
                  mlir::Value accumulator, bool transposed);
  mlir::Value await(mlir::Value pending) {
    return AwaitOp::create(b, loc, pending);
  }
  mlir::Value wait(mlir::Value ring, mlir::Value number) {
    return WaitOp::create(b, loc, ring, number);
  }
  void release(mlir::Value ring, mlir::Value number) {
    ReleaseOp::create(b, loc, ring, number);
  }
  /// The 64 rows of a tile that are this warpgroup's.
  mlir::Value rowsOf(mlir::Value tile, mlir::Value warpgroup);
  mlir::Value noNumbers(FragmentType type) {
    return SplatOp::create(b, loc, type, f32(0));
  }

  /// Tiles are numbered block + blocks x (head + heads x batch).
  Coordinates coordinatesOf(mlir::Value tile, mlir::Value blocks,
                            mlir::Value heads);
  /// The row of a list of blocks, of which there are so many rows a batch and a
  /// head.
  mlir::Value listRow(const Coordinates &at, mlir::Value rowsOfBatch,
                      mlir::Value rowsOfHead);

  mlir::scf::ForOp loop(mlir::Value from, mlir::Value to,
                        mlir::ValueRange inits);
  /// A loop that runs at least once: `body` gives the condition and what is
  /// carried.
  void
  doWhile(mlir::ValueRange inits,
          llvm::function_ref<mlir::Value(mlir::ValueRange, Values &)> body);
  void ifSo(mlir::Value condition, llvm::function_ref<void()> body);
  /// What `body` gives, or else the same as was there before.
  mlir::Value ifSo(mlir::Value condition, mlir::Value before,
                   llvm::function_ref<mlir::Value()> body);

  /// What a producer does with the tiles of its thread block. `send` is given
  /// a tile, its number in the block and those of the steps before it; a tile
  /// that does not `exist` is sent, as the end, but not loaded. It gives the
  /// steps so far.
  void produceTiles(
      mlir::Value order, mlir::Value counter, mlir::Value tiles,
      llvm::function_ref<mlir::Value(mlir::Value tile, mlir::Value count,
                                     mlir::Value before, mlir::Value exists)>
          send);
  /// What consumers do with them: `compute` has the message of a tile, which
  /// begins with the tile, below 0 for the end, and its steps; its number and
  /// those of the steps before it.
  void
  consumeTiles(mlir::Value headers,
               llvm::function_ref<void(mlir::ValueRange message,
                                       mlir::Value count, mlir::Value before)>
                   compute);

  mlir::OpBuilder b;
  mlir::Location loc;
  Numbers n;
};

} // namespace gossamer::tile

#endif // GOSSAMER_PASSES_TILE_PROGRAMPARTS_H
