//===- BackwardKeys.cpp - the gradients of keys and values, by tiles ------===//
//
// A tile is a block of keys with its values; the queries that see it, of every
// head that shares the keys, pass by in steps of 64. Scores are computed turned
// over, s^T = k q^T, so that p^T and ds^T are in registers as left sides:
// dv = p^T do, dk = scale ds^T q. The shifts and deltas of queries, which the
// program of the queries left, are numbers of columns here.
//
// The queue carries {tile, steps}; a tile below 0 ends the program.
//
//===----------------------------------------------------------------------===//

#include "passes/tile/BackwardPlan.h"
#include "passes/tile/BackwardSteps.h"

using namespace mlir;
using namespace gossamer::tile;

namespace {

class KeysBuilder : BackwardSteps {
public:
  KeysBuilder(AttentionBackwardOp op, const BackwardPlan &plan, StringRef name);
  ProgramOp build();

private:
  struct Coordinates {
    Value batch, head, block; // head: of the keys
  };

  void buildProducer();
  void buildConsumers();
  Coordinates coordinatesOf(Value tile);
  Value listOf(const Coordinates &at, Value head);
  /// For each head of queries that shares the tile's keys: `body` gets the head
  /// and what is carried.
  Values overHeads(const Coordinates &at, Values inits,
                   llvm::function_ref<Values(Value, ValueRange)> body);
  Value loadSteps(const Coordinates &at, Value head, Value number);
  Values step(Value key, Value value, ValueRange sums, Value number);
  void finish(ValueRange sums, Value tile);

  Value argument(KeysArgument at) { return program.getBody().getArgument(at); }

