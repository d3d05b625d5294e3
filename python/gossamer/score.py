"""Functions of scores: what `gs.attention(..., score_mod=f)` does to scale q k^T before masks and softmax."""

from __future__ import annotations

import struct
from collections.abc import Callable
from functools import cached_property
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from torch.fx import Node

from gossamer.errors import TensorError, TraceError, UnsupportedError
from gossamer.numbered import Numbered
from gossamer.scalars import arguments_of, evaluate, name_of, name_of_function, trace
from gossamer.score_operations import region_of

ScoreMod = Callable[[Any, Any, Any, Any, Any], Any]
# Of each function what it was traced to, and what it captured then.
_scores: WeakKeyDictionary[FunctionType, tuple[list[Any], Score]] = WeakKeyDictionary()
_DTYPES = torch.float32, torch.int64, torch.int64, torch.int64, torch.int64
# Of the memory of a table.
_MEMORY = {"f32": torch.float32, "i32": torch.int32}


class Score(Numbered):
    """A function of scores, traced once: f(score, batch, head, query, key), as the `score_mod` of flex_attention.

    It is given numbers: a score (float32) and its place, and returns the score instead. It may do arithmetic, compare,
    choose (`torch.where`), and look single numbers up in tensors that it captures. Such tensors are read each time that
    attention runs: other numbers in them, or another tensor of the same dtype and rank, compile nothing; a Python
    number is part of the code. Places that a mask excludes are computed, too, so an index beyond a tensor is taken for
    the nearest. Integers have 32 bits.

    Args:
        function: On tensors without dimensions; branches and loops must not depend on them.

    Raises:
        TraceError: It cannot be traced; names the line.
    """

    def __init__(self, function: ScoreMod):
        self.name = name_of_function(function)
        traced = trace(function, _DTYPES, "score_mod", self.name)
        self.graph = traced.graph
        output = next(node for node in self.graph.nodes if node.op == "output").args[0]
        if isinstance(output, Node) and tuple(output.meta["val"].shape) == ():
            pass
        elif not isinstance(output, int | float):
            what = f"shape {list(output.meta['val'].shape)}" if isinstance(output, Node) else type(output).__name__
            raise TraceError(f"score_mod: {self.name} returns {what} for one score; it returns one number")
        first: dict[str, Node] = {}
        for node in self.graph.find_nodes(op="get_attr"):
            node.replace_all_uses_with(first.setdefault(str(node.target), node), propagate_meta=False)
        self.graph.eliminate_dead_code()
        self.tensors = {name: getattr(traced, name) for name in first}
        names = _names_of(function)
        self._names = {name: names.get(id(tensor), name) for name, tensor in self.tensors.items()}
        self._converted: dict[Node, tuple[Any, Tensor]] = {}

    @cached_property
    def captured(self) -> dict[Node, tuple[str, int | None]]:
        """What programs are given of what depends on no score and no place: types, and how many dimensions; None: a
        number, of the processor."""
        fixed: set[Node] = set()
        edge: dict[Node, tuple[str, int | None]] = {}
        for node in self.graph.nodes:
            sources = node.all_input_nodes
            if node.op == "get_attr" or (node.op == "call_function" and sources and fixed.issuperset(sources)):
                fixed.add(node)
        for node in self.graph.nodes:
            for source in node.all_input_nodes:
                if source in fixed and node not in fixed:
                    edge[source] = self._kind(source)
        return edge

    def _kind(self, node: Node) -> tuple[str, int | None]:
        value = self.tensors[str(node.target)] if node.op == "get_attr" else node.meta["val"]
        type = "f32" if value.is_floating_point() else "i32"
        return type, None if value.dim() == 0 and value.device.type == "cpu" else value.dim()

    @cached_property
    def region(self) -> str:
        """What it does, as the compiler is told."""
        return region_of(self.graph, self.captured, derives=False)

    @cached_property
    def derived_region(self) -> str:
        """The same with its derivative.

        Raises:
            UnsupportedError: It has none; names the operation.
        """
        return region_of(self.graph, self.captured, derives=True)

    @cached_property
    def code(self) -> str:
        """What it does, and what its derivative does: two functions may do the same and differ in that."""
        region = self.region
        try:
            return region + self.derived_region
        except UnsupportedError:
            return region

    def check(self, needs_gradients: bool) -> None:
        """That it can be differentiated where that is needed.

        Raises:
            UnsupportedError: It has no derivative, or captures what requires a gradient; names the operation or the
                tensor.
        """
        if torch.is_grad_enabled():
            self.refuse_gradients()
        if needs_gradients:
            self.derived_region  # noqa: B018

    def refuse_gradients(self) -> None:
        for key, tensor in self.tensors.items():
            if tensor.requires_grad:
                name = self._names[key]
                raise UnsupportedError(
                    f"score_mod captures {name} {list(tensor.shape)}, which requires a gradient: attention has "
                    f"gradients of q, k and v only; give it {name}.detach()"
                )

    def words(self, device: torch.device) -> bytes:
        """What a program on a device is given of what is captured, as it is now."""
        values: dict[Node, Any] = {}
        words = b""
        with torch.no_grad():
            for node, (type, rank) in self.captured.items():
                value = self._value(node, values, device)
                if rank is None:
                    words += struct.pack("f4x" if type == "f32" else "q", value.item())
                    continue
                table = self._table(node, value, _MEMORY[type], device)
                words += struct.pack("q", table.data_ptr())
                for size, stride in zip(table.shape, table.stride(), strict=True):
                    words += struct.pack("2q", size, stride)
        return words

    def _value(self, node: Node, values: dict[Node, Any], device: torch.device) -> Any:
        """Of what depends on no score and no place."""
        if node.op == "get_attr":
            return self.tensors[str(node.target)]
        if node not in values:
            values[node] = _run(node, lambda source: self._value(source, values, device), device)
        return values[node]

    def _table(self, node: Node, value: Tensor, dtype: torch.dtype, device: torch.device) -> Tensor:
        """In memory that a program reads; what has to be made is kept until the tensor changes."""
        name = self._names.get(str(node.target), node.name)
        if not value.numel():
            raise TensorError(f"score_mod looks into {name}, which is empty: {list(value.shape)}")
        if sum((size - 1) * stride for size, stride in zip(value.shape, value.stride(), strict=True)) >= 1 << 31:
            raise UnsupportedError(f"score_mod counts in 32 bits, and {name} is {list(value.shape)}")
        if value.device != device:
            raise TensorError(f"score_mod looks into {name} on {value.device}, while q is on {device}")
        if value.dtype != dtype or node.op != "get_attr":
            # Kept so that it outlives what reads it.
            version = None if node.op != "get_attr" or value.is_inference() else value._version
            kept = self._converted.get(node)
            if version is None or kept is None or kept[0] != version:
                kept = self._converted[node] = version, value.to(dtype)
            return kept[1]
        return value

    def dense(self, scores: Tensor) -> Tensor:
        """Of all scores [batch, heads, queries, keys], by PyTorch."""
        device = scores.device
        places = [torch.arange(size, device=device) for size in scores.shape]
        shaped = [x.reshape([-1 if n == m else 1 for m in range(4)]) for n, x in enumerate(places)]
        result = evaluate(self.graph, (scores, *shaped), self.tensors, device, _run)
        return torch.as_tensor(result, device=device).to(scores.dtype).expand_as(scores)


