"""`python -m benchmarks.cpu_products [--sweep]`: sparse times dense, sparse linear layers, sampled products."""

import argparse
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

import gossamer as gs
from benchmarks.compare import Case, compare, random_blocks


@gs.sparse_jit
def matmul(a: Tensor, b: Tensor) -> Tensor:
    return a @ b


@gs.sparse_jit
def linear(x: Tensor, weight: Tensor) -> Tensor:
    return F.linear(x, weight)


@gs.sparse_jit
def sampled(mask: Tensor, a: Tensor, b: Tensor) -> Tensor:
    return mask * (a @ b)


def spmm(format: gs.Format, block: int, size: int, width: int, density: float, bar: float) -> Case:
    """A square sparse matrix times a dense one; torch.sparse stores it in the same format."""
    dense, b = random_blocks(size, size, block, density), torch.randn(size, width)
    t = gs.sparsify(dense, format)
    theirs = t.to_torch()
    return Case(
        f"{_name(format, block)} @ dense",
        f"{size}^2 @ {size} x {width}",
        t.density,
        lambda: matmul(t, b),
        {"dense": lambda: dense @ b, "torch.sparse": lambda: theirs @ b},
        lambda: dense.double() @ b.double(),
        {"torch.sparse": bar},
    )


def sddmm(format: gs.Format, block: int, size: int, depth: int, density: float, bar: float) -> Case:
    """The entries of a product at a pattern; torch.sparse has it for CSR."""
    dense = (random_blocks(size, size, block, density) != 0).float()
    a, b = torch.randn(size, depth), torch.randn(depth, size)
    t, csr = gs.sparsify(dense, format), dense.to_sparse_csr()
    rows = t.pattern.coo()
    return Case(
        f"{_name(format, block)} * (dense @ dense)",
        f"{size}^2 * ({size} x {depth} @ ..)",
        t.density,
        lambda: sampled(t, a, b).values.flatten(),
        {"dense": lambda: dense * (a @ b), "torch.sparse": lambda: torch.sparse.sampled_addmm(csr, a, b, beta=0.0)},
        lambda: (dense * (a.double() @ b.double()))[rows[0], rows[1]],
        {"torch.sparse": bar},
    )


def sparse_linear(block: int, tokens: int, width: int, hidden: int, density: float, bar: float) -> Case:
    """A linear layer with a block-sparse weight."""
    x, weight = torch.randn(tokens, width), random_blocks(hidden, width, block, density)
    t = gs.sparsify(weight, gs.BSR(block))
    return Case(
        f"linear, BSR {block}",
        f"{tokens} x {width} -> {hidden}",
        t.density,
        lambda: linear(x, t),
        {"dense": lambda: F.linear(x, weight)},
        lambda: F.linear(x.double(), weight.double()),
        {"dense": bar},
    )


def _name(format: gs.Format, block: int) -> str:
    return f"BSR {block}" if block > 1 else "CSC" if format == gs.CSC else "COO" if format == gs.COO else "CSR"


STORAGES = [(gs.CSR, 1), (gs.BSR(16), 16), (gs.BSR(32), 32), (gs.BSR(64), 64)]


def table() -> Iterator[Case]:
    """The rows of the targets, and formats that torch converts."""
    for format, block in STORAGES:
        for density in (0.01, 0.05, 0.1, 0.2):
            yield spmm(format, block, 2048, 128, density, 1.5)
    yield spmm(gs.CSC, 1, 2048, 128, 0.1, 1.5)
    yield spmm(gs.COO, 1, 2048, 128, 0.1, 1.5)
    for format, block in STORAGES:
        for density in (0.01, 0.1, 0.2):
            yield sddmm(format, block, 2048, 128, density, 1.5)
    for block in (16, 32, 64):
        for density, bar in ((0.2, 2), (0.1, 4)):
            yield sparse_linear(block, 512, 1024, 4096, density, bar)


def sweep() -> Iterator[Case]:
    """Shapes and densities, none of which may be far behind torch.sparse."""
    for format, block in STORAGES:
        for size in (512, 2048, 4096):
            for width in (1, 16, 64, 512):
                for density in (0.01, 0.1, 0.5):
                    yield spmm(format, block, size, width, density, 0.8)
        for size in (512, 2048):
            for depth in (16, 64, 256):
                for density in (0.01, 0.1, 0.5):
                    yield sddmm(format, block, size, depth, density, 0.8)


def main() -> int:
    """Prints the table, or the sweep; the exit status says whether a bar was missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sweep", action="store_true", help="many shapes and densities")
    parser.add_argument("--seconds", type=float, default=1.0, help="time for a row")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    with torch.no_grad():
        return compare("products, float32", sweep() if arguments.sweep else table(), arguments.seconds)


if __name__ == "__main__":
    raise SystemExit(bool(main()))
