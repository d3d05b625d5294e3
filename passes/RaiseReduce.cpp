//===- RaiseReduce.cpp - reductions of sparse values ----------------------===//

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/IR/IRMapping.h"
#include "mlir/IR/TypeUtilities.h"
#include "mlir/Interfaces/SideEffectInterfaces.h"
#include "passes/Passes.h"
#include "passes/RaiseSample.h"
#include "passes/Report.h"
#include "passes/SharedPattern.h"
#include "passes/Softmax.h"
#include "passes/SparseValues.h"

namespace gossamer {
#define GEN_PASS_DEF_RAISEREDUCE
#include "passes/Passes.h.inc"
} // namespace gossamer

using namespace mlir;
using namespace gossamer;

namespace {

class ReduceRaiser {
public:
  explicit ReduceRaiser(linalg::GenericOp op)
      : op(op), builder(op), numLoops(op.getNumLoops()) {}
  void run();

private:
  /// Emits what is reduced, at one point of the loops; null if a body asks for
  /// an index that it may not.
  Value emit(ScalarEmitter &emitter, OpBuilder &inner, Accumulation combiner);
  /// A leaf on whose pattern all is computed, with what an unstored entry
  /// gives.
  bool findPatternLeaf(Accumulation combiner);

  linalg::GenericOp op;
  OpBuilder builder;
  unsigned numLoops;
  SparseSource pattern; // with the fill of what is reduced
  AffineMap patternMap;
};

Value ReduceRaiser::emit(ScalarEmitter &emitter, OpBuilder &inner,
                         Accumulation combiner) {
  IRMapping mapping;
  for (auto [n, input] : llvm::enumerate(op.getDpsInputs())) {
    BlockArgument arg = op.getBody()->getArgument(n);
    if (!isa<ShapedType>(input.getType()))
      mapping.map(arg, input);
    else if (!arg.use_empty())
      mapping.map(arg,
                  emitter.emit(inner, {input, op.getIndexingMapsArray()[n]}));
  }
  Operation *last = combiner.op;
  for (Operation &each : op.getBody()->without_terminator())
    if (&each != last) {
      if (isa<linalg::IndexOp>(each))
        return {};
      inner.clone(each, mapping);
    }
  return mapping.lookupOrDefault(combiner.value);
}

bool ReduceRaiser::findPatternLeaf(Accumulation combiner) {
  ScratchEmitter scratch(op.getLoc());
  Value value = emit(scratch.emitter, scratch.builder, combiner);
  if (!value)
    return false;
  bool sparse = false;
  SmallVector<std::pair<Access, Value>> leaves(scratch.emitter.leaves());
  for (auto &[leaf, arg] : leaves) {
    SparseSource source = findPattern(leaf.tensor);
    if (!source)
      continue;
    sparse = true;
    // Dimensions of size 1, which are read at 0, get loops of their own below.
    SmallVector<bool> used(numLoops);
    for (AffineExpr expr : leaf.map.getResults())
      if (auto dim = dyn_cast<AffineDimExpr>(expr))
        used[dim.getPosition()] = true;
    if (!llvm::all_of(used, [](bool loop) { return loop; }))
      continue;
    source.fill =
        evaluate(value, fillsOn(source.tensor, leaf.map, scratch.emitter));
    if (!source.fill)
      continue;
    pattern = source;
    patternMap = leaf.map;
    return true;
  }
  if (sparse)
    reportRefusal(op, "gossamer.reduce",
                  "what it reduces is not one number where nothing is stored");
  return false;
}

void ReduceRaiser::run() {
  Accumulation combiner = matchAccumulation(op);
  if (!combiner || !findPatternLeaf(combiner))
    return;
  bool product = combiner.kind == arith::AtomicRMWKind::mulf ||
                 combiner.kind == arith::AtomicRMWKind::muli;
  auto number = dyn_cast<FloatAttr>(pattern.fill);
  if (product && !isZero(pattern.fill) &&
      !(number ? number.getValue().isExactlyValue(1.0)
               : cast<IntegerAttr>(pattern.fill).getValue().isOne())) {
    reportRefusal(op, "gossamer.reduce",
                  "a product of entries that are neither 0 nor 1 where "
                  "nothing is stored");
    return;
  }
  Location loc = op.getLoc();
  MLIRContext *context = op.getContext();

  // Every dimension of the pattern has a loop.
  unsigned allLoops = numLoops;
  SmallVector<AffineExpr> exprs(patternMap.getResults());
  for (AffineExpr &expr : exprs)
    if (isa<AffineConstantExpr>(expr))
      expr = getAffineDimExpr(allLoops++, context);
  auto widened = [&](ArrayRef<AffineExpr> results) {
    return AffineMap::get(allLoops, 0, results, context);
  };
  AffineMap opened = widened(exprs);

  auto holder = std::make_unique<Region>();
  Block &body = holder->emplaceBlock();
  OpBuilder inner(context);
  inner.setInsertionPointToEnd(&body);
  ScalarEmitter emitter(&body, [&](OpBuilder &b, unsigned loop) -> Value {
    return IndexOp::create(
        b, loc, *opened.getResultPosition(getAffineDimExpr(loop, context)));
  });
  Value value = emit(emitter, inner, combiner);

  // On the pattern are what is stored there and what is computed there; a
  // product is computed there only.
  SmallVector<SampleOp> samples;
  SmallVector<std::pair<Value, AffineMap>> operands;
  SmallVector<Value> args;
  std::optional<unsigned> first;
  for (auto [access, arg] : emitter.leaves()) {
    bool there = access.map == patternMap;
    SparseSource source = there ? findPattern(access.tensor) : SparseSource();
    there = source ? samePattern(source.tensor, pattern.tensor)
                   : there && matchContraction(access.tensor);
    if (there) {
      SparseSource stored = getSparseSource(access.tensor);
      Value sparse = stored.tensor;
      if (!stored || !samePattern(stored.tensor, pattern.tensor)) {
        sparse = sampleOn(builder, loc, access.tensor, pattern.tensor);
        samples.push_back(sparse.getDefiningOp<SampleOp>());
      }
      if (!first)
        first = operands.size();
      operands.push_back({sparse, opened});
    } else {
      operands.push_back({access.tensor, widened(access.map.getResults())});
    }
    args.push_back(arg);
  }
  if (first) {
    std::rotate(operands.begin(), operands.begin() + *first,
                operands.begin() + *first + 1);
    std::rotate(args.begin(), args.begin() + *first, args.begin() + *first + 1);
  } else {
    operands.insert(operands.begin(), {pattern.tensor, opened});
    args.insert(args.begin(), Value());
  }
  SmallVector<Value> extras;
  SmallVector<AffineMap> maps;
  for (auto &[tensor, map] : operands) {
    extras.push_back(tensor);
    maps.push_back(map);
  }
  maps.push_back(
      widened(op.getIndexingMapMatchingResult(op->getResult(0)).getResults()));
  auto reduce = ReduceOp::create(
      builder, loc, op.getResult(0).getType(), extras.front(),
      ArrayRef(extras).drop_front(), shapeOnly(op.getDpsInits()[0]),
      combiner.kind, pattern.fill, builder.getAffineMapArrayAttr(maps));
  Block &ordered = reduce.getBody().emplaceBlock();
  for (auto [old, operand] : llvm::zip(args, extras)) {
    Value arg =
        ordered.addArgument(getElementTypeOrSelf(operand.getType()), loc);
    if (!old)
      continue;
    old.replaceAllUsesWith(arg);
    if (value == old)
      value = arg;
  }
  ordered.getOperations().splice(ordered.end(), body.getOperations());
  inner.setInsertionPointToEnd(&ordered);
  YieldOp::create(inner, loc, value);
  op.getResult(0).replaceAllUsesWith(reduce.getResult());
  op.erase();
  for (SampleOp sample : samples)
    raiseSample(sample);
}

struct RaiseReduce : gossamer::impl::RaiseReduceBase<RaiseReduce> {
  void runOnOperation() override {
    // The last first: what computes on the result of a reduction is recognised
    // with the reduction as it was (a softmax that is spelt out).
    SmallVector<Operation *> ops;
    getOperation().walk([&](Operation *op) {
      if (op->getParentOp() == getOperation())
        ops.push_back(op);
    });
    for (Operation *op : llvm::reverse(ops)) {
      if (isOpTriviallyDead(op)) {
        op->erase();
        continue;
      }
      auto generic = dyn_cast<linalg::GenericOp>(op);
      if (generic && generic->getNumResults() == 1 &&
          generic.getNumReductionLoops() > 0)
        ReduceRaiser(generic).run();
    }
  }
};

} // namespace
