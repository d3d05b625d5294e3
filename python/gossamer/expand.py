"""A pattern repeated along dimensions that it has only once: a mask of a batch, for every head."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from gossamer.build import build
from gossamer.coordinates import node_index
from gossamer.errors import TensorError
from gossamer.pattern import Pattern
from gossamer.tensor import SparseTensor


def expanded_pattern(pattern: Pattern, shape: Sequence[int]) -> tuple[Pattern, Tensor]:
    """Returns a pattern broadcast to a shape, and where each of its nodes comes from; kept.

    Args:
        pattern: Of at most the rank of `shape`.
        shape: Equal to that of the pattern, but for leading dimensions, which must be 1 or missing in the pattern.

    Returns:
        The pattern, and int64 [nodes]: the node of the given pattern, -1 for a slot that is not used. Where everything
        is stored, nodes are what lies at one index of the repeated dimensions.

    Raises:
        TensorError: A dimension that is stored sparsely would have to be repeated.
    """
    return pattern.derived(("expanded", tuple(shape)), lambda: _expanded(pattern, tuple(shape)))


def _expanded(pattern: Pattern, shape: tuple[int, ...]) -> tuple[Pattern, Tensor]:
    format = pattern.kernel_format.for_rank(len(shape))
    old = (1,) * (len(shape) - len(pattern.shape)) + tuple(pattern.shape)
    different = [d for d, (a, b) in enumerate(zip(old, shape, strict=True)) if a != b]
    lead = max(different, default=-1) + 1
    if any(old[d] != 1 for d in different) or lead > format.leading:
        raise TensorError(
            f"a pattern of shape {tuple(pattern.shape)}, stored as {pattern.format}, cannot be broadcast to {shape}: "
            f"only dimensions of size 1 before those that are stored sparsely can"
        )
    width = torch.int64 if 64 in (pattern.pos_width, pattern.crd_width) else torch.int32
    if not format.outer:
        device = pattern.device
        origin = torch.arange(math.prod(old[:lead]), device=device).reshape(old[:lead]).expand(shape[:lead])
        return build(format, shape, origin.new_zeros(1), index_dtype=width)[0], origin.reshape(-1)
    inner = math.prod(format.level_sizes(old)[lead : format.outer])
    nodes = node_index(pattern)
    used = (nodes >= 0).nonzero()[:, 0]
    nodes = nodes[used]
    # Nodes are in the order of the leading dimensions: those of one index of them lie together.
    counts = torch.zeros(math.prod(old[:lead]), dtype=torch.int64, device=nodes.device)
    if inner:
        counts.index_add_(0, nodes.div(inner, rounding_mode="floor"), torch.ones_like(nodes))
    first = counts.cumsum(0) - counts
    origin = torch.arange(counts.numel(), device=nodes.device).reshape(old[:lead]).expand(shape[:lead]).reshape(-1)
    repeats = counts[origin]
    total = int(repeats.sum())
    to = torch.arange(origin.numel(), device=nodes.device).repeat_interleave(repeats, output_size=total)
    start = first[origin] - (repeats.cumsum(0) - repeats)
    source = torch.arange(total, device=nodes.device) + start[to]
    places = to * inner + nodes[source] % max(inner, 1)
    made, slot = build(format, shape, places, index_dtype=width)
    gather = used[source]
    if slot is None:
        return made, gather
    spread = gather.new_full((made.storage_size // max(made.inner_size, 1),), -1)
    spread[slot] = gather
    return made, spread


def expand(tensor: SparseTensor, shape: Sequence[int]) -> SparseTensor:
    """Returns a tensor broadcast to a shape, on a pattern that the tensor's own keeps.

    Raises:
        TensorError: A dimension that is stored sparsely would have to be repeated.
    """
    pattern, gather = expanded_pattern(tensor.pattern, shape)
    if not pattern.storage_size:
        return SparseTensor(pattern, tensor.values.new_empty(pattern.values_shape), tensor.fill)
    blocks = tensor.values.reshape(-1, pattern.storage_size // gather.numel())
    values = blocks[gather.clamp(min=0)]
    if pattern.nnz != pattern.storage_size:
        values = values.masked_fill(gather[:, None] < 0, tensor.fill)
    return SparseTensor(pattern, values.reshape(pattern.values_shape), tensor.fill)


def summed(values: Tensor, pattern: Pattern, shape: Sequence[int]) -> Tensor:
    """Returns the values of a tensor on a pattern that was broadcast to `shape`, summed onto that pattern's entries."""
    if not values.numel():
        return values.new_zeros(pattern.values_shape)
    _, gather = expanded_pattern(pattern, shape)
    blocks = values.reshape(gather.numel(), -1)
    used = gather >= 0
    if not bool(used.all()):
        blocks, gather = blocks[used], gather[used]
    result = blocks.new_zeros(pattern.storage_size // blocks.shape[1], blocks.shape[1])
    return result.index_add_(0, gather, blocks).reshape(pattern.values_shape)
