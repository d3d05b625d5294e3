//===- LowerStored.cpp - operations on stored entries become loops --------===//

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Bufferization/IR/Bufferization.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "mlir/IR/TypeUtilities.h"
#include "mlir/Interfaces/SideEffectInterfaces.h"
#include "passes/GpuLanes.h"
#include "passes/Passes.h"
#include "passes/Report.h"
#include "passes/Storage.h"
#include "passes/StoredOps.h"

namespace gossamer {
#define GEN_PASS_DEF_LOWERSTORED
#include "passes/Passes.h.inc"
} // namespace gossamer

using namespace mlir;
using namespace gossamer;
using sparse_tensor::getSparseTensorEncoding;

namespace {

/// Whether a body needs to know where a stored entry is.
bool dependsOnPlace(Block &body, ArrayRef<bool> sparse) {
  return llvm::is_contained(sparse, false) ||
         llvm::any_of(body, llvm::IsaPred<IndexOp>);
}

void lower(MapOp op, bool gpu) {
  OpBuilder builder(op);
  Location loc = op.getLoc();
  SmallVector<AffineMap> maps = op.getMaps();
  Storage storage(builder, loc, op.getPattern());
  BodyOperands operands(builder, loc, op.getExtras(),
                        ArrayRef(maps).drop_front());
  Value out = makeValues(builder, loc, op.getResult(), storage.values);
  auto entry = [&](OpBuilder &b, ValueRange loops, ValueRange dims, Value at) {
    SmallVector<Value> args{memref::LoadOp::create(b, loc, storage.values, at)};
    operands.load(b, loc, loops, at, args);
    memref::StoreOp::create(b, loc, inlineBody(b, op.getBlock(), args, dims),
                            out, at);
  };
  auto entryAt = [&](OpBuilder &b, ValueRange coords, Value at) {
    SmallVector<Value> dims = storage.toDims(b, coords);
    entry(b, loopsOfDims(maps[0], dims), dims, at);
  };
  if (!gpu) {
    storage.forEach(builder, true, entryAt);
  } else if (dependsOnPlace(op.getBlock(), operands.sparse)) {
    storage.forEachOnGpu(builder, warpSize, entryAt);
  } else {
    Value count = memref::DimOp::create(builder, loc, storage.values, 0);
    auto loop =
        scf::ParallelOp::create(builder, loc, indexConstant(builder, loc, 0),
                                count, indexConstant(builder, loc, 1));
    OpBuilder in = OpBuilder::atBlockTerminator(loop.getBody());
    entry(in, {}, {}, loop.getInductionVars()[0]);
  }
  replaceWithValues(builder, op, op.getPattern(), out);
}

void lower(SDDMMOp op, bool gpu) {
  OpBuilder builder(op);
  Location loc = op.getLoc();
  SmallVector<AffineMap> maps = op.getMaps();
  Storage storage(builder, loc, op.getPattern());
  Value lhs = toBuffer(builder, loc, op.getLhs(), true);
  Value rhs = toBuffer(builder, loc, op.getRhs(), true);
  BodyOperands operands(builder, loc, op.getExtras(),
                        ArrayRef(maps).drop_front(3));
  // Sizes of the summed loops.
  SmallVector<unsigned> summed;
  SmallVector<Value> sizes;
  for (unsigned loop = 0; loop < maps[0].getNumDims(); ++loop) {
    if (maps[0].isFunctionOfDim(loop))
      continue;
    summed.push_back(loop);
    bool inLhs = maps[1].isFunctionOfDim(loop);
    unsigned dim = *maps[inLhs ? 1 : 2].getResultPosition(
        getAffineDimExpr(loop, op.getContext()));
    sizes.push_back(
        memref::DimOp::create(builder, loc, inLhs ? lhs : rhs, dim));
  }
  Type element = getElementTypeOrSelf(op.getLhs());
  Value zero =
      arith::ConstantOp::create(builder, loc, builder.getZeroAttr(element));
  Value first = indexConstant(builder, loc, 0),
        step = indexConstant(builder, loc, 1);
  Value out = makeValues(builder, loc, op.getResult(), storage.values);

  auto entry = [&](OpBuilder &b, ValueRange coords, Value at) {
    SmallVector<Value> dims = storage.toDims(b, coords);
    SmallVector<Value> loops = loopsOfDims(maps[0], dims);
    // One nest a summed loop, the sum carried in a register.
    auto sum = [&](auto &&self, OpBuilder &in, unsigned n,
                   Value carried) -> Value {
      if (n == summed.size()) {
        Value a = loadAt(in, loc, lhs, maps[1], loops);
        Value c = loadAt(in, loc, rhs, maps[2], loops);
        if (isa<FloatType>(element))
          return arith::AddFOp::create(in, loc, carried,
                                       arith::MulFOp::create(in, loc, a, c));
        return arith::AddIOp::create(in, loc, carried,
                                     arith::MulIOp::create(in, loc, a, c));
      }
      auto loop = scf::ForOp::create(in, loc, first, sizes[n], step, carried);
      OpBuilder inner = OpBuilder::atBlockEnd(loop.getBody());
      loops[summed[n]] = loop.getInductionVar();
      scf::YieldOp::create(inner, loc,
                           self(self, inner, n + 1, loop.getRegionIterArg(0)));
      return loop.getResult(0);
    };
    Value dot = sum(sum, b, 0, zero);
    SmallVector<Value> args{memref::LoadOp::create(b, loc, storage.values, at),
                            dot};
    operands.load(b, loc, loops, at, args);
    memref::StoreOp::create(b, loc, inlineBody(b, op.getBlock(), args, dims),
                            out, at);
  };
  if (gpu)
    storage.forEachOnGpu(builder, warpSize, entry);
  else
    storage.forEach(builder, true, entry);
  replaceWithValues(builder, op, op.getPattern(), out);
}

/// Three passes over the stored entries with two numbers a row in between:
/// right for every format, whatever order it stores the entries of a row in.
/// Parallel over leading dense levels where rows do not cross them.
void lower(SoftmaxOp op) {
  OpBuilder builder(op);
  Location loc = op.getLoc();
  Storage storage(builder, loc, op.getSource());
  Type element = getElementTypeOrSelf(op.getSource());
  auto shape = cast<RankedTensorType>(op.getSource().getType());
  unsigned dim = op.getDimension();

  bool parallel = true;
  for (unsigned lvl = 0; lvl < storage.numLeadingDense(); ++lvl)
    parallel &= !storage.isAlong(lvl, dim);

  SmallVector<int64_t> rowShape;
  SmallVector<Value> rowSizes;
  for (unsigned d = 0; d < shape.getRank(); ++d) {
    if (d == dim)
      continue;
    rowShape.push_back(shape.getDimSize(d));
    if (shape.isDynamicDim(d))
      rowSizes.push_back(
          tensor::DimOp::create(builder, loc, op.getSource(), d));
  }
  auto rowType = MemRefType::get(rowShape, element);
  Value maxima = memref::AllocOp::create(builder, loc, rowType, rowSizes);
  Value sums = memref::AllocOp::create(builder, loc, rowType, rowSizes);
  auto floatType = cast<FloatType>(element);
  Value lowest = arith::ConstantOp::create(
      builder, loc,
      builder.getFloatAttr(floatType,
                           APFloat::getInf(floatType.getFloatSemantics(),
                                           /*Negative=*/true)));
  Value zero =
      arith::ConstantOp::create(builder, loc, builder.getZeroAttr(element));
  linalg::FillOp::create(builder, loc, lowest, maxima);
  linalg::FillOp::create(builder, loc, zero, sums);
  Value out = makeValues(builder, loc, op.getResult(), storage.values);
  auto rowOf = [&](OpBuilder &b, ValueRange coords) {
    SmallVector<Value> dims = storage.toDims(b, coords);
    dims.erase(dims.begin() + dim);
    return dims;
  };
  storage.forEach(builder, parallel, [&](OpBuilder &b, ValueRange c, Value at) {
    auto row = rowOf(b, c);
    Value value = memref::LoadOp::create(b, loc, storage.values, at);
    Value old = memref::LoadOp::create(b, loc, maxima, row);
    memref::StoreOp::create(
        b, loc, arith::MaximumFOp::create(b, loc, old, value), maxima, row);
  });
  storage.forEach(builder, parallel, [&](OpBuilder &b, ValueRange c, Value at) {
    auto row = rowOf(b, c);
    Value value = memref::LoadOp::create(b, loc, storage.values, at);
    Value maximum = memref::LoadOp::create(b, loc, maxima, row);
    // -inf is masked, also where the whole row is (-inf - -inf would be NaN).
    Value masked =
        arith::CmpFOp::create(b, loc, arith::CmpFPredicate::OEQ, value, lowest);
    Value power = math::ExpOp::create(
        b, loc, arith::SubFOp::create(b, loc, value, maximum));
    power = arith::SelectOp::create(b, loc, masked, zero, power);
    memref::StoreOp::create(b, loc, power, out, at);
    Value old = memref::LoadOp::create(b, loc, sums, row);
    memref::StoreOp::create(b, loc, arith::AddFOp::create(b, loc, old, power),
                            sums, row);
  });
  storage.forEach(builder, parallel, [&](OpBuilder &b, ValueRange c, Value at) {
    Value power = memref::LoadOp::create(b, loc, out, at);
    Value sum = memref::LoadOp::create(b, loc, sums, rowOf(b, c));
    // A row with nothing allowed has the sum 0, and is 0.
    Value empty =
        arith::CmpFOp::create(b, loc, arith::CmpFPredicate::OEQ, sum, zero);
    Value share = arith::DivFOp::create(b, loc, power, sum);
    memref::StoreOp::create(
        b, loc, arith::SelectOp::create(b, loc, empty, zero, share), out, at);
  });
  memref::DeallocOp::create(builder, loc, maxima);
  memref::DeallocOp::create(builder, loc, sums);
  replaceWithValues(builder, op, op.getSource(), out);
}

LogicalResult lower(ConvertOp op, bool gpu) {
  bool fromSparse =
      getSparseTensorEncoding(op.getSource().getType()) != nullptr;
  bool toSparse = getSparseTensorEncoding(op.getResult().getType()) != nullptr;
  if (fromSparse && toSparse)
    return success();             // of an argument: the runtime does it
  if (!fromSparse && !toSparse) { // of sizes at most, that one side knows
    OpBuilder builder(op);
    Value same = builder.createOrFold<tensor::CastOp>(
        op.getLoc(), op.getResult().getType(), op.getSource());
    op.getResult().replaceAllUsesWith(same);
    op.erase();
    return success();
  }
  if (toSparse)
    return op.emitOpError("makes a new pattern, which only the runtime does");
  report(op, "gossamer.convert", Road::Dense,
         "an operation that cannot read this storage gets all entries");
  OpBuilder builder(op);
  Location loc = op.getLoc();
  Storage storage(builder, loc, op.getSource());
  auto type = cast<RankedTensorType>(op.getResult().getType());
  SmallVector<Value> sizes;
  for (unsigned d = 0; d < type.getRank(); ++d)
    if (type.isDynamicDim(d))
      sizes.push_back(tensor::DimOp::create(builder, loc, op.getSource(), d));
  Value out = memref::AllocOp::create(
      builder, loc, MemRefType::get(type.getShape(), type.getElementType()),
      sizes);
  Value fill =
      arith::ConstantOp::create(builder, loc, cast<TypedAttr>(op.getFill()));
  linalg::FillOp::create(builder, loc, fill, out);
  auto entry = [&](OpBuilder &b, ValueRange coords, Value at) {
    memref::StoreOp::create(b, loc,
                            memref::LoadOp::create(b, loc, storage.values, at),
                            out, storage.toDims(b, coords));
  };
  if (gpu)
    storage.forEachOnGpu(builder, warpSize, entry);
  else
    storage.forEach(builder, true, entry);
  Value result = bufferization::ToTensorOp::create(builder, loc, type, out,
                                                   /*restrict=*/true);
  op.getResult().replaceAllUsesWith(result);
  op.erase();
  return success();
}

/// What is left of these after the producers wrote in place is a copy.
void lower(StoreValuesOp op) {
  OpBuilder builder(op);
  Value values =
      sparse_tensor::ToValuesOp::create(builder, op.getLoc(), op.getSource());
  auto assemble = op.getSource().getDefiningOp<AssembleOp>();
  auto toTensor =
      assemble ? assemble.getValues().getDefiningOp<bufferization::ToTensorOp>()
               : nullptr;
  if (!toTensor || toTensor.getBuffer() != op.getBuffer())
    memref::CopyOp::create(builder, op.getLoc(), values, op.getBuffer());
  op.erase();
}

/// How a GPU does it, for the report.
StringRef onGpu(Operation *op) {
  if (auto softmax = dyn_cast<SoftmaxOp>(op))
    return softmax.getIndex() ? "GPU: a warp has a row, by an index of rows"
                              : "GPU: a warp has a row";
  return isa<SDDMMOp>(op)
             ? "GPU: a warp has four entries of a row at a time"
             : "GPU: a thread has an entry, or a lane where rows matter";
}

struct LowerStored : gossamer::impl::LowerStoredBase<LowerStored> {
  using LowerStoredBase::LowerStoredBase;

