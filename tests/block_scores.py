"""Scores of blocks from which lists are chosen, odd ones among them."""

import math

import torch
from torch import Tensor


def scores_of(
    kind: str, queries: int, keys: int, block: int | tuple[int, int], dtype: torch.dtype = torch.float32
) -> Tensor:
    """[2, 3, blocks of queries, blocks of keys], the same every time: "any", with "ties", "odd" or exact "weights"."""
    rows, columns = (block, block) if isinstance(block, int) else block
    torch.manual_seed(0)
    scores = torch.randn(2, 3, -(-queries // rows), -(-keys // columns))
    if kind == "ties":
        scores = scores.round()
    if kind == "odd":
        scores[scores.abs() < 0.3] = math.nan
        scores[scores > 1], scores[scores < -0.7] = math.inf, -math.inf
    if kind == "weights":  # sums of which are exact
        scores = (torch.rand_like(scores) * 8).round() / 8 * (torch.rand_like(scores) < 0.5)
    return scores.to(dtype)
