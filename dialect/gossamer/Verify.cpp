//===- Verify.cpp - what makes a gossamer operation well-formed -----------===//

#include "dialect/gossamer/Gossamer.h"
#include "mlir/IR/TypeUtilities.h"
#include "mlir/Interfaces/FunctionInterfaces.h"
#include "llvm/ADT/SmallBitVector.h"

using namespace mlir;
using namespace gossamer;
using sparse_tensor::getSparseTensorEncoding;

static bool isSparse(Type type) {
  return getSparseTensorEncoding(type) != nullptr;
}

/// Same rank, and same sizes where both are static.
static bool sameShape(Type a, Type b) {
  return succeeded(verifyCompatibleShape(a, b));
}

/// One map an operand, over one iteration space, with one result a dimension of
/// the operand, each a loop or (broadcast) the constant 0; equal loops have
/// equal static sizes.
static LogicalResult verifyMaps(Operation *op, ArrayRef<AffineMap> maps,
                                ArrayRef<Type> types) {
  if (maps.size() != types.size())
    return op->emitOpError() << "has " << maps.size() << " maps for "
                             << types.size() << " operands and results";
  unsigned numLoops = maps.front().getNumDims();
  SmallVector<int64_t> extents(numLoops, ShapedType::kDynamic);
  llvm::SmallBitVector seen(numLoops);
  for (auto [n, map, type] : llvm::enumerate(maps, types)) {
    auto shape = cast<ShapedType>(type).getShape();
    if (map.getNumDims() != numLoops || map.getNumSymbols() != 0)
      return op->emitOpError() << "map " << n << " must have " << numLoops
                               << " dimensions and no symbols, as map 0 has";
    if (map.getNumResults() != shape.size())
      return op->emitOpError()
             << "map " << n << " has " << map.getNumResults()
             << " results for an operand of rank " << shape.size();
    llvm::SmallBitVector used(numLoops);
    for (auto [expr, size] : llvm::zip(map.getResults(), shape)) {
      if (auto constant = dyn_cast<AffineConstantExpr>(expr)) {
        if (constant.getValue() != 0 ||
            (size != 1 && !ShapedType::isDynamic(size)))
          return op->emitOpError()
                 << "map " << n << " may have a constant only as 0 on a "
                 << "dimension of size 1";
        continue;
      }
      auto dim = dyn_cast<AffineDimExpr>(expr);
      if (!dim || used.test(dim.getPosition()))
        return op->emitOpError() << "map " << n << " is not a projected "
                                 << "permutation (with 0 for a broadcast)";
      used.set(dim.getPosition());
      seen.set(dim.getPosition());
      int64_t &extent = extents[dim.getPosition()];
      if (ShapedType::isDynamic(extent))
        extent = size;
      else if (!ShapedType::isDynamic(size) && size != extent)
        return op->emitOpError()
               << "loop d" << dim.getPosition() << " has size " << extent
               << " and, in operand " << n << ", " << size;
    }
  }
  if (!seen.all())
    return op->emitOpError()
           << "loop d" << seen.find_first_unset() << " indexes no operand";
  return success();
}

/// The body takes elements of `types` and yields one of `yielded`.
static LogicalResult verifyBody(Operation *op, Block &block,
                                ArrayRef<Type> types, Type yielded) {
  if (block.getNumArguments() != types.size())
    return op->emitOpError() << "body takes " << block.getNumArguments()
                             << " arguments, expected " << types.size();
  for (auto [n, arg, type] : llvm::enumerate(block.getArguments(), types))
    if (arg.getType() != type)
      return op->emitOpError() << "body argument " << n << " has type "
                               << arg.getType() << ", expected " << type;
  auto yield = dyn_cast<YieldOp>(block.getTerminator());
  if (!yield || yield.getNumOperands() != 1 ||
      yield.getOperand(0).getType() != yielded)
    return op->emitOpError() << "body must yield one " << yielded;
  return success();
}

static void appendElementTypes(ValueRange values,
                               SmallVectorImpl<Type> &types) {
  for (Value value : values)
    types.push_back(cast<ShapedType>(value.getType()).getElementType());
}

