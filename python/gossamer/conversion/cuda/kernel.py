"""Conversion kernels for GPUs as callables: compiled once for a text and a chip, cached as regions are."""

from array import array
from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor
from torch._C._functorch import peek_interpreter_stack  # pyright: ignore[reportMissingImports]

from gossamer.compiler.compile import compile_region
from gossamer.runtime.cuda import chip_of


def in_transform() -> bool:
    """Whether a function of `torch.func` runs, in which new tensors are no memory."""
    return peek_interpreter_stack() is not None


class GpuKernel:
    """The machine code of a text that `GpuWriter.module` made, compiled when it is first called on a kind of chip.

    Attributes:
        text: The text.
    """

    def __init__(self, text: str):
        self.text = text
        self._calls: dict[int, Callable[[Any], None]] = {}

    def __call__(self, numbers: Sequence[int], *arrays: Tensor) -> None:
        """Launches it on the current stream of the arrays' device, and does not wait.

        Args:
            numbers: In the order of the writer's.
            arrays: The others, of the dtypes that the kernel was written for; it knows their strides itself.

        Raises:
            CompileError: It cannot be compiled.
            CudaError: The driver does not take it.
            LibraryError: libgossamer.so is not there.
        """
        index = arrays[0].get_device()
        call = self._calls.get(index)
        if call is None:
            region = compile_region(self.text, lambda: self.text, chip_of(index))
            call = self._calls[index] = region.on(arrays[0].device)
        words = [*numbers]
        for tensor in arrays:
            words += (tensor.data_ptr(), tensor.numel())
        packed = array("q", words)
        call(packed.buffer_info()[0])
