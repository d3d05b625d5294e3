"""`python -m benchmarks.gpu_conversions`: where the time of a conversion on a GPU goes, step by step.

For each conversion: GPU time of its kernels (torch's profiler), the time of a whole call on an idle GPU, and where the
host spends it: until the first launch, in launches, in allocations, waiting for the number of entries, in the rest, and
in the synchronisation at the end. All in microseconds.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from statistics import median
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

import gossamer as gs
from benchmarks.gpu_timing import whole_time
from gossamer.conversion.cuda.kernel import GpuKernel
from gossamer.runtime.allocation import LEAN, allocator

_COPY = 4.24e6  # bytes in a microsecond that one H200 reads and writes
_CALLS = 100


class Marks:
    """When the host began and ended what it did, of one call."""

    def __init__(self) -> None:
        self.steps: list[tuple[str, float, float]] = []

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Launches, waits and allocations inside are noted."""
        launch, wait, lean = GpuKernel.launch, GpuKernel.wait, LEAN["cuda"]
        GpuKernel.launch = self._noting("launch", launch)  # type: ignore[method-assign]
        GpuKernel.wait = self._noting("wait", wait)  # type: ignore[method-assign]
        LEAN["cuda"] = lean and self._noting("allocate", lean)
        allocator.cache_clear()
        try:
            yield
        finally:
            GpuKernel.launch, GpuKernel.wait = launch, wait  # type: ignore[method-assign]
            LEAN["cuda"] = lean
            allocator.cache_clear()

    def _noting(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any) -> Any:
            start = time.perf_counter()
            try:
                return function(*args)
            finally:
                self.steps.append((name, start, time.perf_counter()))

        return call


def steps_of(run: Callable[[], object]) -> dict[str, float]:
    """Median microseconds of each step of a call on an idle GPU."""
    for _ in range(5):
        run()
    marks, taken = Marks(), []
    with marks.watched():
        for _ in range(_CALLS):
            torch.cuda.synchronize()
            marks.steps.clear()
            start = time.perf_counter()
            result = run()
            end = time.perf_counter()
            torch.cuda.synchronize()
            done = time.perf_counter()
            del result
            taken.append(_split(marks.steps, start, end, done))
    return {name: median(one[name] for one in taken) for name in taken[0]}


def _split(steps: list[tuple[str, float, float]], start: float, end: float, done: float) -> dict[str, float]:
    first = next((begin for name, begin, _ in steps if name == "launch"), end)
    found = {"before": (first - start) * 1e6}
    for wanted in ("launch", "allocate", "wait"):
        own = [(begin, to) for name, begin, to in steps if name == wanted]
        found[wanted] = sum(to - begin for begin, to in own) * 1e6
        found[f"{wanted}s"] = len(own)
    after = sum(to - begin for _, begin, to in steps if begin >= first) * 1e6
    found["rest"] = (end - first) * 1e6 - after
    found["synchronise"] = (done - end) * 1e6
    return found


def kernel_time(run: Callable[[], object], calls: int = 20) -> float:
    """Microseconds of GPU time of all kernels of a call."""
    for _ in range(3):
        run()
    torch.cuda.synchronize()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        for _ in range(calls):
            run()
        torch.cuda.synchronize()
    return sum(event.self_device_time_total for event in profile.key_averages()) / calls


