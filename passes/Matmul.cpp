//===- Matmul.cpp - what the roads of gossamer.matmul share ---------------===//

#include "passes/Matmul.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Bufferization/IR/Bufferization.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "mlir/IR/TypeUtilities.h"

using namespace mlir;
using namespace gossamer;
using namespace mlir::sparse_tensor;

MatmulLoops::MatmulLoops(MatmulOp op, unsigned vectorBytes)
    : op(op), builder(op), loc(op.getLoc()), sparseMap(op.getSparseMap()),
      denseMap(op.getDenseMap()), resultMap(op.getResultMap()),
      element(getElementTypeOrSelf(op.getSparse())), sumType(op.getSumType()),
      sparse(op.getSparse()),
      extraMaps(ArrayRef(op.getMaps()).drop_front(2).drop_back()),
      body(&op.getBlock()), combiner(op.getCombiner()) {
  lanesOfVector = vectorBytes * 8 / sumType.getIntOrFloatBitWidth();
  // Half of the registers: 32 of AVX-512, 16 of what came before.
  accumulators = vectorBytes == 64 ? 16 : 8;
  dense = toBuffer(builder, loc, op.getDense(), true);
  out = destination(builder, loc, op.getInit());
  for (Value operand : op.getExtras())
    extras.push_back(toBuffer(builder, loc, operand, true));
  for (unsigned loop = 0; loop < resultMap.getNumDims(); ++loop)
    if (isLane(loop))
      lanes.push_back(loop);
}

Value MatmulLoops::sizeOfLoop(OpBuilder &b, unsigned loop) const {
  AffineExpr expr = getAffineDimExpr(loop, sparse.getContext());
  if (auto dim = resultMap.getResultPosition(expr))
    return memref::DimOp::create(b, loc, out, *dim);
  return memref::DimOp::create(b, loc, dense,
                               *denseMap.getResultPosition(expr));
}

int64_t MatmulLoops::staticSizeOfLoop(unsigned loop) const {
  AffineExpr expr = getAffineDimExpr(loop, sparse.getContext());
  auto sizeIn = [&](Value operand, AffineMap map) {
    auto dim = map.getResultPosition(expr);
    return dim ? cast<ShapedType>(operand.getType()).getDimSize(*dim)
               : ShapedType::kDynamic;
  };
  int64_t size = sizeIn(out, resultMap);
  if (ShapedType::isDynamic(size))
    size = sizeIn(dense, denseMap);
  return ShapedType::isDynamic(size) ? sizeIn(sparse, sparseMap) : size;
}

Value MatmulLoops::countLanes(OpBuilder &b) const {
  Value count = constant(b, 1);
  for (unsigned lane : lanes)
    count = mulIndex(b, loc, count, sizeOfLoop(b, lane));
  return count;
}

void MatmulLoops::setLanes(OpBuilder &b, SmallVectorImpl<Value> &loops,
                           Value linear) const {
  for (unsigned n = lanes.size(); n-- > 1;) {
    Value size = sizeOfLoop(b, lanes[n]);
    loops[lanes[n]] = arith::RemUIOp::create(b, loc, linear, size);
    linear = arith::DivUIOp::create(b, loc, linear, size);
  }
  if (!lanes.empty())
    loops[lanes[0]] = linear;
}

std::optional<unsigned> MatmulLoops::lastLoop(AffineMap map) {
  if (map.getNumResults() == 0)
    return {};
  if (auto dim = dyn_cast<AffineDimExpr>(map.getResults().back()))
    return dim.getPosition();
  return {};
}

Value MatmulLoops::emitEpilogue(OpBuilder &b, Value sum,
                                ValueRange loops) const {
  SmallVector<Value> args{sum};
  for (auto [buffer, map] : llvm::zip(extras, extraMaps))
    args.push_back(loadAt(b, loc, buffer, map, loops));
  return inlineBody(b, *body, args, applyMap(b, loc, resultMap, loops));
}

void MatmulLoops::storeSums(OpBuilder &b, Value sums,
                            const LanePoints &points) const {
  SmallVector<Value> args{sums};
  for (auto [buffer, map] : llvm::zip(extras, extraMaps))
    args.push_back(loadPoints(b, loc, buffer, map, points));
  Value value = inlineOnVectors(b, loc, *body, args, resultMap, points);
  storePoints(b, loc, value, out, resultMap, points);
}

