"""Attention as tile programs, as an operation that PyTorch differentiates."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from gossamer.blocks import BlockList
from gossamer.runtime import tile_backward, tiles


class Attention:
    """A call of `tiles.run`, with gradients where they are wanted.

    Args:
        kind, blocks, scale, window: As `tiles.run` takes them.
        gradient_blocks: Gives the list of blocks that gradients need where the output needs none.
        like: q, k and v that all others are like in all but their addresses (they can be moved as they are, and are not
            empty): the call is prepared for them, forward now, backward when it first runs. None: any others.
    """

    def __init__(
        self,
        kind: tiles.Kind,
        blocks: BlockList | None,
        scale: float,
        window: int,
        gradient_blocks: Callable[[], BlockList],
        like: tuple[Tensor, Tensor, Tensor] | None = None,
    ):
        self.kind, self.scale = kind, scale
        self.is_prepared = like is not None
        self.gradient_blocks = gradient_blocks if blocks is None else lambda: blocks
        self._gradients: tile_backward.Call | None = None
        if like is not None:
            self.forward = tiles.prepare(kind, *like, blocks, scale, window)
        else:
            self.forward = lambda q, k, v: tiles.run(kind, q, k, v, blocks, scale, window)

    def __call__(self, q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """The output and the log-sum-exp."""
        if torch.is_grad_enabled() and (q.requires_grad or k.requires_grad or v.requires_grad):
            return _Attention.apply(q, k, v, self)  # type: ignore[no-any-return]
        return self.forward(q, k, v)

    def gradients(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        out: Tensor,
        lse: Tensor,
        out_grad: Tensor | None,
        lse_grad: Tensor | None,
    ) -> tile_backward.Gradients:
        """Those of q, k and v, which can be moved as they are; not both of the others are None."""
        if out_grad is None:
            out_grad = torch.zeros_like(out)
        call = self._gradients
        if call is None:
            call = self.prepare_gradients(q, k)
            if call is None:
                return torch.zeros_like(q), torch.zeros_like(k), torch.zeros_like(v)
        return call(q, k, v, out, lse, out_grad, lse_grad)

    @property
    def has_gradients(self) -> bool:
        """Whether what gradients need is made."""
        return self._gradients is not None

    def prepare_gradients(self, q: Tensor, k: Tensor) -> tile_backward.Call | None:
        """Makes what gradients need, which is kept with the list, for calls that are not prepared, too."""
        if not (q.numel() and k.numel()):
            return None
        blocks = self.gradient_blocks().differentiable(tiles.step_of(self.kind.chip))
        key = "backward", q.shape, k.shape, q.dtype, self.scale, self.kind.chip
        call = blocks._derived.get(key)
        if call is None:
            tail = k.shape[2] % blocks.block[1] != 0
            kind = tile_backward.BackwardKind(
                *(q.dtype, self.kind.head, blocks.block, tail, blocks.has_partial),
                *(blocks.packed_rows > 0, self.kind.chip),
            )
            call = blocks._derived[key] = tile_backward.prepare(kind, q, k, blocks, self.scale)
        if self.is_prepared:
            self._gradients = call
        return call


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, call: Attention) -> tuple[Tensor, Tensor]:
        if not call.is_prepared:
            q, k, v = tiles.movable(q), tiles.movable(k), tiles.movable(v)
        out, lse = call.forward(q, k, v)
        ctx.save_for_backward(q, k, v, out, lse)
        ctx.call = call
        ctx.set_materialize_grads(False)
        return out, lse

    @staticmethod
    @once_differentiable
    def backward(  # type: ignore[override]
        ctx: Any, out_grad: Tensor | None, lse_grad: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        if out_grad is None and lse_grad is None:
            return None, None, None, None
        return *ctx.call.gradients(*ctx.saved_tensors, out_grad, lse_grad), None
