"""Bring a traced graph into the form that the analysis expects: no mutation where avoidable, no switches of gradient
mode, and every symbolic number a function of the inputs' shapes.
"""

from __future__ import annotations

import sympy
import torch
from torch import fx
from torch.fx.experimental.symbolic_shapes import free_unbacked_symbols

from . import graph as g
from .fills import is_identity
from .graph import aten
from .pointwise import is_pointwise
from .trace import SizeOf, Trace

# may return their argument itself without saying so in their schema
_MAY_ALIAS = {aten.dropout.default, aten.feature_dropout.default, aten.alpha_dropout.default}


def normalize(trace: Trace) -> fx.Node:
    """Rewrite the traced graph in place.

    Returns:
        A new first placeholder, which stands for the list of the leaves' shapes.
    """
    graph = trace.graph
    _replace_gradient_switches(graph)
    _remove_mutation(graph)
    shapes = _lift_sizes(trace)
    for node in list(graph.nodes):
        _use_one_name(node)
        if is_identity(node):
            node.replace_all_uses_with(node.args[0])
    _bypass_expands(graph)
    _make_tensors_of_sizes(graph)
    g.prune(graph)
    return shapes


_SAME = {
    # region results are contiguous where the trace may have seen other strides
    aten.view.default: aten.reshape.default,
    aten._unsafe_view.default: aten.reshape.default,
    aten.__and__.Tensor: aten.bitwise_and.Tensor,
    aten.__or__.Tensor: aten.bitwise_or.Tensor,
    aten.__xor__.Tensor: aten.bitwise_xor.Tensor,
    aten.swapaxes.default: aten.transpose.int,
    aten.swapdims.default: aten.transpose.int,
}
_LAST_TWO = {aten.mT.default, aten.t.default, aten.mH.default, aten.adjoint.default, aten.matrix_H.default}


def _use_one_name(node: fx.Node) -> None:
    """Several operations for one thing become one."""
    node.target = _SAME.get(node.target, node.target)
    if node.target in _LAST_TWO and g.value(node).dim() >= 2 and not g.value(node).is_complex():
        node.target, node.args = aten.transpose.int, (node.args[0], -2, -1)
    elif node.target is aten.numpy_T.default:
        node.target, node.args = aten.permute.default, (node.args[0], list(reversed(range(g.value(node).dim()))))


def _bypass_expands(graph: fx.Graph) -> None:
    """Pointwise operations broadcast by themselves: give them what an ``expand`` was made of, where it does no more."""
    for node in list(graph.nodes):
        if not is_pointwise(node):
            continue
        for arg in g.tensor_args(node):
            if arg.target not in (aten.expand.default, aten.expand_as.default):
                continue
            shapes = [g.value(other.args[0] if other is arg else other).shape for other in g.tensor_args(node)]
            if g.same_sizes(g.broadcast(shapes), g.value(node).shape, g.value(node)):
                node.replace_input_with(arg, arg.args[0])


def _make_tensors_of_sizes(graph: fx.Graph) -> None:
    """Numbers that follow from sizes (``scores / q.shape[-1] ** 0.5``) become 0-d tensors, which a region can take."""
    mode = None
    for node in list(graph.nodes):
        if not is_pointwise(node) or not g.is_tensor(node):
            continue
        for arg, parameter in zip(node.args, node.target._schema.arguments, strict=False):
            number = g.value(arg) if isinstance(arg, fx.Node) else None
            if not isinstance(number, torch.SymInt | torch.SymFloat) or str(parameter.type) != "Tensor":
                continue
            mode = mode or g.fake_mode(graph)
            dtype = _dtype_of_number(node, number)
            with graph.inserting_before(node):
                made = g.emit(
                    graph, aten.scalar_tensor.default, arg, dtype=dtype, device=g.value(node).device, mode=mode
                )
            args = tuple(made if other is arg else other for other in node.args)
            if g.run_on_fakes(node.target, args, node.kwargs, mode).dtype == g.value(node).dtype:
                node.args = args


def _dtype_of_number(node: fx.Node, number: torch.SymInt | torch.SymFloat) -> torch.dtype:
    """What a number counts as beside the tensors that it is combined with."""
    floating = (g.value(arg).dtype for arg in g.tensor_args(node) if g.value(arg).is_floating_point())
    return next(floating, torch.int64 if isinstance(number, torch.SymInt) else torch.get_default_dtype())


