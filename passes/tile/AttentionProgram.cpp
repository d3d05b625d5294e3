//===- AttentionProgram.cpp - what a thread block does for attention ------===//
//
// A tile is a block of queries of one head; its steps are the keys that its
// list allows, from the last to the first, so that what must be masked (the end
// of the keys, the diagonal, missing blocks of a gather) is in step 0 and the
// loop over the other steps has no mask. A tile with nothing allowed has one
// step behind the end of the keys, which reads zeros.
//
// A list that has blocks which are allowed in part begins with masked steps:
// as many entries of the list as make no whole step, or are at the end of the
// keys, and the partial blocks. There each entry has bits, or counts as one
// whose bits are all set; the other steps are unmasked as ever.
//
// The queue carries {tile, steps, first key, keys of step 0}, or with partial
// blocks {tile, steps, first key, entries of masked steps, masked steps, whole
// blocks among these}; a tile below 0 ends the program.
//
//===----------------------------------------------------------------------===//

#include "passes/tile/AttentionPlan.h"
#include "passes/tile/Numbers.h"

#include <limits>

using namespace mlir;
using namespace gossamer::tile;

namespace {

constexpr double log2OfE = 1.4426950408889634, lnOf2 = 0.6931471805599453;

class ProgramBuilder {
public:
  ProgramBuilder(AttentionOp op, const AttentionPlan &plan, StringRef name);
  ProgramOp build();

private:
  using Values = SmallVector<Value>;
  /// What the producer knows of a tile.
  struct Item {
    Value tile, entries, steps, list;
    // With partial blocks: the row of the lists, their number; and how many
    // steps are masked, with how many entries of the list (`splitSteps`).
    Value row, partials, masked, whole;
  };
  /// What consumers know of it.
  struct Header {
    Value tile, steps, first, allowed;
    Value masked, whole; // with partial blocks, of which `allowed` are masked
  };
  /// The state of an online softmax: p as left side, maximum, partial sum.
  struct Softmax {
    Value p, maximum, sum;
  };
  struct Coordinates {
    Value batch, head, block;
  };
  /// Blocks of keys before the queries' own: the first, and how many from there
  /// on have keys that are too far behind.
  struct Window {
    Value first, partial;
  };

  void buildProducer();
  Value tileOf(Value number);
  Coordinates coordinatesOf(Value tile);
  Window windowOf(Value queryBlock);
  Item itemOf(Value number);
  Value listRow(const Coordinates &at);
  void splitSteps(Item &item);
  Values maskedRows(const Item &item, Value step);
  Values stateOf(const Item &item);
  Item itemOf(ValueRange state);
  Values firstRows(const Item &item);
  Values rowsOf(const Item &item, Value step);
  Value blockOf(const Item &item, Value entry);
  void sendHeader(Value number, const Item &item, Value first, Value exists);
  void loadQueries(const Item &item, Value number);
  void load(Value map, Value ring, Value tile, ValueRange rows, Value number);

  void buildConsumers();
  Header receive(Value number);
  Value takeQueries(Value number);
  Value beginScores(Value query, Value number);
  Value beginOutput(Value p, Value output, Value number);
  void release(Value ring, Value number);
  Softmax firstSoftmax(Value scores, const Header &header, Value bits);
  Value masked(Value scores, const Header &header, Value firstKey);
  Value masked(Value scores, Value bits);
  Value firstPartial(Value tile);
  Values bitsOf(const Header &header, Value partialList, Value step);
  Value loadBits(ValueRange numbers);
  scf::ForOp buildSteps(Value from, Value to, ValueRange inits, Value query,
                        Value before, const Header &header, bool isMasked,
                        Value partialList = {});
  Softmax nextSoftmax(Value scores, const Softmax &old, bool mayBeEmpty,
                      Value &factor);
  Value exponentials(Value scores, Value shift);
  Value shiftOf(Value maximum, bool mayBeEmpty);
  void finish(Value output, const Softmax &state, const Header &header);
  Softmax softmaxOf(ValueRange values) {
    return {values[0], values[1], values[2]};
  }

  using Body = llvm::function_ref<Value(ValueRange)>;
  Value elementwise(ValueRange inputs, Type type, Body body);
  Value rowsWise(ValueRange inputs, Body body);
  Value f32(double value) {
    return arith::ConstantOp::create(b, loc, b.getF32FloatAttr(value));
  }
  Value literal(int64_t value) { return n.literal(value); }
  Value lowest() { return f32(-std::numeric_limits<double>::infinity()); }
  Value argument(AttentionArgument at) {
    return program.getBody().getArgument(at);
  }
  scf::ForOp loop(Value from, Value to, ValueRange inits);
  /// A loop that runs at least once: `body` gives the condition and what is
  /// carried.
  void doWhile(ValueRange inits,
               llvm::function_ref<Value(ValueRange, Values &)> body);

