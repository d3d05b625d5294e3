"""`gs.attention` for torch.compile: operators of tensors and numbers, each of which does what an eager call does."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from gossamer.attention import attention, call_for, kept_call, no_lse, where_not, why_no_gradients, why_not
from gossamer.attention_arguments import Window, check, scale_of
from gossamer.blocks import BlockList
from gossamer.dense_attention import otherwise
from gossamer.errors import UnsupportedError
from gossamer.numbered import Numbered, numbered
from gossamer.patterns.base import PositionPattern
from gossamer.patterns.masks import PatternMask, is_listed
from gossamer.runtime import tiles
from gossamer.runtime.apart import apart, outside_of_operators
from gossamer.runtime.tile_autograd import Attention, words_of
from gossamer.score import Score

# Masks whose entries nobody changes.
UNCHANGING = BlockList, PatternMask, PositionPattern
# No part of a CUDA graph: Inductor leaves such operators out.
_NO_GRAPH = torch.Tag.cudagraph_unsafe


def traced(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Any,
    scale: float | None,
    causal: bool,
    window: Window,
    score_mod: Any,
    return_lse: bool,
) -> Tensor | tuple[Tensor, Tensor]:
    """`gs.attention`, as torch.compile traces it: masks are checked where it runs, by the operators."""
    is_object = isinstance(mask, Numbered)
    check(q, k, v, None if is_object else mask, causal, window)
    number = 0
    if is_object:
        mask._be_numbered()
        number = mask._number
    score = 0
    if score_mod is not None:
        if not isinstance(score_mod, Score):
            raise UnsupportedError(
                "torch.compile cannot trace the score_mod of gs.attention: make score = gs.Score(score_mod) outside of "
                "what it compiles, and give that"
            )
        score_mod._be_numbered()
        score = score_mod._number
    reason = _where_not(q.device) or why_no_gradients(q, k, v)
    reason = reason or why_not(q, k, 1.0 if scale is None else scale, _chip_for(q.device))
    dense = mask if isinstance(mask, Tensor) else None
    sides = None if window is None else [window] if isinstance(window, int) else list(window)
    if not reason:
        changes = score_mod is not None or not (mask is None or isinstance(mask, UNCHANGING))
        operator = changing_tile_attention if changes else tile_attention
        out, lse = operator(q, k, v, dense, number, scale, causal, sides, score)
        return (out, lse) if return_lse else out
    if return_lse:
        raise no_lse(reason)
    if is_object or score:
        return sparse_attention(q, k, v, dense, number, scale, causal, sides, score)
    return otherwise(q, k, v, mask, scale_of(q, scale), causal, window)


def _where_not(device: torch.device) -> str:
    return where_not(device)


def _chip_for(device: torch.device) -> str:
    return tiles.chip_for(device)


_where_not._dynamo_marked_constant = True  # type: ignore[attr-defined]
_chip_for._dynamo_marked_constant = True  # type: ignore[attr-defined]


def _forward(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None,
    number: int,
    scale: float | None,
    causal: bool,
    window: list[int] | None,
    score: int,
) -> tuple[Tensor, Tensor]:
    """The tile program: the output and the log-sum-exp. A mask is dense, or the object of a number; or none."""
    with torch.no_grad():
        moved, call, function = _call(q, k, v, mask, number, scale, causal, window, score)
        out, lse = call.forward(*moved, words_of(function, q))
        return _strided(out, q), lse


def _forward_fake(q: Tensor, k: Tensor, v: Tensor, *options: Any) -> tuple[Tensor, Tensor]:
    return _like(q), q.new_empty(q.shape[:3], dtype=torch.float32)


def _backward(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    out: Tensor,
    lse: Tensor,
    out_grad: Tensor | None,
    lse_grad: Tensor | None,
    mask: Tensor | None,
    number: int,
    scale: float | None,
    causal: bool,
    window: list[int] | None,
    score: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of q, k and v."""
    with torch.no_grad():
        moved, call, function = _call(q, k, v, mask, number, scale, causal, window, score)
        if function is not None:
            function.refuse_gradients()
        if not call.has_gradients:
            apart(lambda: call.prepare_gradients(*moved[:2], function), q.device)
        grads = call.gradients(*moved, tiles.movable(out), lse, out_grad, lse_grad, function)
        return _strided(grads[0], q), _strided(grads[1], k), _strided(grads[2], v)


def _backward_fake(q: Tensor, k: Tensor, v: Tensor, *others: Any) -> tuple[Tensor, Tensor, Tensor]:
    return _like(q), _like(k), _like(v)


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    q, k, v, mask, *ctx.options = inputs
    ctx.save_for_backward(q, k, v, *output, mask)
    ctx.set_materialize_grads(False)