/// Only the pattern of an operation is stored sparsely, but where it says so.
static LogicalResult verifyDense(Operation *op, ValueRange operands,
                                 StringRef what) {
  for (Value operand : operands)
    if (isSparse(operand.getType()))
      return op->emitOpError() << what << " operands must be dense";
  return success();
}

/// Operands beside a pattern are dense, or have that very pattern: stored and
/// indexed as it is. (That it is the same one, the lowering checks.)
static LogicalResult verifyOnPattern(Operation *op, ValueRange operands,
                                     ArrayRef<AffineMap> maps, Value pattern,
                                     AffineMap patternMap) {
  auto encoding = getSparseTensorEncoding(pattern.getType());
  for (auto [operand, map] : llvm::zip(operands, maps))
    if (isSparse(operand.getType()) &&
        (getSparseTensorEncoding(operand.getType()) != encoding ||
         map != patternMap))
      return op->emitOpError("a sparse operand must be stored and indexed as "
                             "the pattern is");
  return success();
}

static LogicalResult verifyResultLike(Operation *op, Type result,
                                      Type pattern) {
  if (getSparseTensorEncoding(result) != getSparseTensorEncoding(pattern) ||
      !sameShape(result, pattern))
    return op->emitOpError()
           << "result must be stored and shaped as the pattern is";
  return success();
}

/// `gossamer.pattern` names an earlier argument with the storage and shape of
/// this one, which brings its pattern itself.
static LogicalResult verifySharedPattern(FunctionOpInterface function,
                                         unsigned argument, Attribute attr) {
  StringRef name = GossamerDialect::getPatternAttrName();
  auto fail = [&]() {
    return function.emitOpError() << name << " of argument " << argument << " ";
  };
  auto number = dyn_cast<IntegerAttr>(attr);
  if (!number || number.getInt() < 0 || number.getInt() >= argument)
    return fail() << "must be the number of an earlier argument, is " << attr;
  unsigned other = number.getInt();
  Type own = function.getArgumentTypes()[argument];
  Type shared = function.getArgumentTypes()[other];
  if (!isSparse(own) || !isSparse(shared))
    return fail() << "takes two sparse tensors";
  if (getSparseTensorEncoding(own) != getSparseTensorEncoding(shared) ||
      !sameShape(own, shared))
    return fail() << "must name an argument that is stored and shaped alike";
  if (function.getArgAttr(other, name))
    return fail() << "must name the argument that brings the pattern, and "
                  << other << " has it of another";
  return success();
}

LogicalResult
GossamerDialect::verifyRegionArgAttribute(Operation *op, unsigned, unsigned arg,
                                          NamedAttribute attribute) {
  auto function = dyn_cast<FunctionOpInterface>(op);
  if (function && attribute.getName() == getPatternAttrName())
    return verifySharedPattern(function, arg, attribute.getValue());
  return success();
}

/// A scalar body may ask for the dimensions of the value that it makes only.
LogicalResult IndexOp::verify() {
  Operation *parent = (*this)->getParentOp();
  unsigned limit = 0;
  if (auto op = dyn_cast<MatmulOp>(parent))
    limit = op.getResultMap().getNumResults();
  else if (auto op = dyn_cast<AttentionOp>(parent))
    limit = op.getNumBatchDims() + 2;
  else if (auto op = dyn_cast<SDDMMOp>(parent))
    limit = cast<ShapedType>(op.getPattern().getType()).getRank();
  else if (auto op = dyn_cast<ReduceOp>(parent))
    limit = cast<ShapedType>(op.getPattern().getType()).getRank();
  else if (auto op = dyn_cast<MapOp>(parent))
    limit = cast<ShapedType>(op.getPattern().getType()).getRank();
  if (static_cast<uint64_t>(getDim()) >= limit)
    return emitOpError() << "dim " << getDim() << " is out of range: the body "
                         << "of " << parent->getName() << " has " << limit;
  return success();
}

LogicalResult ConvertOp::verify() {
  auto source = cast<RankedTensorType>(getSource().getType());
  auto result = cast<RankedTensorType>(getResult().getType());
  if (source.getElementType() != result.getElementType())
    return emitOpError(
        "changes the element type; it may change only the storage");
  if (!sameShape(source, result))
    return emitOpError("changes the shape; it may change only the storage");
  if (getFill().getType() != source.getElementType())
    return emitOpError() << "fill has type " << getFill().getType()
                         << ", expected " << source.getElementType();
  return success();
}

