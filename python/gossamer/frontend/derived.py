"""What is made of sparse tensors outside of regions, by the runtime: parts, joins and other shapes of them.

The format of the result follows from the operation and the formats of its operands, so that regions are compiled for
it; the pattern is derived at run time, once for a pattern, and the values are taken from the operand's.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import fx

from gossamer.derive import extremum, formats, parts, wholes
from gossamer.errors import FormatError
from gossamer.formats import Format

from . import graph as g
from .analysis import Analysis, add_source, can_be_stored, lies_on
from .decompose import Refused
from .graph import aten
from .leaf import Stored
from .reduced import EXTREMUM_DENSE, EXTREMUM_VALUES


@dataclass(frozen=True)
class Derivation:
    """How the runtime makes a value.

    Attributes:
        function: called on SparseTensors and numbers.
        args: its arguments, of which some are nodes.
        wants_shape: whether it takes the sizes of its result before them.
    """

    function: Callable[..., Any]
    args: tuple[Any, ...]
    wants_shape: bool = False


Plan = tuple[Format, Derivation]


def derive(graph: fx.Graph, node: fx.Node, found: Analysis) -> bool:
    """Make a node a source if it is a part, join or reshape of stored tensors.

    Returns:
        Whether the node is an operation of that kind.

    Raises:
        Refused: it is, but these operands have no storage for its result.
    """
    if node.target in _JOINS:
        operands = list(node.args[0])
        if not all(operand in found.sparse for operand in operands):
            raise Refused("it joins sparse tensors with dense ones; store those sparsely too, with gs.annotate")
        operands = [materialized(graph, operand, found) for operand in operands]
        stored = [stored_as(operand, found) for operand in operands]
        if len({s.fill for s in stored}) > 1:
            raise Refused(f"its operands have different fills, {', '.join(str(s.fill) for s in stored)}")
        node.args = (operands, *node.args[1:])
        node.kwargs = dict(node.kwargs)
        format, derivation = _JOINS[node.target](node, [s.format for s in stored])
        first = stored[0]
    elif node.target in _PARTS:
        if node.args[0] not in found.sparse:
            raise Refused("its index is sparse")
        operand = materialized(graph, node.args[0], found)
        node.args = (operand, *node.args[1:])
        first = stored_as(operand, found)
        format, derivation = _PARTS[node.target](node, first.format)
    elif node.target in (EXTREMUM_VALUES, EXTREMUM_DENSE):
        _derive_gradient(graph, node, found)
        return True
    else:
        return False
    found.derived[node] = derivation
    add_source(found, node, replace(first, format=format), _first_alike(node, derivation, found))
    return True


def _derive_gradient(graph: fx.Graph, node: fx.Node, found: Analysis) -> None:
    """Of a product with an extremum: on the pattern of the sparse operand, or dense."""
    operand = materialized(graph, node.args[0], found)
    node.args = (operand, *node.args[1:])
    if any(arg in found.sparse for arg in node.args[1:]):
        raise Refused("only the left operand is to be sparse")
    if node.target is EXTREMUM_DENSE:
        found.derived[node] = Derivation(extremum.of_dense, node.args)
        return
    found.derived[node] = Derivation(extremum.of_values, node.args)
    add_source(found, node, replace(stored_as(operand, found), fill=0), lies_on(found, operand))


def _first_alike(node: fx.Node, derivation: Derivation, found: Analysis) -> fx.Node | None:
    """The first value that was derived in the same way from the same pattern: the two share theirs."""
    if derivation.function is parts.index_select:  # which makes a pattern in every call
        return None
    env = g.value(node).fake_mode.shape_env
    patterns = fx.map_arg(derivation.args, lambda arg: found.sparse[arg].source if arg in found.sparse else arg)
    key = derivation.function, str(patterns), g.expressions(g.value(node), env)
    return found.views.setdefault(key, node)


def materialized(graph: fx.Graph, node: fx.Node, found: Analysis) -> fx.Node:
    """The value as a node that is a SparseTensor at run time: itself, or another shape of what it is a view of.

    Raises:
        Refused: it can be none.
    """
    if node in found.sources:
        return node
    if lies_on(found, node) is not None and can_be_stored(found.sparse[node].fill, g.value(node).dtype):
        return node
    if node in found.materialized:
        return found.materialized[node]
    if node.target not in _VIEWS or node.args[0] not in found.sparse:
        raise Refused("its sparse operand is not stored by itself, but computed under another shape")
    operand = materialized(graph, node.args[0], found)
    with graph.inserting_before(node.next):
        made = graph.call_function(node.target, (operand, *node.args[1:]), dict(node.kwargs))
    made.meta = dict(node.meta)
    stored = stored_as(operand, found)
    format, derivation = _PARTS[made.target](made, stored.format)
    found.derived[made] = derivation
    add_source(found, made, replace(stored, format=format), _first_alike(made, derivation, found))
    found.materialized[node] = made
    return made


def stored_as(node: fx.Node, found: Analysis) -> Stored:
    """How a value is stored that is a SparseTensor at run time."""
    if node in found.sources:
        return found.sources[node]
    sparse = found.sparse[node]
    return replace(found.sources[sparse.source], fill=sparse.fill)


def release(graph: fx.Graph, found: Analysis) -> None:
    """Give the views that leave their regions to what uses them as SparseTensors."""
    for node in list(graph.nodes):
        if node in found.sources or node not in found.sparse or node.target not in _VIEWS:
            continue
        outside = [user for user in node.users if user not in found.touched and user not in found.sources]
        if not outside:
            continue
        try:
            made = materialized(graph, node, found)
        except Refused:
            continue
        for user in outside:
            user.replace_input_with(node, made)


# --- one operand


def _bound(value: Any) -> int | None:
    return value if isinstance(value, int) else None


def _slice(node: fx.Node, format: Format) -> Plan:
    operand, dim, begin, end, step = _arguments(node, None, 0, None, None, 1)
    dim %= format.dim_rank
    if not isinstance(step, int):
        raise Refused("its step may change from call to call")
    # bounds that are no nodes are known
    known = [0 if begin is None else _bound(begin), formats.END if end is None else _bound(end)]
    planned = formats.sliced(format, dim, *known, step)
    return planned, Derivation(_Fitted(parts.slice_, planned), (operand, dim, begin, end, step))


class _Fitted:
    """A part in the format that code was compiled for, which does not look at where bounds lie at run time."""

    def __init__(self, function: Callable[..., Any], format: Format):
        self.function, self.format = function, format
        self.__name__ = function.__name__

    def __call__(self, *args: Any) -> Any:
        return self.function(*args).to(self.format)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Fitted) and (self.function, self.format) == (other.function, other.format)

    def __hash__(self) -> int:
        return hash((self.function, self.format))


def _narrow(node: fx.Node, format: Format) -> Plan:
    operand, dim, start, length = node.args
    dim %= format.dim_rank
    known = isinstance(start, int) and isinstance(length, int)
    planned = formats.sliced(format, dim, start if known else None, start + length if known else None, 1)
    return planned, Derivation(_Fitted(_narrowed, planned), (operand, dim, start, length))


def _narrowed(tensor: Any, dim: int, start: int, length: int) -> Any:
    start %= max(tensor.shape[dim], 1)
    return parts.slice_(tensor, dim, start, start + length)


def _select(node: fx.Node, format: Format) -> Plan:
    operand, dim, index = node.args
    if format.dim_rank == 1:
        raise Refused("a single number is no sparse tensor")
    dim %= format.dim_rank
    # as two steps have it: a slice between blocks is a block, and a row of that is not
    planned = formats.without_dim(formats.sliced(format, dim, None, None, 1), dim)
    return planned, Derivation(_Fitted(parts.select, planned), (operand, dim, index))


def _index_select(node: fx.Node, format: Format) -> Plan:
    operand, dim, index = node.args
    return formats.taken(format, dim % format.dim_rank), Derivation(parts.index_select, (operand, dim, index))


def _index(node: fx.Node, format: Format) -> Plan:
    operand, indices = node.args
    given = [(dim, index) for dim, index in enumerate(indices) if index is not None]
    if len(given) != 1 or g.value(given[0][1]).dim() != 1 or g.value(given[0][1]).dtype == torch.bool:
        raise Refused("it selects points; a sparse tensor takes one vector of integers as index")
    return formats.taken(format, given[0][0]), Derivation(parts.index_select, (operand, *given[0]))


def _diagonal(node: fx.Node, format: Format) -> Plan:
    operand, offset, dim1, dim2 = _arguments(node, None, 0, 0, 1)
    if format.dim_rank < 2:
        raise Refused("a vector has no diagonal")
    return formats.diagonal(format), Derivation(parts.diagonal, (operand, offset, dim1, dim2))


def _expand(node: fx.Node, format: Format) -> Plan:
    planned = formats.expanded(format, g.value(node).dim())
    return planned, Derivation(_to_shape_by_expand, (node.args[0],), wants_shape=True)


def _to_shape_by_expand(shape: Sequence[int], tensor: Any) -> Any:
    return wholes.expand(tensor, shape)


def _reshape(node: fx.Node, format: Format) -> Plan:
    if not g.value(node).dim():
        raise Refused("a single number is no sparse tensor")
    if any(isinstance(arg, fx.Node) for arg in node.all_input_nodes[1:]) and not g.is_tensor(node):
        raise Refused("its shape is not known")
    planned = formats.reshaped(format, g.value(node).dim())
    return planned, Derivation(_Fitted(_to_shape, planned), (node.args[0],), wants_shape=True)


def _to_shape(shape: Sequence[int], tensor: Any) -> Any:
    return wholes.reshape(tensor, shape)


def _permute(node: fx.Node, format: Format) -> Plan:
    order = permutation(node)
    if order[: format.batch_rank] != list(range(format.batch_rank)):
        format = format.without_batch()
    return format.permuted(order), Derivation(wholes.permute, (node.args[0], tuple(order)))


def permutation(node: fx.Node) -> list[int]:
    """For each dim of a transpose or permute the operand's dim."""
    rank = g.value(node).dim()
    if node.target is aten.permute.default:
        return [dim % rank for dim in node.args[1]]
    order = list(range(rank))
    i, j = node.args[1:]
    order[i], order[j] = order[j], order[i]
    return order


