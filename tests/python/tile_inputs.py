"""What tests of tile programs for attention begin with."""

import torch
from torch import Tensor


def inputs(
    batch: int, heads: int, kv_heads: int, queries: int, keys: int, columns: int, dtype: torch.dtype
) -> tuple[Tensor, Tensor, Tensor]:
    """q, k and v as a projection gives them: heads beside one another."""
    shapes = (queries, heads), (keys, kv_heads), (keys, kv_heads)
    q, k, v = (torch.randn(batch, length, h, columns).to(dtype).transpose(1, 2) for length, h in shapes)
    return q, k, v


def entries(blocks: Tensor, block: tuple[int, int], queries: int, keys: int) -> Tensor:
    """Which keys a query sees, of which blocks it sees."""
    whole = blocks.repeat_interleave(block[0], -2).repeat_interleave(block[1], -1)
    return whole[..., :queries, :keys]
