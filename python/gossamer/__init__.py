"""Gossamer: a sparse compiler for PyTorch on MLIR."""

from gossamer import patterns
from gossamer.annotation import annotate
from gossamer.attention import attention
from gossamer.block_sources import from_block_mask
from gossamer.blocks import BlockList
from gossamer.errors import (
    AnnotationError,
    CacheWarning,
    CompileError,
    CudaError,
    FallbackWarning,
    FormatError,
    GossamerError,
    TensorError,
    TraceError,
    UnsupportedError,
)
from gossamer.explain import dump, explain
from gossamer.formats import BSC, BSR, COO, CSC, CSR, DBSR, DCSC, DCSR, NM, BlockELL, Format
from gossamer.jit import sparse_jit
from gossamer.pattern import Pattern
from gossamer.score import Score
from gossamer.sparsify import magnitude, sparsify
from gossamer.tensor import SparseTensor, from_scipy, from_torch

__all__ = [
    "BSC",
    "BSR",
    "COO",
    "CSC",
    "CSR",
    "DBSR",
    "DCSC",
    "DCSR",
    "NM",
    "AnnotationError",
    "BlockELL",
    "BlockList",
    "CacheWarning",
    "CompileError",
    "CudaError",
    "FallbackWarning",
    "Format",
    "FormatError",
    "GossamerError",
    "Pattern",
    "Score",
    "SparseTensor",
    "TensorError",
    "TraceError",
    "UnsupportedError",
    "annotate",
    "attention",
    "dump",
    "explain",
    "from_block_mask",
    "from_scipy",
    "from_torch",
    "magnitude",
    "patterns",
    "sparse_jit",
    "sparsify",
]
