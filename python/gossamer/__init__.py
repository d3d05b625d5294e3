"""Gossamer: a sparse compiler for PyTorch on MLIR."""

from gossamer import patterns
from gossamer import sparsifiers as by
from gossamer.annotation import annotate
from gossamer.attention import attention
from gossamer.block_sources import from_block_mask
from gossamer.blocks import BlockList
from gossamer.cost import Cost, cost
from gossamer.dynamic import (
    bucket_blocks,
    mask_blocks,
    pattern_blocks,
    pooled_scores,
    threshold_blocks,
    token_blocks,
    topk_blocks,
    vertical_slash_blocks,
)
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
from gossamer.sparsifiers import magnitude
from gossamer.sparsifiers.both import sparsify_both
from gossamer.sparsifiers.model import sparsify_model
from gossamer.sparsifiers.through import straight_through
from gossamer.sparsify import sparsify
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
    "Cost",
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
    "bucket_blocks",
    "by",
    "cost",
    "dump",
    "explain",
    "from_block_mask",
    "from_scipy",
    "from_torch",
    "magnitude",
    "mask_blocks",
    "pattern_blocks",
    "patterns",
    "pooled_scores",
    "sparse_jit",
    "sparsify",
    "sparsify_both",
    "sparsify_model",
    "straight_through",
    "threshold_blocks",
    "token_blocks",
    "topk_blocks",
    "vertical_slash_blocks",
]