def _unsqueeze(node: fx.Node, format: Format) -> Plan:
    dim = node.args[1] % (format.dim_rank + 1)
    return formats.with_dim(format, dim), Derivation(parts.insert, (node.args[0], dim))


def _squeeze(node: fx.Node, format: Format) -> Plan:
    before, after = g.value(node.args[0]), g.value(node)
    if not after.dim():
        raise Refused("a single number is no sparse tensor")
    chosen = node.args[1] if len(node.args) > 1 else range(before.dim())
    chosen = [chosen] if isinstance(chosen, int) else chosen
    gone = sorted({dim % before.dim() for dim in chosen if g.is_one(before.shape[dim])}, reverse=True)
    for dim in gone:
        format = formats.without_dim(format, dim)
    return format, Derivation(_squeezed, (node.args[0], tuple(gone)))


def _squeezed(tensor: Any, gone: Sequence[int]) -> Any:
    for dim in gone:
        tensor = parts.drop(tensor, dim)
    return tensor


def _arguments(node: fx.Node, *defaults: Any) -> list[Any]:
    """The arguments in the order of the schema, with these defaults."""
    given = _given(node)
    return [given.get(name, default) for name, default in zip(_names(node), defaults, strict=False)]


def _given(node: fx.Node) -> dict[str, Any]:
    return dict(zip(_names(node), node.args, strict=False)) | dict(node.kwargs)


