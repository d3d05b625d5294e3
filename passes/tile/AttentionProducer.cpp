//===- AttentionProducer.cpp - what is loaded for attention, and when -----===//

#include "passes/tile/AttentionBuilder.h"

using namespace mlir;
using namespace gossamer::tile;

/// The number-th tile to be done: block of queries + blocks x (head + heads x
/// batch).
Value AttentionBuilder::tileOf(Value number) {
  if (plan.split)
    return number;
  if (plan.listed)
    return read(argument(Order), number);
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

/// Of so many entries those that are a part's: the first, and in `entries` how
/// many.
Value AttentionBuilder::takeShare(Value tile, Value &entries) {
  Value part = n.rem(tile, argument(Parts));
  Value each = n.div(entries, argument(Parts));
  Value left = n.rem(entries, argument(Parts));
  entries = n.add(each, n.select(n.less(part, left), literal(1), literal(0)));
  return n.add(n.mul(part, each), n.min(part, left));
}

AttentionBuilder::Item AttentionBuilder::itemOf(Value number) {
  Item item;
  item.tile = tileOf(number);
  Coordinates at = coordinatesOf(item.tile);
  if (plan.listed) {
    Value row = listRow(at);
    item.entries = read(argument(Count), row);
    if (plan.partial) {
      item.row = row;
      item.partials = read(argument(PartialCount), row);
      if (plan.split) {
        Value first = takeShare(item.tile, item.entries);
        item.list = n.add(n.mul(row, argument(ListLength)), first);
        first = takeShare(item.tile, item.partials);
        item.partialList = n.add(n.mul(row, argument(PartialLength)), first);
      }
      return item;
    }
    item.list = n.mul(row, argument(ListLength));
  } else {
    item.entries = plan.causal ? stepsBefore(n.add(at.block, 1))
                               : n.ceilDiv(argument(Keys), plan.keys);
    item.list = literal(0);
  }
  if (plan.split)
    item.list = n.add(item.list, takeShare(item.tile, item.entries));
  item.steps = n.max(n.ceilDiv(item.entries, plan.gathered), literal(1));
  if (plan.window) {
    item.list = windowOf(at.block).first;
    item.steps = n.sub(item.entries, item.list);
  }
  return item;
}

/// Worked out where it is needed, as a producer has few registers.
void AttentionBuilder::splitSteps(Item &item) {
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
  if (!plan.split)
    item.list = n.mul(item.row, argument(ListLength));
}

/// First rows of the blocks of a masked step: the last entries of the list,
/// partial blocks, and the end of the keys for those that do not exist.
AttentionBuilder::Values AttentionBuilder::maskedRows(const Item &item,
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
  auto firstRow = [&](AttentionArgument list, Value at) {
    return n.mul(read(argument(list), at), plan.block);
  };
  Values result;
  for (int64_t g = 0; g < plan.gathered; ++g) {
    Value entry = n.add(n.mul(step, plan.gathered), g);
    auto fromList = [&] {
      Value last = n.add(n.add(item.list, item.entries), -1);
      return firstRow(Index, n.sub(last, entry));
    };
    auto fromPartials = [&] {
      Value first = plan.split ? item.partialList
                               : n.mul(item.row, argument(PartialLength));
      return firstRow(PartialIndex, n.add(first, n.sub(entry, item.whole)));
    };
    result.push_back(choose(n.less(entry, item.whole), fromList, [&] {
      return choose(n.less(entry, entries), fromPartials,
                    [&] { return argument(Keys); });
    }));
  }
  return result;
}

/// What the producer carries of a tile.
AttentionBuilder::Values AttentionBuilder::stateOf(const Item &item) {
  if (plan.partial && plan.split)
    return {item.tile, item.entries, item.list, item.partials,
            item.partialList};
  if (plan.partial)
    return {item.tile, item.entries, item.row, item.partials};
  return {item.tile, item.entries, item.steps, item.list};
}

AttentionBuilder::Item AttentionBuilder::itemOf(ValueRange state) {
  Item item;
  item.tile = state[0];
  item.entries = state[1];
  if (plan.partial) {
    (plan.split ? item.list : item.row) = state[2];
    item.partials = state[3];
    if (plan.split)
      item.partialList = state[4];
  } else {
    item.steps = state[2];
    item.list = state[3];
  }
  splitSteps(item);
  return item;
}

Value AttentionBuilder::blockOf(const Item &item, Value entry) {
  Value place = plan.window ? entry : n.add(item.list, entry);
  return n.mul(plan.listed ? read(argument(Index), place) : place, plan.block);
}

/// First rows of the blocks of step 0: the last entries, and the end of the
/// keys for those that do not exist.
AttentionBuilder::Values AttentionBuilder::firstRows(const Item &item) {
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

AttentionBuilder::Values AttentionBuilder::rowsOf(const Item &item,
                                                  Value step) {
  if (plan.window) { // upwards: the partial ones come first
    Value entry = n.add(n.add(item.list, step), -plan.diagonal);
    if (plan.diagonal > 1)
      entry = n.select(n.less(step, literal(plan.diagonal)),
                       n.sub(n.add(item.entries, -1), step), entry);
    return {n.mul(entry, plan.block)};
  }
  Value behind = n.mul(n.sub(item.steps, step), plan.gathered);
  Values result;
  for (int64_t g = 0; g < plan.gathered; ++g)
    result.push_back(blockOf(item, n.add(behind, -1 - g)));
  return result;
}

void AttentionBuilder::sendHeader(Value number, const Item &item, Value first,
                                  Value exists) {
  auto tileIfExists = [&]() -> Value {
    return exists ? n.select(exists, item.tile, literal(-1)) : item.tile;
  };
  if (plan.partial) {
    Value entries = n.add(item.whole, item.partials);
    Values words{tileIfExists(), item.steps,  first,
                 entries,        item.masked, item.whole};
    if (plan.split)
      words.push_back(item.partialList);
    SendOp::create(b, loc, headers, number, words);
    return;
  }
  Value others = n.mul(n.add(item.steps, -1), plan.gathered);
  Value allowed = n.mul(n.sub(item.entries, others), plan.block);
  SendOp::create(b, loc, headers, number,
                 ValueRange{tileIfExists(), item.steps, first, allowed});
}

void AttentionBuilder::loadQueries(const Item &item, Value number) {
  Coordinates at = coordinatesOf(item.tile);
  LoadOp::create(b, loc, argument(QueryMap), at.batch, at.head, literal(0),
                 ValueRange{n.mul(at.block, plan.queries)}, queryRing, number);
}

void AttentionBuilder::load(Value map, Value ring, Value tile, ValueRange rows,
                            Value number) {
  Coordinates at = coordinatesOf(tile);
  LoadOp::create(b, loc, map, at.batch, n.div(at.head, argument(Group)),
                 literal(0), rows, ring, number);
}

void AttentionBuilder::loadKeys(Value tile, ValueRange rows, Value number) {
  if (plan.scored)
    SendOp::create(b, loc, places, number, rows);
  load(argument(KeyMap), keyRing, tile, rows, number);
}

/// In the order in which consumers want things: K0, (K1, V0), ..., and then the
/// next tile's header, queries and K0 before the last V. Queries that stay in
/// shared memory come behind it.
void AttentionBuilder::buildProducer() {
  Value blocks = BlocksOp::create(b, loc), tiles = argument(Tiles);
  // Every block takes a number for each tile that it does, and one that is
  // none.
  Value numbers = n.add(tiles, blocks);
  auto numberAfter = [&](Value number) {
    if (plan.split)
      return n.add(number, blocks);
    return n.add(
        NextOp::create(b, loc, b.getI32Type(), argument(Counter), numbers),
        blocks);
  };
  Value zero = literal(0), block = BlockOp::create(b, loc);
  Item item = itemOf(block);
  splitSteps(item);
  Value number = numberAfter(block);
  Values firsts = firstRows(item);
  sendHeader(zero, item, firsts[0], /*exists=*/{});
  loadQueries(item, zero);
  loadKeys(item.tile, firsts, zero);

  // carried: the tile, the number of the next, steps and tiles before it, rows
  // of step 0
  Values inits = stateOf(item);
  size_t words = inits.size();
  inits.append({number, zero, zero});
  llvm::append_range(inits, firsts);
  doWhile(inits, [&](ValueRange state, Values &carried) {
    Item item = itemOf(state);
    Value number = state[words], before = state[words + 1],
          count = state[words + 2];
    Value exists = n.less(number, tiles);
    Value following = numberAfter(number);
    Item next = itemOf(n.min(number, n.add(tiles, -1)));
    auto loadSteps = [&](Value from, Value to, ValueRange rowsBefore,
                         bool isMasked) -> ValueRange {
      auto steps = loop(from, to, rowsBefore);
      OpBuilder::InsertionGuard guard(b);
      b.setInsertionPointToStart(steps.getBody());
      Value step = steps.getInductionVar();
      Value key = n.add(before, step);
      Values rows = isMasked ? maskedRows(item, step) : rowsOf(item, step);
      loadKeys(item.tile, rows, key);
      load(argument(ValueMap), valueRing, item.tile, steps.getRegionIterArgs(),
           n.add(key, -1));
      scf::YieldOp::create(b, loc, rows);
      return steps.getResults();
    };
    Value from = literal(1);
    ValueRange lastRows = state.drop_front(words + 3);
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
      if (plan.keepsQueries)
        loadQueries(next, nextCount);
      loadKeys(next.tile, firsts, nextBefore);
    }
    load(argument(ValueMap), valueRing, item.tile, lastRows,
         n.add(nextBefore, -1));
    if (!plan.keepsQueries) { // there is room when all scores of this tile are
                              // done
      auto more = scf::IfOp::create(b, loc, exists, /*withElseRegion=*/false);
      OpBuilder::InsertionGuard guard(b);
      b.setInsertionPoint(more.thenBlock()->getTerminator());
      loadQueries(next, nextCount);
    }
    carried = stateOf(next);
    carried.append({following, nextBefore, nextCount});
    llvm::append_range(carried, firsts);
    return exists;
  });
}
