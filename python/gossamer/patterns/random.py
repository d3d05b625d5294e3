"""Random blocks that a counter decides: the same on every device, in every process, in any order of asking.

The algorithm, all of it in unsigned 32-bit numbers. `mix` is the finalizer

    mix(x): x ^= x >> 16; x *= 0x7feb352d; x ^= x >> 15; x *= 0x846ca68b; x ^= x >> 16

and a key (seed, n0, n1, ...) has the number that these steps end with:

    x = mix(seed's low 32 bits ^ mix(seed >> 32));  for each n: x = mix(x + 0x9e3779b9 * (n + 1))

A number u chooses below a bound by (u * bound) >> 32.

* With a density, block (i, j) of keys is allowed where the number of (seed, b, h, i, j) is below density 2^32; b and h
  count as 0 where the pattern does not differ by text, or by head.
* With a count, row i of the blocks chooses `count` different ones of the n that it may, by Floyd's algorithm: for
  t = 0, 1, ... it draws below n - count + t + 1 with the number of (seed, b, h, i, t), and takes what it drew, or,
  where it has that already, n - count + t.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gossamer.errors import TensorError
from gossamer.patterns.base import Place, PositionPattern, count_of
from gossamer.patterns.blocked import signature_of_blocks, truth_of_rows
from gossamer.patterns.interval import Interval, Truth, as_tensor

_LOW = 0xFFFFFFFF


def _mix(x: Any) -> Any:
    # The product of two numbers of 32 bits may wrap in int64; its low 32 bits are right all the same.
    x = ((x ^ (x >> 16)) * 0x7FEB352D) & _LOW
    x = ((x ^ (x >> 15)) * 0x846CA68B) & _LOW
    return x ^ (x >> 16)


def random_numbers(seed: int, *counters: Tensor) -> Tensor:
    """Returns a number of 32 bits for each key (seed, counters...), as int64."""
    x = _mix((seed & _LOW) ^ _mix((seed >> 32) & _LOW))
    for counter in counters:
        x = _mix((x + 0x9E3779B9 * (counter + 1)) & _LOW)
    return x


def seed_of(seed: int, who: str) -> int:
    """Returns a seed.

    Raises:
        TensorError: It is none.
    """
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 1 << 64:
        raise TensorError(f"{who}: a seed is an integer of 0 or more, below 2^64, not {seed!r}")
    return seed


@dataclass(frozen=True)
class _RandomBlocks(PositionPattern):
    """What both kinds share."""

    block: int
    seed: int
    own_of_heads: bool
    own_of_texts: bool

    @property
    def by_batch(self) -> bool:
        return self.own_of_texts

    @property
    def by_head(self) -> bool:
        return self.own_of_heads

    def _leading(self, at: Place) -> tuple[Tensor, Tensor]:
        """The text and the head that count."""
        b, h = (as_tensor(x.lo) if isinstance(x, Interval) else x for x in (at.b, at.h))
        return b if self.by_batch else torch.zeros_like(b), h if self.by_head else torch.zeros_like(h)

    def _chosen(self, at: Place, i: Tensor, j: Tensor) -> Tensor:
        """Whether blocks are chosen."""
        raise NotImplementedError

    def _allowed(self, at: Place) -> Tensor:
        return self._chosen(at, at.q // self.block, at.k // self.block)

    def _signature(self, corner: Place, rectangle: Place) -> list[Tensor]:
        block = self.block, self.block
        columns = signature_of_blocks(rectangle, block, lambda i, j: self._chosen(corner, i, j))
        return super()._signature(corner, rectangle) if columns is None else columns

    def _options(self) -> str:
        flags = "".join(f", {name}=True" for name in ("by_head", "by_batch") if getattr(self, name))
        return f"seed={self.seed}{flags}"


@dataclass(frozen=True)
class DenseRandomBlocks(_RandomBlocks):
    """Random blocks of a density."""

    density: float

    def _chosen(self, at: Place, i: Tensor, j: Tensor) -> Tensor:
        return random_numbers(self.seed, *self._leading(at), i, j) < round(self.density * 2**32)

    def _truth(self, at: Place) -> Truth:
        i, j = at.q // self.block, at.k // self.block
        one = (i.lo == i.hi) & (j.lo == j.hi)
        chosen = self._chosen(at, as_tensor(i.lo), as_tensor(j.lo))
        return Truth(chosen | ~one, chosen & one)

    def __repr__(self) -> str:
        return f"random_blocks({self.block}, density={self.density:g}, {self._options()})"


@dataclass(frozen=True)
class CountedRandomBlocks(_RandomBlocks):
    """A number of random blocks in each row of blocks."""

    count: int
    causal: bool

    def _columns(self, at: Place, i: Tensor) -> list[Tensor]:
        """The blocks that rows choose, -1 for none."""
        b, h = self._leading(at)
        n = -(-at.lengths_for(self).keys // self.block)
        bound = torch.minimum(i + 1, torch.full_like(i, n)) if self.causal else torch.full_like(i, n)
        chosen: list[Tensor] = []
        for t in range(self.count):
            last = bound - min(self.count, n) + t
            drawn = (random_numbers(self.seed, b, h, i, torch.full_like(i, t)) * (last + 1)) >> 32
            known = torch.zeros_like(drawn, dtype=torch.bool)
            for other in chosen:
                known = known | (other == drawn)
            # Where a row has fewer blocks than the count, the first draws are of none, and all blocks are taken.
            chosen.append(torch.where(last < 0, -1, torch.where(known, last, drawn)))
            if t + 1 == n:
                break
        return chosen

    def _chosen(self, at: Place, i: Tensor, j: Tensor) -> Tensor:
        allowed = torch.zeros(1, dtype=torch.bool, device=j.device)
        for column in self._columns(at, i):
            allowed = allowed | (column == j)
        return allowed

    def _truth(self, at: Place) -> Truth:
        return truth_of_rows(at.q // self.block, at.k // self.block, lambda i: self._columns(at, i))

    def __repr__(self) -> str:
        causal = ", causal=True" if self.causal else ""
        return f"random_blocks({self.block}, {self.count}, {self._options()}{causal})"


def random_blocks(
    block: int,
    count: int | None = None,
    *,
    density: float | None = None,
    seed: int = 0,
    by_head: bool = False,
    by_batch: bool = False,
    causal: bool = False,
) -> PositionPattern:
    """Random blocks, which a counter-based generator chooses: the same for a seed on every rank and device.

    Args:
        block: Positions of a block, whatever the blocks of a list that is made of it later.
        count: How many blocks of keys each block of queries sees, all different (all, where there are fewer).
        density: Instead: the chance of each block to be allowed.
        seed: An integer below 2^64. Nothing else is random: ranks that give different seeds get different patterns.
        by_head, by_batch: Whether heads, or texts, have their own.
        causal: With `count`: whether blocks are chosen among those up to the query's own.

    Raises:
        TensorError: Numbers out of range, or not one of count and density.
    """
    who = "random_blocks"
    count_of(block, who, "the block")
    if (count is None) == (density is None):
        raise TensorError(f"{who}: give a count of blocks in a row, or a density, and not both")
    seed_of(seed, who)
    if count is not None:
        count_of(count, who, "the count of blocks in a row")
        return CountedRandomBlocks(block, seed, bool(by_head), bool(by_batch), count, bool(causal))
    if not isinstance(density, int | float) or not 0 <= density <= 1:
        raise TensorError(f"{who}: a density is between 0 and 1, not {density!r}")
    if causal:
        raise TensorError(f"{who}: with a density, use causal() & random_blocks(...)")
    return DenseRandomBlocks(block, seed, bool(by_head), bool(by_batch), float(density))
