"""Compiled products: every dtype, the edges of every road, rows of very different length, reductions."""

import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import gossamer as gs
from test_compiled_products import sparse_matrix

FORMATS = {
    "CSR": gs.CSR,
    "BSR2x8": gs.BSR((2, 8)),
    "BSR8": gs.BSR(8),
    "BSR16": gs.BSR(16),
    "BSR32x4": gs.BSR((32, 4)),
    "1x8": gs.BSR((1, 8)),
    "8x1": gs.BSR((8, 1)),
}
KINDS = {
    "a @ x": lambda a, x: a @ x,
    "linear": lambda a, x: F.linear(x.mT.contiguous(), a).mT,
    "a @ v": lambda a, x: a @ x[:, 0],
    "batched": lambda a, x: a @ torch.stack([x, -x]),
}
FLOATS = {torch.float64: 1e-13, torch.float32: 2e-6, torch.bfloat16: 2.0**-8, torch.float16: 2.0**-11}
INTEGERS = [torch.int8, torch.int32, torch.int64]


@pytest.fixture(autouse=True)
def _no_fallback():
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("error", gs.FallbackWarning)
        yield


def check(result: Tensor, expected: Tensor) -> None:
    """Within one rounding of the float64 reference, for numbers near the largest one."""
    atol = FLOATS.get(result.dtype, 0.0) * float(expected.abs().max() if expected.numel() else 0)
    torch.testing.assert_close(result.double(), expected.to(result.dtype).double(), rtol=0, atol=atol)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("form", FORMATS)
def test_lanes(form: str, kind: str) -> None:
    """Widths around vectors, strips and panels of any processor, and token counts that each take another loop."""
    compiled = gs.sparse_jit(KINDS[kind], a=FORMATS[form])
    a = sparse_matrix(96, 64, torch.float32)
    for columns in (1, 2, 3, 4, 5, 7, 8, 11, 16, 17, 31, 33, 63, 64, 65, 127, 128, 129, 300):
        x = torch.randn(64, columns)
        check(compiled(a, x), KINDS[kind](a.double(), x.double()))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [*FLOATS, *INTEGERS], ids=str)
@pytest.mark.parametrize("form", ["CSR", "BSR16"])
def test_dtypes(form: str, dtype: torch.dtype, kind: str) -> None:
    """Half precision is summed in float32 and rounded once; integers wrap as they do in torch."""
    compiled = gs.sparse_jit(KINDS[kind], a=FORMATS[form])
    a = (sparse_matrix(48, 64) * 3).to(dtype)
    for columns in (1, 3, 37):
        x = (torch.randn(64, columns) * 3).to(dtype)
        result = compiled(a, x)
        assert result.dtype == dtype
        if dtype in INTEGERS:
            assert torch.equal(result, KINDS[kind](a, x))
        else:
            check(result, KINDS[kind](a.double(), x.double()))


def test_epilogue_operands_of_every_kind() -> None:
    """Along the lanes, along the rows, of one number, transposed, of bools."""

    def layer(a: Tensor, x: Tensor, row: Tensor, column: Tensor, turned: Tensor, keep: Tensor) -> Tensor:
        return torch.where(keep, (a @ x + row + column) * turned.mT, 0.0)

    compiled = gs.sparse_jit(layer, a=gs.CSR)
    for columns in (3, 40, 130):
        a, x = sparse_matrix(21, 16, torch.float32), torch.randn(16, columns)
        rest = torch.randn(columns), torch.randn(21, 1), torch.randn(columns, 21)
        keep = torch.rand(21, columns) < 0.5
        check(compiled(a, x, *rest, keep), layer(a.double(), x.double(), *(t.double() for t in rest), keep))


def test_bool_result() -> None:
    a, x = sparse_matrix(21, 16, torch.float32), torch.randn(16, 70)
    assert torch.equal(gs.sparse_jit(lambda a, x: a @ x > 100.0, a=gs.CSR)(a, x), a @ x > 100.0)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("form", ["CSR", "BSR8"])
def test_rows_of_very_different_length(form: str, kind: str) -> None:
    """Parts of equal work: one row with nearly everything, many with nothing, at either end."""
    compiled = gs.sparse_jit(KINDS[kind], a=FORMATS[form])
    x = torch.randn(512, 70)
    for full in (0, 511):
        a = torch.randn(512, 512) * (torch.rand(512, 512) < 0.002)
        a[full] = torch.randn(512)
        check(compiled(a, x), KINDS[kind](a.double(), x.double()))


def test_same_result_with_any_number_of_threads() -> None:
    compiled = gs.sparse_jit(lambda a, x: a @ x, a=gs.CSR)
    a, x = sparse_matrix(301, 256, torch.float32), torch.randn(256, 130)
    threads = torch.get_num_threads()
    results = []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            results.append(compiled(a, x))
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(result, results[0]) for result in results)


