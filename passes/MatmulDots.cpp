//===- MatmulDots.cpp - products with a vector ----------------------------===//
//
// y[i] = sum_k A[i, k] x[k]: lanes of a vector are entries of a row, whose
// numbers of x are gathered, or columns of a block, where they are contiguous.
// Several vectors of sums, added up when the row ends.
//
// A lane of size 1 costs nothing. Of a few other lanes (tokens of a linear
// layer: y[t, o] = sum_k x[t, k] w[o, k]) each is a product of its own.
//
//===----------------------------------------------------------------------===//

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "passes/Matmul.h"
#include "passes/Report.h"

using namespace mlir;
using namespace gossamer;

bool DotProducts::fits(const MatmulLoops &loops, const RowFormat &format) {
  // Contiguous along k, but for dimensions of size 1 behind it.
  for (AffineExpr expr : llvm::reverse(loops.denseMap.getResults())) {
    auto dim = dyn_cast<AffineDimExpr>(expr);
    if (dim && dim.getPosition() == format.summed)
      return true;
    if (dim && loops.staticSizeOfLoop(dim.getPosition()) != 1)
      return false;
  }
  return false;
}

DotProducts::DotProducts(const MatmulLoops &loops, const RowFormat &format)
    : RowProduct(loops, format) {
  // [.., k, 1] as [.., k]: contiguous where vectors are loaded.
  auto type = cast<MemRefType>(dense.getType());
  unsigned position = *denseMap.getResultPosition(
      getAffineDimExpr(format.summed, dense.getContext()));
  numDense = position + 1;
  if (numDense == type.getRank()) {
    flat = dense;
    return;
  }
  SmallVector<ReassociationIndices> groups;
  for (int64_t dim = 0; dim < type.getRank(); ++dim) {
    if (dim <= position)
      groups.emplace_back();
    groups.back().push_back(dim);
  }
  flat = memref::CollapseShapeOp::create(builder, loc, dense, groups);
}

SmallVector<Value> DotProducts::denseAt(OpBuilder &b, ValueRange loops,
                                        Value k) const {
  SmallVector<Value> point = llvm::to_vector(loops);
  point[format.summed] = k;
  SmallVector<Value> at;
  for (AffineExpr expr : denseMap.getResults().take_front(numDense)) {
    auto dim = dyn_cast<AffineDimExpr>(expr);
    at.push_back(dim ? point[dim.getPosition()] : constant(b, 0));
  }
  return at;
}

/// Entries `lanes` at once; `mask` says which there are.
Value DotProducts::sumEntries(OpBuilder &b, ValueRange loops, Value position,
                              Value sum, Value mask) const {
  Value columns = storage.coordinates(b, format.leading.size(), position,
                                      lanesOfVector, mask);
  Value values =
      loadLanes(b, loc, lanesOfVector, storage.values, position, mask);
  auto type = VectorType::get(lanesOfVector, element);
  if (!mask)
    mask = vector::ConstantMaskOp::create(
        b, loc, VectorType::get(lanesOfVector, b.getI1Type()),
        vector::ConstantMaskKind::AllTrue);
  Value none = arith::ConstantOp::create(b, loc, b.getZeroAttr(type));
  Value numbers = vector::GatherOp::create(b, loc, type, flat,
                                           denseAt(b, loops, constant(b, 0)),
                                           columns, mask, none);
  Value next = combine(b, extendTo(b, loc, values, sumType),
                       extendTo(b, loc, numbers, sumType), sum);
  // A product of nothing is 0, which a sum does not notice.
  if (combiner == Combiner::Sum || combiner == Combiner::Mean)
    return next;
  return arith::SelectOp::create(b, loc, mask, next, sum);
}

/// Chains of vectors of entries, then single vectors, then a masked one.
Value DotProducts::sumOfEntries(OpBuilder &b, const Row &row,
                                ValueRange loops) const {
  constexpr int64_t chains = 4;
  auto type = VectorType::get(lanesOfVector, sumType);
  Value zero = vector::BroadcastOp::create(b, loc, type, initialSum(b));
  auto roundDown = [&](Value count, int64_t step) -> Value {
    return arith::SubIOp::create(
        b, loc, count,
        arith::RemUIOp::create(b, loc, count, constant(b, step)));
  };
  Value count = arith::SubIOp::create(b, loc, row.last, row.first);
  Value first = row.first;
  SmallVector<Value> sums(chains, zero);
  auto emitLoop = [&](int64_t width) {
    Value last =
        addIndex(b, loc, row.first, roundDown(count, width * lanesOfVector));
    auto loop = scf::ForOp::create(b, loc, first, last,
                                   constant(b, width * lanesOfVector),
                                   ArrayRef(sums).take_front(width));
    OpBuilder in = OpBuilder::atBlockEnd(loop.getBody());
    SmallVector<Value> next;
    for (int64_t n = 0; n < width; ++n)
      next.push_back(sumEntries(in, loops,
                                addIndex(in, loc, loop.getInductionVar(),
                                         constant(in, n * lanesOfVector)),
                                loop.getRegionIterArg(n), {}));
    scf::YieldOp::create(in, loc, next);
    for (int64_t n = 0; n < width; ++n)
      sums[n] = loop.getResult(n);
    first = last;
  };
  emitLoop(chains);
  for (int64_t n = chains / 2; n > 0; n /= 2)
    for (int64_t m = 0; m < n; ++m)
      sums[m] = join(b, sums[m], sums[m + n]);
  emitLoop(1);
  Value ragged =
      arith::CmpIOp::create(b, loc, arith::CmpIPredicate::ult, first, row.last);
  auto rest = scf::IfOp::create(b, loc, type, ragged, /*withElseRegion=*/true);
  OpBuilder then = rest.getThenBodyBuilder();
  Value mask = vector::CreateMaskOp::create(
      then, loc, VectorType::get(lanesOfVector, b.getI1Type()),
      arith::SubIOp::create(then, loc, row.last, first).getResult());
  scf::YieldOp::create(then, loc,
                       sumEntries(then, loops, first, sums[0], mask));
  OpBuilder other = rest.getElseBodyBuilder();
  scf::YieldOp::create(other, loc, sums[0]);
  return rest.getResult(0);
}

