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
    """Replace what torch-mlir imports wrongly: gelu by tanh, for whose constant it has 0.797724; narrow integers.

    On int8 and int16 it crashes over Python's numbers and over mixed dtypes: operands are made tensors of the result's
    dtype. It sums half precision in half precision.
    """
    for node in list(graph.nodes):
        if node.target is aten.gelu.default and node.kwargs.get("approximate", "none") == "tanh":
            _spell_out_gelu(graph, node)
        elif node.target in _SUMS and g.value(node).dtype in _HALF:
            _spell_out_sum(graph, node)
        elif g.is_tensor(node) and g.value(node).dtype in _NARROW and _is_of_two(node):
            _spell_out_narrow(graph, node)


_HALF = (torch.float16, torch.bfloat16)
_SUMS = {
    getattr(packet, overload)
    for packet in (aten.sum, aten.mean)
    for overload in ("default", "dim", "dim_IntList")
    if hasattr(packet, overload)
}


def _spell_out_sum(graph: fx.Graph, node: fx.Node) -> None:
    mode, dtype = g.fake_mode(graph), g.value(node).dtype
    kwargs = {key: value for key, value in node.kwargs.items() if key != "dtype"}
    with graph.inserting_before(node):
        wide = g.emit(graph, aten.to.dtype, node.args[0], torch.float32, mode=mode)
        total = g.emit(graph, node.target, wide, *node.args[1:], **kwargs, mode=mode)
        result = g.emit(graph, aten.to.dtype, total, dtype, mode=mode)
    node.replace_all_uses_with(result)
    graph.erase_node(node)


_NARROW = (torch.int8, torch.int16, torch.uint8)
_OF_TWO = {
    getattr(getattr(aten, name), overload): aten.sub if name == "rsub" else getattr(aten, name)
    for name in ("add", "sub", "rsub", "mul", "remainder", "div", "divide", "multiply", "subtract", "true_divide")
    for overload in ("Scalar", "Tensor", "Scalar_mode", "Tensor_mode")
    if hasattr(getattr(aten, name), overload)
}


def _is_of_two(node: fx.Node) -> bool:
    return node.target in _OF_TWO and len(node.args) == 2 and node.kwargs.get("alpha", 1) == 1


def _spell_out_narrow(graph: fx.Graph, node: fx.Node) -> None:
    """Both operands as tensors of the dtype of the result."""
    dtype, mode = g.value(node).dtype, g.fake_mode(graph)
    kwargs = {key: value for key, value in node.kwargs.items() if key != "alpha"}
    if all(g.is_tensor(arg) and g.value(arg).dtype == dtype for arg in node.args):
        return
    with graph.inserting_before(node):
        operands = [
            g.emit(graph, aten.to.dtype, arg, dtype, mode=mode)
            if g.is_tensor(arg)
            else g.emit(graph, aten.full.default, [], int(arg), dtype=dtype, mode=mode)
            for arg in node.args
        ]
        if node.target in (aten.rsub.Scalar, aten.rsub.Tensor):
            operands.reverse()
        packet = _OF_TWO[node.target]
        overload = packet.Tensor_mode if "rounding_mode" in kwargs else packet.Tensor
        result = g.emit(graph, overload, *operands, **kwargs, mode=mode)
    node.replace_all_uses_with(result)
    graph.erase_node(node)


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
