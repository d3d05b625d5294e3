"""Attention as a tile program: its kernels, and what a call of one is packed of."""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from gossamer.blocks import BlockList
from gossamer.compiler.compile import compile_region
from gossamer.runtime.cuda import chip_of
from gossamer.runtime.kernel import CompiledRegion

DTYPES = {torch.bfloat16: "bf16", torch.float16: "f16"}
CHIP = "sm_90a"
# addresses, sizes, strides, list (passes/tile/AttentionEntry.cpp)
_WORDS = struct.Struct("9q6q12q5q")

# By device and stream: kernels of a stream run one after another, and leave their counter at 0.
_counters: dict[tuple[int, int], Tensor] = {}


@dataclass(frozen=True)
class Kind:
    """Of a kernel: all that its code depends on.

    Attributes:
        dtype: bfloat16 or float16.
        head: Columns of q, k and v, filled up: 64 or 128.
        block: (queries, keys).
        listed: Whether there is a block list.
        causal: Whether a query sees the keys up to its own, without a list.
        window: Whether it sees only the last of these.
        tail: Whether the number of keys is no multiple of the block's.
    """

    dtype: torch.dtype
    head: int
    block: tuple[int, int]
    listed: bool
    causal: bool
    window: bool
    tail: bool

    def text(self) -> str:
        """What the compiler makes the kernel of."""
        flags = [name for name in ("listed", "causal", "window", "tail") if getattr(self, name)]
        rows, columns = self.block
        parts = [f"element({DTYPES[self.dtype]})", f"head({self.head})", f"blocks({rows}, {columns})", *flags]
        return f"tile.attention @attention {' '.join(parts)}\n"

    def __str__(self) -> str:
        name = str(self.dtype).removeprefix("torch.")
        what = "a block list" if self.listed else "a window" if self.window else "causal" if self.causal else "all keys"
        return f"tensor cores: {name}, heads of {self.head}, tiles of {self.block[0]} x {self.block[1]}, {what}"


@cache
def kernel_of(kind: Kind) -> CompiledRegion:
    """The kernel, compiled if neither this process nor the cache folder has it."""
    text = kind.text()
    return compile_region(f"tile {text}", lambda: text, CHIP)


def is_hopper(device: torch.device) -> bool:
    """Whether a device runs tile programs."""
    return chip_of(torch.cuda.current_device() if device.index is None else device.index) == CHIP


def run(
    kind: Kind, q: Tensor, k: Tensor, v: Tensor, blocks: BlockList | None, scale: float, window: int = 0
) -> tuple[Tensor, Tensor]:
    """Runs attention on [batch, heads, length, columns] tensors of one GPU, on its current stream.

    `window` is the number of keys that a query sees, if the kernel has a window.

    Returns:
        The output, strided as q where that is dense, and the log-sum-exp of the scores, f32 [batch, heads, queries].
    """
    q, k, v = _movable(q), _movable(k), _movable(v)
    batch, heads, queries, columns = q.shape
    out = torch.empty_like(q)
    if not _is_movable(out):
        out = torch.empty(q.shape, dtype=q.dtype, device=q.device)
    lse = torch.empty(batch, heads, queries, dtype=torch.float32, device=q.device)
    if not out.numel():
        return out, lse
    if not k.shape[2]:
        return out.zero_(), lse.fill_(-math.inf)
    count = index = order = lse  # not read without a list
    rows_of_batch = rows_of_head = length = 0
    if blocks is not None:
        count, index = blocks.count, blocks.index
        order = blocks.order(batch, heads, 2 * k.shape[2] * columns * k.element_size())
        lists, rows = count.shape[:2], count.shape[2]
        rows_of_head = rows if lists[1] > 1 else 0
        rows_of_batch = rows * lists[1] if lists[0] > 1 else 0
        length = index.shape[3]
    counter = _counter(q.device)
    bits = struct.unpack("I", struct.pack("f", scale))[0]
    arrays = (q, k, v, out, lse, count, index, order, counter)
    words = _WORDS.pack(
        *(array.data_ptr() for array in arrays),
        *(batch, heads, k.shape[1], queries, k.shape[2], columns),
        *(stride for tensor in (q, k, v, out) for stride in tensor.stride()[:3]),
        *(rows_of_batch, rows_of_head, length, min(window, k.shape[2]), bits),
    )
    kernel_of(kind)._call_on(q.device)(words)
    return out, lse


def _is_movable(tensor: Tensor) -> bool:
    """Whether the hardware can move parts of it: columns side by side, all else in steps of 16 bytes."""
    steps = tensor.stride()[:3]
    return tensor.stride(3) == 1 and not tensor.data_ptr() % 16 and all(step > 0 and not step % 8 for step in steps)


def _movable(tensor: Tensor) -> Tensor:
    tensor = tensor.detach().resolve_neg()
    return tensor if _is_movable(tensor) else tensor.clone(memory_format=torch.contiguous_format)


def _counter(device: torch.device) -> Tensor:
    if torch.cuda.is_current_stream_capturing():  # a graph may be replayed beside anything
        return torch.zeros(1, dtype=torch.int32, device=device)
    index = torch.cuda.current_device() if device.index is None else device.index
    key = index, torch._C._cuda_getCurrentRawStream(index)
    counter = _counters.get(key)
    if counter is None:
        counter = _counters[key] = torch.zeros(1, dtype=torch.int32, device=device)
    return counter
