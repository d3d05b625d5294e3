//===- AttentionMerge.cpp - the results of parts of a tile meet -----------===//
//
// Each part leaves its output, divided by its own sums, and its log-sum-exp in
// memory. The warpgroup that is the last to do so for its 64 rows makes the
// result of them: its order of sums is that of the parts, whoever is last.
//
// Outputs are read as fragments of few columns, in which a row is a piece of 16
// columns of a row: all threads have something to read even where a tile has
// few rows, and the pieces of several parts are on their way at once.
//
//===----------------------------------------------------------------------===//

#include "passes/tile/AttentionBuilder.h"

using namespace mlir;
using namespace gossamer::tile;

static constexpr int64_t pieceColumns = 16, partsAtOnce = 8;

void AttentionBuilder::storePart(Value output, Value lse, Value tile) {
  Coordinates at = coordinatesOf(tile);
  Value part = n.rem(tile, argument(Parts));
  Value row = n.add(n.mul(part, argument(Rows)), firstRow(at));
  Value limit = n.sub(argument(Queries), rowInHead(at));
  StoreRowsOp::create(b, loc, output, argument(PartOut), row, limit);
  StoreRowsOp::create(b, loc, lse, argument(PartLogSumExp), row, limit);
}

void AttentionBuilder::merge(Value tile) {
  Value whole = n.div(tile, argument(Parts));
  Value counter = n.add(n.mul(whole, plan.consumers), warpgroup);
  Value isLast = ArriveOp::create(b, loc, b.getI1Type(), argument(Counter),
                                  counter, argument(Parts));
  ifSo(isLast, [&] {
    Coordinates at = coordinatesOf(tile);
    Value rows = n.min(n.sub(argument(Queries), rowInHead(at)), literal(64));
    Value pieces = n.mul(rows, plan.head / pieceColumns);
    auto loop = scf::ForOp::create(b, loc, literal(0), pieces, literal(64), {});
    OpBuilder::InsertionGuard guard(b);
    b.setInsertionPoint(loop.getBody()->getTerminator());
    Value piece = loop.getInductionVar();
    mergeRows(firstRow(at), piece, n.sub(pieces, piece));
  });
}

/// From the piece-th piece of 64 rows on.
void AttentionBuilder::mergeRows(Value firstRow, Value piece, Value limit) {
  int64_t span = plan.head / pieceColumns;
  auto type = FragmentType::get({64, pieceColumns}, b.getF32Type());
  auto rowAt = [&](Value part) {
    return n.add(n.add(n.mul(part, argument(Rows)), firstRow),
                 n.div(piece, literal(span)));
  };
  Value parts = argument(Parts);
  Values inits{SplatOp::create(b, loc, rows, lowest()),
               SplatOp::create(b, loc, rows, f32(0)),
               SplatOp::create(b, loc, type, f32(0))};
  auto loop = scf::ForOp::create(b, loc, literal(0), parts,
                                 literal(partsAtOnce), inits);
  {
    OpBuilder::InsertionGuard guard(b);
    b.setInsertionPointToStart(loop.getBody());
    Values outputs, logSumExps;
    for (int64_t p = 0; p < partsAtOnce; ++p) {
      Value part = n.add(loop.getInductionVar(), p);
      Value some = n.select(n.less(part, parts), limit, literal(0));
      Value row = rowAt(part);
      logSumExps.push_back(LoadRowsOp::create(
          b, loc, rows, argument(PartLogSumExp), row, some, lowest(), span));
      outputs.push_back(LoadRowsOp::create(b, loc, type, argument(PartOut),
                                           n.mul(row, span), some, f32(0)));
    }
    scf::YieldOp::create(
        b, loc, mergeParts(loop.getRegionIterArgs(), outputs, logSumExps));
  }
  Value maximum = loop.getResult(0), sum = loop.getResult(1);
  auto safe = [&](Value x) -> Value {
    return arith::SelectOp::create(b, loc, isAny(x), x, f32(1));
  };
  Value output =
      elementwise({loop.getResult(2), sum}, type, [&](ValueRange x) -> Value {
        return arith::DivFOp::create(b, loc, x[0], safe(x[1]),
                                     arith::FastMathFlags::arcp);
      });
  Value lse = rowsWise({maximum, sum}, [&](ValueRange x) -> Value {
    Value log = math::Log2Op::create(b, loc, safe(x[1]));
    return math::FmaOp::create(b, loc, log, f32(lnOf2), x[0]);
  });
  Value row = rowAt(literal(0));
  StoreRowsOp::create(b, loc, output, argument(OutMap), n.mul(row, span),
                      limit);
  StoreRowsOp::create(b, loc, lse, argument(LogSumExp), row, limit, span);
}

/// The maximum of the log-sum-exps so far, the sum of their exponentials, and
/// that of the outputs with these as weights.
AttentionBuilder::Values AttentionBuilder::mergeParts(ValueRange sofar,
                                                      ValueRange outputs,
                                                      ValueRange logSumExps) {
  Values all{sofar[0]};
  llvm::append_range(all, logSumExps);
  Value maximum = rowsWise(all, [&](ValueRange x) {
    Value most = x[0];
    for (Value other : x.slice(1, logSumExps.size()))
      most = arith::MaxNumFOp::create(b, loc, most, other);
    return most;
  });
  // What the former ones, and each of these, are to be multiplied by.
  Values weights;
  for (Value one : all)
    weights.push_back(rowsWise({one, maximum}, [&](ValueRange x) -> Value {
      Value none = arith::CmpFOp::create(b, loc, arith::CmpFPredicate::OEQ,
                                         x[1], lowest());
      Value shift = arith::SelectOp::create(b, loc, none, f32(0), x[1]);
      Value below = arith::SubFOp::create(b, loc, x[0], shift);
      return math::Exp2Op::create(b, loc, times(below, f32(log2OfE)));
    }));
  Values terms{sofar[1]};
  llvm::append_range(terms, weights);
  Value sum = rowsWise(terms, [&](ValueRange x) {
    Value total = times(x[0], x[1]);
    for (Value weight : x.slice(2, logSumExps.size()))
      total = arith::AddFOp::create(b, loc, total, weight);
    return total;
  });
  terms = {sofar[2]};
  llvm::append_range(terms, outputs);
  llvm::append_range(terms, weights);
  Value output = elementwise(terms, sofar[2].getType(), [&](ValueRange x) {
    ValueRange values = x.take_front(all.size());
    ValueRange factors = x.slice(all.size(), all.size());
    Value total = times(values[0], factors[0]);
    for (auto [value, factor] :
         llvm::zip(values.drop_front(), factors.drop_front()))
      total = math::FmaOp::create(b, loc, value, factor, total);
    return total;
  });
  return {maximum, sum, output};
}
