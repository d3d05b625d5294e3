"""`python -m benchmarks.gpu_general`: the general road on a CUDA GPU beside cuSPARSE and cuBLAS.

Every case is checked against float64 on the GPU before it is timed. Prints GPU time in ms (launches excluded), rivals'
as multiples of it, and the bytes that have to be moved at least over what the chip copies a second; then the time of a
call among others and of one alone until its result is there, in us, with the sparse rival's as a multiple of it.
"""

import argparse
import csv
import math
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

import gossamer as gs
from benchmarks.compare import random_blocks
from benchmarks.gpu_timing import call_time, gpu_times, whole_time

SHAPES = Path(__file__).parent / "cases" / "dlmc_shapes.csv"
COPY_BANDWIDTH = 4.24e12  # bytes a second that an H200 copies, read and written


@gs.sparse_jit
def matmul(a: Tensor, b: Tensor) -> Tensor:
    return a @ b


@gs.sparse_jit
def sampled(mask: Tensor, a: Tensor, b: Tensor) -> Tensor:
    return mask * (a @ b)


@dataclass
class Case:
    """One computation.

    Attributes:
        name, shape: For the reader.
        ours: The compiled function on its operands.
        rivals: "cuSPARSE" and "cuBLAS" (all entries), where they have it; "torch" for conversions.
        expected: What must come out, in float64.
        bytes: What has to be moved at least.
        bars: Rival -> how many times faster than it we have to be.
        most: How many us a call may take, if that is said.
        tolerance: Largest difference to `expected`, as a part of its largest entry.
    """

    name: str
    shape: str
    ours: Callable[[], Tensor | gs.SparseTensor]
    rivals: dict[str, Callable[[], object]]
    expected: Callable[[], Tensor]
    bytes: int
    bars: dict[str, float] = field(default_factory=dict)
    tolerance: float = 1e-4
    most: float = math.inf


def spmm(a: Tensor, width: int, name: str, bars: dict[str, float]) -> Case:
    """`a` is dense, with zeros; stored as CSR. A width of 0 is a vector."""
    b = torch.randn((a.shape[1], width) if width else (a.shape[1],), device=a.device, dtype=a.dtype)
    t = gs.sparsify(a, gs.CSR)
    theirs = t.to_torch()
    size = a.element_size()
    moved = t.nnz * (4 + size) + (a.shape[0] + 1) * 4 + (sum(a.shape) * max(width, 1)) * size
    return Case(
        name,
        f"{a.shape[0]} x {a.shape[1]} @ {width or 'vector'}, {t.density:.3f}",
        lambda: matmul(t, b),
        {"cuSPARSE": lambda: theirs @ b, "cuBLAS": lambda: a @ b},
        lambda: a.double() @ b.double(),
        moved,
        bars,
        1e-4 if a.dtype == torch.float32 else 4 * torch.finfo(a.dtype).eps,
    )


def random_csr(rows: int, columns: int, density: float, dtype: torch.dtype) -> Tensor:
    kept = torch.rand(rows, columns, device="cuda") < density
    return torch.randn(rows, columns, device="cuda", dtype=dtype) * kept


def products() -> Iterator[Case]:
    for width in (128, 1024):
        for dtype, bar in ((torch.float32, 1.0), (torch.float16, 1.2), (torch.bfloat16, 1.2)):
            for density in (0.01, 0.05, 0.1):
                yield spmm(
                    random_csr(4096, 4096, density, dtype), width, f"CSR SpMM {_short(dtype)}", {"cuSPARSE": bar}
                )


def vectors() -> Iterator[Case]:
    for dtype in (torch.float32, torch.float64):
        for density in (0.01, 0.1):
            yield spmm(random_csr(8192, 8192, density, dtype), 0, f"CSR SpMV {_short(dtype)}", {"cuSPARSE": 0.8})


