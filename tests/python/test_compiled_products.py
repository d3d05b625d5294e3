"""Compiled products with a sparse operand against float64: formats, sides, shapes, epilogues, sampled products."""

import math
import warnings

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import gossamer as gs

FORMATS = {
    "CSR": gs.CSR,
    "CSC": gs.CSC,
    "COO": gs.COO,
    "DCSR": gs.DCSR,
    "BSR4": gs.BSR(4),
    "BSR2x8": gs.BSR((2, 8)),
    "BSC4": gs.BSC(4),
}
SIDES = {
    "a @ x": lambda a, x: a @ x,
    "x @ a": lambda a, x: x.mT @ a,
    "a.T @ x": lambda a, x: a.mT @ x,
    "x @ a.T": lambda a, x: x.mT @ a.mT,
    "linear": lambda a, x: F.linear(x.mT, a),
    "einsum": lambda a, x: torch.einsum("ij,jk->ki", a, x),
}


@pytest.fixture(autouse=True)
def _no_fallback():
    """A region that runs densely would make every test here pass for nothing."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", gs.FallbackWarning)
        yield


def sparse_matrix(rows: int, columns: int, dtype: torch.dtype = torch.float64, density: float = 0.3) -> Tensor:
    """With an empty and a full row, where there are as many."""
    matrix = torch.randn(rows, columns, dtype=dtype) * (torch.rand(rows, columns) < density)
    if rows > 2:
        matrix[1] = 0
        matrix[2] = torch.randn(columns, dtype=dtype)
    return matrix


def check(result: Tensor, expected: Tensor, dtype: torch.dtype) -> None:
    assert result.dtype == dtype
    torch.testing.assert_close(
        result.double(), expected, rtol=0.0, atol={torch.float64: 1e-12, torch.float32: 2e-5}[dtype]
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("form", FORMATS)
def test_sides(form: str, side: str, dtype: torch.dtype) -> None:
    compiled = gs.sparse_jit(SIDES[side], a=FORMATS[form])
    for rows, inner, columns in ((16, 8, 5), (8, 24, 64), (40, 16, 1), (8, 8, 131)):
        a = sparse_matrix(rows, inner, dtype)
        shape = (rows if side in ("x @ a", "a.T @ x") else inner, columns)
        x = torch.randn(shape, dtype=dtype)
        check(compiled(a, x), SIDES[side](a.double(), x.double()), dtype)


@pytest.mark.parametrize("form", ["CSR", "CSC", "COO"])
@given(
    rows=st.sampled_from([0, 1, 7, 63, 65]),
    inner=st.sampled_from([0, 1, 7, 63, 65]),
    columns=st.sampled_from([0, 1, 3, 64, 67]),
    density=st.sampled_from([0.0, 0.1, 1.0]),
)
def test_ragged_shapes(form: str, rows: int, inner: int, columns: int, density: float) -> None:
    """All sizes through a few kernels: what is compiled depends on no size but 1."""
    a = torch.randn(rows, inner, dtype=torch.float64) * (torch.rand(rows, inner) < density)
    x = torch.randn(inner, columns, dtype=torch.float64)
    check(MATMULS[form](gs.sparsify(a, FORMATS[form]), x), a @ x, torch.float64)
    check(LINEARS[form](gs.sparsify(a, FORMATS[form]), x.mT.contiguous()), x.mT @ a.mT, torch.float64)


MATMULS = {form: gs.sparse_jit(lambda a, x: a @ x) for form in ("CSR", "CSC", "COO")}
LINEARS = {form: gs.sparse_jit(lambda a, x: F.linear(x, a)) for form in ("CSR", "CSC", "COO")}


@pytest.mark.parametrize("form", ["CSR", "BSR4"])
@pytest.mark.parametrize("activation", [F.relu, F.gelu, F.silu, torch.tanh, torch.sigmoid], ids=lambda f: f.__name__)
def test_epilogue(form: str, activation) -> None:
    """Bias, activation, scale and residual behind the sum."""

    def layer(x: Tensor, w: Tensor, b: Tensor, residual: Tensor) -> Tensor:
        return activation(F.linear(x, w, b)) * 0.5 + residual

    compiled = gs.sparse_jit(layer, w=FORMATS[form])
    w, b = sparse_matrix(16, 24, torch.float32), torch.randn(16)
    for leading in ((5,), (2, 3), (2, 1, 70)):
        x, residual = torch.randn(*leading, 24), torch.randn(*leading, 16)
        expected = layer(*(t.double() for t in (x, w, b, residual)))
        check(compiled(x, w, b, residual), expected, torch.float32)
    assert "gossamer.matmul" in str(gs.explain(compiled, x, w, b, residual))


@pytest.mark.parametrize("form", FORMATS)
def test_sampled_product(form: str) -> None:
    """s * (a @ b): only where s stores something, in the storage of s."""
    compiled = gs.sparse_jit(lambda s, a, b: s * (a @ b), s=FORMATS[form])
    s, a, b = sparse_matrix(16, 24), torch.randn(16, 7).double(), torch.randn(7, 24).double()
    stored = gs.sparsify(s, FORMATS[form])
    result = compiled(stored, a, b)
    assert isinstance(result, gs.SparseTensor)
    assert result.pattern is stored.pattern
    check(result.to_dense(), s * (a @ b), torch.float64)


@pytest.mark.parametrize("form", FORMATS)
def test_elementwise_keeps_the_pattern(form: str) -> None:
    compiled = gs.sparse_jit(lambda s, x: torch.relu(s * x) * 2, s=FORMATS[form])
    s, x = sparse_matrix(16, 24), torch.randn(24).double()
    result = compiled(gs.sparsify(s, FORMATS[form]), x)
    assert isinstance(result, gs.SparseTensor)
    check(result.to_dense(), torch.relu(s * x) * 2, torch.float64)


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("dim", [0, 1, None])
def test_reductions(form: str, dim: int | None) -> None:
    """What is not raised goes through the sparsifier as general linalg."""
    compiled = gs.sparse_jit(lambda s: (s * 3).sum() if dim is None else (s * 3).sum(dim), s=FORMATS[form])
    s = sparse_matrix(16, 24)
    expected = (s * 3).sum() if dim is None else (s * 3).sum(dim)
    check(compiled(gs.sparsify(s, FORMATS[form])), expected, torch.float64)


@pytest.mark.parametrize("form", FORMATS)
def test_vectors(form: str) -> None:
    a, x, y = sparse_matrix(16, 24), torch.randn(24).double(), torch.randn(16).double()
    stored = gs.sparsify(a, FORMATS[form])
    check(gs.sparse_jit(lambda a, x: a @ x)(stored, x), a @ x, torch.float64)
    check(gs.sparse_jit(lambda a, y: y @ a)(stored, y), y @ a, torch.float64)


@pytest.mark.parametrize("form", ["CSR", "COO", "BSR4"])
def test_batches(form: str) -> None:
    """A batch of sparse matrices, each with its own pattern, times a batch of dense ones."""
    a = torch.stack([sparse_matrix(16, 24) for _ in range(3)])
    x, y = torch.randn(3, 24, 5).double(), torch.randn(3, 5, 24).double()
    stored = gs.sparsify(a, FORMATS[form])
    check(gs.sparse_jit(lambda a, x: a @ x)(stored, x), a @ x, torch.float64)
    check(gs.sparse_jit(lambda a, y: y @ a.mT)(stored, y), y @ a.mT, torch.float64)


def test_torch_sparse_tensors_are_taken_as_they_are() -> None:
    a, x = sparse_matrix(16, 24), torch.randn(24, 5).double()
    layouts = [a.to_sparse_csr(), a.to_sparse_csc(), a.to_sparse_coo().coalesce(), a.to_sparse_bsr((4, 4))]
    compiled = gs.sparse_jit(lambda a, x: a @ x)
    for layout in layouts:
        check(compiled(layout, x), a @ x, torch.float64)


def test_not_a_number_and_infinity() -> None:
    a, x = sparse_matrix(8, 8), torch.randn(8, 5).double()
    a[4, 4], a[5, 5] = float("nan"), float("inf")
    result = gs.sparse_jit(lambda a, x: a @ x)(gs.sparsify(a, gs.CSR), x)
    torch.testing.assert_close(result, a @ x, equal_nan=True)


@pytest.mark.parametrize("form", ["CSR", "CSC", "COO"])
def test_what_is_not_stored_is_not_multiplied(form: str) -> None:
    """0 * inf is NaN in dense PyTorch: here only where a stored entry meets the infinity."""
    a, x = torch.eye(4, dtype=torch.float64), torch.randn(4, 3).double()
    a[2, 1] = 2
    x[1, 0], x[3, 2] = math.inf, math.nan
    expected = x.clone()
    expected[2] += 2 * x[1]
    stored = gs.sparsify(a, FORMATS[form])
    product, scaled = gs.sparse_jit(lambda a, x, y: (a @ x, a * y))(stored, x, x @ x.mT)
    torch.testing.assert_close(product, expected, equal_nan=True)
    torch.testing.assert_close(scaled.to_dense(), torch.where(a != 0, a * (x @ x.mT), 0), equal_nan=True)


def test_one_compile_serves_every_size() -> None:
    compiled = gs.sparse_jit(lambda a, x: a @ x)
    stored = gs.sparsify(sparse_matrix(16, 24), gs.CSR)
    assert gs.explain(compiled, stored, torch.randn(24, 5).double()).traced
    for rows, inner, columns in ((8, 24, 6), (31, 17, 640), (2, 2, 2)):
        a, x = sparse_matrix(rows, inner), torch.randn(inner, columns).double()
        assert not gs.explain(compiled, gs.sparsify(a, gs.CSR), x).traced
        check(compiled(gs.sparsify(a, gs.CSR), x), a @ x, torch.float64)
