"""Patterns that papers put together from simpler ones."""

from __future__ import annotations

from collections.abc import Sequence

from gossamer.errors import TensorError
from gossamer.patterns.base import PositionPattern, count_of
from gossamer.patterns.blocked import block_window, butterfly
from gossamer.patterns.local import dilated, sliding_window
from gossamer.patterns.random import random_blocks
from gossamer.patterns.tokens import global_tokens


def bigbird(
    block: int, *, window: int = 3, global_blocks: int = 2, random: int = 3, seed: int = 0, by_head: bool = False
) -> PositionPattern:
    """BigBird: a window of blocks around the query's own, global blocks at the beginning, and random ones.

    Args:
        block: Positions of a block.
        window: Blocks of the window, the query's own in the middle: an odd number.
        global_blocks: Blocks at the beginning that see, and are seen by, everything.
        random: Random blocks of keys for each block of queries; 0: none.
        seed, by_head: As in `random_blocks`.

    Raises:
        TensorError: Numbers out of range, or an even window.
    """
    if count_of(window, "bigbird", "the number of blocks in the window") % 2 == 0:
        raise TensorError(f"bigbird: a window of {window} blocks has no middle; take {window + 1}")
    pattern = block_window(block, window // 2)
    if count_of(global_blocks, "bigbird", "the number of global blocks", 0):
        pattern = pattern | global_tokens(global_blocks * block)
    if count_of(random, "bigbird", "the number of random blocks", 0):
        pattern = pattern | random_blocks(block, random, seed=seed, by_head=by_head)
    return pattern


def longformer(window: int, tokens: int | Sequence[int | tuple[int, int]], *, dilation: int = 1) -> PositionPattern:
    """Longformer: a window of `window` keys in all, half of them on each side, and global tokens.

    Args:
        window: An even number; a query sees window / 2 keys on each side, and itself.
        tokens: Those that see, and are seen by, everything: as in `global_tokens`.
        dilation: Gaps in the window.

    Raises:
        TensorError: Numbers out of range, or an odd window.
    """
    if count_of(window, "longformer", "the window", 2) % 2:
        raise TensorError(f"longformer: half of a window of {window} keys is no integer; take {window + 1}")
    size = window // 2 + 1
    local = sliding_window(size) if dilation == 1 else dilated(size, dilation)
    return local | global_tokens(tokens)


def pixelfly(block: int, strides: int, global_blocks: int = 1) -> PositionPattern:
    """Pixelated Butterfly: the flat block butterfly, and its low-rank part as global blocks at the beginning.

    Args:
        block, strides: As in `butterfly`.
        global_blocks: Blocks at the beginning that see, and are seen by, everything; 0: none.

    Raises:
        TensorError: Numbers out of range.
    """
    pattern = butterfly(block, strides)
    if count_of(global_blocks, "pixelfly", "the number of global blocks", 0):
        pattern = pattern | global_tokens(global_blocks * block)
    return pattern
