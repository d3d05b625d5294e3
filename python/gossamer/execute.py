"""Run a region: by its compiled kernel, or (as an oracle, and for gradients) densely in PyTorch."""

from __future__ import annotations

import math
import time
import warnings
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch

from gossamer.autograd import Gradients, differentiable
from gossamer.coordinates import node_index
from gossamer.errors import CompileError, FallbackWarning, TensorError, UnsupportedError
from gossamer.pattern import Pattern
from gossamer.runtime.kernel import encoding_of
from gossamer.runtime.signature import DTYPES
from gossamer.tensor import SparseTensor, fill_of

if TYPE_CHECKING:
    from gossamer.frontend.region import Region
    from gossamer.tile_region import TileRegion

# kernels that some region of this process has
_known: weakref.WeakSet[Any] = weakref.WeakSet()
_is_grad_enabled = torch.is_grad_enabled
Shapes = Sequence[Sequence[int]]
ResultShapes = Callable[[Shapes], list[tuple[int, ...]]]
Value = Any  # a Tensor or a SparseTensor


@dataclass
class Warnings:
    """Warns once per topic; belongs to one compiled function."""

    said: dict[str, str] = field(default_factory=dict)

    def once(self, topic: str, text: str) -> None:
        """Issue a FallbackWarning unless the topic was warned about before."""
        if topic not in self.said:
            self.said[topic] = text
            warnings.warn(text, FallbackWarning, stacklevel=2)


class RegionKernel:
    """What stands in a graph for a region.

    Args:
        region: the region.
        shapes: gives the shapes of its results.
        backend: "compiled", or "reference" to run it densely in PyTorch.
        warn: where fallbacks are said.
        fullgraph: whether a region that the compiler refuses is an error.
        tiles: the attention that the region is, for where a tile program runs it.

    Attributes:
        is_dense: whether all of its results are dense.
    """

    __name__ = "region"

    def __init__(
        self,
        region: Region,
        shapes: ResultShapes,
        backend: str,
        warn: Warnings,
        fullgraph: bool,
        tiles: TileRegion | None = None,
    ):
        self.region = region
        self.tiles = tiles
        self.backend = backend
        self.compile_ms = 0.0
        self.origins: list[str] = []  # of its kernels: "compiled", "disk" or "memory"
        self.refused: str | None = None
        self.compiled: dict[tuple[str | None, ...], Any] = {}  # by chip ("": the CPU) and encodings
        self._shapes = shapes
        self.warn = warn
        self.fullgraph = fullgraph
        self.is_dense = all(output.pattern_of is None for output in region.outputs)
        self._callers: tuple[Any, ...] = ()
        self._shortened: set[Any] = set()
        self._sparse = [number for number, i in enumerate(region.inputs) if i.stored is not None]

    def __call__(self, leaves: Shapes, *inputs: Value) -> tuple[Value, ...]:
        """Run on inputs as the region describes them.

        Args:
            leaves: the shapes of the leaves of the call.
            inputs: tensors, or SparseTensors where the region has sparse inputs.

        Returns:
            The region's results, dense or sparse.
        """
        if self.tiles is not None:
            results = self.tiles(leaves, inputs)
            if results is not None:
                return results
        shapes = self._shapes(leaves)
        if _is_grad_enabled():
            for i in inputs:
                if i.requires_grad:
                    return differentiable(self, shapes, inputs)
        return self.run(shapes, inputs)

    def run(self, shapes: list[tuple[int, ...]], inputs: Sequence[Value]) -> tuple[Value, ...]:
        """Run outside of autograd."""
        for call in self._callers:
            results = call(shapes, inputs)
            if results is not None:
                return results
        kernel = self._kernel(inputs)
        if kernel is None:
            with torch.no_grad():
                return self.run_densely(inputs)
        wanted = [None if o.pattern_of is not None else s for o, s in zip(self.region.outputs, shapes, strict=True)]
        results = kernel(inputs, wanted)
        self._shorten(kernel, inputs)
        return tuple(
            result if output.pattern_of is None else _finished(result, output.fill)
            for result, output in zip(results, self.region.outputs, strict=True)
        )

    def _shorten(self, kernel: Any, inputs: Sequence[Value]) -> None:
        """Next time, inputs like these go the short way."""
        if kernel in self._shortened:
            return
        self._shortened.add(kernel)
        fills = [None if o.pattern_of is None else fill_of(o.dtype, o.fill) for o in self.region.outputs]
        caller = kernel.caller(inputs, fills)
        if caller is not None:
            self._callers = (*self._callers, caller)

    def run_densely(self, inputs: Sequence[Value]) -> tuple[Value, ...]:
        """Run in PyTorch with all entries; differentiable."""
        dense = [i.to_dense() if isinstance(i, SparseTensor) else i for i in inputs]
        results = self._dense(*dense)
        return tuple(
            result if output.pattern_of is None else sample(result, inputs[output.pattern_of].pattern, output.fill)
            for result, output in zip(results, self.region.outputs, strict=True)
        )

    @cached_property
    def gradients(self) -> Gradients:
        """Its backward."""
        return Gradients(self)

    def backward_kernels(self) -> list[RegionKernel]:
        """The regions of its backward, as far as there is one."""
        made = self.__dict__.get("gradients")
        return [kernel for program in made.programs for kernel in program.kernels] if made else []

    @cached_property
    def _dense(self) -> Callable[..., tuple[torch.Tensor, ...]]:
        from torch import fx

        graph = fx.Graph()
        graph.output(graph.graph_copy(self.region.graph, {}))
        for node in graph.nodes:
            if node.target in _SAFE:
                node.target = _SAFE[node.target]
        return fx.GraphModule(torch.nn.Module(), graph)

    def _kernel(self, inputs: Sequence[Value]) -> Any:
        """The machine code for these formats; None where the region runs densely."""
        if self.backend == "reference" or self.refused is not None:
            return None
        device = next((i.device for i in inputs if i.device.type != "cpu"), None)
        chip = ""
        if device is not None:
            chip = self._chip(device, inputs)
            if chip is None:
                return None
        dtype = next((i.dtype for i in inputs if i.dtype not in DTYPES.values()), None)
        if dtype is not None:
            self._refuse(f"there are no kernels for {dtype}")
            return None
        encodings: list[str | None] = [None] * len(inputs)
        for number in self._sparse:
            encodings[number] = encoding_of(inputs[number].pattern)
        key = (chip, *encodings)
        if key not in self.compiled:
            self._compile(chip, tuple(encodings))
        return self.compiled.get(key)

    def _chip(self, device: torch.device, inputs: Sequence[Value]) -> str | None:
        """The chip of a device, if there are kernels for it; raises TensorError if inputs are elsewhere, too."""
        if device.type != "cuda":
            self._refuse(f"its tensors are on {device}, and there are kernels for the CPU and for NVIDIA GPUs only")
            return None
        for number, value in enumerate(inputs):
            if value.device != device and (value.dim() or isinstance(value, SparseTensor)):
                name = self.region.inputs[number].name
                raise TensorError(f"{name} is on {value.device} and others are on {device}: move one of them")
        from gossamer.runtime.cuda import chip_of, number_of

        try:
            return chip_of(number_of(device))
        except UnsupportedError as error:
            self._refuse(str(error))
            return None

    def _compile(self, chip: str, encodings: tuple[str | None, ...]) -> None:
        from gossamer.compiler.compile import compile_region

        def make_text() -> str:
            self.origins.append("compiled")
            return self.region.text(encodings)

        start = time.perf_counter()
        try:
            compiled = compile_region(self.region.key(encodings), make_text, chip)
            if "compiled" not in self.origins:
                self.origins.append("memory" if compiled in _known else "disk")
            _known.add(compiled)
            self.compiled[chip, *encodings] = compiled
        except (CompileError, UnsupportedError) as error:
            if self.fullgraph or "crashed" in str(error):
                raise
            self._refuse(str(error))
        finally:
            self.compile_ms += (time.perf_counter() - start) * 1e3

    def _refuse(self, reason: str) -> None:
        operations = ", ".join(dict.fromkeys(self.region.operations()))
        if self.fullgraph:
            raise UnsupportedError(f"fullgraph=True, but a region ({operations}) cannot be compiled: {reason}")
        self.refused = reason
        self.warn.once(f"region {id(self)}", f"a region ({operations}) runs densely in PyTorch: {reason}")


