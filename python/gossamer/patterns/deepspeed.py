"""The layouts of DeepSpeed's sparse attention, by the names, arguments and meaning of its `SparsityConfig`s.

`make_layout(seq_len)` gives int64 [heads, blocks, blocks] of 0 and 1; `pattern(seq_len)` the same as a pattern, with
which everything else can be done. What is unidirectional is so by whole blocks, as there: `gs.patterns.causal()` is to
be added where a query must not see the later keys of its own block.

Random blocks are drawn by Python's `random` in the order that DeepSpeed draws them, so that the same `random.seed`
gives the same layout. With `seed`, which DeepSpeed does not have, a generator of its own draws them.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from gossamer.errors import TensorError
from gossamer.patterns.base import PositionPattern, count_of
from gossamer.patterns.layouts import from_layout

_DIRECTIONS = ("bidirectional", "unidirectional")


class SparsityConfig:
    """What all layouts share.

    Args:
        num_heads: Heads of the layer.
        block: Positions of a block.
        different_layout_per_head: Whether heads may have layouts of their own.

    Raises:
        TensorError: A number below 1.
    """

    def __init__(self, num_heads: int, block: int = 16, different_layout_per_head: bool = False):
        who = type(self).__name__
        self.num_heads = count_of(num_heads, who, "num_heads")
        self.block = count_of(block, who, "block")
        self.different_layout_per_head = different_layout_per_head

    def make_layout(self, seq_len: int) -> Tensor:
        """Returns which blocks are allowed: int64 [heads, blocks, blocks] of 0 and 1.

        Raises:
            TensorError: The block does not divide the length, or there are fewer blocks than the layout needs.
        """
        count_of(seq_len, type(self).__name__, "the length")
        if seq_len % self.block:
            raise TensorError(
                f"{type(self).__name__}: a block of {self.block} does not divide a length of {seq_len}; pad to "
                f"{-seq_len // self.block * -self.block}"
            )
        blocks = seq_len // self.block
        heads = self.num_heads if self.different_layout_per_head else 1
        layouts = torch.stack([self._layout(head, blocks) for head in range(heads)])
        return layouts.to(torch.int64).expand(self.num_heads, -1, -1).clone()

    def pattern(self, seq_len: int) -> PositionPattern:
        """Returns the layout as a pattern, for as many queries and keys."""
        layout = self.make_layout(seq_len)
        return from_layout(layout if self.different_layout_per_head else layout[0], self.block)

    def _layout(self, head: int, blocks: int) -> Tensor:
        """bool [blocks, blocks] of one head."""
        raise NotImplementedError

    def _fail(self, message: str) -> None:
        raise TensorError(f"{type(self).__name__}: {message}")

    def _set_attention(self, attention: str, horizontal: bool = False) -> None:
        if attention not in _DIRECTIONS:
            self._fail(f"attention is one of {', '.join(map(repr, _DIRECTIONS))}, not {attention!r}")
        if horizontal and attention == "unidirectional":
            self._fail("horizontal global attention is bidirectional")
        self.attention = attention
        self.horizontal_global_attention = horizontal

    def _set_global_blocks(self, indices: Sequence[int], ends: Sequence[int] | None) -> None:
        """Ranges of global blocks; without ends each is one block."""
        if ends is not None and len(ends) != len(indices):
            self._fail(f"{len(indices)} global_block_indices and {len(ends)} global_block_end_indices")
        for begin, end in zip(indices, ends if ends is not None else [], strict=False):
            if begin >= end:
                self._fail(f"global blocks from {begin} end before {end}: the end is behind the begin")
        self.global_block_indices, self.global_block_end_indices = list(indices), None if ends is None else list(ends)

    def _global_blocks(self, blocks: int) -> list[tuple[int, int]]:
        """Those ranges that begin within the sequence."""
        ends = self.global_block_end_indices or [begin + 1 for begin in self.global_block_indices]
        ranges = zip(self.global_block_indices, ends, strict=True)
        return [(begin, min(end, blocks)) for begin, end in ranges if begin < blocks]

    def _check_enough(self, blocks: int, needed: int, what: str) -> None:
        if blocks < needed:
            self._fail(f"{needed} {what}, and a row has {blocks} blocks")

    def _window(self, blocks: int, size: int, later: bool = True) -> Tensor:
        """Half of the window's blocks (rounded down) before a block, itself, and, if `later`, as many after it."""
        self._check_enough(blocks, size, "blocks in the sliding window")
        distance = torch.arange(blocks) - torch.arange(blocks)[:, None]
        return (distance >= -(size // 2)) & (distance <= (size // 2 if later else 0))

    def _segments(self, blocks: int, ids: Tensor) -> Tensor:
        """Blocks of the same segment."""
        same = ids[:, None] == ids
        return same.tril() if self.attention == "unidirectional" else same

    def _random(self, blocks: int, count: int, generator: Any, up_to_own: bool) -> Tensor:
        """So many blocks in each row, drawn without repetition among all, or those up to the row's own."""
        self._check_enough(blocks, count, "random blocks in a row")
        layout = torch.zeros(blocks, blocks, dtype=torch.bool)
        for row in range(blocks):
            candidates = row + 1 if up_to_own else blocks
            layout[row, generator.sample(range(candidates), min(count, candidates))] = True
        return layout


class FixedSparsityConfig(SparsityConfig):
    """Segments, and of each the last blocks as its representatives for everybody: Sparse Transformer's fixed pattern.

    Args:
        num_local_blocks: Blocks of a segment.
        num_global_blocks: Blocks that represent one.
        attention: "bidirectional" or "unidirectional".
        horizontal_global_attention: Whether representatives see everything, too.
        num_different_global_patterns: With a layout per head: how many heads in a row have representatives of their
            own, each further from the end of the segment.
    """

    def __init__(
        self,
        num_heads: int,
        block: int = 16,
        different_layout_per_head: bool = False,
        num_local_blocks: int = 4,
        num_global_blocks: int = 1,
        attention: str = "bidirectional",
        horizontal_global_attention: bool = False,
        num_different_global_patterns: int = 1,
    ):
        super().__init__(num_heads, block, different_layout_per_head)
        who = type(self).__name__
        self.num_local_blocks = count_of(num_local_blocks, who, "num_local_blocks")
        self.num_global_blocks = count_of(num_global_blocks, who, "num_global_blocks")
        self.num_different_global_patterns = count_of(
            num_different_global_patterns, who, "num_different_global_patterns"
        )
        if num_local_blocks % num_global_blocks:
            self._fail(f"{num_global_blocks} global blocks do not divide a segment of {num_local_blocks}")
        self._set_attention(attention, horizontal_global_attention)
        if num_different_global_patterns > 1 and not different_layout_per_head:
            self._fail(f"{num_different_global_patterns} global patterns need different_layout_per_head=True")
        if num_different_global_patterns > num_local_blocks // num_global_blocks:
            self._fail(
                f"a segment of {num_local_blocks} blocks has room for {num_local_blocks // num_global_blocks} patterns "
                f"of {num_global_blocks} global blocks, not for {num_different_global_patterns}"
            )

    def _layout(self, head: int, blocks: int) -> Tensor:
        layout = self._segments(blocks, torch.arange(blocks) // self.num_local_blocks)
        for begin, end in self._representatives(head, blocks):
            first_row = begin if self.attention == "unidirectional" else 0
            layout[first_row:, begin:end] = True
            if self.horizontal_global_attention:
                layout[begin:end] = True
        return layout

    def _representatives(self, head: int, blocks: int) -> list[tuple[int, int]]:
        """Those of each segment; in a last one that is too short they are moved to the end of the sequence."""
        count, size = self.num_global_blocks, self.num_local_blocks
        offset = size - (1 + head % self.num_different_global_patterns) * count
        begins = [start + offset for start in range(0, blocks - size + 1, size)]
        if blocks % size:
            begins.append(min(blocks - blocks % size + offset, blocks - count))
        return [(begin, begin + count) for begin in begins]


class VariableSparsityConfig(SparsityConfig):
    """Segments of different lengths, chosen global blocks, and random ones.

    Args:
        num_random_blocks: In each row of blocks.
        local_window_blocks: Blocks of each segment; the last number holds for all that follow.
        global_block_indices: Global blocks; with `global_block_end_indices` where ranges of them begin.
        attention: "bidirectional" or "unidirectional" (random blocks are on both sides all the same, as there).
        horizontal_global_attention: Whether global blocks see everything, too.
        seed: Of the random blocks; None: Python's own generator goes on.
    """

    def __init__(
        self,
        num_heads: int,
        block: int = 16,
        different_layout_per_head: bool = False,
        num_random_blocks: int = 0,
        local_window_blocks: Sequence[int] = (4,),
        global_block_indices: Sequence[int] = (0,),
        global_block_end_indices: Sequence[int] | None = None,
        attention: str = "bidirectional",
        horizontal_global_attention: bool = False,
        *,
        seed: int | None = None,
    ):
        super().__init__(num_heads, block, different_layout_per_head)
        who = type(self).__name__
        self.num_random_blocks = count_of(num_random_blocks, who, "num_random_blocks", 0)
        if not local_window_blocks:
            self._fail("local_window_blocks has at least one number")
        self.local_window_blocks = [count_of(size, who, "one of local_window_blocks") for size in local_window_blocks]
        self._set_global_blocks(global_block_indices, global_block_end_indices)
        self._set_attention(attention, horizontal_global_attention)
        self.seed = seed

    def make_layout(self, seq_len: int) -> Tensor:
        """See the base class."""
        self._generator = random if self.seed is None else random.Random(self.seed)
        return super().make_layout(seq_len)

    def _layout(self, head: int, blocks: int) -> Tensor:
        layout = self._random(blocks, self.num_random_blocks, self._generator, up_to_own=False)
        layout |= self._segments(blocks, self._segment_of(blocks))
        for begin, end in self._global_blocks(blocks):
            if self.horizontal_global_attention:
                layout[begin:end] = True
            layout[begin if self.attention == "unidirectional" else 0 :, begin:end] = True
        return layout

    def _segment_of(self, blocks: int) -> Tensor:
        sizes = list(self.local_window_blocks)
        sizes += [sizes[-1]] * (-(-max(0, blocks - sum(sizes)) // sizes[-1]))
        return torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))[:blocks]


class BigBirdSparsityConfig(SparsityConfig):
    """A sliding window, global blocks at the beginning, and random ones.

    Args:
        num_random_blocks: In each row of blocks; unidirectional, up to the row's own block.
        num_sliding_window_blocks: Half of them (rounded down) on each side.
        num_global_blocks: At the beginning.
        attention: "bidirectional" or "unidirectional".
        seed: Of the random blocks; None: Python's own generator goes on.
    """

    def __init__(
        self,
        num_heads: int,
        block: int = 16,
        different_layout_per_head: bool = False,
        num_random_blocks: int = 1,
        num_sliding_window_blocks: int = 3,
        num_global_blocks: int = 1,
        attention: str = "bidirectional",
        *,
        seed: int | None = None,
    ):
        super().__init__(num_heads, block, different_layout_per_head)
        who = type(self).__name__
        self.num_random_blocks = count_of(num_random_blocks, who, "num_random_blocks", 0)
        self.num_sliding_window_blocks = count_of(num_sliding_window_blocks, who, "num_sliding_window_blocks")
        self.num_global_blocks = count_of(num_global_blocks, who, "num_global_blocks", 0)
        self._set_attention(attention)
        self.seed = seed

    def make_layout(self, seq_len: int) -> Tensor:
        """See the base class."""
        self._generator = random if self.seed is None else random.Random(self.seed)
        return super().make_layout(seq_len)

    def _layout(self, head: int, blocks: int) -> Tensor:
        one_way = self.attention == "unidirectional"
        layout = self._random(blocks, self.num_random_blocks, self._generator, up_to_own=one_way)
        layout |= self._window(blocks, self.num_sliding_window_blocks)
        self._check_enough(blocks, self.num_global_blocks, "global blocks")
        layout[: self.num_global_blocks] = True
        layout[:, : self.num_global_blocks] = True
        return layout.tril() if one_way else layout


class BSLongformerSparsityConfig(SparsityConfig):
    """A sliding window, and chosen global blocks, which see and are seen by everything.

    Args:
        num_sliding_window_blocks: Half of them (rounded down) on each side.
        global_block_indices: Global blocks; with `global_block_end_indices` where ranges of them begin.
        attention: "bidirectional" or "unidirectional".
    """

    def __init__(
        self,
        num_heads: int,
        block: int = 16,
        different_layout_per_head: bool = False,
        num_sliding_window_blocks: int = 3,
        global_block_indices: Sequence[int] = (0,),
        global_block_end_indices: Sequence[int] | None = None,
        attention: str = "bidirectional",
    ):
        super().__init__(num_heads, block, different_layout_per_head)
        who = type(self).__name__
        self.num_sliding_window_blocks = count_of(num_sliding_window_blocks, who, "num_sliding_window_blocks")
        self._set_global_blocks(global_block_indices, global_block_end_indices)
        self._set_attention(attention)

    def _layout(self, head: int, blocks: int) -> Tensor:
        layout = self._window(blocks, self.num_sliding_window_blocks)
        for begin, end in self._global_blocks(blocks):
            layout[begin:end] = True
            layout[:, begin:end] = True
        return layout.tril() if self.attention == "unidirectional" else layout


class LocalSlidingWindowSparsityConfig(SparsityConfig):
    """A sliding window and nothing else, the same for all heads.

    Args:
        num_sliding_window_blocks: Half of them (rounded down) before a block and, bidirectional, as many after it.
        attention: "unidirectional" or "bidirectional".
    """

    def __init__(
        self, num_heads: int, block: int = 16, num_sliding_window_blocks: int = 3, attention: str = "unidirectional"
    ):
        super().__init__(num_heads, block)
        self.num_sliding_window_blocks = count_of(
            num_sliding_window_blocks, type(self).__name__, "num_sliding_window_blocks"
        )
        self._set_attention(attention)

    def _layout(self, head: int, blocks: int) -> Tensor:
        return self._window(blocks, self.num_sliding_window_blocks, later=self.attention == "bidirectional")