def _replace_gradient_switches(graph: fx.Graph) -> None:
    """``with torch.no_grad()``: what leaves it is detached, and the switches go."""
    enabled = True
    inside: list[fx.Node] = []
    for node in list(graph.nodes):
        if node.target is torch._C._set_grad_enabled:
            enabled = bool(node.args[0])
            graph.erase_node(node)
        elif not enabled and g.is_tensor(node) and node.op == "call_function":
            inside.append(node)
    members = set(inside)
    for node in inside:
        outside = [user for user in node.users if user not in members]
        if outside and g.value(node).is_floating_point():
            with graph.inserting_after(node):
                detached = graph.call_function(aten.detach.default, (node,))
            detached.meta = dict(node.meta)
            for user in outside:
                user.replace_input_with(node, detached)


def _remove_mutation(graph: fx.Graph) -> None:
    """Replace in-place operations on tensors that nothing else can see by their ordinary forms."""
    for node in list(graph.nodes):
        schema = getattr(node.target, "_schema", None)
        if schema is None or not schema.is_mutable:
            continue
        if node.target is aten.detach_.default:
            node.replace_all_uses_with(node.args[0])
            graph.erase_node(node)
            continue
        functional = _functional(node.target)
        if functional is not None and _is_private(node.args[0], node):
            _replace_mutation(graph, node, functional)


def _functional(target: torch._ops.OpOverload) -> torch._ops.OpOverload | None:
    """``aten.add.Tensor`` for ``aten.add_.Tensor``."""
    name, overload = target._schema.name.split("::")[1], target._overloadname
    if not name.endswith("_") or name.endswith("__"):
        return None
    return getattr(getattr(aten, name[:-1], None), overload, None)


def _is_private(tensor: fx.Node, mutation: fx.Node) -> bool:
    """Whether the tensor was made in this graph and has no other name when the mutation comes."""
    if not isinstance(tensor, fx.Node) or tensor.op != "call_function" or _may_alias(tensor):
        return False
    order = g.positions(mutation.graph.nodes)
    return not any(_may_alias(user) and order[user] < order[mutation] for user in tensor.users)


def _may_alias(node: fx.Node) -> bool:
    schema = getattr(node.target, "_schema", None)
    if schema is None or node.target in _MAY_ALIAS:
        return True
    return any(result.alias_info is not None for result in schema.returns)


def _replace_mutation(graph: fx.Graph, node: fx.Node, functional: torch._ops.OpOverload) -> None:
    old = node.args[0]
    order = g.positions(graph.nodes)
    mode = g.fake_mode(graph)
    with graph.inserting_before(node):
        new = g.emit(graph, functional, *node.args, mode=mode, **node.kwargs)
        if g.value(new).dtype != g.value(old).dtype:
            new = g.emit(graph, aten.to.dtype, new, g.value(old).dtype, mode=mode)
    for user in list(old.users):
        if order.get(user, -1) > order[node]:
            user.replace_input_with(old, new)
    node.replace_all_uses_with(new)
    graph.erase_node(node)


def _lift_sizes(trace: Trace) -> fx.Node:
    """Compute every symbolic number from the leaves' shapes, so that no node is kept for its size alone."""
    graph = trace.graph
    first = next(iter(graph.nodes))
    with graph.inserting_before(first):
        shapes = graph.placeholder("shapes")
    known: dict[sympy.Expr, fx.Node | int] = {}
    last_placeholder = [node for node in graph.nodes if node.op == "placeholder"][-1]
    for node in list(graph.nodes):
        value = g.value(node)
        if not isinstance(value, torch.SymInt) or free_unbacked_symbols(value):
            continue
        expr = g.expression(value, trace.env)
        if expr not in known:
            known[expr] = _size_node(graph, shapes, expr, trace, last_placeholder)
        replacement = known[expr]
        if isinstance(replacement, int):
            _replace_by_number(node, replacement)
        else:
            replacement.meta.setdefault("val", value)
            node.replace_all_uses_with(replacement, delete_user_cb=lambda user, new=replacement: user is not new)
    return shapes


def _size_node(graph: fx.Graph, shapes: fx.Node, expr: sympy.Expr, trace: Trace, after: fx.Node) -> fx.Node | int:
    if isinstance(expr, sympy.Integer):
        return int(expr)
    with graph.inserting_after(after):
        return graph.call_function(SizeOf(expr, trace.sizes([expr])), (shapes,))


def _replace_by_number(node: fx.Node, number: int) -> None:
    for user in list(node.users):
        user.args = fx.map_arg(user.args, lambda arg: number if arg is node else arg)
        user.kwargs = fx.map_arg(user.kwargs, lambda arg: number if arg is node else arg)
