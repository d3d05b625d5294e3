//===- MatmulGpu.cpp - products with storage by rows, on a GPU ------------===//
//
// Three kinds, by what is contiguous:
//
// * Lanes, in the dense operand and in the result: a thread sums 16 bytes of a
//   row (of a few rows of a block), so that neighbours read and write
//   neighbouring columns, and entries come from the cache for all of them.
//   Where addresses or sizes do not allow that, a thread has one column.
// * There are no lanes (a vector): a warp sums a row, and puts its sums
//   together by shuffles.
// * Anything else: a thread has one number of the result.
//
// A long row must not keep everybody waiting: entries beyond its first few
// hundred are summed in pieces, by a kernel before, and whoever has the row
// adds the pieces in order. So a sum does not depend on timing.
//
//===----------------------------------------------------------------------===//

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "mlir/IR/TypeUtilities.h"
#include "passes/GpuLanes.h"
#include "passes/Matmul.h"
#include "passes/Report.h"

using namespace mlir;
using namespace gossamer;

namespace {

/// Pieces of long rows begin at multiples of `length` entries; a row keeps what
/// is before its second such place. Rows can only be long in matrices that are
/// wider than `columns`.
struct Pieces {
  int64_t length, columns;
};

class GpuProduct : RowProduct {
public:
  GpuProduct(const MatmulLoops &loops, const RowFormat &format)
      : RowProduct(loops, format) {}

