"""A table of what Gossamer takes beside its rivals, each case checked before it is timed."""

import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from benchmarks.timing import interleaved
from gossamer.compiler.library import library

Results = Tensor | Sequence[Tensor]


@dataclass
class Case:
    """One computation.

    Attributes:
        name: What it is.
        shape: Sizes, for the reader.
        density: Stored part of the sparse operand.
        ours: The compiled function, called on its operands.
        rivals: The same in PyTorch: "dense", and its own sparse kernels where it has them.
        expected: What must come out, computed in float64.
        bars: Rival -> how many times faster than it we have to be.
        tolerance: Largest difference to `expected`, as a part of its largest entry.
    """

    name: str
    shape: str
    density: float
    ours: Callable[[], Results]
    rivals: dict[str, Callable[[], object]]
    expected: Callable[[], Results]
    bars: dict[str, float] = field(default_factory=dict)
    tolerance: float = 1e-4


def compare(title: str, cases: Iterable[Case], seconds: float = 1.0) -> int:
    """Prints a row a case, with the rivals' time as a multiple of ours; stops at a wrong result.

    Returns:
        How many bars were missed; a row that misses one says so.
    """
    warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta")
    table = Table("operation", "shape", title=f"{title}: ms, {library().host_cpu}, {torch.get_num_threads()} threads")
    rivals = ("dense", "torch.sparse")
    for column in ("density", "Gossamer", *(f"{rival} (ratio)" for rival in rivals), "bar"):
        table.add_column(column, justify="right")
    missed = 0
    for case in cases:
        _check(case)
        times = interleaved({"ours": case.ours, **case.rivals}, seconds)
        ratios = {rival: times[rival] / times["ours"] for rival in case.rivals}
        failing = [rival for rival, bar in case.bars.items() if ratios[rival] < bar]
        missed += bool(failing)
        cells = [f"{times[r]:.2f} ({ratios[r]:.2f}x)" if r in times else "-" for r in rivals]
        bar = ", ".join(f"{bar:g}x" for bar in case.bars.values()) + (" missed" if failing else "")
        table.add_row(case.name, case.shape, f"{case.density:.3f}", f"{times['ours']:.3f}", *cells, bar)
    Console(width=140).print(table)
    return missed


def _check(case: Case) -> None:
    results, expected = ([r] if isinstance(r, Tensor) else list(r) for r in (case.ours(), case.expected()))
    for number, (result, right) in enumerate(zip(results, expected, strict=True)):
        wrong = ((result - right).abs().max() / right.abs().max().clamp(min=1e-30)).item()
        if not wrong <= case.tolerance:
            raise SystemExit(
                f"{case.name} ({case.shape}): result {number} is wrong by {wrong:.1e} of the largest entry"
            )


def random_blocks(rows: int, columns: int, block: int, density: float) -> Tensor:
    """A random float32 matrix of which only that part of the blocks is not zero, and one at least."""
    kept = torch.zeros(rows // block, columns // block)
    number = max(1, round(density * kept.numel()))
    kept.view(-1)[torch.randperm(kept.numel())[:number]] = 1
    return torch.randn(rows, columns) * kept.repeat_interleave(block, 0).repeat_interleave(block, 1)
