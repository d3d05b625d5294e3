//===- RaiseSample.cpp - computing at stored positions only ---------------===//

#include "passes/RaiseSample.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/IR/PatternMatch.h"
#include "mlir/IR/TypeUtilities.h"
#include "passes/Elementwise.h"
#include "passes/HalfPrecision.h"
#include "passes/Passes.h"
#include "passes/Report.h"
#include "passes/SharedPattern.h"
#include "passes/Softmax.h"
#include "passes/SparseValues.h"

namespace gossamer {
#define GEN_PASS_DEF_RAISESAMPLE
#include "passes/Passes.h.inc"
} // namespace gossamer

using namespace mlir;
using namespace gossamer;

namespace {

/// Rewrites one sample. New samples that this asks for go to `worklist`.
class SampleRaiser {
public:
  SampleRaiser(SampleOp op, SmallVectorImpl<SampleOp> &worklist)
      : op(op), worklist(worklist), builder(op),
        rank(cast<ShapedType>(op.getPattern().getType()).getRank()),
        identity(AffineMap::getMultiDimIdentityMap(rank, op.getContext())) {}

  void run() {
    Value result = raiseSoftmax();
    if (!result)
      result = raiseElementwise();
    op.getResult().replaceAllUsesWith(result);
    op.erase();
  }

private:
  Value raiseSoftmax();
  Value raiseElementwise();
  /// Whether nothing but what is emitted here needs a product: then it is not
  /// computed twice if it is folded in.
  bool isUsedHereOnly(Value product, ScalarEmitter &emitter);
  Value sampled(Value tensor);