  std::optional<unsigned> contiguousLane() const;
  void inVectors(unsigned lane);
  void asDots();
  void byNumber();

private:
  /// Pieces are for entries, not blocks, and for plain sums.
  bool mayBeCut() const {
    return format.blockSize() == 1 && combiner == Combiner::Sum;
  }
  Value isWide(OpBuilder &b, Pieces pieces) {
    return arith::CmpIOp::create(b, loc, arith::CmpIPredicate::ugt,
                                 sizeOfLoop(b, format.summed),
                                 constant(b, pieces.columns));
  }
  Value countPieces(OpBuilder &b, Pieces pieces) {
    Value count = memref::DimOp::create(b, loc, storage.values, 0);
    return arith::CeilDivUIOp::create(b, loc, count,
                                      constant(b, pieces.length));
  }
  /// Where the entries end that a row keeps if it is long.
  Value endOfHead(OpBuilder &b, Value first, Pieces pieces);
  /// The row with the entries alone that it keeps.
  Row headOf(OpBuilder &b, const Row &row, Pieces pieces);
  /// The row that an entry is of.
  Value rowOfEntry(OpBuilder &b, Value entry);
  /// Emits `body` where a piece is one; with the row cut to the piece.
  void emitPiece(OpBuilder &b, Value piece, Pieces pieces,
                 llvm::function_ref<void(OpBuilder &, const Row &)> body);
  /// Memory for sums of pieces; null, if there are none.
  Value sumsOfPieces(OpBuilder &b, Pieces pieces, ArrayRef<Value> sizes);
  /// Whether all that is read and written along `lane` is aligned for vectors
  /// of `count`; a condition that the host evaluates.
  Value isAligned(unsigned lane, int64_t count);
  void emitVectors(OpBuilder &b, unsigned lane, int64_t count, Value pieces);
  /// The parallel loop over outer lanes, strips if there are some, rows (in
  /// steps of `rows` in a block) and what else is given.
  scf::ParallelOp rowLoop(OpBuilder &b, int64_t rows, ArrayRef<unsigned> outer,
                          Value strips = {}, Value inner = {});
  Value multiplyAdd(OpBuilder &b, Value lhs, Value rhs, Value sum);
  Value product(OpBuilder &b, const Row &row, Value rowInBlock,
                ArrayRef<Value> loops, Value entry, Value sum);
};

std::optional<unsigned> GpuProduct::contiguousLane() const {
  std::optional<unsigned> lane = lastLoop(resultMap);
  if (!lane || lastLoop(denseMap) != lane || !isLane(*lane) ||
      !isVectorizable(*body))
    return {};
  return lane;
}

Value GpuProduct::isAligned(unsigned lane, int64_t count) {
  // Addresses and sizes by one: any bit that should not be set shows.
  Value bits = constant(builder, 0);
  auto add = [&](Value buffer, AffineMap map) {
    if (lastLoop(map) != lane)
      return;
    int64_t bytes =
        std::max<int64_t>(
            8, getElementTypeOrSelf(buffer).getIntOrFloatBitWidth()) /
        8;
    Value address =
        memref::ExtractAlignedPointerAsIndexOp::create(builder, loc, buffer);
    address = arith::AndIOp::create(builder, loc, address,
                                    constant(builder, count * bytes - 1));
    bits = arith::OrIOp::create(builder, loc, bits, address);
  };
  add(dense, denseMap);
  add(out, resultMap);
  for (auto [buffer, map] : llvm::zip(extras, extraMaps))
    add(buffer, map);
  Value rest = arith::RemUIOp::create(builder, loc, sizeOfLoop(builder, lane),
                                      constant(builder, count));
  bits = arith::OrIOp::create(builder, loc, bits, rest);
  return arith::CmpIOp::create(builder, loc, arith::CmpIPredicate::eq, bits,
                               constant(builder, 0));
}

constexpr Pieces inVectorsPieces{256, 1024}, asDotsPieces{1024, 8192};

Value GpuProduct::endOfHead(OpBuilder &b, Value first, Pieces pieces) {
  Value length = constant(b, pieces.length);
  Value place = arith::DivUIOp::create(b, loc, first, length);
  return mulIndex(b, loc, addIndex(b, loc, place, constant(b, 2)), length);
}

GpuProduct::Row GpuProduct::headOf(OpBuilder &b, const Row &row,
                                   Pieces pieces) {
  Row head = row;
  Value cut =
      arith::MinUIOp::create(b, loc, row.last, endOfHead(b, row.first, pieces));
  head.last = arith::SelectOp::create(b, loc, isWide(b, pieces), cut, row.last);
  return head;
}

Value GpuProduct::rowOfEntry(OpBuilder &b, Value entry) {
  unsigned lvl = format.leading.size();
  Type index = b.getIndexType();
  // The last row that begins at the entry, or before it.
  auto search = scf::WhileOp::create(
      b, loc, TypeRange{index, index}, ValueRange{constant(b, 0), numRows},
      [&](OpBuilder &in, Location, ValueRange range) {
        Value next = addIndex(in, loc, range[0], constant(in, 1));
        scf::ConditionOp::create(
            in, loc,
            arith::CmpIOp::create(in, loc, arith::CmpIPredicate::ult, next,
                                  range[1]),
            range);
      },
      [&](OpBuilder &in, Location, ValueRange range) {
        Value middle = arith::DivUIOp::create(
            in, loc, addIndex(in, loc, range[0], range[1]), constant(in, 2));
        Value below = arith::CmpIOp::create(
            in, loc, arith::CmpIPredicate::ule,
            storage.firstPosition(in, lvl, middle), entry);
        Value low = arith::SelectOp::create(in, loc, below, middle, range[0]);
        Value high = arith::SelectOp::create(in, loc, below, range[1], middle);
        scf::YieldOp::create(in, loc, ValueRange{low, high});
      });
  return search.getResult(0);
}

void GpuProduct::emitPiece(
    OpBuilder &b, Value piece, Pieces pieces,
    llvm::function_ref<void(OpBuilder &, const Row &)> body) {
  Value from = mulIndex(b, loc, piece, constant(b, pieces.length));
  Row row = enterRow(b, rowOfEntry(b, from));
  Value isPiece = arith::CmpIOp::create(b, loc, arith::CmpIPredicate::uge, from,
                                        endOfHead(b, row.first, pieces));
  auto branch = scf::IfOp::create(b, loc, isPiece, /*withElseRegion=*/false);
  OpBuilder in = branch.getThenBodyBuilder();
  row.first = from;
  row.last = arith::MinUIOp::create(
      in, loc, addIndex(in, loc, from, constant(in, pieces.length)), row.last);
  body(in, row);
}

Value GpuProduct::sumsOfPieces(OpBuilder &b, Pieces pieces,
                               ArrayRef<Value> sizes) {
  // Of no size where no row can be long.
  Value count = arith::SelectOp::create(b, loc, isWide(b, pieces),
                                        countPieces(b, pieces), constant(b, 0));
  SmallVector<Value> all{count};
  llvm::append_range(all, sizes);
  return memref::AllocOp::create(
      b, loc,
      MemRefType::get(SmallVector<int64_t>(all.size(), ShapedType::kDynamic),
                      sumType),
      all, b.getI64IntegerAttr(64));
}

scf::ParallelOp GpuProduct::rowLoop(OpBuilder &b, int64_t rows,
                                    ArrayRef<unsigned> outer, Value strips,
                                    Value inner) {
  SmallVector<Value> upper;
  for (unsigned loop : outer)
    upper.push_back(sizeOfLoop(b, loop));
  if (strips)
    upper.push_back(strips);
  upper.push_back(numRows);
  if (rows < format.blockRows)
    upper.push_back(constant(b, format.blockRows / rows));
  if (inner)
    upper.push_back(inner);
  return scf::ParallelOp::create(
      b, loc, SmallVector<Value>(upper.size(), constant(b, 0)), upper,
      SmallVector<Value>(upper.size(), constant(b, 1)));
}

void GpuProduct::emitVectors(OpBuilder &b, unsigned lane, int64_t count,
                             Value pieces) {
  SmallVector<unsigned> outer;
  for (unsigned loop : lanes)
    if (loop != lane)
      outer.push_back(loop);
  int64_t rows = tileRows(4);
  Value chunks =
      arith::DivUIOp::create(b, loc, sizeOfLoop(b, lane), constant(b, count));
  // A warp's width of columns at a time, for all rows: what these read of the
  // dense operand stays in the first-level cache.
  Value width = arith::MinUIOp::create(b, loc, chunks, constant(b, warpSize));
  width = arith::MaxUIOp::create(b, loc, width, constant(b, 1));
  Value strips = arith::CeilDivUIOp::create(b, loc, chunks, width);
  // Emits the loops over strips, rows and the columns of a strip, and in them
  // what a thread does; it gets its first column.
  auto forEach = [&](scf::ParallelOp loop, unsigned strip, auto body) {
    OpBuilder in = OpBuilder::atBlockTerminator(loop.getBody());
    auto vars = loop.getInductionVars();
    Value chunk =
        addIndex(in, loc, mulIndex(in, loc, vars[strip], width), vars.back());
    auto isInside = scf::IfOp::create(
        in, loc,
        arith::CmpIOp::create(in, loc, arith::CmpIPredicate::ult, chunk,
                              chunks),
        /*withElseRegion=*/false);
    in = isInside.getThenBodyBuilder();
    body(in, vars, mulIndex(in, loc, chunk, constant(in, count)));
  };
  auto pointsAt = [&](ValueRange loops) {
    return LanePoints{llvm::to_vector(loops), lane, count, Value()};
  };
  auto sumOf = [&](OpBuilder &in, const Row &row, Value rowInBlock) {
    return sumRow(in, row, rowInBlock, TileShape{rows, 1, count},
                  [&](OpBuilder &at, int64_t, Value k) -> Value {
                    LanePoints points = pointsAt(row.loops);
                    points.loops[format.summed] = k;
                    return loadPoints(at, loc, dense, denseMap, points);
                  });
  };
  if (pieces) {
    auto wide = scf::IfOp::create(b, loc, isWide(b, inVectorsPieces),
                                  /*withElseRegion=*/false);
    OpBuilder in = wide.getThenBodyBuilder();
    Value zero = constant(in, 0), one = constant(in, 1);
    auto loop = scf::ParallelOp::create(
        in, loc, ValueRange{zero, zero, zero},
        ValueRange{strips, countPieces(in, inVectorsPieces), width},
        ValueRange{one, one, one});
    forEach(loop, 0, [&](OpBuilder &at, ValueRange vars, Value column) {
      emitPiece(at, vars[1], inVectorsPieces,
                [&](OpBuilder &to, const Row &cut) {
                  Row row = cut;
                  row.loops[lane] = column;
                  storeLanes(to, loc, sumOf(to, row, constant(to, 0))[0],
                             pieces, ValueRange{vars[1], column});
                });
    });
  }
  unsigned first = outer.size() + 1;
  forEach(
      rowLoop(b, rows, outer, strips, width), outer.size(),
      [&](OpBuilder &in, ValueRange vars, Value column) {
        Row row = enterRow(in, vars[first]);
        for (auto [n, other] : llvm::enumerate(outer))
          row.loops[other] = vars[n];
        Value rowInBlock = constant(in, 0);
        if (rows < format.blockRows)
          rowInBlock = mulIndex(in, loc, vars[first + 1], constant(in, rows));
        row.loops[lane] = column;
        Row head = pieces ? headOf(in, row, inVectorsPieces) : row;
        Sums sums = sumOf(in, head, rowInBlock);
        if (pieces) {
          Value length = constant(in, inVectorsPieces.length);
          auto loop =
              scf::ForOp::create(in, loc, head.last, row.last, length, sums[0]);
          OpBuilder at = OpBuilder::atBlockEnd(loop.getBody());
          Value piece =
              arith::DivUIOp::create(at, loc, loop.getInductionVar(), length);
          Value sum =
              loadLanes(at, loc, count, pieces, ValueRange{piece, column});
          scf::YieldOp::create(at, loc,
                               join(at, loop.getRegionIterArg(0), sum));
          sums[0] = loop.getResult(0);
        }
        for (int64_t m = 0; m < rows; ++m)
          storeSums(in, sums[m], pointsAt(loopsOf(in, row, rowInBlock, m)));
      });
}

void GpuProduct::inVectors(unsigned lane) {
  int64_t count = 128 / std::max<int64_t>(8, element.getIntOrFloatBitWidth());
  Value pieces;
  if (mayBeCut() && lanes.size() == 1)
    pieces =
        sumsOfPieces(builder, inVectorsPieces, {sizeOfLoop(builder, lane)});
  auto aligned = scf::IfOp::create(builder, loc, isAligned(lane, count),
                                   /*withElseRegion=*/true);
  OpBuilder then = aligned.getThenBodyBuilder();
  emitVectors(then, lane, count, pieces);
  OpBuilder otherwise = aligned.getElseBodyBuilder();
  emitVectors(otherwise, lane, 1, pieces);
}

Value GpuProduct::multiplyAdd(OpBuilder &b, Value lhs, Value rhs, Value sum) {
  lhs = extendTo(b, loc, lhs, sumType);
  rhs = extendTo(b, loc, rhs, sumType);
  Value product = isa<FloatType>(sumType)
                      ? arith::MulFOp::create(b, loc, lhs, rhs).getResult()
                      : arith::MulIOp::create(b, loc, lhs, rhs).getResult();
  return join(b, sum, product);
}

/// `sum` with what one entry (block) adds to a row of it.
Value GpuProduct::product(OpBuilder &b, const Row &row, Value rowInBlock,
                          ArrayRef<Value> loops, Value entry, Value sum) {
  Value column = mulIndex(
      b, loc, storage.coordinate(b, this->format.leading.size(), entry),
      constant(b, format.blockColumns));
  auto at = [&](OpBuilder &in, Value k, Value carried) {
    SmallVector<Value> point(loops);
    point[format.summed] = addIndex(in, loc, column, k);
    Value value = memref::LoadOp::create(in, loc, storage.values,
                                         positionOf(in, entry, rowInBlock, k));
    return multiplyAdd(in, value, loadAt(in, loc, dense, denseMap, point),
                       carried);
  };
  if (format.blockColumns == 1)
    return at(b, constant(b, 0), sum);
  auto loop =
      scf::ForOp::create(b, loc, constant(b, 0),
                         constant(b, format.blockColumns), constant(b, 1), sum);
  OpBuilder in = OpBuilder::atBlockEnd(loop.getBody());
  scf::YieldOp::create(
      in, loc, at(in, loop.getInductionVar(), loop.getRegionIterArg(0)));
  return loop.getResult(0);
}

void GpuProduct::asDots() {
  auto sumOf = [&](OpBuilder &b, const Row &row, Value rowInBlock,
                   ArrayRef<Value> loops) {
    return reduceOverLanes(
        b, loc, row.first, row.last, constant(b, 1), warpSize, initialSum(b),
        [&](OpBuilder &in, Value entry) {
          return product(in, row, rowInBlock, loops, entry, initialSum(in));
        },
        [&](OpBuilder &in, Value x, Value y) { return join(in, x, y); });
  };
  Value pieces;
  if (mayBeCut()) {
    pieces = sumsOfPieces(builder, asDotsPieces, {});
    auto wide = scf::IfOp::create(builder, loc, isWide(builder, asDotsPieces),
                                  /*withElseRegion=*/false);
    OpBuilder in = wide.getThenBodyBuilder();
    auto loop =
        scf::ParallelOp::create(in, loc, constant(in, 0),
                                countPieces(in, asDotsPieces), constant(in, 1));
    OpBuilder at = OpBuilder::atBlockTerminator(loop.getBody());
    Value piece = loop.getInductionVars()[0];
    emitPiece(at, piece, asDotsPieces, [&](OpBuilder &to, const Row &row) {
      memref::StoreOp::create(
          to, loc, sumOf(to, row, constant(to, 0), row.loops), pieces, piece);
    });
  }
  auto loop = rowLoop(builder, 1, {});
  OpBuilder b = OpBuilder::atBlockTerminator(loop.getBody());
  auto vars = loop.getInductionVars();
  Row row = enterRow(b, vars[0]);
  Value rowInBlock = format.blockRows > 1 ? vars[1] : constant(b, 0);
  SmallVector<Value> loops = loopsOf(b, row, rowInBlock, 0);
  Row head = pieces ? headOf(b, row, asDotsPieces) : row;
  Value sum = sumOf(b, head, rowInBlock, loops);
  if (pieces) {
    Value length = constant(b, asDotsPieces.length);
    Value rest = reduceOverLanes(
        b, loc, head.last, row.last, length, warpSize, initialSum(b),
        [&](OpBuilder &in, Value from) -> Value {
          return memref::LoadOp::create(
              in, loc, pieces,
              arith::DivUIOp::create(in, loc, from, length).getResult());
        },
        [&](OpBuilder &in, Value x, Value y) { return join(in, x, y); });
    sum = join(b, sum, rest);
  }
  Value value = emitEpilogue(b, finish(b, row, sum), loops);
  memref::StoreOp::create(b, loc, value, out,
                          applyMap(b, loc, resultMap, loops));
}

void GpuProduct::byNumber() {
  // The last loop of the result is the last of the grid's, for neighbours.
  std::optional<unsigned> last = lastLoop(resultMap);
  SmallVector<unsigned> outer;
  for (unsigned lane : lanes)
    if (lane != last)
      outer.push_back(lane);
  bool laneLast = outer.size() < lanes.size();
  auto loop = rowLoop(builder, 1, outer, Value(),
                      laneLast ? sizeOfLoop(builder, *last) : Value());
  OpBuilder b = OpBuilder::atBlockTerminator(loop.getBody());
  auto vars = loop.getInductionVars();
  Row row = enterRow(b, vars[outer.size()]);
  for (auto [n, lane] : llvm::enumerate(outer))
    row.loops[lane] = vars[n];
  if (laneLast)
    row.loops[*last] = vars.back();
  Value rowInBlock =
      format.blockRows > 1 ? vars[outer.size() + 1] : constant(b, 0);
  SmallVector<Value> loops = loopsOf(b, row, rowInBlock, 0);
  auto entries = scf::ForOp::create(b, loc, row.first, row.last, constant(b, 1),
                                    initialSum(b));
  OpBuilder in = OpBuilder::atBlockEnd(entries.getBody());
  scf::YieldOp::create(in, loc,
                       product(in, row, rowInBlock, loops,
                               entries.getInductionVar(),
                               entries.getRegionIterArg(0)));
  Value value = emitEpilogue(b, finish(b, row, entries.getResult(0)), loops);
  memref::StoreOp::create(b, loc, value, out,
                          applyMap(b, loc, resultMap, loops));
}

} // namespace

void gossamer::lowerOnGpu(const MatmulLoops &loops, const RowFormat &format) {
  GpuProduct product(loops, format);
  if (std::optional<unsigned> lane = product.contiguousLane()) {
    report(loops.op, "gossamer.matmul", Road::General,
           "GPU: a thread sums 16 bytes of a row, in registers");
    product.inVectors(*lane);
  } else if (loops.lanes.empty()) {
    report(loops.op, "gossamer.matmul", Road::General,
           "GPU: a warp sums a row, put together by shuffles");
    product.asDots();
  } else {
    report(loops.op, "gossamer.matmul", Road::General,
           "GPU: a thread sums one number of the result");
    product.byNumber();
  }
}
