"""Pointwise operations of operands on different patterns: bring the operands on one.

Outside of the region the runtime makes the pattern: one operand's own where that one decides what is not stored
(``mask * x``), the intersection where each of two does, the union otherwise; and it looks the values of the operands up
there. Pointwise operations that lead from a source to an operand are done again on the new pattern, so that they stay
in one region; anything else is stored on its own pattern first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from torch import fx

from gossamer.derive import elementwise, formats, merge, wholes
from gossamer.errors import FormatError
from gossamer.tensor import SparseTensor

from . import graph as g
from .analysis import Analysis, add_source, lies_on
from .constants import fill_of
from .decompose import Refused
from .derived import Derivation, materialized, stored_as
from .graph import aten
from .pointwise import is_pointwise


def align(graph: fx.Graph, node: fx.Node, found: Analysis, classify: Callable[[fx.Node], None]) -> None:
    """Give a pointwise operation operands on one pattern.

    Args:
        graph: the graph.
        node: has sparse operands on several patterns.
        found: what is known so far.
        classify: finds out what a new pointwise node is.

    Raises:
        Refused: its result would be dense, or the operands cannot be brought on one pattern; says why.
    """
    _Aligner(graph, node, found, classify).run()


def _on_union(first: SparseTensor, *others: SparseTensor) -> SparseTensor:
    """The entries of the first tensor, on a pattern that is made of all."""
    return elementwise.placed(first, merge.union([first.pattern, *(other.pattern for other in others)]))


def _on_intersection(first: SparseTensor, *others: SparseTensor) -> SparseTensor:
    return elementwise.placed(first, merge.intersection([first.pattern, *(other.pattern for other in others)]))


def _placed(tensor: SparseTensor, like: SparseTensor) -> SparseTensor:
    return elementwise.placed(tensor, like.pattern)


class _Aligner:
    def __init__(self, graph: fx.Graph, node: fx.Node, found: Analysis, classify: Callable[[fx.Node], None]):
        self.graph, self.node, self.found, self.classify = graph, node, found, classify
        self.moved: dict[tuple[fx.Node, fx.Node], fx.Node] = {}

    def run(self) -> None:
        node, found = self.node, self.found
        operands = [arg for arg in g.tensor_args(node) if arg in found.sparse]
        fills = {arg: found.sparse[arg].fill for arg in operands}
        with self.graph.inserting_before(node):
            alike = self._run_alike(operands)
            shaped = {arg: arg if alike else self._in_shape(arg) for arg in operands}
            sources: dict[fx.Node, list[fx.Node]] = {}
            for arg, at in shaped.items():
                sources.setdefault(found.sparse[at].source, []).append(arg)
            like = self._pattern(sources, fills, shaped)
            placed = {arg: self._move(at, like) for arg, at in shaped.items()}
        node.args, node.kwargs = fx.map_arg((node.args, node.kwargs), lambda arg: placed.get(arg, arg))

    def _run_alike(self, operands: Sequence[fx.Node]) -> bool:
        """Whether the patterns have one shape, and run along the same dims of the result."""
        rank = g.value(self.node).dim()
        values = [self.found.sparse[arg] for arg in operands]
        dims = {(None,) * (rank - len(value.dims)) + value.dims for value in values}
        sources = [g.value(value.source) for value in values]
        return len(dims) == 1 and all(g.same_shape(source, sources[0]) for source in sources)

    def _in_shape(self, arg: fx.Node) -> fx.Node:
        """The operand in the shape of the result, on a pattern of that shape."""
        if g.same_shape(g.value(arg), g.value(self.node)) and lies_on(self.found, arg) is not None:
            return arg
        operand = materialized(self.graph, arg, self.found)
        if g.same_shape(g.value(operand), g.value(self.node)):
            return operand
        stored = stored_as(operand, self.found)
        made = self.graph.call_function(aten.expand.default, (operand, []))
        with g.fake_mode(self.graph):
            made.meta["val"] = g.value(operand).new_empty(g.value(self.node).shape)
        format = formats.expanded(stored.format, g.value(made).dim())
        self.found.derived[made] = Derivation(_expanded, (operand,), wants_shape=True)
        add_source(self.found, made, replace(stored, format=format))
        return made

    def _pattern(
        self, sources: dict[fx.Node, list[fx.Node]], fills: dict[fx.Node, Any], shaped: dict[fx.Node, fx.Node]
    ) -> fx.Node:
        """A source on the pattern that the result will have."""
        deciding = [
            source for source, args in sources.items()
            if fill_of(self.node, {arg: fills[arg] for arg in args}) is not None
        ]  # fmt: skip
        if deciding and len(sources) > 1:
            # what is expensive to compute stays where it is
            fixed = [s for s in deciding if not all(self._is_cheap(shaped[arg]) for arg in sources[s])]
            if fixed or len(deciding) != 2 or len(sources) != 2:
                return (fixed or deciding)[0]
        how = _on_intersection if deciding else _on_union
        return self._merge(list(sources), how)

    def _merge(self, sources: list[fx.Node], how: Callable[..., Any]) -> fx.Node:
        if len(sources) == 1:
            return sources[0]
        key = how, tuple(sources)
        if key in self.found.views:
            return self.found.views[key]
        try:
            format = formats.common(*(self.found.sources[source].format for source in sources))
        except FormatError as error:
            raise Refused(str(error)) from error
        made = self.graph.call_function(how, tuple(sources))
        made.meta["val"] = g.value(sources[0])
        self.found.derived[made] = Derivation(how, tuple(sources))
        add_source(self.found, made, replace(self.found.sources[sources[0]], format=format))
        self.found.views[key] = made
        self.moved[sources[0], made] = made
        return made

    def _is_cheap(self, node: fx.Node) -> bool:
        """Whether a value is computed from sources entry by entry, with nothing large beside them."""
        if node in self.found.sources:
            return True
        if not is_pointwise(node):
            return False
        size = [not g.is_one(size) for size in g.value(node).shape]
        for arg in g.tensor_args(node):
            if arg in self.found.sparse:
                if lies_on(self.found, arg) is not self.found.sparse[node].source or not self._is_cheap(arg):
                    return False
            elif sum(not g.is_one(s) for s in g.value(arg).shape) > min(1, sum(size) - 1):
                return False
        return True

    def _move(self, node: fx.Node, like: fx.Node) -> fx.Node:
        """The value on the pattern of ``like``."""
        found = self.found
        if found.sparse[node].source is found.sparse[like].source:
            return node
        if (node, like) in self.moved:
            return self.moved[node, like]
        if node not in found.sources and self._is_cheap(node):
            made = self.graph.node_copy(node, lambda arg: self._move(arg, like) if arg in found.sparse else arg)
            made.meta = dict(node.meta)
            self.classify(made)
        else:
            operand = materialized(self.graph, node, found)
            made = self.graph.call_function(_placed, (operand, like))
            made.meta["val"] = g.value(operand)
            found.derived[made] = Derivation(_placed, (operand, like))
            stored = replace(found.sources[like], fill=found.sparse[operand].fill)
            add_source(found, made, stored, found.sparse[like].source)
        self.moved[node, like] = made
        return made


def _expanded(shape: Sequence[int], tensor: SparseTensor) -> SparseTensor:
    return wholes.expand(tensor, shape)
