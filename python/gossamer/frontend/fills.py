"""Which values of a graph are sparse, on which pattern, and what their entries that are not stored are worth.

A value is sparse *on* a source (an input, or the result of ``gs.annotate``) when all its entries outside of that
pattern are one number, the fill. The fill of a pointwise operation is found by running it: sparse operands at their
fill, dense operands at a handful of values; if all results agree, that is the fill. So ``mul`` by a dense tensor
keeps 0, ``add`` keeps -inf, and ``masked_fill(scores, ~mask, c)`` has the fill c.

Numbers of at most ``MASKING`` (and the lowest of their dtype) count as -inf, as models write them for it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import sympy
import torch
from torch import fx

from gossamer.formats import Format

from . import graph as g
from .align import align
from .analysis import Analysis, Fill, Sparse, add_source
from .constants import fill_of
from .contract import PRODUCTS_OF
from .decompose import PRODUCTS, Refused, decompose, has_decomposition
from .derived import SPLITS, derive, permutation, release, split_up
from .graph import aten
from .leaf import MASKING, Stored
from .marker import ANNOTATE, CAPTURED, STORED
from .masks import combine
from .pointwise import is_pointwise
from .reduced import REDUCED
from .reductions import REDUCTIONS, reduction_of, rewrite
from .repetition import note_repeated, repeated
from .trace import SizeOf, Trace


def analyze(trace: Trace) -> Analysis:
    """Walk a normalized graph in order. Composite operations with a sparse operand are decomposed on the way."""
    graph, leaves = trace.graph, trace.leaves
    found = Analysis(trace.held)
    placeholders = [node for node in graph.nodes if node.op == "placeholder"][1:]
    first_on: dict[int, fx.Node] = {}
    for node, leaf in zip(placeholders, leaves, strict=True):
        if leaf.stored is not None:
            pattern = node if leaf.pattern is None else first_on.setdefault(leaf.pattern, node)
            add_source(found, node, leaf.stored, pattern)
    shapes = node = next(iter(graph.nodes))
    while node.op != "root":
        if node.target in SPLITS and node.args[0] in found.sparse:
            node = _split_up(trace, shapes, node)
        node = _visit(graph, node, found)
    release(graph, found)
    return found


def _split_up(trace: Trace, shapes: fx.Node, node: fx.Node) -> fx.Node:
    """Make slices of a split; returns the first node that is new, or the one after it."""
    before = node.prev

    def number(size: int | torch.SymInt) -> fx.Node | int:
        expr = g.expression(size, trace.env)
        if isinstance(expr, sympy.Integer):
            return int(expr)
        made = trace.graph.call_function(SizeOf(expr, trace.sizes([expr])), (shapes,))
        made.meta["val"] = size
        return made

    split_up(trace.graph, node, number)
    return before.next


def _visit(graph: fx.Graph, node: fx.Node, found: Analysis) -> fx.Node:
    """Classify one node; returns the node to go on with."""
    if node.op != "call_function":
        return node.next
    if node.target is ANNOTATE:
        return _visit_annotate(graph, node, found)
    if node.target is CAPTURED:
        tensor = found.held[node.args[0]]
        stored = Stored(tensor.format, tensor.fill, tensor.pattern.pos_width, tensor.pattern.crd_width)
        add_source(found, node, stored, found.captured.setdefault(id(tensor.pattern), node))
        return node.next
    if not any(arg in found.sparse for arg in node.all_input_nodes):
        return node.next
    if node.target is repeated:
        note_repeated(node, found)
        return node.next
    if has_decomposition(node):
        before = node.prev
        try:
            decompose(graph, node, found.sparse)
        except Refused as refusal:
            found.fallbacks[node] = str(refusal)
            return node.next
        return before.next
    before = node.prev
    if rewrite(graph, node):
        return before.next
    try:
        _classify(graph, node, found)
    except Refused as refusal:
        found.fallbacks[node] = str(refusal)
    return node.next


def _visit_annotate(graph: fx.Graph, node: fx.Node, found: Analysis) -> fx.Node:
    value = g.value(node)
    fmt = Format(node.args[1]).for_rank(value.dim())
    following = node.next
    source = found.sources.get(node.args[0])
    if source is not None and source.format == fmt and node.args[2] < 0:
        node.replace_all_uses_with(node.args[0])
        graph.erase_node(node)
        return following
    operand = found.sparse.get(node.args[0])
    fill: Fill | None = options_of(node, found).get("fill")
    if fill is None:
        inherits = operand is not None and operand.fill == -math.inf
        fill = -math.inf if inherits else False if value.dtype == torch.bool else 0
    add_source(found, node, Stored(fmt, fill, 32, 32))
    return following


def options_of(node: fx.Node, found: Analysis) -> dict[str, Any]:
    """Further arguments of ``sparsify`` that came with an annotation."""
    return found.held[node.args[2]] if node.args[2] >= 0 else {}


def _classify(graph: fx.Graph, node: fx.Node, found: Analysis) -> None:
    operands = [found.sparse[arg] for arg in node.all_input_nodes if arg in found.sparse]
    if node.args and node.args[0] in found.sources:
        source = found.sources[node.args[0]]
        stored = _leading_view(node, source) or _permuted(node, source)
        if stored is not None:
            add_source(found, node, stored, _pattern_of_view(node, found))
            return
    if not g.is_tensor(node):
        raise Refused("it does not give one tensor")
    if node.target not in _STRUCTURE and derive(graph, node, found):
        return
    if not all(g.is_tensor(arg) for arg in node.all_input_nodes):
        raise Refused("one of its arguments is a size that may change from call to call")
    if node.target in _STRUCTURE:
        found.sparse[node] = _structure(node, found.sparse[node.args[0]])
    elif node.target is STORED:
        found.sparse[node] = _stored(node, found)
    elif node.target in PRODUCTS_OF:
        _require_zero(operands, "a product")
    elif node.target is REDUCED:
        if node.args[0] not in found.sparse or node.args[1] in found.sparse:
            raise Refused("only the left operand is to be sparse")
        _require_zero(operands, "a product")
    elif node.target in SOFTMAX:
        found.sparse[node] = _softmax(node, operands[0])
    elif node.target in REDUCTIONS:
        if reduction_of(node) and reduction_of(node).kind == "prod" and operands[0].fill not in (0, 1):
            raise Refused(f"in a product, entries that are not stored have to be 0 or 1, they are {operands[0].fill}")
    elif is_pointwise(node):
        found.sparse[node] = _pointwise(graph, node, found)
        if combine(node, found):
            return
        if counts_as_masked(found.sparse[node].fill, g.value(node).dtype):
            _mask_with_infinity(graph, node, found)
    else:
        random = (
            torch.Tag.nondeterministic_seeded in getattr(node.target, "tags", ()) or node.target is aten.dropout.default
        )
        raise Refused("it is random" if random else "there is no sparse form of it")
    found.touched.add(node)


SOFTMAX = {aten.softmax.int: 0.0, aten.log_softmax.int: -math.inf}


def _stored(node: fx.Node, found: Analysis) -> Sparse:
    """On the pattern that it asks for; what is not stored there is known if the value is sparse on it already."""
    value, on = found.sparse.get(node.args[0]), found.sparse[node.args[1]]
    return replace(on, fill=value.fill if value is not None and value.source is on.source else 0)


def _require_zero(operands: Sequence[Sparse], what: str) -> None:
    for operand in operands:
        if operand.fill != 0:
            raise Refused(f"{what} needs entries that are not stored to be 0, they are {operand.fill}")


def _softmax(node: fx.Node, operand: Sparse) -> Sparse:
    if operand.fill != -math.inf:
        raise Refused(
            f"what is not stored counts as {operand.fill} here and would take part; mask the scores with -inf instead"
        )
    return replace(operand, fill=SOFTMAX[node.target])


# --- pointwise ---------------------------------------------------------------------------------------------------


def _pointwise(graph: fx.Graph, node: fx.Node, found: Analysis) -> Sparse:
    """The result is sparse on the first source outside of whose pattern it is constant, whatever the rest holds."""
    rank = g.value(node).dim()
    operands = {arg: _aligned(found.sparse[arg], rank) for arg in node.all_input_nodes if arg in found.sparse}
    chosen = dict.fromkeys((operand.source, operand.dims) for operand in operands.values())
    if fill_of(node, {arg: operand.fill for arg, operand in operands.items()}) is None:
        fills = ", ".join(str(operand.fill) for operand in operands.values())
        raise Refused(f"where nothing is stored (the value there is {fills}) its result would be dense")
    if len(chosen) > 1:
        try:
            align(graph, node, found, lambda made: _classify(graph, made, found))
        except Refused as refusal:
            # the others can still be read densely
            sparse = next(filter(None, (_on_one(node, operands, one) for one in chosen)), None)
            if sparse is None:
                raise refusal
            return sparse
        return _pointwise(graph, node, found)
    sparse = _on_one(node, operands, next(iter(chosen)))
    assert sparse is not None
    return sparse


def _on_one(node: fx.Node, operands: dict[fx.Node, Sparse], chosen: tuple[fx.Node, Any]) -> Sparse | None:
    fill = fill_of(node, {arg: op.fill for arg, op in operands.items() if (op.source, op.dims) == chosen})
    return None if fill is None else Sparse(*chosen, fill)


def _aligned(operand: Sparse, rank: int) -> Sparse:
    return replace(operand, dims=(None,) * (rank - len(operand.dims)) + operand.dims)


def counts_as_masked(fill: Fill, dtype: torch.dtype) -> bool:
    """Whether a finite number stands for -inf."""
    if not dtype.is_floating_point or isinstance(fill, bool) or math.isinf(fill):
        return False
    return fill <= MASKING or fill == torch.finfo(dtype).min


def _mask_with_infinity(graph: fx.Graph, node: fx.Node, found: Analysis) -> None:
    """Make a finite masking number what it stands for, so that all that follows sees -inf."""
    dtype = g.value(node).dtype
    if node.target in (aten.masked_fill.Scalar, aten.where.ScalarOther, aten.where.ScalarSelf, aten.where.Scalar):
        node.args = tuple(
            -math.inf if isinstance(arg, float | int) and counts_as_masked(arg, dtype) else arg for arg in node.args
        )
        found.sparse[node] = replace(found.sparse[node], fill=-math.inf)
        return
    mode = g.fake_mode(graph)
    users = list(node.users)
    with graph.inserting_before(node.next):
        low = g.emit(graph, aten.le.Scalar, node, max(MASKING, torch.finfo(dtype).min), mode=mode)
        masked = g.emit(graph, aten.masked_fill.Scalar, node, low, -math.inf, mode=mode)
    for user in users:
        user.replace_input_with(node, masked)


# --- views ---------------------------------------------------------------------------------------------------------

_STRUCTURE = {aten.transpose.int, aten.permute.default, aten.unsqueeze.default}
_RESHAPES = {
    aten.reshape.default, aten.unsqueeze.default, aten.unflatten.int, aten.flatten.using_ints, aten.squeeze.dim,
    aten.squeeze.dims, aten.squeeze.default, aten.select.int,
}  # fmt: skip
_IDENTITIES = {
    aten.slice.Tensor, aten.expand.default, aten.reshape.default, aten.to.dtype, aten._to_copy.default,
    aten.contiguous.default, aten.alias.default, aten.lift_fresh.default, aten.type_as.default,
    aten.expand_as.default, aten.view_as.default, aten.flatten.using_ints, aten.squeeze.dim, aten.squeeze.dims,
    aten.squeeze.default, aten.to.device, aten.to.dtype_layout, aten.to.other,
}  # fmt: skip


def is_identity(node: fx.Node) -> bool:
    """Whether the node gives its first argument, as far as values, shape, dtype and device go."""
    if node.target is aten.dropout.default:
        return not node.args[2]
    if node.target not in _IDENTITIES or not g.is_tensor(node):
        return False
    before, after = g.value(node.args[0]), g.value(node)
    return (before.dtype, before.device) == (after.dtype, after.device) and g.same_shape(before, after)


def _pattern_of_view(node: fx.Node, found: Analysis) -> fx.Node:
    """The first view that was taken of the operand's pattern in the same way: the two views share theirs."""
    pattern = found.sparse[node.args[0]].source
    if node.target is aten.detach.default:
        return pattern
    order = permutation(node) if node.target in (aten.transpose.int, aten.permute.default) else None
    shape = g.expressions(g.value(node), g.value(node).fake_mode.shape_env)
    return found.views.setdefault((pattern, str(order), shape), node)


