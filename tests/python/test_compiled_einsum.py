"""Compiled products of two sparse tensors, of sparse tensors of three dimensions, and einsum, against float64."""

import warnings
from typing import Any

import pytest
import torch

import gossamer as gs
from gossamer.formats import coo_format
from gossamer.frontend.einsum import explicit

FORMATS = {
    "CSR": gs.CSR,
    "CSC": gs.CSC,
    "COO": gs.COO,
    "DCSR": gs.DCSR,
    "BSR": gs.BSR(4),
    "BSC": gs.BSC(4),
    "BSR2x1": gs.BSR((2, 1)),
    "ELL": gs.BlockELL(2),
    "NM": gs.NM(2, 4),
}
CSF = gs.Format("(i, j, k) -> (i : compressed, j : compressed, k : compressed)")
OF_THREE = {"CSF": CSF, "COO": coo_format(3), "CSR": gs.CSR.for_rank(3)}


@pytest.fixture(autouse=True)
def _no_fallback():
    with warnings.catch_warnings():
        warnings.simplefilter("error", gs.FallbackWarning)
        yield


def stored(format: gs.Format, *shape: int, density: float = 0.3, seed: int = 0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    full = torch.randn(shape, generator=generator, dtype=torch.float64)
    if format == gs.NM(2, 4):
        return gs.sparsify(full.to(dtype), format, by=gs.magnitude(0.5))
    kept = full * (torch.rand(shape, generator=generator) < density)
    if shape[0] > 2:
        kept[1] = 0
        kept[2] = full[2]
    return gs.sparsify(kept.to(dtype), format)


def dense(value: Any) -> Any:
    return value.to_dense() if isinstance(value, gs.SparseTensor) else value


def check(function, *args: Any, atol: float = 1e-11) -> str:
    """Compiled against dense; returns the report, in which nothing may have become dense."""
    compiled = gs.sparse_jit(function, fullgraph=True)
    result, expected = compiled(*args), function(*(dense(arg).double() for arg in args))
    assert result.dtype == args[0].dtype
    torch.testing.assert_close(dense(result).double(), expected, rtol=0.0, atol=atol)
    report = str(gs.explain(compiled, *args))
    assert "dense road" not in report
    return report


def randn(*shape: int) -> torch.Tensor:
    return torch.randn(shape, dtype=torch.float64)


@pytest.mark.parametrize("first", FORMATS)
def test_two_sparse_matrices(first: str) -> None:
    for second in FORMATS:
        report = check(lambda a, b: a @ b, stored(FORMATS[first], 8, 12), stored(FORMATS[second], 12, 16, seed=1))
        assert "gossamer.contract: general road" in report


@pytest.mark.parametrize("shape", [(0, 5, 3), (5, 0, 3), (1, 1, 1), (7, 63, 65), (65, 7, 1)])
def test_ragged(shape: tuple[int, int, int]) -> None:
    rows, inner, columns = shape
    for density in (0.0, 0.05, 1.0):
        a, b = stored(gs.CSR, rows, inner, density=density), stored(gs.CSC, inner, columns, seed=1)
        check(lambda a, b: a @ b, a, b)


@pytest.mark.parametrize(
    ("dtype", "atol"), [(torch.float32, 1e-5), (torch.bfloat16, 0.2), (torch.float16, 0.02), (torch.int64, 0)], ids=str
)
def test_dtypes(dtype: torch.dtype, atol: float) -> None:
    check(lambda a, b: a @ b, stored(gs.CSR, 8, 12, dtype=dtype), stored(gs.COO, 12, 5, seed=1, dtype=dtype), atol=atol)


def test_products_around() -> None:
    a, b = stored(gs.CSR, 8, 12), stored(gs.CSC, 12, 8, seed=1)
    check(lambda a, b, c: torch.relu(a @ b + c) * 2, a, b, randn(8))
    check(lambda a, b: torch.relu(a * 2) @ (b * 3), a, b)
    check(lambda a: a @ a.mT, a)
    check(lambda a, b: (a @ b).sum(), a, b)
    check(lambda a, b: a @ b, stored(gs.CSR, 3, 8, 12), stored(gs.CSR, 3, 12, 5, seed=1))
    check(lambda a, b: a @ b, stored(gs.CSR, 3, 8, 12), stored(gs.CSR, 12, 5, seed=1))


def test_one_compile_serves_every_size() -> None:
    compiled = gs.sparse_jit(lambda a, b: a @ b, fullgraph=True)
    for rows, inner, columns in ((8, 12, 5), (31, 17, 64), (2, 2, 2)):
        a, b = stored(gs.CSR, rows, inner), stored(gs.CSR, inner, columns, seed=1)
        torch.testing.assert_close(compiled(a, b), a.to_dense() @ b.to_dense(), rtol=0, atol=1e-11)
    assert sum(map(len, compiled.engine.programs.values())) == 1


TENSORS = [
    ("ikl,kj,lj->ij", (6, 4), (7, 4)),  # MTTKRP, along each dimension
    ("ikl,ij,lj->kj", (5, 4), (7, 4)),
    ("ikl,ij,kj->lj", (5, 4), (6, 4)),
    ("ijk,kl->ijl", (7, 4)),  # tensor times matrix
    ("ijk,jl->ilk", (6, 4)),
    ("ijk,il->ljk", (5, 4)),
    ("ijk,j->ik", (6,)),  # tensor times vector
    ("ijk,i,j,k->", (5,), (6,), (7,)),
    ("ijk,kjl->il", (7, 6, 3)),
]


@pytest.mark.parametrize("name", OF_THREE)
@pytest.mark.parametrize(("equation", "shapes"), [(case[0], case[1:]) for case in TENSORS], ids=[c[0] for c in TENSORS])
def test_three_dimensions(name: str, equation: str, shapes: tuple[tuple[int, ...], ...]) -> None:
    check(lambda *args: torch.einsum(equation, *args), stored(OF_THREE[name], 5, 6, 7), *(randn(*s) for s in shapes))


@pytest.mark.parametrize("name", OF_THREE)
def test_three_dimensions_otherwise(name: str) -> None:
    x = stored(OF_THREE[name], 5, 6, 7)
    check(lambda x, b: x @ b, x, randn(7, 3))
    check(lambda x, b: torch.tensordot(x, b, dims=([2, 1], [0, 1])), x, randn(7, 6, 3))
    check(lambda x, a, b: x * torch.einsum("il,jkl->ijk", a, b), x, randn(5, 3), randn(6, 7, 3))
    check(lambda x, y: torch.einsum("ijk,ijk->", x, y), x, stored(OF_THREE[name], 5, 6, 7, seed=1))
    check(lambda x, y: torch.einsum("ijk,klj->il", x, y), x, stored(OF_THREE[name], 7, 3, 6, seed=1))


def test_a_product_of_three_makes_no_product_of_two() -> None:
    compiled = gs.sparse_jit(lambda x, b, c: torch.einsum("ikl,kj,lj->ij", x, b, c))
    x, b, c = stored(CSF, 5, 6, 7), randn(6, 4), randn(7, 4)
    assert gs.explain(compiled, x, b, c).regions[0].operations == ("contract_all",)
    chain = gs.sparse_jit(lambda a, x, y: torch.einsum("ij,jk,kl->il", a, x, y))
    report = gs.explain(chain, stored(gs.CSR, 80, 80), randn(80, 30), randn(30, 2))
    assert [region.operations for region in report.regions] == [("contract",)]


ONE = ["ij->ji", "ij", "ji", "ij->i", "ij->j", "ij->", "ii->i", "ii->", "ii"]
TWO = [
    ("ij,jk->ik", (8, 5)), ("ij,jk", (8, 5)), ("ij,kj->ki", (5, 8)), ("ij,ij->", (8, 8)), ("ij,ij->j", (8, 8)),
    ("ij,j->ij", (8,)), ("ij,i->ij", (8,)), ("ij,ij->ij", (8, 8)), ("ij,ji->ij", (8, 8)), ("ij,kl->ijkl", (2, 3)),
    ("ij,jk->k", (8, 5)), ("ij,jk->i", (8, 5)), ("ij,k->ik", (3,)), ("ij,jk->ijk", (8, 3)), ("...j,jk->...k", (8, 5)),
    ("ij,...j->...i", (2, 3, 8)), ("ii,ij->j", (8, 5)), ("ij,jj->i", (8, 8)), (" i j , j -> i ", (8,)),
    ("ij,jk->ik", (1, 5)),
]  # fmt: skip


@pytest.mark.parametrize("name", ["CSR", "CSC", "COO", "BSR"])
def test_einsum_of_one(name: str) -> None:
    for equation in ONE:
        check(lambda a, equation=equation: torch.einsum(equation, a), stored(FORMATS[name], 8, 8))


@pytest.mark.parametrize("name", ["CSR", "BSR", "COO"])
@pytest.mark.parametrize(("equation", "shape"), TWO)
def test_einsum_of_two(name: str, equation: str, shape: tuple[int, ...]) -> None:
    a, x = stored(FORMATS[name], 8, 8), randn(*shape)
    check(lambda a, x: torch.einsum(equation, a, x), a, x)
    inputs, arrow, out = equation.replace(" ", "").partition("->")
    if arrow:
        turned = ",".join(reversed(inputs.split(","))) + "->" + out
        check(lambda x, a: torch.einsum(turned, x, a), x, a)


def test_einsum_of_several() -> None:
    a, b = stored(gs.CSR, 8, 9), stored(gs.COO, 9, 12, seed=1)
    check(lambda a, x, y: torch.einsum("ij,jk,kl->il", a, x, y), a, randn(9, 3), randn(3, 4))
    check(lambda a, x, y: torch.einsum("bi,ij,bj->b", x, a, y), a, randn(5, 8), randn(5, 9))
    check(lambda a, b, x: torch.einsum("ij,jk,kl->il", a, b, x), a, b, randn(12, 3))
    check(lambda a, b: torch.einsum("ij,jk,ij->k", a, b, a), a, b)
    check(lambda a, x, y, z: torch.einsum("ij,ik,jl,kl->", a, x, y, z), a, randn(8, 3), randn(9, 4), randn(3, 4))
    vectors = [randn(8), randn(9), randn(2), randn(3), randn(4)]
    check(lambda a, *v: torch.einsum("ij,i,j,k,l,m->klm", a, *v), a, *vectors)


def test_explicit() -> None:
    assert explicit("...ij,jk", [4, 2]) == (["abij", "jk"], "abik")
    assert explicit("a...,...a->...", [2, 3]) == (["ac", "bca"], "bc")
    assert explicit("ba", [2]) == (["ba"], "ab")


@pytest.mark.filterwarnings("ignore::gossamer.FallbackWarning")
@pytest.mark.parametrize(
    ("function", "shapes"),
    [
        (lambda a, b: a @ b, (None, None)),
        (lambda a, x: torch.einsum("ij,jk,lk->il", a, x, x), (None, (7, 3))),
        (lambda a, x: torch.einsum("bi,ij,bj->b", x[:, :6], a, x), (None, (4, 7))),
    ],
)
def test_gradients(function, shapes) -> None:
    patterns = [stored(gs.CSR, 6, 7).pattern, stored(gs.CSC, 7, 5, seed=1).pattern]
    compiled = gs.sparse_jit(function)
    values = [randn(*(pattern.values_shape if shape is None else shape)).requires_grad_()
              for pattern, shape in zip(patterns, shapes, strict=True)]  # fmt: skip

    def run(*values: torch.Tensor) -> Any:
        args = [gs.SparseTensor(pattern, value) if shape is None else value
                for pattern, value, shape in zip(patterns, values, shapes, strict=True)]  # fmt: skip
        return dense(compiled(*args))

    assert torch.autograd.gradcheck(run, values)
