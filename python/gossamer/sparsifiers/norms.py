"""The largest entries, and the blocks of the largest norms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gossamer.errors import FormatError
from gossamer.formats import Format
from gossamer.sparsifiers.base import fraction
from gossamer.sparsifiers.ranking import InBlocks, Largest, in_blocks, per_of

_NORMS = ("l1", "l2", "max")


@dataclass(frozen=True, repr=False)
class BlockNorm(Largest):
    """See `block_norm`.

    Attributes:
        norm: "l1", "l2" or "max".
    """

    norm: str = "l1"

    @property
    def name(self) -> str:
        return "block_norm"

    def scores(self, levels: Tensor, format: Format) -> Tensor:
        size = levels.abs()
        if format.outer == format.lvl_rank:
            return size
        inner = tuple(range(format.outer, format.lvl_rank))
        if self.norm == "max":
            return size.amax(inner) if size.numel() else size.sum(inner)
        wide = torch.promote_types(size.dtype, torch.float32)
        if self.norm == "l2":
            size = size.to(wide).square()  # the root changes no order
        for _ in inner:
            size = size.sum(format.outer, dtype=wide)
        return size

    def _options(self) -> list[str]:
        return [repr(self.norm), *super()._options()]


@dataclass(frozen=True, repr=False)
class Magnitude(BlockNorm):
    """See `magnitude`."""

    @property
    def name(self) -> str:
        return "magnitude"

    def _options(self) -> list[str]:
        return Largest._options(self)


def magnitude(density: float, per: str | Sequence[int] = "tensor") -> Magnitude:
    """Returns a sparsifier that keeps the largest entries by absolute value.

    Exactly `round(density * n)` of the n entries are kept (equal ones: the first); for a block format, of the n
    blocks, by the sum of absolute values. `batch` levels count each batch for itself. structured[n, m] keeps n of
    every m, and takes no other density.

    Args:
        density: The fraction to keep, in [0, 1].
        per: What has n entries: "tensor", "row", or a tile (rows, columns).

    Raises:
        FormatError: The density is not in [0, 1], or `per` is none of these.
    """
    return Magnitude(fraction(density, "magnitude"), per_of(per, "magnitude"))


def block_norm(
    density: float,
    norm: str = "l2",
    block: int | Sequence[int] | None = None,
    per: str | Sequence[int] = "tensor",
) -> Largest | InBlocks:
    """Returns a sparsifier that keeps the blocks of the largest norms.

    Args:
        density: The fraction of the blocks to keep, in [0, 1].
        norm: "l1", "l2" or "max": the sum of absolute values, the root of the sum of squares, the largest absolute
            value. Sums are float32, or float64 of that.
        block: Rows and columns of a block, or one number for both; None takes the blocks of the format. The format may
            have no blocks, or others: then every block of it is kept that has an entry of a block that is.
        per: As for `magnitude`.

    Raises:
        FormatError: An argument is none of these.
    """
    if norm not in _NORMS:
        raise FormatError(f'block_norm: the norm is "l1", "l2" or "max", not {norm!r}')
    return in_blocks(BlockNorm(fraction(density, "block_norm"), per_of(per, "block_norm"), norm), block, "block_norm")
