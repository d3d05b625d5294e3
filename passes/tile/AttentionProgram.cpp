//===- AttentionProgram.cpp - what a thread block does for attention ------===//
//
// A tile is a block of queries of one head; its steps are the keys that its
// list allows, from the last to the first, so that what must be masked (the end
// of the keys, the diagonal, missing blocks of a gather) is in step 0 and the
// loop over the other steps has no mask. Where a step has fewer keys than a
// tile has queries, the diagonal is in several, which are masked, too. A tile
// with nothing allowed has one step behind the end of the keys, which reads
// zeros.
//
// A list that has blocks which are allowed in part begins with masked steps:
// as many entries of the list as make no whole step, or are at the end of the
// keys, and the partial blocks. There each entry has bits, or counts as one
// whose bits are all set; the other steps are unmasked as ever.
//
// Where there is a function of scores another queue carries what it must know
// of a step: the first keys of its blocks.
//
// The queue carries {tile, steps, first key, keys of step 0}, or with partial
// blocks {tile, steps, first key, entries of masked steps, masked steps, whole
// blocks among these}; a tile below 0 ends the program.
//
// Of a split program a tile is a part of one: number part + parts x tile, with
// an equal share of its entries. Their results meet in memory
// (AttentionMerge.cpp). Tiles are as long as one another, and each thread block
// takes every so many-th. With partial blocks the queue also says where the
// part's begin.
//
//===----------------------------------------------------------------------===//

#include "passes/tile/AttentionBuilder.h"

using namespace mlir;
using namespace gossamer::tile;

AttentionBuilder::AttentionBuilder(AttentionOp op, const AttentionPlan &plan,
                                   StringRef name)
    : ProgramParts(op), plan(plan), scoreFunction(op.getScore()) {
  Type element = plan.element, f32 = b.getF32Type(), i32 = b.getI32Type();
  int64_t box = plan.gathered > 1 ? plan.block : plan.keys;
  SmallVector<Type> types(plan.numArguments(), i32);
  types[QueryMap] = MapType::get({plan.queries, plan.head}, element);
  types[KeyMap] = types[ValueMap] =
      MapType::get({box, plan.head}, element, plan.packed);
  types[OutMap] = MapType::get({64, plan.head}, element);
  types[LogSumExp] = MemRefType::get({ShapedType::kDynamic}, f32);
  for (unsigned at : {Count, Index, Order, Counter, PartialCount, PartialIndex,
                      PartialBits, Bits})
    types[at] = MemRefType::get({ShapedType::kDynamic}, i32);
  types[Scale] = f32;
  if (plan.split) {
    types[OutMap] = MemRefType::get({ShapedType::kDynamic}, element);
    types[PartOut] = types[PartLogSumExp] = types[LogSumExp];
  }
  llvm::append_range(types, capturedTypes(scoreFunction));
  program = ProgramOp::create(b, loc, name, types, plan.blocksPerProcessor,
                              plan.chip);
  scoresType = FragmentType::get({64, plan.keys}, f32);
  outputType = FragmentType::get({64, plan.head}, f32);
  rows = RowsType::get(64, f32, /*partial=*/false);
  partialRows = RowsType::get(64, f32, /*partial=*/true);
  queryType = OperandType::get({64, plan.head}, element);
  probabilityType = OperandType::get({64, plan.keys}, element);
}

ProgramOp AttentionBuilder::build() {
  b.setInsertionPointToStart(&program.getBody().front());
  Type element = plan.element;
  queryRing = alloc(
      RingType::get({plan.queryStages, plan.queries, plan.head}, element));
  keyRing =
      alloc(RingType::get({plan.keyStages, plan.keys, plan.head}, element));
  valueRing =
      alloc(RingType::get({plan.valueStages, plan.keys, plan.head}, element));
  if (!plan.split)
    scratch = alloc(
        SharedType::get({plan.queries, plan.staged}, element, plan.queries));
  int64_t words = plan.partial ? (plan.split ? 7 : 6) : 4;
  headers = alloc(QueueType::get({2, words}, b.getI32Type()));
  if (plan.scored)
    places =
        alloc(QueueType::get({plan.keyStages, plan.gathered}, b.getI32Type()));
  // Of base-2 exponentials; a function is given scores that are scaled.
  scale = f32(log2OfE);
  if (!plan.scored)
    scale = times(argument(Scale), scale);

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

Value AttentionBuilder::rowsWise(ValueRange inputs, Body body) {
  bool partial = llvm::any_of(inputs, [](Value value) {
    return cast<RowsType>(value.getType()).getPartial();
  });
  return elementwise(inputs, partial ? partialRows : rows, body);
}

//===----------------------------------------------------------------------===//
// Tiles
//===----------------------------------------------------------------------===//

AttentionBuilder::Coordinates AttentionBuilder::coordinatesOf(Value tile) {
  if (plan.split)
    tile = n.div(tile, argument(Parts));
  return ProgramParts::coordinatesOf(tile, argument(QueryBlocks),
                                     argument(Heads));
}

Value AttentionBuilder::firstRow(const Coordinates &at) {
  Value head = n.add(n.mul(at.batch, argument(Heads)), at.head);
  return n.add(n.mul(head, argument(Queries)), rowInHead(at));
}

Value AttentionBuilder::rowInHead(const Coordinates &at) {
  return n.add(n.mul(at.block, plan.queries), n.mul(warpgroup, 64));
}

/// Of a causal tile: steps whose keys are all before its queries.
Value AttentionBuilder::stepsBefore(Value queryBlock) {
  return plan.diagonal > 1 ? n.mul(queryBlock, plan.diagonal) : queryBlock;
}

AttentionBuilder::Window AttentionBuilder::windowOf(Value queryBlock) {
  Value size = literal(plan.keys), width = argument(WindowLength);
  Value firstQuery = n.mul(queryBlock, plan.queries);
  Value oldest = n.max(n.sub(n.add(firstQuery, 1), width), literal(0));
  Value first = n.div(oldest, size);
  // The last query must see all of a block, or it is partial.
  Value last = n.sub(n.add(firstQuery, plan.queries - 1), width);
  last = n.max(last, literal(-plan.keys));
  Value behind = n.div(n.add(last, plan.keys), size);
  Value partial = n.sub(n.min(behind, stepsBefore(queryBlock)), first);
  return {first, n.max(partial, literal(0))};
}

ProgramOp gossamer::tile::buildAttentionProgram(AttentionOp op,
                                                const AttentionPlan &plan,
                                                StringRef name) {
  return AttentionBuilder(op, plan, name).build();
}
