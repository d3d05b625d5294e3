//===- GpuStored.cpp - sampled products and softmaxes on a GPU ------------===//

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Utils/StaticValueUtils.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "mlir/IR/TypeUtilities.h"
#include "passes/GpuLanes.h"
#include "passes/HalfPrecision.h"
#include "passes/RegisterTile.h"
#include "passes/Storage.h"
#include "passes/StoredOps.h"

using namespace mlir;
using namespace gossamer;

static Value narrowTo(OpBuilder &b, Location loc, Value value, Type type) {
  if (value.getType() == type)
    return value;
  return arith::TruncFOp::create(b, loc, type, value);
}

namespace {

/// Eight lanes make the dot product of an entry, of which a warp has four at a
/// time; they read 16 bytes each where memory allows it, so that a cache line
/// is read by one instruction.
constexpr int64_t dotLanes = 8;

class SddmmOnGpu {
public:
  explicit SddmmOnGpu(SDDMMOp op)
      : op(op), builder(op), loc(op.getLoc()), maps(op.getMaps()),
        storage(builder, loc, op.getPattern()),
        lhs(toBuffer(builder, loc, op.getLhs(), true)),
        rhs(toBuffer(builder, loc, op.getRhs(), true)),
        operands(builder, loc, op.getExtras(), ArrayRef(maps).drop_front(3)),
        element(getElementTypeOrSelf(op.getLhs())), sumType(sumTypeOf(element)),
        out(makeValues(builder, loc, op.getResult(), storage.values)) {}

  void run(unsigned summed);

private:
  bool isContiguous(unsigned operand) const;
  /// A copy of an operand with the summed dimension last.
  void transpose(Value &operand, AffineMap &map);
  Value isAligned(int64_t count);
  /// The loops; `count` numbers are loaded at once. With the depth known, all
  /// loads of an entry are on their way at once, and those of its row's operand
  /// are the same for the whole row.
  void emit(OpBuilder &b, int64_t count, std::optional<int64_t> known = {});
  /// The sum of the products at `count` places from `depth` on.
  Value products(OpBuilder &b, ArrayRef<Value> loops, Value depth,
                 int64_t count);

