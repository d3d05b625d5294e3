"""What a Python function of numbers does, traced once as operations of ATen on tensors without dimensions."""

from __future__ import annotations

import linecache
import sys
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx import Graph, GraphModule
from torch.fx.experimental.proxy_tensor import make_fx
from torch.fx.traceback import preserve_node_meta, set_stack_trace
from torch.overrides import TorchFunctionMode

from gossamer.errors import TraceError
from gossamer.patterns.expressions import name_of

_PACKAGES = Path(torch.__file__).parent, Path(__file__).parents[1]


def name_of_function(function: Any) -> str:
    return getattr(function, "__name__", type(function).__name__)


def trace(function: Callable[..., Any], dtypes: tuple[torch.dtype, ...], caller: str) -> GraphModule:
    """The operations of a function of such numbers; a node's `stack_trace` is its line.

    Raises:
        TraceError: It cannot be traced; names the line, and the caller.
    """
    with FakeTensorMode(allow_non_fake_inputs=True):
        numbers = [torch.empty((), dtype=dtype, device="cpu") for dtype in dtypes]
    try:
        with preserve_node_meta(), _Tracing():
            traced = make_fx(function)(*numbers)
    except Exception as error:
        raise TraceError(_why(error, f"{caller}: {name_of_function(function)}")) from error
    _fold_constants(traced.graph)
    traced.graph.eliminate_dead_code()
    return traced


# What makes a constant like a position, or of nothing; and its value, or where among the arguments that is.
_CONSTANTS = {"new_ones": (1, None), "ones_like": (1, None), "ones": (1, None), "new_zeros": (0, None),
              "zeros_like": (0, None), "zeros": (0, None), "new_full": (None, 2), "full_like": (None, 1)}  # fmt: skip


def _fold_constants(graph: Graph) -> None:
    """Makes constants that are made like a position constants that do not depend on it."""
    for node in list(graph.nodes):
        if node.op != "call_function" or name_of(node) not in _CONSTANTS or tuple(node.meta["val"].shape) != ():
            continue
        value, place = _CONSTANTS[name_of(node)]
        value = value if place is None else node.args[place]
        options = {"dtype": node.meta["val"].dtype, "device": torch.device("cpu")}
        with graph.inserting_before(node):
            constant = graph.call_function(torch.ops.aten.full.default, ([], value), options)
        constant.meta = dict(node.meta)
        node.replace_all_uses_with(constant)
        graph.erase_node(node)


class _Tracing(TorchFunctionMode):
    """Takes `table[q]` for a look-up, for one number torch would ask the tensor what it is; notes the line of each
    operation."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        set_stack_trace([_line(traceback.walk_stack(sys._getframe(1)))])
        if func is Tensor.__getitem__:
            table, index = args
            index = index if isinstance(index, tuple) else (index,)
            tensors = any(isinstance(i, Tensor) and i.dtype != torch.bool for i in index)
            if tensors and all(isinstance(i, int | Tensor) for i in index):
                index = [i if isinstance(i, Tensor) else torch.tensor(i, device=table.device) for i in index]
                return torch.ops.aten.index(table, index)
        return func(*args, **(kwargs or {}))


def _line(frames: Iterable[tuple[FrameType, int]]) -> str:
    """The innermost line that is neither torch's nor ours."""
    for frame, number in frames:
        file = frame.f_code.co_filename
        if not any(Path(file).is_relative_to(package) for package in _PACKAGES):
            return f'{file}:{number}: "{linecache.getline(file, number).strip()}"'
    return "an unknown line"


def _why(error: BaseException, what: str) -> str:
    """What to say of a function that cannot be traced, with its line."""
    where = _line(reversed(list(traceback.walk_tb(error.__traceback__))))
    if type(error).__name__ == "DataDependentOutputException":
        return (
            f"{what} takes a branch, or a number, that depends on a position, at {where}; write it with "
            "&, | and ~ or torch.where, which hold for all positions at once"
        )
    return f"{what} cannot be traced, at {where}: {type(error).__name__}: {error}"
