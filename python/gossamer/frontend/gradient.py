"""The backward of a region, as a program of its own.

PyTorch differentiates the region's dense graph; what comes out of that goes the way of any traced function. A gradient
of stored values is asked for at the stored positions only. What is computed on a pattern on the way is stored there
once (``STORED``) where several operations need it, or one that needs it stored: a product, a sum.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import fx
from torch._decomp import get_decompositions

from . import autocast
from . import graph as g
from .contract import CONTRACT, CONTRACT_ALL, PRODUCTS_OF, contract, contract_all
from .cut import FEEDING_VIEWS
from .fills import REDUCTIONS, SOFTMAX, Analysis, Sparse, analyze
from .graph import aten
from .leaf import Leaf
from .marker import STORED
from .pointwise import is_pointwise
from .reduced import REDUCED
from .region import Region
from .trace import Trace, trace

# Backward operations that PyTorch can spell out in pointwise operations and sums. On dense operands each is one pass
# in PyTorch, and left whole.
_SPELLED_OUT = get_decompositions([
    aten.threshold_backward, aten.gelu_backward, aten._softmax_backward_data, aten._log_softmax_backward_data,
    aten.tanh_backward, aten.sigmoid_backward, aten.silu_backward, aten.elu_backward, aten.leaky_relu_backward,
    aten.hardswish_backward, aten.hardtanh_backward, aten.hardsigmoid_backward, aten.mish_backward,
    aten.softplus_backward, aten.log_sigmoid_backward, aten.logit_backward, aten._prelu_kernel_backward,
])  # fmt: skip
# operations whose derivative PyTorch writes in terms of their result
_KEEP_RESULT = {
    aten.relu.default, aten.sigmoid.default, aten.tanh.default, aten.exp.default, aten.sqrt.default,
    aten.rsqrt.default, aten.reciprocal.default, aten.threshold.default, aten.softmax.int, aten.log_softmax.int,
    REDUCED,
}  # fmt: skip


def results_to_save(region: Region) -> tuple[int, ...]:
    """The results of a region that its backward wants to have, which then need not be computed again."""
    results = _results(region)
    return tuple(number for number, node in enumerate(results) if node.target in _KEEP_RESULT)


def trace_gradient(
    region: Region,
    leaves: Sequence[Leaf],
    wanted: Sequence[int],
    given: Sequence[int],
    saved: Sequence[int],
    spelled_out: bool = False,
) -> Trace:
    """Capture the backward of a region.

    Args:
        region: the region.
        leaves: its inputs, then its results with the numbers `saved`, then the gradients of its results with the
            numbers `given`.
        wanted: the inputs whose gradients the result lists; None for one that no given gradient leads to.
        given: which results have a gradient.
        saved: which results are brought along.
        spelled_out: whether backward operations that can be are spelled out in simpler ones.

    Raises:
        TraceError: it cannot be differentiated.
    """
    graph = _differentiable(region.graph)
    count = len(region.inputs)
    found: list[torch.Tensor | None] = []

    def backward(tensors: list[torch.Tensor]) -> list[torch.Tensor | None]:
        inputs, gradients = tensors[:count], tensors[count + len(saved) :]
        with torch.enable_grad():
            for number in wanted:
                inputs[number] = inputs[number].detach().requires_grad_()
            results = fx.Interpreter(fx.GraphModule(torch.nn.Module(), graph)).run(*inputs)
            pairs = [(results[n], d) for n, d in zip(given, gradients, strict=True) if results[n].requires_grad]
            asked = [inputs[number] for number in wanted]
            found[:] = torch.autograd.grad([r for r, _ in pairs], asked, [d for _, d in pairs], allow_unused=True)
        for place, number in enumerate(wanted):
            if found[place] is not None and region.inputs[number].stored is not None:
                found[place] = STORED(found[place], tensors[number])
        return [*found, *(results[number] for number in saved)]

    with autocast.switched_off():
        traced = trace(backward, leaves, _SPELLED_OUT if spelled_out else {})
    is_there = [gradient is not None for gradient in found]
    _use_saved(traced.graph, count, len(saved))
    _respell(traced.graph)

    def rebuild(outputs: Sequence[Any]) -> list[Any]:
        rest = iter(outputs)
        return [next(rest) if there else None for there in is_there]

    return replace(traced, rebuild=rebuild)


def has_softmax(region: Region) -> bool:
    """Whether there is a softmax in it."""
    return any(node.target in SOFTMAX for node in region.graph.nodes)


def wants_spelled_out(found: Analysis) -> bool:
    """Whether an operation on something sparse was left whole."""
    return any(node.target in _SPELLED_OUT for node in found.fallbacks)


def _results(region: Region) -> Sequence[fx.Node]:
    return next(node for node in reversed(region.graph.nodes) if node.op == "output").args[0]


def _differentiable(graph: fx.Graph) -> fx.Graph:
    """The graph with contractions as operations that autograd knows."""
    copy = fx.Graph()
    copy.output(copy.graph_copy(graph, {}))
    for node in copy.nodes:
        if node.target is contract:
            node.target = CONTRACT
        elif node.target is contract_all:
            node.target, node.args = CONTRACT_ALL, (list(node.args[:-1]), node.args[-1])
    return copy


def _use_saved(graph: fx.Graph, first: int, count: int) -> None:
    """Use the results that are brought along for those that the graph computes, which are its last ones."""
    if not count:
        return
    placeholders = [node for node in graph.nodes if node.op == "placeholder"]
    output = next(node for node in reversed(graph.nodes) if node.op == "output")
    results = list(output.args[0])
    output.args = (results[:-count],)
    for node, brought in zip(results[-count:], placeholders[first : first + count], strict=True):
        node.replace_all_uses_with(brought)


def _respell(graph: fx.Graph) -> None:
    """What autograd calls, by the names that the rest of the frontend has for it."""
    mode = g.fake_mode(graph)
    for node in list(graph.nodes):
        if node.target in (aten.detach.default, aten.alias.default):
            node.replace_all_uses_with(node.args[0])
        elif node.target is CONTRACT:
            node.target = contract
        elif node.target is CONTRACT_ALL:
            node.target, node.args = contract_all, (*node.args[0], node.args[1])
        elif node.target in _SOFTMAX_BELOW:
            x, dim, widens = node.args
            if widens:
                with graph.inserting_before(node):
                    x = g.emit(graph, aten.to.dtype, x, torch.float32, mode=mode)
            node.target, node.args = _SOFTMAX_BELOW[node.target], (x, dim)
    g.prune(graph)


_SOFTMAX_BELOW = {aten._softmax.default: aten.softmax.int, aten._log_softmax.default: aten.log_softmax.int}


# --- what is stored on the way


def sample_needed(traced: Trace, found: Analysis) -> Analysis:
    """Take only the needed entries of a dense value that meets a sparse one (gradients that are summed), where those of
    the sparse one's pattern are all that is needed of the result.
    """
    graph, mode = traced.graph, None
    for node in reversed(list(graph.nodes)):
        source = _needed_on(node, found)
        if node not in found.fallbacks or source is None:
            continue
        for arg in g.tensor_args(node):
            if arg not in found.sparse and g.same_shape(g.value(arg), g.value(source)):
                mode = mode or g.fake_mode(graph)
                with graph.inserting_before(node):
                    node.replace_input_with(arg, g.emit(graph, STORED, arg, source, mode=mode))
    return analyze(traced) if mode else found


def _needed_on(node: fx.Node, found: Analysis) -> fx.Node | None:
    """The source of whose pattern a pointwise operation's result is needed, at most."""
    if not is_pointwise(node):
        return None
    sources = {found.sparse[user].source if user in found.sparse else None for user in node.users}
    sources |= {found.sparse[arg].source for arg in node.all_input_nodes if arg in found.sparse}
    source = sources.pop() if len(sources) == 1 else None
    return source if source is not None and g.same_shape(g.value(node), g.value(source)) else None


