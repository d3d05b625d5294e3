//===- Ptx.cpp - the instructions of GPUs that tiles need -----------------===//

#include "passes/tile/Ptx.h"

#include "mlir/Dialect/LLVMIR/NVVMDialect.h"

using namespace mlir;
using namespace gossamer::tile;

Value Ptx::i32(int64_t value) {
  return LLVM::ConstantOp::create(b, loc, b.getI32Type(),
                                  b.getI32IntegerAttr(value));
}

Value Ptx::i64(uint64_t value) {
  return LLVM::ConstantOp::create(
      b, loc, b.getI64Type(), b.getI64IntegerAttr(static_cast<int64_t>(value)));
}

Value Ptx::f32(float value) {
  return LLVM::ConstantOp::create(b, loc, b.getF32Type(),
                                  b.getF32FloatAttr(value));
}

Value Ptx::add(Value x, Value y) { return LLVM::AddOp::create(b, loc, x, y); }

Value Ptx::mul(Value x, Value y) { return LLVM::MulOp::create(b, loc, x, y); }

Value Ptx::bitAnd(Value x, int64_t mask) {
  return LLVM::AndOp::create(b, loc, x, i32(mask));
}

Value Ptx::bitXor(Value x, Value y) {
  return LLVM::XOrOp::create(b, loc, x, y);
}

Value Ptx::shiftLeft(Value x, int64_t bits) {
  return LLVM::ShlOp::create(b, loc, x, i32(bits));
}

Value Ptx::shiftRight(Value x, int64_t bits) {
  return LLVM::LShrOp::create(b, loc, x, i32(bits));
}

Value Ptx::equals(Value x, int64_t value) {
  return LLVM::ICmpOp::create(b, loc, LLVM::ICmpPredicate::eq, x, i32(value));
}

Value Ptx::widen(Value x) {
  return LLVM::ZExtOp::create(b, loc, b.getI64Type(), x);
}

Value Ptx::threadNumber() {
  return assembly("mov.u32 $0, %tid.x;", "=r", {}, b.getI32Type()).front();
}

Registers Ptx::assembly(const Twine &text, StringRef constraints,
                        ValueRange operands, TypeRange results,
                        bool hasEffects) {
  Type type;
  if (results.size() == 1)
    type = results.front();
  else if (results.size() > 1)
    type = LLVM::LLVMStructType::getLiteral(
        b.getContext(), SmallVector<Type>(results.begin(), results.end()));
  auto op = LLVM::InlineAsmOp::create(
      b, loc, type, operands, b.getStringAttr(text),
      b.getStringAttr(constraints), hasEffects ? b.getUnitAttr() : UnitAttr(),
      /*is_align_stack=*/UnitAttr(),
      LLVM::TailCallKindAttr::get(b.getContext(),
                                  LLVM::tailcallkind::TailCallKind::None),
      LLVM::AsmDialectAttr::get(b.getContext(), LLVM::AsmDialect::AD_ATT),
      ArrayAttr());
  if (results.size() <= 1)
    return type ? Registers{op.getRes()} : Registers{};
  Registers values;
  for (int64_t n = 0, end = results.size(); n < end; ++n)
    values.push_back(LLVM::ExtractValueOp::create(b, loc, op.getRes(), n));
  return values;
}

Value Ptx::maximum(Value x, Value y) {
  return LLVM::MaxNumOp::create(b, loc, x, y);
}

Value Ptx::minimum(Value x, Value y) {
  return LLVM::MinNumOp::create(b, loc, x, y);
}

Value Ptx::plus(Value x, Value y) {
  return LLVM::FAddOp::create(b, loc, x, y, LLVM::FastmathFlags::contract);
}

Value Ptx::times(Value x, Value y) {
  return LLVM::FMulOp::create(b, loc, x, y, LLVM::FastmathFlags::contract);
}

Value Ptx::unary(StringRef instruction, Value x) {
  return assembly(instruction + " $0, $1;", "=f,f", x, x.getType(),
                  /*hasEffects=*/false)
      .front();
}

