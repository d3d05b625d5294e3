"""Classes of blocks: which are empty, which are full, and the bits of those that are allowed in part."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from gossamer.errors import TensorError
from gossamer.formats import block_size
from gossamer.patterns.base import Lengths, PositionPattern
from gossamer.patterns.bits import count_ones, distinct_rows, unpacked
from gossamer.patterns.sweep import Found, sweep

if TYPE_CHECKING:
    from gossamer.blocks import BlockList

# As many blocks, and fewer, are looked at on the CPU, where an operation on so few costs less than a launch.
_FEW_BLOCKS = 1 << 14


@dataclass(frozen=True, eq=False)
class BlockClasses:
    """The blocks of a mask: full ones, and ones allowed in part with their bits; the others are empty.

    Attributes:
        shape: Numbers of queries and keys; the last blocks of them may be shorter.
        block: Rows and columns of a block.
        full_count, partial_count: int32 [B or 1, H or 1, MB]: how many blocks of a row are of the class.
        full_index, partial_index: int32 [B or 1, H or 1, MB, max]: which; ascending in the first `count` places, 0
            behind them.
        partial_bits: int32, as `partial_index`: the row of `bits` that a block has.
        bits: int32 [n, rows, ceil(columns / 32)]: bit c % 32 (the lowest is bit 0) of word c / 32 says whether the
            query of the row may see key c of the block. Blocks with the same entries share them. Places beyond the
            last query or key are 0.
    """

    shape: tuple[int, int]
    block: tuple[int, int]
    full_count: Tensor
    full_index: Tensor
    partial_count: Tensor
    partial_index: Tensor
    partial_bits: Tensor
    bits: Tensor

    @property
    def device(self) -> torch.device:
        """Where the arrays are."""
        return self.bits.device

    @property
    def leading(self) -> tuple[int, int]:
        """Texts and heads that have lists of their own; 1 where all share one."""
        return self.full_count.shape[0], self.full_count.shape[1]

    @property
    def counts(self) -> tuple[int, int]:
        """How many blocks are full, and how many are allowed in part, over all texts and heads that have their own."""
        return int(self.full_count.sum()), int(self.partial_count.sum())

    @property
    def entries(self) -> int:
        """How many positions are allowed, over all texts and heads that have their own."""
        return int(self.row_entries().sum())

    @property
    def density(self) -> float:
        """Allowed positions over all positions."""
        return self.entries / max(1, self.shape[0] * self.shape[1] * self.leading[0] * self.leading[1])

    def row_entries(self) -> Tensor:
        """Returns how many positions are allowed in each row of blocks: int64 [B or 1, H or 1, MB]."""
        total = self._areas(self.full_count, self.full_index)
        if self.bits.shape[0]:
            ones = count_ones(self.bits)[self.partial_bits.long()]
            total += (ones * _used(self.partial_count, self.partial_index)).sum(-1)
        return total

    @property
    def covered(self) -> int:
        """How many positions are in blocks that are not empty, over all texts and heads that have their own."""
        full = self._areas(self.full_count, self.full_index)
        return int((full + self._areas(self.partial_count, self.partial_index)).sum())

    def _areas(self, count: Tensor, index: Tensor) -> Tensor:
        """Positions of the listed blocks of each row, without what is beyond the last query or key."""
        rows = torch.arange(count.shape[2], device=self.device)
        heights = (self.shape[0] - rows * self.block[0]).clamp(max=self.block[0])
        widths = (self.shape[1] - index.long() * self.block[1]).clamp(max=self.block[1])
        return (widths * _used(count, index)).sum(-1) * heights

    def kinds(self) -> Tensor:
        """Returns int8 [B or 1, H or 1, MB, NB]: 0 for an empty block, 1 for one allowed in part, 2 for a full one."""
        columns = -(-self.shape[1] // self.block[1])
        kinds = torch.zeros(*self.full_count.shape, columns, dtype=torch.int8, device=self.device)
        for kind, count, index in (
            (1, self.partial_count, self.partial_index),
            (2, self.full_count, self.full_index),
        ):
            used = _used(count, index)
            b, h, m, _ = used.nonzero(as_tuple=True)
            kinds[b, h, m, index[used].long()] = kind
        return kinds

    def to_dense(self) -> Tensor:
        """Returns the mask: bool [B or 1, H or 1, queries, keys]."""
        rows, columns = self.block
        kinds = self.kinds()
        dense = (kinds == 2).repeat_interleave(rows, 2).repeat_interleave(columns, 3)
        tiles = dense.unflatten(3, (-1, columns)).unflatten(2, (-1, rows)).movedim(4, 3)  # a view: [B, H, M, N, r, c]
        used = _used(self.partial_count, self.partial_index)
        b, h, m, _ = used.nonzero(as_tuple=True)
        tiles[b, h, m, self.partial_index[used].long()] = unpacked(self.bits, columns)[self.partial_bits[used].long()]
        return dense[:, :, : self.shape[0], : self.shape[1]].contiguous()

    def block_list(self) -> BlockList:
        """Returns the list that `gs.attention` takes, which shares the arrays."""
        from gossamer.patterns.masks import block_list

        return block_list(self)

    def to(self, device: torch.device | str) -> BlockClasses:
        """Returns the classes with their arrays on a device."""
        arrays = {f.name: getattr(self, f.name) for f in fields(self)}
        return replace(self, **{name: x.to(device) for name, x in arrays.items() if isinstance(x, Tensor)})

    def __repr__(self) -> str:
        full, partial = self.counts
        blocks = self.full_count.numel() * -(-self.shape[1] // self.block[1])
        return (
            f"BlockClasses({self.shape[0]} x {self.shape[1]} in blocks of {self.block[0]} x {self.block[1]}: {full} "
            f"full, {partial} in part ({self.bits.shape[0]} different), {blocks - full - partial} empty; density "
            f"{self.density:.3g})"
        )


def _used(count: Tensor, index: Tensor) -> Tensor:
    return torch.arange(index.shape[-1], device=index.device) < count[..., None]


def classes_of(
    pattern: PositionPattern,
    q_len: int,
    kv_len: int,
    block: int | tuple[int, int],
    device: torch.device | str | None = None,
    batch: int | None = None,
    heads: int | None = None,
) -> BlockClasses:
    """Does what `PositionPattern.blocks` says."""
    for length, what in ((q_len, "queries"), (kv_len, "keys")):
        if isinstance(length, bool) or not isinstance(length, int) or length < 0:
            raise TensorError(f"the number of {what} is an integer of 0 or more, not {length!r}")
    lengths, size = Lengths(q_len, kv_len), block_size(block, "blocks of a pattern: ")
    batch = (pattern.own_batch or 1) if batch is None else batch
    heads = (pattern.own_heads or 1) if heads is None else heads
    pattern._check_lengths(lengths, batch, heads)
    target = torch.empty(0, device=device).device
    if not pattern._is_by_heads:
        return _classes(pattern, lengths, size, target, batch, heads)
    # Heads of the same pattern share the work, and a list where all of them have one.
    of_head = [pattern._for_head(h) for h in range(heads)]
    known = {one: _classes(one, lengths, size, target, batch, heads) for one in dict.fromkeys(of_head)}
    if len(known) == 1:
        return known[of_head[0]]
    return _side_by_side([_of_head(known[one], h) for h, one in enumerate(of_head)])


def _classes(
    pattern: PositionPattern, lengths: Lengths, block: tuple[int, int], device: torch.device, batch: int, heads: int
) -> BlockClasses:
    leading = batch if pattern.by_batch else 1, heads if pattern.by_head else 1
    rows, columns = -(-lengths.queries // block[0]), -(-lengths.keys // block[1])
    few = leading[0] * leading[1] * rows * columns <= _FEW_BLOCKS
    found = sweep(pattern, lengths, block, leading, torch.device("cpu") if few or device.type == "meta" else device)
    bits, ids = distinct_rows(found.bits)
    full_row, full_column = _runs(found)
    shape = (*leading, rows)
    full_count, full_index = _lists(full_row, full_column, [full_column], shape, columns)
    row, column = found.partial_row, found.partial_column
    count, index, numbers = _lists(row, column, [column, ids[found.partial_bits]], shape, columns)
    classes = BlockClasses((lengths.queries, lengths.keys), block, full_count, full_index, count, index, numbers, bits)
    return classes.to(device)


def _runs(found: Found) -> tuple[Tensor, Tensor]:
    """Row and column of each block of the full runs."""
    sizes = found.full_end - found.full_begin
    ends = sizes.cumsum(0)
    place = torch.arange(int(ends[-1]) if ends.numel() else 0, device=ends.device)
    run = torch.searchsorted(ends, place, right=True)
    return found.full_row[run], (found.full_begin - (ends - sizes))[run] + place


def _lists(
    row: Tensor, column: Tensor, values: list[Tensor], shape: tuple[int, int, int], columns: int
) -> list[Tensor]:
    """Blocks in any order as lists: the count [...], and each of the values of the blocks as [..., max]."""
    rows = shape[0] * shape[1] * shape[2]
    order = (row * columns + column).argsort()
    row = row[order]
    count = torch.bincount(row, minlength=rows) if rows else row.new_zeros(0)
    width = int(count.max()) if rows else 0
    place = torch.arange(row.numel(), device=row.device) - (count.cumsum(0) - count)[row]
    lists = [count.to(torch.int32).reshape(shape)]
    for value in values:
        array = torch.zeros(rows, width, dtype=torch.int32, device=row.device)
        array[row, place] = value[order].to(torch.int32)
        lists.append(array.reshape(*shape, width))
    return lists


def _of_head(classes: BlockClasses, h: int) -> BlockClasses:
    """One head's lists of classes that may be the same for all."""
    if classes.leading[1] == 1:
        return classes
    names = ("full_count", "full_index", "partial_count", "partial_index", "partial_bits")
    return replace(classes, **{name: getattr(classes, name)[:, h : h + 1] for name in names})


