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


@lru_cache(maxsize=256)
def bits(block: Block, inside: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """The bitmaps of all distances, int32 [kinds or 2 kinds, rows, words], and the same turned over.

    Args:
        block: Rows and columns.
        inside: How many keys the last block has.
        device: Where they are wanted.
    """

    def make() -> tuple[Tensor, Tensor]:
        step = step_of(block)
        distance = torch.arange(kinds_of(block))[:, None, None] * step + step - block[1]
        query, key = torch.arange(block[0])[:, None], torch.arange(block[1])
        sees = key + distance <= query
        if inside < block[1]:
            sees = torch.cat([sees, sees & (key < inside)])
        return pack(sees).to(device), pack(sees.mT).to(device)

    return apart(make, device)


def numbers(block: Block, row: Tensor, column: Tensor, keys: int) -> Tensor:
    """Which of the bitmaps blocks have that the diagonal cuts: int64, as their rows and columns."""
    step = step_of(block)
    distance = ((column + 1) * block[1] - step - row * block[0]) // step
    return distance + ((column + 1) * block[1] > keys) * kinds_of(block)
