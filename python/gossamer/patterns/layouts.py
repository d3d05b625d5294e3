"""Patterns given by a table of blocks: as the layouts of DeepSpeed's sparse attention."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gossamer.errors import TensorError
from gossamer.patterns.base import Lengths, Place, PositionPattern, count_of
from gossamer.patterns.blocked import signature_of_blocks
from gossamer.patterns.interval import Interval, Truth, as_tensor
from gossamer.patterns.tables import Table


@dataclass(frozen=True)
class Layout(PositionPattern):
    """See `from_layout`.

    Attributes:
        table: 1 and 0, flat.
        sizes: [1 or heads, blocks of queries, blocks of keys].
    """

    table: Table
    sizes: tuple[int, int, int]
    block: tuple[int, int]

    @property
    def by_head(self) -> bool:
        return self.sizes[0] > 1

    @property
    def own_heads(self) -> int | None:
        return self.sizes[0] if self.by_head else None

    @property
    def _extent(self) -> tuple[int | None, int | None]:
        return self.sizes[1] * self.block[0], self.sizes[2] * self.block[1]

    @property
    def _extent_reason(self) -> str:
        return f"a layout of {self.sizes[1]} x {self.sizes[2]} blocks of {self.block[0]} x {self.block[1]}"

    def _check_lengths(self, lengths: Lengths, batch: int, heads: int) -> None:
        """The last block of a length may be shorter."""
        rows, columns = (-(-n // b) for n, b in zip((lengths.queries, lengths.keys), self.block, strict=True))
        if (rows, columns) != self.sizes[1:]:
            raise TensorError(
                f"{self._extent_reason} is not made for {lengths.queries} queries and {lengths.keys} keys, which are "
                f"{rows} x {columns} blocks"
            )
        if self.own_heads not in (None, heads):
            raise TensorError(f"{self._extent_reason} is made for {self.own_heads} heads, not for {heads}")

    def _allowed(self, at: Place) -> Any:
        return self._at_block(at.h, at.q // self.block[0], at.k // self.block[1])

    def _at_block(self, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
        """Whether blocks are allowed; of those beyond the table whatever is nearest."""
        _, rows, columns = self.sizes
        place = i.clamp(0, rows - 1) * columns + j.clamp(0, columns - 1)
        return self.table.on(i.device)[place + h * (rows * columns) if self.by_head else place] == 1

    def _truth(self, at: Place) -> Truth:
        """Exact: a rectangle's blocks are counted by the sums at its corners."""
        _, rows, columns = self.sizes
        i, j = at.q // self.block[0], at.k // self.block[1]
        i_lo, j_lo = as_tensor(i.lo), as_tensor(j.lo)
        i_hi, j_hi = as_tensor(i.hi) + 1, as_tensor(j.hi) + 1
        sums = self._sums(i_lo.device).reshape(-1)
        base = Interval.of(at.h).lo * (rows + 1) if self.by_head else 0
        top, bottom = (base + i_lo) * (columns + 1), (base + i_hi) * (columns + 1)
        count = sums[bottom + j_hi] - sums[bottom + j_lo] - sums[top + j_hi] + sums[top + j_lo]
        return Truth(count > 0, count == (i_hi - i_lo) * (j_hi - j_lo))

    def _signature(self, corner: Place, rectangle: Place) -> list[Tensor]:
        columns = signature_of_blocks(rectangle, self.block, lambda i, j: self._at_block(corner.h, i, j))
        return super()._signature(corner, rectangle) if columns is None else columns

    def _sums(self, device: torch.device) -> Tensor:
        """How many blocks above and left of each corner are allowed: [heads, rows + 1, columns + 1]."""

        def compute() -> Tensor:
            counts = self.table.on(device).reshape(self.sizes).cumsum(1).cumsum(2)
            return torch.nn.functional.pad(counts, (1, 0, 1, 0))

        return self.table.derived(("sums", self.sizes, device), compute)

    def __repr__(self) -> str:
        return f"from_layout({self.table}, {self.block})"


def from_layout(layout: Tensor, block: int | tuple[int, int]) -> PositionPattern:
    """Whole blocks, from a table that has an entry for each.

    Args:
        layout: bool, or integers of 0 and 1: [blocks of queries, blocks of keys], or with a dimension of heads before.
        block: Rows and columns of a block, or one number for both.

    Raises:
        TensorError: Other entries, another number of dimensions, or a block below 1.
    """
    who = "from_layout"
    rows, columns = (block, block) if isinstance(block, int) else block
    size = count_of(rows, who, "a block"), count_of(columns, who, "a block")
    if not isinstance(layout, Tensor) or layout.dim() not in (2, 3) or not layout.numel():
        given = f"of shape {list(layout.shape)}" if isinstance(layout, Tensor) else f"a {type(layout).__name__}"
        raise TensorError(f"{who}: a layout is a tensor [MB, NB] or [heads, MB, NB], not {given}")
    if layout.dtype != torch.bool and bool(((layout != 0) & (layout != 1)).any()):
        at = ((layout != 0) & (layout != 1)).nonzero()[0].tolist()
        raise TensorError(f"{who}: a layout has entries of 0 and 1, and at {at} {layout[tuple(at)].item()}")
    layout = layout.reshape(-1, *layout.shape[-2:])
    return Layout(Table(layout.reshape(-1)), (layout.shape[0], layout.shape[1], layout.shape[2]), size)
