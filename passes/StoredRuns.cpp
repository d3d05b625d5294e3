//===- StoredRuns.cpp - stored entries, a run at a time -------------------===//

#include "passes/StoredRuns.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Utils/StaticValueUtils.h"

using namespace mlir;
using namespace gossamer;
using namespace mlir::sparse_tensor;

/// Positions that a thread takes at once where nothing else tells them apart.
constexpr int64_t kPart = 1024;

StoredRuns::StoredRuns(Location loc, const Storage &storage)
    : loc(loc), storage(storage), level(storage.type.getLvlRank() - 1) {
  while (level > 0 && storage.type.isDenseLvl(level)) {
    auto size = getConstantIntValue(storage.lvlSize(level));
    if (!size)
      break;
    block.insert(block.begin(), *size);
    --level;
  }
  while (level > 0 && storage.type.isSingletonLvl(level))
    --level;
  top = level;
  if (level > 0 && storage.type.isNOutOfMLvl(level) &&
      storage.type.isDenseLvl(level - 1))
    --top;
}

int64_t StoredRuns::getBlockSize() const { return llvm::product_of(block); }

std::pair<Value, Value> StoredRuns::range(OpBuilder &builder, unsigned lvl,
                                          Value parent) const {
  LevelType type = storage.type.getLvlType(lvl);
  if (type.isWithPosLT())
    return storage.segment(builder, lvl, parent);
  Value size = storage.type.isNOutOfMLvl(lvl)
                   ? indexConstant(builder, loc, getN(type))
                   : storage.lvlSize(lvl);
  Value lower = mulIndex(builder, loc, parent, size);
  return {lower, addIndex(builder, loc, lower, size)};
}

Value StoredRuns::lvlCoordinate(OpBuilder &builder, unsigned lvl,
                                Value position, Value lower) const {
  if (storage.type.getLvlType(lvl).isWithCrdLT())
    return storage.coordinate(builder, lvl, position);
  return arith::SubIOp::create(builder, loc, position, lower);
}

void StoredRuns::visit(
    OpBuilder &builder, unsigned lvl, SmallVectorImpl<Value> &coords,
    Value parent,
    llvm::function_ref<void(OpBuilder &, const Run &)> body) const {
  auto [lower, upper] = range(builder, lvl, parent);
  if (lvl == top) {
    if (top < level) {
      Value kept =
          indexConstant(builder, loc, getN(storage.type.getLvlType(level)));
      lower = mulIndex(builder, loc, lower, kept);
      upper = mulIndex(builder, loc, upper, kept);
    }
    body(builder, {llvm::to_vector(coords), lower, upper, lower});
    return;
  }
  if (storage.type.isSingletonLvl(lvl)) {
    coords.push_back(storage.coordinate(builder, lvl, parent));
    visit(builder, lvl + 1, coords, parent, body);
    coords.pop_back();
    return;
  }
  auto loop = scf::ForOp::create(builder, loc, lower, upper,
                                 indexConstant(builder, loc, 1));
  OpBuilder in = OpBuilder::atBlockTerminator(loop.getBody());
  Value position = loop.getInductionVar();
  coords.push_back(lvlCoordinate(in, lvl, position, lower));
  visit(in, lvl + 1, coords, position, body);
  coords.pop_back();
}

void StoredRuns::forEach(
    OpBuilder &builder,
    llvm::function_ref<void(OpBuilder &, const Run &)> body) const {
  Value zero = indexConstant(builder, loc, 0);
  Value one = indexConstant(builder, loc, 1);
  SmallVector<Value> coords;
  unsigned leading = std::min(storage.numLeadingDense(), top);
  if (leading > 0) {
    SmallVector<Value> sizes;
    for (unsigned lvl = 0; lvl < leading; ++lvl)
      sizes.push_back(storage.lvlSize(lvl));
    auto loop =
        scf::ParallelOp::create(builder, loc, SmallVector<Value>(leading, zero),
                                sizes, SmallVector<Value>(leading, one));
    OpBuilder in = OpBuilder::atBlockTerminator(loop.getBody());
    Value position = zero;
    for (auto [size, iv] : llvm::zip(sizes, loop.getInductionVars())) {
      position = addIndex(in, loc, mulIndex(in, loc, position, size), iv);
      coords.push_back(iv);
    }
    visit(in, leading, coords, position, body);
    return;
  }
  // Positions of a level have nothing below them in common.
  auto [lower, upper] = range(builder, 0, zero);
  if (top > 0) {
    auto loop = scf::ParallelOp::create(builder, loc, lower, upper, one);
    OpBuilder in = OpBuilder::atBlockTerminator(loop.getBody());
    Value position = loop.getInductionVars()[0];
    coords.push_back(lvlCoordinate(in, 0, position, lower));
    visit(in, 1, coords, position, body);
    return;
  }
  if (level > 0) { // kept entries of groups that have no rows above them
    visit(builder, 0, coords, zero, body);
    return;
  }
  Value part = indexConstant(builder, loc, kPart);
  auto loop = scf::ParallelOp::create(builder, loc, lower, upper, part);
  OpBuilder in = OpBuilder::atBlockTerminator(loop.getBody());
  Value first = loop.getInductionVars()[0];
  Value last =
      arith::MinUIOp::create(in, loc, addIndex(in, loc, first, part), upper);
  body(in, {{}, first, last, lower});
}

SmallVector<Value> StoredRuns::outerCoords(OpBuilder &builder, const Run &run,
                                           Value position) const {
  SmallVector<Value> coords(run.parents);
  if (top < level) {
    Value place = arith::SubIOp::create(builder, loc, position, run.base);
    coords.push_back(arith::DivUIOp::create(
        builder, loc, place,
        indexConstant(builder, loc, getN(storage.type.getLvlType(level)))));
  }
  unsigned end = storage.type.getLvlRank() - block.size();
  for (unsigned lvl = level; lvl < end; ++lvl)
    coords.push_back(lvlCoordinate(builder, lvl, position, run.base));
  return coords;
}

SmallVector<Value> StoredRuns::coords(OpBuilder &builder, const Run &run,
                                      Value value) const {
  SmallVector<Value> inside;
  Value position = value;
  for (int64_t size : llvm::reverse(block)) {
    Value by = indexConstant(builder, loc, size);
    inside.push_back(arith::RemUIOp::create(builder, loc, position, by));
    position = arith::DivUIOp::create(builder, loc, position, by);
  }
  SmallVector<Value> result = outerCoords(builder, run, position);
  llvm::append_range(result, llvm::reverse(inside));
  return result;
}

bool StoredRuns::isCommon(unsigned dim) const {
  return llvm::none_of(llvm::seq<unsigned>(top, storage.type.getLvlRank()),
                       [&](unsigned lvl) { return storage.isAlong(lvl, dim); });
}