def power_law() -> Iterator[Case]:
    """Row lengths as of a graph: most rows are short, and a few are as long as the matrix is wide."""
    rows = columns = 16384
    lengths = (columns / torch.arange(1, rows + 1).pow(0.9)).clamp(1, columns).long()
    a = torch.zeros(rows, columns)
    for row, length in enumerate(lengths[torch.randperm(rows)].tolist()):
        a[row, torch.randperm(columns)[:length]] = torch.randn(length)
    a = a.cuda()
    for width in (0, 64, 128):
        yield spmm(a, width, "power law", {"cuSPARSE": 0.8})
    wide = torch.zeros(4096, 100_000, device="cuda")
    wide[17] = torch.randn(100_000, device="cuda")
    wide[torch.arange(4096), torch.randint(100_000, (4096,))] = 1
    yield spmm(wide, 128, "one long row", {"cuSPARSE": 0.8})


def sampled_products() -> Iterator[Case]:
    for dtype in (torch.float32, torch.float16):
        for density in (0.01, 0.05, 0.1):
            yield sddmm(4096, 128, density, dtype)


def sddmm(size: int, depth: int, density: float, dtype: torch.dtype) -> Case:
    mask = (torch.rand(size, size, device="cuda") < density).to(dtype)
    a, b = (torch.randn(shape, device="cuda", dtype=dtype) for shape in ((size, depth), (depth, size)))
    t = gs.sparsify(mask, gs.CSR)
    theirs, at = t.to_torch(), t.pattern.coo()
    rivals: dict[str, Callable[[], object]] = {"cuBLAS": lambda: mask * (a @ b)}
    if dtype == torch.float32:  # which is all that it takes
        rivals["cuSPARSE"] = lambda: torch.sparse.sampled_addmm(theirs, a, b, beta=0.0)
    return Case(
        f"CSR SDDMM {_short(dtype)}",
        f"{size}^2 * ({size} x {depth} @ ..), {t.density:.3f}",
        lambda: sampled(t, a, b).values,
        rivals,
        lambda: (a.double() @ b.double())[at[0], at[1]],
        t.nnz * (4 + 2 * a.element_size()) + 2 * size * depth * a.element_size(),
        {"cuSPARSE": 4.0} if "cuSPARSE" in rivals else {},
        1e-4 if dtype == torch.float32 else 4 * torch.finfo(dtype).eps,
    )


def conversions() -> Iterator[Case]:
    single = random_csr(4096, 4096, 0.1, torch.float32)
    half = single.bfloat16()
    blocks = random_blocks(4096, 4096, 64, 0.1).cuda().bfloat16()
    yield stored("dense -> CSR f32", single, gs.CSR, single.to_sparse_csr, most=60)
    yield stored("dense -> CSR bf16", half, gs.CSR, half.to_sparse_csr)
    yield stored("dense -> CSC f32", single, gs.CSC, single.to_sparse_csc)
    yield stored("dense -> COO f32", single, gs.COO, single.to_sparse)
    yield stored("dense -> BSR 64 bf16", blocks, gs.BSR(64), lambda: blocks.to_sparse_bsr(64), most=60)
    yield stored("dense -> BSR 16 bf16", blocks, gs.BSR(16), lambda: blocks.to_sparse_bsr(16))
    yield chosen(8192)
    for name, format, dense in (("CSR f32", gs.CSR, single), ("BSR 64 bf16", gs.BSR(64), blocks)):
        yield restored(name, dense, format)
    yield transposed(single)


