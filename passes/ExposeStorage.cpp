//===- ExposeStorage.cpp - sparse arguments become their arrays -----------===//
//
// After the sparsifier a sparse tensor is only asked for its arrays and sizes.
// Here each asked-for argument becomes just those, as plain function arguments,
// so that no storage descriptor is built or passed, and the signature is
// written that tells the runtime what to pass.
//
//===----------------------------------------------------------------------===//

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Arith/Utils/Utils.h"
#include "mlir/Dialect/Bufferization/IR/Bufferization.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/IR/Matchers.h"
#include "mlir/IR/TypeUtilities.h"
#include "passes/Passes.h"
#include "passes/SharedPattern.h"
#include "passes/Storage.h"
#include "llvm/Support/JSON.h"

namespace gossamer {
#define GEN_PASS_DEF_EXPOSESTORAGE
#include "passes/Passes.h.inc"
} // namespace gossamer

using namespace mlir;
using namespace gossamer;
using namespace mlir::sparse_tensor;
namespace json = llvm::json;

namespace {

std::string print(Type type) {
  std::string text;
  llvm::raw_string_ostream(text) << type;
  return text;
}

std::string print(Attribute attr) {
  std::string text;
  llvm::raw_string_ostream(text) << attr;
  return text;
}

/// The arrays and level sizes of one argument in one format.
struct Arrays {
  SmallVector<Value> positions, coordinates, sizes;
  Value values;
};

json::Array reportOf(func::FuncOp function) {
  json::Array lines;
  if (auto report = function->getAttrOfType<ArrayAttr>("gossamer.report"))
    for (auto line : report.getAsRange<DictionaryAttr>()) {
      json::Object object;
      for (NamedAttribute entry : line)
        object[entry.getName().strref()] =
            cast<StringAttr>(entry.getValue()).getValue();
      lines.push_back(std::move(object));
    }
  return lines;
}

class StorageExposer {
public:
  explicit StorageExposer(func::FuncOp function)
      : function(function), builder(function.getContext()) {}

  LogicalResult run();

private:
  /// The arrays of `value`, a sparse tensor: of the argument that it comes
  /// from, but for values that an AssembleOp put in their place.
  FailureOr<Arrays> resolve(Value value, OpBuilder &at);
  LogicalResult rewriteUser(Operation *user, Value value);
  /// What was added for an argument in that storage; null if nothing was.
  const Arrays *findGroup(Value argument, Attribute encoding);
  /// Of an argument that shares a pattern whose arrays are passed already, in
  /// `shared`, the values alone are added.
  Arrays addArguments(unsigned &position, RankedTensorType type,
                      const Arrays *shared);
  json::Object describe(RankedTensorType type, unsigned input);

