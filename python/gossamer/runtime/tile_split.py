"""Attention that has too few tiles for a GPU: heads that share one, and thread blocks that share the keys of one."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from gossamer.blocks import BlockList

Block = tuple[int, int]

_ROWS = 64  # of a tile of few queries
_KEY_BLOCKS = 16, 32, 64, 128
# Multiprocessors of an H100, and of an H200: of a chip for which there is no device to ask, and of what was measured.
PROCESSORS = 132
# With fewer keys a call is short as it is.
_LONG = 512
# Keys that make a part worth its while: at least the first, and the second for each row that is merged.
_LEAST_KEYS, _KEYS_OF_A_ROW = 128, 16
# Parts are merged by one warpgroup, eight at a time.
_MOST_PARTS = 64


@dataclass(frozen=True)
class Split:
    """How attention is spread over thread blocks otherwise than by heads and blocks of queries.

    Attributes:
        heads: Heads of q that are rows of one tile, as they share a head of k and v.
        parts: Thread blocks that share the keys of a tile, the last of which merges their results.
    """

    heads: int = 1
    parts: int = 1

    def __str__(self) -> str:
        together = [f"{self.heads} heads a tile"] if self.heads > 1 else []
        return ", ".join([*together, *([f"keys in {self.parts} parts"] if self.parts > 1 else [])])


WHOLE = Split()


def few_queries(q: Tensor, k: Tensor, blocks: BlockList | None, scored: bool = False) -> tuple[Block, Split] | None:
    """The tiles of attention of few queries and many keys, and how it is split; None: as any other.

    A tile has the queries of all heads that share keys and values, so that these are read once, as far as they are 64
    rows and have the same list; a list may have one block of queries. Where scores go through
    a function, which is told the head, heads stay apart.
    """
    heads, queries, keys = *q.shape[1:3], k.shape[2]
    if queries > _ROWS or keys < _LONG or _has_packed_keys(blocks):
        return None
    group = heads // k.shape[1] if not scored else 1
    if blocks is not None:
        if blocks.count.shape[2] != 1 or blocks.block[1] not in _KEY_BLOCKS:
            return None
        if blocks.count.shape[1] > 1:
            group = 1
    together = max(n for n in range(1, group + 1) if group % n == 0 and (n == 1 or n * queries <= _ROWS))
    block = _ROWS, 64 if blocks is None else blocks.block[1]
    if scored and not _has_room(q, block):
        return None
    split = Split(together, _parts(q, k, blocks, block, q.shape[0] * heads // together, together * queries))
    return (block, split) if split != WHOLE else None


def many_queries(q: Tensor, k: Tensor, blocks: BlockList | None, block: Block, scored: bool = False) -> Split:
    """How attention in tiles of so many queries is split: where they do not fill the device."""
    if _has_packed_keys(blocks) or (scored and not _has_room(q, block)):
        return WHOLE
    row_blocks = -(-q.shape[2] // block[0])
    parts = _parts(q, k, blocks, block, q.shape[0] * q.shape[1] * row_blocks, min(block[0], q.shape[2]))
    return Split(1, parts)


def _has_packed_keys(blocks: BlockList | None) -> bool:
    """Then there is no split program: what is packed is gathered by torch, which takes longer than such a call."""
    return blocks is not None and blocks.packed_rows > 0


def _has_room(q: Tensor, block: Block) -> bool:
    """Whether split programs have registers for a function of scores."""
    return q.shape[3] <= 64 or block == (64, 64)


def _parts(q: Tensor, k: Tensor, blocks: BlockList | None, block: Block, tiles: int, rows: int) -> int:
    """Into how many parts tiles of so many rows are split: what makes the longest thread block shortest, of as many
    parts as fill the device once, twice, ...

    By what the list has room for, not by what it has: that is on the device.
    """
    keys, step = k.shape[2], max(block)
    if blocks is not None:
        keys = min(keys, (blocks.index.shape[3] + blocks.partial_length) * blocks.block[1])
    processors = PROCESSORS
    if q.device.type == "cuda":
        processors = torch.cuda.get_device_properties(q.device).multi_processor_count
    resident = processors * (2 if step == 64 else 1)
    most = min(keys // max(_LEAST_KEYS, _KEYS_OF_A_ROW * rows), _MOST_PARTS)
    steps = -(-keys // step)
    choices = {1, *(max(1, min(waves * resident // max(tiles, 1), most)) for waves in range(1, 5))}
    return min(sorted(choices), key=lambda parts: -(-tiles * parts // resident) * -(-steps // parts))


def packed_strides(strides: tuple[int, ...], queries: int, heads: int) -> tuple[int, int, int] | None:
    """Strides of batch, head and row of a tensor [batch, heads, queries, columns] in which so many heads are one, the
    queries of one after those of another; None: it has to be copied for that.
    """
    batch, head, row = strides[:3]
    if heads == 1:
        return batch, head, row
    if queries == 1:
        return batch, heads * head, head
    return (batch, heads * head, row) if head == queries * row else None


def packed_bits(blocks: BlockList, queries: int) -> Tensor:
    """The bitmaps of a list of one block of queries, with the rows of a tile: those of one head after those of another.

    Kept with the list.
    """
    key = "packed bits", queries
    bits = blocks._derived.get(key)
    if bits is None:
        assert blocks.bits is not None
        bits = blocks._derived[key] = blocks.bits[:, torch.arange(_ROWS, device=blocks.device) % queries].contiguous()
    return bits
