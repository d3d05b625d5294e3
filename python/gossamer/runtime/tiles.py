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
from gossamer.runtime.allocation import allocator
from gossamer.runtime.apart import apart
from gossamer.runtime.cuda import PORTABLE, chip_of, number_of
from gossamer.runtime.kernel import CompiledRegion
from gossamer.runtime.tile_packing import Packing
from gossamer.runtime.tile_split import WHOLE, Split, packed_bits, packed_strides

DTYPES = {torch.bfloat16: "bf16", torch.float16: "f16"}
# With TMA and wgmma. All others from sm_80 on have programs of their own, with smaller steps.
CHIP = "sm_90a"
# Columns that programs are made for; others are filled up.
HEADS = (64, 128, 192, 256)
# Words of a kernel's entry (passes/tile/AttentionEntry.cpp): addresses; sizes, strides, list, window, scale, partial
# blocks; of packed keys how many, rows, strides, addresses; of split ones what parts leave, and their number.
_ADDRESSES, _REST = struct.Struct("9q"), struct.Struct("6q12q5q5q")
_PACKED, _SPLIT = struct.Struct("5q2q"), struct.Struct("3q")
Call = Callable[..., tuple[Tensor, Tensor]]
# What a stream has at least: enough for all but the largest of split calls.
_COUNTERS = 1024

# By device and stream: kernels of a stream run one after another, and leave their counters at 0.
_counters: dict[tuple[int, int], Tensor] = {}


@dataclass(frozen=True)
class Kind:
    """Of a kernel: all that its code depends on, and how its work is spread.

    Attributes:
        dtype: bfloat16 or float16.
        head: Columns of q, k and v, filled up: one of `HEADS`.
        block: (queries, keys).
        listed: Whether there is a block list.
        causal: Whether a query sees the keys up to its own, without a list.
        window: Whether it sees only the last of these.
        tail: Whether the number of keys is no multiple of the block's.
        partial: Whether the list has blocks that are allowed in part; such a kernel finds out about the tail itself.
        packed: Whether it has blocks of packed keys.
        split: Which heads share a tile, and how many thread blocks share its keys; the code depends on whether several
            do.
        score: The region that scores go through, if any (`gossamer.score`).
        chip: The GPU that it is made for, as LLVM names it; also on the processor, where programs are tested.
    """

    dtype: torch.dtype
    head: int
    block: tuple[int, int]
    listed: bool
    causal: bool
    window: bool
    tail: bool
    partial: bool = False
    packed: bool = False
    split: Split = WHOLE
    score: str = ""
    chip: str = CHIP

    def text(self) -> str:
        """What the compiler makes the kernel of."""
        flags = [name for name in ("listed", "partial", "packed", "causal", "window", "tail") if getattr(self, name)]
        flags += ["split"] if self.split.parts > 1 else []
        rows, columns = self.block
        parts = [f"element({DTYPES[self.dtype]})", f"head({self.head})", f"blocks({rows}, {columns})", *flags]
        return f"tile.attention @attention {' '.join(parts)}{chip_text(self.chip)}{score_text(self.score)}\n"

    def __str__(self) -> str:
        name = str(self.dtype).removeprefix("torch.")
        what = "a block list" if self.listed else "a window" if self.window else "causal" if self.causal else "all keys"
        what += ", with bitmaps" if self.partial else ""
        what += ", a function of scores" if self.score else ""
        what += f", {self.split}" if self.split != WHOLE else ""
        what += "" if self.chip == CHIP else f", for {self.chip}"
        return f"tensor cores: {name}, heads of {self.head}, tiles of {self.block[0]} x {self.block[1]}, {what}"


def chip_text(chip: str) -> str:
    """How the compiler is told for which GPU a program is made."""
    return "" if chip == CHIP else f' chip("{chip}")'


def score_text(region: str) -> str:
    """How a region is written in an attention."""
    return f" score {{\n{region}\n}}" if region else ""


def kernel_of(kind: Kind, on_gpu: bool = True) -> CompiledRegion:
    """The kernel, compiled if neither this process nor the cache folder has it: for its chip, or for the processor."""
    return _compiled(kind.text(), kind.chip if on_gpu else "")


@cache
def _compiled(text: str, chip: str) -> CompiledRegion:
    return compile_region(f"tile {text}", lambda: text, chip)


def chip_for(device: torch.device) -> str:
    """The chip that programs for tensors of a device are made for: its own, and Hopper's where it is none.

    Raises:
        UnsupportedError: The device is older than what kernels are made for.
    """
    if device.type != "cuda":
        return CHIP
    chip = chip_of(number_of(device))
    # A GPU that is known by no name may have less shared memory than the chip whose code it takes.
    return "sm_89" if chip == PORTABLE else chip


