"""Lists of patterns by position that are made on the device: for lengths and windows that are new all the time."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from gossamer.blocks import BlockList
from gossamer.dynamic.eager import eager
from gossamer.dynamic.entries import Block, Room, list_of_rule
from gossamer.dynamic.formula import Formula, Symbol, traced
from gossamer.dynamic.kernels.entries import Rule
from gossamer.errors import UnsupportedError
from gossamer.patterns.base import Lengths, Place, PositionPattern


@eager
def pattern_blocks(
    pattern: PositionPattern,
    shape: tuple[int, int],
    *,
    block: int | Block,
    device: torch.device | str,
    capacity: int | None = None,
) -> BlockList:
    """The list of a pattern of `gs.patterns`, made on a device without waiting for it.

    `gs.attention` takes patterns themselves, and `pattern.blocks` makes a smaller list, whose blocks share bitmaps: on
    the host, once for a length. Here all entries are evaluated on the device, by a kernel that is compiled once for the
    formula of a pattern: other numbers in it and other lengths compile nothing.

    Args:
        pattern: Of sums, differences, quotients, remainders and comparisons of positions: causal, windows, dilated,
            strided, blocks, segments, one run of global tokens, and what `&`, `|` and `~` make of them; the same for
            all texts and heads.
        shape: Numbers of queries and keys.
        block: Rows and columns of a block: (queries, keys), or one number for both.
        device: Where.
        capacity: As for `mask_blocks`.

    Raises:
        TensorError: A pattern that is not made for these lengths, or as `mask_blocks` raises.
        UnsupportedError: A pattern that looks into tables, or differs from text to text or head to head: its list is
            `pattern.blocks(...).block_list()`.
    """
    room = Room.of((), block, shape, capacity, causal=False)
    lengths = Lengths(*room.shape)
    formula, numbers = _traced(pattern, lengths)
    pattern._check_lengths(lengths, 1, 1)

    def dense() -> Tensor:
        query, key = (torch.arange(length) for length in room.shape)
        return pattern(0, 0, query[:, None], key, lengths=room.shape)

    rule = Rule((), tuple(formula.names), formula, causal=False)
    return list_of_rule(room, rule, numbers, [], dense, torch.device(device))


@lru_cache(maxsize=256)
def _traced(pattern: PositionPattern, lengths: Lengths) -> tuple[Formula, tuple[int, ...]]:
    """The formula of a pattern, and its numbers."""

    def allowed(query: Symbol, key: Symbol) -> object:
        return pattern._allowed(Place(None, None, query, key, lengths))

    found = None if pattern.by_batch or pattern.by_head else traced(allowed)
    if found is None:
        raise UnsupportedError(
            f"{pattern!r} is no formula of one query and one key: pattern.blocks(...).block_list() makes its list"
        )
    return found