  SDDMMOp op;
  OpBuilder builder;
  Location loc;
  SmallVector<AffineMap> maps;
  Storage storage;
  Value lhs, rhs;
  BodyOperands operands;
  Type element, sumType;
  Value out, depth;
  unsigned summed = 0;
};

bool SddmmOnGpu::isContiguous(unsigned operand) const {
  return maps[operand].getResults().back() ==
         getAffineDimExpr(summed, op->getContext());
}

void SddmmOnGpu::transpose(Value &operand, AffineMap &map) {
  auto type = cast<MemRefType>(operand.getType());
  unsigned rank = type.getRank();
  unsigned place =
      *map.getResultPosition(getAffineDimExpr(summed, op->getContext()));
  SmallVector<unsigned> order;
  for (unsigned dim = 0; dim < rank; ++dim)
    if (dim != place)
      order.push_back(dim);
  order.push_back(place);
  SmallVector<Value> sizes, zeros(rank, indexConstant(builder, loc, 0)),
      ones(rank, indexConstant(builder, loc, 1));
  for (unsigned dim = 0; dim < rank; ++dim)
    sizes.push_back(memref::DimOp::create(builder, loc, operand, dim));
  SmallVector<Value> copySizes;
  SmallVector<AffineExpr> exprs;
  for (unsigned dim : order) {
    copySizes.push_back(sizes[dim]);
    exprs.push_back(map.getResult(dim));
  }
  Value copy = memref::AllocOp::create(
      builder, loc,
      MemRefType::get(SmallVector<int64_t>(rank, ShapedType::kDynamic),
                      type.getElementType()),
      copySizes, builder.getI64IntegerAttr(64));
  auto loop = scf::ParallelOp::create(builder, loc, zeros, sizes, ones);
  OpBuilder in = OpBuilder::atBlockTerminator(loop.getBody());
  auto vars = loop.getInductionVars();
  SmallVector<Value> to;
  for (unsigned dim : order)
    to.push_back(vars[dim]);
  memref::StoreOp::create(
      in, loc, memref::LoadOp::create(in, loc, operand, vars), copy, to);
  operand = copy;
  map = AffineMap::get(map.getNumDims(), 0, exprs, op->getContext());
}

Value SddmmOnGpu::isAligned(int64_t count) {
  int64_t bytes = count * element.getIntOrFloatBitWidth() / 8;
  Value bits = arith::RemUIOp::create(builder, loc, depth,
                                      indexConstant(builder, loc, count));
  for (Value buffer : {lhs, rhs}) {
    Value address =
        memref::ExtractAlignedPointerAsIndexOp::create(builder, loc, buffer);
    address = arith::AndIOp::create(builder, loc, address,
                                    indexConstant(builder, loc, bytes - 1));
    bits = arith::OrIOp::create(builder, loc, bits, address);
  }
  return arith::CmpIOp::create(builder, loc, arith::CmpIPredicate::eq, bits,
                               indexConstant(builder, loc, 0));
}

Value SddmmOnGpu::products(OpBuilder &b, ArrayRef<Value> loops, Value at,
                           int64_t count) {
  SmallVector<Value> point(loops);
  point[summed] = at;
  bool isFloat = isa<FloatType>(sumType);
  auto multiply = [&](Value a, Value c, Value sum) -> Value {
    Value product = isFloat ? arith::MulFOp::create(b, loc, a, c).getResult()
                            : arith::MulIOp::create(b, loc, a, c).getResult();
    if (!sum)
      return product;
    return isFloat ? arith::AddFOp::create(b, loc, sum, product).getResult()
                   : arith::AddIOp::create(b, loc, sum, product).getResult();
  };
  if (count == 1)
    return multiply(
        extendTo(b, loc, loadAt(b, loc, lhs, maps[1], point), sumType),
        extendTo(b, loc, loadAt(b, loc, rhs, maps[2], point), sumType), {});
  Value a = extendTo(
      b, loc, loadLanes(b, loc, count, lhs, applyMap(b, loc, maps[1], point)),
      sumType);
  Value c = extendTo(
      b, loc, loadLanes(b, loc, count, rhs, applyMap(b, loc, maps[2], point)),
      sumType);
  Value sum;
  for (int64_t n = 0; n < count; ++n)
    sum = multiply(vector::ExtractOp::create(b, loc, a, n),
                   vector::ExtractOp::create(b, loc, c, n), sum);
  return sum;
}

void SddmmOnGpu::emit(OpBuilder &b, int64_t count,
                      std::optional<int64_t> known) {
  storage.forEachOnGpu(
      b, warpSize / dotLanes, [&](OpBuilder &in, ValueRange coords, Value at) {
        SmallVector<Value> dims = storage.toDims(in, coords);
        SmallVector<Value> loops = loopsOfDims(maps[0], dims);
        Value zero =
            arith::ConstantOp::create(in, loc, in.getZeroAttr(sumType));
        Value dot = reduceOverLanes(
            in, loc, indexConstant(in, loc, 0),
            known ? indexConstant(in, loc, *known) : depth,
            indexConstant(in, loc, count), dotLanes, zero,
            [&](OpBuilder &to, Value from) {
              return products(to, loops, from, count);
            },
            [&](OpBuilder &to, Value x, Value y) -> Value {
              return isa<FloatType>(sumType)
                         ? arith::AddFOp::create(to, loc, x, y).getResult()
                         : arith::AddIOp::create(to, loc, x, y).getResult();
            });
        SmallVector<Value> args{
            memref::LoadOp::create(in, loc, storage.values, at),
            narrowTo(in, loc, dot, element)};
        operands.load(in, loc, loops, at, args);
        memref::StoreOp::create(
            in, loc, inlineBody(in, op.getBlock(), args, dims), out, at);
      });
}

void SddmmOnGpu::run(unsigned loop) {
  summed = loop;
  depth = memref::DimOp::create(
      builder, loc, lhs,
      *maps[1].getResultPosition(getAffineDimExpr(loop, op.getContext())));
  int64_t count = 128 / std::max<int64_t>(8, element.getIntOrFloatBitWidth());
  if (!isContiguous(1))
    transpose(lhs, maps[1]);
  if (!isContiguous(2))
    transpose(rhs, maps[2]);
  if (isa<FloatType>(element)) {
    auto aligned = scf::IfOp::create(builder, loc, isAligned(count),
                                     /*withElseRegion=*/true);
    OpBuilder then = aligned.getThenBodyBuilder();
    // Of f64, that would be too much for registers.
    SmallVector<int64_t> depths;
    if (!element.isF64())
      depths = {64, 128};
    for (int64_t known : depths) {
      Value same =
          arith::CmpIOp::create(then, loc, arith::CmpIPredicate::eq, depth,
                                indexConstant(then, loc, known));
      auto branch = scf::IfOp::create(then, loc, same, /*withElseRegion=*/true);
      OpBuilder in = branch.getThenBodyBuilder();
      emit(in, count, known);
      then = branch.getElseBodyBuilder();
    }
    emit(then, count);
    OpBuilder otherwise = aligned.getElseBodyBuilder();
    emit(otherwise, 1);
  } else {
    emit(builder, 1);
  }
  replaceWithValues(builder, op, op.getPattern(), out);
}

/// The rows of a tensor along a dimension for which `storesRows` holds.
class Rows {
public:
  Rows(OpBuilder &b, Location loc, const Storage &storage, unsigned dim)
      : loc(loc), storage(storage), numLeading(storage.numLeadingDense()) {
    for (unsigned lvl = numLeading + 1; lvl < storage.type.getLvlRank(); ++lvl)
      inner.push_back({storage.lvlSize(lvl), storage.isAlong(lvl, dim)});
  }

