"""The gradients of attention as tile programs: their kernels, and what a call of them is packed of."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from gossamer.blocks import BlockList
from gossamer.compiler.compile import compile_region
from gossamer.runtime.kernel import CompiledRegion
from gossamer.runtime.tile_packing import Packing
from gossamer.runtime.tiles import CHIP, DTYPES, chip_text, counter_of, empty_as, list_words, movable, score_text

# Words of the entry (passes/tile/BackwardEntry.cpp): a tensor; addresses, sizes, scale; a list; of packed keys their
# number, rows, strides, addresses.
_TENSOR, _REST, _LIST, _PACKED = (struct.Struct(words) for words in ("4q", "4q9q", "7q4q", "5q4q"))
Gradients = tuple[Tensor, Tensor, Tensor]
Call = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor | None, bytes], Gradients]


@dataclass(frozen=True)
class BackwardKind:
    """Of the kernels of a backward: all that their code depends on.

    Attributes:
        dtype: bfloat16 or float16.
        head: Columns of q, k and v, filled up: 64 or 128.
        block: (queries, keys), each 64 or 128.
        tail: Whether the number of keys is no multiple of the block's.
        partial: Whether there are blocks that are allowed in part.
        packed: Whether there are blocks of packed keys.
        score: The region that scores go through, with its derivative, if any.
        chip: As that of `tiles.Kind`.
    """

    dtype: torch.dtype
    head: int
    block: tuple[int, int]
    tail: bool
    partial: bool
    packed: bool = False
    score: str = ""
    chip: str = CHIP

    def text(self) -> str:
        """What the compiler makes the kernels of."""
        rows, columns = self.block
        parts = [f"element({DTYPES[self.dtype]})", f"head({self.head})", f"blocks({rows}, {columns})"]
        parts += [name for name in ("tail", "partial", "packed") if getattr(self, name)]
        last = chip_text(self.chip) + score_text(self.score)
        return f"tile.attention_backward @attention {' '.join(parts)}{last}\n"


@cache
def kernels_of(kind: BackwardKind, on_gpu: bool = True) -> CompiledRegion:
    """The kernels, compiled if neither this process nor the cache folder has them: for their chip, or the processor."""
    text = kind.text()
    return compile_region(f"tile {text}", lambda: text, kind.chip if on_gpu else "")


def prepare(kind: BackwardKind, q: Tensor, k: Tensor, blocks: BlockList, scale: float) -> Call:
    """A function of q, k, v, the output, its log-sum-exp, the gradients of both (that of the latter may be None) and
    what a function of scores captures, which gives the gradients of q, k and v on the current stream. Tensors are
    [batch, heads, length, columns], not empty, of the same shapes every time.
    """
    batch, heads, queries, columns = q.shape
    kv_heads, keys = k.shape[1:3]
    device = q.device
    turned = blocks.transposed()
    orders = (
        blocks.order(batch, heads, 2 * keys * columns * k.element_size()),
        turned.order(batch, kv_heads, 2 * queries * columns * q.element_size() * (heads // kv_heads), shared=heads),
    )
    arrays = [_arrays(one, order) for one, order in zip((blocks, turned), orders, strict=True)]
    lists = b"".join(
        _LIST.pack(*(array.data_ptr() for array in given), *list_words(one), one.partial_length)
        for one, given in zip((blocks, turned), arrays, strict=True)
    )
    padded = blocks.count.shape[2] * blocks.block[0]
    scale_bits = struct.unpack("I", struct.pack("f", scale))[0]
    sizes = batch, heads, kv_heads, queries, keys, columns
    kernel = kernels_of(kind, device.type == "cuda").on(device)
    packing = Packing(blocks, k) if kind.packed else None

    # The arrays of the lists, whose addresses are known here, live as long as this function.
    def call(
        q: Tensor,
        k: Tensor,
        v: Tensor,
        out: Tensor,
        lse: Tensor,
        out_grad: Tensor,
        lse_grad: Tensor | None,
        captured: bytes,
        _keep: object = arrays,
    ) -> Gradients:
        out_grad = movable(out_grad)
        grads = empty_as(q), empty_as(k), empty_as(v)
        numbers = torch.empty(2 * batch * heads * padded, dtype=torch.float32, device=device)
        counter = counter_of(device)
        if lse_grad is not None:
            lse_grad = lse_grad.contiguous()
        words = b"".join(
            _TENSOR.pack(tensor.data_ptr(), *tensor.stride()[:3]) for tensor in (q, k, v, out, out_grad, *grads)
        ) + _REST.pack(
            lse.data_ptr(),
            0 if lse_grad is None else lse_grad.data_ptr(),
            numbers.data_ptr(),
            counter.data_ptr(),
            *sizes,
            0 if lse_grad is None else queries,
            padded,
            scale_bits,
        )
        words += lists
        if packing is None:
            kernel(words + captured)
            return grads
        packed = packing.gather(k), packing.gather(v), packing.empty(k), packing.empty(v)
        kernel(words + _PACKED.pack(*packing.words, *(tensor.data_ptr() for tensor in packed)) + captured)
        packing.add(packed[2], grads[1])
        packing.add(packed[3], grads[2])
        return grads

    return call


def _arrays(blocks: BlockList, order: Tensor) -> list[Tensor]:
    """What a program reads of a list, each on the device."""
    if blocks.bits is None:
        return [blocks.count, blocks.index, order, *(order[:0] for _ in range(4))]
    assert blocks.partial_count is not None
    assert blocks.partial_index is not None
    assert blocks.partial_bits is not None
    # A step has 64 columns: those of a bitmap follow one another, two words a row.
    bits = blocks.bits.unflatten(-1, (-1, 2)).transpose(1, 2).contiguous()
    return [blocks.count, blocks.index, order, blocks.partial_count, blocks.partial_index, blocks.partial_bits, bits]
