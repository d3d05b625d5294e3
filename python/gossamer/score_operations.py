"""What operations of ATen, of a traced function of scores, are in a region of `tile.attention`."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch.fx import Graph, Node

from gossamer.errors import UnsupportedError
from gossamer.scalars import name_of
from gossamer.score_region import ARGUMENTS, ONE, Region, Scalar, Table, type_of


def region_of(graph: Graph, captured: dict[Node, tuple[str, int | None]], derives: bool) -> str:
    """The region of a traced function.

    Args:
        graph: Operations of ATen on (score, batch, head, query, key).
        captured: Nodes that programs are given: their types, and how many dimensions they have; None: a number.
        derives: Whether with the derivative.

    Raises:
        UnsupportedError: An operation that regions do not have, or, with the derivative, one that has none; names it
            and its line.
    """
    region = Region(derives)
    values: dict[Node, Any] = {}
    given = iter(ARGUMENTS)
    for node in graph.nodes:
        if node.op == "placeholder":
            values[node] = Scalar(*next(given))
            if derives and values[node].type == "f32":
                values[node] = replace(values[node], slope=ONE)
    for node, (type, rank) in captured.items():
        if rank is None:
            values[node] = region.argument(type)
            continue
        memory = region.argument(f"memref<?x{type}>")
        sizes = tuple((region.argument("i32"), region.argument("i32")) for _ in range(rank))
        table = Table(memory, type, sizes)
        values[node] = region.look_up(table, ()) if rank == 0 else table
    for node in graph.nodes:
        if node.op == "output":
            result = torch.fx.map_arg(node.args[0], values.__getitem__)
            return region.text(region.as_type(result, "f32"))
        if node not in values and node.op == "call_function" and all(x in values for x in node.all_input_nodes):
            region.node = node
            values[node] = _operation(region, node, values)
    raise AssertionError("a graph has an output")


def _operation(region: Region, node: Node, values: dict[Node, Any]) -> Any:
    name, type = name_of(node), type_of(node.meta["val"].dtype)
    arguments: Any = torch.fx.map_arg(list(node.args), values.__getitem__)
    rule = (_FLOATS if type == "f32" else _INTEGERS).get(name, _ANY.get(name))
    allowed = {"dtype", "device", "layout", "pin_memory", "rounding_mode", "alpha", "min", "max", "non_blocking"}
    if rule is None or not set(node.kwargs) <= allowed or node.kwargs.get("alpha", 1) != 1:
        raise _unknown(node, type)
    if rule in (_FLOATS.get(name), _INTEGERS.get(name)):
        wanted = "i32" if type == "i1" and name not in _BOOLS else type
        arguments = [x if x is None else region.as_type(x, wanted) for x in arguments]
    return rule(region, node, *arguments)


def _unknown(node: Node, type: str) -> UnsupportedError:
    return UnsupportedError(f"score_mod has no {name_of(node)} of {type}, at {node.stack_trace}")


def _where(r: Region, node: Node, condition: Any, x: Any, y: Any) -> Scalar:
    type = type_of(node.meta["val"].dtype)
    return r.select(r.as_type(condition, "i1"), r.as_type(x, type), r.as_type(y, type))


def _comparison(how: str) -> Callable[..., Scalar]:
    def compared(r: Region, node: Node, x: Any, y: Any) -> Scalar:
        types = {v.type if isinstance(v, Scalar) else "f32" if isinstance(v, float) else "i1" for v in (x, y)}
        type = "f32" if "f32" in types else "i32"
        return r.compare(how, r.as_type(x, type), r.as_type(y, type))

    return compared


def _clamped(r: Region, node: Node, x: Scalar, low: Any = None, high: Any = None) -> Scalar:
    low, high = node.kwargs.get("min", low), node.kwargs.get("max", high)
    for bound, how, name in ((low, "lt", "maxsi"), (high, "gt", "minsi")):
        if bound is not None:
            limit = r.as_type(bound, x.type)
            x = r.integer(name, x, limit) if x.type == "i32" else r.select(r.compare(how, x, limit), limit, x)
    return x


def _extreme(how: str) -> Callable[..., Scalar]:
    """The first where neither is `how` the other; a NaN stays one."""

    def chosen(r: Region, node: Node, x: Scalar, y: Scalar) -> Scalar:
        condition = r.compare(how, x, y)
        if x.type == "f32":
            is_nan = r.op(f"arith.cmpf uno, {x.name}, {x.name}", "i1", "f32")
            condition = r.integer("ori", condition, is_nan)
        return r.select(condition, x, y)

    return chosen


def _absolute(r: Region, node: Node, x: Scalar) -> Scalar:
    if x.type == "i32":
        return r.integer("maxsi", x, r.integer("subi", r.constant(0, "i32"), x))
    zero, one = r.constant(0.0, "f32"), r.constant(1.0, "f32")

    def sign(_: Scalar) -> Scalar:
        positive = r.select(r.compare("gt", replace(x, slope=None), zero), one, zero)
        return r.select(r.compare("lt", replace(x, slope=None), zero), r.constant(-1.0, "f32"), positive)

    return r.function("absf", x, sign)


def _quotient(r: Region, node: Node, x: Scalar, y: Scalar) -> Scalar:
    if node.kwargs.get("rounding_mode") is not None:
        raise _unknown(node, "f32")
    divisor = node.args[1]
    if isinstance(divisor, int | float) and divisor:
        return r.times(x, 1 / divisor)
    return r.div(x, y)


def _rounded_quotient(r: Region, node: Node, x: Scalar, y: Scalar) -> Scalar:
    return r.integer("divsi", x, y) if node.kwargs.get("rounding_mode") == "trunc" else r.floor_division(x, y)[0]


def _power(r: Region, node: Node, x: Scalar, _: Any) -> Scalar:
    exponent = node.args[1]
    if exponent == 0.5:
        return r.sqrt(x)
    if exponent not in (1, 2, 3, 4):
        raise UnsupportedError(
            f"score_mod takes powers of 0.5, 1, 2, 3 and 4, not {exponent}, at {node.stack_trace}; "
            f"torch.exp2(y * torch.log2(x)) is any other"
        )
    result = x
    for _ in range(int(exponent) - 1):  # type: ignore[arg-type]
        result = r.mul(result, x)
    return result


def _look_up(r: Region, node: Node, table: Any, index: list[Any]) -> Scalar:
    if not isinstance(table, Table) or len(index) != len(table.sizes):
        raise UnsupportedError(f"score_mod looks up one number of a tensor, not {node}, at {node.stack_trace}")
    if any(isinstance(i, Scalar) and i.type != "i32" for i in index):
        raise UnsupportedError(f"score_mod looks up by integers, at {node.stack_trace}")
    found = r.look_up(table, [r.as_type(i, "i32") for i in index])
    return r.as_type(found, type_of(node.meta["val"].dtype))


def _filled(r: Region, node: Node, *arguments: Any) -> Scalar:
    return r.as_type(arguments[-1], type_of(node.meta["val"].dtype))


def _converted(r: Region, node: Node, x: Any, *_: Any) -> Any:
    return x if isinstance(x, Table) else r.as_type(x, type_of(node.meta["val"].dtype))


def _detached(r: Region, node: Node, x: Any) -> Any:
    return replace(x, slope=None) if isinstance(x, Scalar) else x


def _plainly(f: Callable[..., Scalar]) -> Callable[..., Scalar]:
    return lambda r, node, *arguments: f(r, *arguments)


# Of f32: operands are converted before.
_FLOATS: dict[str, Callable[..., Scalar]] = {
    "add": _plainly(Region.add),
    "sub": _plainly(Region.sub),
    "rsub": _plainly(lambda r, x, y: r.sub(y, x)),
    "mul": _plainly(Region.mul),
    "div": _quotient,
    "reciprocal": _plainly(lambda r, x: r.div(r.constant(1.0, "f32"), x)),
    "neg": _plainly(Region.neg),
    "abs": _absolute,
    "exp": _plainly(Region.exp),
    "exp2": _plainly(Region.exp2),
    "log": _plainly(lambda r, x: r.times(r.log2(x), math.log(2))),
    "log2": _plainly(Region.log2),
    "sqrt": _plainly(Region.sqrt),
    "rsqrt": _plainly(lambda r, x: r.div(r.constant(1.0, "f32"), r.sqrt(x))),
    "tanh": _plainly(Region.tanh),
    "sigmoid": _plainly(Region.sigmoid),
    "silu": _plainly(lambda r, x: r.mul(x, r.sigmoid(x))),
    "relu": _plainly(lambda r, x: r.select(r.compare("gt", x, r.constant(0.0, "f32")), x, r.constant(0.0, "f32"))),
    "pow": _power,
    "square": _plainly(lambda r, x: r.mul(x, x)),
    "minimum": _extreme("lt"),
    "maximum": _extreme("gt"),
    "clamp": _clamped,
    "clamp_min": _clamped,
    "clamp_max": lambda r, node, x, high: _clamped(r, node, x, None, high),
}


def _integers(name: str) -> Callable[..., Scalar]:
    return _plainly(lambda r, x, y: r.integer(name, x, y))


# Of i32 and i1 likewise.
_BOOLS = ("bitwise_and", "bitwise_or", "bitwise_xor", "bitwise_not", "logical_and", "logical_or", "logical_xor",
          "logical_not")  # fmt: skip
_INTEGERS: dict[str, Callable[..., Scalar]] = {
    "add": _integers("addi"),
    "sub": _integers("subi"),
    "rsub": _plainly(lambda r, x, y: r.integer("subi", y, x)),
    "mul": _integers("muli"),
    "neg": _plainly(lambda r, x: r.integer("subi", r.constant(0, "i32"), x)),
    "abs": _absolute,
    "div": _rounded_quotient,
    "floor_divide": _plainly(lambda r, x, y: r.floor_division(x, y)[0]),
    "remainder": _plainly(lambda r, x, y: r.floor_division(x, y)[1]),
    "minimum": _integers("minsi"),
    "maximum": _integers("maxsi"),
    "clamp": _clamped,
    "clamp_min": _clamped,
    "clamp_max": lambda r, node, x, high: _clamped(r, node, x, None, high),
    "bitwise_and": _integers("andi"),
    "bitwise_or": _integers("ori"),
    "bitwise_xor": _integers("xori"),
    "bitwise_not": _plainly(lambda r, x: r.integer("xori", x, r.constant(-1 if x.type == "i32" else 1, x.type))),
    "logical_and": _integers("andi"),
    "logical_or": _integers("ori"),
    "logical_xor": _integers("xori"),
    "logical_not": _plainly(lambda r, x: r.integer("xori", x, r.constant(1, "i1"))),
}
# Operands as they are.
_ANY: dict[str, Callable[..., Any]] = {
    "where": _where,
    **{name: _comparison(name) for name in ("lt", "le", "gt", "ge", "eq", "ne")},
    "index": _look_up,
    "scalar_tensor": _filled,
    "full": _filled,
    "_to_copy": _converted,
    "clone": _converted,
    "alias": _converted,
    "detach": _detached,
}
