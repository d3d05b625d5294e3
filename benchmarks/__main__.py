"""`make bench`: compiled kernels beside PyTorch's, on this machine's CPU."""

import warnings

import torch
from rich.console import Console
from rich.table import Table

from benchmarks.cases import all_cases
from benchmarks.timing import milliseconds
from gossamer.compiler.library import library

RIVALS = ("dense", "torch.sparse")


def main() -> None:
    """Prints a row a case; stops at a result that is not the dense one."""
    torch.manual_seed(0)
    warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta")
    threads = torch.get_num_threads()
    table = Table("operation", "shape", title=f"ms, float32, {library().host_cpu}, {threads} threads")
    for column in ("density", "Gossamer", *RIVALS):
        table.add_column(column, justify="right")
    with torch.no_grad():
        for case in all_cases():
            expected = case.rivals["dense"]()
            wrong = ((case.ours() - expected).abs().max() / expected.abs().max()).item()
            if wrong > case.tolerance:
                raise SystemExit(f"{case.name} ({case.shape}): differs from the dense result by {wrong:.1e}")
            ours = f"{milliseconds(case.ours):.2f}"
            rivals = [f"{milliseconds(rival):.2f}" if rival else "-" for rival in map(case.rivals.get, RIVALS)]
            table.add_row(case.name, case.shape, f"{case.density:.3f}", ours, *rivals)
    Console().print(table)


if __name__ == "__main__":
    main()
