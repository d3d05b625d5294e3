"""Block lists the other way round: of each block of keys the blocks of queries that see it."""

from __future__ import annotations

import torch
from torch import Tensor

from gossamer.bitmaps import pack, unpack
from gossamer.block_states import arrays_of, states_of
from gossamer.blocks import BlockList
from gossamer.conversion.cuda.writer import WARP
from gossamer.dynamic import kernels

# Bitmaps that are turned at a time: a byte an entry while that is done.
_AT_ONCE = 4096


def transposed(blocks: BlockList) -> BlockList:
    """Does what `BlockList.transposed` says, without waiting for the device."""
    shape = blocks.packed_rows + blocks.shape[1], blocks.shape[0]
    arrays = (_by_kernel if kernels.take(blocks.count) else _by_torch)(blocks)
    if blocks.bits is not None:
        turned = blocks._derived.get("turned bits")  # of bitmaps that many lists share
        arrays["bits"] = turned_bits(blocks.bits, blocks.block[1]) if turned is None else turned
    return BlockList(**arrays, block=(blocks.block[1], blocks.block[0]), shape=shape, check=False)


def turned_bits(bits: Tensor, columns: int) -> Tensor:
    """The bitmaps of blocks with so many columns the other way round."""
    return torch.cat([pack(unpack(part, columns).mT) for part in bits.split(_AT_ONCE)])


def _by_torch(blocks: BlockList) -> dict[str, Tensor]:
    """The arrays of the list, but for its bitmaps."""
    return arrays_of(states_of(blocks).mT, blocks.bits)


def _by_kernel(blocks: BlockList) -> dict[str, Tensor]:
    """The same (`dynamic/kernels/turn.py`)."""
    from gossamer.dynamic.kernels.turn import turner

    batch, heads, rows = blocks.count.shape
    columns = blocks.key_blocks
    words, matrices, partial = -(-columns // WARP), batch * heads, blocks.partial_count is not None

    def new(*sizes: int) -> Tensor:
        return torch.empty(sizes, dtype=torch.int32, device=blocks.device)

    def turned() -> list[Tensor]:
        return [new(batch, heads, columns), new(batch, heads, columns, rows)]

    names, arrays = ["count", "index"], turned()
    given = [blocks.count, blocks.index, new(matrices * words * rows), *arrays]
    if partial:
        assert blocks.partial_count is not None
        assert blocks.partial_index is not None
        assert blocks.partial_bits is not None
        own = [*turned(), new(batch, heads, columns, rows)]
        given += [blocks.partial_count, blocks.partial_index, new(matrices * words * rows), *own[:2]]
        given += [blocks.partial_bits, own[2]]
        names, arrays = [*names, "partial_count", "partial_index", "partial_bits"], arrays + own
    numbers = [matrices, rows, columns, words, blocks.index.shape[-1], blocks.partial_length]
    turner(partial)(numbers, *given)
    return dict(zip(names, arrays, strict=True))
