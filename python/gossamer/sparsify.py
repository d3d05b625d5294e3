"""From dense to sparse: what to keep, and its values, differentiable in what is kept."""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from gossamer.build import build
from gossamer.conversion.kept import can_choose, can_store, store_kept
from gossamer.conversion.values import has_mover, is_plain_memory, take_values
from gossamer.coordinates import unravel
from gossamer.errors import TensorError
from gossamer.formats import Format
from gossamer.frontend.leaf import is_tracing
from gossamer.sparsifiers.base import Choosing, Ranking, Sparsifier
from gossamer.sparsifiers.like import Like
from gossamer.sparsifiers.n_of_m import NOfM
from gossamer.sparsifiers.norms import Magnitude
from gossamer.tensor import Fill, SparseTensor, fill_of, level_view

By = Sparsifier | Callable[[Tensor], Tensor]


def sparsify(
    dense: Tensor,
    format: Format,
    by: By | None = None,
    fill: Fill | None = None,
    *,
    index_dtype: torch.dtype | None = None,
) -> SparseTensor:
    """Stores a dense tensor sparsely. Differentiable in the values that are kept.

    Args:
        dense: The tensor, of any strided layout; a SparseTensor or torch sparse tensor is made dense first.
        format: The format; leading dimensions of the tensor are added to it as dense levels.
        by: What to keep: None keeps all that is not the fill (a block is kept if any entry of it is not); one of
            `gs.by`, such as `gs.by.magnitude(density)`; or a function of the tensor that returns a bool tensor of its
            shape.
        fill: What is not stored stands for; None means 0 (False for bools).
        index_dtype: torch.int32 or torch.int64; None takes int32, or int64 where that is too small.

    Raises:
        FormatError: The format does not fit the tensor, or cannot keep what `by` asks for.
        TensorError: The format cannot hold what is kept, or `by` returned something else than a mask.
    """
    dense = _strided(dense)
    if is_tracing():
        from gossamer.frontend.marker import mark

        return mark(dense, format, by=by, fill=fill)  # type: ignore[return-value]  # dense, in a trace
    format = format.for_rank(dense.dim())
    fill = fill_of(dense.dtype, fill)
    format.level_sizes(dense.shape)
    if dense.is_meta:
        raise TensorError("sparsify looks at the values, and a tensor on the meta device has none")
    if isinstance(by, Sparsifier):
        by.check(format, dense.shape)
    if isinstance(by, Like) and has_mover(format) and is_plain_memory(dense):
        pattern = by.pattern_in(format, dense.device)
        if pattern is not None:
            return SparseTensor._make(pattern, take_values(dense, pattern, fill), fill)
    if can_store(dense, format):
        nodes = known = mask = None
        largest = _is_largest(by, format) and can_choose(dense, format)
        if isinstance(by, Ranking) and not largest:
            levels = level_view(dense, format)
            nodes, known = by.keep(levels, format), by.count(format, levels.shape)
        elif by is not None and not largest:
            mask, known = _mask(dense, by), _known(dense, format, by)
        stored = store_kept(
            dense, format, fill, mask=mask, nodes=nodes, known=known, largest=largest, index_dtype=index_dtype
        )
        if stored is not None:
            return SparseTensor._make(*stored, fill)
    return sparsify_by_index(dense, format, by, fill, index_dtype)


def sparsify_by_index(
    dense: Tensor, format: Format, by: By | None, fill: Fill, index_dtype: torch.dtype | None = None
) -> SparseTensor:
    """Does it by operations of torch, on any device: for what has no kernels, and as their oracle.

    Args:
        dense, format, by, fill, index_dtype: As for `sparsify`; the format is of the rank of the tensor.
    """
    levels = level_view(dense, format)
    keep = _kept(dense, levels, format, by, fill)
    nodes = keep.reshape(-1).nonzero()[:, 0] if format.outer else torch.zeros(1, dtype=torch.int64, device=dense.device)
    pattern, slot = build(format, dense.shape, nodes, index_dtype=index_dtype)
    if not format.outer:
        return SparseTensor(pattern, levels.contiguous(), fill)
    values = levels[tuple(unravel(nodes, pattern.level_sizes[: format.outer]))]
    if slot is not None:
        room = math.prod(pattern.values_shape) // max(1, pattern.inner_size)
        padded = values.new_full((room, *values.shape[1:]), fill)
        values = padded.index_put((slot,), values)
    return SparseTensor(pattern, values.reshape(pattern.values_shape), fill)


def _strided(dense: Tensor | SparseTensor) -> Tensor:
    if isinstance(dense, SparseTensor) or (isinstance(dense, Tensor) and dense.layout != torch.strided):
        return dense.to_dense()
    if not isinstance(dense, Tensor):
        raise TensorError(f"sparsify takes a tensor, not a {type(dense).__name__}")
    return dense


def _kept(dense: Tensor, levels: Tensor, format: Format, by: By | None, fill: Fill) -> Tensor:
    """Which nodes are kept: bool, of the sizes of the outer levels."""
    if not format.outer:
        return torch.ones((), dtype=torch.bool, device=dense.device)
    if isinstance(by, Ranking):
        return by.keep(levels, format)
    if by is None:
        mask = levels.detach() if dense.dtype == torch.bool and not fill else levels.detach() != fill
    else:
        mask = level_view(_mask(dense, by), format)
    if mask.numel() == 0:
        return mask.any(tuple(range(format.outer, format.lvl_rank))) if format.outer < format.lvl_rank else mask
    # A maximum of bytes, outermost dimension first, is many times faster than `any` of them all.
    mask = mask.view(torch.uint8)
    for _ in range(format.outer, format.lvl_rank):
        mask = mask.amax(format.outer)
    return mask.view(torch.bool)


def _is_largest(by: By | None, format: Format) -> bool:
    """Whether the n of every m with the largest magnitude are kept, as many as the format stores."""
    last = format.levels[-1]
    if isinstance(by, Magnitude):
        return last.kind == "structured"
    return isinstance(by, NOfM) and by.tile() == (1, last.m) and by.is_of(format) and by.n == last.n


def _known(dense: Tensor, format: Format, by: By) -> int | None:
    """How many nodes a mask keeps, where that is known before it is made."""
    if isinstance(by, NOfM) and by.is_of(format):
        return math.prod(format.level_sizes(dense.shape)[:-1]) * format.levels[-1].n
    is_entrywise = format.outer == format.lvl_rank and format.levels[-1].kind != "structured"
    return by.count(dense.shape) if isinstance(by, Choosing) and is_entrywise else None


def _mask(dense: Tensor, by: By) -> Tensor:
    """What a sparsifier or a function says to keep."""
    if isinstance(by, Choosing):
        return by.mask(dense.detach())
    assert not isinstance(by, Sparsifier)
    mask = by(dense.detach())
    if not isinstance(mask, Tensor) or mask.shape != dense.shape or mask.dtype != torch.bool:
        raise TensorError(f"by must return a bool tensor of shape {tuple(dense.shape)}, not {_described(mask)}")
    return mask


def _described(value: object) -> str:
    return f"{value.dtype} of {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
