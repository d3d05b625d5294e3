"""Conditions on the numbers of a query and a key, traced to operations that a kernel can be written of.

Numbers in them are no part of a formula, so that one kernel does for all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from gossamer.conversion.cuda.writer import WARP, GpuWriter
from gossamer.conversion.writer import Value

# An operation and the places of its operands among the steps; of "number" which it is.
Step = tuple[str, tuple[int, ...]]
_QUERY, _KEY = 0, 1
_TOGETHER = 8  # keys whose bits are put together before they are shifted to their place
_COMPARISONS = {"lt": "slt", "le": "sle", "gt": "sgt", "ge": "sge", "eq": "eq", "ne": "ne"}
_BINARY = {
    "add": "addi", "sub": "subi", "min": "minsi", "max": "maxsi", "xor": "xori", "and": "andi",
    "or": "ori", "div": "floordivsi",
}  # fmt: skip


@dataclass(frozen=True)
class Formula:
    """A traced condition: the first steps are the query and the key, the last one is whether it holds.

    Called as a `Word` of `kernels.entries`, it writes its statements for 32 keys. Numbers are of 32 bits.
    """

    steps: tuple[Step, ...]
    numbers: int

    @property
    def names(self) -> list[str]:
        """Of its numbers, for a kernel."""
        return [f"number{n}" for n in range(self.numbers)]

    def __call__(self, w: GpuWriter, matrix: Value, query: Value, first: Value) -> Value:
        """The bits of the keys from `first` on."""

        def narrow(number: Value) -> Value:
            return w.value(f"arith.index_cast {number} : index to i32")

        numbers, row, begin = [narrow(w.number(name)) for name in self.names], narrow(query), narrow(first)

        def holds(key: Value) -> Value:
            values = [row, key]
            for name, operands in self.steps[2:]:
                values.append(_write(w, name, operands, values, numbers))
            return values[-1]

        def some_bits(place: Value, carried: list[Value]) -> list[Value]:
            place, none = narrow(place), w.constant(0, "i32")
            key, bits = w.binary("addi", begin, place, "i32"), none
            for n in range(_TOGETHER):
                is_seen = holds(w.binary("addi", key, w.constant(n, "i32"), "i32"))
                bit = w.select(is_seen, w.constant(1 << n, "i32"), none, "i32")
                bits = w.binary("ori", bits, bit, "i32")
            return [w.binary("ori", carried[0], w.binary("shli", bits, place, "i32"), "i32")]

        return w.fold_all(w.constant(0), w.constant(WARP), _TOGETHER, "i32", [w.constant(0, "i32")], some_bits)[0]


def _write(w: GpuWriter, name: str, operands: tuple[int, ...], values: list[Value], numbers: list[Value]) -> Value:
    if name == "number":
        return numbers[operands[0]]
    if name in ("true", "false"):
        return w.constant(int(name == "true"), "i1")
    given = [values[operand] for operand in operands]
    if name in _COMPARISONS:
        return w.compare(_COMPARISONS[name], given[0], given[1], "i32")
    if name in ("both", "either", "differ"):
        return w.binary({"both": "andi", "either": "ori", "differ": "xori"}[name], given[0], given[1], "i1")
    if name == "rem":
        quotient = w.binary("floordivsi", given[0], given[1], "i32")
        return w.binary("subi", given[0], w.binary("muli", quotient, given[1], "i32"), "i32")
    return w.binary(_BINARY[name], given[0], given[1], "i32")


class _Trace:
    """The steps so far."""

    def __init__(self) -> None:
        self.steps: list[Step] = [("query", ()), ("key", ())]
        self.numbers: list[int] = []

    def number(self, value: int) -> int:
        self.numbers.append(value)
        return self.step("number", len(self.numbers) - 1)

    def step(self, name: str, *operands: int) -> int:
        self.steps.append((name, operands))
        return len(self.steps) - 1


class _Untraceable(Exception):
    """An operation that formulas do not have."""


@dataclass(frozen=True, eq=False)
class Symbol:
    """A number or a condition of a trace, which stands for a tensor of them."""

    trace: _Trace
    place: int
    is_condition: bool = False

    def _operand(self, other: Any) -> int:
        if isinstance(other, Symbol) and other.is_condition == self.is_condition:
            return other.place
        if isinstance(other, bool) and self.is_condition:
            return self.trace.step("true" if other else "false")
        if isinstance(other, int) and not isinstance(other, bool) and not self.is_condition:
            if not -(1 << 31) <= other < 1 << 31:
                raise _Untraceable
            return self.trace.number(other)
        raise _Untraceable

    def _number(self, name: str, other: Any, *, turned: bool = False) -> Symbol:
        """An operation on two numbers, or conditions, which gives one."""
        operands = self.place, self._operand(other)
        return Symbol(self.trace, self.trace.step(name, *(operands[::-1] if turned else operands)), self.is_condition)

    def _arithmetic(self, name: str, other: Any, *, turned: bool = False) -> Symbol:
        if self.is_condition:
            raise _Untraceable
        return self._number(name, other, turned=turned)

    def _compared(self, name: str, other: Any) -> Symbol:
        if self.is_condition:
            raise _Untraceable
        return Symbol(self.trace, self.trace.step(name, self.place, self._operand(other)), True)

    def _by_positive(self, name: str, other: Any) -> Symbol:
        if not isinstance(other, int) or isinstance(other, bool) or other < 1:
            raise _Untraceable
        return self._arithmetic(name, other)

    def __add__(self, other: Any) -> Symbol:
        return self._arithmetic("add", other)

    __radd__ = __add__

    def __sub__(self, other: Any) -> Symbol:
        return self._arithmetic("sub", other)

    def __rsub__(self, other: Any) -> Symbol:
        return self._arithmetic("sub", other, turned=True)

    def __neg__(self) -> Symbol:
        return 0 - self

    def __abs__(self) -> Symbol:
        return self._arithmetic("max", -self)

    def __floordiv__(self, other: Any) -> Symbol:
        return self._by_positive("div", other)

    def __mod__(self, other: Any) -> Symbol:
        return self._by_positive("rem", other)

    def clamp(self, low: int, high: int) -> Symbol:
        """As of a tensor."""
        return self._arithmetic("max", low)._arithmetic("min", high)

    def __lt__(self, other: Any) -> Symbol:
        return self._compared("lt", other)

    def __le__(self, other: Any) -> Symbol:
        return self._compared("le", other)

    def __gt__(self, other: Any) -> Symbol:
        return self._compared("gt", other)

    def __ge__(self, other: Any) -> Symbol:
        return self._compared("ge", other)

    def __eq__(self, other: object) -> Symbol:  # type: ignore[override]
        return self._compared("eq", other)

    def __ne__(self, other: object) -> Symbol:  # type: ignore[override]
        return self._compared("ne", other)

    def __and__(self, other: Any) -> Symbol:
        return self._number("both" if self.is_condition else "and", other)

    def __or__(self, other: Any) -> Symbol:
        return self._number("either" if self.is_condition else "or", other)

    def __xor__(self, other: Any) -> Symbol:
        return self._number("differ" if self.is_condition else "xor", other)

    def __invert__(self) -> Symbol:
        return self ^ True if self.is_condition else -1 - self

    def __bool__(self) -> bool:
        raise _Untraceable

    @classmethod
    def __torch_function__(cls, function: Any, types: Any, arguments: Sequence[Any] = (), options: Any = None) -> Any:
        if function is torch.ones_like:
            of = arguments[0]
            return Symbol(of.trace, of.trace.step("true"), True)
        raise _Untraceable


def traced(condition: Callable[[Symbol, Symbol], Any]) -> tuple[Formula, tuple[int, ...]] | None:
    """The formula of a condition on a query and a key, and its numbers; None: it does something else.

    Products of positions are something else, too: they may not fit 32 bits.
    """
    trace = _Trace()
    try:
        holds = condition(Symbol(trace, _QUERY), Symbol(trace, _KEY))
    except (_Untraceable, AttributeError, TypeError):  # of tensors, which symbols are not in all
        return None
    if not isinstance(holds, Symbol) or not holds.is_condition:
        return None
    if holds.place != len(trace.steps) - 1:
        trace.step("both", holds.place, holds.place)
    return Formula(tuple(trace.steps), len(trace.numbers)), tuple(trace.numbers)
