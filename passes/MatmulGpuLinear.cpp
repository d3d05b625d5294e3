//===- MatmulGpuLinear.cpp - y[t, o] = sum_k x[t, k] w[o, k] --------------===//
//
// Entries of a row of `w` want rows of x that they could read side by side; in
// memory these are columns. A copy of `x` that is turned over costs one reading
// of it, and then the product is one like others, but for what is stored.
//
//===----------------------------------------------------------------------===//

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "passes/GpuLanes.h"
#include "passes/MatmulGpu.h"

using namespace mlir;
using namespace gossamer;

/// Tokens up to which dot products with them cost less than the copy.
static constexpr int64_t fewTokens = 4;

std::optional<unsigned> GpuProduct::lanesInColumns() const {
  if (!isLinear(*this, format) || !isVectorizable(*body))
    return {};
  // The last before the summed one: the copy's rows are the longest then.
  for (AffineExpr expr : llvm::reverse(denseMap.getResults().drop_back())) {
    auto dim = dyn_cast<AffineDimExpr>(expr);
    if (dim && isLane(dim.getPosition()))
      return dim.getPosition();
  }
  return {};
}

void GpuProduct::turnOver(OpBuilder &at, unsigned lane, Value copy,
                          AffineMap map) {
  // Neighbours read 16 bytes of neighbouring rows, and store side by side.
  auto emit = [&](OpBuilder b, int64_t width) {
    SmallVector<Value> upper;
    for (unsigned dim = 0; dim < map.getNumResults(); ++dim)
      upper.push_back(memref::DimOp::create(b, loc, copy, dim));
    Value &summed = upper[upper.size() - 2];
    summed = arith::DivUIOp::create(b, loc, summed, constant(b, width));
    auto loop = scf::ParallelOp::create(
        b, loc, SmallVector<Value>(upper.size(), constant(b, 0)), upper,
        SmallVector<Value>(upper.size(), constant(b, 1)));
    OpBuilder in = OpBuilder::atBlockTerminator(loop.getBody());
    LanePoints points{SmallVector<Value>(map.getNumDims()), format.summed,
                      width, Value()};
    for (auto [expr, var] :
         llvm::zip(map.getResults(), loop.getInductionVars()))
      if (auto dim = dyn_cast<AffineDimExpr>(expr))
        points.loops[dim.getPosition()] = var;
    Value &first = points.loops[format.summed];
    first = mulIndex(in, loc, first, constant(in, width));
    Value numbers = loadPoints(in, loc, dense, denseMap, points);
    storePoints(in, loc, numbers, copy, map, points);
  };
  int64_t count = vectorLength();
  auto aligned = scf::IfOp::create(at, loc, isAligned(at, format.summed, count),
                                   /*withElseRegion=*/true);
  emit(aligned.getThenBodyBuilder(), count);
  emit(aligned.getElseBodyBuilder(), 1);
  dense = copy;
  denseMap = map;
}

void GpuProduct::asLinear(unsigned lane) {
  // Temporaries stand before all conditions.
  MLIRContext *context = builder.getContext();
  SmallVector<AffineExpr> exprs;
  SmallVector<Value> sizes;
  for (auto [dim, expr] : llvm::enumerate(denseMap.getResults())) {
    if (expr == getAffineDimExpr(lane, context))
      continue;
    exprs.push_back(expr);
    sizes.push_back(memref::DimOp::create(builder, loc, dense, dim));
  }
  exprs.push_back(getAffineDimExpr(lane, context));
  sizes.push_back(sizeOfLoop(builder, lane));
  Value copy = memref::AllocOp::create(
      builder, loc,
      MemRefType::get(SmallVector<int64_t>(sizes.size(), ShapedType::kDynamic),
                      element),
      sizes, builder.getI64IntegerAttr(64));
  bool isBlocked = format.blockSize() > 1;
  std::optional<Pieces> pieces;
  if (!isBlocked)
    pieces = planRows(lane);

  Value isFew =
      arith::CmpIOp::create(builder, loc, arith::CmpIPredicate::ule,
                            countLanes(builder), constant(builder, fewTokens));
  auto few = scf::IfOp::create(builder, loc, isFew, /*withElseRegion=*/true);
  OpBuilder then = few.getThenBodyBuilder();
  if (isBlocked)
    emitBlockDots(then);
  else
    emitDots(then, nullptr, warpSize);
  OpBuilder otherwise = few.getElseBodyBuilder();
  turnOver(otherwise, lane, copy,
           AffineMap::get(denseMap.getNumDims(), 0, exprs, context));
  if (isBlocked)
    inBlocks(otherwise, lane);
  else
    inRows(otherwise, lane, pieces);
}
