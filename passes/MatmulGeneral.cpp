//===- MatmulGeneral.cpp - sparse products become level-space generics ----===//
//
// The road for every storage and every product. The sparsifier makes the loops;
// this gives it a linalg.generic over levels, in the order that they are stored
// in, with lanes innermost, which it then takes as it is (`sorted`).
//
// Where the innermost dimension of the dense operand and of the result is a
// lane, both are used in place. Else lanes are gathered into panels of a few
// vectors: a panel of x is transposed into [k][lane], the product made there,
// and transposed back behind the epilogue.
//
//===----------------------------------------------------------------------===//

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Bufferization/IR/Bufferization.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/IR/TypeUtilities.h"
#include "passes/Matmul.h"
#include "passes/Report.h"

using namespace mlir;
using namespace gossamer;
using namespace mlir::sparse_tensor;

namespace {

class GeneralProduct : MatmulLoops {
public:
  GeneralProduct(const MatmulLoops &loops, bool gpu)
      : MatmulLoops(loops), gpu(gpu) {}
  LogicalResult run();

private:
  /// How the loops of the product are split by the levels of the sparse
  /// operand: loop = level, or loop = outer * block + inner.
  struct Split {
    unsigned outer;
    std::optional<unsigned> inner;
    int64_t block = 1;
  };
  /// One panel while it is worked on: its first lane, how many lanes hold
  /// something, and the size of every loop.
  struct Panel {
    Value first, filled;
    DenseMap<unsigned, Value> sizes;
  };
  /// Gets the loops of the product, and the place in a panel.
  using PanelBody =
      llvm::function_ref<void(OpBuilder &, ValueRange, ValueRange)>;
  void splitLoops();
  void forEachInPanel(OpBuilder &b, const Panel &panel,
                      ArrayRef<unsigned> loops, PanelBody body);
  /// A buffer with dimensions `map` over the old loops, seen over the new ones.
  Value expand(OpBuilder &b, Value buffer, AffineMap map);
  AffineMap expandMap(AffineMap map);
  void emitGeneric(OpBuilder &b, Value dense, AffineMap denseLvlMap, Value out,
                   AffineMap outLvlMap, unsigned numLoops);
  void lowerInPlace();
  void lowerInPanels();
  Value zeroValue(OpBuilder &b, Type type) {
    return arith::ConstantOp::create(b, loc, b.getZeroAttr(type));
  }

