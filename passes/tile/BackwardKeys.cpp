//===- BackwardKeys.cpp - the gradients of keys and values, by tiles ------===//
//
// A tile is a block of keys with its values; the queries that see it, of every
// head that shares the keys, pass by in steps of 64. Scores are computed turned
// over, s^T = k q^T, so that p^T and ds^T are in registers as left sides:
// dv = p^T do, dk = scale ds^T q. The shifts and deltas of queries, which the
// program of the queries left, are numbers of columns here.
//
// The queue carries {tile, steps, how many of them have partial blocks}; these
// come first, of every head. A tile below 0 ends the program.
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
  void buildProducer();
  void buildConsumers();
  /// The head is one of keys.
  Coordinates coordinatesOf(Value tile) {
    return ProgramParts::coordinatesOf(tile, argument(KeysBlocks),
                                       argument(KeysKeyHeads));
  }
  /// The row of the list of a block of keys, as a head of queries sees it.
  Value listOf(const Coordinates &at, Value head) {
    return listRow({at.batch, head, at.block}, argument(KeysRowsOfBatch),
                   argument(KeysRowsOfHead));
  }
  /// For each head of queries that shares the tile's keys: `body` gets the head
  /// and what is carried.
  Values overHeads(const Coordinates &at, Values inits,
                   llvm::function_ref<Values(Value, ValueRange)> body);
  Value countSteps(const Coordinates &at, Value counts);
  Value loadSteps(const Coordinates &at, KeysArgument counts,
                  KeysArgument index, KeysArgument length, Value number);
  Values step(Value key, Value value, ValueRange sums, Value number,
              llvm::function_ref<Value()> takeBits);
  Values addSteps(Value key, Value value, ValueRange sums, Value from, Value to,
                  Value before, Value partials);
  Values addPartialSteps(Value key, Value value, ValueRange sums, Value tile,
                         Value before);
  void finish(ValueRange sums, Value tile);

  Value argument(KeysArgument at) { return program.getBody().getArgument(at); }

  ProgramOp program;
  Value keyRing, valueRing, queryRing, outGradRing, numbers, headers, scratch;
  Value warpgroup;
  Corner corner; // of the step at hand
};

