"""Composite operations in the few terms that the analysis and the C++ side know.

Only operations that have a sparse operand, or that compute scores of which a mask keeps some, are decomposed;
all others stay whole, for PyTorch to run.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Container
from typing import Any

import torch
from torch import fx

from . import graph as g
from .contract import BATCH, contract, matmul_equation
from .einsum import LETTERS, expand_einsum
from .graph import aten
from .reduced import REDUCE, REDUCED


class Refused(Exception):
    """An operation that cannot be compiled on its sparse operands; the text says why."""


class Builder:
    """Calls operations into a graph at its insertion point."""

    def __init__(self, graph: fx.Graph, sparse: Container[fx.Node] = ()):
        self.graph = graph
        self.sparse = sparse
        self.mode = g.fake_mode(graph)

    def __call__(self, target: Callable[..., Any], *args: Any, **kwargs: Any) -> fx.Node:
        return g.emit(self.graph, target, *args, mode=self.mode, **kwargs)


def decompose(graph: fx.Graph, node: fx.Node, sparse: Container[fx.Node] = ()) -> fx.Node:
    """Replace a node whose target is in ``DECOMPOSITIONS``; returns the node that has its value now.

    Args:
        graph: the graph.
        node: the node.
        sparse: what is known to be sparse.

    Raises:
        Refused: this use of the operation has no decomposition; the graph is as before.
    """
    last = node.prev
    with graph.inserting_before(node):
        try:
            result = DECOMPOSITIONS[node.target](Builder(graph, sparse), *node.args, **node.kwargs)
        except Refused:
            while node.prev is not last:
                graph.erase_node(node.prev)
            raise
    made = node.prev
    while made is not last:
        made.meta["made_of"] = node.meta.get("made_of", str(node.target))
        made = made.prev
    node.replace_all_uses_with(result)
    graph.erase_node(node)
    return result


def _rank(node: fx.Node) -> int:
    return g.value(node).dim()


def _matmul(b: Builder, x: fx.Node, y: fx.Node) -> fx.Node:
    return b(contract, x, y, matmul_equation(_rank(x), _rank(y)))


def _linear(b: Builder, x: fx.Node, weight: fx.Node, bias: fx.Node | None = None) -> fx.Node:
    if _rank(weight) != 2:
        raise Refused("its weight is a vector")
    batch = BATCH[: _rank(x) - 1]
    result = b(contract, x, weight, f"{batch}k,nk->{batch}n")
    return result if bias is None else b(aten.add.Tensor, result, bias)


def _addmm(b: Builder, added: fx.Node, x: fx.Node, y: fx.Node, *, beta: float = 1, alpha: float = 1) -> fx.Node:
    product = _matmul(b, x, y)
    if alpha != 1:
        product = b(aten.mul.Tensor, product, alpha)
    if beta == 0:
        return product
    if beta != 1:
        added = b(aten.mul.Tensor, added, beta)
    return b(aten.add.Tensor, product, added)


def _sparse_mm(b: Builder, x: fx.Node, y: fx.Node, reduce: str = "sum") -> fx.Node:
    if reduce == "sum":
        return _matmul(b, x, y)
    if reduce not in REDUCE:
        raise Refused(f"the reduction {reduce!r}; there are sum, {', '.join(REDUCE)}")
    return b(REDUCED, x, y, reduce)


def _einsum(b: Builder, equation: str, operands: list[fx.Node], path: object = None) -> fx.Node:
    return expand_einsum(b, equation, operands, [operand in b.sparse for operand in operands])


def _tensordot(b: Builder, x: fx.Node, y: fx.Node, x_dims: list[int], y_dims: list[int]) -> fx.Node:
    x_labels, y_labels = list(LETTERS[: _rank(x)]), list(LETTERS[_rank(x) : _rank(x) + _rank(y)])
    for x_dim, y_dim in zip(x_dims, y_dims, strict=True):
        y_labels[y_dim % _rank(y)] = x_labels[x_dim % _rank(x)]
    out = [c for c in x_labels if c not in y_labels] + [c for c in y_labels if c not in x_labels]
    return b(contract, x, y, f"{''.join(x_labels)},{''.join(y_labels)}->{''.join(out)}")


def _softmax(b: Builder, x: fx.Node, dim: int, dtype: torch.dtype | None = None) -> fx.Node:
    return _softmax_like(b, aten.softmax.int, x, dim, dtype)


def _log_softmax(b: Builder, x: fx.Node, dim: int, dtype: torch.dtype | None = None) -> fx.Node:
    return _softmax_like(b, aten.log_softmax.int, x, dim, dtype)


def _softmax_like(b: Builder, target: Any, x: fx.Node, dim: int, dtype: torch.dtype | None) -> fx.Node:
    if dtype is not None and dtype != g.value(x).dtype:
        x = b(aten.to.dtype, x, dtype)
    return b(target, x, dim)


def _sdpa(
    b: Builder,
    q: fx.Node,
    k: fx.Node,
    v: fx.Node,
    attn_mask: fx.Node | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> fx.Node:
    """Attention as product, scale, mask, softmax, product. Grouped heads are a dim of their own: k and v lack it."""
    if dropout_p:
        raise Refused("attention with dropout (in training); set it to 0")
    if is_causal:
        raise Refused("is_causal=True on sparse q, k or v")
    if not _rank(q) == _rank(k) == _rank(v) >= 2:
        raise Refused("q, k and v of different ranks")
    if scale is None:
        # the head size becomes part of the code
        scale = 1.0 / math.sqrt(int(g.value(q).shape[-1]))
    grouped = enable_gqa and _rank(q) >= 3 and bool(g.value(q).shape[-3] != g.value(k).shape[-3])
    batch = kv = BATCH[: _rank(q) - 2]
    if grouped:
        heads = g.size(b.graph, k, -3, b.mode)
        q = b(aten.unflatten.int, q, -3, [heads, -1])
        if attn_mask is not None and _rank(attn_mask) >= 3:
            attn_mask = _group_mask(b, attn_mask, heads)
        batch += "z"
    scores = b(contract, q, k, f"{batch}mk,{kv}nk->{batch}mn")
    scores = b(aten.mul.Tensor, scores, scale)
    if attn_mask is not None:
        if g.value(attn_mask).dtype == torch.bool:
            scores = b(aten.masked_fill.Scalar, scores, b(aten.bitwise_not.default, attn_mask), -math.inf)
        else:
            scores = b(aten.add.Tensor, scores, attn_mask)
    weights = b(aten.softmax.int, scores, -1)
    result = b(contract, weights, v, f"{batch}mk,{kv}kn->{batch}mn")
    return b(aten.flatten.using_ints, result, -4, -3) if grouped else result


def _group_mask(b: Builder, mask: fx.Node, heads: fx.Node | int) -> fx.Node:
    if g.is_one(g.value(mask).shape[-3]):
        return b(aten.unsqueeze.default, mask, _rank(mask) - 3)
    return b(aten.unflatten.int, mask, -3, [heads, -1])


DECOMPOSITIONS: dict[Any, Callable[..., fx.Node]] = {
    aten.matmul.default: _matmul,
    aten.mm.default: _matmul,
    aten._sparse_mm.default: _sparse_mm,
    aten._sparse_mm.reduce: _sparse_mm,
    aten.bmm.default: _matmul,
    aten.mv.default: _matmul,
    aten.dot.default: _matmul,
    aten.linear.default: _linear,
    aten.addmm.default: _addmm,
    aten.addmv.default: _addmm,
    aten.baddbmm.default: _addmm,
    aten.einsum.default: _einsum,
    aten.tensordot.default: _tensordot,
    aten.scaled_dot_product_attention.default: _sdpa,
    aten.softmax.int: _softmax,
    aten.log_softmax.int: _log_softmax,
}
# what may make the scores under a mask
PRODUCTS = set(DECOMPOSITIONS) - {
    aten.softmax.int, aten.log_softmax.int, aten.scaled_dot_product_attention.default,
}  # fmt: skip


def has_decomposition(node: fx.Node) -> bool:
    """Whether ``decompose`` takes the node; a softmax only if it names a dtype."""
    if node.target in (aten.softmax.int, aten.log_softmax.int):
        return len(node.args) > 2 or bool(node.kwargs)
    return node.target in DECOMPOSITIONS
