"""`gs.attention`: attention under a block-sparse mask, on tensor cores where that is possible."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.weak import WeakIdKeyDictionary

from gossamer.block_sources import band
from gossamer.blocks import BlockList
from gossamer.errors import TensorError, UnsupportedError
from gossamer.jit import sparse_jit
from gossamer.patterns.base import PositionPattern
from gossamer.patterns.masks import listed
from gossamer.runtime import tiles
from gossamer.runtime.tile_autograd import Attention
from gossamer.score import Score, ScoreMod, score_of
from gossamer.tensor import SparseTensor

Mask = PositionPattern | SparseTensor | BlockList | Tensor | None
# How many keys a query sees at most, or how many before and behind its own; below 0: all.
Window = int | tuple[int, int] | None
_KEPT = 4096
_calls: dict[Any, Any] = {}
# For each dense mask what is derived of it, and of which version.
_dense: WeakIdKeyDictionary = WeakIdKeyDictionary()
# A window of so few keys costs less in small blocks.
_NARROW = 512


def attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Mask = None,
    *,
    scale: float | None = None,
    causal: bool = False,
    window: Window = None,
    score_mod: ScoreMod | Score | None = None,
    return_lse: bool = False,
) -> Tensor | tuple[Tensor, Tensor]:
    """softmax(scale q k^T) v over the keys that the mask allows.

    On a Hopper GPU float16 and bfloat16 run as a tile program on tensor cores, for head sizes up to 128 and any mask;
    everything else runs as `sparse_jit` compiles it, or as PyTorch's own attention where the mask is dense or there is
    none. `gs.explain(gs.attention, q, k, v, mask)` says which, and why. A mask is cut into blocks when it is first
    used, and nothing is compiled for it.

    Args:
        q: [batch, heads, queries, columns], of any strides.
        k, v: [batch, kv heads, keys, columns]; heads are a multiple of kv heads, of which each serves as many in a row.
        mask: Which keys a query sees: a pattern of `gs.patterns`, a `BlockList`, a bool `SparseTensor` of any format,
            or a bool tensor, [queries, keys] up to [batch, heads, queries, keys]; None: all.
        scale: Of the scores; None: 1 / sqrt(columns).
        causal: Whether query i sees the keys up to key i only; not together with a mask. As in PyTorch's
            `scaled_dot_product_attention` both count from the first, whatever the lengths.
        window: (left, right): query i sees the keys from i - left to i + right, all on a side where that is below 0;
            with `causal` none behind key i. A number, with `causal`: how many keys a query sees at most, its own and
            those before it. None: all. Not together with a mask.
        score_mod: What becomes of a score before it is masked: a function of (score, batch, head, query, key), such as
            a `score_mod` of flex_attention, of scale q k^T in float32; see `gs.Score`, which torch.compile must be
            given. None: nothing.
        return_lse: Whether to return the log-sum-exp of each query's scores, too.

    Returns:
        The output, as q; a query that sees nothing gets 0. With `return_lse` also float32 [batch, heads, queries],
        -inf for such a query.

    Raises:
        TensorError: Shapes, dtypes or devices that do not go together.
        TraceError: A `score_mod` that cannot be traced; names the line.
        UnsupportedError: `return_lse` where there is no tile program for these arguments; the text says why. A
            `score_mod` with an operation that regions do not have, or, where gradients are wanted, that has no
            derivative; names the operation and the line. One that captures a tensor which requires a gradient.
    """
    if torch.compiler.is_compiling():
        from gossamer.attention_op import traced

        return traced(q, k, v, mask, scale, causal, window, score_mod, return_lse)
    mask, score = listed(mask, q, k), score_of(score_mod)
    key, kept = None, _calls
    if all(isinstance(tensor, Tensor) and tensor.is_cuda for tensor in (q, k, v)):
        key, kept = _key(q, k, v, mask, scale, causal, window, score)
        call = kept.get(key)
        if call is not None and _is_as_kept(q, k, v):
            out, lse = call(q, k, v, score)
            return (out, lse) if return_lse else out
    check(q, k, v, mask, causal, window)
    number = scale_of(q, scale)
    kind, blocks, reason = _plan(q, k, mask, number, causal, window, score)
    if kind is not None:
        call = _call_of(kind, blocks, q, k, v, number, causal, window, key, kept)
        out, lse = call(q, k, v, score)
        return (out, lse) if return_lse else out
    if return_lse:
        raise no_lse(reason)
    return otherwise(q, k, v, mask, number, causal, window, score)


def kept_call(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Mask,
    scale: float | None,
    causal: bool,
    window: Window,
    score: Score | None = None,
) -> Attention | None:
    """The call that `call_for` has made for such tensors, if it is there."""
    key, kept = _key(q, k, v, listed(mask, q, k), scale, causal, window, score)
    return kept.get(key)


def call_for(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Mask,
    scale: float | None,
    causal: bool,
    window: Window,
    score: Score | None = None,
) -> Attention:
    """The call of the tile program for tensors that can be moved, wherever they are; kept if they are not empty."""
    mask = listed(mask, q, k)
    key, kept = _key(q, k, v, mask, scale, causal, window, score)
    check(q, k, v, mask, causal, window)
    number = scale_of(q, scale)
    kind, blocks, reason = kind_of(q, k, mask, number, causal, window, score)
    if kind is None:
        raise UnsupportedError(f"there is no tile program for this attention: {reason}")
    return _call_of(kind, blocks, q, k, v, number, causal, window, key, kept)


def _call_of(
    kind: tiles.Kind,
    blocks: BlockList | None,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    scale: float,
    causal: bool,
    window: Window,
    key: Any,
    kept: dict[Any, Any],
) -> Attention:
    """A call of a tile program, kept if it is one for all tensors that are as these but for their addresses."""
    limit = 0
    if kind.window:
        left, _ = _sides(causal, window)
        assert left is not None
        limit = left + 1
    gradient_blocks = partial(_gradient_blocks, q.shape[2], k.shape[2], causal, window, q.device)
    if key is None or not tiles.can_move(q, k, v):
        return Attention(kind, blocks, scale, limit, gradient_blocks)
    call = Attention(kind, blocks, scale, limit, gradient_blocks, like=(q, k, v))
    if len(kept) > _KEPT:
        kept.clear()
    kept[key] = call
    return call


def no_lse(reason: str) -> UnsupportedError:
    return UnsupportedError(f"return_lse needs the tile program of attention, and {reason}")


def _key(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Mask,
    scale: float | None,
    causal: bool,
    window: Window,
    score: Score | None,
) -> tuple[Any, dict[Any, Any]]:
    """What a prepared call depends on, and where it is kept: with the mask, so that it does not outlive it."""
    options: tuple[Any, ...] = (scale, causal, window, None if score is None else score.code, "call")
    kept = _calls
    if isinstance(mask, BlockList):
        kept = mask._derived
    elif isinstance(mask, SparseTensor):
        kept = mask.pattern._derived
        options = (*options, mask.values.data_ptr(), mask.values._version)
    elif isinstance(mask, Tensor):
        kept = _derived_of(mask)
    elif mask is not None:
        return None, {}
    return tuple((t.shape, t.stride(), t.dtype, t.device) for t in (q, k, v)) + options, kept


def _derived_of(mask: Tensor) -> dict[Any, Any]:
    """What is kept of a dense mask until it changes."""
    if mask.is_inference():  # which does not say that it changes
        return {}
    kept = _dense.get(mask)
    if kept is None or kept[0] != mask._version:
        kept = _dense[mask] = (mask._version, {})
    return kept[1]


def _is_as_kept(q: Tensor, k: Tensor, v: Tensor) -> bool:
    """Whether tensors need nothing but a prepared call."""
    if (q.data_ptr() | k.data_ptr() | v.data_ptr()) & 15:
        return False
    return not (q.is_neg() or k.is_neg() or v.is_neg())


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


def _sides(causal: bool, window: Window) -> tuple[int | None, int | None]:
    """How many keys before and behind its own a query sees; None: all."""
    left, right = (window - 1, -1) if isinstance(window, int) else (-1, -1) if window is None else window
    return None if left < 0 else left, 0 if causal else None if right < 0 else right


def _plan(
    q: Tensor, k: Tensor, mask: Mask, scale: float, causal: bool, window: Window, score: Score | None
) -> tuple[tiles.Kind | None, BlockList | None, str]:
    """The kernel and its list; or why there is none."""
    reason = where_not(q.device)
    if reason:
        return None, None, reason
    return kind_of(q, k, mask, scale, causal, window, score)


def where_not(device: torch.device) -> str:
    """Why a device runs no kernel; nothing if it does."""
    if device.type != "cuda":
        return f"it runs on a GPU, not on {device.type}"
    if not tiles.is_hopper(device):
        return f"it is made for {tiles.CHIP}, which {device} is not"
    return ""


def attention_road(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Mask = None,
    scale: float | None = None,
    causal: bool = False,
    window: Window = None,
    score_mod: ScoreMod | Score | None = None,
    return_lse: bool = False,
) -> tuple[tiles.Kind | None, str]:
    """The kernel that a call of `attention` runs, or why it runs none."""
    mask = listed(mask, q, k)
    check(q, k, v, mask, causal, window)
    kind, _, reason = _plan(q, k, mask, scale_of(q, scale), causal, window, score_of(score_mod))
    return kind, reason


def attention_kind(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Mask = None,
    scale: float | None = None,
    causal: bool = False,
    window: Window = None,
    score_mod: ScoreMod | Score | None = None,
    return_lse: bool = False,
) -> tuple[tiles.Kind | None, str]:
    """The kernel that it would run on a Hopper GPU, wherever the tensors are."""
    mask = listed(mask, q, k)
    check(q, k, v, mask, causal, window)
    kind, _, reason = kind_of(q, k, mask, scale_of(q, scale), causal, window, score_of(score_mod))
    return kind, reason


def scale_of(q: Tensor, scale: float | None) -> float:
    if scale is None:
        return 1 / math.sqrt(q.shape[3]) if q.shape[3] else 1.0
    return float(scale)


def kind_of(
    q: Tensor,
    k: Tensor,
    mask: Mask,
    scale: float,
    causal: bool,
    window: Window = None,
    score: Score | None = None,
) -> tuple[tiles.Kind | None, BlockList | None, str]:
    """The kernel for these arguments on a Hopper GPU, and the block list; or why there is none."""
    reason = why_not(q, k, scale)
    if reason:
        return None, None, reason
    blocks, causal, limited = _blocks_of(q, k, mask, causal, window)
    columns = q.shape[3]
    head = 64 if columns <= 64 else 128
    if blocks is not None:
        blocks = blocks.tiled(wide=head > 64)
    block = (128, 128) if blocks is None else blocks.block
    partial = blocks is not None and blocks.has_partial
    tail = not causal and not partial and k.shape[2] % block[1] != 0
    region = "" if score is None else score.region
    return tiles.Kind(q.dtype, head, block, blocks is not None, causal, limited, tail, partial, region), blocks, ""


def why_not(q: Tensor, k: Tensor, scale: float) -> str:
    """Why there is no kernel for such tensors, whatever the mask; nothing if there is one."""
    if q.dtype not in tiles.DTYPES:
        return f"it multiplies bfloat16 and float16, not {q.dtype}"
    columns = q.shape[3]
    if not 0 < columns <= 128 or columns % 8:
        return f"it takes heads of 8, 16, ... or 128 columns, not {columns}"
    if not 0 < scale < math.inf:
        return f"its scale is above 0, not {scale}"
    if q.shape[0] * q.shape[1] * max(q.shape[2], 1) >= 1 << 31 or k.shape[2] >= 1 << 30:
        return "it counts in 32 bits"
    return ""


def _gradient_blocks(queries: int, keys: int, causal: bool, window: Window, device: torch.device) -> BlockList:
    """The list of a mask that the output needs none for; gradients do."""
    left, right = _sides(causal, window)
    return band(queries, keys, left, right, (128, 128), device)


def _blocks_of(q: Tensor, k: Tensor, mask: Mask, causal: bool, window: Window) -> tuple[BlockList | None, bool, bool]:
    """The list of a mask, if it needs one; and else whether it is causal and has a window, which needs none."""
    if isinstance(mask, SparseTensor):
        return BlockList.of(mask), False, False
    if isinstance(mask, Tensor):
        kept = _derived_of(mask)
        if "block list" not in kept:
            kept["block list"] = BlockList.of(mask)
        return kept["block list"], False, False
    if mask is not None:
        assert isinstance(mask, BlockList)
        return mask, False, False
    left, right = _sides(causal, window)
    queries, keys = q.shape[2], k.shape[2]
    if left is not None and left >= queries - 1:
        left = None
    if right is not None and right >= keys - 1:
        right = None
    if left is None and right is None:
        return None, False, False
    if right == 0 and queries == keys:
        return None, True, left is not None
    is_narrow = left is not None and right is not None and left + right < _NARROW
    block = (64, 64) if is_narrow else (128, 128)
    return band(queries, keys, left, right, block, q.device), False, False


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
    left, right = _sides(causal, window)
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
