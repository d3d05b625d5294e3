//===- LowerSddmm.cpp - products at stored positions, in registers --------===//
//
// Where the pattern stores blocks that are wide enough, a block is a small
// dense product: rows of one operand as broadcast numbers, columns of the other
// as lanes. The latter is packed once into panels [k][column of the block], so
// that a panel is contiguous whatever the operand's layout was.
//
// Elsewhere lanes run along the summed dimension, which both operands then have
// innermost (one that does not is copied so, once), and a few entries of a run
// are worked on at once: their sums are independent of one another, what is
// common to the run is loaded once for all, and the sums over lanes of all of
// them cost little more than that of one.
//
// Both leave sums where the results go; the body runs over them while they are
// in the first-level cache.
//
//===----------------------------------------------------------------------===//

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Bufferization/IR/Bufferization.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "mlir/IR/TypeUtilities.h"
#include "passes/HalfPrecision.h"
#include "passes/Passes.h"
#include "passes/RegisterTile.h"
#include "passes/Report.h"
#include "passes/StripBody.h"
#include "passes/TransposedCopy.h"

namespace gossamer {
#define GEN_PASS_DEF_LOWERSDDMM
#include "passes/Passes.h.inc"
} // namespace gossamer

using namespace mlir;
using namespace gossamer;

namespace {

/// Entries whose sums are made at once.
constexpr int64_t kEntries = 8;
/// Rows of a tile: each takes a pointer of its own, of which there are few.
constexpr int64_t kTileRows = 8;

/// Rows of an operand that are packed at once: as many as there are streams
/// that memory is read ahead in.
constexpr int64_t kPackedRows = 16;

class SddmmLowering {
public:
  SddmmLowering(SDDMMOp op, unsigned k, unsigned vectorBytes)
      : op(op), builder(op), loc(op.getLoc()), maps(op.getMaps()), k(k),
        vectorBytes(vectorBytes), storage(builder, loc, op.getPattern()),
        runs(loc, storage),
        operands(builder, loc, op.getExtras(), ArrayRef(maps).drop_front(3)),
        vectorBody(StripBody::find(loc, op->getRegion(0).front(), storage, runs,
                                   maps[0], operands, vectorBytes)),
        element(getElementTypeOrSelf(op.getLhs())), sum(sumTypeOf(element)),
        lanes(vectorBytes / (sum.getIntOrFloatBitWidth() / 8)) {}

  void run();

private:
  /// An operand of the product: a buffer, and where in it a point lies.
  struct Factor {
    Value buffer;
    AffineMap map;
    bool hasLoop(unsigned loop) const { return map.isFunctionOfDim(loop); }
    std::optional<unsigned> innermost() const {
      auto dim = dyn_cast<AffineDimExpr>(map.getResults().back());
      return dim ? std::optional(dim.getPosition()) : std::nullopt;
    }
  };
  using Run = StoredRuns::Run;

  Value sizeOf(const Factor &factor, unsigned loop) {
    return memref::DimOp::create(
        builder, loc, factor.buffer,
        *factor.map.getResultPosition(getAffineDimExpr(loop, op.getContext())));
  }
  bool findBlockLoops();
  Factor withInnermost(const Factor &factor, unsigned loop, Type type);
  Factor copyTransposed(const Factor &factor, unsigned loop, Type type);
  Factor copyExtended(const Factor &factor, Type type);
  Factor packPanels(const Factor &factor);

  bool isCommon(const Factor &factor) const;
  SmallVector<Value> emitProducts(OpBuilder &b,
                                  ArrayRef<SmallVector<Value>> points,
                                  Value depth, ValueRange sums, Value mask);
  Value emitEntrySums(OpBuilder &b, const Run &run, Value first, Value last,
                      int64_t count);
  void emitEntries();
  TileShape chooseTile() const;
  void emitTiles();
  bool needsBody() const;
  Value makeCopy(ArrayRef<int64_t> shape, Type type, ValueRange sizes);
  Value makeSums(OpBuilder &b, Value size);
  void emitBody(OpBuilder &b, const Run &run, Value sums, Value start);
  void emitBody(OpBuilder &b, Value at, Value total, ValueRange lvlCoords);

