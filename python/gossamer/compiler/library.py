"""libgossamer.so through ctypes: the only place that knows the C API."""

import ctypes
import json
import os
import threading
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

from gossamer.errors import CudaError, GossamerError

PACKAGED = Path(__file__).resolve().parent.parent / "lib" / "libgossamer.so"

_OK, _CRASHED = 0, 2
_KERNEL = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


class LibraryError(GossamerError, RuntimeError):
    """libgossamer.so cannot be loaded, or does not take an object."""


class Failure(Exception):
    """A compile that failed: the diagnostics, and whether the compiler crashed rather than refused."""

    def __init__(self, diagnostics: str, crashed: bool):
        super().__init__(diagnostics)
        self.diagnostics = diagnostics
        self.crashed = crashed


@dataclass(frozen=True)
class Artifact:
    """What a compile produced: the signature (JSON), the relocatable object, and the PTX of its kernels, if any."""

    signature: str
    object: bytes
    kernels: str = ""


class Kernel:
    """A compiled function in memory. Call it with the address of the packed arguments; ctypes lets the GIL go."""

    def __init__(self, library: "Library", handle: int, address: int):
        self._library = library
        self._handle = handle
        self.address = address
        self.call = _KERNEL(address)

    def __del__(self) -> None:
        self._library.unload(self._handle)


class Library:
    """A loaded libgossamer.so.

    Args:
        path: Of the shared library.

    Raises:
        LibraryError: It cannot be loaded.
    """

    def __init__(self, path: Path):
        self.path = path
        try:
            self._c = _declare(ctypes.CDLL(str(path)))
        except (OSError, AttributeError) as error:
            raise LibraryError(f"cannot load {path}: {error}") from error
        _share_threads(self._c)

    @cached_property
    def version(self) -> str:
        """Version, LLVM's version and the build id: another text for every other build."""
        return self._c.gs_version().decode()

    @cached_property
    def host_cpu(self) -> str:
        """This machine's processor, as LLVM names it."""
        return self._c.gs_host_cpu().decode()

    @cached_property
    def host_features(self) -> str:
        """This machine's features: "+avx2,-avx512f,..."."""
        return self._c.gs_host_features().decode()

    def compile(self, text: str, **options: str) -> Artifact:
        """Compiles the MLIR text of a region; `options` are `cpu` and `features` (default: this machine's), and `chip`
        for an NVIDIA GPU.

        Raises:
            Failure: The compiler refused the text, or crashed on it.
        """
        with _Result(self._c, self._c.gs_compile, text, options) as result:
            size = ctypes.c_size_t()
            data = self._c.gs_artifact_object(result, ctypes.byref(size))
            return Artifact(
                self._c.gs_artifact_signature(result).decode(),
                ctypes.string_at(data, size.value),
                self._c.gs_artifact_kernels(result).decode(),
            )

    def emit(self, text: str, stage: str, **options: str) -> str:
        """Returns the text of one stage: "raise", "lower", "llvm", "asm" or "ptx".

        Raises:
            Failure: The compiler refused the text, or crashed on it.
        """
        with _Result(self._c, self._c.gs_emit, text, {"stage": stage, **options}) as result:
            return self._c.gs_artifact_text(result).decode()

    def load(self, object: bytes, entry: str) -> Kernel:
        """Links an object into the process.

        Raises:
            LibraryError: The object is no object, or needs a symbol that does not exist.
        """
        handle, address, error = ctypes.c_void_p(), ctypes.c_void_p(), ctypes.c_void_p()
        outputs = ctypes.byref(handle), ctypes.byref(address), ctypes.byref(error)
        if self._c.gs_load(object, len(object), entry.encode(), *outputs) != _OK:
            message = ctypes.string_at(error.value or 0).decode()
            self._c.gs_free_text(error)
            raise LibraryError(f"cannot load a compiled kernel: {message}")
        assert handle.value is not None
        assert address.value is not None
        return Kernel(self, handle.value, address.value)

    def run_programs(self, entry: int, words: object) -> str:
        """Runs an entry that launches tile programs on the processor; what went wrong, or nothing."""
        error = ctypes.c_void_p()
        if self._c.gs_tile_run(entry, words, ctypes.byref(error)) == _OK:
            return ""
        message = ctypes.string_at(error.value or 0).decode()
        self._c.gs_free_text(error)
        return message

    @cached_property
    def gpus(self) -> "Gpus":
        """NVIDIA GPUs, through the driver."""
        return Gpus(self._c)

    def unload(self, handle: int) -> None:
        """Frees the code of a kernel that nobody calls any more."""
        self._c.gs_unload(handle)


