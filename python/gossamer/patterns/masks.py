"""Masks made of the blocks of a pattern: lists for attention, and sparse tensors in any format."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from gossamer.block_sources import RATES
from gossamer.blocks import BlockList
from gossamer.build import build
from gossamer.errors import FormatError
from gossamer.formats import BSR, CSR, Format
from gossamer.frontend.leaf import is_tracing
from gossamer.packing import cheapest, packed
from gossamer.pattern import Pattern
from gossamer.patterns.base import PositionPattern
from gossamer.patterns.bits import unpacked
from gossamer.patterns.classes import BlockClasses, classes_of
from gossamer.tensor import SparseTensor, _flatten, _unflatten

_DEFAULT_BLOCK = 128
_KEPT_LISTS = 32
# What the lists that `gs.attention` makes are chosen from: the first of the cheapest.
_BLOCKS = ((128, 128), (64, 64))


class PatternMask(SparseTensor):
    """A bool SparseTensor in `gs.BSR` that is a list of blocks; index arrays and values are made when asked for.

    `gs.attention` takes the list itself. Where a block does not divide the length there is no such storage, and what
    needs it raises FormatError; the list, `to_dense()` and other formats are there all the same.

    Attributes:
        classes: The blocks.
    """

    classes: BlockClasses

    def __init__(self, classes: BlockClasses):
        self.classes, self.fill = classes, False
        self._be_numbered()

    def __getattr__(self, name: str) -> Any:
        if name == "pattern":
            self.pattern = _bsr_pattern(self.classes, self.shape)
            return self.pattern
        if name == "values":
            self.values = _bsr_values(self.classes)
            return self.values
        if name == "block_list":
            self.block_list = _attention_list(self.classes)
            return self.block_list
        return super().__getattr__(name)

    @property
    def format(self) -> Format:
        """The storage format."""
        return BSR(self.classes.block).for_rank(len(self.shape))

    @property
    def shape(self) -> torch.Size:
        """The shape of the mask."""
        return torch.Size((*_leading(self.classes), *self.classes.shape))

    @property
    def ndim(self) -> int:
        """Number of dimensions."""
        return len(self.shape)

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the values."""
        return torch.bool

    @property
    def device(self) -> torch.device:
        """The device of the arrays."""
        return self.classes.device

    @property
    def nnz(self) -> int:
        """Number of stored entries: those of blocks that are not empty."""
        return self.classes.covered

    @property
    def density(self) -> float:
        """Stored entries over all entries."""
        return self.nnz / max(1, self.numel())

    def __repr__(self) -> str:
        return f"PatternMask(shape={tuple(self.shape)}, {self.classes!r})"

    def to_dense(self) -> Tensor:
        """Returns the mask with all its entries."""
        return super().to_dense() if is_tracing() else self.classes.to_dense().reshape(self.shape)

    def to(self, *args: Any, **kwargs: Any) -> SparseTensor:
        """As `SparseTensor.to`; on another device it stays a list."""
        if len(args) == 1 and not kwargs and isinstance(args[0], torch.device | str) and not is_tracing():
            return PatternMask(self.classes.to(args[0]))
        return super().to(*args, **kwargs)

    def detach(self) -> SparseTensor:
        """Returns the mask: it has no graph."""
        return super().detach() if is_tracing() else self

    def clone(self) -> SparseTensor:
        """Returns a mask with its own values, should they be made."""
        return super().clone() if is_tracing() else PatternMask(self.classes)

    def __reduce__(self) -> tuple:
        return PatternMask, (self.classes,)

    def _in_format(self, format: Format) -> SparseTensor:
        if format.for_rank(self.ndim) == self.format:
            return self
        return _stored(self.classes, self.shape, format)


pytree.register_pytree_node(
    PatternMask,
    _flatten,  # type: ignore[arg-type]
    _unflatten,  # type: ignore[arg-type]
    serialized_type_name="gossamer.PatternMask",
)