  ProgramOp program;
  Value keyRing, valueRing, queryRing, outGradRing, numbers, headers, scratch;
  Value warpgroup;
};

KeysBuilder::KeysBuilder(AttentionBackwardOp op, const BackwardPlan &plan,
                         StringRef name)
    : BackwardSteps(op, plan, plan.keys) {
  Type element = plan.element, f32 = b.getF32Type(), i32 = b.getI32Type();
  SmallVector<Type> types(NumKeysArguments, i32);
  for (unsigned at : {KeysKeyMap, KeysValueMap})
    types[at] = MapType::get({tiling.rows, plan.head}, element);
  for (unsigned at :
       {KeysQueryMap, KeysOutGradMap, KeysKeyGradMap, KeysValueGradMap})
    types[at] = MapType::get({64, plan.head}, element);
  types[KeysNumbers] = MemRefType::get({ShapedType::kDynamic}, f32);
  for (unsigned at : {KeysCount, KeysIndex, KeysOrder, KeysCounter})
    types[at] = MemRefType::get({ShapedType::kDynamic}, i32);
  types[KeysScale] = f32;
  program = ProgramOp::create(b, loc, name, types, tiling.blocksPerProcessor);
}

ProgramOp KeysBuilder::build() {
  b.setInsertionPointToStart(&program.getBody().front());
  Type element = plan.element;
  keyRing = alloc(
      RingType::get({tiling.tileStages, tiling.rows, plan.head}, element));
  valueRing = alloc(
      RingType::get({tiling.tileStages, tiling.rows, plan.head}, element));
  queryRing = alloc(RingType::get({tiling.stages, 64, plan.head}, element));
  outGradRing = alloc(RingType::get({tiling.stages, 64, plan.head}, element));
  // Two thread blocks with wide heads leave room for one stage.
  int64_t stages = tiling.stages > 2 ? tiling.stages : 1;
  numbers = alloc(SeriesType::get({stages, 2, 64}, b.getF32Type()));
  scratch =
      alloc(SharedType::get({tiling.rows, plan.head}, element, tiling.rows));
  headers = alloc(QueueType::get({2, 2}, b.getI32Type()));
  prepareScale(argument(KeysScale));
  buildRoles(
      program, [&] { buildProducer(); },
      [&](Value number) {
        warpgroup = number;
        buildConsumers();
      });
  return program;
}

KeysBuilder::Coordinates KeysBuilder::coordinatesOf(Value tile) {
  Value blocks = argument(KeysBlocks), heads = argument(KeysKeyHeads);
  Value head = n.div(tile, blocks);
  return {n.div(head, heads), n.rem(head, heads), n.rem(tile, blocks)};
}

/// The row of the list of a block of keys, as a head of queries sees it.
Value KeysBuilder::listOf(const Coordinates &at, Value head) {
  return n.add(n.add(n.mul(at.batch, argument(KeysRowsOfBatch)),
                     n.mul(head, argument(KeysRowsOfHead))),
               at.block);
}

ProgramParts::Values
KeysBuilder::overHeads(const Coordinates &at, Values inits,
                       llvm::function_ref<Values(Value, ValueRange)> body) {
  Value first = n.mul(at.head, argument(KeysGroup));
  auto heads = loop(literal(0), argument(KeysGroup), inits);
  OpBuilder::InsertionGuard guard(b);
  b.setInsertionPointToStart(heads.getBody());
  Values next =
      body(n.add(first, heads.getInductionVar()), heads.getRegionIterArgs());
  scf::YieldOp::create(b, loc, next);
  return Values(heads.getResults());
}

/// Loads what a head's queries give; `number` counts steps.
Value KeysBuilder::loadSteps(const Coordinates &at, Value head, Value number) {
  Value row = listOf(at, head);
  Value entries = read(argument(KeysCount), row);
  Value list = n.mul(row, argument(KeysListLength));
  Value steps = stepsOf(entries);
  Value headOfAll = n.add(n.mul(at.batch, argument(KeysHeads)), head);
  Value base = n.mul(headOfAll, argument(KeysPaddedLength));
  auto all = loop(literal(0), steps, {});
  {
    OpBuilder::InsertionGuard guard(b);
    b.setInsertionPoint(all.getBody()->getTerminator());
    Value step = all.getInductionVar(), query = n.add(number, step);
    Values rows{firstRowOf(argument(KeysIndex), list, step)};
    LoadOp::create(b, loc, argument(KeysQueryMap), at.batch, head, literal(0),
                   rows, queryRing, query);
    LoadOp::create(b, loc, argument(KeysOutGradMap), at.batch, head, literal(0),
                   rows, outGradRing, query);
    LoadNumbersOp::create(b, loc, argument(KeysNumbers),
                          n.mul(n.add(base, rows[0]), 2), numbers, query);
  }
  return n.add(number, steps);
}

void KeysBuilder::buildProducer() {
  produceTiles(
      argument(KeysOrder), argument(KeysCounter), argument(KeysTiles),
      [&](Value tile, Value count, Value before, Value exists) {
        Coordinates at = coordinatesOf(tile);
        Value steps =
            overHeads(at, {literal(0)}, [&](Value head, ValueRange sum) {
              Value entries = read(argument(KeysCount), listOf(at, head));
              return Values{n.add(sum[0], stepsOf(entries))};
            })[0];
        SendOp::create(b, loc, headers, count,
                       ValueRange{n.select(exists, tile, literal(-1)), steps});
        return ifSo(exists, before, [&] {
          Values rows{n.mul(at.block, tiling.rows)};
          LoadOp::create(b, loc, argument(KeysKeyMap), at.batch, at.head,
                         literal(0), rows, keyRing, count);
          LoadOp::create(b, loc, argument(KeysValueMap), at.batch, at.head,
                         literal(0), rows, valueRing, count);
          return overHeads(at, {before}, [&](Value head, ValueRange number) {
            return Values{loadSteps(at, head, number[0])};
          })[0];
        });
      });
}

/// Adds what one step gives to the sums of values and keys.
ProgramParts::Values KeysBuilder::step(Value key, Value value, ValueRange sums,
                                       Value number) {
  Value query = wait(queryRing, number);
  Value scores = mma(key, query, 64, Value(), /*transposed=*/true);
  Value outGrad = wait(outGradRing, number);
  Value pGrad = mma(value, outGrad, 64, Value(), /*transposed=*/true);
  auto columns = ColumnsOp::create(b, loc, numbers, number);
  Value p = probabilities(await(scores), columns.getResult(0));
  Value scoreGrad = scoreGradients(p, await(pGrad), columns.getResult(1));
  Value left = ToOperandOp::create(b, loc, stepType, p);
  Value leftOfKeys = ToOperandOp::create(b, loc, stepType, scoreGrad);
  Value values = mma(left, outGrad, plan.head, sums[0], /*transposed=*/false);
  Value keys = mma(leftOfKeys, query, plan.head, sums[1], /*transposed=*/false);
  release(numbers, number);
  values = await(values);
  keys = await(keys);
  release(outGradRing, number);
  release(queryRing, number);
  return {values, keys};
}

void KeysBuilder::finish(ValueRange sums, Value tile) {
  Coordinates at = coordinatesOf(tile);
  Value row = n.add(n.mul(at.block, tiling.rows), n.mul(warpgroup, 64));
  Value way = rowsOf(scratch, warpgroup);
  StoreOp::create(b, loc, sums[0], argument(KeysValueGradMap), at.batch,
                  at.head, row, literal(0), way);
  StoreOp::create(b, loc, scaled(sums[1], argument(KeysScale)),
                  argument(KeysKeyGradMap), at.batch, at.head, row, literal(0),
                  way);
}

void KeysBuilder::buildConsumers() {
  auto sumType = FragmentType::get({64, plan.head}, b.getF32Type());
  consumeTiles(
      [&](Value count) {
        auto message = ReceiveOp::create(b, loc, headers, count);
        return std::pair(Value(message.getResult(0)),
                         Value(message.getResult(1)));
      },
      [&](Value tile, Value steps, Value count, Value before) {
        Value key = rowsOf(wait(keyRing, count), warpgroup);
        Value value = rowsOf(wait(valueRing, count), warpgroup);
        auto all = loop(literal(0), steps,
                        ValueRange{noNumbers(sumType), noNumbers(sumType)});
        {
          OpBuilder::InsertionGuard guard(b);
          b.setInsertionPointToStart(all.getBody());
          Values sums = step(key, value, all.getRegionIterArgs(),
                             n.add(before, all.getInductionVar()));
          scf::YieldOp::create(b, loc, sums);
        }
        release(keyRing, count);
        release(valueRing, count);
        finish(all.getResults(), tile);
      });
}

} // namespace

ProgramOp gossamer::tile::buildKeysProgram(AttentionBackwardOp op,
                                           const BackwardPlan &plan,
                                           StringRef name) {
  return KeysBuilder(op, plan, name).build();
}
