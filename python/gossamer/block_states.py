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
    columns = -(-blocks.shape[1] // blocks.block[1])
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


def listed(chosen: Tensor) -> tuple[Tensor, Tensor]:
    """How many are chosen of each row of a bool tensor, and which, ascending in the first places; int32."""
    count = chosen.sum(-1, dtype=torch.int32)
    return count, torch.argsort((~chosen).to(torch.int8), dim=-1, stable=True).to(torch.int32)
