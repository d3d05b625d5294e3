//===- HalfPrecision.h - float16 and bfloat16 in wider arithmetic -*- C++
//-*-===//
//
// Half precision is a way to store numbers. What computes on them does so in
// float32, and rounds once, at the end.
//
//===----------------------------------------------------------------------===//

#ifndef GOSSAMER_PASSES_HALFPRECISION_H
#define GOSSAMER_PASSES_HALFPRECISION_H

#include "mlir/IR/Builders.h"

namespace gossamer {

/// Whether this is f16 or bf16.
bool isHalf(mlir::Type type);

/// The type in which numbers of `element` are summed: f32 for narrower floats.
mlir::Type sumTypeOf(mlir::Type element);

/// A dense tensor with elements of `element`, as it is or widened to it.
mlir::Value widened(mlir::OpBuilder &builder, mlir::Value tensor,
                    mlir::Type element);

/// Computes a scalar body in `element` where it does so in half precision, and
/// drops the rounding in between; arguments keep their types.
void widenBody(mlir::Block &body, mlir::Type element);

} // namespace gossamer

#endif // GOSSAMER_PASSES_HALFPRECISION_H
