"""What a pattern by position is: a predicate of (b, h, q, k) that also has bounds, and how patterns are combined."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from gossamer.errors import TensorError
from gossamer.numbered import Numbered
from gossamer.patterns.interval import Interval, Truth, truth_of

if TYPE_CHECKING:
    from gossamer.formats import Format
    from gossamer.patterns.classes import BlockClasses
    from gossamer.tensor import SparseTensor


@dataclass(frozen=True)
class Lengths:
    """How many queries and keys there are."""

    queries: int
    keys: int


@dataclass(frozen=True, eq=False)
class Place:
    """Where a pattern is looked at: batch, head, query and key, as tensors, or as intervals (b and h: of one number).

    Attributes:
        lengths: How many queries and keys there are; None where that is not known.
    """

    b: Any
    h: Any
    q: Any
    k: Any
    lengths: Lengths | None = None

    def lengths_for(self, pattern: PositionPattern) -> Lengths:
        """Returns the lengths, for a pattern that depends on them.

        Raises:
            TensorError: They are not known.
        """
        if self.lengths is None:
            raise TensorError(
                f"{pattern!r} depends on how many queries and keys there are: call it as p(b, h, q, k, "
                "lengths=(queries, keys))"
            )
        return self.lengths


class PositionPattern(Numbered):
    """Which keys a query may see, by position: immutable, hashable, combined with `&`, `|` and `~`.

    Subclasses are frozen dataclasses that define `_allowed`, and what else is not as it is here.
    """

    _period: ClassVar[int | None] = None

    @property
    def by_batch(self) -> bool:
        """Whether it differs from text to text."""
        return any(part.by_batch for part in self._parts)

    @property
    def by_head(self) -> bool:
        """Whether it differs from head to head."""
        return any(part.by_head for part in self._parts)

    @property
    def own_batch(self) -> int | None:
        """How many texts it is made for; None: any number."""
        return next((part.own_batch for part in self._parts if part.own_batch is not None), None)

    @property
    def own_heads(self) -> int | None:
        """How many heads it is made for; None: any number."""
        return next((part.own_heads for part in self._parts if part.own_heads is not None), None)

    def __call__(self, b: Any, h: Any, q: Any, k: Any, *, lengths: tuple[int, int] | None = None) -> Tensor:
        """Returns whether query q may see key k, in text b and head h: the definition of the pattern.

        Args:
            b, h, q, k: Integers, or tensors of them that are broadcast.
            lengths: Numbers of queries and keys, on which a few patterns depend.

        Returns:
            bool, of the shape that the arguments are broadcast to.

        Raises:
            TensorError: A position that is no integer or that the pattern was not made for, or lengths that it needs
                and are not given.
        """
        device = next((x.device for x in (q, k, b, h) if isinstance(x, Tensor)), None)
        at = [_position(x, what, device) for x, what in zip((b, h, q, k), "bhqk", strict=True)]
        self._check_positions(*at)
        place = Place(*at, lengths=None if lengths is None else _lengths(*lengths))
        return self._at(place)

    def _at(self, place: Place) -> Tensor:
        """The definition, in the whole shape that the positions are broadcast to."""
        shape = torch.broadcast_tensors(place.b, place.h, place.q, place.k)[0].shape
        return self._allowed(place).expand(shape)

    def _allowed(self, at: Place) -> Any:
        """Returns a bool tensor where the place has tensors, and a `Truth` where it has intervals."""
        raise NotImplementedError

    def _truth(self, at: Place) -> Truth:
        """Returns bounds within rectangles; a subclass may know better ones than its definition gives."""
        truth = truth_of(self._allowed(at))
        return Truth(*(x.to(at.q.lo.device).expand_as(at.q.lo) for x in (truth.some, truth.every)))

    def _signature(self, corner: Place, rectangle: Place) -> list[Tensor]:
        """Returns int64 columns of numbers; blocks in which all are equal have the same entries.

        Args:
            corner: The first positions of the blocks, tensors.
            rectangle: The blocks, intervals.
        """
        columns = [column for column, by in ((corner.b, self.by_batch), (corner.h, self.by_head)) if by]
        period = self._period_of(corner)
        if period is None:
            return [*columns, corner.q, corner.k]
        return [*columns, corner.q - corner.k, *([corner.q % period] if period > 1 else [])]

    def _period_of(self, at: Place) -> int | None:
        """Returns p if (q + p, k + p) is allowed where (q, k) is, for all positions; None if there is no such p."""
        return self._period

    @property
    def _extent(self) -> tuple[int | None, int | None]:
        """How many queries and keys it is made for; None: any number."""
        return None, None

    @property
    def _extent_reason(self) -> str:
        """What it is that has this extent, for an error."""
        return repr(self)

    @property
    def _parts(self) -> tuple[PositionPattern, ...]:
        """The patterns that it is made of."""
        return ()

    @property
    def _is_by_heads(self) -> bool:
        """Whether heads have patterns of their own, which `_for_head` gives."""
        return any(part._is_by_heads for part in self._parts)

    def _for_head(self, h: int) -> PositionPattern:
        """Returns a pattern that is the same in head h, and simpler where possible."""
        return self

    def _check_positions(self, b: Tensor, h: Tensor, q: Tensor, k: Tensor) -> None:
        own = (self.own_batch, "text", b), (self.own_heads, "head", h)
        queries, keys = self._extent
        for count, what, index in (*own, (queries, "query", q), (keys, "key", k)):
            if count is not None and index.numel() and not 0 <= int(index.min()) <= int(index.max()) < count:
                wrong = int(index.max()) if int(index.max()) >= count else int(index.min())
                raise TensorError(f"{what} {wrong}: {self._extent_reason} is made for 0 to {count - 1}")
        for part in self._parts:
            part._check_positions(b, h, q, k)

    def _check_lengths(self, lengths: Lengths, batch: int, heads: int) -> None:
        """Raises TensorError if it is made for other lengths, or for another number of texts or heads."""
        queries, keys = self._extent
        for wanted, given, one, many in (
            (self.own_batch, batch, "text", "texts"),
            (self.own_heads, heads, "head", "heads"),
            (queries, lengths.queries, "query", "queries"),
            (keys, lengths.keys, "key", "keys"),
        ):
            if wanted is not None and wanted != given:
                what = f"{wanted} {one if wanted == 1 else many}, not for {given} {one if given == 1 else many}"
                raise TensorError(f"{self._extent_reason} is made for {what}")
        for part in self._parts:
            part._check_lengths(lengths, batch, heads)

    def __and__(self, other: Any) -> PositionPattern:
        return _joined(Both, self, other)

    def __or__(self, other: Any) -> PositionPattern:
        return _joined(Either, self, other)

    def __invert__(self) -> PositionPattern:
        return Inverse(self)

    def __copy__(self) -> PositionPattern:
        return self

    def __deepcopy__(self, memo: Any) -> PositionPattern:
        return self  # nothing of it changes

    def __bool__(self) -> bool:
        raise TensorError("a pattern is neither true nor false: combine patterns with &, | and ~, not and, or and not")

    def blocks(
        self,
        q_len: int,
        kv_len: int | None = None,
        block: int | tuple[int, int] = 128,
        device: torch.device | str | None = None,
        *,
        batch: int | None = None,
        heads: int | None = None,
    ) -> BlockClasses:
        """Returns which blocks are empty, full or allowed in part, without ever making a mask of q_len x kv_len.

        Args:
            q_len, kv_len: Numbers of queries and of keys (None: as many).
            block: Rows and columns of a block, or one number for both. The last block of a length that it does not
                divide is shorter: it is full if all positions that there are are allowed.
            device: Where the arrays are made.
            batch, heads: For a pattern that differs from text to text, or from head to head; None: as many as it is
                made for, or one.

        Raises:
            TensorError: Lengths, or a batch or heads, that the pattern is not made for.
        """
        from gossamer.patterns.classes import classes_of

        return classes_of(self, q_len, q_len if kv_len is None else kv_len, block, device, batch, heads)

    def mask(
        self,
        q_len: int,
        kv_len: int | None = None,
        format: Format | None = None,
        *,
        device: torch.device | str | None = None,
        batch: int | None = None,
        heads: int | None = None,
    ) -> SparseTensor:
        """Returns the mask as a bool SparseTensor, made from its blocks.

        In a format `gs.BSR(b)` (None: b is 128) it is a list of blocks, with bits for those that are allowed in part:
        what `gs.attention` takes as it is. Values are only made when they are asked for.

        Args:
            q_len, kv_len: Numbers of queries and of keys (None: as many).
            format: How it is stored.
            device: Where.
            batch, heads: As in `blocks`.

        Returns:
            bool [queries, keys], with a dimension of heads before them if it differs by head, and of texts before that
            if by text.

        Raises:
            TensorError: As `blocks` raises, or the format cannot hold the entries.
            FormatError: The format does not fit the shape.
        """
        from gossamer.patterns.masks import mask_of

        return mask_of(self, q_len, q_len if kv_len is None else kv_len, format, device, batch, heads)

    def show(self, q_len: int, kv_len: int | None = None, path: Any = None, **options: Any) -> Any:
        """Draws the classes of blocks with matplotlib; see `gossamer.patterns.show.show`."""
        from gossamer.patterns.show import show

        return show(self.blocks(q_len, kv_len, **options), path, title=repr(self))


def _position(x: Any, what: str, device: torch.device | None) -> Tensor:
    """An integer, or a tensor of them, as int64."""
    if not isinstance(x, Tensor):
        if isinstance(x, bool) or not isinstance(x, int):
            raise TensorError(f"{what} of a pattern is an integer or a tensor of integers, not {x!r}")
        return torch.tensor(x, device=device)
    if x.is_floating_point() or x.is_complex() or x.dtype == torch.bool:
        raise TensorError(f"{what} of a pattern is a tensor of integers, not of {x.dtype}")
    return x.to(torch.int64)


def _lengths(queries: int, keys: int) -> Lengths:
    for count, what in ((queries, "queries"), (keys, "keys")):
        if not isinstance(count, int) or isinstance(count, bool) or count < 0:
            raise TensorError(f"the number of {what} is an integer of 0 or more, not {count!r}")
    return Lengths(queries, keys)


def _joined(kind: type[_Joined], first: Any, second: Any) -> Any:
    if not isinstance(second, PositionPattern):
        return NotImplemented
    parts: list[PositionPattern] = []
    for pattern in (first, second):
        for part in pattern.parts if type(pattern) is kind else (pattern,):
            if part not in parts:
                parts.append(part)
    return kind(tuple(parts)) if len(parts) > 1 else parts[0]


@dataclass(frozen=True, repr=False)
class _Joined(PositionPattern):
    """Some patterns joined by an operator."""

    parts: tuple[PositionPattern, ...]
    symbol: ClassVar[str]

    @property
    def _parts(self) -> tuple[PositionPattern, ...]:
        return self.parts

    def _signature(self, corner: Place, rectangle: Place) -> list[Tensor]:
        """Of a part that is empty or full all over a block only that counts."""
        columns = []
        for part in self.parts:
            code = part._truth(rectangle).code
            open_ = code == 1
            columns.append(code)
            columns += [torch.where(open_, column, 0) for column in part._signature(corner, rectangle)]
        return columns

    def _for_head(self, h: int) -> PositionPattern:
        return replace(self, parts=tuple(part._for_head(h) for part in self.parts))

    def __repr__(self) -> str:
        parts = (f"({part!r})" if isinstance(part, _Joined) else repr(part) for part in self.parts)
        return f" {self.symbol} ".join(parts)


@dataclass(frozen=True, repr=False)
class Both(_Joined):
    """What all of some patterns allow."""

    symbol: ClassVar[str] = "&"

    def _allowed(self, at: Place) -> Any:
        return _reduced(self.parts, at, lambda x, y: x & y)


@dataclass(frozen=True, repr=False)
class Either(_Joined):
    """What any of some patterns allows."""

    symbol: ClassVar[str] = "|"

    def _allowed(self, at: Place) -> Any:
        return _reduced(self.parts, at, lambda x, y: x | y)


def _reduced(parts: Sequence[PositionPattern], at: Place, join: Any) -> Any:
    ask = (lambda part: part._truth(at)) if isinstance(at.q, Interval) else (lambda part: part._allowed(at))
    result = ask(parts[0])
    for part in parts[1:]:
        result = join(result, ask(part))
    return result


@dataclass(frozen=True, repr=False)
class Inverse(PositionPattern):
    """What a pattern does not allow."""

    part: PositionPattern

    @property
    def _parts(self) -> tuple[PositionPattern, ...]:
        return (self.part,)

    def _allowed(self, at: Place) -> Any:
        return ~(self.part._truth(at) if isinstance(at.q, Interval) else self.part._allowed(at))

    def _signature(self, corner: Place, rectangle: Place) -> list[Tensor]:
        return self.part._signature(corner, rectangle)

    def _for_head(self, h: int) -> PositionPattern:
        return Inverse(self.part._for_head(h))

    def __invert__(self) -> PositionPattern:
        return self.part

    def __repr__(self) -> str:
        return f"~({self.part!r})" if isinstance(self.part, _Joined) else f"~{self.part!r}"


@dataclass(frozen=True)
class Everything(PositionPattern):
    """Every position."""

    _period: ClassVar[int | None] = 1

    def _allowed(self, at: Place) -> Any:
        if isinstance(at.q, Interval):
            return Truth.exactly(torch.ones_like(at.q.lo, dtype=torch.bool))
        return torch.ones_like(at.q, dtype=torch.bool)

    def __repr__(self) -> str:
        return "everything()"


def everything() -> PositionPattern:
    """Returns the pattern of all positions; `~everything()` is that of none."""
    return Everything()


def count_of(value: Any, who: str, what: str, least: int = 1) -> int:
    """Returns a number that a user gave.

    Raises:
        TensorError: It is no integer, or below `least`.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise TensorError(f"{who}: {what} is an integer of {least} or more, not {value!r}")
    return value
