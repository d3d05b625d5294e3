"""The search for the blocks of a pattern: from wide rectangles down to blocks, and into blocks that stay open.

A row of blocks is cut into wide rectangles first. Bounds tell of most that they are empty or full all over; what is
open is cut further, down to single blocks, and only of those that are still open the entries are computed: once for all
that are known to have the same.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from gossamer.patterns.base import Lengths, Place, PositionPattern
from gossamer.patterns.bits import distinct_columns, first_of, packed
from gossamer.patterns.interval import Interval, Truth

_FAN = 16  # into how many a rectangle is cut
_WIDEST = 64  # about how many rectangles a row is cut into at first
_RECTANGLES = {"cpu": 1 << 18, "cuda": 1 << 22}  # that are looked at together
_ENTRIES = {"cpu": 1 << 21, "cuda": 1 << 24}  # that are computed together


def _most(limits: dict[str, int], device: torch.device) -> int:
    return limits.get(device.type, limits["cpu"])


@dataclass(frozen=True)
class Found:
    """What a search found, in no order; all int64 but for the bits.

    Attributes:
        full_row, full_begin, full_end: Runs of full blocks: the row of blocks (counted on over heads and texts), and
            the columns.
        partial_row, partial_column, partial_bits: Blocks allowed in part, and which row of `bits` they have.
        bits: int32 [n, rows, words].
    """

    full_row: Tensor
    full_begin: Tensor
    full_end: Tensor
    partial_row: Tensor
    partial_column: Tensor
    partial_bits: Tensor
    bits: Tensor


@dataclass(frozen=True)
class _Blocks:
    """A pattern over blocks of a mask.

    Attributes:
        grid: Texts, heads, rows and columns of blocks.
    """

    pattern: PositionPattern
    lengths: Lengths
    block: tuple[int, int]
    grid: tuple[int, int, int, int]
    device: torch.device

    def corners(self, row: Tensor, column: Tensor) -> Place:
        """Text, head, and first query and key of blocks."""
        _, heads, rows, _ = self.grid
        lead = row // rows
        return Place(lead // heads, lead % heads, (row % rows) * self.block[0], column * self.block[1], self.lengths)

    def rectangles(self, row: Tensor, begin: Tensor, end: Tensor) -> Place:
        """Rectangles of the blocks begin to end of rows."""
        corner = self.corners(row, begin)
        last_q = (corner.q + self.block[0]).clamp(max=self.lengths.queries) - 1
        last_k = (end * self.block[1]).clamp(max=self.lengths.keys) - 1
        return Place(
            Interval.of(corner.b), Interval.of(corner.h), Interval(corner.q, last_q), Interval(corner.k, last_k),
            self.lengths,
        )  # fmt: skip

    def truth(self, row: Tensor, begin: Tensor, end: Tensor) -> Truth:
        """Bounds within rectangles."""
        return self.pattern._truth(self.rectangles(row, begin, end))


def sweep(
    pattern: PositionPattern,
    lengths: Lengths,
    block: tuple[int, int],
    leading: tuple[int, int],
    device: torch.device,
) -> Found:
    """Returns the full blocks and those allowed in part.

    Args:
        pattern: Without patterns of its own for heads.
        lengths, block: Of the mask.
        leading: Texts and heads that are looked at.
        device: Where.
    """
    rows, columns = -(-lengths.queries // block[0]), -(-lengths.keys // block[1])
    blocks = _Blocks(pattern, lengths, block, (*leading, rows, columns), device)
    full, open_row, open_column = _search(blocks)
    partial, whole, bits = _look_into(blocks, open_row, open_column)
    row, column = open_row[whole], open_column[whole]
    full.append((row, column, column + 1))
    begin, end, full_row = (torch.cat([run[n] for run in full]) for n in (1, 2, 0))
    is_partial = partial >= 0
    return Found(full_row, begin, end, open_row[is_partial], open_column[is_partial], partial[is_partial], bits)


def _search(blocks: _Blocks) -> tuple[list[tuple[Tensor, Tensor, Tensor]], Tensor, Tensor]:
    """Returns full runs (row, begin, end), and row and column of blocks that bounds leave open."""
    batch, heads, rows, columns = blocks.grid
    count, limit = batch * heads * rows, _most(_RECTANGLES, blocks.device)
    width = 1
    while width * _WIDEST < columns:
        width *= _FAN
    across = -(-columns // width)
    full: list[tuple[Tensor, Tensor, Tensor]] = []
    open_: list[tuple[Tensor, Tensor]] = []
    step = max(1, limit // max(across, 1))
    # A stack, so that what lies deeper is done with before more of the first rectangles are made.
    stack: list[tuple[Tensor, Tensor, int]] = []
    for first in range(0, count, step):
        places = torch.arange(first * across, min(first + step, count) * across, device=blocks.device)
        stack.append((places // max(across, 1), places % max(across, 1) * width, width))
        while stack:
            row, begin, size = stack.pop()
            end = (begin + size).clamp(max=columns)
            truth = blocks.truth(row, begin, end)
            every = truth.every
            full.append((row[every], begin[every], end[every]))
            undecided = truth.some & ~every
            row, begin = row[undecided], begin[undecided]
            if size == 1:
                open_.append((row, begin))
            elif row.numel():
                stack += _cut(row, begin, size, columns, limit)
    empty = torch.zeros(0, dtype=torch.int64, device=blocks.device)
    row, column = (torch.cat([empty, *(pair[n] for pair in open_)]) for n in (0, 1))
    return [(empty, empty, empty), *full], row, column


def _cut(row: Tensor, begin: Tensor, size: int, columns: int, limit: int) -> list[tuple[Tensor, Tensor, int]]:
    """Rectangles cut into narrower ones, in batches."""
    narrow = size // _FAN
    batches = []
    for rows, begins in zip(row.split(limit // _FAN), begin.split(limit // _FAN), strict=True):
        cut = begins[:, None] + torch.arange(_FAN, device=row.device) * narrow
        inside = cut < columns
        batches.append((rows[:, None].expand_as(cut)[inside], cut[inside], narrow))
    return batches


def _look_into(blocks: _Blocks, row: Tensor, column: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Computes the entries of open blocks.

    Returns:
        For each block the row of the bits that it has, or -1 if it is empty or full after all; whether it is full; and
        the bits.
    """
    words = -(-blocks.block[1] // 32)
    none = torch.zeros(0, blocks.block[0], words, dtype=torch.int32, device=blocks.device)
    if not row.numel():
        return row, torch.zeros_like(row, dtype=torch.bool), none
    ids = distinct_columns(_signature(blocks, row, column))
    first = first_of(ids)
    kinds, bits = [], [none]
    chunk = max(1, _most(_ENTRIES, blocks.device) // (blocks.block[0] * blocks.block[1]))
    for place in first.split(chunk):
        kind, some_bits = _entries(blocks, row[place], column[place])
        kinds.append(kind)
        bits.append(some_bits)
    kind = torch.cat(kinds)
    is_partial = kind == 1
    number = torch.where(is_partial, is_partial.long().cumsum(0) - 1, -1)
    return number[ids], kind[ids] == 2, torch.cat(bits)


def _signature(blocks: _Blocks, row: Tensor, column: Tensor) -> list[Tensor]:
    """Columns of numbers that tell blocks with the same entries: what the pattern says, and how much there is of it."""
    corner = blocks.corners(row, column)
    rectangle = blocks.rectangles(row, column, column + 1)
    height, width = rectangle.q.hi - corner.q, rectangle.k.hi - corner.k
    return [height * (blocks.block[1] + 1) + width, *blocks.pattern._signature(corner, rectangle)]


def _entries(blocks: _Blocks, row: Tensor, column: Tensor) -> tuple[Tensor, Tensor]:
    """Returns for blocks 0 (empty), 1 (allowed in part) or 2 (full), and the bits of those allowed in part."""
    corner = blocks.corners(row, column)
    q = corner.q[:, None, None] + torch.arange(blocks.block[0], device=row.device)[:, None]
    k = corner.k[:, None, None] + torch.arange(blocks.block[1], device=row.device)
    inside_q, inside_k = q < blocks.lengths.queries, k < blocks.lengths.keys
    place = Place(
        corner.b[:, None, None], corner.h[:, None, None],
        q.clamp(max=blocks.lengths.queries - 1), k.clamp(max=blocks.lengths.keys - 1), blocks.lengths,
    )  # fmt: skip
    inside = inside_q & inside_k
    allowed = blocks.pattern._at(place) & inside
    some, every = allowed.flatten(1).any(1), (allowed | ~inside).flatten(1).all(1)
    kind = some.long() + (some & every).long()
    return kind, packed(allowed[kind == 1])
