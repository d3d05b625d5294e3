"""Patterns of nearness: causal, windows, dilated and strided ones, and windows of their own size for each head."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from gossamer.errors import TensorError
from gossamer.patterns.base import Place, PositionPattern, count_of
from gossamer.patterns.interval import maximum
from gossamer.patterns.tables import Table, integers

_ALIGNMENTS = ("top-left", "bottom-right")


def _aligned(pattern: Any, at: Place) -> Any:
    """The query's place among the keys."""
    if pattern.align == "top-left":
        return at.q
    lengths = at.lengths_for(pattern)
    return at.q + (lengths.keys - lengths.queries)


def _check_alignment(align: str, who: str) -> str:
    if align not in _ALIGNMENTS:
        raise TensorError(f"{who}: align is one of {', '.join(map(repr, _ALIGNMENTS))}, not {align!r}")
    return align


@dataclass(frozen=True)
class Causal(PositionPattern):
    """See `causal`."""

    align: str
    _period: ClassVar[int | None] = 1

    def _allowed(self, at: Place) -> Any:
        return at.k <= _aligned(self, at)

    def __repr__(self) -> str:
        return "causal()" if self.align == "top-left" else f"causal({self.align!r})"


def causal(align: str = "top-left") -> PositionPattern:
    """Keys up to the query's own place.

    Args:
        align: Where there are more or fewer queries than keys: "top-left", query 0 is at key 0 (PyTorch's `is_causal`),
            or "bottom-right", the last query is at the last key (flash-attention; a cache of earlier keys).

    Raises:
        TensorError: Another alignment.
    """
    return Causal(_check_alignment(align, "causal"))


@dataclass(frozen=True)
class SlidingWindow(PositionPattern):
    """See `sliding_window`; a side of None has no end."""

    left: int | None
    right: int | None
    align: str
    _period: ClassVar[int | None] = 1

    def _allowed(self, at: Place) -> Any:
        distance = at.k - _aligned(self, at)
        if self.left is None or self.right is None:
            return distance <= self.right if self.left is None else distance >= -self.left
        return (distance >= -self.left) & (distance <= self.right)

    def __repr__(self) -> str:
        align = "" if self.align == "top-left" else f", align={self.align!r}"
        if self.left is not None and self.right in (self.left, 0):
            return f"sliding_window({self.left + 1}{'' if self.right else ', sides=1'}{align})"
        return f"sliding_window(({self.left}, {self.right}){align})"


def sliding_window(
    size: int | tuple[int | None, int | None], *, sides: int = 2, align: str = "top-left"
) -> PositionPattern:
    """Keys near the query.

    A window that reaches beyond the first or last key ends there; one of at least the length allows everything on its
    side.

    Args:
        size: How many keys on a side, the query's own included: |q - k| < size. So `causal() & sliding_window(1024)`
            lets a query see 1024 keys. Or (left, right) as in flash-attention, k from q - left to q + right; None: no
            end.
        sides: 1: only the query's own key and those before it; 2: those after it, too.
        align: As in `causal`.

    Raises:
        TensorError: A size below 1, or a side below 0.
    """
    who = "sliding_window"
    align = _check_alignment(align, who)
    if sides not in (1, 2):
        raise TensorError(f"{who}: sides is 1 or 2, not {sides!r}")
    if not isinstance(size, tuple | list):
        left = count_of(size, who, "the size of a window, the query's own key included,") - 1
        return SlidingWindow(left, left if sides == 2 else 0, align)
    if len(size) != 2:
        raise TensorError(f"{who}: the sides of a window are two, (left, right), not {len(size)}")
    if sides != 2:
        raise TensorError(f"{who}: a window given as (left, right) has both sides; leave `sides` out")
    if size[0] is None and size[1] is None:
        raise TensorError(f"{who}: a window without ends on both sides is gs.patterns.everything()")
    left, right = (None if s is None else count_of(s, who, "a side of a window", 0) for s in size)
    return SlidingWindow(left, right, align)


@dataclass(frozen=True)
class Dilated(PositionPattern):
    """See `dilated`."""

    size: int
    dilation: int
    sides: int
    _period: ClassVar[int | None] = 1

    def _allowed(self, at: Place) -> Any:
        distance = at.q - at.k
        near = (distance if self.sides == 1 else abs(distance)) < self.size * self.dilation
        near = near & (distance % self.dilation == 0)
        return near & (distance >= 0) if self.sides == 1 else near

    def __repr__(self) -> str:
        return f"dilated({self.size}, {self.dilation}{', sides=1' if self.sides == 1 else ''})"


