"""Traced expressions over positions: their bounds within rectangles, and what of a position they depend on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.fx import Graph, Node

from gossamer.patterns.interval import Interval, Truth, as_tensor, maximum, minimum, truth_of
from gossamer.patterns.tables import Table
from gossamer.scalars import name_of

# A product that is larger than this may not be exact; nothing is then said of it.
_LARGEST = 1 << 53


class _NoBounds(Exception):
    """An operation, or operands of one, of which no bounds are known."""


def bounds_of(
    graph: Graph, positions: tuple[Interval, ...], constants: dict[str, Tensor], tables: dict[str, Table]
) -> Any:
    """Returns the bounds of what a traced function gives, a `Truth`, an `Interval` or a number; None: not known.

    Args:
        graph: Operations of ATen on tensors without dimensions, of (b, h, q, k).
        positions: The rectangles.
        constants, tables: The tensors that it looks into, by name.
    """
    values: dict[Node, Any] = {}
    given = iter(positions)
    for node in graph.nodes:
        if node.op == "placeholder":
            values[node] = next(given)
        elif node.op == "get_attr":
            constant = constants[node.target]
            values[node] = constant.item() if constant.numel() == 1 and constant.dim() == 0 else tables[node.target]
        elif node.op == "call_function":
            values[node] = _bounds_of_node(node, values)
        else:
            return torch.fx.map_arg(node.args[0], values.__getitem__)
    return None


def _bounds_of_node(node: Node, values: dict[Node, Any]) -> Any:
    """Bounds of one operation; None: not known."""
    name = name_of(node)
    operation = _OPERATIONS.get(name)
    if operation is None or node.kwargs.get("alpha", 1) != 1:
        return None
    operands = [torch.fx.map_arg(source, values.__getitem__) for source in node.args]
    open_ = any(x is None and source is not None for x, source in zip(operands, node.args, strict=True))
    if open_ and name not in _OPEN_OPERANDS:
        return None
    try:
        result = operation(node, operands)
    except _NoBounds:
        return None
    if isinstance(result, Interval) and as_tensor(result.lo).is_floating_point():
        lo, hi = as_tensor(result.lo), as_tensor(result.hi)
        unknown = lo.isnan() | hi.isnan()
        return Interval(lo.masked_fill(unknown, -torch.inf), hi.masked_fill(unknown, torch.inf))
    return result


def _number(value: Any) -> Any:
    """An interval or a number, of a truth 0 or 1."""
    if isinstance(value, Truth):
        return Interval(value.every.long(), value.some.long())
    if isinstance(value, Interval | int | float):
        return value
    raise _NoBounds


def _is_bool(node: Any) -> bool:
    return isinstance(node, bool) or (isinstance(node, Node) and node.meta["val"].dtype == torch.bool)


def _pair(f: Callable[[Any, Any], Any]) -> Callable[[Node, list[Any]], Any]:
    """An operation on two numbers."""

    def bounds(node: Node, operands: list[Any]) -> Any:
        x, y = (_number(operand) for operand in operands[:2])
        return f(x if isinstance(x, Interval) else Interval.of(x), y)

    return bounds


def _product(node: Node, operands: list[Any]) -> Any:
    if _is_bool(node):
        return truth_of(operands[0]) & truth_of(operands[1])
    x, y = (Interval.of(_number(operand)) for operand in operands[:2])
    result = x * y
    lo, hi = as_tensor(result.lo), as_tensor(result.hi)
    if not lo.is_floating_point():
        widest = [as_tensor(b).double().abs().max() for b in (x.lo, x.hi, y.lo, y.hi) if as_tensor(b).numel()]
        if widest and float(max(widest[:2])) * float(max(widest[2:])) >= _LARGEST:
            return None
    return Interval(lo, hi)


def _positive_constant(value: Any) -> Any:
    """A divisor of which quotients have bounds."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
        raise _NoBounds
    return value


def _quotient(node: Node, operands: list[Any]) -> Any:
    x, divisor = Interval.of(_number(operands[0])), _positive_constant(operands[1])
    mode = node.kwargs.get("rounding_mode", "floor" if name_of(node) == "floor_divide" else None)
    if mode == "floor":
        return x // divisor
    if mode is None:
        lo, hi = as_tensor(x.lo) / divisor, as_tensor(x.hi) / divisor
        return Interval(lo, hi)
    lo, hi = (torch.div(as_tensor(bound), divisor, rounding_mode="trunc") for bound in (x.lo, x.hi))
    return Interval(lo, hi)


def _remainder(node: Node, operands: list[Any]) -> Any:
    x, modulus = Interval.of(_number(operands[0])), _positive_constant(operands[1])
    if as_tensor(x.lo).is_floating_point() or isinstance(modulus, float):
        raise _NoBounds
    return x % modulus


