"""Results on a pattern that is broadcast: probabilities of every head, under one mask for all.

Within a region such a value is computed where the mask has entries, for every head; a result can be stored only on a
pattern of its own shape. So the mask is repeated before the region, on a pattern that its own keeps, and all that
the region computes of it is then on that.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import fx

from gossamer.expand import expand
from gossamer.tensor import SparseTensor

from . import graph as g
from .analysis import Analysis, Sparse, add_source, can_be_stored
from .derived import Derivation
from .pointwise import is_pointwise
from .trace import Trace


def repeated(tensor: torch.Tensor) -> torch.Tensor:
    """Stands in a graph for a sparse tensor broadcast to the shape of the node's value."""
    raise NotImplementedError


def note_repeated(node: fx.Node, found: Analysis) -> None:
    """Make such a node a source."""
    stored, pattern = found.sources[node.args[0]], found.sparse[node.args[0]].source
    shape = g.expressions(g.value(node), g.value(node).fake_mode.shape_env)
    first = found.views.setdefault((pattern, "repeated", shape), node)
    fmt = stored.format.kernel_format.for_rank(len(shape))
    add_source(found, node, replace(stored, format=fmt), first)
    found.derived[node] = Derivation(_repeat, (node.args[0],), wants_shape=True)


def _repeat(shape: tuple[int, ...], tensor: SparseTensor) -> SparseTensor:
    return expand(tensor, shape)


def repeat_patterns(traced: Trace, found: Analysis) -> bool:
    """Repeat the patterns of values that leave their region and could not be stored else.

    Returns:
        Whether the graph was changed; it must be analyzed again then.
    """
    changed = False
    for node in list(traced.graph.nodes):
        sparse = found.sparse.get(node)
        if sparse is not None and _leaves_unstored(node, sparse, found):
            changed |= _repeat_source(traced.graph, node, sparse, found)
            if changed:  # what is known of the other values is of the graph before
                return True
    return changed


def _leaves_unstored(node: fx.Node, sparse: Sparse, found: Analysis) -> bool:
    if node not in found.touched or all(user in found.touched for user in node.users):
        return False
    value, source = g.value(node), g.value(sparse.source)
    offset = value.dim() - source.dim()
    if offset < 0 or g.same_shape(value, source) or not can_be_stored(sparse.fill, value.dtype):
        return False
    if any(dim is not None and dim != number - offset for number, dim in enumerate(sparse.dims)):
        return False
    # only dims before those that are stored sparsely can be repeated
    fmt = found.sources[sparse.source].format.for_rank(source.dim())
    own = (1,) * offset + tuple(source.shape)
    differ = [n for n in range(value.dim()) if not g.same_sizes([own[n]], [value.shape[n]], value)]
    lead = max(differ, default=-1) + 1 - offset
    return all(g.is_one(own[n]) for n in differ) and lead <= fmt.leading and fmt.outer > 0


def _repeat_source(graph: fx.Graph, node: fx.Node, sparse: Sparse, found: Analysis) -> bool:
    source, mode = sparse.source, g.fake_mode(graph)
    with mode:
        wide = torch.empty(g.value(node).shape, dtype=g.value(source).dtype, device=g.value(source).device)
    values = _with_wide_source(graph, source, wide)
    if values is None:
        return False
    with graph.inserting_after(source):
        made = graph.call_function(repeated, (source,))
    made.meta = {"val": wide}
    source.replace_all_uses_with(made, delete_user_cb=lambda user: user is not made)
    for other, value in values.items():
        other.meta = {**other.meta, "val": value}
    return True


def _with_wide_source(graph: fx.Graph, source: fx.Node, wide: torch.Tensor) -> dict[fx.Node, torch.Tensor] | None:
    """What the values become that change their shape with the source; None if others than pointwise ones would."""
    values: dict[fx.Node, torch.Tensor] = {source: wide}
    for node in graph.nodes:
        if not any(arg in values for arg in node.all_input_nodes):
            continue
        if not is_pointwise(node):
            return None
        args, kwargs = fx.map_arg((node.args, node.kwargs), lambda arg: values.get(arg, g.value(arg)))
        with g.fake_mode(graph), torch.no_grad():
            value = node.target(*args, **kwargs)
        if not g.same_shape(value, g.value(node)):
            values[node] = value
    del values[source]
    return values
