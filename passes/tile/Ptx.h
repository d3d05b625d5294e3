//===- Ptx.h - the instructions of GPUs that tiles need ---------*- C++ -*-===//
//
// As operations of the LLVM dialect and, where MLIR or LLVM has none, inline
// assembly. Addresses in shared memory are 32-bit numbers.
//
//===----------------------------------------------------------------------===//

#ifndef GOSSAMER_PASSES_TILE_PTX_H
#define GOSSAMER_PASSES_TILE_PTX_H

#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/IR/Builders.h"

namespace gossamer::tile {

/// The registers that a thread holds of something.
using Registers = llvm::SmallVector<mlir::Value>;

class Ptx {
public:
  Ptx(mlir::OpBuilder &b, mlir::Location loc) : b(b), loc(loc) {}

  mlir::Value i32(int64_t value);
  mlir::Value i64(uint64_t value);
  mlir::Value f32(float value);
  mlir::Value add(mlir::Value x, mlir::Value y);
  mlir::Value mul(mlir::Value x, mlir::Value y);
  mlir::Value bitAnd(mlir::Value x, int64_t mask);
  mlir::Value bitXor(mlir::Value x, mlir::Value y);
  mlir::Value shiftLeft(mlir::Value x, int64_t bits);
  mlir::Value shiftRight(mlir::Value x, int64_t bits);
  mlir::Value equals(mlir::Value x, int64_t value);
  mlir::Value widen(mlir::Value x);
  /// Of this thread in its block, read anew.
  mlir::Value threadNumber();

  /// Inline assembly; results and operands are $0, $1, ... in this order.
  Registers assembly(const llvm::Twine &text, llvm::StringRef constraints,
                     mlir::ValueRange operands, mlir::TypeRange results,
                     bool hasEffects = true);

  mlir::Value maximum(mlir::Value x, mlir::Value y);
  mlir::Value minimum(mlir::Value x, mlir::Value y);
  mlir::Value plus(mlir::Value x, mlir::Value y);
  mlir::Value times(mlir::Value x, mlir::Value y);
  /// One result from one operand, without effects: "ex2.approx.ftz.f32".
  mlir::Value unary(llvm::StringRef instruction, mlir::Value x);
  /// The value of the lane whose number differs in `mask`; a word of 32 bits.
  mlir::Value shuffleXor(mlir::Value x, int64_t mask);
  /// That of the warp's first lane.
  mlir::Value broadcast(mlir::Value x);
  /// Two f32 as a pair of 16-bit numbers, the first in the low half.
  mlir::Value pack(mlir::Value low, mlir::Value high, mlir::Type half);
  /// The two f32 of such a pair.
  Registers unpack(mlir::Value word, mlir::Type half);

  /// Between ordinary accesses of shared memory and those of other units.
  void fenceAsync();

  // mbarriers.
  void initBarrier(mlir::Value address, int64_t arrivals);
  void waitBarrier(mlir::Value address, mlir::Value parity);
  /// The same before sm_90: asks again and again.
  void testBarrier(mlir::Value address, mlir::Value parity);
  /// `predicate` is i1.
  void arrive(mlir::Value address, mlir::Value predicate);
  void arriveExpecting(mlir::Value address, int64_t bytes);

  /// 16 bytes of global memory, of which the first `bytes` are read, 0 or 16:
  /// the others are 0. One copy of a thread.
  void copyAsync(mlir::Value to, mlir::Value from, mlir::Value bytes);
  /// This thread arrives when its copies so far have.
  void arriveCopied(mlir::Value barrier);

  // TMA on four dimensions, innermost first.
  void loadBox(mlir::Value to, mlir::Value map, mlir::ValueRange coordinates,
               mlir::Value barrier);
  /// Bytes that follow one another.
  void loadBytes(mlir::Value to, mlir::Value from, int64_t bytes,
                 mlir::Value barrier);
  /// Where `predicate` (i1) holds: in one thread.
  void storeBox(mlir::Value map, mlir::ValueRange coordinates, mlir::Value from,
                mlir::Value predicate);
  void commitStores(mlir::Value predicate);
  /// Until what was stored has been read.
  void awaitStores(mlir::Value predicate);

  /// Two f32 of shared memory; may be read later, but not behind a barrier.
  Registers loadPair(mlir::Value address);
  // Four 8x8 matrices of 16-bit numbers between registers and shared memory.
  Registers loadMatrices(mlir::Value address, int64_t offset = 0,
                         bool transposed = false);
  void storeMatrices(mlir::Value address, mlir::ValueRange words);

  /// Sums of 16 x 8 plus a (16 x 16) times b (16 x 8), by one warp: 4, 4 and 2
  /// registers.
  Registers multiply(mlir::Type half, mlir::ValueRange a, mlir::ValueRange b,
                     mlir::ValueRange sums);
  /// 16 bytes to global memory, where `predicate` (i1) holds.
  void storeWords(mlir::Value address, mlir::ValueRange words,
                  mlir::Value predicate);

  void namedBarrier(llvm::StringRef kind, mlir::Value number, int64_t threads);

private:
  mlir::OpBuilder &b;
  mlir::Location loc;
};

} // namespace gossamer::tile

#endif // GOSSAMER_PASSES_TILE_PTX_H
