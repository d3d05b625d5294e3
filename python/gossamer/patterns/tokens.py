"""Patterns of chosen tokens: global ones, padding, documents of a packed sequence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gossamer.errors import TensorError
from gossamer.patterns.base import Lengths, Place, PositionPattern, count_of
from gossamer.patterns.interval import Interval, Truth
from gossamer.patterns.tables import Table, integers


@dataclass(frozen=True)
class GlobalTokens(PositionPattern):
    """See `global_tokens`; runs (begin, end) of tokens, apart and ascending."""

    runs: tuple[tuple[int, int], ...]
    rows: bool
    columns: bool

    def _allowed(self, at: Place) -> Any:
        sides = [x for x, wanted in ((at.q, self.rows), (at.k, self.columns)) if wanted]
        allowed = self._is_global(sides[0])
        return allowed | self._is_global(sides[1]) if len(sides) == 2 else allowed

    def _is_global(self, x: Any) -> Any:
        if isinstance(x, Interval):
            inside = _counted(self.runs, x.hi + 1) - _counted(self.runs, x.lo)
            return Truth(inside > 0, inside == x.hi - x.lo + 1)
        return _counted(self.runs, x + 1) > _counted(self.runs, x)

    def _signature(self, corner: Place, rectangle: Place) -> list[Tensor]:
        return [x for x, wanted in ((corner.q, self.rows), (corner.k, self.columns)) if wanted]

    def __repr__(self) -> str:
        tokens = str(self.runs[0][1]) if len(self.runs) == 1 and self.runs[0][0] == 0 else str(list(self.runs))
        which = "" if self.rows and self.columns else ", rows=False" if self.columns else ", columns=False"
        return f"global_tokens({tokens}{which})"


def _counted(runs: tuple[tuple[int, int], ...], x: Tensor) -> Tensor:
    """How many tokens of the runs are below x."""
    if len(runs) == 1:
        begin, end = runs[0]
        return (x - begin).clamp(0, end - begin)
    bounds = torch.tensor(runs, device=x.device)
    sizes = bounds[:, 1] - bounds[:, 0]
    before = torch.nn.functional.pad(sizes.cumsum(0), (1, 0))
    run = torch.searchsorted(bounds[:, 0].contiguous(), x.contiguous())  # runs that begin below x
    last = (run - 1).clamp(min=0)
    whole = before[last] + torch.minimum(x - bounds[last, 0], sizes[last])
    return torch.where(run > 0, whole, 0)


def global_tokens(
    tokens: int | Sequence[int | tuple[int, int]], *, rows: bool = True, columns: bool = True
) -> PositionPattern:
    """Tokens that see everything (rows), and that everything sees (columns).

    Args:
        tokens: The first so many; or a list of positions, or of (begin, end) with the end left out.
        rows, columns: Which of the two.

    Raises:
        TensorError: No tokens, negative positions, an end that is not behind its begin, or neither rows nor columns.
    """
    who = "global_tokens"
    if not (rows or columns):
        raise TensorError(f"{who}: with neither rows nor columns nothing is global")
    if isinstance(tokens, int):
        return GlobalTokens(((0, count_of(tokens, who, "the number of tokens")),), bool(rows), bool(columns))
    if isinstance(tokens, Tensor):
        tokens = tokens.tolist()
    runs = []
    for token in tokens:
        begin, end = token if isinstance(token, tuple | list) else (token, None)
        begin = count_of(begin, who, "a position", 0)
        end = begin + 1 if end is None else count_of(end, who, f"the end of the tokens from {begin} on", begin + 1)
        runs.append((begin, end))
    if not runs:
        raise TensorError(f"{who}: the list of tokens is empty")
    return GlobalTokens(_apart(runs), bool(rows), bool(columns))


def _apart(runs: list[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    """Runs in order, those that touch as one."""
    joined: list[tuple[int, int]] = []
    for begin, end in sorted(runs):
        if joined and begin <= joined[-1][1]:
            joined[-1] = joined[-1][0], max(end, joined[-1][1])
        else:
            joined.append((begin, end))
    return tuple(joined)


@dataclass(frozen=True)
class KeyPadding(PositionPattern):
    """See `key_padding`; lengths [texts], or 1 and 0 for each key, [texts, keys]."""

    table: Table

    @property
    def by_batch(self) -> bool:
        return True

    @property
    def own_batch(self) -> int:
        return self.table.shape[0]

    @property
    def _extent(self) -> tuple[int | None, int | None]:
        return None, self.table.shape[1] if len(self.table.shape) == 2 else None

    def _allowed(self, at: Place) -> Any:
        if len(self.table.shape) == 2:
            return self.table.at(at.k, at.b) == 1
        return at.k < self.table.at(at.b)

    def _signature(self, corner: Place, rectangle: Place) -> list[Tensor]:
        return [corner.b, corner.k]

    def _check_lengths(self, lengths: Lengths, batch: int, heads: int) -> None:
        super()._check_lengths(lengths, batch, heads)
        if len(self.table.shape) == 1:
            longest = int(self.table.on(torch.device("cpu")).max())
            if longest > lengths.keys:
                raise TensorError(f"key_padding: a text of {longest} keys, where there are {lengths.keys}")

    def __repr__(self) -> str:
        return f"key_padding({self.table})"


def key_padding(keys: Any) -> PositionPattern:
    """Keys that are no padding.

    Args:
        keys: How many keys each text has, [texts]; or bool [texts, keys], True for those that are no padding. Read on
            the host, once.

    Raises:
        TensorError: Of another shape or dtype, or a length below 0.
    """
    if isinstance(keys, Tensor) and keys.dtype == torch.bool:
        if keys.dim() != 2 or not keys.numel():
            raise TensorError(f"key_padding: a bool mask is [texts, keys], not of shape {list(keys.shape)}")
        return KeyPadding(Table(keys))
    lengths = integers(keys, "key_padding", "lengths", least=0)
    if not lengths.numel():
        raise TensorError("key_padding: there is at least one text")
    return KeyPadding(Table(lengths))


@dataclass(frozen=True)
class Documents(PositionPattern):
    """See `documents`; the document of each position, [positions] or [texts, positions]."""

    ids: Table

    @property
    def by_batch(self) -> bool:
        return len(self.ids.shape) == 2

    @property
    def own_batch(self) -> int | None:
        return self.ids.shape[0] if self.by_batch else None

    @property
    def _extent(self) -> tuple[int | None, int | None]:
        return self.ids.shape[-1], self.ids.shape[-1]

    @property
    def _extent_reason(self) -> str:
        return f"a packing of documents with {self.ids.shape[-1]} tokens"

    def _allowed(self, at: Place) -> Any:
        mine, theirs = self.ids.at(at.q, at.b), self.ids.at(at.k, at.b)
        return (mine == theirs) & (mine >= 0)

    def _signature(self, corner: Place, rectangle: Place) -> list[Tensor]:
        """Of queries, or keys, of one document only the document counts, not where they are."""
        columns = [corner.b] if self.by_batch else []
        for x, first in ((rectangle.q, corner.q), (rectangle.k, corner.k)):
            ids = self.ids.at(x, rectangle.b)
            is_one = ids.lo == ids.hi
            columns += [is_one.long(), torch.where(is_one, ids.lo, first)]
        return columns

    def __repr__(self) -> str:
        return f"documents({self.ids})"


def documents(lengths: Any = None, *, ids: Any = None) -> PositionPattern:
    """Keys in the query's own document, where documents are packed one behind the other.

    Args:
        lengths: Tokens of each document; or a list of such lists, one for each text, all with the same sum. They must
            add up to the numbers of queries and of keys that the pattern is used with.
        ids: Instead: which document each position belongs to, [positions] or [texts, positions], in any order; a
            position below 0 is padding: it sees nothing, and nothing sees it. Read on the host, once.

    Raises:
        TensorError: Not one of the two, a length below 0, or texts of different sums.
    """
    who = "documents"
    if (lengths is None) == (ids is None):
        raise TensorError(f"{who}: give lengths, or ids, and not both")
    if ids is not None:
        table = integers(ids, who, "ids", (1, 2))
        if not table.numel():
            raise TensorError(f"{who}: there are no ids")
        return Documents(Table(table.clamp(min=-1)))
    if isinstance(lengths, Sequence) and lengths and isinstance(lengths[0], Sequence | Tensor):
        texts = [_expanded(integers(text, who, "lengths", least=0)) for text in lengths]
        sums = [text.numel() for text in texts]
        if len(set(sums)) > 1:
            wrong = next(n for n, total in enumerate(sums) if total != sums[0])
            raise TensorError(
                f"{who}: the documents of text 0 have {sums[0]} tokens together, those of text {wrong} {sums[wrong]}: "
                "add one of padding, or give ids"
            )
        table = torch.stack(texts)
    else:
        table = _expanded(integers(lengths, who, "lengths", least=0))
    if not table.numel():
        raise TensorError(f"{who}: the documents have no tokens")
    return Documents(Table(table))


def _expanded(lengths: Tensor) -> Tensor:
    return torch.arange(lengths.numel(), device=lengths.device).repeat_interleave(lengths)
