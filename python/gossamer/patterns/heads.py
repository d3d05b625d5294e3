"""A pattern for each head."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from gossamer.errors import TensorError
from gossamer.patterns.base import Place, PositionPattern
from gossamer.patterns.interval import Interval


@dataclass(frozen=True)
class PerHead(PositionPattern):
    """See `per_head`."""

    patterns: tuple[PositionPattern, ...]

    @property
    def by_head(self) -> bool:
        return True

    @property
    def own_heads(self) -> int:
        return len(self.patterns)

    @property
    def _parts(self) -> tuple[PositionPattern, ...]:
        return self.patterns

    @property
    def _is_by_heads(self) -> bool:
        return True

    def _for_head(self, h: int) -> PositionPattern:
        return self.patterns[h]._for_head(h)

    def _allowed(self, at: Place) -> Any:
        allowed = None
        for h, pattern in enumerate(self.patterns):
            one = pattern._truth(at) if isinstance(at.q, Interval) else pattern._allowed(at)
            here = (at.h == h) & one
            allowed = here if allowed is None else allowed | here
        return allowed

    def __repr__(self) -> str:
        return f"per_head([{', '.join(map(repr, self.patterns))}])"


def per_head(patterns: Sequence[PositionPattern]) -> PositionPattern:
    """Head h has pattern h of a list.

    Raises:
        TensorError: The list is empty, or has something else in it.
    """
    for h, pattern in enumerate(patterns):
        if not isinstance(pattern, PositionPattern):
            raise TensorError(f"per_head: head {h} has a {type(pattern).__name__}; each has a pattern")
    if not patterns:
        raise TensorError("per_head: there is at least one head")
    return PerHead(tuple(patterns))
