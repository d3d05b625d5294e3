//===- Elementwise.h - elementwise chains as scalar code --------*- C++ -*-===//
//
// A tensor program spells a scalar expression as a chain of elementwise linalg
// operations, transposes, broadcasts and unit reshapes. Raising wants the
// expression back: ScalarEmitter walks the chain from its end and emits the
// scalar code for one point of an iteration space, down to the tensors where
// the chain begins.
//
//===----------------------------------------------------------------------===//

#ifndef GOSSAMER_PASSES_ELEMENTWISE_H
#define GOSSAMER_PASSES_ELEMENTWISE_H

#include "dialect/gossamer/Gossamer.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/IR/Builders.h"
#include <functional>

namespace gossamer {

/// A tensor, and where in it a point of an iteration space lies. Results of the
/// map are dimensions or (broadcast) constants.
struct Access {
  mlir::Value tensor;
  mlir::AffineMap map;
  bool operator==(const Access &other) const {
    return tensor == other.tensor && map == other.map;
  }
};

/// Whether every result of `map` is another loop, or the constant 0: what the
/// operations of this dialect take for indexing an operand.
bool isProjection(mlir::AffineMap map);

/// Whether that result of `op` is a scalar function of its inputs at one point
/// each, into memory that it does not read.
bool isElementwise(mlir::linalg::GenericOp op, unsigned result);

/// What gives `init` its shape, without the values that it is filled with.
mlir::Value shapeOnly(mlir::Value init);

/// Looks through transposes, broadcasts, unit reshapes and casts.
Access traceView(Access access);

/// The sparse tensor that a dense one was converted from, and its fill.
struct SparseSource {
  mlir::Value tensor;
  mlir::TypedAttr fill;
  explicit operator bool() const { return static_cast<bool>(tensor); }
};
SparseSource getSparseSource(mlir::Value dense);

/// The constant that every element of a tensor has, if it is known: of a splat,
/// a fill, or the generic that a fill was generalised to.
mlir::TypedAttr getSplat(mlir::Value tensor);

/// sum over some loops of lhs * rhs, onto zero. The operands may be narrower
/// than the sum (float16 and bfloat16, summed in float32) if `mayWiden`.
struct Contraction {
  mlir::linalg::GenericOp op;
  Access lhs, rhs;
  mlir::AffineMap result;
  explicit operator bool() const { return static_cast<bool>(op); }
};
Contraction matchContraction(mlir::Value value, bool mayWiden = false);

/// A reduction of one tensor by `maximumf` or `addf` over one loop: what is
/// reduced, and the maps of input and result over the loops.
enum class ReductionKind { Max, Sum };
struct Reduction {
  Access input;
  mlir::AffineMap result;
  explicit operator bool() const { return static_cast<bool>(input.tensor); }
};
Reduction matchReduction(mlir::Value value, ReductionKind kind);

/// The last operation of a reduction's body, which combines `value` with what
/// was reduced so far, from the neutral element on.
struct Accumulation {
  mlir::Operation *op;
  mlir::arith::AtomicRMWKind kind;
  mlir::Value value;
  explicit operator bool() const { return op; }
};
Accumulation matchAccumulation(mlir::linalg::GenericOp op);

/// Emits scalar code for elements of tensors into a block. Where a chain begins
/// (at an argument, a contraction, a reduction, anything not elementwise) the
/// element becomes an argument of the block, once for every different access.
class ScalarEmitter {
public:
  /// Loops for which `indexOf` has no value may not be asked for.
  ScalarEmitter(mlir::Block *block,
                std::function<mlir::Value(mlir::OpBuilder &, unsigned)> indexOf)
      : block(block), indexOf(std::move(indexOf)) {}

  /// Declares that this access is already an argument of the block.
  void bind(Access access, mlir::Value value);

  mlir::Value emit(mlir::OpBuilder &builder, Access access);

  /// The accesses behind the arguments that `emit` and `bind` know, by
  /// argument.
  llvm::ArrayRef<std::pair<Access, mlir::Value>> leaves() const {
    return arguments;
  }

  /// Whether code was emitted for an element of `tensor`.
  bool hasEmitted(mlir::Value tensor) const;

private:
  mlir::Value emitGeneric(mlir::OpBuilder &builder, mlir::linalg::GenericOp op,
                          unsigned result, mlir::AffineMap map);
  mlir::Block *block;
  std::function<mlir::Value(mlir::OpBuilder &, unsigned)>
      indexOf; // outlives the caller's lambda
  llvm::SmallVector<std::pair<Access, mlir::Value>> arguments;
  llvm::DenseMap<std::pair<mlir::Value, mlir::AffineMap>, mlir::Value> emitted;
};

/// What a scalar expression is when some of its leaves are known; null if that
/// does not decide it. Follows the conventions of sparse tensors: 0 times
/// anything is 0, and -inf plus anything is -inf.
mlir::TypedAttr
evaluate(mlir::Value value,
         const llvm::DenseMap<mlir::Value, mlir::TypedAttr> &known);

/// -inf, or a finite constant so low that a softmax takes it for -inf.
bool isMaskedScore(mlir::TypedAttr attr);
bool isZero(mlir::TypedAttr attr);

/// A map over `loops` whose every dimension n becomes `replacements[n]`.
mlir::AffineMap substitute(mlir::AffineMap map,
                           llvm::ArrayRef<mlir::AffineExpr> replacements,
                           unsigned numLoops);

} // namespace gossamer

#endif // GOSSAMER_PASSES_ELEMENTWISE_H
