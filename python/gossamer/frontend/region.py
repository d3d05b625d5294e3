"""A region: the part of a graph that becomes one kernel."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from importlib import metadata
from pathlib import Path

import sympy
import torch
from torch import fx

from . import graph as g
from .leaf import Stored


@dataclass(frozen=True)
class RegionInput:
    """An argument of a region: a dense tensor, or (``stored`` not None) a sparse one.

    Attributes:
        shares: the number of an earlier argument whose very pattern a sparse one has; None if it brings its own.
        number: what a dense one is that is a number, as it follows from the sizes of a call; None if it is none.
    """

    name: str
    stored: Stored | None
    shares: int | None = None
    number: sympy.Expr | None = None


@dataclass(frozen=True)
class RegionOutput:
    """A result of a region: dense, or on the pattern of the argument number ``pattern_of`` with this fill."""

    shape: tuple[sympy.Expr, ...]
    dtype: torch.dtype
    pattern_of: int | None = None
    fill: float | int | bool = 0


@dataclass(eq=False)
class Region:
    """A graph on dense tensors, and which of its inputs and outputs are sparse.

    Attributes:
        graph: placeholders for the inputs; the output is a tuple.
        inputs: what the placeholders stand for.
        outputs: what the results are.
    """

    graph: fx.Graph
    inputs: tuple[RegionInput, ...]
    outputs: tuple[RegionOutput, ...]

    @cached_property
    def canonical(self) -> str:
        """All that code depends on but the encodings: operations, constants, dtypes, and sizes up to their names."""
        env = g.fake_mode(self.graph).shape_env
        numbers: dict[fx.Node, str] = {}
        symbols: dict[sympy.Symbol, sympy.Symbol] = {}
        lines = []
        for node in self.graph.nodes:
            numbers[node] = f"%{len(numbers)}"
            args = fx.map_arg((node.args, node.kwargs), lambda arg: _Name(numbers[arg]))
            lines.append(f"{numbers[node]}: {_typed(node, env, symbols)} = {node.op} {_target(node)} {args!r}")
        lines += [f"fill {i.stored.fill} on {i.shares}" if i.stored else "dense" for i in self.inputs]
        lines += [f"on {output.pattern_of} fill {output.fill}" for output in self.outputs]
        return "\n".join(lines)

    @property
    def encodings(self) -> tuple[str | None, ...]:
        """The encodings of the inputs, as far as the trace knows them."""
        return tuple(i.stored.encoding if i.stored else None for i in self.inputs)

    def key(self, encodings: Sequence[str | None]) -> str:
        """SHA-256 of all that the region's text depends on; the same in every process."""
        return hashlib.sha256("\n".join([_versions(), self.canonical, *map(str, encodings)]).encode()).hexdigest()

    def text(self, encodings: Sequence[str | None] | None = None) -> str:
        """The hand-off text: ``linalg`` with encodings on the arguments. Loads torch-mlir."""
        from .annotate import ArgumentEncoding, annotate

        encodings = self.encodings if encodings is None else encodings
        arguments = [
            None if i.stored is None else ArgumentEncoding(str(encoding), i.stored.fill, i.shares)
            for i, encoding in zip(self.inputs, encodings, strict=True)
        ]
        return annotate(self._module(), arguments, [output.pattern_of for output in self.outputs])

    def imported(self) -> str:
        """The text before annotation: dense ``linalg``. Loads torch-mlir."""
        return str(self._module())

    def operations(self) -> list[str]:
        """The names of the operations, in order."""
        return [_target(node) for node in self.graph.nodes if node.op == "call_function"]

    def _module(self):
        from .importer import import_region

        return import_region(self.graph)


class _Name(str):
    """Text that prints without quotes."""

    def __repr__(self) -> str:
        return str(self)


def _target(node: fx.Node) -> str:
    if node.op != "call_function":
        return ""
    return str(node.target) if isinstance(node.target, torch._ops.OpOverload) else node.target.__name__


def _typed(node: fx.Node, env: object, symbols: dict[sympy.Symbol, sympy.Symbol]) -> str:
    value = g.value(node)
    if not isinstance(value, torch.Tensor):
        return ""
    shape = []
    for expr in g.expressions(value, env):
        for symbol in sorted(expr.free_symbols, key=str):
            symbols.setdefault(symbol, sympy.Symbol(f"n{len(symbols)}", integer=True, positive=True))
        shape.append(str(expr.xreplace(symbols)))
    return f"{value.dtype}[{', '.join(shape)}] {value.device.type}"


@cache
def _versions() -> str:
    """Of the packages that make the text, and of this one's own code."""
    own = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        own.update(path.read_bytes())
    return f"torch {torch.__version__} torch-mlir {metadata.version('torch-mlir')} {own.hexdigest()}"
