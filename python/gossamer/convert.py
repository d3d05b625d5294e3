"""Between patterns and coordinates, and so between any two formats.

The nodes of a format are what its last sparse level stores: entries, or whole blocks where dense levels follow. A node
is known by its index in the row-major space of the levels up to that one (`node_index`). `build` makes the arrays of
any format from such indices; a conversion goes from one format to the other through them.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from gossamer.errors import TensorError
from gossamer.formats import Format, Level
from gossamer.pattern import Pattern, Storage

_INT32_MAX = 2**31 - 1


def kernel_storage(pattern: Pattern) -> Storage:
    """Returns the arrays of `Pattern.storage`."""
    batches = math.prod(pattern.level_sizes[: pattern.format.batch_rank])
    batched = pattern.format.batch_rank > 0
    result = []
    for l, level in enumerate(pattern.format.levels):
        positions, coordinates = pattern.positions(l), pattern.coordinates(l)
        if batched and positions is not None and coordinates is not None:
            positions = _joined_positions(positions, coordinates.shape[-1], batches, level.kind == "compressed")
        flat = (None if array is None else array.reshape(-1).contiguous() for array in (positions, coordinates))
        result.append(tuple(flat))
    return tuple(result)


def _joined_positions(positions: Tensor, nodes: int, batches: int, compressed: bool) -> Tensor:
    """Positions of all batches in one array: those of batch b are moved on by the nodes of the batches before it."""
    if batches * nodes > torch.iinfo(positions.dtype).max:
        positions = positions.long()
    start = torch.arange(batches, device=positions.device, dtype=positions.dtype)[:, None] * nodes
    moved = positions.reshape(batches, positions.shape[-1]) + start
    if not compressed:
        return moved
    # The end of one batch is the beginning of the next: keep it once.
    return torch.cat([moved[:, :-1].reshape(-1), moved.new_full((1,), batches * nodes)])


def used_nodes(pattern: Pattern) -> int:
    """Returns the number of nodes of the last sparse level, without unused slots of loose_compressed levels."""
    if any(level.kind == "loose_compressed" for level in pattern.format.levels):
        return int((node_index(pattern) >= 0).sum())
    return (
        math.prod(pattern.level_sizes[: pattern.format.outer]) if pattern.format.outer == 0 else _stored_nodes(pattern)
    )


def _stored_nodes(pattern: Pattern) -> int:
    array = pattern.coordinates(pattern.format.outer - 1)
    assert array is not None
    return array.numel()


def node_index(pattern: Pattern) -> Tensor:
    """Returns for every node its index in the row-major space of the outer levels: int64 [nodes], -1 if not in use."""
    return pattern.derived("node_index", lambda: _node_index(pattern))


def _node_index(pattern: Pattern) -> Tensor:
    outer = pattern.format.outer
    if pattern.device.type == "meta":
        raise TensorError("a pattern on the meta device has no coordinates to look at")
    if math.prod(pattern.level_sizes[:outer]) >= 2**63:
        raise TensorError(f"the shape {tuple(pattern.shape)} has more places than a 64-bit index can tell apart")
    index = torch.zeros(1, dtype=torch.int64, device=pattern.device)
    sizes = pattern.level_sizes
    for l, (positions, coordinates) in enumerate(pattern.storage()[:outer]):
        level = pattern.format.levels[l]
        if coordinates is None:
            index = _children(index, sizes[l], torch.arange(sizes[l], device=index.device))
        elif level.kind == "compressed":
            assert positions is not None
            parents = index.repeat_interleave(positions.diff(), output_size=coordinates.numel())
            index = _child(parents, sizes[l], coordinates)
        elif level.kind == "loose_compressed":
            assert positions is not None
            index = _loose_children(index, sizes[l], positions.view(-1, 2).long(), coordinates)
        elif level.kind == "singleton":
            index = _child(index, sizes[l], coordinates)
        else:
            index = _children(index, sizes[l], coordinates.view(-1, level.n))
    return index


def _child(parents: Tensor, size: int, coordinates: Tensor) -> Tensor:
    """The one child of each parent; an unused parent (-1) has an unused one."""
    return torch.where(parents < 0, -1, parents * size + coordinates)


def _children(parents: Tensor, size: int, coordinates: Tensor) -> Tensor:
    return _child(parents[:, None], size, coordinates).reshape(-1)


def _loose_children(parents: Tensor, size: int, bounds: Tensor, coordinates: Tensor) -> Tensor:
    counts = bounds[:, 1] - bounds[:, 0]
    before = counts.cumsum(0) - counts
    slot = torch.repeat_interleave(bounds[:, 0] - before, counts)
    slot = slot + torch.arange(slot.numel(), device=slot.device)
    index = torch.full((coordinates.numel(),), -1, dtype=torch.int64, device=slot.device)
    index[slot] = _child(parents.repeat_interleave(counts, output_size=slot.numel()), size, coordinates[slot])
    return index


def coordinates_of(pattern: Pattern) -> Tensor:
    """Returns the coordinates of `Pattern.coo`."""
    nodes = node_index(pattern)
    inner = torch.arange(pattern.inner_size, device=nodes.device)
    index = _children(nodes, pattern.inner_size, inner)
    dims = dims_of_levels(pattern.format.levels, unravel(index, pattern.level_sizes), len(pattern.shape))
    return torch.where(index < 0, -1, torch.stack(dims))


def unravel(index: Tensor, sizes: Sequence[int]) -> list[Tensor]:
    """Splits row-major indices into coordinates, one tensor for each size."""
    coordinates = []
    for size in reversed(sizes[1:]):
        coordinates.append(index % max(size, 1))
        index = index.div(max(size, 1), rounding_mode="floor")
    return [*([index] if sizes else []), *reversed(coordinates)]


def ravel(coordinates: Sequence[Tensor], sizes: Sequence[int], like: Tensor) -> Tensor:
    """Joins coordinates to row-major indices, the inverse of `unravel`; zeros shaped as `like` for no coordinates."""
    index = torch.zeros_like(like)
    for coordinate, size in zip(coordinates, sizes, strict=True):
        index = index * size + coordinate
    return index


def dims_of_levels(levels: Sequence[Level], coordinates: Sequence[Tensor], dim_rank: int) -> list[Tensor]:
    """Returns the dimension coordinates of level coordinates; a level that is left out counts as 0."""
    dims = [torch.zeros_like(coordinates[0])] * dim_rank
    for level, coordinate in zip(levels, coordinates, strict=False):
        scale = level.expr.block if level.expr.op == "floordiv" else 1
        dims[level.expr.dim] = dims[level.expr.dim] + coordinate * scale
    return dims


def levels_of_dims(levels: Sequence[Level], dims: Sequence[Tensor]) -> list[Tensor]:
    """Returns the level coordinates of dimension coordinates (none negative)."""
    operations = {"": lambda d, _: d, "floordiv": torch.Tensor.floor_divide, "mod": torch.Tensor.remainder}
    return [operations[level.expr.op](dims[level.expr.dim], level.expr.block) for level in levels]


def convert(pattern: Pattern, format: Format) -> tuple[Pattern, Tensor | None]:
    """Returns what `Pattern.converted` does, for a format that fits."""
    if format == pattern.kernel_format:
        positions, coordinates = zip(*pattern.storage(), strict=True)
        return Pattern(format, pattern.shape, positions, coordinates, check=False), None
    # Dense levels that both formats end with move as a whole: only what is before them is looked at.
    shared = _shared_suffix(pattern.format, format)
    old, new = pattern.format.levels[: pattern.format.lvl_rank - shared], format.levels[: format.lvl_rank - shared]
    old_sizes, new_sizes = pattern.level_sizes[: len(old)], format.level_sizes(pattern.shape)[: len(new)]
    shared_size = math.prod(pattern.level_sizes[len(old) :])

    inner = math.prod(old_sizes[pattern.format.outer :])
    index = _children(node_index(pattern), inner, torch.arange(inner, device=pattern.device))
    used = (index >= 0).nonzero()[:, 0] if used_nodes(pattern) * inner < index.numel() else None
    index = index if used is None else index[used]
    dims = dims_of_levels(old, unravel(index, old_sizes), format.dim_rank) if old else []
    target = ravel(levels_of_dims(new, dims), new_sizes, index) if old else index

    inner = math.prod(new_sizes[format.outer :])
    target, order = _sorted(target)
    nodes, node = torch.unique_consecutive(
        target.div(inner, rounding_mode="floor") if inner else target, return_inverse=True
    )
    if not _keeps_duplicates(format) and bool((target[1:] == target[:-1]).any()):
        raise TensorError(
            f"the pattern stores a coordinate more than once, and the format {format} cannot; "
            f"sum the duplicates first (coalesce() of a torch COO tensor)"
        )
    built, slot = build(format, pattern.shape, nodes, index_dtype=_index_dtype(pattern))
    place = (node if slot is None else slot[node]) * inner + (target % inner if inner else 0)
    source = order if used is None else (used if order is None else used[order])
    places = math.prod(built.values_shape[: len(built.values_shape) - shared])
    return built, _gather(places, place, source, shared_size)


def _keeps_duplicates(format: Format) -> bool:
    return format.outer > 0 and not format.levels[format.outer - 1].is_unique


def _shared_suffix(a: Format, b: Format) -> int:
    """Returns the number of equal dense levels that both formats have after their last sparse level."""
    most = min(a.lvl_rank - a.outer, b.lvl_rank - b.outer)
    pairs = zip(reversed(a.levels), reversed(b.levels), strict=False)
    return next((n for n, (x, y) in enumerate(pairs) if n == most or x != y), most)


def _sorted(index: Tensor) -> tuple[Tensor, Tensor | None]:
    """Returns the indices sorted, and the order that sorts them (None: they are sorted)."""
    if bool((index[1:] >= index[:-1]).all()):
        return index, None
    return index.sort(stable=True)


def _gather(size: int, place: Tensor, source: Tensor | None, inner: int) -> Tensor | None:
    """For each of `size` places the source that goes there (-1: none), for values in groups of `inner`."""
    steps = torch.arange(place.numel(), device=place.device)
    source = steps if source is None else source
    if size == place.numel() and torch.equal(place, steps) and torch.equal(source, steps):
        return None
    gather = torch.full((size,), -1, dtype=torch.int64, device=place.device)
    gather[place] = source
    return gather if inner == 1 else _children(gather, inner, torch.arange(inner, device=place.device))


def _index_dtype(pattern: Pattern) -> torch.dtype | None:
    """The width that a converted pattern should keep; None if the pattern has no index arrays."""
    widths = [array.dtype for array in pattern._arrays if array is not None]
    return torch.int64 if torch.int64 in widths else widths[0] if widths else None


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
        self.ordered = True  # `node` still increases with the item
        self.positions: list[Tensor | None] = [None] * format.lvl_rank
        self.coordinates: list[Tensor | None] = [None] * format.lvl_rank

    def add(self, l: int) -> None:
        """Stores level l."""
        level = self.format.levels[l]
        if level.kind == "singleton":
            return  # stored together with the compressed level before it
        self.space //= max(self.sizes[l], 1)
        coordinate = self.rest.div(max(self.space, 1), rounding_mode="floor")
        self.rest = self.rest - coordinate * self.space
        if not level.is_sparse:
            self.node = self.node * self.sizes[l] + coordinate
            self.count *= self.sizes[l]
        elif level.kind == "structured":
            self._structured(l, coordinate)
        else:
            self._compressed(l, coordinate)

    def _compressed(self, l: int, coordinate: Tensor) -> None:
        """A compressed or loose_compressed level, and the singletons that follow it."""
        chain = [l]
        while chain[-1] + 1 < self.format.outer and self.format.levels[chain[-1] + 1].kind == "singleton":
            chain.append(chain[-1] + 1)
            size = self.sizes[chain[-1]]
            self.space //= max(size, 1)
            below = self.rest.div(max(self.space, 1), rounding_mode="floor")
            self.rest = self.rest - below * self.space
            coordinate = coordinate * size + below
        parent = self.node
        if chain[-1] + 1 == self.format.outer and _keeps_duplicates(self.format):
            self.node = torch.arange(parent.numel(), device=parent.device)
        else:
            changed = (parent.diff() != 0) | (coordinate.diff() != 0)
            self.node = torch.cat([changed.new_zeros(parent.numel() and 1, dtype=torch.int64), changed.cumsum(0)])
            first = torch.cat([changed.new_ones(parent.numel() and 1), changed])
            parent, coordinate = parent[first], coordinate[first]
        arrays = unravel(coordinate, [self.sizes[c] for c in chain])
        counts = torch.zeros(self.count, dtype=torch.int64, device=parent.device)
        counts.scatter_add_(0, parent, torch.ones_like(parent))
        end = counts.cumsum(0)
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
        pattern = Pattern(dense, self.shape, positions, coordinates, check=False)
        if any(a.is_unique and b.kind == "singleton" for a, b in zip(dense.levels, dense.levels[1:], strict=False)):
            pattern.validate()  # one child for each node: not every pattern is like that
        if self.format.batch_rank:
            pattern = split_batches(pattern, self.format)
        in_order = not any(level.kind in ("loose_compressed", "structured") for level in dense.levels)
        return pattern, None if in_order and self.format.outer else self.node


def split_batches(pattern: Pattern, format: Format) -> Pattern:
    """Returns a pattern with dense leading levels in the format that has `batch` levels for some of them.

    Raises:
        TensorError: The batches do not store equally many nodes.
    """
    batch = pattern.level_sizes[: format.batch_rank]
    batches = math.prod(batch)
    positions, coordinates = [], []
    for l, (pos, crd) in enumerate(zip(pattern._positions, pattern._coordinates, strict=True)):
        if crd is not None and pos is not None:
            pos = _split_positions(pos, batch, format, l)
        positions.append(pos)
        nodes = crd.numel() // max(batches, 1) if crd is not None else 0
        coordinates.append(None if crd is None else crd.reshape(*batch, nodes))
    return Pattern(format, pattern.shape, positions, coordinates, check=False)


def _split_positions(positions: Tensor, batch: tuple[int, ...], format: Format, l: int) -> Tensor:
    batches = math.prod(batch)
    if format.levels[l].kind == "loose_compressed":
        # Every parent has the same room, so the batches have too.
        rows = positions.reshape(batches, positions.numel() // max(batches, 1))
        return (rows - rows[:, :1]).reshape(*batch, -1) if rows.numel() else rows.reshape(*batch, rows.shape[1])
    if batches == 0:
        return positions.new_zeros((*batch, 1))
    parents = (positions.numel() - 1) // batches
    begin, end = positions[:-1].reshape(batches, parents), positions[1:].reshape(batches, parents)
    bounds = positions[::parents] if parents else positions.new_zeros(batches + 1)
    counts = bounds.diff()
    if batches > 1 and bool((counts != counts[0]).any()):
        other = int((counts != counts[0]).nonzero()[0, 0])
        raise TensorError(
            f"batch levels store equally many nodes in every batch; batch 0 has {int(counts[0])} and batch {other} has "
            f"{int(counts[other])}: use dense leading levels, which may differ, as {format.without_batch()}"
        )
    rows = torch.cat([begin, end[:, -1:]], 1) if parents else positions.new_zeros(batches, 1)
    return (rows - bounds[:-1, None]).reshape(*batch, parents + 1)