def score_of(function: ScoreMod | Score | None) -> Score | None:
    """A function of scores, traced unless it was, and captures what it captured then."""
    if function is None or isinstance(function, Score):
        return function
    if not callable(function):
        raise TensorError(
            f"score_mod is a function of (score, batch, head, query, key), not a {type(function).__name__}"
        )
    if not isinstance(function, FunctionType):
        return Score(function)
    captures = _captures(function)
    kept = _scores.get(function)
    if kept is not None and len(kept[0]) == len(captures) and all(map(_is_same, kept[0], captures)):
        return kept[1]
    score = Score(function)
    _scores[function] = captures, score
    return score


def _captures(function: FunctionType) -> list[Any]:
    cells = [cell.cell_contents for cell in function.__closure__ or ()]
    return [*cells, *(function.__globals__.get(name) for name in function.__code__.co_names), function.__defaults__]


def _is_same(x: Any, y: Any) -> bool:
    """Whether a name still means the same: not known of an object, whose attributes may have changed."""
    plain = Tensor, int, float, str, ModuleType, BuiltinFunctionType, type(None)
    return x is y and isinstance(x, plain)


def _names_of(function: Any) -> dict[int, str]:
    """Of tensors that a function captures."""
    if not isinstance(function, FunctionType):
        return {}
    cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
    named = {name: cell.cell_contents for name, cell in cells}
    named |= {name: function.__globals__.get(name) for name in function.__code__.co_names}
    return {id(value): name for name, value in named.items()}


def _run(node: Node, value_of: Callable[[Node], Any], device: torch.device) -> Any:
    """An operation on whole tensors; look-ups beyond a tensor give its nearest entry, as programs do."""
    args, kwargs = arguments_of(node, value_of, device)
    if name_of(node) == "index":
        table, index = args
        wrapped = [torch.where(i < 0, i + size, i) for i, size in zip(index, table.shape, strict=True)]
        args = table, [i.clamp(0, size - 1) for i, size in zip(wrapped, table.shape, strict=True)]
    return node.target(*args, **kwargs)  # type: ignore[operator]