  bool gpu;
  Value levels;
  DenseMap<unsigned, Split> splits;
  unsigned numLvls = 0;
};

void GeneralProduct::splitLoops() {
  auto type = getSparseTensorType(sparse);
  numLvls = type.getLvlRank();
  AffineMap dimToLvl =
      type.isIdentity()
          ? AffineMap::getMultiDimIdentityMap(numLvls, sparse.getContext())
          : type.getDimToLvl();
  for (auto [lvl, expr] : llvm::enumerate(dimToLvl.getResults())) {
    for (unsigned dim = 0; dim < type.getDimRank(); ++dim) {
      if (!expr.isFunctionOfDim(dim))
        continue;
      unsigned loop =
          cast<AffineDimExpr>(sparseMap.getResult(dim)).getPosition();
      Split &split = splits[loop];
      if (expr.getKind() == AffineExprKind::Mod) {
        split.inner = lvl;
      } else {
        split.outer = lvl;
        if (expr.getKind() == AffineExprKind::FloorDiv)
          split.block =
              cast<AffineConstantExpr>(cast<AffineBinaryOpExpr>(expr).getRHS())
                  .getValue();
      }
    }
  }

  // The sparse operand in level space: the same storage, one dimension a level.
  auto encoding = type.getEncoding();
  auto lvlEncoding = SparseTensorEncodingAttr::get(
      sparse.getContext(), encoding.getLvlTypes(),
      AffineMap::getMultiDimIdentityMap(numLvls, sparse.getContext()),
      AffineMap::getMultiDimIdentityMap(numLvls, sparse.getContext()),
      encoding.getPosWidth(), encoding.getCrdWidth());
  levels = sparse;
  if (!type.isIdentity())
    levels = ReinterpretMapOp::create(builder, loc, lvlEncoding, sparse);
}

AffineMap GeneralProduct::expandMap(AffineMap map) {
  SmallVector<AffineExpr> exprs;
  for (AffineExpr expr : map.getResults()) {
    auto dim = dyn_cast<AffineDimExpr>(expr);
    if (!dim) {
      exprs.push_back(expr);
      continue;
    }
    auto split = splits.find(dim.getPosition());
    if (split == splits.end()) {
      unsigned lane = llvm::find(lanes, dim.getPosition()) - lanes.begin();
      exprs.push_back(getAffineDimExpr(numLvls + lane, sparse.getContext()));
      continue;
    }
    exprs.push_back(getAffineDimExpr(split->second.outer, sparse.getContext()));
    if (split->second.inner)
      exprs.push_back(
          getAffineDimExpr(*split->second.inner, sparse.getContext()));
  }
  return AffineMap::get(numLvls + lanes.size(), 0, exprs, sparse.getContext());
}

Value GeneralProduct::expand(OpBuilder &b, Value buffer, AffineMap map) {
  auto type = cast<MemRefType>(buffer.getType());
  SmallVector<ReassociationIndices> groups;
  SmallVector<int64_t> shape;
  SmallVector<OpFoldResult> sizes;
  bool changed = false;
  for (auto [n, expr] : llvm::enumerate(map.getResults())) {
    auto dim = dyn_cast<AffineDimExpr>(expr);
    auto split = dim ? splits.find(dim.getPosition()) : splits.end();
    int64_t size = type.getDimSize(n);
    OpFoldResult value = b.getIndexAttr(size);
    bool blocked = split != splits.end() && split->second.inner;
    int64_t block = blocked ? split->second.block : 1;
    if (ShapedType::isDynamic(size)) {
      Value whole = memref::DimOp::create(b, loc, buffer, n);
      value = blocked ? arith::DivUIOp::create(b, loc, whole,
                                               indexConstant(b, loc, block))
                            .getResult()
                      : whole;
    } else if (blocked) {
      value = b.getIndexAttr(size / block);
    }
    groups.push_back({static_cast<int64_t>(shape.size())});
    shape.push_back(ShapedType::isDynamic(size) ? size : size / block);
    sizes.push_back(value);
    if (blocked) {
      groups.back().push_back(shape.size());
      shape.push_back(block);
      sizes.push_back(b.getIndexAttr(block));
      changed = true;
    }
  }
  if (!changed)
    return buffer;
  return memref::ExpandShapeOp::create(
      b, loc, MemRefType::get(shape, type.getElementType()), buffer, groups,
      sizes);
}

/// out += levels * dense, over the levels and then the remaining loops.
void GeneralProduct::emitGeneric(OpBuilder &b, Value denseBuffer,
                                 AffineMap denseLvlMap, Value outBuffer,
                                 AffineMap outLvlMap, unsigned numLoops) {
  auto asTensor = [&](Value buffer, bool writable) -> Value {
    auto type = cast<MemRefType>(buffer.getType());
    return bufferization::ToTensorOp::create(
        b, loc, RankedTensorType::get(type.getShape(), type.getElementType()),
        buffer, /*restrict=*/true, writable);
  };
  SmallVector<utils::IteratorType> iterators;
  for (unsigned loop = 0; loop < numLoops; ++loop)
    iterators.push_back(outLvlMap.isFunctionOfDim(loop)
                            ? utils::IteratorType::parallel
                            : utils::IteratorType::reduction);
  AffineMap sparseLvlMap = AffineMap::get(
      numLoops, 0,
      AffineMap::getMultiDimIdentityMap(numLvls, sparse.getContext())
          .getResults(),
      sparse.getContext());
  Value init = asTensor(outBuffer, true);
  auto generic = linalg::GenericOp::create(
      b, loc, init.getType(), ValueRange{levels, asTensor(denseBuffer, false)},
      init, ArrayRef<AffineMap>{sparseLvlMap, denseLvlMap, outLvlMap},
      iterators, [&](OpBuilder &in, Location l, ValueRange args) {
        Value lhs = extendTo(in, l, args[0], sumType),
              rhs = extendTo(in, l, args[1], sumType), result;
        if (isa<FloatType>(sumType))
          result = arith::AddFOp::create(
              in, l, args[2], arith::MulFOp::create(in, l, lhs, rhs));
        else
          result = arith::AddIOp::create(
              in, l, args[2], arith::MulIOp::create(in, l, lhs, rhs));
        linalg::YieldOp::create(in, l, result);
      });
  generic->setAttr("sorted", b.getBoolAttr(true));
  auto anchor = bufferization::MaterializeInDestinationOp::create(
      b, loc, generic.getResult(0), outBuffer);
  anchor.setWritable(true);
}

void GeneralProduct::lowerInPlace() {
  // Sums of another type than the result's have memory of their own.
  Value sums = out;
  auto outType = cast<MemRefType>(out.getType());
  if (sumType != outType.getElementType()) {
    SmallVector<Value> sizes;
    for (unsigned dim = 0; dim < outType.getRank(); ++dim)
      if (outType.isDynamicDim(dim))
        sizes.push_back(memref::DimOp::create(builder, loc, out, dim));
    sums = memref::AllocOp::create(builder, loc,
                                   MemRefType::get(outType.getShape(), sumType),
                                   sizes, builder.getI64IntegerAttr(64));
  }
  linalg::FillOp::create(builder, loc, zeroValue(builder, sumType), sums);
  emitGeneric(builder, expand(builder, dense, denseMap), expandMap(denseMap),
              expand(builder, sums, resultMap), expandMap(resultMap),
              numLvls + lanes.size());
  if (!op.hasEpilogue() && sums == out)
    return;
  unsigned rank = resultMap.getNumResults();
  Value zero = indexConstant(builder, loc, 0),
        one = indexConstant(builder, loc, 1);
  auto finish = [&](OpBuilder &b, ValueRange dims) {
    SmallVector<Value> loops(resultMap.getNumDims());
    for (auto [expr, dim] : llvm::zip(resultMap.getResults(), dims))
      loops[cast<AffineDimExpr>(expr).getPosition()] = dim;
    Value sum = memref::LoadOp::create(b, loc, sums, dims);
    memref::StoreOp::create(b, loc, emitEpilogue(b, sum, loops), out, dims);
  };
  // Rows in parallel, each a serial loop that vectorises; on a GPU, all.
  unsigned rows = gpu || rank == 0 ? rank : rank - 1;
  SmallVector<Value> lower(rows, zero), step(rows, one), upper, dims;
  for (unsigned dim = 0; dim < rows; ++dim)
    upper.push_back(memref::DimOp::create(builder, loc, out, dim));
  OpBuilder b = builder;
  Value last = rows < rank
                   ? memref::DimOp::create(builder, loc, out, rows).getResult()
                   : Value();
  if (rows > 0) {
    auto parallel = scf::ParallelOp::create(builder, loc, lower, upper, step);
    llvm::append_range(dims, parallel.getInductionVars());
    b = OpBuilder::atBlockTerminator(parallel.getBody());
  }
  if (rows < rank) {
    auto row = scf::ForOp::create(b, loc, zero, last, one);
    dims.push_back(row.getInductionVar());
    b = OpBuilder::atBlockTerminator(row.getBody());
  }
  finish(b, dims);
  if (sums != out)
    memref::DeallocOp::create(builder, loc, sums);
}

/// Visits the points of `loops` for every lane of a panel that holds something:
/// the last loop, which is contiguous in memory, in strips, so that both the
/// strided and the contiguous side of a transposition stay in the first-level
/// cache.
void GeneralProduct::forEachInPanel(OpBuilder &b, const Panel &panel,
                                    ArrayRef<unsigned> loops, PanelBody body) {
  constexpr int64_t strip = 16;
  Value zero = indexConstant(b, loc, 0), one = indexConstant(b, loc, 1);
  Value step = indexConstant(b, loc, strip);
  SmallVector<Value> vars(resultMap.getNumDims()), place;
  OpBuilder in = b;
  auto enter = [&](Value lower, Value upper, Value by) {
    auto loop = scf::ForOp::create(in, loc, lower, upper, by);
    in = OpBuilder::atBlockTerminator(loop.getBody());
    return loop.getInductionVar();
  };
  for (unsigned loop : loops.drop_back(loops.empty() ? 0 : 1)) {
    vars[loop] = enter(zero, panel.sizes.lookup(loop), one);
    place.push_back(vars[loop]);
  }
  Value first, last;
  if (!loops.empty()) {
    Value size = panel.sizes.lookup(loops.back());
    first = enter(zero, size, step);
    last =
        arith::MinUIOp::create(in, loc, addIndex(in, loc, first, step), size);
  }
  Value lane = enter(zero, panel.filled, one);
  Value linear = addIndex(in, loc, panel.first, lane);
  for (unsigned n = lanes.size(); n-- > 1;) {
    Value size = panel.sizes.lookup(lanes[n]);
    vars[lanes[n]] = arith::RemUIOp::create(in, loc, linear, size);
    linear = arith::DivUIOp::create(in, loc, linear, size);
  }
  if (!lanes.empty())
    vars[lanes[0]] = linear;
  if (!loops.empty()) {
    vars[loops.back()] = enter(first, last, one);
    place.push_back(vars[loops.back()]);
  }
  place.push_back(lane);
  body(in, vars, place);
}

void GeneralProduct::lowerInPanels() {
  MLIRContext *context = sparse.getContext();
  int64_t width = 4 * lanesOfVector;
  Value zero = indexConstant(builder, loc, 0),
        one = indexConstant(builder, loc, 1);
  Value wide = indexConstant(builder, loc, width);
  Panel panel;
  for (unsigned loop = 0; loop < resultMap.getNumDims(); ++loop)
    if (resultMap.isFunctionOfDim(loop) || denseMap.isFunctionOfDim(loop))
      panel.sizes[loop] = sizeOfLoop(builder, loop);
  Value total = one;
  for (unsigned lane : lanes)
    total = mulIndex(builder, loc, total, panel.sizes[lane]);
  Value numPanels = arith::CeilDivUIOp::create(builder, loc, total, wide);

  auto panels = scf::ParallelOp::create(builder, loc, zero, numPanels, one);
  OpBuilder b = OpBuilder::atBlockTerminator(panels.getBody());
  panel.first = mulIndex(b, loc, panels.getInductionVars()[0], wide);
  Value left = arith::SubIOp::create(b, loc, total, panel.first);
  panel.filled = arith::MinUIOp::create(b, loc, left, wide);

  // A panel has the operand's dimensions that are no lanes, and then the lane,
  // which counts as one more loop of the product.
  unsigned laneLoop = resultMap.getNumDims();
  auto allocate = [&](AffineMap map, Type type,
                      SmallVectorImpl<unsigned> &loops,
                      AffineMap &panelMap) -> Value {
    SmallVector<int64_t> shape;
    SmallVector<Value> sizes;
    SmallVector<AffineExpr> exprs;
    for (AffineExpr expr : map.getResults()) {
      auto dim = dyn_cast<AffineDimExpr>(expr);
      if (!dim || isLane(dim.getPosition()))
        continue;
      loops.push_back(dim.getPosition());
      exprs.push_back(expr);
      shape.push_back(ShapedType::kDynamic);
      sizes.push_back(panel.sizes[dim.getPosition()]);
    }
    exprs.push_back(getAffineDimExpr(laneLoop, context));
    shape.push_back(width);
    panelMap = AffineMap::get(laneLoop + 1, 0, exprs, context);
    return memref::AllocOp::create(b, loc, MemRefType::get(shape, type), sizes,
                                   b.getI64IntegerAttr(64));
  };
  SmallVector<unsigned> denseLoops, outLoops;
  AffineMap inMap, sumMap;
  Value in = allocate(denseMap, element, denseLoops, inMap);
  Value sums = allocate(resultMap, sumType, outLoops, sumMap);

  // Lanes of the last panel that hold nothing are zero, so that they need no
  // care.
  auto ragged =
      scf::IfOp::create(b, loc,
                        arith::CmpIOp::create(b, loc, arith::CmpIPredicate::ult,
                                              panel.filled, wide),
                        /*withElseRegion=*/false);
  OpBuilder then = ragged.getThenBodyBuilder();
  linalg::FillOp::create(then, loc, zeroValue(then, element), in);
  forEachInPanel(b, panel, denseLoops,
                 [&](OpBuilder &at, ValueRange vars, ValueRange place) {
                   Value value = loadAt(at, loc, dense, denseMap, vars);
                   memref::StoreOp::create(at, loc, value, in, place);
                 });
  linalg::FillOp::create(b, loc, zeroValue(b, sumType), sums);
  SmallVector<unsigned> gathered{laneLoop};
  std::swap(lanes, gathered);
  emitGeneric(b, expand(b, in, inMap), expandMap(inMap),
              expand(b, sums, sumMap), expandMap(sumMap), numLvls + 1);
  std::swap(lanes, gathered);
  forEachInPanel(b, panel, outLoops,
                 [&](OpBuilder &at, ValueRange vars, ValueRange place) {
                   Value sum = memref::LoadOp::create(at, loc, sums, place);
                   memref::StoreOp::create(at, loc, emitEpilogue(at, sum, vars),
                                           out,
                                           applyMap(at, loc, resultMap, vars));
                 });
  memref::DeallocOp::create(b, loc, in);
  memref::DeallocOp::create(b, loc, sums);
}

LogicalResult GeneralProduct::run() {
  if (combiner != Combiner::Sum)
    return op.emitOpError()
           << "combines products by " << stringifyCombiner(combiner)
           << ", which needs storage by rows; its sparse operand is stored as "
           << cast<RankedTensorType>(sparse.getType()).getEncoding();
  splitLoops();
  bool contiguous = lastLoop(denseMap) &&
                    lastLoop(denseMap) == lastLoop(resultMap) &&
                    isLane(*lastLoop(denseMap));
  // Sums of another type than the result's cannot be held there.
  bool sameType = sumType == getElementTypeOrSelf(out);
  // A panel's sums are over what the sparse operand has; a dimension that only
  // the dense one has, and not the result, is summed in place.
  bool summedLane = llvm::any_of(
      lanes, [&](unsigned lane) { return !resultMap.isFunctionOfDim(lane); });
  if (summedLane && !sameType)
    return op.emitOpError(
        "sums over a dimension of its dense operand alone, and "
        "changes the type; do one after the other");
  if (gpu || ((contiguous || lanes.empty() || summedLane) && sameType)) {
    report(op, "gossamer.matmul", Road::General,
           gpu ? "GPU: MLIR's sparsifier, a thread for an outer iteration"
               : "MLIR's sparsifier, rows in parallel");
    lowerInPlace();
  } else {
    report(op, "gossamer.matmul", Road::General,
           "MLIR's sparsifier, on transposed panels of " +
               Twine(4 * lanesOfVector) + " lanes in parallel");
    lowerInPanels();
  }
  return success();
}

} // namespace

LogicalResult gossamer::lowerGenerally(const MatmulLoops &loops, bool gpu) {
  return GeneralProduct(loops, gpu).run();
}
