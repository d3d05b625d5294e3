"""Attention as tile programs, as an operation that PyTorch differentiates."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from gossamer.blocks import BlockList
from gossamer.runtime import tile_backward, tiles
from gossamer.score import Score


class Attention:
    """A call of `tiles.run`, with gradients where they are wanted.

    Args:
        kind, blocks, scale, window: As `tiles.run` takes them; what differs is given to calls, such as a function of
            scores whose region is that of the kind.
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
            self.forward = lambda q, k, v, captured=b"": tiles.run(kind, q, k, v, blocks, scale, window, captured)

    def __call__(self, q: Tensor, k: Tensor, v: Tensor, score: Score | None = None) -> tuple[Tensor, Tensor]:
        """The output and the log-sum-exp."""
        needs_gradients = torch.is_grad_enabled() and (q.requires_grad or k.requires_grad or v.requires_grad)
        if score is not None:
            score.check(needs_gradients)
        if needs_gradients:
            tables = () if score is None else score.tensors.values()
            return _Attention.apply(q, k, v, self, score, *tables)  # type: ignore[no-any-return]
        return self.forward(q, k, v, words_of(score, q))

    def gradients(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        out: Tensor,
        lse: Tensor,
        out_grad: Tensor | None,
        lse_grad: Tensor | None,
        score: Score | None = None,
    ) -> tile_backward.Gradients:
        """Those of q, k and v, which can be moved as they are; not both of the others are None."""
        if out_grad is None:
            out_grad = torch.zeros_like(out)
        call = self._gradients
        if call is None:
            call = self.prepare_gradients(q, k, score)
            if call is None:
                return torch.zeros_like(q), torch.zeros_like(k), torch.zeros_like(v)
        return call(q, k, v, out, lse, out_grad, lse_grad, words_of(score, q))

    @property
    def has_gradients(self) -> bool:
        """Whether what gradients need is made."""
        return self._gradients is not None

    def prepare_gradients(self, q: Tensor, k: Tensor, score: Score | None = None) -> tile_backward.Call | None:
        """Makes what gradients need, which is kept with the list, for calls that are not prepared, too."""
        if not (q.numel() and k.numel()):
            return None
        blocks = self.gradient_blocks().differentiable(tiles.step_of(self.kind.chip))
        region = "" if score is None else score.derived_region
        key = "backward", q.shape, k.shape, q.dtype, self.scale, region, self.kind.chip
        call = blocks._derived.get(key)
        if call is None:
            tail = k.shape[2] % blocks.block[1] != 0
            packed = blocks.packed_rows > 0
            kind = tile_backward.BackwardKind(
                *(q.dtype, self.kind.head, blocks.block, tail, blocks.has_partial),
                *(packed, region, self.kind.chip),
            )
            call = blocks._derived[key] = tile_backward.prepare(kind, q, k, blocks, self.scale)
        if self.is_prepared:
            self._gradients = call
        return call


def words_of(score: Score | None, like: Tensor) -> bytes:
    return b"" if score is None else score.words(like.device)


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, q: Tensor, k: Tensor, v: Tensor, call: Attention, score: Score | None, *tables: Tensor
    ) -> tuple[Tensor, Tensor]:
        if not call.is_prepared:
            q, k, v = tiles.movable(q), tiles.movable(k), tiles.movable(v)
        out, lse = call.forward(q, k, v, words_of(score, q))
        # Tables so that one that changes until the backward is an error.
        ctx.save_for_backward(q, k, v, out, lse, *tables)
        ctx.call, ctx.score = call, score
        ctx.set_materialize_grads(False)
        return out, lse

    @staticmethod
    @once_differentiable
    def backward(  # type: ignore[override]
        ctx: Any, out_grad: Tensor | None, lse_grad: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        q, k, v, out, lse, *tables = ctx.saved_tensors
        none = (None,) * (2 + len(tables))
        if out_grad is None and lse_grad is None:
            return None, None, None, *none
        return *ctx.call.gradients(q, k, v, out, lse, out_grad, lse_grad, ctx.score), *none
