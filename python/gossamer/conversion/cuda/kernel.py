"""Conversion kernels for GPUs as callables: compiled once for a text and a chip, cached as regions are."""

from array import array
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch._C._functorch import peek_interpreter_stack  # pyright: ignore[reportMissingImports]

from gossamer.compiler.compile import compile_region
from gossamer.runtime.cuda import chip_of
from gossamer.runtime.kernel import CompiledRegion


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
        self._waits: dict[int, Callable[[int], int]] = {}

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
        words = [*numbers]
        for tensor in arrays:
            words += (tensor.data_ptr(), tensor.numel())
        self.launch(arrays[0].get_device(), words)

    def launch(self, device: int, words: Sequence[int]) -> None:
        """Launches it on the current stream of a device, and does not wait; raises as a call does.

        Args:
            device: Its number.
            words: The numbers, then the address and the length of every array.
        """
        call = self._calls.get(device)
        if call is None:
            call = self._calls[device] = self._region(device).on(torch.device("cuda", device))
        packed = array("q", words)
        call(packed.buffer_info()[0])

    def wait(self, device: int, word: int) -> int:
        """Waits for what a launch of it writes to a word in pinned memory, and returns that number.

        Raises:
            CudaError: A kernel failed, or the stream is being captured.
        """
        wait = self._waits.get(device)
        if wait is None:
            wait = self._waits[device] = self._region(device).waiting_on(torch.device("cuda", device))
        return wait(word)

    def _region(self, device: int) -> CompiledRegion:
        return compile_region(self.text, lambda: self.text, chip_of(device))
