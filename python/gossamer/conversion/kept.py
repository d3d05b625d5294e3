"""Sparsifying by generated kernels: dense tensors to patterns and values."""

import torch
from torch import Tensor

from gossamer.conversion.cuda import store as cuda
from gossamer.conversion.flat import kept_bits
from gossamer.conversion.orders import is_entrywise, is_row_major
from gossamer.conversion.patterns import converted, has_kernels, pattern_of_kept
from gossamer.conversion.strided import mark_nodes
from gossamer.conversion.values import has_mover, is_plain_memory, is_plain_tensor, take_values, with_gradient
from gossamer.formats import Expr, Format, Level
from gossamer.pattern import Pattern
from gossamer.tensor import Fill, dims_of_level_view, gather_runs, level_view

_MASK = -1, 0  # the test of an element of a mask


def can_store(dense: Tensor, format: Format) -> bool:
    """Whether there are kernels for a tensor and a format."""
    if dense.is_cuda:
        return bool(dense.numel()) and is_plain_memory(dense) and cuda.has_kernels(format)
    return is_plain_tensor(dense) and has_mover(format) and has_kernels(format)


def why_not_stored(dense: Tensor, format: Format) -> str | None:
    """Returns why a tensor is stored by operations of torch; None if it `can_store` it."""
    if can_store(dense, format):
        return None
    if not dense.numel():
        return "it is empty"
    if not is_plain_memory(dense):
        return f"a {type(dense).__name__} of {dense.dtype} is no memory that kernels can move"
    return "there are no kernels for this format"


def can_choose(dense: Tensor, format: Format) -> bool:
    """Whether a kernel finds the largest of every group of a tensor that it `can_store`."""
    return dense.is_cuda and cuda.can_choose(format, dense.dtype)


def store_kept(
    dense: Tensor,
    format: Format,
    fill: Fill,
    *,
    mask: Tensor | None = None,
    nodes: Tensor | None = None,
    known: int | None = None,
    largest: bool = False,
    index_dtype: torch.dtype | None = None,
) -> tuple[Pattern, Tensor] | None:
    """Stores what is kept of a tensor: all that is not the fill, or what a mask says.

    Args:
        dense: The tensor.
        format: One that `can_store` it.
        fill: What is not stored stands for.
        mask: What to keep, bool of the shape of the tensor; a block is kept if anything of it is.
        nodes: Instead of it, which nodes to keep: bool of the sizes of the outer levels.
        known: How many of `nodes` there are, if that is known: then nothing waits for a GPU.
        largest: Instead of both, the n of every group of m with the largest magnitude: for what `can_choose`.
        index_dtype: torch.int32 or torch.int64, widened where it is too small; None takes int32 where it is enough.

    Returns:
        The pattern, and the values, differentiable in the tensor; None for what no kernel can do at this size.

    Raises:
        TensorError: The format cannot hold what is kept.
    """
    if dense.is_cuda:
        plain = dense.resolve_conj().resolve_neg() if dense.is_conj() or dense.is_neg() else dense
        pattern, values = cuda.store(plain, format, fill, mask, nodes, known, index_dtype, largest)
        if not dense.requires_grad:
            return pattern, values
        kept = None
        if format.levels[-1].kind == "structured" and nodes is None and not largest:
            kept = dense.detach() != fill if mask is None else mask
        return pattern, with_gradient(dense, pattern, values, kept)
    plain = dense.detach().resolve_conj().resolve_neg()
    keep, test = (plain, kept_bits(dense.dtype, fill)) if mask is None else (mask, _MASK)
    target = format.without_batch()
    is_structured = target.levels[-1].kind == "structured"
    if is_structured or is_row_major(target):
        source = level_view(plain, target).contiguous()
        if nodes is not None:
            keep, test = nodes.contiguous(), _MASK
        else:
            keep = source if mask is None else level_view(mask, target).contiguous()
        pattern, values, _ = pattern_of_kept(
            keep, test, format, dense.shape, source=source, fill=fill, index_dtype=index_dtype
        )
        assert values is not None
        kept = None
        if is_structured and dense.requires_grad:  # groups that are not full store more than is kept
            kept = dims_of_level_view((keep != fill) if keep is source else keep, target, dense.shape)
        return pattern, with_gradient(dense, pattern, values.view(pattern.values_shape), kept)
    if nodes is None and is_entrywise(target):
        return _by_rows(dense, plain, keep, test, format, fill, index_dtype)
    nodes = mark_nodes(keep, test, target) if nodes is None else nodes.contiguous()
    pattern = pattern_of_kept(nodes, _MASK, format, dense.shape, index_dtype=index_dtype)[0]
    return pattern, take_values(dense, pattern, fill)


def _by_rows(
    dense: Tensor,
    plain: Tensor,
    keep: Tensor,
    test: tuple[int, int],
    format: Format,
    fill: Fill,
    index_dtype: torch.dtype | None,
) -> tuple[Pattern, Tensor] | None:
    """Into a format of permuted dimensions: by rows first, which is how memory is read, then sorted."""
    rank = format.dim_rank
    kinds = ["dense"] * (rank - 1) + ["compressed"]
    rows = Format.from_levels(rank, [Level(kind, Expr(d)) for d, kind in enumerate(kinds)])
    source = plain.contiguous()
    keep = source if keep is plain else keep.contiguous()
    pattern, values, _ = pattern_of_kept(keep, test, rows, dense.shape, source=source, index_dtype=index_dtype)
    made = converted(pattern, format)
    if made is None:
        return None
    pattern, gather, size = made
    assert values is not None
    if gather is not None:
        values = gather_runs(values, gather, size, fill)
    return pattern, with_gradient(dense, pattern, values.view(pattern.values_shape))
