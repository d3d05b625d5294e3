"""Python functions of single numbers, traced once: what a pattern, a sparsifier or a `score_mod` says of one entry."""

from __future__ import annotations

import linecache
import sys
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx import Graph, GraphModule, Node
from torch.fx.experimental.proxy_tensor import make_fx
from torch.fx.traceback import preserve_node_meta, set_stack_trace
from torch.overrides import TorchFunctionMode

from gossamer.errors import TraceError

_PACKAGES = Path(torch.__file__).parent, Path(__file__).parent


def name_of(node: Node) -> str:
    """The name of the operation of a node, whatever its overload."""
    packet = getattr(node.target, "overloadpacket", None)
    return getattr(packet, "__name__", str(node.target))


def name_of_function(function: Any) -> str:
    return getattr(function, "__name__", type(function).__name__)


def trace(function: Callable[..., Any], dtypes: Sequence[torch.dtype], who: str, name: str) -> GraphModule:
    """Traces a function of tensors without dimensions.

    Args:
        function: The function.
        dtypes: Of its arguments.
        who, name: The public function that was given it, and its name, for errors.

    Returns:
        Operations of ATen, with their results in `meta["val"]`; a node's `stack_trace` is its line.

    Raises:
        TraceError: It cannot be traced, as where a branch depends on an argument; names the line.
    """
    with FakeTensorMode(allow_non_fake_inputs=True):
        arguments = [torch.empty((), dtype=dtype, device="cpu") for dtype in dtypes]
    try:
        with preserve_node_meta(), NumberTracing():
            traced = make_fx(function)(*arguments)
    except Exception as error:
        raise TraceError(_why(error, name, who)) from error
    _fold_constants(traced.graph)
    traced.graph.eliminate_dead_code()
    return traced


def trace_numbers(
    function: Callable[..., Any], dtypes: Sequence[torch.dtype], who: str, name: str
) -> tuple[Graph, dict[str, Tensor]]:
    """Traces a function that returns a tensor without dimensions, a bool or an int, with the arguments of `trace`.

    Returns:
        What `trace` does, and copies of the tensors that the function looks into.

    Raises:
        TraceError: As `trace`, and where it returns something else.
    """
    traced = trace(function, dtypes, who, name)
    graph = traced.graph
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

    def run(*place: Tensor) -> Tensor:
        result = torch.as_tensor(evaluate(graph, place, constants, device), device=device)
        return (result != 0) | torch.zeros_like(place[-1], dtype=torch.bool)  # a constant, too, is one for each

    return torch.vmap(run)(*flat).reshape(shape)


def evaluate(
    graph: Graph,
    arguments: Sequence[Tensor],
    constants: Mapping[str, Tensor],
    device: torch.device,
    run: Callable[[Node, Callable[[Node], Any], torch.device], Any] | None = None,
) -> Any:
    """What a graph gives for one place (under vmap: for many); `run` runs one operation, as `run_node`."""
    run, values, given = run or run_node, {}, iter(arguments)
    for node in graph.nodes:
        if node.op == "placeholder":
            values[node] = next(given)
        elif node.op == "get_attr":
            values[node] = constants[node.target]
        elif node.op == "call_function":
            values[node] = run(node, values.__getitem__, device)
        else:
            return torch.fx.map_arg(node.args[0], values.__getitem__)
    raise AssertionError("a graph has an output")


def arguments_of(node: Node, value_of: Callable[[Node], Any], device: torch.device) -> tuple[Any, Any]:
    """What an operation is given; constants are made on the device, not where the trace was made."""
    given: Any = torch.fx.map_arg((node.args, node.kwargs), value_of)
    args, kwargs = given
    return args, {**kwargs, "device": device} if "device" in kwargs else kwargs


def run_node(node: Node, value_of: Callable[[Node], Any], device: torch.device) -> Any:
    args, kwargs = arguments_of(node, value_of, device)
    return node.target(*args, **kwargs)  # type: ignore[operator]


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


class NumberTracing(TorchFunctionMode):
    """Takes `table[q]` for a look-up, as for one number torch would ask the tensor what it is; notes the line of each
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


def _why(error: BaseException, name: str, who: str) -> str:
    """What to say of a function that cannot be traced, with its line."""
    where = _line(reversed(list(traceback.walk_tb(error.__traceback__))))
    if type(error).__name__ == "DataDependentOutputException":
        return (
            f"{who}: {name} takes a branch, or a number, that depends on a position, at {where}; write it with "
            "&, | and ~ or torch.where, which hold for all positions at once"
        )
    return f"{who}: {name} cannot be traced, at {where}: {type(error).__name__}: {error}"
