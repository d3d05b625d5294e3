//===- BackwardQueries.cpp - the gradient of the queries, by tiles --------===//
//
// With s = scale q k^T, p = e^(s - lse), dp = do v^T and delta = sum(do o) of a
// row: ds = p (dp - delta) and dq = scale ds k. A tile is a block of queries,
// whose do is kept in registers (on sm_90a); keys and values pass by in steps
// of 64.
//
// On the way it leaves what the program of the keys needs of a row: the shift
// -lse / ln 2, -inf where nothing is allowed (so that p is 0), and delta; of 64
// rows first the ones and then the others. Rows of a tile behind the last query
// have them, too.
//
// The queue carries {tile, steps, how many of them have partial blocks}; these
// come first. A tile below 0 ends the program.
//
//===----------------------------------------------------------------------===//

#include "passes/tile/BackwardPlan.h"
#include "passes/tile/BackwardSteps.h"

using namespace mlir;
using namespace gossamer::tile;

namespace {

class QueriesBuilder : BackwardSteps {
public:
  QueriesBuilder(AttentionBackwardOp op, const BackwardPlan &plan,
                 StringRef name);
  ProgramOp build();

private:
  /// What a warpgroup has of a tile: left sides, and numbers of its rows.
  struct Rows {
    Value query, outGrad, shifts, deltas;
    Corner corner;
  };

  void buildProducer();
  void buildConsumers();
  Coordinates coordinatesOf(Value tile) {
    return ProgramParts::coordinatesOf(tile, argument(QueriesBlocks),
                                       argument(QueriesHeads));
  }
  Value listOf(const Coordinates &at) {
    return listRow(at, argument(QueriesRowsOfBatch),
                   argument(QueriesRowsOfHead));
  }
  void loadRows(QueriesArgument map, Value ring, const Coordinates &at,
                Value number);
  void loadSteps(const Coordinates &at, Value index, Value list, Value steps,
                 Value number);
  /// As left side; and `part`, where it is in shared memory.
  Value takeRows(Value number, Value &part);
  Rows takeTile(Value tile, Value count);
  Value step(const Rows &rows, Value sum, Value number,
             llvm::function_ref<Value()> takeBits);
  Value addSteps(const Rows &rows, Value sum, Value from, Value to,
                 Value before, Value partials);
  void finish(Value sum, Value tile);

  Value argument(QueriesArgument at) {
    return program.getBody().getArgument(at);
  }

