//===- LowerStoredRows.cpp - softmax and maps on vectors of entries -------===//
//
// Entries of a line as lanes. A softmax has the maximum and the sum of a row in
// registers, and runs over it three times while it is in the first-level cache;
// that of halves makes its powers a second time rather than round them twice.
//
//===----------------------------------------------------------------------===//

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Bufferization/IR/Bufferization.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "mlir/IR/TypeUtilities.h"
#include "passes/HalfPrecision.h"
#include "passes/Passes.h"
#include "passes/RegisterTile.h"
#include "passes/Report.h"
#include "passes/StripBody.h"

namespace gossamer {
#define GEN_PASS_DEF_LOWERSTOREDROWS
#include "passes/Passes.h.inc"
} // namespace gossamer

using namespace mlir;
using namespace gossamer;

namespace {

void reportLines(Operation *op, const StoredLines &lines) {
  report(op, op->getName().getStringRef(), Road::General,
         Twine(lines.getLanes()) +
             " stored entries a vector, rows in parallel");
}

// --- softmax

class RowSoftmax {
public:
  RowSoftmax(SoftmaxOp op, unsigned vectorBytes)
      : op(op), builder(op), loc(op.getLoc()),
        storage(builder, loc, op.getSource()), runs(loc, storage),
        stored(cast<FloatType>(getElementTypeOrSelf(op.getSource()))),
        element(cast<FloatType>(sumTypeOf(stored))),
        lines(StoredLines::find(loc, storage, runs,
                                vectorBytes * 8 / element.getWidth())) {}

  LogicalResult run();

private:
  using Strip = StoredLines::Strip;
  using Run = StoredRuns::Run;

  Value constant(OpBuilder &b, double value) {
    auto type = VectorType::get(lines->getLanes(), element);
    return arith::ConstantOp::create(
        b, loc, DenseElementsAttr::get(type, b.getFloatAttr(element, value)));
  }
  Value splat(OpBuilder &b, Value scalar) {
    return vector::BroadcastOp::create(
        b, loc, VectorType::get(lines->getLanes(), element), scalar);
  }
  /// Entries, and `other` in the lanes behind the last.
  Value load(OpBuilder &b, const Strip &strip, Value buffer, double other) {
    Value loaded =
        extendTo(b, loc,
                 loadPoints(b, loc, buffer, placeOfEntry(op.getContext()),
                            strip.entries),
                 element);
    Value mask = strip.entries.mask(b, loc);
    return mask ? arith::SelectOp::create(b, loc, mask, loaded,
                                          constant(b, other))
                : loaded;
  }
  void store(OpBuilder &b, const Strip &strip, Value value) {
    if (element != stored)
      value = arith::TruncFOp::create(
          b, loc, VectorType::get(lines->getLanes(), stored), value);
    storePoints(b, loc, value, out, placeOfEntry(op.getContext()),
                strip.entries);
  }
  void emitLine(OpBuilder &b, const Run &run, ValueRange inBlock);

  static constexpr double kLowest = -std::numeric_limits<double>::infinity();

