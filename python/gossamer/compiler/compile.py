"""compile_region: a region's key to a kernel, by way of memory, disk and, at last, the compiler."""

import hashlib
import json
import shlex
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

from gossamer.compiler.cache import DiskCache, cache_folder, write_atomically
from gossamer.compiler.library import Artifact, Failure, Library, LibraryError, library
from gossamer.errors import CompileError, UnsupportedError, suggest
from gossamer.runtime.cuda import CudaKernel
from gossamer.runtime.host import HostPrograms
from gossamer.runtime.kernel import CompiledRegion
from gossamer.runtime.signature import Signature

STAGES = ("raise", "lower", "llvm", "asm", "ptx")

_lock = threading.Lock()
_regions: dict[str, CompiledRegion] = {}
_building: dict[str, threading.Lock] = {}


def compile_region(key: str, make_text: Callable[[], str], chip: str = "") -> CompiledRegion:
    """Returns the kernel of a region, compiled if neither this process nor the cache folder has it.

    Args:
        key: Says all that the region's text depends on. The processor and the compiler's build are added to it.
        make_text: Called for the region's MLIR text (`@main`, dense bodies, encodings on the arguments) only if it must
            be compiled.
        chip: The NVIDIA GPU that it is for, as LLVM names it ("sm_90a"); none: the processor.

    Raises:
        CompileError: The compiler refused the region or crashed on it; its text is kept in `.reproducer`.
        LibraryError: libgossamer.so is not there.
    """
    compiler = library()
    digest = _digest(key, compiler, chip)
    region = _regions.get(digest)
    if region is not None:
        return region
    with _lock:
        building = _building.setdefault(digest, threading.Lock())
    with building:
        if digest not in _regions:
            _regions[digest] = _build(compiler, digest, make_text, chip)
    return _regions[digest]


def emit(text: str, stage: str, target: str = "native") -> str:
    """Returns what a region's text has become after one stage; nothing is run or cached.

    Args:
        text: The region, as `compile_region` takes it.
        stage: "raise", "lower", "llvm", "asm" or "ptx".
        target: "native", a processor as LLVM names it ("znver4", "x86-64-v3"), or an NVIDIA chip ("sm_90a"), which is
            what the stage "ptx" is for.

    Raises:
        UnsupportedError: No such stage, or not for that target.
        CompileError: The compiler refused the region or crashed on it.
    """
    if stage not in STAGES:
        raise UnsupportedError(
            f"no stage {stage!r} after the import{suggest(stage, STAGES)} (there are {', '.join(STAGES)})"
        )
    options = {} if target == "native" else {"chip": target} if target.startswith("sm_") else {"cpu": target}
    if stage == "ptx" and "chip" not in options:
        raise UnsupportedError(f"stage 'ptx' is of NVIDIA GPUs, and the target is {target!r}; one is 'sm_90a'")
    try:
        return library().emit(text, stage, **options)
    except Failure as failure:
        raise _compile_error(failure, text, hashlib.sha256(text.encode()).hexdigest(), options) from None


def forget_regions() -> None:
    """Empties the cache in memory; what is on disk stays."""
    with _lock:
        _regions.clear()
        _building.clear()


def _digest(key: str, compiler: Library, chip: str) -> str:
    parts = [key, compiler.version, compiler.host_cpu, compiler.host_features, *([chip] if chip else [])]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _build(compiler: Library, digest: str, make_text: Callable[[], str], chip: str) -> CompiledRegion:
    start = time.perf_counter()
    disk = DiskCache(cache_folder())
    region = _from_disk(compiler, disk, digest, start)
    if region is not None:
        return region
    with disk.lock(digest):
        # Another process may have compiled it while this one waited.
        region = _from_disk(compiler, disk, digest, start)
        if region is not None:
            return region
        text = make_text()
        gpu = {"chip": chip} if chip else {}
        try:
            artifact = compiler.compile(text, cpu=compiler.host_cpu, features=compiler.host_features, **gpu)
        except Failure as failure:
            raise _compile_error(failure, text, digest, gpu) from None
        disk.store(digest, artifact)
        return _link(compiler, artifact, "compiled", start)


def _from_disk(compiler: Library, disk: DiskCache, digest: str, start: float) -> CompiledRegion | None:
    artifact = disk.load(digest)
    if artifact is None:
        return None
    try:
        return _link(compiler, artifact, "disk", start)
    except (LibraryError, ValueError, KeyError):  # whole, but of no use: as good as not there
        return None


def _link(compiler: Library, artifact: Artifact, origin: str, start: float) -> CompiledRegion:
    signature = Signature.parse(artifact.signature)
    kernel = compiler.load(artifact.object, signature.entry)
    if artifact.kernels:
        operations = ", ".join(dict.fromkeys(entry.op for entry in signature.report))
        kernel = CudaKernel(compiler, kernel, artifact.kernels, signature.kernels, operations)
    elif signature.kernels:
        kernel = HostPrograms(compiler, kernel)
    return CompiledRegion(signature, kernel, origin, milliseconds=(time.perf_counter() - start) * 1e3)


def _compile_error(failure: Failure, text: str, digest: str, options: dict[str, str]) -> CompileError:
    path = _keep(text, digest)
    what = "the compiler crashed (this process is unharmed)" if failure.crashed else "the compiler refused this region"
    if path is None:
        return CompileError(f"{what}:\n{failure.diagnostics}\nIts input could not be written to a file.")
    codegen = "".join(f" {name}={value}" for name, value in options.items())
    lower = ["--gossamer-raise", "--gossamer-lower-gpu" if "chip" in options else "--gossamer-lower-cpu"]
    if any(line.lstrip().startswith("tile.") for line in text.splitlines()):
        lower = ["--gossamer-lower-tile" if "chip" in options else "--gossamer-lower-tile-host"]
    command = ["gossamer-opt", str(path), *lower]
    command += [f"--gossamer-codegen={codegen.strip()}" if codegen else "--gossamer-codegen"]
    return CompileError(f"{what}:\n{failure.diagnostics}\nTo reproduce it: {shlex.join(command)}", reproducer=path)


def _keep(text: str, digest: str) -> Path | None:
    """Writes the input of a failed compile to the cache folder, or where that is impossible to a temporary one."""
    for folder in (cache_folder() / "failed", Path(tempfile.gettempdir()) / "gossamer-failed"):
        path = folder / f"{digest[:16]}.mlir"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            write_atomically(path, text.encode())
        except OSError:
            continue
        return path
    return None
