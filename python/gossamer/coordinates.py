"""Where the stored nodes of a pattern are.

The nodes of a format are what its last sparse level stores: entries, or whole blocks where dense levels follow. A node
is known by its index in the row-major space of the outer levels, those up to the last sparse one.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from gossamer.errors import TensorError
from gossamer.formats import Level
from gossamer.pattern import Pattern


def node_index(pattern: Pattern) -> Tensor:
    """Returns for every node its index in the row-major space of the outer levels: int64 [nodes], -1 if not in use."""
    return pattern.derived("node_index", lambda: _node_index(pattern))


def _node_index(pattern: Pattern) -> Tensor:
    outer = pattern.format.outer
    if pattern.device.type == "meta":
        raise TensorError("a pattern on the meta device has no coordinates to look at")
    if math.prod(pattern.level_sizes[:outer]) >= 2**63:
        raise TensorError(f"the shape {tuple(pattern.shape)} has more places than a 64-bit index can tell apart")
    if pattern.device.type == "cuda" and outer and all(type(a) is Tensor for a in pattern._arrays if a is not None):
        from gossamer.conversion.cuda.kernel import in_transform
        from gossamer.conversion.cuda.places import node_places

        if not in_transform():
            return node_places(pattern)
    index = torch.zeros(1, dtype=torch.int64, device=pattern.device)
    sizes = pattern.level_sizes
    for l, (positions, coordinates) in enumerate(pattern.storage()[:outer]):
        level = pattern.format.levels[l]
        if coordinates is None:
            index = children(index, sizes[l], torch.arange(sizes[l], device=index.device))
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
            index = children(index, sizes[l], coordinates.view(-1, level.n))
    return index


def _child(parents: Tensor, size: int, coordinates: Tensor) -> Tensor:
    """The one child of each parent; an unused parent (-1) has an unused one."""
    return torch.where(parents < 0, -1, parents * size + coordinates)


def children(parents: Tensor, size: int, coordinates: Tensor) -> Tensor:
    """Returns the indices of the children of every parent, at `coordinates` of a level of this size; -1 has only -1."""
    return _child(parents[:, None], size, coordinates).reshape(-1)


def _loose_children(parents: Tensor, size: int, bounds: Tensor, coordinates: Tensor) -> Tensor:
    counts = bounds[:, 1] - bounds[:, 0]
    before = counts.cumsum(0) - counts
    slot = torch.repeat_interleave(bounds[:, 0] - before, counts)
    slot = slot + torch.arange(slot.numel(), device=slot.device)
    index = torch.full((coordinates.numel(),), -1, dtype=torch.int64, device=slot.device)
    index[slot] = _child(parents.repeat_interleave(counts, output_size=slot.numel()), size, coordinates[slot])
    return index


def used_nodes(pattern: Pattern) -> int:
    """Returns the number of nodes of the last sparse level, without unused slots of loose_compressed levels."""
    if any(level.kind == "loose_compressed" for level in pattern.format.levels):
        return int((node_index(pattern) >= 0).sum())
    return math.prod(pattern.values_shape) // max(1, pattern.inner_size)


def coordinates_of(pattern: Pattern) -> Tensor:
    """Returns the coordinates of `Pattern.coo`."""
    nodes = node_index(pattern)
    inner = torch.arange(pattern.inner_size, device=nodes.device)
    index = children(nodes, pattern.inner_size, inner)
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