class Gpus:
    """The part of the C API that is about NVIDIA GPUs. Devices are numbered as the driver, and torch, number them."""

    def __init__(self, c: ctypes.CDLL):
        self._c = c
        self.run = c.gs_cuda_run
        self.wait = c.gs_cuda_wait

    def describe(self, device: int) -> tuple[int, int]:
        """The compute capability (90 for 9.0), and the driver's CUDA version (13000 for 13.0).

        Raises:
            CudaError: There is no driver, or no such device.
        """
        capability, driver = ctypes.c_int(), ctypes.c_int()
        self._check(self._c.gs_cuda_device, device, ctypes.byref(capability), ctypes.byref(driver))
        return capability.value, driver.value

    def assemble(self, ptx: str, device: int) -> tuple[bytes, str]:
        """Machine code of PTX by the driver, and the assembler's account of it.

        Raises:
            CudaError: The driver does not take it.
        """
        cubin, size, log = ctypes.c_void_p(), ctypes.c_size_t(), ctypes.c_void_p()
        outputs = ctypes.byref(cubin), ctypes.byref(size), ctypes.byref(log)
        self._check(self._c.gs_cuda_assemble, ptx.encode(), device, *outputs)
        code, text = ctypes.string_at(cubin.value or 0, size.value), ctypes.string_at(log.value or 0).decode()
        self._c.gs_free_text(cubin)
        self._c.gs_free_text(log)
        return code, text

    def load(self, cubin: bytes, kernels: int, device: int) -> int:
        """Loads machine code with so many kernels; gives a handle for `run` and `unload`.

        Raises:
            CudaError: The driver does not take it.
        """
        module = ctypes.c_void_p()
        self._check(self._c.gs_cuda_load, cubin, kernels, device, ctypes.byref(module))
        assert module.value is not None
        return module.value

    def unload(self, module: int) -> None:
        """Frees machine code that is not in use any more."""
        self._c.gs_cuda_unload(module)

    def _check(self, function: "ctypes._NamedFuncPointer", *arguments: object) -> None:
        error = ctypes.c_void_p()
        if function(*arguments, ctypes.byref(error)) != _OK:
            raise CudaError(self.taken(error))

    def taken(self, error: ctypes.c_void_p) -> str:
        """The text of an error, which is freed."""
        message = ctypes.string_at(error.value or 0).decode(errors="replace")
        self._c.gs_free_text(error)
        return message


class _Result:
    """The artifact of one call; a context manager that raises what went wrong and frees it in the end."""

    def __init__(self, c: ctypes.CDLL, function: "ctypes._NamedFuncPointer", text: str, options: dict[str, str]):
        self._c = c
        self._artifact = ctypes.c_void_p()
        data = text.encode()
        self._status = function(data, len(data), json.dumps(options).encode(), ctypes.byref(self._artifact))

    def __enter__(self) -> ctypes.c_void_p:
        if self._status != _OK:
            diagnostics = self._c.gs_artifact_error(self._artifact).decode(errors="replace").rstrip()
            self.__exit__()
            raise Failure(diagnostics, crashed=self._status == _CRASHED)
        return self._artifact

    def __exit__(self, *exception: object) -> None:
        self._c.gs_artifact_free(self._artifact)


_lock = threading.Lock()


def library() -> Library:
    """Returns the library, loaded on first use: $GOSSAMER_LIBRARY if set, else the one in the package.

    Raises:
        LibraryError: There is none; the message says how to build it.
    """
    with _lock:
        return _load(os.environ.get("GOSSAMER_LIBRARY"))


@cache
def _load(override: str | None) -> Library:
    path = Path(override) if override else PACKAGED
    if not path.is_file():
        told = "GOSSAMER_LIBRARY names it" if override else "the package should contain it"
        raise LibraryError(
            f"no compiler library at {path} ({told}). "
            "In a checkout `make build` makes it; otherwise install the wheel, or `pip install .` where LLVM and "
            "MLIR 22 are installed."
        )
    return Library(path)


def _share_threads(c: ctypes.CDLL) -> None:
    """Lets kernels run on torch's threads: its OpenMP runtime is the one that libtorch_cpu is linked with."""
    import torch

    torch_cpu = Path(torch.__file__).parent / "lib" / "libtorch_cpu.so"
    # Where it is not (a distribution's torch, a static build), kernels run on the calling thread.
    c.gs_set_openmp(str(torch_cpu).encode())


def _declare(c: ctypes.CDLL) -> ctypes.CDLL:
    """Gives every function of the C API its types, so that a wrong call is a Python error."""
    text, pointer, size, out = ctypes.c_char_p, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p
    for name, result, arguments in [
        ("gs_version", text, []),
        ("gs_host_cpu", text, []),
        ("gs_host_features", text, []),
        ("gs_set_openmp", ctypes.c_int, [text]),
        ("gs_compile", ctypes.c_int, [text, size, text, out]),
        ("gs_emit", ctypes.c_int, [text, size, text, out]),
        ("gs_artifact_error", text, [pointer]),
        ("gs_artifact_signature", text, [pointer]),
        ("gs_artifact_text", text, [pointer]),
        ("gs_artifact_object", pointer, [pointer, out]),
        ("gs_artifact_kernels", text, [pointer]),
        ("gs_artifact_free", None, [pointer]),
        ("gs_cuda_device", ctypes.c_int, [ctypes.c_int, out, out, out]),
        ("gs_cuda_assemble", ctypes.c_int, [text, ctypes.c_int, out, out, out, out]),
        ("gs_cuda_load", ctypes.c_int, [text, ctypes.c_int, ctypes.c_int, out, out]),
        ("gs_cuda_unload", None, [pointer]),
        ("gs_cuda_run", ctypes.c_int64, [pointer, pointer, pointer, pointer, pointer, ctypes.c_int64, out]),
        ("gs_cuda_wait", ctypes.c_int64, [pointer, pointer, pointer, out]),
        ("gs_tile_run", ctypes.c_int, [pointer, pointer, out]),
        ("gs_load", ctypes.c_int, [text, size, text, out, out, out]),
        ("gs_unload", None, [pointer]),
        ("gs_free_text", None, [pointer]),
    ]:
        function = getattr(c, name)
        function.restype, function.argtypes = result, arguments
    return c