def _side_by_side(heads: list[BlockClasses]) -> BlockClasses:
    """The classes of heads as those of a mask that has them all."""
    texts = max(one.leading[0] for one in heads)

    def joined(name: str) -> Tensor:
        arrays = [getattr(one, name) for one in heads]
        if arrays[0].dim() == 4:
            width = max(array.shape[3] for array in arrays)
            arrays = [torch.nn.functional.pad(array, (0, width - array.shape[3])) for array in arrays]
        return torch.cat([array.expand(texts, *array.shape[1:]) for array in arrays], 1)

    first = 0
    moved = []
    for one in heads:
        moved.append(replace(one, partial_bits=one.partial_bits + first))
        first += one.bits.shape[0]
    bits, ids = distinct_rows(torch.cat([one.bits for one in heads]))
    heads = moved
    partial_bits = joined("partial_bits")
    if bits.shape[0]:
        # Places behind the lists name bits, too, of whatever block: they are not read.
        partial_bits = ids[partial_bits.long().clamp(max=ids.numel() - 1)].to(torch.int32)
    return replace(
        heads[0],
        full_count=joined("full_count"),
        full_index=joined("full_index"),
        partial_count=joined("partial_count"),
        partial_index=joined("partial_index"),
        partial_bits=partial_bits.masked_fill(~_used(joined("partial_count"), partial_bits), 0),
        bits=bits,
    )
