"""Where the values of a derived pattern come from."""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor

from gossamer.pattern import Pattern
from gossamer.tensor import filled_from_nothing

_T = TypeVar("_T")
_KEPT = 32  # derived patterns that a pattern remembers, the oldest forgotten first


@dataclass(frozen=True)
class Gather:
    """Takes values from anywhere; differentiable.

    Attributes:
        index: int64 [n], places among the flat old values.
        missing: bool [n], which of the new values were not stored before (they are the fill); None: none of them.
    """

    index: Tensor
    missing: Tensor | None = None

    @classmethod
    def of(cls, index: Tensor) -> "Gather":
        """From places of which -1 means that nothing was stored."""
        missing = index < 0
        return cls(index.clamp(min=0), missing) if bool(missing.any()) else cls(index)

    def __call__(self, values: Tensor, fill: float | int | bool) -> Tensor:
        """Returns the new values, flat."""
        flat = values.reshape(-1)
        if not flat.numel():
            return filled_from_nothing(flat, self.index.shape, fill)
        taken = flat.index_select(0, self.index)
        return taken if self.missing is None else taken.masked_fill(self.missing, fill)


@dataclass(frozen=True)
class Run:
    """Takes consecutive values: nothing is copied."""

    first: int
    count: int

    def __call__(self, values: Tensor, fill: float | int | bool) -> Tensor:
        """Returns the new values, flat."""
        return values.reshape(-1).narrow(0, self.first, self.count)


Moves = Gather | Run


def remembered(pattern: Pattern, key: Any, compute: Callable[[], _T]) -> _T:
    """As `Pattern.derived`, for keys of which there may be any number: only the latest are kept."""
    kept: OrderedDict[Any, Any] = pattern.derived("remembered", OrderedDict)
    try:
        kept.move_to_end(key)
        return kept[key]
    except KeyError:  # also where another thread has just made room
        kept[key] = value = compute()
    if len(kept) > _KEPT:
        kept.popitem(last=False)
    return value


def forget(pattern: Pattern, key: Any) -> None:
    """Drop what is remembered for a key."""
    pattern.derived("remembered", OrderedDict).pop(key, None)


def index_dtype(*patterns: Pattern) -> torch.dtype | None:
    """The width of indices that a pattern made of these has: the widest; None if they have no index arrays."""
    widths = {array.dtype for pattern in patterns for array in pattern._arrays if array is not None}
    return torch.int64 if torch.int64 in widths else torch.int32 if widths else None
