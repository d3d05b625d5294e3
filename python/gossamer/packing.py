"""Scattered keys of block lists, packed: where a block of keys has a few that are seen, as of every 128th, it is
touched for these alone; side by side in blocks of their own they cost a fraction.

A partial block of which few columns are seen is *scattered*, and keys that many scattered blocks see are candidates.
Blocks of packed keys have all that queries see of them; the keys' own blocks lose these columns, and those that have no
others leave the list. So the gradient of a packed key is one sum, and rounded once.
"""

from __future__ import annotations

import torch
from torch import Tensor

from gossamer import block_sources
from gossamer.bitmaps import pack, unpack
from gossamer.block_sources import RATES, Block
from gossamer.block_states import FULL, NOTHING, arrays_of, entries_of, states_of
from gossamer.blocks import BlockList
from gossamer.patterns.bits import distinct_rows
from gossamer.tensor import SparseTensor

# Of the columns of a block as many are seen at most where it is scattered.
_FEW = 8
# Keys are packed that at least so many of the blocks of queries see by way of scattered blocks: what costs least.
_FRACTIONS = (1 / 2, 1 / 4, 1 / 8, 1 / 16, 1 / 32, 1 / 64)
# Of the blocks that a list touches so many are saved at least: gathering rows costs two launches more.
_SAVED = 1 / 4
# The blocks in which keys are packed: those that gradients have tiles for, too.
_BLOCKS: tuple[Block, ...] = ((128, 128), (64, 64))
# Blocks that are looked into at a time: some bytes an entry while that is done.
_AT_ONCE = 1 << 10


def list_of(mask: SparseTensor | Tensor, block: Block | None) -> BlockList:
    """Does what `BlockList.of` says."""
    blocks = block_sources.list_of(mask, block)
    is_stored = isinstance(mask, SparseTensor) and blocks.block == block_sources.stored_block(mask)
    if block is not None or is_stored or not _is_scattered(blocks):
        return blocks
    return cheapest([blocks, *(packed(block_sources.list_of(mask, one)) for one in _BLOCKS)])


def cheapest(lists: list[BlockList]) -> BlockList:
    """The first of those that cost least, by the areas that they touch and the rates of tiles."""
    return min(lists, key=lambda one: _entries(one) * one.block[0] * one.block[1] / RATES[one.block])


def packed(blocks: BlockList) -> BlockList:
    """The same mask with scattered keys packed, the same ones for all batches and heads; or the list itself, if that
    saves too little. Waits for the device.
    """
    if blocks.packed_rows or not _is_scattered(blocks):
        return blocks
    search = _Search(blocks)
    candidates = [search.seen >= max(2, fraction * search.lines) for fraction in _FRACTIONS]
    costs = [search.cost(keys) for keys in candidates]
    best = min(range(len(costs)), key=costs.__getitem__)
    return blocks if costs[best] > (1 - _SAVED) * search.total else search.build(candidates[best])


