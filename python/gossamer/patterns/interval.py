"""Interval arithmetic: what an expression over positions can be within a rectangle of a mask.

A pattern is written once, as an expression over positions. On tensors it says what is allowed; on intervals, whether
something or everything is allowed within a rectangle. Bounds may be wider than need be, never narrower.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

Number = Tensor | int | float


class Truth:
    """Whether a predicate holds somewhere, and whether everywhere, in each of many rectangles.

    Args:
        some: bool [n]: False only where it holds nowhere.
        every: bool [n]: True only where it holds everywhere.
    """

    __slots__ = ("every", "some")

    def __init__(self, some: Tensor, every: Tensor):
        self.some, self.every = some, every

    @classmethod
    def exactly(cls, value: Tensor) -> Truth:
        """Of a predicate that is the same at all positions of a rectangle."""
        return cls(value, value)

    @classmethod
    def unknown(cls, like: Tensor) -> Truth:
        """Of a predicate that nothing is known about."""
        return cls(torch.ones_like(like, dtype=torch.bool), torch.zeros_like(like, dtype=torch.bool))

    @property
    def code(self) -> Tensor:
        """int64: 0 where it holds nowhere, 2 where everywhere, 1 where that is open."""
        return self.some.long() + self.every.long()

    def __and__(self, other: Any) -> Truth:
        other = truth_of(other)
        return Truth(self.some & other.some, self.every & other.every)

    def __or__(self, other: Any) -> Truth:
        other = truth_of(other)
        return Truth(self.some | other.some, self.every | other.every)

    def __xor__(self, other: Any) -> Truth:
        other = truth_of(other)
        return (self & ~other) | (~self & other)

    def __invert__(self) -> Truth:
        return Truth(~self.every, ~self.some)

    __rand__, __ror__, __rxor__ = __and__, __or__, __xor__


def truth_of(value: Any) -> Truth:
    """Returns a Truth, or that of a bool or a bool tensor with an entry for each rectangle."""
    if isinstance(value, Truth):
        return value
    return Truth.exactly(value if isinstance(value, Tensor) else torch.tensor(bool(value), device="cpu"))


class Interval:
    """Numbers between two bounds, both included; one interval for each of many rectangles."""

    __slots__ = ("hi", "lo")

    lo: Any  # tensors, or numbers where all rectangles have the same
    hi: Any

    def __init__(self, lo: Number, hi: Number):
        self.lo, self.hi = lo, hi

    @classmethod
    def of(cls, value: Any) -> Interval:
        """Returns an interval, or that of a number."""
        return value if isinstance(value, Interval) else cls(value, value)

    def __add__(self, other: Any) -> Interval:
        other = Interval.of(other)
        return Interval(self.lo + other.lo, self.hi + other.hi)

    def __sub__(self, other: Any) -> Interval:
        other = Interval.of(other)
        return Interval(self.lo - other.hi, self.hi - other.lo)

    def __rsub__(self, other: Any) -> Interval:
        return Interval.of(other) - self

    def __neg__(self) -> Interval:
        return Interval(-self.hi, -self.lo)

    def __mul__(self, other: Any) -> Interval:
        other = Interval.of(other)
        return _hull(self, other, lambda x, y: x * y)

    def __floordiv__(self, divisor: Any) -> Interval:
        """By something above 0."""
        return _hull(self, Interval.of(divisor), lambda x, y: x // y)

    def __mod__(self, modulus: Number) -> Interval:
        """By something above 0 that is the same all over a rectangle."""
        same = self.lo // modulus == self.hi // modulus  # from bound to bound it does not start anew
        zero = torch.zeros_like(as_tensor(self.lo))
        lo, hi = torch.where(as_tensor(same), as_tensor(self.lo % modulus), zero), zero + (modulus - 1)
        return Interval(lo, torch.where(as_tensor(same), as_tensor(self.hi % modulus), hi))

    def __abs__(self) -> Interval:
        lo, hi = as_tensor(self.lo), as_tensor(self.hi)
        return Interval(torch.maximum(lo, -hi).clamp(min=0), torch.maximum(hi, -lo))

    def __lt__(self, other: Any) -> Truth:
        other = Interval.of(other)
        return Truth(as_tensor(self.lo < other.hi), as_tensor(self.hi < other.lo))

    def __le__(self, other: Any) -> Truth:
        other = Interval.of(other)
        return Truth(as_tensor(self.lo <= other.hi), as_tensor(self.hi <= other.lo))

    def __gt__(self, other: Any) -> Truth:
        return Interval.of(other) < self

    def __ge__(self, other: Any) -> Truth:
        return Interval.of(other) <= self

    def __eq__(self, other: Any) -> Truth:  # type: ignore[override]
        other = Interval.of(other)
        some = as_tensor(self.lo <= other.hi) & as_tensor(other.lo <= self.hi)
        return Truth(some, as_tensor(self.hi <= other.lo) & as_tensor(other.hi <= self.lo))

    def __ne__(self, other: Any) -> Truth:  # type: ignore[override]
        return ~(self == other)

    __hash__ = None  # type: ignore[assignment]
    __radd__, __rmul__ = __add__, __mul__


def as_tensor(value: Any) -> Tensor:
    """Returns a tensor, or that of a number: on the CPU, where it goes with tensors of any device."""
    return value if isinstance(value, Tensor) else torch.as_tensor(value, device="cpu")


def _hull(x: Interval, y: Interval, f: Callable[[Any, Any], Any]) -> Interval:
    """Of a function that, in each operand, is monotonic: it is least and greatest at corners."""
    corners = [as_tensor(f(x.lo, y.lo)), as_tensor(f(x.hi, y.hi))]
    if y.lo is not y.hi:
        corners += [as_tensor(f(x.lo, y.hi)), as_tensor(f(x.hi, y.lo))]
    lo = hi = corners[0]
    for corner in corners[1:]:
        lo, hi = torch.minimum(lo, corner), torch.maximum(hi, corner)
    return Interval(lo, hi)


def minimum(x: Any, y: Any) -> Any:
    """The lesser of two numbers, tensors or intervals."""
    return _pairwise(torch.minimum, x, y)


def maximum(x: Any, y: Any) -> Any:
    """The greater of two numbers, tensors or intervals."""
    return _pairwise(torch.maximum, x, y)


def _pairwise(f: Callable[[Tensor, Tensor], Tensor], x: Any, y: Any) -> Any:
    if isinstance(x, Interval) or isinstance(y, Interval):
        x, y = Interval.of(x), Interval.of(y)
        return Interval(_of_numbers(f, x.lo, y.lo), _of_numbers(f, x.hi, y.hi))
    return _of_numbers(f, x, y)


def _of_numbers(f: Callable[[Tensor, Tensor], Tensor], x: Number, y: Number) -> Tensor:
    device = x.device if isinstance(x, Tensor) else y.device if isinstance(y, Tensor) else "cpu"
    return f(torch.as_tensor(x, device=device), torch.as_tensor(y, device=device))


def rising(f: Callable[[Tensor], Tensor], x: Any) -> Any:
    """f(x) of a function that never falls, for a tensor or an interval."""
    return Interval(f(as_tensor(x.lo)), f(as_tensor(x.hi))) if isinstance(x, Interval) else f(x)