  void getDependentDialects(DialectRegistry &registry) const override {
    LowerStoredBase::getDependentDialects(registry);
    registry.insert<vector::VectorDialect>();
  }

  void runOnOperation() override {
    SmallVector<Operation *> ops;
    getOperation().walk([&](Operation *op) { ops.push_back(op); });
    for (Operation *op : ops) {
      if (isOpTriviallyDead(op) && isa<GossamerDialect>(op->getDialect())) {
        op->erase();
        continue;
      }
      if (isa<MapOp, SDDMMOp, SoftmaxOp>(op))
        report(op, op->getName().getStringRef(), Road::General,
               gpu ? onGpu(op) : "loops over stored entries");
      if (auto map = dyn_cast<MapOp>(op)) {
        if (failed(verifyShared(op, map.getPattern(), map.getExtras())))
          return signalPassFailure();
        lower(map, gpu);
      } else if (auto sddmm = dyn_cast<SDDMMOp>(op)) {
        if (failed(verifyShared(op, sddmm.getPattern(), sddmm.getExtras())))
          return signalPassFailure();
        if (!gpu || !lowerSddmmOnGpu(sddmm))
          lower(sddmm, gpu);
      } else if (auto softmax = dyn_cast<SoftmaxOp>(op)) {
        if (!gpu || !lowerSoftmaxOnGpu(softmax))
          lower(softmax);
      } else if (auto gather = dyn_cast<GatherOp>(op)) {
        if (failed(lowerGather(gather)))
          return signalPassFailure();
      } else if (auto store = dyn_cast<StoreValuesOp>(op)) {
        lower(store);
      } else if (auto convert = dyn_cast<ConvertOp>(op)) {
        if (failed(lower(convert, gpu)))
          return signalPassFailure();
      }
    }
  }
};

} // namespace
