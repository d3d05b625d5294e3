"""From the places of its nodes to a pattern in any format."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from gossamer.batches import split_batches
from gossamer.coordinates import unravel
from gossamer.errors import TensorError
from gossamer.formats import Format
from gossamer.pattern import Pattern

_INT32_MAX = 2**31 - 1


def build(
    format: Format, shape: Sequence[int], nodes: Tensor, *, index_dtype: torch.dtype | None = None
) -> tuple[Pattern, Tensor | None]:
    """Makes a pattern from the places of its nodes.

    Args:
        format: The format, of the rank of `shape`.
        shape: Shape of the tensor.
        nodes: Indices in the row-major space of the outer levels, int64, sorted; equal ones only where the format
            allows duplicates.
        index_dtype: torch.int32 or torch.int64, widened where it is too small; None takes int32 where it is enough.

    Returns:
        The pattern, and for every node where it is stored, int64 (None: in the order given).

    Raises:
        TensorError: The format cannot hold these nodes.
    """
    builder = _Builder(format, tuple(shape), nodes)
    for l in range(format.outer):
        builder.add(l)
    return builder.pattern(index_dtype)


class _Builder:
    """Goes down the levels.

    `count` is the number of nodes of the level above, `node` the one that each item is under, and `rest` where an item
    lies in the space of the levels below, of size `space`.
    """

    def __init__(self, format: Format, shape: tuple[int, ...], nodes: Tensor):
        self.format, self.shape = format, shape
        self.sizes = format.level_sizes(shape)
        self.space = math.prod(self.sizes[: format.outer])
        self.count = 1
        self.node = torch.zeros_like(nodes)
        self.rest = nodes
        self.positions: list[Tensor | None] = [None] * format.lvl_rank
        self.coordinates: list[Tensor | None] = [None] * format.lvl_rank

    def add(self, l: int) -> None:
        """Stores level l."""
        level = self.format.levels[l]
        if level.kind == "singleton":
            return  # stored together with the compressed level before it
        coordinate = self._split_off(l)
        if not level.is_sparse:
            self.node = self.node * self.sizes[l] + coordinate
            self.count *= self.sizes[l]
        elif level.kind == "structured":
            self._structured(l, coordinate)
        else:
            self._compressed(l, coordinate)

    def _split_off(self, l: int) -> Tensor:
        """Returns the coordinates at level l; `rest` is then in the space below it."""
        self.space //= max(self.sizes[l], 1)
        coordinate = self.rest.div(max(self.space, 1), rounding_mode="floor")
        self.rest = self.rest - coordinate * self.space
        return coordinate

    def _compressed(self, l: int, coordinate: Tensor) -> None:
        """A compressed or loose_compressed level, and the singletons that follow it."""
        chain = [l]
        while chain[-1] + 1 < self.format.outer and self.format.levels[chain[-1] + 1].kind == "singleton":
            chain.append(chain[-1] + 1)
            coordinate = coordinate * self.sizes[chain[-1]] + self._split_off(chain[-1])
        parent = self.node
        if chain[-1] + 1 == self.format.outer:  # the nodes themselves
            self.node = torch.arange(parent.numel(), device=parent.device)
        else:
            changed = (parent.diff() != 0) | (coordinate.diff() != 0)
            first = torch.cat([changed.new_ones(min(parent.numel(), 1)), changed])
            self.node = first.cumsum(0) - 1
            parent, coordinate = parent[first], coordinate[first]
        arrays = unravel(coordinate, [self.sizes[c] for c in chain])
        counts, end = _counted(parent, self.count)
        if self.format.levels[l].kind == "compressed":
            self.positions[l] = torch.cat([end.new_zeros(1), end])
            self.count = parent.numel()
        else:
            slot = self._loose(l, parent, counts, end)
            spread = [array.new_zeros(self.count).scatter(0, slot, array) for array in arrays]
            arrays, self.node = spread, slot[self.node]
        for c, array in zip(chain, arrays, strict=True):
            self.coordinates[c] = array

    def _loose(self, l: int, parent: Tensor, counts: Tensor, end: Tensor) -> Tensor:
        """Gives every parent the same room; returns the slots of the nodes."""
        width = int(counts.max()) if counts.numel() else 0
        begin = torch.arange(counts.numel(), device=counts.device) * width
        self.positions[l] = torch.stack([begin, begin + counts], 1).reshape(-1)
        self.count *= width
        rank = torch.arange(parent.numel(), device=parent.device) - (end - counts)[parent]
        return begin[parent] + rank

    def _structured(self, l: int, coordinate: Tensor) -> None:
        """n of every m: groups with less are filled up with the first coordinates that are free."""
        level = self.format.levels[l]
        stored = torch.zeros(self.count, level.m, dtype=torch.int64, device=coordinate.device)
        stored[self.node, coordinate] = 1
        counts = stored.sum(1)
        if bool((counts > level.n).any()):
            group = int((counts > level.n).nonzero()[0, 0])
            at = [int(c) for c in unravel(torch.tensor(group), self.sizes[:l])]
            raise TensorError(
                f"{int(counts[group])} of {level.m} entries are stored in group {at} of {self.format}, which holds "
                f"{level.n}; prune first, with sparsify(..., by=gs.magnitude({level.n}/{level.m}))"
            )
        free = (1 - stored).cumsum(1) - (1 - stored)
        taken = (stored == 1) | (free < (level.n - counts)[:, None])
        self.coordinates[l] = taken.nonzero()[:, 1]
        self.node = self.node * level.n + (taken.cumsum(1) - 1)[self.node, coordinate]
        self.count *= level.n

    def pattern(self, index_dtype: torch.dtype | None) -> tuple[Pattern, Tensor | None]:
        """Returns the pattern, and where each item is stored (None: in order)."""
        arrays = [array for array in (*self.positions, *self.coordinates) if array is not None]
        largest = max([self.count, *self.sizes, *(array.numel() for array in arrays)])
        dtype = torch.int32 if largest <= _INT32_MAX and index_dtype != torch.int64 else torch.int64
        positions = [None if array is None else array.to(dtype) for array in self.positions]
        coordinates = [None if array is None else array.to(dtype) for array in self.coordinates]
        dense = self.format.without_batch()
        pattern = Pattern(dense, self.shape, positions, coordinates, device=self.node.device, check=False)
        if any(a.is_unique and b.kind == "singleton" for a, b in zip(dense.levels, dense.levels[1:], strict=False)):
            pattern.validate()  # one child for each node: not every pattern is like that
        if self.format.batch_rank:
            pattern = split_batches(pattern, self.format)
        in_order = not any(level.kind in ("loose_compressed", "structured") for level in dense.levels)
        return pattern, None if in_order and self.format.outer else self.node


def _counted(parent: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Returns how many items each of `count` parents has, and how many it and those before it have.

    Args:
        parent: Of every item, int64, sorted.
        count: How many parents there are.
    """
    if parent.is_cuda:  # where adding to few numbers from many threads takes long
        ends = torch.searchsorted(parent, torch.arange(count, device=parent.device), right=True)
        return ends.diff(prepend=ends.new_zeros(1)), ends
    counts = torch.zeros(count, dtype=torch.int64, device=parent.device)
    counts.scatter_add_(0, parent, torch.ones_like(parent))
    return counts, counts.cumsum(0)
