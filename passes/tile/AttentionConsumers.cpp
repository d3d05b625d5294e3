//===- AttentionConsumers.cpp - scores, softmax, output -------------------===//

#include "passes/tile/AttentionBuilder.h"

using namespace mlir;
using namespace gossamer::tile;

AttentionBuilder::Header AttentionBuilder::receive(Value number) {
  auto op = ReceiveOp::create(b, loc, headers, number);
  return headerOf(op.getWords());
}

AttentionBuilder::Header AttentionBuilder::headerOf(ValueRange words) {
  Header header;
  header.tile = words[0];
  header.steps = words[1];
  header.first = words[2];
  header.allowed = words[3];
  if (plan.partial) {
    header.masked = words[4];
    header.whole = words[5];
  }
  if (plan.partial && plan.split)
    header.partialList = words[6];
  return header;
}

AttentionBuilder::Values AttentionBuilder::stateOf(const Header &header) {
  Values words{header.tile, header.steps, header.first, header.allowed};
  if (plan.partial)
    words.append({header.masked, header.whole});
  if (plan.partial && plan.split)
    words.push_back(header.partialList);
  return words;
}

/// This warpgroup's part of the number-th queries.
Value AttentionBuilder::partOfQueries(Value number) {
  Value tile = WaitOp::create(b, loc, queryRing, number);
  return SubtileOp::create(
      b, loc, SharedType::get({64, plan.head}, plan.element, plan.queries),
      tile, n.mul(warpgroup, 64));
}

/// Kept in registers, so that the next queries may be loaded at once; or else
/// their number, as they stay where they are.
Value AttentionBuilder::takeQueries(Value number) {
  if (!plan.keepsQueries)
    return number;
  Value query = LoadOperandOp::create(b, loc, queryType, partOfQueries(number));
  release(queryRing, number);
  return query;
}

Value AttentionBuilder::beginScores(Value query, Value number) {
  if (!plan.keepsQueries)
    query = partOfQueries(query);
  Value tile = WaitOp::create(b, loc, keyRing, number);
  if (plan.consumers == 2)
    TakeTurnOp::create(b, loc);
  return MmaOp::create(b, loc,
                       PendingType::get(scoresType.getShape(), b.getF32Type()),
                       query, tile, /*accumulator=*/Value(),
                       /*transposed=*/true);
}

/// Received before the step's products begin, which wait for memory.
AttentionBuilder::Values AttentionBuilder::firstKeysOf(Value number) {
  if (!plan.scored)
    return {};
  SmallVector<Type> types(plan.gathered, b.getI32Type());
  return Values(ReceiveOp::create(b, loc, types, places, number).getWords());
}

/// What the function makes of the scores of a step whose blocks have these
/// first keys.
Value AttentionBuilder::scored(Value scores, const Header &header,
                               ValueRange firstKeys) {
  if (!plan.scored)
    return scores;
  Coordinates at = coordinatesOf(header.tile);
  Value firstQuery = n.add(n.mul(at.block, plan.queries), n.mul(warpgroup, 64));
  // What is to be added to columns of each block.
  Values offsets;
  for (auto [g, key] : llvm::enumerate(firstKeys))
    offsets.push_back(n.add(key, -static_cast<int64_t>(g) * plan.block));
  return elementwise(scores, scoresType, [&](ValueRange x) -> Value {
    Value offset = offsets.back();
    for (int64_t g = plan.gathered - 1; g > 0; --g)
      offset = n.select(n.less(x[2], literal(g * plan.block)), offsets[g - 1],
                        offset);
    Place place{at.batch, at.head, n.add(firstQuery, x[1]),
                n.add(offset, x[2])};
    return scoreOf(
        scoreFunction, x[0], argument(Scale), place,
        program.getBody().getArguments().drop_front(plan.numArguments()))[0];
  });
}

Value AttentionBuilder::beginOutput(Value p, Value output, Value number) {
  Value tile = WaitOp::create(b, loc, valueRing, number);
  return MmaOp::create(b, loc,
                       PendingType::get(outputType.getShape(), b.getF32Type()),
                       p, tile, output, /*transposed=*/false);
}

