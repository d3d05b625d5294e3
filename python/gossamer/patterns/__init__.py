"""Patterns by position: which keys a query may see, as an expression over (b, h, q, k) that has bounds.

Patterns are combined with `&`, `|` and `~`. `p(b, h, q, k)` is the definition; `p.blocks(...)` the classes of blocks,
found by interval arithmetic; `p.mask(...)` a mask. `gs.attention(q, k, v, mask=p)` takes a pattern itself.
"""

from gossamer.patterns import deepspeed
from gossamer.patterns.base import PositionPattern, everything
from gossamer.patterns.blocked import block_diagonal, block_window, butterfly, fixed, variable_windows
from gossamer.patterns.classes import BlockClasses
from gossamer.patterns.functions import from_function
from gossamer.patterns.grids import axial, neighbourhood, swin
from gossamer.patterns.heads import per_head
from gossamer.patterns.layouts import from_layout
from gossamer.patterns.local import alibi, causal, dilated, prefix_lm, sliding_window, strided
from gossamer.patterns.masks import PatternMask, clear_cache
from gossamer.patterns.papers import bigbird, longformer, pixelfly
from gossamer.patterns.random import random_blocks
from gossamer.patterns.tokens import documents, global_tokens, key_padding

__all__ = [
    "BlockClasses",
    "PatternMask",
    "PositionPattern",
    "alibi",
    "axial",
    "bigbird",
    "block_diagonal",
    "block_window",
    "butterfly",
    "causal",
    "clear_cache",
    "deepspeed",
    "dilated",
    "documents",
    "everything",
    "fixed",
    "from_function",
    "from_layout",
    "global_tokens",
    "key_padding",
    "longformer",
    "neighbourhood",
    "per_head",
    "pixelfly",
    "prefix_lm",
    "random_blocks",
    "sliding_window",
    "strided",
    "swin",
    "variable_windows",
]