def stored(name: str, dense: Tensor, format: gs.Format, theirs: Callable[[], object], most: float = math.inf) -> Case:
    kept = gs.sparsify(dense, format).nnz
    return Case(
        name,
        f"{dense.shape[0]} x {dense.shape[1]}",
        lambda: gs.sparsify(dense, format),
        _that_work({"torch": theirs}),
        lambda: dense.double(),
        dense.numel() * dense.element_size() + kept * (dense.element_size() + 4 // (format.block or (1,))[0] ** 2),
        most=most,
    )


def chosen(size: int) -> Case:
    """The two largest of every four."""
    dense = torch.randn(size, size, device="cuda", dtype=torch.bfloat16)
    by = gs.magnitude(0.5)

    def expected() -> Tensor:
        groups = dense.view(-1, 4)
        kept = torch.zeros_like(groups, dtype=torch.bool)
        kept.scatter_(1, torch.sort(groups.abs(), dim=1, descending=True, stable=True).indices[:, :2], True)
        return (groups * kept).view(size, size).double()

    return Case(
        "dense -> 2:4, chosen, bf16",
        f"{size} x {size}",
        lambda: gs.sparsify(dense, gs.NM(2, 4), by),
        {},
        expected,
        dense.numel() * 2 + dense.numel() // 2 * (2 + 4),
        most=150,
    )


def restored(name: str, dense: Tensor, format: gs.Format) -> Case:
    t = gs.sparsify(dense, format)
    theirs = t.to_torch()
    return Case(
        f"{name} -> dense",
        f"{dense.shape[0]} x {dense.shape[1]}",
        t.to_dense,
        _that_work({"torch": theirs.to_dense}),
        lambda: dense.double(),
        dense.numel() * dense.element_size() + t.nnz * dense.element_size(),
    )


def transposed(dense: Tensor) -> Case:
    t = gs.sparsify(dense, gs.CSR)
    theirs = t.to_torch()

    def ours() -> gs.SparseTensor:
        fresh = gs.Pattern(t.format, t.shape, t.pattern._positions, t.pattern._coordinates, check=False)
        return gs.SparseTensor(fresh, t.values).to(gs.CSC)

    return Case(
        "CSR f32 -> CSC, a new pattern",
        f"{dense.shape[0]} x {dense.shape[1]}",
        ours,
        _that_work({"torch": theirs.to_sparse_csc}),
        lambda: dense.double(),
        4 * t.nnz * 4,
    )


def _that_work(rivals: dict[str, Callable[[], object]]) -> dict[str, Callable[[], object]]:
    """Without those that torch has for the CPU alone, which are named."""
    found = {}
    for name, run in rivals.items():
        try:
            run()
        except RuntimeError as error:  # of which NotImplementedError is one
            print(f"{name} is left out: {str(error).splitlines()[0]}")
            continue
        found[name] = run
    return found


def _short(dtype: torch.dtype) -> str:
    return {"float32": "f32", "float64": "f64", "float16": "f16", "bfloat16": "bf16"}[str(dtype)[6:]]


def collection(width: int, dtype: torch.dtype) -> Iterator[Case]:
    """The Deep Learning Matrix Collection's shapes (Gale et al., arXiv:2006.10901), filled at random: as many entries,
    in columns of `vector_rows`.
    """
    with SHAPES.open() as lines:
        for row in csv.DictReader(lines):
            rows, columns, high = int(row["rows"]), int(row["columns"]), int(row["vector_rows"])
            number = int(row["stored_entries"]) // high
            kept = torch.zeros(rows // high * columns, device="cuda")
            kept[torch.randperm(kept.numel(), device="cuda")[:number]] = 1
            kept = kept.view(rows // high, columns).repeat_interleave(high, 0)
            a = (torch.randn(rows // high * high, columns, device="cuda") * kept).to(dtype)
            yield spmm(a, width, f"{row['model']} {row['sparsity']}", {"cuSPARSE": 0.8})


def check(case: Case) -> None:
    result, right = case.ours(), case.expected()
    result = (result.to_dense() if isinstance(result, gs.SparseTensor) else result).double()
    wrong = float((result - right).abs().max() / right.abs().max().clamp(min=1e-30)) if right.numel() else 0.0
    if not wrong <= case.tolerance:
        raise SystemExit(f"{case.name} ({case.shape}): wrong by {wrong:.1e} of the largest entry")


def measure(case: Case, seconds: float) -> tuple[dict[str, float], dict[str, float]]:
    """Times in ms, and rivals' as multiples of ours."""
    times = gpu_times({"ours": case.ours, **case.rivals}, seconds)
    return times, {name: times[name] / times["ours"] for name in case.rivals}


def table(title: str, cases: Iterator[Case], seconds: float) -> int:
    """Prints a row a case; returns how many bars were missed."""
    shown = Table("operation", "shape, density", title=title)
    for column in ("Gossamer", "cuSPARSE", "cuBLAS or torch", "of copy", "call", "alone", "bar"):
        shown.add_column(column, justify="right")
    missed = 0
    for case in cases:
        check(case)
        times, ratios = measure(case, seconds)
        sparse = next((case.rivals[name] for name in ("cuSPARSE", "torch") if name in case.rivals), None)
        calls = [call_time(run) for run in (case.ours, sparse) if run]
        alone = [whole_time(run) for run in (case.ours, sparse) if run]
        failing = [rival for rival, bar in case.bars.items() if ratios[rival] < bar] + ["call"] * (calls[0] > case.most)
        missed += bool(failing)

        def cell(*names: str, times: dict[str, float] = times, ratios: dict[str, float] = ratios) -> str:
            return next((f"{times[n]:.4f} ({ratios[n]:.2f}x)" for n in names if n in ratios), "-")

        copied = case.bytes / (times["ours"] * 1e-3) / COPY_BANDWIDTH
        bars = [f"{bar:g}x" for bar in case.bars.values()] + [f"{case.most:g} us"] * (case.most < math.inf)
        shown.add_row(
            case.name, case.shape, f"{times['ours']:.4f}", cell("cuSPARSE"), cell("cuBLAS", "torch"),
            f"{copied:.0%}", _compared(calls), _compared(alone), ", ".join(bars) + (" missed" if failing else ""),
        )  # fmt: skip
    if shown.row_count:
        Console(width=170).print(shown)
    return missed


def _compared(times: list[float]) -> str:
    """Ours in us, and the rival's as a multiple of it, if there is one."""
    ours, *theirs = times
    return f"{ours:.0f}" + "".join(f" ({time / ours:.2f}x)" for time in theirs)


def _matching(cases: Iterator[Case], text: str) -> Iterator[Case]:
    return (case for case in cases if text in case.name)


def sweep(title: str, cases: Iterator[Case], seconds: float) -> int:
    """Prints what a collection comes to, and its slowest shapes; returns how many are below their bar."""
    ratios: list[tuple[float, str]] = []
    dense: list[float] = []
    for case in cases:
        check(case)
        _, found = measure(case, seconds)
        ratios.append((found["cuSPARSE"], f"{case.name}: {case.shape}"))
        dense.append(found["cuBLAS"])
    ratios.sort()
    values = [ratio for ratio, _ in ratios]
    mean = math.exp(sum(map(math.log, values)) / len(values))
    below = sum(value < 0.8 for value in values)
    print(
        f"{title}: {len(values)} shapes; cuSPARSE / ours: least {values[0]:.2f}x, median {median(values):.2f}x, "
        f"geometric mean {mean:.2f}x, most {values[-1]:.2f}x; {below} below 0.8x; cuBLAS / ours: median "
        f"{median(dense):.2f}x"
    )
    for ratio, name in ratios[:8]:
        print(f"  {ratio:.2f}x  {name}")
    return below


TABLES = {
    "csr": products,
    "sddmm": sampled_products,
    "convert": conversions,
    "spmv": vectors,
    "power": power_law,
}


def main() -> int:
    """Prints the tables; the exit status says whether a bar was missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", choices=[*TABLES, "dlmc"], help="some of them (all)")
    parser.add_argument("--match", default="", help="only operations whose name contains this")
    parser.add_argument("--seconds", type=float, default=0.1, help="GPU time for each of what is timed")
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        raise SystemExit("this benchmark needs a CUDA device")
    warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta")
    warnings.simplefilter("error", gs.FallbackWarning)
    torch.manual_seed(0)
    only = arguments.only or [*TABLES, "dlmc"]
    missed = 0
    with torch.no_grad():
        for name in only:
            device = torch.cuda.get_device_name()
            if name == "dlmc":
                for dtype in (torch.float32, torch.float16):
                    missed += sweep(f"DLMC, {_short(dtype)}, width 128", collection(128, dtype), arguments.seconds / 4)
            else:
                cases = _matching(TABLES[name](), arguments.match)
                missed += table(f"{name}: ms on {device}; calls in us", cases, arguments.seconds)
    return missed


if __name__ == "__main__":
    raise SystemExit(bool(main()))