def dilated(size: int, dilation: int, *, sides: int = 2) -> PositionPattern:
    """A window with gaps: every `dilation`-th key, `size` of them on a side, the query's own included.

    Raises:
        TensorError: A size or dilation below 1.
    """
    if sides not in (1, 2):
        raise TensorError(f"dilated: sides is 1 or 2, not {sides!r}")
    return Dilated(count_of(size, "dilated", "the size"), count_of(dilation, "dilated", "the dilation"), sides)


@dataclass(frozen=True)
class Strided(PositionPattern):
    """See `strided`."""

    stride: int
    _period: ClassVar[int | None] = 1

    def _allowed(self, at: Place) -> Any:
        return (at.q - at.k) % self.stride == 0

    def __repr__(self) -> str:
        return f"strided({self.stride})"


def strided(stride: int) -> PositionPattern:
    """Keys whose distance from the query is a multiple of the stride, on both sides.

    The strided pattern of Sparse Transformers is `causal() & (sliding_window(stride) | strided(stride))`.

    Raises:
        TensorError: A stride below 1.
    """
    return Strided(count_of(stride, "strided", "the stride"))


@dataclass(frozen=True)
class HeadWindows(PositionPattern):
    """Windows of a size for each head: see `alibi`."""

    distances: Table
    _period: ClassVar[int | None] = 1

    @property
    def by_head(self) -> bool:
        return True

    @property
    def own_heads(self) -> int:
        return self.distances.shape[0]

    def _allowed(self, at: Place) -> Any:
        return abs(at.q - at.k) <= self.distances.at(at.h)

    def __repr__(self) -> str:
        return f"alibi(distances={self.distances})"


def alibi(heads: int | Sequence[float], threshold: float) -> PositionPattern:
    """Keys whose ALiBi bias, -slope_h |q - k|, is not below -threshold: further ones count for next to nothing.

    Args:
        heads: The number of heads, whose slopes are those of the ALiBi paper; or the slopes, all above 0.
        threshold: How much bias is let in: after the softmax, e^-threshold of the weight of an equal key at distance 0.

    Raises:
        TensorError: No heads, a slope of 0 or below, or a threshold below 0.
    """
    slopes = alibi_slopes(heads) if isinstance(heads, int) else list(heads)
    for h, slope in enumerate(slopes):
        if not 0 < slope < math.inf:
            raise TensorError(f"alibi: slopes are above 0, and that of head {h} is {slope}")
    if not slopes:
        raise TensorError("alibi: there is at least one head")
    if not 0 <= threshold < math.inf:
        raise TensorError(f"alibi: the threshold is a finite number of 0 or more, not {threshold!r}")
    distances = [min(math.floor(threshold / slope), 1 << 40) for slope in slopes]
    return HeadWindows(Table(integers(distances, "alibi", "distances")))


def alibi_slopes(heads: int) -> list[float]:
    """The slopes of the ALiBi paper: 2^(-8 / n), its square, ... for a power of two n; else also every other of 2 n.

    Raises:
        TensorError: No heads.
    """
    count_of(heads, "alibi", "the number of heads")
    power = 1 << (heads.bit_length() - 1)
    slopes = [2.0 ** (-8 * (h + 1) / power) for h in range(power)]
    between = [2.0 ** (-8 * (h + 1) / (2 * power)) for h in range(0, 2 * power, 2)]
    return slopes + between[: heads - power]


@dataclass(frozen=True)
class PrefixLM(PositionPattern):
    """See `prefix_lm`."""

    prefix: int | Table

    @property
    def by_batch(self) -> bool:
        return isinstance(self.prefix, Table)

    @property
    def own_batch(self) -> int | None:
        return self.prefix.shape[0] if isinstance(self.prefix, Table) else None

    def _allowed(self, at: Place) -> Any:
        prefix = self.prefix.at(at.b) if isinstance(self.prefix, Table) else self.prefix
        return at.k <= maximum(at.q, prefix - 1)

    def __repr__(self) -> str:
        return f"prefix_lm({self.prefix})"


def prefix_lm(prefix: Any) -> PositionPattern:
    """Causal, but everybody sees the whole prefix.

    Args:
        prefix: How many keys it has: one number, or one for each text.

    Raises:
        TensorError: A number below 0.
    """
    if isinstance(prefix, int) and not isinstance(prefix, bool):
        return PrefixLM(count_of(prefix, "prefix_lm", "the prefix", 0))
    return PrefixLM(Table(integers(prefix, "prefix_lm", "prefixes", least=0)))
