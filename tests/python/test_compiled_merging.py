"""Compiled functions of sparse tensors on several patterns, and of their parts and joins, against dense float64."""

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import gossamer as gs
from gossamer.formats import coo_format

INF = float("inf")
FORMATS = {"CSR": gs.CSR, "CSC": gs.CSC, "COO": gs.COO, "DCSR": gs.DCSR, "BSR": gs.BSR(4), "ELL": gs.BlockELL(1)}
CSF = gs.Format("(i, j, k) -> (i : compressed, j : compressed, k : compressed)")


@pytest.fixture(autouse=True)
def _no_fallback():
    with warnings.catch_warnings():
        warnings.simplefilter("error", gs.FallbackWarning)
        yield


def stored(format: gs.Format, *shape: int, density: float = 0.3, seed: int = 0) -> gs.SparseTensor:
    generator = torch.Generator().manual_seed(seed)
    dense = torch.randn(shape, generator=generator, dtype=torch.float64)
    return gs.sparsify(dense * (torch.rand(shape, generator=generator) < density), format)


def dense(value: Any) -> Any:
    return value.to_dense() if isinstance(value, gs.SparseTensor) else value


def check(function: Callable[..., Any], *args: Any, sparse: bool = True) -> Any:
    """Compiled against dense; nothing in it may have become dense on the way."""
    compiled = gs.sparse_jit(function, fullgraph=True)
    result, expected = compiled(*args), function(*map(dense, args))
    pairs = zip(result, expected, strict=True) if isinstance(result, tuple) else [(result, expected)]
    for one, other in pairs:
        assert isinstance(one, gs.SparseTensor) == sparse
        assert one.shape == other.shape
        torch.testing.assert_close(dense(one), other, rtol=0.0, atol=1e-12)
        if sparse:
            one.validate()
    assert "dense road" not in str(gs.explain(compiled, *args))
    return result


ELEMENTWISE = {
    "intersection": lambda a, b: a * b,
    "union": lambda a, b: a + b * 2,
    "difference": lambda a, b: torch.sub(a, b, alpha=3),
    "maximum": torch.maximum,
    "minimum": torch.minimum,
    "on the first": lambda a, b: a * (b + 1),
    "chains": lambda a, b: torch.relu(a * 2) * 3 + b.abs().sqrt(),
    "shared": lambda a, b: (a + b) * (a - b),
    "where": lambda a, b: torch.where(a > 0, a, b),
}


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_two_patterns(name: str) -> None:
    for first, second in (
        ("CSR", "CSR"),
        ("CSR", "CSC"),
        ("COO", "CSR"),
        ("BSR", "BSR"),
        ("BSR", "CSR"),
        ("DCSR", "ELL"),
    ):
        check(ELEMENTWISE[name], stored(FORMATS[first], 8, 12, seed=1), stored(FORMATS[second], 8, 12, seed=2))


@pytest.mark.parametrize("density", [0.0, 0.02, 1.0])
@pytest.mark.parametrize("shape", [(0, 5), (1, 1), (7, 63), (65, 1)])
def test_ragged(shape: tuple[int, int], density: float) -> None:
    a, b = stored(gs.CSR, *shape, density=density, seed=1), stored(gs.COO, *shape, seed=2)
    check(lambda a, b: (a + b) * a - torch.maximum(a, b), a, b)
    check(lambda a, b: torch.cat([a * 2, b])[1:], a, b)


def test_three_dimensions() -> None:
    for format in (CSF, coo_format(3), gs.CSR.for_rank(3), gs.CSC.for_rank(3)):
        a, b = stored(format, 3, 4, 5, seed=1), stored(format, 3, 4, 5, seed=2)
        check(lambda a, b: a * b + a, a, b)
        check(lambda a, b: a + b[1], a, b)


def test_three_patterns() -> None:
    a, b, c = stored(gs.CSR, 8, 12, seed=1), stored(gs.CSC, 8, 12, seed=2), stored(gs.COO, 8, 12, seed=3)
    check(lambda a, b, c: a * b + c, a, b, c)
    check(lambda a, b, c: torch.addcmul(a, b, c), a, b, c)


