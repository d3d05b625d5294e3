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

def RaiseContract : Pass<"gossamer-raise-contract", "::mlir::func::FuncOp"> {
  let summary = "other products with sparse operands become gossamer.contract";
  let description = [{
    A linalg sum of a product that gossamer-raise-matmul does not take: of two
    sparse operands, of three operands or more, or with nothing to sum over (an
    outer product). Operands are looked at as gossamer-raise-matmul does it.

    Refused, with a remark: a fill other than 0; an index that occurs twice in one
    operand.
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

def RaiseReduce : Pass<"gossamer-raise-reduce", "::mlir::func::FuncOp"> {
  let summary = "reductions of what is sparse become gossamer.reduce";
  let description = [{
    A linalg reduction (sum, product, maximum, minimum, and, or) of an elementwise
    function of sparse tensors on one pattern, which is one number where that has
    nothing stored: the function is the body. Products and softmaxes in it are
    sampled on the pattern first (gossamer.sample) and raised in turn.

    Refused, with a remark: what is not one number off the pattern; a product
    where that number is neither 0 nor 1.
  }];
  let dependentDialects = ["::gossamer::GossamerDialect"];
}

def ChooseFormats : Pass<"gossamer-choose-formats", "::mlir::func::FuncOp"> {
  let summary = "operands arrive in the storage that the loops want";
  let description = [{
    Converts an operand where the loops want other storage: rows of the
    result outermost and the summed (or masked) dimension compressed, so that rows
    can run in parallel and a row's sum stays in place. Blocks are kept. The
    runtime converts the pattern of an argument once and keeps the result; values
    that lie in another order there, of the argument or computed on its pattern,
    are moved by places that the runtime keeps, too (gossamer.gather).

    On a GPU, a softmax of storage that does not have rows together goes through
    rows by such places, and a reduction of one entry by one (COO) has its
    operand by rows, too: there is no thread that could go through all entries.

    Refused, with an error: an operand of which the pattern is made here.
  }];
  let options = [Option<"gpu", "gpu", "bool", "false", "for a GPU">];
  let dependentDialects = ["::gossamer::GossamerDialect"];
}

def BindResults : Pass<"gossamer-bind-results", "::mlir::func::FuncOp"> {
  let summary = "results become arguments that are written in place";
  let description = [{
    Every result becomes a trailing buffer argument: a memref for a dense result,
    the flat values for a sparse one, whose pattern is an argument's
    (`gossamer.results` says whose). Where a result's memory comes from a
    tensor.empty that nothing else uses, that becomes the buffer.
  }];
  let dependentDialects = ["::gossamer::GossamerDialect",
                           "::mlir::bufferization::BufferizationDialect"];
}

def LowerAttention : Pass<"gossamer-lower-attention", "::mlir::func::FuncOp"> {
  let summary = "gossamer.attention becomes loops over the rows of its mask";
  let description = [{
    Online softmax, a row at a time, rows in parallel, with the result's row as
    accumulator. The mask is row-major (gossamer-choose-formats), by entries or by
    blocks.
  }];
  let options = [
    Option<"gpu", "gpu", "bool", "false", "loops for a GPU (GpuLanes.h)">
  ];
  let dependentDialects = ["::mlir::bufferization::BufferizationDialect",
                           "::mlir::math::MathDialect",
                           "::mlir::memref::MemRefDialect",
                           "::mlir::scf::SCFDialect"];
}

def LowerBlockAttention
    : Pass<"gossamer-lower-block-attention", "::mlir::func::FuncOp"> {
  let summary = "gossamer.attention over a blocked mask, rows as lanes of a vector";
  let description = [{
    Of masks whose blocks are at least a vector high, with a body of elementwise
    operations; others are left to gossamer-lower-attention. Block rows run in
    parallel; a block whose values are all true is not looked at again.
  }];
  let options = [
    Option<"vectorBytes", "vector-bytes", "unsigned", "32", "width of a vector">
  ];
  let dependentDialects = ["::mlir::bufferization::BufferizationDialect",
                           "::mlir::linalg::LinalgDialect",
                           "::mlir::math::MathDialect",
                           "::mlir::memref::MemRefDialect",
                           "::mlir::scf::SCFDialect",
                           "::mlir::vector::VectorDialect"];
}

def LowerMatmul : Pass<"gossamer-lower-matmul", "::mlir::func::FuncOp"> {
  let summary = "gossamer.matmul becomes loops with the sums in registers, or a generic";
  let description = [{
    Storage by rows (of entries or blocks) gets loops of vectors: see the head of
    Matmul.h for which. Every other product becomes a level-space generic for the
    sparsifier.
  }];
  let options = [
    Option<"vectorBytes", "vector-bytes", "unsigned", "32", "width of a vector">,
    Option<"gpu", "gpu", "bool", "false", "loops for a GPU (GpuLanes.h)">
  ];
  let dependentDialects = ["::mlir::bufferization::BufferizationDialect",
                           "::mlir::linalg::LinalgDialect",
                           "::mlir::memref::MemRefDialect",
                           "::mlir::scf::SCFDialect",
                           "::mlir::vector::VectorDialect"];
}

def LowerSddmm : Pass<"gossamer-lower-sddmm", "::mlir::func::FuncOp"> {
  let summary = "gossamer.sddmm becomes loops with sums in registers";
  let description = [{
    Over blocks as wide as half a vector or more: tiles of rows and columns, with
    the columns' operand packed into panels. Over entries, and smaller blocks:
    several at once, lanes along the summed dimension, for every level format.
    Sums of f16 and bf16 are made in f32. Products over several dimensions, or
    none, are left to gossamer-lower-stored.
  }];
  let options = [
    Option<"vectorBytes", "vector-bytes", "unsigned", "32", "width of a vector">
  ];
  let dependentDialects = ["::mlir::bufferization::BufferizationDialect",
                           "::mlir::memref::MemRefDialect",
                           "::mlir::scf::SCFDialect",
                           "::mlir::vector::VectorDialect"];
}

def LowerReduce : Pass<"gossamer-lower-reduce", "::mlir::func::FuncOp"> {
  let summary = "gossamer.reduce becomes loops over what is stored";
  let description = [{
    For every level format, see the head of LowerReduce.cpp.

    Refused, with an error: a sparse operand on another pattern.
  }];
  let options = [
    Option<"gpu", "gpu", "bool", "false", "loops for a GPU (GpuLanes.h)">
  ];
  let dependentDialects = ["::mlir::bufferization::BufferizationDialect",
                           "::mlir::memref::MemRefDialect",
                           "::mlir::scf::SCFDialect"];
}

def LowerContract : Pass<"gossamer-lower-contract", "::mlir::func::FuncOp"> {
  let summary = "gossamer.contract becomes a level-space generic for the sparsifier";
  let description = [{
    The loops are the levels of the sparse operands, in an order in which all of
    them are stored (gossamer-choose-formats sees to it that there is one), then
    the loops that only dense operands have.

    Refused, with an error: operands whose levels are in no common order, or of
    different blocks.
  }];
  let dependentDialects = ["::mlir::bufferization::BufferizationDialect",
                           "::mlir::linalg::LinalgDialect",
                           "::mlir::memref::MemRefDialect"];
}

def LowerStoredRows : Pass<"gossamer-lower-stored-rows", "::mlir::func::FuncOp"> {
  let summary = "softmax and maps run on vectors of stored entries";
  let description = [{
    Where entries that lie side by side differ in one dimension: the last one of
    blocks, or the only one of a compressed level. A softmax must be along it, and
    its rows must be stored whole; a map's dense operands must not depend on
    coordinates that are stored. What is otherwise is left to
    gossamer-lower-stored.

    Refused, with an error: a sparse operand on another pattern.
  }];
  let options = [
    Option<"vectorBytes", "vector-bytes", "unsigned", "32", "width of a vector">
  ];
  let dependentDialects = ["::mlir::bufferization::BufferizationDialect",
                           "::mlir::math::MathDialect",
                           "::mlir::memref::MemRefDialect",
                           "::mlir::scf::SCFDialect",
                           "::mlir::vector::VectorDialect"];
}

def LowerStored : Pass<"gossamer-lower-stored", "::mlir::func::FuncOp"> {
  let summary = "operations on stored entries become loops over them";
  let description = [{
    sddmm, map, softmax, convert (to dense) and store_values, for every level
    format. New values go straight into the caller's array where they can.

    Refused, with an error: a convert that makes a new pattern.
  }];
  let options = [
    Option<"gpu", "gpu", "bool", "false", "loops for a GPU (GpuLanes.h)">
  ];
  let dependentDialects = ["::mlir::bufferization::BufferizationDialect",
                           "::mlir::linalg::LinalgDialect",
                           "::mlir::math::MathDialect",
                           "::mlir::memref::MemRefDialect",
                           "::mlir::scf::SCFDialect"];
}

def SparsifyGenerics : Pass<"gossamer-sparsify-generics", "::mlir::func::FuncOp"> {
  let summary = "MLIR's sparsifier, on generics with a sparse operand";
  let description = [{
    Folds conversions of sparse arguments into the generics that read them where
    the fill is 0 and the storage is a permutation of the dimensions, then runs
    upstream's sparsification patterns, serial (its parallel loops are wrong for
    reductions).
  }];
  let dependentDialects = ["::mlir::bufferization::BufferizationDialect",
                           "::mlir::memref::MemRefDialect",
                           "::mlir::scf::SCFDialect"];
}

def ExposeStorage : Pass<"gossamer-expose-storage", "::mlir::ModuleOp"> {
  let summary = "sparse arguments become their arrays";
  let description = [{
    Each sparse argument becomes, for every format in which it is used, its
    positions, coordinates, values and level sizes. Writes `gossamer.signature`,
    the JSON that tells the runtime what to pass.

    Refused, with an error: an operation with a sparse operand that nothing lowered.
  }];
  let dependentDialects = ["::mlir::arith::ArithDialect",
                           "::mlir::bufferization::BufferizationDialect",
                           "::mlir::memref::MemRefDialect"];
}

def Bufferize : Pass<"gossamer-bufferize", "::mlir::ModuleOp"> {
  let summary = "tensors become memrefs, row-major, in place where that is safe";
  let dependentDialects = ["::mlir::bufferization::BufferizationDialect",
                           "::mlir::memref::MemRefDialect"];
}

def DecomposeSoftmax : Pass<"gossamer-decompose-softmax", "::mlir::func::FuncOp"> {
  let summary = "linalg.softmax becomes reductions and elementwise generics";
  let description = [{
    Of dense softmaxes that nothing sparse took. A row of -inf is 0, not NaN.
  }];
  let dependentDialects = ["::mlir::arith::ArithDialect",
                           "::mlir::linalg::LinalgDialect",
                           "::mlir::math::MathDialect",
                           "::mlir::tensor::TensorDialect"];
}

def ExpandMath : Pass<"gossamer-expand-math", "::mlir::ModuleOp"> {
  let summary = "exp, tanh, erf and others of f32 as polynomials";
  let description = [{
    Inline, so that loops around them vectorise; to about 1 ulp. What has no
    polynomial (f64) goes to libm later.
  }];
  let dependentDialects = ["::mlir::arith::ArithDialect", "::mlir::math::MathDialect",
                           "::mlir::vector::VectorDialect"];
}

def RoundHalves : Pass<"gossamer-round-halves", "::mlir::ModuleOp"> {
  let summary = "rounding to f16 and bf16, as PyTorch rounds";
  let description = [{
    f32 to bf16 in integer arithmetic: processors without the instruction would
    call the compiler's library, which a kernel is not linked with, and those
    with it take subnormal numbers for 0. f64 goes through f32.

    ```mlir
    %0 = arith.truncf %x : f64 to f16
    // becomes
    %1 = arith.truncf %x : f64 to f32
    %0 = arith.truncf %1 : f32 to f16
    ```
  }];
  let dependentDialects = ["::mlir::arith::ArithDialect"];
}

def ParallelizeLoops : Pass<"gossamer-parallelize-loops", "::mlir::func::FuncOp"> {
  let summary = "outermost loops whose iterations touch nothing in common";
  let description = [{
    An scf.for without carried values becomes scf.parallel if its variable is the
    same index of every access to every buffer that it writes. That is proved, not
    believed: upstream's sparsifier marks reductions parallel.

    Not in private functions: those are called from inside of parallel loops.
  }];
  let dependentDialects = ["::mlir::scf::SCFDialect"];
}

def OutlineParallel : Pass<"gossamer-outline-parallel", "::mlir::ModuleOp"> {
  let summary = "outermost parallel loops become functions of a range";
  let description = [{
    The body becomes a private function of (first, last) and what it uses, whole
    buffers only (views are made again inside), so that its pointers may be
    noalias. The call in place of the loop does the whole range.
  }];
  let dependentDialects = ["::mlir::func::FuncDialect", "::mlir::scf::SCFDialect"];
}

def SetFastMath : Pass<"gossamer-set-fast-math", "::mlir::ModuleOp"> {
  let summary = "contraction everywhere, reassociation of sums carried by a loop";
  let description = [{
    Nothing else: NaN, inf and signed zeros elsewhere mean what they mean in torch.
  }];
}

def MakeEntry : Pass<"gossamer-make-entry", "::mlir::ModuleOp"> {
  let summary = "gs_entry reads the arguments from one packed array";
  let dependentDialects = ["::mlir::LLVM::LLVMDialect"];
}

def SpawnParallel : Pass<"gossamer-spawn-parallel", "::mlir::ModuleOp"> {
  let summary = "calls of outlined loops go through the threads of the runtime";
  let description = [{
    All functions but the entry become internal.
  }];
  let dependentDialects = ["::mlir::LLVM::LLVMDialect"];
}

def MapToGpu : Pass<"gossamer-map-to-gpu", "::mlir::func::FuncOp"> {
  let summary = "what touches memory becomes gpu.launch";
  let description = [{
    An outermost parallel loop is a kernel: a thread for an iteration, or the
    lanes of a warp that `gossamer.lanes` on loops inside of it asks for. What is
    serial between them is a kernel of one thread. The host computes sizes and
    launches.

    Refused, with an error: a number that the host needs and only the device
    knows.
  }];
  let dependentDialects = ["::mlir::arith::ArithDialect", "::mlir::gpu::GPUDialect",
                           "::mlir::memref::MemRefDialect",
                           "::mlir::NVVM::NVVMDialect", "::mlir::scf::SCFDialect"];
}

def PlanWorkspace : Pass<"gossamer-plan-workspace", "::mlir::ModuleOp"> {
  let summary = "temporaries of the host become parts of one piece of memory";
  let description = [{
    That is asked for (gs_gpu_workspace) before anything is launched.
  }];
  let dependentDialects = ["::mlir::LLVM::LLVMDialect", "::mlir::memref::MemRefDialect"];
}

def OutlineKernels : Pass<"gossamer-outline-kernels", "::mlir::ModuleOp"> {
  let summary = "gpu.launch becomes a function in @kernels and a call of gs_gpu_launch";
  let description = [{
    Arguments are the addresses and sizes of whole buffers, and numbers of the
    host, 64 bits each; views are made again inside.
  }];
  let dependentDialects = ["::mlir::func::FuncDialect", "::mlir::LLVM::LLVMDialect",
                           "::mlir::memref::MemRefDialect",
                           "::mlir::NVVM::NVVMDialect"];
}

def ExpandDeviceMath : Pass<"gossamer-expand-device-math", "::mlir::ModuleOp"> {
  let summary = "elementary functions of kernels inline; refuses what has none";
  let dependentDialects = ["::mlir::arith::ArithDialect", "::mlir::math::MathDialect",
                           "::mlir::vector::VectorDialect"];
}

def FinishKernels : Pass<"gossamer-finish-kernels", "::mlir::ModuleOp"> {
  let summary = "functions in @kernels get what makes them kernels for NVVM";
  let dependentDialects = ["::mlir::LLVM::LLVMDialect", "::mlir::NVVM::NVVMDialect"];
}

#endif // GOSSAMER_PASSES
