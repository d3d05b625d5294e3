"""Block lists the other way round: of each block of keys the blocks of queries that see it."""

from __future__ import annotations

import torch
from torch import Tensor

from gossamer.bitmaps import pack, unpack
from gossamer.blocks import BlockList

_NOTHING, _FULL = -2, -1
# Bitmaps that are turned at a time: a byte an entry while that is done.
_AT_ONCE = 4096


def transposed(blocks: BlockList) -> BlockList:
    """Does what `BlockList.transposed` says, without waiting for the device."""
    states = _states(blocks).mT
    count, index = _listed(states == _FULL)
    block, shape = (blocks.block[1], blocks.block[0]), (blocks.shape[1], blocks.shape[0])
    if blocks.bits is None:
        return BlockList(count, index, block, shape, check=False)
    partial_count, partial_index = _listed(states >= 0)
    numbers = states.gather(-1, partial_index.long()).clamp(min=0).to(torch.int32)
    turned = [pack(unpack(part, blocks.block[1]).mT) for part in blocks.bits.split(_AT_ONCE)]
    return BlockList(
        count,
        index,
        block,
        shape,
        partial_count=partial_count,
        partial_index=partial_index,
        partial_bits=numbers,
        bits=torch.cat(turned),
        check=False,
    )


def _states(blocks: BlockList) -> Tensor:
    """The number of each block's bitmap, or that it has none: int32 [B, H, MB, NB]."""
    columns = -(-blocks.shape[1] // blocks.block[1])
    # What is not used of a list goes to a column of its own, which is cut off.
    states = blocks.count.new_full((*blocks.count.shape, columns + 1), _NOTHING)
    for count, index, numbers in (
        (blocks.count, blocks.index, None),
        (blocks.partial_count, blocks.partial_index, blocks.partial_bits),
    ):
        if count is None or index is None:
            continue
        used = torch.arange(index.shape[-1], device=index.device) < count[..., None]
        at = torch.where(used, index, columns).long()
        states.scatter_(-1, at, torch.full_like(index, _FULL) if numbers is None else numbers)
    return states[..., :columns]


def _listed(chosen: Tensor) -> tuple[Tensor, Tensor]:
    """How many are chosen of each row, and which, in the first places."""
    count = chosen.sum(-1, dtype=torch.int32)
    return count, torch.argsort((~chosen).to(torch.int8), dim=-1, stable=True).to(torch.int32)
