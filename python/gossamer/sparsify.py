"""From dense to sparse: what to keep, and its values, differentiable in what is kept."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gossamer.build import build
from gossamer.conversion.kept import can_choose, can_store, store_kept
from gossamer.coordinates import unravel
from gossamer.errors import FormatError, TensorError
from gossamer.formats import Format
from gossamer.frontend.leaf import is_tracing
from gossamer.tensor import Fill, SparseTensor, fill_of, level_view


@dataclass(frozen=True)
class Magnitude:
    """Keeps a fraction of the entries, the largest by absolute value, or of blocks, the largest by their sum of it.

    Attributes:
        density: The fraction to keep, in [0, 1].
    """

    density: float

    def keep(self, levels: Tensor, format: Format) -> Tensor:
        """Returns which nodes to keep: bool, of the sizes of the outer levels.

        Args:
            levels: The tensor, as `level_view` shows it.
            format: The format.

        Raises:
            FormatError: A structured[n, m] format keeps another fraction than `density`.
        """
        size = levels.detach().abs()
        wide = torch.promote_types(size.dtype, torch.float32)
        for _ in range(format.outer, format.lvl_rank):
            size = size.sum(format.outer, dtype=wide)
        last = format.levels[format.outer - 1]
        if last.kind == "structured":
            self.check(format)
            return _largest(size, last.n)
        rows = size.reshape(*size.shape[: format.batch_rank], math.prod(size.shape[format.batch_rank :]))
        return _largest(rows, round(self.density * rows.shape[-1])).reshape(size.shape)

    def check(self, format: Format) -> None:
        """Raises FormatError if a structured[n, m] format keeps another fraction."""
        last = format.levels[format.outer - 1]
        if last.kind == "structured" and not math.isclose(self.density, last.n / last.m, rel_tol=1e-6):
            raise FormatError(
                f"{format} keeps {last.n} of every {last.m} entries: use magnitude({last.n / last.m:g}), not {self!r}"
            )

    def count(self, format: Format, sizes: Sequence[int]) -> int:
        """Returns how many nodes of these level sizes are kept, with those that a structured level stores besides."""
        last = format.levels[format.outer - 1]
        if last.kind == "structured":
            return math.prod(sizes[: format.outer - 1]) * last.n
        batches, rest = math.prod(sizes[: format.batch_rank]), math.prod(sizes[format.batch_rank : format.outer])
        return batches * round(self.density * rest)

    def __repr__(self) -> str:
        return f"magnitude({self.density:g})"


def magnitude(density: float) -> Magnitude:
    """Returns a sparsifier that keeps the largest entries by absolute value.

    Exactly `round(density * n)` of the n entries are kept (equal ones: the first); for a block format, of the n
    blocks, by the sum of absolute values. `batch` levels count each batch for itself. structured[n, m] keeps n of
    every m, and takes no other density.

    Raises:
        FormatError: The density is not in [0, 1].
    """
    if not 0 <= density <= 1:
        raise FormatError(f"magnitude({density!r}): the density is the fraction that is kept, between 0 and 1")
    return Magnitude(float(density))


def _largest(rows: Tensor, count: int) -> Tensor:
    """Marks the `count` largest of the last dimension; of equal ones the first."""
    if count == 0 or rows.numel() == 0:
        return torch.zeros(rows.shape, dtype=torch.bool, device=rows.device)
    if rows.is_floating_point():
        rows = rows.nan_to_num(nan=math.inf, posinf=math.inf)  # a NaN is kept: it should be seen
    if rows.is_cuda:  # where kthvalue has one block of threads for a row, however long
        least = rows.topk(count, -1, sorted=False).values.amin(-1, keepdim=True)
    else:
        least = rows.kthvalue(rows.shape[-1] - count + 1, dim=-1, keepdim=True).values
    larger, equal = rows > least, rows == least
    return larger | (equal & (equal.cumsum(-1) <= count - larger.sum(-1, keepdim=True)))


Sparsifier = Magnitude | Callable[[Tensor], Tensor]


def sparsify(
    dense: Tensor,
    format: Format,
    by: Sparsifier | None = None,
    fill: Fill | None = None,
    *,
    index_dtype: torch.dtype | None = None,
) -> SparseTensor:
    """Stores a dense tensor sparsely. Differentiable in the values that are kept.

    Args:
        dense: The tensor, of any strided layout; a SparseTensor or torch sparse tensor is made dense first.
        format: The format; leading dimensions of the tensor are added to it as dense levels.
        by: What to keep: None keeps all that is not the fill (a block is kept if any entry of it is not);
            `magnitude(density)`; or a function of the tensor that returns a bool tensor of its shape.
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
    if can_store(dense, format):
        nodes = known = mask = None
        largest = False
        if isinstance(by, Magnitude):
            levels = level_view(dense, format)
            largest = can_choose(dense, format)
            if largest:
                by.check(format)
            else:
                nodes, known = by.keep(levels, format), by.count(format, levels.shape)
        elif by is not None:
            mask = _mask(dense, by)
        stored = store_kept(
            dense, format, fill, mask=mask, nodes=nodes, known=known, largest=largest, index_dtype=index_dtype
        )
        if stored is not None:
            return SparseTensor._make(*stored, fill)
    return sparsify_by_index(dense, format, by, fill, index_dtype)


def sparsify_by_index(
    dense: Tensor, format: Format, by: Sparsifier | None, fill: Fill, index_dtype: torch.dtype | None = None
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


def _kept(dense: Tensor, levels: Tensor, format: Format, by: Sparsifier | None, fill: Fill) -> Tensor:
    """Which nodes are kept: bool, of the sizes of the outer levels."""
    if not format.outer:
        return torch.ones((), dtype=torch.bool, device=dense.device)
    if isinstance(by, Magnitude):
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


def _mask(dense: Tensor, by: Callable[[Tensor], Tensor]) -> Tensor:
    """What a function says to keep."""
    mask = by(dense.detach())
    if not isinstance(mask, Tensor) or mask.shape != dense.shape or mask.dtype != torch.bool:
        raise TensorError(f"by must return a bool tensor of shape {tuple(dense.shape)}, not {_described(mask)}")
    return mask


def _described(value: object) -> str:
    return f"{value.dtype} of {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
