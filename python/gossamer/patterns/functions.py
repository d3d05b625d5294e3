"""Patterns that a Python function of (b, h, q, k) gives: traced once, then looked at as an expression."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.fx import Graph

from gossamer.errors import UnsupportedError
from gossamer.patterns.base import Place, PositionPattern
from gossamer.patterns.expressions import bounds_of, forms_of
from gossamer.patterns.interval import Interval, Truth, truth_of
from gossamer.patterns.tables import Table
from gossamer.scalars import code_of, name_of_function, run_numbers, trace_numbers


@dataclass(frozen=True)
class Function(PositionPattern):
    """See `from_function`.

    Attributes:
        name: Of the function.
        code: What it computes, as text: functions of the same code and tables are equal.
        tables: The tensors that it looks into.
    """

    name: str = field(compare=False)
    code: str
    tables: tuple[tuple[str, Table], ...]
    graph: Graph = field(compare=False, repr=False)
    constants: dict[str, Tensor] = field(compare=False, repr=False)
    forms: tuple[tuple[int, ...], ...] = field(compare=False, repr=False)

    @property
    def by_batch(self) -> bool:
        return self._uses(0)

    @property
    def by_head(self) -> bool:
        return self._uses(1)

    def _uses(self, argument: int) -> bool:
        return bool(list(self.graph.nodes)[argument].users)

    def _allowed(self, at: Place) -> Any:
        if isinstance(at.q, Interval):
            return self._bounds(at)
        positions = torch.broadcast_tensors(at.b, at.h, at.q, at.k)
        device = positions[0].device
        constants = {name: self._constant(name, device) for name in self.constants}
        return run_numbers(self.graph, positions, constants, device)

    def _constant(self, name: str, device: torch.device) -> Tensor:
        table = dict(self.tables)[name]
        return table.derived(("constant", device), lambda: self.constants[name].to(device))

    def _bounds(self, at: Place) -> Truth:
        like = at.q.lo
        bounds = bounds_of(self.graph, (at.b, at.h, at.q, at.k), self.constants, dict(self.tables))
        if bounds is None:
            return Truth.unknown(like)
        if isinstance(bounds, Interval):
            bounds = bounds != 0
        truth = truth_of(bounds)
        return Truth(truth.some.to(like.device).expand_as(like), truth.every.to(like.device).expand_as(like))

    def _signature(self, corner: Place, rectangle: Place) -> list[Tensor]:
        columns = []
        for b, h, q, k, modulus in self.forms:
            column = b * corner.b + h * corner.h + q * corner.q + k * corner.k
            columns.append(column % modulus if modulus else column)
        return columns

    def __reduce__(self) -> Any:
        raise UnsupportedError(
            f"{self!r} cannot be pickled: pickle the function, and make the pattern where it is used"
        )

    def __repr__(self) -> str:
        return f"from_function({self.name})"


def from_function(function: Callable[[Any, Any, Any, Any], Any]) -> PositionPattern:
    """The pattern of a function of (b, h, q, k), such as a `mask_mod` of flex_attention.

    It is traced once, on integer tensors without dimensions; tensors that it looks into are copied. Sums, multiples,
    quotients, remainders, comparisons, `torch.where`, minima, maxima, look-ups by one position in integer or bool
    tables, and what joins bools have bounds, by which blocks are found to be empty or full without looking into them.
    Anything else is allowed, and costs a look at every entry.

    Args:
        function: Returns a bool (or a number: not 0 means allowed) for one text, head, query and key.

    Raises:
        TraceError: It cannot be traced: as it does where a branch, a loop or `.item()` depends on a position; names the
            line.
    """
    graph, constants = trace_numbers(function, [torch.int64] * 4, "from_function", name_of_function(function))
    tables = tuple((key, _table(value)) for key, value in constants.items())
    return Function(name_of_function(function), code_of(graph), tables, graph, constants, forms_of(graph))


def _table(constant: Tensor) -> Table:
    """A table of a constant; of one that is not of integers, of its bits."""
    if constant.is_floating_point():
        constant = constant.double().view(torch.int64)
    return Table(constant.reshape(1) if constant.dim() == 0 else constant)
