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
        positions = positions.long()
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