std::optional<RowFormat> RowFormat::match(const MatmulLoops &loops) {
  auto type = getSparseTensorType(loops.sparse);
  unsigned numLvls = type.getLvlRank();
  AffineMap dimToLvl = type.isIdentity()
                           ? AffineMap::getMultiDimIdentityMap(
                                 numLvls, loops.sparse.getContext())
                           : type.getDimToLvl();
  // The loop of a level, and c where it is d floordiv c or d mod c.
  auto loopOf = [&](unsigned lvl) {
    AffineExpr expr = dimToLvl.getResult(lvl);
    for (unsigned dim = 0; dim < type.getDimRank(); ++dim)
      if (expr.isFunctionOfDim(dim))
        return cast<AffineDimExpr>(loops.sparseMap.getResult(dim))
            .getPosition();
    llvm_unreachable("a level without a dimension");
  };
  auto blockOf = [&](unsigned lvl) -> int64_t {
    auto binary = dyn_cast<AffineBinaryOpExpr>(dimToLvl.getResult(lvl));
    return binary ? cast<AffineConstantExpr>(binary.getRHS()).getValue() : 1;
  };
  auto isInner = [&](unsigned lvl) {
    return dimToLvl.getResult(lvl).getKind() == AffineExprKind::Mod;
  };

  // What only the dense operand has, and not the result, is no lane of a row.
  if (llvm::any_of(loops.lanes, [&](unsigned lane) {
        return !loops.resultMap.isFunctionOfDim(lane);
      }))
    return {};
  RowFormat format;
  unsigned lvl = 0;
  for (; lvl < numLvls && type.isDenseLvl(lvl) && !isInner(lvl); ++lvl)
    format.leading.push_back(loopOf(lvl));
  if (lvl == 0 || lvl == numLvls || !type.isCompressedLvl(lvl))
    return {};
  format.row = format.leading.back();
  format.summed = loopOf(lvl);
  // Leading levels are the result's, but for those of one row that nothing else
  // has.
  for (unsigned loop : format.leading)
    if (!loops.resultMap.isFunctionOfDim(loop) &&
        (loop == format.row || loops.staticSizeOfLoop(loop) != 1 ||
         loops.denseMap.isFunctionOfDim(loop)))
      return {};
  if (loops.resultMap.isFunctionOfDim(format.summed) ||
      !loops.denseMap.isFunctionOfDim(format.summed))
    return {};
  // Only the last two levels of rows and columns are blocked, and so are both
  // where one is: (row, column) inside, or one of them.
  for (unsigned n = 0; n + 1 < lvl; ++n)
    if (blockOf(n) != 1)
      return {};
  int64_t rows = blockOf(lvl - 1), columns = blockOf(lvl);
  unsigned inner = lvl + 1;
  if (inner < numLvls && isInner(inner) && loopOf(inner) == format.row)
    format.blockRows = blockOf(inner++);
  if (inner < numLvls && isInner(inner) && loopOf(inner) == format.summed)
    format.blockColumns = blockOf(inner++);
  if (inner != numLvls || format.blockRows != rows ||
      format.blockColumns != columns)
    return {};
  for (unsigned n = lvl + 1; n < numLvls; ++n)
    if (!type.isDenseLvl(n))
      return {};
  return format;
}

bool gossamer::isLinear(const MatmulLoops &loops, const RowFormat &format) {
  return !loops.lanes.empty() &&
         loops.lastLoop(loops.denseMap) == format.summed &&
         loops.lastLoop(loops.resultMap) == format.row;
}

RowProduct::RowProduct(const MatmulLoops &loops, const RowFormat &format)
    : MatmulLoops(loops), format(format), storage(builder, loc, sparse) {
  numRows = constant(builder, 1);
  for (unsigned lvl = 0; lvl < format.leading.size(); ++lvl)
    numRows = mulIndex(builder, loc, numRows, storage.lvlSize(lvl));
}

RowProduct::Row RowProduct::enterRow(OpBuilder &b, Value row) const {
  Row result;
  result.loops.resize(resultMap.getNumDims());
  unsigned compressed = format.leading.size();
  std::tie(result.first, result.last) = storage.segment(b, compressed, row);
  Value linear = row;
  for (unsigned lvl = compressed; lvl-- > 0;) {
    Value place = linear;
    if (lvl > 0) {
      place = arith::RemUIOp::create(b, loc, linear, storage.lvlSize(lvl));
      linear = arith::DivUIOp::create(b, loc, linear, storage.lvlSize(lvl));
    }
    result.loops[format.leading[lvl]] = place;
  }
  result.loops[format.row] =
      mulIndex(b, loc, result.loops[format.row], constant(b, format.blockRows));
  return result;
}

SmallVector<Value> RowProduct::loopsOf(OpBuilder &b, const Row &row,
                                       Value rowInBlock, int64_t m) const {
  SmallVector<Value> loops(row.loops);
  Value at = addIndex(b, loc, rowInBlock, constant(b, m));
  loops[format.row] = addIndex(b, loc, loops[format.row], at);
  return loops;
}

Value RowProduct::positionOf(OpBuilder &b, Value block, Value row,
                             Value column) const {
  Value at = mulIndex(b, loc, block, constant(b, format.blockSize()));
  at = addIndex(b, loc, at,
                mulIndex(b, loc, row, constant(b, format.blockColumns)));
  return addIndex(b, loc, at, column);
}

