"""Small tools over torch.fx graphs that carry fake tensors in ``node.meta["val"]``."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import sympy
import torch
from torch import fx
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.fx.experimental.symbolic_shapes import ShapeEnv

aten = torch.ops.aten


def value(node: fx.Node) -> Any:
    """What the node stands for at trace time: a fake tensor, a symbolic number, or a constant."""
    return node.meta.get("val")


def is_tensor(node: object) -> bool:
    """Whether ``node`` is an FX node whose value is one tensor."""
    return isinstance(node, fx.Node) and isinstance(node.meta.get("val"), torch.Tensor)


def fake_mode(graph: fx.Graph) -> FakeTensorMode:
    """The mode that the fake tensors of ``graph`` belong to."""
    for node in graph.nodes:
        if isinstance(value(node), FakeTensor):
            return value(node).fake_mode
    raise ValueError("the graph holds no fake tensor")


def run_on_fakes(target: Callable[..., Any], args: Sequence[Any], kwargs: dict[str, Any], mode: FakeTensorMode) -> Any:
    """Run ``target`` on the fake values of its node arguments."""
    fake_args, fake_kwargs = fx.map_arg((tuple(args), kwargs), value)
    with mode, torch.no_grad():
        return target(*fake_args, **fake_kwargs)


def emit(graph: fx.Graph, target: Callable[..., Any], *args: Any, mode: FakeTensorMode, **kwargs: Any) -> fx.Node:
    """Append a call at the graph's insertion point and give it the value that it has on fake tensors."""
    node = graph.call_function(target, args, kwargs)
    node.meta["val"] = run_on_fakes(target, args, kwargs, mode)
    return node


def size(graph: fx.Graph, tensor: fx.Node, dim: int, mode: FakeTensorMode) -> fx.Node | int:
    """The size of one dim: a plain number when it is known, else a node that reads it."""
    known = expression(value(tensor).shape[dim], mode.shape_env)
    if isinstance(known, sympy.Integer):
        return int(known)
    return emit(graph, aten.sym_size.int, tensor, dim % value(tensor).dim(), mode=mode)


def floordiv(graph: fx.Graph, a: fx.Node | int, b: fx.Node | int, mode: FakeTensorMode) -> fx.Node | int:
    """``a // b`` in the graph, or at once where both are numbers."""
    if isinstance(a, int) and isinstance(b, int):
        return a // b
    return emit(graph, operator.floordiv, a, b, mode=mode)


def expression(dim: int | torch.SymInt, env: ShapeEnv | None) -> sympy.Expr:
    """A size as an expression over the input symbols, with all that the guards have taught put in."""
    if isinstance(dim, int):
        return sympy.Integer(dim)
    expr = dim.node.expr
    return env.simplify(expr) if env is not None else expr


def expressions(tensor: torch.Tensor, env: ShapeEnv | None) -> tuple[sympy.Expr, ...]:
    """``expression`` of every size of a fake tensor."""
    return tuple(expression(dim, env) for dim in tensor.shape)


def settle(graph: fx.Graph, env: ShapeEnv) -> None:
    """Rewrite the fake values so that sizes the guards have fixed are plain numbers (the importer types by them)."""
    mode = fake_mode(graph)
    for node in graph.nodes:
        val = value(node)
        if isinstance(val, torch.Tensor):
            sizes = [settled_size(dim, env) for dim in val.shape]
            with mode:
                node.meta["val"] = torch.empty(sizes, dtype=val.dtype, device=val.device)
        elif isinstance(val, torch.SymInt):
            node.meta["val"] = settled_size(val, env)


def settled_size(dim: int | torch.SymInt, env: ShapeEnv) -> int | torch.SymInt:
    """``dim`` as a plain number where it is known, else a symbol in its simplest form."""
    expr = expression(dim, env)
    if isinstance(expr, sympy.Integer):
        return int(expr)
    hint = dim.node.hint if isinstance(dim, torch.SymInt) else int(dim)
    return env.create_symintnode(expr, hint=hint)


def tensor_args(node: fx.Node) -> list[fx.Node]:
    """The distinct argument nodes of ``node`` that are tensors."""
    return [arg for arg in node.all_input_nodes if is_tensor(arg)]


def prune(graph: fx.Graph) -> None:
    """Remove nodes that nothing uses and that have no effect."""
    graph.eliminate_dead_code(is_impure_node=is_impure)


def is_impure(node: fx.Node) -> bool:
    """Placeholders, outputs and whatever writes to a tensor or to torch's state."""
    if node.op in ("placeholder", "output"):
        return True
    schema = getattr(node.target, "_schema", None)
    if schema is not None:
        return schema.is_mutable
    return node.op == "call_function" and getattr(node.target, "__module__", "").startswith("torch._C")


def positions(nodes: Iterable[fx.Node]) -> dict[fx.Node, int]:
    """Where each node stands in program order."""
    return {node: i for i, node in enumerate(nodes)}


def is_one(dim: int | torch.SymInt) -> bool:
    """Whether a size is 1 by construction."""
    return isinstance(dim, int) and dim == 1


def same_shape(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Whether two fake tensors have the same sizes, as far as the trace has proved it."""
    return same_sizes(a.shape, b.shape, a)


def same_sizes(a: Sequence[int | torch.SymInt], b: Sequence[int | torch.SymInt], fake: torch.Tensor) -> bool:
    """Whether two shapes are proved to be equal; ``fake`` brings the symbols' environment."""
    if len(a) != len(b):
        return False
    env = fake.fake_mode.shape_env
    return all(expression(x, env) == expression(y, env) for x, y in zip(a, b, strict=True))


def segments(graph: fx.Graph) -> dict[fx.Node, int]:
    """A number for each node, which grows where a node has an effect: nothing may be moved across that."""
    result, current = {}, 0
    for node in graph.nodes:
        impure = node.op == "call_function" and is_impure(node)
        current += impure
        result[node] = current
        current += impure
    return result


def broadcast(shapes: Sequence[Sequence[int | torch.SymInt]]) -> list[int | torch.SymInt]:
    """The shape of a pointwise result of operands with these shapes, which are known to fit."""
    rank = max((len(shape) for shape in shapes), default=0)
    result: list[int | torch.SymInt] = [1] * rank
    for shape in shapes:
        for dim, size in enumerate(shape, start=rank - len(shape)):
            if not is_one(size):
                result[dim] = size
    return result