Value Ptx::shuffleXor(Value x, int64_t mask) {
  return NVVM::ShflOp::create(b, loc, x.getType(), i32(-1), x, i32(mask),
                              i32(31), NVVM::ShflKind::bfly, UnitAttr());
}

Value Ptx::broadcast(Value x) {
  return NVVM::ShflOp::create(b, loc, x.getType(), i32(-1), x, i32(0), i32(31),
                              NVVM::ShflKind::idx, UnitAttr());
}

Value Ptx::pack(Value low, Value high, Type half) {
  StringRef name = half.isBF16() ? "bf16x2" : "f16x2";
  return assembly("cvt.rn." + name + ".f32 $0, $2, $1;", "=r,f,f", {low, high},
                  b.getI32Type(), /*hasEffects=*/false)
      .front();
}

Registers Ptx::unpack(Value word, Type half) {
  Value pair =
      LLVM::BitcastOp::create(b, loc, VectorType::get({2}, half), word);
  Registers numbers;
  for (int64_t n = 0; n < 2; ++n) {
    Value x = LLVM::ExtractElementOp::create(b, loc, pair, i32(n));
    numbers.push_back(LLVM::FPExtOp::create(b, loc, b.getF32Type(), x));
  }
  return numbers;
}

Registers Ptx::loadPair(Value address) {
  auto pointer = LLVM::LLVMPointerType::get(b.getContext(), 3);
  Value at = LLVM::IntToPtrOp::create(b, loc, pointer, address);
  Value pair = LLVM::LoadOp::create(
      b, loc, VectorType::get({2}, b.getF32Type()), at, /*alignment=*/8);
  return {LLVM::ExtractElementOp::create(b, loc, pair, i32(0)),
          LLVM::ExtractElementOp::create(b, loc, pair, i32(1))};
}

void Ptx::fenceAsync() {
  assembly("fence.proxy.async.shared::cta;", "~{memory}", {}, {});
}

void Ptx::initBarrier(Value address, int64_t arrivals) {
  assembly("mbarrier.init.shared::cta.b64 [$0], " + Twine(arrivals) + ";", "r",
           address, {});
}

void Ptx::waitBarrier(Value address, Value parity) {
  assembly("{ .reg .pred done; again: "
           "mbarrier.try_wait.parity.shared::cta.b64 done, [$0], $1; "
           "@done bra end; bra again; end: }",
           "r,r,~{memory}", {address, parity}, {});
}

void Ptx::testBarrier(Value address, Value parity) {
  assembly("{ .reg .pred done; again: "
           "mbarrier.test_wait.parity.shared.b64 done, [$0], $1; "
           "@done bra end; bra again; end: }",
           "r,r,~{memory}", {address, parity}, {});
}

void Ptx::copyAsync(Value to, Value from, Value bytes) {
  assembly("cp.async.cg.shared.global.L2::128B [$0], [$1], 16, $2;",
           "r,l,r,~{memory}", {to, from, bytes}, {});
}

void Ptx::arriveCopied(Value barrier) {
  assembly("cp.async.mbarrier.arrive.noinc.shared.b64 [$0];", "r,~{memory}",
           barrier, {});
}

void Ptx::arrive(Value address, Value predicate) {
  Value word = LLVM::ZExtOp::create(b, loc, b.getI32Type(), predicate);
  assembly("{ .reg .pred p; setp.ne.b32 p, $1, 0; "
           "@p mbarrier.arrive.shared::cta.b64 _, [$0]; }",
           "r,r,~{memory}", {address, word}, {});
}

void Ptx::arriveExpecting(Value address, int64_t bytes) {
  assembly("mbarrier.arrive.expect_tx.shared::cta.b64 _, [$0], " +
               Twine(bytes) + ";",
           "r,~{memory}", address, {});
}

void Ptx::loadBox(Value to, Value map, ValueRange coordinates, Value barrier) {
  SmallVector<Value> operands{to, map, barrier};
  llvm::append_range(operands, coordinates);
  assembly("cp.async.bulk.tensor.4d.shared::cluster.global.mbarrier::"
           "complete_tx::bytes [$0], [$1, {$3, $4, $5, $6}], [$2];",
           "r,l,r,r,r,r,r,~{memory}", operands, {});
}

