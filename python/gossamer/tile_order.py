"""The order in which the tiles of a block list are best done."""

from __future__ import annotations

import torch
from torch import Tensor

from gossamer.blocks import BlockList
from gossamer.dynamic import kernels

# Tiles of a group that are compared with one another: beyond, sorting costs less.
_COMPARED = 1 << 13


def longest_first(blocks: BlockList, batch: int, heads: int, shared: int, group: int) -> Tensor:
    """Does what `BlockList.order` says, without waiting for the device: int32 [tiles].

    Args:
        blocks: The list.
        batch, heads: Of the tiles.
        shared: Heads of the list that share a tile.
        group: Heads of a group.
    """
    rows = blocks.count.shape[2]
    if kernels.take(blocks.count) and min(group, heads * batch) * rows <= _COMPARED:
        return _by_kernel(blocks, batch, heads, shared, group)
    count = blocks.count if blocks.partial_count is None else blocks.count + blocks.partial_count
    count = count.expand(batch, heads * shared, rows).reshape(batch * heads, shared, rows).sum(1)
    groups = -(-count.shape[0] // group)
    padded = torch.nn.functional.pad(count, (0, 0, 0, groups * group - count.shape[0]), value=-1)
    order = padded.reshape(groups, -1).argsort(dim=-1, descending=True, stable=True)
    order += torch.arange(groups, device=order.device)[:, None] * (group * rows)
    return order.reshape(-1)[: count.numel()].to(torch.int32)


def _by_kernel(blocks: BlockList, batch: int, heads: int, shared: int, group: int) -> Tensor:
    """The same (`dynamic/kernels/order.py`)."""
    from gossamer.dynamic.kernels.order import orderer

    lead_batch, lead_heads, rows = blocks.count.shape
    steps, order = (torch.empty(batch * heads * rows, dtype=torch.int32, device=blocks.device) for _ in range(2))
    numbers = [
        batch, heads, rows, shared, rows * lead_heads if lead_batch > 1 else 0, rows if lead_heads > 1 else 0,
        group * rows,
    ]  # fmt: skip
    counts = [blocks.count] if blocks.partial_count is None else [blocks.count, blocks.partial_count]
    orderer(len(counts) > 1)(numbers, *counts, steps, order)
    return order
