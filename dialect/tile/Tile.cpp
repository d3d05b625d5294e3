//===- Tile.cpp - the tile dialect: types, syntax -------------------------===//

#include "dialect/tile/Tile.h"

#include "mlir/IR/Builders.h"
#include "mlir/IR/DialectImplementation.h"
#include "llvm/ADT/TypeSwitch.h"

#include "dialect/tile/TileDialect.cpp.inc"
#include "dialect/tile/TileEnums.cpp.inc"

#define GET_TYPEDEF_CLASSES
#include "dialect/tile/TileTypes.cpp.inc"

#define GET_OP_CLASSES
#include "dialect/tile/TileOps.cpp.inc"

using namespace mlir;
using namespace gossamer::tile;

void TileDialect::initialize() {
  addTypes<
#define GET_TYPEDEF_LIST
#include "dialect/tile/TileTypes.cpp.inc"
      >();
  addOperations<
#define GET_OP_LIST
#include "dialect/tile/TileOps.cpp.inc"
      >();
}

//===----------------------------------------------------------------------===//
// Types: 64x128xf32 between angle brackets
//===----------------------------------------------------------------------===//

/// Up to the closing bracket, which is the caller's.
static ParseResult parseShape(AsmParser &parser, SmallVector<int64_t> &shape,
                              Type &element) {
  return failure(parser.parseLess() ||
                 parser.parseDimensionList(shape, /*allowDynamic=*/false) ||
                 parser.parseType(element));
}

static void printShape(AsmPrinter &printer, ArrayRef<int64_t> shape,
                       Type element) {
  printer << '<';
  for (int64_t size : shape)
    printer << size << 'x';
  printer << element;
}

template <typename T> static Type parseShaped(AsmParser &parser) {
  SmallVector<int64_t> shape;
  Type element;
  SMLoc loc = parser.getCurrentLocation();
  if (parseShape(parser, shape, element) || parser.parseGreater())
    return {};
  return parser.getChecked<T>(loc, parser.getContext(), shape, element);
}

template <typename T> static void printShaped(AsmPrinter &printer, T type) {
  printShape(printer, type.getShape(), type.getElementType());
  printer << '>';
}

#define TILE_SHAPED_SYNTAX(TYPE)                                               \
  Type TYPE::parse(AsmParser &parser) { return parseShaped<TYPE>(parser); }    \
  void TYPE::print(AsmPrinter &printer) const { printShaped(printer, *this); }
TILE_SHAPED_SYNTAX(RingType)
TILE_SHAPED_SYNTAX(QueueType)
TILE_SHAPED_SYNTAX(SeriesType)
TILE_SHAPED_SYNTAX(ColumnsType)
TILE_SHAPED_SYNTAX(FragmentType)
TILE_SHAPED_SYNTAX(PendingType)
TILE_SHAPED_SYNTAX(OperandType)
TILE_SHAPED_SYNTAX(BitsType)
#undef TILE_SHAPED_SYNTAX

Type SharedType::parse(AsmParser &parser) {
  SmallVector<int64_t> shape;
  Type element;
  SMLoc loc = parser.getCurrentLocation();
  if (parseShape(parser, shape, element))
    return {};
  int64_t panel = shape.empty() ? 0 : shape.front();
  if (succeeded(parser.parseOptionalComma()) &&
      (parser.parseKeyword("panel") || parser.parseEqual() ||
       parser.parseInteger(panel)))
    return {};
  if (parser.parseGreater())
    return {};
  return parser.getChecked<SharedType>(loc, parser.getContext(), shape, element,
                                       panel);
}

void SharedType::print(AsmPrinter &printer) const {
  printShape(printer, getShape(), getElementType());
  if (getPanel() != getRows())
    printer << ", panel = " << getPanel();
  printer << '>';
}

/// A type that is what a word behind its shape says, or is not.
template <typename T>
static Type parseMarked(AsmParser &parser, StringRef word) {
  SmallVector<int64_t> shape;
  Type element;
  SMLoc loc = parser.getCurrentLocation();
  if (parseShape(parser, shape, element))
    return {};
  bool marked = succeeded(parser.parseOptionalComma());
  if ((marked && parser.parseKeyword(word)) || parser.parseGreater())
    return {};
  return parser.getChecked<T>(loc, parser.getContext(), shape, element, marked);
}

Type RowsType::parse(AsmParser &parser) {
  return parseMarked<RowsType>(parser, "partial");
}

void RowsType::print(AsmPrinter &printer) const {
  printShape(printer, getShape(), getElementType());
  printer << (getPartial() ? ", partial>" : ">");
}

Type MapType::parse(AsmParser &parser) {
  return parseMarked<MapType>(parser, "joined");
}

void MapType::print(AsmPrinter &printer) const {
  printShape(printer, getShape(), getElementType());
  printer << (getJoined() ? ", joined>" : ">");
}

//===----------------------------------------------------------------------===//
// Programs
//===----------------------------------------------------------------------===//

