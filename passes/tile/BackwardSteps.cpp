//===- BackwardSteps.cpp - what both programs of a backward do ------------===//

#include "passes/tile/BackwardSteps.h"

using namespace mlir;
using namespace gossamer::tile;

BackwardPlan::Tiling::Tiling(int64_t rows, int64_t block)
    : rows(rows), block(block), parts(block / 64), stages(3), tileStages(1),
      numberStages(3), consumers(rows / 64) {
  // One warpgroup leaves the tensor cores idle between its products: a second
  // thread block fills them.
  bool small = consumers == 1;
  blocksPerProcessor = small ? 2 : 1;
  producerRegisters = 40;
  consumerRegisters = small ? 216 : 232;
}

BackwardPlan::BackwardPlan(AttentionBackwardOp op)
    : chip(op.getChip().str()), element(op.getElement()), head(op.getHead()),
      queries(op.getBlockQ(), op.getBlockK()),
      keys(op.getBlockK(), op.getBlockQ()), tail(op.getTail()),
      partial(op.getPartial()), packed(op.getPacked()),
      scored(!op.getScore().empty()) {
  if (op.getTarget().isHopper)
    fitHopper();
  else
    fit(op.getTarget());
}

/// Two thread blocks of narrow heads if they leave two stages each; then as
/// many stages as there is room for.
void BackwardPlan::fit(const Target &target) {
  keepsOutGrads = false;
  for (Tiling *tiling : {&queries, &keys}) {
    auto stagesOf = [&](int64_t blocks) {
      int64_t room = target.sharedBytesOf(blocks) - barrierBytes;
      int64_t numbers = 2 * 64 * 4;
      return (room - 2 * tiling->rows * head * 2) /
             (2 * 64 * head * 2 + numbers);
    };
    // Sums of wide heads, and a function with its derivative, take all the
    // registers that four warps can have.
    bool isSmall = head == 64 && !scored && stagesOf(2) >= 2;
    tiling->blocksPerProcessor = isSmall ? 2 : 1;
    tiling->stages = tiling->numberStages =
        std::min<int64_t>(stagesOf(tiling->blocksPerProcessor), 3);
    int64_t warps = tiling->blocksPerProcessor * (4 * tiling->consumers + 1);
    tiling->producerRegisters = tiling->consumerRegisters =
        Target::registersOf(warps);
  }
}

void BackwardPlan::fitHopper() {
  keepsOutGrads = true;
  // As many as shared memory has room for.
  bool wide = head > 64;
  if (wide)
    queries.stages = 2;
  if (!wide || queries.consumers == 2)
    queries.tileStages = 2;
  if (wide && keys.consumers == 1) {
    keys.stages = 2;
    keys.numberStages = 1;
    keys.producerRegisters = 32;
    keys.consumerRegisters = 224;
  }
}

BackwardSteps::BackwardSteps(AttentionBackwardOp op, const BackwardPlan &plan,
                             const BackwardPlan::Tiling &tiling)
    : ProgramParts(op), plan(plan), tiling(tiling), function(op.getScore()),
      scoresType(FragmentType::get({64, 64}, b.getF32Type())),
      stepType(OperandType::get({64, 64}, plan.element)) {}

void BackwardSteps::buildRoles(ProgramOp program,
                               llvm::function_ref<void()> producer,
                               llvm::function_ref<void(Value)> consumers) {
  auto first =
      RoleOp::create(b, loc, RoleKind::Producer, 1, tiling.producerRegisters);
  auto others = RoleOp::create(b, loc, RoleKind::Consumer, tiling.consumers,
                               tiling.consumerRegisters);
  b.setInsertionPointToStart(&first.getBody().front());
  producer();
  b.setInsertionPointToStart(&others.getBody().front());
  consumers(others.getBody().getArgument(0));
}

void BackwardSteps::prepareScale(Value factor) {
  scale = f32(log2OfE);
  if (plan.scored)
    scoreScale = factor;
  else
    scale = times(factor, scale);
}

void BackwardSteps::addScoreTypes(SmallVectorImpl<Type> &types) {
  if (!plan.scored)
    return;
  types.push_back(b.getI32Type());
  llvm::append_range(types, capturedTypes(function));
}