  SoftmaxOp op;
  OpBuilder builder;
  Location loc;
  Storage storage;
  StoredRuns runs;
  /// The type of values, and that of sums: f32 at least.
  FloatType stored, element;
  std::optional<StoredLines> lines;
  Value out;
};

void RowSoftmax::emitLine(OpBuilder &b, const Run &run, ValueRange inBlock) {
  auto scalar = [&](double value) -> Value {
    return arith::ConstantOp::create(b, loc, b.getFloatAttr(element, value));
  };
  auto isEqual = [&](Value left, Value right) -> Value {
    return arith::CmpFOp::create(b, loc, arith::CmpFPredicate::OEQ, left,
                                 right);
  };
  Value maxima =
      lines->visit(b, run, inBlock, constant(b, kLowest),
                   [&](OpBuilder &in, const Strip &strip, ValueRange carried) {
                     Value scores = load(in, strip, storage.values, kLowest);
                     return StoredLines::Values{arith::MaximumFOp::create(
                         in, loc, carried[0], scores)};
                   })[0];
  Value most = vector::ReductionOp::create(
      b, loc, vector::CombiningKind::MAXIMUMF, maxima);
  // A row with nothing allowed is measured from 0, so that what is masked comes
  // out as exp(-inf) = 0 and not as NaN.
  most = arith::SelectOp::create(b, loc, isEqual(most, scalar(kLowest)),
                                 scalar(0), most);
  Value from = splat(b, most);
  auto power = [&](OpBuilder &in, const Strip &strip) -> Value {
    Value scores = load(in, strip, storage.values, kLowest);
    return math::ExpOp::create(in, loc,
                               arith::SubFOp::create(in, loc, scores, from));
  };
  Value sums =
      lines->visit(b, run, inBlock, constant(b, 0),
                   [&](OpBuilder &in, const Strip &strip, ValueRange carried) {
                     Value powers = power(in, strip);
                     if (element == stored)
                       store(in, strip, powers);
                     return StoredLines::Values{
                         arith::AddFOp::create(in, loc, carried[0], powers)};
                   })[0];
  Value sum =
      vector::ReductionOp::create(b, loc, vector::CombiningKind::ADD, sums);
  Value inverse = arith::DivFOp::create(b, loc, scalar(1), sum);
  inverse = arith::SelectOp::create(b, loc, isEqual(sum, scalar(0)), scalar(0),
                                    inverse);
  Value factor = splat(b, inverse);
  lines->visit(
      b, run, inBlock, {}, [&](OpBuilder &in, const Strip &strip, ValueRange) {
        Value powers =
            element == stored ? load(in, strip, out, 0) : power(in, strip);
        store(in, strip, arith::MulFOp::create(in, loc, powers, factor));
        return StoredLines::Values{};
      });
}

LogicalResult RowSoftmax::run() {
  if (!lines || !lines->areWhole(op.getDimension()))
    return failure();
  reportLines(op, *lines);
  out = makeValues(builder, loc, op.getResult(), storage.values);
  runs.forEach(builder, [&](OpBuilder &b, const Run &run) {
    lines->forEach(b, run, [&](OpBuilder &in, ValueRange inBlock) {
      emitLine(in, run, inBlock);
    });
  });
  replaceWithValues(builder, op, op.getSource(), out);
  return success();
}

// --- maps

LogicalResult lowerOnVectors(MapOp op, unsigned vectorBytes) {
  OpBuilder builder(op);
  Location loc = op.getLoc();
  SmallVector<AffineMap> maps = op.getMaps();
  Storage storage(builder, loc, op.getPattern());
  StoredRuns runs(loc, storage);
  BodyOperands operands(builder, loc, op.getExtras(),
                        ArrayRef(maps).drop_front());
  auto body = StripBody::find(loc, op.getBlock(), storage, runs, maps[0],
                              operands, vectorBytes);
  if (!body)
    return failure();
  reportLines(op, body->getLines());
  Value out = makeValues(builder, loc, op.getResult(), storage.values);
  runs.forEach(builder, [&](OpBuilder &b, const StoredRuns::Run &run) {
    body->getLines().forEachStrip(
        b, run, [&](OpBuilder &in, const StoredLines::Strip &strip) {
          storePoints(in, loc, body->emit(in, strip), out,
                      placeOfEntry(op.getContext()), strip.entries);
        });
  });
  replaceWithValues(builder, op, op.getPattern(), out);
  return success();
}

struct LowerStoredRows : gossamer::impl::LowerStoredRowsBase<LowerStoredRows> {
  using LowerStoredRowsBase::LowerStoredRowsBase;
  void runOnOperation() override {
    SmallVector<Operation *> ops;
    getOperation().walk([&](Operation *op) {
      if (isa<SoftmaxOp, MapOp>(op))
        ops.push_back(op);
    });
    for (Operation *op : ops) {
      auto map = dyn_cast<MapOp>(op);
      if (map && failed(verifyShared(op, map.getPattern(), map.getExtras())))
        return signalPassFailure();
      // What cannot be had in vectors is left as it is.
      if (map)
        (void)lowerOnVectors(map, vectorBytes);
      else
        (void)RowSoftmax(cast<SoftmaxOp>(op), vectorBytes).run();
    }
  }
};

} // namespace
