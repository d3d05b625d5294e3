"""Parts of a sparse tensor along one dimension: slices, single entries, any selection, diagonals.

The pattern of a part is derived once for a pattern and kept by it; the values are taken in every call.
"""

from typing import Any

import torch
from torch import Tensor

from gossamer.derive import formats
from gossamer.derive.gather import Moves, Run, index_dtype, remembered
from gossamer.derive.rebuild import entries_of, rebuild
from gossamer.errors import TensorError
from gossamer.formats import Format
from gossamer.pattern import Pattern
from gossamer.tensor import SparseTensor

Derived = tuple[Pattern, Moves]


def on(tensor: SparseTensor, derived: Derived) -> SparseTensor:
    """The values of a tensor on a pattern that is derived from its own."""
    pattern, moves = derived
    return SparseTensor._make(pattern, moves(tensor.values, tensor.fill).reshape(pattern.values_shape), tensor.fill)


def slice_(tensor: SparseTensor, dim: int, begin: int | None, end: int | None, step: int = 1) -> SparseTensor:
    """Returns `tensor[begin:end:step]` along `dim`, with Python's rules for the bounds.

    Raises:
        TensorError: The step is not positive.
    """
    if step < 1:
        raise TensorError(f"a slice with the step {step}: torch takes positive ones only")
    dim %= tensor.ndim
    size = tensor.shape[dim]
    # bounds between blocks stay there when they are clipped, or counted from the end
    format = formats.sliced(tensor.format, dim, begin or 0, formats.END if end is None else end, step)
    first, last, step = slice(begin, end, step).indices(size)
    if (first, last, step) == (0, size, 1):
        return tensor.to(format)
    key = "slice", dim, first, last, step, format
    return on(tensor, remembered(tensor.pattern, key, lambda: _slice(tensor.pattern, dim, first, last, step, format)))


def select(tensor: SparseTensor, dim: int, index: int) -> Any:
    """Returns the entries at one place of a dimension, without that; a dense number of a tensor of rank 1.

    Raises:
        IndexError: The index is out of range.
    """
    dim %= tensor.ndim
    size = tensor.shape[dim]
    if not -size <= index < size:
        raise IndexError(f"index {index} is out of range for dimension {dim} of size {size}")
    index %= size
    row = slice_(tensor, dim, index, index + 1)
    return drop(row, dim) if tensor.ndim > 1 else row.to_dense()[0]


def drop(tensor: SparseTensor, dim: int) -> SparseTensor:
    """Returns the tensor without a dimension of size 1."""
    return on(tensor, remembered(tensor.pattern, ("drop", dim), lambda: _drop(tensor.pattern, dim)))


def insert(tensor: SparseTensor, dim: int) -> SparseTensor:
    """Returns the tensor with another dimension of size 1, stored as its outermost level."""
    return on(tensor, remembered(tensor.pattern, ("insert", dim), lambda: _insert(tensor.pattern, dim)))


def index_select(tensor: SparseTensor, dim: int, index: Tensor) -> SparseTensor:
    """Returns the entries at any places of a dimension, in the order of `index`, some perhaps more than once.

    The pattern depends on the numbers in `index`, so it is made in every call.

    Raises:
        TensorError: The index is no vector of integers.
        IndexError: One of its numbers is out of range.
    """
    dim %= tensor.ndim
    size = tensor.shape[dim]
    if index.dtype == torch.bool and index.shape == (size,):
        index = index.nonzero()[:, 0]
    if index.dim() != 1 or index.dtype not in (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8):
        raise TensorError(f"an index of {index.dtype} and shape {tuple(index.shape)}; it is a vector of integers")
    index = index.to(tensor.device, torch.int64)
    if index.numel() and not (-size <= int(index.min()) and int(index.max()) < size):
        raise IndexError(f"an index is out of range for dimension {dim} of size {size}")
    return on(tensor, _select_many(tensor.pattern, dim, index % max(size, 1)))


def diagonal(tensor: SparseTensor, offset: int = 0, dim1: int = 0, dim2: int = 1) -> SparseTensor:
    """Returns the entries whose coordinate along `dim2` is that along `dim1` plus `offset`, as the last dimension.

    Raises:
        TensorError: The dimensions are the same.
    """
    dim1, dim2 = dim1 % tensor.ndim, dim2 % tensor.ndim
    if dim1 == dim2:
        raise TensorError(f"diagonal dimensions cannot be the same, {dim1}")
    key = "diagonal", offset, dim1, dim2
    return on(tensor, remembered(tensor.pattern, key, lambda: _diagonal(tensor.pattern, offset, dim1, dim2)))


def _slice(pattern: Pattern, dim: int, first: int, last: int, step: int, format: Format) -> Derived:
    if step == 1 and format == pattern.format:
        rows = _rows(pattern, dim, first, last)
        if rows is not None:
            return rows
    coordinates, sources = entries_of(pattern)
    along = coordinates[dim]
    inside = (along >= first) & (along < last)
    if step != 1:
        inside &= (along - first) % step == 0
    coordinates = [coordinate[inside] for coordinate in coordinates]
    coordinates[dim] = (coordinates[dim] - first) // step
    return _rebuilt(
        pattern, format, _with_size(pattern, dim, len(range(first, last, step))), coordinates, sources[inside]
    )


