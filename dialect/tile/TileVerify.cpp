//===- TileVerify.cpp - what a tile program may not say -------------------===//

#include "dialect/tile/Tile.h"

#include "mlir/Dialect/Math/IR/Math.h"

using namespace mlir;
using namespace gossamer::tile;

using EmitError = llvm::function_ref<InFlightDiagnostic()>;

//===----------------------------------------------------------------------===//
// Types
//===----------------------------------------------------------------------===//

static bool isHalf(Type type) { return type.isBF16() || type.isF16(); }

/// Rows come in groups of 8, columns in panels of 64: what a swizzle permutes.
static LogicalResult verifyHalfTile(EmitError emitError,
                                    ArrayRef<int64_t> shape, size_t rank,
                                    Type element) {
  if (shape.size() != rank)
    return emitError() << "has " << shape.size() << " sizes, not " << rank;
  if (!isHalf(element))
    return emitError() << "holds bf16 or f16, not " << element;
  int64_t rows = shape[rank - 2], columns = shape[rank - 1];
  if (rows % 8 || rows < 8 || rows > 256)
    return emitError() << "has 8, 16, ... or 256 rows, not " << rows;
  if (columns % 64 || columns < 64 || columns > 256)
    return emitError() << "has 64, 128, 192 or 256 columns, not " << columns;
  return success();
}

static LogicalResult verifyFragment(EmitError emitError,
                                    ArrayRef<int64_t> shape, Type element) {
  if (shape.size() != 2 || shape[0] != 64)
    return emitError() << "has 64 rows";
  if (!element.isF32())
    return emitError() << "holds f32, not " << element;
  if (shape[1] % 16 || shape[1] < 16 || shape[1] > 256)
    return emitError() << "has 16, 32, ... or 256 columns, not " << shape[1];
  return success();
}

LogicalResult MapType::verify(EmitError emitError, ArrayRef<int64_t> shape,
                              Type element, bool) {
  return verifyHalfTile(emitError, shape, 2, element);
}

LogicalResult SharedType::verify(EmitError emitError, ArrayRef<int64_t> shape,
                                 Type element, int64_t panel) {
  if (failed(verifyHalfTile(emitError, shape, 2, element)))
    return failure();
  if (panel < shape[0])
    return emitError() << "has " << shape[0] << " rows of a panel of " << panel;
  return success();
}

LogicalResult RingType::verify(EmitError emitError, ArrayRef<int64_t> shape,
                               Type element) {
  if (failed(verifyHalfTile(emitError, shape, 3, element)))
    return failure();
  return shape[0] >= 1 ? success() : emitError() << "has no stage";
}

LogicalResult QueueType::verify(EmitError emitError, ArrayRef<int64_t> shape,
                                Type element) {
  if (shape.size() != 2 || shape[0] < 1 || shape[1] < 1 || shape[1] > 8)
    return emitError() << "has slots x numbers, 1 to 8 of these";
  if (!element.isInteger(32))
    return emitError() << "holds i32, not " << element;
  return success();
}

LogicalResult SeriesType::verify(EmitError emitError, ArrayRef<int64_t> shape,
                                 Type element) {
  if (shape.size() != 3 || shape[0] < 1 || shape[1] < 1)
    return emitError() << "has stages x series x numbers";
  if (!element.isF32())
    return emitError() << "holds f32, not " << element;
  if (shape[2] % 16 || shape[2] < 16 || shape[2] > 256)
    return emitError() << "has 16, 32, ... or 256 numbers, not " << shape[2];
  return success();
}

LogicalResult ColumnsType::verify(EmitError emitError, ArrayRef<int64_t> shape,
                                  Type element) {
  if (shape.size() != 1 || !element.isF32())
    return emitError() << "is a number of f32";
  if (shape[0] % 16 || shape[0] < 16 || shape[0] > 256)
    return emitError() << "is of 16, 32, ... or 256 columns, not " << shape[0];
  return success();
}

LogicalResult FragmentType::verify(EmitError emitError, ArrayRef<int64_t> shape,
                                   Type element) {
  return verifyFragment(emitError, shape, element);
}

LogicalResult PendingType::verify(EmitError emitError, ArrayRef<int64_t> shape,
                                  Type element) {
  return verifyFragment(emitError, shape, element);
}

