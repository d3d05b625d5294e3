//===- TransposedCopy.cpp - matrices turned over in registers -------------===//

#include "passes/TransposedCopy.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "passes/Storage.h"

using namespace mlir;
using namespace gossamer;

/// Lanes of two vectors, those of the second numbered behind those of the
/// first. With lanes in groups of `distance`: even groups of both by turns, or
/// odd ones.
static Value pick(OpBuilder &builder, Location loc, Value a, Value b,
                  int64_t distance, bool odd) {
  int64_t lanes = cast<VectorType>(a.getType()).getNumElements();
  SmallVector<int64_t> from;
  for (int64_t lane = 0; lane < lanes; ++lane) {
    bool second = lane & distance;
    int64_t at = (lane & ~distance) + (odd ? distance : 0);
    from.push_back(second ? lanes + at : at);
  }
  return vector::ShuffleOp::create(builder, loc, a, b, from);
}

SmallVector<Value> gossamer::transposeLanes(OpBuilder &builder, Location loc,
                                            ValueRange vectors) {
  SmallVector<Value> rows = llvm::to_vector(vectors);
  // Swaps a bit of the number of a vector with one of the number of a lane.
  for (size_t distance = 1; distance < rows.size(); distance *= 2)
    for (size_t r = 0; r < rows.size(); ++r) {
      if (r & distance)
        continue;
      Value a = rows[r], b = rows[r + distance];
      rows[r] = pick(builder, loc, a, b, distance, /*odd=*/false);
      rows[r + distance] = pick(builder, loc, a, b, distance, /*odd=*/true);
    }
  return rows;
}

Value gossamer::sumLanes(OpBuilder &builder, Location loc, ValueRange vectors) {
  auto add = [&](Value a, Value b) -> Value {
    auto type = cast<VectorType>(a.getType());
    if (isa<FloatType>(type.getElementType()))
      return arith::AddFOp::create(builder, loc, a, b);
    return arith::AddIOp::create(builder, loc, a, b);
  };
  // Adds neighbours, of which a pair of vectors keeps one lane each; then the
  // lanes of all vectors lie in one, more than once.
  SmallVector<Value> sums = llvm::to_vector(vectors);
  int64_t count = sums.size();
  for (int64_t distance = 1; sums.size() > 1; distance *= 2) {
    SmallVector<Value> halves;
    for (size_t n = 0; n < sums.size(); n += 2)
      halves.push_back(
          add(pick(builder, loc, sums[n], sums[n + 1], distance, false),
              pick(builder, loc, sums[n], sums[n + 1], distance, true)));
    sums = halves;
  }
  int64_t lanes = cast<VectorType>(sums[0].getType()).getNumElements();
  for (; lanes > count; lanes /= 2) {
    auto half = [&](int64_t first) -> Value {
      auto from = llvm::to_vector(llvm::seq(first, first + lanes / 2));
      return vector::ShuffleOp::create(builder, loc, sums[0], sums[0], from);
    };
    sums[0] = add(half(0), half(lanes / 2));
  }
  return sums[0];
}

void gossamer::emitTransposedCopy(
    OpBuilder &builder, Location loc, Value rows, Value columns, int64_t lanes,
    llvm::function_ref<Value(OpBuilder &, Value, Value, Value)> load,
    llvm::function_ref<void(OpBuilder &, Value, Value, Value, Value)> store) {
  Value zero = indexConstant(builder, loc, 0);
  Value step = indexConstant(builder, loc, lanes);
  auto outer = scf::ForOp::create(builder, loc, zero, rows, step);
  OpBuilder in = OpBuilder::atBlockTerminator(outer.getBody());
  auto inner = scf::ForOp::create(in, loc, zero, columns, step);
  in = OpBuilder::atBlockTerminator(inner.getBody());
  Value row = outer.getInductionVar(), column = inner.getInductionVar();
  Value rowsLeft = arith::SubIOp::create(in, loc, rows, row);
  Value columnsLeft = arith::SubIOp::create(in, loc, columns, column);
  Value least = arith::MinUIOp::create(in, loc, rowsLeft, columnsLeft);
  Value whole =
      arith::CmpIOp::create(in, loc, arith::CmpIPredicate::uge, least, step);
  auto choice = scf::IfOp::create(in, loc, whole, /*withElseRegion=*/true);
  {
    OpBuilder b = choice.getThenBodyBuilder();
    SmallVector<Value> vectors;
    for (int64_t n = 0; n < lanes; ++n)
      vectors.push_back(load(b, addIndex(b, loc, row, indexConstant(b, loc, n)),
                             column, Value()));
    vectors = transposeLanes(b, loc, vectors);
    for (int64_t n = 0; n < lanes; ++n)
      store(b, row, addIndex(b, loc, column, indexConstant(b, loc, n)),
            vectors[n], Value());
  }
  // At the edges: rows beyond the last repeat it and are not stored.
  OpBuilder b = choice.getElseBodyBuilder();
  auto maskType = VectorType::get(lanes, b.getI1Type());
  Value columnMask =
      vector::CreateMaskOp::create(b, loc, maskType, columnsLeft);
  Value rowMask = vector::CreateMaskOp::create(b, loc, maskType, rowsLeft);
  Value lastRow = arith::SubIOp::create(b, loc, rows, indexConstant(b, loc, 1));
  SmallVector<Value> vectors;
  for (int64_t n = 0; n < lanes; ++n) {
    Value at = addIndex(b, loc, row, indexConstant(b, loc, n));
    at = arith::MinUIOp::create(b, loc, at, lastRow);
    vectors.push_back(load(b, at, column, columnMask));
  }
  vectors = transposeLanes(b, loc, vectors);
  for (int64_t n = 0; n < lanes; ++n) {
    Value at = indexConstant(b, loc, n);
    Value inside = arith::CmpIOp::create(b, loc, arith::CmpIPredicate::ult, at,
                                         columnsLeft);
    auto exists = scf::IfOp::create(b, loc, inside, /*withElseRegion=*/false);
    OpBuilder then = exists.getThenBodyBuilder();
    store(then, row, addIndex(then, loc, column, at), vectors[n], rowMask);
  }
}
