"""Block lists the other way round: of each block of keys the blocks of queries that see it."""

from __future__ import annotations

import torch

from gossamer.bitmaps import pack, unpack
from gossamer.block_states import arrays_of, states_of
from gossamer.blocks import BlockList

# Bitmaps that are turned at a time: a byte an entry while that is done.
_AT_ONCE = 4096


def transposed(blocks: BlockList) -> BlockList:
    """Does what `BlockList.transposed` says, without waiting for the device."""
    bits = blocks.bits
    if bits is not None:
        bits = torch.cat([pack(unpack(part, blocks.block[1]).mT) for part in bits.split(_AT_ONCE)])
    block, shape = (blocks.block[1], blocks.block[0]), (blocks.packed_rows + blocks.shape[1], blocks.shape[0])
    return BlockList(**arrays_of(states_of(blocks).mT, bits), block=block, shape=shape, check=False)
