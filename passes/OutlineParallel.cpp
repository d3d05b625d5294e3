//===- OutlineParallel.cpp - parallel loops become functions of a range ---===//

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/IR/IRMapping.h"
#include "mlir/Interfaces/ViewLikeInterface.h"
#include "mlir/Transforms/RegionUtils.h"
#include "passes/Passes.h"

namespace gossamer {
#define GEN_PASS_DEF_OUTLINEPARALLEL
#include "passes/Passes.h.inc"
} // namespace gossamer

using namespace mlir;
using namespace gossamer;

namespace {

/// Operations that are cheaper made again in the body than passed to it. Views
/// must be: only whole buffers are passed, so that no two arguments alias.
bool isRematerialized(Operation *op) {
  return op && (op->hasTrait<OpTrait::ConstantLike>() ||
                isa<ViewLikeOpInterface, memref::DimOp>(op) ||
                (isa<arith::ArithDialect>(op->getDialect()) &&
                 llvm::all_of(op->getResultTypes(),
                              [](Type type) { return type.isIndex(); })));
}

class Outliner {
public:
  Outliner(scf::ParallelOp loop, unsigned number)
      : loop(loop), parent(loop->getParentOfType<func::FuncOp>()),
        builder(loop), loc(loop.getLoc()), number(number) {}
  void run();

private:
  /// The value inside of the body function.
  Value capture(Value value, OpBuilder &inside);

  scf::ParallelOp loop;
  func::FuncOp parent;
  OpBuilder builder;
  Location loc;
  unsigned number;
  func::FuncOp body;
  IRMapping mapping;
  SmallVector<Value> captured;
};

Value Outliner::capture(Value value, OpBuilder &inside) {
  if (Value known = mapping.lookupOrNull(value))
    return known;
  Operation *op = value.getDefiningOp();
  if (isRematerialized(op)) {
    for (Value operand : op->getOperands())
      capture(operand, inside);
    inside.clone(*op, mapping);
    return mapping.lookup(value);
  }
  captured.push_back(value);
  Value argument = body.getBody().addArgument(value.getType(), loc);
  mapping.map(value, argument);
  return argument;
}

void Outliner::run() {
  Type index = builder.getIndexType();
  OpBuilder atModule(parent);
  atModule.setInsertionPointAfter(parent);
  body = func::FuncOp::create(
      atModule, loc, (parent.getName() + "_parallel_" + Twine(number)).str(),
      builder.getFunctionType({index, index}, {}));
  body.setPrivate();
  body->setAttr("gossamer.noalias", builder.getUnitAttr());
  Block *entry = body.addEntryBlock();
  OpBuilder inside = OpBuilder::atBlockBegin(entry);

  // Bounds are few and cheap: made outside for the count, inside for the place.
  SmallVector<Value> counts;
  Value total = arith::ConstantIndexOp::create(builder, loc, 1);
  for (auto [lower, upper, step] :
       llvm::zip(loop.getLowerBound(), loop.getUpperBound(), loop.getStep())) {
    Value extent = arith::SubIOp::create(builder, loc, upper, lower);
    Value count = arith::CeilDivUIOp::create(builder, loc, extent, step);
    counts.push_back(count);
    total = arith::MulIOp::create(builder, loc, total, count);
  }
  SmallVector<Value> lowers, steps, inner;
  for (auto [lower, step, count] :
       llvm::zip(loop.getLowerBound(), loop.getStep(), counts)) {
    lowers.push_back(capture(lower, inside));
    steps.push_back(capture(step, inside));
    captured.push_back(count);
    inner.push_back(body.getBody().addArgument(index, loc));
  }
  llvm::SetVector<Value> used;
  getUsedValuesDefinedAbove(loop.getRegion(), used);
  for (Value value : used)
    capture(value, inside);

  Value one = arith::ConstantIndexOp::create(inside, loc, 1);
  auto range = scf::ForOp::create(inside, loc, entry->getArgument(0),
                                  entry->getArgument(1), one);
  func::ReturnOp::create(inside, loc);
  OpBuilder in = OpBuilder::atBlockBegin(range.getBody());
  Value linear = range.getInductionVar();
  for (int n = counts.size() - 1; n >= 0; --n) {
    Value place = linear;
    if (n > 0) {
      place = arith::RemUIOp::create(in, loc, linear, inner[n]);
      linear = arith::DivUIOp::create(in, loc, linear, inner[n]);
    }
    Value iv = arith::AddIOp::create(
        in, loc, arith::MulIOp::create(in, loc, place, steps[n]), lowers[n]);
    mapping.map(loop.getInductionVars()[n], iv);
  }
  for (Operation &op : loop.getBody()->without_terminator())
    in.clone(op, mapping);

  SmallVector<Value> arguments{arith::ConstantIndexOp::create(builder, loc, 0),
                               total};
  llvm::append_range(arguments, captured);
  body.setType(builder.getFunctionType(body.getBody().getArgumentTypes(), {}));
  auto call = func::CallOp::create(builder, loc, body, arguments);
  // A correct serial program as it stands; gossamer-spawn-parallel hands the
  // range to threads.
  call->setAttr("gossamer.parallel", builder.getUnitAttr());
  loop.erase();
}

struct OutlineParallel : gossamer::impl::OutlineParallelBase<OutlineParallel> {
  void runOnOperation() override {
    SmallVector<scf::ParallelOp> loops;
    getOperation().walk<WalkOrder::PreOrder>([&](scf::ParallelOp loop) {
      if (loop.getNumReductions() == 0 && !loop.getInductionVars().empty())
        loops.push_back(loop);
      return WalkResult::skip(); // nested ones stay serial
    });
    for (auto [n, loop] : llvm::enumerate(loops))
      Outliner(loop, n).run();
  }
};

} // namespace
