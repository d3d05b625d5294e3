"""Take the groups out of a graph: each becomes a ``Region``, and a call of it in the graph that is left.

What is left runs in PyTorch. Where a value is a SparseTensor at run time, views of leading dims are left to it, and any
other operation outside of a region gets it dense.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import sympy
import torch
from torch import fx

from gossamer.sparsify import sparsify
from gossamer.tensor import SparseTensor

from . import graph as g
from .analysis import Analysis, can_be_stored, lies_on
from .contract import fold_views
from .cut import Group
from .derived import permutation
from .fills import options_of
from .graph import aten
from .leaf import Stored
from .marker import ANNOTATE, CAPTURED, STORED, stored_on
from .reach import ordered
from .region import Region, RegionInput, RegionOutput
from .trace import Constant, Shapes, Trace


@dataclass
class Split:
    """The graph that is left, and its regions.

    Attributes:
        graph: takes the list of leaf shapes, then the leaves; the target of call number i of a region is the object
            that ``make_call(region, ...)`` returned for it.
        regions: in the order in which they are called.
        fallbacks: operations outside that get a sparse operand densely, and why.
    """

    graph: fx.Graph
    regions: list[Region] = field(default_factory=list)
    fallbacks: dict[str, str] = field(default_factory=dict)


Call = Callable[..., tuple[Any, ...]]


def split(
    trace: Trace,
    shapes: fx.Node,
    found: Analysis,
    groups: Sequence[Group],
    make_call: Callable[[Region, Callable[[Shapes], list[tuple[int, ...]]], Callable[[Shapes], tuple[Any, ...]]], Call],
) -> Split:
    """Build the graph that is left.

    Args:
        trace: the normalized and analyzed trace.
        shapes: its placeholder for the leaves' shapes.
        found: what is sparse in it.
        groups: what becomes a region.
        make_call: called for every region with functions from the leaves' shapes to the shapes of its results, and to
            those of its inputs that are numbers; returns what the graph calls as ``call(shapes, *inputs)``, for a tuple
            of the results.
    """
    return _Splitter(trace, shapes, found, groups, make_call).run()


def densify(value: Any) -> torch.Tensor:
    """A SparseTensor with all its entries; also what a dense tensor is already."""
    return value.to_dense() if isinstance(value, SparseTensor) else value


class ViewOf:
    """A view of leading dims of a SparseTensor."""

    __name__ = "view_of"

    def __init__(self, sizes: Callable[[Shapes], tuple[int, ...]]):
        self._sizes = sizes

    def __call__(self, shapes: Shapes, tensor: SparseTensor) -> SparseTensor:
        pattern = tensor.pattern.view(self._sizes(shapes))
        return SparseTensor(pattern, tensor.values.reshape(pattern.values_shape), tensor.fill)


class ShapeOf:
    """The sizes of a value, from those of the leaves."""

    __name__ = "shape_of"

    def __init__(self, sizes: Callable[[Shapes], tuple[int, ...]]):
        self._sizes = sizes

    def __call__(self, shapes: Shapes) -> tuple[int, ...]:
        return self._sizes(shapes)


class Stores:
    """``gs.annotate`` in a graph: stores a tensor in a format."""

    __name__ = "annotate"

    def __init__(self, stored: Stored, by: Any = None):
        self.stored = stored
        self.by = by

    def __call__(self, tensor: torch.Tensor | SparseTensor) -> SparseTensor:
        if isinstance(tensor, SparseTensor) and self.by is None:
            return tensor.to(self.stored.format)
        return sparsify(tensor, self.stored.format, by=self.by, fill=self.stored.fill)


class _Splitter:
    def __init__(self, trace: Trace, shapes: fx.Node, found: Analysis, groups: Sequence[Group], make_call: Any):
        self.trace, self.shapes, self.found, self.make_call = trace, shapes, found, make_call
        self.order = g.positions(trace.graph.nodes)
        self.groups = [group for group in groups if self._has_sparse_input(group)]
        self.owner = {node: group for group in self.groups for node in group.owned}
        self.stored: dict[fx.Node, Stored] = dict(found.sources)  # what is a SparseTensor at run time
        placeholders = [node for node in trace.graph.nodes if node.op == "placeholder"][1:]
        self.names = {node: leaf.name for node, leaf in zip(placeholders, trace.leaves, strict=True)}
        self.new: dict[fx.Node, fx.Node] = {}
        self.dense: dict[fx.Node, fx.Node] = {}

    def run(self) -> Split:
        units = ordered(self.trace.graph, self.owner, g.segments(self.trace.graph))
        outputs = self._needed(units)
        self.split = Split(fx.Graph())
        for unit in units:
            if isinstance(unit, Group):
                if outputs[unit]:
                    self._add_region(unit, outputs[unit])
            elif unit in outputs:
                self._add_node(unit)
        self.split.graph.lint()
        return self.split

    def _has_sparse_input(self, group: Group) -> bool:
        return any(arg in self.found.sources for arg in self._inputs(group)) or any(
            arg in self.found.sparse for arg in self._inputs(group)
        )

    def _inputs(self, group: Group) -> list[fx.Node]:
        members = group.members
        found = {arg for node in members for arg in node.all_input_nodes if arg not in members}
        return sorted(found, key=self.order.__getitem__)

    def _needed(self, units: Sequence[Any]) -> dict[Any, Any]:
        """For each group that is needed its outputs; for each other node that is needed True."""
        needed: set[fx.Node] = set()
        result: dict[Any, Any] = {}
        for unit in reversed(units):
            if isinstance(unit, Group):
                result[unit] = [node for node in sorted(unit.owned, key=self.order.__getitem__) if node in needed]
                if result[unit]:
                    needed.update(self._inputs(unit))
                    needed.update(source for node in result[unit] if (source := self._pattern_source(node)))
            elif g.is_impure(unit) or unit in needed:
                result[unit] = True
                needed.update(unit.all_input_nodes)
        return result

    # --- regions

    def _pattern_source(self, node: fx.Node) -> fx.Node | None:
        """The source on whose pattern a region's output can be stored as it is."""
        sparse = self.found.sparse.get(node)
        if sparse is None or not can_be_stored(sparse.fill, g.value(node).dtype):
            return None
        return lies_on(self.found, node)

    def _shared(self, inputs: Sequence[fx.Node]) -> list[int | None]:
        """For each input of a region the first one with the same pattern, where there is an earlier one."""
        first: dict[fx.Node, int] = {}
        shared: list[int | None] = []
        for number, node in enumerate(inputs):
            source = lies_on(self.found, node) if node in self.stored else None
            earlier = number if source is None else first.setdefault(source, number)
            shared.append(None if earlier == number else earlier)
        return shared

    def _add_region(self, group: Group, outputs: list[fx.Node]) -> None:
        inputs = self._inputs(group)
        patterns: list[int | None] = []
        for node in outputs:
            source = self._pattern_source(node)
            if source is None:
                patterns.append(None)
                continue
            carrier = next((i for i in inputs if i in self.stored and lies_on(self.found, i) is source), source)
            if carrier not in inputs:
                inputs.append(carrier)
            patterns.append(inputs.index(carrier))
        region = self._region(group, inputs, outputs, patterns)
        shapes = [output.shape for output in region.outputs]
        numbers = [i.number for i in region.inputs if i.number is not None]
        call = self.make_call(region, self.trace.shapes(shapes), self.trace.sizes(numbers))
        self.split.regions.append(region)
        graph = self.split.graph
        args = [self.new[node] for node in inputs]
        result = graph.call_function(call, (self.new[self.shapes], *args))
        for number, (node, pattern) in enumerate(zip(outputs, patterns, strict=True)):
            self.new[node] = graph.call_function(operator.getitem, (result, number))
            if pattern is not None:
                stored = self.stored[inputs[pattern]]
                self.stored[node] = Stored(
                    stored.format, self.found.sparse[node].fill, stored.pos_width, stored.crd_width
                )

    def _region(
        self, group: Group, inputs: list[fx.Node], outputs: list[fx.Node], patterns: list[int | None]
    ) -> Region:
        graph = fx.Graph()
        copies: dict[fx.Node, fx.Node] = {}
        for number, node in enumerate(inputs):
            copies[node] = graph.placeholder(f"input{number}")
            copies[node].meta = {"val": g.value(node)}
        for node in sorted(group.members, key=self.order.__getitem__):
            if node.target is STORED:
                x, on = (copies[arg] for arg in node.args)
                copies[node] = graph.call_function(stored_on, (x, on, self.found.sparse[node].fill or 0.0))
            else:
                copies[node] = graph.node_copy(node, copies.__getitem__)
            copies[node].meta = {"val": g.value(node)}
        graph.output(tuple(copies[node] for node in outputs))
        fold_views(graph)
        g.prune(graph)
        described = []
        for node, pattern in zip(outputs, patterns, strict=True):
            value = g.value(node)
            fill = self.found.sparse[node].fill if pattern is not None else 0
            described.append(RegionOutput(g.expressions(value, self.trace.env), value.dtype, pattern, fill))
        return Region(
            graph,
            tuple(
                RegionInput(self.names.get(node, node.name), self.stored.get(node), shares, self._number(node))
                for node, shares in zip(inputs, self._shared(inputs), strict=True)
            ),
            tuple(described),
        )

    def _number(self, node: fx.Node) -> sympy.Expr | None:
        """The number that a tensor was made of."""
        if node.target is not aten.scalar_tensor.default:
            return None
        made_of = g.value(node.args[0]) if isinstance(node.args[0], fx.Node) else node.args[0]
        if isinstance(made_of, torch.SymInt | torch.SymFloat):
            return self.trace.env.simplify(made_of.node.expr)
        return sympy.sympify(made_of)

    # --- what is left

    def _add_node(self, node: fx.Node) -> None:
        graph = self.split.graph
        if (node in self.found.sources or node in self.found.derived) and node.op == "call_function":
            self.new[node] = self._source(node)
            return
        takes_sparse = any(arg in self.stored for arg in node.all_input_nodes)
        if node in self.found.fallbacks or (takes_sparse and node.op == "call_function"):
            self._note_fallback(node)
        if node.op in ("placeholder", "output") or not takes_sparse:
            self.new[node] = graph.node_copy(node, self.new.__getitem__)
            return
        self.new[node] = graph.node_copy(node, self._densified)

    def _source(self, node: fx.Node) -> fx.Node:
        """``gs.annotate``, or a view that the SparseTensor gives."""
        graph = self.split.graph
        if node.target is CAPTURED:
            return graph.call_function(Constant(self.found.held[node.args[0]]))
        if (derivation := self.found.derived.get(node)) is not None:
            args = fx.map_arg(derivation.args, self.new.__getitem__)
            if derivation.wants_shape:
                args = self._shape(node), *args
            return graph.call_function(derivation.function, args)
        operand = self.new[node.args[0]]
        if node.target is ANNOTATE:
            by = options_of(node, self.found).get("by")
            return graph.call_function(Stores(self.found.sources[node], by), (operand,))
        if node.target is aten.detach.default:
            return graph.call_method("detach", (operand,))
        if node.target in (aten.transpose.int, aten.permute.default):
            return graph.call_method("permute", (operand, *permutation(node)))
        sizes = self.trace.sizes(g.expressions(g.value(node), self.trace.env))
        return graph.call_function(ViewOf(sizes), (self.new[self.shapes], operand))

    def _shape(self, node: fx.Node) -> fx.Node:
        """The sizes of a value at run time."""
        sizes = self.trace.sizes(g.expressions(g.value(node), self.trace.env))
        return self.split.graph.call_function(ShapeOf(sizes), (self.new[self.shapes],))

    def _densified(self, arg: fx.Node) -> fx.Node:
        if arg not in self.stored:
            return self.new[arg]
        if arg not in self.dense:
            self.dense[arg] = self.split.graph.call_function(densify, (self.new[arg],))
        return self.dense[arg]

    def _note_fallback(self, node: fx.Node) -> None:
        reason = self.found.fallbacks.get(node, "its sparse operand could not be joined with the region that makes it")
        self.split.fallbacks.setdefault(node.meta.get("made_of") or str(node.target), reason)
