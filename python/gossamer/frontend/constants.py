"""What pointwise operations give where their sparse operands are not stored."""

from __future__ import annotations

import torch
from torch import fx

from gossamer.derive.elementwise import agreed, probes

from . import graph as g
from .analysis import Fill
from .decompose import Refused
from .graph import aten
from .trace import Constant


def fill_of(node: fx.Node, at_fill: dict[fx.Node, Fill]) -> Fill | None:
    """The result where the given operands are at their fill; None if it depends on the other operands."""
    others = [arg for arg in g.tensor_args(node) if arg not in at_fill]
    samples: dict[fx.Node, torch.Tensor] = {}
    for axis, arg in enumerate(others):
        samples[arg] = probes(g.value(arg).dtype).reshape([-1 if i == axis else 1 for i in range(len(others))])
    zeros = torch.zeros((), dtype=torch.bool)
    for arg in others:
        if (constant := constant_of(arg)) is not None:
            samples[arg] = torch.full([1] * len(others), constant, dtype=g.value(arg).dtype)
        else:
            zeros = zeros | (samples[arg] == 0)
    for arg, fill in at_fill.items():
        samples[arg] = torch.full([1] * len(others), fill, dtype=g.value(arg).dtype)
    try:
        args, kwargs = fx.map_arg((node.args, node.kwargs), samples.__getitem__)
        kwargs = {key: torch.device("cpu") if key == "device" else value for key, value in kwargs.items()}
        results = node.target(*args, **kwargs)
    except Exception as error:
        raise Refused(f"it cannot be evaluated on single entries ({type(error).__name__}: {error})") from error
    return agreed(results, zeros)


def constant_of(node: fx.Node) -> Fill | None:
    """The number that all entries of a dense node are, if the graph says it."""
    if isinstance(node.target, Constant):
        return node.target.tensor.flatten()[0].item() if node.target.tensor.numel() == 1 else None
    if node.target in _UNIFORM:
        number = _UNIFORM[node.target]
        value = node.args[number] if isinstance(number, int) and number >= 0 else number == "one"
        return value if isinstance(value, float | int | bool) else None
    if node.target in _SAME_NUMBER:
        return constant_of(node.args[0])
    return None


_UNIFORM = {
    aten.full.default: 1, aten.full_like.default: 1, aten.new_full.default: 2, aten.scalar_tensor.default: 0,
    aten.zeros.default: "zero", aten.zeros_like.default: "zero", aten.new_zeros.default: "zero",
    aten.ones.default: "one", aten.ones_like.default: "one", aten.new_ones.default: "one",
}  # fmt: skip
_SAME_NUMBER = {
    aten.lift_fresh_copy.default, aten.lift_fresh.default, aten.to.dtype, aten.detach.default, aten.expand.default,
    aten.alias.default, aten.clone.default,
}  # fmt: skip
