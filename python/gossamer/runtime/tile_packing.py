"""The rows of packed keys, which tile programs read side by side, and their gradients."""

from __future__ import annotations

from torch import Tensor

from gossamer.blocks import BlockList


class Packing:
    """Gathers the rows of a list's packed keys from tensors that are as k, and adds to them.

    Attributes:
        words: How many keys are packed; the rows that their blocks take; strides of what `gather` returns.
    """

    def __init__(self, blocks: BlockList, k: Tensor):
        assert blocks.packed_keys is not None
        keys = blocks.packed_keys.long()
        batch, heads, _, columns = k.shape
        count = keys.shape[2]
        self.words = count, blocks.packed_rows, heads * count * columns, count * columns, columns
        self._shape = batch, heads, count, columns
        self._is_shared = keys.shape[:2] == (1, 1)
        self._keys = keys[0, 0] if self._is_shared else keys[..., None].expand(self._shape)

    def gather(self, tensor: Tensor) -> Tensor:
        """Their rows, contiguous: [batch, kv heads, packed keys, columns]."""
        rows = tensor.index_select(2, self._keys) if self._is_shared else tensor.gather(2, self._keys)
        return rows.contiguous()

    def empty(self, like: Tensor) -> Tensor:
        """What `gather` returns, uninitialised."""
        return like.new_empty(self._shape)

    def add(self, rows: Tensor, to: Tensor) -> None:
        """Adds to their rows. Each key is packed once, so nothing is added in an order that may change."""
        if self._is_shared:
            to.index_add_(2, self._keys, rows)
        else:
            to.scatter_add_(2, self._keys, rows)
