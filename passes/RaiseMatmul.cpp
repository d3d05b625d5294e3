//===- RaiseMatmul.cpp - contractions with a sparse operand ---------------===//

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/IR/TypeUtilities.h"
#include "passes/Elementwise.h"
#include "passes/Passes.h"
#include "passes/Report.h"
#include "passes/SparseOperand.h"
#include "llvm/ADT/SetVector.h"

namespace gossamer {
#define GEN_PASS_DEF_RAISEMATMUL
#include "passes/Passes.h.inc"
} // namespace gossamer

using namespace mlir;
using namespace gossamer;
using sparse_tensor::getSparseTensorEncoding;

namespace {

/// Rewrites one contraction.
class MatmulRaiser {
public:
  MatmulRaiser(Contraction contraction, Combiner combiner)
      : contraction(contraction), combiner(combiner), op(contraction.op),
        builder(contraction.op) {}
  /// Whether there is a sparse operand to do it for.
  bool run();

private:
  /// The last value of the elementwise operations that nothing but the
  /// contraction's result leads to; that result itself if there are none.
  Value findEpilogue();
  /// The values on the way from the contraction's result to `last`, or nothing
  /// if one of them is used elsewhere.
  bool isClosed(Value last, const SetVector<Value> &derived);

  /// Gives every dimension of the sparse operand that is read at 0 (its size is
  /// 1) a loop: storage has no constants in it. That is one of size 1 that only
  /// the result has, the row of a product of one row; else one of its own.
  void openUnitDims(Access &sparse, Access &dense);

