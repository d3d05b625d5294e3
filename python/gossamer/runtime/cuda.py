"""Kernels on NVIDIA GPUs: machine code for a device, made once and kept, and calls on torch's current stream."""

from __future__ import annotations

import ctypes
import hashlib
import json
import threading
import warnings
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any

import torch

from gossamer.errors import CudaError, UnsupportedError
from gossamer.runtime.allocation import allocator

if TYPE_CHECKING:
    from gossamer.compiler.library import Gpus, Kernel, Library

# By compute capability. PTX for a chip runs on newer ones, too, but for those with an "a".
_CHIPS = {
    80: "sm_80",
    86: "sm_86",
    87: "sm_87",
    89: "sm_89",
    90: "sm_90a",
    100: "sm_100a",
    103: "sm_103a",
    120: "sm_120a",
}
PORTABLE = "sm_90"

_SMALL = 1 << 20  # bytes


def number_of(device: torch.device) -> int:
    """The number of a CUDA device, which is the current one if it has none."""
    return torch.cuda.current_device() if device.index is None else device.index


@cache
def chip_of(device: int) -> str:
    """The chip of a device, as LLVM names it.

    Raises:
        CudaError: There is no driver, or no such device.
        UnsupportedError: The chip is older than what kernels are made for.
    """
    from gossamer.compiler.library import library

    capability, _ = library().gpus.describe(device)
    if capability < min(_CHIPS):
        raise UnsupportedError(
            f"cuda:{device} has compute capability {capability / 10}; kernels are made for 8.0 and newer"
        )
    if capability in _CHIPS:
        return _CHIPS[capability]
    return PORTABLE if capability > 90 else "sm_80"


class CudaKernel:
    """A compiled region whose kernels run on a GPU: the host's part, and their PTX.

    Args:
        library: The compiler's.
        host: Takes packed words and launches.
        ptx: Of the kernels.
        count: How many they are.
        operations: What they compute, for errors; nothing for a conversion.
    """

    def __init__(self, library: Library, host: Kernel, ptx: str, count: int, operations: str):
        self._library = library
        self._host = host
        self._what = f"a region ({operations})" if operations else "a conversion"
        self.ptx = ptx
        self._count = count
        self._calls: dict[int, Callable[[Any], None]] = {}
        self._modules: dict[int, _Module] = {}
        self._lock = threading.Lock()

    def on(self, device: torch.device) -> Callable[[Any], None]:
        """A function of the packed words (their address, or bytes), which runs the region on the device's current
        stream and does not wait for it.

        Raises:
            CudaError: The driver does not take the kernels.
        """
        index = number_of(device)
        call = self._calls.get(index)
        if call is None:
            with self._lock:
                call = self._calls.get(index) or self._load(index)
                self._calls[index] = call
        return call

    def waiting_on(self, device: torch.device) -> Callable[[int], int]:
        """A function of the address of a word in pinned memory, which waits until a kernel on the device's current
        stream has written a number there, and returns that.

        Raises:
            CudaError: The driver does not take the kernels.
        """
        self.on(device)
        index = number_of(device)
        gpus, module, what = self._library.gpus, self._modules[index], self._what
        wait, handle, stream_of = gpus.wait, module.handle, torch._C._cuda_getCurrentRawStream
        debug_mode = torch.cuda.get_sync_debug_mode

        def call(word: int) -> int:
            if debug_mode():
                _say_that_it_waits(what)
            error = ctypes.c_void_p()
            number = wait(handle, stream_of(index), word, ctypes.byref(error))
            if number < 0:
                raise CudaError(f"{what} failed on cuda:{index}: {gpus.taken(error)}")
            return number

        return call

    def _load(self, index: int) -> Callable[[Any], None]:
        torch.empty(0, device=f"cuda:{index}")  # torch's context exists from here on
        gpus = self._library.gpus
        module = _Module(gpus, gpus.load(_image(self._library, self.ptx, index), self._count, index))
        self._modules[index] = module
        run, handle, entry, what = gpus.run, module.handle, self._host.address, self._what
        stream_of, byref, pointer = torch._C._cuda_getCurrentRawStream, ctypes.byref, ctypes.c_void_p
        empty, uint8 = allocator(torch.device("cuda", index)), torch.uint8
        guess = 0  # what the last call needed for its temporaries, if that is little: asking takes as long as launching

        def call(words: Any) -> None:
            nonlocal guess
            error = pointer()
            stream = stream_of(index)
            # Given back as soon as everything is launched: torch gives it to nobody but this stream.
            memory = empty((guess,), (1,), uint8) if guess else None
            address = memory.data_ptr() if memory is not None else None
            needed = run(handle, entry, words, stream, address, guess, byref(error))
            if needed > 0:
                guess = needed if needed <= _SMALL else 0
                memory = empty((needed,), (1,), uint8)
                needed = run(handle, entry, words, stream, memory.data_ptr(), needed, byref(error))
            if needed < 0:
                raise CudaError(f"{what} failed on cuda:{index}: {gpus.taken(error)}")

        return call


def _say_that_it_waits(what: str) -> None:
    """Does what `torch.cuda.set_sync_debug_mode` asks for, as torch's own operations do."""
    text = f"{what} waits for the GPU, to know how much it stores"
    if torch.cuda.get_sync_debug_mode() == 2:
        raise CudaError(f"{text} (torch.cuda.set_sync_debug_mode is 'error')")
    warnings.warn(text, stacklevel=2)


class _Module:
    """Machine code on a device, unloaded with its last user."""

    def __init__(self, gpus: Gpus, handle: int):
        self._gpus = gpus
        self.handle = handle

    def __del__(self) -> None:
        self._gpus.unload(self.handle)


def _image(library: Library, ptx: str, device: int) -> bytes:
    """What a device loads.

    The driver gives machine code away only from its linker, which takes kernels in parts; there no kernel may move
    registers from one warpgroup to another (ptxas: C7504), and one that needs all of its registers spills. Those that
    multiply on tensor cores are loaded as PTX: the driver assembles them whole, and keeps the result in a cache of its
    own.
    """
    if "setmaxnreg" in ptx or "mma.sync" in ptx:
        return ptx.encode() + b"\0"
    return machine_code(library, ptx, device)


def machine_code(library: Library, ptx: str, device: int) -> bytes:
    """Machine code of PTX for a device, from the cache folder if it is there: the driver's assembler takes longer than
    everything else together.

    Raises:
        CudaError: The driver does not take it.
    """
    from gossamer.compiler.cache import DiskCache, cache_folder
    from gossamer.compiler.library import Artifact

    key = json.dumps(["machine code", ptx, *library.gpus.describe(device)])
    digest = hashlib.sha256(key.encode()).hexdigest()
    disk = DiskCache(cache_folder())
    known = disk.load(digest)
    if known is not None:
        return known.object
    code, log = library.gpus.assemble(ptx, device)
    disk.store(digest, Artifact(log, code))
    return code
