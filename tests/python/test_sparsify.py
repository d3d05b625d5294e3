"""sparsify: what is kept, its values, and their gradients."""

import math
import time

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import gossamer as gs
from strategies import formats, tensors

INF = float("inf")


@given(tensors, formats)
def test_all_that_is_not_the_fill_is_kept(dense, fmt):
    sparse = gs.sparsify(dense, fmt)
    assert sparse.shape == dense.shape
    assert sparse.dtype == dense.dtype
    assert sparse.values.shape == sparse.pattern.values_shape
    assert torch.equal(sparse.to_dense(), dense)
    if not any(level.expr.op for level in fmt.levels) and fmt.levels[-1].is_sparse:
        assert sparse.nnz == dense.count_nonzero()


def test_fills():
    scores = torch.tensor([[1.0, -INF, 0.0], [-INF, -INF, -INF]])
    sparse = gs.sparsify(scores, gs.CSR, fill=-INF)
    assert sparse.values.tolist() == [1, 0]
    assert sparse.fill == -INF
    assert gs.sparsify(~torch.eye(3, dtype=torch.bool), gs.CSR, fill=True).nnz == 3
    assert gs.sparsify(torch.tensor([[0.0, math.nan]]), gs.CSR).nnz == 1


def test_indices_are_narrow_unless_asked():
    assert gs.sparsify(torch.eye(3), gs.CSR).coordinates(1).dtype == torch.int32
    assert gs.sparsify(torch.eye(3), gs.CSR, index_dtype=torch.int64).coordinates(1).dtype == torch.int64


def test_dense_tensors_of_any_strides():
    dense = torch.arange(24.0).reshape(4, 6).T
    for fmt in (gs.CSR, gs.BSR((3, 2)), gs.CSC):
        assert torch.equal(gs.sparsify(dense, fmt).to_dense(), dense)
        assert torch.equal(gs.sparsify(dense[:, :1].expand(6, 4), fmt).to_dense(), dense[:, :1].expand(6, 4))


def test_sparse_tensors_are_sparsified_anew():
    x = gs.sparsify(torch.eye(4), gs.BSR(2))
    assert gs.sparsify(x, gs.CSR).nnz == 4
    assert gs.sparsify(torch.eye(4).to_sparse_csr(), gs.BSR(2)).nnz == 8


@given(tensors.filter(lambda x: x.dtype != torch.bool), formats, st.sampled_from([0.0, 0.1, 0.5, 1.0]))
def test_magnitude_keeps_an_exact_number_of_the_largest(dense, fmt, density):
    fmt = fmt.for_rank(dense.dim())
    if not fmt.outer:
        return
    sparse = gs.sparsify(dense, fmt, by=gs.magnitude(density))
    nodes = math.prod(sparse.pattern.level_sizes[: fmt.outer])
    assert sparse.nnz == round(density * nodes) * sparse.pattern.inner_size
    rows = sparse.pattern.coo()
    kept = torch.zeros(dense.shape, dtype=torch.bool)
    kept[tuple(rows[:, rows[0] >= 0])] = True
    assert torch.equal(sparse.to_dense(), torch.where(kept, dense, 0))
    if sparse.pattern.inner_size == 1 and kept.any() and not kept.all():
        assert dense[kept].abs().min() >= dense[~kept].abs().max()


def test_magnitude_of_blocks_is_their_sum_of_absolute_values():
    dense = torch.tensor([[1.0, -1, 5, 0], [-1, 1, 0, 0], [0, 0, 2, 2], [3, 0, 2, 0]])
    sparse = gs.sparsify(dense, gs.BSR(2), by=gs.magnitude(0.5))
    assert sparse.pattern.coo()[:, ::4].tolist() == [[0, 2], [2, 2]]


def test_equal_magnitudes_keep_the_first():
    sparse = gs.sparsify(torch.ones(4, 4), gs.CSR, by=gs.magnitude(0.25))
    assert sparse.to_dense().tolist() == [[1] * 4] + [[0] * 4] * 3


def test_magnitude_does_not_hide_a_nan():
    assert gs.sparsify(torch.tensor([[INF, 1, math.nan, 2]]), gs.CSR, by=gs.magnitude(0.5)).coordinates(1).tolist() == [
        0,
        2,
    ]


