//===- HostProducts.cpp - products of tiles on the host -------------------===//
//
// A product is made where it begins, from both sides as f32: what it reads is
// read there. Functions are shared by all products of the same sizes.
//
//===----------------------------------------------------------------------===//

#include "passes/tile/host/HostProgram.h"

using namespace mlir;
using namespace gossamer::tile;

/// Rows that are multiplied at once: as many sums in registers as hide how long
/// an addition takes.
static constexpr int64_t rowsAtOnce = 8;

/// Room for the sides of the largest product.
void HostProgram::placeSides() {
  int64_t leftSize = 0, rightSize = 0;
  program.walk([&](MmaOp op) {
    auto rhs = op.getRhs().getType();
    rightSize = std::max(rightSize, rhs.getRows() * rhs.getColumns());
    if (auto lhs = dyn_cast<SharedType>(op.getLhs().getType()))
      leftSize = std::max(leftSize, lhs.getRows() * lhs.getColumns());
  });
  left = allocate(leftSize);
  right = allocate(rightSize);
}

void HostProgram::lowerMma(MmaOp op) {
  auto rhs = op.getRhs().getType();
  auto lhs = dyn_cast<SharedType>(op.getLhs().getType());
  if (lhs)
    widen(get(op.getLhs()), left, lhs, /*transposed=*/false);
  widen(get(op.getRhs()), right, rhs, op.getTransposed());
  Value accumulator = op.getAccumulator();
  multiply(lhs ? left : place(op.getLhs()), right,
           accumulator ? place(accumulator) : Value(), place(op),
           *extentOf(op.getType()),
           op.getTransposed() ? rhs.getColumns() : rhs.getRows());
}

void HostProgram::lowerLoadOperand(LoadOperandOp op) {
  widen(get(op.getSource()), place(op), op.getSource().getType(),
        /*transposed=*/false);
}

/// A tile, or its transpose, as f32.
void HostProgram::widen(Value from, Value to, SharedType type,
                        bool transposed) {
  Type half = type.getElementType();
  int64_t rows = type.getRows(), columns = type.getColumns();
  std::string name;
  llvm::raw_string_ostream(name)
      << "tile_widen_" << rows << 'x' << columns << 'x' << half
      << (transposed ? "_transposed" : "");
  Extent extent = transposed ? Extent{columns, rows} : Extent{rows, columns};
  code.callShared(name, {from, to}, [&](ValueRange arguments) {
    forEach(extent, [&](Value row, Value column, Value index) {
      Value at = transposed ? code.add(code.mul(column, columns), row) : index;
      Value value = code.load(arguments[0], half, at);
      code.store(arith::ExtFOp::create(b, loc, f32, value), arguments[1],
                 index);
    });
  });
}

/// extent.rows x depth numbers times depth x extent.columns, plus what is in
/// `accumulator` if there is one.
void HostProgram::multiply(Value lhs, Value rhs, Value accumulator,
                           Value result, Extent extent, int64_t depth) {
  std::string name;
  llvm::raw_string_ostream(name)
      << "tile_multiply_" << (accumulator ? "add_" : "") << extent.rows << 'x'
      << extent.columns << 'x' << depth;
  auto vector = VectorType::get(lanes, f32);
  auto zero = DenseElementsAttr::get(vector, b.getF32FloatAttr(0));
  auto spread = [&](Value number) -> Value {
    Value poison = LLVM::PoisonOp::create(b, loc, vector);
    Value first = LLVM::InsertElementOp::create(b, loc, vector, poison, number,
                                                code.i64(0));
    return LLVM::ShuffleVectorOp::create(b, loc, first, poison,
                                         SmallVector<int32_t>(lanes, 0));
  };
  auto body = [&](ValueRange arguments) {
    Value lhs = arguments[0], rhs = arguments[1], result = arguments[2];
    code.loop(extent.columns, lanes, [&](Value column) {
      code.loop(extent.rows, rowsAtOnce, [&](Value row) {
        HostCode::Values places, lines, sums;
        for (int64_t r = 0; r < rowsAtOnce; ++r) {
          Value at = code.add(row, code.i64(r));
          lines.push_back(code.mul(at, depth));
          places.push_back(code.add(code.mul(at, extent.columns), column));
          sums.push_back(
              accumulator
                  ? code.load(arguments[3], vector, places.back())
                  : arith::ConstantOp::create(b, loc, zero).getResult());
        }
        sums = code.fold(0, depth, sums, [&](Value k, ValueRange sofar) {
          Value at = code.add(code.mul(k, extent.columns), column);
          Value factors = code.load(rhs, vector, at);
          HostCode::Values next;
          for (auto [line, sum] : llvm::zip(lines, sofar)) {
            Value factor = code.load(lhs, f32, code.add(line, k));
            next.push_back(
                LLVM::FMAOp::create(b, loc, spread(factor), factors, sum));
          }
          return next;
        });
        for (auto [at, sum] : llvm::zip(places, sums))
          code.store(sum, result, at);
      });
    });
  };
  HostCode::Values arguments{lhs, rhs, result};
  if (accumulator)
    arguments.push_back(accumulator);
  code.callShared(name, arguments, body);
}
