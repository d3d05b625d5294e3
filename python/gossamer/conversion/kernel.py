"""Conversion kernels as callables: compiled once for a text, cached in memory and on disk as regions are."""

from array import array
from collections.abc import Sequence

import torch
from torch import Tensor

from gossamer.compiler.compile import compile_region

# Fewer elements than this are not worth the attention of another thread.
_GRAIN = 1 << 14


class Kernel:
    """The machine code of a text that `writer.module` made.

    Raises:
        CompileError: It cannot be compiled.
        LibraryError: libgossamer.so is not there.
    """

    def __init__(self, text: str):
        self._region = compile_region(text, lambda: text)

    def __call__(self, numbers: Sequence[int], *arrays: Tensor) -> None:
        """Runs it: `numbers`, beginning with the step and the number of parts, and its other arrays."""
        first = array("q", numbers)
        words = array("q", (*first.buffer_info(), *(w for a in arrays for w in (a.data_ptr(), a.numel()))))
        self._region.run_words(words)


def count_parts(elements: int) -> int:
    """Returns how many parts to split work into: one for each thread, if each has enough to do."""
    return max(1, min(torch.get_num_threads(), elements // _GRAIN))