  /// Visits rows in parallel, with how many entries each has, and a function
  /// from a number below that to the position of an entry.
  using Place = llvm::function_ref<Value(OpBuilder &, Value)>;
  void forEach(OpBuilder &b,
               llvm::function_ref<void(OpBuilder &, Value, Place)> body) const {
    SmallVector<Value> upper;
    for (unsigned lvl = 0; lvl < numLeading; ++lvl)
      upper.push_back(storage.lvlSize(lvl));
    Value along = indexConstant(b, loc, 1);
    for (auto [size, isAlong] : inner) {
      if (isAlong)
        along = mulIndex(b, loc, along, size);
      else
        upper.push_back(size);
    }
    // One row is a warp's; of a loop that visibly runs once, nothing would be
    // left.
    if (upper.empty())
      upper.push_back(arith::MinSIOp::create(b, loc, storage.lvlSize(0),
                                             indexConstant(b, loc, 1)));
    auto loop = scf::ParallelOp::create(
        b, loc, SmallVector<Value>(upper.size(), indexConstant(b, loc, 0)),
        upper, SmallVector<Value>(upper.size(), indexConstant(b, loc, 1)));
    OpBuilder in = OpBuilder::atBlockTerminator(loop.getBody());
    auto vars = loop.getInductionVars();
    Value parent = indexConstant(in, loc, 0);
    for (unsigned lvl = 0; lvl < numLeading; ++lvl)
      parent = addIndex(
          in, loc, mulIndex(in, loc, parent, storage.lvlSize(lvl)), vars[lvl]);
    auto [first, last] = storage.segment(in, numLeading, parent);
    Value lower = first;
    Value count =
        mulIndex(in, loc, arith::SubIOp::create(in, loc, last, first), along);
    body(in, count, [&](OpBuilder &at, Value number) -> Value {
      Value position = number, within;
      if (!isConstantIntValue(along, 1)) {
        within = arith::RemUIOp::create(at, loc, number, along);
        position = arith::DivUIOp::create(at, loc, number, along);
      }
      position = addIndex(at, loc, lower, position);
      // Of the block's own dimensions, the last varies fastest.
      SmallVector<Value> places(inner.size());
      unsigned other = upper.size();
      for (unsigned n = inner.size(); n-- > 0;) {
        Value size = inner[n].first;
        if (!inner[n].second) {
          places[n] = vars[--other];
          continue;
        }
        places[n] = arith::RemUIOp::create(at, loc, within, size);
        within = arith::DivUIOp::create(at, loc, within, size);
      }
      for (auto [entry, place] : llvm::zip(inner, places))
        position =
            addIndex(at, loc, mulIndex(at, loc, position, entry.first), place);
      return position;
    });
  }

private:
  Location loc;
  const Storage &storage;
  unsigned numLeading;
  /// Size, and whether it is of the rows' dimension.
  SmallVector<std::pair<Value, bool>> inner;
};

} // namespace