  SampleOp op;
  SmallVectorImpl<SampleOp> &worklist;
  OpBuilder builder;
  unsigned rank;
  AffineMap identity;
};

Value SampleRaiser::raiseSoftmax() {
  ScratchEmitter scratch(op.getLoc());
  OpBuilder &inner = scratch.builder;
  ScalarEmitter &emitter = scratch.emitter;
  Value value = emitter.emit(inner, {op.getSource(), identity});
  for (unsigned j : llvm::reverse(llvm::seq(rank))) {
    auto scores = matchSoftmax(emitter, inner, value, j, rank);
    if (!scores || scores->map != identity)
      continue;
    // The softmax runs over stored entries only if the others are -inf.
    Value score = emitter.emit(inner, *scores);
    if (!isMaskedScore(
            evaluate(score, fillsOn(op.getPattern(), identity, emitter)))) {
      reportRefusal(op, "gossamer.softmax",
                    "entries that the pattern does not store are not -inf");
      return {};
    }
    auto sampled =
        SampleOp::create(builder, op.getLoc(), op.getResult().getType(),
                         scores->tensor, op.getPattern());
    worklist.push_back(sampled);
    return SoftmaxOp::create(builder, op.getLoc(), sampled.getType(), sampled,
                             /*index=*/Value(), j);
  }
  return {};
}

bool SampleRaiser::isUsedHereOnly(Value product, ScalarEmitter &emitter) {
  if (product == op.getSource())
    return true;
  return llvm::all_of(product.getUsers(), [&](Operation *user) {
    return isa<linalg::GenericOp>(user) && user->getNumResults() == 1 &&
           emitter.hasEmitted(user->getResult(0));
  });
}

Value SampleRaiser::sampled(Value tensor) {
  Value sample = sampleOn(builder, op.getLoc(), tensor, op.getPattern());
  worklist.push_back(sample.getDefiningOp<SampleOp>());
  return sample;
}

/// Whether sums are of the operands' type, or wider ones of half precision that
/// are rounded to it before anything else.
static bool isRoundedAtOnce(Value sum, Value result,
                            const Contraction &product) {
  Type type = getElementTypeOrSelf(product.lhs.tensor);
  if (type == sum.getType())
    return true;
  return sum != result && isHalf(type) &&
         type == getElementTypeOrSelf(product.rhs.tensor) &&
         llvm::all_of(sum.getUsers(), [&](Operation *user) {
           return isa<arith::TruncFOp>(user) &&
                  user->getResult(0).getType() == type;
         });
}

Value SampleRaiser::raiseElementwise() {
  Location loc = op.getLoc();
  auto holder = std::make_unique<Region>();
  Block &body = holder->emplaceBlock();
  OpBuilder inner(op.getContext());
  inner.setInsertionPointToEnd(&body);
  ScalarEmitter emitter(&body, [&](OpBuilder &b, unsigned loop) -> Value {
    return IndexOp::create(b, loc, loop);
  });
  Value value = emitter.emit(inner, {op.getSource(), identity});

  Value stored, sum;
  Contraction product;
  unsigned numLoops = rank;
  SmallVector<Value> args, extras;
  SmallVector<AffineMap> maps{identity};
  for (auto [access, arg] : emitter.leaves()) {
    bool there = access.map == identity;
    SparseSource source = there ? findPattern(access.tensor) : SparseSource();
    if (source && samePattern(source.tensor, op.getPattern())) {
      SparseSource given = getSparseSource(access.tensor);
      if (given && given.tensor == op.getPattern()) {
        stored = arg;
        continue;
      }
      // Its stored entries are all that is asked for.
      access.tensor = given ? given.tensor : sampled(access.tensor);
    } else if (Contraction contraction =
                   matchContraction(access.tensor, /*mayWiden=*/true);
               contraction && there &&
               isRoundedAtOnce(arg, value, contraction)) {
      if (!sum && isUsedHereOnly(access.tensor, emitter)) {
        sum = arg;
        product = contraction;
        continue;
      }
      access.tensor = sampled(access.tensor);
    }
    args.push_back(arg);
    extras.push_back(access.tensor);
    maps.push_back(access.map);
  }

  Operation *made;
  if (sum) {
    // Loops of the product: those of the pattern, then the summed ones.
    unsigned inner = product.op.getNumLoops();
    SmallVector<AffineExpr> exprs(inner);
    for (auto [n, expr] : llvm::enumerate(product.result.getResults()))
      exprs[cast<AffineDimExpr>(expr).getPosition()] =
          getAffineDimExpr(n, op.getContext());
    for (AffineExpr &expr : exprs)
      if (!expr)
        expr = getAffineDimExpr(numLoops++, op.getContext());
    Access lhs = traceView(
        {product.lhs.tensor, substitute(product.lhs.map, exprs, numLoops)});
    Access rhs = traceView(
        {product.rhs.tensor, substitute(product.rhs.map, exprs, numLoops)});
    SmallVector<AffineMap> all{maps[0], lhs.map, rhs.map};
    all.append(maps.begin() + 1, maps.end());
    for (AffineMap &map : all)
      map = AffineMap::get(numLoops, 0, map.getResults(), op.getContext());
    made = SDDMMOp::create(builder, loc, op.getResult().getType(),
                           op.getPattern(), lhs.tensor, rhs.tensor, extras,
                           builder.getAffineMapArrayAttr(all));
  } else {
    made =
        MapOp::create(builder, loc, op.getResult().getType(), op.getPattern(),
                      extras, builder.getAffineMapArrayAttr(maps));
  }
  Block &ordered = made->getRegion(0).emplaceBlock();
  auto take = [&](Value old, Type type) {
    Value arg = ordered.addArgument(type, loc);
    if (!old)
      return;
    old.replaceAllUsesWith(arg);
    if (value == old)
      value = arg;
  };
  take(stored, getElementTypeOrSelf(op.getPattern()));
  if (sum) {
    Type type = getElementTypeOrSelf(product.lhs.tensor);
    if (type == sum.getType()) {
      take(sum, type);
    } else { // the operation rounds
      Value arg = ordered.addArgument(type, loc);
      for (Operation *user : llvm::make_early_inc_range(sum.getUsers())) {
        user->getResult(0).replaceAllUsesWith(arg);
        if (value == user->getResult(0))
          value = arg;
        user->erase();
      }
    }
  }
  for (Value arg : args)
    take(arg, arg.getType());
  ordered.getOperations().splice(ordered.end(), body.getOperations());
  inner.setInsertionPointToEnd(&ordered);
  YieldOp::create(inner, loc, value);
  return made->getResult(0);
}

struct RaiseSample : gossamer::impl::RaiseSampleBase<RaiseSample> {
  void runOnOperation() override {
    SmallVector<SampleOp> samples;
    getOperation().walk([&](SampleOp op) { samples.push_back(op); });
    for (SampleOp op : llvm::reverse(samples))
      raiseSample(op);
  }
};

} // namespace

void gossamer::raiseSample(SampleOp op) {
  SmallVector<SampleOp> worklist{op};
  while (!worklist.empty())
    SampleRaiser(worklist.pop_back_val(), worklist).run();
}
