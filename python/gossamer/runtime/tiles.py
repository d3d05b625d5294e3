"""Attention as a tile program: its kernels, and what a call of one is packed of."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from gossamer.blocks import BlockList
from gossamer.compiler.compile import compile_region
from gossamer.runtime.apart import apart
from gossamer.runtime.cuda import chip_of, number_of
from gossamer.runtime.kernel import CompiledRegion

DTYPES = {torch.bfloat16: "bf16", torch.float16: "f16"}
CHIP = "sm_90a"
# Words of a kernel's entry (passes/tile/AttentionEntry.cpp): addresses; sizes, strides, list, window, scale, partial
# blocks.
_ADDRESSES, _REST = struct.Struct("9q"), struct.Struct("6q12q5q5q")
Call = Callable[..., tuple[Tensor, Tensor]]

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
        partial: Whether the list has blocks that are allowed in part; such a kernel finds out about the tail itself.
        score: The region that scores go through, if any (`gossamer.score`).
    """

    dtype: torch.dtype
    head: int
    block: tuple[int, int]
    listed: bool
    causal: bool
    window: bool
    tail: bool
    partial: bool = False
    score: str = ""

    def text(self) -> str:
        """What the compiler makes the kernel of."""
        flags = [name for name in ("listed", "partial", "causal", "window", "tail") if getattr(self, name)]
        rows, columns = self.block
        parts = [f"element({DTYPES[self.dtype]})", f"head({self.head})", f"blocks({rows}, {columns})", *flags]
        return f"tile.attention @attention {' '.join(parts)}{score_text(self.score)}\n"

    def __str__(self) -> str:
        name = str(self.dtype).removeprefix("torch.")
        what = "a block list" if self.listed else "a window" if self.window else "causal" if self.causal else "all keys"
        what += ", with bitmaps" if self.partial else ""
        what += ", a function of scores" if self.score else ""
        return f"tensor cores: {name}, heads of {self.head}, tiles of {self.block[0]} x {self.block[1]}, {what}"


def score_text(region: str) -> str:
    """How a region is written in an attention."""
    return f" score {{\n{region}\n}}" if region else ""


@cache
def kernel_of(kind: Kind, chip: str = CHIP) -> CompiledRegion:
    """The kernel, compiled if neither this process nor the cache folder has it; without a chip, for the processor."""
    text = kind.text()
    return compile_region(f"tile {text}", lambda: text, chip)


def target_of(device: torch.device) -> str:
    """The chip that programs for tensors of a device are compiled for; none: the processor."""
    return CHIP if device.type == "cuda" else ""


def is_hopper(device: torch.device) -> bool:
    """Whether a device runs tile programs."""
    return chip_of(number_of(device)) == CHIP


def run(
    kind: Kind,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    blocks: BlockList | None,
    scale: float,
    window: int = 0,
    captured: bytes = b"",
) -> tuple[Tensor, Tensor]:
    """Runs attention on [batch, heads, length, columns] tensors of one GPU, on its current stream; or of the processor,
    where programs are for tests.

    `window` is the number of keys that a query sees, if the kernel has a window; `captured` what its function of scores
    captures (`Score.words`).

    Returns:
        The output, strided as q where that is dense, and the log-sum-exp of the scores, f32 [batch, heads, queries].
    """
    q, k, v = movable(q), movable(k), movable(v)
    if q.numel() and k.shape[2]:
        return prepare(kind, q, k, v, blocks, scale, window)(q, k, v, captured)
    lse = torch.full(q.shape[:3], -math.inf, dtype=torch.float32, device=q.device)
    return torch.zeros_like(q), lse


