//===- MapToGpu.cpp - what touches memory becomes kernels -----------------===//
//
// The function stays the host's, which computes sizes and launches; every
// operation that reads or writes memory goes into a gpu.launch. An outermost
// parallel loop is one kernel: a thread for an iteration, or the lanes that
// loops inside of it ask for (GpuLanes.h). What is serial between such loops is
// a kernel of one thread; numbers that are read from memory (bounds of loops,
// most often) are read again wherever they are used.
//
//===----------------------------------------------------------------------===//

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/GPU/IR/GPUDialect.h"
#include "mlir/Dialect/LLVMIR/NVVMDialect.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Utils/StaticValueUtils.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "mlir/IR/IRMapping.h"
#include "mlir/Interfaces/ViewLikeInterface.h"
#include "mlir/Transforms/RegionUtils.h"
#include "passes/GpuLanes.h"
#include "passes/LanePrefix.h"
#include "passes/Passes.h"

namespace gossamer {
#define GEN_PASS_DEF_MAPTOGPU
#include "passes/Passes.h.inc"
} // namespace gossamer

using namespace mlir;
using namespace gossamer;

namespace {

constexpr int64_t blockSize = 128;
/// Blocks of a kernel whose number of iterations only the device knows: enough
/// to fill every chip, few enough to cost nothing where there is little to do.
constexpr int64_t fixedGrid = 2048;

int64_t lanesOf(scf::ParallelOp loop) {
  auto attr = loop->getAttrOfType<IntegerAttr>(lanesAttrName);
  return attr ? attr.getInt() : 1;
}

int64_t apartOf(scf::ParallelOp loop) {
  auto attr = loop->getAttrOfType<IntegerAttr>(apartAttrName);
  return attr ? attr.getInt() : 1;
}

/// Lanes that one iteration of a loop's body needs.
int64_t lanesInside(Operation *loop) {
  int64_t most = 1;
  for (Region &region : loop->getRegions())
    for (Block &block : region)
      for (Operation &op : block) {
        int64_t inside = lanesInside(&op);
        if (auto nested = dyn_cast<scf::ParallelOp>(op))
          inside *= lanesOf(nested);
        most = std::max(most, inside);
      }
  return most;
}

/// The distance between lanes of a loop: those of loops inside of it lie
/// between, but for loops that are apart themselves.
int64_t distanceOf(scf::ParallelOp loop) {
  int64_t distance = std::max<int64_t>(apartOf(loop), lanesInside(loop));
  loop->walk([&](scf::ParallelOp inner) {
    if (inner != loop && apartOf(inner) > 1)
      distance = apartOf(loop);
  });
  return distance;
}

bool isWrite(Operation *op) {
  return isa<memref::StoreOp, vector::StoreOp, vector::MaskedStoreOp>(op);
}

bool isRead(Operation *op) {
  return isa<memref::LoadOp, vector::LoadOp, vector::MaskedLoadOp,
             vector::GatherOp>(op);
}

template <typename Predicate>
bool anyInside(Operation *op, Predicate predicate) {
  return op
      ->walk([&](Operation *inner) {
        return predicate(inner) ? WalkResult::interrupt()
                                : WalkResult::advance();
      })
      .wasInterrupted();
}

Value combineIn(OpBuilder &b, Region &region, Value lhs, Value rhs) {
  IRMapping mapping;
  mapping.map(region.getArgument(0), lhs);
  mapping.map(region.getArgument(1), rhs);
  for (Operation &op : region.front().without_terminator())
    b.clone(op, mapping);
  return mapping.lookupOrDefault(region.front().getTerminator()->getOperand(0));
}

/// One kernel's threads: makes nested parallel loops those of lanes.
class LaneMapper {
public:
  /// `lanes` is what an iteration of the outermost loop has.
  LaneMapper(Location loc, Value lane, int64_t lanes)
      : loc(loc), lane(lane), wholeWarp(lanes == warpSize) {}

  /// Stores that several lanes would do alike are done by one.
  void guardStores(Operation *top, int64_t lanes);
  void mapLoops(Operation *top);

private:
  void guard(Operation *store, Value condition);
  void map(scf::ParallelOp loop);
  /// Of a loop that is mapped already.
  void expandPrefixes(Operation *loop, int64_t lanes);
  Value constant(OpBuilder &b, int64_t value) {
    return arith::ConstantIndexOp::create(b, loc, value);
  }
  Value shuffled(OpBuilder &b, Value value, int64_t offset, Value mask);
  /// The lanes (bits) that share what `width` of them do together.
  Value maskOf(OpBuilder &b, int64_t width);

