//===- LowerContract.cpp - products of several tensors, in level space ----===//
//
// The sparsifier makes the loops of a linalg.generic over levels. What it is
// given decides their order: here an order in which every sparse operand is
// stored, so that nothing is searched for, with the loops that only dense
// operands have innermost.
//
//===----------------------------------------------------------------------===//

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Bufferization/IR/Bufferization.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/IR/TypeUtilities.h"
#include "passes/Passes.h"
#include "passes/Report.h"
#include "passes/Storage.h"

namespace gossamer {
#define GEN_PASS_DEF_LOWERCONTRACT
#include "passes/Passes.h.inc"
} // namespace gossamer

using namespace mlir;
using namespace gossamer;
using namespace mlir::sparse_tensor;

namespace {

class ContractLowering {
public:
  explicit ContractLowering(ContractOp op)
      : op(op), builder(op), loc(op.getLoc()), maps(op.getMaps()) {}
  LogicalResult run();

private:
  /// A loop of the product, or of one that is blocked the loop over blocks
  /// (inner is false) or within one.
  struct Part {
    unsigned loop;
    bool inner;
    bool operator==(const Part &other) const {
      return loop == other.loop && inner == other.inner;
    }
  };
  LogicalResult findParts();
  LogicalResult orderParts();
  AffineExpr placeOf(Part part) {
    return getAffineDimExpr(llvm::find(order, part) - order.begin(),
                            op.getContext());
  }
  /// A dense buffer and its map over the ordered parts.
  std::pair<Value, AffineMap> split(Value buffer, AffineMap map);
  Value inLevels(Value sparse);
  Value asTensor(Value buffer, bool writable);

