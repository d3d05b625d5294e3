"""Block lists the other way round: of each block of keys the blocks of queries that see it."""

from __future__ import annotations

import torch

from gossamer.bitmaps import pack, unpack
from gossamer.block_states import FULL, listed, states_of
from gossamer.blocks import BlockList

# Bitmaps that are turned at a time: a byte an entry while that is done.
_AT_ONCE = 4096


def transposed(blocks: BlockList) -> BlockList:
    """Does what `BlockList.transposed` says, without waiting for the device."""
    states = states_of(blocks).mT
    count, index = listed(states == FULL)
    block, shape = (blocks.block[1], blocks.block[0]), (blocks.shape[1], blocks.shape[0])
    if blocks.bits is None:
        return BlockList(count, index, block, shape, check=False)
    partial_count, partial_index = listed(states >= 0)
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
