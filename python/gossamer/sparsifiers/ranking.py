"""An exact number of nodes: those with the largest scores of a tensor, of every row, or of every tile."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gossamer.errors import FormatError
from gossamer.formats import BSR, Format, block_size
from gossamer.sparsifiers.base import Choosing, Ranking
from gossamer.tensor import dims_of_level_view, level_view

Per = str | tuple[int, int]


@dataclass(frozen=True)
class Largest(Ranking):
    """Keeps a fraction of the nodes, those with the largest scores; of equal ones the first.

    Attributes:
        density: The fraction, in [0, 1].
        per: Of what: "tensor" (with `batch` levels, of each batch), "row", or tiles of (rows, columns) entries.
    """

    density: float
    per: Per = "tensor"

    @property
    @abstractmethod
    def name(self) -> str:
        """How it is called."""

    @abstractmethod
    def scores(self, levels: Tensor, format: Format) -> Tensor:
        """Returns a number for each node: of the sizes of the outer levels."""

    def keep(self, levels: Tensor, format: Format) -> Tensor:
        scores = self.scores(levels.detach(), format)
        last = format.levels[format.outer - 1]
        if last.kind == "structured":
            return largest(scores, last.n)
        if self.per == "tensor":
            batch = format.batch_rank
            rows = scores.reshape(*scores.shape[:batch], math.prod(scores.shape[batch:]))
            return largest(rows, round(self.density * rows.shape[-1])).reshape(scores.shape)
        grid = grid_of_nodes(scores, format)
        if self.per == "row":
            return nodes_of_grid(largest(grid, round(self.density * grid.shape[-1])), format, scores.shape)
        rows, columns = self._tile(format)
        tiles = grid.unflatten(-1, (-1, columns)).unflatten(-3, (-1, rows)).transpose(-3, -2)
        kept = largest(tiles.flatten(-2), round(self.density * rows * columns))
        kept = kept.unflatten(-1, (rows, columns)).transpose(-3, -2).reshape(grid.shape)
        return nodes_of_grid(kept, format, scores.shape)

    def count(self, format: Format, sizes: Sequence[int]) -> int:
        last = format.levels[format.outer - 1]
        if last.kind == "structured":
            return math.prod(sizes[: format.outer - 1]) * last.n
        nodes = math.prod(sizes[: format.outer])
        if self.per == "tensor":
            each = math.prod(sizes[format.batch_rank : format.outer])
        elif self.per == "row":
            each = _columns(format, sizes)
        else:
            each = math.prod(self._tile(format))
        return nodes // each * round(self.density * each) if each else 0

    def check(self, format: Format, shape: Sequence[int]) -> None:
        last = format.levels[format.outer - 1] if format.outer else None
        if last is not None and last.kind == "structured":
            if not math.isclose(self.density, last.n / last.m, rel_tol=1e-6):
                raise FormatError(
                    f"{format} keeps {last.n} of every {last.m} entries: use {self.name}({last.n / last.m:g}), "
                    f"not {self!r}"
                )
        elif self.per == "row" and format.dim_rank < 2:
            raise FormatError(f"{self!r}: a tensor of {format.dim_rank} dimension has no rows")
        elif not isinstance(self.per, str):
            if format.dim_rank < 2:
                raise FormatError(f"{self!r}: a tensor of {format.dim_rank} dimension has no tiles")
            self._tile(format)
            for size, tile, what in zip(shape[-2:], self.per, ("rows", "columns"), strict=True):
                if size % tile:
                    raise FormatError(f"{self!r}: tiles of {tile} {what} do not divide the {size} of {tuple(shape)}")

    def _tile(self, format: Format) -> tuple[int, int]:
        """Nodes of a tile."""
        assert not isinstance(self.per, str)
        found = []
        for d, tile in zip((format.dim_rank - 2, format.dim_rank - 1), self.per, strict=True):
            inner = [level.expr for level in format.levels[format.outer :] if level.expr.dim == d]
            size = math.prod(expr.block for expr in inner)
            if tile % size or any(not expr.op for expr in inner):
                raise FormatError(f"{self!r}: tiles of {self.per} entries do not hold whole nodes of {format}")
            found.append(tile // size)
        return found[0], found[1]

    def __repr__(self) -> str:
        return f"{self.name}({', '.join([f'{self.density:g}', *self._options()])})"

    def _options(self) -> list[str]:
        return [] if self.per == "tensor" else [f"per={self.per!r}"]


@dataclass(frozen=True)
class InBlocks(Choosing):
    """Keeps the entries of the blocks that a ranking of blocks keeps, whatever the format.

    Attributes:
        ranking: The ranking.
        block: Rows and columns of a block.
    """

    ranking: Largest
    block: tuple[int, int]

    def check(self, format: Format, shape: Sequence[int]) -> None:
        blocks = BSR(self.block).for_rank(len(shape))
        blocks.level_sizes(shape)
        self.ranking.check(blocks, shape)

    def mask(self, dense: Tensor) -> Tensor:
        format = BSR(self.block).for_rank(dense.dim())
        levels = level_view(dense, format)
        kept = self.ranking.keep(levels, format)
        kept = kept.reshape(*kept.shape, *[1] * (levels.dim() - kept.dim())).expand(levels.shape)
        return dims_of_level_view(kept, format, dense.shape)

    def count(self, shape: Sequence[int]) -> int:
        format = BSR(self.block).for_rank(len(shape))
        return self.ranking.count(format, format.level_sizes(shape)) * math.prod(self.block)

    def __repr__(self) -> str:
        return f"{repr(self.ranking)[:-1]}, block={self.block})"


def in_blocks(ranking: Largest, block: int | Sequence[int] | None, who: str) -> Largest | InBlocks:
    """Returns a ranking of the blocks of a size; None: of the nodes of the format.

    Raises:
        FormatError: The size is none.
    """
    return ranking if block is None else InBlocks(ranking, block_size(block, who))


def per_of(per: str | Sequence[int], who: str) -> Per:
    """Returns what `Largest.per` is.

    Raises:
        FormatError: It is none of "tensor", "row" and (rows, columns).
    """
    if per in ("tensor", "row"):
        assert isinstance(per, str)
        return per
    if isinstance(per, str):
        raise FormatError(f'{who}: per is "tensor", "row", or a tile (rows, columns), not {per!r}')
    return block_size(per, f"{who}: per=")


def largest(rows: Tensor, count: int) -> Tensor:
    """Marks the `count` largest of the last dimension; of equal ones the first. A NaN is larger than all numbers."""
    if count == 0 or rows.numel() == 0:
        return torch.zeros(rows.shape, dtype=torch.bool, device=rows.device)
    if rows.is_floating_point():
        rows = rows.nan_to_num(nan=math.inf, posinf=math.inf)  # a NaN is kept: it should be seen
    if rows.shape[-1] <= _FEW:
        return _largest_of_few(rows, count)
    if rows.is_cuda:  # where kthvalue has one block of threads for a row, however long
        least = rows.topk(count, -1, sorted=False).values.amin(-1, keepdim=True)
    else:
        least = rows.kthvalue(rows.shape[-1] - count + 1, dim=-1, keepdim=True).values
    larger, equal = rows > least, rows == least
    return larger | (equal & (equal.cumsum(-1) <= count - larger.sum(-1, keepdim=True)))


_FEW = 8  # that are compared with one another, all rows at once


def _largest_of_few(rows: Tensor, count: int) -> Tensor:
    places = rows.movedim(-1, 0).contiguous()
    kept = torch.empty(places.shape, dtype=torch.bool, device=rows.device)
    for j, own in enumerate(places):
        ahead = torch.zeros(own.shape, dtype=torch.uint8, device=rows.device)
        for i, other in enumerate(places):
            if i != j:
                ahead += other >= own if i < j else other > own
        torch.lt(ahead, count, out=kept[j])
    return kept.movedim(0, -1)


def grid_of_nodes(nodes: Tensor, format: Format) -> Tensor:
    """Returns what is of the sizes of the outer levels by dimensions; a dimension of whole nodes has size 1."""
    order = _order(format)
    sizes = [math.prod(nodes.shape[l] for l in order if format.levels[l].expr.dim == d) for d in range(format.dim_rank)]
    return nodes.permute(order).reshape(sizes)


def nodes_of_grid(grid: Tensor, format: Format, sizes: Sequence[int]) -> Tensor:
    """Returns the tensor of these sizes of which `grid` is the `grid_of_nodes`."""
    order = _order(format)
    back = sorted(range(len(order)), key=order.__getitem__)
    return grid.reshape([sizes[l] for l in order]).permute(back)


def _order(format: Format) -> list[int]:
    """The outer levels, by dimension; quotients before remainders."""
    exprs = [level.expr for level in format.levels[: format.outer]]
    return sorted(range(format.outer), key=lambda l: (exprs[l].dim, exprs[l].op == "mod"))


def _columns(format: Format, sizes: Sequence[int]) -> int:
    """Nodes of a row."""
    last = format.dim_rank - 1
    return math.prod(sizes[l] for l in range(format.outer) if format.levels[l].expr.dim == last)
