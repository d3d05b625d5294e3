"""A matrix and its transpose, stored with one choice."""

from __future__ import annotations

import torch
from torch import Tensor

from gossamer.conversion.cuda import tiles
from gossamer.conversion.cuda.compress import ALIGNMENT
from gossamer.conversion.flat import index_dtype_for
from gossamer.conversion.values import is_plain_memory, with_gradient
from gossamer.errors import FormatError, TensorError
from gossamer.formats import Format
from gossamer.pattern import Pattern
from gossamer.sparsifiers.base import Choosing
from gossamer.sparsifiers.like import like
from gossamer.sparsifiers.n_of_m import Transposable, groups_of, tiles_of
from gossamer.sparsify import By, sparsify
from gossamer.tensor import Fill, SparseTensor, fill_of


def sparsify_both(
    dense: Tensor, format: Format, by: By | None = None, fill: Fill | None = None
) -> tuple[SparseTensor, SparseTensor]:
    """Stores a matrix and its transpose in the same format, with the same entries; what to keep is chosen once.

    A training step multiplies by a weight forward, and by its transpose backward. For n:m only a choice that is n:m in
    both directions can be stored: `by=gs.by.n_of_m(2, 4, transposable=True)`.

    Args:
        dense: [..., rows, columns].
        format, by, fill: As for `gs.sparsify`.

    Returns:
        The sparse tensors of `dense` and of `dense.mT`, both differentiable in what is kept.

    Raises:
        FormatError: The format is n:m, and `by` not transposable, or has blocks that are not square; otherwise as
            `gs.sparsify` does.
        TensorError: `dense` is no dense tensor; otherwise as `gs.sparsify` does.
    """
    if not isinstance(dense, Tensor) or dense.layout != torch.strided:
        raise TensorError(f"sparsify_both takes a dense tensor, not a {type(dense).__name__}")
    format.for_rank(dense.dim())
    if format.block is not None and len(set(format.block[-2:])) > 1:
        raise FormatError(f"sparsify_both: a block of {format.block} has another shape when it is transposed")
    if format.levels[-1].kind != "structured":
        rows = sparsify(dense, format, by, fill)
        return rows, sparsify(dense.mT, format, like(rows.pattern.permute(_turned(dense.dim()))), fill)
    if not isinstance(by, Transposable):
        raise FormatError(
            f"sparsify_both: what {by!r} keeps need not be {format} when it is transposed; "
            f"use gs.by.n_of_m({format.levels[-1].n}, {format.levels[-1].m}, transposable=True)"
        )
    by.check(format, dense.shape)
    fitted = format.for_rank(dense.dim())
    if _is_packed(dense, fitted, by):
        return _packed(dense, fitted, by, fill_of(dense.dtype, fill))
    chosen = _Chosen(by.mask(dense.detach()))
    return sparsify(dense, format, chosen, fill), sparsify(dense.mT, format, _Chosen(chosen.kept.mT), fill)


def _is_packed(dense: Tensor, format: Format, by: Transposable) -> bool:
    """Whether one kernel chooses and packs both."""
    is_plain = dense.is_cuda and is_plain_memory(dense) and bool(dense.numel()) and dense.dtype in tiles.DTYPES
    is_same = by.how == "best" and by.m == tiles.SIDE and by.is_of(format) and by.n == format.levels[-1].n
    return is_plain and is_same and not format.batch_rank


def _packed(dense: Tensor, format: Format, by: Transposable, fill: Fill) -> tuple[SparseTensor, SparseTensor]:
    memory = dense.detach().contiguous()
    if memory.data_ptr() % ALIGNMENT:
        memory = memory.clone()
    index = index_dtype_for(memory.numel() // by.m * by.n, None)
    packed = tiles.pack_both(memory, by.n, groups_of(by.n, by.m), tiles_of(by.n, by.m), index)
    found = []
    for own, (coordinates, values) in zip((dense, dense.mT), packed, strict=True):
        nothing: list[Tensor | None] = [None] * format.lvl_rank
        arrays = nothing, [*nothing[:-1], coordinates]
        pattern = Pattern.trusted(
            format, own.shape, format.level_sizes(own.shape), *arrays, memory.device, coordinates.shape
        )
        found.append(SparseTensor._make(pattern, with_gradient(own, pattern, values), fill))
    return found[0], found[1]


class _Chosen(Choosing):
    """A mask that was made before."""

    def __init__(self, kept: Tensor):
        self.kept = kept

    def mask(self, dense: Tensor) -> Tensor:
        return self.kept


def _turned(rank: int) -> tuple[int, ...]:
    return (*range(rank - 2), rank - 1, rank - 2)