def _rows(pattern: Pattern, dim: int, first: int, last: int) -> Derived | None:
    """Consecutive rows, of which the arrays are views of those of all rows; None if it is not stored by rows."""
    levels = pattern.format.levels
    if levels[0].kind != "dense" or levels[0].expr.dim != dim or levels[0].expr.op == "mod":
        return None
    sparse = [l for l, level in enumerate(levels) if level.is_sparse]
    if len(sparse) != 1 or levels[sparse[0]].kind != "compressed":
        return None
    (l,) = sparse
    positions, coordinates = list(pattern._positions), list(pattern._coordinates)
    old, nodes = positions[l], coordinates[l]
    assert old is not None
    assert nodes is not None
    block = levels[0].expr.block
    rows = 1
    for size in pattern.level_sizes[1:l]:
        rows *= size
    last = max(first, last)
    bounds = old[first // block * rows : last // block * rows + 1]
    begin, end = int(bounds[0]), int(bounds[-1])
    positions[l], coordinates[l] = bounds - bounds[0], nodes[begin:end]
    shape = _with_size(pattern, dim, last - first)
    part = Pattern(pattern.format, shape, positions, coordinates, device=pattern.device, check=False)
    return part, Run(begin * pattern.inner_size, (end - begin) * pattern.inner_size)


def _select_many(pattern: Pattern, dim: int, index: Tensor) -> Derived:
    coordinates, sources = entries_of(pattern)
    size = pattern.shape[dim]
    # for each old place the new ones, together: places[first[c] : first[c] + counts[c]]
    places = index.argsort(stable=True)
    counts = torch.bincount(index, minlength=size)
    first = counts.cumsum(0) - counts
    along = coordinates[dim]
    copies = counts[along]
    entry = torch.arange(along.numel(), device=along.device).repeat_interleave(copies)
    number = torch.arange(entry.numel(), device=along.device) - (copies.cumsum(0) - copies)[entry]
    coordinates = [coordinate[entry] for coordinate in coordinates]
    coordinates[dim] = places[first[along[entry]] + number]
    format = formats.taken(pattern.format, dim)
    return _rebuilt(pattern, format, _with_size(pattern, dim, index.numel()), coordinates, sources[entry])


def _diagonal(pattern: Pattern, offset: int, dim1: int, dim2: int) -> Derived:
    coordinates, sources = entries_of(pattern)
    on_it = coordinates[dim1] + offset == coordinates[dim2]
    kept = [dim for dim in range(len(pattern.shape)) if dim not in (dim1, dim2)]
    rows, columns = pattern.shape[dim1], pattern.shape[dim2]
    length = max(0, min(rows + min(offset, 0), columns - max(offset, 0)))
    shape = [*(pattern.shape[dim] for dim in kept), length]
    taken = [coordinates[dim][on_it] for dim in kept]
    taken.append(coordinates[dim1][on_it] + min(offset, 0))
    return _rebuilt(pattern, formats.diagonal(pattern.format), shape, taken, sources[on_it])


def _drop(pattern: Pattern, dim: int) -> Derived:
    shape = [size for d, size in enumerate(pattern.shape) if d != dim]
    format = formats.without_dim(pattern.format, dim)
    outermost, *rest = pattern.format.levels
    alone = not outermost.is_sparse and outermost.expr.dim == dim
    if alone and list(format.levels) == formats.renumbered(rest, dim):
        arrays = pattern._positions[1:], pattern._coordinates[1:]
        part = Pattern(format, shape, *_without_batch_dim(pattern, arrays), device=pattern.device, check=False)
        return part, Run(0, pattern.storage_size)
    coordinates, sources = entries_of(pattern)
    del coordinates[dim]
    return _rebuilt(pattern, format, shape, coordinates, sources)


def _without_batch_dim(pattern: Pattern, arrays: Any) -> Any:
    """The arrays of a batch of one without its dimension."""
    if not pattern.format.batch_rank:
        return arrays
    return [[None if array is None else array.squeeze(0) for array in each] for each in arrays]


def _insert(pattern: Pattern, dim: int) -> Derived:
    format = formats.with_dim(pattern.format, dim)
    shape = [*pattern.shape[:dim], 1, *pattern.shape[dim:]]
    positions, coordinates = zip(*pattern.storage(), strict=True)
    arrays = [None, *positions], [None, *coordinates]
    return Pattern(format, shape, *arrays, device=pattern.device, check=False), Run(0, pattern.storage_size)


def _with_size(pattern: Pattern, dim: int, size: int) -> list[int]:
    return [*pattern.shape[:dim], size, *pattern.shape[dim + 1 :]]


def _rebuilt(pattern: Pattern, format: Format, shape: list[int], coordinates: list[Tensor], sources: Tensor) -> Derived:
    return rebuild(format, shape, coordinates, sources, index_dtype(pattern), pattern.device)
