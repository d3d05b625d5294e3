//===- RaiseAttention.cpp - softmax(body(q k^T, mask)) v ------------------===//

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/IR/PatternMatch.h"
#include "mlir/IR/TypeUtilities.h"
#include "passes/Elementwise.h"
#include "passes/HalfPrecision.h"
#include "passes/Passes.h"
#include "passes/Report.h"
#include "passes/Softmax.h"

namespace gossamer {
#define GEN_PASS_DEF_RAISEATTENTION
#include "passes/Passes.h.inc"
} // namespace gossamer

using namespace mlir;
using namespace gossamer;

namespace {

/// The parts of softmax_j(s) v, over the loops of the contraction with v.
struct SoftmaxProduct {
  Contraction product;
  Access probabilities, value, scores;
  unsigned i, j, e;
  SmallVector<unsigned> batch;
};

std::optional<SoftmaxProduct> matchSoftmaxProduct(linalg::GenericOp op) {
  Contraction product = matchContraction(op.getResult(0), /*mayWiden=*/true);
  if (!product)
    return {};
  unsigned numLoops = op.getNumLoops();
  auto j = onlyReductionLoop(product.result);
  if (!j)
    return {};
  for (bool swapped : {false, true}) {
    SoftmaxProduct match{product,
                         swapped ? product.rhs : product.lhs,
                         swapped ? product.lhs : product.rhs,
                         {},
                         0,
                         *j,
                         0,
                         {}};
    ScratchEmitter scratch(op.getLoc());
    Value p = scratch.emitter.emit(scratch.builder, match.probabilities);
    auto scores =
        matchSoftmax(scratch.emitter, scratch.builder, p, *j, numLoops);
    if (!scores)
      continue;
    match.scores = *scores;
    // e is the loop that only v and the result have (one that only the result
    // has is a batch of size 1). i is a loop that v lacks; of several (v may
    // lack heads, too) the innermost in p is meant.
    match.value = traceView(match.value);
    std::optional<unsigned> e, i;
    for (unsigned loop = 0; loop < numLoops; ++loop)
      if (product.result.isFunctionOfDim(loop) &&
          match.value.map.isFunctionOfDim(loop) &&
          !match.probabilities.map.isFunctionOfDim(loop)) {
        if (e)
          return {};
        e = loop;
      }
    for (AffineExpr expr : match.probabilities.map.getResults())
      if (auto dim = dyn_cast<AffineDimExpr>(expr))
        if (dim.getPosition() != *j &&
            !match.value.map.isFunctionOfDim(dim.getPosition()))
          i = dim.getPosition();
    // Sizes of 1 are read at 0: a single value or query is a loop of the
    // result's alone.
    SmallVector<unsigned> alone;
    for (AffineExpr expr : product.result.getResults()) {
      unsigned loop = cast<AffineDimExpr>(expr).getPosition();
      if (!match.value.map.isFunctionOfDim(loop) &&
          !match.probabilities.map.isFunctionOfDim(loop))
        alone.push_back(loop);
    }
    if (!e && !alone.empty())
      e = alone.pop_back_val();
    if (!i && !alone.empty())
      i = alone.pop_back_val();
    if (!e || !i)
      return {};
    match.e = *e;
    match.i = *i;
    for (AffineExpr expr : product.result.getResults()) {
      unsigned loop = cast<AffineDimExpr>(expr).getPosition();
      if (loop != *e && loop != *i)
        match.batch.push_back(loop);
    }
    return match;
  }
  return {};
}

/// Builds the operation; emits a remark and returns null where it may not.
class AttentionBuilder {
public:
  AttentionBuilder(SoftmaxProduct &match)
      : match(match), op(match.product.op), builder(op),
        context(op.getContext()), numBatch(match.batch.size()),
        numLoops(numBatch + 4) {}

