"""What `gs.attention` is given: what its arguments mean, and whether they go together."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from gossamer.blocks import BlockList
from gossamer.errors import TensorError
from gossamer.patterns.base import PositionPattern
from gossamer.tensor import SparseTensor

Mask = PositionPattern | SparseTensor | BlockList | Tensor | None
# How many keys a query sees at most, or how many before and behind its own; below 0: all.
Window = int | tuple[int, int] | None


def check(q: Tensor, k: Tensor, v: Tensor, mask: Mask, causal: bool, window: Window) -> None:
    for name, tensor in (("q", q), ("k", k), ("v", v)):
        if not isinstance(tensor, Tensor) or tensor.dim() != 4:
            given = f"of shape {list(tensor.shape)}" if isinstance(tensor, Tensor) else f"a {type(tensor).__name__}"
            raise TensorError(f"{name} of attention is a tensor [batch, heads, length, columns], not {given}")
        if tensor.dtype != q.dtype or tensor.device != q.device:
            raise TensorError(f"q is {q.dtype} on {q.device}, {name} is {tensor.dtype} on {tensor.device}")
    if k.shape != v.shape or q.shape[0] != k.shape[0] or q.shape[3] != k.shape[3]:
        raise TensorError(f"q {list(q.shape)}, k {list(k.shape)} and v {list(v.shape)} do not go together")
    if k.shape[1] == 0 or q.shape[1] % k.shape[1]:
        raise TensorError(f"{q.shape[1]} heads of q are no multiple of {k.shape[1]} heads of k and v")
    if causal and mask is not None:
        raise TensorError("attention is causal or has a mask: a mask that is causal says so itself")
    _check_window(causal, window)
    if mask is None:
        return
    if window is not None:
        raise TensorError("attention has a window or a mask: a mask that is a window says so itself")
    if not isinstance(mask, (BlockList, SparseTensor, Tensor)):
        raise TensorError(
            f"the mask of attention is a pattern, a BlockList, a bool SparseTensor or a bool tensor, not a "
            f"{type(mask).__name__}"
        )
    if not isinstance(mask, BlockList) and (mask.dtype != torch.bool or not 2 <= mask.dim() <= 4):
        raise TensorError(
            f"a mask is bool, [queries, keys] up to [batch, heads, queries, keys], not {mask.dtype} of shape "
            f"{list(mask.shape)}"
        )
    if mask.device != q.device:
        raise TensorError(f"q is on {q.device}, the mask on {mask.device}")
    lead = tuple(mask.count.shape[:2]) if isinstance(mask, BlockList) else tuple(mask.shape[:-2])
    sizes = tuple(mask.shape[-2:])
    if sizes != (q.shape[2], k.shape[2]):
        raise TensorError(f"a mask of {sizes[0]} queries and {sizes[1]} keys, for {q.shape[2]} and {k.shape[2]}")
    for given, wanted in zip(reversed(lead), (q.shape[1], q.shape[0]), strict=False):
        if given not in (1, wanted):
            raise TensorError(f"a mask with leading dimensions {lead} for batch and heads {tuple(q.shape[:2])}")
    if isinstance(mask, BlockList) and mask.packed_keys is not None:
        own = tuple(mask.packed_keys.shape[:2])
        if own[0] not in (1, k.shape[0]) or own[1] not in (1, k.shape[1]):
            raise TensorError(f"a mask that packs keys of (batch, heads) {own}, for keys of {tuple(k.shape[:2])}")


def _check_window(causal: bool, window: Window) -> None:
    if window is None:
        return
    if isinstance(window, int):
        if not (causal and window > 0):
            raise TensorError(
                f"a window of a number of keys is of causal attention and has at least one key; it is {window}, causal "
                f"{causal}. (left, right) is a window on both sides"
            )
    elif not (isinstance(window, tuple) and len(window) == 2 and all(isinstance(side, int) for side in window)):
        raise TensorError(f"a window is a number of keys or (left, right), not {window!r}")


def sides_of(causal: bool, window: Window) -> tuple[int | None, int | None]:
    """How many keys before and behind its own a query sees; None: all."""
    left, right = (window - 1, -1) if isinstance(window, int) else (-1, -1) if window is None else window
    return None if left < 0 else left, 0 if causal else None if right < 0 else right


def scale_of(q: Tensor, scale: float | None) -> float:
    if scale is None:
        return 1 / math.sqrt(q.shape[3]) if q.shape[3] else 1.0
    return float(scale)
