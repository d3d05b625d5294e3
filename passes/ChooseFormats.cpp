//===- ChooseFormats.cpp - storage that the loops want --------------------===//

#include "passes/Passes.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/TypeUtilities.h"

namespace gossamer {
#define GEN_PASS_DEF_CHOOSEFORMATS
#include "passes/Passes.h.inc"
} // namespace gossamer

using namespace mlir;
using namespace gossamer;
using namespace mlir::sparse_tensor;

namespace {

/// The block size of a dimension: c where its levels are d floordiv c and
/// d mod c, else 1.
int64_t blockSize(SparseTensorEncodingAttr encoding, unsigned dim) {
  AffineMap map = encoding.getDimToLvl();
  if (!map)
    return 1;
  for (AffineExpr expr : map.getResults())
    if (expr.getKind() == AffineExprKind::Mod && expr.isFunctionOfDim(dim))
      return cast<AffineConstantExpr>(cast<AffineBinaryOpExpr>(expr).getRHS())
          .getValue();
  return 1;
}

/// All dimensions dense but the last of `order`, which is compressed; if both of
/// the last two are blocked, so over blocks, which are dense and row-major.
SparseTensorEncodingAttr rowMajor(SparseTensorEncodingAttr encoding,
                                  ArrayRef<unsigned> order) {
  MLIRContext *context = encoding.getContext();
  unsigned rank = order.size();
  LevelType dense = *buildLevelType(LevelFormat::Dense, true, true);
  LevelType compressed = *buildLevelType(LevelFormat::Compressed, true, true);
  SmallVector<LevelType> types(rank - 1, dense);
  types.push_back(compressed);
  SmallVector<AffineExpr> exprs;
  for (unsigned dim : order)
    exprs.push_back(getAffineDimExpr(dim, context));
  if (rank >= 2) {
    int64_t rows = blockSize(encoding, order[rank - 2]);
    int64_t columns = blockSize(encoding, order[rank - 1]);
    if (rows > 1 && columns > 1) {
      AffineExpr row = exprs[rank - 2], column = exprs[rank - 1];
      exprs[rank - 2] = row.floorDiv(rows);
      exprs[rank - 1] = column.floorDiv(columns);
      exprs.append({row % rows, column % columns});
      types.append(2, dense);
    }
  }
  AffineMap dimToLvl = AffineMap::get(rank, 0, exprs, context);
  return SparseTensorEncodingAttr::get(
      context, types, dimToLvl, inferLvlToDim(dimToLvl, context),
      encoding.getPosWidth(), encoding.getCrdWidth());
}

/// Makes `operand` arrive in storage that is row-major in `order`.
LogicalResult require(Operation *op, OpOperand &operand, ArrayRef<unsigned> order,
                      TypedAttr fill) {
  auto type = cast<RankedTensorType>(operand.get().getType());
  auto encoding = cast<SparseTensorEncodingAttr>(type.getEncoding());
  auto wanted = rowMajor(encoding, order);
  if (wanted == encoding || wanted.withoutBitWidths() == encoding.withoutBitWidths())
    return success();
  if (!isa<BlockArgument>(operand.get()))
    return op->emitOpError()
           << "needs its operand stored as " << wanted
           << ", but it is computed here as " << encoding
           << "; annotate the tensor that its pattern comes from with that format";
  OpBuilder builder(op);
  auto convert = gossamer::ConvertOp::create(
      builder, op->getLoc(),
      RankedTensorType::get(type.getShape(), type.getElementType(), wanted),
      operand.get(), fill);
  operand.set(convert);
  return success();
}

LogicalResult visit(MatmulOp op) {
  AffineMap map = op.getSparseMap(), result = op.getResultMap();
  SmallVector<unsigned> order, summed;
  for (auto [dim, expr] : llvm::enumerate(map.getResults()))
    (result.getResultPosition(expr) ? order : summed).push_back(dim);
  order.append(summed);
  Builder builder(op.getContext());
  TypedAttr zero = builder.getZeroAttr(getElementTypeOrSelf(op.getSparse()));
  return require(op, op->getOpOperand(op.isSparseLhs() ? 0 : 1), order, zero);
}

LogicalResult visit(AttentionOp op) {
  unsigned rank = cast<ShapedType>(op.getMask().getType()).getRank();
  SmallVector<unsigned> order = llvm::to_vector(llvm::seq(rank));
  TypedAttr fill;
  if (auto arg = dyn_cast<BlockArgument>(op.getMask()))
    if (auto function = dyn_cast<func::FuncOp>(arg.getOwner()->getParentOp()))
      fill = function.getArgAttrOfType<TypedAttr>(arg.getArgNumber(),
                                                  "gossamer.fill");
  if (!fill)
    fill = Builder(op.getContext()).getZeroAttr(getElementTypeOrSelf(op.getMask()));
  return require(op, op.getMaskMutable(), order, fill);
}

struct ChooseFormats : gossamer::impl::ChooseFormatsBase<ChooseFormats> {
  void runOnOperation() override {
    WalkResult result = getOperation().walk([](Operation *op) {
      LogicalResult done = success();
      if (auto matmul = dyn_cast<MatmulOp>(op))
        done = visit(matmul);
      else if (auto attention = dyn_cast<AttentionOp>(op))
        done = visit(attention);
      return failed(done) ? WalkResult::interrupt() : WalkResult::advance();
    });
    if (result.wasInterrupted())
      signalPassFailure();
  }
};

} // namespace