/// Rows of a block, each summed in lanes that are columns.
RowProduct::Sums DotProducts::sumOfBlocks(OpBuilder &b, const Row &row,
                                          Value rowInBlock, int64_t rows,
                                          ValueRange loops) const {
  int64_t width = std::gcd(format.blockColumns, lanesOfVector);
  auto type = VectorType::get(width, sumType);
  Value zero = vector::BroadcastOp::create(b, loc, type, initialSum(b));
  auto blocks = scf::ForOp::create(b, loc, row.first, row.last, constant(b, 1),
                                   Sums(rows, zero));
  OpBuilder in = OpBuilder::atBlockEnd(blocks.getBody());
  Value block = blocks.getInductionVar();
  Value column =
      mulIndex(in, loc, storage.coordinate(in, format.leading.size(), block),
               constant(in, format.blockColumns));
  auto columns = scf::ForOp::create(
      in, loc, constant(in, 0), constant(in, format.blockColumns),
      constant(in, width), blocks.getRegionIterArgs());
  OpBuilder inner = OpBuilder::atBlockEnd(columns.getBody());
  Value c = columns.getInductionVar();
  Value numbers = extendTo(
      inner, loc,
      loadLanes(inner, loc, width, flat,
                denseAt(inner, loops, addIndex(inner, loc, column, c))),
      sumType);
  Sums next;
  for (int64_t m = 0; m < rows; ++m) {
    Value r = addIndex(inner, loc, rowInBlock, constant(inner, m));
    Value values = loadLanes(inner, loc, width, storage.values,
                             positionOf(inner, block, r, c));
    next.push_back(combine(inner, extendTo(inner, loc, values, sumType),
                           numbers, columns.getRegionIterArg(m)));
  }
  scf::YieldOp::create(inner, loc, next);
  scf::YieldOp::create(in, loc, columns.getResults());
  return llvm::to_vector_of<Value>(blocks.getResults());
}

void DotProducts::emitRow(OpBuilder &b, Value number, ValueRange lanes) const {
  Row row = enterRow(b, number);
  for (auto [loop, var] : llvm::zip(this->lanes, lanes))
    row.loops[loop] = var;
  auto store = [&](OpBuilder &at, Value sums, Value rowInBlock, int64_t m) {
    SmallVector<Value> loops = loopsOf(at, row, rowInBlock, m);
    Value sum = finish(at, row, reduce(at, sums));
    memref::StoreOp::create(at, loc, emitEpilogue(at, sum, loops), out,
                            applyMap(at, loc, resultMap, loops));
  };
  if (format.blockSize() == 1)
    return store(b, sumOfEntries(b, row, row.loops), constant(b, 0), 0);
  int64_t rows = tileRows(8);
  forEachTile(b, rows, [&](OpBuilder &at, Value rowInBlock) {
    Sums sums = sumOfBlocks(at, row, rowInBlock, rows, row.loops);
    for (int64_t m = 0; m < rows; ++m)
      store(at, sums[m], rowInBlock, m);
  });
}

void DotProducts::run(OpBuilder b) {
  Value zero = constant(b, 0), one = constant(b, 1);
  RowParts parts(b, loc, storage, format.leading.size(), numRows,
                 constant(b, format.blockSize()));
  SmallVector<Value> upper;
  for (unsigned loop : lanes)
    upper.push_back(sizeOfLoop(b, loop));
  upper.push_back(parts.count);
  auto parallel =
      scf::ParallelOp::create(b, loc, SmallVector<Value>(upper.size(), zero),
                              upper, SmallVector<Value>(upper.size(), one));
  OpBuilder in = OpBuilder::atBlockTerminator(parallel.getBody());
  SmallVector<Value> vars =
      llvm::to_vector_of<Value>(parallel.getInductionVars());
  std::pair<Value, Value> range = parts.range(in, vars.back());
  auto loop = scf::ForOp::create(in, loc, range.first, range.second, one);
  OpBuilder inner = OpBuilder::atBlockTerminator(loop.getBody());
  emitRow(inner, loop.getInductionVar(), ArrayRef(vars).drop_back());
}

bool gossamer::lowerAsDots(const MatmulLoops &loops, const RowFormat &format) {
  if (!DotProducts::fits(loops, format) ||
      !llvm::all_of(loops.lanes, [&](unsigned lane) {
        return loops.staticSizeOfLoop(lane) == 1;
      }))
    return false;
  report(loops.op, "gossamer.matmul", Road::General,
         "rows in parallel, each a sum over vectors of entries");
  DotProducts(loops, format).run(loops.builder);
  return true;
}
