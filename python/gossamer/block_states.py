"""What a block list says of each block, as a matrix, and lists of what is chosen of a matrix."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from gossamer.blocks import BlockList

NOTHING, FULL = -2, -1


def states_of(blocks: BlockList) -> Tensor:
    """The number of each block's bitmap, or that it has none: int32 [B, H, MB, NB], without waiting for the device."""
    columns = blocks.key_blocks
    # What is not used of a list goes to a column of its own, which is cut off.
    states = blocks.count.new_full((*blocks.count.shape, columns + 1), NOTHING)
    for count, index, numbers in (
        (blocks.count, blocks.index, None),
        (blocks.partial_count, blocks.partial_index, blocks.partial_bits),
    ):
        if count is None or index is None:
            continue
        used = torch.arange(index.shape[-1], device=index.device) < count[..., None]
        at = torch.where(used, index, columns).long()
        states.scatter_(-1, at, torch.full_like(index, FULL) if numbers is None else numbers)
    return states[..., :columns]


def entries_of(blocks: BlockList, states: Tensor, columns: Tensor) -> Tensor:
    """Which entries columns of blocks have, each the column of a block of its own.

    Args:
        blocks: The list.
        states: As `states_of` gives them: [n, m].
        columns: Which column of the block: int64 [n, m].

    Returns:
        bool [n, rows of a block, m].
    """
    full = (states == FULL)[:, None, :]
    if blocks.bits is None:
        return full.expand(-1, blocks.block[0], -1)
    row = torch.arange(blocks.block[0], device=states.device)[:, None]
    words = blocks.bits[states.clamp(min=0).long()[:, None, :], row, columns[:, None, :] // 32]
    bits = (words >> (columns % 32).to(torch.int32)[:, None, :]) & 1
    return full | ((states >= 0)[:, None, :] & bits.bool())


def keys_of(blocks: BlockList, matrix: Tensor, row: Tensor) -> Tensor:
    """Which keys the rows are of which blocks of keys are made, packed ones and others; -1 for none.

    Args:
        blocks: The list.
        matrix: Number of batch and head, counted on: int64, broadcast to the rows.
        row: int64, from the first row of the first block of keys on.
    """
    last = row - blocks.packed_rows
    others = torch.where(last < blocks.shape[1], last, -1)
    if blocks.packed_keys is None or not blocks.packed_keys.shape[-1]:
        return others
    batch, heads, count = blocks.packed_keys.shape
    group = blocks.count.shape[1] // heads  # of heads of a list that share packed keys
    one = matrix // group % (batch * heads)
    packed = blocks.packed_keys.long().flatten(0, 1)[one, row.clamp(0, count - 1)]
    return torch.where(row < blocks.packed_rows, torch.where(row < count, packed, -1), others)


def arrays_of(states: Tensor, bits: Tensor | None) -> dict[str, Tensor]:
    """What a `BlockList` is made of, of such states; without `bits` no block is allowed in part."""
    count, index = listed(states == FULL)
    if bits is None:
        return {"count": count, "index": index}
    partial_count, partial_index = listed(states >= 0)
    numbers = states.gather(-1, partial_index.long()).clamp(min=0).to(torch.int32)
    partial = {"partial_count": partial_count, "partial_index": partial_index, "partial_bits": numbers, "bits": bits}
    return {"count": count, "index": index, **partial}


def listed(chosen: Tensor) -> tuple[Tensor, Tensor]:
    """How many are chosen of each row of a bool tensor, and which, ascending in the first places; int32."""
    count = chosen.sum(-1, dtype=torch.int32)
    return count, torch.argsort((~chosen).to(torch.int8), dim=-1, stable=True).to(torch.int32)
