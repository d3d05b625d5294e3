"""Masks that are combined from several (``a & ~b``): made outside of regions, so that what uses them sees one mask."""

from __future__ import annotations

from typing import Any

import torch
from torch import fx

from gossamer.tensor import SparseTensor

from . import graph as g
from .analysis import Analysis, add_source, lies_on
from .derived import Derivation, stored_as
from .pointwise import is_pointwise


def combine(node: fx.Node, found: Analysis) -> bool:
    """Make a boolean value that is computed from two or more stored tensors of one pattern a source.

    Returns:
        Whether it is one now.
    """
    sparse = found.sparse[node]
    if g.value(node).dtype != torch.bool or sparse.fill is not False or lies_on(found, node) is None:
        return False
    steps: list[fx.Node] = []
    leaves: dict[fx.Node, None] = {}
    if not _collect(node, found, steps, leaves) or len(leaves) < 2:
        return False
    found.derived[node] = Derivation(_Combination(steps, list(leaves)), tuple(leaves))
    add_source(found, node, stored_as(node, found), sparse.source)
    return True


def _collect(node: fx.Node, found: Analysis, steps: list[fx.Node], leaves: dict[fx.Node, None]) -> bool:
    """Operands first: the operations that lead to a node from stored tensors; False if anything else is involved."""
    if node in found.sources:
        leaves[node] = None
        return True
    if not is_pointwise(node) or node not in found.sparse or lies_on(found, node) is None:
        return False
    if not all(_collect(arg, found, steps, leaves) for arg in node.all_input_nodes):
        return False
    steps.append(node)
    return True


class _Combination:
    """Pointwise operations, on the values of tensors of one pattern."""

    __name__ = "combine"

    def __init__(self, steps: list[fx.Node], leaves: list[fx.Node]):
        places = {node: place for place, node in enumerate(dict.fromkeys([*leaves, *steps]))}
        self._steps: list[tuple[Any, Any, Any]] = []
        for node in dict.fromkeys(steps):
            args, kwargs = fx.map_arg((node.args, node.kwargs), lambda arg: _Place(places[arg]))
            self._steps.append((node.target, args, kwargs))

    def __call__(self, *tensors: SparseTensor) -> SparseTensor:
        found = [tensor.values for tensor in tensors]

        def value(argument: Any) -> Any:
            return found[argument] if isinstance(argument, _Place) else argument

        for target, args, kwargs in self._steps:
            found.append(target(*map(value, args), **{name: value(arg) for name, arg in kwargs.items()}))
        return SparseTensor._make(tensors[0].pattern, found[-1], False)


class _Place(int):
    """Where among the values an argument is."""