  const AttentionPlan &plan;
  OpBuilder b;
  Location loc;
  Numbers n;
  ProgramOp program;
  FragmentType scoresType, outputType;
  RowsType rows, partialRows;
  OperandType queryType, probabilityType;
  Value scale, queryRing, keyRing, valueRing, headers, scratch;
  Value warpgroup;
};

ProgramBuilder::ProgramBuilder(AttentionOp op, const AttentionPlan &plan,
                               StringRef name)
    : plan(plan), b(op), loc(op.getLoc()), n(b, loc, b.getI32Type()) {
  Type element = plan.element, f32 = b.getF32Type(), i32 = b.getI32Type();
  int64_t box = plan.gathered > 1 ? plan.block : plan.keys;
  SmallVector<Type> types(NumAttentionArguments, i32);
  types[QueryMap] = MapType::get({plan.queries, plan.head}, element);
  types[KeyMap] = types[ValueMap] = MapType::get({box, plan.head}, element);
  types[OutMap] = MapType::get({64, plan.head}, element);
  types[LogSumExp] = MemRefType::get({ShapedType::kDynamic}, f32);
  for (unsigned at : {Count, Index, Order, Counter, PartialCount, PartialIndex,
                      PartialBits, Bits})
    types[at] = MemRefType::get({ShapedType::kDynamic}, i32);
  types[Scale] = f32;
  program = ProgramOp::create(b, loc, name, types, plan.blocksPerProcessor);
  scoresType = FragmentType::get({64, plan.keys}, f32);
  outputType = FragmentType::get({64, plan.head}, f32);
  rows = RowsType::get(64, f32, /*partial=*/false);
  partialRows = RowsType::get(64, f32, /*partial=*/true);
  queryType = OperandType::get({64, plan.head}, element);
  probabilityType = OperandType::get({64, plan.keys}, element);
}

ProgramOp ProgramBuilder::build() {
  b.setInsertionPointToStart(&program.getBody().front());
  Type element = plan.element;
  auto alloc = [&](Type type) -> Value {
    return AllocOp::create(b, loc, type);
  };
  queryRing = alloc(RingType::get({1, plan.queries, plan.head}, element));
  keyRing =
      alloc(RingType::get({plan.keyStages, plan.keys, plan.head}, element));
  valueRing =
      alloc(RingType::get({plan.valueStages, plan.keys, plan.head}, element));
  scratch =
      alloc(SharedType::get({plan.queries, plan.head}, element, plan.queries));
  headers = alloc(QueueType::get({2, plan.partial ? 6 : 4}, b.getI32Type()));
  // Of base-2 exponentials.
  scale = arith::MulFOp::create(b, loc, argument(Scale), f32(log2OfE));

  auto producer =
      RoleOp::create(b, loc, RoleKind::Producer, 1, plan.producerRegisters);
  auto consumers = RoleOp::create(b, loc, RoleKind::Consumer, plan.consumers,
                                  plan.consumerRegisters);
  b.setInsertionPointToStart(&producer.getBody().front());
  buildProducer();
  b.setInsertionPointToStart(&consumers.getBody().front());
  warpgroup = consumers.getBody().getArgument(0);
  buildConsumers();
  return program;
}

scf::ForOp ProgramBuilder::loop(Value from, Value to, ValueRange inits) {
  return scf::ForOp::create(b, loc, from, to, literal(1), inits);
}

void ProgramBuilder::doWhile(
    ValueRange inits, llvm::function_ref<Value(ValueRange, Values &)> body) {
  TypeRange types = inits.getTypes();
  SmallVector<Location> locs(types.size(), loc);
  auto op = scf::WhileOp::create(b, loc, types, inits);
  OpBuilder::InsertionGuard guard(b);
  Block *before = b.createBlock(&op.getBefore(), {}, types, locs);
  Values carried;
  Value condition = body(before->getArguments(), carried);
  scf::ConditionOp::create(b, loc, condition, carried);
  Block *after = b.createBlock(&op.getAfter(), {}, types, locs);
  scf::YieldOp::create(b, loc, after->getArguments());
}

//===----------------------------------------------------------------------===//
// The producer
//===----------------------------------------------------------------------===//

/// The number-th tile to be done: block of queries + blocks x (head + heads x
/// batch).
Value ProgramBuilder::tileOf(Value number) {
  if (plan.listed)
    return ReadOp::create(b, loc, b.getI32Type(), argument(Order), number);
  if (!plan.causal)
    return number;
  // The longest first, four heads at a time: their keys and values stay in the
  // cache.
  Value blocks = argument(QueryBlocks);
  Value chunk = n.mul(blocks, 4);
  Value firstHead = n.mul(n.div(number, chunk), 4);
  Value inChunk = n.rem(number, chunk);
  Value heads = n.sub(n.div(argument(Tiles), blocks), firstHead);
  heads = n.min(heads, literal(4));
  Value block = n.sub(n.add(blocks, -1), n.div(inChunk, heads));
  Value head = n.add(firstHead, n.rem(inChunk, heads));
  return n.add(n.mul(head, blocks), block);
}

ProgramBuilder::Coordinates ProgramBuilder::coordinatesOf(Value tile) {
  Value blocks = argument(QueryBlocks), heads = argument(Heads);
  Value head = n.div(tile, blocks);
  return {n.div(head, heads), n.rem(head, heads), n.rem(tile, blocks)};
}

ProgramBuilder::Item ProgramBuilder::itemOf(Value number) {
  Item item;
  item.tile = tileOf(number);
  Coordinates at = coordinatesOf(item.tile);
  if (plan.listed) {
    Value row = listRow(at);
    item.entries = ReadOp::create(b, loc, b.getI32Type(), argument(Count), row);
    if (plan.partial) {
      item.row = row;
      item.partials =
          ReadOp::create(b, loc, b.getI32Type(), argument(PartialCount), row);
      return item;
    }
    item.list = n.mul(row, argument(ListLength));
  } else {
    item.entries =
        plan.causal ? n.add(at.block, 1) : n.ceilDiv(argument(Keys), plan.keys);
    item.list = literal(0);
  }
  item.steps = n.max(n.ceilDiv(item.entries, plan.gathered), literal(1));
  if (plan.window) {
    item.list = windowOf(at.block).first;
    item.steps = n.sub(item.entries, item.list);
  }
  return item;
}

Value ProgramBuilder::listRow(const Coordinates &at) {
  return n.add(n.add(n.mul(at.batch, argument(RowsOfBatch)),
                     n.mul(at.head, argument(RowsOfHead))),
               at.block);
}

/// Worked out where it is needed, as a producer has few registers.
void ProgramBuilder::splitSteps(Item &item) {
  if (!plan.partial)
    return;
  // The last entry is masked if it may have the end of the keys, or if nothing
  // else is: step 0 always is.
  Value hasEnd = n.less(literal(0), n.rem(argument(Keys), literal(plan.block)));
  Value isLone = n.less(item.partials, literal(1));
  Value masksLast = arith::OrIOp::create(b, loc, hasEnd, isLone);
  Value kept = n.select(masksLast, literal(1), literal(0));
  Value others = n.div(n.max(n.sub(item.entries, kept), literal(0)),
                       literal(plan.gathered));
  item.whole = n.sub(item.entries, n.mul(others, plan.gathered));
  item.masked = n.ceilDiv(n.add(item.whole, item.partials), plan.gathered);
  item.masked = n.max(item.masked, literal(1));
  item.steps = n.add(item.masked, others);
  item.list = n.mul(item.row, argument(ListLength));
}

/// First rows of the blocks of a masked step: the last entries of the list,
/// partial blocks, and the end of the keys for those that do not exist.
ProgramBuilder::Values ProgramBuilder::maskedRows(const Item &item,
                                                  Value step) {
  Value entries = n.add(item.whole, item.partials);
  auto choose = [&](Value condition, llvm::function_ref<Value()> ifTrue,
                    llvm::function_ref<Value()> ifFalse) -> Value {
    auto op = scf::IfOp::create(b, loc, b.getI32Type(), condition,
                                /*withElseRegion=*/true);
    OpBuilder::InsertionGuard guard(b);
    b.setInsertionPointToStart(op.thenBlock());
    scf::YieldOp::create(b, loc, ifTrue());
    b.setInsertionPointToStart(op.elseBlock());
    scf::YieldOp::create(b, loc, ifFalse());
    return op.getResult(0);
  };
  auto read = [&](AttentionArgument list, Value at) -> Value {
    Value block = ReadOp::create(b, loc, b.getI32Type(), argument(list), at);
    return n.mul(block, plan.block);
  };
  Values result;
  for (int64_t g = 0; g < plan.gathered; ++g) {
    Value entry = n.add(n.mul(step, plan.gathered), g);
    auto fromList = [&] {
      Value last = n.add(n.add(item.list, item.entries), -1);
      return read(Index, n.sub(last, entry));
    };
    auto fromPartials = [&] {
      Value first = n.mul(item.row, argument(PartialLength));
      return read(PartialIndex, n.add(first, n.sub(entry, item.whole)));
    };
    result.push_back(choose(n.less(entry, item.whole), fromList, [&] {
      return choose(n.less(entry, entries), fromPartials,
                    [&] { return argument(Keys); });
    }));
  }
  return result;
}

/// What the producer carries of a tile.
ProgramBuilder::Values ProgramBuilder::stateOf(const Item &item) {
  if (plan.partial)
    return {item.tile, item.entries, item.row, item.partials};
  return {item.tile, item.entries, item.steps, item.list};
}

ProgramBuilder::Item ProgramBuilder::itemOf(ValueRange state) {
  Item item;
  item.tile = state[0];
  item.entries = state[1];
  (plan.partial ? item.row : item.steps) = state[2];
  (plan.partial ? item.partials : item.list) = state[3];
  splitSteps(item);
  return item;
}

ProgramBuilder::Window ProgramBuilder::windowOf(Value queryBlock) {
  Value size = literal(plan.queries), width = argument(WindowLength);
  Value firstQuery = n.mul(queryBlock, plan.queries);
  Value oldest = n.max(n.sub(n.add(firstQuery, 1), width), literal(0));
  Value first = n.div(oldest, size);
  // The last query must see all of a block, or it is partial.
  Value last = n.sub(n.add(firstQuery, plan.queries - 1), width);
  last = n.max(last, literal(-plan.queries));
  Value behind = n.div(n.add(last, plan.queries), size);
  Value partial = n.sub(n.min(behind, queryBlock), first);
  return {first, n.max(partial, literal(0))};
}

Value ProgramBuilder::blockOf(const Item &item, Value entry) {
  if (!plan.listed)
    return n.mul(entry, plan.block);
  Value block = ReadOp::create(b, loc, b.getI32Type(), argument(Index),
                               n.add(item.list, entry));
  return n.mul(block, plan.block);
}

/// First rows of the blocks of step 0: the last entries, and the end of the
/// keys for those that do not exist.
ProgramBuilder::Values ProgramBuilder::firstRows(const Item &item) {
  if (plan.partial)
    return maskedRows(item, literal(0));
  // As many entries as are left over by the other steps.
  Value others = n.mul(n.add(item.steps, -1), plan.gathered);
  Values result;
  for (int64_t g = 0; g < plan.gathered; ++g) {
    Value entry = n.add(item.entries, -1 - g);
    Value isMissing = n.less(entry, others);
    Value block = blockOf(item, n.max(entry, literal(0)));
    result.push_back(n.select(isMissing, argument(Keys), block));
  }
  return result;
}

ProgramBuilder::Values ProgramBuilder::rowsOf(const Item &item, Value step) {
  if (plan.window) // upwards: the partial ones come first
    return {n.mul(n.add(n.add(item.list, step), -1), plan.block)};
  Value behind = n.mul(n.sub(item.steps, step), plan.gathered);
  Values result;
  for (int64_t g = 0; g < plan.gathered; ++g)
    result.push_back(blockOf(item, n.add(behind, -1 - g)));
  return result;
}

void ProgramBuilder::sendHeader(Value number, const Item &item, Value first,
                                Value exists) {
  auto tileIfExists = [&]() -> Value {
    return exists ? n.select(exists, item.tile, literal(-1)) : item.tile;
  };
  if (plan.partial) {
    Value entries = n.add(item.whole, item.partials);
    SendOp::create(b, loc, headers, number,
                   ValueRange{tileIfExists(), item.steps, first, entries,
                              item.masked, item.whole});
    return;
  }
  Value others = n.mul(n.add(item.steps, -1), plan.gathered);
  Value allowed = n.mul(n.sub(item.entries, others), plan.block);
  SendOp::create(b, loc, headers, number,
                 ValueRange{tileIfExists(), item.steps, first, allowed});
}

void ProgramBuilder::loadQueries(const Item &item, Value number) {
  Coordinates at = coordinatesOf(item.tile);
  LoadOp::create(b, loc, argument(QueryMap), at.batch, at.head, literal(0),
                 ValueRange{n.mul(at.block, plan.queries)}, queryRing, number);
}

void ProgramBuilder::load(Value map, Value ring, Value tile, ValueRange rows,
                          Value number) {
  Coordinates at = coordinatesOf(tile);
  LoadOp::create(b, loc, map, at.batch, n.div(at.head, argument(Group)),
                 literal(0), rows, ring, number);
}

/// In the order in which consumers want things: K0, (K1, V0), ..., and then the
/// next tile's header, queries and K0 before the last V.
void ProgramBuilder::buildProducer() {
  Value blocks = BlocksOp::create(b, loc), tiles = argument(Tiles);
  // Every block takes a number for each tile that it does, and one that is
  // none.
  Value numbers = n.add(tiles, blocks);
  auto nextNumber = [&] {
    return n.add(
        NextOp::create(b, loc, b.getI32Type(), argument(Counter), numbers),
        blocks);
  };
  Value zero = literal(0);
  Item item = itemOf(BlockOp::create(b, loc));
  splitSteps(item);
  Value number = nextNumber();
  Values firsts = firstRows(item);
  sendHeader(zero, item, firsts[0], /*exists=*/{});
  loadQueries(item, zero);
  load(argument(KeyMap), keyRing, item.tile, firsts, zero);

  // carried: the tile, the number of the next, steps and tiles before it, rows
  // of step 0
  Values inits = stateOf(item);
  inits.append({number, zero, zero});
  llvm::append_range(inits, firsts);
  doWhile(inits, [&](ValueRange state, Values &carried) {
    Item item = itemOf(state);
    Value number = state[4], before = state[5], count = state[6];
    Value exists = n.less(number, tiles);
    Value following = nextNumber();
    Item next = itemOf(n.min(number, n.add(tiles, -1)));
    auto loadSteps = [&](Value from, Value to, ValueRange rowsBefore,
                         bool isMasked) -> ValueRange {
      auto steps = loop(from, to, rowsBefore);
      OpBuilder::InsertionGuard guard(b);
      b.setInsertionPointToStart(steps.getBody());
      Value step = steps.getInductionVar();
      Value key = n.add(before, step);
      Values rows = isMasked ? maskedRows(item, step) : rowsOf(item, step);
      load(argument(KeyMap), keyRing, item.tile, rows, key);
      load(argument(ValueMap), valueRing, item.tile, steps.getRegionIterArgs(),
           n.add(key, -1));
      scf::YieldOp::create(b, loc, rows);
      return steps.getResults();
    };
    Value from = literal(1);
    ValueRange lastRows = state.drop_front(7);
    if (plan.partial) {
      lastRows = loadSteps(from, item.masked, lastRows, /*isMasked=*/true);
      from = item.masked;
    }
    lastRows = loadSteps(from, item.steps, lastRows, /*isMasked=*/false);
    splitSteps(next);
    Values firsts = firstRows(next);
    Value nextCount = n.add(count, 1), nextBefore = n.add(before, item.steps);
    sendHeader(nextCount, next, firsts[0], exists);
    auto more = scf::IfOp::create(b, loc, exists, /*withElseRegion=*/false);
    {
      OpBuilder::InsertionGuard guard(b);
      b.setInsertionPoint(more.thenBlock()->getTerminator());
      loadQueries(next, nextCount);
      load(argument(KeyMap), keyRing, next.tile, firsts, nextBefore);
    }
    load(argument(ValueMap), valueRing, item.tile, lastRows,
         n.add(nextBefore, -1));
    carried = stateOf(next);
    carried.append({following, nextBefore, nextCount});
    llvm::append_range(carried, firsts);
    return exists;
  });
}

//===----------------------------------------------------------------------===//
// The consumers
//===----------------------------------------------------------------------===//

Value ProgramBuilder::elementwise(ValueRange inputs, Type type, Body body) {
  auto op = ElementwiseOp::create(b, loc, type, inputs);
  SmallVector<Type> types;
  for (Type input : inputs.getTypes())
    types.push_back(isa<BitsType>(input) ? Type(b.getI1Type())
                                         : Type(b.getF32Type()));
  types.append(2, b.getI32Type());
  OpBuilder::InsertionGuard guard(b);
  Block *block = b.createBlock(&op.getBody(), {}, types,
                               SmallVector<Location>(types.size(), loc));
  YieldOp::create(b, loc, body(block->getArguments()));
  return op;
}

Value ProgramBuilder::rowsWise(ValueRange inputs, Body body) {
  bool partial = llvm::any_of(inputs, [](Value value) {
    return cast<RowsType>(value.getType()).getPartial();
  });
  return elementwise(inputs, partial ? partialRows : rows, body);
}

ProgramBuilder::Header ProgramBuilder::receive(Value number) {
  auto op = ReceiveOp::create(b, loc, headers, number);
  Header header{op.getResult(0),
                op.getResult(1),
                op.getResult(2),
                op.getResult(3),
                {},
                {}};
  if (plan.partial) {
    header.masked = op.getResult(4);
    header.whole = op.getResult(5);
  }
  return header;
}

/// Kept in registers, so that the next queries may be loaded at once.
Value ProgramBuilder::takeQueries(Value number) {
  Value tile = WaitOp::create(b, loc, queryRing, number);
  Value part = SubtileOp::create(
      b, loc, SharedType::get({64, plan.head}, plan.element, plan.queries),
      tile, n.mul(warpgroup, 64));
  Value query = LoadOperandOp::create(b, loc, queryType, part);
  release(queryRing, number);
  return query;
}

void ProgramBuilder::release(Value ring, Value number) {
  ReleaseOp::create(b, loc, ring, number);
}

Value ProgramBuilder::beginScores(Value query, Value number) {
  Value tile = WaitOp::create(b, loc, keyRing, number);
  if (plan.consumers == 2)
    TakeTurnOp::create(b, loc);
  return MmaOp::create(b, loc,
                       PendingType::get(scoresType.getShape(), b.getF32Type()),
                       query, tile, /*accumulator=*/Value(),
                       /*transposed=*/true);
}

Value ProgramBuilder::beginOutput(Value p, Value output, Value number) {
  Value tile = WaitOp::create(b, loc, valueRing, number);
  return MmaOp::create(b, loc,
                       PendingType::get(outputType.getShape(), b.getF32Type()),
                       p, tile, output, /*transposed=*/false);
}

/// The row's maximum, scaled, as what is added to scaled scores.
Value ProgramBuilder::shiftOf(Value maximum, bool mayBeEmpty) {
  return rowsWise(maximum, [&](ValueRange x) -> Value {
    Value value = x[0];
    if (mayBeEmpty) { // -inf - -inf is NaN; -inf - 0 gives e^-inf = 0
      Value none = arith::CmpFOp::create(b, loc, arith::CmpFPredicate::OEQ,
                                         value, lowest());
      value = arith::SelectOp::create(b, loc, none, f32(0), value);
    }
    return arith::NegFOp::create(b, loc,
                                 arith::MulFOp::create(b, loc, value, scale));
  });
}

Value ProgramBuilder::exponentials(Value scores, Value shift) {
  return elementwise({scores, shift}, scoresType, [&](ValueRange x) -> Value {
    Value power = math::FmaOp::create(b, loc, x[0], scale, x[1]);
    return math::Exp2Op::create(b, loc, power);
  });
}

/// Scores of a step with -inf where the key takes no part.
Value ProgramBuilder::masked(Value scores, const Header &header,
                             Value firstKey) {
  Coordinates at = coordinatesOf(header.tile);
  // Bounds that hold for columns of the step.
  Value toEnd = n.sub(argument(Keys), firstKey);
  Value firstQuery = n.add(n.mul(at.block, plan.queries), n.mul(warpgroup, 64));
  Value ahead = n.sub(firstQuery, firstKey);
  Value oldest;
  if (plan.window)
    oldest = n.sub(ahead, argument(WindowLength));
  return elementwise(scores, scoresType, [&](ValueRange x) -> Value {
    Value row = x[1], column = x[2], isIn;
    auto require = [&](Value condition) {
      isIn = isIn ? arith::AndIOp::create(b, loc, isIn, condition).getResult()
                  : condition;
    };
    if (plan.gathered > 1)
      require(n.less(column, header.allowed));
    if (plan.tail) {
      Value before = n.less(column, toEnd);
      if (plan.gathered > 1) // the last keys are in the first block
        before = arith::OrIOp::create(b, loc, before,
                                      n.less(literal(plan.block - 1), column));
      require(before);
    }
    if (plan.causal)
      require(n.less(n.add(column, -1), n.add(row, ahead)));
    if (plan.window)
      require(n.less(n.add(row, oldest), column));
    return arith::SelectOp::create(b, loc, isIn, x[0], lowest());
  });
}

Value ProgramBuilder::masked(Value scores, Value bits) {
  return elementwise({scores, bits}, scoresType, [&](ValueRange x) -> Value {
    return arith::SelectOp::create(b, loc, x[1], x[0], lowest());
  });
}

/// The first of a tile's partial blocks in the list of all.
Value ProgramBuilder::firstPartial(Value tile) {
  return n.mul(listRow(coordinatesOf(tile)), argument(PartialLength));
}

/// Where the bits of the blocks of a masked step begin, for this warpgroup.
/// Read before the step's product begins, which the loads that need it come
/// behind.
ProgramBuilder::Values ProgramBuilder::bitsOf(const Header &header,
                                              Value partialList, Value step) {
  Value toEnd = n.min(n.sub(argument(Keys), header.first), literal(plan.block));
  Value firstRow = n.mul(warpgroup, 64 * plan.blockWords());
  Values result;
  for (int64_t g = 0; g < plan.gathered; ++g) {
    Value entry = n.add(n.mul(step, plan.gathered), g);
    Value number = n.max(n.sub(entry, header.whole), literal(0));
    number = n.min(number, n.add(argument(PartialLength), -1));
    Value bits = ReadOp::create(b, loc, b.getI32Type(), argument(PartialBits),
                                n.add(partialList, number));
    bits = n.add(n.mul(bits, plan.queries * plan.blockWords()), firstRow);
    // Of a whole block -1 - columns; the end of the keys is in the first.
    Value columns = literal(plan.block);
    if (g == 0)
      columns = n.select(n.less(entry, literal(1)), toEnd, columns);
    Value whole = n.sub(literal(-1), columns);
    bits = n.select(n.less(entry, header.allowed), bits, literal(-1));
    result.push_back(n.select(n.less(entry, header.whole), whole, bits));
  }
  return result;
}

Value ProgramBuilder::loadBits(ValueRange numbers) {
  return LoadBitsOp::create(b, loc,
                            BitsType::get(scoresType.getShape(), b.getI1Type()),
                            argument(Bits), numbers);
}

ProgramBuilder::Softmax
ProgramBuilder::firstSoftmax(Value scores, const Header &header, Value bits) {
  if (plan.partial)
    scores = masked(scores, bits);
  else if (plan.masksFirst())
    scores = masked(scores, header, header.first);
  Value part = ReduceOp::create(b, loc, partialRows, Combining::Max, scores,
                                /*init=*/Value());
  Value maximum = CombineOp::create(b, loc, rows, Combining::Max, part);
  Value p = exponentials(scores, shiftOf(maximum, plan.masksFirst()));
  Value sum = ReduceOp::create(b, loc, partialRows, Combining::Sum, p,
                               /*init=*/Value());
  return {ToOperandOp::create(b, loc, probabilityType, p), maximum, sum};
}

/// Its p is a fragment still: it may become a left side when the product with
/// the old one has ended. `factor` is what the output so far is to be scaled
/// by.
ProgramBuilder::Softmax ProgramBuilder::nextSoftmax(Value scores,
                                                    const Softmax &old,
                                                    bool mayBeEmpty,
                                                    Value &factor) {
  Value part = ReduceOp::create(b, loc, partialRows, Combining::Max, scores,
                                old.maximum);
  Value maximum = CombineOp::create(b, loc, rows, Combining::Max, part);
  Value shift = shiftOf(maximum, mayBeEmpty);
  factor = rowsWise({old.maximum, shift}, [&](ValueRange x) -> Value {
    Value power = math::FmaOp::create(b, loc, x[0], scale, x[1]);
    return math::Exp2Op::create(b, loc, power);
  });
  Value p = exponentials(scores, shift);
  Value before = rowsWise({old.sum, factor}, [&](ValueRange x) -> Value {
    return arith::MulFOp::create(b, loc, x[0], x[1]);
  });
  Value sum = ReduceOp::create(b, loc, partialRows, Combining::Sum, p, before);
  return {p, maximum, sum};
}

/// The output of a tile, divided by the sums, and its log-sum-exp.
void ProgramBuilder::finish(Value output, const Softmax &state,
                            const Header &header) {
  Value sum = CombineOp::create(b, loc, rows, Combining::Sum, state.sum);
  Value listed = arith::CmpIOp::create(b, loc, arith::CmpIPredicate::sgt,
                                       header.allowed, literal(0));
  auto isAny = [&](Value x) -> Value {
    Value some =
        arith::CmpFOp::create(b, loc, arith::CmpFPredicate::OGT, x, f32(0));
    // A NaN among the scores stays one.
    Value unordered =
        arith::CmpFOp::create(b, loc, arith::CmpFPredicate::UNO, x, x);
    some = arith::OrIOp::create(b, loc, some, unordered);
    return arith::AndIOp::create(b, loc, some, listed);
  };
  Value inverse = rowsWise(sum, [&](ValueRange x) -> Value {
    Value safe = arith::SelectOp::create(b, loc, isAny(x[0]), x[0], f32(1));
    return arith::DivFOp::create(b, loc, f32(1), safe,
                                 arith::FastMathFlags::arcp);
  });
  Value lse = rowsWise({sum, state.maximum}, [&](ValueRange x) -> Value {
    Value some = isAny(x[0]);
    Value safe = arith::SelectOp::create(b, loc, some, x[0], f32(1));
    Value log = math::Log2Op::create(b, loc, safe);
    Value whole = math::FmaOp::create(b, loc, x[1], scale, log);
    whole = arith::MulFOp::create(b, loc, whole, f32(lnOf2));
    return arith::SelectOp::create(b, loc, some, whole, lowest());
  });
  output =
      elementwise({output, inverse}, outputType, [&](ValueRange x) -> Value {
        return arith::MulFOp::create(b, loc, x[0], x[1]);
      });
  Coordinates at = coordinatesOf(header.tile);
  Value part = SubtileOp::create(
      b, loc, SharedType::get({64, plan.head}, plan.element, plan.queries),
      scratch, n.mul(warpgroup, 64));
  Value row = n.add(n.mul(at.block, plan.queries), n.mul(warpgroup, 64));
  StoreOp::create(b, loc, output, argument(OutMap), at.batch, at.head, row,
                  literal(0), part);
  Value head = n.div(header.tile, argument(QueryBlocks));
  Value base = n.add(n.mul(head, argument(Queries)), row);
  StoreRowsOp::create(b, loc, lse, argument(LogSumExp), base,
                      n.sub(argument(Queries), row));
}

/// All steps but the first: p, maximum, sum and output are carried.
scf::ForOp ProgramBuilder::buildSteps(Value from, Value to, ValueRange inits,
                                      Value query, Value before,
                                      const Header &header, bool isMasked,
                                      Value partialList) {
  auto steps = loop(from, to, inits);
  OpBuilder::InsertionGuard guard(b);
  b.setInsertionPointToStart(steps.getBody());
  Value key = n.add(before, steps.getInductionVar());
  Value valueNumber = n.add(key, -1);
  ValueRange arguments = steps.getRegionIterArgs();
  Softmax old = softmaxOf(arguments);
  Values bits;
  bool hasBits = plan.partial && isMasked;
  if (hasBits)
    bits = bitsOf(header, partialList, steps.getInductionVar());
  // These scores and the output of the last ones, side by side.
  Value scores = beginScores(query, key);
  Value output = beginOutput(old.p, arguments[3], valueNumber);
  Value allowed;
  if (hasBits)
    allowed = loadBits(bits);
  if (plan.consumers == 2)
    PassTurnOp::create(b, loc);
  scores = AwaitOp::create(b, loc, scores);
  release(keyRing, key);
  if (hasBits) {
    scores = masked(scores, allowed);
  } else if (isMasked) {
    Window window = windowOf(coordinatesOf(header.tile).block);
    Value block = n.add(n.add(window.first, steps.getInductionVar()), -1);
    scores = masked(scores, header, n.mul(block, plan.keys));
  }
  Value factor;
  Softmax next = nextSoftmax(scores, old, /*mayBeEmpty=*/hasBits, factor);
  output = AwaitOp::create(b, loc, output);
  release(valueRing, valueNumber);
  Value p = ToOperandOp::create(b, loc, probabilityType, next.p);
  output =
      elementwise({output, factor}, outputType, [&](ValueRange x) -> Value {
        return arith::MulFOp::create(b, loc, x[0], x[1]);
      });
  scf::YieldOp::create(b, loc, ValueRange{p, next.maximum, next.sum, output});
  return steps;
}

void ProgramBuilder::buildConsumers() {
  bool turns = plan.consumers == 2;
  Value zero = literal(0);
  auto await = [&](Value pending) -> Value {
    return AwaitOp::create(b, loc, pending);
  };
  auto noOutput = [&]() -> Value {
    return SplatOp::create(b, loc, outputType, f32(0));
  };

  // Of step 0; nothing without partial blocks.
  auto firstBits = [&](const Header &header) -> Values {
    if (!plan.partial)
      return {};
    return bitsOf(header, firstPartial(header.tile), zero);
  };
  auto loadFirstBits = [&](ValueRange bits) -> Value {
    return plan.partial ? loadBits(bits) : Value();
  };

  Header header = receive(zero);
  Values bits = firstBits(header);
  Value query = takeQueries(zero);
  Value pending = beginScores(query, zero);
  Value allowed = loadFirstBits(bits);
  if (turns)
    PassTurnOp::create(b, loc);
  Value scores = await(pending);
  release(keyRing, zero);
  Softmax first = firstSoftmax(scores, header, allowed);

  Values inits{first.p,      first.maximum, first.sum,      query, header.tile,
               header.steps, header.first,  header.allowed, zero,  zero};
  if (plan.partial)
    inits.append({header.masked, header.whole});
  doWhile(inits, [&](ValueRange state, Values &carried) {
    Value query = state[3], before = state[8], count = state[9];
    Header header{state[4], state[5], state[6], state[7], {}, {}};
    Value from = literal(1);
    Values inits{state[0], state[1], state[2], noOutput()};
    if (plan.window) {
      Window window = windowOf(coordinatesOf(header.tile).block);
      Value to = n.add(window.partial, 1);
      auto partial = buildSteps(from, to, inits, query, before, header,
                                /*isMasked=*/true);
      inits.assign(partial.result_begin(), partial.result_end());
      from = to;
    }
    if (plan.partial) {
      header.masked = state[10];
      header.whole = state[11];
      auto partial =
          buildSteps(from, header.masked, inits, query, before, header,
                     /*isMasked=*/true, firstPartial(header.tile));
      inits.assign(partial.result_begin(), partial.result_end());
      from = header.masked;
    }
    auto steps = buildSteps(from, header.steps, inits, query, before, header,
                            /*isMasked=*/false);
    Softmax last = softmaxOf(steps.getResults());
    Value output = steps.getResult(3);
    Value nextCount = n.add(count, 1), nextBefore = n.add(before, header.steps);
    Value lastValue = n.add(nextBefore, -1);
    Header next = receive(nextCount);
    Value more = n.less(literal(-1), next.tile);
    auto branch = scf::IfOp::create(
        b, loc, TypeRange{probabilityType, rows, partialRows, queryType}, more,
        /*withElseRegion=*/true);
    {
      OpBuilder::InsertionGuard guard(b);
      b.setInsertionPointToStart(branch.thenBlock());
      // The next tile's first scores beside this one's last product.
      Values bits = firstBits(next);
      Value nextQuery = takeQueries(nextCount);
      Value scores = beginScores(nextQuery, nextBefore);
      Value product = beginOutput(last.p, output, lastValue);
      Value allowed = loadFirstBits(bits);
      if (turns)
        PassTurnOp::create(b, loc);
      scores = await(scores);
      release(keyRing, nextBefore);
      product = await(product);
      release(valueRing, lastValue);
      finish(product, last, header);
      Softmax first = firstSoftmax(scores, next, allowed);
      scf::YieldOp::create(
          b, loc, ValueRange{first.p, first.maximum, first.sum, nextQuery});

      b.setInsertionPointToStart(branch.elseBlock());
      product = await(beginOutput(last.p, output, lastValue));
      release(valueRing, lastValue);
      finish(product, last, header);
      scf::YieldOp::create(b, loc,
                           ValueRange{last.p, last.maximum, last.sum, query});
    }
    carried.assign(branch.getResults().begin(), branch.getResults().end());
    carried.append({next.tile, next.steps, next.first, next.allowed, nextBefore,
                    nextCount});
    if (plan.partial)
      carried.append({next.masked, next.whole});
    return more;
  });
}

} // namespace

ProgramOp gossamer::tile::buildAttentionProgram(AttentionOp op,
                                                const AttentionPlan &plan,
                                                StringRef name) {
  return ProgramBuilder(op, plan, name).build();
}
