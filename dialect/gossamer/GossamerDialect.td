//===- GossamerDialect.td - the gossamer dialect ------------*- tablegen -*-===//

#ifndef GOSSAMER_DIALECT
#define GOSSAMER_DIALECT

include "mlir/IR/DialectBase.td"

def Gossamer_Dialect : Dialect {
  let name = "gossamer";
  let cppNamespace = "::gossamer";
  let summary = "What a sparse PyTorch region computes, before it is decided how";
  let description = [{
    Structured operations over tensors of which some are stored sparsely. How a
    tensor is stored is said by MLIR's `#sparse_tensor.encoding`; what its
    unstored entries mean is said by the operation that reads it (its *fill*:
    0 for numbers, false for bools, -inf for scores after a mask).

    Every operation is defined by what it computes on the dense tensors that its
    operands stand for, and each can be lowered for every format by the general
    road; see docs/architecture.md.

    Discardable attributes of functions:
    * `gossamer.fill` on an argument with an encoding: the value of its unstored
      entries.
    * `gossamer.pattern` on an argument with an encoding: the number of an earlier
      argument that has the very same pattern, so that entries of the two meet one
      to one. The caller vouches for it.
  }];
  let dependentDialects = [
    "::mlir::arith::ArithDialect",
    "::mlir::sparse_tensor::SparseTensorDialect",
    "::mlir::tensor::TensorDialect"
  ];
  let useDefaultAttributePrinterParser = 0;
  let hasRegionArgAttrVerify = 1;
  let extraClassDeclaration = [{
    static constexpr ::llvm::StringLiteral getFillAttrName() {
      return "gossamer.fill";
    }
    static constexpr ::llvm::StringLiteral getPatternAttrName() {
      return "gossamer.pattern";
    }
  }];
}

#endif // GOSSAMER_DIALECT
