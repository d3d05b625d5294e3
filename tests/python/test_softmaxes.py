"""Softmaxes over stored entries along any dim, and results on a mask that is broadcast."""

import math

import pytest
import torch

import gossamer as gs
from gossamer.jit import engine_of
from test_every_format import FORMATS, matrix

pytestmark = pytest.mark.filterwarnings("error::gossamer.FallbackWarning")


def roads(f):
    kernels = [
        kernel for fitting in engine_of(f).programs.values() for program in fitting for kernel in program.kernels
    ]
    return {e.road for kernel in kernels for region in kernel.compiled.values() for e in region.signature.report}


def scores(rows: int = 24, columns: int = 32) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    mask = matrix(rows, columns) != 0
    return torch.where(mask, 200 * torch.randn(rows, columns).double(), -math.inf), mask


@pytest.mark.parametrize("format", FORMATS.values(), ids=FORMATS)
@torch.no_grad()
def test_every_format(format):
    s, _ = scores()

    def function(s):
        return torch.softmax(s, -1), torch.softmax(s, 0), torch.log_softmax(s, 1), torch.log_softmax(s, 0)

    f = gs.sparse_jit(function)
    got = f(gs.sparsify(s, format, fill=-math.inf))
    for ours, expected, nothing in zip(got, function(s), (0.0, 0.0, -math.inf, -math.inf), strict=True):
        # a row with nothing allowed is 0, not NaN, and its logarithm -inf
        torch.testing.assert_close(ours.to_dense(), expected.nan_to_num(nothing, neginf=-math.inf))
    assert roads(f) == {"general"}


@pytest.mark.parametrize("format", [gs.CSR, gs.BSR(4)], ids=str)
@torch.no_grad()
def test_probabilities_on_a_broadcast_mask(format):
    """Returned and multiplied: both for every head, on entries of the one mask alone."""
    _, mask = scores()
    q, k, v = (torch.randn(2, 3, n, 8, dtype=torch.float64) for n in (24, 32, 32))

    def function(q, k, v, mask):
        weights = torch.softmax((q @ k.mT * 0.1).masked_fill(~mask, -math.inf), -1)
        return weights, weights @ v

    f = gs.sparse_jit(function, mask=format)
    weights, result = f(q, k, v, mask)
    expected = function(q, k, v, mask)
    assert isinstance(weights, gs.SparseTensor)
    assert weights.shape == (2, 3, 24, 32)
    assert weights.nnz == 6 * gs.sparsify(mask, format).nnz
    torch.testing.assert_close(weights.to_dense(), expected[0].nan_to_num(0.0))
    torch.testing.assert_close(result, expected[1].nan_to_num(0.0))
    assert roads(f) == {"general"}


@torch.no_grad()
def test_elementwise_with_dense_operands():
    """Both orders, broadcasts, comparisons, casts, masks."""
    torch.manual_seed(0)
    w, x, row = matrix(24, 32), torch.randn(24, 32).double(), torch.rand(32).double() + 1

    def function(w, x, row):
        return (
            w * x,
            x * w,
            w / row,
            row[:24, None] * w,
            w.masked_fill(w > 0.5, 3.0),
            torch.where(x > 0, w, 0.0),
            w > 0.2,
            w.float(),
        )

    for format in (gs.CSR, gs.COO, gs.BSC(4)):
        f = gs.sparse_jit(function)
        for ours, expected in zip(f(gs.sparsify(w, format), x, row), function(w, x, row), strict=True):
            assert isinstance(ours, gs.SparseTensor)
            torch.testing.assert_close(ours.to_dense(), expected)
        assert roads(f) == {"general"}