def store_shared(traced: Trace, found: Analysis) -> Analysis:
    """Store what several operations, or a product or a sum, need of a value that is computed on a pattern."""
    graph, mode = traced.graph, None
    for node in list(graph.nodes):
        sparse = found.sparse.get(node)
        if sparse is None or node not in found.touched or not _can_be_stored(node, sparse) or not _is_needed(node):
            continue
        mode = mode or g.fake_mode(graph)
        with graph.inserting_before(node.next):
            stored = g.emit(graph, STORED, node, sparse.source, mode=mode)
        node.replace_all_uses_with(stored, delete_user_cb=lambda user, stored=stored: user is not stored)
    return analyze(traced) if mode else found


def _can_be_stored(node: fx.Node, sparse: Sparse) -> bool:
    value = g.value(node)
    if node.target is STORED or not value.is_floating_point() or sparse.fill not in (0, -math.inf):
        return False
    return sparse.is_in_order and g.same_shape(value, g.value(sparse.source))


def _is_needed(node: fx.Node) -> bool:
    users = [user for user in node.users if user.op == "call_function" and user.target is not STORED]
    return node.target in SOFTMAX or len(users) > 1 or any(_takes_stored(user) for user in users)


def _takes_stored(user: fx.Node) -> bool:
    if user.target in FEEDING_VIEWS:
        return any(_takes_stored(other) for other in user.users)
    return user.target in PRODUCTS_OF or user.target in REDUCTIONS


# --- patterns that are broadcast


def broadcast_patterns(traced: Trace, found: Analysis) -> dict[int, tuple[Any, ...]]:
    """The leaves whose pattern is used along further dims, and the shape (of expressions) that it is used in."""
    placeholders = [node for node in traced.graph.nodes if node.op == "placeholder"]
    numbers = {node: number for number, node in enumerate(placeholders[1:])}
    shapes: dict[int, tuple[Any, ...]] = {}
    for node, sparse in found.sparse.items():
        number = numbers.get(sparse.source)
        if number is None or node not in found.touched or not all(map(is_pointwise, sparse.source.users)):
            continue
        source, value = g.value(sparse.source), g.value(node)
        offset = value.dim() - source.dim()
        aligned = all(dim in (None, n - offset) for n, dim in enumerate(sparse.dims))
        if offset >= 0 and aligned and not g.same_shape(value, source):
            shape = g.expressions(value, traced.env)
            if len(shape) >= len(shapes.get(number, ())):
                shapes[number] = shape
    return shapes


def broadcast_leaf(leaf: Leaf, shape: tuple[int, ...], pattern: int) -> Leaf:
    """The description of a sparse leaf that was broadcast, on a pattern with a number of its own."""
    assert leaf.stored is not None
    stored = replace(leaf.stored, format=leaf.stored.format.kernel_format.for_rank(len(shape)))
    return replace(leaf, shape=shape, stored=stored, pattern=pattern)