LogicalResult OperandType::verify(EmitError emitError, ArrayRef<int64_t> shape,
                                  Type element) {
  if (!isHalf(element))
    return emitError() << "holds bf16 or f16, not " << element;
  return verifyFragment(emitError, shape,
                        Float32Type::get(element.getContext()));
}

LogicalResult BitsType::verify(EmitError emitError, ArrayRef<int64_t> shape,
                               Type element) {
  if (shape.size() != 2 || shape[0] != 64)
    return emitError() << "has 64 rows";
  if (!element.isInteger(1))
    return emitError() << "holds i1, not " << element;
  if (shape[1] % 32 || shape[1] < 32 || shape[1] > 256)
    return emitError() << "has 32, 64, ... or 256 columns, not " << shape[1];
  return success();
}

LogicalResult RowsType::verify(EmitError emitError, ArrayRef<int64_t> shape,
                               Type element, bool) {
  if (shape.size() != 1 || shape[0] != 64 || !element.isF32())
    return emitError() << "is 64xf32";
  return success();
}

//===----------------------------------------------------------------------===//
// Programs
//===----------------------------------------------------------------------===//

/// Of what is made for a chip.
template <typename Op> static LogicalResult verifyChip(Op op) {
  if (Target::of(op.getChip()))
    return success();
  return op.emitOpError("is made for sm_80 and newer GPUs, not for \"")
         << op.getChip() << "\"";
}

LogicalResult ProgramOp::verify() {
  if (failed(verifyChip(*this)))
    return failure();
  for (BlockArgument argument : getBody().getArguments()) {
    Type type = argument.getType();
    auto memory = dyn_cast<MemRefType>(type);
    if (!isa<MapType>(type) && !type.isInteger(32) && !type.isF32() &&
        !(memory && memory.getRank() == 1 && memory.getLayout().isIdentity()))
      return emitOpError("argument ")
             << argument.getArgNumber() << " is " << type
             << "; a program takes maps, i32, f32 and memref<?xT>";
  }
  if (getBlocksPerProcessor() < 1)
    return emitOpError("is to fit a multiprocessor at least once");
  int64_t warpgroups = getNumWarpgroups(), registers = 0;
  if (warpgroups == 0)
    return emitOpError("has no role");
  for (RoleOp role : getOps<RoleOp>())
    registers += role.getWarpgroups() * role.getRegisters();
  // Roles share what the threads of a block are launched with; more is never
  // given, and who asks for it waits for ever.
  int64_t each =
      llvm::alignDown(65536 / (getBlocksPerProcessor() * getNumThreads()), 8);
  int64_t available = warpgroups * std::min<int64_t>(each, 256);
  if (!getTarget().isHopper) {
    each = Target::registersOf(getBlocksPerProcessor() * getNumThreads() / 32);
    for (RoleOp role : getOps<RoleOp>())
      if (role.getRegisters() > each)
        return role.emitOpError("has ")
               << role.getRegisters() << " registers, where threads have "
               << each << " each";
    return success();
  }
  if (registers > available)
    return emitOpError("gives its warpgroups ")
           << registers << " registers, where " << warpgroups
           << " are launched with " << available;
  return success();
}

LogicalResult RoleOp::verify() {
  if (getBody().getNumArguments() != 1 ||
      !getBody().getArgument(0).getType().isInteger(32))
    return emitOpError("has one argument, the warpgroup, an i32");
  if (getWarpgroups() < 1)
    return emitOpError("has no warpgroup");
  if (getKind() == RoleKind::Producer && getWarpgroups() != 1)
    return emitOpError("is one thread of one warpgroup, not of ")
           << getWarpgroups();
  if (getRegisters() % 8 || getRegisters() < 24 || getRegisters() > 256)
    return emitOpError("has 24, 32, ... or 256 registers, not ")
           << getRegisters();
  return success();
}

/// The role that an operation stands in, which must be of this kind.
static FailureOr<RoleOp> roleOf(Operation *op, RoleKind kind) {
  auto role = op->getParentOfType<RoleOp>();
  if (role && role.getKind() == kind)
    return role;
  op->emitOpError("is for ")
      << (kind == RoleKind::Producer ? "a producer" : "consumers");
  return failure();
}