def test_what_is_stored() -> None:
    a, b = stored(gs.CSR, 8, 12, seed=1), stored(gs.CSR, 8, 12, seed=2)
    both, either = (a.to_dense() != 0) & (b.to_dense() != 0), (a.to_dense() != 0) | (b.to_dense() != 0)
    add, multiply = gs.sparse_jit(lambda a, b: a + b), gs.sparse_jit(lambda a, b: a * b)
    assert multiply(a, b).nnz == both.sum()
    assert add(a, b).nnz == either.sum()
    assert add(a, b).pattern is add(a, b).pattern
    assert multiply(add(a, b), a).pattern is a.pattern


def test_fills() -> None:
    scores = [gs.sparsify(t.to_dense().masked_fill(t.to_dense() == 0, -INF), t.format, fill=-INF)
              for t in (stored(gs.CSR, 8, 12, seed=1), stored(gs.CSR, 8, 12, seed=2))]  # fmt: skip
    check(lambda a, b: a + b, *scores)
    check(torch.maximum, *scores)
    check(lambda a, b: a + b, scores[0], stored(gs.CSR, 8, 12, seed=2))


def test_masks() -> None:
    a, b = (gs.sparsify(stored(gs.CSR, 8, 12, seed=s).to_dense() != 0, gs.CSR) for s in (1, 2))
    for function in (lambda a, b: a & b, lambda a, b: a | b, lambda a, b: a ^ b, lambda a, b: a & ~b):
        check(function, a, b)


@pytest.mark.parametrize("combined", [lambda a, b: a & b, lambda a, b: a | b, lambda a, b: a & ~b])
def test_attention_under_two_masks(combined: Callable[..., Any]) -> None:
    a, b = (gs.sparsify(torch.rand(16, 16) < 0.5, gs.CSR) for _ in range(2))
    q, k, v = (torch.randn(2, 3, 16, 8, dtype=torch.float64) for _ in range(3))

    def attend(q: Tensor, k: Tensor, v: Tensor, a: Any, b: Any) -> Tensor:
        return torch.nn.functional.scaled_dot_product_attention(q, k, v, combined(a, b))

    compiled = gs.sparse_jit(attend, fullgraph=True)
    expected = attend(q, k, v, a.to_dense(), b.to_dense()).nan_to_num()
    torch.testing.assert_close(compiled(q, k, v, a, b), expected, rtol=0, atol=1e-12)
    assert "gossamer.attention: general road" in str(gs.explain(compiled, q, k, v, a, b))


PARTS = {
    "rows": lambda x: x[2:5] * 2,
    "columns": lambda x: x[:, 1:-2],
    "of a result": lambda x: torch.relu(x * 3)[1:, ::2] + 0.0 * x[1:, ::2],
    "row": lambda x: x[3],
    "column": lambda x: x[:, -1] * 2,
    "blocks": lambda x: x[4:] * x[:4],
    "narrow": lambda x: x.narrow(1, 1, 3),
    "index_select": lambda x: x.index_select(1, torch.tensor([4, 4, 1])) * 2,
    "index": lambda x: x[torch.tensor([5, 0, 0])],
    "unsqueeze": lambda x: x.unsqueeze(1),
    "squeeze": lambda x: x[2:3].squeeze(0),
    "flatten": lambda x: x.flatten() * 2,
    "reshape": lambda x: x.reshape(4, -1),
    "diagonal": lambda x: x.diagonal(1),
    "expand": lambda x: x[:1].expand(3, -1),
    "transposed": lambda x: (x * 2).T,
    "transposed rows": lambda x: (x * 2).T[1:4] * 3,
    "split": lambda x: x.split(5, 1),
    "split by sizes": lambda x: x.split([1, 3, 4]),
    "chunk": lambda x: x.chunk(3, 1),
    "unbind": lambda x: x.unbind(1)[2:4],
    "cat": lambda x: torch.cat([x, x[1:3]]),
    "cat of columns": lambda x: torch.cat([x, x[:, 4:8] * 2], 1),
    "stack": lambda x: torch.stack([x, x * 2], 1),
}


@pytest.mark.parametrize("name", PARTS)
def test_parts(name: str) -> None:
    for form in ("CSR", "COO", "BSR"):
        check(PARTS[name], stored(FORMATS[form], 8, 12))