void BackwardSteps::allocPlaces(int64_t numbers) {
  if (plan.scored)
    places = alloc(QueueType::get({tiling.stages, numbers}, b.getI32Type()));
}

void BackwardSteps::sendPlace(Value number, ValueRange words) {
  if (plan.scored)
    SendOp::create(b, loc, places, number, words);
}

ProgramParts::Values BackwardSteps::receivePlace(Value number) {
  if (!plan.scored)
    return {};
  auto queue = cast<QueueType>(places.getType());
  SmallVector<Type> types(queue.getColumns(), b.getI32Type());
  return Values(ReceiveOp::create(b, loc, types, places, number).getWords());
}

ProgramParts::Place BackwardSteps::placeOf(const Corner &corner,
                                           ValueRange element) {
  Value row = element[0], column = element[1];
  return {corner.batch, corner.head,
          n.add(corner.query, corner.keysAreRows ? column : row),
          n.add(corner.key, corner.keysAreRows ? row : column)};
}

Value BackwardSteps::firstRowOf(Value index, Value list, Value step) {
  Value entry = n.div(step, literal(tiling.parts));
  Value block = read(index, n.add(list, entry));
  Value part = n.rem(step, literal(tiling.parts));
  return n.add(n.mul(block, tiling.block), n.mul(part, 64));
}

Value BackwardSteps::bitsOf(Value bits, Value numbers, Value list, Value step,
                            Value warpgroup) {
  Value entry = n.div(step, literal(tiling.parts));
  Value bitmap = read(numbers, n.add(list, entry));
  Value part =
      n.add(n.mul(bitmap, tiling.parts), n.rem(step, literal(tiling.parts)));
  Value row = n.add(n.mul(part, tiling.rows), n.mul(warpgroup, 64));
  auto type = BitsType::get({64, 64}, b.getI1Type());
  return LoadBitsOp::create(b, loc, type, bits, ValueRange{n.mul(row, 2)});
}

Value BackwardSteps::probabilities(Value scores, Value shifts, Value bits,
                                   const Corner &corner) {
  Values inputs{scores, shifts};
  if (bits)
    inputs.push_back(bits);
  return elementwise(inputs, scoresType, [&](ValueRange x) -> Value {
    Value score = x[0], isIn = bits ? x[2] : Value();
    auto require = [&](Value condition) {
      isIn = isIn ? arith::AndIOp::create(b, loc, isIn, condition).getResult()
                  : condition;
    };
    if (plan.scored) {
      // Whatever the function gives where nothing is, or nothing is allowed.
      Place place = placeOf(corner, x.take_back(2));
      score = scoreOf(function, score, scoreScale, place, captured())[0];
      require(arith::CmpFOp::create(b, loc, arith::CmpFPredicate::UNE, x[1],
                                    lowest()));
      if (plan.tail)
        require(n.less(place.key, scoreArguments.front()));
    }
    Value power = math::FmaOp::create(b, loc, score, scale, x[1]);
    if (plan.tail && !plan.scored)
      power = arith::MinNumFOp::create(b, loc, power, f32(0));
    Value p = math::Exp2Op::create(b, loc, power);
    return isIn ? n.select(isIn, p, f32(0)) : p;
  });
}

Value BackwardSteps::withDerivative(Value p, Value scores,
                                    const Corner &corner) {
  if (!derives())
    return p;
  return elementwise({p, scores}, scoresType, [&](ValueRange x) -> Value {
    Place place = placeOf(corner, x.take_back(2));
    Value slope = scoreOf(function, x[1], scoreScale, place, captured())[1];
    // 0 where nothing is, whatever the derivative.
    Value isNone =
        arith::CmpFOp::create(b, loc, arith::CmpFPredicate::OEQ, x[0], f32(0));
    return n.select(isNone, f32(0), times(x[0], slope));
  });
}

Value BackwardSteps::scoreGradients(Value p, Value pGrad, Value deltas) {
  return elementwise({p, pGrad, deltas}, scoresType,
                     [&](ValueRange x) -> Value {
                       Value change = arith::SubFOp::create(b, loc, x[1], x[2]);
                       return times(x[0], change);
                     });
}
