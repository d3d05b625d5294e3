"""`gs.attention`: attention under a block-sparse mask, on tensor cores where that is possible."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from gossamer.blocks import BlockList
from gossamer.errors import FormatError, TensorError, UnsupportedError
from gossamer.jit import sparse_jit
from gossamer.runtime import tiles
from gossamer.runtime.tile_autograd import differentiable, why_no_gradient
from gossamer.tensor import SparseTensor

Mask = SparseTensor | BlockList | None
_KEPT = 4096
_calls: dict[Any, Any] = {}
_BLOCKS = {(128, 128), (128, 64), (128, 32), (128, 16), (64, 64), (64, 32), (64, 16)}


def attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Mask = None,
    *,
    scale: float | None = None,
    causal: bool = False,
    window: int | None = None,
    return_lse: bool = False,
) -> Tensor | tuple[Tensor, Tensor]:
    """softmax(scale q k^T) v over the keys that the mask allows.

    On a Hopper GPU float16 and bfloat16 run as a tile program on tensor cores, for head sizes up to 128 and masks of
    whole blocks; everything else runs as `sparse_jit` compiles it, or as PyTorch's own attention where there is no
    mask. `gs.explain(gs.attention, q, k, v, mask)` says which, and why.

    Args:
        q: [batch, heads, queries, columns], of any strides.
        k, v: [batch, kv heads, keys, columns]; heads are a multiple of kv heads, of which each serves as many in a row.
        mask: Which keys a query sees: a `BlockList`, or a bool `SparseTensor` such as `gs.sparsify(allowed,
            gs.BSR(128))`, [queries, keys] up to [batch, heads, queries, keys]; None: all.
        scale: Of the scores; None: 1 / sqrt(columns).
        causal: Whether a query sees the keys up to its own only; not together with a mask.
        window: With `causal`: how many keys a query sees at most, its own and those before it; None: all of these.
        return_lse: Whether to return the log-sum-exp of each query's scores, too.

    Returns:
        The output, as q; a query that sees nothing gets 0. With `return_lse` also float32 [batch, heads, queries],
        -inf for such a query.

    Raises:
        TensorError: Shapes, dtypes or devices that do not go together.
        UnsupportedError: `return_lse` where there is no tile program for these arguments; the text says why.
    """
    key, kept = None, _calls
    if all(isinstance(tensor, Tensor) and tensor.is_cuda for tensor in (q, k, v)):
        key, kept = _key(q, k, v, mask, scale, causal, window)
        call = kept.get(key)
        if call is not None and _is_as_kept(q, k, v):
            out, lse = call(q, k, v)
            return (out, lse) if return_lse else out
    _check(q, k, v, mask, causal, window)
    scale = _scale_of(q, scale)
    kind, blocks, reason = _plan(q, k, v, mask, scale, causal, window)
    if kind is not None and _wants_gradient(q, k, v):
        out, lse = differentiable(kind, q, k, v, blocks, scale, window or 0)
        return (out, lse) if return_lse else out
    if kind is not None:
        out, lse = tiles.run(kind, q, k, v, blocks, scale, window or 0)
        if key is not None and tiles.can_move(q, k, v):
            if len(kept) > _KEPT:
                kept.clear()
            kept[key] = tiles.prepare(kind, q, k, v, blocks, scale, window or 0)
        return (out, lse) if return_lse else out
    if return_lse:
        raise UnsupportedError(f"return_lse needs the tile program of attention, and {reason}")
    return _otherwise(q, k, v, mask, scale, causal, window)


def _key(
    q: Tensor, k: Tensor, v: Tensor, mask: Mask, scale: float | None, causal: bool, window: int | None
) -> tuple[Any, dict[Any, Any]]:
    """What a prepared call depends on, and where it is kept: with the mask, so that it does not outlive it."""
    options: tuple[Any, ...] = (scale, causal, window, "call")
    kept = _calls
    if isinstance(mask, BlockList):
        kept = mask._derived
    elif isinstance(mask, SparseTensor):
        kept = mask.pattern._derived
        options = (*options, mask.values.data_ptr(), mask.values._version)
    elif mask is not None:
        return None, {}
    return tuple((t.shape, t.stride(), t.dtype, t.device) for t in (q, k, v)) + options, kept


def _is_as_kept(q: Tensor, k: Tensor, v: Tensor) -> bool:
    """Whether tensors need nothing but a prepared call."""
    if (q.data_ptr() | k.data_ptr() | v.data_ptr()) & 15:
        return False
    if _wants_gradient(q, k, v):
        return False
    return not (q.is_neg() or k.is_neg() or v.is_neg())


def _wants_gradient(*tensors: Tensor) -> bool:
    return torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)


def _check(q: Tensor, k: Tensor, v: Tensor, mask: Mask, causal: bool, window: int | None) -> None:
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
    if causal and q.shape[2] != k.shape[2]:
        raise TensorError(f"causal attention has as many queries as keys, not {q.shape[2]} and {k.shape[2]}")
    if window is not None and not (causal and window > 0):
        raise TensorError(f"a window is of causal attention and has at least one key; it is {window}, causal {causal}")
    if mask is None:
        return
    if not isinstance(mask, (BlockList, SparseTensor)):
        raise TensorError(
            f"the mask of attention is a BlockList or a bool SparseTensor (gs.sparsify(allowed, gs.BSR(128))), not a "
            f"{type(mask).__name__}"
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


def _plan(
    q: Tensor, k: Tensor, v: Tensor, mask: Mask, scale: float, causal: bool, window: int | None
) -> tuple[tiles.Kind | None, BlockList | None, str]:
    """The kernel and its list; or why there is none."""
    if q.device.type != "cuda":
        return None, None, f"it runs on a GPU, not on {q.device.type}"
    if not tiles.is_hopper(q.device):
        return None, None, f"it is made for {tiles.CHIP}, which {q.device} is not"
    kind, blocks, reason = kind_of(q, k, mask, scale, causal, window)
    if kind is not None and _wants_gradient(q, k, v):
        reason = why_no_gradient(kind)
        if reason:
            return None, None, reason
    return kind, blocks, reason


def attention_road(
    q: Tensor, k: Tensor, v: Tensor, mask: Mask, scale: float | None, causal: bool, window: int | None
) -> tuple[tiles.Kind | None, str]:
    """The kernel that a call of `attention` runs, or why it runs none."""
    _check(q, k, v, mask, causal, window)
    kind, _, reason = _plan(q, k, v, mask, _scale_of(q, scale), causal, window)
    return kind, reason


def attention_kind(
    q: Tensor, k: Tensor, v: Tensor, mask: Mask, scale: float | None, causal: bool, window: int | None
) -> tuple[tiles.Kind | None, str]:
    """The kernel that it would run on a Hopper GPU, wherever the tensors are."""
    _check(q, k, v, mask, causal, window)
    kind, _, reason = kind_of(q, k, mask, _scale_of(q, scale), causal, window)
    return kind, reason


def _scale_of(q: Tensor, scale: float | None) -> float:
    if scale is None:
        return 1 / math.sqrt(q.shape[3]) if q.shape[3] else 1.0
    return float(scale)


def kind_of(
    q: Tensor, k: Tensor, mask: Mask, scale: float, causal: bool, window: int | None = None
) -> tuple[tiles.Kind | None, BlockList | None, str]:
    """The kernel for these arguments on a Hopper GPU, and the block list; or why there is none."""
    if q.dtype not in tiles.DTYPES:
        return None, None, f"it multiplies bfloat16 and float16, not {q.dtype}"
    columns = q.shape[3]
    if not 0 < columns <= 128 or columns % 8:
        return None, None, f"it takes heads of 8, 16, ... or 128 columns, not {columns}"
    if not 0 < scale < math.inf:
        return None, None, f"its scale is above 0, not {scale}"
    if q.shape[0] * q.shape[1] * max(q.shape[2], 1) >= 1 << 31 or k.shape[2] >= 1 << 30:
        return None, None, "it counts in 32 bits"
    blocks = mask
    if isinstance(mask, SparseTensor):
        try:
            blocks = BlockList.of(mask)
        except (TensorError, FormatError) as error:
            return None, None, f"of the mask: {error}"
    assert blocks is None or isinstance(blocks, BlockList)
    block = (128, 128) if blocks is None else blocks.block
    if block not in _BLOCKS:
        return None, None, f"it has no tiles for blocks of {block[0]} x {block[1]}"
    tail = not causal and k.shape[2] % block[1] != 0
    head = 64 if columns <= 64 else 128
    kind = tiles.Kind(q.dtype, head, block, blocks is not None, causal, window is not None, tail)
    return kind, blocks, ""


@sparse_jit
def _masked(q: Tensor, k: Tensor, v: Tensor, mask: Any, scale: float) -> Tensor:
    scores = (q @ k.transpose(-2, -1)) * scale
    return torch.softmax(torch.where(mask, scores, -math.inf), -1) @ v


def _otherwise(q: Tensor, k: Tensor, v: Tensor, mask: Mask, scale: float, causal: bool, window: int | None) -> Tensor:
    if window is not None:
        allowed = torch.ones(q.shape[2], k.shape[2], dtype=torch.bool, device=q.device).tril().triu(1 - window)
        return F.scaled_dot_product_attention(
            q, k, v, attn_mask=allowed, scale=scale, enable_gqa=q.shape[1] != k.shape[1]
        )
    if mask is None:
        return F.scaled_dot_product_attention(
            q, k, v, is_causal=causal, scale=scale, enable_gqa=q.shape[1] != k.shape[1]
        )
    k, v = _repeated(k, q.shape[1]), _repeated(v, q.shape[1])
    return _masked(q, k, v, mask.to_mask() if isinstance(mask, BlockList) else mask, scale)


def _repeated(tensor: Tensor, heads: int) -> Tensor:
    return tensor if tensor.shape[1] == heads else tensor.repeat_interleave(heads // tensor.shape[1], 1)
