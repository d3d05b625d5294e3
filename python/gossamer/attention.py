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
from gossamer.runtime import tile_split, tiles
from gossamer.runtime.tile_autograd import Attention
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
    return_lse: bool = False,
) -> Tensor | tuple[Tensor, Tensor]:
    """softmax(scale q k^T) v over the keys that the mask allows.

    On a GPU float16 and bfloat16 run as a tile program on tensor cores, for head sizes up to 128 (on Hopper, without
    gradients: 256) and any mask; everything else runs as `sparse_jit` compiles it, or as PyTorch's own attention where
    the mask is dense or there is none. `gs.explain(gs.attention, q, k, v, mask)` says which, and why. A mask is cut
    into blocks when it is first used, and nothing is compiled for it.

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
        return_lse: Whether to return the log-sum-exp of each query's scores, too.

    Returns:
        The output, as q; a query that sees nothing gets 0. With `return_lse` also float32 [batch, heads, queries],
        -inf for such a query.

    Raises:
        TensorError: Shapes, dtypes or devices that do not go together.
        UnsupportedError: `return_lse` where there is no tile program for these arguments; the text says why.
    """
    if torch.compiler.is_compiling():
        from gossamer.attention_op import traced

        return traced(q, k, v, mask, scale, causal, window, return_lse)
    mask = listed(mask, q, k)
    if all(isinstance(tensor, Tensor) and tensor.is_cuda for tensor in (q, k, v)):
        key, kept = _key(q, k, v, mask, scale, causal, window)
        call = kept.get(key)
        if call is not None and is_as_kept(q, k, v) and not why_no_gradients(q, k, v):
            out, lse = call(q, k, v)
            return (out, lse) if return_lse else out
    check(q, k, v, mask, causal, window)
    number = scale_of(q, scale)
    kind, blocks, reason = _plan(q, k, v, mask, number, causal, window)
    if kind is not None:
        call = _call_of(kind, blocks, q, k, v, mask, scale, causal, window)
        out, lse = call(q, k, v)
        return (out, lse) if return_lse else out
    if return_lse:
        raise no_lse(reason)
    return otherwise(q, k, v, mask, number, causal, window)


def kept_call(
    q: Tensor, k: Tensor, v: Tensor, mask: Mask, scale: float | None, causal: bool, window: Window
) -> Attention | None:
    """The call that `call_for` has made for such tensors, if it is there."""
    key, kept = _key(q, k, v, listed(mask, q, k), scale, causal, window)
    return kept.get(key)


def call_for(
    q: Tensor, k: Tensor, v: Tensor, mask: Mask, scale: float | None, causal: bool, window: Window
) -> Attention:
    """The call of the tile program for tensors that can be moved, wherever they are; kept if they are not empty."""
    mask = listed(mask, q, k)
    check(q, k, v, mask, causal, window)
    kind, blocks, reason = kind_of(q, k, mask, scale_of(q, scale), causal, window)
    if kind is None:
        raise UnsupportedError(f"there is no tile program for this attention: {reason}")
    return _call_of(kind, blocks, q, k, v, mask, scale, causal, window)


def _call_of(
    kind: tiles.Kind,
    blocks: BlockList | None,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Mask,
    scale: float | None,
    causal: bool,
    window: Window,
) -> Attention:
    """A call of a tile program, kept if it is one for all tensors that are as these but for their addresses."""
    blocks = None if blocks is None else blocks.without_calls()
    limit = 0
    if kind.window:
        left, _ = _sides(causal, window)
        assert left is not None
        limit = left + 1
    step = tiles.step_of(kind.chip)
    gradient_blocks = partial(_gradient_blocks, q.shape[2], k.shape[2], causal, window, q.device, step)
    number = scale_of(q, scale)
    key, kept = _key(q, k, v, mask, scale, causal, window)
    if key is None or not tiles.can_move(q, k, v):
        return Attention(kind, blocks, number, limit, gradient_blocks)
    call = Attention(kind, blocks, number, limit, gradient_blocks, like=(q, k, v))
    if len(kept) > _KEPT:
        kept.clear()
    kept[key] = call
    return call