  Location loc;
  Value lane; ///< in the warp
  /// Whether all lanes of a warp arrive at every shuffle: the hardware is quick
  /// where that is said.
  bool wholeWarp;
};

/// Whether lanes of one iteration of the loop put something together.
bool hasShuffles(Operation *loop) {
  return anyInside(loop, [&](Operation *op) {
    auto nested = dyn_cast<scf::ParallelOp>(op);
    return nested && op != loop && lanesOf(nested) > 1 &&
           nested.getNumResults() > 0;
  });
}

void LaneMapper::guard(Operation *store, Value condition) {
  OpBuilder b(store);
  auto branch = scf::IfOp::create(b, loc, condition, /*withElseRegion=*/false);
  store->moveBefore(branch.thenBlock()->getTerminator());
}

void LaneMapper::guardStores(Operation *top, int64_t lanes) {
  // The bits of a lane's number in which lanes that store alike differ.
  SmallVector<std::pair<Operation *, int64_t>> stores;
  top->walk([&](Operation *op) {
    if (!isWrite(op))
      return;
    int64_t alike = lanes - 1;
    for (Operation *at = op->getParentOp(); at != top; at = at->getParentOp())
      if (auto loop = dyn_cast<scf::ParallelOp>(at))
        alike &= ~((lanesOf(loop) - 1) * distanceOf(loop));
    if (alike != 0)
      stores.push_back({op, alike});
  });
  for (auto [store, alike] : stores) {
    OpBuilder b(store);
    Value place = arith::AndIOp::create(b, loc, lane, constant(b, alike));
    Value first = arith::CmpIOp::create(b, loc, arith::CmpIPredicate::eq, place,
                                        constant(b, 0));
    guard(store, first);
  }
}

Value LaneMapper::maskOf(OpBuilder &b, int64_t width) {
  Type i32 = b.getI32Type();
  auto literal = [&](int64_t value) -> Value {
    return arith::ConstantOp::create(b, loc, b.getIntegerAttr(i32, value));
  };
  if (width == warpSize || wholeWarp)
    return literal(-1);
  Value first = arith::AndIOp::create(b, loc, lane, constant(b, -width));
  first = arith::IndexCastOp::create(b, loc, i32, first);
  return arith::ShLIOp::create(b, loc, literal((int64_t(1) << width) - 1),
                               first);
}

Value LaneMapper::shuffled(OpBuilder &b, Value value, int64_t offset,
                           Value mask) {
  Type type = value.getType(), i32 = b.getI32Type();
  if (auto vector = dyn_cast<VectorType>(type)) {
    SmallVector<Value> numbers;
    for (int64_t n = 0; n < vector.getNumElements(); ++n)
      numbers.push_back(shuffled(b, vector::ExtractOp::create(b, loc, value, n),
                                 offset, mask));
    return vector::FromElementsOp::create(b, loc, vector, numbers);
  }
  auto literal = [&](Type t, int64_t v) -> Value {
    return arith::ConstantOp::create(b, loc, b.getIntegerAttr(t, v));
  };
  auto shuffle = [&](Value word) -> Value {
    return NVVM::ShflOp::create(
        b, loc, word.getType(), mask, word, literal(i32, offset),
        literal(i32, warpSize - 1), NVVM::ShflKind::bfly, UnitAttr());
  };
  if (type.isF32() || type.isInteger(32))
    return shuffle(value);
  if (type.isIndex()) {
    Value word = arith::IndexCastOp::create(b, loc, b.getI64Type(), value);
    return arith::IndexCastOp::create(b, loc, type,
                                      shuffled(b, word, offset, mask));
  }
  unsigned width = type.getIntOrFloatBitWidth();
  Type bits = b.getIntegerType(width);
  Value word = isa<FloatType>(type)
                   ? arith::BitcastOp::create(b, loc, bits, value).getResult()
                   : value;
  if (width == 64) {
    Value half = literal(bits, 32);
    Value high = arith::ShRUIOp::create(b, loc, word, half);
    Value low = shuffle(arith::TruncIOp::create(b, loc, i32, word));
    high = shuffle(arith::TruncIOp::create(b, loc, i32, high));
    high = arith::ExtUIOp::create(b, loc, bits, high);
    low = arith::ExtUIOp::create(b, loc, bits, low);
    word = arith::OrIOp::create(b, loc, low,
                                arith::ShLIOp::create(b, loc, high, half));
  } else {
    word = shuffle(arith::ExtUIOp::create(b, loc, i32, word));
    word = arith::TruncIOp::create(b, loc, bits, word);
  }
  return isa<FloatType>(type)
             ? arith::BitcastOp::create(b, loc, type, word).getResult()
             : word;
}

/// Whether all lanes are known to have the same number of iterations: then that
/// is a constant, and the loop can be unrolled.
static bool isEven(scf::ParallelOp loop, int64_t lanes) {
  auto lower = getConstantIntValue(loop.getLowerBound().back());
  auto upper = getConstantIntValue(loop.getUpperBound().back());
  auto step = getConstantIntValue(loop.getStep().back());
  return lower && upper && step && (*upper - *lower) % (*step * lanes) == 0;
}

void LaneMapper::map(scf::ParallelOp loop) {
  OpBuilder b(loop);
  int64_t lanes = lanesOf(loop), distance = distanceOf(loop);
  SmallVector<Value> lowers(loop.getLowerBound()), steps(loop.getStep());
  unsigned last = lowers.size() - 1;
  // Where lanes have as many iterations, or must stay together for shuffles,
  // they share the loop, and each is at a place of its own in a step of it.
  bool together = lanes > 1 && hasShuffles(loop) && loop.getNumResults() == 0;
  Value offset;
  if (lanes > 1) {
    Value place = lane;
    if (distance > 1)
      place = arith::DivUIOp::create(b, loc, place, constant(b, distance));
    place = arith::AndIOp::create(b, loc, place, constant(b, lanes - 1));
    place = arith::MulIOp::create(b, loc, place, steps[last]);
    bool even = isEven(loop, lanes);
    together &= !even;
    if (even || together)
      offset = place;
    else
      lowers[last] = arith::AddIOp::create(b, loc, lowers[last], place);
    steps[last] =
        arith::MulIOp::create(b, loc, steps[last], constant(b, lanes));
  }
  scf::LoopNest nest = scf::buildLoopNest(
      b, loc, lowers, loop.getUpperBound(), steps, loop.getInitVals(),
      [&](OpBuilder &in, Location, ValueRange ivs, ValueRange carried) {
        IRMapping mapping;
        mapping.map(loop.getInductionVars(), ivs);
        Value own, isOwn;
        if (offset)
          own = arith::AddIOp::create(in, loc, ivs[last], offset);
        if (together) {
          // A lane beyond the end does again what the first does, and stores
          // nothing.
          isOwn = arith::CmpIOp::create(in, loc, arith::CmpIPredicate::slt, own,
                                        loop.getUpperBound()[last]);
          own = arith::SelectOp::create(in, loc, isOwn, own, ivs[last]);
        }
        if (offset)
          mapping.map(loop.getInductionVars()[last], own);
        SmallVector<Operation *> stores;
        for (Operation &op : loop.getBody()->without_terminator())
          in.clone(op, mapping)->walk([&](Operation *inner) {
            if (isWrite(inner))
              stores.push_back(inner);
          });
        if (isOwn)
          for (Operation *store : stores)
            guard(store, isOwn);
        scf::ValueVector next;
        auto reduce = cast<scf::ReduceOp>(loop.getBody()->getTerminator());
        for (auto [n, operand] : llvm::enumerate(reduce.getOperands()))
          next.push_back(combineIn(in, reduce.getReductions()[n], carried[n],
                                   mapping.lookupOrDefault(operand)));
        return next;
      });
  expandPrefixes(nest.loops.front(), lanes);
  auto reduce = cast<scf::ReduceOp>(loop.getBody()->getTerminator());
  SmallVector<Value> results(nest.results);
  Value mask;
  for (int64_t apart = lanes / 2; apart > 0 && !results.empty(); apart /= 2) {
    if (!mask)
      mask = maskOf(b, lanes * distance);
    for (auto [n, value] : llvm::enumerate(results))
      value = combineIn(b, reduce.getReductions()[n], value,
                        shuffled(b, value, apart * distance, mask));
  }
  loop->replaceAllUsesWith(results);
  loop.erase();
}

void LaneMapper::expandPrefixes(Operation *loop, int64_t lanes) {
  SmallVector<LanePrefixOp> prefixes;
  loop->walk([&](LanePrefixOp op) { prefixes.push_back(op); });
  for (LanePrefixOp op : prefixes) {
    OpBuilder b(op);
    expandLanePrefix(b, op, lane, lanes, maskOf(b, lanes));
  }
}

void LaneMapper::mapLoops(Operation *top) {
  if (anyInside(top, [](Operation *op) {
        auto loop = dyn_cast<scf::ParallelOp>(op);
        return loop && lanesOf(loop) > 1 && loop.getNumResults() > 0 &&
               hasShuffles(loop);
      }))
    wholeWarp = false;
  // Outer ones first: the lanes of a loop follow from those inside of it.
  while (true) {
    scf::ParallelOp next;
    top->walk<WalkOrder::PreOrder>([&](scf::ParallelOp loop) {
      next = loop;
      return WalkResult::interrupt();
    });
    if (!next)
      return;
    map(next);
  }
}

class HostMapper {
public:
  explicit HostMapper(func::FuncOp function) : function(function) {}
  LogicalResult run();

private:
  void expandCopies();
  void mapBlock(Block &block);
  void launchParallel(scf::ParallelOp loop);
  void launchSerial(ArrayRef<Operation *> ops);
  /// Where a kernel lets the next one begin, and where that one waits for it.
  void overlap(gpu::LaunchOp launch);
  gpu::LaunchOp makeLaunch(OpBuilder &b, Location loc, Value grid,
                           int64_t threads);
  bool isOnDevice(Value value) const { return onDevice.contains(value); }
  /// Makes what was read from memory outside of a kernel again inside.
  void sinkInto(gpu::LaunchOp launch);
  Value constant(OpBuilder &b, Location loc, int64_t value) {
    return arith::ConstantIndexOp::create(b, loc, value);
  }

