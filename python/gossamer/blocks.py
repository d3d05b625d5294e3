"""Block lists: which blocks of keys each block of queries may see, as count and index arrays, and which in part."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from gossamer.block_checks import check_entries, check_shapes
from gossamer.block_states import listed
from gossamer.coordinates import unravel
from gossamer.errors import TensorError
from gossamer.numbered import Numbered
from gossamer.tensor import SparseTensor

# Keys and values of the heads whose tiles run side by side stay well within an H200's 50 MB of cache.
_CACHE_BYTES = 16 << 20


class BlockList(Numbered):
    """An attention mask of blocks: for each block of queries the blocks of keys that it may see, or see in part.

    The layout of flex_attention's `BlockMask`, FA4, cuDNN and FlashInfer; the arrays are kept as they are. Blocks that
    are allowed in part have a list of their own, of the same layout, and each entry of it a bitmap. Entries may share
    a bitmap.

    Keys that many blocks of queries see although they lie scattered (every 128th, vertical lines) can be *packed*:
    their rows are gathered once a call, and blocks of them come before those of all keys. Of n packed keys there are
    NP = ceil(n / columns of a block) blocks; block i of a list is one of these for i < NP, and block i - NP of the
    keys from there on. What a query sees by way of a packed block it does not see by way of the key's own block, too.

    Args:
        count: int32 [B or 1, H or 1, MB]: how many blocks of keys block m of the queries sees; MB is the number of
            blocks of queries, the last of which may be shorter.
        index: int32 [B or 1, H or 1, MB, max]: which; ascending in the first `count` places, the rest is not read.
        block: Rows and columns of a block: (queries, keys), or one number for both.
        shape: Numbers of queries and keys.
        partial_count: int32, as `count`: how many blocks of keys it sees in part; none of them is in `index`, too.
        partial_index: int32 [B or 1, H or 1, MB, max]: which, as `index`; its length is its own.
        partial_bits: int32, as `partial_index`: which of the bitmaps each of them has.
        bits: int32 [bitmaps, rows of a block, ceil(columns of a block / 32)]: bit j % 32 (the lowest is 0) of word
            j // 32 of row i says whether query i of the block sees key j. Of a block that ends behind the last key
            the bits there are 0.
        packed_keys: int32 [B or 1, KV heads or 1, packed keys]: which keys are packed, ascending. A last block of them
            that is not filled is one that is allowed in part. None: none.
        needed: Of a list that was made on a device with a capacity: int32, as `count`, how many blocks each row would
            have with room for all. `check` compares.
        check: Whether to check the arrays, which waits for the device once.

    Raises:
        TensorError: Other dtypes, shapes or devices, an index or a packed key that is out of range, repeated or not
            ascending, some of the arrays of partial blocks without the others, or a key that a query sees twice.
    """

    def __init__(
        self,
        count: Tensor,
        index: Tensor,
        block: int | tuple[int, int],
        shape: tuple[int, int],
        *,
        partial_count: Tensor | None = None,
        partial_index: Tensor | None = None,
        partial_bits: Tensor | None = None,
        bits: Tensor | None = None,
        packed_keys: Tensor | None = None,
        needed: Tensor | None = None,
        check: bool = True,
    ):
        self.block = (block, block) if isinstance(block, int) else (block[0], block[1])
        self.shape = (shape[0], shape[1])
        self.count, self.index = count, index
        self.partial_count, self.partial_index, self.partial_bits = partial_count, partial_index, partial_bits
        self.bits, self.packed_keys, self.needed = bits, packed_keys, needed
        self._derived: dict[Any, Any] = {}
        # Calls that `gs.attention` has prepared. They hold `without_calls`, and so die with the list that is made anew
        # for each step, without the garbage collector.
        self._calls: dict[Any, Any] = {}
        check_shapes(self)
        # Without an entry there would be nothing to point to.
        self.count, self.index = self.count.contiguous(), _not_empty(self.index)
        if self.partial_count is not None:
            self.partial_count, self.partial_index = self.partial_count.contiguous(), _not_empty(self.partial_index)
            self.partial_bits, self.bits = _not_empty(self.partial_bits), _aligned(self.bits)
        if self.packed_keys is not None:
            self.packed_keys = self.packed_keys.contiguous()
        if check:
            check_entries(self)
        self._be_numbered()

    def __setstate__(self, state: dict[str, Any]) -> None:
        # A copy is a mask of its own; it derives things anew.
        self.__dict__.update(state, _derived={}, _calls={})
        self._be_numbered()

    @property
    def has_partial(self) -> bool:
        """Whether there may be blocks that are allowed in part: whether the list has the arrays for them."""
        return self.partial_count is not None

    @property
    def row_counts(self) -> Tensor:
        """How many blocks of keys each block of queries sees, whole and in part: int32, as `count`."""
        return self.count if self.partial_count is None else self.count + self.partial_count

    @property
    def partial_length(self) -> int:
        """How many partial blocks a block of queries has room for."""
        return 0 if self.partial_index is None else self.partial_index.shape[-1]

    @property
    def packed_rows(self) -> int:
        """How many rows the blocks of packed keys take: what is before the first of the other keys."""
        packed = 0 if self.packed_keys is None else self.packed_keys.shape[-1]
        return -(-packed // self.block[1]) * self.block[1]

    @property
    def key_blocks(self) -> int:
        """How many blocks of keys there are, of packed ones and of all."""
        return -(-(self.packed_rows + self.shape[1]) // self.block[1])

    def without_calls(self) -> BlockList:
        """The same list, which shares with it what is derived, but for the calls that are prepared for it."""
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__, _calls={})
        return other

    def check(self) -> BlockList:
        """Waits for the device, and returns the list if it has all blocks that it should have.

        Raises:
            TensorError: A row has more blocks than the capacity with which the list was made.
        """
        if self.needed is not None:
            most, row = self.needed.flatten().max(0)
            capacity = self.index.shape[-1]
            if most > capacity:
                batch, head, place = (int(at) for at in unravel(row, self.needed.shape))
                raise TensorError(
                    f"block {place} of the queries of head {head} of text {batch} has {int(most)} blocks of keys, and "
                    f"the list was made with a capacity of {capacity}"
                )
        return self

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
        count, index = listed(allowed)
        return cls(count, index, (rows, columns), shape, check=False)

    @classmethod
    def of(cls, mask: SparseTensor | Tensor, block: int | tuple[int, int] | None = None) -> BlockList:
        """The list of a bool mask [..., queries, keys] of up to two leading dimensions, sparse in any format or dense.

        Made on the mask's device, and kept with a sparse mask's pattern, for the last values on it.

        Args:
            mask: What is True is allowed.
            block: Rows and columns of a block; None: those of a mask that is stored as `gs.BSR(b)`, and for any other
                of the blocks that tensor cores have tiles for the ones that come out cheapest, with keys packed where
                that is cheaper still.

        Raises:
            TensorError: It is no bool, of another rank, or on the meta device.
        """
        from gossamer.packing import list_of

        block = (block, block) if isinstance(block, int) else block
        if isinstance(mask, Tensor):
            return list_of(mask, block)
        return mask.pattern.derived_of_values(mask.values, ("block list", block), lambda: list_of(mask, block))

    @classmethod
    def kept(cls, mask: SparseTensor) -> BlockList | None:
        """What `of` has made of a mask, if it is there."""
        return mask.pattern.kept_of_values(mask.values, ("block list", None))

    @property
    def device(self) -> torch.device:
        """Where the arrays are."""
        return self.count.device

    def to_mask(self) -> SparseTensor:
        """The mask as a bool SparseTensor: stored as `gs.BSR`, or as `gs.CSR` where blocks do not divide the shape or
        keys are packed."""
        from gossamer.block_sources import mask_of

        return mask_of(self)

    def unpacked(self) -> BlockList:
        """The same mask in the same blocks without packed keys: itself, or a list made once, waiting for the device."""
        if not self.packed_rows:
            return self
        if "unpacked" not in self._derived:
            from gossamer.block_sources import list_of, mask_of

            self._derived["unpacked"] = list_of(mask_of(self), self.block)
        return self._derived["unpacked"]

    def tiled(self, head: int = 64, step: int = 128) -> BlockList:
        """The same mask in blocks that tensor cores have tiles for: itself, or a list made on the device and kept.

        Args:
            head: Columns of a head, filled up to those of a program.
            step: How many keys a block has at most.
        """
        from gossamer.reblock import tiled

        key = "tiled", head, step
        made = self._derived.get(key)
        if made is None:
            made = tiled(self, head, step)
            if made is not self:
                self._derived[key] = made
        return made

    def differentiable(self, step: int = 128) -> BlockList:
        """The same mask in blocks that gradients have tiles for, 64 or `step` on each side: itself if it has them."""
        if min(self.block) >= 64 and max(self.block) <= step:
            return self
        key = "differentiable", step
        if key not in self._derived:
            from gossamer.reblock import in_blocks

            self._derived[key] = in_blocks(self, (64 if self.block[0] < 128 else step, 64))
        return self._derived[key]

    def transposed(self) -> BlockList:
        """Of each block of keys the blocks of queries that see it, made once, without waiting for the device.

        Packed keys are keys of it like others, before them.
        """
        if "transposed" not in self._derived:
            from gossamer.turned import transposed

            self._derived["transposed"] = transposed(self)
        return self._derived["transposed"]

    def order(self, batch: int, heads: int, head_bytes: int, shared: int = 0) -> Tensor:
        """Tiles (block of rows + rows x (head + heads x batch)) as they are best done: the longest lists first, so that
        none is left over at the end, within groups of heads whose operands fit the cache, but for the very long ones.

        Args:
            batch, heads: Of the tiles.
            head_bytes: Of what the tiles of one head read.
            shared: How many heads the list is for, if several of these share a tile.
        """
        group = max(1, _CACHE_BYTES // max(head_bytes, 1))
        key = "order", batch, heads, shared, group
        if key not in self._derived:
            from gossamer.tile_order import longest_first

            self._derived[key] = longest_first(self, batch, heads, (shared or heads) // heads, group)
        return self._derived[key]


def _not_empty(index: Tensor | None) -> Tensor:
    assert index is not None
    return index.contiguous() if index.shape[-1] else index.new_zeros(*index.shape[:-1], 1)


def _aligned(bits: Tensor | None) -> Tensor:
    """As kernels load four words at once."""
    assert bits is not None
    bits = bits.contiguous() if bits.shape[0] else bits.new_zeros(1, *bits.shape[1:])
    return bits if bits.data_ptr() % 16 == 0 else bits.clone()