def cases() -> Iterator[tuple[str, Callable[[], object], float]]:
    """Name, call, and bytes that must be read and written (0: not worth a figure)."""
    torch.manual_seed(0)
    size = 4096
    kept = torch.rand(size, size, device="cuda") < 0.1
    single = torch.randn(size, size, device="cuda") * kept
    half = single.bfloat16()
    full = torch.randn(size, size, device="cuda")
    blocks = torch.rand(size // 64, size // 64, device="cuda") < 0.1
    blocked = (
        torch.randn(size, size, device="cuda") * blocks.repeat_interleave(64, 0).repeat_interleave(64, 1)
    ).bfloat16()
    wide = torch.randn(2 * size, 2 * size, device="cuda", dtype=torch.bfloat16)
    nnz, block_nnz = int(single.count_nonzero()), int(blocks.sum()) * 64 * 64
    dense, dense_half = single.nbytes, half.nbytes
    yield "dense -> CSR f32", lambda: gs.sparsify(single, gs.CSR), dense + 8 * nnz
    yield "the same by torch", single.to_sparse_csr, 0
    yield "dense -> CSR bf16", lambda: gs.sparsify(half, gs.CSR), dense_half + 6 * nnz
    yield "dense -> CSC f32", lambda: gs.sparsify(single, gs.CSC), dense + 8 * nnz
    yield "dense -> COO f32", lambda: gs.sparsify(single, gs.COO), dense + 12 * nnz
    yield "dense -> BSR 64 bf16", lambda: gs.sparsify(blocked, gs.BSR(64)), dense_half + 2 * block_nnz
    yield "the same by torch", lambda: blocked.to_sparse_bsr(64), 0
    yield "dense -> BSR 16 bf16", lambda: gs.sparsify(blocked, gs.BSR(16)), dense_half + 2 * block_nnz
    two, both = gs.by.n_of_m(2, 4), gs.by.n_of_m(2, 4, transposable=True)
    yield "dense -> 2:4 bf16, 8192", lambda: gs.sparsify(wide, gs.NM(2, 4), two), wide.nbytes + wide.numel() // 2 * 6
    yield "2:4 both ways bf16, 8192", lambda: gs.sparsify_both(wide, gs.NM(2, 4), both), wide.nbytes + wide.numel() * 6
    yield "magnitude(0.1) -> CSR", lambda: gs.sparsify(full, gs.CSR, gs.by.magnitude(0.1)), 0
    yield "magnitude(0.1, row) -> CSR", lambda: gs.sparsify(full, gs.CSR, gs.by.magnitude(0.1, "row")), 0
    yield "random(0.1) -> CSR", lambda: gs.sparsify(full, gs.CSR, gs.by.random(0.1, 1)), 0
    limit, near = gs.by.threshold(1.6), gs.by.where(lambda i, j: (i - j).abs() < 200)
    yield "threshold -> CSR", lambda: gs.sparsify(full, gs.CSR, limit), dense + full.numel() + 8 * nnz
    yield "where(f) -> CSR", lambda: gs.sparsify(full, gs.CSR, near), dense + full.numel() + 8 * nnz
    yield "threshold, the mask alone", lambda: limit.mask(full), dense + full.numel()
    csr, bsr = gs.sparsify(single, gs.CSR), gs.sparsify(blocked, gs.BSR(64))
    same = gs.by.like(csr)
    yield "like(CSR)", lambda: gs.sparsify(full, gs.CSR, same), 12 * nnz
    yield "resparsify_, CSR", lambda: csr.resparsify_(single), 12 * nnz
    yield "CSR -> dense", csr.to_dense, dense + 8 * nnz
    yield "BSR 64 -> dense", bsr.to_dense, dense_half + 2 * block_nnz
    yield "CSR -> CSC, a new pattern", lambda: _fresh(csr).to(gs.CSC), 16 * nnz
    yield "CSR -> COO, a new pattern", lambda: _fresh(csr).to(gs.COO), 12 * nnz
    yield "BSR 64 -> BSC 64, a new pattern", lambda: _fresh(bsr).to(gs.BSC(64)), 4 * block_nnz


def _fresh(t: gs.SparseTensor) -> gs.SparseTensor:
    """The same tensor with a pattern that keeps nothing yet."""
    pattern = gs.Pattern(t.format, t.shape, t.pattern._positions, t.pattern._coordinates, check=False)
    return gs.SparseTensor(pattern, t.values)


def _checked() -> None:
    """A wrong kernel is not worth timing."""
    dense: Tensor = torch.randn(64, 256, device="cuda").bfloat16()
    for format, by in ((gs.CSR, gs.by.magnitude(0.1)), (gs.NM(2, 4), gs.by.n_of_m(2, 4)), (gs.BSR(16), None)):
        mine, right = gs.sparsify(dense, format, by), gs.sparsify(dense.cpu(), format, by)
        if not torch.equal(mine.to_dense().cpu(), right.to_dense()):
            raise SystemExit(f"{format} by {by} is wrong on this GPU")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="conversions whose names contain this")
    only = parser.parse_args().only
    _checked()
    table = Table(title=f"conversions on {torch.cuda.get_device_name()}: us", header_style="")
    columns = ("GPU", "of copy", "whole call", "before", "launch", "allocate", "wait", "rest", "synchronise")
    for name in ("conversion", *columns):
        table.add_column(name, justify="left" if name == "conversion" else "right")
    for name, run, bytes in cases():
        if only not in name:
            continue
        gpu, whole, steps = kernel_time(run), whole_time(run), steps_of(run)
        numbers = [
            f"{gpu:.1f}",
            f"{bytes / _COPY / gpu:.0%}" if bytes and gpu else "-",
            f"{whole:.1f}",
            f"{steps['before']:.1f}",
        ]
        numbers += [f"{steps[step]:.1f} ({steps[f'{step}s']:.0f})" for step in ("launch", "allocate", "wait")]
        table.add_row(name, *numbers, f"{steps['rest']:.1f}", f"{steps['synchronise']:.1f}")
    Console(width=160).print(table)


if __name__ == "__main__":
    main()