LogicalResult LoadOp::verify() {
  if (failed(roleOf(*this, RoleKind::Producer)))
    return failure();
  auto map = getMap().getType();
  auto ring = getRing().getType();
  int64_t rows = map.getRows() * static_cast<int64_t>(getRows().size());
  if (rows != ring.getRows())
    return emitOpError("fills ") << rows << " of " << ring.getRows() << " rows";
  if (map.getColumns() != ring.getColumns() ||
      map.getElementType() != ring.getElementType())
    return emitOpError("moves boxes of ") << map << " into " << ring;
  return success();
}

LogicalResult SendOp::verify() {
  if (failed(roleOf(*this, RoleKind::Producer)))
    return failure();
  int64_t words = getQueue().getType().getShape()[1];
  if (static_cast<int64_t>(getWords().size()) != words)
    return emitOpError("sends ")
           << getWords().size() << " numbers where a message has " << words;
  return success();
}

LogicalResult SubtileOp::verify() {
  auto source = getSource().getType(), result = getResult().getType();
  if (source.getColumns() != result.getColumns() ||
      source.getElementType() != result.getElementType() ||
      source.getPanel() != result.getPanel())
    return emitOpError("takes rows of ")
           << source << ", of which " << result << " are none";
  if (result.getRows() > source.getRows())
    return emitOpError("takes ")
           << result.getRows() << " rows of a tile of " << source.getRows();
  return success();
}

LogicalResult StoreOp::verify() {
  if (failed(roleOf(*this, RoleKind::Consumer)))
    return failure();
  auto value = getValue().getType();
  auto map = getMap().getType();
  auto scratch = getScratch().getType();
  if (map.getShape() != value.getShape() ||
      scratch.getRows() != value.getRows() ||
      value.getColumns() % scratch.getColumns() ||
      map.getElementType() != scratch.getElementType())
    return emitOpError("stores ")
           << value << " through " << scratch << " as " << map;
  return success();
}

/// What loads and stores of rows ask of what they move.
static LogicalResult verifyRows(Operation *op, Type type, int64_t span) {
  if (failed(roleOf(op, RoleKind::Consumer)))
    return failure();
  auto rows = dyn_cast<RowsType>(type);
  if (rows && rows.getPartial())
    return op->emitOpError("moves whole rows; these are partial");
  if (!rows && span != 1)
    return op->emitOpError("has a span of rows, not of ") << type;
  if (!llvm::is_contained({1, 2, 4, 8, 16}, span))
    return op->emitOpError("has a span of 1, 2, 4, 8 or 16 rows, not ") << span;
  return success();
}

LogicalResult LoadRowsOp::verify() {
  return verifyRows(*this, getResult().getType(), getSpan());
}

LogicalResult ArriveOp::verify() { return roleOf(*this, RoleKind::Consumer); }

LogicalResult LoadNumbersOp::verify() {
  return roleOf(*this, RoleKind::Producer);
}

LogicalResult LoadBitsOp::verify() {
  int64_t groups = getGroups().size();
  int64_t columns = getResult().getType().getColumns();
  if (groups == 0 || columns % groups ||
      !llvm::is_contained({16, 32, 64, 128}, columns / groups))
    return emitOpError("reads groups of 16, 32, 64 or 128 columns, not ")
           << columns << " columns in " << groups << " groups";
  return success();
}

LogicalResult StoreRowsOp::verify() {
  if (failed(verifyRows(*this, getValue().getType(), getSpan())))
    return failure();
  if (isa<RowsType>(getValue().getType()) &&
      !getMemory().getType().getElementType().isF32())
    return emitOpError("stores rows as f32, not as ")
           << getMemory().getType().getElementType();
  return success();
}

static LogicalResult verifyTurn(Operation *op) {
  FailureOr<RoleOp> role = roleOf(op, RoleKind::Consumer);
  if (failed(role))
    return failure();
  if (role->getWarpgroups() != 2)
    return op->emitOpError("is for two warpgroups, not ")
           << role->getWarpgroups();
  return success();
}

LogicalResult TakeTurnOp::verify() { return verifyTurn(*this); }
LogicalResult PassTurnOp::verify() { return verifyTurn(*this); }

//===----------------------------------------------------------------------===//
// Products and fragments
//===----------------------------------------------------------------------===//

