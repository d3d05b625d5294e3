"""Conversion kernels as callables: compiled once for a text, cached in memory and on disk as regions are."""

from array import array
from collections.abc import Sequence
from functools import cached_property

import torch
from torch import Tensor

from gossamer.compiler.compile import compile_region
from gossamer.runtime.kernel import CompiledRegion

# Fewer elements than this are not worth the attention of another thread.
_GRAIN = 1 << 14


class Kernel:
    """The machine code of a text that `writer.module` made, compiled when it is first called.

    Attributes:
        text: The text.
    """

    def __init__(self, text: str):
        self.text = text

    @cached_property
    def _region(self) -> CompiledRegion:
        return compile_region(self.text, lambda: self.text)

    def __call__(self, numbers: Sequence[int], *arrays: Tensor) -> None:
        """Runs it.

        Args:
            numbers: Its first array, which begins with the step and the number of parts.
            arrays: The others, contiguous, on the CPU, of the sizes and dtypes that the kernel was written for.

        Raises:
            CompileError: It cannot be compiled.
            LibraryError: libgossamer.so is not there.
        """
        first = array("q", numbers)
        words = array("q", (*first.buffer_info(), *(w for a in arrays for w in (a.data_ptr(), a.numel()))))
        self._region.run_words(words)


def count_parts(elements: int) -> int:
    """Returns how many parts to split work into: one for each thread, if each has enough to do."""
    return max(1, min(torch.get_num_threads(), elements // _GRAIN))