  AttentionOp build();

private:
  AttentionOp refuse(StringRef why) {
    reportRefusal(op, "gossamer.attention", why);
    return {};
  }
  AffineExpr dim(unsigned n) { return getAffineDimExpr(n, context); }
  /// From the loops of the product to (batch..., i, j, d, e).
  AffineMap renumber(AffineMap map) {
    SmallVector<AffineExpr> exprs(map.getNumDims());
    for (auto [n, loop] : llvm::enumerate(match.batch))
      exprs[loop] = dim(n);
    exprs[match.i] = dim(numBatch);
    exprs[match.j] = dim(numBatch + 1);
    exprs[match.e] = dim(numBatch + 3);
    return substitute(map, exprs, numLoops);
  }
  /// The first operand whose dimensions are not where the operation wants them;
  /// empty if there is none.
  StringRef findMisplaced(ArrayRef<AffineMap> maps);
  /// Gives a single query, key or value, which is read at 0, its loop back.
  void openUnitDims(MutableArrayRef<AffineMap> maps, ArrayRef<Value> tensors);
  /// q and k of a contraction whose result is accessed by `access`.
  bool splitScores(Access access, Access &query, Access &key);

  SoftmaxProduct &match;
  linalg::GenericOp op;
  OpBuilder builder;
  MLIRContext *context;
  unsigned numBatch, numLoops;
};

bool AttentionBuilder::splitScores(Access access, Access &query, Access &key) {
  Contraction scores = matchContraction(access.tensor, /*mayWiden=*/true);
  if (!scores)
    return false;
  unsigned inner = scores.op.getNumLoops();
  auto d = onlyReductionLoop(scores.result);
  if (!d)
    return false;
  SmallVector<AffineExpr> exprs(inner);
  exprs[*d] = dim(numBatch + 2);
  for (auto [n, expr] : llvm::enumerate(scores.result.getResults()))
    exprs[cast<AffineDimExpr>(expr).getPosition()] = access.map.getResult(n);
  auto renumbered = [&](Access side) {
    return traceView({side.tensor, substitute(side.map, exprs, numLoops)});
  };
  query = renumbered(scores.lhs);
  key = renumbered(scores.rhs);
  if (query.map.isFunctionOfDim(numBatch + 1))
    std::swap(query, key);
  else if (!query.map.isFunctionOfDim(numBatch) &&
           key.map.isFunctionOfDim(numBatch))
    std::swap(query, key);
  return !query.map.isFunctionOfDim(numBatch + 1) &&
         !key.map.isFunctionOfDim(numBatch);
}

void AttentionBuilder::openUnitDims(MutableArrayRef<AffineMap> maps,
                                    ArrayRef<Value> tensors) {
  unsigned i = numBatch, j = i + 1, e = i + 3;
  auto open = [&](unsigned operand, unsigned place, unsigned loop) {
    AffineMap &map = maps[operand];
    auto type = cast<RankedTensorType>(tensors[operand].getType());
    if (map.getNumResults() < place)
      return;
    unsigned at = map.getNumResults() - place;
    if (type.getDimSize(at) != 1 || !isa<AffineConstantExpr>(map.getResult(at)))
      return;
    SmallVector<AffineExpr> exprs(map.getResults());
    exprs[at] = dim(loop);
    map = AffineMap::get(numLoops, 0, exprs, context);
  };
  auto result = cast<RankedTensorType>(op.getResult(0).getType());
  auto values = cast<RankedTensorType>(tensors[2].getType());
  if (result.getRank() >= 2 && result.getDimSize(result.getRank() - 2) == 1) {
    open(0, 2, i);
    open(3, 2, i);
  }
  if (values.getRank() >= 2 && values.getDimSize(values.getRank() - 2) == 1) {
    open(1, 2, j);
    open(3, 1, j);
  }
  open(2, 1, e);
}

StringRef AttentionBuilder::findMisplaced(ArrayRef<AffineMap> maps) {
  auto isLast = [&](AffineMap map, unsigned place, unsigned loop) {
    return map.getNumResults() >= place &&
           map.getResult(map.getNumResults() - place) == dim(loop);
  };
  unsigned i = numBatch, j = i + 1, d = i + 2, e = i + 3;
  if (!isLast(maps[0], 1, d))
    return "the last dimension of the queries is not the one that is summed";
  if (!isLast(maps[1], 1, d))
    return "the last dimension of the keys is not the one that is summed";
  if (!isLast(maps[2], 1, e))
    return "the last dimension of the values is not that of the result";
  if (!isLast(maps[3], 2, i) || !isLast(maps[3], 1, j))
    return "the last dimensions of the mask are not queries and keys";
  if (!isLast(maps.back(), 2, i) || !isLast(maps.back(), 1, e))
    return "the last dimensions of the result are not queries and values";
  return "";
}

AttentionOp AttentionBuilder::build() {
  Location loc = op.getLoc();
  auto holder = std::make_unique<Region>();
  Block &body = holder->emplaceBlock();
  builder.setInsertionPointToEnd(&body);
  ScalarEmitter emitter(&body, [&](OpBuilder &b, unsigned loop) -> Value {
    return IndexOp::create(b, loc, loop);
  });
  Value score =
      emitter.emit(builder, {match.scores.tensor, renumber(match.scores.map)});

  Access query, key, mask;
  Value scoreArg, maskArg;
  TypedAttr fill;
  SmallVector<std::pair<Access, Value>> extras;
  for (auto &[access, value] : emitter.leaves()) {
    Access q, k;
    if (SparseSource source = getSparseSource(access.tensor)) {
      if (maskArg)
        return refuse("more than one sparse tensor in the scores");
      mask = {source.tensor, access.map};
      fill = source.fill;
      maskArg = value;
    } else if (splitScores(access, q, k)) {
      if (scoreArg)
        return refuse("more than one product in the scores");
      query = q;
      key = k;
      scoreArg = value;
    } else {
      extras.push_back({access, value});
    }
  }
  if (!maskArg)
    return {}; // dense attention is none of our business
  if (!scoreArg)
    return refuse("no product of queries and keys in the scores");
  if (!isMaskedScore(evaluate(score, {{maskArg, fill}})))
    return refuse("entries that the mask does not store are not -inf");

  AffineMap result = renumber(match.product.result);
  SmallVector<AffineMap> maps{query.map, key.map, renumber(match.value.map),
                              mask.map};
  SmallVector<Value> operands;
  for (auto &[access, value] : extras) {
    operands.push_back(access.tensor);
    maps.push_back(access.map);
  }
  maps.push_back(result);
  openUnitDims(maps,
               {query.tensor, key.tensor, match.value.tensor, mask.tensor});
  if (StringRef why = findMisplaced(maps); !why.empty())
    return refuse(why);

  // Half precision is attention in float32, over widened operands: that is also
  // the type of the product, whose reader rounds.
  builder.setInsertionPoint(op);
  Type element = getElementTypeOrSelf(op.getResult(0));
  auto attention = AttentionOp::create(
      builder, loc, op.getResult(0).getType(),
      widened(builder, query.tensor, element),
      widened(builder, key.tensor, element),
      widened(builder, match.value.tensor, element), mask.tensor, operands,
      shapeOnly(op.getDpsInits()[0]), builder.getAffineMapArrayAttr(maps));
  // The arguments came in the order in which the walk met the leaves.
  Block &ordered = attention.getBody().emplaceBlock();
  auto take = [&](Value old) {
    old.replaceAllUsesWith(ordered.addArgument(old.getType(), loc));
  };
  take(scoreArg);
  take(maskArg);
  for (auto &[access, value] : extras)
    take(value);
  ordered.getOperations().splice(ordered.end(), body.getOperations());
  builder.setInsertionPointToEnd(&ordered);
  YieldOp::create(builder, loc, score);
  widenBody(ordered, element);
  return attention;
}

struct RaiseAttention : gossamer::impl::RaiseAttentionBase<RaiseAttention> {
  void runOnOperation() override {
    SmallVector<linalg::GenericOp> generics;
    getOperation().walk([&](linalg::GenericOp op) { generics.push_back(op); });
    for (linalg::GenericOp op : llvm::reverse(generics)) {
      if (op->getNumResults() != 1 || op.getNumReductionLoops() != 1)
        continue;
      auto match = matchSoftmaxProduct(op);
      if (!match)
        continue;
      if (AttentionOp attention = AttentionBuilder(*match).build()) {
        op.getResult(0).replaceAllUsesWith(attention.getResult());
        op.erase();
      }
    }
  }
};

} // namespace
