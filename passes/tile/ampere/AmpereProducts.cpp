//===- AmpereProducts.cpp - products by ldmatrix and mma.sync -------------===//
//
// A warp multiplies its 16 rows in steps of 16 along K and 8 columns. Of the
// right side it has, in lane t, rows 2 (t mod 4) + {0, 1} (+ 8) of column t /
// 4: what ldmatrix gives of 8 x 8 matrices whose lines are columns (a right
// side that is transposed), and with .trans of those whose lines are rows.
//
//===----------------------------------------------------------------------===//

#include "passes/tile/ampere/AmpereProgram.h"

using namespace mlir;
using namespace gossamer::tile;

namespace {

/// Groups of 16 x 16 elements of a tile in shared memory. Four of its addresses
/// are known to a lane: of its line, at each group of 16 columns of a panel.
class Groups {
public:
  /// Lane l names line l mod 8 of matrix l / 8; `across` says whether matrix 1
  /// is to the right of matrix 0, and not below.
  Groups(Ptx &ptx, Value tile, SharedType type, Value lane, bool across)
      : panelBytes(type.getPanel() * lineBytes) {
    Value inMatrix = ptx.bitAnd(lane, 7);
    Value odd = ptx.bitAnd(ptx.shiftRight(lane, 3), 1);
    Value upper = ptx.shiftRight(lane, 4);
    Value right = across ? odd : upper, below = across ? upper : odd;
    Value line = ptx.add(inMatrix, ptx.shiftLeft(below, 3));
    Value place = ptx.shiftLeft(ptx.bitXor(right, inMatrix), 4);
    Value first = ptx.add(tile, ptx.add(ptx.shiftLeft(line, 7), place));
    // A swizzle is an exclusive or, and so is the next pair of chunks.
    for (int64_t n = 0; n < 4; ++n)
      addresses.push_back(n ? ptx.bitXor(first, ptx.i32(32 * n)) : first);
  }

  Registers load(Ptx &ptx, int64_t row, int64_t column, bool transposed) const {
    int64_t offset = row * lineBytes + column / panelColumns * panelBytes;
    return ptx.loadMatrices(addresses[column % panelColumns / 16], offset,
                            transposed);
  }

private:
  int64_t panelBytes;
  Registers addresses;
};

} // namespace

void AmpereProgram::lowerMma(MmaOp op) {
  auto rhs = op.getRhs().getType();
  bool transposed = op.getTransposed();
  int64_t columns = op.getResult().getType().getColumns();
  int64_t depth = transposed ? rhs.getColumns() : rhs.getRows();

  Registers sums(columns / 2, ptx.f32(0));
  if (op.getAccumulator())
    sums = Registers(all(op.getAccumulator()));
  std::optional<Groups> left;
  if (auto lhs = dyn_cast<SharedType>(op.getLhs().getType())) {
    Value rows = ptx.add(get(op.getLhs()), ptx.shiftLeft(warp, 11));
    left.emplace(ptx, rows, lhs, lane, /*across=*/false);
  }
  Groups right(ptx, get(op.getRhs()), rhs, lane, /*across=*/transposed);

  for (int64_t k = 0; k < depth; k += 16) {
    Registers a = left ? left->load(ptx, 0, k, /*transposed=*/false)
                       : Registers(all(op.getLhs()).slice(k / 4, 4));
    for (int64_t c = 0; c < columns; c += 16) {
      Registers pair = transposed ? right.load(ptx, c, k, /*transposed=*/false)
                                  : right.load(ptx, k, c, /*transposed=*/true);
      for (int64_t n = 0; n < 2; ++n) {
        Value *to = &sums[c / 2 + 4 * n];
        Registers sum = ptx.multiply(rhs.getElementType(), a,
                                     ArrayRef(pair).slice(2 * n, 2),
                                     ValueRange{to[0], to[1], to[2], to[3]});
        llvm::copy(sum, to);
      }
    }
  }
  set(op, std::move(sums));
}

/// The product was made where it was begun.
void AmpereProgram::lowerAwait(AwaitOp op) {
  set(op, Registers(all(op.getPending())));
}

void AmpereProgram::lowerLoadOperand(LoadOperandOp op) {
  auto type = op.getSource().getType();
  Value rows = ptx.add(get(op.getSource()), ptx.shiftLeft(warp, 11));
  Groups groups(ptx, rows, type, lane, /*across=*/false);
  Registers words;
  for (int64_t c = 0; c < type.getColumns(); c += 16)
    llvm::append_range(words, groups.load(ptx, 0, c, /*transposed=*/false));
  set(op, std::move(words));
}