def mask_of(
    pattern: PositionPattern,
    q_len: int,
    kv_len: int,
    format: Format | None,
    device: torch.device | str | None,
    batch: int | None,
    heads: int | None,
) -> SparseTensor:
    """Does what `PositionPattern.mask` says."""
    format = BSR(_DEFAULT_BLOCK) if format is None else format
    if not isinstance(format, Format):
        raise FormatError(f"a mask of a pattern is stored in a format, such as gs.BSR(128) or gs.CSR, not {format!r}")
    block = format.block if format.dim_rank == 2 and format.block is not None else None
    size = _DEFAULT_BLOCK if block is None else (block[0], block[1])
    return PatternMask(classes_of(pattern, q_len, kv_len, size, device, batch, heads)).to(format)


class PatternList(BlockList):
    """A list of blocks whose arrays nobody changes: the mask made of it is kept, with all that is derived of that."""

    def to_mask(self) -> SparseTensor:
        """As `BlockList.to_mask`, made once."""
        if "mask" not in self._derived:
            self._derived["mask"] = super().to_mask()
        return self._derived["mask"]


# Lists that `gs.attention` made of patterns, the one used last at the end.
_lists: dict[tuple[Any, ...], BlockList] = {}


def known_list(*key: Any) -> BlockList | None:
    """The list that `list_of` has made of these arguments, if it is still there."""
    blocks = _lists.pop(key, None)
    if blocks is not None:
        _lists[key] = blocks
    return blocks


def list_of(
    pattern: PositionPattern, q_len: int, kv_len: int, device: torch.device, batch: int, heads: int
) -> BlockList:
    """The list that `gs.attention` uses for a pattern, in the blocks that cost least; the last ones are kept."""
    key = pattern, q_len, kv_len, device, batch, heads
    blocks = known_list(*key)
    if blocks is None:
        blocks = _lists[key] = _new_list(*key)
        for old in list(_lists)[:-_KEPT_LISTS]:
            _lists.pop(old, None)
    return blocks


def _new_list(
    pattern: PositionPattern, q_len: int, kv_len: int, device: torch.device, batch: int, heads: int
) -> BlockList:
    there = torch.device("cpu") if device.type == "meta" else device  # where arrays have something in them
    candidates = [classes_of(pattern, q_len, kv_len, block, there, batch, heads) for block in _BLOCKS]
    if device.type == "cuda":
        return cheapest([_attention_list(classes) for classes in candidates])
    return block_list(min(candidates, key=_cost).to(device))


def _cost(classes: BlockClasses) -> float:
    """What a tile program takes, in entries of blocks of 128 x 128."""
    return sum(classes.counts) * classes.block[0] * classes.block[1] / RATES[classes.block]


def _attention_list(classes: BlockClasses) -> BlockList:
    """The list for `gs.attention`: with keys packed on a GPU; a processor takes the mask itself, in its blocks."""
    blocks = block_list(classes)
    return packed(blocks) if classes.device.type == "cuda" else blocks


def clear_cache() -> None:
    """Forgets the lists that `gs.attention` made of patterns, and what they hold of a device's memory."""
    _lists.clear()


def block_list(classes: BlockClasses) -> BlockList:
    """The list of blocks, sharing the arrays."""
    parts: dict[str, Tensor] = {}
    if classes.bits.shape[0]:
        parts = {name: getattr(classes, name) for name in ("partial_count", "partial_index", "partial_bits", "bits")}
    return PatternList(classes.full_count, classes.full_index, classes.block, classes.shape, **parts, check=False)


def listed(mask: Any, q: Any, k: Any) -> Any:
    """What `gs.attention` takes a mask for: the list of blocks of a pattern for these tensors, or of its mask."""
    if isinstance(mask, PatternMask):
        return mask.block_list
    is_attention = all(isinstance(x, Tensor) and x.dim() == 4 for x in (q, k))
    if isinstance(mask, PositionPattern) and is_attention:
        return list_of(*_list_key(mask, q, k))
    return mask


def is_listed(mask: Any, q: Tensor, k: Tensor) -> bool:
    """Whether `listed` makes nothing new for these arguments of attention."""
    return not isinstance(mask, PositionPattern) or known_list(*_list_key(mask, q, k)) is not None


def _list_key(
    pattern: PositionPattern, q: Tensor, k: Tensor
) -> tuple[PositionPattern, int, int, torch.device, int, int]:
    return pattern, q.shape[2], k.shape[2], q.device, q.shape[0], q.shape[1]