  ProgramOp program;
  OperandType rowsType;
  Value queryRing, outRing, keyRing, valueRing, headers, scratch, warpgroup;
};

QueriesBuilder::QueriesBuilder(AttentionBackwardOp op, const BackwardPlan &plan,
                               StringRef name)
    : BackwardSteps(op, plan, plan.queries) {
  Type element = plan.element, f32 = b.getF32Type(), i32 = b.getI32Type();
  SmallVector<Type> types(NumQueriesArguments, i32);
  for (unsigned at : {QueriesQueryMap, QueriesOutMap, QueriesOutGradMap})
    types[at] = MapType::get({tiling.rows, plan.head}, element);
  for (unsigned at : {QueriesKeyMap, QueriesValueMap})
    types[at] = MapType::get({64, plan.head}, element, plan.packed);
  types[QueriesQueryGradMap] = MapType::get({64, plan.head}, element);
  for (unsigned at : {QueriesLogSumExp, QueriesLogSumExpGrad, QueriesNumbers})
    types[at] = MemRefType::get({ShapedType::kDynamic}, f32);
  for (unsigned at :
       {QueriesCount, QueriesIndex, QueriesOrder, QueriesPartialCount,
        QueriesPartialIndex, QueriesPartialBits, QueriesBits, QueriesCounter})
    types[at] = MemRefType::get({ShapedType::kDynamic}, i32);
  types[QueriesScale] = f32;
  addScoreTypes(types);
  program = ProgramOp::create(b, loc, name, types, tiling.blocksPerProcessor,
                              plan.chip);
  rowsType = OperandType::get({64, plan.head}, element);
}

ProgramOp QueriesBuilder::build() {
  b.setInsertionPointToStart(&program.getBody().front());
  Type element = plan.element;
  auto ofTiles =
      RingType::get({tiling.tileStages, tiling.rows, plan.head}, element);
  queryRing = alloc(ofTiles);
  outRing = alloc(ofTiles); // outputs and their gradients by turns
  keyRing = alloc(RingType::get({tiling.stages, 64, plan.head}, element));
  valueRing = alloc(RingType::get({tiling.stages, 64, plan.head}, element));
  scratch =
      alloc(SharedType::get({tiling.rows, plan.head}, element, tiling.rows));
  headers = alloc(QueueType::get({2, 3}, b.getI32Type()));
  allocPlaces(1); // the first key
  scoreArguments =
      program.getBody().getArguments().drop_front(NumQueriesArguments);
  prepareScale(argument(QueriesScale));
  buildRoles(
      program, [&] { buildProducer(); },
      [&](Value number) {
        warpgroup = number;
        buildConsumers();
      });
  return program;
}

void QueriesBuilder::loadRows(QueriesArgument map, Value ring,
                              const Coordinates &at, Value number) {
  LoadOp::create(b, loc, argument(map), at.batch, at.head, literal(0),
                 ValueRange{n.mul(at.block, tiling.rows)}, ring, number);
}

/// Loads what a list says, as steps from `number` on.
void QueriesBuilder::loadSteps(const Coordinates &at, Value index, Value list,
                               Value steps, Value number) {
  Value head = n.div(at.head, argument(QueriesGroup));
  auto all = loop(literal(0), steps, {});
  OpBuilder::InsertionGuard guard(b);
  b.setInsertionPoint(all.getBody()->getTerminator());
  Value step = all.getInductionVar(), key = n.add(number, step);
  Value row = firstRowOf(index, list, step);
  sendPlace(key, row);
  LoadOp::create(b, loc, argument(QueriesKeyMap), at.batch, head, literal(0),
                 row, keyRing, key);
  LoadOp::create(b, loc, argument(QueriesValueMap), at.batch, head, literal(0),
                 row, valueRing, key);
}

void QueriesBuilder::buildProducer() {
  produceTiles(argument(QueriesOrder), argument(QueriesCounter),
               argument(QueriesTiles),
               [&](Value tile, Value count, Value before, Value exists) {
                 Coordinates at = coordinatesOf(tile);
                 Value row = listOf(at), masked = literal(0);
                 if (plan.partial)
                   masked = stepsOf(read(argument(QueriesPartialCount), row));
                 Value whole = stepsOf(read(argument(QueriesCount), row));
                 Value steps = n.add(masked, whole);
                 SendOp::create(b, loc, headers, count,
                                ValueRange{n.select(exists, tile, literal(-1)),
                                           steps, masked});
                 ifSo(exists, [&] {
                   Value number = n.mul(count, 2);
                   loadRows(QueriesOutMap, outRing, at, number);
                   loadRows(QueriesOutGradMap, outRing, at, n.add(number, 1));
                   loadRows(QueriesQueryMap, queryRing, at, count);
                   if (plan.partial)
                     loadSteps(at, argument(QueriesPartialIndex),
                               n.mul(row, argument(QueriesPartialLength)),
                               masked, before);
                   loadSteps(at, argument(QueriesIndex),
                             n.mul(row, argument(QueriesListLength)), whole,
                             n.add(before, masked));
                 });
                 return n.add(before, steps);
               });
}

Value QueriesBuilder::takeRows(Value number, Value &part) {
  part = rowsOf(wait(outRing, number), warpgroup);
  return LoadOperandOp::create(b, loc, rowsType, part);
}

QueriesBuilder::Rows QueriesBuilder::takeTile(Value tile, Value count) {
  Value number = n.mul(count, 2);
  auto whole = FragmentType::get({64, plan.head}, b.getF32Type());
  Value part, out = takeRows(number, part);
  release(outRing, number);
  number = n.add(number, 1);
  Value outGrad = takeRows(number, part);
  if (plan.keepsOutGrads)
    release(outRing, number);
  Value products =
      elementwise({ToFragmentOp::create(b, loc, whole, out),
                   ToFragmentOp::create(b, loc, whole, outGrad)},
                  whole, [&](ValueRange x) { return times(x[0], x[1]); });
  auto rows = RowsType::get(64, b.getF32Type(), /*partial=*/false);
  auto partial = RowsType::get(64, b.getF32Type(), /*partial=*/true);
  Value delta = ReduceOp::create(b, loc, partial, Combining::Sum, products,
                                 /*init=*/Value());
  delta = CombineOp::create(b, loc, rows, Combining::Sum, delta);

  Coordinates at = coordinatesOf(tile);
  Value row = n.add(n.mul(at.block, tiling.rows), n.mul(warpgroup, 64));
  Value head = n.div(tile, argument(QueriesBlocks));
  Value base = n.add(n.mul(head, argument(QueriesLength)), row);
  auto ofRows = [&](QueriesArgument memory, Value length, Value otherwise) {
    return LoadRowsOp::create(b, loc, rows, argument(memory), base,
                              n.sub(length, row), otherwise)
        .getResult();
  };
  Value lse = ofRows(QueriesLogSumExp, argument(QueriesLength), lowest());
  Value lseGrad = ofRows(QueriesLogSumExpGrad,
                         argument(QueriesLogSumExpGradLength), f32(0));
  Value shifts = elementwise(lse, rows, [&](ValueRange x) -> Value {
    Value none = arith::CmpFOp::create(b, loc, arith::CmpFPredicate::OEQ, x[0],
                                       lowest());
    return arith::SelectOp::create(b, loc, none, lowest(),
                                   times(x[0], f32(-log2OfE)));
  });
  Value deltas =
      elementwise({delta, lseGrad}, rows, [&](ValueRange x) -> Value {
        return arith::SubFOp::create(b, loc, x[0], x[1]);
      });
  Value to = n.add(n.mul(head, argument(QueriesPaddedLength)), row);
  to = n.mul(to, 2);
  Value numbers = argument(QueriesNumbers);
  StoreRowsOp::create(b, loc, shifts, numbers, to, literal(64));
  StoreRowsOp::create(b, loc, deltas, numbers, n.add(to, 64), literal(64));
  return {rowsOf(wait(queryRing, count), warpgroup),
          plan.keepsOutGrads ? outGrad : part, shifts, deltas,
          Corner{at.batch, at.head, row, Value(), /*keysAreRows=*/false}};
}

/// Adds what one step gives.
Value QueriesBuilder::step(const Rows &rows, Value sum, Value number,
                           llvm::function_ref<Value()> takeBits) {
  Corner corner = rows.corner;
  if (plan.scored)
    corner.key = receivePlace(number)[0];
  Value key = wait(keyRing, number);
  Value scores = mma(rows.query, key, 64, Value(), /*transposed=*/true);
  Value value = wait(valueRing, number);
  Value pGrad = mma(rows.outGrad, value, 64, Value(), /*transposed=*/true);
  Value bits = takeBits();
  scores = await(scores);
  Value p = probabilities(scores, rows.shifts, bits, corner);
  p = withDerivative(p, scores, corner);
  pGrad = await(pGrad);
  release(valueRing, number);
  Value scoreGrad = scoreGradients(p, pGrad, rows.deltas);
  Value left = ToOperandOp::create(b, loc, stepType, scoreGrad);
  sum = await(mma(left, key, plan.head, sum, /*transposed=*/false));
  release(keyRing, number);
  return sum;
}

/// Adds what steps give; with `partials`, where the list of partial blocks
/// begins, what of them is allowed.
Value QueriesBuilder::addSteps(const Rows &rows, Value sum, Value from,
                               Value to, Value before, Value partials) {
  auto all = loop(from, to, sum);
  OpBuilder::InsertionGuard guard(b);
  b.setInsertionPointToStart(all.getBody());
  Value number = all.getInductionVar();
  auto takeBits = [&]() -> Value {
    if (!partials)
      return {};
    return bitsOf(argument(QueriesBits), argument(QueriesPartialBits), partials,
                  number, warpgroup);
  };
  sum = step(rows, all.getRegionIterArgs().front(), n.add(before, number),
             takeBits);
  scf::YieldOp::create(b, loc, sum);
  return all.getResult(0);
}

void QueriesBuilder::finish(Value sum, Value tile) {
  Coordinates at = coordinatesOf(tile);
  Value row = n.add(n.mul(at.block, tiling.rows), n.mul(warpgroup, 64));
  StoreOp::create(b, loc, scaled(sum, argument(QueriesScale)),
                  argument(QueriesQueryGradMap), at.batch, at.head, row,
                  literal(0), rowsOf(scratch, warpgroup));
}

void QueriesBuilder::buildConsumers() {
  auto sumType = FragmentType::get({64, plan.head}, b.getF32Type());
  consumeTiles(headers, [&](ValueRange message, Value count, Value before) {
    Value tile = message[0], steps = message[1], masked = message[2];
    Rows rows = takeTile(tile, count);
    Value sum = noNumbers(sumType), from = literal(0);
    if (plan.partial) {
      Value partials =
          n.mul(listOf(coordinatesOf(tile)), argument(QueriesPartialLength));
      sum = addSteps(rows, sum, from, masked, before, partials);
      from = masked;
    }
    sum = addSteps(rows, sum, from, steps, before, /*partials=*/Value());
    release(queryRing, count);
    if (!plan.keepsOutGrads)
      release(outRing, n.add(n.mul(count, 2), 1));
    finish(sum, tile);
  });
}

} // namespace

ProgramOp gossamer::tile::buildQueriesProgram(AttentionBackwardOp op,
                                              const BackwardPlan &plan,
                                              StringRef name) {
  return QueriesBuilder(op, plan, name).build();
}