def no_lse(reason: str) -> UnsupportedError:
    return UnsupportedError(f"return_lse needs the tile program of attention, and {reason}")


def _key(
    q: Tensor, k: Tensor, v: Tensor, mask: Mask, scale: float | None, causal: bool, window: Window
) -> tuple[Any, dict[Any, Any]]:
    """What a prepared call depends on, and where it is kept: with the mask, so that it does not outlive it."""
    options: tuple[Any, ...] = (scale, causal, window, "call")
    kept = _calls
    if isinstance(mask, BlockList):
        kept = mask._calls
    elif isinstance(mask, SparseTensor):
        blocks = BlockList.kept(mask)
        kept = {} if blocks is None else blocks._calls
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


def is_as_kept(q: Tensor, k: Tensor, v: Tensor) -> bool:
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


def _sides(causal: bool, window: Window) -> tuple[int | None, int | None]:
    """How many keys before and behind its own a query sees; None: all."""
    left, right = (window - 1, -1) if isinstance(window, int) else (-1, -1) if window is None else window
    return None if left < 0 else left, 0 if causal else None if right < 0 else right


def _plan(
    q: Tensor, k: Tensor, v: Tensor, mask: Mask, scale: float, causal: bool, window: Window
) -> tuple[tiles.Kind | None, BlockList | None, str]:
    """The kernel and its list; or why there is none."""
    reason = where_not(q.device) or why_no_gradients(q, k, v)
    if reason:
        return None, None, reason
    return kind_of(q, k, mask, scale, causal, window)


def where_not(device: torch.device) -> str:
    """Why a device runs no kernel; nothing if it does."""
    if device.type != "cuda":
        return f"it runs on a GPU, not on {device.type}"
    try:
        tiles.chip_for(device)
    except UnsupportedError as error:
        return str(error)
    return ""


def attention_road(
    q: Tensor, k: Tensor, v: Tensor, mask: Mask, scale: float | None, causal: bool, window: Window
) -> tuple[tiles.Kind | None, str]:
    """The kernel that a call of `attention` runs, or why it runs none."""
    mask = listed(mask, q, k)
    check(q, k, v, mask, causal, window)
    kind, _, reason = _plan(q, k, v, mask, scale_of(q, scale), causal, window)
    return kind, reason


def attention_kind(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Mask,
    scale: float | None,
    causal: bool,
    window: Window,
    chip: str = tiles.CHIP,
) -> tuple[tiles.Kind | None, str]:
    """The kernel that it would run on a GPU, wherever the tensors are."""
    mask = listed(mask, q, k)
    check(q, k, v, mask, causal, window)
    reason = why_no_gradients(q, k, v)
    if reason:
        return None, reason
    kind, _, reason = kind_of(q, k, mask, scale_of(q, scale), causal, window, chip)
    return kind, reason


def scale_of(q: Tensor, scale: float | None) -> float:
    if scale is None:
        return 1 / math.sqrt(q.shape[3]) if q.shape[3] else 1.0
    return float(scale)


def kind_of(
    q: Tensor, k: Tensor, mask: Mask, scale: float, causal: bool, window: Window = None, chip: str | None = None
) -> tuple[tiles.Kind | None, BlockList | None, str]:
    """The kernel for these arguments on a GPU, the tensors' if none is named, and the block list; or why there is
    none.
    """
    chip = chip or tiles.chip_for(q.device)
    reason = why_not(q, k, scale, chip)
    if reason:
        return None, None, reason
    blocks, causal, limited = _blocks_of(q, k, mask, causal, window)
    head = next(size for size in tiles.HEADS if q.shape[3] <= size)
    step = tiles.step_of(chip)
    may_split = chip == tiles.CHIP and not causal and head <= 128
    few = tile_split.few_queries(q, k, blocks) if may_split else None
    if few is not None:
        block, split = few
    else:
        blocks = None if blocks is None else blocks.tiled(head, step)
        block = (128, 64 if head > 128 else step) if blocks is None else blocks.block
        split = tile_split.many_queries(q, k, blocks, block) if may_split else tile_split.WHOLE
    partial = blocks is not None and blocks.has_partial
    tail = not causal and not partial and k.shape[2] % block[1] != 0
    packed = blocks is not None and blocks.packed_rows > 0
    flags = blocks is not None, causal, limited, tail, partial, packed
    return tiles.Kind(q.dtype, head, block, *flags, split, chip), blocks, ""


