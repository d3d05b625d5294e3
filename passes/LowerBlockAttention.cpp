//===- LowerBlockAttention.cpp - attention over blocks, rows as lanes -----===//
//
// A vector holds one number each of as many query rows, so that nothing is ever
// summed across a vector: with q transposed once a block row, a tile of scores
// is S^T[j][row] = sum_d k[j][d] q^T[d][row], an element of k broadcast against
// a vector of q, eight columns at a time in registers; the softmax works on
// whole vectors; O^T[e][row] += v[j][e] p[j][row] is the same product again.
// Tiles are one block of the mask high, and stay in the first-level cache.
//
//===----------------------------------------------------------------------===//

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Bufferization/IR/Bufferization.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "mlir/IR/IRMapping.h"
#include "mlir/IR/TypeUtilities.h"
#include "passes/AttentionLoops.h"
#include "passes/Passes.h"
#include "passes/RegisterTile.h"
#include "passes/Report.h"
#include "passes/TransposedCopy.h"
#include "passes/VectorBody.h"

namespace gossamer {
#define GEN_PASS_DEF_LOWERBLOCKATTENTION
#include "passes/Passes.h.inc"
} // namespace gossamer

using namespace mlir;
using namespace gossamer;

namespace {

/// Vectors of rows that are worked on at once: what is broadcast against one is
/// broadcast against all of them.
constexpr int64_t kVectors = 2;

class BlockAttention : AttentionLoops {
public:
  BlockAttention(AttentionOp op, unsigned lanes, unsigned columns)
      : AttentionLoops(op), lanes(lanes), columns(columns),
        vector(VectorType::get(lanes, element)) {
    SmallVector<int64_t, 2> shape = blockShape(op);
    blockRows = shape[0];
    blockColumns = shape[1];
    vectors = blockRows % (kVectors * lanes) == 0 ? kVectors : 1;
  }

  /// Rows and columns of the mask's blocks; empty if it has none.
  static SmallVector<int64_t, 2> blockShape(AttentionOp op);
  void run() {
    forEachRow(mask.lvlSize(rank - 2),
               [&](OpBuilder &b, ValueRange ivs) { emitBlockRow(b, ivs); });
  }

private:
  using Vectors = SmallVector<Value>;
  /// The rows of a block that are worked on at once, and their memory: q^T,
  /// scores^T and the result^T, a line for each d, column, e. What has another
  /// type in memory than sums have is copied for each block: k, v, and the
  /// block of the mask, transposed, as bytes if it is bool.
  struct Tile {
    Value firstRow, rowInBlock, rows;
    Value query, scores, sums, keys, values, stored;
  };
  Value splat(OpBuilder &b, Value scalar) {
    return vector::BroadcastOp::create(
        b, loc, VectorType::get(lanes, scalar.getType()), scalar);
  }
  /// Where vector `n` of a line of a tile begins.
  SmallVector<Value> place(OpBuilder &b, Value line, int64_t n) {
    return {line, indexConstant(b, loc, n * lanes)};
  }
  Vectors load(OpBuilder &b, Value tile, Value line) {
    Vectors result;
    for (int64_t n = 0; n < vectors; ++n)
      result.push_back(loadLanes(b, loc, lanes, tile, place(b, line, n)));
    return result;
  }
  void store(OpBuilder &b, Value value, Value tile, Value line, int64_t n) {
    storeLanes(b, loc, value, tile, place(b, line, n));
  }
  bool isBool() { return mask.type.getElementType().isInteger(1); }
  /// The values of the mask, of which i1 is a byte in memory: LLVM makes
  /// vectors only of what it knows to be one.
  Value storedValues(OpBuilder &b);
  /// The most columns that divide a block, up to what registers can hold.
  int64_t tileColumns() const {
    int64_t most = columns;
    while (blockColumns % most != 0)
      --most;
    return most;
  }

  void emitBlockRow(OpBuilder &b, ValueRange ivs);
  void emitLaneGroup(OpBuilder &b, const Tile &tile, Value first, Value last);
  void loadQuery(OpBuilder &b, const Tile &tile);
  void storeResult(OpBuilder &b, const Tile &tile, ValueRange sums);
  Vectors emitBlock(OpBuilder &b, const Tile &tile, Value block,
                    ValueRange state);
  void copyBlock(OpBuilder &b, Value buffer, AffineMap map, unsigned loop,
                 Value column, Value size, Value to);
  void transposeMask(OpBuilder &b, const Tile &tile, Value block);
  Value emitIsFull(OpBuilder &b, const Tile &tile, Value block);
  Vectors emitScores(OpBuilder &b, const Tile &tile, Value column,
                     ValueRange maxima, bool full);
  Value emitBody(OpBuilder &b, const Tile &tile, Value score, Value column,
                 Value inBlock, int64_t n, bool full);
  Value gather(OpBuilder &b, Type type, const Tile &tile, int64_t n,
               llvm::function_ref<Value(OpBuilder &, Value)> at);
  void emitProduct(OpBuilder &b, const Tile &tile, Value column,
                   ValueRange factors);