def _names(node: fx.Node) -> list[str]:
    schema: Any = getattr(node.target, "_schema", None)
    return [argument.name for argument in schema.arguments]


_PARTS: dict[Any, Callable[[fx.Node, Format], Plan]] = {
    aten.slice.Tensor: _slice,
    aten.narrow.default: _narrow,
    aten.select.int: _select,
    aten.index_select.default: _index_select,
    aten.index.Tensor: _index,
    aten.diagonal.default: _diagonal,
    aten.expand.default: _expand,
    aten.expand_as.default: _expand,
    aten.broadcast_to.default: _expand,
    aten.reshape.default: _reshape,
    aten.flatten.using_ints: _reshape,
    aten.unflatten.int: _reshape,
    aten.transpose.int: _permute,
    aten.permute.default: _permute,
    aten.unsqueeze.default: _unsqueeze,
    aten.squeeze.default: _squeeze,
    aten.squeeze.dim: _squeeze,
    aten.squeeze.dims: _squeeze,
}
# what regions take as views of their operands, unless these leave them
_VIEWS = {aten.transpose.int, aten.permute.default, aten.unsqueeze.default}


# --- several operands, or several results


def _cat(node: fx.Node, operands: Sequence[Format]) -> Plan:
    tensors, dim = _arguments(node, None, 0)
    return _joined(operands), Derivation(wholes.cat, (tensors, dim))


def _stack(node: fx.Node, operands: Sequence[Format]) -> Plan:
    tensors, dim = _arguments(node, None, 0)
    dim %= operands[0].dim_rank + 1
    return _joined([formats.with_dim(format, dim) for format in operands]), Derivation(wholes.stack, (tensors, dim))


def _joined(operands: Sequence[Format]) -> Format:
    try:
        return formats.joined(operands)
    except FormatError as error:
        raise Refused(str(error)) from error


_JOINS: dict[Any, Callable[[fx.Node, Sequence[Format]], Plan]] = {
    aten.cat.default: _cat,
    aten.concat.default: _cat,
    aten.concatenate.default: _cat,
    aten.stack.default: _stack,
}
SPLITS = {
    aten.split.Tensor, aten.split.sizes, aten.split_with_sizes.default, aten.chunk.default, aten.unbind.int,
    aten.tensor_split.sections, aten.tensor_split.indices,
}  # fmt: skip


def split_up(graph: fx.Graph, node: fx.Node, number: Callable[[Any], Any]) -> None:
    """Replace a split into several tensors by slices.

    Args:
        graph: the graph.
        node: one of ``SPLITS``.
        number: gives a size of the trace as a number or as a node.
    """
    dim = _dim_of_split(node) % g.value(node.args[0]).dim()
    pieces = g.value(node)
    begins = itertools.accumulate((piece.shape[dim] for piece in pieces), initial=0)
    unbinds = node.target is aten.unbind.int
    bounds = list(range(len(pieces))) if unbinds else list(begins)
    for getitem in list(node.users):
        piece = getitem.args[1]
        with graph.inserting_before(getitem):
            if unbinds:
                made = graph.call_function(aten.select.int, (node.args[0], dim, piece))
            else:
                ends = number(bounds[piece]), number(bounds[piece + 1])
                made = graph.call_function(aten.slice.Tensor, (node.args[0], dim, *ends))
        made.meta = dict(getitem.meta)
        getitem.replace_all_uses_with(made)
        graph.erase_node(getitem)
    graph.erase_node(node)


def _dim_of_split(node: fx.Node) -> int:
    return _given(node).get("dim", 0)