def why_not(q: Tensor, k: Tensor, scale: float, chip: str) -> str:
    """Why a GPU has no kernel for such tensors, whatever the mask; nothing if it has one."""
    if q.dtype not in tiles.DTYPES:
        return f"it multiplies bfloat16 and float16, not {q.dtype}"
    columns = q.shape[3]
    most = tiles.HEADS[-1] if chip == tiles.CHIP else 128
    if not 0 < columns <= most or columns % 8:
        return f"on {chip} it takes heads of 8, 16, ... or {most} columns, not {columns}"
    if not 0 < scale < math.inf:
        return f"its scale is above 0, not {scale}"
    if q.shape[0] * q.shape[1] * max(q.shape[2], 1) >= 1 << 31 or k.shape[2] >= 1 << 30:
        return "it counts in 32 bits"
    return ""


def why_no_gradients(q: Tensor, k: Tensor, v: Tensor) -> str:
    """Why gradients that are wanted of such tensors have no kernel; nothing if they have, or none are wanted."""
    if q.shape[3] <= 128 or not torch.is_grad_enabled() or not (q.requires_grad or k.requires_grad or v.requires_grad):
        return ""
    return f"its gradients take heads of up to 128 columns, not {q.shape[3]}"


def _gradient_blocks(
    queries: int, keys: int, causal: bool, window: Window, device: torch.device, size: int = 128
) -> BlockList:
    """The list of a mask that the output needs none for; gradients do."""
    left, right = _sides(causal, window)
    return band(queries, keys, left, right, (size, size), device)


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
    wide = q.shape[3] > 128
    if right == 0 and queries == keys and not wide:
        return None, True, left is not None
    is_narrow = left is not None and right is not None and left + right < _NARROW
    block = (64, 64) if is_narrow else (128, 64 if wide else 128)
    return band(queries, keys, left, right, block, q.device), False, False


@sparse_jit
def _masked(q: Tensor, k: Tensor, v: Tensor, mask: Any, scale: float) -> Tensor:
    scores = (q @ k.transpose(-2, -1)) * scale
    return torch.softmax(torch.where(mask, scores, -math.inf), -1) @ v


def otherwise(q: Tensor, k: Tensor, v: Tensor, mask: Mask, scale: float, causal: bool, window: Window) -> Tensor:
    allowed, grouped = mask if isinstance(mask, Tensor) else None, q.shape[1] != k.shape[1]
    left, right = _sides(causal, window)
    if window is not None and (left, right) != (None, None):
        allowed = torch.ones(q.shape[2], k.shape[2], dtype=torch.bool, device=q.device)
        allowed = allowed if left is None else allowed.triu(-left)
        allowed = allowed if right is None else allowed.tril(right)
    if allowed is not None:
        # What its back ends give a query that sees nothing differs, and so do their gradients.
        sees = allowed.any(-1, keepdim=True)
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=allowed | ~sees, scale=scale, enable_gqa=grouped)
        return out.where(sees, 0)
    if mask is None:
        return F.scaled_dot_product_attention(q, k, v, is_causal=causal, scale=scale, enable_gqa=grouped)
    k, v = _repeated(k, q.shape[1]), _repeated(v, q.shape[1])
    return _masked(q, k, v, mask.to_mask() if isinstance(mask, BlockList) else mask, scale)


def _repeated(tensor: Tensor, heads: int) -> Tensor:
    return tensor if tensor.shape[1] == heads else tensor.repeat_interleave(heads // tensor.shape[1], 1)
