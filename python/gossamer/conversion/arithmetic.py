"""Traced functions of single numbers, written as statements of a kernel."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.fx import Graph, Node

from gossamer.conversion.writer import Value, Writer
from gossamer.scalars import name_of

# How MLIR calls the numbers that kernels compute with.
TYPES = {
    torch.bool: "i1",
    torch.int8: "i8",
    torch.int16: "i16",
    torch.int32: "i32",
    torch.int64: "i64",
    torch.float16: "f16",
    torch.bfloat16: "bf16",
    torch.float32: "f32",
    torch.float64: "f64",
}
_HALF = (torch.float16, torch.bfloat16)


class NotWritten(Exception):
    """An operation that kernels do not have; says which."""


def check_graph(graph: Graph) -> None:
    """Raises NotWritten if an operation of the graph is none that `write_graph` knows."""
    write_graph(Writer([]), graph, ["%argument"] * sum(node.op == "placeholder" for node in graph.nodes), _Anything())


class _Anything(dict[str, Value]):
    def __missing__(self, name: str) -> Value:
        return "%constant"


def write_graph(w: Writer, graph: Graph, arguments: Sequence[Value], constants: Mapping[str, Value]) -> Value:
    """Writes the operations of a graph that `trace_numbers` made; rounding is PyTorch's.

    Args:
        w: Where to write.
        graph: The graph.
        arguments: Their values, of the types of the graph's arguments.
        constants: The values of tensors without dimensions that it looks into, by name.

    Returns:
        Whether the result is not 0 (i1).

    Raises:
        NotWritten: An operation is not known, or a tensor has dimensions.
    """
    writer = _GraphWriter(w)
    given = iter(arguments)
    for node in graph.nodes:
        if node.op == "placeholder":
            writer.values[node] = next(given)
        elif node.op == "get_attr":
            if node.meta["val"].dim() or node.meta["val"].dtype not in TYPES:
                raise NotWritten("look-up in a table")
            writer.values[node] = constants[node.target]
        elif node.op == "call_function":
            writer.values[node] = writer.node(node)
        else:
            return writer.operand(node.args[0], torch.bool)
    raise AssertionError("a graph ends with its output")


class _GraphWriter:
    def __init__(self, w: Writer):
        self.w = w
        self.values: dict[Node, Value] = {}

    def node(self, node: Node) -> Value:
        """Writes one operation."""
        name = name_of(node)
        if node.meta["val"].dtype not in TYPES or any(
            isinstance(arg, Node) and arg.meta["val"].dtype not in TYPES for arg in node.args
        ):
            raise NotWritten(f"{name} of {node.meta['val'].dtype}")
        operation = _OPERATIONS.get(name)
        if operation is None or node.kwargs.get("alpha", 1) != 1:
            raise NotWritten(name)
        return operation(self, node)

    def operand(self, source: Any, dtype: torch.dtype) -> Value:
        """The value of an operand, a node or a number, as a dtype."""
        if isinstance(source, Node):
            return self.cast(self.values[source], source.meta["val"].dtype, dtype)
        if not isinstance(source, bool | int | float):
            raise NotWritten(f"operand {source!r}")
        return self.literal(source, dtype)

    def literal(self, number: bool | int | float, dtype: torch.dtype) -> Value:
        """A constant."""
        if dtype == torch.bool:
            return self.w.value(f"arith.constant {'true' if number else 'false'}")
        if not dtype.is_floating_point:
            return self.w.constant(int(number), TYPES[dtype])
        if dtype in _HALF:
            return self.cast(self.literal(number, torch.float32), torch.float32, dtype)
        rounded = float(torch.tensor(number, dtype=dtype))  # a float32 that overflows is infinite
        packed = struct.pack(">f" if dtype == torch.float32 else ">d", rounded)
        return self.w.value(f"arith.constant 0x{packed.hex()} : {TYPES[dtype]}")

    def cast(self, value: Value, old: torch.dtype, new: torch.dtype) -> Value:
        """A value as another dtype."""
        if old == new:
            return value
        source, target = TYPES[old], TYPES[new]
        if new == torch.bool:
            zero = self.literal(0, old)
            test = "cmpf une" if old.is_floating_point else "cmpi ne"
            return self.w.value(f"arith.{test}, {value}, {zero} : {source}")
        if old in _HALF and new != torch.float32:
            return self.cast(self.cast(value, old, torch.float32), torch.float32, new)
        if new in _HALF and old not in (torch.float32, torch.float64):
            return self.cast(self.cast(value, old, torch.float32), torch.float32, new)
        if old.is_floating_point and new.is_floating_point:
            name = "extf" if new.itemsize > old.itemsize else "truncf"
        elif old.is_floating_point:
            name = "fptosi"
        elif new.is_floating_point:
            name = "uitofp" if old == torch.bool else "sitofp"
        elif old == torch.bool:
            name = "extui"
        else:
            name = "extsi" if new.itemsize > old.itemsize else "trunci"
        return self.w.value(f"arith.{name} {value} : {source} to {target}")

    def computed(self, node: Node, sources: Sequence[Any], write: Callable[..., Value]) -> Value:
        """An operation on operands of the dtype of its result, those of 16 bits in float32."""
        dtype = node.meta["val"].dtype
        wide = torch.float32 if dtype in _HALF else dtype
        return self.cast(write(*(self.operand(source, wide) for source in sources), wide), wide, dtype)

    def binary(self, floats: str, integers: str, node: Node, a: Any, b: Any) -> Value:
        """An operation that MLIR has under two names."""
        if node.meta["val"].dtype == torch.bool and integers not in ("andi", "ori", "xori"):
            raise NotWritten(f"{name_of(node)} of bools")
        return self.computed(
            node, [a, b], lambda x, y, t: self.w.binary(floats if t.is_floating_point else integers, x, y, TYPES[t])
        )

    def unary(self, name: str, node: Node) -> Value:
        """A function of math on floats."""
        if not node.meta["val"].dtype.is_floating_point:
            raise NotWritten(f"{name_of(node)} of integers")
        return self.computed(node, node.args[:1], lambda x, t: self.w.value(f"math.{name} {x} : {TYPES[t]}"))


_Operation = Callable[[_GraphWriter, Node], Value]


def _pair(floats: str, integers: str) -> _Operation:
    return lambda g, node: g.binary(floats, integers, node, node.args[0], node.args[1])


def _function(name: str) -> _Operation:
    return lambda g, node: g.unary(name, node)


def _comparison(floats: str, integers: str) -> _Operation:
    def write(g: _GraphWriter, node: Node) -> Value:
        a, b = node.args[:2]
        sides: list[Any] = [x.meta["val"] if isinstance(x, Node) else x for x in (a, b)]
        dtype = torch.result_type(sides[0], sides[1])
        if dtype not in TYPES:
            raise NotWritten(f"comparison of {dtype}")
        if dtype == torch.bool:  # as numbers: True is greater
            dtype = torch.int8
        x, y = g.operand(a, dtype), g.operand(b, dtype)
        test = f"cmpf {floats}" if dtype.is_floating_point else f"cmpi {integers}"
        return g.w.value(f"arith.{test}, {x}, {y} : {TYPES[dtype]}")

    return write


def _logical(name: str) -> _Operation:
    def write(g: _GraphWriter, node: Node) -> Value:
        x, y = (g.operand(source, torch.bool) for source in node.args[:2])
        return g.w.binary(name, x, y, "i1")

    return write


def _not(g: _GraphWriter, node: Node) -> Value:
    return g.w.binary("xori", g.operand(node.args[0], torch.bool), g.literal(True, torch.bool), "i1")


def _inverse(g: _GraphWriter, node: Node) -> Value:
    if node.meta["val"].dtype == torch.bool:
        return _not(g, node)
    return g.binary("", "xori", node, node.args[0], -1)


def _shift(name: str) -> _Operation:
    def write(g: _GraphWriter, node: Node) -> Value:
        bits = node.args[1]
        if not isinstance(bits, int) or not 0 <= bits < node.meta["val"].dtype.itemsize * 8:
            raise NotWritten("shift by what is no constant, or too large")
        return g.binary("", name, node, node.args[0], bits)

    return write


def _negative(g: _GraphWriter, node: Node) -> Value:
    if node.meta["val"].dtype.is_floating_point:
        return g.computed(node, node.args[:1], lambda x, t: g.w.value(f"arith.negf {x} : {TYPES[t]}"))
    return g.binary("", "subi", node, 0, node.args[0])


def _absolute(g: _GraphWriter, node: Node) -> Value:
    floats = node.meta["val"].dtype.is_floating_point
    return g.computed(node, node.args[:1], lambda x, t: g.w.value(f"math.abs{'f' if floats else 'i'} {x} : {TYPES[t]}"))


def _divisor(node: Node) -> int:
    """A divisor that no quotient of integers fails for."""
    divisor = node.args[1]
    if isinstance(divisor, bool) or not isinstance(divisor, int) or divisor < 1:
        raise NotWritten(f"{name_of(node)} by what is no positive constant")
    return divisor


def _quotient(g: _GraphWriter, node: Node) -> Value:
    mode = node.kwargs.get("rounding_mode", "floor" if name_of(node) == "floor_divide" else None)
    if mode is None:
        return g.binary("divf", "", node, node.args[0], node.args[1])
    if node.meta["val"].dtype.is_floating_point:
        raise NotWritten("quotient of floats that is rounded to an integer")
    return g.binary("", "floordivsi" if mode == "floor" else "divsi", node, node.args[0], _divisor(node))


def _remainder(g: _GraphWriter, node: Node) -> Value:
    if node.meta["val"].dtype.is_floating_point:
        raise NotWritten("remainder of floats")
    divisor = _divisor(node)

    def write(x: Value, by: Value, dtype: torch.dtype) -> Value:
        type = TYPES[dtype]
        rest = g.w.binary("remsi", x, by, type)
        below = g.w.compare("slt", rest, g.literal(0, dtype), type)
        return g.w.value(f"arith.select {below}, {g.w.binary('addi', rest, by, type)}, {rest} : {type}")

    return g.computed(node, [node.args[0], divisor], write)


def _clamp(g: _GraphWriter, node: Node) -> Value:
    low = node.args[1] if len(node.args) > 1 else node.kwargs.get("min")
    high = node.args[2] if len(node.args) > 2 else node.kwargs.get("max")

    def write(x: Value, dtype: torch.dtype) -> Value:
        for limit, floats, integers in ((low, "maximumf", "maxsi"), (high, "minimumf", "minsi")):
            if limit is not None:
                name = floats if dtype.is_floating_point else integers
                x = g.w.binary(name, x, g.operand(limit, dtype), TYPES[dtype])
        return x

    return g.computed(node, node.args[:1], write)


def _power(g: _GraphWriter, node: Node) -> Value:
    if node.args[1] != 2:
        raise NotWritten("power other than the square")
    return g.binary("mulf", "muli", node, node.args[0], node.args[0])


def _where(g: _GraphWriter, node: Node) -> Value:
    condition, x, y = node.args
    dtype = node.meta["val"].dtype
    chosen = g.operand(condition, torch.bool), g.operand(x, dtype), g.operand(y, dtype)
    return g.w.value(f"arith.select {chosen[0]}, {chosen[1]}, {chosen[2]} : {TYPES[dtype]}")


def _same(g: _GraphWriter, node: Node) -> Value:
    return g.operand(node.args[0], node.meta["val"].dtype)


def _filled(g: _GraphWriter, node: Node) -> Value:
    return g.operand(node.args[-1], node.meta["val"].dtype)  # after the shape, where there is one


def _is_nan(g: _GraphWriter, node: Node) -> Value:
    source = node.args[0]
    assert isinstance(source, Node)
    dtype = source.meta["val"].dtype
    if not dtype.is_floating_point:
        return g.literal(False, torch.bool)
    wide = torch.float32 if dtype in _HALF else dtype
    x = g.operand(source, wide)
    return g.w.value(f"arith.cmpf uno, {x}, {x} : {TYPES[wide]}")


_OPERATIONS: dict[str, _Operation] = {
    "add": _pair("addf", "addi"),
    "sub": _pair("subf", "subi"),
    "rsub": lambda g, node: g.binary("subf", "subi", node, node.args[1], node.args[0]),
    "mul": _pair("mulf", "muli"),
    "div": _quotient,
    "floor_divide": _quotient,
    "remainder": _remainder,
    "neg": _negative,
    "abs": _absolute,
    "minimum": _pair("minimumf", "minsi"),
    "maximum": _pair("maximumf", "maxsi"),
    "clamp": _clamp,
    "clamp_min": _pair("maximumf", "maxsi"),
    "clamp_max": _pair("minimumf", "minsi"),
    "pow": _power,
    **{name: _comparison(f"o{name}", f"s{name}") for name in ("lt", "le", "gt", "ge")},
    "eq": _comparison("oeq", "eq"),
    "ne": _comparison("une", "ne"),
    "logical_and": _logical("andi"),
    "logical_or": _logical("ori"),
    "logical_xor": _logical("xori"),
    "logical_not": _not,
    **dict.fromkeys(("bitwise_and", "__and__"), _pair("", "andi")),
    **dict.fromkeys(("bitwise_or", "__or__"), _pair("", "ori")),
    **dict.fromkeys(("bitwise_xor", "__xor__"), _pair("", "xori")),
    "bitwise_not": _inverse,
    **dict.fromkeys(("bitwise_left_shift", "__lshift__"), _shift("shli")),
    **dict.fromkeys(("bitwise_right_shift", "__rshift__"), _shift("shrsi")),
    "where": _where,
    "isnan": _is_nan,
    **{name: _function(name) for name in ("exp", "log", "sqrt", "sin", "cos", "tanh", "floor", "ceil", "trunc")},
    **dict.fromkeys(("_to_copy", "lift_fresh_copy", "clone", "detach", "alias"), _same),
    "scalar_tensor": _filled,
    "full": _filled,
}