def _leading(classes: BlockClasses) -> tuple[int, ...]:
    """The dimensions of a mask before queries and keys: none for texts, or heads, that share one."""
    texts, heads = classes.leading
    return (texts, heads) if texts > 1 else (heads,) if heads > 1 else ()


def _stored(classes: BlockClasses, shape: torch.Size, format: Format) -> SparseTensor:
    """The mask in a format other than the one of its blocks."""
    fitted = format.for_rank(len(shape))
    fitted.level_sizes(shape)
    if fitted.block is not None:
        pattern = _bsr_pattern(classes, shape)
        return SparseTensor(pattern, _bsr_values(classes), fill=False)._in_format(format)
    pattern, order = build(CSR.for_rank(len(shape)), shape, _entries(classes))
    assert order is None
    values = torch.ones(pattern.values_shape, dtype=torch.bool, device=classes.device)
    return SparseTensor(pattern, values, fill=False)._in_format(format)


def _blocks(classes: BlockClasses) -> tuple[Tensor, Tensor, Tensor]:
    """Row (counted on over texts and heads), column, and row of bits (-1 for a full one) of all blocks, in order."""
    parts = []
    for count, index, bits in (
        (classes.full_count, classes.full_index, None),
        (classes.partial_count, classes.partial_index, classes.partial_bits),
    ):
        used = torch.arange(index.shape[-1], device=index.device) < count[..., None]
        row = used.flatten(0, 2).nonzero()[:, 0]
        column = index[used].long()
        parts.append((row, column, torch.full_like(column, -1) if bits is None else bits[used].long()))
    row, column, bits = (torch.cat(pair) for pair in zip(*parts, strict=True))
    columns = max(1, -(-classes.shape[1] // classes.block[1]))
    order = (row * columns + column).argsort()
    return row[order], column[order], bits[order]


def _bsr_pattern(classes: BlockClasses, shape: torch.Size) -> Pattern:
    format = BSR(classes.block)
    for length, block, what in zip(classes.shape, classes.block, ("queries", "keys"), strict=True):
        if length % block:
            raise FormatError(
                f"a block of {block} does not divide {length} {what}: as a list of blocks, whose last one is shorter, "
                f"gs.attention takes this mask; store it as gs.CSR, or make it of {-length // block * -block} {what}"
            )
    row, column, _ = _blocks(classes)
    positions = torch.zeros(classes.full_count.numel() + 1, dtype=torch.int32, device=classes.device)
    positions[1:] = torch.bincount(row, minlength=classes.full_count.numel()).cumsum(0)
    level = next(n for n, level in enumerate(format.levels) if level.kind == "compressed")
    none: list[Tensor | None] = [None] * format.lvl_rank
    arrays, crd = none.copy(), none.copy()
    arrays[level], crd[level] = positions, column.to(torch.int32)
    return Pattern(format, shape, arrays, crd, check=False)


def _bsr_values(classes: BlockClasses) -> Tensor:
    rows, columns = classes.block
    _, _, bits = _blocks(classes)
    values = torch.ones(bits.numel(), rows, columns, dtype=torch.bool, device=classes.device)
    partial = bits >= 0
    values[partial] = unpacked(classes.bits[bits[partial]], columns)
    sizes = [size for size in (rows, columns) if size > 1]  # a block of one row or column is not a level
    return values.reshape(bits.numel(), *sizes)


def _entries(classes: BlockClasses) -> Tensor:
    """The places of all allowed entries, row by row: int64, sorted."""
    rows, columns = classes.block
    row, column, bits = _blocks(classes)
    blocks_in_column = classes.full_count.shape[2]
    lead, row = row // max(1, blocks_in_column), row % max(1, blocks_in_column)
    device = classes.device
    q = row[:, None, None] * rows + torch.arange(rows, device=device)[:, None]
    k = column[:, None, None] * columns + torch.arange(columns, device=device)
    allowed = (q < classes.shape[0]) & (k < classes.shape[1])
    partial = bits >= 0
    allowed[partial] &= unpacked(classes.bits[bits[partial]], columns)
    place = (lead[:, None, None] * classes.shape[0] + q) * classes.shape[1] + k
    return place[allowed].sort().values
