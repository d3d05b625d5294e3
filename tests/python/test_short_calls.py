"""Calls after the first: the functions written for a program and for a kernel take what they must, and nothing else."""

import math
import threading

import pytest
import torch

import gossamer as gs
from gossamer.compiler.library import Library
from gossamer.errors import TensorError


def matmul(a, b):
    return a @ b


# compiled once: what is looked at here are the ways into it
f = gs.sparse_jit(a=gs.CSR)(matmul)


def example(rows: int, columns: int, dtype: torch.dtype = torch.float32) -> gs.SparseTensor:
    dense = torch.where(torch.rand(rows, columns) < 0.4, torch.randn(rows, columns), 0.0)
    return gs.sparsify(dense.to(dtype), gs.CSR)


def check(a: gs.SparseTensor, b: torch.Tensor) -> None:
    expected = a.to_dense().double() @ b.double()
    torch.testing.assert_close(f(a, b).double(), expected, rtol=1e-4, atol=1e-4)


def programs(function=f) -> list:
    return [program for several in function.engine.programs.values() for program in several]


@pytest.fixture
def compiles(monkeypatch) -> list[str]:
    """Grows with every text that is compiled."""
    texts: list[str] = []
    compile = Library.compile

    def counted(self, text, **options):
        texts.append(text)
        return compile(self, text, **options)

    monkeypatch.setattr(Library, "compile", counted)
    return texts


def test_another_mask_length_or_batch_compiles_nothing(compiles):
    check(example(8, 8), torch.randn(8, 8))
    compiles.clear()
    before = len(programs())
    for rows, inner, columns in [(8, 8, 8), (7, 63, 65), (65, 7, 3), (130, 2, 5), (3, 1000, 2)]:
        for _ in range(2):
            check(example(rows, inner), torch.randn(inner, columns))
    assert not compiles
    assert len(programs()) == before
    assert len(f.engine._entries) == 1
    assert len(programs()[0].kernels[0]._callers) == 1


