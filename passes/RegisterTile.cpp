//===- RegisterTile.cpp - products with their sums in registers -----------===//

#include "passes/RegisterTile.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "mlir/IR/TypeUtilities.h"
#include "passes/HalfPrecision.h"
#include "passes/Storage.h"

using namespace mlir;
using namespace gossamer;

RegisterTile::RegisterTile(Location loc, TileShape shape, Type sum)
    : loc(loc), shape(shape), vector(VectorType::get(shape.lanes, sum)) {}

RegisterTile::Sums RegisterTile::fill(OpBuilder &builder, Value scalar) const {
  return Sums(shape.rows * shape.vectors,
              vector::BroadcastOp::create(builder, loc, vector, scalar));
}

RegisterTile::Sums RegisterTile::step(OpBuilder &builder, Value k,
                                      ValueRange sums, LoadScalar loadA,
                                      LoadVector loadB) const {
  Type element = vector.getElementType();
  SmallVector<Value> columns;
  for (int64_t n = 0; n < shape.vectors; ++n)
    columns.push_back(extendTo(builder, loc, loadB(builder, n, k), element));
  Sums result;
  for (int64_t m = 0; m < shape.rows; ++m) {
    Value a = vector::BroadcastOp::create(
        builder, loc, vector,
        extendTo(builder, loc, loadA(builder, m, k), element));
    for (int64_t n = 0; n < shape.vectors; ++n) {
      Value sum = sums[m * shape.vectors + n];
      // vector.fma is a hint, as contract is: two instructions where the
      // processor has none for it.
      if (isa<FloatType>(element))
        sum = vector::FMAOp::create(builder, loc, a, columns[n], sum);
      else
        sum = arith::AddIOp::create(
            builder, loc, sum,
            arith::MulIOp::create(builder, loc, a, columns[n]));
      result.push_back(sum);
    }
  }
  return result;
}

RegisterTile::Sums RegisterTile::accumulate(OpBuilder &builder, Value lower,
                                            Value upper, ValueRange sums,
                                            LoadScalar loadA,
                                            LoadVector loadB) const {
  return carry(builder, lower, upper, sums,
               [&](OpBuilder &in, Value k, ValueRange carried) {
                 return step(in, k, carried, loadA, loadB);
               });
}

RegisterTile::Sums RegisterTile::carry(
    OpBuilder &builder, Value lower, Value upper, ValueRange sums,
    llvm::function_ref<Sums(OpBuilder &, Value, ValueRange)> body) const {
  auto loop = scf::ForOp::create(builder, loc, lower, upper,
                                 indexConstant(builder, loc, 1), sums);
  OpBuilder in = OpBuilder::atBlockEnd(loop.getBody());
  scf::YieldOp::create(
      in, loc, body(in, loop.getInductionVar(), loop.getRegionIterArgs()));
  return llvm::to_vector_of<Value>(loop.getResults());
}

void RegisterTile::forEach(
    ValueRange sums,
    llvm::function_ref<void(int64_t, int64_t, Value)> body) const {
  for (int64_t m = 0; m < shape.rows; ++m)
    for (int64_t n = 0; n < shape.vectors; ++n)
      body(m, n, sums[m * shape.vectors + n]);
}

Value gossamer::extendTo(OpBuilder &builder, Location loc, Value value,
                         Type sum) {
  Type element = getElementTypeOrSelf(value);
  if (element == sum)
    return value;
  Type type = sum;
  if (auto vector = dyn_cast<VectorType>(value.getType()))
    type = vector.clone(sum);
  if (isa<FloatType>(element))
    return arith::ExtFOp::create(builder, loc, type, value);
  if (isa<FloatType>(sum))
    return element.isInteger(1)
               ? arith::UIToFPOp::create(builder, loc, type, value).getResult()
               : arith::SIToFPOp::create(builder, loc, type, value).getResult();
  return element.isInteger(1)
             ? arith::ExtUIOp::create(builder, loc, type, value).getResult()
             : arith::ExtSIOp::create(builder, loc, type, value).getResult();
}

