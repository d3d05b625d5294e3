"""Reductions in one form, whatever PyTorch calls them: what is reduced, over which dims, and how.

A region holds ``sum``, ``mean``, ``prod``, ``amax``, ``amin``, ``any`` and ``all`` of a tensor that has the result's
dtype already. ``log_softmax``, ``logsumexp`` and norms stay whole until the region is imported, so that their gradients
are PyTorch's own, and are spelt out then.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx

from . import graph as g
from .graph import aten


@dataclass(frozen=True)
class Reduction:
    """A reduction.

    Attributes:
        kind: "sum", "mean", "prod", "amax", "amin", "any" or "all".
        dims: the dims that are reduced, in order; not negative.
        keepdim: whether they stay, with size 1.
    """

    kind: str
    dims: tuple[int, ...]
    keepdim: bool = False


_KINDS = {
    aten.sum.default: "sum", aten.sum.dim_IntList: "sum", aten.mean.default: "mean", aten.mean.dim: "mean",
    aten.prod.default: "prod", aten.prod.dim_int: "prod", aten.amax.default: "amax", aten.amin.default: "amin",
    aten.max.default: "amax", aten.min.default: "amin", aten.any.default: "any", aten.any.dim: "any",
    aten.any.dims: "any", aten.all.default: "all", aten.all.dim: "all", aten.all.dims: "all",
}  # fmt: skip
# what a region spells out when it is imported
_COMPOSITE = {aten.logsumexp.default, aten.linalg_vector_norm.default}
REDUCTIONS = frozenset(_KINDS) | _COMPOSITE
_WITHOUT_DIMS = {
    aten.sum.default, aten.mean.default, aten.prod.default, aten.max.default, aten.min.default, aten.any.default,
    aten.all.default,
}  # fmt: skip


def reduction_of(node: fx.Node) -> Reduction | None:
    """What the node reduces of its first argument; None if it is no reduction that a region has as such."""
    kind = _KINDS.get(node.target)
    if kind is None:
        return None
    dim = None if node.target in _WITHOUT_DIMS else _argument(node, 1, "dim", None)
    return Reduction(kind, _dims(node.args[0], dim), bool(_argument(node, 2, "keepdim", False)))


def _argument(node: fx.Node, number: int, name: str, default: Any) -> Any:
    return node.args[number] if len(node.args) > number else node.kwargs.get(name, default)


def _dims(x: fx.Node, dim: Any) -> tuple[int, ...]:
    rank = g.value(x).dim()
    if dim is None or (isinstance(dim, list | tuple) and not dim):
        return tuple(range(rank))
    dims = dim if isinstance(dim, list | tuple) else [dim]
    return tuple(sorted(d % max(rank, 1) for d in dims)) if rank else ()


def rewrite(graph: fx.Graph, node: fx.Node) -> bool:
    """Bring a reduction to what a region takes, in place: in the result's dtype, with one result.

    Returns:
        Whether something was changed; new nodes stand before the node, which may be gone.
    """
    if node.target in (aten.max.dim, aten.min.dim):
        return _take_values(graph, node)
    if node.target in (aten.count_nonzero.default, aten.count_nonzero.dim_IntList):
        return _replace(graph, node, _count_nonzero)
    if node.target not in REDUCTIONS:
        return False
    if node.kwargs.get("dtype") is not None:
        node.kwargs = {key: value for key, value in node.kwargs.items() if key != "dtype"}
    x, wanted = node.args[0], g.value(node).dtype
    if g.value(x).dtype == wanted:
        return False
    mode = g.fake_mode(graph)
    with graph.inserting_before(node):
        if wanted == torch.bool:
            cast = g.emit(graph, aten.ne.Scalar, x, 0, mode=mode)
        else:
            cast = g.emit(graph, aten.to.dtype, x, wanted, mode=mode)
    node.args = (cast, *node.args[1:])
    return True


def _take_values(graph: fx.Graph, node: fx.Node) -> bool:
    """``x.max(dim)`` of which the indices are not used is ``x.amax(dim)``."""
    if any(user.target is not operator.getitem or user.args[1] != 0 for user in node.users if user.users):
        return False
    target = aten.amax.default if node.target is aten.max.dim else aten.amin.default
    with graph.inserting_before(node):
        made = g.emit(graph, target, node.args[0], [node.args[1]], *node.args[2:], mode=g.fake_mode(graph))
    for user in list(node.users):
        user.replace_all_uses_with(made)
        graph.erase_node(user)
    graph.erase_node(node)
    return True


Emit = Callable[..., fx.Node]


def _replace(graph: fx.Graph, node: fx.Node, spelling: Callable[[Emit, fx.Node], fx.Node]) -> bool:
    mode = g.fake_mode(graph)

    def emit(target: Callable[..., Any], *args: Any, **kwargs: Any) -> fx.Node:
        return g.emit(graph, target, *args, mode=mode, **kwargs)

    with graph.inserting_before(node):
        made = spelling(emit, node)
    node.replace_all_uses_with(made)
    graph.erase_node(node)
    return True


def _count_nonzero(emit: Emit, node: fx.Node) -> fx.Node:
    x = node.args[0]
    counted = emit(aten.to.dtype, emit(aten.ne.Scalar, x, 0), torch.int64)
    return emit(aten.sum.dim_IntList, counted, list(_dims(x, _argument(node, 1, "dim", None))), False)


# --- at import


def spell_out(region: fx.Graph) -> fx.Graph:
    """The region with its composite reductions in terms of others; itself if it has none."""
    if not any(node.target in _SPELLINGS for node in region.nodes):
        return region
    graph = fx.Graph()
    copies: dict[fx.Node, fx.Node] = {}
    graph.output(graph.graph_copy(region, copies))
    for original, copy in copies.items():
        copy.meta = {"val": original.meta["val"]}
    for node in list(graph.nodes):
        if node.target in _SPELLINGS:
            _replace(graph, node, _SPELLINGS[node.target])
    return graph


def _shifted(emit: Emit, x: fx.Node, dims: list[int]) -> tuple[fx.Node, fx.Node]:
    """``x`` less its maximum, and that maximum; one that is infinite is left where it is."""
    maximum = emit(aten.amax.default, x, dims, True)
    finite = emit(aten.masked_fill.Scalar, maximum, emit(aten.isinf.default, maximum), 0.0)
    return emit(aten.sub.Tensor, x, finite), finite


def _log_softmax(emit: Emit, node: fx.Node) -> fx.Node:
    """A row with nothing that is above -inf is -inf."""
    x, dim = node.args[:2]
    shifted, _ = _shifted(emit, x, [dim])
    total = emit(aten.sum.dim_IntList, emit(aten.exp.default, shifted), [dim], True)
    nothing = emit(aten.eq.Scalar, total, 0.0)
    logarithm = emit(aten.log.default, emit(aten.masked_fill.Scalar, total, nothing, 1.0))
    return emit(aten.sub.Tensor, shifted, logarithm)


def _logsumexp(emit: Emit, node: fx.Node) -> fx.Node:
    x, dims = node.args[0], list(_dims(node.args[0], node.args[1]))
    shifted, maximum = _shifted(emit, x, dims)
    total = emit(aten.sum.dim_IntList, emit(aten.exp.default, shifted), dims, True)
    result = emit(aten.add.Tensor, emit(aten.log.default, total), maximum)
    for dim in [] if _argument(node, 2, "keepdim", False) else reversed(dims):
        result = emit(aten.squeeze.dim, result, dim)
    return result


def _norm(emit: Emit, node: fx.Node) -> fx.Node:
    x, order = node.args[0], float(_argument(node, 1, "ord", 2))
    dims, keep = list(_dims(x, _argument(node, 2, "dim", None))), bool(_argument(node, 3, "keepdim", False))
    size = emit(aten.abs.default, x)
    if math.isinf(order):
        return emit(aten.amax.default if order > 0 else aten.amin.default, size, dims, keep)
    if order == 0:
        counted = emit(aten.to.dtype, emit(aten.ne.Scalar, x, 0), g.value(node).dtype)
        return emit(aten.sum.dim_IntList, counted, dims, keep)
    if order == 1:
        return emit(aten.sum.dim_IntList, size, dims, keep)
    if order == 2:
        return emit(aten.sqrt.default, emit(aten.sum.dim_IntList, emit(aten.mul.Tensor, x, x), dims, keep))
    total = emit(aten.sum.dim_IntList, emit(aten.pow.Tensor_Scalar, size, order), dims, keep)
    return emit(aten.pow.Tensor_Scalar, total, 1 / order)


_SPELLINGS: dict[Any, Callable[[Emit, fx.Node], fx.Node]] = {
    aten.log_softmax.int: _log_softmax,
    aten.logsumexp.default: _logsumexp,
    aten.linalg_vector_norm.default: _norm,
}