def _clamp(node: Node, operands: list[Any]) -> Any:
    result = Interval.of(_number(operands[0]))
    low = operands[1] if len(operands) > 1 else node.kwargs.get("min")
    high = operands[2] if len(operands) > 2 else node.kwargs.get("max")
    if low is not None:
        result = maximum(result, _number(low))
    return result if high is None else minimum(result, _number(high))


def _logical(f: Callable[[Truth, Truth], Truth]) -> Callable[[Node, list[Any]], Any]:
    """An operation on two bools; one of them may have no bounds."""

    def bounds(node: Node, operands: list[Any]) -> Any:
        if not all(_is_bool(source) for source in node.args[:2]):
            raise _NoBounds
        known = next((operand for operand in operands if isinstance(operand, Truth)), None)
        if known is None:
            raise _NoBounds
        x, y = (Truth.unknown(known.some) if operand is None else truth_of(operand) for operand in operands[:2])
        return f(x, y)

    return bounds


def _inverse(node: Node, operands: list[Any]) -> Any:
    if not _is_bool(node.args[0]):
        raise _NoBounds
    return ~truth_of(operands[0])


def _where(node: Node, operands: list[Any]) -> Any:
    condition, x, y = operands
    condition = truth_of(condition) if isinstance(condition, Truth | bool) else _number(condition) != 0
    if _is_bool(node):
        return (condition & truth_of(x)) | (~condition & truth_of(y))
    x, y = Interval.of(_number(x)), Interval.of(_number(y))
    either = Interval(minimum(x.lo, y.lo), maximum(x.hi, y.hi))

    def chosen(bound: str) -> Tensor:
        first, second, both = (as_tensor(getattr(value, bound)) for value in (x, y, either))
        return torch.where(condition.every, first, torch.where(condition.some, both, second))

    return Interval(chosen("lo"), chosen("hi"))


def _same(node: Node, operands: list[Any]) -> Any:
    """A copy, or a conversion: which never makes a larger number the smaller one."""
    value, dtype = operands[0], node.meta["val"].dtype
    if dtype == torch.bool:
        return value if isinstance(value, Truth) else Interval.of(_number(value)) != 0
    if isinstance(value, Table):
        return value
    value = Interval.of(_number(value))
    lo, hi = as_tensor(value.lo), as_tensor(value.hi)
    if dtype.is_floating_point:
        return Interval(lo.to(dtype), hi.to(dtype))
    limits = torch.iinfo(dtype)
    fits = (lo >= limits.min) & (hi <= limits.max)
    if lo.is_floating_point():
        fits &= (lo.abs() < _LARGEST) & (hi.abs() < _LARGEST)
    low, high = max(limits.min, -_LARGEST), min(limits.max, _LARGEST)
    if limits.bits == 64 and lo.is_floating_point() and not bool(fits.all()):
        raise _NoBounds
    return Interval(torch.where(fits, lo, low).to(torch.int64), torch.where(fits, hi, high).to(torch.int64))


def _look_up(node: Node, operands: list[Any]) -> Any:
    """table[i], or table[..., i] where what comes before is one number in a rectangle."""
    table, index = operands
    if not isinstance(table, Table) or len(index) != len(table.shape):
        raise _NoBounds
    source = node.args[0]
    assert isinstance(source, Node)
    if source.meta["val"].is_floating_point():
        raise _NoBounds
    indices = [Interval.of(_number(i)) for i in index]
    row: Any = 0
    for size, i in zip(table.shape[:-1], indices[:-1], strict=True):
        if i.lo is not i.hi:
            raise _NoBounds
        row = row * size + as_tensor(i.lo) % size  # below 0 it counts from the end
    last = indices[-1]
    below = as_tensor(last.hi) < 0
    last = Interval(*(torch.where(below, bound + table.shape[-1], bound) for bound in (last.lo, last.hi)))
    found = table.by_rows().at(last, Interval.of(row))
    ends = table.on(as_tensor(found.lo).device)
    beyond = as_tensor(last.lo) < 0
    found = Interval(torch.where(beyond, ends.min(), found.lo), torch.where(beyond, ends.max(), found.hi))
    return found == 1 if _is_bool(node) else found


def _filled(node: Node, operands: list[Any]) -> Any:
    """A constant."""
    value = operands[-1]  # after the shape, where there is one
    if not isinstance(value, bool | int | float):
        raise _NoBounds
    return truth_of(bool(value)) if _is_bool(node) else value