@pytest.mark.parametrize("reduce", ["sum", "mean", "amax", "amin"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
def test_reductions_of_products(reduce: str, dtype: torch.dtype) -> None:
    """As torch.sparse.mm has them: over what is stored; 0 where nothing is."""
    compiled = gs.sparse_jit(lambda a, x: torch.sparse.mm(a, x, reduce))
    a = sparse_matrix(31, 40, dtype, density=0.1)
    for columns in (1, 5, 64, 131):
        x = torch.randn(40, columns).to(dtype)
        expected = torch.sparse.mm(a.double().to_sparse_csr(), x.double(), reduce)
        check(compiled(gs.sparsify(a, gs.CSR), x), expected)
        check(compiled(gs.sparsify(a, gs.COO), x), expected)


@pytest.mark.parametrize("reduce", ["mean", "amax"])
def test_reductions_of_one_row(reduce: str) -> None:
    compiled = gs.sparse_jit(lambda a, x: torch.sparse.mm(a, x, reduce), fullgraph=True)
    for rows, inner, columns in ((1, 40, 5), (1, 1, 1), (31, 1, 5), (1, 40, 1)):
        a, x = sparse_matrix(rows, inner, torch.float32, density=0.5), torch.randn(inner, columns)
        expected = torch.sparse.mm(a.double().to_sparse_csr(), x.double(), reduce)
        for format in (gs.CSR, gs.CSC):
            check(compiled(gs.sparsify(a, format), x), expected)


def test_reduction_with_epilogue() -> None:
    def layer(a: Tensor, x: Tensor, bias: Tensor) -> Tensor:
        return torch.relu(torch.sparse.mm(a, x, "amax") + bias)

    compiled = gs.sparse_jit(layer, a=gs.CSR)
    a, x, bias = sparse_matrix(31, 40, torch.float32), torch.randn(40, 20), torch.randn(20)
    check(compiled(a, x, bias), layer(a.to_sparse_csr(), x, bias).double())
    assert "rows in parallel" in str(gs.explain(compiled, a, x, bias))


def test_largest_keeps_nan() -> None:
    a, x = torch.eye(8), torch.randn(8, 20)
    x[3, 4] = float("nan")
    result = gs.sparse_jit(lambda a, x: torch.sparse.mm(a, x, "amax"), a=gs.CSR)(a, x)
    torch.testing.assert_close(result, x, equal_nan=True)


@pytest.mark.parametrize("format", [gs.CSR, gs.COO, gs.CSC, gs.DCSR, gs.BSR(2)], ids=str)
def test_gradient_of_a_mean(format: gs.Format) -> None:
    """That of a sum over as many as a row stores, zeros of blocks among them; 0 where nothing is stored."""
    compiled = gs.sparse_jit(lambda a, x: torch.sparse.mm(a, x, "mean"))
    dense = sparse_matrix(14, 10, torch.float64, density=0.3)
    dense[2:4] = 0
    a, x = gs.sparsify(dense, format), torch.randn(10, 7, dtype=torch.float64)
    shares = gs.SparseTensor(a.pattern, torch.ones_like(a.values), 0).to_dense()
    shares = shares / shares.sum(1, keepdim=True).clamp(min=1)
    leaves = [a.values.detach().requires_grad_(), x.requires_grad_()]
    gradient = torch.randn(14, 7, dtype=torch.float64)
    with torch.enable_grad():
        result = compiled(gs.SparseTensor(a.pattern, leaves[0], 0), x)
        found = torch.autograd.grad(result, leaves, gradient)
    values = (shares * (gradient @ x.detach().mT))[tuple(a.pattern.coo())]
    torch.testing.assert_close(found[0].flatten(), values)
    torch.testing.assert_close(found[1], (shares * dense).mT @ gradient)


@pytest.mark.parametrize("format", [gs.CSR, gs.COO, gs.CSC, gs.DCSR, gs.BSR(2)], ids=str)
@pytest.mark.parametrize("reduce", ["amax", "amin"])
def test_gradient_of_an_extremum(reduce: str, format: gs.Format) -> None:
    """It goes to what made the extremum, in equal parts where that is several; 0 where nothing is stored."""
    compiled = gs.sparse_jit(lambda a, x: torch.sparse.mm(a, x, reduce))
    dense = sparse_matrix(14, 10, torch.float64, density=0.3)
    dense[2:4] = 0
    dense[5] = torch.tensor([0, 1, 0, 1, 0, 0, 0, 0, 0, 0])
    a, x = gs.sparsify(dense, format), torch.randn(10, 7, dtype=torch.float64)
    x[3] = x[1]
    kept = gs.SparseTensor(a.pattern, torch.ones_like(a.values), 0).to_dense() != 0
    outside = -torch.inf if reduce == "amax" else torch.inf
    gradient = torch.randn(14, 7, dtype=torch.float64)
    with torch.enable_grad():
        leaves = [a.values.detach().requires_grad_(), x.requires_grad_()]
        result = compiled(gs.SparseTensor(a.pattern, leaves[0], 0), x)
        found = torch.autograd.grad(result, leaves, gradient)
        wide = [dense.requires_grad_(), x.detach().requires_grad_()]
        products = (wide[0][:, :, None] * wide[1]).masked_fill(~kept[:, :, None], outside)
        expected = torch.where(kept.any(1)[:, None], getattr(products, reduce)(1), 0)
        of_a, of_x = torch.autograd.grad(expected, wide, gradient)
    torch.testing.assert_close(result, expected)
    torch.testing.assert_close(found[0].flatten(), of_a[tuple(a.pattern.coo())])
    torch.testing.assert_close(found[1], of_x)


def test_gradient_of_an_extremum_in_halves() -> None:
    """Products are compared as the result was rounded."""
    compiled = gs.sparse_jit(lambda a, x: torch.sparse.mm(a, x, "amax"))
    a, x = gs.sparsify(sparse_matrix(14, 10, torch.bfloat16, density=0.3), gs.CSR), torch.randn(10, 7).bfloat16()
    with torch.enable_grad():
        x.requires_grad_()
        result = compiled(a, x)
        (found,) = torch.autograd.grad(result, x, torch.ones_like(result))
    # x moved the result by a share of an entry of `a` for each element of it
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close((found.double() * x.double()).sum(0), result.double().sum(0), atol=0.1, rtol=0.02)
