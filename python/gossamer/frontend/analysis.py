"""What is known about the sparse values of a graph."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import fx

from . import graph as g
from .leaf import Stored

Fill = float | int | bool


@dataclass(frozen=True)
class Sparse:
    """A sparse value.

    Attributes:
        source: the node that brings the pattern.
        dims: for each dim of the value the source's dim that it runs along, None where the pattern is broadcast.
        fill: what is not stored.
    """

    source: fx.Node
    dims: tuple[int | None, ...]
    fill: Fill

    @property
    def is_in_order(self) -> bool:
        """Whether each dim runs along the source's dim of the same number, or is of size 1."""
        return all(dim is None or dim == number for number, dim in enumerate(self.dims))


@dataclass
class Analysis:
    """What ``analyze`` found.

    Attributes:
        held: what nodes of the trace refer to by number.
        sources: the nodes that hold a SparseTensor at run time, and how it is stored.
        sparse: every sparse value, the sources included.
        touched: operations that belong in a region: they compute on sparse operands.
        fallbacks: operations that have to run in PyTorch on dense tensors though an operand is sparse, and why.
        views: the first view of each pattern by what it does.
        captured: the first tensor of the enclosing scope on each pattern.
        derived: sources that the runtime makes of others, and how.
        materialized: for values that regions see as views, the sources that hold the same outside.
    """

    held: Sequence[Any] = ()
    sources: dict[fx.Node, Stored] = field(default_factory=dict)
    sparse: dict[fx.Node, Sparse] = field(default_factory=dict)
    touched: set[fx.Node] = field(default_factory=set)
    fallbacks: dict[fx.Node, str] = field(default_factory=dict)
    views: dict[Any, fx.Node] = field(default_factory=dict)
    captured: dict[int, fx.Node] = field(default_factory=dict)
    derived: dict[fx.Node, Any] = field(default_factory=dict)
    materialized: dict[fx.Node, fx.Node] = field(default_factory=dict)


def add_source(found: Analysis, node: fx.Node, stored: Stored, pattern: fx.Node | None = None) -> None:
    """Note that ``node`` is a SparseTensor at run time, on its own pattern or on that of another source."""
    found.sources[node] = stored
    dims = tuple(None if g.is_one(size) else dim for dim, size in enumerate(g.value(node).shape))
    found.sparse[node] = Sparse(pattern or node, dims, stored.fill)


def lies_on(found: Analysis, node: fx.Node) -> fx.Node | None:
    """The source whose pattern a sparse value has dim by dim, so that it can be stored on it; None if there is none."""
    sparse = found.sparse[node]
    same = g.same_shape(g.value(node), g.value(sparse.source))
    return sparse.source if same and sparse.is_in_order else None


def can_be_stored(fill: Fill, dtype: torch.dtype) -> bool:
    """Whether a region can give a sparse result with that fill."""
    if dtype == torch.bool:
        return fill is False
    return fill == 0 or (fill == -math.inf and dtype.is_floating_point)
