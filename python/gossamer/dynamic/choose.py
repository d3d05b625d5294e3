"""Lists of the blocks whose scores are the largest: `topk_blocks` and `threshold_blocks`.

On a GPU one kernel makes a list (`kernels/choose.py`), in memory whose size follows from the arguments alone: nothing
waits, and a CUDA graph may hold it. On a CPU PyTorch makes the same list.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass

import torch
from torch import Tensor

from gossamer.block_states import listed
from gossamer.blocks import BlockList
from gossamer.dynamic import diagonal, kernels
from gossamer.dynamic.eager import eager
from gossamer.dynamic.kernels.choose import VECTOR, Choice, Rule, chooser
from gossamer.errors import TensorError

Block = tuple[int, int]
_ELEMENTS = {torch.float32: "f32", torch.bfloat16: "bf16", torch.float16: "f16"}


@eager
def topk_blocks(
    scores: Tensor,
    k: int,
    *,
    block: int | Block,
    shape: tuple[int, int],
    causal: bool = False,
    sinks: int = 0,
    local: int = 0,
) -> BlockList:
    """The list of the k blocks of keys with the largest scores, for each block of queries.

    Of equal scores the first count as larger. A block whose score is -inf or NaN is in no list, so that a row may have
    less than k. Made on the scores' device without waiting for it; `transposed`, `order` and `gs.attention` do not
    wait either, and a CUDA graph may hold all of it.

    Args:
        scores: [MB, NB], [H, MB, NB] or [B, H, MB, NB]: float32, bfloat16 or float16, for each block of queries and of
            keys. Gradients do not flow through the choice.
        k: How many, sinks and local ones among them.
        block: Rows and columns of a block: (queries, keys), or one number for both.
        shape: Numbers of queries and keys; the last blocks may be shorter.
        causal: Whether query i sees the keys up to key i only. Blocks behind the diagonal are not chosen, and those
            that it cuts are allowed in part.
        sinks: How many first blocks of keys are always in the list, whatever their scores.
        local: How many blocks of keys, up to the one that has the last query of the block, are always in it.

    Raises:
        TensorError: Scores of other sizes than the shape has blocks, or of another dtype; k below 1 or above the number
            of blocks of keys; more sinks and local blocks than k.
    """
    blocks = _Blocks.of(scores, block, shape, causal, sinks, local)
    if not 1 <= k <= blocks.columns:
        raise TensorError(f"topk_blocks takes 1 to {blocks.columns} (the number of blocks of keys) as k, not {k}")
    if sinks + local > k:
        raise TensorError(f"{sinks} sinks and {local} local blocks are more than k = {k}")
    return _list(scores, blocks, "topk", k, k)


@eager
def threshold_blocks(
    scores: Tensor,
    threshold: float | None = None,
    *,
    mass: float | None = None,
    block: int | Block,
    shape: tuple[int, int],
    capacity: int | None = None,
    causal: bool = False,
    sinks: int = 0,
    local: int = 0,
) -> BlockList:
    """The list of the blocks of keys whose scores are not below a threshold, or that have most of the mass together.

    As `topk_blocks`, but for:

    Args:
        threshold: The least score of a block in the list; finite.
        mass: Instead of a threshold: a share of the sum of a row's scores, above 0 and up to 1. The list has the fewest
            of the largest scores that together have this share, and all that are equal to the least of them. Scores
            that are not above 0 have no mass. Sums are float32.
        capacity: How many blocks a row has room for, but for those that the diagonal cuts. None: for all. If a row has
            more, the list has the first ones, and `BlockList.check` raises.

    Raises:
        TensorError: As `topk_blocks` raises; both or none of threshold and mass; a capacity below 1.
    """
    blocks = _Blocks.of(scores, block, shape, causal, sinks, local)
    if (threshold is None) == (mass is None):
        raise TensorError(f"threshold_blocks takes a threshold or a mass, not {threshold} and {mass}")
    if threshold is not None and not math.isfinite(threshold):
        raise TensorError(f"the threshold of scores is a finite number, not {threshold}")
    if mass is not None and not 0 < mass <= 1:
        raise TensorError(f"the mass of chosen blocks is above 0 and up to 1, not {mass}")
    capacity = blocks.columns if capacity is None else capacity
    if capacity < 1:
        raise TensorError(f"the capacity of a list is 1 or more blocks a row, not {capacity}")
    rule: Rule = "threshold" if mass is None else "mass"
    wanted = threshold if mass is None else mass
    assert wanted is not None
    return _list(scores, blocks, rule, wanted, min(capacity, blocks.columns))


@dataclass(frozen=True)
class _Blocks:
    """What a list is of, checked."""

    block: Block
    shape: tuple[int, int]
    rows: int
    columns: int
    causal: bool
    sinks: int
    local: int

    @classmethod
    def of(
        cls, scores: Tensor, block: int | Block, shape: tuple[int, int], causal: bool, sinks: int, local: int
    ) -> _Blocks:
        block = (block, block) if isinstance(block, int) else (block[0], block[1])
        shape = (shape[0], shape[1])
        if min(block) < 1 or min(shape) < 1:
            raise TensorError(f"blocks and shapes are of 1 or more queries and keys, not {block} and {shape}")
        if scores.dtype not in _ELEMENTS or not 2 <= scores.dim() <= 4:
            raise TensorError(
                "scores of blocks are float32, bfloat16 or float16, [MB, NB], [H, MB, NB] or [B, H, MB, NB], not "
                f"{scores.dtype} of shape {list(scores.shape)}"
            )
        rows, columns = (-(-length // size) for length, size in zip(shape, block, strict=True))
        if tuple(scores.shape[-2:]) != (rows, columns):
            raise TensorError(
                f"{shape[0]} queries and {shape[1]} keys in blocks of {block[0]} x {block[1]} have "
                f"{rows} x {columns} scores, not {scores.shape[-2]} x {scores.shape[-1]}"
            )
        if sinks < 0 or local < 0:
            raise TensorError(f"sinks and local blocks are not below 0; they are {sinks} and {local}")
        return cls(block, shape, rows, columns, causal, sinks, local)

    def cut(self, rule: Rule, width: int) -> int:
        """How many blocks that the diagonal cuts a row of blocks has room for: all that there can be."""
        most = min(diagonal.most_in_a_row(self.block), self.columns)
        return min(width, most) if rule == "topk" else most


@dataclass(frozen=True)
class _Lists:
    """Count and index of whole blocks; of a causal list those of partial ones, and the numbers of their bitmaps.

    Also how many blocks rows would need, where that may be more than there is room for.
    """

    whole: tuple[Tensor, Tensor]
    partial: tuple[Tensor, Tensor, Tensor] | None
    needed: Tensor | None


def _list(scores: Tensor, blocks: _Blocks, rule: Rule, wanted: float, width: int) -> BlockList:
    scores = scores.detach().resolve_neg()
    lead = (1,) * (4 - scores.dim()) + tuple(scores.shape[:-2])
    lists = (_by_kernel if kernels.take(scores) else _by_torch)(scores, lead, blocks, rule, wanted, width)
    if lists.partial is None:
        return BlockList(*lists.whole, blocks.block, blocks.shape, needed=lists.needed, check=False)
    inside = blocks.shape[1] - (blocks.columns - 1) * blocks.block[1]
    bits, turned = diagonal.bits(blocks.block, inside, scores.device)
    count, index, numbers = lists.partial
    chosen = BlockList(
        *lists.whole, blocks.block, blocks.shape, partial_count=count, partial_index=index, partial_bits=numbers,
        bits=bits, needed=lists.needed, check=False,
    )  # fmt: skip
    chosen._derived["turned bits"] = turned
    return chosen


def _by_kernel(scores: Tensor, lead: tuple[int, ...], blocks: _Blocks, rule: Rule, wanted: float, width: int) -> _Lists:
    scores, device = scores.contiguous(), scores.device
    together = not (blocks.columns % VECTOR or scores.data_ptr() % (VECTOR * scores.element_size()))
    keeps = blocks.sinks + blocks.local > 0
    kernel = chooser(Choice(_ELEMENTS[scores.dtype], rule, blocks.causal, keeps, together))
    cut = blocks.cut(rule, width)

    def new(*sizes: int) -> Tensor:
        return torch.empty((*lead, blocks.rows, *sizes), dtype=torch.int32, device=device)

    lists = _Lists(
        (new(), new(width)), (new(), new(cut), new(cut)) if blocks.causal else None, None if rule == "topk" else new()
    )
    given = int(wanted) if rule == "topk" else struct.unpack("i", struct.pack("f", wanted))[0]
    numbers = [
        lead[0] * lead[1] * blocks.rows, blocks.rows, blocks.columns, width, given, blocks.sinks, blocks.local,
        *blocks.block, *blocks.shape, cut, diagonal.step_of(blocks.block), diagonal.kinds_of(blocks.block),
    ]  # fmt: skip
    needed = () if lists.needed is None else (lists.needed,)
    kernel(numbers, scores, *lists.whole, *(lists.partial or ()), *needed)
    return lists


def _by_torch(scores: Tensor, lead: tuple[int, ...], blocks: _Blocks, rule: Rule, wanted: float, width: int) -> _Lists:
    """The same, from what is chosen as a matrix."""
    scores = scores.float().reshape(*lead, blocks.rows, blocks.columns)
    row = torch.arange(blocks.rows)[:, None]
    column = torch.arange(blocks.columns)
    (down, across), (queries, keys) = blocks.block, blocks.shape
    behind = (((row + 1) * down).clamp(max=queries) - 1) // across + 1
    seen = column < behind if blocks.causal else torch.ones_like(column < behind)
    kept = ((column < blocks.sinks) | ((column >= behind - blocks.local) & (column < behind))) & seen
    chosen = seen & _chosen(torch.where(seen, scores, -math.inf), kept, rule, wanted)
    whole = chosen & (((column + 1) * across).clamp(max=keys) <= row * down + 1) if blocks.causal else chosen
    count, index = listed(whole)
    partial = None
    if blocks.causal:
        partial_count, partial_index = listed(chosen & ~whole)
        cut = blocks.cut(rule, width)
        partial_index = partial_index[..., :cut].contiguous()
        used = torch.arange(cut) < partial_count[..., None]
        numbers = torch.where(used, diagonal.numbers(blocks.block, row, partial_index, keys), 0)
        partial = partial_count, partial_index, numbers.to(torch.int32)
    needed = None if rule == "topk" else count
    return _Lists((count.clamp(max=width), index[..., :width].contiguous()), partial, needed)


def _chosen(scores: Tensor, kept: Tensor, rule: Rule, wanted: float) -> Tensor:
    """Which blocks a rule chooses, as bool: those that are kept anyway among them."""
    scores = torch.where(scores.isnan(), -math.inf, scores)
    if rule == "threshold":
        return kept | (scores >= wanted)
    if rule == "topk":
        first = torch.where(kept, math.inf, scores)
        # Kept ones come before others that are inf.
        order = kept.expand_as(scores).to(torch.int8).argsort(dim=-1, descending=True, stable=True)
        order = order.gather(-1, first.gather(-1, order).argsort(dim=-1, descending=True, stable=True))
        chosen = torch.zeros_like(scores, dtype=torch.bool)
        chosen.scatter_(-1, order[..., : int(wanted)], True)
        return chosen & (kept | (scores > -math.inf))
    weight = scores.clamp(min=0)
    # Of each score: what it and all that are not smaller have, with those that are kept anyway.
    ordered, _ = torch.where(kept, 0, weight).sort(-1, descending=True)
    own = torch.where(kept, weight, 0).sum(-1, keepdim=True)
    sums = ordered.cumsum(-1) + own
    share = torch.tensor(wanted, dtype=torch.float32) * sums[..., -1:]
    bound = ordered.gather(-1, (sums >= share).int().argmax(-1, keepdim=True))
    bound = torch.where(own >= share, math.inf, bound)
    return kept | ((weight >= bound) & (weight > 0))
