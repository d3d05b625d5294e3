"""A random fraction, which a counter decides: the same on every device, in every process, for every format."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gossamer.formats import Format
from gossamer.patterns.random import random_numbers, seed_of
from gossamer.sparsifiers.base import fraction
from gossamer.sparsifiers.ranking import InBlocks, Largest, grid_of_nodes, in_blocks, nodes_of_grid, per_of

_TIES = 31  # bits


@dataclass(frozen=True, repr=False)
class Random(Largest):
    """See `random`.

    Attributes:
        seed: Of the numbers.
    """

    seed: int = 0

    @property
    def name(self) -> str:
        return "random"

    def scores(self, levels: Tensor, format: Format) -> Tensor:
        sizes = levels.shape[: format.outer]
        shape = grid_of_nodes(torch.empty(sizes, device="meta"), format).shape
        places = [torch.arange(size, device=levels.device) for size in shape]
        # By dimensions, so that it does not matter in which order a format stores them.
        grid = torch.zeros(shape, dtype=torch.int64, device=levels.device)
        for d, place in enumerate(places):
            places[d] = place.reshape(-1, *[1] * (len(shape) - 1 - d))
        grid += random_numbers(self.seed, *places) << _TIES
        # Equal numbers are told apart by place.
        grid += (torch.arange(grid.numel(), device=grid.device) & ((1 << _TIES) - 1)).view(shape)
        return nodes_of_grid(grid, format, sizes)

    def _options(self) -> list[str]:
        return [f"seed={self.seed}", *super()._options()]


def random(
    density: float,
    seed: int = 0,
    block: int | Sequence[int] | None = None,
    per: str | Sequence[int] = "tensor",
) -> Largest | InBlocks:
    """Returns a sparsifier that keeps a random fraction of the entries, of a block format of the blocks.

    Exactly `round(density * n)` of the n are kept, those with the largest numbers by `gossamer.patterns.random` for
    the key (seed, place), where the place has a number for each dimension. So a seed keeps the same on every device
    and every rank, and in every format with the same blocks.

    Args:
        density: The fraction to keep, in [0, 1].
        seed: 0 or more, below 2^64.
        block, per: As for `block_norm`.

    Raises:
        FormatError: The density is not in [0, 1], or `block` or `per` is none.
        TensorError: The seed is no integer in this range.
    """
    ranking = Random(fraction(density, "random"), per_of(per, "random"), seed_of(seed, "random"))
    return in_blocks(ranking, block, "random")
