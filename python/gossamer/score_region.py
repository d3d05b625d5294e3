"""Regions of `tile.attention` that change scores, written with their derivative.

Numbers are f32, i32 and i1. Each knows its derivative with respect to the score, of which every operation makes that of
its result (forward mode).
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch.fx import Node

from gossamer.errors import UnsupportedError

_LOG2_E = 1.4426950408889634
ARGUMENTS = (("%score", "f32"), ("%batch", "i32"), ("%head", "i32"), ("%query", "i32"), ("%key", "i32"))


@dataclass(frozen=True)
class Scalar:
    """A number of a region.

    Attributes:
        name, type: In MLIR.
        slope: Its derivative with respect to the score; None: 0, and the score's own: 1.
    """

    name: str
    type: str
    slope: Scalar | None = None


# The derivative of the score: a factor that is not multiplied by.
ONE = Scalar("1", "f32")
Operand = Scalar | int | float | bool


def type_of(dtype: torch.dtype) -> str:
    return "i1" if dtype == torch.bool else "f32" if dtype.is_floating_point else "i32"


class Region:
    """Writes a region; `derives`: with the derivative, where it is not 1."""

    def __init__(self, derives: bool):
        self.derives = derives
        self.node: Node | None = None
        self._arguments = list(ARGUMENTS)
        self._lines: list[str] = []
        self._constants: dict[str, Scalar] = {}

    def argument(self, type: str) -> Scalar:
        """What a program is given, behind the score and its place."""
        self._arguments.append((f"%c{len(self._arguments)}", type))
        return Scalar(*self._arguments[-1])

    def op(self, text: str, type: str, written: str = "") -> Scalar:
        """The result of an operation; `written` is what it says of types, where that is not the result's."""
        name = f"%{len(self._lines)}"
        self._lines.append(f"{name} = {text} : {written or type}")
        return Scalar(name, type)

    def text(self, result: Scalar) -> str:
        """The block that gives a result."""
        results = [result.name]
        if self.derives and result.slope is not ONE:
            results.append((result.slope or self.constant(0.0, "f32")).name)
        arguments = ", ".join(f"{name}: {type}" for name, type in self._arguments)
        end = f"tile.yield {', '.join(results)} : {', '.join(['f32'] * len(results))}"
        return "\n".join([f"^bb0({arguments}):", *self._lines, end])

    def constant(self, value: float, type: str) -> Scalar:
        text = str(bool(value)).lower() if type == "i1" else str(int(value)) if type == "i32" else _bits(value)
        key = f"{text} : {type}"
        if key not in self._constants:
            self._constants[key] = self.op(f"arith.constant {text}", type)
        return self._constants[key]

    def as_type(self, x: Operand, type: str) -> Scalar:
        """A number, converted."""
        if not isinstance(x, Scalar):
            return self.constant(x, type)
        if x.type == type:
            return x
        if type == "i1":
            if x.type == "f32":
                return self.op(f"arith.cmpf une, {x.name}, {self.constant(0, 'f32').name}", "i1", "f32")
            return self.op(f"arith.cmpi ne, {x.name}, {self.constant(0, 'i32').name}", "i1", "i32")
        if (x.type, type) == ("f32", "i32") and x.slope is not None:
            raise self.no_derivative("a conversion to an integer")
        how = {("i32", "f32"): "sitofp", ("i1", "f32"): "uitofp", ("i1", "i32"): "extui", ("f32", "i32"): "fptosi"}
        return self.op(f"arith.{how[x.type, type]} {x.name}", type, f"{x.type} to {type}")

    def no_derivative(self, what: str) -> UnsupportedError:
        assert self.node is not None
        return UnsupportedError(
            f"score_mod cannot be differentiated: {what} of the score has no derivative, at {self.node.stack_trace}; "
            f"gradients of attention need one (torch.no_grad() needs none)"
        )

    # Arithmetic on f32, with derivatives.

    def _binary(self, name: str, x: Scalar, y: Scalar, flags: str = "contract") -> Scalar:
        return self.op(f"arith.{name} {x.name}, {y.name} fastmath<{flags}>", "f32")

    def _sum(self, x: Scalar | None, y: Scalar | None) -> Scalar | None:
        if x is None or y is None:
            return x or y
        return self._binary("addf", self._plain(x), self._plain(y))

    def _plain(self, slope: Scalar) -> Scalar:
        return self.constant(1.0, "f32") if slope is ONE else slope

    def _scaled(self, slope: Scalar | None, factor: Callable[[], Scalar]) -> Scalar | None:
        """The chain rule; `factor` is asked for where it is needed."""
        if slope is None:
            return None
        return factor() if slope is ONE else self._binary("mulf", slope, factor())

    def add(self, x: Scalar, y: Scalar) -> Scalar:
        return replace(self._binary("addf", x, y), slope=self._sum(x.slope, y.slope))

    def neg(self, x: Scalar) -> Scalar:
        return self.mul(x, self.constant(-1.0, "f32"))

    def sub(self, x: Scalar, y: Scalar) -> Scalar:
        result = self._binary("subf", x, y)
        if y.slope is None:
            return replace(result, slope=x.slope)
        return replace(result, slope=self._sum(x.slope, self.neg(self._plain(y.slope))))

    def mul(self, x: Scalar, y: Scalar) -> Scalar:
        slope = self._sum(self._scaled(x.slope, lambda: y), self._scaled(y.slope, lambda: x))
        return replace(self._binary("mulf", x, y), slope=slope)

    def div(self, x: Scalar, y: Scalar) -> Scalar:
        result = self._binary("divf", x, y, "arcp")
        if x.slope is None and y.slope is None:
            return result
        above = x.slope
        if y.slope is not None:
            above = self._sum(above, self.neg(self._scaled(y.slope, lambda: result) or result))
        assert above is not None
        return replace(result, slope=self._binary("divf", self._plain(above), y, "arcp"))

    def function(self, name: str, x: Scalar, slope: Callable[[Scalar], Scalar]) -> Scalar:
        """One of math; `slope` gives its derivative of its result."""
        result = self.op(f"math.{name} {x.name}", "f32")
        return replace(result, slope=self._scaled(x.slope, lambda: slope(result)))

    def select(self, condition: Scalar, x: Scalar, y: Scalar) -> Scalar:
        result = self.op(f"arith.select {condition.name}, {x.name}, {y.name}", x.type)
        # Of -inf nothing comes, and so it needs no derivative.
        none = self._constants.get(f"{_bits(-math.inf)} : f32")
        if none in (x, y):
            return replace(result, slope=y.slope if x == none else x.slope)
        if x.slope is y.slope:
            return replace(result, slope=x.slope)
        slopes = [self.constant(0.0, "f32") if s is None else self._plain(s) for s in (x.slope, y.slope)]
        return replace(
            result, slope=self.op(f"arith.select {condition.name}, {slopes[0].name}, {slopes[1].name}", "f32")
        )

    def times(self, x: Scalar, factor: float) -> Scalar:
        return self.mul(x, self.constant(factor, "f32"))

    def exp(self, x: Scalar) -> Scalar:
        return self.exp2(self.times(x, _LOG2_E))

    def exp2(self, x: Scalar) -> Scalar:
        return self.function("exp2", x, lambda y: self.times(y, math.log(2)))

    def log2(self, x: Scalar) -> Scalar:
        return self.function("log2", x, lambda y: self.div(self.constant(_LOG2_E, "f32"), replace(x, slope=None)))

    def tanh(self, x: Scalar) -> Scalar:
        return self.function("tanh", x, lambda y: self.sub(self.constant(1.0, "f32"), self.mul(y, y)))

    def sqrt(self, x: Scalar) -> Scalar:
        return self.function("sqrt", x, lambda y: self.div(self.constant(0.5, "f32"), y))

    def sigmoid(self, x: Scalar) -> Scalar:
        """By tanh, which neither of its ends is too large for."""
        half = self.times(self.tanh(self.times(x, 0.5)), 0.5)
        return self.add(half, self.constant(0.5, "f32"))

    # On i32, where numbers have no derivative.

    def integer(self, name: str, x: Scalar, y: Scalar) -> Scalar:
        return self.op(f"arith.{name} {x.name}, {y.name}", x.type)

    def compare(self, how: str, x: Scalar, y: Scalar) -> Scalar:
        floats = x.type == "f32"
        unsigned = x.type == "i1"
        order = how if how in ("eq", "ne") else f"{'u' if unsigned else 's'}{how}"
        if floats:
            order = "une" if how == "ne" else f"o{how}"
        return self.op(f"arith.cmp{'f' if floats else 'i'} {order}, {x.name}, {y.name}", "i1", x.type)

    def floor_division(self, x: Scalar, y: Scalar) -> tuple[Scalar, Scalar]:
        """Quotient and remainder, which has the sign of the divisor."""
        quotient, rest = self.integer("divsi", x, y), self.integer("remsi", x, y)
        zero = self.constant(0, "i32")
        differs = self.op(f"arith.xori {rest.name}, {y.name}", "i32")
        is_below = self.integer("andi", self.compare("lt", differs, zero), self.compare("ne", rest, zero))
        less = self.integer("addi", quotient, self.constant(-1, "i32"))
        return self.select(is_below, less, quotient), self.select(is_below, self.integer("addi", rest, y), rest)

    def look_up(self, table: Table, index: Sequence[Scalar]) -> Scalar:
        """An entry; below 0 an index counts from the end, and beyond the table it is the nearest: what is masked is
        computed, too."""
        place = self.constant(0, "i32")
        for i, (size, stride) in zip(index, table.sizes, strict=True):
            zero = self.constant(0, "i32")
            is_place = (i.name, i.type) in ARGUMENTS
            wrapped = i if is_place else self.select(self.compare("lt", i, zero), self.integer("addi", i, size), i)
            last = self.integer("addi", size, self.constant(-1, "i32"))
            inside = self.integer("minsi", i if is_place else self.integer("maxsi", wrapped, zero), last)
            place = self.integer("addi", place, self.integer("muli", inside, stride))
        return self.op(f"tile.look_up {table.memory.name}[{place.name}]", table.type, table.memory.type)


@dataclass(frozen=True)
class Table:
    """A tensor that is looked into: its memory, and of each dimension the size and the stride."""

    memory: Scalar
    type: str
    sizes: tuple[tuple[Scalar, Scalar], ...]


def _bits(value: float) -> str:
    """Of an f32."""
    return f"0x{int.from_bytes(struct.pack('>f', value)):08X}"
