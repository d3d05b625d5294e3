"""Attention where there is no tile program: by PyTorch, or as a region of `sparse_jit`."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from gossamer.attention_arguments import Mask, Window, sides_of
from gossamer.blocks import BlockList
from gossamer.jit import sparse_jit
from gossamer.score import Score
from gossamer.tensor import SparseTensor


@sparse_jit
def _masked(q: Tensor, k: Tensor, v: Tensor, mask: Any, scale: float) -> Tensor:
    scores = (q @ k.transpose(-2, -1)) * scale
    return torch.softmax(torch.where(mask, scores, -math.inf), -1) @ v


def otherwise(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Mask,
    scale: float,
    causal: bool,
    window: Window,
    score: Score | None = None,
) -> Tensor:
    if score is not None and isinstance(mask, BlockList | SparseTensor):
        mask = (mask.to_mask() if isinstance(mask, BlockList) else mask).to_dense()
    allowed, grouped = mask if isinstance(mask, Tensor) else None, q.shape[1] != k.shape[1]
    left, right = sides_of(causal, window)
    if window is not None and (left, right) != (None, None):
        allowed = torch.ones(q.shape[2], k.shape[2], dtype=torch.bool, device=q.device)
        allowed = allowed if left is None else allowed.triu(-left)
        allowed = allowed if right is None else allowed.tril(right)
    if score is not None:
        if causal and allowed is None:
            allowed = torch.ones(q.shape[2], k.shape[2], dtype=torch.bool, device=q.device).tril()
        return _scored(q, _repeated(k, q.shape[1]), _repeated(v, q.shape[1]), allowed, scale, score)
    if allowed is not None:
        # What its back ends give a query that sees nothing differs, and so do their gradients.
        sees = allowed.any(-1, keepdim=True)
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=allowed | ~sees, scale=scale, enable_gqa=grouped)
        return out.where(sees, 0)
    if mask is None:
        return F.scaled_dot_product_attention(q, k, v, is_causal=causal, scale=scale, enable_gqa=grouped)
    k, v = _repeated(k, q.shape[1]), _repeated(v, q.shape[1])
    return _masked(q, k, v, mask.to_mask() if isinstance(mask, BlockList) else mask, scale)


def _scored(q: Tensor, k: Tensor, v: Tensor, allowed: Tensor | None, scale: float, score: Score) -> Tensor:
    """All scores, in float32 at least."""
    score.check(needs_gradients=False)
    dtype = torch.promote_types(q.dtype, torch.float32)
    scores = score.dense(q.to(dtype) @ k.to(dtype).transpose(-2, -1) * scale)
    if allowed is not None:
        scores = scores.masked_fill(~allowed, -math.inf)
    none = (scores == -math.inf).all(-1, keepdim=True)
    shares = torch.softmax(scores.masked_fill(none, 0), -1).masked_fill(none, 0)
    return (shares @ v.to(dtype)).to(q.dtype)


def _repeated(tensor: Tensor, heads: int) -> Tensor:
    return tensor if tensor.shape[1] == heads else tensor.repeat_interleave(heads // tensor.shape[1], 1)
