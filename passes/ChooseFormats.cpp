//===- ChooseFormats.cpp - storage that the loops want --------------------===//

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/SparseTensor/IR/SparseTensorType.h"
#include "mlir/IR/TypeUtilities.h"
#include "passes/Passes.h"
#include "passes/SharedPattern.h"
#include "passes/Storage.h"

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

/// All dimensions dense but the last of `order`, which is compressed; if both
/// of the last two are blocked and blocks are wanted, so over blocks, which are
/// dense and row-major.
SparseTensorEncodingAttr rowMajor(SparseTensorEncodingAttr encoding,
                                  ArrayRef<unsigned> order, bool inBlocks) {
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
    if (rows > 1 && columns > 1 && inBlocks) {
      AffineExpr row = exprs[rank - 2], column = exprs[rank - 1];
      exprs[rank - 2] = row.floorDiv(rows);
      exprs[rank - 1] = column.floorDiv(columns);
      exprs.append({row % rows, column % columns});
      types.append(2, dense);
    }
  }
  // What the runtime converts has one width: the larger one (0 is 64).
  unsigned pos = encoding.getPosWidth(), crd = encoding.getCrdWidth();
  unsigned width = pos && crd ? std::max(pos, crd) : 0;
  AffineMap dimToLvl = AffineMap::get(rank, 0, exprs, context);
  return SparseTensorEncodingAttr::get(
      context, types, dimToLvl, inferLvlToDim(dimToLvl, context), width, width);
}

/// The dimensions as the levels go through them: storage with the same order
/// has the same entries in the same order.
SmallVector<unsigned> orderOfDims(SparseTensorEncodingAttr encoding) {
  SmallVector<unsigned> order;
  for (unsigned lvl = 0; lvl < encoding.getLvlRank(); ++lvl) {
    unsigned dim = lvl;
    if (AffineMap map = encoding.getDimToLvl())
      for (dim = 0; !map.getResult(lvl).isFunctionOfDim(dim);)
        ++dim;
    if (order.empty() || order.back() != dim)
      order.push_back(dim);
  }
  return order;
}

/// Asks for operands in the storage that operations want.
class FormatChooser {
public:
  explicit FormatChooser(bool gpu) : gpu(gpu) {}

  LogicalResult visit(MatmulOp op);
  LogicalResult visit(AttentionOp op);
  LogicalResult visit(ContractOp op);
  /// On a GPU.
  void visit(SoftmaxOp op);
  LogicalResult visit(gossamer::ReduceOp op);

private:
  LogicalResult require(Operation *op, OpOperand &operand,
                        ArrayRef<unsigned> order, bool keepBlocks = true);
  Value convertArgument(Location loc, BlockArgument argument, Type stored);
  Value gather(Value value, BlockArgument argument, RankedTensorType stored);
  Value placesOf(OpBuilder &builder, Location loc, BlockArgument argument,
                 RankedTensorType stored);

  bool gpu;
  /// By value and storage: what several operations want is gathered once.
  DenseMap<std::pair<Value, Type>, Value> gathered;
};

/// The argument stored so, which the runtime does in time.
Value FormatChooser::convertArgument(Location loc, BlockArgument argument,
                                     Type stored) {
  auto function = cast<func::FuncOp>(argument.getOwner()->getParentOp());
  OpBuilder builder = OpBuilder::atBlockBegin(argument.getOwner());
  auto fill = function.getArgAttrOfType<TypedAttr>(
      argument.getArgNumber(), GossamerDialect::getFillAttrName());
  if (!fill)
    fill = builder.getZeroAttr(getElementTypeOrSelf(stored));
  return gossamer::ConvertOp::create(builder, loc, stored, argument, fill);
}

/// The values of `value`, which has the pattern of `argument`, stored so.
Value FormatChooser::gather(Value value, BlockArgument argument,
                            RankedTensorType stored) {
  Value &result = gathered[{value, stored}];
  if (result)
    return result;
  OpBuilder builder(value.getContext());
  builder.setInsertionPointAfterValue(value);
  Value index = placesOf(builder, value.getLoc(), argument, stored);
  return result =
             GatherOp::create(builder, value.getLoc(), stored, value, index);
}

/// Where the values of `argument` lie in that storage.
Value FormatChooser::placesOf(OpBuilder &builder, Location loc,
                              BlockArgument argument, RankedTensorType stored) {
  auto encoding = cast<SparseTensorEncodingAttr>(stored.getEncoding());
  unsigned width = encoding.getPosWidth() ? encoding.getPosWidth() : 64;
  auto type = RankedTensorType::get(stored.getShape(),
                                    builder.getIntegerType(width), encoding);
  return StorageIndexOp::create(builder, loc, type, argument);
}