  int64_t lanes, columns, vectors, blockRows, blockColumns;
  VectorType vector;
  SmallVector<Value> loops;
};

SmallVector<int64_t, 2> BlockAttention::blockShape(AttentionOp op) {
  auto type = sparse_tensor::getSparseTensorType(op.getMask());
  unsigned rank = type.getDimRank();
  if (type.getLvlRank() != rank + 2)
    return {};
  SmallVector<int64_t, 2> shape;
  for (unsigned lvl : {rank, rank + 1})
    shape.push_back(
        cast<AffineConstantExpr>(
            cast<AffineBinaryOpExpr>(type.getDimToLvl().getResult(lvl))
                .getRHS())
            .getValue());
  return shape;
}

void BlockAttention::emitBlockRow(OpBuilder &b, ValueRange ivs) {
  loops.assign(ivs.begin(), ivs.end());
  loops.resize(numBatch + 4);
  Value blockRow = ivs.back();
  // The map of the mask's leading levels, where i stands for its block row.
  SmallVector<Value> coords =
      applyMap(b, loc, maps[3].dropResult(rank - 1), loops);
  Value parent = indexConstant(b, loc, 0);
  for (auto [lvl, coord] : llvm::enumerate(coords))
    parent =
        addIndex(b, loc, mulIndex(b, loc, parent, mask.lvlSize(lvl)), coord);
  auto [first, last] = mask.segment(b, rank - 1, parent);

  auto allocate = [&](ArrayRef<int64_t> shape, Type type,
                      ValueRange size) -> Value {
    return memref::AllocOp::create(b, loc, MemRefType::get(shape, type), size,
                                   b.getI64IntegerAttr(64));
  };
  int64_t dynamic = ShapedType::kDynamic, width = vectors * lanes;
  Tile tile;
  tile.query = allocate({dynamic, width}, element, sizeD);
  tile.scores = allocate({blockColumns, width}, element, {});
  tile.sums = allocate({dynamic, width}, element, sizeE);
  Type stored = getElementTypeOrSelf(storedValues(b));
  tile.stored = allocate({blockColumns, width}, stored, {});
  SmallVector<Value> buffers{tile.query, tile.scores, tile.sums, tile.stored};
  if (isNarrow()) {
    tile.keys = allocate({blockColumns, dynamic}, element, sizeD);
    tile.values = allocate({blockColumns, dynamic}, element, sizeE);
    buffers.append({tile.keys, tile.values});
  }
  Value rowsOfBlock = indexConstant(b, loc, blockRows);
  Value step = indexConstant(b, loc, width);
  Value base = mulIndex(b, loc, blockRow, rowsOfBlock);
  auto groups = scf::ForOp::create(b, loc, zeroIndex, rowsOfBlock, step);
  OpBuilder in = OpBuilder::atBlockTerminator(groups.getBody());
  tile.rowInBlock = groups.getInductionVar();
  tile.firstRow = addIndex(in, loc, base, tile.rowInBlock);
  tile.rows = step;
  if (blockRows % width != 0)
    tile.rows = arith::MinUIOp::create(
        in, loc, arith::SubIOp::create(in, loc, rowsOfBlock, tile.rowInBlock),
        step);
  emitLaneGroup(in, tile, first, last);
  for (Value buffer : buffers)
    memref::DeallocOp::create(b, loc, buffer);
}

Value BlockAttention::storedValues(OpBuilder &b) {
  if (!isBool())
    return mask.values;
  return UnrealizedConversionCastOp::create(
             b, loc, MemRefType::get({ShapedType::kDynamic}, b.getI8Type()),
             mask.values)
      .getResult(0);
}

/// A vector of what `at` gives for each row. Lanes beyond the block's last row
/// repeat it: what they make is never stored.
Value BlockAttention::gather(OpBuilder &b, Type type, const Tile &tile,
                             int64_t n,
                             llvm::function_ref<Value(OpBuilder &, Value)> at) {
  Value last = arith::SubIOp::create(b, loc, tile.rows, oneIndex);
  Value result = arith::ConstantOp::create(
      b, loc, b.getZeroAttr(VectorType::get(lanes, type)));
  for (int64_t lane = 0; lane < lanes; ++lane) {
    Value row = indexConstant(b, loc, n * lanes + lane);
    if (blockRows % lanes != 0)
      row = arith::MinUIOp::create(b, loc, row, last);
    result = vector::InsertOp::create(b, loc, at(b, row), result, lane);
  }
  return result;
}

/// Whether all stored values of the rows are true in a block: then the mask
/// need not be read an entry at a time.
Value BlockAttention::emitIsFull(OpBuilder &b, const Tile &tile, Value block) {
  Value bytes = storedValues(b);
  Value width = indexConstant(b, loc, blockColumns);
  Value start = mulIndex(b, loc, block, indexConstant(b, loc, blockRows));
  start = mulIndex(b, loc, addIndex(b, loc, start, tile.rowInBlock), width);
  Value end = addIndex(b, loc, start, mulIndex(b, loc, tile.rows, width));
  Value one = arith::ConstantIntOp::create(b, loc, b.getI8Type(), 1);
  auto loop = scf::ForOp::create(b, loc, start, end, oneIndex, one);
  OpBuilder in = OpBuilder::atBlockEnd(loop.getBody());
  Value byte = memref::LoadOp::create(in, loc, bytes, loop.getInductionVar());
  scf::YieldOp::create(
      in, loc,
      arith::AndIOp::create(in, loc, loop.getRegionIterArg(0), byte)
          .getResult());
  return arith::CmpIOp::create(b, loc, arith::CmpIPredicate::eq,
                               loop.getResult(0), one);
}

void BlockAttention::transposeMask(OpBuilder &b, const Tile &tile,
                                   Value block) {
  Value values = storedValues(b);
  Value width = indexConstant(b, loc, blockColumns);
  Value start = mulIndex(b, loc, block, indexConstant(b, loc, blockRows));
  start = mulIndex(b, loc, addIndex(b, loc, start, tile.rowInBlock), width);
  emitTransposedCopy(
      b, loc, tile.rows, width, lanes,
      [&](OpBuilder &in, Value row, Value column, Value on) {
        Value at = addIndex(in, loc, start, mulIndex(in, loc, row, width));
        return loadLanes(in, loc, lanes, values, addIndex(in, loc, at, column),
                         on);
      },
      [&](OpBuilder &in, Value row, Value column, Value value, Value on) {
        storeLanes(in, loc, value, tile.stored, {column, row}, on);
      });
}

Value BlockAttention::emitBody(OpBuilder &b, const Tile &tile, Value score,
                               Value column, Value inBlock, int64_t n,
                               bool full) {
  Type stored = mask.type.getElementType();
  SmallVector<Value> point(loops);
  point[numBatch + 1] = column;
  SmallVector<Value> args{narrow(b, score)};
  if (full) {
    args.push_back(splat(b, arith::ConstantIntOp::create(b, loc, stored, 1)));
  } else {
    Value value = loadLanes(b, loc, lanes, tile.stored, place(b, inBlock, n));
    if (isBool()) {
      Value none =
          arith::ConstantOp::create(b, loc, b.getZeroAttr(value.getType()));
      value =
          arith::CmpIOp::create(b, loc, arith::CmpIPredicate::ne, value, none);
    }
    args.push_back(value);
  }
  for (auto [number, operand] : llvm::enumerate(extras)) {
    Value buffer = operand;
    AffineMap map = maps[4 + number];
    if (map.isFunctionOfDim(numBatch))
      args.push_back(gather(b, getElementTypeOrSelf(buffer), tile, n,
                            [&](OpBuilder &in, Value row) -> Value {
                              point[numBatch] =
                                  addIndex(in, loc, tile.firstRow, row);
                              return loadAt(in, loc, buffer, map, point);
                            }));
    else
      args.push_back(splat(b, loadAt(b, loc, buffer, map, point)));
  }
  IRMapping mapping;
  mapping.map(op.getBlock().getArguments(), args);
  auto asVector = [&](Value operand) -> Value {
    Value known = mapping.lookupOrDefault(operand);
    return isa<VectorType>(known.getType()) ? known : splat(b, known);
  };
  for (Operation &inner : op.getBlock().without_terminator()) {
    if (auto index = dyn_cast<IndexOp>(inner)) {
      Value vector;
      if (index.getDim() == numBatch)
        vector = arith::AddIOp::create(
            b, loc,
            splat(b, addIndex(b, loc, tile.firstRow,
                              indexConstant(b, loc, n * lanes))),
            vector::StepOp::create(b, loc,
                                   VectorType::get(lanes, b.getIndexType())));
      else
        vector = splat(b, point[index.getDim()]);
      mapping.map(index.getResult(), vector);
      continue;
    }
    if (inner.hasTrait<OpTrait::ConstantLike>()) {
      b.clone(inner, mapping);
      continue;
    }
    OperationState state(loc, inner.getName());
    state.addAttributes(inner.getAttrs());
    for (Value operand : inner.getOperands())
      state.addOperands(asVector(operand));
    state.addTypes(VectorType::get(lanes, inner.getResult(0).getType()));
    mapping.map(inner.getResult(0), b.create(state)->getResult(0));
  }
  return extendTo(
      b, loc, asVector(op.getBlock().getTerminator()->getOperand(0)), element);
}

/// Fills the tile of scores of a block; returns the maxima so far.
BlockAttention::Vectors
BlockAttention::emitScores(OpBuilder &b, const Tile &tile, Value column,
                           ValueRange maxima, bool full) {
  int64_t count = tileColumns();
  auto strip =
      scf::ForOp::create(b, loc, zeroIndex, indexConstant(b, loc, blockColumns),
                         indexConstant(b, loc, count), maxima);
  OpBuilder in = OpBuilder::atBlockEnd(strip.getBody());
  SmallVector<Value> places, at;
  for (int64_t m = 0; m < count; ++m) {
    places.push_back(
        addIndex(in, loc, strip.getInductionVar(), indexConstant(in, loc, m)));
    at.push_back(addIndex(in, loc, column, places.back()));
  }
  RegisterTile product(loc, {count, vectors, lanes}, element);
  SmallVector<Value> point(loops);
  SmallVector<Value> dots = product.accumulate(
      in, zeroIndex, sizeD, product.fill(in, zero),
      [&](OpBuilder &inner, int64_t m, Value d) -> Value {
        if (tile.keys)
          return memref::LoadOp::create(inner, loc, tile.keys,
                                        ValueRange{places[m], d});
        point[numBatch + 1] = at[m];
        point[numBatch + 2] = d;
        return loadAt(inner, loc, key, maps[1], point);
      },
      [&](OpBuilder &inner, int64_t n, Value d) {
        return loadLanes(inner, loc, lanes, tile.query, place(inner, d, n));
      });
  Vectors running = llvm::to_vector_of<Value>(strip.getRegionIterArgs());
  product.forEach(dots, [&](int64_t m, int64_t n, Value dot) {
    Value score = emitBody(in, tile, dot, at[m], places[m], n, full);
    store(in, score, tile.scores, places[m], n);
    running[n] = arith::MaximumFOp::create(in, loc, running[n], score);
  });
  scf::YieldOp::create(in, loc, running);
  return llvm::to_vector_of<Value>(strip.getResults());
}

/// sums = sums * factor + v^T p, over the columns of a block.
void BlockAttention::emitProduct(OpBuilder &b, const Tile &tile, Value column,
                                 ValueRange factors) {
  forEachRowStrip(
      b, loc, sizeE, columns, [&](OpBuilder &in, Value first, int64_t count) {
        RegisterTile product(loc, {count, vectors, lanes}, element);
        SmallVector<Value> at, sums;
        for (int64_t m = 0; m < count; ++m) {
          at.push_back(addIndex(in, loc, first, indexConstant(in, loc, m)));
          for (auto [sum, factor] :
               llvm::zip(load(in, tile.sums, at.back()), factors))
            sums.push_back(arith::MulFOp::create(in, loc, sum, factor));
        }
        SmallVector<Value> point(loops);
        sums = product.accumulate(
            in, zeroIndex, indexConstant(in, loc, blockColumns), sums,
            [&](OpBuilder &inner, int64_t m, Value j) -> Value {
              if (tile.values)
                return memref::LoadOp::create(inner, loc, tile.values,
                                              ValueRange{j, at[m]});
              point[numBatch + 1] = addIndex(inner, loc, column, j);
              point[numBatch + 3] = at[m];
              return loadAt(inner, loc, value, maps[2], point);
            },
            [&](OpBuilder &inner, int64_t n, Value j) {
              return loadLanes(inner, loc, lanes, tile.scores,
                               place(inner, j, n));
            });
        product.forEach(sums, [&](int64_t m, int64_t n, Value sum) {
          store(in, sum, tile.sums, at[m], n);
        });
      });
}

/// A block of k or v in the type of sums: `loop` is its inner dimension.
void BlockAttention::copyBlock(OpBuilder &b, Value buffer, AffineMap map,
                               unsigned loop, Value column, Value size,
                               Value to) {
  auto rows = scf::ForOp::create(b, loc, zeroIndex,
                                 indexConstant(b, loc, blockColumns), oneIndex);
  OpBuilder in = OpBuilder::atBlockTerminator(rows.getBody());
  SmallVector<Value> point(loops);
  point[numBatch + 1] = addIndex(in, loc, column, rows.getInductionVar());
  auto inner = scf::ForOp::create(in, loc, zeroIndex, size, oneIndex);
  in = OpBuilder::atBlockTerminator(inner.getBody());
  point[loop] = inner.getInductionVar();
  Value value = extendTo(in, loc, loadAt(in, loc, buffer, map, point), element);
  memref::StoreOp::create(
      in, loc, value, to,
      ValueRange{rows.getInductionVar(), inner.getInductionVar()});
}

/// q^T, and nothing in the lanes that have no row.
void BlockAttention::loadQuery(OpBuilder &b, const Tile &tile) {
  if (blockRows % (vectors * lanes) != 0)
    linalg::FillOp::create(b, loc, zero, tile.query);
  SmallVector<Value> point(loops);
  emitTransposedCopy(
      b, loc, tile.rows, sizeD, lanes,
      [&](OpBuilder &in, Value row, Value d, Value on) {
        point[numBatch] = addIndex(in, loc, tile.firstRow, row);
        point[numBatch + 2] = d;
        Value part = loadLanes(in, loc, lanes, query,
                               applyMap(in, loc, maps[0], point), on);
        return extendTo(in, loc, part, element);
      },
      [&](OpBuilder &in, Value row, Value d, Value value, Value on) {
        storeLanes(in, loc, value, tile.query, {d, row}, on);
      });
}

/// The rows of the result, divided by their sums. A row with nothing allowed
/// has the sum 0, and is 0.
void BlockAttention::storeResult(OpBuilder &b, const Tile &tile,
                                 ValueRange sums) {
  Value nothing = splat(b, zero);
  Vectors inverses;
  for (Value sum : sums) {
    Value empty =
        arith::CmpFOp::create(b, loc, arith::CmpFPredicate::OEQ, sum, nothing);
    Value inverse = arith::DivFOp::create(b, loc, splat(b, one), sum);
    inverses.push_back(
        arith::SelectOp::create(b, loc, empty, nothing, inverse));
  }
  auto e = scf::ForOp::create(b, loc, zeroIndex, sizeE, oneIndex);
  OpBuilder scale = OpBuilder::atBlockTerminator(e.getBody());
  Vectors line = load(scale, tile.sums, e.getInductionVar());
  for (int64_t n = 0; n < vectors; ++n)
    store(scale, arith::MulFOp::create(scale, loc, line[n], inverses[n]),
          tile.sums, e.getInductionVar(), n);
  SmallVector<Value> point(loops);
  emitTransposedCopy(
      b, loc, sizeE, tile.rows, lanes,
      [&](OpBuilder &in, Value e, Value row, Value on) {
        return loadLanes(in, loc, lanes, tile.sums, {e, row}, on);
      },
      [&](OpBuilder &in, Value e, Value row, Value value, Value on) {
        point[numBatch] = addIndex(in, loc, tile.firstRow, row);
        point[numBatch + 3] = e;
        storeLanes(in, loc, narrow(in, value), out,
                   applyMap(in, loc, maps.back(), point), on);
      });
}

/// Maxima and sums after one more block.
BlockAttention::Vectors BlockAttention::emitBlock(OpBuilder &b,
                                                  const Tile &tile, Value block,
                                                  ValueRange state) {
  ValueRange maxima = state.take_front(vectors),
             sums = state.drop_front(vectors);
  Value column = mulIndex(b, loc, mask.coordinate(b, rank - 1, block),
                          indexConstant(b, loc, blockColumns));
  if (isNarrow()) {
    copyBlock(b, key, maps[1], numBatch + 2, column, sizeD, tile.keys);
    copyBlock(b, value, maps[2], numBatch + 3, column, sizeE, tile.values);
  }
  Vectors reached;
  if (isBool()) {
    auto choice = scf::IfOp::create(b, loc, SmallVector<Type>(vectors, vector),
                                    emitIsFull(b, tile, block),
                                    /*withElseRegion=*/true);
    OpBuilder then = choice.getThenBodyBuilder();
    scf::YieldOp::create(then, loc,
                         emitScores(then, tile, column, maxima, true));
    OpBuilder otherwise = choice.getElseBodyBuilder();
    transposeMask(otherwise, tile, block);
    scf::YieldOp::create(otherwise, loc,
                         emitScores(otherwise, tile, column, maxima, false));
    llvm::append_range(reached, choice.getResults());
  } else {
    transposeMask(b, tile, block);
    reached = emitScores(b, tile, column, maxima, false);
  }
  // While nothing was allowed the maximum is -inf; measured from 0 instead,
  // what is masked comes out as exp(-inf) = 0 and not as NaN.
  Value none = splat(b, lowest), nothing = splat(b, zero);
  Vectors from, factors, scaled;
  for (int64_t n = 0; n < vectors; ++n) {
    Value empty = arith::CmpFOp::create(b, loc, arith::CmpFPredicate::OEQ,
                                        reached[n], none);
    from.push_back(arith::SelectOp::create(b, loc, empty, nothing, reached[n]));
    factors.push_back(math::ExpOp::create(
        b, loc, arith::SubFOp::create(b, loc, maxima[n], from[n])));
    scaled.push_back(arith::MulFOp::create(b, loc, sums[n], factors[n]));
  }
  auto powers = scf::ForOp::create(
      b, loc, zeroIndex, indexConstant(b, loc, blockColumns), oneIndex, scaled);
  OpBuilder in = OpBuilder::atBlockEnd(powers.getBody());
  Vectors scores = load(in, tile.scores, powers.getInductionVar()), totals;
  for (int64_t n = 0; n < vectors; ++n) {
    Value power = math::ExpOp::create(
        in, loc, arith::SubFOp::create(in, loc, scores[n], from[n]));
    store(in, power, tile.scores, powers.getInductionVar(), n);
    totals.push_back(
        arith::AddFOp::create(in, loc, powers.getRegionIterArg(n), power));
  }
  scf::YieldOp::create(in, loc, totals);
  emitProduct(b, tile, column, factors);
  llvm::append_range(reached, powers.getResults());
  return reached;
}

void BlockAttention::emitLaneGroup(OpBuilder &b, const Tile &tile, Value first,
                                   Value last) {
  loadQuery(b, tile);
  linalg::FillOp::create(b, loc, zero, tile.sums);
  Vectors state(vectors, splat(b, lowest));
  state.append(vectors, splat(b, zero));
  auto blocks = scf::ForOp::create(b, loc, first, last, oneIndex, state);
  OpBuilder in = OpBuilder::atBlockEnd(blocks.getBody());
  scf::YieldOp::create(in, loc,
                       emitBlock(in, tile, blocks.getInductionVar(),
                                 blocks.getRegionIterArgs()));
  storeResult(b, tile, blocks.getResults().drop_front(vectors));
}

struct LowerBlockAttention
    : gossamer::impl::LowerBlockAttentionBase<LowerBlockAttention> {
  using LowerBlockAttentionBase::LowerBlockAttentionBase;
  void runOnOperation() override {
    SmallVector<AttentionOp> ops;
    getOperation().walk([&](AttentionOp op) { ops.push_back(op); });
    for (AttentionOp op : ops) {
      // Sums of narrower numbers are f32.
      unsigned bits = std::max(
          32u, getElementTypeOrSelf(op.getQuery()).getIntOrFloatBitWidth());
      unsigned lanes = vectorBytes * 8 / bits;
      SmallVector<int64_t, 2> shape = BlockAttention::blockShape(op);
      // Lower blocks would leave most lanes empty.
      if (shape.empty() || shape[0] < lanes || !isVectorizable(op.getBlock()))
        continue;
      report(op, "gossamer.attention", Road::General,
             "one loop nest over " + Twine(shape[0]) + "x" + Twine(shape[1]) +
                 " blocks, " + Twine(lanes) +
                 " rows a vector, block rows in parallel, scores never stored");
      // Sums leave registers for what is multiplied: of 16, or of 32.
      BlockAttention(op, lanes, vectorBytes == 64 ? 8 : 4).run();
    }
  }
};

} // namespace
