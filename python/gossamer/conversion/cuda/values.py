"""Values between dense tensors and patterns on a GPU."""

import torch
from torch import Tensor

from gossamer.conversion.cuda.blocks import BlockMover
from gossamer.conversion.cuda.compress import Memory
from gossamer.conversion.flat import fill_bits
from gossamer.conversion.strided import level_strides
from gossamer.coordinates import node_index
from gossamer.pattern import Pattern


def put(values: Tensor, pattern: Pattern, fill: float) -> Tensor:
    """Does what `strided.put` does."""
    dense = torch.full(tuple(pattern.shape), fill, dtype=values.dtype, device=values.device)
    _mover(dense, pattern, 0).put(dense, node_index(pattern), values.contiguous())
    return dense


def take(dense: Tensor, pattern: Pattern, fill: float) -> Tensor:
    """Does what `strided.take` does."""
    return _mover(dense, pattern, fill).take(dense, node_index(pattern)).view(pattern.values_shape)


def _mover(dense: Tensor, pattern: Pattern, fill: float) -> BlockMover:
    memory = Memory.of(dense, level_strides(pattern.kernel_format, dense.stride()))
    return BlockMover(memory, pattern.kernel_format, pattern.level_sizes, fill_bits(dense.dtype, fill))
