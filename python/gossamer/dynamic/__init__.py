"""Patterns by content: block lists that are made on the device in every step, without waiting for it."""

from gossamer.dynamic.choose import threshold_blocks, topk_blocks
from gossamer.dynamic.masks import bucket_blocks, mask_blocks, token_blocks
from gossamer.dynamic.positions import pattern_blocks
from gossamer.dynamic.scores import pooled_scores
from gossamer.dynamic.vertical_slash import vertical_slash_blocks

__all__ = [
    "bucket_blocks",
    "mask_blocks",
    "pattern_blocks",
    "pooled_scores",
    "threshold_blocks",
    "token_blocks",
    "topk_blocks",
    "vertical_slash_blocks",
]