KeysBuilder::KeysBuilder(AttentionBackwardOp op, const BackwardPlan &plan,
                         StringRef name)
    : BackwardSteps(op, plan, plan.keys) {
  Type element = plan.element, f32 = b.getF32Type(), i32 = b.getI32Type();
  SmallVector<Type> types(NumKeysArguments, i32);
  for (unsigned at : {KeysKeyMap, KeysValueMap})
    types[at] = MapType::get({tiling.rows, plan.head}, element, plan.packed);
  for (unsigned at : {KeysQueryMap, KeysOutGradMap})
    types[at] = MapType::get({64, plan.head}, element);
  for (unsigned at : {KeysKeyGradMap, KeysValueGradMap})
    types[at] = MapType::get({64, plan.head}, element, plan.packed);
  types[KeysNumbers] = MemRefType::get({ShapedType::kDynamic}, f32);
  for (unsigned at : {KeysCount, KeysIndex, KeysOrder, KeysPartialCount,
                      KeysPartialIndex, KeysPartialBits, KeysBits, KeysCounter})
    types[at] = MemRefType::get({ShapedType::kDynamic}, i32);
  types[KeysScale] = f32;
  addScoreTypes(types);
  program = ProgramOp::create(b, loc, name, types, tiling.blocksPerProcessor,
                              plan.chip);
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
  numbers =
      alloc(SeriesType::get({tiling.numberStages, 2, 64}, b.getF32Type()));
  scratch =
      alloc(SharedType::get({tiling.rows, plan.head}, element, tiling.rows));
  headers = alloc(QueueType::get({2, 3}, b.getI32Type()));
  allocPlaces(2); // the head and the first query
  scoreArguments =
      program.getBody().getArguments().drop_front(NumKeysArguments);
  prepareScale(argument(KeysScale));
  buildRoles(
      program, [&] { buildProducer(); },
      [&](Value number) {
        warpgroup = number;
        buildConsumers();
      });
  return program;
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

/// Of all heads.
Value KeysBuilder::countSteps(const Coordinates &at, Value counts) {
  return overHeads(at, {literal(0)}, [&](Value head, ValueRange sum) {
    return Values{n.add(sum[0], stepsOf(read(counts, listOf(at, head))))};
  })[0];
}

/// Loads what lists say, of every head, as steps from `number` on; gives the
/// number of the step behind them.
Value KeysBuilder::loadSteps(const Coordinates &at, KeysArgument counts,
                             KeysArgument index, KeysArgument length,
                             Value number) {
  return overHeads(at, {number}, [&](Value head, ValueRange carried) {
    Value number = carried[0], row = listOf(at, head);
    Value steps = stepsOf(read(argument(counts), row));
    Value list = n.mul(row, argument(length));
    Value headOfAll = n.add(n.mul(at.batch, argument(KeysHeads)), head);
    Value base = n.mul(headOfAll, argument(KeysPaddedLength));
    auto all = loop(literal(0), steps, {});
    {
      OpBuilder::InsertionGuard guard(b);
      b.setInsertionPoint(all.getBody()->getTerminator());
      Value step = all.getInductionVar(), query = n.add(number, step);
      Value first = firstRowOf(argument(index), list, step);
      sendPlace(query, {head, first});
      LoadOp::create(b, loc, argument(KeysQueryMap), at.batch, head, literal(0),
                     first, queryRing, query);
      LoadOp::create(b, loc, argument(KeysOutGradMap), at.batch, head,
                     literal(0), first, outGradRing, query);
      LoadNumbersOp::create(b, loc, argument(KeysNumbers),
                            n.mul(n.add(base, first), 2), numbers, query);
    }
    return Values{n.add(number, steps)};
  })[0];
}

void KeysBuilder::buildProducer() {
  produceTiles(
      argument(KeysOrder), argument(KeysCounter), argument(KeysTiles),
      [&](Value tile, Value count, Value before, Value exists) {
        Coordinates at = coordinatesOf(tile);
        Value masked = literal(0);
        if (plan.partial)
          masked = countSteps(at, argument(KeysPartialCount));
        Value steps = n.add(masked, countSteps(at, argument(KeysCount)));
        SendOp::create(
            b, loc, headers, count,
            ValueRange{n.select(exists, tile, literal(-1)), steps, masked});
        return ifSo(exists, before, [&] {
          Value row = n.mul(at.block, tiling.rows), number = before;
          LoadOp::create(b, loc, argument(KeysKeyMap), at.batch, at.head,
                         literal(0), row, keyRing, count);
          LoadOp::create(b, loc, argument(KeysValueMap), at.batch, at.head,
                         literal(0), row, valueRing, count);
          if (plan.partial)
            number = loadSteps(at, KeysPartialCount, KeysPartialIndex,
                               KeysPartialLength, number);
          return loadSteps(at, KeysCount, KeysIndex, KeysListLength, number);
        });
      });
}

/// Adds what one step gives to the sums of values and keys.
ProgramParts::Values KeysBuilder::step(Value key, Value value, ValueRange sums,
                                       Value number,
                                       llvm::function_ref<Value()> takeBits) {
  if (plan.scored) {
    Values place = receivePlace(number);
    corner.head = place[0];
    corner.query = place[1];
  }
  Value query = wait(queryRing, number);
  Value scores = mma(key, query, 64, Value(), /*transposed=*/true);
  Value outGrad = wait(outGradRing, number);
  auto multiply = [&] {
    return mma(value, outGrad, 64, Value(), /*transposed=*/true);
  };
  // With wide heads a function of scores needs the registers that the product
  // would have meanwhile.
  bool waits =
      plan.scored && plan.head > 64 && (derives() || tiling.consumers == 1);
  Value pGrad;
  if (!waits)
    pGrad = multiply();
  auto columns = ColumnsOp::create(b, loc, numbers, number);
  Value bits = takeBits();
  scores = await(scores);
  Value p = probabilities(scores, columns.getResult(0), bits, corner);
  Value changes = withDerivative(p, scores, corner), left;
  if (waits) {
    left = ToOperandOp::create(b, loc, stepType, p);
    pGrad = multiply();
  }
  Value scoreGrad = scoreGradients(changes, await(pGrad), columns.getResult(1));
  if (!waits)
    left = ToOperandOp::create(b, loc, stepType, p);
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

/// Adds what steps give; with `partials`, where the list of partial blocks
/// begins, what of them is allowed.
ProgramParts::Values KeysBuilder::addSteps(Value key, Value value,
                                           ValueRange sums, Value from,
                                           Value to, Value before,
                                           Value partials) {
  auto all = loop(from, to, sums);
  OpBuilder::InsertionGuard guard(b);
  b.setInsertionPointToStart(all.getBody());
  Value number = all.getInductionVar();
  auto takeBits = [&]() -> Value {
    if (!partials)
      return {};
    return bitsOf(argument(KeysBits), argument(KeysPartialBits), partials,
                  number, warpgroup);
  };
  Values next = step(key, value, all.getRegionIterArgs(), n.add(before, number),
                     takeBits);
  scf::YieldOp::create(b, loc, next);
  return Values(all.getResults());
}

/// The same for the partial blocks of all heads.
ProgramParts::Values KeysBuilder::addPartialSteps(Value key, Value value,
                                                  ValueRange sums, Value tile,
                                                  Value before) {
  Coordinates at = coordinatesOf(tile);
  Values inits(sums);
  inits.push_back(before);
  Values done = overHeads(at, inits, [&](Value head, ValueRange carried) {
    Value row = listOf(at, head);
    Value steps = stepsOf(read(argument(KeysPartialCount), row));
    Value partials = n.mul(row, argument(KeysPartialLength));
    Values next = addSteps(key, value, carried.take_front(2), literal(0), steps,
                           carried[2], partials);
    next.push_back(n.add(carried[2], steps));
    return next;
  });
  done.pop_back();
  return done;
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
  consumeTiles(headers, [&](ValueRange message, Value count, Value before) {
    Value tile = message[0], steps = message[1], from = literal(0);
    if (plan.scored) {
      Coordinates at = coordinatesOf(tile);
      corner.batch = at.batch;
      corner.key = n.add(n.mul(at.block, tiling.rows), n.mul(warpgroup, 64));
      corner.keysAreRows = true;
    }
    Value key = rowsOf(wait(keyRing, count), warpgroup);
    Value value = rowsOf(wait(valueRing, count), warpgroup);
    Values sums{noNumbers(sumType), noNumbers(sumType)};
    if (plan.partial) {
      sums = addPartialSteps(key, value, sums, tile, before);
      from = message[2];
    }
    sums = addSteps(key, value, sums, from, steps, before,
                    /*partials=*/Value());
    release(keyRing, count);
    release(valueRing, count);
    finish(sums, tile);
  });
}

} // namespace

ProgramOp gossamer::tile::buildKeysProgram(AttentionBackwardOp op,
                                           const BackwardPlan &plan,
                                           StringRef name) {
  return KeysBuilder(op, plan, name).build();
}
