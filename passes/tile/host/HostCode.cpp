//===- HostCode.cpp - loops over numbers in memory ------------------------===//

#include "passes/tile/host/HostCode.h"
#include "passes/tile/Runtime.h"

using namespace mlir;
using namespace gossamer::tile;

Value HostCode::i32(int64_t n) {
  return arith::ConstantOp::create(b, loc, b.getI32IntegerAttr(n));
}

Value HostCode::i64(int64_t n) {
  return arith::ConstantOp::create(b, loc, b.getI64IntegerAttr(n));
}

Value HostCode::add(Value x, Value y) {
  return arith::AddIOp::create(b, loc, x, y);
}

Value HostCode::mul(Value x, int64_t n) {
  return arith::MulIOp::create(b, loc, x, i64(n));
}

Value HostCode::widen(Value x) {
  return arith::ExtSIOp::create(b, loc, b.getI64Type(), x);
}

Value HostCode::narrow(Value x) {
  return arith::TruncIOp::create(b, loc, b.getI32Type(), x);
}

Value HostCode::at(Value array, Type element, Value index) {
  return LLVM::GEPOp::create(b, loc, pointer, element, array,
                             ArrayRef<LLVM::GEPArg>{index});
}

/// Vectors lie where their first number does.
static Type numberOf(Type type) {
  auto vector = dyn_cast<VectorType>(type);
  return vector ? vector.getElementType() : type;
}

static unsigned alignmentOf(Type type) {
  Type number = numberOf(type);
  return isa<LLVM::LLVMPointerType>(number)
             ? 8
             : number.getIntOrFloatBitWidth() / 8;
}

Value HostCode::load(Value array, Type element, Value index) {
  return LLVM::LoadOp::create(b, loc, element,
                              at(array, numberOf(element), index),
                              alignmentOf(element));
}

void HostCode::store(Value value, Value array, Value index) {
  Type type = value.getType();
  LLVM::StoreOp::create(b, loc, value, at(array, numberOf(type), index),
                        alignmentOf(type));
}

void HostCode::copy(Value from, Value to, int64_t bytes) {
  LLVM::MemcpyOp::create(b, loc, to, from, i64(bytes), /*isVolatile=*/false);
}

void HostCode::loop(Value end, int64_t step, Body body) {
  auto op = scf::ForOp::create(b, loc, i64(0), end, i64(step));
  OpBuilder::InsertionGuard guard(b);
  b.setInsertionPoint(op.getBody()->getTerminator());
  body(op.getInductionVar());
}

void HostCode::loop(int64_t end, int64_t step, Body body) {
  loop(i64(end), step, body);
}

HostCode::Values HostCode::fold(int64_t begin, int64_t end, ValueRange inits,
                                Step body) {
  auto op = scf::ForOp::create(b, loc, i64(begin), i64(end), i64(1), inits);
  OpBuilder::InsertionGuard guard(b);
  b.setInsertionPointToEnd(op.getBody());
  Values next = body(op.getInductionVar(), op.getRegionIterArgs());
  scf::YieldOp::create(b, loc, next);
  return Values(op.getResults());
}

Value HostCode::call(StringRef name, Type result, ValueRange arguments) {
  return callRuntime(b, loc, module, name, result, arguments);
}

void HostCode::callShared(const Twine &name, ValueRange pointers,
                          llvm::function_ref<void(ValueRange)> body) {
  std::string symbol = name.str();
  auto function = module.lookupSymbol<LLVM::LLVMFuncOp>(symbol);
  if (!function) {
    OpBuilder::InsertionGuard guard(b);
    b.setInsertionPointToEnd(module.getBody());
    SmallVector<Type> types(pointers.getTypes());
    function = LLVM::LLVMFuncOp::create(
        b, loc, symbol, LLVM::LLVMFunctionType::get(nothing, types),
        LLVM::Linkage::Internal);
    // In the place of each call it would be compiled as often.
    function.setNoInline(true);
    for (unsigned n = 0; n < types.size(); ++n)
      function.setArgAttr(n, LLVM::LLVMDialect::getNoAliasAttrName(),
                          b.getUnitAttr());
    b.setInsertionPointToStart(function.addEntryBlock(b));
    body(function.getArguments());
    LLVM::ReturnOp::create(b, loc, ValueRange());
  }
  LLVM::CallOp::create(b, loc, function, pointers);
}
