"""Checks of index arrays: on whole arrays, with the place of the first mistake found only once there is one."""

import math

import torch
from torch import Tensor

from gossamer.errors import TensorError
from gossamer.formats import Level
from gossamer.pattern import Pattern

_INDEX_DTYPES = (torch.int32, torch.int64)


def validate(pattern: Pattern) -> None:
    """Does what `Pattern.validate` says."""
    _check_kinds(pattern)
    batch = pattern.level_sizes[: pattern.format.batch_rank]
    parents = 1  # of each batch, at the level above
    for l, level in enumerate(pattern.format.levels):
        positions, coordinates = pattern.positions(l), pattern.coordinates(l)
        where = f"level {l} of {pattern.format} ({level.kind})"
        if not level.is_sparse:
            parents *= pattern.level_sizes[l] if level.kind == "dense" else 1
            continue
        assert coordinates is not None
        wanted = {"compressed": parents + 1, "loose_compressed": 2 * parents}.get(level.kind)
        if positions is not None and wanted is not None:
            _check_shape(where, "positions", positions, (*batch, wanted), pattern)
        nodes = {"singleton": parents, "structured": parents * level.n}.get(level.kind, coordinates.shape[-1])
        _check_shape(where, "coordinates", coordinates, (*batch, nodes), pattern)
        if positions is not None and positions.device.type != "meta":
            _check_positions(where, level, positions, nodes)
        parents = nodes
    if pattern.device.type != "meta":
        _check_coordinates(pattern)


def _check_kinds(pattern: Pattern) -> None:
    """Which arrays there are, their types and devices."""
    format = pattern.format
    for name, arrays in (("positions", pattern._positions), ("coordinates", pattern._coordinates)):
        if len(arrays) != format.lvl_rank:
            raise TensorError(
                f"{len(arrays)} {name} for {format}: give one entry a level, {format.lvl_rank}, None where it has none"
            )
        dtypes = set()
        for l, (level, array) in enumerate(zip(format.levels, arrays, strict=True)):
            needed = level.has_positions if name == "positions" else level.is_sparse
            where = f"level {l} of {format} ({level.kind}): {name}"
            if not needed and array is not None:
                raise TensorError(f"{where}: the level has none, give None")
            if needed and not isinstance(array, Tensor):
                raise TensorError(f"{where}: must be a tensor of int32 or int64, not {type(array).__name__}")
            if array is None:
                continue
            if array.dtype not in _INDEX_DTYPES:
                raise TensorError(f"{where}: have dtype {array.dtype}; indices are torch.int32 or torch.int64")
            if array.device != pattern.device:
                raise TensorError(
                    f"{where}: are on {array.device}, others on {pattern.device}; all index arrays share a device"
                )
            if array.dim() == 0:
                raise TensorError(f"{where}: must be one-dimensional, not a scalar")
            dtypes.add(array.dtype)
        if len(dtypes) > 1:
            raise TensorError(
                f"the {name} of {format} are of different dtypes: one width for all levels, int32 or int64"
            )


def _check_shape(where: str, name: str, array: Tensor, wanted: tuple[int, ...], pattern: Pattern) -> None:
    if tuple(array.shape) != wanted:
        raise TensorError(
            f"{where}: {name} have shape {tuple(array.shape)}; a tensor of shape {tuple(pattern.shape)} needs {wanted}"
        )


def _first(mask: Tensor) -> tuple[int, ...]:
    return tuple(int(i) for i in mask.nonzero()[0])


def _at(index: tuple[int, ...], offset: int = 0) -> str:
    """The place as a subscript, such as [3] or [0, 3], moved on by `offset` in the last dimension."""
    return str([*index[:-1], index[-1] + offset])


def _check_positions(where: str, level: Level, positions: Tensor, nodes: int) -> None:
    if level.kind == "loose_compressed":
        return _check_bounds(where, positions, nodes)
    if positions.shape.numel() == 0:
        return None
    if bool((positions[..., 0] != 0).any()):
        raise TensorError(f"{where}: positions start at {int(positions[..., 0].max())}, not 0")
    decreasing = positions.diff() < 0
    if bool(decreasing.any()):
        at = _first(decreasing)
        before, after = int(positions[at]), int(positions[..., 1:][at])
        raise TensorError(f"{where}: positions decrease, from {before} to {after} at {_at(at, 1)}")
    wrong = positions[..., -1] != nodes
    if bool(wrong.any()):
        end = int(positions[..., -1][wrong][0])
        what = (
            f"overrun the {nodes} coordinates"
            if end > nodes
            else f"leave {nodes - end} of the {nodes} coordinates unused"
        )
        raise TensorError(f"{where}: positions end at {end} and {what}; they must end at {nodes}")
    return None