LogicalResult SampleOp::verify() {
  if (failed(verifyResultLike(*this, getResult().getType(),
                              getPattern().getType())))
    return failure();
  if (isSparse(getSource().getType()))
    return emitOpError("source must be dense");
  if (getElementTypeOrSelf(getSource()) != getElementTypeOrSelf(getResult()))
    return emitOpError("result must have the element type of the source");
  if (!sameShape(getSource().getType(), getPattern().getType()))
    return emitOpError("source and pattern must have the same shape");
  return success();
}

SmallVector<AffineExpr>
gossamer::blockLevels(sparse_tensor::SparseTensorEncodingAttr encoding) {
  AffineMap map = encoding.getDimToLvl();
  if (!map)
    map = AffineMap::getMultiDimIdentityMap(encoding.getLvlRank(),
                                            encoding.getContext());
  SmallVector<AffineExpr> blocks;
  for (auto [expr, type] :
       llvm::zip(map.getResults(), encoding.getLvlTypes())) {
    if (sparse_tensor::isDenseLT(type) || sparse_tensor::isBatchLT(type))
      blocks.push_back(expr);
    else
      blocks.clear();
  }
  return blocks;
}

bool gossamer::haveSameBlocks(sparse_tensor::SparseTensorEncodingAttr a,
                              sparse_tensor::SparseTensorEncodingAttr b) {
  SmallVector<AffineExpr> ours = blockLevels(a), theirs = blockLevels(b);
  return ours.size() == theirs.size() &&
         llvm::all_of(ours, [&](AffineExpr expr) {
           return llvm::is_contained(theirs, expr);
         });
}

/// Places among the values of a tensor stored so are as wide as its positions.
static unsigned placeWidth(Type type) {
  unsigned width = getSparseTensorEncoding(type).getPosWidth();
  return width ? width : 64;
}

LogicalResult StorageIndexOp::verify() {
  Type source = getSource().getType(), result = getResult().getType();
  if (!sameShape(source, result))
    return emitOpError("changes the shape; it may change only the storage");
  if (!getElementTypeOrSelf(result).isSignlessInteger(placeWidth(result)))
    return emitOpError() << "places must be i" << placeWidth(result)
                         << ", as wide as the positions of the result";
  auto encoding = getSparseTensorEncoding(result);
  if (!blockLevels(encoding).empty() &&
      !haveSameBlocks(getSparseTensorEncoding(source), encoding))
    return emitOpError("cannot store blocks that the source does not store");
  return success();
}

LogicalResult GatherOp::verify() {
  if (failed(
          verifyResultLike(*this, getResult().getType(), getIndex().getType())))
    return failure();
  if (getElementTypeOrSelf(getSource()) != getElementTypeOrSelf(getResult()))
    return emitOpError("result must have the element type of the source");
  if (!sameShape(getSource().getType(), getResult().getType()))
    return emitOpError("changes the shape; it may change only the storage");
  if (!getElementTypeOrSelf(getIndex())
           .isSignlessInteger(placeWidth(getResult().getType())))
    return emitOpError() << "index must hold places of i"
                         << placeWidth(getResult().getType());
  return success();
}

bool GatherOp::isByBlock() {
  return !blockLevels(getSparseTensorEncoding(getResult().getType())).empty();
}

LogicalResult AssembleOp::verify() {
  if (failed(verifyResultLike(*this, getResult().getType(),
                              getPattern().getType())))
    return failure();
  if (getElementTypeOrSelf(getValues()) != getElementTypeOrSelf(getResult()))
    return emitOpError("result must have the element type of the values");
  return success();
}

LogicalResult StoreValuesOp::verify() {
  if (getElementTypeOrSelf(getSource()) != getElementTypeOrSelf(getBuffer()))
    return emitOpError("buffer must have the element type of the tensor");
  return success();
}

