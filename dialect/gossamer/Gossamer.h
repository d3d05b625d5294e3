//===- Gossamer.h - the gossamer dialect ------------------------*- C++ -*-===//

#ifndef GOSSAMER_DIALECT_GOSSAMER_H
#define GOSSAMER_DIALECT_GOSSAMER_H

#include "mlir/Bytecode/BytecodeOpInterface.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/SparseTensor/IR/SparseTensor.h"
#include "mlir/IR/BuiltinTypes.h"
#include "mlir/IR/Dialect.h"
#include "mlir/IR/OpDefinition.h"
#include "mlir/IR/OpImplementation.h"
#include "mlir/Interfaces/ControlFlowInterfaces.h"
#include "mlir/Interfaces/InferTypeOpInterface.h"
#include "mlir/Interfaces/SideEffectInterfaces.h"

#include "dialect/gossamer/GossamerDialect.h.inc"
#include "dialect/gossamer/GossamerEnums.h.inc"

#define GET_OP_CLASSES
#include "dialect/gossamer/GossamerOps.h.inc"

namespace gossamer {

/// The dense levels after the last sparse one, as functions of the dimensions:
/// entries that are stored together, block by block.
llvm::SmallVector<mlir::AffineExpr>
blockLevels(mlir::sparse_tensor::SparseTensorEncodingAttr encoding);

/// Whether both storages end in the same blocks, of whichever inner order.
bool haveSameBlocks(mlir::sparse_tensor::SparseTensorEncodingAttr a,
                    mlir::sparse_tensor::SparseTensorEncodingAttr b);

} // namespace gossamer

#endif // GOSSAMER_DIALECT_GOSSAMER_H