  func::FuncOp function;
  OpBuilder builder;
  /// By argument and type: the same one may be wanted in several formats.
  llvm::MapVector<std::pair<Value, Type>, Arrays> groups;
  /// Likewise with places (gossamer.storage_index) for values.
  llvm::MapVector<std::pair<Value, Type>, Arrays> indices;
};

Arrays StorageExposer::addArguments(unsigned &position, RankedTensorType type,
                                    const Arrays *shared) {
  Location loc = function.getLoc();
  SparseTensorType sparse(type);
  auto add = [&](Type type) -> Value {
    (void)function.insertArgument(position, type, {}, loc);
    return function.getArgument(position++);
  };
  auto array = [&](Type type) {
    return MemRefType::get({ShapedType::kDynamic}, type);
  };
  if (shared) {
    Arrays arrays = *shared;
    arrays.values = add(array(type.getElementType()));
    return arrays;
  }
  Arrays arrays;
  for (unsigned lvl = 0; lvl < sparse.getLvlRank(); ++lvl) {
    LevelType level = sparse.getLvlType(lvl);
    arrays.positions.push_back(
        level.isWithPosLT() ? add(array(sparse.getPosType())) : Value());
    arrays.coordinates.push_back(
        level.isWithCrdLT() ? add(array(sparse.getCrdType())) : Value());
  }
  arrays.values = add(array(type.getElementType()));
  for (unsigned lvl = 0; lvl < sparse.getLvlRank(); ++lvl)
    arrays.sizes.push_back(add(builder.getIndexType()));
  return arrays;
}

json::Object StorageExposer::describe(RankedTensorType type, unsigned input) {
  json::Object object{{"input", input},
                      {"rank", type.getRank()},
                      {"dtype", print(type.getElementType())}};
  if (!getSparseTensorEncoding(type)) {
    object["kind"] = "dense";
    return object;
  }
  SparseTensorType sparse(type);
  json::Array levels;
  for (unsigned lvl = 0; lvl < sparse.getLvlRank(); ++lvl)
    levels.push_back(
        json::Object{{"positions", sparse.getLvlType(lvl).isWithPosLT()},
                     {"coordinates", sparse.getLvlType(lvl).isWithCrdLT()}});
  object["kind"] = "sparse";
  object["encoding"] = print(type.getEncoding());
  object["levels"] = std::move(levels);
  return object;
}

FailureOr<Arrays> StorageExposer::resolve(Value value, OpBuilder &at) {
  auto it = groups.find({value, value.getType()});
  if (it != groups.end())
    return it->second;
  Operation *op = value.getDefiningOp();
  if (auto reinterpret = dyn_cast_or_null<ReinterpretMapOp>(op))
    return resolve(reinterpret.getSource(), at);
  if (auto index = dyn_cast_or_null<StorageIndexOp>(op)) {
    auto it = indices.find({index.getSource(), value.getType()});
    if (it != indices.end())
      return it->second;
  }
  if (auto convert = dyn_cast_or_null<gossamer::ConvertOp>(op)) {
    auto it = groups.find({convert.getSource(), value.getType()});
    if (it != groups.end())
      return it->second;
  }
  if (auto assemble = dyn_cast_or_null<gossamer::AssembleOp>(op)) {
    FailureOr<Arrays> arrays = resolve(assemble.getPattern(), at);
    if (failed(arrays))
      return arrays;
    // The memory itself where values were written there: bufferization would
    // copy them for every reader, as any of them might write.
    auto written =
        assemble.getValues().getDefiningOp<bufferization::ToTensorOp>();
    arrays->values =
        written ? written.getBuffer()
                : toBuffer(at, op->getLoc(), assemble.getValues(), false);
    return arrays;
  }
  return op ? op->emitOpError("has a sparse result that nothing lowers")
            : function.emitOpError("has a sparse tensor that is no argument");
}

const Arrays *StorageExposer::findGroup(Value argument, Attribute encoding) {
  for (auto &[key, arrays] :
       llvm::concat<std::pair<std::pair<Value, Type>, Arrays>>(groups, indices))
    if (key.first == argument &&
        cast<RankedTensorType>(key.second).getEncoding() == encoding)
      return &arrays;
  return nullptr;
}

LogicalResult StorageExposer::rewriteUser(Operation *user, Value value) {
  // These pass storage on; their users are visited in turn.
  if (isa<ReinterpretMapOp, gossamer::ConvertOp, gossamer::AssembleOp,
          StorageIndexOp>(user) &&
      getSparseTensorEncoding(user->getResult(0).getType()))
    return success();
  OpBuilder at(user);
  Location loc = user->getLoc();
  FailureOr<Arrays> arrays = resolve(value, at);
  if (failed(arrays))
    return failure();
  Value replacement;
  if (auto op = dyn_cast<ToPositionsOp>(user)) {
    replacement = arrays->positions[op.getLevel()];
  } else if (auto op = dyn_cast<ToCoordinatesOp>(user)) {
    replacement = arrays->coordinates[op.getLevel()];
  } else if (isa<ToValuesOp>(user)) {
    replacement = arrays->values;
  } else if (isa<NumberOfEntriesOp>(user)) {
    replacement = memref::DimOp::create(at, loc, arrays->values, 0);
  } else if (auto op = dyn_cast<LvlOp>(user)) {
    if (std::optional<uint64_t> lvl = op.getConstantLvlIndex())
      replacement = arrays->sizes[*lvl];
  } else if (auto op = dyn_cast<tensor::DimOp>(user)) {
    std::optional<int64_t> dim = op.getConstantIndex();
    auto type = getSparseTensorType(value);
    if (dim && type.isIdentity())
      replacement = arrays->sizes[*dim];
    else if (dim)
      for (auto [lvl, expr] :
           llvm::enumerate(type.getDimToLvl().getResults())) {
        if (!expr.isFunctionOfDim(*dim) ||
            expr.getKind() == AffineExprKind::Mod)
          continue;
        int64_t block = 1;
        if (expr.getKind() == AffineExprKind::FloorDiv)
          block =
              cast<AffineConstantExpr>(cast<AffineBinaryOpExpr>(expr).getRHS())
                  .getValue();
        replacement = mulIndex(at, loc, arrays->sizes[lvl],
                               indexConstant(at, loc, block));
      }
  }
  if (!replacement)
    return user->emitOpError()
           << "has no lowering for an operand stored as "
           << cast<RankedTensorType>(value.getType()).getEncoding();
  user->getResult(0).replaceAllUsesWith(replacement);
  user->erase();
  return success();
}

LogicalResult StorageExposer::run() {
  auto results = function->getAttrOfType<ArrayAttr>("gossamer.results");
  if (!results)
    return function.emitOpError("must have its results bound first "
                                "(gossamer-bind-results)");
  json::Array args, outs;
  SmallVector<Value> inputs(function.getArguments().drop_back(results.size()));
  SmallVector<Value> outputs(function.getArguments().take_back(results.size()));
  unsigned position = 0;
  // Looked up before arguments move as others are added.
  DenseMap<Value, Value> patternOf;
  for (Value input : inputs)
    if (getSparseTensorEncoding(input.getType()))
      patternOf[input] = patternArgument(input);
  DenseMap<Value, int64_t> numbers;
  SmallVector<Value> sparse;
  for (auto [n, input] : llvm::enumerate(inputs)) {
    if (input.getType().isIndex()) { // what calls it packs such words itself
      ++position;
      continue;
    }
    auto type = dyn_cast<RankedTensorType>(input.getType());
    if (!type)
      return function.emitOpError()
             << "takes a " << input.getType()
             << "; a region takes ranked tensors and numbers (index) only";
    ++position;
    numbers[input] = n;
    if (!getSparseTensorEncoding(type)) {
      args.push_back(describe(type, n));
      continue;
    }
    sparse.push_back(input);
    // The formats in which it is wanted.
    llvm::SetVector<std::pair<Type, unsigned>> wanted; // 1: places
    for (Operation *user : input.getUsers()) {
      auto convert = dyn_cast<gossamer::ConvertOp>(user);
      if (auto index = dyn_cast<StorageIndexOp>(user))
        wanted.insert({index.getResult().getType(), 1});
      else if (convert &&
               getSparseTensorEncoding(convert.getResult().getType()))
        wanted.insert({convert.getResult().getType(), 0});
      else
        wanted.insert({type, 0});
    }
    for (auto [format, isIndex] : wanted) {
      auto sparseType = cast<RankedTensorType>(format);
      json::Object description = describe(sparseType, n);
      Value source = patternOf.lookup(input);
      const Arrays *shared = findGroup(source, sparseType.getEncoding());
      if (shared && source != input)
        description["pattern_of"] = numbers.lookup(source);
      else
        shared = nullptr;
      Arrays arrays = addArguments(position, sparseType, shared);
      (isIndex ? indices : groups)[{input, format}] = arrays;
      if (isIndex)
        description["places"] = blockLevels(cast<SparseTensorEncodingAttr>(
                                                sparseType.getEncoding()))
                                        .empty()
                                    ? "entries"
                                    : "blocks";
      args.push_back(std::move(description));
    }
  }
  for (auto [attr, output] : llvm::zip(results, outputs)) {
    int64_t pattern = cast<IntegerAttr>(attr).getInt();
    auto type = cast<MemRefType>(output.getType());
    json::Object object{{"kind", pattern < 0 ? "dense" : "sparse"},
                        {"rank", type.getRank()},
                        {"dtype", print(type.getElementType())}};
    if (pattern >= 0)
      object["pattern_of"] = pattern;
    outs.push_back(std::move(object));
  }

  SmallVector<std::pair<Operation *, Value>> users;
  function.walk([&](Operation *op) {
    for (Value operand : op->getOperands())
      if (getSparseTensorEncoding(operand.getType()))
        users.push_back({op, operand});
  });
  for (auto [user, value] : users)
    if (failed(rewriteUser(user, value)))
      return failure();
  // What only passed storage on is dead now, users first.
  SmallVector<Operation *> dead;
  function.walk([&](Operation *op) {
    if (isa<ReinterpretMapOp, gossamer::ConvertOp, gossamer::AssembleOp,
            StorageIndexOp>(op) &&
        getSparseTensorEncoding(op->getResult(0).getType()))
      dead.push_back(op);
  });
  for (Operation *op : llvm::reverse(dead))
    op->erase();
  for (Value input : sparse)
    if (failed(
            function.eraseArgument(cast<BlockArgument>(input).getArgNumber())))
      return failure();

  json::Object signature{{"entry", "gs_entry"},
                         {"args", std::move(args)},
                         {"results", std::move(outs)},
                         {"report", reportOf(function)}};
  std::string text;
  llvm::raw_string_ostream(text) << json::Value(std::move(signature));
  function->getParentOp()->setAttr("gossamer.signature",
                                   builder.getStringAttr(text));
  return success();
}

struct ExposeStorage : gossamer::impl::ExposeStorageBase<ExposeStorage> {
  void runOnOperation() override {
    func::FuncOp region;
    for (auto function : getOperation().getOps<func::FuncOp>()) {
      if (function.isPrivate())
        continue;
      if (region) {
        function.emitOpError("is a second public function; a module holds one "
                             "region")
                .attachNote(region.getLoc())
            << "the first is here";
        return signalPassFailure();
      }
      region = function;
      if (failed(StorageExposer(function).run()))
        return signalPassFailure();
    }
  }
};

} // namespace