  func::FuncOp function;
  /// Values that the host does not know, and what makes them.
  DenseSet<Value> onDevice;
  SmallVector<Operation *> readers;
};

void HostMapper::expandCopies() {
  SmallVector<memref::CopyOp> copies;
  function.walk([&](memref::CopyOp op) { copies.push_back(op); });
  for (memref::CopyOp op : copies) {
    OpBuilder b(op);
    Location loc = op.getLoc();
    int64_t rank = cast<MemRefType>(op.getSource().getType()).getRank();
    SmallVector<Value> zeros(rank, constant(b, loc, 0)), sizes,
        ones(rank, constant(b, loc, 1));
    for (int64_t dim = 0; dim < rank; ++dim)
      sizes.push_back(memref::DimOp::create(b, loc, op.getSource(), dim));
    auto copy = [&](OpBuilder &in, ValueRange at) {
      Value value = memref::LoadOp::create(in, loc, op.getSource(), at);
      memref::StoreOp::create(in, loc, value, op.getTarget(), at);
    };
    if (rank == 0) {
      copy(b, {});
    } else {
      auto loop = scf::ParallelOp::create(b, loc, zeros, sizes, ones);
      OpBuilder in = OpBuilder::atBlockTerminator(loop.getBody());
      copy(in, loop.getInductionVars());
    }
    op.erase();
  }
}

gpu::LaunchOp HostMapper::makeLaunch(OpBuilder &b, Location loc, Value grid,
                                     int64_t threads) {
  Value one = constant(b, loc, 1), block = constant(b, loc, threads);
  auto launch = gpu::LaunchOp::create(b, loc, grid, one, one, block, one, one);
  OpBuilder in = OpBuilder::atBlockEnd(&launch.getBody().front());
  gpu::TerminatorOp::create(in, loc);
  return launch;
}

void HostMapper::launchSerial(ArrayRef<Operation *> ops) {
  // Behind the last: what the others between them need is there.
  OpBuilder b(ops.back()->getBlock(), std::next(ops.back()->getIterator()));
  Location loc = ops.back()->getLoc();
  auto launch = makeLaunch(b, loc, constant(b, loc, 1), 1);
  OpBuilder in = OpBuilder::atBlockTerminator(&launch.getBody().front());
  IRMapping mapping;
  for (Operation *op : ops)
    in.clone(*op, mapping);
  launch.walk([](scf::ParallelOp loop) { loop->removeAttr(lanesAttrName); });
  LaneMapper(loc, Value(), 1).mapLoops(launch);
  for (Operation *op : llvm::reverse(ops))
    if (op->use_empty() && anyInside(op, isWrite))
      op->erase();
}

void HostMapper::overlap(gpu::LaunchOp launch) {
  Location loc = launch.getLoc();
  auto control = [&](OpBuilder b, StringRef what) {
    // As assembly that touches memory: LLVM takes its own operation for one
    // that loads may be moved across.
    auto nothing = LLVM::LLVMVoidType::get(b.getContext());
    LLVM::InlineAsmOp::create(
        b, loc, nothing, ValueRange(), ("griddepcontrol." + what + ";").str(),
        "~{memory}", /*has_side_effects=*/true, /*is_align_stack=*/false,
        LLVM::TailCallKind::None, LLVM::AsmDialectAttr(), ArrayAttr());
  };
  Block &body = launch.getBody().front();
  if (launch->hasAttr(leadsAttrName))
    control(OpBuilder::atBlockBegin(&body), "launch_dependents");
  if (!launch->hasAttr(followsAttrName))
    return;
  bool waits = false;
  launch.walk([&](scf::IfOp branch) {
    if (!branch->removeAttr(followsAttrName))
      return;
    control(OpBuilder::atBlockBegin(branch.thenBlock()), "wait");
    waits = true;
  });
  // Where it is not known what has to wait, all does. And nobody is to take
  // the kernel before for done until it is, who waits for this one alone.
  control(waits ? OpBuilder::atBlockTerminator(&body)
                : OpBuilder::atBlockBegin(&body),
          "wait");
}

void HostMapper::launchParallel(scf::ParallelOp loop) {
  OpBuilder b(loop);
  Location loc = loop.getLoc();
  int64_t lanes = lanesInside(loop);
  bool known = llvm::none_of(loop->getOperands(),
                             [&](Value value) { return isOnDevice(value); });
  auto countIn = [&](OpBuilder &at, SmallVectorImpl<Value> &counts) {
    Value total = constant(at, loc, 1);
    for (auto [lower, upper, step] : llvm::zip(
             loop.getLowerBound(), loop.getUpperBound(), loop.getStep())) {
      Value extent = arith::SubIOp::create(at, loc, upper, lower);
      counts.push_back(arith::CeilDivSIOp::create(at, loc, extent, step));
      total = arith::MulIOp::create(at, loc, total, counts.back());
    }
    return total;
  };
  SmallVector<Value> counts;
  Value total, grid = constant(b, loc, fixedGrid);
  if (known) {
    total = countIn(b, counts);
    grid = arith::CeilDivSIOp::create(b, loc, total,
                                      constant(b, loc, blockSize / lanes));
  }
  auto launch = makeLaunch(b, loc, grid, blockSize);
  for (StringRef name : {residentAttrName, leadsAttrName, followsAttrName})
    if (Attribute attr = loop->getAttr(name))
      launch->setAttr(name, attr);
  OpBuilder in = OpBuilder::atBlockTerminator(&launch.getBody().front());
  Value thread = launch.getThreadIds().x;
  Value lane =
      arith::AndIOp::create(in, loc, thread, constant(in, loc, warpSize - 1));
  Value number = arith::AddIOp::create(
      in, loc,
      arith::MulIOp::create(in, loc, launch.getBlockIds().x,
                            constant(in, loc, blockSize / lanes)),
      lanes == 1
          ? thread
          : arith::DivUIOp::create(in, loc, thread, constant(in, loc, lanes))
                .getResult());
  Operation *top;
  OpBuilder body = in;
  if (known) {
    Value inside = arith::CmpIOp::create(in, loc, arith::CmpIPredicate::slt,
                                         number, total);
    auto guard = scf::IfOp::create(in, loc, inside, /*withElseRegion=*/false);
    body = guard.getThenBodyBuilder();
    top = guard;
  } else {
    total = countIn(in, counts);
    auto stride =
        scf::ForOp::create(in, loc, number, total,
                           constant(in, loc, fixedGrid * (blockSize / lanes)));
    body = OpBuilder::atBlockTerminator(stride.getBody());
    number = stride.getInductionVar();
    top = stride;
  }
  IRMapping mapping;
  for (unsigned n = counts.size(); n-- > 0;) {
    Value place = number;
    if (n > 0) {
      place = arith::RemUIOp::create(body, loc, number, counts[n]);
      number = arith::DivUIOp::create(body, loc, number, counts[n]);
    }
    Value iv = arith::AddIOp::create(
        body, loc, loop.getLowerBound()[n],
        arith::MulIOp::create(body, loc, place, loop.getStep()[n]));
    mapping.map(loop.getInductionVars()[n], iv);
  }
  for (Operation &op : loop.getBody()->without_terminator())
    body.clone(op, mapping);
  LaneMapper mapper(loc, lane, lanes);
  mapper.guardStores(top, lanes);
  mapper.mapLoops(top);
  overlap(launch);
  loop.erase();
}

void HostMapper::mapBlock(Block &block) {
  SmallVector<Operation *> ops, serial;
  for (Operation &op : block.without_terminator())
    ops.push_back(&op);
  bool writes = false;
  auto flush = [&] {
    if (writes)
      launchSerial(serial);
    serial.clear();
    writes = false;
  };
  for (Operation *op : ops) {
    if (isa<memref::DeallocOp>(op)) { // temporaries are the caller's
      op->erase();
      continue;
    }
    if (isa<memref::AllocOp>(op))
      continue;
    if (isa<gpu::LaunchOp>(op)) {
      flush();
      continue;
    }
    auto parallel = dyn_cast<scf::ParallelOp>(op);
    if (parallel && parallel.getNumReductions() == 0) {
      flush();
      launchParallel(parallel);
      continue;
    }
    bool reads = anyInside(op, isRead) ||
                 llvm::any_of(op->getOperands(),
                              [&](Value value) { return isOnDevice(value); });
    if (!reads && op->getNumRegions() > 0) {
      llvm::SetVector<Value> used;
      getUsedValuesDefinedAbove(op->getRegions(), used);
      reads = llvm::any_of(used, [&](Value v) { return isOnDevice(v); });
    }
    if (anyInside(op, isWrite)) {
      auto branch = dyn_cast<scf::IfOp>(op);
      if (branch && branch.getNumResults() == 0 &&
          !isOnDevice(branch.getCondition())) {
        flush();
        mapBlock(*branch.thenBlock());
        if (branch.elseBlock())
          mapBlock(*branch.elseBlock());
        continue;
      }
      serial.push_back(op);
      writes = true;
      onDevice.insert(op->result_begin(), op->result_end());
      continue;
    }
    if (!reads)
      continue;
    onDevice.insert(op->result_begin(), op->result_end());
    readers.push_back(op);
    serial.push_back(op);
  }
  flush();
}

void HostMapper::sinkInto(gpu::LaunchOp launch) {
  llvm::SetVector<Value> used;
  getUsedValuesDefinedAbove(launch.getBody(), used);
  DenseSet<Operation *> wanted;
  SmallVector<Value> open(used.begin(), used.end());
  while (!open.empty()) {
    Value value = open.pop_back_val();
    Operation *op = value.getDefiningOp();
    if (!op || !isOnDevice(value) || !wanted.insert(op).second)
      continue;
    llvm::append_range(open, op->getOperands());
    llvm::SetVector<Value> above;
    getUsedValuesDefinedAbove(op->getRegions(), above);
    llvm::append_range(open, above);
  }
  OpBuilder b = OpBuilder::atBlockBegin(&launch.getBody().front());
  IRMapping mapping;
  for (Operation *op : readers)
    if (wanted.contains(op))
      b.clone(*op, mapping);
  for (auto [from, to] : mapping.getValueMap())
    from.replaceUsesWithIf(to, [&](OpOperand &use) {
      return launch.getBody().isAncestor(use.getOwner()->getParentRegion());
    });
}

LogicalResult HostMapper::run() {
  if (failed(verifyLanePrefixes(function)))
    return failure();
  expandCopies();
  mapBlock(function.getBody().front());
  SmallVector<gpu::LaunchOp> launches;
  function.walk([&](gpu::LaunchOp launch) { launches.push_back(launch); });
  for (gpu::LaunchOp launch : launches)
    sinkInto(launch);
  for (Operation *op : llvm::reverse(readers)) {
    if (!op->use_empty())
      return op->emitOpError("gives a number that the host needs (a size of "
                             "memory, or whether to go on), but that is known "
                             "on the device alone");
    op->erase();
  }
  // What is left outside of kernels must be the host's.
  WalkResult result = function.walk<WalkOrder::PreOrder>([&](Operation *op) {
    if (isa<gpu::LaunchOp>(op))
      return WalkResult::skip();
    if (isWrite(op) || isRead(op)) {
      op->emitOpError("touches memory outside of a kernel, and what it gives "
                      "is used by others");
      return WalkResult::interrupt();
    }
    return WalkResult::advance();
  });
  return failure(result.wasInterrupted());
}

struct MapToGpu : gossamer::impl::MapToGpuBase<MapToGpu> {
  void runOnOperation() override {
    if (getOperation().isPrivate() || getOperation().isExternal())
      return;
    if (failed(HostMapper(getOperation()).run()))
      signalPassFailure();
  }
};

} // namespace
