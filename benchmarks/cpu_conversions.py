"""`python -m benchmarks.cpu_conversions`: making tensors sparse, storing them in another way, and dense again."""

from collections.abc import Callable

import torch
from torch import Tensor

import gossamer as gs
from benchmarks.compare import Case, compare, random_blocks
from gossamer.convert import convert
from gossamer.tensor import gather_runs


def sparsified(name: str, format: gs.Format, dense: Tensor, theirs: Callable[[], object], bar: float) -> Case:
    """From a dense tensor; "dense" is a copy of it, which reads and writes it once."""
    rows = gs.sparsify(dense, format).pattern.coo()
    return Case(
        f"dense -> {name}",
        f"{dense.shape[0]}^2",
        gs.sparsify(dense, format).density,
        lambda: gs.sparsify(dense, format).values.flatten(),
        {"dense": dense.clone, "torch.sparse": theirs},
        lambda: _entries(dense, rows),
        {"torch.sparse": bar},
    )


def converted(
    name: str, t: gs.SparseTensor, format: gs.Format, theirs: Callable[[], object] | None = None, bar: float = 0
) -> Case:
    """From one format to another: the pattern anew, which calls of a kernel find kept, and the values."""
    dense = t.to_dense()

    def ours() -> gs.SparseTensor:
        pattern, gather, size = convert(t.pattern, format)
        values = t.values if gather is None else gather_runs(t.values, gather, size, t.fill)
        return gs.SparseTensor(pattern, values.reshape(pattern.values_shape))

    rows = ours().pattern.coo()
    return Case(
        name,
        f"{dense.shape[0]}^2",
        t.density,
        lambda: ours().values.flatten(),
        {} if theirs is None else {"torch.sparse": theirs},
        lambda: _entries(dense, rows),
        {"torch.sparse": bar} if bar else {},
    )


def _entries(dense: Tensor, rows: Tensor) -> Tensor:
    """The entries at coordinates; 0 in slots that are not in use."""
    return dense.double()[rows[0], rows[1]].masked_fill(rows[0] < 0, 0)


def made_dense(name: str, t: gs.SparseTensor, bar: float) -> Case:
    """All entries of a stored tensor; "dense" is a copy of them."""
    theirs, dense = t.to_torch(), t.to_dense()
    return Case(
        f"{name} -> dense",
        f"{dense.shape[0]}^2",
        t.density,
        t.to_dense,
        {"dense": dense.clone, "torch.sparse": theirs.to_dense},
        lambda: theirs.to_dense().double(),
        {"torch.sparse": bar},
    )


def main() -> int:
    """Prints the table; returns how many bars were missed."""
    torch.manual_seed(0)
    entries, blocks = random_blocks(4096, 4096, 1, 0.1), random_blocks(4096, 4096, 64, 0.1)
    csr, bsr = gs.sparsify(entries, gs.CSR), gs.sparsify(blocks, gs.BSR(64))
    of_blocks = gs.sparsify(blocks, gs.CSR)
    their_csr, their_bsr, their_blocks = csr.to_torch(), bsr.to_torch(), of_blocks.to_torch()
    cases = [
        sparsified("CSR", gs.CSR, entries, entries.to_sparse_csr, 3),
        sparsified("CSC", gs.CSC, entries, entries.to_sparse_csc, 3),
        sparsified("COO", gs.COO, entries, entries.to_sparse, 3),
        sparsified("BSR 64", gs.BSR(64), blocks, lambda: blocks.to_sparse_bsr((64, 64)), 3),
        sparsified("BSR 4", gs.BSR(4), blocks, lambda: blocks.to_sparse_bsr((4, 4)), 3),
        converted("CSR -> CSC", csr, gs.CSC, their_csr.to_sparse_csc, 3),
        converted("CSR -> COO", csr, gs.COO, their_csr.to_sparse_coo),
        converted("CSR -> BSR 64", of_blocks, gs.BSR(64), lambda: their_blocks.to_sparse_bsr((64, 64))),
        converted("BSR 64 -> BSC 64", bsr, gs.BSC(64), lambda: their_bsr.to_sparse_bsc((64, 64))),
        converted("BSR 64 -> CSR", bsr, gs.CSR),
        converted("BSR 64 -> block ELL", bsr, gs.BlockELL(64)),
        made_dense("CSR", csr, 1.5),
        made_dense("BSR 64", bsr, 1.5),
    ]
    return compare("Conversions of float32", cases)


if __name__ == "__main__":
    raise SystemExit(bool(main()))