LogicalResult SoftmaxOp::verify() {
  auto type = cast<RankedTensorType>(getSource().getType());
  if (getDimension() >= static_cast<uint64_t>(type.getRank()))
    return emitOpError() << "dimension " << getDimension()
                         << " is out of range for rank " << type.getRank();
  if (!isa<FloatType>(type.getElementType()))
    return emitOpError("takes floating-point values");
  if (!getIndex())
    return success();
  auto index = cast<RankedTensorType>(getIndex().getType());
  if (index.getShape() != type.getShape())
    return emitOpError("index and source must have the same shape");
  if (!index.getElementType().isInteger())
    return emitOpError("index must have places for values, not ")
           << index.getElementType();
  return success();
}

LogicalResult MatmulOp::verify() {
  SmallVector<Type> types(getOperandTypes());
  if (failed(verifyMaps(*this, getMaps(), types)))
    return failure();
  if (isSparse(getLhs().getType()) == isSparse(getRhs().getType()))
    return emitOpError("exactly one of lhs and rhs must be sparse");
  if (isSparse(getResult().getType()) || isSparse(getInit().getType()))
    return emitOpError("result and init must be dense");
  if (getInit().getType() != getResult().getType())
    return emitOpError("init and result must have the same type");
  Type element = getElementTypeOrSelf(getResult());
  if (getElementTypeOrSelf(getLhs()) != getElementTypeOrSelf(getRhs()))
    return emitOpError("lhs and rhs must have the same element type");
  if (!getElementTypeOrSelf(getLhs()).isIntOrFloat() ||
      getElementTypeOrSelf(getLhs()).getIntOrFloatBitWidth() < 8)
    return emitOpError("takes numbers, of a byte at least");
  // Parallel loops are those of the result; the others are summed over, and an
  // epilogue, which runs behind the sum, must not know them.
  AffineMap result = getResultMap();
  if (!result.isProjectedPermutation())
    return emitOpError("the result's map must be a projected permutation");
  if (!getSparseMap().isProjectedPermutation())
    return emitOpError(
        "the sparse operand's map must be a projected permutation");
  if (failed(verifyDense(*this, getExtras(), "epilogue")))
    return failure();
  for (AffineMap map : llvm::ArrayRef(getMaps()).drop_front(2).drop_back())
    for (AffineExpr expr : map.getResults())
      if (isa<AffineDimExpr>(expr) && !result.getResultPosition(expr))
        return emitOpError("an epilogue operand is indexed by a summed loop");
  // Half precision may be summed in single.
  Type sum = getElementTypeOrSelf(getLhs());
  if (getBlock().getNumArguments() > 0 && getSumType().isF32() &&
      (sum.isF16() || sum.isBF16()))
    sum = getSumType();
  SmallVector<Type> body{sum};
  appendElementTypes(getExtras(), body);
  return verifyBody(*this, getBlock(), body, element);
}

LogicalResult ContractOp::verify() {
  SmallVector<Type> types(getInputs().getTypes());
  types.push_back(getResult().getType());
  SmallVector<AffineMap> maps = getMaps();
  if (failed(verifyMaps(*this, maps, types)))
    return failure();
  if (llvm::none_of(getInputs().getTypes(), isSparse))
    return emitOpError("at least one operand must be sparse");
  if (isSparse(getResult().getType()) || isSparse(getInit().getType()))
    return emitOpError("result and init must be dense");
  if (getInit().getType() != getResult().getType())
    return emitOpError("init and result must have the same type");
  Type element = getElementTypeOrSelf(getInputs().front());
  Type sum = getElementTypeOrSelf(getResult());
  for (auto [input, map] : llvm::zip(getInputs(), maps)) {
    if (getElementTypeOrSelf(input) != element)
      return emitOpError("operands must have the same element type");
    if (isSparse(input.getType()) && !map.isProjectedPermutation())
      return emitOpError("a sparse operand's map must be a projected "
                         "permutation");
  }
  if (!element.isIntOrFloat() || element.getIntOrFloatBitWidth() < 8)
    return emitOpError("takes numbers, of a byte at least");
  bool widens = isa<FloatType>(element) && isa<FloatType>(sum) &&
                sum.getIntOrFloatBitWidth() > element.getIntOrFloatBitWidth();
  if (sum != element && !widens)
    return emitOpError("result must have the operands' element type, or a "
                       "wider float type");
  if (!maps.back().isProjectedPermutation())
    return emitOpError("the result's map must be a projected permutation");
  return success();
}