void Ptx::loadBytes(Value to, Value from, int64_t bytes, Value barrier) {
  assembly("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes "
           "[$0], [$1], " +
               Twine(bytes) + ", [$2];",
           "r,l,r,~{memory}", {to, from, barrier}, {});
}

void Ptx::storeBox(Value map, ValueRange coordinates, Value from,
                   Value predicate) {
  Value word = LLVM::ZExtOp::create(b, loc, b.getI32Type(), predicate);
  SmallVector<Value> operands{map, from, word};
  llvm::append_range(operands, coordinates);
  assembly("{ .reg .pred p; setp.ne.b32 p, $2, 0; "
           "@p cp.async.bulk.tensor.4d.global.shared::cta.bulk_group "
           "[$0, {$3, $4, $5, $6}], [$1]; }",
           "l,r,r,r,r,r,r,~{memory}", operands, {});
}

void Ptx::commitStores(Value predicate) {
  Value word = LLVM::ZExtOp::create(b, loc, b.getI32Type(), predicate);
  assembly("{ .reg .pred p; setp.ne.b32 p, $0, 0; "
           "@p cp.async.bulk.commit_group; }",
           "r,~{memory}", word, {});
}

void Ptx::awaitStores(Value predicate) {
  Value word = LLVM::ZExtOp::create(b, loc, b.getI32Type(), predicate);
  assembly("{ .reg .pred p; setp.ne.b32 p, $0, 0; "
           "@p cp.async.bulk.wait_group.read 0; }",
           "r,~{memory}", word, {});
}

Registers Ptx::loadMatrices(Value address, int64_t offset, bool transposed) {
  std::string at = offset ? "[$4+" + std::to_string(offset) + "]" : "[$4]";
  return assembly(
      Twine("ldmatrix.sync.aligned.m8n8.x4") + (transposed ? ".trans" : "") +
          ".shared.b16 {$0, $1, $2, $3}, " + at + ";",
      "=r,=r,=r,=r,r,~{memory}", address, SmallVector<Type>(4, b.getI32Type()));
}

void Ptx::storeMatrices(Value address, ValueRange words) {
  SmallVector<Value> operands{address};
  llvm::append_range(operands, words);
  assembly("stmatrix.sync.aligned.m8n8.x4.shared.b16 "
           "[$0], {$1, $2, $3, $4};",
           "r,r,r,r,r,~{memory}", operands, {});
}

Registers Ptx::multiply(Type half, ValueRange left, ValueRange right,
                        ValueRange sums) {
  std::string name = half.isBF16() ? "bf16" : "f16";
  SmallVector<Value> operands(left);
  llvm::append_range(operands, right);
  llvm::append_range(operands, sums);
  return assembly("mma.sync.aligned.m16n8k16.row.col.f32." + name + "." + name +
                      ".f32 {$0, $1, $2, $3}, {$4, $5, $6, $7}, {$8, $9}, "
                      "{$10, $11, $12, $13};",
                  "=f,=f,=f,=f,r,r,r,r,r,r,f,f,f,f", operands,
                  SmallVector<Type>(4, b.getF32Type()), /*hasEffects=*/false);
}

void Ptx::storeWords(Value address, ValueRange words, Value predicate) {
  Value word = LLVM::ZExtOp::create(b, loc, b.getI32Type(), predicate);
  SmallVector<Value> operands{address, word};
  llvm::append_range(operands, words);
  assembly("{ .reg .pred p; setp.ne.b32 p, $1, 0; "
           "@p st.global.v4.b32 [$0], {$2, $3, $4, $5}; }",
           "l,r,r,r,r,r,~{memory}", operands, {});
}

void Ptx::namedBarrier(StringRef kind, Value number, int64_t threads) {
  assembly("bar." + kind + " $0, " + Twine(threads) + ";", "r,~{memory}",
           number, {});
}