def test_magnitude_of_batches_counts_each():
    dense = torch.stack([torch.rand(4, 4), torch.rand(4, 4) + 1])
    assert gs.sparsify(dense, gs.CSR.with_batch(), by=gs.magnitude(0.5)).values.shape == (2, 8)
    assert gs.sparsify(dense, gs.CSR, by=gs.magnitude(0.5)).to_dense()[1].count_nonzero() == 16


def test_magnitude_of_structured_formats():
    dense = torch.tensor([[1.0, -4, 3, 2, 0, 0, 0, 9]])
    sparse = gs.sparsify(dense, gs.NM(2, 4), by=gs.magnitude(0.5))
    assert sparse.to_dense().tolist() == [[0, -4, 3, 0, 0, 0, 0, 9]]
    assert sparse.nnz == 4
    with pytest.raises(gs.FormatError, match=r"keeps 2 of every 4 entries: use magnitude\(0.5\), not magnitude\(0.1\)"):
        gs.sparsify(dense, gs.NM(2, 4), by=gs.magnitude(0.1))


def test_a_function_says_what_to_keep():
    dense = torch.arange(1.0, 17).reshape(4, 4)
    sparse = gs.sparsify(dense, gs.CSR, by=lambda x: x % 2 == 0)
    assert torch.equal(sparse.to_dense(), torch.where(dense % 2 == 0, dense, 0))
    blocks = gs.sparsify(dense, gs.BSR(2), by=lambda x: x == 6)
    assert blocks.to_dense().count_nonzero() == 4
    pairs = gs.sparsify(dense, gs.NM(2, 4), by=lambda x: x == 6)
    assert pairs.to_dense().count_nonzero() == 1


@pytest.mark.parametrize(
    "fmt",
    [gs.CSR, gs.CSC, gs.COO, gs.DCSR, gs.BSR((2, 3)), gs.BSC((2, 3)), gs.BlockELL((2, 3)), gs.NM(2, 4)],
    ids=str,
)
def test_kept_values_are_differentiable(fmt):
    columns = 8 if fmt == gs.NM(2, 4) else 6
    dense = torch.randn(4, columns, dtype=torch.float64, requires_grad=True)
    weights = torch.randn(4, columns, dtype=torch.float64)
    sparse = gs.sparsify(dense, fmt, by=gs.magnitude(0.5))
    assert sparse.requires_grad
    (grad,) = torch.autograd.grad((sparse.to_dense() * weights).sum(), dense)
    assert torch.equal(grad, torch.where(sparse.to_dense() != 0, weights, 0))


@pytest.mark.parametrize(
    ("run", "error", "message"),
    [
        (lambda: gs.sparsify(torch.ones(4, 6), gs.BSR(4)), gs.FormatError, "pad the dimension from 6 to 8"),
        (lambda: gs.sparsify(torch.ones(4), gs.CSR), gs.FormatError, "does not fit a tensor of rank 1"),
        (lambda: gs.magnitude(1.5), gs.FormatError, r"magnitude\(1.5\): the density is the fraction"),
        (lambda: gs.sparsify([[1.0]], gs.CSR), gs.TensorError, "takes a tensor, not a list"),
        (lambda: gs.sparsify(torch.ones(2, 2, device="meta"), gs.CSR), gs.TensorError, "the meta device has none"),
        (
            lambda: gs.sparsify(torch.ones(2, 2), gs.CSR, by=lambda x: x),
            gs.TensorError,
            r"a bool tensor of shape \(2, 2\), not torch.float32 of \(2, 2\)",
        ),
        (lambda: gs.sparsify(torch.ones(2, 2).int(), gs.CSR, fill=0.5), gs.TensorError, "no value of torch.int32"),
    ],
)
def test_bad_input(run, error, message):
    with pytest.raises(error, match=message):
        run()


def test_large_tensors_take_milliseconds():
    """Bounds that only something like a Python loop over entries exceeds, even on a busy machine."""
    mask = (torch.rand(64, 64) < 0.1).repeat_interleave(64, 0).repeat_interleave(64, 1)[None, None]
    weight = torch.randn(1536, 384)
    begin = time.perf_counter()
    sparse = gs.sparsify(mask, gs.BSR(64))
    sparse.to(gs.BSC(64)).validate()
    gs.sparsify(weight, gs.BSR(32), by=gs.magnitude(0.1))
    gs.sparsify(weight, gs.NM(2, 4), by=gs.magnitude(0.5))
    assert time.perf_counter() - begin < 2
    assert torch.equal(sparse.to_dense(), mask)
