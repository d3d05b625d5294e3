"""Make the casts of ``torch.autocast`` visible: the trace has only their effect on dtypes."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import fx

from . import graph as g
from .graph import aten
from .pointwise import is_pointwise


def is_active() -> bool:
    """Whether autocast is on for some device."""
    return torch.is_autocast_enabled("cpu") or torch.is_autocast_enabled("cuda")


@contextlib.contextmanager
def switched_off() -> Iterator[None]:
    """No autocast."""
    with torch.autocast("cpu", enabled=False), torch.autocast("cuda", enabled=False):
        yield


def spell_out(graph: fx.Graph) -> None:
    """Cast the operands of every operation whose result has another dtype than the operation alone would give it."""
    mode = g.fake_mode(graph)
    casts: dict[tuple[fx.Node, torch.dtype], fx.Node] = {}
    for node in list(graph.nodes):
        if node.op != "call_function" or not g.is_tensor(node) or not g.value(node).is_floating_point():
            continue
        wanted = g.value(node).dtype
        if _plain_dtype(node, mode) == wanted:
            continue
        for arg in g.tensor_args(node):
            if g.value(arg).is_floating_point() and g.value(arg).dtype != wanted:
                if (arg, wanted) not in casts:
                    with graph.inserting_before(node):
                        casts[arg, wanted] = g.emit(graph, aten.to.dtype, arg, wanted, mode=mode)
                node.replace_input_with(arg, casts[arg, wanted])


def _plain_dtype(node: fx.Node, mode: object) -> torch.dtype | None:
    """The dtype of the result on the operands as they are; None if they do not go together."""
    if getattr(getattr(node.target, "_schema", None), "is_mutable", False):
        return g.value(node).dtype
    dtypes = {g.value(arg).dtype for arg in g.tensor_args(node) if g.value(arg).is_floating_point()}
    if len(dtypes) > 1 and not is_pointwise(node):  # fake tensors do not always refuse that
        return None
    try:
        result = g.run_on_fakes(node.target, node.args, node.kwargs, mode)
    except Exception:  # of whatever type the operation raises: the caller casts its operands instead
        return None
    return result.dtype if isinstance(result, torch.Tensor) else g.value(node).dtype
