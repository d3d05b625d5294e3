"""The order in which the tiles of a block list are best done."""

from __future__ import annotations

import torch
from torch import Tensor

from gossamer.blocks import BlockList
from gossamer.dynamic import kernels
from gossamer.runtime.tile_split import PROCESSORS

# Tiles of a group that are compared with one another, and groups that are added up: beyond, sorting costs less.
_COMPARED, _GROUPS = 1 << 13, 1 << 10
# A tile is long that has more than a fourth of the mean work of a multiprocessor.
_LONG = 4


def longest_first(blocks: BlockList, batch: int, heads: int, shared: int, group: int) -> Tensor:
    """Does what `BlockList.order` says, without waiting for the device: int32 [tiles].

    Before all groups come the tiles that would still run when everything else is done, if they began with their group.

    Args:
        blocks: The list.
        batch, heads: Of the tiles.
        shared: Heads of the list that share a tile.
        group: Heads of a group.
    """
    rows = blocks.count.shape[2]
    group = min(group, batch * heads)
    if kernels.take(blocks.count) and group * rows <= _COMPARED and batch * heads <= group * _GROUPS:
        return _by_kernel(blocks, batch, heads, shared, group)
    count = blocks.row_counts.expand(batch, heads * shared, rows).reshape(batch * heads, shared, rows).sum(1)
    groups = torch.arange(count.shape[0], device=count.device)[:, None] // group
    is_long = count * (PROCESSORS * _LONG) > count.sum()
    above = count.max() + 1 if count.numel() else 1
    rank = torch.where(is_long, 1, -groups)  # the first group has 0
    return (rank * above + count).reshape(-1).argsort(descending=True, stable=True).to(torch.int32)


def _by_kernel(blocks: BlockList, batch: int, heads: int, shared: int, group: int) -> Tensor:
    """The same (`dynamic/kernels/order.py`)."""
    from gossamer.dynamic.kernels.order import orderer

    lead_batch, lead_heads, rows = blocks.count.shape
    groups = -(-batch * heads // group)
    steps, longs, order = (
        torch.empty(size, dtype=torch.int32, device=blocks.device)
        for size in (batch * heads * rows, groups, batch * heads * rows)
    )
    sums = torch.empty(groups, dtype=torch.int64, device=blocks.device)
    numbers = [
        batch, heads, rows, shared, rows * lead_heads if lead_batch > 1 else 0, rows if lead_heads > 1 else 0,
        group * rows, groups, PROCESSORS * _LONG,
    ]  # fmt: skip
    counts = [blocks.count] if blocks.partial_count is None else [blocks.count, blocks.partial_count]
    orderer(len(counts) > 1)(numbers, *counts, steps, sums, longs, order)
    return order
