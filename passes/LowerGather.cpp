//===- LowerGather.cpp - values moved to another storage ------------------===//

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "passes/Report.h"
#include "passes/SharedPattern.h"
#include "passes/StoredOps.h"

using namespace mlir;
using namespace gossamer;
using sparse_tensor::getSparseTensorEncoding;

namespace {

/// Loops over the entries of a block in the order of one storage, with their
/// places in both.
class BlockLoops {
public:
  BlockLoops(ArrayRef<AffineExpr> ours, ArrayRef<AffineExpr> theirs,
             ArrayRef<Value> sizes)
      : ours(ours), theirs(theirs), sizes(sizes) {}

  /// Number of entries in a block.
  Value count(OpBuilder &b, Location loc) const {
    Value product = indexConstant(b, loc, 1);
    for (Value size : sizes)
      product = mulIndex(b, loc, product, size);
    return product;
  }

  using Body = llvm::function_ref<void(OpBuilder &, Value, Value)>;
  void forEach(OpBuilder &b, Location loc, Body body) const {
    SmallVector<Value> variables;
    enter(b, loc, variables, body);
  }

private:
  void enter(OpBuilder &b, Location loc, SmallVectorImpl<Value> &variables,
             Body body) const {
    unsigned lvl = variables.size();
    if (lvl == ours.size()) {
      body(b, linear(b, loc, ours, variables),
           linear(b, loc, theirs, variables));
      return;
    }
    auto loop = scf::ForOp::create(b, loc, indexConstant(b, loc, 0), sizes[lvl],
                                   indexConstant(b, loc, 1));
    OpBuilder inner = OpBuilder::atBlockTerminator(loop.getBody());
    variables.push_back(loop.getInductionVar());
    enter(inner, loc, variables, body);
  }

  /// The place in a block whose levels are `order`.
  Value linear(OpBuilder &b, Location loc, ArrayRef<AffineExpr> order,
               ArrayRef<Value> variables) const {
    Value place = indexConstant(b, loc, 0);
    for (AffineExpr expr : order) {
      unsigned lvl = llvm::find(ours, expr) - ours.begin();
      place =
          addIndex(b, loc, mulIndex(b, loc, place, sizes[lvl]), variables[lvl]);
    }
    return place;
  }

  ArrayRef<AffineExpr> ours, theirs;
  ArrayRef<Value> sizes;
};

} // namespace

LogicalResult gossamer::lowerGather(GatherOp op) {
  auto index = op.getIndex().getDefiningOp<StorageIndexOp>();
  if (!index || !samePattern(op.getSource(), index.getSource()))
    return op.emitOpError("needs an index that gossamer.storage_index made of "
                          "the pattern of the source");
  OpBuilder builder(op);
  Location loc = op.getLoc();
  report(op, "gossamer.gather", Road::General,
         op.isByBlock() ? "block by block" : "entry by entry");
  Storage storage(builder, loc, op.getIndex());
  auto ours = blockLevels(getSparseTensorEncoding(op.getResult().getType()));
  auto theirs = blockLevels(getSparseTensorEncoding(op.getSource().getType()));
  if (ours.empty())
    theirs.clear();
  SmallVector<Value> sizes;
  unsigned first = storage.type.getLvlRank() - ours.size();
  for (unsigned lvl = 0; lvl < ours.size(); ++lvl)
    sizes.push_back(storage.lvlSize(first + lvl));
  BlockLoops block(ours, theirs, sizes);
  Value source =
      sparse_tensor::ToValuesOp::create(builder, loc, op.getSource());
  Value perBlock = block.count(builder, loc);
  Value zero = indexConstant(builder, loc, 0),
        one = indexConstant(builder, loc, 1);
  Value count = memref::DimOp::create(builder, loc, storage.values, 0);
  Value out = makeValuesOfSize(builder, loc, op.getResult(),
                               mulIndex(builder, loc, count, perBlock));
  auto loop = scf::ParallelOp::create(builder, loc, zero, count, one);
  OpBuilder b = OpBuilder::atBlockTerminator(loop.getBody());
  Value node = loop.getInductionVars()[0];
  Value place = loadIndex(b, loc, storage.values, node);
  Value to = mulIndex(b, loc, node, perBlock);
  Value from = mulIndex(b, loc, place, perBlock);
  block.forEach(b, loc, [&](OpBuilder &in, Value our, Value their) {
    Value value =
        memref::LoadOp::create(in, loc, source, addIndex(in, loc, from, their));
    memref::StoreOp::create(in, loc, value, out, addIndex(in, loc, to, our));
  });
  replaceWithValues(builder, op, op.getIndex(), out);
  return success();
}