  ContractOp op;
  OpBuilder builder;
  Location loc;
  SmallVector<AffineMap> maps;
  DenseMap<unsigned, int64_t> blocks;    // of the loops that are blocked
  SmallVector<SmallVector<Part>> levels; // of the sparse operands
  SmallVector<Part> order;
};

LogicalResult ContractLowering::findParts() {
  llvm::SmallDenseSet<unsigned> seen;
  for (auto [input, map] : llvm::zip(op.getInputs(), maps)) {
    if (!getSparseTensorEncoding(input.getType()))
      continue;
    auto type = getSparseTensorType(input);
    AffineMap dimToLvl =
        type.isIdentity() ? AffineMap::getMultiDimIdentityMap(type.getLvlRank(),
                                                              op.getContext())
                          : type.getDimToLvl();
    levels.emplace_back();
    for (AffineExpr expr : dimToLvl.getResults()) {
      AffineExpr dim = expr;
      int64_t block = 1;
      if (auto binary = dyn_cast<AffineBinaryOpExpr>(expr)) {
        dim = binary.getLHS();
        block = cast<AffineConstantExpr>(binary.getRHS()).getValue();
      }
      unsigned loop = cast<AffineDimExpr>(
                          map.getResult(cast<AffineDimExpr>(dim).getPosition()))
                          .getPosition();
      bool inner = expr.getKind() == AffineExprKind::Mod;
      auto [it, isNew] = blocks.try_emplace(loop, block);
      if (it->second != block)
        return op.emitOpError()
               << "has operands of different blocks, " << it->second << " and "
               << block << ", along loop d" << loop
               << "; gossamer-choose-formats makes them alike";
      levels.back().push_back({loop, inner});
    }
  }
  return success();
}

LogicalResult ContractLowering::orderParts() {
  // The order in which parts are taken where there is a choice.
  SmallVector<Part> parts;
  auto add = [&](Part part) {
    if (!llvm::is_contained(parts, part))
      parts.push_back(part);
  };
  for (auto &sequence : levels)
    for (Part part : sequence)
      add(part);
  AffineMap result = op.getResultMap();
  for (unsigned loop = 0; loop < result.getNumDims(); ++loop)
    if (!blocks.contains(loop) && !result.isFunctionOfDim(loop))
      add({loop, false});
  for (AffineExpr expr : result.getResults()) {
    unsigned loop = cast<AffineDimExpr>(expr).getPosition();
    if (!blocks.contains(loop))
      add({loop, false});
  }
  auto isReady = [&](Part part) {
    return llvm::all_of(levels, [&](ArrayRef<Part> sequence) {
      auto before = sequence.take_until([&](Part p) { return p == part; });
      return before.size() == sequence.size() ||
             llvm::all_of(before,
                          [&](Part p) { return llvm::is_contained(order, p); });
    });
  };
  while (order.size() < parts.size()) {
    auto next = llvm::find_if(parts, [&](Part part) {
      return !llvm::is_contained(order, part) && isReady(part);
    });
    if (next == parts.end())
      return op.emitOpError("has sparse operands whose levels are in no common "
                            "order; gossamer-choose-formats makes them alike");
    order.push_back(*next);
  }
  return success();
}

std::pair<Value, AffineMap> ContractLowering::split(Value buffer,
                                                    AffineMap map) {
  auto type = cast<MemRefType>(buffer.getType());
  SmallVector<AffineExpr> exprs;
  // Dimensions that are read at 0 go: they join the one before or after them.
  SmallVector<ReassociationIndices> joined;
  ReassociationIndices units;
  SmallVector<AffineExpr> kept;
  for (auto [dim, expr] : llvm::enumerate(map.getResults())) {
    units.push_back(dim);
    if (isa<AffineConstantExpr>(expr))
      continue;
    joined.push_back(units);
    units.clear();
    kept.push_back(expr);
  }
  if (!joined.empty())
    llvm::append_range(joined.back(), units);
  if (kept.size() < map.getNumResults()) {
    buffer = memref::CollapseShapeOp::create(builder, loc, buffer, joined);
    type = cast<MemRefType>(buffer.getType());
  }
  // Blocked dimensions become two.
  SmallVector<ReassociationIndices> groups;
  SmallVector<int64_t> shape;
  SmallVector<OpFoldResult> sizes;
  for (auto [dim, expr] : llvm::enumerate(kept)) {
    unsigned loop = cast<AffineDimExpr>(expr).getPosition();
    int64_t size = type.getDimSize(dim), block = blocks.lookup(loop);
    OpFoldResult whole = builder.getIndexAttr(size);
    if (ShapedType::isDynamic(size))
      whole = memref::DimOp::create(builder, loc, buffer, dim).getResult();
    groups.push_back({static_cast<int64_t>(shape.size())});
    exprs.push_back(placeOf({loop, false}));
    if (block <= 1) {
      shape.push_back(size);
      sizes.push_back(whole);
      continue;
    }
    if (auto value = dyn_cast<Value>(whole))
      sizes.push_back(arith::DivUIOp::create(builder, loc, value,
                                             indexConstant(builder, loc, block))
                          .getResult());
    else
      sizes.push_back(builder.getIndexAttr(size / block));
    sizes.push_back(builder.getIndexAttr(block));
    groups.back().push_back(shape.size() + 1);
    shape.append({ShapedType::isDynamic(size) ? size : size / block, block});
    exprs.push_back(placeOf({loop, true}));
  }
  if (shape.size() > kept.size())
    buffer = memref::ExpandShapeOp::create(
        builder, loc, MemRefType::get(shape, type.getElementType()), buffer,
        groups, sizes);
  return {buffer, AffineMap::get(order.size(), 0, exprs, op.getContext())};
}

/// The same storage, one dimension a level.
Value ContractLowering::inLevels(Value sparse) {
  auto type = getSparseTensorType(sparse);
  if (type.isIdentity())
    return sparse;
  auto encoding = type.getEncoding();
  AffineMap identity =
      AffineMap::getMultiDimIdentityMap(type.getLvlRank(), op.getContext());
  return ReinterpretMapOp::create(
      builder, loc,
      SparseTensorEncodingAttr::get(op.getContext(), encoding.getLvlTypes(),
                                    identity, identity, encoding.getPosWidth(),
                                    encoding.getCrdWidth()),
      sparse);
}

Value ContractLowering::asTensor(Value buffer, bool writable) {
  auto type = cast<MemRefType>(buffer.getType());
  return bufferization::ToTensorOp::create(
      builder, loc,
      RankedTensorType::get(type.getShape(), type.getElementType()), buffer,
      /*restrict=*/true, writable);
}

LogicalResult ContractLowering::run() {
  if (failed(findParts()) || failed(orderParts()))
    return failure();
  Type element = getElementTypeOrSelf(op.getResult());
  Value out = destination(builder, loc, op.getInit());
  linalg::FillOp::create(
      builder, loc,
      arith::ConstantOp::create(builder, loc, builder.getZeroAttr(element))
          .getResult(),
      out);
  SmallVector<Value> inputs;
  SmallVector<AffineMap> newMaps;
  ArrayRef<SmallVector<Part>> sequences = levels;
  for (auto [input, map] : llvm::zip(op.getInputs(), maps)) {
    if (getSparseTensorEncoding(input.getType())) {
      SmallVector<AffineExpr> exprs;
      for (Part part : sequences.front())
        exprs.push_back(placeOf(part));
      sequences = sequences.drop_front();
      inputs.push_back(inLevels(input));
      newMaps.push_back(
          AffineMap::get(order.size(), 0, exprs, op.getContext()));
      continue;
    }
    auto [buffer, newMap] =
        split(toBuffer(builder, loc, input, /*readOnly=*/true), map);
    inputs.push_back(asTensor(buffer, /*writable=*/false));
    newMaps.push_back(newMap);
  }
  auto [outBuffer, outMap] = split(out, op.getResultMap());
  newMaps.push_back(outMap);
  SmallVector<utils::IteratorType> iterators;
  for (unsigned loop = 0; loop < order.size(); ++loop)
    iterators.push_back(outMap.isFunctionOfDim(loop)
                            ? utils::IteratorType::parallel
                            : utils::IteratorType::reduction);
  Value init = asTensor(outBuffer, /*writable=*/true);
  auto generic = linalg::GenericOp::create(
      builder, loc, init.getType(), inputs, init, newMaps, iterators,
      [&](OpBuilder &b, Location l, ValueRange args) {
        Value product;
        for (Value factor : args.drop_back()) {
          if (factor.getType() != element)
            factor = arith::ExtFOp::create(b, l, element, factor);
          if (!product)
            product = factor;
          else if (isa<FloatType>(element))
            product = arith::MulFOp::create(b, l, product, factor);
          else
            product = arith::MulIOp::create(b, l, product, factor);
        }
        Value sum;
        if (isa<FloatType>(element))
          sum = arith::AddFOp::create(b, l, args.back(), product);
        else
          sum = arith::AddIOp::create(b, l, args.back(), product);
        linalg::YieldOp::create(b, l, sum);
      });
  generic->setAttr("sorted", builder.getBoolAttr(true));
  auto anchor = bufferization::MaterializeInDestinationOp::create(
      builder, loc, generic.getResult(0), outBuffer);
  anchor.setWritable(true);
  report(op, "gossamer.contract", Road::General,
         "MLIR's sparsifier, in the order of the storage");
  Value result = bufferization::ToTensorOp::create(
      builder, loc, op.getResult().getType(), out, /*restrict=*/true,
      /*writable=*/true);
  op.getResult().replaceAllUsesWith(result);
  op.erase();
  return success();
}

struct LowerContract : gossamer::impl::LowerContractBase<LowerContract> {
  void runOnOperation() override {
    SmallVector<ContractOp> ops;
    getOperation().walk([&](ContractOp op) { ops.push_back(op); });
    for (ContractOp op : ops)
      if (failed(ContractLowering(op).run()))
        return signalPassFailure();
  }
};

} // namespace
