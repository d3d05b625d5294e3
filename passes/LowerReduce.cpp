//===- LowerReduce.cpp - reductions of what is stored ---------------------===//
//
// The entries are visited in storage order, whatever the format. As long as the
// loops that are left do not change the point of the result, the accumulator is
// in registers; else it is in memory. Two ways to run in parallel:
//
// * Outer levels are kept (rows of a sum over columns): they share no point of
//   the result, and are the parallel loop.
// * They are reduced (the columns of a sum over rows, the sum of all): they are
//   cut into chunks, each of which has a result of its own, and these are
//   combined in order. How many chunks depends on sizes alone, not on threads,
//   so that a sum is the same on every machine.
//
//===----------------------------------------------------------------------===//

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Bufferization/IR/Bufferization.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/IR/TypeUtilities.h"
#include "passes/GpuLanes.h"
#include "passes/Passes.h"
#include "passes/Report.h"
#include "passes/SharedPattern.h"
#include "passes/StoredOps.h"

namespace gossamer {
#define GEN_PASS_DEF_LOWERREDUCE
#include "passes/Passes.h.inc"
} // namespace gossamer

using namespace mlir;
using namespace gossamer;

namespace {

/// At most so many chunks, each of at least so many stored entries, and of that
/// many times the size of the result, which each chunk sets and gives up.
struct Chunks {
  int64_t most, entries, results;
};
constexpr Chunks cpuChunks{64, 8192, 4}, gpuChunks{4096, 256, 4};

class ReduceLowering {
public:
  ReduceLowering(ReduceOp op, bool gpu);
  void run();

private:
  using Accumulator = SmallVector<Value>; // the value, then what it counted
  bool isKept(unsigned lvl);
  /// The point of the result to which entries below `coords` go.
  SmallVector<Value> pointOf(OpBuilder &b, ValueRange coords);
  Accumulator identity(OpBuilder &b);
  /// Adds all entries below a node to an accumulator.
  Accumulator reduceBelow(OpBuilder &b, SmallVectorImpl<Value> &coords,
                          Value position, ValueRange start);
  Accumulator reduceByLanes(OpBuilder &b, SmallVectorImpl<Value> &coords,
                            Value position);
  /// Adds all entries below a node to accumulators in memory, of which the
  /// indices begin with `prefix`.
  void reduceInto(OpBuilder &b, SmallVectorImpl<Value> &coords, Value position,
                  ValueRange memory, ValueRange prefix);
  /// The result at a point, once all that is stored is in: takes in the fill.
  Value finish(OpBuilder &b, Accumulator all);
  void forEachPoint(OpBuilder &b, bool parallel,
                    llvm::function_ref<void(OpBuilder &, ValueRange)> body);
  SmallVector<Value> allocate(Value chunks);

  void runDirectly();
  void runOverKept();
  void runInChunks();