LogicalResult SDDMMOp::verify() {
  SmallVector<Type> types(getOperandTypes());
  SmallVector<AffineMap> maps = getMaps();
  if (failed(verifyMaps(*this, maps, types)) ||
      failed(verifyResultLike(*this, getResult().getType(),
                              getPattern().getType())))
    return failure();
  if (!maps[0].isProjectedPermutation())
    return emitOpError("the pattern's map must be a projected permutation");
  if (isSparse(getLhs().getType()) || isSparse(getRhs().getType()))
    return emitOpError("lhs and rhs must be dense");
  if (getElementTypeOrSelf(getLhs()) != getElementTypeOrSelf(getRhs()))
    return emitOpError("lhs and rhs must have the same element type");
  if (failed(verifyOnPattern(*this, getExtras(),
                             llvm::ArrayRef(maps).drop_front(3), getPattern(),
                             maps[0])))
    return failure();
  SmallVector<Type> body{getElementTypeOrSelf(getPattern()),
                         getElementTypeOrSelf(getLhs())};
  appendElementTypes(getExtras(), body);
  return verifyBody(*this, getBlock(), body, getElementTypeOrSelf(getResult()));
}

LogicalResult MapOp::verify() {
  SmallVector<Type> types(getOperandTypes());
  SmallVector<AffineMap> maps = getMaps();
  if (failed(verifyMaps(*this, maps, types)) ||
      failed(verifyResultLike(*this, getResult().getType(),
                              getPattern().getType())))
    return failure();
  if (!maps[0].isPermutation())
    return emitOpError("the pattern's map must be a permutation");
  if (failed(verifyOnPattern(*this, getExtras(),
                             llvm::ArrayRef(maps).drop_front(), getPattern(),
                             maps[0])))
    return failure();
  SmallVector<Type> body{getElementTypeOrSelf(getPattern())};
  appendElementTypes(getExtras(), body);
  return verifyBody(*this, getBlock(), body, getElementTypeOrSelf(getResult()));
}

/// Whether a reduction by `kind` of elements of `type` is meant.
static bool reduces(arith::AtomicRMWKind kind, Type type) {
  using Kind = arith::AtomicRMWKind;
  switch (kind) {
  case Kind::addf:
  case Kind::mulf:
  case Kind::maximumf:
  case Kind::minimumf:
    return isa<FloatType>(type);
  case Kind::addi:
  case Kind::muli:
  case Kind::maxs:
  case Kind::mins:
  case Kind::ori:
  case Kind::andi:
    return type.isSignlessInteger();
  default:
    return false;
  }
}

LogicalResult ReduceOp::verify() {
  SmallVector<Type> types(getOperandTypes());
  SmallVector<AffineMap> maps = getMaps();
  if (failed(verifyMaps(*this, maps, types)))
    return failure();
  if (!maps[0].isPermutation())
    return emitOpError("the pattern's map must be a permutation");
  if (!maps.back().isProjectedPermutation())
    return emitOpError("the result's map must be a projected permutation");
  if (failed(verifyOnPattern(*this, getExtras(),
                             llvm::ArrayRef(maps).drop_front().drop_back(),
                             getPattern(), maps[0])))
    return failure();
  if (isSparse(getResult().getType()) ||
      getInit().getType() != getResult().getType())
    return emitOpError("init and result must have the same dense type");
  Type element = getElementTypeOrSelf(getResult());
  if (!reduces(getKind(), element))
    return emitOpError() << "does not reduce " << element << " by "
                         << arith::stringifyAtomicRMWKind(getKind());
  if (getFill().getType() != element)
    return emitOpError() << "fill has type " << getFill().getType()
                         << ", expected " << element;
  bool product = getKind() == arith::AtomicRMWKind::mulf ||
                 getKind() == arith::AtomicRMWKind::muli;
  auto number = dyn_cast<FloatAttr>(getFill());
  bool zero = number ? number.getValue().isZero()
                     : cast<IntegerAttr>(getFill()).getValue().isZero();
  if (product && !zero && !isFillNeutral())
    return emitOpError("a product takes a fill of 0 or 1");
  SmallVector<Type> body{getElementTypeOrSelf(getPattern())};
  appendElementTypes(getExtras(), body);
  return verifyBody(*this, getBlock(), body, element);
}