def _check_bounds(where: str, positions: Tensor, nodes: int) -> None:
    """(begin, end) pairs: inside the slots, and no slot twice."""
    pairs = positions.unflatten(-1, (positions.shape[-1] // 2, 2))
    begin, end = pairs[..., 0], pairs[..., 1]
    if bool((wrong := end < begin).any()):
        at = _first(wrong)
        raise TensorError(f"{where}: positions decrease, the pair {_at(at)} is ({int(begin[at])}, {int(end[at])})")
    if bool((wrong := (begin < 0) | (end > nodes)).any()):
        at = _first(wrong)
        raise TensorError(
            f"{where}: the pair {_at(at)}, ({int(begin[at])}, {int(end[at])}), overruns the {nodes} coordinates"
        )
    order = begin.masked_fill(begin == end, nodes).sort(-1).indices
    begin, end = begin.gather(-1, order), end.gather(-1, order)
    if bool(((end[..., :-1] > begin[..., 1:]) & (end > begin)[..., 1:]).any()):
        raise TensorError(f"{where}: two (begin, end) pairs of the positions overlap")


def _check_coordinates(pattern: Pattern) -> None:
    """Range, order and uniqueness, on the flat arrays."""
    sizes = pattern.level_sizes
    parent = None  # of each node, and whether it is in use
    same = used = None
    count = 1
    for l, (positions, coordinates) in enumerate(pattern.storage()):
        level = pattern.format.levels[l]
        where = f"level {l} of {pattern.format} ({level.kind})"
        if coordinates is None:
            count *= sizes[l]
            used = None if used is None else used.repeat_interleave(sizes[l])
            continue
        if level.kind == "compressed":
            assert positions is not None
            parent = torch.arange(count, device=coordinates.device).repeat_interleave(
                positions.diff(), output_size=coordinates.numel()
            )
            used = None if used is None else used[parent]
        elif level.kind == "loose_compressed":
            assert positions is not None
            parent = _loose_parents(positions, coordinates.numel())
            used = parent >= 0
        elif level.kind == "structured":
            parent = torch.arange(count, device=coordinates.device).repeat_interleave(level.n)
        _check_range(where, coordinates, sizes[l], used)
        if level.kind == "singleton":
            assert same is not None
        else:
            assert parent is not None
            same = parent[1:] == parent[:-1]
            if used is not None:
                same &= used[1:] & used[:-1]
        same = _check_order(where, level, coordinates, same)
        count = coordinates.numel()
    _check_unordered(pattern)


def _loose_parents(positions: Tensor, nodes: int) -> Tensor:
    """The parent of every slot; -1 where none uses it."""
    bounds = positions.view(-1, 2).long()
    counts = bounds[:, 1] - bounds[:, 0]
    parent = torch.arange(counts.numel(), device=counts.device).repeat_interleave(counts)
    slot = torch.repeat_interleave(bounds[:, 0] - (counts.cumsum(0) - counts), counts)
    slot = slot + torch.arange(slot.numel(), device=slot.device)
    return torch.full((nodes,), -1, device=counts.device).scatter(0, slot, parent)


def _check_range(where: str, coordinates: Tensor, size: int, used: Tensor | None) -> None:
    if size - 1 > torch.iinfo(coordinates.dtype).max:
        raise TensorError(
            f"{where}: coordinates are {coordinates.dtype}, and the level has size {size}: use int64 ones"
        )
    wrong = (coordinates < 0) | (coordinates > size - 1)  # the size itself may not fit the dtype
    wrong = wrong if used is None else wrong & used
    if bool(wrong.any()):
        at = _first(wrong)
        raise TensorError(
            f"{where}: coordinate {int(coordinates[at])} at {_at(at)} is out of range, the level has size {size}"
        )


def _check_order(where: str, level: Level, coordinates: Tensor, same: Tensor) -> Tensor:
    """Checks neighbours that share a parent (`same`); returns which of them are the same node still."""
    step = coordinates.diff()
    if level.is_ordered and bool((wrong := (step < 0) & same).any()):
        at = _first(wrong)
        raise TensorError(
            f"{where}: coordinates are unsorted, {int(coordinates[at])} is before {int(coordinates[at[0] + 1])} at "
            f"{_at(at, 1)}; sort them, or use a nonordered level"
        )
    if level.is_unique and bool((wrong := (step == 0) & same).any()):
        at = _first(wrong)
        raise TensorError(
            f"{where}: duplicate coordinate {int(coordinates[at])} at {_at(at, 1)}; "
            f"sum the duplicates, or use a nonunique level"
        )
    return same & (step == 0) if level.is_ordered else torch.zeros_like(same)


def _check_unordered(pattern: Pattern) -> None:
    """Duplicates that are not neighbours: possible where a level is not ordered."""
    if all(level.is_ordered for level in pattern.format.levels) or pattern.format.allows_duplicates:
        return
    from gossamer.coordinates import node_index, unravel

    index = node_index(pattern)
    index = index[index >= 0].sort().values
    if bool((same := index.diff() == 0).any()):
        sizes = pattern.level_sizes[: pattern.format.outer]
        at = [int(c) for c in unravel(index[_first(same)], sizes)]
        raise TensorError(f"the level coordinates {at} are stored twice, and {pattern.format} forbids duplicates")


def check_values(pattern: Pattern, values: Tensor) -> None:
    """Checks that the values are those of a pattern.

    Raises:
        TensorError: They are of another shape, or on another device.
    """
    if not isinstance(values, Tensor):
        raise TensorError(f"values must be a torch.Tensor, not {type(values).__name__}")
    if values.shape != pattern.values_shape:
        same = " (as many: reshape them)" if values.numel() == math.prod(pattern.values_shape) else ""
        raise TensorError(
            f"values have shape {tuple(values.shape)}; {pattern!r} stores {tuple(pattern.values_shape)}{same}"
        )
    if values.device != pattern.device:
        raise TensorError(f"values are on {values.device} and the pattern on {pattern.device}: move one of them")
