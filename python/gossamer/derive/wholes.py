"""Sparse tensors put together, repeated, or under another shape."""

import math
from collections.abc import Sequence
from typing import Any

import torch

from gossamer.derive import formats
from gossamer.derive.gather import index_dtype, remembered
from gossamer.derive.merge import of_group
from gossamer.derive.parts import Derived, insert, on
from gossamer.derive.rebuild import entries_of, rebuild
from gossamer.errors import TensorError
from gossamer.formats import Format
from gossamer.pattern import Pattern
from gossamer.tensor import SparseTensor


def cat(tensors: Sequence[SparseTensor], dim: int = 0) -> SparseTensor:
    """Returns the tensors one after the other along `dim`; stored as the first is.

    Raises:
        TensorError: Shapes, fills or dtypes do not fit each other.
        FormatError: Their formats have none in common; says what to convert to.
    """
    first = tensors[0]
    dim %= first.ndim
    for tensor in tensors:
        if tensor.fill != first.fill:
            raise TensorError(f"tensors with the fills {first.fill} and {tensor.fill} cannot be one sparse tensor")
        others = [other.shape[:dim] + other.shape[dim + 1 :] for other in (first, tensor)]
        if tensor.ndim != first.ndim or others[0] != others[1]:
            raise TensorError(f"cat along {dim}: the shapes {tuple(first.shape)} and {tuple(tensor.shape)} do not fit")
    format = formats.joined([tensor.format for tensor in tensors])
    patterns = [tensor.pattern for tensor in tensors]
    pattern, moves = of_group(patterns, ("cat", dim), lambda: _cat(patterns, dim, format))
    dtype = first.dtype
    for tensor in tensors:
        dtype = torch.promote_types(dtype, tensor.dtype)
    flat = torch.cat([tensor.values.reshape(-1).to(dtype) for tensor in tensors])
    return SparseTensor(pattern, moves(flat, first.fill).reshape(pattern.values_shape), first.fill)


def stack(tensors: Sequence[SparseTensor], dim: int = 0) -> SparseTensor:
    """Returns the tensors, all of one shape, along a new dimension, which is stored as the outermost dense level.

    Raises:
        TensorError, FormatError: As in `cat`.
    """
    dim %= tensors[0].ndim + 1
    return cat([insert(tensor, dim) for tensor in tensors], dim)


def expand(tensor: SparseTensor, shape: Sequence[int]) -> SparseTensor:
    """Returns the tensor repeated along dimensions of size 1, and along new leading ones; -1 keeps a size.

    Raises:
        TensorError: The shape is not one that it can be repeated to.
    """
    offset = len(shape) - tensor.ndim
    sizes = [tensor.shape[d - offset] if size == -1 and d >= offset else size for d, size in enumerate(shape)]
    old = [1] * offset + list(tensor.shape)
    if offset < 0 or any(a not in (b, 1) for a, b in zip(old, sizes, strict=True)):
        raise TensorError(f"the shape {tuple(tensor.shape)} cannot be expanded to {tuple(shape)}")
    format = formats.expanded(tensor.format, len(sizes))
    if sizes == list(tensor.shape):
        return tensor.to(format)
    return on(tensor, remembered(tensor.pattern, ("expand", *sizes), lambda: _expand(tensor.pattern, sizes, format)))


def reshape(tensor: SparseTensor, shape: Sequence[int]) -> SparseTensor:
    """Returns the entries in row-major order under another shape; -1 is the size that is left over.

    Leading dense dimensions are split and joined without a change of the storage; other changes give compressed rows,
    or coordinates where there were coordinates.

    Raises:
        TensorError: The shape has another number of entries.
    """
    pattern = tensor.pattern
    try:
        viewed = pattern.view(shape)
    except TensorError:
        pass
    else:
        return SparseTensor._make(viewed, tensor.values.reshape(viewed.values_shape), tensor.fill)
    known = -math.prod(shape)
    sizes = [math.prod(pattern.shape) // known if size == -1 and known else size for size in shape]
    if math.prod(sizes) != math.prod(pattern.shape) or not sizes or min(sizes) < 0:
        raise TensorError(f"the shape {tuple(pattern.shape)} cannot be reshaped to {tuple(shape)}")
    format = formats.reshaped(tensor.format, len(sizes))
    return on(tensor, remembered(pattern, ("reshape", *sizes), lambda: _reshape(pattern, sizes, format)))


def permute(tensor: SparseTensor, dims: Sequence[int]) -> SparseTensor:
    """Returns the permuted tensor: the same arrays, with batches made dense levels where they are moved.

    Raises:
        TensorError: The numbers are no order of the dimensions.
    """
    order = [dim % tensor.ndim for dim in dims]
    if order[: tensor.format.batch_rank] != list(range(tensor.format.batch_rank)):
        tensor = tensor.to(tensor.format.without_batch())
    pattern = tensor.pattern.permute(order)
    return SparseTensor._make(pattern, tensor.values.reshape(pattern.values_shape), tensor.fill)


def _cat(patterns: Sequence[Pattern], dim: int, format: Format) -> Derived:
    columns: list[list[Any]] = []
    sources = []
    offset = places = 0
    for pattern in patterns:
        coordinates, source = entries_of(pattern)
        coordinates[dim] = coordinates[dim] + offset
        columns.append(coordinates)
        sources.append(source + places)
        offset += pattern.shape[dim]
        places += pattern.storage_size
    first = patterns[0]
    shape = [*first.shape[:dim], offset, *first.shape[dim + 1 :]]
    joined = [torch.cat(parts) for parts in zip(*columns, strict=True)]
    return rebuild(format, shape, joined, torch.cat(sources), index_dtype(*patterns), first.device)


def _expand(pattern: Pattern, shape: Sequence[int], format: Format) -> Derived:
    coordinates, sources = entries_of(pattern)
    offset = len(shape) - len(pattern.shape)
    coordinates = [torch.zeros_like(sources)] * offset + coordinates
    for dim, size in enumerate(shape):
        if dim >= offset and pattern.shape[dim - offset] == size:
            continue
        count = sources.numel()
        coordinates = [coordinate.repeat(size) for coordinate in coordinates]
        coordinates[dim] = torch.arange(size, device=sources.device).repeat_interleave(count)
        sources = sources.repeat(size)
    return rebuild(format, shape, coordinates, sources, index_dtype(pattern), pattern.device)


def _reshape(pattern: Pattern, shape: Sequence[int], format: Format) -> Derived:
    coordinates, sources = entries_of(pattern)
    place = torch.zeros_like(sources)
    for coordinate, size in zip(coordinates, pattern.shape, strict=True):
        place = place * size + coordinate
    split = []
    for size in reversed(shape):
        split.append(place % max(size, 1))
        place = place.div(max(size, 1), rounding_mode="floor")
    return rebuild(format, shape, split[::-1], sources, index_dtype(pattern), pattern.device)