  Contraction contraction;
  Combiner combiner;
  linalg::GenericOp op;
  OpBuilder builder;
};

void MatmulRaiser::openUnitDims(Access &sparse, Access &dense) {
  unsigned numLoops = sparse.map.getNumDims();
  SmallVector<AffineExpr> exprs(sparse.map.getResults()), free;
  ArrayRef<int64_t> sizes =
      cast<ShapedType>(op.getResult(0).getType()).getShape();
  for (auto [expr, size] : llvm::zip(contraction.result.getResults(), sizes))
    if (auto dim = dyn_cast<AffineDimExpr>(expr);
        dim && size == 1 && !sparse.map.isFunctionOfDim(dim.getPosition()) &&
        !dense.map.isFunctionOfDim(dim.getPosition()))
      free.push_back(dim);
  std::reverse(free.begin(), free.end());
  for (AffineExpr &expr : exprs)
    if (isa<AffineConstantExpr>(expr))
      expr = free.empty() ? getAffineDimExpr(numLoops++, op.getContext())
                          : free.pop_back_val();
  auto widened = [&](ArrayRef<AffineExpr> results) {
    return AffineMap::get(numLoops, 0, results, op.getContext());
  };
  sparse.map = widened(exprs);
  dense.map = widened(dense.map.getResults());
  contraction.result = widened(contraction.result.getResults());
}

bool MatmulRaiser::isClosed(Value last, const SetVector<Value> &derived) {
  SetVector<Value> reached;
  reached.insert(last);
  for (size_t n = 0; n < reached.size(); ++n)
    for (Value operand : reached[n].getDefiningOp()->getOperands())
      if (derived.contains(operand) && reached[n] != op.getResult(0))
        reached.insert(operand);
  for (Value value : reached) {
    if (value == last)
      continue;
    for (Operation *user : value.getUsers())
      if (user->getNumResults() != 1 || !reached.contains(user->getResult(0)))
        return false;
  }
  return reached.contains(op.getResult(0));
}

Value MatmulRaiser::findEpilogue() {
  SetVector<Value> derived;
  derived.insert(op.getResult(0));
  auto type = cast<RankedTensorType>(op.getResult(0).getType());
  for (Operation *next = op->getNextNode(); next; next = next->getNextNode()) {
    auto generic = dyn_cast<linalg::GenericOp>(next);
    if (!generic || generic->getNumResults() != 1 ||
        !isElementwise(generic, 0) ||
        generic.getNumLoops() != static_cast<unsigned>(type.getRank()))
      continue;
    if (llvm::any_of(generic.getDpsInputs(),
                     [&](Value input) { return derived.contains(input); }))
      derived.insert(generic.getResult(0));
  }
  for (Value last : llvm::reverse(derived))
    if (isClosed(last, derived))
      return last;
  return op.getResult(0);
}

bool MatmulRaiser::run() {
  Location loc = op.getLoc();
  StringRef name = MatmulOp::getOperationName();
  Access lhs = asSparse(op, contraction.lhs, name),
         rhs = asSparse(op, contraction.rhs, name);
  bool sparseLhs = getSparseTensorEncoding(lhs.tensor.getType()) != nullptr;
  bool sparseRhs = getSparseTensorEncoding(rhs.tensor.getType()) != nullptr;
  if (!sparseLhs && !sparseRhs)
    return false;
  if (getElementTypeOrSelf(lhs.tensor).getIntOrFloatBitWidth() < 8) {
    reportRefusal(op, "gossamer.matmul", "its operands are no numbers");
    return false;
  }
  if (sparseLhs && sparseRhs) {
    reportRefusal(op, "gossamer.matmul of two sparse operands",
                  "the right one is taken as dense");
    rhs = contraction.rhs;
  }
  (sparseLhs ? rhs : lhs) = traceView(sparseLhs ? rhs : lhs);
  openUnitDims(sparseLhs ? lhs : rhs, sparseLhs ? rhs : lhs);

  Value sum = op.getResult(0), last = findEpilogue();
  auto holder = std::make_unique<Region>();
  Block *body = &holder->emplaceBlock();
  Value sumArg = body->addArgument(getElementTypeOrSelf(sum), loc);
  builder.setInsertionPointToEnd(body);
  ScalarEmitter emitter(body, [&](OpBuilder &b, unsigned loop) -> Value {
    return IndexOp::create(b, loc, loop);
  });
  // A transposed use of the sum is left to the consumer.
  AffineMap identity = identityOf(sum);
  emitter.bind({sum, identity}, sumArg);
  Value result = emitter.emit(builder, {last, identity});
  SmallVector<Value> extras;
  SmallVector<AffineMap> maps{lhs.map, rhs.map};
  bool regular = true;
  for (auto &[access, value] : emitter.leaves().drop_front()) {
    regular &= access.tensor != sum;
    extras.push_back(access.tensor);
    maps.push_back(access.map.compose(contraction.result));
  }
  if (!regular) {
    holder = std::make_unique<Region>();
    body = &holder->emplaceBlock();
    result = body->addArgument(getElementTypeOrSelf(sum), loc);
    builder.setInsertionPointToEnd(body);
    maps.truncate(2);
    extras.clear();
    last = sum;
  }
  YieldOp::create(builder, loc, result);
  maps.push_back(contraction.result);
  auto end = cast<linalg::GenericOp>(last.getDefiningOp());
  builder.setInsertionPoint(end);
  auto matmul =
      MatmulOp::create(builder, loc, last.getType(), lhs.tensor, rhs.tensor,
                       extras, shapeOnly(end.getDpsInits()[0]),
                       builder.getAffineMapArrayAttr(maps), combiner);
  matmul.getBody().takeBody(*holder);
  last.replaceAllUsesWith(matmul.getResult());
  return true;
}

/// What the frontend asks for of the products of a contraction: their sum, but
/// where the operation says otherwise.
Combiner takeCombiner(linalg::GenericOp op) {
  auto name = dyn_cast_or_null<StringAttr>(op->removeAttr("gossamer.combine"));
  return name ? symbolizeCombiner(name).value_or(Combiner::Sum) : Combiner::Sum;
}

struct RaiseMatmul : gossamer::impl::RaiseMatmulBase<RaiseMatmul> {
  void runOnOperation() override {
    SmallVector<linalg::GenericOp> generics;
    getOperation().walk([&](linalg::GenericOp op) { generics.push_back(op); });
    for (linalg::GenericOp op : generics) {
      if (op->getNumResults() != 1)
        continue;
      Combiner combiner = takeCombiner(op);
      Contraction contraction =
          matchContraction(op.getResult(0), /*mayWiden=*/true);
      bool raised = contraction && MatmulRaiser(contraction, combiner).run();
      if (combiner != Combiner::Sum && !raised) {
        op.emitOpError() << "combines products by "
                         << stringifyCombiner(combiner)
                         << ", which is of what a sparse operand stores; it "
                            "has none with fill 0";
        return signalPassFailure();
      }
    }
  }
};

} // namespace