class _Search:
    """Which keys of a list are scattered, what it costs to pack some of them, and the list with these packed.

    Keys are given as bool [blocks of keys, columns of a block].

    Attributes:
        seen: Of how many blocks of queries a scattered block sees a key, over all matrices: int64, as keys.
        lines: Blocks of queries, of all matrices.
        total: How many blocks are touched.
    """

    def __init__(self, blocks: BlockList):
        assert blocks.bits is not None
        self.blocks, self.columns = blocks, blocks.block[1]
        self.states = states_of(blocks).flatten(0, 1)  # [matrices, rows, blocks of keys]
        self.lines = self.states.shape[0] * self.states.shape[1]
        self.total = int((self.states != NOTHING).sum())
        holds = _columns_of(blocks)
        count_bitmaps = holds.shape[0]
        holds = torch.cat([holds, torch.ones_like(holds[:1])])  # the last is a whole block's
        # The blocks that are touched: their matrix, row and column; and which kind each is, where kinds are pairs of a
        # column and a bitmap, of which there are fewer.
        self.at = (self.states != NOTHING).nonzero()
        state = self.states[tuple(self.at.unbind(1))].long()
        pair = self.at[:, 2] * holds.shape[0] + torch.where(state == FULL, count_bitmaps, state)
        pairs, self.kind, count = pair.unique(return_inverse=True, return_counts=True)
        self.column, self.bitmap = pairs // holds.shape[0], pairs % holds.shape[0]  # of a kind
        self.holds = holds[self.bitmap]  # [kinds, columns]
        is_scattered = self.holds.sum(1) <= self.columns // _FEW
        self.seen = torch.zeros(self.states.shape[2], self.columns, dtype=torch.int64, device=pair.device)
        self.seen.index_add_(0, self.column, self.holds * (is_scattered * count)[:, None])

    def cost(self, keys: Tensor) -> int:
        """How many blocks are touched if these keys are packed."""
        kept = (self.holds & ~keys[self.column]).any(1)[self.kind]
        return int(kept.sum()) + int(self._touched(keys).sum())

    def _touched(self, keys: Tensor) -> Tensor:
        """Which blocks of packed keys blocks of queries see: bool [matrices, rows, packed]."""
        packed = self.holds & keys[self.column]
        place = (keys.flatten().cumsum(0) - 1).view_as(keys)[self.column]
        ends = torch.where(packed, place, keys.numel()).amin(1), torch.where(packed, place, -1).amax(1)
        touched = self.states.new_zeros(*self.states.shape[:2], -(-int(keys.sum()) // self.columns), dtype=torch.bool)
        sees = packed.any(1)[self.kind]
        matrix, row, _ = self.at[sees].unbind(1)
        for key in ends:  # a block has no more columns than one of packed keys
            touched[matrix, row, key[self.kind][sees] // self.columns] = True
        return touched

    def build(self, keys: Tensor) -> BlockList:
        """The list with these keys packed."""
        blocks = self.blocks
        own, own_bits = self._without(keys)
        packed_keys = keys.flatten().nonzero()[:, 0]
        packed, packed_bits = self._packed(keys, packed_keys)
        packed = torch.where(packed >= 0, packed + own_bits.shape[0], packed)
        states, bits = torch.cat([packed, own], 2), torch.cat([own_bits, packed_bits])
        used, place = states[states >= 0].unique(return_inverse=True)
        bits, number = distinct_rows(bits[used.long()])
        states[states >= 0] = number[place].to(states.dtype)
        arrays = arrays_of(states.unflatten(0, blocks.count.shape[:2]), bits if bits.shape[0] else None)
        return type(blocks)(
            **{name: _cut(name, array, arrays) for name, array in arrays.items()},
            block=blocks.block,
            shape=blocks.shape,
            packed_keys=packed_keys.to(torch.int32)[None, None],
            check=False,
        )

    def _without(self, keys: Tensor) -> tuple[Tensor, Tensor]:
        """States and bitmaps of the blocks of all keys, without those that are packed."""
        bits = self.blocks.bits
        assert bits is not None
        exist = torch.arange(keys.numel(), device=keys.device).view_as(keys) < self.blocks.shape[1]
        whole = torch.full_like(bits[:1], -1)
        left = torch.cat([bits, whole])[self.bitmap] & pack(exist & ~keys)[self.column][:, None, :]
        is_whole = (self.bitmap == bits.shape[0]) & ~keys[self.column].any(1)
        is_gone = ~(self.holds & ~keys[self.column]).any(1)
        state = torch.arange(is_gone.numel(), dtype=self.states.dtype, device=keys.device)
        state = state.masked_fill(is_whole, FULL).masked_fill(is_gone, NOTHING)
        states = torch.full_like(self.states, NOTHING)
        states[tuple(self.at.unbind(1))] = state[self.kind]
        return states, left

    def _packed(self, keys: Tensor, packed_keys: Tensor) -> tuple[Tensor, Tensor]:
        """States and bitmaps of the blocks of packed keys."""
        columns = self.columns
        filled = torch.nn.functional.pad(packed_keys, (0, -packed_keys.numel() % columns)).view(-1, columns)
        exist = torch.arange(filled.numel(), device=keys.device).view_as(filled) < packed_keys.numel()
        touched = self._touched(keys)
        matrix, row, place = touched.nonzero().unbind(1)
        state = self.states[matrix[:, None], row[:, None], filled[place] // columns]
        state = torch.where(exist[place], state, NOTHING)
        # Where the same packed keys are columns of the same bitmaps, entries are the same.
        kinds, kind = distinct_rows(torch.cat([place.to(state.dtype)[:, None], state], 1))
        bits, is_full = [], []
        for part in kinds.split(_AT_ONCE):
            entries = entries_of(self.blocks, part[:, 1:], filled[part[:, 0].long()] % columns)
            is_full.append(entries.all(2).all(1))
            bits.append(pack(entries))
        number = torch.arange(kinds.shape[0], dtype=state.dtype, device=keys.device)
        states = torch.full_like(touched, NOTHING, dtype=state.dtype)
        states[touched] = number.masked_fill(torch.cat(is_full), FULL)[kind]
        return states, torch.cat(bits)


def _cut(name: str, array: Tensor, arrays: dict[str, Tensor]) -> Tensor:
    """An array of a list, no longer than its longest row."""
    if name not in ("index", "partial_index", "partial_bits"):
        return array
    count = arrays["count" if name == "index" else "partial_count"]
    return array[..., : max(1, int(count.max()))]


def _is_scattered(blocks: BlockList) -> bool:
    """Whether enough of the blocks that a list touches are scattered: looks at the list alone, however long it is."""
    if blocks.bits is None or blocks.partial_count is None or blocks.partial_bits is None:
        return False
    few = _columns_of(blocks).sum(1) <= blocks.block[1] // _FEW
    used = torch.arange(blocks.partial_length, device=blocks.device) < blocks.partial_count[..., None]
    return int(few[blocks.partial_bits[used].long()].sum()) >= max(1, _SAVED * _entries(blocks))


def _columns_of(blocks: BlockList) -> Tensor:
    """Which columns of each bitmap are seen: bool [bitmaps, columns]."""
    assert blocks.bits is not None
    return torch.cat([unpack(part, blocks.block[1]).any(1) for part in blocks.bits.split(_AT_ONCE)])


def _entries(blocks: BlockList) -> int:
    """How many blocks a list touches."""
    partial = 0 if blocks.partial_count is None else int(blocks.partial_count.sum())
    return int(blocks.count.sum()) + partial
