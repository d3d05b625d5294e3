"""n of every m: of a row, of a row and a column at once, or with every pattern equally often."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, reduce
from itertools import combinations, product
from operator import add
from typing import Any

import torch
from torch import Tensor

from gossamer.errors import FormatError
from gossamer.formats import Format
from gossamer.sparsifiers.base import Choosing
from gossamer.sparsifiers.ranking import largest

_EXHAUSTIVE = 4  # the largest m whose tiles are tried out: there are 90 of 2:4, and 116 963 796 250 of 4:8
_TOGETHER = 1 << 16  # tiles


@dataclass(frozen=True)
class NOfM(Choosing):
    """See `n_of_m`.

    Attributes:
        n, m: n of every m.
    """

    n: int
    m: int

    def tile(self) -> tuple[int, int]:
        """Rows and columns that are chosen together."""
        return 1, self.m

    def check(self, format: Format, shape: Sequence[int]) -> None:
        rows, columns = self.tile()
        if len(shape) < (2 if rows > 1 else 1):
            raise FormatError(f"{self!r}: the tensor {tuple(shape)} has no rows and columns")
        for d, tile in ((-2, rows), (-1, columns)):
            if tile > 1 and shape[d] % tile:
                raise FormatError(
                    f"{self!r}: {tile} does not divide dimension {d} of the shape {tuple(shape)}; "
                    f"pad it from {shape[d]} to {-shape[d] // tile * -tile}"
                )

    def is_of(self, format: Format) -> bool:
        """Whether a format stores the same groups, and has room for what is kept of them."""
        last = format.levels[-1]
        return (
            last.kind == "structured" and last.n >= self.n and last.m == self.m and last.expr.dim == format.dim_rank - 1
        )

    def mask(self, dense: Tensor) -> Tensor:
        if not dense.numel():
            return torch.zeros(dense.shape, dtype=torch.bool, device=dense.device)
        rows, columns = self.tile()
        size = _magnitudes(dense)
        grid = size.reshape(-1, 1 if rows == 1 else size.shape[-2], size.shape[-1])
        tiles = grid.unflatten(-1, (-1, columns)).unflatten(1, (-1, rows)).transpose(-3, -2)
        kept = self.choose(tiles.reshape(-1, rows, columns)).view(tiles.shape)
        return kept.transpose(-3, -2).reshape(dense.shape)

    def choose(self, tiles: Tensor) -> Tensor:
        """Returns what is kept of tiles of magnitudes [tiles, rows, columns]: bool."""
        return largest(tiles, self.n)

    def count(self, shape: Sequence[int]) -> int | None:
        return math.prod(shape) // self.m * self.n

    def __repr__(self) -> str:
        return f"n_of_m({self.n}, {self.m})"


@dataclass(frozen=True, repr=False)
class Transposable(NOfM):
    """n of every m of the rows and of the columns of m x m tiles.

    Attributes:
        how: "best" or "greedy".
    """

    how: str

    def tile(self) -> tuple[int, int]:
        return self.m, self.m

    def choose(self, tiles: Tensor) -> Tensor:
        return self._greedy(tiles) if self.how == "greedy" else self._best(tiles)

    def _best(self, tiles: Tensor) -> Tensor:
        """The one of all with the largest sum; of equal ones the first. Sums are those of `conversion.cuda.tiles`."""
        marks, columns, rows = _tables(self.n, self.m, tiles.device)
        found = []
        for part in tiles.clamp(max=torch.finfo(tiles.dtype).max / self.m**2).split(_TOGETHER):  # sums stay finite
            sums = part[..., columns]  # [tiles, rows, groups, n]
            of_rows = sum_of([sums[..., k] for k in range(self.n)])
            found.append(sum_in_pairs([of_rows[:, r, rows[:, r]] for r in range(self.m)]).argmax(-1))
        return marks[rows[torch.cat(found)]]

    def _greedy(self, tiles: Tensor) -> Tensor:
        """The largest first, each where its row and its column have room."""
        flat = tiles.flatten(1)
        order = torch.sort(flat, dim=-1, descending=True, stable=True).indices
        kept = torch.zeros_like(flat, dtype=torch.bool)
        rows, columns = (torch.full((len(flat), self.m), self.n, device=flat.device) for _ in range(2))
        for step in range(self.m**2):
            at = order[:, step : step + 1]
            row, column = at // self.m, at % self.m
            fits = (rows.gather(1, row) > 0) & (columns.gather(1, column) > 0)
            kept.scatter_(1, at, fits)
            rows.scatter_add_(1, row, -fits.long())
            columns.scatter_add_(1, column, -fits.long())
        return kept.view(tiles.shape)

    def count(self, shape: Sequence[int]) -> int | None:
        return super().count(shape) if self.how == "best" else None

    def __repr__(self) -> str:
        return f"n_of_m({self.n}, {self.m}, {self.how!r}, transposable=True)"


@dataclass(frozen=True, repr=False)
class Grouped(NOfM):
    """n:m:g: of C(m, n) g groups below one another, g have each of the C(m, n) patterns.

    Attributes:
        g: How often a pattern occurs.
    """

    g: int

    def tile(self) -> tuple[int, int]:
        return math.comb(self.m, self.n) * self.g, self.m

    def choose(self, tiles: Tensor) -> Tensor:
        """Greedily: the group and the pattern with the largest sum first."""
        marks = _tables(self.n, self.m, tiles.device)[0]
        sums = (tiles[:, :, None] * marks.to(tiles.dtype)).nan_to_num(nan=0.0).sum(-1)  # [tiles, groups, patterns]
        free = torch.full((len(tiles), len(marks)), self.g, device=tiles.device)
        chosen = torch.zeros(tiles.shape[:2], dtype=torch.int64, device=tiles.device)
        at = torch.arange(len(tiles), device=tiles.device)
        for _ in range(tiles.shape[1]):
            place = sums.flatten(1).argmax(-1)
            group, pattern = place // len(marks), place % len(marks)
            chosen[at, group] = pattern
            sums[at, group] = -torch.inf
            free[at, pattern] -= 1
            sums.masked_fill_((free == 0)[:, None], -torch.inf)
        return marks[chosen]

    def __repr__(self) -> str:
        return f"n_of_m({self.n}, {self.m}, group={self.g})"


@cache
def groups_of(n: int, m: int) -> Tensor:
    """All groups of m with n marks: bool [C(m, n), m]."""
    marks = torch.zeros(math.comb(m, n), m, dtype=torch.bool)
    for row, places in enumerate(combinations(range(m), n)):
        marks[row, list(places)] = True
    return marks


@cache
def tiles_of(n: int, m: int) -> Tensor:
    """All m x m tiles with n marks in every row and every column: int64 [tiles, m], which of `groups_of` rows are."""
    marks = groups_of(n, m)
    rows = torch.tensor(list(product(range(len(marks)), repeat=m)))
    return rows[(marks[rows].sum(1) == n).all(-1)]


@cache
def _tables(n: int, m: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """All groups; the places of their marks, int64 [C(m, n), n]; all tiles, if there are not too many: on a device.

    They are copied once, as a copy waits for a GPU.
    """
    marks = groups_of(n, m)
    tiles = tiles_of(n, m) if m <= _EXHAUSTIVE else torch.empty(0, m, dtype=torch.int64)
    return marks.to(device), marks.nonzero()[:, 1].view(len(marks), n).to(device), tiles.to(device)


def sum_of(numbers: Sequence[Any]) -> Any:
    """The sum, from the left."""
    return reduce(add, numbers)


def sum_in_pairs(numbers: Sequence[Any]) -> Any:
    """The sum of up to four: that of the first two, and that of the others."""
    first, second = numbers[:2], numbers[2:]
    return sum_of(first) + sum_of(second) if second else sum_of(first)


def _magnitudes(dense: Tensor) -> Tensor:
    """Absolute values in float32 or float64; of a NaN infinity: it is kept, and should be seen."""
    size = dense.detach() if dense.dtype == torch.bool else dense.detach().abs()
    return size.to(torch.promote_types(size.dtype, torch.float32)).nan_to_num(nan=math.inf, posinf=math.inf)


def n_of_m(n: int, m: int, how: str = "best", *, transposable: bool = False, group: int | None = None) -> NOfM:
    """Returns a sparsifier that keeps n of every m consecutive entries of a row, the largest by absolute value.

    Args:
        n, m: 1 <= n <= m <= 255, m > 1.
        how: "best" or "greedy". Of single groups both are the n largest (equal ones: the first).
        transposable: Whether every m x m tile has n (greedily: at most n) kept entries in each row and in each column,
            so that the transpose is n:m, too (Hubara et al., 2021, "Accelerated sparse neural training"). The best tile
            is found by trying all, for m up to 4; "greedy" takes the largest entries first, as long as their row and
            column have room.
        group: g of the n:m:g layout (Ivanov et al., 2023, "STen"): of C(m, n) g groups below one another, each of the
            C(m, n) patterns is given to g, greedily by the sum that it keeps.

    Raises:
        FormatError: Numbers out of range, or options that exclude one another; in `gs.sparsify`: m (or the rows of a
            tile) does not divide the dimension.
    """
    who = f"n_of_m({n!r}, {m!r})"
    if any(isinstance(k, bool) or not isinstance(k, int) for k in (n, m)) or not (1 <= n <= m <= 255 and m > 1):
        raise FormatError(f"{who}: n of every m entries, with 1 <= n <= m and 2 <= m <= 255")
    if how not in ("best", "greedy"):
        raise FormatError(f'{who}: how is "best" or "greedy", not {how!r}')
    if group is not None:
        if transposable:
            raise FormatError(f"{who}: either transposable, or a group")
        if isinstance(group, bool) or not isinstance(group, int) or group < 1:
            raise FormatError(f"{who}: a group is a positive number of groups of each pattern, not {group!r}")
        return Grouped(n, m, group)
    if not transposable:
        return NOfM(n, m)
    if how == "best" and m > _EXHAUSTIVE:
        raise FormatError(
            f"{who}: the best transposable tile is found by trying all of them, for m up to {_EXHAUSTIVE}; "
            'use how="greedy"'
        )
    return Transposable(n, m, how)
