"""Values, and patterns, of sparse tensors made anew in the memory that they have."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from gossamer.conversion.values import has_mover, is_plain_memory, take
from gossamer.coordinates import node_index, unravel
from gossamer.errors import TensorError
from gossamer.sparsify import sparsify
from gossamer.tensor import SparseTensor, level_view


def resparsify_(sparse: SparseTensor, dense: Tensor, by: Any = None) -> SparseTensor:
    """Does what `SparseTensor.resparsify_` says."""
    if not isinstance(dense, Tensor) or dense.layout != torch.strided:
        raise TensorError(f"resparsify_ takes a dense tensor, not {type(dense).__name__}")
    for what, mine, theirs in (
        ("shape", tuple(sparse.shape), tuple(dense.shape)),
        ("dtype", sparse.dtype, dense.dtype),
        ("device", sparse.device, dense.device),
    ):
        if mine != theirs:
            raise TensorError(f"resparsify_: the {what} of the dense tensor is {theirs}, and that of the other {mine}")
    if sparse.values.grad_fn is not None:
        raise TensorError("resparsify_: the values are part of a graph, which knows nothing of it; detach() it first")
    with torch.no_grad():
        if by is None:
            sparse.values.copy_(_taken(sparse, dense))
        else:
            _renew(sparse, dense, by)
    return sparse


def _taken(sparse: SparseTensor, dense: Tensor) -> Tensor:
    """What the pattern stores of a tensor."""
    pattern, format = sparse.pattern, sparse.format
    if format.allows_duplicates:
        raise TensorError(
            f"resparsify_: {format} may store an entry twice, and an entry of a dense tensor has one place; "
            "convert it first, to gs.COO for example"
        )
    if has_mover(format) and is_plain_memory(dense):
        return take(dense.detach().resolve_conj().resolve_neg(), pattern, sparse.fill)
    levels = level_view(dense, format)
    if not format.outer:
        return levels
    nodes = node_index(pattern)
    values = levels[tuple(unravel(nodes.clamp(min=0), pattern.level_sizes[: format.outer]))]
    unused = (nodes < 0).view(-1, *[1] * (values.dim() - 1))
    return values.masked_fill(unused, sparse.fill).view(pattern.values_shape)


def _renew(sparse: SparseTensor, dense: Tensor, by: Any) -> None:
    index = next((a.dtype for a in sparse.pattern._arrays if a is not None), None)
    new = sparsify(dense, sparse.format, by, sparse.fill, index_dtype=index)
    if new.values.shape != sparse.values.shape:
        raise TensorError(
            f"resparsify_: {by!r} keeps values of shape {tuple(new.values.shape)}, and there is memory for "
            f"{tuple(sparse.values.shape)}; a sparsifier of the same density keeps as many each time"
        )
    sparse.values.copy_(new.values)
    sparse.pattern = new.pattern
