//===- Passes.td - Gossamer's passes ------------------------*- tablegen -*-===//

#ifndef GOSSAMER_PASSES
#define GOSSAMER_PASSES

include "mlir/Pass/PassBase.td"

def RaiseAttention : Pass<"gossamer-raise-attention", "::mlir::func::FuncOp"> {
  let summary = "softmax(body(q k^T, mask)) v becomes gossamer.attention";
  let description = [{
    Starts at a contraction of p and v where p = exp(s - max_j s) / sum_j, follows
    s through elementwise operations to one contraction (q k^T) and one sparse
    operand (the mask), and takes what lies between as the body.

    Refused, with a remark: unstored entries of the mask must make s -inf (or a
    constant below -1e9, which means the same in a softmax), else they would take
    part; more than one mask; more than one contraction.
  }];
  let dependentDialects = ["::gossamer::GossamerDialect"];
}

def RaiseMatmul : Pass<"gossamer-raise-matmul", "::mlir::func::FuncOp"> {
  let summary = "contractions with a sparse operand become gossamer.matmul";
  let description = [{
    A linalg contraction of two tensors, of which one, looked at through
    transposes and broadcasts, is sparse with fill 0. An operand that is computed
    elementwise from a sparse tensor, and is 0 where that has nothing stored, is
    sampled there first (gossamer.sample). Elementwise operations that are the
    only users of the result become the epilogue.

    Refused, with a remark: two sparse operands; a fill other than 0.
  }];
  let dependentDialects = ["::gossamer::GossamerDialect"];
}

def RaiseSample : Pass<"gossamer-raise-sample", "::mlir::func::FuncOp"> {
  let summary = "gossamer.sample is folded into what makes its source";
  let description = [{
    The sampled value is computed at stored positions only: a softmax becomes
    gossamer.softmax of its sampled source, an elementwise chain above one
    contraction gossamer.sddmm, any other elementwise chain gossamer.map.
  }];
  let dependentDialects = ["::gossamer::GossamerDialect"];
}

#endif // GOSSAMER_PASSES
