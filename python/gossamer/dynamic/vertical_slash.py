"""Vertical and slash lines (MInference, "Accelerating Pre-filling for Long-Context LLMs via Dynamic Sparse Attention"):
columns that all queries see, and diagonals, chosen for each head by what the last queries look at.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from gossamer.bitmaps import pack, words_of
from gossamer.blocks import BlockList
from gossamer.dynamic.eager import eager
from gossamer.dynamic.entries import Block, Room, list_of_rule
from gossamer.dynamic.kernels.entries import of_lines
from gossamer.errors import TensorError


@eager
def vertical_slash_blocks(
    q: Tensor,
    k: Tensor,
    *,
    vertical: int,
    slash: int,
    block: int | Block,
    last: int = 64,
    scale: float | None = None,
    capacity: int | None = None,
) -> BlockList:
    """The list of the columns and diagonals that the last queries give most of their attention, causal.

    Every block that has part of a line is in the list, with a bitmap of what it allows: of a single column whole blocks
    are computed. Made on the device without waiting for it.

    Args:
        q: [B, H, length, columns].
        k: [B, kv heads, length, columns], as long; heads are a multiple of kv heads.
        vertical: How many columns are chosen; column 0 is always one.
        slash: How many diagonals; that of the query's own key is always one.
        block: Rows and columns of a block: (queries, keys), or one number for both.
        last: How many of the last queries choose.
        scale: Of the scores; None: 1 / sqrt(columns).
        capacity: As for `mask_blocks`.

    Raises:
        TensorError: Tensors that do not go together, numbers of lines or of last queries below 1, or as `mask_blocks`
            raises.
    """
    if q.dim() != 4 or k.dim() != 4 or (q.shape[0], *q.shape[2:]) != (k.shape[0], *k.shape[2:]):
        raise TensorError(f"q {list(q.shape)} and k {list(k.shape)} are [batch, heads, length, columns], equally long")
    if k.shape[1] == 0 or q.shape[1] % k.shape[1]:
        raise TensorError(f"{q.shape[1]} heads of q are no multiple of {k.shape[1]} heads of k")
    for name, number in (("vertical", vertical), ("slash", slash), ("last", last)):
        if number < 1:
            raise TensorError(f"{name} is 1 or more lines or queries, not {number}")
    length = q.shape[2]
    room = Room.of(q.shape[:2], block, (length, length), capacity, causal=True)
    columns, diagonals = _lines(q.detach(), k.detach(), vertical, slash, min(last, length), scale)
    # Diagonals by distance, the farthest first; none is behind the own key.
    bits = pack(columns), pack(F.pad(diagonals, (0, length)))
    numbers = [words_of(length), words_of(2 * length)]

    def dense() -> Tensor:
        at = torch.arange(length)
        place = (length - 1 - at[:, None] + at).clamp(max=length - 1)
        return columns[..., None, :] | (diagonals[..., place] & (at <= at[:, None]))

    return list_of_rule(room, of_lines(causal=True), numbers, list(bits), dense, q.device)


def _lines(q: Tensor, k: Tensor, vertical: int, slash: int, last: int, scale: float | None) -> tuple[Tensor, Tensor]:
    """Which columns, and which diagonals, from the farthest to that of the own key, are chosen: bool [B, H, length]."""
    length = q.shape[2]
    scale = 1 / math.sqrt(max(q.shape[3], 1)) if scale is None else scale
    keys = k if k.shape[1] == q.shape[1] else k.repeat_interleave(q.shape[1] // k.shape[1], 1)
    scores = (q[:, :, -last:] @ keys.mT).float() * scale
    at = torch.arange(length, device=q.device)
    weights = scores.masked_fill(at > at[-last:, None], -math.inf).softmax(-1)
    of_columns = weights.sum(2)
    # Row i of the last ones is shifted by what it is before the last: then diagonals are columns.
    place = at - (last - 1 - torch.arange(last, device=q.device))[:, None]
    shifted = weights.gather(-1, place.clamp(min=0).expand_as(weights)).masked_fill(place < 0, 0)
    of_diagonals = shifted.sum(2)
    of_columns[..., 0], of_diagonals[..., -1] = math.inf, math.inf
    return _largest(of_columns, vertical), _largest(of_diagonals, slash)


def _largest(weights: Tensor, many: int) -> Tensor:
    chosen = torch.zeros_like(weights, dtype=torch.bool)
    return chosen.scatter_(-1, weights.topk(min(many, weights.shape[-1])).indices, True)
