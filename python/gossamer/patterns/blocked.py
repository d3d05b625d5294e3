"""Patterns of whole segments of a sequence: blocks along the diagonal, Sparse Transformer's fixed ones, butterflies."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from gossamer.errors import TensorError
from gossamer.patterns.base import Place, PositionPattern, count_of
from gossamer.patterns.interval import Interval, Truth, as_tensor, rising

_ROWS_LOOKED_AT = 16
_BITS_OF_A_CODE = 36


@dataclass(frozen=True)
class BlockWindow(PositionPattern):
    """See `block_window`."""

    block: int
    left: int
    right: int

    def _period_of(self, at: Place) -> int:
        return self.block

    def _allowed(self, at: Place) -> Any:
        distance = at.k // self.block - at.q // self.block
        return (distance >= -self.left) & (distance <= self.right)

    def __repr__(self) -> str:
        if self.left == self.right == 0:
            return f"block_diagonal({self.block})"
        return f"block_window({self.block}, {self.left}, {self.right})"


def block_diagonal(block: int) -> PositionPattern:
    """Keys in the query's own block of so many positions.

    Raises:
        TensorError: A block below 1.
    """
    return BlockWindow(count_of(block, "block_diagonal", "the block"), 0, 0)


def block_window(block: int, left: int, right: int | None = None) -> PositionPattern:
    """Keys in the query's own block, `left` blocks before it and `right` (None: as many) after it.

    Raises:
        TensorError: A block below 1, or a side below 0.
    """
    who = "block_window"
    count_of(block, who, "the block")
    left = count_of(left, who, "the number of blocks on the left", 0)
    return BlockWindow(block, left, left if right is None else count_of(right, who, "that on the right", 0))


@dataclass(frozen=True)
class Fixed(PositionPattern):
    """See `fixed`."""

    stride: int
    summary: int

    def _period_of(self, at: Place) -> int:
        return self.stride

    def _allowed(self, at: Place) -> Any:
        return (at.q // self.stride == at.k // self.stride) | (at.k % self.stride >= self.stride - self.summary)

    def __repr__(self) -> str:
        return f"fixed({self.stride}, {self.summary})"


def fixed(stride: int, summary: int = 1) -> PositionPattern:
    """Sparse Transformer's fixed pattern: the query's own segment, and the last `summary` keys of every segment.

    Both sides: the paper's is `causal() & fixed(stride, summary)`.

    Raises:
        TensorError: A number below 1, or a summary longer than the segment.
    """
    count_of(stride, "fixed", "the stride")
    if count_of(summary, "fixed", "the summary") > stride:
        raise TensorError(f"fixed: a summary of {summary} keys is longer than a segment of {stride}")
    return Fixed(stride, summary)


@dataclass(frozen=True)
class VariableWindows(PositionPattern):
    """See `variable_windows`; the ends of all windows that are given, in order."""

    ends: tuple[int, ...]

    def _segment(self, x: Tensor) -> Tensor:
        """The number of the window that a position is in: it never falls."""
        ends = torch.tensor(self.ends, device=x.device)
        last = self.ends[-1] - (0, *self.ends)[-2]
        listed = torch.searchsorted(ends, x.contiguous(), right=True)
        return listed + ((x - self.ends[-1]).clamp(min=0) // last)

    def _allowed(self, at: Place) -> Any:
        return rising(self._segment, at.q) == rising(self._segment, at.k)

    def __repr__(self) -> str:
        sizes = [end - begin for begin, end in zip((0, *self.ends), self.ends, strict=False)]
        return f"variable_windows({sizes})"


def variable_windows(sizes: Sequence[int]) -> PositionPattern:
    """Keys in the query's own window, where windows of these sizes follow each other; the last size repeats.

    Raises:
        TensorError: No sizes, or one below 1.
    """
    if not isinstance(sizes, Sequence) or not sizes:
        raise TensorError(f"variable_windows: sizes are a list of one or more integers, not {sizes!r}")
    return VariableWindows(tuple(accumulate(count_of(size, "variable_windows", "a size") for size in sizes)))


@dataclass(frozen=True)
class Butterfly(PositionPattern):
    """See `butterfly`."""

    block: int
    strides: int

    def _period_of(self, at: Place) -> int:
        return self.block << self.strides

    def _allowed(self, at: Place) -> Any:
        i, j = at.q // self.block, at.k // self.block
        allowed = i == j
        for s in range(self.strides):
            allowed = allowed | ((i ^ j) == 1 << s)
        return allowed

    def _truth(self, at: Place) -> Truth:
        i, j = at.q // self.block, at.k // self.block
        partners = [0, *(1 << s for s in range(self.strides))]
        return truth_of_rows(i, j, lambda row: [row ^ partner for partner in partners])

    def __repr__(self) -> str:
        return f"butterfly({self.block}, {self.strides})"


def butterfly(block: int, strides: int) -> PositionPattern:
    """Pixelated Butterfly's flat block butterfly: block i sees j where they are equal, or differ in one low bit.

    Args:
        block: Positions of a block.
        strides: The number of low bits, so that blocks at distances 1, 2, ... and 2^(strides - 1) are joined.

    Raises:
        TensorError: A block below 1, or strides that are not 0 to 40.
    """
    count_of(block, "butterfly", "the block")
    if count_of(strides, "butterfly", "the number of strides", 0) > 40:
        raise TensorError(f"butterfly: strides are 2^0 up to 2^39, 40 of them, not {strides}")
    return Butterfly(block, strides)


def signature_of_blocks(
    rectangle: Place, block: tuple[int, int], allowed: Callable[[Tensor, Tensor], Tensor]
) -> list[Tensor] | None:
    """Columns that tell rectangles with the same entries of a pattern of whole blocks: a bit for each block in it.

    Args:
        rectangle: Where.
        block: Rows and columns of the pattern's blocks.
        allowed: Whether block (i, j) is allowed, for each rectangle.

    Returns:
        The columns; None where there are too many blocks in a rectangle.
    """
    i, j = rectangle.q // block[0], rectangle.k // block[1]
    height, width = (int((x.hi - x.lo).max()) + 1 if x.lo.numel() else 0 for x in (i, j))
    if height * width > _BITS_OF_A_CODE:
        return None
    code = torch.zeros_like(i.lo)
    for row in range(height):
        for column in range(width):
            one, other = i.lo + row, j.lo + column
            code = code * 2 + (allowed(one, other) & (one <= i.hi) & (other <= j.hi))
    return [rectangle.q.lo % block[0], rectangle.k.lo % block[1], code]


def truth_of_rows(i: Interval, j: Interval, columns_of: Any) -> Truth:
    """Bounds for a pattern that allows a few columns in each row, in rectangles of rows i and columns j.

    Args:
        i, j: The rectangles.
        columns_of: From a tensor of rows to tensors of the columns allowed there, -1 for none, none of them twice.
    """
    i_lo, i_hi, j_lo, j_hi = (as_tensor(x) for x in (i.lo, i.hi, j.lo, j.hi))
    rows = int((i_hi - i_lo).max()) + 1 if i_lo.numel() else 0
    if rows > _ROWS_LOOKED_AT:
        return Truth.unknown(j_lo)
    some = torch.zeros_like(j_lo, dtype=torch.bool)
    every = torch.ones_like(some)
    for step in range(rows):
        row = i_lo + step
        hits = torch.zeros_like(j_lo)
        for column in columns_of(row):
            hits += (column >= j_lo) & (column <= j_hi)
        beyond = row > i_hi
        some |= (hits > 0) & ~beyond
        every &= (hits == j_hi - j_lo + 1) | beyond
    return Truth(some, every)
