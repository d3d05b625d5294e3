"""Several sparse tensors on one pattern meet entry by entry, in one region, without the entries between."""

import math

import pytest
import torch
from torch.nn import functional as F

import gossamer as gs
from gossamer.errors import TensorError
from gossamer.jit import engine_of
from gossamer.runtime.kernel import CompiledRegion
from test_every_format import FORMATS, matrix

pytestmark = pytest.mark.filterwarnings("error::gossamer.FallbackWarning")


def pair(format: gs.Format, rows: int = 24, columns: int = 32) -> tuple[gs.SparseTensor, gs.SparseTensor]:
    a = gs.sparsify(matrix(rows, columns), format)
    return a, a.with_values(torch.randn_like(a.values))


def only_region(f) -> CompiledRegion:
    (program,) = (program for fitting in engine_of(f).programs.values() for program in fitting)
    (kernel,) = program.kernels
    (region,) = kernel.compiled.values()
    return region


@pytest.mark.parametrize("format", FORMATS.values(), ids=FORMATS)
@torch.no_grad()
def test_elementwise(format):
    torch.manual_seed(0)
    a, b = pair(format)
    x, row = torch.randn(24, 32).double(), torch.randn(32).double()

    def function(a, b, x, row):
        return torch.relu(a * x + 2 * b) - b / (row.abs() + 1)

    f = gs.sparse_jit(function)
    got = f(a, b, x, row)
    assert got.pattern is a.pattern
    torch.testing.assert_close(got.to_dense(), function(a.to_dense(), b.to_dense(), x, row))
    # of the second the values alone are passed, and nothing is made dense
    first, second = (spec for spec in only_region(f).signature.args if hasattr(spec, "encoding"))
    assert (first.pattern_of, second.pattern_of) == (None, 0)
    assert {entry.road for entry in only_region(f).signature.report} == {"general"}


@pytest.mark.parametrize("format", FORMATS.values(), ids=FORMATS)
@torch.no_grad()
def test_products(format):
    """A product of a sum of two, and a sampled product with both."""
    torch.manual_seed(0)
    a, b = pair(format)
    x, y = torch.randn(7, 32).double(), torch.randn(24, 7).double()

    def function(a, b, x, y):
        return F.linear(x, a + b), a * (y @ x) - b

    got = gs.sparse_jit(function)(a, b, x, y)
    expected = function(a.to_dense(), b.to_dense(), x, y)
    torch.testing.assert_close(got[0], expected[0])
    torch.testing.assert_close(got[1].to_dense(), expected[1])
    assert got[1].pattern is a.pattern


@torch.no_grad()
def test_the_second_alone_keeps_its_pattern():
    a, b = pair(gs.CSR)
    got = gs.sparse_jit(lambda a, b: (torch.relu(b), a @ b.mT))(a, b)
    assert got[0].pattern is a.pattern
    torch.testing.assert_close(got[0].to_dense(), b.to_dense().relu())
    torch.testing.assert_close(got[1], a.to_dense() @ b.to_dense().mT)


@torch.no_grad()
def test_scores_of_two():
    a, b = pair(gs.CSR)
    a = gs.SparseTensor(a.pattern, a.values, -math.inf)
    b = gs.SparseTensor(b.pattern, b.values, -math.inf)
    got = gs.sparse_jit(lambda a, b: torch.softmax(a + b, -1))(a, b)
    assert got.pattern is a.pattern
    torch.testing.assert_close(got.to_dense(), torch.softmax(a.to_dense() + b.to_dense(), -1).nan_to_num(0.0))


@torch.no_grad()
def test_views_of_one_pattern_are_one_pattern():
    a, b = (gs.SparseTensor(t.pattern.view((1, 1, 24, 32)), t.values, 0.0) for t in pair(gs.CSR))
    f = gs.sparse_jit(lambda a, b: a[0, 0].mT + 3 * b[0, 0].mT)
    got = f(a, b)
    assert isinstance(got, gs.SparseTensor)
    torch.testing.assert_close(got.to_dense(), (a.to_dense() + 3 * b.to_dense())[0, 0].mT)


@torch.no_grad()
def test_patterns_that_are_not_shared_are_refused_by_the_kernel():
    a, b = pair(gs.CSR)
    f = gs.sparse_jit(lambda a, b: a + b)
    f(a, b)
    other = gs.sparsify(torch.eye(24, 32).double(), gs.CSR)
    with pytest.raises(TensorError, match="input 1 of a compiled region must have the very pattern of input 0"):
        only_region(f)([a, other], [None])
    equal = gs.SparseTensor(gs.sparsify(a.to_dense(), gs.CSR).pattern, b.values)
    torch.testing.assert_close(only_region(f)([a, equal], [None])[0].values, a.values + b.values)
