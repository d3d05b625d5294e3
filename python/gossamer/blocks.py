"""Block lists: which blocks of keys each block of queries may see, as count and index arrays."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from gossamer.errors import FormatError, TensorError, UnsupportedError
from gossamer.formats import BSR, Level
from gossamer.pattern import Pattern
from gossamer.tensor import SparseTensor

# Keys and values of the heads whose tiles run side by side stay well within an H200's 50 MB of cache.
_CACHE_BYTES = 16 << 20


class BlockList:
    """An attention mask of whole blocks: for each block of queries the blocks of keys that it may see.

    The layout of flex_attention's `BlockMask`, FA4, cuDNN and FlashInfer; the arrays are kept as they are.

    Args:
        count: int32 [B or 1, H or 1, MB]: how many blocks of keys block m of the queries sees; MB is the number of
            blocks of queries, the last of which may be shorter.
        index: int32 [B or 1, H or 1, MB, max]: which; ascending in the first `count` places, the rest is not read.
        block: Rows and columns of a block: (queries, keys), or one number for both.
        shape: Numbers of queries and keys.
        check: Whether to check the arrays, which waits for the device once.

    Raises:
        TensorError: Other dtypes, shapes or devices, or an index that is out of range, repeated or not ascending.
    """

    def __init__(
        self,
        count: Tensor,
        index: Tensor,
        block: int | tuple[int, int],
        shape: tuple[int, int],
        *,
        check: bool = True,
    ):
        self.block = (block, block) if isinstance(block, int) else (block[0], block[1])
        self.shape = (shape[0], shape[1])
        self.count, self.index = count, index
        self._derived: dict[Any, Any] = {}
        self._check_shapes()
        if index.shape[-1] == 0:  # so that there is something to point to
            self.index = index.new_zeros(*index.shape[:-1], 1)
        self.count, self.index = self.count.contiguous(), self.index.contiguous()
        if check:
            self._check_entries()

    def _check_shapes(self) -> None:
        count, index = self.count, self.index
        if count.dtype != torch.int32 or index.dtype != torch.int32:
            raise TensorError(f"count and index of a block list are int32, not {count.dtype} and {index.dtype}")
        if count.dim() != 3 or index.dim() != 4 or count.shape != index.shape[:3]:
            raise TensorError(
                f"a block list has count [B, H, MB] and index [B, H, MB, max], not {list(count.shape)} and "
                f"{list(index.shape)}"
            )
        if count.device != index.device:
            raise TensorError(f"count is on {count.device}, index on {index.device}")
        blocks = -(-self.shape[0] // self.block[0])
        if count.shape[2] != blocks:
            raise TensorError(
                f"{self.shape[0]} queries in blocks of {self.block[0]} are {blocks} blocks, and count has "
                f"{count.shape[2]}"
            )

    def _check_entries(self) -> None:
        width, columns = self.index.shape[-1], -(-self.shape[1] // self.block[1])
        place = torch.arange(width, device=self.index.device)
        used = place < self.count[..., None]
        wrong = ((self.index < 0) | (self.index >= columns)) & used
        falls = (self.index[..., 1:] <= self.index[..., :-1]) & used[..., 1:]
        counts = (self.count < 0) | (self.count > width)
        bad_count, bad_index, bad_order = torch.stack([counts.any(), wrong.any(), falls.any()]).tolist()
        if bad_count:
            raise TensorError(f"a count of a block list is below 0 or above {width}, the length of its lists")
        if bad_index:
            at = wrong.nonzero()[0].tolist()
            raise TensorError(
                f"index{at} of a block list is {self.index[tuple(at)].item()}; there are {columns} blocks of keys"
            )
        if bad_order:
            at = falls.nonzero()[0].tolist()
            at[-1] += 1
            raise TensorError(f"index{at} of a block list is repeated or not ascending")

    @classmethod
    def from_dense(cls, allowed: Tensor, block: int | tuple[int, int], shape: tuple[int, int]) -> BlockList:
        """A list from a bool tensor [..., MB, NB] that has an entry for each block; up to two leading dimensions.

        Raises:
            TensorError: Not bool, of another rank, or of other sizes than the shape has blocks.
        """
        if allowed.dtype != torch.bool or not 2 <= allowed.dim() <= 4:
            raise TensorError(
                f"allowed blocks are a bool tensor [MB, NB], [H, MB, NB] or [B, H, MB, NB], not {allowed.dtype} of "
                f"shape {list(allowed.shape)}"
            )
        allowed = allowed.reshape((1,) * (4 - allowed.dim()) + tuple(allowed.shape))
        rows, columns = (block, block) if isinstance(block, int) else block
        wanted = (-(-shape[0] // rows), -(-shape[1] // columns))
        if tuple(allowed.shape[2:]) != wanted:
            raise TensorError(f"shape {shape} has {wanted} blocks, not {tuple(allowed.shape[2:])}")
        count = allowed.sum(-1, dtype=torch.int32)
        index = torch.argsort((~allowed).to(torch.int8), dim=-1, stable=True).to(torch.int32)
        return cls(count, index, (rows, columns), shape, check=False)

    @classmethod
    def of(cls, mask: SparseTensor) -> BlockList:
        """The list of a bool mask stored as `gs.BSR(b)`, [..., queries, keys]; its blocks must be allowed as a whole.

        Raises:
            TensorError: It is no bool, or something within a stored block is False.
            FormatError: It is not stored by rows of blocks.
        """
        pattern = mask.pattern
        key = "block list", mask.values.data_ptr(), mask.values._version
        return pattern.derived(key, lambda: cls._of(mask))

    @classmethod
    def _of(cls, mask: SparseTensor) -> BlockList:
        block = _block_of(mask)
        if mask.dtype != torch.bool or not 2 <= mask.dim() <= 4:
            raise TensorError(f"a mask is bool, [queries, keys] up to [B, H, queries, keys], not {mask.dtype}")
        pattern = mask.pattern
        level = next(n for n, lvl in enumerate(pattern.format.levels) if lvl.kind == "compressed")
        positions, coordinates = pattern.positions(level), pattern.coordinates(level)
        assert positions is not None
        assert coordinates is not None
        rows = mask.shape[-2] // block[0]
        lead = (1,) * (4 - mask.dim()) + tuple(mask.shape[:-2])
        count = positions.diff().reshape(*lead, rows).to(torch.int32)
        width, whole = torch.stack([count.max() if count.numel() else count.sum(), mask.values.all()]).tolist()
        if not whole:
            raise TensorError("something within a stored block is False; a block list has whole blocks")
        place = torch.arange(max(width, 1), device=count.device)
        begin = positions[:-1].reshape(*lead, rows, 1)
        at = (begin + place).clamp(max=max(coordinates.numel() - 1, 0))
        source = coordinates if coordinates.numel() else coordinates.new_zeros(1)
        index = source[at.reshape(-1)].reshape(at.shape).to(torch.int32)
        return cls(count, index, block, (mask.shape[-2], mask.shape[-1]), check=False)

    @property
    def device(self) -> torch.device:
        """Where the arrays are."""
        return self.count.device

    def to_mask(self) -> SparseTensor:
        """The mask as a bool SparseTensor stored as `gs.BSR`.

        Raises:
            FormatError: Blocks do not divide the shape.
        """
        lead, width = tuple(self.count.shape[:2]), self.index.shape[-1]
        while lead and lead[0] == 1:
            lead = lead[1:]
        used = torch.arange(width, device=self.device) < self.count[..., None]
        positions = torch.zeros(self.count.numel() + 1, dtype=torch.int32, device=self.device)
        positions[1:] = self.count.reshape(-1).cumsum(0)
        coordinates = self.index[used]
        shape = (*lead, *self.shape)
        format = BSR(self.block)
        at = next(n for n, level in enumerate(format.levels) if level.kind == "compressed")
        arrays: list[Tensor | None] = [None] * len(format.levels)
        arrays[at] = positions
        crd: list[Tensor | None] = [None] * len(format.levels)
        crd[at] = coordinates
        pattern = Pattern(format, shape, arrays, crd, check=False)
        values = torch.ones(pattern.values_shape, dtype=torch.bool, device=self.device)
        return SparseTensor(pattern, values, fill=False)

    def transposed(self) -> BlockList:
        """Of each block of keys the blocks of queries that see it, made once, without waiting for the device."""
        if "transposed" not in self._derived:
            columns = -(-self.shape[1] // self.block[1])
            used = torch.arange(self.index.shape[-1], device=self.device) < self.count[..., None]
            # What is not used goes to a column of its own, which is cut off.
            at = torch.where(used, self.index, columns).long()
            allowed = torch.zeros(*self.count.shape, columns + 1, dtype=torch.bool, device=self.device)
            allowed = allowed.scatter_(-1, at, True)[..., :columns]
            block, shape = (self.block[1], self.block[0]), (self.shape[1], self.shape[0])
            self._derived["transposed"] = BlockList.from_dense(allowed.mT, block, shape)
        return self._derived["transposed"]

    def order(self, batch: int, heads: int, head_bytes: int, shared: int = 0) -> Tensor:
        """Tiles (block of rows + rows x (head + heads x batch)) as they are best done: the longest lists first, so that
        none is left over at the end, within groups of heads whose operands fit the cache.

        Args:
            batch, heads: Of the tiles.
            head_bytes: Of what the tiles of one head read.
            shared: How many heads the list is for, if several of these share a tile.
        """
        group = max(1, _CACHE_BYTES // max(head_bytes, 1))
        key = "order", batch, heads, shared, group
        if key not in self._derived:
            rows = self.count.shape[2]
            count = self.count.expand(batch, shared or heads, rows)
            self._derived[key] = _longest_first(count.reshape(batch * heads, -1, rows).sum(1), group)
        return self._derived[key]


def _longest_first(count: Tensor, group: int) -> Tensor:
    """The order of [heads, rows] tiles of so many steps, in groups of heads."""
    heads, rows = count.shape
    groups = -(-heads // group)
    padded = torch.nn.functional.pad(count, (0, 0, 0, groups * group - heads), value=-1)
    order = padded.reshape(groups, -1).argsort(dim=-1, descending=True, stable=True)
    order += torch.arange(groups, device=order.device)[:, None] * (group * rows)
    return order.reshape(-1)[: count.numel()].to(torch.int32)


def from_block_mask(mask: Any) -> BlockList:
    """The list of flex_attention's `BlockMask`, whose arrays are kept as they are.

    Blocks in which only some entries are allowed cannot be taken: what is allowed there is known to a function alone.

    Raises:
        UnsupportedError: There are such blocks.
        TensorError: As a `BlockList` raises.
    """
    from torch.nn.attention.flex_attention import noop_mask

    block, shape = tuple(mask.BLOCK_SIZE), tuple(mask.seq_lengths)
    if mask.mask_mod is noop_mask:
        return BlockList(mask.kv_num_blocks, mask.kv_indices, block, shape)
    partial = int(mask.kv_num_blocks.sum())
    if partial or mask.full_kv_num_blocks is None:
        raise UnsupportedError(
            f"{partial} blocks of {block[0]} x {block[1]} of this BlockMask are allowed in part, by a function; a "
            "block list has whole blocks"
        )
    return BlockList(mask.full_kv_num_blocks, mask.full_kv_indices, block, shape)


def _block_of(mask: SparseTensor) -> tuple[int, int]:
    """The block of a mask stored by rows of blocks."""
    levels: list[Level] = [level for level in mask.pattern.format.levels if level.kind != "batch"]
    levels = levels[mask.dim() - 2 :]
    if len(levels) == 4 and [level.kind for level in levels] == ["dense", "compressed", "dense", "dense"]:
        block = levels[2].expr.block, levels[3].expr.block
        if mask.pattern.format == BSR(block).for_rank(mask.dim()):
            return block
    raise FormatError(f"a block list is made of a mask stored as gs.BSR(b), not as {mask.format}")
