//===- MatmulGpuPieces.cpp - shares of a row, and pieces of long rows -----===//

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "passes/GpuLanes.h"
#include "passes/MatmulGpu.h"

using namespace mlir;
using namespace gossamer;

/// Entries of a lane that are loaded before the first is used: the latency of
/// the memory is that of this many lines.
static constexpr int64_t entriesInFlight = 8;

Value GpuProduct::sumShare(OpBuilder &b, Value first, Value last, int64_t apart,
                           Value place, Value sum, Load load, Add add) const {
  auto batch = [&](OpBuilder &in, Value from, int64_t count, bool isWhole,
                   Value carried) {
    SmallVector<Value> entries, inside;
    for (int64_t n = 0; n < count; ++n) {
      Value entry = addIndex(in, loc, addIndex(in, loc, from, place),
                             constant(in, n * apart));
      if (!isWhole) {
        // Beyond the end, the last is loaded again, and not summed.
        inside.push_back(arith::CmpIOp::create(
            in, loc, arith::CmpIPredicate::ult, entry, last));
        Value end = arith::SubIOp::create(in, loc, last, constant(in, 1));
        entry = arith::MinUIOp::create(in, loc, entry, end);
      }
      entries.push_back(entry);
    }
    for (auto [n, factors] : llvm::enumerate(load(in, entries))) {
      Value next = add(in, factors, carried);
      carried =
          isWhole ? next
                  : arith::SelectOp::create(in, loc, inside[n], next, carried);
    }
    return carried;
  };
  auto onlyIf = [&](Value condition, Value start, auto body) -> Value {
    auto branch = scf::IfOp::create(b, loc, start.getType(), condition,
                                    /*withElseRegion=*/true);
    OpBuilder then = branch.getThenBodyBuilder();
    scf::YieldOp::create(then, loc, body(then));
    OpBuilder otherwise = branch.getElseBodyBuilder();
    scf::YieldOp::create(otherwise, loc, start);
    return branch.getResult(0);
  };
  int64_t half = entriesInFlight / 2;
  Value step = constant(b, entriesInFlight * apart),
        halfStep = constant(b, half * apart);
  Value count = arith::SubIOp::create(b, loc, last, first);
  Value rest = arith::RemUIOp::create(b, loc, count, step);
  Value whole = arith::SubIOp::create(b, loc, last, rest);
  auto loop = scf::ForOp::create(b, loc, first, whole, step, sum);
  OpBuilder in = OpBuilder::atBlockEnd(loop.getBody());
  scf::YieldOp::create(in, loc,
                       batch(in, loop.getInductionVar(), entriesInFlight,
                             /*isWhole=*/true, loop.getRegionIterArg(0)));
  sum = loop.getResult(0);
  Value isHalf =
      arith::CmpIOp::create(b, loc, arith::CmpIPredicate::uge, rest, halfStep);
  sum = onlyIf(isHalf, sum, [&](OpBuilder &then) {
    return batch(then, whole, half, /*isWhole=*/true, sum);
  });
  whole = arith::SelectOp::create(b, loc, isHalf,
                                  addIndex(b, loc, whole, halfStep), whole);
  Value isRagged =
      arith::CmpIOp::create(b, loc, arith::CmpIPredicate::ult, whole, last);
  return onlyIf(isRagged, sum, [&](OpBuilder &then) {
    return batch(then, whole, half, /*isWhole=*/false, sum);
  });
}

Value GpuProduct::meanOfRows(OpBuilder &b) const {
  Value rows = arith::MaxUIOp::create(b, loc, numRows, constant(b, 1));
  return arith::DivUIOp::create(
      b, loc, memref::DimOp::create(b, loc, storage.values, 0), rows);
}

GpuProduct::Pieces GpuProduct::plan(OpBuilder &b, int64_t columns, Value least,
                                    ArrayRef<Value> sizes) const {
  Pieces pieces{columns, {}, {}};
  pieces.length = arith::MaxUIOp::create(
      b, loc, least, mulIndex(b, loc, meanOfRows(b), constant(b, 4)));
  // Of no size where no row can be long.
  Value count = arith::SelectOp::create(b, loc, isWide(b, pieces),
                                        countPieces(b, pieces), constant(b, 0));
  SmallVector<Value> all{count};
  llvm::append_range(all, sizes);
  pieces.sums = memref::AllocOp::create(
      b, loc,
      MemRefType::get(SmallVector<int64_t>(all.size(), ShapedType::kDynamic),
                      sumType),
      all, b.getI64IntegerAttr(64));
  return pieces;
}

Value GpuProduct::isWide(OpBuilder &b, const Pieces &pieces) const {
  return arith::CmpIOp::create(b, loc, arith::CmpIPredicate::ugt,
                               sizeOfLoop(b, format.summed),
                               constant(b, pieces.columns));
}

Value GpuProduct::countPieces(OpBuilder &b, const Pieces &pieces) const {
  Value count = memref::DimOp::create(b, loc, storage.values, 0);
  return arith::CeilDivUIOp::create(b, loc, count, pieces.length);
}

Value GpuProduct::endOfHead(OpBuilder &b, Value first,
                            const Pieces &pieces) const {
  Value place = arith::DivUIOp::create(b, loc, first, pieces.length);
  return mulIndex(b, loc, addIndex(b, loc, place, constant(b, 2)),
                  pieces.length);
}