_OPERATIONS: dict[str, Callable[[Node, list[Any]], Any]] = {
    "add": _pair(lambda x, y: x + y),
    "sub": _pair(lambda x, y: x - y),
    "rsub": _pair(lambda x, y: Interval.of(y) - x),
    "mul": _product,
    "neg": lambda node, operands: -Interval.of(_number(operands[0])),
    "abs": lambda node, operands: abs(Interval.of(_number(operands[0]))),
    "floor_divide": _quotient,
    "div": _quotient,
    "remainder": _remainder,
    "minimum": _pair(minimum),
    "maximum": _pair(maximum),
    "clamp": _clamp,
    "clamp_min": lambda node, operands: maximum(Interval.of(_number(operands[0])), _number(operands[1])),
    "clamp_max": lambda node, operands: minimum(Interval.of(_number(operands[0])), _number(operands[1])),
    "lt": _pair(lambda x, y: x < y),
    "le": _pair(lambda x, y: x <= y),
    "gt": _pair(lambda x, y: x > y),
    "ge": _pair(lambda x, y: x >= y),
    "eq": _pair(lambda x, y: x == y),
    "ne": _pair(lambda x, y: x != y),
    "logical_and": _logical(lambda x, y: x & y),
    "logical_or": _logical(lambda x, y: x | y),
    "logical_xor": _logical(lambda x, y: x ^ y),
    "bitwise_and": _logical(lambda x, y: x & y),
    "bitwise_or": _logical(lambda x, y: x | y),
    "bitwise_xor": _logical(lambda x, y: x ^ y),
    "logical_not": _inverse,
    "bitwise_not": _inverse,
    "where": _where,
    "_to_copy": _same,
    "lift_fresh_copy": _same,
    "clone": _same,
    "detach": _same,
    "alias": _same,
    "index": _look_up,
    "scalar_tensor": _filled,
    "full": _filled,
}
# Of which one operand without bounds does not spoil the bounds.
_OPEN_OPERANDS = ("logical_and", "logical_or", "bitwise_and", "bitwise_or")

# Multiples of b, h, q and k, and a modulus or 0.
Form = tuple[int, ...]


def forms_of(graph: Graph) -> tuple[Form, ...]:
    """Returns sums of multiples of (b, h, q, k), some by a modulus, on whose values at a block's corner its entries
    depend, and on nothing else.

    An operation that is no sum depends on the sums that it is given. The sum at any place of a block is the one at its
    corner plus what only depends on the place.
    """
    sums: dict[Node, Form | None] = {}
    needed: dict[Form, None] = {}
    names = iter(range(4))
    for node in graph.nodes:
        if node.op == "placeholder":
            place = next(names)
            sums[node] = tuple(int(n == place) for n in range(4))
        elif node.op == "call_function":
            sums[node] = _sum_of(node, sums)
            if sums[node] is None:
                modulus = node.args[1] if name_of(node) == "remainder" else 0
                modulus = modulus if isinstance(modulus, int) and modulus > 0 else 0
                for form in _operands_of(node, sums):
                    if any(form):
                        needed[(*form, modulus)] = None
        elif node.op == "output":
            for form in (sums.get(source) for source in node.all_input_nodes):
                if form is not None:
                    needed[(*form, 0)] = None
    return tuple(needed)


def _operands_of(node: Node, sums: dict[Node, Form | None]) -> list[Form]:
    """The sums that an operation is given; of a comparison of two it is their difference that matters."""
    forms = [form for form in (sums.get(source) for source in node.all_input_nodes) if form is not None]
    if len(forms) == len(node.args) == 2 and name_of(node) in ("lt", "le", "gt", "ge", "eq", "ne"):
        return [tuple(x - y for x, y in zip(*forms, strict=True))]
    return forms


def _sum_of(node: Node, sums: dict[Node, Form | None]) -> Form | None:
    """The multiples that a node adds up; None: it does something else."""
    name = name_of(node)
    if name not in ("add", "sub", "rsub", "neg", "mul") or node.kwargs or node.meta["val"].dtype != torch.int64:
        return None
    forms = []
    for source in node.args:
        form = sums.get(source) if isinstance(source, Node) else (0, 0, 0, 0)
        if form is None:
            return None
        forms.append(form)
    if name == "neg":
        return tuple(-x for x in forms[0])
    if name == "mul":
        factor = next((source for source in node.args if not isinstance(source, Node)), None)
        form = next(form for form, source in zip(forms, node.args, strict=True) if isinstance(source, Node))
        return tuple(factor * x for x in form) if isinstance(factor, int) else None
    sign = {"add": (1, 1), "sub": (1, -1), "rsub": (-1, 1)}[name]
    return tuple(sign[0] * x + sign[1] * y for x, y in zip(*forms, strict=True))