LogicalResult MmaOp::verify() {
  if (failed(roleOf(*this, RoleKind::Consumer)))
    return failure();
  auto shapeOf = [](Type type) {
    if (auto operand = dyn_cast<OperandType>(type))
      return std::pair(operand.getRows(), operand.getColumns());
    auto shared = cast<SharedType>(type);
    return std::pair(shared.getRows(), shared.getColumns());
  };
  auto elementOf = [](Type type) {
    auto operand = dyn_cast<OperandType>(type);
    return operand ? operand.getElementType()
                   : cast<SharedType>(type).getElementType();
  };
  auto rhs = getRhs().getType();
  auto result = getResult().getType();
  auto [m, k] = shapeOf(getLhs().getType());
  int64_t n = getTransposed() ? rhs.getRows() : rhs.getColumns();
  int64_t depth = getTransposed() ? rhs.getColumns() : rhs.getRows();
  if (k != depth)
    return emitOpError("sums over ")
           << k << " columns on the left and " << depth << " on the right";
  if (m != result.getRows() || n != result.getColumns())
    return emitOpError("makes ") << m << "x" << n << " numbers, not " << result;
  if (elementOf(getLhs().getType()) != rhs.getElementType())
    return emitOpError("multiplies ") << getLhs().getType() << " by " << rhs;
  if (getAccumulator() &&
      getAccumulator().getType().getShape() != result.getShape())
    return emitOpError("adds to ")
           << getAccumulator().getType() << ", which is not as " << result;

  AwaitOp await = getAwait();
  if (!await || await->getBlock() != (*this)->getBlock())
    return emitOpError("must be awaited, once, in its own block");
  for (Operation *op = (*this)->getNextNode(); op != await;
       op = op->getNextNode()) {
    if (auto release = dyn_cast<ReleaseOp>(op)) {
      auto isOf = [&](Value tile) {
        if (auto part = tile.getDefiningOp<SubtileOp>())
          tile = part.getSource();
        auto wait = tile.getDefiningOp<WaitOp>();
        return wait && wait.getRing() == release.getRing() &&
               wait.getNumber() == release.getNumber();
      };
      if (isOf(getLhs()) || isOf(getRhs()))
        return op->emitOpError("of a tile that a product is still reading")
                   .attachNote(getLoc())
               << "this one";
    }
    if (isa<OperandType>(getLhs().getType()) && isa<ToOperandOp>(op))
      return op->emitOpError("while a product reads its left side from "
                             "registers: behind tile.await")
                 .attachNote(getLoc())
             << "this one";
  }
  return success();
}

/// Operations on numbers, ended by a tile.yield of so many.
static LogicalResult verifyScalars(Operation *parent, Block &block,
                                   unsigned maxResults) {
  auto yield = block.empty() ? YieldOp() : dyn_cast<YieldOp>(block.back());
  if (!yield || yield.getValues().empty() ||
      yield.getValues().size() > maxResults)
    return parent->emitOpError("ends in a tile.yield of ")
           << (maxResults == 1 ? "a number" : "one or two numbers");
  for (Operation &op : block.without_terminator())
    if (op.getNumResults() != 1 ||
        (!isa<arith::ArithDialect, math::MathDialect>(op.getDialect()) &&
         !isa<LookUpOp>(op)))
      return op.emitOpError("in a ")
             << parent->getName()
             << ", which holds operations of arith and math and tile.look_up";
  return success();
}

LogicalResult ElementwiseOp::verify() {
  auto result = getResult().getType();
  auto fragment = dyn_cast<FragmentType>(result);
  bool partial = false;
  for (Type type : getInputs().getTypes()) {
    if (auto rows = dyn_cast<RowsType>(type)) {
      partial |= rows.getPartial();
    } else if (auto columns = dyn_cast<ColumnsType>(type)) {
      if (!fragment || columns.getColumns() != fragment.getColumns())
        return emitOpError("spreads ") << type << " over " << result;
    } else if (auto bits = dyn_cast<BitsType>(type);
               bits && fragment && bits.getShape() == fragment.getShape())
      continue;
    else if (type != result)
      return emitOpError("makes ") << result << " of " << type;
  }
  if (!fragment && cast<RowsType>(result).getPartial() != partial)
    return emitOpError("makes ") << (partial ? "whole rows of partial ones"
                                             : "partial rows of whole ones");
  if (fragment && partial)
    return emitOpError("spreads partial rows over a fragment; tile.combine "
                       "makes them whole");
  Block &block = getBody().front();
  unsigned numInputs = getInputs().size();
  if (block.getNumArguments() != numInputs + 2)
    return emitOpError("has ")
           << block.getNumArguments() << " arguments, not one for each of "
           << numInputs << " operands, a row and a column";
  for (auto [n, argument] : llvm::enumerate(block.getArguments())) {
    bool isBit = n < numInputs && isa<BitsType>(getInputs()[n].getType());
    unsigned width = isBit ? 1 : 32;
    if (n < numInputs && !isBit ? !argument.getType().isF32()
                                : !argument.getType().isInteger(width))
      return emitOpError("argument ")
             << n << " is " << argument.getType() << ", not "
             << (isBit           ? "i1"
                 : n < numInputs ? "f32"
                                 : "i32");
  }
  return verifyScalars(*this, block, /*maxResults=*/1);
}

