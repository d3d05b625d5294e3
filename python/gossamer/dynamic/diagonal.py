"""Bitmaps of the blocks that the diagonal cuts: what a query of them sees of keys up to its own.

Both count from the first. How far a block's first key is behind its first query is a multiple of a step, and there are
few such distances where the block is cut: -columns + step, ..., rows - step. Each has a bitmap; and if the last block
of keys is shorter, each has another for that one.
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor

from gossamer.bitmaps import pack
from gossamer.runtime.apart import apart

Block = tuple[int, int]


def step_of(block: Block) -> int:
    """What distances are multiples of."""
    return math.gcd(*block)


def kinds_of(block: Block) -> int:
    """How many distances there are."""
    return sum(block) // step_of(block) - 1


def most_in_a_row(block: Block) -> int:
    """How many blocks of keys the diagonal cuts at most for a block of queries."""
    return (sum(block) - 2 * step_of(block)) // block[1] + 1


def bits(block: Block, inside: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """The bitmaps of all distances, int32 [kinds or 2 kinds, rows, words], and the same turned over.

    Args:
        block: Rows and columns.
        inside: How many keys the last block has.
        device: Where they are wanted.
    """
    if device.type == "cuda" and torch.cuda.is_current_stream_capturing():
        return _bits(block, inside, device)  # which are there when the graph is replayed, and not before
    return _kept_bits(block, inside, device)


@lru_cache(maxsize=256)
def _kept_bits(block: Block, inside: int, device: torch.device) -> tuple[Tensor, Tensor]:
    return apart(lambda: _bits(block, inside, device), device)


def _bits(block: Block, inside: int, device: torch.device) -> tuple[Tensor, Tensor]:
    step = step_of(block)
    distance = torch.arange(kinds_of(block), device=device)[:, None, None] * step + step - block[1]
    query, key = torch.arange(block[0], device=device)[:, None], torch.arange(block[1], device=device)
    sees = key + distance <= query
    if inside < block[1]:
        sees = torch.cat([sees, sees & (key < inside)])
    return pack(sees), pack(sees.mT)


def numbers(block: Block, row: Tensor, column: Tensor, keys: int) -> Tensor:
    """Which of the bitmaps blocks have that the diagonal cuts: int64, as their rows and columns."""
    step = step_of(block)
    distance = ((column + 1) * block[1] - step - row * block[0]) // step
    return distance + ((column + 1) * block[1] > keys) * kinds_of(block)