void RowProduct::forEachTile(
    OpBuilder &b, int64_t rows,
    llvm::function_ref<void(OpBuilder &, Value)> body) const {
  if (rows == format.blockRows) {
    body(b, constant(b, 0));
    return;
  }
  auto loop = scf::ForOp::create(
      b, loc, constant(b, 0), constant(b, format.blockRows), constant(b, rows));
  OpBuilder in = OpBuilder::atBlockTerminator(loop.getBody());
  body(in, loop.getInductionVar());
}

int64_t RowProduct::tileRows(int64_t limit) const {
  int64_t rows = std::min(limit, format.blockRows);
  while (format.blockRows % rows != 0)
    --rows;
  return rows;
}

/// Entries that are summed at once where the tile alone would leave the
/// processor waiting for the sum before.
static int64_t unrolledEntries(TileShape shape) {
  constexpr int64_t chains = 4;
  return std::max<int64_t>(1, chains / (shape.rows * shape.vectors));
}

RowProduct::Sums
RowProduct::stepTile(OpBuilder &b, const RegisterTile &tile, Value k,
                     ValueRange sums, RegisterTile::LoadScalar loadValue,
                     RegisterTile::LoadVector loadDense) const {
  if (combiner == Combiner::Sum || combiner == Combiner::Mean)
    return tile.step(b, k, sums, loadValue, loadDense);
  const TileShape &shape = tile.getShape();
  SmallVector<Value> columns;
  for (int64_t n = 0; n < shape.vectors; ++n)
    columns.push_back(extendTo(b, loc, loadDense(b, n, k), sumType));
  Sums result;
  for (int64_t m = 0; m < shape.rows; ++m) {
    Value value = vector::BroadcastOp::create(
        b, loc, tile.getVectorType(),
        extendTo(b, loc, loadValue(b, m, k), sumType));
    for (int64_t n = 0; n < shape.vectors; ++n)
      result.push_back(
          combine(b, value, columns[n], sums[m * shape.vectors + n]));
  }
  return result;
}

RowProduct::Sums RowProduct::sumRow(OpBuilder &b, const Row &row,
                                    Value rowInBlock, TileShape shape,
                                    LoadDense load) const {
  RegisterTile tile(loc, shape, sumType);
  unsigned compressed = format.leading.size();
  auto sumBlock = [&](OpBuilder &in, Value block, ValueRange sums) -> Sums {
    Value column = mulIndex(in, loc, storage.coordinate(in, compressed, block),
                            constant(in, format.blockColumns));
    auto loadValue = [&](OpBuilder &at, int64_t m, Value k) -> Value {
      Value r = addIndex(at, loc, rowInBlock, constant(at, m));
      return memref::LoadOp::create(at, loc, storage.values,
                                    positionOf(at, block, r, k));
    };
    auto loadDense = [&](OpBuilder &at, int64_t n, Value k) -> Value {
      return load(at, n, addIndex(at, loc, column, k));
    };
    Value zero = constant(in, 0);
    auto step = [&](OpBuilder &at, Value k, ValueRange carried) {
      return stepTile(at, tile, k, carried, loadValue, loadDense);
    };
    if (format.blockColumns == 1)
      return step(in, zero, sums);
    return tile.carry(in, zero, constant(in, format.blockColumns), sums, step);
  };
  Sums sums = tile.fill(b, initialSum(b));
  int64_t unroll = format.blockColumns == 1 ? unrolledEntries(shape) : 1;
  Value first = row.first;
  if (unroll > 1) {
    // Several chains of sums, put together in an order of their own.
    Value step = constant(b, unroll);
    Value count = arith::SubIOp::create(b, loc, row.last, row.first);
    Value whole = arith::SubIOp::create(
        b, loc, row.last, arith::RemUIOp::create(b, loc, count, step));
    size_t width = sums.size();
    Sums chains;
    for (int64_t n = 0; n < unroll; ++n)
      llvm::append_range(chains, sums);
    auto loop = scf::ForOp::create(b, loc, first, whole, step, chains);
    OpBuilder in = OpBuilder::atBlockEnd(loop.getBody());
    Sums next;
    for (int64_t n = 0; n < unroll; ++n)
      llvm::append_range(
          next,
          sumBlock(in,
                   addIndex(in, loc, loop.getInductionVar(), constant(in, n)),
                   loop.getRegionIterArgs().slice(n * width, width)));
    scf::YieldOp::create(in, loc, next);
    for (size_t n = 0; n < width; ++n) {
      sums[n] = loop.getResult(n);
      for (int64_t chain = 1; chain < unroll; ++chain)
        sums[n] = join(b, sums[n], loop.getResult(chain * width + n));
    }
    first = whole;
  }
  sums = tile.carry(b, first, row.last, sums, sumBlock);
  for (Value &sum : sums)
    sum = finish(b, row, sum);
  return sums;
}