/// Makes `operand` arrive in storage that is row-major in `order`.
LogicalResult FormatChooser::require(Operation *op, OpOperand &operand,
                                     ArrayRef<unsigned> order,
                                     bool keepBlocks) {
  Value value = operand.get();
  auto type = cast<RankedTensorType>(value.getType());
  auto encoding = cast<SparseTensorEncodingAttr>(type.getEncoding());
  auto wanted = rowMajor(encoding, order, /*inBlocks=*/keepBlocks);
  if (!blockLevels(wanted).empty() && !haveSameBlocks(encoding, wanted))
    wanted = rowMajor(encoding, order, /*inBlocks=*/false);
  if (wanted.withoutBitWidths() == encoding.withoutBitWidths())
    return success();
  auto stored =
      RankedTensorType::get(type.getShape(), type.getElementType(), wanted);
  auto argument = dyn_cast<BlockArgument>(value);
  // The caller passes on what lies in the same order, and gathers what a mask
  // is worth; the values of a product's operand are moved here, in parallel.
  bool inOrder = orderOfDims(encoding) == orderOfDims(wanted);
  if (argument && (inOrder || !isa<MatmulOp>(op))) {
    operand.set(convertArgument(op->getLoc(), argument, stored));
    return success();
  }
  argument = patternArgument(value);
  if (!argument || !samePattern(value, argument))
    return op->emitOpError()
           << "needs an operand stored as " << wanted << ", but "
           << value.getDefiningOp()->getName() << " makes it stored as "
           << type.getEncoding()
           << "; annotate the tensor that its pattern comes from with that "
              "format";
  operand.set(gather(value, argument, stored));
  return success();
}

LogicalResult FormatChooser::visit(MatmulOp op) {
  AffineMap map = op.getSparseMap(), result = op.getResultMap();
  ArrayRef<int64_t> shape =
      cast<ShapedType>(op.getSparse().getType()).getShape();
  SmallVector<unsigned> broadcast, order, summed;
  for (auto [dim, expr] : llvm::enumerate(map.getResults())) {
    if (result.getResultPosition(expr))
      order.push_back(dim);
    else if (shape[dim] == 1 && !op.getDenseMap().getResultPosition(expr))
      broadcast.push_back(dim); // of one size; it costs nothing outermost
    else
      summed.push_back(dim);
  }
  order.append(summed);
  order.insert(order.begin(), broadcast.begin(), broadcast.end());
  return require(op, op->getOpOperand(op.isSparseLhs() ? 0 : 1), order);
}

LogicalResult FormatChooser::visit(AttentionOp op) {
  unsigned rank = cast<ShapedType>(op.getMask().getType()).getRank();
  SmallVector<unsigned> order = llvm::to_vector(llvm::seq(rank));
  return require(op, op.getMaskMutable(), order);
}

/// The dimensions in the order of their outermost levels.
SmallVector<unsigned> storedOrder(SparseTensorType type) {
  SmallVector<unsigned> order;
  for (unsigned lvl = 0; lvl < type.getLvlRank(); ++lvl)
    for (unsigned dim = 0; dim < type.getDimRank(); ++dim)
      if ((type.isIdentity()
               ? lvl == dim
               : type.getDimToLvl().getResult(lvl).isFunctionOfDim(dim)) &&
          !llvm::is_contained(order, dim))
        order.push_back(dim);
  return order;
}

/// Whether several operands can be gone through at once: every coordinate once,
/// in order.
bool isPlain(SparseTensorType type) {
  return llvm::all_of(type.getLvlTypes(), [](LevelType level) {
    return (isDenseLT(level) || isCompressedLT(level)) && isUniqueLT(level) &&
           isOrderedLT(level);
  });
}