GpuProduct::Row GpuProduct::headOf(OpBuilder &b, const Row &row,
                                   const Pieces &pieces) const {
  Row head = row;
  Value cut =
      arith::MinUIOp::create(b, loc, row.last, endOfHead(b, row.first, pieces));
  head.last = arith::SelectOp::create(b, loc, isWide(b, pieces), cut, row.last);
  return head;
}

Value GpuProduct::rowOfEntry(OpBuilder &b, Value entry) const {
  unsigned lvl = format.leading.size();
  Type index = b.getIndexType();
  Value zero = constant(b, 0), one = constant(b, 1);
  // The last row that begins at the entry, or before it. Every lane looks at
  // one of as many places in what is left: that is over in three steps, where
  // halving it would wait for memory ten times and more.
  auto search = scf::WhileOp::create(
      b, loc, TypeRange{index, index}, ValueRange{zero, numRows},
      [&](OpBuilder &in, Location, ValueRange range) {
        scf::ConditionOp::create(
            in, loc,
            arith::CmpIOp::create(in, loc, arith::CmpIPredicate::ugt, range[1],
                                  one),
            range);
      },
      [&](OpBuilder &in, Location, ValueRange range) {
        Value step = arith::CeilDivUIOp::create(in, loc, range[1],
                                                constant(in, warpSize));
        Value below = reduceOverLanes(
            in, loc, zero, constant(in, warpSize), one, warpSize, zero,
            [&](OpBuilder &at, Value lane) -> Value {
              Value offset = mulIndex(at, loc, lane, step);
              Value isInside = arith::CmpIOp::create(
                  at, loc, arith::CmpIPredicate::ult, offset, range[1]);
              offset = arith::SelectOp::create(at, loc, isInside, offset, zero);
              Value begins = storage.firstPosition(
                  at, lvl, addIndex(at, loc, range[0], offset));
              Value isBelow = arith::CmpIOp::create(
                  at, loc, arith::CmpIPredicate::ule, begins, entry);
              isBelow = arith::AndIOp::create(at, loc, isInside, isBelow);
              return arith::SelectOp::create(at, loc, isBelow, one, zero);
            },
            [&](OpBuilder &at, Value x, Value y) {
              return addIndex(at, loc, x, y);
            });
        Value skipped =
            mulIndex(in, loc, arith::SubIOp::create(in, loc, below, one), step);
        Value left = arith::SubIOp::create(in, loc, range[1], skipped);
        scf::YieldOp::create(
            in, loc,
            ValueRange{addIndex(in, loc, range[0], skipped),
                       arith::MinUIOp::create(in, loc, step, left)});
      });
  return search.getResult(0);
}

void GpuProduct::emitPiece(
    OpBuilder &b, Value piece, const Pieces &pieces,
    llvm::function_ref<void(OpBuilder &, const Row &)> body) const {
  Value from = mulIndex(b, loc, piece, pieces.length);
  Row row = enterRow(b, rowOfEntry(b, from));
  Value isPiece = arith::CmpIOp::create(b, loc, arith::CmpIPredicate::uge, from,
                                        endOfHead(b, row.first, pieces));
  auto branch = scf::IfOp::create(b, loc, isPiece, /*withElseRegion=*/false);
  OpBuilder in = branch.getThenBodyBuilder();
  row.first = from;
  row.last = arith::MinUIOp::create(
      in, loc, addIndex(in, loc, from, pieces.length), row.last);
  body(in, row);
}

Value GpuProduct::sumWithPieces(
    OpBuilder &b, const Row &row, const Pieces *pieces, int64_t apart,
    Value place, Value sum, Load load, Add add,
    llvm::function_ref<Value(OpBuilder &, Value)> loadPiece) const {
  Row head = pieces ? headOf(b, row, *pieces) : row;
  sum = sumShare(b, head.first, head.last, apart, place, sum, load, add);
  if (!pieces)
    return sum;
  Value isLong = arith::CmpIOp::create(b, loc, arith::CmpIPredicate::ult,
                                       head.last, row.last);
  auto branch =
      scf::IfOp::create(b, loc, sum.getType(), isLong, /*withElseRegion=*/true);
  branch->setAttr(followsAttrName, b.getUnitAttr());
  OpBuilder otherwise = branch.getElseBodyBuilder();
  scf::YieldOp::create(otherwise, loc, sum);
  OpBuilder in = branch.getThenBodyBuilder();
  Value first = arith::DivUIOp::create(in, loc, head.last, pieces->length);
  Value last = arith::CeilDivUIOp::create(in, loc, row.last, pieces->length);
  Value total = sumShare(
      in, first, last, apart, place, sum,
      [&](OpBuilder &at, ArrayRef<Value> numbers) {
        SmallVector<Factors> loaded;
        for (Value number : numbers)
          loaded.push_back({Value(), loadPiece(at, number)});
        return loaded;
      },
      [&](OpBuilder &at, const Factors &piece, Value carried) {
        return join(at, carried, piece.dense);
      });
  scf::YieldOp::create(in, loc, total);
  return branch.getResult(0);
}