  SDDMMOp op;
  OpBuilder builder;
  Location loc;
  SmallVector<AffineMap> maps;
  unsigned k;
  unsigned vectorBytes;
  Storage storage;
  StoredRuns runs;
  BodyOperands operands;
  std::optional<StripBody> vectorBody;
  Type element, sum;
  int64_t lanes;
  Factor lhs, rhs;
  Value out, sizeK, zeroIndex, oneIndex;
  /// Copies of operands, which end with the operation.
  SmallVector<Value> copies;
  /// Of tiles: the loops of the rows and of the columns of a block.
  unsigned rowLoop = 0, columnLoop = 0;
  /// The level that numbers the blocks along the columns.
  unsigned columnLevel = 0;
  int64_t blockRows = 1, blockColumns = 1;
};

/// Whether tiles can do it: blocks of two dimensions, of which the rows are in
/// one operand and the columns in the other, a good part of a vector wide.
bool SddmmLowering::findBlockLoops() {
  ArrayRef<int64_t> block = runs.getBlockShape();
  if (block.size() != 2 || storage.type.isIdentity())
    return false;
  blockRows = block[0];
  blockColumns = block[1];
  int64_t width = std::min(lanes, int64_t(1) << llvm::countr_zero(
                                      static_cast<uint64_t>(blockColumns)));
  if (2 * width < lanes || width < 4)
    return false;
  unsigned rank = storage.type.getLvlRank();
  auto loopOfLevel = [&](unsigned lvl) -> std::optional<unsigned> {
    for (unsigned dim = 0; dim < storage.type.getDimRank(); ++dim)
      if (storage.type.getDimToLvl().getResult(lvl).isFunctionOfDim(dim))
        return cast<AffineDimExpr>(maps[0].getResult(dim)).getPosition();
    return {};
  };
  auto row = loopOfLevel(rank - 2), column = loopOfLevel(rank - 1);
  if (!row || !column || row == column)
    return false;
  rowLoop = *row;
  columnLoop = *column;
  if (lhs.hasLoop(columnLoop))
    std::swap(lhs, rhs);
  if (!lhs.hasLoop(rowLoop) || lhs.hasLoop(columnLoop) ||
      !rhs.hasLoop(columnLoop) || rhs.hasLoop(rowLoop))
    return false;
  for (auto [dim, expr] : llvm::enumerate(maps[0].getResults()))
    for (unsigned lvl = 0; lvl < rank - 2; ++lvl)
      if (expr == getAffineDimExpr(columnLoop, op.getContext()) &&
          storage.type.getDimToLvl().getResult(lvl).isFunctionOfDim(dim))
        columnLevel = lvl;
  lanes = width;
  return true;
}

/// The operand with that loop innermost, of that type: as it is, or a copy.
SddmmLowering::Factor SddmmLowering::withInnermost(const Factor &factor,
                                                   unsigned loop, Type type) {
  if (factor.innermost() != loop)
    return copyTransposed(factor, loop, type);
  return type == element ? factor : copyExtended(factor, type);
}

SddmmLowering::Factor SddmmLowering::copyExtended(const Factor &factor,
                                                  Type type) {
  auto shape = cast<MemRefType>(factor.buffer.getType());
  SmallVector<Value> sizes, dynamic;
  for (unsigned dim = 0; dim < shape.getRank(); ++dim) {
    sizes.push_back(memref::DimOp::create(builder, loc, factor.buffer, dim));
    if (shape.isDynamicDim(dim))
      dynamic.push_back(sizes.back());
  }
  Value copy = makeCopy(shape.getShape(), type, dynamic);
  unsigned outer = shape.getRank() - 1;
  OpBuilder b = builder;
  SmallVector<Value> place;
  if (outer > 0) {
    auto loops = scf::ParallelOp::create(
        builder, loc, SmallVector<Value>(outer, zeroIndex),
        ArrayRef(sizes).drop_back(), SmallVector<Value>(outer, oneIndex));
    b = OpBuilder::atBlockTerminator(loops.getBody());
    llvm::append_range(place, loops.getInductionVars());
  }
  auto row = scf::ForOp::create(b, loc, zeroIndex, sizes.back(), oneIndex);
  OpBuilder in = OpBuilder::atBlockTerminator(row.getBody());
  place.push_back(row.getInductionVar());
  Value value = memref::LoadOp::create(in, loc, factor.buffer, place);
  memref::StoreOp::create(in, loc, extendTo(in, loc, value, type), copy, place);
  return {copy, factor.map};
}

SddmmLowering::Factor SddmmLowering::copyTransposed(const Factor &factor,
                                                    unsigned loop, Type to) {
  // The loop goes to the end; what was there is the other side of the squares
  // that are transposed, and the rest are parallel loops. An operand that ends
  // in a dimension of size 1 has only the one side.
  unsigned rank = factor.map.getNumResults();
  unsigned at =
      *factor.map.getResultPosition(getAffineDimExpr(loop, op.getContext()));
  SmallVector<AffineExpr> exprs;
  SmallVector<int64_t> shape;
  SmallVector<Value> sizes, dynamic;
  SmallVector<unsigned> order;
  auto type = cast<MemRefType>(factor.buffer.getType());
  for (unsigned dim = 0; dim < rank; ++dim)
    if (dim != at)
      order.push_back(dim);
  order.push_back(at);
  for (unsigned dim : order) {
    exprs.push_back(factor.map.getResult(dim));
    shape.push_back(type.getDimSize(dim));
    sizes.push_back(memref::DimOp::create(builder, loc, factor.buffer, dim));
    if (type.isDynamicDim(dim))
      dynamic.push_back(sizes.back());
  }
  Value copy = makeCopy(shape, to, dynamic);
  // Parallel over the outer dimensions and strips of the columns.
  Value step = indexConstant(builder, loc, lanes);
  SmallVector<Value> lower(rank - 1, zeroIndex), upper(sizes),
      steps(rank - 1, oneIndex);
  upper.pop_back();
  steps.back() = step;
  auto loops = scf::ParallelOp::create(builder, loc, lower, upper, steps);
  OpBuilder b = OpBuilder::atBlockTerminator(loops.getBody());
  SmallVector<Value> outer =
      llvm::to_vector_of<Value>(loops.getInductionVars());
  Value first = outer.pop_back_val();
  Value width = arith::MinUIOp::create(
      b, loc, arith::SubIOp::create(b, loc, upper.back(), first), step);
  emitTransposedCopy(
      b, loc, /*rows=*/sizes.back(), /*columns=*/width, lanes,
      [&](OpBuilder &in, Value row, Value column, Value mask) {
        SmallVector<Value> place(rank);
        for (unsigned n = 0; n < rank - 2; ++n)
          place[order[n]] = outer[n];
        place[at] = row;
        place[rank - 1] = addIndex(in, loc, first, column);
        return extendTo(
            in, loc, loadLanes(in, loc, lanes, factor.buffer, place, mask), to);
      },
      [&](OpBuilder &in, Value row, Value column, Value vector, Value mask) {
        SmallVector<Value> place(outer);
        place.push_back(addIndex(in, loc, first, column));
        place.push_back(row);
        storeLanes(in, loc, vector, copy, place, mask);
      });
  return {copy,
          AffineMap::get(factor.map.getNumDims(), 0, exprs, op.getContext())};
}

/// [outer dimensions..., panel, k, column of the block] in the type of sums.
/// The map of the result is that of the outer dimensions.
SddmmLowering::Factor SddmmLowering::packPanels(const Factor &factor) {
  MLIRContext *context = op.getContext();
  SmallVector<AffineExpr> exprs;
  SmallVector<Value> upper;
  SmallVector<int64_t> shape;
  AffineExpr depthExpr = getAffineDimExpr(k, context);
  AffineExpr columnExpr = getAffineDimExpr(columnLoop, context);
  for (auto [dim, expr] : llvm::enumerate(factor.map.getResults())) {
    if (expr == depthExpr || expr == columnExpr)
      continue;
    exprs.push_back(expr);
    upper.push_back(memref::DimOp::create(builder, loc, factor.buffer, dim));
    shape.push_back(ShapedType::kDynamic);
  }
  unsigned outer = upper.size();
  Value width = indexConstant(builder, loc, blockColumns);
  Value panels =
      arith::DivUIOp::create(builder, loc, sizeOf(factor, columnLoop), width);
  SmallVector<Value> sizes(upper);
  sizes.append({panels, sizeK});
  shape.append({ShapedType::kDynamic, ShapedType::kDynamic, blockColumns});
  Value packed = makeCopy(shape, sum, sizes);

  // Where rows of the operand lie along the columns, a few of them at a time
  // are read from end to end; else every panel is a few whole rows.
  bool straight = factor.innermost() == columnLoop;
  Value step = straight ? indexConstant(builder, loc, kPackedRows) : oneIndex;
  upper.push_back(straight ? sizeK : panels);
  SmallVector<Value> steps(outer, oneIndex);
  steps.push_back(step);
  auto loops = scf::ParallelOp::create(
      builder, loc, SmallVector<Value>(outer + 1, zeroIndex), upper, steps);
  OpBuilder b = OpBuilder::atBlockTerminator(loops.getBody());
  SmallVector<Value> point =
      llvm::to_vector_of<Value>(loops.getInductionVars());
  Value panel = point.pop_back_val();
  auto load = [&](OpBuilder &in, Value column, Value depth, Value mask) {
    SmallVector<Value> place;
    unsigned n = 0;
    Value first = mulIndex(in, loc, panel, width);
    for (AffineExpr expr : factor.map.getResults())
      place.push_back(expr == depthExpr    ? depth
                      : expr == columnExpr ? addIndex(in, loc, first, column)
                                           : point[n++]);
    return extendTo(in, loc,
                    loadLanes(in, loc, lanes, factor.buffer, place, mask), sum);
  };
  auto store = [&](OpBuilder &in, Value column, Value depth, Value vector,
                   Value mask) {
    SmallVector<Value> place(point);
    place.append({panel, depth, column});
    storeLanes(in, loc, vector, packed, place, mask);
  };
  if (straight) {
    Value lower = panel;
    Value last =
        arith::MinUIOp::create(b, loc, addIndex(b, loc, lower, step), sizeK);
    auto across = scf::ForOp::create(b, loc, zeroIndex, panels, oneIndex);
    b = OpBuilder::atBlockTerminator(across.getBody());
    panel = across.getInductionVar();
    auto depth = scf::ForOp::create(b, loc, lower, last, oneIndex);
    b = OpBuilder::atBlockTerminator(depth.getBody());
    for (int64_t n = 0; n < blockColumns; n += lanes) {
      Value column = indexConstant(b, loc, n);
      store(b, column, depth.getInductionVar(),
            load(b, column, depth.getInductionVar(), Value()), Value());
    }
  } else {
    emitTransposedCopy(b, loc, /*rows=*/width, /*columns=*/sizeK, lanes, load,
                       store);
  }
  return {packed, AffineMap::get(factor.map.getNumDims(), 0, exprs, context)};
}

/// Whether the body does something to the sums where they are.
bool SddmmLowering::needsBody() const {
  Block &block = op->getRegion(0).front();
  return block.getTerminator()->getOperand(0) != block.getArgument(1) ||
         getElementTypeOrSelf(out) != sum;
}

Value SddmmLowering::makeCopy(ArrayRef<int64_t> shape, Type type,
                              ValueRange sizes) {
  copies.push_back(memref::AllocOp::create(builder, loc,
                                           MemRefType::get(shape, type), sizes,
                                           builder.getI64IntegerAttr(64)));
  return copies.back();
}

/// Memory for sums: that of the result, if it can hold them.
Value SddmmLowering::makeSums(OpBuilder &b, Value size) {
  if (getElementTypeOrSelf(out) == sum)
    return out;
  return memref::AllocOp::create(b, loc,
                                 MemRefType::get({ShapedType::kDynamic}, sum),
                                 size, b.getI64IntegerAttr(64));
}

/// Stores what the body makes of the sums of a run's entries, which lie in
/// `sums` from the place of the entry `start` on; null: each in its own place.
void SddmmLowering::emitBody(OpBuilder &b, const Run &run, Value sums,
                             Value start) {
  AffineMap entry = placeOfEntry(op.getContext());
  vectorBody->getLines().forEachStrip(
      b, run, [&](OpBuilder &in, const StoredLines::Strip &strip) {
        auto offset = [&](Value at) -> Value {
          return arith::SubIOp::create(in, loc, at, start);
        };
        LanePoints places = strip.entries;
        if (start) {
          places.loops[0] = offset(places.loops[0]);
          places.end = places.end ? offset(places.end) : Value();
        }
        Value total = loadPoints(in, loc, sums, entry, places);
        if (sum != element)
          total = arith::TruncFOp::create(
              in, loc, cast<VectorType>(total.getType()).clone(element), total);
        storePoints(in, loc, vectorBody->emit(in, strip, total), out, entry,
                    strip.entries);
      });
}

/// Stores what the body makes of an entry's sum.
void SddmmLowering::emitBody(OpBuilder &b, Value at, Value total,
                             ValueRange lvlCoords) {
  if (sum != element)
    total = arith::TruncFOp::create(b, loc, element, total);
  SmallVector<Value> dims = storage.toDims(b, lvlCoords);
  SmallVector<Value> args{memref::LoadOp::create(b, loc, storage.values, at),
                          total};
  operands.load(b, loc, loopsOfDims(maps[0], dims), at, args);
  memref::StoreOp::create(b, loc, inlineBody(b, op.getBlock(), args, dims), out,
                          at);
}

/// Whether the entries of a run have that operand's row in common.
bool SddmmLowering::isCommon(const Factor &factor) const {
  for (auto [dim, expr] : llvm::enumerate(maps[0].getResults()))
    if (factor.hasLoop(cast<AffineDimExpr>(expr).getPosition()) &&
        !runs.isCommon(dim))
      return false;
  return true;
}

/// The sums of entries at `points` after the products at `depth` and the lanes
/// behind it.
SmallVector<Value>
SddmmLowering::emitProducts(OpBuilder &b, ArrayRef<SmallVector<Value>> points,
                            Value depth, ValueRange sums, Value mask) {
  auto load = [&](const Factor &factor, int64_t n) {
    SmallVector<Value> point(points[n]);
    point[k] = depth;
    Value vector = loadLanes(b, loc, lanes, factor.buffer,
                             applyMap(b, loc, factor.map, point), mask);
    return extendTo(b, loc, vector, sum);
  };
  const Factor *factors[2] = {&lhs, &rhs};
  Value common[2];
  SmallVector<Value> result;
  for (int64_t n = 0; n < static_cast<int64_t>(points.size()); ++n) {
    Value pair[2];
    for (int side : {0, 1}) {
      pair[side] = common[side] ? common[side] : load(*factors[side], n);
      if (isCommon(*factors[side]))
        common[side] = pair[side];
    }
    if (isa<FloatType>(sum))
      result.push_back(
          vector::FMAOp::create(b, loc, pair[0], pair[1], sums[n]));
    else
      result.push_back(arith::AddIOp::create(
          b, loc, sums[n], arith::MulIOp::create(b, loc, pair[0], pair[1])));
  }
  return result;
}

/// The sums of entries [first, first + count), as a vector; entries beyond
/// `last`, if given, repeat it.
Value SddmmLowering::emitEntrySums(OpBuilder &b, const Run &run, Value first,
                                   Value last, int64_t count) {
  SmallVector<SmallVector<Value>> points;
  for (int64_t n = 0; n < count; ++n) {
    Value at = addIndex(b, loc, first, indexConstant(b, loc, n));
    if (last)
      at = arith::MinUIOp::create(b, loc, at, last);
    points.push_back(
        loopsOfDims(maps[0], storage.toDims(b, runs.coords(b, run, at))));
  }
  auto vector = VectorType::get(lanes, sum);
  Value nothing = arith::ConstantOp::create(b, loc, b.getZeroAttr(vector));
  Value width = indexConstant(b, loc, lanes);
  Value rest = arith::RemUIOp::create(b, loc, sizeK, width);
  Value whole = arith::SubIOp::create(b, loc, sizeK, rest);
  auto loop = scf::ForOp::create(b, loc, zeroIndex, whole, width,
                                 SmallVector<Value>(count, nothing));
  OpBuilder in = OpBuilder::atBlockEnd(loop.getBody());
  scf::YieldOp::create(in, loc,
                       emitProducts(in, points, loop.getInductionVar(),
                                    loop.getRegionIterArgs(), Value()));
  Value ragged =
      arith::CmpIOp::create(b, loc, arith::CmpIPredicate::ne, rest, zeroIndex);
  auto tail = scf::IfOp::create(b, loc, SmallVector<Type>(count, vector),
                                ragged, /*withElseRegion=*/true);
  OpBuilder then = tail.getThenBodyBuilder();
  Value mask = vector::CreateMaskOp::create(
      then, loc, VectorType::get(lanes, then.getI1Type()), rest);
  scf::YieldOp::create(
      then, loc, emitProducts(then, points, whole, loop.getResults(), mask));
  OpBuilder otherwise = tail.getElseBodyBuilder();
  scf::YieldOp::create(otherwise, loc, loop.getResults());
  return sumLanes(b, loc, tail.getResults());
}

void SddmmLowering::emitEntries() {
  lhs = withInnermost(lhs, k, element);
  rhs = withInnermost(rhs, k, element);
  int64_t most = std::min(kEntries, lanes), fewer = most / 2;
  Value block = indexConstant(builder, loc, runs.getBlockSize());
  runs.forEach(builder, [&](OpBuilder &b, const Run &run) {
    Value lower = mulIndex(b, loc, run.lower, block);
    Value upper = mulIndex(b, loc, run.upper, block);
    Value length = arith::SubIOp::create(b, loc, upper, lower);
    Value sums = makeSums(b, length);
    Value start = sums == out ? zeroIndex : lower;
    auto place = [&](OpBuilder &in, Value at) -> Value {
      return sums == out
                 ? at
                 : arith::SubIOp::create(in, loc, at, start).getResult();
    };
    Value width = indexConstant(b, loc, most);
    Value whole = arith::SubIOp::create(
        b, loc, upper, arith::RemUIOp::create(b, loc, length, width));
    auto strips = scf::ForOp::create(b, loc, lower, whole, width);
    OpBuilder in = OpBuilder::atBlockTerminator(strips.getBody());
    Value first = strips.getInductionVar();
    storeLanes(in, loc, emitEntrySums(in, run, first, Value(), most), sums,
               place(in, first));

    auto rest =
        scf::ForOp::create(b, loc, whole, upper, indexConstant(b, loc, fewer));
    in = OpBuilder::atBlockTerminator(rest.getBody());
    first = rest.getInductionVar();
    Value last = arith::SubIOp::create(in, loc, upper, oneIndex);
    Value left = arith::SubIOp::create(in, loc, upper, first);
    Value mask = vector::CreateMaskOp::create(
        in, loc, VectorType::get(fewer, in.getI1Type()), left);
    storeLanes(in, loc, emitEntrySums(in, run, first, last, fewer), sums,
               place(in, first), mask);

    if (vectorBody && needsBody()) {
      emitBody(b, run, sums, sums == out ? Value() : start);
    } else if (needsBody()) {
      auto entries = scf::ForOp::create(b, loc, lower, upper, oneIndex);
      in = OpBuilder::atBlockTerminator(entries.getBody());
      Value at = entries.getInductionVar();
      Value total = memref::LoadOp::create(in, loc, sums, place(in, at));
      emitBody(in, at, total, runs.coords(in, run, at));
    }
    if (sums != out)
      memref::DeallocOp::create(b, loc, sums);
  });
}

/// As many sums as there are registers for beside operands, in rows and
/// vectors that divide a block.
TileShape SddmmLowering::chooseTile() const {
  bool wide = vectorBytes == 64;
  auto largestDivisor = [](int64_t size, int64_t most) {
    while (size % most != 0)
      --most;
    return most;
  };
  int64_t vectors = largestDivisor(blockColumns / lanes, wide ? 4 : 2);
  int64_t rows = largestDivisor(
      blockRows, std::min<int64_t>(kTileRows, (wide ? 24 : 12) / vectors));
  return {rows, vectors, lanes};
}

void SddmmLowering::emitTiles() {
  lhs = withInnermost(lhs, k, sum);
  Factor panels = packPanels(rhs);
  TileShape shape = chooseTile();
  RegisterTile tile(loc, shape, sum);
  int64_t size = blockRows * blockColumns;
  runs.forEach(builder, [&](OpBuilder &b, const Run &run) {
    Value sums = makeSums(b, indexConstant(b, loc, size));
    auto blocks = scf::ForOp::create(b, loc, run.lower, run.upper, oneIndex);
    OpBuilder in = OpBuilder::atBlockTerminator(blocks.getBody());
    SmallVector<Value> coords =
        runs.outerCoords(in, run, blocks.getInductionVar());
    Value panel = coords[columnLevel];
    SmallVector<Value> inside(coords);
    inside.append(2, zeroIndex);
    SmallVector<Value> corner =
        loopsOfDims(maps[0], storage.toDims(in, inside));
    Value start = mulIndex(in, loc, blocks.getInductionVar(),
                           indexConstant(in, loc, size));
    Value offset = sums == out ? start : zeroIndex;

    auto across = scf::ForOp::create(
        in, loc, zeroIndex, indexConstant(in, loc, blockColumns),
        indexConstant(in, loc, shape.vectors * lanes));
    OpBuilder atStrip = OpBuilder::atBlockTerminator(across.getBody());
    auto down = scf::ForOp::create(atStrip, loc, zeroIndex,
                                   indexConstant(atStrip, loc, blockRows),
                                   indexConstant(atStrip, loc, shape.rows));
    OpBuilder t = OpBuilder::atBlockTerminator(down.getBody());
    SmallVector<Value> rows, columns;
    for (int64_t m = 0; m < shape.rows; ++m)
      rows.push_back(
          addIndex(t, loc, down.getInductionVar(), indexConstant(t, loc, m)));
    for (int64_t n = 0; n < shape.vectors; ++n)
      columns.push_back(addIndex(t, loc, across.getInductionVar(),
                                 indexConstant(t, loc, n * lanes)));
    Value zero = arith::ConstantOp::create(t, loc, t.getZeroAttr(sum));
    auto result = tile.accumulate(
        t, zeroIndex, sizeK, tile.fill(t, zero),
        [&](OpBuilder &at, int64_t m, Value depth) {
          SmallVector<Value> point(corner);
          point[rowLoop] = addIndex(at, loc, corner[rowLoop], rows[m]);
          point[k] = depth;
          return loadAt(at, loc, lhs.buffer, lhs.map, point);
        },
        [&](OpBuilder &at, int64_t n, Value depth) {
          SmallVector<Value> place = applyMap(at, loc, panels.map, corner);
          place.append({panel, depth, columns[n]});
          return loadLanes(at, loc, lanes, panels.buffer, place);
        });
    Value width = indexConstant(t, loc, blockColumns);
    tile.forEach(result, [&](int64_t m, int64_t n, Value vector) {
      Value at = addIndex(t, loc, mulIndex(t, loc, rows[m], width), columns[n]);
      storeLanes(t, loc, vector, sums, addIndex(t, loc, offset, at));
    });

    if (vectorBody && needsBody()) {
      Value block = blocks.getInductionVar();
      emitBody(
          in,
          {run.parents, block, addIndex(in, loc, block, oneIndex), run.base},
          sums, sums == out ? Value() : start);
    } else if (needsBody()) {
      // What no vector does: an entry at a time.
      Value end = addIndex(in, loc, start, indexConstant(in, loc, size));
      auto entries = scf::ForOp::create(in, loc, start, end, oneIndex);
      OpBuilder e = OpBuilder::atBlockTerminator(entries.getBody());
      Value at = entries.getInductionVar();
      Value place = sums == out
                        ? at
                        : arith::SubIOp::create(e, loc, at, start).getResult();
      emitBody(e, at, memref::LoadOp::create(e, loc, sums, place),
               runs.coords(e, run, at));
    }
    if (sums != out)
      memref::DeallocOp::create(b, loc, sums);
  });
}

void SddmmLowering::run() {
  zeroIndex = indexConstant(builder, loc, 0);
  oneIndex = indexConstant(builder, loc, 1);
  lhs = {toBuffer(builder, loc, op.getLhs(), true), maps[1]};
  rhs = {toBuffer(builder, loc, op.getRhs(), true), maps[2]};
  sizeK = sizeOf(lhs, k);
  out = makeValues(builder, loc, op.getResult(), storage.values);
  if (findBlockLoops()) {
    report(op, "gossamer.sddmm", Road::General,
           "blocks of " + Twine(blockRows) + "x" + Twine(blockColumns) + ", " +
               Twine(lanes) +
               " columns a vector, sums in registers, block rows in parallel");
    emitTiles();
  } else {
    report(op, "gossamer.sddmm", Road::General,
           Twine(std::min(kEntries, lanes)) +
               " entries at a time, the summed dimension in vectors of " +
               Twine(lanes) + ", rows in parallel");
    emitEntries();
  }
  for (Value copy : copies)
    memref::DeallocOp::create(builder, loc, copy);
  replaceWithValues(builder, op, op.getPattern(), out);
}

struct LowerSddmm : gossamer::impl::LowerSddmmBase<LowerSddmm> {
  using LowerSddmmBase::LowerSddmmBase;
  void runOnOperation() override {
    SmallVector<SDDMMOp> ops;
    getOperation().walk([&](SDDMMOp op) { ops.push_back(op); });
    for (SDDMMOp op : ops) {
      std::optional<unsigned> k = summedLoop(op);
      Type element = getElementTypeOrSelf(op.getLhs());
      if (!k || !element.isIntOrFloat() || element.isInteger(1))
        continue;
      if (failed(verifyShared(op, op.getPattern(), op.getExtras())))
        return signalPassFailure();
      SddmmLowering(op, *k, vectorBytes).run();
    }
  }
};

} // namespace