LogicalResult FormatChooser::visit(ContractOp op) {
  SmallVector<AffineMap> maps = op.getMaps();
  SmallVector<OpOperand *> sparse;
  for (OpOperand &operand : op.getInputsMutable())
    if (getSparseTensorEncoding(operand.get().getType()))
      sparse.push_back(&operand);
  if (sparse.size() < 2)
    return success(); // any order will do
  auto loopOf = [&](OpOperand *operand, unsigned dim) {
    AffineMap map = maps[operand->getOperandNumber()];
    return cast<AffineDimExpr>(map.getResult(dim)).getPosition();
  };
  AffineMap result = maps.back();
  auto isKept = [&](unsigned loop) {
    return llvm::is_contained(result.getResults(),
                              getAffineDimExpr(loop, op.getContext()));
  };
  // What an operand has in common with those before it is outermost, so that it
  // is found at once.
  SmallVector<SmallVector<unsigned>> orders;
  SmallVector<unsigned> known;
  for (OpOperand *operand : sparse) {
    SmallVector<unsigned> stored =
        storedOrder(getSparseTensorType(operand->get()));
    SmallVector<unsigned> &order = orders.emplace_back();
    // What is not summed is outermost on a GPU, so that threads share nothing.
    if (gpu && known.empty())
      std::stable_partition(stored.begin(), stored.end(), [&](unsigned dim) {
        return isKept(loopOf(operand, dim));
      });
    for (unsigned loop : known)
      for (unsigned dim : stored)
        if (loopOf(operand, dim) == loop)
          order.push_back(dim);
    for (unsigned dim : stored)
      if (!llvm::is_contained(order, dim))
        order.push_back(dim);
    for (unsigned dim : order)
      if (!llvm::is_contained(known, loopOf(operand, dim)))
        known.push_back(loopOf(operand, dim));
  }
  // Blocks are kept if they are of the innermost two dimensions, the same along
  // every loop, and no two operands have two loops of them in common, whose
  // order within a block may differ.
  bool keepBlocks = true;
  DenseMap<unsigned, int64_t> blocks;
  for (auto [operand, order] : llvm::zip(sparse, orders)) {
    auto type = getSparseTensorType(operand->get());
    unsigned shared = 0, inner = 0, all = 0;
    for (auto [place, dim] : llvm::enumerate(order)) {
      int64_t block = blockSize(type.getEncoding(), dim);
      auto [it, isNew] = blocks.try_emplace(loopOf(operand, dim), block);
      keepBlocks &= it->second == block;
      shared += !isNew && block > 1;
      all += block > 1;
      inner += block > 1 && place + 2 >= order.size();
    }
    keepBlocks &= shared < 2 &&
                  (all == 0 || (all == 2 && inner == 2 &&
                                blockLevels(type.getEncoding()).size() == 2)) &&
                  llvm::none_of(
                      type.getLvlTypes(),
                      [](LevelType level) { return isNOutOfMLT(level); });
  }
  // The first one may stay as it is stored; the others have to be dense but for
  // their last dimension.
  for (auto [operand, order] : llvm::zip(sparse, orders)) {
    auto type = getSparseTensorType(operand->get());
    bool isBlocked = llvm::any_of(order, [&](unsigned dim) {
      return blockSize(type.getEncoding(), dim) > 1;
    });
    bool stays = operand == sparse.front() && isPlain(type) &&
                 (keepBlocks || !isBlocked) &&
                 (!gpu || (type.isDenseLvl(0) && storedOrder(type) == order));
    if (!stays && failed(require(op, *operand, order, keepBlocks)))
      return failure();
  }
  return success();
}

void FormatChooser::visit(SoftmaxOp op) {
  auto type = getSparseTensorType(op.getSource());
  unsigned dim = op.getDimension();
  auto argument = dyn_cast<BlockArgument>(op.getSource());
  if (!argument)
    argument = patternArgument(op.getSource());
  if (storesRows(type, dim) || !argument ||
      !samePattern(op.getSource(), argument))
    return;
  SmallVector<unsigned> order;
  for (unsigned d = 0; d < type.getDimRank(); ++d)
    if (d != dim)
      order.push_back(d);
  order.push_back(dim);
  auto wanted = rowMajor(type.getEncoding(), order, /*inBlocks=*/false);
  OpBuilder builder(op);
  op.getIndexMutable().assign(
      placesOf(builder, op.getLoc(), argument,
               RankedTensorType::get(type.getRankedTensorType().getShape(),
                                     type.getElementType(), wanted)));
}

LogicalResult FormatChooser::visit(gossamer::ReduceOp op) {
  Value value = op.getPattern();
  auto encoding = getSparseTensorEncoding(value.getType());
  SmallVector<unsigned> order = orderOfDims(encoding);
  BlockArgument argument = patternArgument(value);
  bool known =
      isa<BlockArgument>(value) || (argument && samePattern(value, argument));
  if (!known || !llvm::is_sorted(order) ||
      llvm::all_of(encoding.getLvlTypes(), isUniqueLT))
    return success();
  return require(op, op.getPatternMutable(), order, /*keepBlocks=*/false);
}

struct ChooseFormats : gossamer::impl::ChooseFormatsBase<ChooseFormats> {
  using ChooseFormatsBase::ChooseFormatsBase;

  void runOnOperation() override {
    FormatChooser chooser(gpu);
    WalkResult result = getOperation().walk([&](Operation *op) {
      LogicalResult done = success();
      if (auto matmul = dyn_cast<MatmulOp>(op))
        done = chooser.visit(matmul);
      else if (auto attention = dyn_cast<AttentionOp>(op))
        done = chooser.visit(attention);
      else if (auto contract = dyn_cast<ContractOp>(op))
        done = chooser.visit(contract);
      else if (auto softmax = dyn_cast<SoftmaxOp>(op); softmax && gpu)
        chooser.visit(softmax);
      else if (auto reduce = dyn_cast<gossamer::ReduceOp>(op); reduce && gpu)
        done = chooser.visit(reduce);
      return failed(done) ? WalkResult::interrupt() : WalkResult::advance();
    });
    if (result.wasInterrupted())
      signalPassFailure();
  }
};

} // namespace
