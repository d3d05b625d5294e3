//===- RowParts.cpp - rows cut into parts of about equal work -------------===//

#include "passes/RowParts.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/SCF/IR/SCF.h"

using namespace mlir;
using namespace gossamer;

/// What a row costs beside its entries, in entries.
static constexpr int64_t kRowCost = 4;
/// Scalar operations that are worth a part: some microseconds.
static constexpr int64_t kPartWork = 1 << 18;
/// Parts at most: enough for the threads of a large machine to even out.
static constexpr int64_t kMaxParts = 256;

RowParts::RowParts(OpBuilder &builder, Location loc, const Storage &storage,
                   unsigned lvl, Value rows, Value work)
    : loc(loc), storage(storage), lvl(lvl), rows(rows) {
  total = costBefore(builder, rows);
  Value parts = arith::CeilDivUIOp::create(
      builder, loc, mulIndex(builder, loc, total, work),
      indexConstant(builder, loc, kPartWork));
  parts = arith::MinUIOp::create(builder, loc, parts,
                                 indexConstant(builder, loc, kMaxParts));
  count = arith::MinUIOp::create(builder, loc, parts, rows);
}

Value RowParts::costBefore(OpBuilder &builder, Value row) const {
  Value overhead =
      mulIndex(builder, loc, row, indexConstant(builder, loc, kRowCost));
  return addIndex(builder, loc, overhead,
                  storage.firstPosition(builder, lvl, row));
}

/// The first row before which a part's share is done, by halving.
Value RowParts::firstRow(OpBuilder &builder, Value part) const {
  Value share = arith::DivUIOp::create(
      builder, loc, mulIndex(builder, loc, total, part), count);
  Type index = builder.getIndexType();
  Value zero = indexConstant(builder, loc, 0),
        one = indexConstant(builder, loc, 1),
        two = indexConstant(builder, loc, 2);
  auto loop = scf::WhileOp::create(
      builder, loc, TypeRange{index, index}, ValueRange{zero, rows},
      [&](OpBuilder &b, Location l, ValueRange bounds) {
        Value open = arith::CmpIOp::create(b, l, arith::CmpIPredicate::ult,
                                           bounds[0], bounds[1]);
        scf::ConditionOp::create(b, l, open, bounds);
      },
      [&](OpBuilder &b, Location l, ValueRange bounds) {
        Value middle = arith::DivUIOp::create(
            b, l, addIndex(b, l, bounds[0], bounds[1]), two);
        Value less = arith::CmpIOp::create(b, l, arith::CmpIPredicate::ult,
                                           costBefore(b, middle), share);
        Value lower = arith::SelectOp::create(
            b, l, less, addIndex(b, l, middle, one), bounds[0]);
        Value upper = arith::SelectOp::create(b, l, less, bounds[1], middle);
        scf::YieldOp::create(b, l, ValueRange{lower, upper});
      });
  return loop.getResult(0);
}

std::pair<Value, Value> RowParts::range(OpBuilder &builder, Value part) const {
  Value next = addIndex(builder, loc, part, indexConstant(builder, loc, 1));
  Value last = firstRow(builder, next);
  return {firstRow(builder, part), last};
}
