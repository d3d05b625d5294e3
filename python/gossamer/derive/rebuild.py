"""From entries, in any order, to a pattern that stores them."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from gossamer.build import build
from gossamer.coordinates import levels_of_dims, ravel
from gossamer.derive.gather import Gather, Moves, Run
from gossamer.errors import TensorError
from gossamer.formats import Format
from gossamer.pattern import Pattern


def rebuild(
    format: Format,
    shape: Sequence[int],
    coordinates: Sequence[Tensor],
    sources: Tensor,
    dtype: torch.dtype | None,
    device: torch.device,
) -> tuple[Pattern, Moves]:
    """Returns the pattern in `format` that stores the given entries, and where its values come from.

    Args:
        format: Of the rank of `shape`.
        shape: Of the tensor.
        coordinates: For each dimension those of all entries, int64; no two entries are the same.
        sources: For each entry where its value is among the old ones, int64.
        dtype: Of the indices; None takes int32 where that is enough.
        device: Of the result.
    """
    sizes = format.level_sizes(shape)
    if math.prod(sizes) >= 2**63:
        raise TensorError(f"the shape {tuple(shape)} has more places than a 64-bit index can tell apart")
    entries = ravel(levels_of_dims(format.levels, coordinates), sizes, sources)
    if not bool((entries[1:] > entries[:-1]).all()):
        entries, order = entries.sort(stable=True)
        sources = sources[order]
    inner = math.prod(sizes[format.outer :])
    nodes, node = entries, None
    if not format.outer:
        nodes, node = torch.zeros(1, dtype=torch.int64, device=device), torch.zeros_like(entries)
    elif inner != 1:
        places = entries.div(max(inner, 1), rounding_mode="floor")
        nodes, node = torch.unique_consecutive(places, return_inverse=True)
    pattern, slot = build(format, shape, nodes, index_dtype=dtype)
    if node is None and slot is None:
        return pattern, _moves(sources)
    place = torch.arange(nodes.numel(), device=nodes.device) if slot is None else slot
    place = (place if node is None else place[node]) * inner + entries % max(inner, 1)
    gather = torch.full((pattern.storage_size,), -1, dtype=torch.int64, device=sources.device)
    gather[place] = sources
    return pattern, Gather.of(gather)


def _moves(sources: Tensor) -> Moves:
    """Consecutive values are not gathered."""
    first, count = int(sources[0]) if sources.numel() else 0, sources.numel()
    if torch.equal(sources, torch.arange(first, first + count, device=sources.device)):
        return Run(first, count)
    return Gather(sources)


def entries_of(pattern: Pattern) -> tuple[list[Tensor], Tensor]:
    """Returns the coordinates of all stored entries, for each dimension, and where their values are."""
    coordinates = pattern.coo()
    sources = torch.arange(coordinates.shape[1], device=coordinates.device)
    used = coordinates[0] >= 0
    if not bool(used.all()):
        coordinates, sources = coordinates[:, used], sources[used]
    return list(coordinates), sources