def _leading_view(node: fx.Node, stored: Stored) -> Stored | None:
    """How the node's result is stored if a SparseTensor can give it by relabelling its leading dense dims."""
    if node.target is aten.detach.default:
        return stored
    if node.target not in _RESHAPES:
        return None
    before, after = g.value(node.args[0]), g.value(node)
    if node.target is aten.select.int and not g.is_one(before.shape[node.args[1]]):
        return None
    kept = before.dim() - stored.format.leading
    if after.dim() < kept:
        return None
    if not g.same_sizes(before.shape[before.dim() - kept :], after.shape[after.dim() - kept :], before):
        return None
    return replace(stored, format=_with_rank(stored.format, after.dim()))


def _permuted(node: fx.Node, stored: Stored) -> Stored | None:
    """Likewise if a SparseTensor can give it by calling its dims by other names (a CSR one transposed is a CSC one).

    A transpose that only feeds products stays with them.
    """
    if node.target not in (aten.transpose.int, aten.permute.default) or stored.format.batch_rank:
        return None
    if all(user.target in PRODUCTS for user in node.users):
        return None
    return replace(stored, format=stored.format.permuted(permutation(node)))


def _with_rank(fmt: Format, rank: int) -> Format:
    """The format with another number of leading dense dims."""
    lead = fmt.leading
    if lead == fmt.lvl_rank:
        lead -= 1
    levels = [replace(level, expr=replace(level.expr, dim=level.expr.dim - lead)) for level in fmt.levels[lead:]]
    return Format.from_levels(fmt.dim_rank - lead, levels).for_rank(rank)


def _structure(node: fx.Node, operand: Sparse) -> Sparse:
    """Dims of the operand in the result's order."""
    dims = list(operand.dims)
    if node.target is aten.unsqueeze.default:
        dims.insert(node.args[1] % (len(dims) + 1), None)
    else:
        dims = [dims[d] for d in permutation(node)]
    return replace(operand, dims=tuple(dims))
