"""Reductions of sparse tensors mean what they mean of dense ones, whatever is stored and however."""

import math
import warnings

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import gossamer as gs
from gossamer.jit import engine_of
from test_every_format import FORMATS, matrix

pytestmark = pytest.mark.filterwarnings("error::gossamer.FallbackWarning")


def reports(f):
    kernels = [
        kernel for fitting in engine_of(f).programs.values() for program in fitting for kernel in program.kernels
    ]
    return {
        (e.op, e.road) for kernel in kernels for region in kernel.compiled.values() for e in region.signature.report
    }


def over_all_dims(w):
    return w.sum(), w.sum(0), w.sum((0, 1)), w.mean(1, keepdim=True), w.amax(1), w.amin(0), w.any(1), (w * w).sum(1)


@pytest.mark.parametrize("format", FORMATS.values(), ids=FORMATS)
@torch.no_grad()
def test_every_format(format):
    torch.manual_seed(0)
    w = matrix(24, 32)
    f = gs.sparse_jit(over_all_dims)
    for got, expected in zip(f(gs.sparsify(w, format)), over_all_dims(w), strict=True):
        torch.testing.assert_close(got, expected)
    assert reports(f) == {("gossamer.reduce", "general")}


@torch.no_grad()
def test_every_reduction():
    torch.manual_seed(0)
    w = matrix(24, 32)

    def function(w):
        norms = [torch.linalg.vector_norm(w, order, 1) for order in (0, 1, 2, 3, math.inf, -math.inf)]
        return *norms, w.norm(), w.all(0), w.count_nonzero(1), w.count_nonzero(), w.prod(0), w.prod(), w.min(0).values

    f = gs.sparse_jit(function)
    for got, expected in zip(f(gs.sparsify(w, gs.CSR)), function(w), strict=True):
        torch.testing.assert_close(got, expected)
    assert reports(f) == {("gossamer.reduce", "general")}


@torch.no_grad()
def test_what_is_not_stored_takes_part():
    w = torch.tensor([[-1.0, 0, -2], [-3, -4, -5], [0, 0, 0], [6, math.nan, 0], [math.inf, -math.inf, 0]])
    f = gs.sparse_jit(lambda w: (w.amax(1), w.amin(1), w.exp().sum(1), (w + 2).mean(0), w.sum(1), w.prod(0), w.max()))
    expected = w.amax(1), w.amin(1), w.exp().sum(1), (w + 2).mean(0), w.sum(1), w.prod(0), w.max()
    for got, e in zip(f(gs.sparsify(w, gs.CSR)), expected, strict=True):
        torch.testing.assert_close(got, e, equal_nan=True)


@torch.no_grad()
def test_scores_that_are_masked():
    torch.manual_seed(0)
    x, mask = torch.randn(24, 32).double(), matrix(24, 32) != 0
    scores = x.masked_fill(~mask, -math.inf)

    def function(s):
        return s.amax(1), s.sum(1), s.logsumexp(1), s.logsumexp((0, 1)), s.logsumexp(0, keepdim=True)

    for got, expected in zip(gs.sparse_jit(function, s=gs.CSR)(scores), function(scores), strict=True):
        torch.testing.assert_close(got, expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int8, torch.bool])
@torch.no_grad()
def test_dtypes(dtype):
    torch.manual_seed(0)
    w = (matrix(24, 32) * 3).to(dtype)

    def function(w):
        found = [w.sum(), w.sum(1), w.amax(0), w.prod(1), w.any(0), w.sum(0, dtype=torch.float64)]
        return [*found, w.mean(1), w.mean()] if dtype.is_floating_point else found

    for got, expected in zip(gs.sparse_jit(function, w=gs.CSR)(w), function(w), strict=True):
        torch.testing.assert_close(got, expected)


@torch.no_grad()
def test_leading_dimensions():
    torch.manual_seed(0)
    w = torch.stack([matrix(8, 32), matrix(8, 32) * 2])

    def function(w):
        return w.sum((0, 2)), w.amax(1), w.mean((1, 2)), w.amin((0, 1), keepdim=True), w.sum(0), w.max(2).values

    for format in (gs.CSR, gs.BSR(4)):
        for got, expected in zip(gs.sparse_jit(function, w=format)(w), function(w), strict=True):
            torch.testing.assert_close(got, expected)


@torch.no_grad()
def test_long_ones_are_the_same_on_any_number_of_threads():
    torch.manual_seed(0)
    w = torch.randn(1000, 1000) * (torch.rand(1000, 1000) < 0.2)
    t = gs.sparsify(w, gs.CSR)
    f = gs.sparse_jit(lambda w: (w.sum(0), w.sum(), w.sum(1), w.amax(0)))
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        alone = f(t)
        torch.set_num_threads(2)
        together = f(t)
    finally:
        torch.set_num_threads(threads)
    for a, b, expected in zip(alone, together, (w.sum(0), w.sum(), w.sum(1), w.amax(0)), strict=True):
        assert torch.equal(a, b)
        torch.testing.assert_close(a, expected, rtol=1e-5, atol=1e-4)


@torch.no_grad()
def test_reduced_values_go_back_onto_the_pattern():
    """The backward of a softmax, on stored entries alone, in one region."""
    torch.manual_seed(0)
    p = matrix(24, 32)

    def function(p, a, b):
        d = a @ b.mT
        return p * (d - (p * d).sum(-1, keepdim=True))

    f = gs.sparse_jit(function)
    a, b = torch.randn(24, 7).double(), torch.randn(32, 7).double()
    got = f(gs.sparsify(p, gs.CSR), a, b)
    assert isinstance(got, gs.SparseTensor)
    torch.testing.assert_close(got.to_dense(), function(p, a, b))
    (program,) = (program for fitting in engine_of(f).programs.values() for program in fitting)
    assert len(program.kernels) == 1
    assert reports(f) == {("gossamer.reduce", "general"), ("gossamer.sddmm", "general"), ("gossamer.map", "general")}


@torch.no_grad()
def test_refusals_are_said():
    w = gs.sparsify(matrix(8, 8), gs.CSR)
    with pytest.warns(gs.FallbackWarning, match="entries that are not stored have to be 0 or 1, they are 2"):
        gs.sparse_jit(lambda w: (w + 2).prod(1))(w)
    with pytest.warns(gs.FallbackWarning, match="does not give one tensor"):
        gs.sparse_jit(lambda w: w.max(1))(w)


@given(
    rows=st.sampled_from([1, 7, 63]),
    columns=st.sampled_from([1, 7, 65]),
    density=st.sampled_from([0.0, 0.1, 1.0]),
    format=st.sampled_from([gs.CSR, gs.CSC, gs.COO, gs.DCSR, gs.DCSC]),
    fill=st.sampled_from([0.0, -math.inf]),
)
@settings(max_examples=25, deadline=None)
@torch.no_grad()
def test_any_shape(rows, columns, density, format, fill):
    generator = torch.Generator().manual_seed(rows * columns)
    x = torch.randn(rows, columns, generator=generator).double()
    x = torch.where(torch.rand(rows, columns, generator=generator) < density, x, fill)
    with warnings.catch_warnings():
        warnings.simplefilter("error", gs.FallbackWarning)
        got = _reductions(gs.sparsify(x, format, fill=fill))
    for ours, expected in zip(got, _plain(x), strict=True):
        torch.testing.assert_close(ours, expected)


def _plain(x):
    return x.sum(1), x.amax(0), x.amin(1), x.exp().sum(0), x.mean(), x.amax()


_reductions = gs.sparse_jit(_plain)
