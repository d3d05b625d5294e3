"""Lists of masks that are known entry by entry: which blocks are allowed as a whole, which in part, and their bitmaps.

A list has room for as many blocks of each kind in every row as its capacity says, and a bitmap for each place of the
partial ones: nothing that is allocated depends on what the mask allows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from gossamer.bitmaps import block_areas, pack, words_of
from gossamer.block_states import listed
from gossamer.blocks import BlockList
from gossamer.dynamic import kernels
from gossamer.dynamic.kernels.entries import Rule, lister
from gossamer.errors import TensorError

Block = tuple[int, int]


@dataclass(frozen=True)
class Room:
    """What a list is made for, checked.

    Attributes:
        lead: Texts and heads of the list.
        block, shape: Rows and columns of a block, numbers of queries and keys.
        rows, columns: Numbers of blocks.
        width: How many blocks of each kind a row has room for.
        causal: Whether keys behind a query are out of its sight.
    """

    lead: tuple[int, int]
    block: Block
    shape: tuple[int, int]
    rows: int
    columns: int
    width: int
    causal: bool

    @classmethod
    def of(
        cls, lead: Sequence[int], block: int | Block, shape: tuple[int, int], capacity: int | None, causal: bool
    ) -> Room:
        """Checks it.

        Raises:
            TensorError: Blocks, a shape or a capacity below 1, or more bitmaps than a list has.
        """
        block = (block, block) if isinstance(block, int) else (block[0], block[1])
        shape = (shape[0], shape[1])
        if min(block) < 1 or min(shape) < 1:
            raise TensorError(f"blocks and shapes are of 1 or more queries and keys, not {block} and {shape}")
        if capacity is not None and capacity < 1:
            raise TensorError(f"the capacity of a list is 1 or more blocks a row, not {capacity}")
        rows, columns = (-(-length // size) for length, size in zip(shape, block, strict=True))
        width = columns if capacity is None else min(capacity, columns)
        batch, heads = (*((1,) * (2 - len(lead))), *lead)
        room = cls((batch, heads), block, shape, rows, columns, width, causal)
        words = room.bitmaps * block[0] * words_of(block[1])
        if words >= 1 << 31:
            raise TensorError(
                f"a capacity of {width} blocks a row has {room.bitmaps} bitmaps, {words} words; a block list has less "
                "than 2^31. A smaller capacity, or larger blocks, need less"
            )
        return room

    @property
    def bitmaps(self) -> int:
        """How many there are."""
        return self.lead[0] * self.lead[1] * self.rows * self.width


def list_of_rule(
    room: Room,
    rule: Rule,
    numbers: Sequence[int],
    tensors: Sequence[Tensor],
    dense: Callable[[], Tensor],
    device: torch.device,
) -> BlockList:
    """The list of a mask that a rule says on a GPU, and a bool tensor [B, H, queries, keys] on a CPU.

    Args:
        room: What the list is made for.
        rule: For the kernel, with its numbers and tensors.
        numbers, tensors: What the rule takes.
        dense: Makes the bool tensor; whether keys are behind a query is added to it.
        device: Where tensors are, and the list is wanted.
    """
    shape = *room.lead, room.rows
    states = torch.empty(*shape, room.columns, dtype=torch.int32, device=device)
    if not kernels.take(states):
        return _by_torch(room, dense())

    def new(*sizes: int) -> Tensor:
        return torch.empty(sizes, dtype=torch.int32, device=device)

    words = words_of(room.block[1])
    lists = [new(*shape), new(*shape, room.width), new(*shape), new(*shape, room.width), new(*shape, room.width)]
    bits, needed = new(room.bitmaps, room.block[0], words), new(*shape)
    given = [
        room.lead[0] * room.lead[1], room.rows, room.columns, *room.block, words, *room.shape, room.width, *numbers,
    ]  # fmt: skip
    lister(rule)(given, *tensors, states, *lists, bits, needed)
    return _joined(room, lists, bits, needed)


def _joined(room: Room, lists: Sequence[Tensor], bits: Tensor, needed: Tensor) -> BlockList:
    return BlockList(
        lists[0], lists[1], room.block, room.shape, partial_count=lists[2], partial_index=lists[3],
        partial_bits=lists[4], bits=bits, needed=needed, check=False,
    )  # fmt: skip


def _by_torch(room: Room, allowed: Tensor) -> BlockList:
    (queries, keys), (down, across) = room.shape, room.block
    allowed = allowed.reshape(*room.lead, queries, keys)
    if room.causal:
        allowed = allowed & (torch.arange(keys) <= torch.arange(queries)[:, None])
    filled = F.pad(allowed, (0, room.columns * across - keys, 0, room.rows * down - queries))
    tiles = filled.view(*room.lead, room.rows, down, room.columns, across).transpose(-3, -2)
    area = tiles.sum((-2, -1))
    whole = area == block_areas(room.block, room.shape, allowed.device)
    count, index = listed(whole)
    partial_count, partial_index = listed((area > 0) & ~whole)
    partial_index = partial_index[..., : room.width].contiguous()
    bits = pack(tiles.gather(3, partial_index[..., None, None].long().expand(*partial_index.shape, down, across)))
    numbers = torch.arange(room.bitmaps, dtype=torch.int32).view_as(partial_index)
    needed = torch.maximum(count, partial_count)
    lists = [count.clamp(max=room.width), index[..., : room.width].contiguous()]
    lists += [partial_count.clamp(max=room.width), partial_index, numbers]
    return _joined(room, lists, bits.view(room.bitmaps, down, -1), needed)
