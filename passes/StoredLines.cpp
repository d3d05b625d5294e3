//===- StoredLines.cpp - stored entries as lanes of vectors ---------------===//

#include "passes/StoredLines.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/SCF/IR/SCF.h"

using namespace mlir;
using namespace gossamer;

/// Fewer lanes are not worth a vector.
constexpr int64_t kFewestLanes = 4;

/// Where a loop's body ends: one that carries nothing came with a terminator.
static OpBuilder endOf(scf::ForOp loop) {
  return loop.getNumResults() ? OpBuilder::atBlockEnd(loop.getBody())
                              : OpBuilder::atBlockTerminator(loop.getBody());
}

std::optional<StoredLines> StoredLines::find(Location loc,
                                             const Storage &storage,
                                             const StoredRuns &runs,
                                             int64_t lanes) {
  if (ArrayRef<int64_t> block = runs.getBlockShape(); !block.empty()) {
    auto last = static_cast<uint64_t>(block.back());
    int64_t most = std::min(lanes, int64_t(1) << llvm::countr_zero(last));
    if (most < std::min(lanes, kFewestLanes))
      return {};
    lanes = most;
  }
  return StoredLines(loc, storage, runs, lanes);
}

std::optional<unsigned> StoredLines::getBlockLevel() const {
  if (runs.getBlockShape().empty())
    return {};
  return storage.type.getLvlRank() - 1;
}

bool StoredLines::areWhole(unsigned dim) const {
  unsigned rank = storage.type.getLvlRank();
  unsigned block = rank - runs.getBlockShape().size();
  for (unsigned lvl = 0; lvl < rank; ++lvl) {
    bool along = storage.isAlong(lvl, dim), across = false;
    for (unsigned d = 0; d < storage.type.getDimRank(); ++d)
      across |= d != dim && storage.isAlong(lvl, d);
    bool inLine = lvl >= runs.getTop() && (lvl < block || lvl == rank - 1);
    if (inLine ? across : along)
      return false;
  }
  return true;
}

void StoredLines::forEach(
    OpBuilder &builder, const Run &run,
    llvm::function_ref<void(OpBuilder &, ValueRange)> body) const {
  Values inBlock;
  OpBuilder in = builder;
  if (!runs.getBlockShape().empty())
    for (int64_t size : runs.getBlockShape().drop_back()) {
      auto loop = scf::ForOp::create(in, loc, indexConstant(in, loc, 0),
                                     indexConstant(in, loc, size),
                                     indexConstant(in, loc, 1));
      in = OpBuilder::atBlockTerminator(loop.getBody());
      inBlock.push_back(loop.getInductionVar());
    }
  body(in, inBlock);
}

StoredLines::Strip StoredLines::blockStrip(OpBuilder &builder, const Run &run,
                                           Value position, ValueRange inBlock,
                                           Value first) const {
  Values coords = runs.outerCoords(builder, run, position);
  llvm::append_range(coords, inBlock);
  coords.push_back(first);
  Value at = position;
  for (auto [size, coord] :
       llvm::zip(runs.getBlockShape(),
                 ArrayRef(coords).take_back(runs.getBlockShape().size())))
    at = addIndex(builder, loc,
                  mulIndex(builder, loc, at, indexConstant(builder, loc, size)),
                  coord);
  return {{{at}, 0, lanes, Value()}, coords};
}

StoredLines::Values StoredLines::visit(OpBuilder &builder, const Run &run,
                                       ValueRange inBlock, ValueRange carried,
                                       Step step) const {
  if (runs.getBlockShape().empty())
    return visitRun(builder, run, carried, step);
  auto blocks = scf::ForOp::create(builder, loc, run.lower, run.upper,
                                   indexConstant(builder, loc, 1), carried);
  OpBuilder b = endOf(blocks);
  auto strips = scf::ForOp::create(
      b, loc, indexConstant(b, loc, 0),
      indexConstant(b, loc, runs.getBlockShape().back()),
      indexConstant(b, loc, lanes), blocks.getRegionIterArgs());
  OpBuilder in = endOf(strips);
  Values next = step(in,
                     blockStrip(in, run, blocks.getInductionVar(), inBlock,
                                strips.getInductionVar()),
                     strips.getRegionIterArgs());
  if (!carried.empty()) {
    scf::YieldOp::create(in, loc, next);
    scf::YieldOp::create(b, loc, strips.getResults());
  }
  return blocks.getResults();
}

/// Whole vectors, then a part of one.
StoredLines::Values StoredLines::visitRun(OpBuilder &builder, const Run &run,
                                          ValueRange carried, Step step) const {
  Values coords(run.parents);
  coords.resize(storage.type.getLvlRank(), indexConstant(builder, loc, 0));
  Value width = indexConstant(builder, loc, lanes);
  Value length = arith::SubIOp::create(builder, loc, run.upper, run.lower);
  Value rest = arith::RemUIOp::create(builder, loc, length, width);
  Value whole = arith::SubIOp::create(builder, loc, run.upper, rest);
  auto strips =
      scf::ForOp::create(builder, loc, run.lower, whole, width, carried);
  OpBuilder in = endOf(strips);
  Values next =
      step(in, {{{strips.getInductionVar()}, 0, lanes, Value()}, coords},
           strips.getRegionIterArgs());
  if (!carried.empty())
    scf::YieldOp::create(in, loc, next);

  Value ragged = arith::CmpIOp::create(builder, loc, arith::CmpIPredicate::ult,
                                       whole, run.upper);
  auto tail = scf::IfOp::create(builder, loc, carried.getTypes(), ragged,
                                /*withElseRegion=*/!carried.empty());
  OpBuilder then = tail.getThenBodyBuilder();
  next =
      step(then, {{{whole}, 0, lanes, run.upper}, coords}, strips.getResults());
  if (!carried.empty()) {
    scf::YieldOp::create(then, loc, next);
    OpBuilder otherwise = tail.getElseBodyBuilder();
    scf::YieldOp::create(otherwise, loc, strips.getResults());
  }
  return tail.getResults();
}

void StoredLines::forEachStrip(
    OpBuilder &builder, const Run &run,
    llvm::function_ref<void(OpBuilder &, const Strip &)> body) const {
  auto step = [&](OpBuilder &in, const Strip &strip, ValueRange) -> Values {
    body(in, strip);
    return {};
  };
  if (runs.getBlockShape().empty()) {
    visitRun(builder, run, {}, step);
    return;
  }
  auto blocks = scf::ForOp::create(builder, loc, run.lower, run.upper,
                                   indexConstant(builder, loc, 1));
  OpBuilder in = OpBuilder::atBlockTerminator(blocks.getBody());
  forEach(in, run, [&](OpBuilder &line, ValueRange inBlock) {
    auto strips = scf::ForOp::create(
        line, loc, indexConstant(line, loc, 0),
        indexConstant(line, loc, runs.getBlockShape().back()),
        indexConstant(line, loc, lanes));
    OpBuilder b = OpBuilder::atBlockTerminator(strips.getBody());
    body(b, blockStrip(b, run, blocks.getInductionVar(), inBlock,
                       strips.getInductionVar()));
  });
}
