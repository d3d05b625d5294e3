"""The pointwise operations that regions may hold: those that torch-mlir imports, and imports right."""

from __future__ import annotations

import torch
from torch import fx

from . import graph as g
from .graph import aten

_NAMES = """
    abs acos acosh add addcdiv addcmul alias asin asinh atan atan2 atanh bitwise_and bitwise_not bitwise_or bitwise_xor
    ceil celu clamp clamp_max clamp_min clone contiguous cos cosh detach div divide elu eq erf exp exp2 expm1 floor frac
    ge gelu greater greater_equal gt hardshrink hardsigmoid hardswish hardtanh isinf isnan le leaky_relu lerp less
    less_equal log log10 log1p log2 log_sigmoid logical_and logical_not logical_or logical_xor logit lt masked_fill
    maximum minimum mish mul multiply nan_to_num ne neg negative not_equal pow prelu reciprocal relu relu6 remainder
    round rsqrt rsub selu sgn sigmoid sign silu sin sinh softplus softshrink sqrt square sub subtract tan tanh threshold
    trunc true_divide type_as where _to_copy
"""


def _overloads() -> set[torch._ops.OpOverload]:
    found = {aten.to.dtype}
    for name in _NAMES.split():
        packet = getattr(aten, name)
        for overload in packet.overloads():
            operation = getattr(packet, overload)
            if not operation._schema.is_mutable and "out" not in overload:
                found.add(operation)
    return found


POINTWISE = _overloads()


def is_pointwise(node: fx.Node) -> bool:
    """Whether every entry of the result depends on the same entry of the operands only, and a region can hold it."""
    return node.target in POINTWISE


def spell_out(graph: fx.Graph) -> None:
    """Replace what torch-mlir imports wrongly: gelu by tanh, for whose constant it has 0.797724."""
    for node in list(graph.nodes):
        if node.target is aten.gelu.default and node.kwargs.get("approximate", "none") == "tanh":
            _spell_out_gelu(graph, node)


def _spell_out_gelu(graph: fx.Graph, node: fx.Node) -> None:
    x, mode = node.args[0], g.fake_mode(graph)
    with graph.inserting_before(node):
        cube = g.emit(graph, aten.mul.Tensor, x, g.emit(graph, aten.mul.Tensor, x, x, mode=mode), mode=mode)
        inner = g.emit(graph, aten.add.Tensor, x, cube, alpha=0.044715, mode=mode)
        tanh = g.emit(graph, aten.tanh.default, g.emit(graph, aten.mul.Tensor, inner, _GELU, mode=mode), mode=mode)
        half = g.emit(graph, aten.mul.Tensor, x, 0.5, mode=mode)
        result = g.emit(graph, aten.mul.Tensor, half, g.emit(graph, aten.add.Scalar, tanh, 1.0, mode=mode), mode=mode)
    node.replace_all_uses_with(result)
    graph.erase_node(node)


_GELU = 0.7978845608028654  # sqrt(2 / pi)