/// Whether `map` is (batch subset..., tail...), where a batch dimension may be
/// missing or the constant 0, and all but the last may come in any order (heads
/// after tokens, as projections leave them).
static bool isBatchedMap(AffineMap map, unsigned numBatch,
                         ArrayRef<unsigned> tail, bool anyOrder = false) {
  if (map.getNumResults() < tail.size())
    return false;
  auto isLoop = [](AffineExpr expr, unsigned loop) {
    auto dim = dyn_cast<AffineDimExpr>(expr);
    return dim && dim.getPosition() == loop;
  };
  SmallVector<AffineExpr> results(map.getResults());
  if (anyOrder) {
    auto *row = llvm::find_if(
        results, [&](AffineExpr expr) { return isLoop(expr, tail.front()); });
    if (row == results.end() || row + 1 == results.end())
      return false;
    std::rotate(row, row + 1, results.end() - 1);
  }
  for (auto [expr, loop] :
       llvm::zip(ArrayRef(results).take_back(tail.size()), tail))
    if (!isLoop(expr, loop))
      return false;
  for (AffineExpr expr : ArrayRef(results).drop_back(tail.size()))
    if (auto dim = dyn_cast<AffineDimExpr>(expr))
      if (dim.getPosition() >= numBatch)
        return false;
  return true;
}

LogicalResult AttentionOp::verify() {
  SmallVector<Type> types(getOperandTypes());
  SmallVector<AffineMap> maps = getMaps();
  if (failed(verifyMaps(*this, maps, types)))
    return failure();
  if (maps[0].getNumDims() < 4)
    return emitOpError("iteration space must be (batch..., i, j, d, e)");
  unsigned batch = getNumBatchDims();
  unsigned i = batch, j = batch + 1, d = batch + 2, e = batch + 3;
  struct {
    unsigned operand;
    SmallVector<unsigned, 2> tail;
    StringRef text;
  } wanted[] = {{0, {i, d}, "query must be (batch..., i, d)"},
                {1, {j, d}, "key must be (batch..., j, d)"},
                {2, {j, e}, "value must be (batch..., j, e)"},
                {3, {i, j}, "mask must be (batch..., i, j)"}};
  for (auto &[operand, tail, text] : wanted)
    if (!isBatchedMap(maps[operand], batch, tail, /*anyOrder=*/operand < 3))
      return emitOpError() << text;
  if (!isBatchedMap(maps.back(), batch, {i, e}) ||
      !maps.back().isProjectedPermutation())
    return emitOpError("result must be (batch..., i, e)");
  for (AffineMap map : llvm::ArrayRef(maps).drop_front(4).drop_back())
    if (map.isFunctionOfDim(d) || map.isFunctionOfDim(e))
      return emitOpError("a score operand is indexed by d or e");
  for (Value value : {getQuery(), getKey(), getValue(), getInit(), getResult()})
    if (isSparse(value.getType()))
      return emitOpError("query, key, value and result must be dense");
  if (failed(verifyDense(*this, getExtras(), "score")))
    return failure();
  if (getInit().getType() != getResult().getType())
    return emitOpError("init and result must have the same type");
  Type element = getElementTypeOrSelf(getQuery());
  if (!isa<FloatType>(element) || element != getElementTypeOrSelf(getKey()) ||
      element != getElementTypeOrSelf(getValue()) ||
      element != getElementTypeOrSelf(getResult()))
    return emitOpError("query, key, value and result must have one "
                       "floating-point element type");
  SmallVector<Type> body{element, getElementTypeOrSelf(getMask())};
  appendElementTypes(getExtras(), body);
  return verifyBody(*this, getBlock(), body, element);
}

LogicalResult LanePrefixOp::verify() {
  // By name: the dialect does without that of the loop.
  Operation *loop = (*this)->getParentOp();
  if (!loop || loop->getName().getStringRef() != "scf.parallel" ||
      !loop->hasAttr("gossamer.lanes"))
    return emitOpError("must stand in the body of an scf.parallel with "
                       "gossamer.lanes, where all lanes arrive");
  return success();
}