/// Halves under a mask are moved as integers: where the processor has no masks
/// for them, LLVM goes through f32, by calls of the compiler's library.
static Value asIntegers(OpBuilder &builder, Location loc, Value buffer) {
  auto type = cast<MemRefType>(buffer.getType());
  auto integers = MemRefType::get(type.getShape(), builder.getI16Type(),
                                  type.getLayout(), type.getMemorySpace());
  return UnrealizedConversionCastOp::create(builder, loc, integers, buffer)
      .getResult(0);
}

Value gossamer::loadLanes(OpBuilder &builder, Location loc, int64_t lanes,
                          Value buffer, ValueRange indices, Value mask) {
  auto type = VectorType::get(lanes, getElementTypeOrSelf(buffer));
  if (!mask)
    return vector::LoadOp::create(builder, loc, type, buffer, indices);
  if (isHalf(type.getElementType())) {
    Value loaded = loadLanes(builder, loc, lanes,
                             asIntegers(builder, loc, buffer), indices, mask);
    return arith::BitcastOp::create(builder, loc, type, loaded);
  }
  Value zero =
      arith::ConstantOp::create(builder, loc, builder.getZeroAttr(type));
  return vector::MaskedLoadOp::create(builder, loc, type, buffer, indices, mask,
                                      zero);
}

void gossamer::storeLanes(OpBuilder &builder, Location loc, Value vector,
                          Value buffer, ValueRange indices, Value mask) {
  auto type = cast<VectorType>(vector.getType());
  if (!mask) {
    vector::StoreOp::create(builder, loc, vector, buffer, indices);
    return;
  }
  if (isHalf(type.getElementType())) {
    vector = arith::BitcastOp::create(builder, loc,
                                      type.clone(builder.getI16Type()), vector);
    buffer = asIntegers(builder, loc, buffer);
  }
  vector::MaskedStoreOp::create(builder, loc, buffer, indices, mask, vector);
}

/// The largest multiple of `step` that is not above `size`.
static Value roundDown(OpBuilder &builder, Location loc, Value size,
                       Value step) {
  return arith::SubIOp::create(
      builder, loc, size, arith::RemUIOp::create(builder, loc, size, step));
}

void gossamer::forEachStrip(
    OpBuilder &builder, Location loc, Value size, int64_t vectors,
    int64_t lanes,
    llvm::function_ref<void(OpBuilder &, Value, int64_t, Value)> body) {
  Value lower = indexConstant(builder, loc, 0);
  Value one = indexConstant(builder, loc, lanes);
  auto loop = [&](Value step, int64_t count) {
    Value upper = roundDown(builder, loc, size, step);
    auto strip = scf::ForOp::create(builder, loc, lower, upper, step);
    OpBuilder in = OpBuilder::atBlockTerminator(strip.getBody());
    body(in, strip.getInductionVar(), count, Value());
    lower = upper;
  };
  if (vectors > 1)
    loop(indexConstant(builder, loc, vectors * lanes), vectors);
  loop(one, 1);
  Value ragged = arith::CmpIOp::create(builder, loc, arith::CmpIPredicate::ult,
                                       lower, size);
  auto rest = scf::IfOp::create(builder, loc, ragged, /*withElseRegion=*/false);
  OpBuilder in = rest.getThenBodyBuilder();
  Value left = arith::SubIOp::create(in, loc, size, lower);
  Value mask = vector::CreateMaskOp::create(
      in, loc, VectorType::get(lanes, in.getI1Type()), left);
  body(in, lower, 1, mask);
}

void gossamer::forEachRowStrip(
    OpBuilder &builder, Location loc, Value size, int64_t rows,
    llvm::function_ref<void(OpBuilder &, Value, int64_t)> body) {
  Value lower = indexConstant(builder, loc, 0);
  auto loop = [&](Value upper, int64_t count) {
    auto strip = scf::ForOp::create(builder, loc, lower, upper,
                                    indexConstant(builder, loc, count));
    OpBuilder in = OpBuilder::atBlockTerminator(strip.getBody());
    body(in, strip.getInductionVar(), count);
    lower = upper;
  };
  if (rows > 1)
    loop(roundDown(builder, loc, size, indexConstant(builder, loc, rows)),
         rows);
  loop(size, 1);
}