/// The row's maximum, scaled, as what is added to scaled scores.
Value AttentionBuilder::shiftOf(Value maximum, bool mayBeEmpty) {
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

Value AttentionBuilder::exponentials(Value scores, Value shift) {
  return elementwise({scores, shift}, scoresType, [&](ValueRange x) -> Value {
    Value power = math::FmaOp::create(b, loc, x[0], scale, x[1]);
    return math::Exp2Op::create(b, loc, power);
  });
}

/// Scores of a step with -inf where the key takes no part.
Value AttentionBuilder::masked(Value scores, const Header &header,
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

Value AttentionBuilder::masked(Value scores, Value bits) {
  return elementwise({scores, bits}, scoresType, [&](ValueRange x) -> Value {
    return arith::SelectOp::create(b, loc, x[1], x[0], lowest());
  });
}

/// Of a masked step behind step 0: the rest of the diagonal, downwards, and
/// then the far end of the window, upwards.
Value AttentionBuilder::firstKeyOf(const Header &header, Value step) {
  Value onDiagonal, inWindow;
  if (plan.window) {
    Window window = windowOf(coordinatesOf(header.tile).block);
    Value block = n.add(n.add(window.first, step), -plan.diagonal);
    inWindow = n.mul(block, plan.keys);
  }
  if (plan.diagonal > 1)
    onDiagonal = n.sub(header.first, n.mul(step, plan.keys));
  if (onDiagonal && inWindow)
    return n.select(n.less(step, literal(plan.diagonal)), onDiagonal, inWindow);
  return inWindow ? inWindow : onDiagonal;
}

/// The first of a tile's partial blocks in the list of all.
Value AttentionBuilder::firstPartial(const Header &header) {
  if (plan.split)
    return header.partialList;
  return n.mul(listRow(coordinatesOf(header.tile)), argument(PartialLength));
}

/// Where the bits of the blocks of a masked step begin, for this warpgroup.
/// Read before the step's product begins, which the loads that need it come
/// behind.
AttentionBuilder::Values
AttentionBuilder::bitsOf(const Header &header, Value partialList, Value step) {
  Value toEnd = n.min(n.sub(argument(Keys), header.first), literal(plan.block));
  Value firstRow = n.mul(warpgroup, 64 * plan.blockWords());
  Values result;
  for (int64_t g = 0; g < plan.gathered; ++g) {
    Value entry = n.add(n.mul(step, plan.gathered), g);
    Value number = n.max(n.sub(entry, header.whole), literal(0));
    number = n.min(number, n.add(argument(PartialLength), -1));
    Value bits = read(argument(PartialBits), n.add(partialList, number));
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

Value AttentionBuilder::loadBits(ValueRange numbers) {
  return LoadBitsOp::create(b, loc,
                            BitsType::get(scoresType.getShape(), b.getI1Type()),
                            argument(Bits), numbers);
}

AttentionBuilder::Softmax
AttentionBuilder::firstSoftmax(Value scores, const Header &header, Value bits) {
  if (plan.partial)
    scores = masked(scores, bits);
  else if (plan.masksFirst())
    scores = masked(scores, header, header.first);
  Value part = ReduceOp::create(b, loc, partialRows, Combining::Max, scores,
                                /*init=*/Value());
  Value maximum = CombineOp::create(b, loc, rows, Combining::Max, part);
  Value p =
      exponentials(scores, shiftOf(maximum, plan.masksFirst() || plan.scored));
  Value sum = ReduceOp::create(b, loc, partialRows, Combining::Sum, p,
                               /*init=*/Value());
  return {ToOperandOp::create(b, loc, probabilityType, p), maximum, sum};
}

/// Its p is a fragment still: it may become a left side when the product with
/// the old one has ended. `factor` is what the output so far is to be scaled
/// by.
AttentionBuilder::Softmax AttentionBuilder::nextSoftmax(Value scores,
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

/// Whether a row has a sum of exponentials: in a NaN among the scores, too.
Value AttentionBuilder::isAny(Value sum) {
  Value some =
      arith::CmpFOp::create(b, loc, arith::CmpFPredicate::OGT, sum, f32(0));
  Value unordered =
      arith::CmpFOp::create(b, loc, arith::CmpFPredicate::UNO, sum, sum);
  return arith::OrIOp::create(b, loc, some, unordered);
}

/// The output of a tile, divided by the sums, and its log-sum-exp.
void AttentionBuilder::finish(Value output, const Softmax &state,
                              const Header &header) {
  Value sum = CombineOp::create(b, loc, rows, Combining::Sum, state.sum);
  Value listed = arith::CmpIOp::create(b, loc, arith::CmpIPredicate::sgt,
                                       header.allowed, literal(0));
  auto isListed = [&](Value x) -> Value {
    return arith::AndIOp::create(b, loc, isAny(x), listed);
  };
  Value inverse = rowsWise(sum, [&](ValueRange x) -> Value {
    Value safe = arith::SelectOp::create(b, loc, isListed(x[0]), x[0], f32(1));
    return arith::DivFOp::create(b, loc, f32(1), safe,
                                 arith::FastMathFlags::arcp);
  });
  Value lse = rowsWise({sum, state.maximum}, [&](ValueRange x) -> Value {
    Value some = isListed(x[0]);
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
  if (plan.split)
    return storePart(output, lse, header.tile);
  Coordinates at = coordinatesOf(header.tile);
  Value part = SubtileOp::create(
      b, loc, SharedType::get({64, plan.staged}, plan.element, plan.queries),
      scratch, n.mul(warpgroup, 64));
  Value row = rowInHead(at);
  StoreOp::create(b, loc, output, argument(OutMap), at.batch, at.head, row,
                  literal(0), part);
  StoreRowsOp::create(b, loc, lse, argument(LogSumExp), firstRow(at),
                      n.sub(argument(Queries), row));
}

/// All steps but the first: p, maximum, sum and output are carried.
scf::ForOp AttentionBuilder::buildSteps(Value from, Value to, ValueRange inits,
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
  Values firstKeys = firstKeysOf(key);
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
  scores = scored(scores, header, firstKeys);
  if (hasBits) {
    scores = masked(scores, allowed);
  } else if (isMasked) {
    Value firstKey = firstKeyOf(header, steps.getInductionVar());
    scores = masked(scores, header, firstKey);
  }
  Value factor;
  Softmax next =
      nextSoftmax(scores, old, /*mayBeEmpty=*/hasBits || plan.scored, factor);
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

void AttentionBuilder::buildConsumers() {
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
    return bitsOf(header, firstPartial(header), zero);
  };
  auto loadFirstBits = [&](ValueRange bits) -> Value {
    return plan.partial ? loadBits(bits) : Value();
  };

  Header header = receive(zero);
  Values bits = firstBits(header);
  Value query = takeQueries(zero);
  Values firstKeys = firstKeysOf(zero);
  Value pending = beginScores(query, zero);
  Value allowed = loadFirstBits(bits);
  if (turns)
    PassTurnOp::create(b, loc);
  Value scores = await(pending);
  release(keyRing, zero);
  scores = scored(scores, header, firstKeys);
  Softmax first = firstSoftmax(scores, header, allowed);

  Values inits{first.p, first.maximum, first.sum, query, zero, zero};
  inits.append(stateOf(header));
  doWhile(inits, [&](ValueRange state, Values &carried) {
    Value query = state[3], before = state[4], count = state[5];
    Header header = headerOf(state.drop_front(6));
    Value from = literal(1);
    Values inits{state[0], state[1], state[2], noOutput()};
    if (plan.window || plan.diagonal > 1) {
      Value to = literal(plan.diagonal);
      if (plan.window)
        to = n.add(windowOf(coordinatesOf(header.tile).block).partial, to);
      auto partial = buildSteps(from, to, inits, query, before, header,
                                /*isMasked=*/true);
      inits.assign(partial.result_begin(), partial.result_end());
      from = to;
    }
    if (plan.partial) {
      auto partial =
          buildSteps(from, header.masked, inits, query, before, header,
                     /*isMasked=*/true, firstPartial(header));
      inits.assign(partial.result_begin(), partial.result_end());
      from = header.masked;
    }
    auto steps = buildSteps(from, header.steps, inits, query, before, header,
                            /*isMasked=*/false);
    Softmax last = softmaxOf(steps.getResults());
    Value output = steps.getResult(3);
    Value nextCount = n.add(count, 1), nextBefore = n.add(before, header.steps);
    Value lastValue = n.add(nextBefore, -1);
    if (!plan.keepsQueries)
      release(queryRing, query);
    Header next = receive(nextCount);
    Value more = n.less(literal(-1), next.tile);
    auto branch = scf::IfOp::create(
        b, loc, TypeRange{probabilityType, rows, partialRows, query.getType()},
        more,
        /*withElseRegion=*/true);
    {
      OpBuilder::InsertionGuard guard(b);
      b.setInsertionPointToStart(branch.thenBlock());
      // The next tile's first scores beside this one's last product.
      Values bits = firstBits(next);
      Value nextQuery = takeQueries(nextCount);
      Values firstKeys = firstKeysOf(nextBefore);
      Value product;
      if (!plan.keepsQueries) // its queries are on their way yet
        product = beginOutput(last.p, output, lastValue);
      Value scores = beginScores(nextQuery, nextBefore);
      if (plan.keepsQueries)
        product = beginOutput(last.p, output, lastValue);
      Value allowed = loadFirstBits(bits);
      if (turns)
        PassTurnOp::create(b, loc);
      scores = await(scores);
      release(keyRing, nextBefore);
      product = await(product);
      release(valueRing, lastValue);
      finish(product, last, header);
      scores = scored(scores, next, firstKeys);
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
    carried.append({nextBefore, nextCount});
    carried.append(stateOf(next));
    if (plan.split)
      merge(header.tile);
    return more;
  });
}
