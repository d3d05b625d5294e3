"""Block lists in other blocks: those that tensor cores have tiles for."""

from __future__ import annotations

import torch
from torch import Tensor

from gossamer.bitmaps import block_areas, evaluate
from gossamer.block_sources import RATES, Blocks, assemble
from gossamer.block_states import FULL, NOTHING, states_of
from gossamer.blocks import BlockList

Block = tuple[int, int]


def tiled(blocks: BlockList, wide: bool, step: int) -> BlockList:
    """Does what `BlockList.tiled` says; waits for the device unless the blocks are those of a tile, or are split."""
    # No program gathers so many blocks of two lists (dialect/tile/TileVerify.cpp).
    refused = {(128, 16)} if wide and blocks.has_partial else set()
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
    """Each block of a list of whole ones becomes several."""
    down, across = blocks.block[0] // block[0], blocks.block[1] // block[1]
    rows, columns = (-(-length // size) for length, size in zip(blocks.shape, block, strict=True))
    # Of the last block of keys only the parts that begin before the end.
    missing = -(-blocks.shape[1] // blocks.block[1]) * across - columns
    last = blocks.index.gather(-1, (blocks.count - 1).clamp(min=0)[..., None].long())[..., 0]
    has_end = (blocks.count > 0) & (last == -(-blocks.shape[1] // blocks.block[1]) - 1)
    count = blocks.count * across - has_end * missing
    index = (blocks.index[..., None] * across + torch.arange(across, dtype=torch.int32, device=blocks.device)).flatten(
        -2
    )
    row = torch.arange(rows, device=blocks.device) // down
    return BlockList(count.to(torch.int32)[..., row], index[..., row, :], block, blocks.shape, check=False)


def _rebuilt(blocks: BlockList, states: Tensor, block: Block) -> BlockList:
    """Every entry of the new blocks is looked up in the old ones."""
    bits = blocks.bits
    rows, columns = blocks.block

    def allowed(matrix: Tensor, query: Tensor, key: Tensor) -> Tensor:
        state = states[matrix, query // rows, key // columns]
        if bits is None:
            return state == FULL
        within = key % columns
        word = bits[state.clamp(min=0), query % rows, within // 32]
        return (state == FULL) | ((state >= 0) & ((word >> (within % 32).to(torch.int32)) & 1).bool())

    matrix, row, column = _touched(blocks, states, block).nonzero().unbind(1)
    made, count = evaluate(allowed, matrix, row, column, block, blocks.shape)
    is_full = count == block_areas(block, blocks.shape, count.device)[row, column]
    some = count > 0
    found = Blocks(matrix[some], row[some], column[some], is_full[some], made[some & ~is_full])
    return assemble(found, (blocks.count.shape[0], blocks.count.shape[1]), block, blocks.shape)


def _states(blocks: BlockList) -> Tensor:
    """What `states_of` says, of batches and heads as one: int64 [matrices, rows, columns]."""
    return states_of(blocks).flatten(0, 1).long()


def _touched(blocks: BlockList, states: Tensor, block: Block) -> Tensor:
    """Which of the new blocks have part of an old one in which something is allowed: bool [matrices, rows, columns]."""
    # Sums over all old blocks above and to the left give those over any rectangle.
    sums = torch.nn.functional.pad((states != NOTHING).long(), (1, 0, 1, 0)).cumsum(1).cumsum(2)
    begins, ends = [], []
    for new, old, length in zip(block, blocks.block, blocks.shape, strict=True):
        begin = torch.arange(0, length, new, device=states.device)
        begins.append(begin // old)
        ends.append(((begin + new).clamp(max=length) - 1) // old + 1)

    def at(rows: Tensor, columns: Tensor) -> Tensor:
        return sums[:, rows[:, None], columns]

    inside = at(ends[0], ends[1]) - at(begins[0], ends[1]) - at(ends[0], begins[1]) + at(begins[0], begins[1])
    return inside > 0