def _call(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None,
    number: int,
    scale: float | None,
    causal: bool,
    window: list[int] | None,
    score: int,
) -> tuple[tuple[Tensor, Tensor, Tensor], Attention, Score | None]:
    """The tensors as the program takes them, the prepared call, and the function of scores."""
    moved = tiles.movable(q), tiles.movable(k), tiles.movable(v)
    given = numbered(number) if mask is None else mask
    function = numbered(score)
    options = scale, causal, _window(window), function
    call = kept_call(*moved, given, *options) if is_listed(given, *moved[:2]) else None
    if call is None:
        call = apart(lambda: call_for(*moved, given, *options), q.device)
    return moved, call, function


def _window(sides: list[int] | None) -> Window:
    return None if sides is None else sides[0] if len(sides) == 1 else (sides[0], sides[1])


def _like(tensor: Tensor) -> Tensor:
    """A new tensor with the strides that results have, wherever the tensor lies in memory."""
    if tiles.has_movable_steps(tensor):
        return tiles.empty_as(tensor)
    return torch.empty(tensor.shape, dtype=tensor.dtype, device=tensor.device)


def _strided(result: Tensor, tensor: Tensor) -> Tensor:
    """A result with the strides that `_like` has promised, which are others only where a tensor had to be copied."""
    wanted = _like(tensor)
    return result if result.stride() == wanted.stride() else wanted.copy_(result)


def _operator(name: str, tags: tuple[torch.Tag, ...]) -> Any:
    """The operator, and that of its gradients."""
    forward = torch.library.custom_op(f"gossamer::{name}", _forward, mutates_args=(), tags=tags)
    backward = torch.library.custom_op(f"gossamer::{name}_backward", _backward, mutates_args=(), tags=tags)
    forward.register_fake(_forward_fake)
    backward.register_fake(_backward_fake)

    def gradients(ctx: Any, out_grad: Tensor | None, lse_grad: Tensor | None) -> tuple[Tensor | None, ...]:
        if out_grad is None and lse_grad is None:
            return (None,) * 9
        *tensors, mask = ctx.saved_tensors
        return *backward(*tensors, out_grad, lse_grad, mask, *ctx.options), *((None,) * 6)

    forward.register_autograd(gradients, setup_context=_save)
    return forward


tile_attention = _operator("tile_attention", ())
# A CUDA graph would keep the list of blocks of the values that a mask had when it was recorded.
changing_tile_attention = _operator("changing_tile_attention", (_NO_GRAPH,))


@torch.library.custom_op("gossamer::sparse_attention", mutates_args=(), tags=(_NO_GRAPH,))
def sparse_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None,
    number: int,
    scale: float | None,
    causal: bool,
    window: list[int] | None,
    score: int,
) -> Tensor:
    """Attention with objects that have numbers where there is no tile program, as an eager call runs it."""
    with outside_of_operators(), torch.no_grad():
        return _eager(q.detach(), k.detach(), v.detach(), mask, number, scale, causal, window, score).contiguous()


@sparse_attention.register_fake
def _(q: Tensor, k: Tensor, v: Tensor, *options: Any) -> Tensor:
    return torch.empty(q.shape, dtype=q.dtype, device=q.device)


@torch.library.custom_op("gossamer::sparse_attention_backward", mutates_args=(), tags=(_NO_GRAPH,))
def sparse_attention_backward(
    out_grad: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None,
    number: int,
    scale: float | None,
    causal: bool,
    window: list[int] | None,
    score: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of q, k and v; the output is computed again, as nothing else of its graph could be kept."""
    with outside_of_operators():
        q, k, v = (tensor.detach().requires_grad_() for tensor in (q, k, v))
        with torch.enable_grad():
            out = _eager(q, k, v, mask, number, scale, causal, window, score)
        grads = torch.autograd.grad(out, (q, k, v), out_grad)
    return grads[0].contiguous(), grads[1].contiguous(), grads[2].contiguous()


@sparse_attention_backward.register_fake
def _(out_grad: Tensor, q: Tensor, k: Tensor, v: Tensor, *options: Any) -> tuple[Tensor, Tensor, Tensor]:
    q, k, v = (torch.empty(tensor.shape, dtype=tensor.dtype, device=tensor.device) for tensor in (q, k, v))
    return q, k, v


def _save_inputs(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    q, k, v, mask, *ctx.options = inputs
    ctx.save_for_backward(q, k, v, mask)


def _backward_again(ctx: Any, out_grad: Tensor) -> tuple[Tensor | None, ...]:
    return *sparse_attention_backward(out_grad, *ctx.saved_tensors, *ctx.options), *((None,) * 6)


sparse_attention.register_autograd(_backward_again, setup_context=_save_inputs)


def _eager(
    q: Tensor, k: Tensor, v: Tensor, mask: Any, number: int, scale: Any, causal: bool, window: Any, score: int
) -> Tensor:
    mask = numbered(number) if mask is None else mask
    function = numbered(score)
    out = attention(q, k, v, mask, scale=scale, causal=causal, window=_window(window), score_mod=function)
    assert isinstance(out, Tensor)
    return out
