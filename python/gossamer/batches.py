"""Batch levels, as torch has them (an array for each batch), from and to dense levels (one array for all)."""

import math

import torch
from torch import Tensor

from gossamer.errors import TensorError
from gossamer.formats import Format
from gossamer.pattern import Pattern, Storage


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
        raise TensorError(f"{batches} batches of {nodes} nodes need positions of torch.int64, not {positions.dtype}")
    start = torch.arange(batches, device=positions.device, dtype=positions.dtype)[:, None] * nodes
    moved = positions.reshape(batches, positions.shape[-1]) + start
    if not compressed:
        return moved
    # The end of one batch is the beginning of the next: keep it once.
    return torch.cat([moved[:, :-1].reshape(-1), moved.new_full((1,), batches * nodes)])


def split_batches(pattern: Pattern, format: Format) -> Pattern:
    """Returns a pattern with dense leading levels in the format that has `batch` levels for some of them.

    Raises:
        TensorError: The batches do not store equally many nodes.
    """
    batch = pattern.level_sizes[: format.batch_rank]
    batches = math.prod(batch)
    parents = 1  # of each batch, at the level above
    positions, coordinates = [], []
    for level, size, pos, crd in zip(
        format.levels, pattern.level_sizes, pattern._positions, pattern._coordinates, strict=True
    ):
        if crd is not None:
            nodes = crd.numel() // max(batches, 1)
            if pos is not None:
                pos = _split_positions(pos, batches, parents, level.kind == "compressed", format)
                pos = pos.reshape(*batch, pos.shape[1])
            crd = crd.reshape(*batch, nodes)
            parents = nodes
        elif level.kind == "dense":
            parents *= size
        positions.append(pos)
        coordinates.append(crd)
    return Pattern(format, pattern.shape, positions, coordinates, device=pattern.device, check=False)


def _split_positions(positions: Tensor, batches: int, parents: int, compressed: bool, format: Format) -> Tensor:
    """The positions of every batch, [batches, ...], each from 0."""
    if not compressed:  # every parent has the same room, so the batches have too
        rows = positions.reshape(batches, 2 * parents)
        return rows - rows[:, :1] if parents else rows
    if parents == 0 or batches == 0:
        return positions.new_zeros(batches, parents + 1)
    ends = positions[::parents]
    counts = ends.diff()
    if bool((counts != counts[0]).any()):
        other = int((counts != counts[0]).nonzero()[0, 0])
        raise TensorError(
            f"batch levels store equally many nodes in every batch; batch 0 has {int(counts[0])} and batch {other} has "
            f"{int(counts[other])}: use dense leading levels, which may differ, as {format.without_batch()}"
        )
    begins = positions[:-1].reshape(batches, parents)
    return torch.cat([begins, ends[1:, None]], 1) - ends[:-1, None]
