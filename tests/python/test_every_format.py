"""Every format through the compiler, in each operation that a sparse operand can be part of."""

import itertools

import pytest
import torch
from torch.nn import functional as F

import gossamer as gs
from tests.fuzz.cases import cases, signatures
from tests.fuzz.check import Compiled, Failure

FORMATS = {
    "CSR": gs.CSR,
    "CSC": gs.CSC,
    "COO": gs.COO,
    "DCSR": gs.DCSR,
    "DCSC": gs.DCSC,
    "BSR(4)": gs.BSR(4),
    "BSR((2, 8))": gs.BSR((2, 8)),
    "BSC(4)": gs.BSC(4),
    "DBSR(4)": gs.DBSR(4),
    "BlockELL(4)": gs.BlockELL(4),
    "NM(2, 4)": gs.NM(2, 4),
}

pytestmark = pytest.mark.filterwarnings("error::gossamer.FallbackWarning")  # nothing is to run densely


def products(x, y, w, b):
    """A linear layer with an epilogue, a product from the left, and a product sampled where w is stored."""
    return F.gelu(F.linear(x, w, b)), w @ y, ((x.mT @ x)[: w.shape[0]] + 1) * w


def attention(q, k, v, mask):
    scores = q @ k.mT * q.shape[-1] ** -0.5
    return torch.softmax(scores.masked_fill(~mask, -torch.inf), -1) @ v


def matrix(rows: int, columns: int) -> torch.Tensor:
    """Entries 0 and 2 of every four, but for some empty blocks and rows: fits every format."""
    dense = torch.zeros(rows, columns, dtype=torch.float64)
    dense[:, ::2] = torch.randn(rows, columns // 2, dtype=torch.float64)
    dense[4:8, 8:24] = 0
    dense[16:20] = 0
    return dense


@pytest.mark.parametrize("format", FORMATS.values(), ids=FORMATS)
@torch.no_grad()
def test_products(format):
    torch.manual_seed(0)
    x, y, w, b = torch.randn(7, 32).double(), torch.randn(32, 5).double(), matrix(24, 32), torch.randn(24).double()
    got = gs.sparse_jit(products, w=format)(x, y, w, b)
    assert isinstance(got[2], gs.SparseTensor)
    for ours, expected in zip((*got[:2], got[2].to_dense()), products(x, y, w, b), strict=True):
        torch.testing.assert_close(ours, expected)


@pytest.mark.parametrize("format", FORMATS.values(), ids=FORMATS)
@torch.no_grad()
def test_attention(format):
    torch.manual_seed(0)
    q, k, v = (torch.randn(2, 3, n, 8, dtype=torch.float64) for n in (24, 32, 32))
    mask = matrix(24, 32) != 0
    got = gs.sparse_jit(attention, mask=format)(q, k, v, mask)
    torch.testing.assert_close(got, attention(q, k, v, mask).nan_to_num(0.0))  # rows with nothing allowed give 0


SIGNATURES, EACH = 110, 3  # `make fuzz` draws from the same ones, a hundred thousand cases


@pytest.mark.parametrize("number", range(0, SIGNATURES, 10))
def test_sampled(number: int) -> None:
    """Operations x formats x dtypes x index widths x sizes x patterns x values, against dense float64."""
    wrong = []
    for signature in itertools.islice(signatures(seed=0), number, number + 10):
        compiled = Compiled(signature)
        for case in itertools.islice(cases(signature, "0"), EACH):
            try:
                compiled.check(case)
            except Failure as failure:
                wrong.append(f"{failure}\n  python -m tests.fuzz --case '{case.dumps()}'")
    assert not wrong, "\n".join(wrong)
