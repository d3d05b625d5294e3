"""Bitmaps of blocks: which of a block's entries a mask allows, a bit each, in words of 32.

Bit j % 32 (the lowest is 0) of word j // 32 of row i is entry (i, j); what fills up the last word of a row is 0.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

# Of eight bytes that are 0 or 1 the lowest bits, side by side in the highest byte of the product.
_GATHER_BITS = 0x0102040810204080
# Entries whose coordinates are looked at together: tens of megabytes of temporaries.
_CHUNK = 1 << 21

Allowed = Callable[[Tensor, Tensor, Tensor], Tensor]


def words_of(columns: int) -> int:
    """Returns the words of a row of so many columns."""
    return -(-columns // 32)


def pack(allowed: Tensor) -> Tensor:
    """Returns the bits of a bool tensor [..., columns]: int32 [..., words]."""
    columns = allowed.shape[-1]
    filled = F.pad(allowed.view(torch.uint8), (0, 32 * words_of(columns) - columns)).contiguous()
    eight = filled.view(torch.int64)
    return (eight.mul(_GATHER_BITS) >> 56).bitwise_and(255).to(torch.uint8).view(torch.int32)


def unpack(bits: Tensor, columns: int) -> Tensor:
    """Returns the bool tensor [..., columns] of bits [..., words]."""
    if not bits.numel():  # of which strides may be any
        return torch.zeros(*bits.shape[:-1], columns, dtype=torch.bool, device=bits.device)
    eight = torch.arange(8, dtype=torch.uint8, device=bits.device)
    bytes_ = bits.contiguous().view(torch.uint8)
    return (bytes_[..., None] >> eight).bitwise_and(1).bool().flatten(-2)[..., :columns]


def evaluate(
    allowed: Allowed, lead: Tensor, row: Tensor, column: Tensor, block: tuple[int, int], shape: tuple[int, int]
) -> tuple[Tensor, Tensor]:
    """The bits of some blocks of a mask that is a function, and how many are set.

    Args:
        allowed: Of a matrix, a query and a key, int64 [n, 1, 1], [n, rows, 1] and [n, 1, columns]: bool, broadcast to
            [n, rows, columns]. Asked for what is within the shape alone.
        lead, row, column: For each block its matrix and its place there, in blocks: int64 [blocks].
        block: Rows and columns of a block.
        shape: Of the mask; nothing beyond it is set.

    Returns:
        int32 [blocks, rows, words], and int64 [blocks].
    """
    device = row.device
    bits = torch.empty((row.numel(), block[0], words_of(block[1])), dtype=torch.int32, device=device)
    count = torch.empty(row.numel(), dtype=torch.int64, device=device)
    step = max(1, _CHUNK // (block[0] * block[1]))
    for begin in range(0, row.numel(), step):
        part = slice(begin, begin + step)
        query = (row[part, None] * block[0] + torch.arange(block[0], device=device))[:, :, None]
        key = (column[part, None] * block[1] + torch.arange(block[1], device=device))[:, None, :]
        inside = (query < shape[0]) & (key < shape[1])
        # A function may look something up in a table that ends where the mask does.
        query, key = query.clamp(max=shape[0] - 1), key.clamp(max=shape[1] - 1)
        chosen = allowed(lead[part, None, None], query, key) & inside
        bits[part] = pack(chosen)
        count[part] = chosen.sum((1, 2))
    return bits, count


def block_areas(block: tuple[int, int], shape: tuple[int, int], device: torch.device) -> Tensor:
    """How many entries each block has within the shape: int64 [blocks of rows, blocks of columns]."""
    sides = []
    for size, length in zip(block, shape, strict=True):
        begin = torch.arange(0, length, size, device=device)
        sides.append((length - begin).clamp(max=size))
    return sides[0][:, None] * sides[1]