def _finished(result: SparseTensor, fill: float | int | bool) -> SparseTensor:
    """What a kernel stored, with the fill in the slots that the pattern does not use, which it did not write."""
    pattern, values = result.pattern, result.values
    if pattern.nnz != pattern.storage_size:
        unused = pattern.derived("unused", lambda: node_index(pattern) < 0)
        values.view(-1, pattern.inner_size).masked_fill_(unused[:, None], fill)
    return SparseTensor(pattern, values, fill)


def sample(dense: torch.Tensor, pattern: Pattern, fill: float | int | bool) -> SparseTensor:
    """The entries of a dense tensor at a pattern's positions; differentiable."""
    index = pattern.coo()
    values = dense[tuple(index.clamp(min=0))]
    if bool((index[:1] < 0).any()):  # slots that are not used
        values = values.masked_fill(index[0] < 0, fill)
    return SparseTensor(pattern, values.reshape(pattern.values_shape), fill)


def _masked_rows(x: torch.Tensor, dim: int) -> torch.Tensor:
    return (x == -math.inf).all(dim, keepdim=True)


def safe_softmax(x: torch.Tensor, dim: int) -> torch.Tensor:
    """Softmax that gives 0, with gradient 0, where all entries are -inf."""
    if not x.size(dim):
        return torch.softmax(x, dim)
    nothing = _masked_rows(x, dim)
    return torch.softmax(x.masked_fill(nothing, 0.0), dim).masked_fill(nothing, 0.0)


def safe_log_softmax(x: torch.Tensor, dim: int) -> torch.Tensor:
    """Likewise -inf where all entries are -inf."""
    if not x.size(dim):
        return torch.log_softmax(x, dim)
    nothing = _masked_rows(x, dim)
    return torch.log_softmax(x.masked_fill(nothing, 0.0), dim).masked_fill(nothing, -math.inf)


_SAFE = {torch.ops.aten.softmax.int: safe_softmax, torch.ops.aten.log_softmax.int: safe_log_softmax}