def test_parts_in_products() -> None:
    a, x = stored(gs.CSR, 8, 12), torch.randn(12, 5, dtype=torch.float64)
    check(lambda a, x: a[2:7] @ x, a, x, sparse=False)
    check(lambda a, x: a[:, 3:9] @ x[3:9], a, x, sparse=False)
    check(lambda a, x: torch.stack([a, a * 2]) @ x, a, x, sparse=False)
    check(lambda a, x: torch.cat([a, a[:3]]) @ x, a, x, sparse=False)
    check(lambda a, x: a[2] @ x, a, x, sparse=False)


def test_bounds_that_change() -> None:
    compiled = gs.sparse_jit(lambda a, x: a[: x.shape[0]] * 2, fullgraph=True)
    for form in ("CSR", "BSR"):
        a = stored(FORMATS[form], 8, 12)
        for size in (3, 5, 8):
            result = compiled(a, torch.zeros(size))
            assert torch.equal(result.to_dense(), a.to_dense()[:size] * 2)
    assert sum(map(len, compiled.engine.programs.values())) == 2


def test_one_program_serves_every_pattern() -> None:
    compiled = gs.sparse_jit(lambda a, b: (a + b)[1:], fullgraph=True)
    for rows, columns in ((8, 12), (5, 3), (31, 17)):
        a, b = stored(gs.CSR, rows, columns, seed=rows), stored(gs.CSR, rows, columns, seed=columns)
        assert torch.equal(compiled(a, b).to_dense(), (a.to_dense() + b.to_dense())[1:])
    assert sum(map(len, compiled.engine.programs.values())) == 1


@pytest.mark.filterwarnings("ignore::gossamer.FallbackWarning")
def test_gradients() -> None:
    a, b = stored(gs.CSR, 6, 7, seed=1), stored(gs.CSC, 6, 7, seed=2)
    compiled = gs.sparse_jit(lambda a, b: torch.cat([(a * b + a)[1:5], (a - b)[:, :7]]))

    def values(x: Tensor, y: Tensor) -> Tensor:
        return compiled(gs.SparseTensor(a.pattern, x), gs.SparseTensor(b.pattern, y)).values

    assert torch.autograd.gradcheck(values, [t.values.clone().requires_grad_() for t in (a, b)])


def test_what_cannot_be_merged_says_what_to_convert() -> None:
    a, b = stored(gs.BSR(4), 8, 12, seed=1), stored(gs.BSR(2), 8, 12, seed=2)
    for function in (lambda a, b: a + b, lambda a, b: torch.cat([a, b])):
        with pytest.warns(gs.FallbackWarning, match=r"blocks of different sizes.*\.to\(Format"):
            result = gs.sparse_jit(function)(a, b)
        assert torch.equal(dense(result), function(a.to_dense(), b.to_dense()))
        with pytest.raises(gs.UnsupportedError, match=r"blocks of different sizes.*\.to\(Format"):
            gs.sparse_jit(function, fullgraph=True)(a, b)
    with pytest.warns(gs.FallbackWarning, match="joins sparse tensors with dense ones"):
        gs.sparse_jit(lambda a, x: torch.cat([a, x]))(a, torch.zeros(1, 12, dtype=torch.float64))
    with pytest.warns(gs.FallbackWarning, match="its result would be dense"):
        gs.sparse_jit(lambda a, b: a / b)(a, a[:] * 1)


def test_gradients_of_nothing() -> None:
    """A tensor that stores nothing has a gradient, of nothing."""
    for shape in ((0, 7), (6, 0), (6, 8)):
        a, b = stored(gs.CSR, *shape), stored(gs.CSC, *shape, density=0.0)
        for function in (lambda a, b: a * b, lambda a, b: a + b, lambda a, b: torch.cat([a, b])):
            operands = [t.clone().detach().requires_grad_() for t in (a, b)]
            result = gs.sparse_jit(function)(*operands)
            for operand, gradient in zip(
                operands, torch.autograd.grad(result.values.sum(), [t.values for t in operands]), strict=True
            ):
                assert gradient.shape == operand.values.shape