bool gossamer::lowerSddmmOnGpu(SDDMMOp op) {
  std::optional<unsigned> summed = summedLoop(op);
  if (!summed)
    return false;
  SddmmOnGpu(op).run(*summed);
  return true;
}

bool gossamer::lowerSoftmaxOnGpu(SoftmaxOp op) {
  OpBuilder builder(op);
  Location loc = op.getLoc();
  Storage storage(builder, loc, op.getSource());
  Storage index =
      op.getIndex() ? Storage(builder, loc, op.getIndex()) : storage;
  if (!storesRows(index.type, op.getDimension()))
    return false;
  Rows rows(builder, loc, index, op.getDimension());
  Type element = getElementTypeOrSelf(op.getSource());
  auto type = cast<FloatType>(sumTypeOf(element));
  auto constant = [&](OpBuilder &b, double value) -> Value {
    return arith::ConstantOp::create(b, loc, b.getFloatAttr(type, value));
  };
  Value out = makeValues(builder, loc, op.getResult(), storage.values);
  rows.forEach(builder, [&](OpBuilder &b, Value count, Rows::Place placeInRow) {
    auto place = [&](OpBuilder &in, Value n) -> Value {
      Value at = placeInRow(in, n);
      return op.getIndex() ? loadIndex(in, loc, index.values, at) : at;
    };
    Value first = indexConstant(b, loc, 0), step = indexConstant(b, loc, 1);
    Value lowest = constant(b, -std::numeric_limits<double>::infinity());
    Value zero = constant(b, 0.0);
    auto load = [&](OpBuilder &in, Value n) {
      return extendTo(
          in, loc,
          memref::LoadOp::create(in, loc, storage.values, place(in, n)), type);
    };
    Value maximum =
        reduceOverLanes(b, loc, first, count, step, warpSize, lowest, load,
                        [&](OpBuilder &in, Value x, Value y) -> Value {
                          return arith::MaximumFOp::create(in, loc, x, y);
                        });
    // -inf is masked, also where the whole row is (-inf - -inf would be NaN).
    auto power = [&](OpBuilder &in, Value n) -> Value {
      Value value = load(in, n);
      Value masked = arith::CmpFOp::create(in, loc, arith::CmpFPredicate::OEQ,
                                           value, lowest);
      Value raised = math::ExpOp::create(
          in, loc, arith::SubFOp::create(in, loc, value, maximum));
      return arith::SelectOp::create(in, loc, masked, zero, raised);
    };
    Value sum =
        reduceOverLanes(b, loc, first, count, step, warpSize, zero, power,
                        [&](OpBuilder &in, Value x, Value y) -> Value {
                          return arith::AddFOp::create(in, loc, x, y);
                        });
    // A row with nothing allowed has the sum 0, and is 0.
    Value empty =
        arith::CmpFOp::create(b, loc, arith::CmpFPredicate::OEQ, sum, zero);
    Value divisor =
        arith::SelectOp::create(b, loc, empty, constant(b, 1.0), sum);
    forEachLane(b, loc, first, count, warpSize, [&](OpBuilder &in, Value n) {
      Value share = arith::DivFOp::create(in, loc, power(in, n), divisor);
      memref::StoreOp::create(in, loc, narrowTo(in, loc, share, element), out,
                              place(in, n));
    });
  });
  replaceWithValues(builder, op, op.getSource(), out);
  return true;
}
