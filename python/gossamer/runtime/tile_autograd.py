"""Attention as tile programs, as an operation that PyTorch differentiates."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from gossamer.blocks import BlockList
from gossamer.runtime import tile_backward, tiles

_all: dict[Any, BlockList] = {}
_MOST_LISTS = 64


def why_no_gradient(kind: tiles.Kind) -> str:
    """Why attention of a kind has no gradient as tile programs; nothing if it has one."""
    if kind.causal:
        return "its gradient needs a list of blocks, and it is causal without one"
    if kind.partial:
        return "its gradient knows no blocks that are allowed in part"
    if not all(size in tile_backward.BLOCKS for size in kind.block):
        return f"its gradient has no tiles for blocks of {kind.block[0]} x {kind.block[1]}"
    return ""


def differentiable(
    kind: tiles.Kind, q: Tensor, k: Tensor, v: Tensor, blocks: BlockList | None, scale: float, window: int
) -> tuple[Tensor, Tensor]:
    """`tiles.run`, with gradients."""
    return _Attention.apply(q, k, v, kind, blocks, scale, window)  # type: ignore[no-any-return]


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
    ) -> tuple[Tensor, Tensor]:
        q, k, v = tiles.movable(q), tiles.movable(k), tiles.movable(v)
        out, lse = tiles.run(kind, q, k, v, blocks, scale, window)
        ctx.save_for_backward(q, k, v, out, lse)
        ctx.kind, ctx.blocks, ctx.scale = kind, blocks, scale
        ctx.set_materialize_grads(False)
        return out, lse

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, out_grad: Tensor | None, lse_grad: Tensor | None) -> tuple[Tensor | None, ...]:
        q, k, v, out, lse = ctx.saved_tensors
        nothing = (None,) * 4
        if out_grad is None and lse_grad is None:
            return None, None, None, *nothing
        if out_grad is None:
            out_grad = torch.zeros_like(out)
        if not (q.numel() and k.numel()):
            return torch.zeros_like(q), torch.zeros_like(k), torch.zeros_like(v), *nothing
        blocks = ctx.blocks if ctx.blocks is not None else _all_blocks(q, k)
        key = "backward", q.shape, k.shape, q.dtype, ctx.scale
        call = blocks._derived.get(key)
        if call is None:
            block = blocks.block
            kind = tile_backward.BackwardKind(q.dtype, ctx.kind.head, block, k.shape[2] % block[1] != 0)
            call = blocks._derived[key] = tile_backward.prepare(kind, q, k, blocks, ctx.scale)
        return *call(q, k, v, out, lse, out_grad, lse_grad), *nothing


def _all_blocks(q: Tensor, k: Tensor) -> BlockList:
    """The list of a mask that allows everything."""
    key = q.shape[2], k.shape[2], q.device
    if key not in _all:
        if len(_all) >= _MOST_LISTS:
            _all.clear()
        rows, columns = -(-q.shape[2] // 128), -(-k.shape[2] // 128)
        count = torch.full((1, 1, rows), columns, dtype=torch.int32, device=q.device)
        index = torch.arange(columns, dtype=torch.int32, device=q.device).expand(1, 1, rows, columns)
        _all[key] = BlockList(count, index, 128, (q.shape[2], k.shape[2]), check=False)
    return _all[key]
