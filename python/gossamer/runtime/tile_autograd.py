"""Attention as tile programs, as an operation that PyTorch differentiates."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from gossamer.blocks import BlockList
from gossamer.runtime import tile_backward, tiles


def differentiable(
    kind: tiles.Kind,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    blocks: BlockList | None,
    scale: float,
    window: int,
    gradient_blocks: Callable[[], BlockList],
) -> tuple[Tensor, Tensor]:
    """`tiles.run`, with gradients, for which a list of blocks is asked for if there is none."""
    return _Attention.apply(q, k, v, kind, blocks, scale, window, gradient_blocks)  # type: ignore[no-any-return]


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        kind: tiles.Kind,
        blocks: BlockList | None,
        scale: float,
        window: int,
        gradient_blocks: Callable[[], BlockList],
    ) -> tuple[Tensor, Tensor]:
        q, k, v = tiles.movable(q), tiles.movable(k), tiles.movable(v)
        out, lse = tiles.run(kind, q, k, v, blocks, scale, window)
        ctx.save_for_backward(q, k, v, out, lse)
        ctx.kind, ctx.scale = kind, scale
        ctx.blocks = gradient_blocks if blocks is None else blocks.differentiable
        ctx.set_materialize_grads(False)
        return out, lse

    @staticmethod
    @once_differentiable
    def backward(  # type: ignore[override]
        ctx: Any, out_grad: Tensor | None, lse_grad: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        q, k, v, out, lse = ctx.saved_tensors
        nothing = (None,) * 5
        if out_grad is None and lse_grad is None:
            return None, None, None, *nothing
        if out_grad is None:
            out_grad = torch.zeros_like(out)
        if not (q.numel() and k.numel()):
            return torch.zeros_like(q), torch.zeros_like(k), torch.zeros_like(v), *nothing
        blocks = ctx.blocks()
        key = "backward", q.shape, k.shape, q.stride(), k.stride(), q.dtype, ctx.scale
        call = blocks._derived.get(key)
        if call is None:
            block = blocks.block
            tail = k.shape[2] % block[1] != 0
            kind = tile_backward.BackwardKind(q.dtype, ctx.kind.head, block, tail, blocks.has_partial)
            call = blocks._derived[key] = tile_backward.prepare(kind, q, k, blocks, ctx.scale)
        return *call(q, k, v, out, lse, out_grad, lse_grad), *nothing
