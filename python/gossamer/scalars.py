"""Python functions of single numbers, traced once: what a pattern or a sparsifier says of one entry."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx import Graph, Node
from torch.fx.experimental.proxy_tensor import make_fx
from torch.overrides import TorchFunctionMode

from gossamer.errors import TraceError

_PACKAGES = Path(torch.__file__).parent, Path(__file__).parent


def name_of(node: Node) -> str:
    """The name of the operation of a node, whatever its overload."""
    packet = getattr(node.target, "overloadpacket", None)
    return getattr(packet, "__name__", str(node.target))


def trace_numbers(
    function: Callable[..., Any], dtypes: Sequence[torch.dtype], who: str, name: str
) -> tuple[Graph, dict[str, Tensor]]:
    """Traces a function of tensors without dimensions that returns one, a bool or an int.

    Args:
        function: The function.
        dtypes: Of its arguments.
        who, name: The public function that was given it, and its name, for errors.

    Returns:
        Operations of ATen, with the dtypes of their results in `meta["val"]`; copies of the tensors that it looks into.

    Raises:
        TraceError: It cannot be traced, as where a branch depends on an argument (names the line), or returns
            something else.
    """
    with FakeTensorMode(allow_non_fake_inputs=True):
        arguments = [torch.empty((), dtype=dtype, device="cpu") for dtype in dtypes]
    try:
        with IndexByTensors():
            traced = make_fx(function)(*arguments)
    except Exception as error:
        raise TraceError(_why(error, name, who)) from error
    graph = traced.graph
    _fold_constants(graph)
    graph.eliminate_dead_code()
    output = next(node for node in graph.nodes if node.op == "output").args[0]
    if not isinstance(output, Node | bool | int):
        raise TraceError(f"{who}: {name} returns {type(output).__name__}; it returns a bool for each position")
    if isinstance(output, Node) and tuple(output.meta["val"].shape) != ():
        shape = list(output.meta["val"].shape)
        raise TraceError(f"{who}: {name} returns a tensor of shape {shape} for one position, not one bool")
    constants = {node.target: getattr(traced, node.target).detach() for node in graph.nodes if node.op == "get_attr"}
    return graph, {key: value.clone() for key, value in constants.items()}


def run_numbers(
    graph: Graph, arguments: Sequence[Tensor], constants: Mapping[str, Tensor], device: torch.device
) -> Tensor:
    """Evaluates what was traced, by PyTorch.

    Args:
        graph: What `trace_numbers` returned.
        arguments: Tensors of one shape.
        constants: By name, on the device.
        device: Of the arguments.

    Returns:
        Whether the result is not 0: bool, of the shape of the arguments.
    """
    shape = arguments[0].shape
    if not arguments[0].numel():
        return torch.zeros(shape, dtype=torch.bool, device=device)
    flat = [x.reshape(-1) for x in arguments]
    return torch.vmap(lambda *args: _run(graph, args, constants, device))(*flat).reshape(shape)


def _run(graph: Graph, arguments: Any, constants: Mapping[str, Tensor], device: torch.device) -> Tensor:
    """Evaluates the operations for one place (under vmap: for many)."""
    values: dict[Node, Any] = {}
    given = iter(arguments)
    result: Any = None
    for node in graph.nodes:
        if node.op == "placeholder":
            values[node] = next(given)
        elif node.op == "get_attr":
            values[node] = constants[node.target]
        elif node.op == "call_function":
            args, kwargs = torch.fx.map_arg((node.args, node.kwargs), values.__getitem__)
            if "device" in kwargs:  # of a constant: where the trace was made
                kwargs = {**kwargs, "device": device}
            values[node] = node.target(*args, **kwargs)
        else:
            result = torch.fx.map_arg(node.args[0], values.__getitem__)
    result = torch.as_tensor(result, device=device)
    return (result != 0) | torch.zeros_like(arguments[-1], dtype=torch.bool)  # a constant, too, is one for each


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


def code_of(graph: Graph) -> str:
    """What it computes, as text."""
    lines = []
    for node in graph.nodes:
        if node.op != "placeholder":
            lines.append(f"{node.name} = {node.target}({node.args}, {node.kwargs})")
    return "\n".join(lines)


class IndexByTensors(TorchFunctionMode):
    """Takes `table[q]` for a look-up: for one number torch would ask the tensor what it is."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is Tensor.__getitem__:
            table, index = args
            index = index if isinstance(index, tuple) else (index,)
            tensors = any(isinstance(i, Tensor) and i.dtype != torch.bool for i in index)
            if tensors and all(isinstance(i, int | Tensor) for i in index):
                index = [i if isinstance(i, Tensor) else torch.tensor(i, device=table.device) for i in index]
                return torch.ops.aten.index(table, index)
        return func(*args, **(kwargs or {}))


def _why(error: BaseException, name: str, who: str) -> str:
    """What to say of a function that cannot be traced, with its line."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [f for f in frames if not any(Path(f.filename).is_relative_to(package) for package in _PACKAGES)]
    where = f'{own[-1].filename}:{own[-1].lineno}: "{own[-1].line}"' if own else "an unknown line"
    if type(error).__name__ == "DataDependentOutputException":
        return (
            f"{who}: {name} takes a branch, or a number, that depends on a position, at {where}; write it with "
            "&, | and ~ or torch.where, which hold for all positions at once"
        )
    return f"{who}: {name} cannot be traced, at {where}: {type(error).__name__}: {error}"