def test_masks_lengths_and_batches_of_an_attention(compiles):
    @gs.sparse_jit(mask=gs.BSR(8))
    def attention(q, k, v, mask):
        scores = (q @ k.mT / math.sqrt(q.shape[-1])).masked_fill(~mask, -math.inf)
        return torch.softmax(scores, -1) @ v

    counts = []
    for batch, length in [(2, 16), (2, 16), (3, 40), (5, 64)]:
        q, k, v = torch.randn(3, batch, 2, length, 8).unbind()
        mask = (torch.rand(length // 8, length // 8) < 0.7).fill_diagonal_(True)
        mask = mask.repeat_interleave(8, 0).repeat_interleave(8, 1)
        result = attention(q, k, v, gs.sparsify(mask, gs.BSR(8)))
        expected = torch.nn.functional.scaled_dot_product_attention(q, k, v, mask)
        torch.testing.assert_close(result, expected, rtol=1e-4, atol=1e-5)
        counts.append(len(compiles))
    assert counts[0] == counts[-1]


def test_sizes_that_are_not_there_or_one():
    a = example(5, 4)
    check(a, torch.randn(4, 6))
    check(a, torch.randn(4, 1))
    check(a, torch.randn(4, 0))
    check(gs.sparsify(torch.zeros(0, 4), gs.CSR), torch.randn(4, 6))
    check(gs.sparsify(torch.zeros(5, 4), gs.CSR), torch.randn(4, 6))
    check(gs.sparsify(torch.randn(1, 4), gs.CSR), torch.randn(4, 6))
    check(a, torch.randn(4, 6))


def test_operands_that_do_not_fit_are_refused_as_at_first():
    a = example(5, 4)
    check(a, torch.randn(4, 6))
    with pytest.raises(gs.GossamerError):
        f(a, torch.randn(5, 6))


@pytest.mark.parametrize(
    "make",
    [
        lambda: torch.randn(6, 4).T,
        lambda: torch.randn(8, 12)[::2, ::2],
        lambda: torch.randn(1, 6).expand(4, 6),
        lambda: torch.complex(torch.randn(4, 6), torch.randn(4, 6)).conj().imag,
        lambda: torch._neg_view(torch.randn(4, 6)),
        lambda: torch.nn.Parameter(torch.randn(4, 6), requires_grad=False),
        lambda: torch.randn(4, 6).to_sparse_csr().to_dense(),
        lambda: torch.randn(26)[2:].view(4, 6),
    ],
)
def test_memory_of_any_kind(make):
    a = example(5, 4)
    check(a, torch.randn(4, 6))
    b = make()
    for _ in range(2):
        check(a, b)
    check(a, torch.randn(4, 6))


def test_values_of_any_kind():
    a = example(6, 6)
    check(a, torch.randn(6, 6))
    for values in (
        torch.randn(2 * a.nnz)[::2],
        torch._neg_view(torch.randn(a.nnz)),
        torch.nn.Parameter(torch.randn(a.nnz), requires_grad=False),
    ):
        check(a.with_values(values), torch.randn(6, 6))
    check(a, torch.randn(6, 6))


def test_another_dtype_or_width_is_another_kernel():
    check(example(5, 4), torch.randn(4, 6))
    check(example(5, 4, torch.float64), torch.randn(4, 6, dtype=torch.float64))
    wide = gs.from_torch(torch.randn(5, 4).to_sparse_csr())
    assert wide.pattern.pos_width == 64
    check(wide, torch.randn(4, 6))
    check(example(5, 4), torch.randn(4, 6))


def test_another_count_of_values_is_refused():
    a = example(5, 4)
    check(a, torch.randn(4, 6))
    broken = gs.SparseTensor._make(a.pattern, torch.randn(a.nnz - 1), 0.0)
    with pytest.raises(TensorError, match=f"{a.nnz - 1} values on a pattern of {a.nnz}"):
        f(broken, torch.randn(4, 6))


def test_another_format_is_still_converted():
    a, b = example(6, 4), torch.randn(4, 6)
    check(a, b)
    for other in (a.to(gs.CSC), a.to(gs.COO), a.to_torch(), a.to_dense()):
        torch.testing.assert_close(f(other, b), f(a, b), rtol=1e-4, atol=1e-5)


def test_gradients_are_given_where_they_are_wanted():
    a, b = example(5, 4), torch.randn(4, 6, requires_grad=True)
    for _ in range(2):
        assert f(a, b).requires_grad
        assert not f(a, b.detach()).requires_grad
        with torch.no_grad():
            assert not f(a, b).requires_grad
        (b.grad,) = torch.autograd.grad(f(a, b).sum(), b)
        torch.testing.assert_close(b.grad, a.to_dense().T @ torch.ones(5, 6))


def test_the_result_is_nobody_elses():
    a, b = example(4, 4), torch.randn(4, 4)
    first, second = f(a, b), f(a, b)
    assert first.data_ptr() not in (second.data_ptr(), b.data_ptr(), a.values.data_ptr())
    before = first.clone()
    second.fill_(7.0)
    assert torch.equal(first, before)
    same = f(gs.sparsify(b, gs.CSR), b)
    torch.testing.assert_close(same, b @ b, rtol=1e-4, atol=1e-5)


def test_threads_call_one_function():
    cases = [(example(rows, rows), torch.randn(rows, rows + 1)) for rows in (3, 17, 40)]
    expected = [a.to_dense() @ b for a, b in cases]
    for a, b in cases:
        check(a, b)
    wrong: list[int] = []

    def work(seed: int) -> None:
        for turn in range(150):
            n = (seed + turn) % 3
            if not torch.allclose(f(*cases[n]), expected[n], atol=1e-4):
                wrong.append(n)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def reference(function, **formats):
    return gs.sparse_jit(backend="reference", **formats)(function)


def test_constants_are_compared():
    g = reference(lambda a, scale, flag=False: a * 2 if flag else torch.copysign(a, torch.tensor(scale)))
    x = torch.tensor([1.0, -2.0])
    for _ in range(2):
        assert g(x, 0.0).tolist() == [1.0, 2.0]
        assert g(x, -0.0).tolist() == [-1.0, -2.0]
        assert g(x, 1).tolist() == [1.0, 2.0]
        assert g(x, 0.0, True).tolist() == [2.0, -4.0]
        assert g(x, 0.0, flag=True).tolist() == [2.0, -4.0]
        assert g(x, scale=-0.0).tolist() == [-1.0, -2.0]
    count = len(programs(g))
    assert math.isnan(reference(lambda a, b: a * b)(x, math.nan)[0])
    for _ in range(3):
        g(x, math.nan)
    assert len(programs(g)) == count + 1


def test_more_programs_than_are_looked_at_first():
    g = reference(lambda a, n: a + n)
    x = torch.zeros(2)
    for _ in range(3):
        for n in range(9):
            assert g(x, n).tolist() == [n, n]
    assert len(programs(g)) == 9
    assert len(g.engine._entries) == 4


def test_shared_patterns_are_told_apart():
    g = reference(lambda a, b: a + b)
    a, other = example(4, 4), example(4, 4)
    b = a.with_values(torch.randn(a.nnz))
    for first, second in ((a, b), (a, other), (b, a), (other, a), (a, a)):
        result = g(first, second)
        dense = result.to_dense() if isinstance(result, gs.SparseTensor) else result
        torch.testing.assert_close(dense, first.to_dense() + second.to_dense())


def test_modes_are_told_apart():
    g = reference(lambda a, b: a @ b)
    a, b = torch.randn(2, 2), torch.randn(2, 2)
    for _ in range(2):
        assert g(a, b).dtype == torch.float32
        with torch.autocast("cpu", torch.bfloat16):
            assert g(a, b).dtype == torch.bfloat16
        with torch.no_grad():
            assert not g(a.requires_grad_(), b).requires_grad
        assert g(a, b).requires_grad


def test_a_function_that_calls_itself_anew():
    inner = reference(lambda a, b: a @ b)

    def outer(a, b):
        return inner(a, b) + 1

    g = reference(outer)
    a, b = example(3, 3), torch.randn(3, 2)
    for _ in range(3):
        torch.testing.assert_close(g(a, b), a.to_dense() @ b + 1)
        torch.testing.assert_close(inner(a, b), a.to_dense() @ b)
