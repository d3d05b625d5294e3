"""Block lists of other masks (sparse, dense, flex_attention's, bands), and masks of block lists.

A mask's matrices are numbered through all leading dimensions, and blocks are found by matrix, row and column.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from gossamer.bitmaps import block_areas, evaluate, pack, unpack, words_of
from gossamer.block_states import keys_of
from gossamer.blocks import BlockList
from gossamer.coordinates import unravel
from gossamer.errors import TensorError
from gossamer.formats import BSR, CSR, Format, Level
from gossamer.pattern import Pattern
from gossamer.tensor import SparseTensor

Block = tuple[int, int]
Shape = tuple[int, int]

# What a tile of such blocks does per entry beside one of 128 x 128, of what was measured (docs/tile.md): a mask that is
# not stored in blocks is cut into those that cost least.
RATES = {
    (128, 128): 1.0,
    (128, 64): 0.95,
    (128, 32): 0.87,
    (128, 16): 0.7,
    (64, 64): 0.85,
    (64, 32): 0.75,
    (64, 16): 0.6,
}
_FINEST = (64, 16)
# Finest blocks of a mask that are looked at to choose; and partial blocks that are packed at once.
_MOST_FINEST, _PACKED = 1 << 28, 1 << 11


@dataclass(frozen=True)
class Blocks:
    """The blocks of a mask in which something is allowed, ascending.

    Attributes:
        matrix, row, column: Where they are, in blocks: int64 [blocks].
        is_full: Whether all of a block is allowed: bool [blocks].
        bits: Bitmaps.
        numbers: Which of them each block has that is not full; None: one each, in order.
    """

    matrix: Tensor
    row: Tensor
    column: Tensor
    is_full: Tensor
    bits: Tensor
    numbers: Tensor | None = None


def assemble(
    blocks: Blocks, lead: tuple[int, int], block: Block, shape: Shape, packed_keys: Tensor | None = None
) -> BlockList:
    """Returns the list of these blocks of [*lead, *shape]; waits for the device to know how long its rows are."""
    rows = -(-shape[0] // block[0])
    total = lead[0] * lead[1] * rows
    at = blocks.matrix * rows + blocks.row

    def listed(chosen: Tensor) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor]]:
        row = at[chosen]
        count = torch.bincount(row, minlength=total) if total else row.new_zeros(0)
        place = torch.arange(row.numel(), device=row.device) - (count.cumsum(0) - count)[row]
        width = int(count.max()) if count.numel() else 0
        index = torch.zeros(total, max(width, 1), dtype=torch.int32, device=row.device)
        index[row, place] = blocks.column[chosen].to(torch.int32)
        return count.to(torch.int32).view(*lead, rows), index.view(*lead, rows, index.shape[1]), (row, place)

    count, index, _ = listed(blocks.is_full)
    if not blocks.bits.shape[0]:
        return BlockList(count, index, block, shape, packed_keys=packed_keys, check=False)
    partial_count, partial_index, where = listed(~blocks.is_full)
    numbers = torch.zeros_like(partial_index).view(total, -1)
    own = torch.arange(blocks.bits.shape[0], device=numbers.device) if blocks.numbers is None else blocks.numbers
    numbers[where] = own.to(torch.int32)
    return BlockList(
        count, index, block, shape, partial_count=partial_count, partial_index=partial_index,
        partial_bits=numbers.view_as(partial_index), bits=blocks.bits, packed_keys=packed_keys, check=False,
    )  # fmt: skip


def list_of(mask: SparseTensor | Tensor, block: Block | None) -> BlockList:
    """Does what `BlockList.of` says, without packing keys."""
    if mask.dtype != torch.bool or not 2 <= mask.dim() <= 4:
        raise TensorError(
            f"a mask is bool, [queries, keys] up to [B, H, queries, keys], not {mask.dtype} of shape {list(mask.shape)}"
        )
    if mask.device.type == "meta":
        raise TensorError("a mask on the meta device has no entries to make a block list of")
    if isinstance(mask, Tensor):  # what is expanded is looked at once
        for dim in range(mask.dim() - 2):
            mask = mask.narrow(dim, 0, 1) if mask.shape[dim] > 1 and mask.stride(dim) == 0 else mask
    lead: Any = (1,) * (4 - mask.dim()) + tuple(mask.shape[:-2])
    shape = mask.shape[-2], mask.shape[-1]
    if isinstance(mask, SparseTensor):
        stored = stored_block(mask)
        if stored is not None and block in (None, stored):
            return assemble(_of_stored_blocks(mask, stored), lead, stored, shape)
        if not mask.fill and mask.pattern.format.outer:
            return _of_entries(mask, lead, shape, block)
        mask = mask.to_dense()
    return _of_dense(mask.detach(), lead, shape, block)


# Of dense masks.


def _of_dense(mask: Tensor, lead: tuple[int, int], shape: Shape, block: Block | None) -> BlockList:
    mask = mask.reshape(math.prod(lead), *shape)
    if block is None:
        block = _cheapest(_cut(mask, _FINEST).any(4).any(2)) if _can_choose(lead, shape) else (128, 128)
    tiles = _cut(mask, block)
    count = tiles.sum((2, 4), dtype=torch.int32)
    matrix, row, column = (count > 0).nonzero().unbind(1)
    is_full = (count == block_areas(block, shape, mask.device))[matrix, row, column]
    partial = ~is_full
    at = matrix[partial], row[partial], column[partial]
    parts = zip(*(index.split(_PACKED) for index in at), strict=True)
    packed = [pack(tiles[m, r, :, c]) for m, r, c in parts]
    return assemble(Blocks(matrix, row, column, is_full, _joined(packed, block, mask.device)), lead, block, shape)


def _cut(mask: Tensor, block: Block) -> Tensor:
    """[matrices, blocks of rows, rows, blocks of columns, columns]."""
    rows, columns = mask.shape[1:]
    filled = (
        F.pad(mask, (0, -columns % block[1], 0, -rows % block[0])) if columns % block[1] or rows % block[0] else mask
    )
    return filled.view(mask.shape[0], filled.shape[1] // block[0], block[0], filled.shape[2] // block[1], block[1])


def _joined(packed: list[Tensor], block: Block, device: torch.device) -> Tensor:
    none = torch.zeros(0, block[0], words_of(block[1]), dtype=torch.int32, device=device)
    return torch.cat([none, *packed])


def _can_choose(lead: tuple[int, int], shape: Shape) -> bool:
    return math.prod(lead) * -(-shape[0] // _FINEST[0]) * -(-shape[1] // _FINEST[1]) <= _MOST_FINEST


def _cheapest(finest: Tensor) -> Block:
    """The block in which a mask costs least, of the finest blocks in which something is allowed: [n, rows, columns]."""
    blocks = list(RATES)
    costs = []
    for block in blocks:
        rows, columns = block[0] // _FINEST[0], block[1] // _FINEST[1]
        tiles = _cut(finest, (rows, columns)).any(4).any(2)
        costs.append(tiles.sum() * (block[0] * block[1] / RATES[block]))
    return blocks[int(torch.stack(costs).argmin())]


# Of sparse masks.


def stored_block(mask: SparseTensor) -> Block | None:
    """Returns the block of a mask stored by rows of blocks."""
    levels: list[Level] = [level for level in mask.pattern.format.levels if level.kind != "batch"]
    levels = levels[mask.dim() - 2 :]
    if mask.fill or [level.kind for level in levels] != ["dense", "compressed", "dense", "dense"]:
        return None
    block = levels[2].expr.block, levels[3].expr.block
    return block if mask.pattern.format == BSR(block).for_rank(mask.dim()) else None


def _of_stored_blocks(mask: SparseTensor, block: Block) -> Blocks:
    """The blocks of a mask stored as BSR, those with nothing allowed among them, too."""
    pattern = mask.pattern
    level = next(n for n, lvl in enumerate(pattern.format.levels) if lvl.kind == "compressed")
    positions, coordinates = pattern.positions(level), pattern.coordinates(level)
    assert positions is not None
    assert coordinates is not None
    rows = mask.shape[-2] // block[0]
    row = torch.arange(positions.numel() - 1, device=positions.device)
    row = row.repeat_interleave(positions.diff().long(), output_size=coordinates.numel())
    values = mask.values.reshape(-1, *block)
    matrix, row = row.div(max(rows, 1), rounding_mode="floor"), row % max(rows, 1)
    is_full = values.flatten(1).all(1)
    packed = [pack(part) for part in values[~is_full].split(_PACKED)]
    return Blocks(matrix, row, coordinates.long(), is_full, _joined(packed, block, mask.device))


def _of_entries(mask: SparseTensor, lead: tuple[int, int], shape: Shape, block: Block | None) -> BlockList:
    """By the coordinates of what is stored and True."""
    coordinates = mask.pattern.coo()
    coordinates = coordinates[:, mask.values.reshape(-1) & (coordinates[-1] >= 0)]
    if mask.format.allows_duplicates:
        coordinates = coordinates.unique(dim=1)
    query, key = coordinates[-2], coordinates[-1]
    matrix = torch.zeros_like(query)
    for size, at in zip(mask.shape[:-2], coordinates[:-2], strict=True):
        matrix = matrix * size + at
    matrices = math.prod(lead)
    if block is None:
        block = (128, 128)
        if _can_choose(lead, shape):
            sizes = -(-shape[0] // _FINEST[0]), -(-shape[1] // _FINEST[1])
            finest = torch.zeros(matrices, *sizes, dtype=torch.bool, device=query.device)
            finest[matrix, query // _FINEST[0], key // _FINEST[1]] = True
            block = _cheapest(finest)
    sizes = matrices, -(-shape[0] // block[0]), -(-shape[1] // block[1])
    place = (matrix * sizes[1] + query // block[0]) * sizes[2] + key // block[1]
    count = torch.bincount(place, minlength=math.prod(sizes))
    stored = count.nonzero()[:, 0]
    areas = block_areas(block, shape, query.device).reshape(-1)
    is_full = count[stored] == areas[stored % max(areas.numel(), 1)]
    partial = stored[~is_full]
    number = torch.full_like(count, -1)
    number[partial] = torch.arange(partial.numel(), device=number.device)
    words = words_of(block[1])
    bits = torch.zeros(partial.numel(), block[0], words, dtype=torch.int32, device=query.device)
    row, column = query % block[0], key % block[1]
    word = (number[place] * block[0] + row) * words + column // 32
    bit = torch.ones_like(column, dtype=torch.int32) << (column % 32).to(torch.int32)
    chosen = number[place] >= 0
    bits.view(-1).index_add_(0, word[chosen], bit[chosen])  # entries are different bits
    matrix, row, column = unravel(stored, sizes)
    return assemble(Blocks(matrix, row, column, is_full, bits), lead, block, shape)


# Of functions.


def from_block_mask(mask: Any) -> BlockList:
    """The list of flex_attention's `BlockMask`, whose arrays are kept as they are.

    Of blocks that it allows in part its function is evaluated, once for each entry, on the device.

    Raises:
        TensorError: As a `BlockList` raises.
    """
    from torch.nn.attention.flex_attention import noop_mask

    block, shape = tuple(mask.BLOCK_SIZE), tuple(mask.seq_lengths)
    count, index = mask.kv_num_blocks, mask.kv_indices
    if mask.mask_mod is noop_mask:
        return BlockList(count, index, block, shape)
    full_count, full_index = mask.full_kv_num_blocks, mask.full_kv_indices
    if full_count is None:
        full_count, full_index = torch.zeros_like(count), torch.zeros_like(index[..., :1])
    used = torch.arange(index.shape[-1], device=index.device) < count[..., None]
    batch, head, row, place = used.nonzero().unbind(1)
    if not row.numel():
        return BlockList(full_count, full_index, block, shape)
    function = torch.vmap(torch.vmap(torch.vmap(mask.mask_mod, (None, None, None, 0)), (None, None, 0, None)))
    heads = count.shape[1]

    def allowed(matrix: Tensor, query: Tensor, key: Tensor) -> Tensor:
        matrix = matrix[:, 0, 0]
        return function(matrix // heads, matrix % heads, query[:, :, 0], key[:, 0, :])

    column = index[batch, head, row, place].long()
    bits, _ = evaluate(allowed, batch * heads + head, row, column, block, shape)
    numbers = torch.zeros_like(index)
    numbers[batch, head, row, place] = torch.arange(row.numel(), dtype=torch.int32, device=index.device)
    return BlockList(
        full_count, full_index, block, shape, partial_count=count, partial_index=index, partial_bits=numbers, bits=bits
    )


@lru_cache(maxsize=256)
def band(queries: int, keys: int, left: int | None, right: int | None, block: Block, device: torch.device) -> BlockList:
    """The list of a band: query i sees the keys from i - left to i + right; None: all on that side.

    Of a block only its corners are looked at, and only the few bitmaps that differ are made.
    """
    left, right = queries if left is None else left, keys if right is None else right
    first = torch.arange(0, queries, block[0])
    last = (first + block[0] - 1).clamp(max=queries - 1)
    columns = torch.arange(0, keys, block[1])
    ends = (columns + block[1] - 1).clamp(max=keys - 1)
    # From the first and to the last key that some query of the block sees, and that all of them see.
    some = (ends >= (first - left)[:, None]) & (columns <= (last + right)[:, None])
    is_full = (columns >= (last - left)[:, None]) & (ends <= (first + right)[:, None])
    row, column = some.nonzero().unbind(1)
    is_full = is_full[row, column]
    partial = ~is_full
    # The same distance from the diagonal, the same bitmap; but for the end of the keys.
    at_end = (column == len(columns) - 1) & (keys % block[1] != 0)
    key = torch.stack([column * block[1] - row * block[0], at_end.long()], 1)[partial]
    _, numbers = key.unique(dim=0, return_inverse=True)
    kinds = int(numbers.max()) + 1 if numbers.numel() else 0
    example = torch.zeros(kinds, dtype=torch.int64)
    example[numbers] = partial.nonzero()[:, 0]
    # Of the last block of queries the rows that do not exist are as the others, so that it may share its bitmap.
    below = -(-queries // block[0]) * block[0]
    bits, _ = evaluate(
        lambda _, i, j: (j >= i - left) & (j <= i + right),
        torch.zeros_like(example), row[example], column[example], block, (below, keys),
    )  # fmt: skip
    found = Blocks(torch.zeros_like(row), row, column, is_full, bits, numbers)
    return _moved(assemble(found, (1, 1), block, (queries, keys)), device)


def _moved(blocks: BlockList, device: torch.device) -> BlockList:
    def there(tensor: Tensor | None) -> Tensor | None:
        return None if tensor is None else tensor.to(device)

    return BlockList(
        blocks.count.to(device), blocks.index.to(device), blocks.block, blocks.shape,
        partial_count=there(blocks.partial_count), partial_index=there(blocks.partial_index),
        partial_bits=there(blocks.partial_bits), bits=there(blocks.bits), check=False,
    )  # fmt: skip


# Back to masks.


def mask_of(blocks: BlockList) -> SparseTensor:
    """Does what `BlockList.to_mask` says."""
    lead, (rows, columns) = tuple(blocks.count.shape[:2]), blocks.shape
    while lead and lead[0] == 1:
        lead = lead[1:]
    row, column, values = _entries(blocks)
    if rows % blocks.block[0] or columns % blocks.block[1] or blocks.packed_rows:
        return _as_entries(row, column, values, blocks, lead)
    positions = _positions(row, blocks.count.numel())
    return _stored(BSR(blocks.block), (*lead, rows, columns), positions, column, values)


def _entries(blocks: BlockList) -> tuple[Tensor, Tensor, Tensor]:
    """Of all blocks, ascending: the row of blocks, counted through all matrices, the column, and what is allowed."""
    found = []
    for count, index in ((blocks.count, blocks.index), (blocks.partial_count, blocks.partial_index)):
        if count is None or index is None:
            continue
        used = torch.arange(index.shape[-1], device=index.device) < count[..., None]
        number = used.view(-1, index.shape[-1]).nonzero()[:, 0]
        found.append((number, index[used].long()))
    values = torch.ones(found[0][0].numel(), *blocks.block, dtype=torch.bool, device=blocks.device)
    if blocks.partial_bits is not None and blocks.bits is not None:
        numbers = blocks.partial_bits[used].long()
        values = torch.cat([values, unpack(blocks.bits[numbers], blocks.block[1])])
    row, column = (torch.cat(parts) for parts in zip(*found, strict=True))
    order = (row * blocks.key_blocks + column).argsort()
    return row[order], column[order], values[order]


def _as_entries(row: Tensor, column: Tensor, values: Tensor, blocks: BlockList, lead: tuple[int, ...]) -> SparseTensor:
    """As CSR: the entries one by one."""
    number, inner_row, inner_column = values.nonzero().unbind(1)
    block_rows, (rows, columns) = blocks.count.shape[2], blocks.shape
    matrix, block_row = row // max(block_rows, 1), row % max(block_rows, 1)
    query = block_row[number] * blocks.block[0] + inner_row
    matrix = matrix[number]
    key = keys_of(blocks, matrix, column[number] * blocks.block[1] + inner_column)
    inside = (query < rows) & (key >= 0)
    line, key = (matrix * rows + query)[inside], key[inside]
    order = (line * columns + key).argsort()
    total = rows * math.prod(lead)
    ones = torch.ones(order.numel(), dtype=torch.bool, device=row.device)
    return _stored(CSR, (*lead, rows, columns), _positions(line, total), key[order], ones)


def _positions(row: Tensor, rows: int) -> Tensor:
    positions = torch.zeros(rows + 1, dtype=torch.int64, device=row.device)
    if rows:
        positions[1:] = torch.bincount(row, minlength=rows).cumsum(0)
    return positions if row.numel() >= 1 << 31 else positions.to(torch.int32)


def _stored(format: Format, shape: tuple[int, ...], positions: Tensor, column: Tensor, values: Tensor) -> SparseTensor:
    """The mask of a format that has one compressed level."""
    at = next(n for n, level in enumerate(format.levels) if level.kind == "compressed")
    arrays: list[Tensor | None] = [None] * len(format.levels)
    crd: list[Tensor | None] = [None] * len(format.levels)
    arrays[at], crd[at] = positions, column.to(positions.dtype)
    pattern = Pattern(format, shape, arrays, crd, check=False)
    return SparseTensor(pattern, values.reshape(pattern.values_shape), fill=False)
