"""Kernels for block lists on a GPU; all write memory that the host has allocated, and none makes it wait."""

from torch import Tensor

# Blocks a multiprocessor: 64 registers a thread, where an assembler of its own would spill to have fewer.
RESIDENT = 8


def take(tensor: Tensor) -> bool:
    """Whether kernels run on a tensor where it is, and there is something to do."""
    return tensor.is_cuda and tensor.numel() > 0