LogicalResult ReduceOp::verify() {
  if (!getResult().getType().getPartial())
    return emitOpError("makes partial rows");
  bool wholeInit = getKind() == Combining::Max;
  if (getInit() && getInit().getType().getPartial() == wholeInit)
    return emitOpError("of kind ")
           << stringifyCombining(getKind()) << " begins with "
           << (wholeInit ? "whole" : "partial") << " rows";
  return success();
}

LogicalResult CombineOp::verify() {
  if (!getSource().getType().getPartial() || getResult().getType().getPartial())
    return emitOpError("makes whole rows of partial ones");
  return success();
}

LogicalResult ToOperandOp::verify() {
  if (getSource().getType().getShape() != getResult().getType().getShape())
    return emitOpError("makes ")
           << getResult().getType() << " of " << getSource().getType();
  return success();
}

LogicalResult ToFragmentOp::verify() {
  if (getSource().getType().getShape() != getResult().getType().getShape())
    return emitOpError("makes ")
           << getResult().getType() << " of " << getSource().getType();
  return success();
}

LogicalResult LoadOperandOp::verify() {
  auto source = getSource().getType();
  auto result = getResult().getType();
  if (source.getShape() != result.getShape() ||
      source.getElementType() != result.getElementType())
    return emitOpError("makes ") << result << " of " << source;
  return success();
}

//===----------------------------------------------------------------------===//
// The host's side
//===----------------------------------------------------------------------===//

LogicalResult DescribeOp::verify() {
  if (getResult().getType().getJoined())
    return emitOpError("describes one tensor; tile.join joins two");
  if (getSizes().size() != 4 || getStrides().size() != 3)
    return emitOpError("takes four sizes and three strides, not ")
           << getSizes().size() << " and " << getStrides().size();
  return success();
}

LogicalResult JoinOp::verify() {
  MapType result = getResult().getType();
  auto part = MapType::get(result.getShape(), result.getElementType());
  if (!result.getJoined() || getFirst().getType() != part ||
      getSecond().getType() != part)
    return emitOpError("makes a joined map of two that are not joined, of the "
                       "same box, not ")
           << result << " of " << getFirst().getType() << " and "
           << getSecond().getType();
  return success();
}

/// What both directions of attention ask of a function of scores.
template <typename Attention>
static LogicalResult verifyScore(Attention op, unsigned maxResults) {
  Region &region = op.getScore();
  if (region.empty())
    return success();
  if (op.getPacked())
    return op.emitOpError("packs no keys if scores go through a function, "
                          "which is told the place of a key");
  Block &block = region.front();
  unsigned number = 0;
  for (Type type : block.getArgumentTypes()) {
    auto table = dyn_cast<MemRefType>(type);
    bool isTable = table && table.getRank() == 1 &&
                   (table.getElementType().isF32() ||
                    table.getElementType().isInteger(32));
    bool isCaptured = number > 4 && (isTable || type.isF32());
    if (!isCaptured && (number ? !type.isInteger(32) : !type.isF32()))
      return op.emitOpError("has a score region whose argument ")
             << number << " is " << type
             << "; the first is f32, four are i32, others f32, i32, "
                "memref<?xf32> or memref<?xi32>";
    ++number;
  }
  if (number < 5)
    return op.emitOpError("has a score region of ")
           << number
           << " arguments, which has the score, batch, head, query "
              "and key at least";
  return verifyScalars(op, block, maxResults);
}

/// What both directions of attention ask of dtype and blocks.
template <typename Attention>
static LogicalResult verifyAttention(Attention op) {
  if (!isHalf(op.getElement()))
    return op.emitOpError("multiplies bf16 or f16, not ") << op.getElement();
  if (op.getBlockQ() != 64 && op.getBlockQ() != 128)
    return op.emitOpError("has query blocks of 64 or 128, not ")
           << op.getBlockQ();
  return verifyChip(op);
}

