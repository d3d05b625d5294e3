"""A matrix and its transpose, stored with one choice."""

from __future__ import annotations

from torch import Tensor

from gossamer.errors import FormatError
from gossamer.formats import Format
from gossamer.sparsifiers.base import Choosing
from gossamer.sparsifiers.like import like
from gossamer.sparsifiers.n_of_m import Transposable
from gossamer.sparsify import By, sparsify
from gossamer.tensor import Fill, SparseTensor


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
        TensorError: As `gs.sparsify` does.
    """
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
    chosen = _Chosen(by.mask(dense.detach()))
    return sparsify(dense, format, chosen, fill), sparsify(dense.mT, format, _Chosen(chosen.kept.mT), fill)


class _Chosen(Choosing):
    """A mask that was made before."""

    def __init__(self, kept: Tensor):
        self.kept = kept

    def mask(self, dense: Tensor) -> Tensor:
        return self.kept


def _turned(rank: int) -> tuple[int, ...]:
    return (*range(rank - 2), rank - 1, rank - 2)
