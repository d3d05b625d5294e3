"""`gs.cost`: what attention under a mask will take on a GPU, beside dense attention, from measured rates."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from gossamer.attention import kind_of
from gossamer.attention_arguments import Mask, check, scale_of
from gossamer.block_sources import band
from gossamer.blocks import BlockList
from gossamer.errors import TensorError, UnsupportedError
from gossamer.packing import packed
from gossamer.patterns.base import PositionPattern
from gossamer.patterns.classes import BlockClasses
from gossamer.patterns.masks import listed
from gossamer.runtime.tile_split import PROCESSORS
from gossamer.runtime.tiles import CHIP

# (columns, block, with gradients): microseconds of a multiprocessor for a tile, and for each block of keys in it, with
# all of an H200 at work (benchmarks/gpu_rates.py). Gradients are without the forward.
RATES: dict[tuple[int, tuple[int, int], bool], tuple[float, float]] = {
    (128, (128, 128), False): (1.54, 1.555),
    (128, (128, 128), True): (6.74, 5.141),
    (128, (128, 64), False): (1.78, 0.766),
    (128, (128, 64), True): (6.74, 2.543),
    (128, (128, 32), False): (1.98, 0.398),
    (128, (128, 16), False): (1.88, 0.260),
    (128, (64, 64), False): (0.93, 0.456),
    (128, (64, 64), True): (3.47, 1.320),
    (128, (64, 32), False): (0.92, 0.246),
    (128, (64, 16), False): (0.88, 0.156),
    (64, (128, 128), False): (0.92, 1.239),
    (64, (128, 128), True): (4.96, 3.128),
    (64, (128, 64), False): (1.30, 0.566),
    (64, (128, 64), True): (4.66, 1.507),
    (64, (128, 32), False): (1.37, 0.280),
    (64, (128, 16), False): (1.45, 0.169),
    (64, (64, 64), False): (0.61, 0.322),
    (64, (64, 64), True): (2.11, 0.760),
    (64, (64, 32), False): (0.64, 0.169),
    (64, (64, 16), False): (0.63, 0.102),
}
_DENSE = (128, 128)
_LAUNCH = 4.0  # microseconds that a kernel takes if it does nothing


@dataclass(frozen=True)
class Cost:
    """What attention is predicted to take on one H200, in microseconds of GPU time.

    Attributes:
        sparse: Under the mask.
        dense: With all keys, and no mask.
        density: Allowed positions over all positions.
        covered: Positions in blocks that are looked at, over all positions.
        balance: Mean over longest time of the multiprocessors: 1 if all are busy to the end.
        pays_below: The share of the keys, in blocks of this size and as many in each row, at which both take as long.
        block: Queries and keys of a block.
    """

    sparse: float
    dense: float
    density: float
    covered: float
    balance: float
    pays_below: float
    block: tuple[int, int]

    @property
    def speedup(self) -> float:
        """Dense over sparse."""
        return self.dense / self.sparse

    def __str__(self) -> str:
        rows, columns = self.block
        return (
            f"{self.sparse:.0f} us sparse, {self.dense:.0f} us dense: {self.speedup:.1f}x; density {self.density:.3g}, "
            f"{self.covered:.3g} in blocks of {rows} x {columns}, balance {self.balance:.2f}; sparse pays below "
            f"{self.pays_below:.2g}"
        )


def cost(mask: Mask, shape: tuple[int, int, int, int], *, keys: int | None = None, gradients: bool = False) -> Cost:
    """Predicts what `gs.attention` takes under a mask on an H200, beside dense attention, with bfloat16 or float16.

    Counts tiles and blocks, and adds up what each took where it was measured, on all multiprocessors; a tile that is
    longer than everything else is what the whole then takes. Making the mask is not in it.

    Args:
        mask: What `gs.attention` takes; None: all keys.
        shape: Of the queries: batch, heads, queries, columns.
        keys: How many, if not as many as queries.
        gradients: Of the gradients, without the forward.

    Raises:
        TensorError: A mask of another shape, or what is no mask.
        UnsupportedError: There is no tile program for such heads, or nothing was measured; the text says why.
    """
    if len(shape) != 4:
        raise TensorError(f"the shape of the queries is (batch, heads, queries, columns), not {shape}")
    batch, heads, queries, columns = shape
    keys = queries if keys is None else keys
    device = mask.device if isinstance(mask, (BlockList, Tensor)) else torch.device("cpu")
    # Of the right shapes, without memory.
    element = torch.empty((), dtype=torch.bfloat16, device=device)
    q, k = element.expand(batch, heads, queries, columns), element.expand(batch, heads, keys, columns)
    mask = packed(listed(mask, q, k)) if isinstance(mask, PositionPattern) else mask  # as on a GPU
    check(q, k, k, mask, False, None)
    kind, blocks, reason = kind_of(q, k, mask, scale_of(q, None), False, chip=CHIP)
    if kind is None:
        raise UnsupportedError(f"nothing was measured for this attention: {reason}")
    if kind.head > 128:
        raise UnsupportedError(f"nothing was measured for heads of {columns} columns")
    if blocks is not None and kind.block != blocks.block:
        raise UnsupportedError("nothing was measured for so few queries that heads share a tile")
    everything = band(queries, keys, None, None, _DENSE, device)
    blocks = everything if blocks is None else blocks
    if gradients:
        blocks = blocks.differentiable()
    classes = _classes(blocks)
    rate = RATES[kind.head, blocks.block, gradients]
    parts = 1 if gradients else kind.split.parts
    sparse, balance = _time(blocks, batch, heads, rate, parts)
    dense, _ = _time(everything, batch, heads, RATES[kind.head, _DENSE, gradients], parts)
    # Of the blocks of a row, if all rows have as many.
    tiles = batch * heads * blocks.count.shape[2] / PROCESSORS
    fitting = ((dense - _LAUNCH) / tiles - rate[0]) / rate[1]
    pays_below = min(1.0, max(0.0, fitting * blocks.block[1] / keys))
    places = max(1, queries * keys * classes.leading[0] * classes.leading[1])
    shares = classes.entries / places, classes.covered / places
    return Cost(sparse, dense, *shares, balance, pays_below, blocks.block)


def _time(blocks: BlockList, batch: int, heads: int, rate: tuple[float, float], parts: int) -> tuple[float, float]:
    """Microseconds, and the balance."""
    tiles = rate[0] + rate[1] * blocks.row_counts.expand(batch, heads, -1).double()
    # Two thread blocks of 64 rows share a multiprocessor: each takes twice as long.
    resident = 2 if blocks.block[0] == 64 else 1
    mean, longest = (
        float(tiles.sum()) / PROCESSORS,
        float(tiles.max()) * resident / parts if tiles.numel() else 0.0,
    )
    taken = max(mean, longest)
    return taken + _LAUNCH, mean / taken if taken else 1.0


def _classes(blocks: BlockList) -> BlockClasses:
    """The list as classes of blocks, which know how much is allowed; packed keys are keys like others."""
    none = blocks.count.new_zeros
    partial = blocks.partial_count, blocks.partial_index, blocks.partial_bits, blocks.bits
    if any(array is None for array in partial):
        partial = none(blocks.count.shape), none(*blocks.count.shape, 0), none(*blocks.count.shape, 0), none(0, 1, 1)
    shape = blocks.shape[0], blocks.packed_rows + blocks.shape[1]
    return BlockClasses(shape, blocks.block, blocks.count, blocks.index, *partial)  # type: ignore[arg-type]