/// What only Hopper has programs for.
static LogicalResult verifyForOthers(AttentionOp op) {
  if (op.getHead() > 128)
    return op.emitOpError("has heads of 64 or 128 columns on ")
           << op.getChip() << ", not " << op.getHead();
  if (op.getBlockK() > 64)
    return op.emitOpError("has key blocks of 16, 32 or 64 on ")
           << op.getChip() << ", not " << op.getBlockK();
  if (op.getSplit())
    return op.emitOpError("has thread blocks that share the keys of a tile on "
                          "sm_90a, not on ")
           << op.getChip();
  return success();
}

LogicalResult AttentionOp::verify() {
  if (failed(verifyAttention(*this)))
    return failure();
  if (!llvm::is_contained({64, 128, 192, 256}, int(getHead())))
    return emitOpError("has heads of 64, 128, 192 or 256 columns, not ")
           << getHead();
  if (!llvm::is_contained({16, 32, 64, 128}, getBlockK()))
    return emitOpError("has key blocks of 16, 32, 64 or 128, not ")
           << getBlockK();
  bool isHopper = getTarget().isHopper;
  if (!isHopper && failed(verifyForOthers(*this)))
    return failure();
  if (getCausal() &&
      (getListed() || getBlockK() != (isHopper ? getBlockQ() : 64)))
    return emitOpError("is causal without a list, in ")
           << (isHopper ? "square blocks" : "key blocks of 64");
  if (getWindow() && !getCausal())
    return emitOpError("has a window only if it is causal");
  if (getPartial() && !getListed())
    return emitOpError("has blocks that are allowed in part only with a list");
  if (getPacked() && !getListed())
    return emitOpError("has packed keys only with a list");
  if (getSplit() && (getCausal() || getPacked() || getHead() > 128))
    return emitOpError("shares the keys of lists and all keys, not causal or "
                       "packed ones, nor those of heads of more than 128 "
                       "columns");
  if (getPartial() && getTail())
    return emitOpError("knows the end of its keys by itself where blocks are "
                       "allowed in part");
  // A step has 64 keys, so that the output fits the registers beside it.
  if (getHead() > 128 && (getBlockK() > 64 || getCausal()))
    return emitOpError("of heads of ")
           << getHead()
           << " columns has key blocks of up to 64, and is causal by its list";
  // The producer gathers eight blocks from two lists: with the registers that
  // consumers of wide heads leave it would spill, and so it would if each block
  // were of one of two tensors.
  if (isHopper && getPartial() && getBlockQ() / getBlockK() == 8) {
    if (getHead() > 64)
      return emitOpError("has heads of 64 columns if blocks of 128 x 16 are "
                         "allowed in part");
    if (getPacked())
      return emitOpError("packs no keys if blocks of 128 x 16 are allowed in "
                         "part");
  }
  if (getPartial() && getPacked() && getBlockK() == 16 && getHead() == 256)
    return emitOpError("of heads of 256 columns packs no keys if blocks of "
                       "64 x 16 are allowed in part");
  // Consumers of other split programs have no registers left for a function.
  bool isSquare = getBlockQ() == 64 && getBlockK() == 64;
  if (getSplit() && !getScore().empty() && getHead() > 64 && !isSquare)
    return emitOpError("of heads of ")
           << getHead()
           << " columns whose scores go through a function shares keys in "
              "blocks of 64 x 64 only";
  return verifyScore(*this, /*maxResults=*/1);
}

LogicalResult AttentionBackwardOp::verify() {
  if (failed(verifyAttention(*this)))
    return failure();
  if (getHead() != 64 && getHead() != 128)
    return emitOpError("has heads of 64 or 128 columns, not ") << getHead();
  if (getBlockK() != 64 && getBlockK() != 128)
    return emitOpError("has key blocks of 64 or 128, not ") << getBlockK();
  // The sums of 128 rows take more registers than each of nine warps can have.
  if (!getTarget().isHopper && (getBlockQ() != 64 || getBlockK() != 64))
    return emitOpError("has blocks of 64 x 64 on ")
           << getChip() << ", not of " << getBlockQ() << " x " << getBlockK();
  return verifyScore(*this, /*maxResults=*/2);
}