def step_of(chip: str) -> int:
    """How many keys a block has at most that a program goes through in one step."""
    return 128 if chip == CHIP else 64


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
        The output, strided as q where that is dense and keys are not split, and the log-sum-exp of the scores, f32
        [batch, heads, queries].
    """
    q, k, v = movable(q), movable(k), movable(v)
    if q.numel() and k.shape[2]:
        return prepare(kind, q, k, v, blocks, scale, window)(q, k, v, captured)
    lse = torch.full(q.shape[:3], -math.inf, dtype=torch.float32, device=q.device)
    return torch.zeros_like(q), lse


def prepare(kind: Kind, q: Tensor, k: Tensor, v: Tensor, blocks: BlockList | None, scale: float, window: int) -> Call:
    """What `run` does, for tensors that are as these in all but their address: they can be moved, and are not empty."""
    batch, heads, queries, columns = shape = tuple(q.shape)
    together, parts = kind.split.heads, kind.split.parts
    dtype, device = q.dtype, q.device
    q_strides = packed_strides(q.stride(), queries, together)
    out = empty_as(q, device="meta")
    out_strides = packed_strides(out.stride(), queries, together)
    copies_q = q_strides is None
    if parts > 1:  # written by rows, each of all the columns of a tile
        out = torch.empty(*shape[:3], kind.head, dtype=dtype, device="meta")
    elif out_strides is None:
        out = torch.empty(shape, dtype=dtype, device="meta")
    contiguous = heads * queries * columns, together * queries * columns, columns
    # The kernel sees those heads that share a tile as one.
    heads, queries = heads // together, queries * together
    lists: tuple[int, ...] = (0, 0, 0)  # not read without a list
    order = None
    list_sizes = 0, 0, 0
    if blocks is not None:
        lists = blocks.count.data_ptr(), blocks.index.data_ptr(), 0
        list_sizes = list_words(blocks)
        if parts == 1:
            order = blocks.order(batch, heads, 2 * k.shape[2] * columns * k.element_size())
            lists = *lists[:2], order.data_ptr()
    rest = _REST.pack(
        *(batch, heads, k.shape[1], queries, k.shape[2], columns),
        *(q_strides or contiguous),
        *(stride for tensor in (k, v) for stride in tensor.stride()[:3]),
        *(out_strides or contiguous),
        *(*list_sizes, min(window, k.shape[2])),
        struct.unpack("I", struct.pack("f", scale))[0],
        *_partial_words(kind, blocks, shape[2]),
    )
    kernel = kernel_of(kind, device.type == "cuda").on(device)
    pack, float32, empty = _ADDRESSES.pack, torch.float32, allocator(device)
    out_shape, strides = tuple(out.shape), out.stride()
    lse_shape, lse_strides = shape[:3], (shape[1] * shape[2], shape[2], 1)
    packing = Packing(blocks, k) if kind.packed and blocks is not None else None
    rows = batch * heads * queries
    # Of each part the output and the log-sum-exp of every row.
    part_numbers = parts * rows * (kind.head + 1) if parts > 1 else 0
    # Parts of a tile meet at a counter for each 64 rows.
    counters = batch * heads * -(-queries // kind.block[0]) * kind.block[0] // 64 if parts > 1 else 1

    # The arrays of the list, whose addresses are known here, live as long as this function.
    def call(
        q: Tensor, k: Tensor, v: Tensor, captured: bytes = b"", _keep: object = (blocks, order)
    ) -> tuple[Tensor, Tensor]:
        if copies_q:
            q = q.contiguous()
        out, lse = empty(out_shape, strides, dtype), empty(lse_shape, lse_strides, float32)
        counter = counter_of(device, counters)
        addresses = q.data_ptr(), k.data_ptr(), v.data_ptr(), out.data_ptr(), lse.data_ptr()
        words = pack(*addresses, *lists, counter.data_ptr()) + rest
        if packing is not None:
            packed = packing.gather(k), packing.gather(v)
            words += _PACKED.pack(*packing.words, *(tensor.data_ptr() for tensor in packed))
        if not part_numbers:
            kernel(words + captured)
            return out, lse
        numbers = empty((part_numbers,), (1,), float32)
        place = numbers.data_ptr()
        kernel(words + _SPLIT.pack(place, place + 4 * parts * rows * kind.head, parts) + captured)
        return out[..., :columns] if out_shape[3] > columns else out, lse

    return call


def _partial_words(kind: Kind, blocks: BlockList | None, queries: int) -> tuple[int, ...]:
    """Addresses of what a program reads of blocks that are allowed in part, and how many entries a row has."""
    if blocks is None or not kind.partial:
        return 0, 0, 0, 0, 0
    has_rows_of_tiles = kind.split.heads == 1 and kind.block[0] == blocks.block[0]
    bits = blocks.bits if has_rows_of_tiles else packed_bits(blocks, queries)
    arrays = blocks.partial_count, blocks.partial_index, blocks.partial_bits, bits
    return *(array.data_ptr() for array in arrays if array is not None), blocks.partial_length


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


def counter_of(device: torch.device, count: int = 1) -> Tensor:
    """So many counters at least, from which the thread blocks of a program take their tiles or at which they arrive, on
    the current stream; 0 between programs.
    """
    # A graph may be replayed beside anything, and so may a call on the processor.
    if device.type != "cuda" or torch.cuda.is_current_stream_capturing():
        return torch.zeros(count, dtype=torch.int32, device=device)
    index = number_of(device)
    key = index, torch._C._cuda_getCurrentRawStream(index)
    counter = _counters.get(key)
    if counter is None or counter.shape[0] < count:
        size = max(count, _COUNTERS)
        counter = _counters[key] = apart(lambda: torch.zeros(size, dtype=torch.int32, device=device), device)
    return counter