void ProgramOp::build(OpBuilder &builder, OperationState &state, StringRef name,
                      TypeRange arguments, int32_t blocksPerProcessor,
                      StringRef chip) {
  state.addAttribute(getSymNameAttrName(state.name),
                     builder.getStringAttr(name));
  state.addAttribute(getBlocksPerProcessorAttrName(state.name),
                     builder.getI32IntegerAttr(blocksPerProcessor));
  state.addAttribute(getChipAttrName(state.name), builder.getStringAttr(chip));
  Block &block = state.addRegion()->emplaceBlock();
  for (Type type : arguments)
    block.addArgument(type, state.location);
}

ParseResult ProgramOp::parse(OpAsmParser &parser, OperationState &result) {
  StringAttr name;
  SmallVector<OpAsmParser::Argument> arguments;
  if (parser.parseSymbolName(name, getSymNameAttrName(result.name),
                             result.attributes) ||
      parser.parseArgumentList(arguments, OpAsmParser::Delimiter::Paren,
                               /*allowType=*/true) ||
      parser.parseOptionalAttrDictWithKeyword(result.attributes))
    return failure();
  return parser.parseRegion(*result.addRegion(), arguments);
}

void ProgramOp::print(OpAsmPrinter &printer) {
  printer << ' ';
  printer.printSymbolName(getSymName());
  printer << '(';
  llvm::interleaveComma(
      getBody().getArguments(), printer,
      [&](BlockArgument argument) { printer.printRegionArgument(argument); });
  printer << ')';
  SmallVector<StringRef> hidden{getSymNameAttrName()};
  if (getBlocksPerProcessor() == 1)
    hidden.push_back(getBlocksPerProcessorAttrName());
  if (getChip() == "sm_90a")
    hidden.push_back(getChipAttrName());
  printer.printOptionalAttrDictWithKeyword((*this)->getAttrs(), hidden);
  printer << ' ';
  printer.printRegion(getBody(), /*printEntryBlockArgs=*/false);
}

int64_t ProgramOp::getNumWarpgroups() {
  int64_t warpgroups = 0;
  for (RoleOp role : getOps<RoleOp>())
    warpgroups += role.getWarpgroups();
  return warpgroups;
}

int64_t ProgramOp::getNumThreads() {
  int64_t all = getNumWarpgroups(), consumers = getNumConsumers();
  if (getTarget().isHopper)
    return 128 * all;
  return 128 * consumers + 32 * (all - consumers);
}

int64_t ProgramOp::getNumConsumers() {
  int64_t warpgroups = 0;
  for (RoleOp role : getOps<RoleOp>())
    if (role.getKind() == RoleKind::Consumer)
      warpgroups += role.getWarpgroups();
  return warpgroups;
}

void RoleOp::build(OpBuilder &builder, OperationState &state, RoleKind kind,
                   int32_t warpgroups, int32_t registers) {
  state.addAttribute(getKindAttrName(state.name),
                     RoleKindAttr::get(builder.getContext(), kind));
  state.addAttribute(getWarpgroupsAttrName(state.name),
                     builder.getI32IntegerAttr(warpgroups));
  state.addAttribute(getRegistersAttrName(state.name),
                     builder.getI32IntegerAttr(registers));
  state.addRegion()->emplaceBlock().addArgument(builder.getI32Type(),
                                                state.location);
}

//===----------------------------------------------------------------------===//
// Result types
//===----------------------------------------------------------------------===//

LogicalResult WaitOp::inferReturnTypes(MLIRContext *, std::optional<Location>,
                                       Adaptor adaptor,
                                       SmallVectorImpl<Type> &types) {
  auto ring = dyn_cast<RingType>(adaptor.getRing().getType());
  if (!ring)
    return failure();
  types.push_back(SharedType::get(ring.getShape().drop_front(),
                                  ring.getElementType(), ring.getRows()));
  return success();
}

LogicalResult ReceiveOp::inferReturnTypes(MLIRContext *,
                                          std::optional<Location>,
                                          Adaptor adaptor,
                                          SmallVectorImpl<Type> &types) {
  auto queue = dyn_cast<QueueType>(adaptor.getQueue().getType());
  if (!queue)
    return failure();
  types.append(queue.getShape().back(), queue.getElementType());
  return success();
}

LogicalResult ColumnsOp::inferReturnTypes(MLIRContext *,
                                          std::optional<Location>,
                                          Adaptor adaptor,
                                          SmallVectorImpl<Type> &types) {
  auto series = dyn_cast<SeriesType>(adaptor.getSeries().getType());
  if (!series)
    return failure();
  types.append(series.getRows(), ColumnsType::get({series.getColumns()},
                                                  series.getElementType()));
  return success();
}

LogicalResult AwaitOp::inferReturnTypes(MLIRContext *, std::optional<Location>,
                                        Adaptor adaptor,
                                        SmallVectorImpl<Type> &types) {
  auto pending = dyn_cast<PendingType>(adaptor.getPending().getType());
  if (!pending)
    return failure();
  types.push_back(
      FragmentType::get(pending.getShape(), pending.getElementType()));
  return success();
}

AwaitOp MmaOp::getAwait() {
  return getResult().hasOneUse()
             ? dyn_cast<AwaitOp>(*getResult().getUsers().begin())
             : AwaitOp();
}