  ReduceOp op;
  bool gpu;
  Chunks chunking;
  OpBuilder builder;
  Location loc;
  Storage storage;
  BodyOperands operands;
  AffineMap patternMap, resultMap;
  Value out;
  SmallVector<Value> outSizes;
  bool counts; // entries are counted: the fill changes the result
  unsigned numLevels, numParallel = 0, numKept = 0;
  Value numReduced; // entries behind a point of the result, stored or not
};

ReduceLowering::ReduceLowering(ReduceOp op, bool gpu)
    : op(op), gpu(gpu), chunking(gpu ? gpuChunks : cpuChunks), builder(op),
      loc(op.getLoc()), storage(builder, loc, op.getPattern()),
      operands(builder, loc, op.getExtras(),
               ArrayRef(op.getMaps()).drop_front().drop_back()),
      patternMap(op.getPatternMap()), resultMap(op.getResultMap()),
      counts(!op.isFillNeutral()), numLevels(storage.type.getLvlRank()) {
  while (numParallel < storage.numLeadingDense() && isKept(numParallel))
    ++numParallel;
  // Coordinates of an outer compressed level are all different, too.
  if (numParallel == 0 && isKept(0) && storage.type.isCompressedLvl(0) &&
      storage.type.isUniqueLvl(0))
    numParallel = 1;
  for (unsigned lvl = 0; lvl < numLevels; ++lvl)
    if (isKept(lvl))
      numKept = lvl + 1;
  if (counts) {
    numReduced = indexConstant(builder, loc, 1);
    for (auto [dim, expr] : llvm::enumerate(patternMap.getResults()))
      if (!resultMap.getResultPosition(expr))
        numReduced =
            mulIndex(builder, loc, numReduced,
                     tensor::DimOp::create(builder, loc, op.getPattern(), dim));
  }
  out = destination(builder, loc, op.getInit());
  for (int64_t dim = 0; dim < cast<MemRefType>(out.getType()).getRank(); ++dim)
    outSizes.push_back(memref::DimOp::create(builder, loc, out, dim));
}

bool ReduceLowering::isKept(unsigned lvl) {
  for (auto [dim, expr] : llvm::enumerate(patternMap.getResults()))
    if (resultMap.getResultPosition(expr) &&
        (storage.type.isIdentity()
             ? lvl == dim
             : storage.type.getDimToLvl().getResult(lvl).isFunctionOfDim(dim)))
      return true;
  return false;
}

SmallVector<Value> ReduceLowering::pointOf(OpBuilder &b, ValueRange coords) {
  // The levels that are left are of reduced dimensions.
  SmallVector<Value> all(coords);
  while (all.size() < numLevels)
    all.push_back(indexConstant(b, loc, 0));
  return applyMap(b, loc, resultMap,
                  loopsOfDims(patternMap, storage.toDims(b, all)));
}

ReduceLowering::Accumulator ReduceLowering::identity(OpBuilder &b) {
  Accumulator start{arith::ConstantOp::create(b, loc, op.getIdentity())};
  if (counts)
    start.push_back(indexConstant(b, loc, 0));
  return start;
}

ReduceLowering::Accumulator
ReduceLowering::reduceBelow(OpBuilder &b, SmallVectorImpl<Value> &coords,
                            Value position, ValueRange start) {
  return storage.visitBelow(
      b, coords, position, numLevels, start,
      [&](OpBuilder &in, ValueRange at, Value entry, ValueRange carried) {
        SmallVector<Value> dims = storage.toDims(in, at);
        SmallVector<Value> args{
            memref::LoadOp::create(in, loc, storage.values, entry)};
        operands.load(in, loc, loopsOfDims(patternMap, dims), entry, args);
        Value value = inlineBody(in, op.getBlock(), args, dims);
        Accumulator next{
            arith::getReductionOp(op.getKind(), in, loc, carried[0], value)};
        if (counts)
          next.push_back(
              addIndex(in, loc, carried[1], indexConstant(in, loc, 1)));
        return next;
      });
}

void ReduceLowering::reduceInto(OpBuilder &b, SmallVectorImpl<Value> &coords,
                                Value position, ValueRange memory,
                                ValueRange prefix) {
  unsigned end = std::max<unsigned>(numKept, coords.size());
  storage.visitBelow(b, coords, position, end, {},
                     [&](OpBuilder &in, ValueRange at, Value node, ValueRange) {
                       SmallVector<Value> point(prefix), inner(at);
                       llvm::append_range(point, pointOf(in, at));
                       Accumulator start;
                       for (Value buffer : memory)
                         start.push_back(
                             memref::LoadOp::create(in, loc, buffer, point));
                       Accumulator sum = reduceBelow(in, inner, node, start);
                       for (auto [value, buffer] : llvm::zip(sum, memory))
                         memref::StoreOp::create(in, loc, value, buffer, point);
                       return SmallVector<Value>();
                     });
}

Value ReduceLowering::finish(OpBuilder &b, Accumulator all) {
  if (!counts)
    return all[0];
  Type type = all[0].getType();
  Value fill = arith::ConstantOp::create(b, loc, op.getFill());
  Value missing = arith::SubIOp::create(b, loc, numReduced, all[1]);
  Value some = arith::CmpIOp::create(b, loc, arith::CmpIPredicate::ne, missing,
                                     indexConstant(b, loc, 0));
  // A fill other than the neutral one counts once in what it cannot change by
  // coming again, and so often in a sum.
  if (op.getKind() == arith::AtomicRMWKind::addf) {
    Value times = arith::SIToFPOp::create(
        b, loc, type,
        arith::IndexCastOp::create(b, loc, b.getI64Type(), missing));
    fill = arith::MulFOp::create(b, loc, fill, times);
  } else if (op.getKind() == arith::AtomicRMWKind::addi) {
    fill = arith::MulIOp::create(
        b, loc, fill, arith::IndexCastOp::create(b, loc, type, missing));
  }
  Value with = arith::getReductionOp(op.getKind(), b, loc, all[0], fill);
  return arith::SelectOp::create(b, loc, some, with, all[0]);
}

void ReduceLowering::forEachPoint(
    OpBuilder &b, bool parallel,
    llvm::function_ref<void(OpBuilder &, ValueRange)> body) {
  SmallVector<Value> zeros(outSizes.size(), indexConstant(b, loc, 0));
  SmallVector<Value> ones(outSizes.size(), indexConstant(b, loc, 1));
  if (outSizes.empty())
    return body(b, {});
  if (parallel) {
    auto loop = scf::ParallelOp::create(b, loc, zeros, outSizes, ones);
    OpBuilder inner = OpBuilder::atBlockTerminator(loop.getBody());
    return body(inner, loop.getInductionVars());
  }
  scf::LoopNest nest = scf::buildLoopNest(b, loc, zeros, outSizes, ones);
  OpBuilder inner = OpBuilder::atBlockTerminator(nest.loops.back().getBody());
  body(inner, llvm::map_to_vector(nest.loops, [](scf::ForOp loop) {
         return Value(loop.getInductionVar());
       }));
}

/// Memory for accumulators at every point, of each chunk if there are chunks.
SmallVector<Value> ReduceLowering::allocate(Value chunks) {
  auto type = cast<MemRefType>(out.getType());
  SmallVector<int64_t> shape;
  SmallVector<Value> sizes;
  if (chunks) {
    shape.push_back(ShapedType::kDynamic);
    sizes.push_back(chunks);
  }
  for (auto [dim, size] : llvm::enumerate(type.getShape())) {
    shape.push_back(size);
    if (type.isDynamicDim(dim))
      sizes.push_back(outSizes[dim]);
  }
  SmallVector<Value> memory;
  for (Value value : identity(builder))
    memory.push_back(memref::AllocOp::create(
        builder, loc, MemRefType::get(shape, value.getType()), sizes,
        builder.getI64IntegerAttr(64)));
  return memory;
}

/// The entries below a node, of which the next level is compressed, by the
/// lanes of a warp.
ReduceLowering::Accumulator
ReduceLowering::reduceByLanes(OpBuilder &b, SmallVectorImpl<Value> &coords,
                              Value position) {
  unsigned lvl = coords.size();
  auto [lower, upper] = storage.segment(b, lvl, position);
  return {reduceOverLanes(
      b, loc, lower, upper, indexConstant(b, loc, 1), warpSize, identity(b)[0],
      [&](OpBuilder &in, Value node) {
        coords.push_back(storage.coordinate(in, lvl, node));
        Value value = reduceBelow(in, coords, node, identity(in))[0];
        coords.pop_back();
        return value;
      },
      [&](OpBuilder &in, Value lhs, Value rhs) {
        return arith::getReductionOp(op.getKind(), in, loc, lhs, rhs);
      })};
}

/// Every point is visited once: it is written when its entries are through.
void ReduceLowering::runDirectly() {
  SmallVector<Value> zeros(numParallel, indexConstant(builder, loc, 0));
  SmallVector<Value> ones(numParallel, indexConstant(builder, loc, 1)), sizes;
  for (unsigned lvl = 0; lvl < numParallel; ++lvl)
    sizes.push_back(storage.lvlSize(lvl));
  auto loop = scf::ParallelOp::create(builder, loc, zeros, sizes, ones);
  OpBuilder in = OpBuilder::atBlockTerminator(loop.getBody());
  SmallVector<Value> coords(loop.getInductionVars());
  Value position = indexConstant(in, loc, 0);
  for (auto [size, coord] : llvm::zip(sizes, coords))
    position = addIndex(in, loc, mulIndex(in, loc, position, size), coord);
  Accumulator all = gpu && !counts && numParallel < numLevels &&
                            storage.type.getLvlType(numParallel).isWithPosLT()
                        ? reduceByLanes(in, coords, position)
                        : reduceBelow(in, coords, position, identity(in));
  memref::StoreOp::create(in, loc, finish(in, all), out, pointOf(in, coords));
}

void ReduceLowering::runOverKept() {
  SmallVector<Value> memory{out};
  if (counts)
    memory = allocate({});
  forEachPoint(builder, true, [&](OpBuilder &b, ValueRange point) {
    for (auto [value, buffer] : llvm::zip(identity(b), memory))
      memref::StoreOp::create(b, loc, value, buffer, point);
  });
  SmallVector<Value> lowers(numParallel, indexConstant(builder, loc, 0));
  SmallVector<Value> ones(numParallel, indexConstant(builder, loc, 1)), uppers;
  bool stored = !storage.type.isDenseLvl(0);
  for (unsigned lvl = 0; lvl < numParallel; ++lvl)
    uppers.push_back(storage.lvlSize(lvl));
  if (stored)
    std::tie(lowers[0], uppers[0]) =
        storage.segment(builder, 0, indexConstant(builder, loc, 0));
  auto loop = scf::ParallelOp::create(builder, loc, lowers, uppers, ones);
  OpBuilder in = OpBuilder::atBlockTerminator(loop.getBody());
  SmallVector<Value> coords(loop.getInductionVars());
  Value position = indexConstant(in, loc, 0);
  for (auto [size, coord] : llvm::zip(uppers, coords))
    position = addIndex(in, loc, mulIndex(in, loc, position, size), coord);
  if (stored) {
    position = coords[0];
    coords[0] = storage.coordinate(in, 0, position);
  }
  reduceInto(in, coords, position, memory, {});
  if (!counts)
    return;
  forEachPoint(builder, true, [&](OpBuilder &b, ValueRange point) {
    Accumulator all;
    for (Value buffer : memory)
      all.push_back(memref::LoadOp::create(b, loc, buffer, point));
    memref::StoreOp::create(b, loc, finish(b, all), out, point);
  });
  for (Value buffer : memory)
    memref::DeallocOp::create(builder, loc, buffer);
}

void ReduceLowering::runInChunks() {
  Value zero = indexConstant(builder, loc, 0),
        one = indexConstant(builder, loc, 1);
  // What is cut: all leading dense levels as one, or the outer stored level.
  unsigned leading = storage.numLeadingDense();
  Value lower = zero, upper = one;
  for (unsigned lvl = 0; lvl < leading; ++lvl)
    upper = mulIndex(builder, loc, upper, storage.lvlSize(lvl));
  if (leading == 0)
    std::tie(lower, upper) = storage.segment(builder, 0, zero);
  Value length = arith::SubIOp::create(builder, loc, upper, lower);

  Value points = one;
  for (Value size : outSizes)
    points = mulIndex(builder, loc, points, size);
  Value least = arith::MaxSIOp::create(
      builder, loc, indexConstant(builder, loc, chunking.entries),
      mulIndex(builder, loc, points,
               indexConstant(builder, loc, chunking.results)));
  Value entries = memref::DimOp::create(builder, loc, storage.values, 0);
  Value chunks = arith::DivSIOp::create(builder, loc, entries, least);
  chunks = arith::MinSIOp::create(builder, loc, chunks,
                                  indexConstant(builder, loc, chunking.most));
  chunks = arith::MaxSIOp::create(builder, loc, chunks, one);

  SmallVector<Value> memory = allocate(chunks);
  auto loop = scf::ParallelOp::create(builder, loc, zero, chunks, one);
  {
    OpBuilder in = OpBuilder::atBlockTerminator(loop.getBody());
    Value chunk = loop.getInductionVars()[0];
    auto bound = [&](Value n) -> Value {
      return addIndex(in, loc, lower,
                      arith::DivSIOp::create(
                          in, loc, mulIndex(in, loc, n, length), chunks));
    };
    Value first = bound(chunk);
    Value last = bound(addIndex(in, loc, chunk, one));
    auto nodeAt = [&](OpBuilder &at, Value n, SmallVectorImpl<Value> &coords) {
      if (leading == 0) {
        coords.push_back(storage.coordinate(at, 0, n));
        return;
      }
      Value left = n;
      coords.assign(leading, Value());
      for (unsigned lvl = leading - 1; lvl > 0; --lvl) {
        coords[lvl] =
            arith::RemUIOp::create(at, loc, left, storage.lvlSize(lvl));
        left = arith::DivUIOp::create(at, loc, left, storage.lvlSize(lvl));
      }
      coords[0] = left;
    };
    SmallVector<Value> coords;
    if (numKept == 0) {
      auto range = scf::ForOp::create(in, loc, first, last, one, identity(in));
      OpBuilder at = OpBuilder::atBlockEnd(range.getBody());
      nodeAt(at, range.getInductionVar(), coords);
      scf::YieldOp::create(at, loc,
                           reduceBelow(at, coords, range.getInductionVar(),
                                       range.getRegionIterArgs()));
      for (auto [value, buffer] : llvm::zip(range.getResults(), memory))
        memref::StoreOp::create(in, loc, value, buffer, chunk);
    } else {
      forEachPoint(in, false, [&](OpBuilder &b, ValueRange point) {
        SmallVector<Value> own{chunk};
        llvm::append_range(own, point);
        for (auto [value, buffer] : llvm::zip(identity(b), memory))
          memref::StoreOp::create(b, loc, value, buffer, own);
      });
      auto range = scf::ForOp::create(in, loc, first, last, one);
      OpBuilder at = OpBuilder::atBlockTerminator(range.getBody());
      nodeAt(at, range.getInductionVar(), coords);
      reduceInto(at, coords, range.getInductionVar(), memory, {chunk});
    }
  }
  if (gpu && !counts && numKept == 0) {
    // One warp; of a loop that visibly runs once, nothing would be left.
    Value once = arith::MinSIOp::create(builder, loc, chunks, one);
    auto warp = scf::ParallelOp::create(builder, loc, zero, once, one);
    OpBuilder b = OpBuilder::atBlockTerminator(warp.getBody());
    Value all = reduceOverLanes(
        b, loc, zero, chunks, one, warpSize, identity(b)[0],
        [&](OpBuilder &in, Value chunk) -> Value {
          return memref::LoadOp::create(in, loc, memory[0], chunk);
        },
        [&](OpBuilder &in, Value lhs, Value rhs) {
          return arith::getReductionOp(op.getKind(), in, loc, lhs, rhs);
        });
    memref::StoreOp::create(b, loc, finish(b, {all}), out, ValueRange());
    memref::DeallocOp::create(builder, loc, memory[0]);
    return;
  }
  forEachPoint(builder, true, [&](OpBuilder &b, ValueRange point) {
    auto inOrder = scf::ForOp::create(b, loc, zero, chunks, one, identity(b));
    OpBuilder at = OpBuilder::atBlockEnd(inOrder.getBody());
    SmallVector<Value> own{inOrder.getInductionVar()};
    llvm::append_range(own, point);
    Accumulator next{arith::getReductionOp(
        op.getKind(), at, loc, inOrder.getRegionIterArg(0),
        memref::LoadOp::create(at, loc, memory[0], own))};
    if (counts)
      next.push_back(addIndex(at, loc, inOrder.getRegionIterArg(1),
                              memref::LoadOp::create(at, loc, memory[1], own)));
    scf::YieldOp::create(at, loc, next);
    Accumulator all = llvm::to_vector_of<Value>(inOrder.getResults());
    memref::StoreOp::create(b, loc, finish(b, all), out, point);
  });
  for (Value buffer : memory)
    memref::DeallocOp::create(builder, loc, buffer);
}

void ReduceLowering::run() {
  StringRef how;
  if (numParallel > 0 && numParallel == numKept && storage.type.isDenseLvl(0)) {
    how = "a point of the result at a time, its sum in registers";
    runDirectly();
  } else if (numParallel > 0) {
    how = "outer levels in parallel";
    runOverKept();
  } else {
    how = "chunks in parallel, combined in order";
    runInChunks();
  }
  report(op, "gossamer.reduce", Road::General, how);
  auto type = cast<RankedTensorType>(op.getResult().getType());
  Value result = bufferization::ToTensorOp::create(
      builder, loc, type, out, /*restrict=*/true, /*writable=*/true);
  op.getResult().replaceAllUsesWith(result);
  op.erase();
}

struct LowerReduce : gossamer::impl::LowerReduceBase<LowerReduce> {
  using LowerReduceBase::LowerReduceBase;

  void runOnOperation() override {
    SmallVector<ReduceOp> ops;
    getOperation().walk([&](ReduceOp op) { ops.push_back(op); });
    for (ReduceOp op : ops) {
      if (failed(verifyShared(op, op.getPattern(), op.getExtras())))
        return signalPassFailure();
      ReduceLowering(op, gpu).run();
    }
  }
};

} // namespace