def prepare(kind: Kind, q: Tensor, k: Tensor, v: Tensor, blocks: BlockList | None, scale: float, window: int) -> Call:
    """What `run` does, for tensors that are as these in all but their address: they can be moved, and are not empty."""
    batch, heads, queries, columns = shape = q.shape
    out = empty_as(q, device="meta")
    strides, lse_shape, dtype, device = out.stride(), shape[:3], q.dtype, q.device
    lists: tuple[int, ...] = (0, 0, 0)  # not read without a list
    order = None
    list_sizes = 0, 0, 0
    if blocks is not None:
        order = blocks.order(batch, heads, 2 * k.shape[2] * columns * k.element_size())
        lists = blocks.count.data_ptr(), blocks.index.data_ptr(), order.data_ptr()
        list_sizes = list_words(blocks)
    partial: tuple[int, ...] = (0, 0, 0, 0, 0)
    if kind.partial:
        assert blocks is not None
        arrays = blocks.partial_count, blocks.partial_index, blocks.partial_bits, blocks.bits
        partial = (*(array.data_ptr() for array in arrays if array is not None), blocks.partial_length)
    rest = _REST.pack(
        *(batch, heads, k.shape[1], queries, k.shape[2], columns),
        *(stride for tensor in (q, k, v, out) for stride in tensor.stride()[:3]),
        *(*list_sizes, min(window, k.shape[2])),
        struct.unpack("I", struct.pack("f", scale))[0],
        *partial,
    )
    kernel = kernel_of(kind, target_of(device)).on(device)
    pack, float32 = _ADDRESSES.pack, torch.float32

    # The arrays of the list, whose addresses are known here, live as long as this function.
    def call(
        q: Tensor, k: Tensor, v: Tensor, captured: bytes = b"", _keep: object = (blocks, order)
    ) -> tuple[Tensor, Tensor]:
        out = torch.empty_strided(shape, strides, dtype=dtype, device=device)
        lse = torch.empty(lse_shape, dtype=float32, device=device)
        counter = counter_of(device)
        addresses = q.data_ptr(), k.data_ptr(), v.data_ptr(), out.data_ptr(), lse.data_ptr()
        kernel(pack(*addresses, *lists, counter.data_ptr()) + rest + captured)
        return out, lse

    return call


def can_move(*tensors: Tensor) -> bool:
    """Whether `run` takes tensors as they are, and there is something to do."""
    return all(tensor.numel() and not tensor.is_neg() and _is_movable(tensor) for tensor in tensors)


def _is_movable(tensor: Tensor) -> bool:
    """Whether the hardware can move parts of it: columns side by side, all else in steps of 16 bytes."""
    return has_movable_steps(tensor) and not tensor.data_ptr() % 16


def has_movable_steps(tensor: Tensor) -> bool:
    """Whether the hardware can move parts of it, if it begins at a multiple of 16 bytes."""
    return tensor.stride(3) == 1 and all(step > 0 and not step % 8 for step in tensor.stride()[:3])


def movable(tensor: Tensor) -> Tensor:
    """The tensor, or a copy that the hardware can move."""
    tensor = tensor.detach().resolve_neg()
    return tensor if _is_movable(tensor) else tensor.clone(memory_format=torch.contiguous_format)


def empty_as(tensor: Tensor, device: torch.device | str | None = None) -> Tensor:
    """A new tensor, strided as another where that is dense and the hardware can move it."""
    new = torch.empty_like(tensor, device=device)
    return new if has_movable_steps(new) else torch.empty(tensor.shape, dtype=tensor.dtype, device=new.device)


def list_words(blocks: BlockList) -> tuple[int, int, int]:
    """Rows of a list a batch and a head (0 where it is the same for all), and entries a row."""
    batch, heads, rows = blocks.count.shape
    return rows * heads if batch > 1 else 0, rows if heads > 1 else 0, blocks.index.shape[3]


def counter_of(device: torch.device) -> Tensor:
    """What the thread blocks of a program take their tiles from, on the current stream; 0 between programs."""
    # A graph may be replayed beside anything, and so may a call on the processor.
    if device.type != "cuda" or torch.cuda.is_current_stream_capturing():
        return torch.zeros(1, dtype=torch.int32, device=device)
    index = number_of(device)
    key = index, torch._C._cuda_getCurrentRawStream(index)
    counter = _counters.get(key)
    if counter is None:
        counter = _counters[key] = apart(lambda: torch.zeros(1, dtype=torch.int32, device=device), device)
    return counter
