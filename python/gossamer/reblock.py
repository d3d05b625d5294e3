"""Block lists in other blocks: those that tensor cores have tiles for."""

from __future__ import annotations

import torch
from torch import Tensor

from gossamer.bitmaps import block_areas, evaluate
from gossamer.block_sources import RATES, Blocks, assemble
from gossamer.block_states import FULL, NOTHING, states_of
from gossamer.blocks import BlockList

Block = tuple[int, int]


def tiled(blocks: BlockList, head: int, step: int) -> BlockList:
    """Does what `BlockList.tiled` says; waits for the device unless the blocks are those of a tile, or are split."""
    # No program gathers so many blocks of two lists, or has so many keys a step (dialect/tile/TileVerify.cpp).
    refused = {(128, 16)} if blocks.has_partial and (head > 64 or blocks.packed_rows) else set()
    refused |= {(128, 128)} if head > 128 else set()
    refused |= {(64, 16)} if head > 192 and blocks.has_partial and blocks.packed_rows else set()
    tiles = [tile for tile in RATES if tile not in refused and tile[1] <= step]
    if blocks.block in tiles:
        return blocks
    fitting = [tile for tile in tiles if not blocks.block[0] % tile[0] and not blocks.block[1] % tile[1]]
    if fitting and not blocks.has_partial:
        return _split(blocks, max(fitting))
    states = _states(blocks)
    if fitting:
        return _rebuilt(blocks, states, max(fitting))
    costs = [_touched(blocks, states, tile).sum() * (tile[0] * tile[1] / RATES[tile]) for tile in tiles]
    return _rebuilt(blocks, states, tiles[int(torch.stack(costs).argmin())])


def in_blocks(blocks: BlockList, block: Block) -> BlockList:
    """The same mask in blocks of another size; waits for the device unless blocks are whole and split."""
    if not (blocks.has_partial or blocks.block[0] % block[0] or blocks.block[1] % block[1]):
        return _split(blocks, block)
    return _rebuilt(blocks, _states(blocks), block)


def _split(blocks: BlockList, block: Block) -> BlockList:
    """Each block of a list of whole ones becomes several; such a list has no packed block that is not filled."""
    down, across = blocks.block[0] // block[0], blocks.block[1] // block[1]
    rows, columns = -(-blocks.shape[0] // block[0]), -(-(blocks.packed_rows + blocks.shape[1]) // block[1])
    # Of the last block of keys only the parts that begin before the end.
    missing = blocks.key_blocks * across - columns
    last = blocks.index.gather(-1, (blocks.count - 1).clamp(min=0)[..., None].long())[..., 0]
    has_end = (blocks.count > 0) & (last == blocks.key_blocks - 1)
    count = blocks.count * across - has_end * missing
    index = (blocks.index[..., None] * across + torch.arange(across, dtype=torch.int32, device=blocks.device)).flatten(
        -2
    )
    row = torch.arange(rows, device=blocks.device) // down
    return BlockList(
        count.to(torch.int32)[..., row], index[..., row, :], block, blocks.shape,
        packed_keys=blocks.packed_keys, check=False,
    )  # fmt: skip


def _rebuilt(blocks: BlockList, states: Tensor, block: Block) -> BlockList:
    """Every entry of the new blocks is looked up in the old ones."""
    bits = blocks.bits
    rows, columns = blocks.block
    packed, total = _packed(blocks), blocks.shape[1]
    first = -(-packed // block[1]) * block[1]  # row of the first key that is not packed, in new blocks

    def allowed(matrix: Tensor, query: Tensor, key: Tensor) -> Tensor:
        is_packed = key < first
        exists = ~is_packed | (key < packed)
        key = torch.where(is_packed, key, key - first + blocks.packed_rows)
        key = key.clamp(max=blocks.packed_rows + total - 1)
        state = states[matrix, query // rows, key // columns]
        if bits is None:
            return (state == FULL) & exists
        within = key % columns
        word = bits[state.clamp(min=0), query % rows, within // 32]
        return exists & ((state == FULL) | ((state >= 0) & ((word >> (within % 32).to(torch.int32)) & 1).bool()))

    matrix, row, column = _touched(blocks, states, block).nonzero().unbind(1)
    shape = blocks.shape[0], first + total
    made, count = evaluate(allowed, matrix, row, column, block, shape)
    is_full = count == block_areas(block, shape, count.device)[row, column]
    some = count > 0
    found = Blocks(matrix[some], row[some], column[some], is_full[some], made[some & ~is_full])
    lead = blocks.count.shape[0], blocks.count.shape[1]
    return assemble(found, lead, block, blocks.shape, blocks.packed_keys)


def _packed(blocks: BlockList) -> int:
    """How many keys are packed."""
    return 0 if blocks.packed_keys is None else blocks.packed_keys.shape[-1]


def _states(blocks: BlockList) -> Tensor:
    """What `states_of` says, of batches and heads as one: int64 [matrices, rows, columns]."""
    return states_of(blocks).flatten(0, 1).long()


def _touched(blocks: BlockList, states: Tensor, block: Block) -> Tensor:
    """Which of the new blocks have part of an old one in which something is allowed: bool [matrices, rows, columns]."""
    # Sums over all old blocks above and to the left give those over any rectangle.
    sums = torch.nn.functional.pad((states != NOTHING).long(), (1, 0, 1, 0)).cumsum(1).cumsum(2)

    def bounds(length: int, new: int, old: int, before: int = 0) -> tuple[Tensor, Tensor]:
        """From which old block to which one new ones reach."""
        begin = torch.arange(0, length, new, device=states.device)
        return before + begin // old, before + ((begin + new).clamp(max=length) - 1) // old + 1

    (new_rows, new_columns), (rows, columns) = block, blocks.block
    top, bottom = bounds(blocks.shape[0], new_rows, rows)
    packed = bounds(_packed(blocks), new_columns, columns)
    others = bounds(blocks.shape[1], new_columns, columns, before=blocks.packed_rows // columns)
    left, right = (torch.cat(sides) for sides in zip(packed, others, strict=True))

    def at(row: Tensor, column: Tensor) -> Tensor:
        return sums[:, row[:, None], column]

    return at(bottom, right) - at(top, right) - at(bottom, left) + at(top, left) > 0
