"""Scores of blocks from queries and keys that are put together first."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from gossamer.errors import TensorError


def pooled_scores(
    q: Tensor,
    k: Tensor,
    block: int | tuple[int, int],
    *,
    by: Literal["mean", "max", "antidiagonal"] = "mean",
    stride: int = 16,
    scale: float | None = None,
) -> Tensor:
    """Scores of blocks of queries and keys, for `topk_blocks` and `threshold_blocks`. Differentiable.

    Args:
        q: [B, H, queries, columns].
        k: [B, kv heads, keys, columns]; heads are a multiple of kv heads.
        block: Rows and columns of a block: (queries, keys), or one number for both; the last ones may be shorter.
        by: "mean": the product of the means of a block's queries and keys (SeerAttention, MInference); "max": of their
            maxima in each column; "antidiagonal": the sum of the scores on the antidiagonals of all squares of `stride`
            queries and keys in a block (XAttention), by stride products of length columns each.
        stride: Of antidiagonals; it divides the block.
        scale: None: 1 / sqrt(columns).

    Returns:
        [B, H, MB, NB], of the dtype of q; as probabilities, which `mass` takes, they are `softmax(-1)` of these.

    Raises:
        TensorError: Tensors that do not go together, another way to pool, or a stride that does not divide the block.
    """
    if q.dim() != 4 or k.dim() != 4 or q.shape[3] != k.shape[3] or q.shape[0] != k.shape[0]:
        raise TensorError(f"q {list(q.shape)} and k {list(k.shape)} are [batch, heads, length, columns] of each other")
    if k.shape[1] == 0 or q.shape[1] % k.shape[1]:
        raise TensorError(f"{q.shape[1]} heads of q are no multiple of {k.shape[1]} heads of k")
    rows, columns = (block, block) if isinstance(block, int) else block
    if by in ("mean", "max"):
        pooled = _pooled(q, rows, by), _pooled(k, columns, by)
    elif by == "antidiagonal":
        if rows % stride or columns % stride:
            raise TensorError(f"the stride of antidiagonals divides the block; {stride} does not divide {block}")
        # Of each square: the sum over i of q[i] k[stride - 1 - i], for which columns of all i are put side by side.
        pooled = _side_by_side(q, rows, stride), _side_by_side(k, columns, stride).unflatten(-1, (stride, -1))
        pooled = pooled[0], pooled[1].flip(-2).flatten(-2)
    else:
        raise TensorError(f'blocks are pooled by "mean", "max" or "antidiagonal", not {by!r}')
    grouped = q.shape[1] // k.shape[1]
    keys = pooled[1] if grouped == 1 else pooled[1].repeat_interleave(grouped, 1)
    scale = 1 / math.sqrt(max(q.shape[3], 1)) if scale is None else scale
    return pooled[0] @ keys.mT * scale


def _cut(tensor: Tensor, size: int, fill: float) -> Tensor:
    """[..., blocks, size, columns]; what is missing of the last block is filled up."""
    filled = F.pad(tensor, (0, 0, 0, -tensor.shape[2] % size), value=fill) if tensor.shape[2] % size else tensor
    return filled.unflatten(2, (-1, size))


def _pooled(tensor: Tensor, size: int, by: str) -> Tensor:
    if by == "max":
        return _cut(tensor, size, -math.inf).amax(3)
    begin = torch.arange(0, tensor.shape[2], size, device=tensor.device)
    length = (tensor.shape[2] - begin).clamp(max=size)
    return (_cut(tensor, size, 0).sum(3, dtype=torch.float32) / length[:, None]).to(tensor.dtype)


def _side_by_side(tensor: Tensor, size: int, stride: int) -> Tensor:
    """Of a block the sum of its rows i, i + stride, ..., for all i below the stride, beside one another."""
    return _cut(tensor, size, 0).unflatten(3, (-1, stride)).sum(3, dtype=torch.float32).to(tensor.dtype).flatten(3)
