"""Gradients through regions."""

import inspect
import math
import warnings

import pytest
import torch

import gossamer as gs
from frontend_cases import CASES, D, S, T, allowed, masked_softmax, qkv, real, weight

pytestmark = pytest.mark.filterwarnings("ignore::gossamer.FallbackWarning")
CHECKED = ["masked_softmax", "added_mask", "alibi_softcap", "gqa_per_head", "ffn", "sddmm"]


def reference(function, **options):
    return gs.sparse_jit(function, backend="reference", **options)


def dense(result):
    return result.to_dense() if isinstance(result, gs.SparseTensor) else result


@pytest.mark.parametrize("backend", ["reference", "compiled"])
@pytest.mark.parametrize("case", [case for case in CASES if case.name in CHECKED], ids=str)
def test_dense_arguments(case, backend):
    f = gs.sparse_jit(case.function, backend=backend, **case.formats)
    names = list(inspect.signature(case.function).parameters)
    args = case.args()
    for name, arg in zip(names, args, strict=True):
        if arg.is_floating_point() and name not in case.formats:
            arg.requires_grad_()
    assert torch.autograd.gradcheck(lambda *args: dense(f(*args)), args, atol=1e-5, fast_mode=True)


def test_values_of_a_sparse_argument():
    t = gs.sparsify(weight(6, 5), gs.CSR)
    x = real(5, 3).requires_grad_()
    values = t.values.clone().requires_grad_()
    f = reference(lambda w, x: torch.tanh(w * 2 @ x))

    def run(values, x):
        return f(t.with_values(values), x)

    assert torch.autograd.gradcheck(run, (values, x), fast_mode=True)
    assert torch.autograd.gradgradcheck(run, (values, x), fast_mode=True)


def test_values_of_a_sparse_result():
    t = gs.sparsify(weight(6, 5), gs.BSR((3, 5)))
    a, b = real(6, 2).requires_grad_(), real(2, 5).requires_grad_()
    values = t.values.clone().requires_grad_()
    f = reference(lambda w, a, b: w * (a @ b))
    assert torch.autograd.gradcheck(lambda v, a, b: f(t.with_values(v), a, b).values, (values, a, b), fast_mode=True)


def test_a_dense_tensor_stored_on_the_fly():
    w, x = weight(6, 5).requires_grad_(), real(5, 3)
    reference(lambda w, x: w @ x, w=gs.CSR)(w, x).sum().backward()
    torch.testing.assert_close(w.grad, (w != 0) * x.sum(1))


def test_annotate_inside_passes_gradients():
    w, x = real(6, 5).requires_grad_(), real(5, 3)
    f = reference(lambda w, x: gs.annotate(torch.relu(w), gs.CSR) @ x)
    f(w, x).sum().backward()
    torch.testing.assert_close(w.grad, (w > 0) * x.sum(1))


def test_masked_rows_have_no_gradient():
    q, k, v = (t.requires_grad_() for t in qkv())
    mask = allowed(1, 1, S, T)
    mask[..., 3, :] = False
    reference(masked_softmax, mask=gs.CSR)(q, k, v, mask).sum().backward()
    for t in (q, k, v):
        assert t.grad.isfinite().all()
    assert (q.grad[..., 3, :] == 0).all()


def test_no_grad_inside_cuts():
    def f(x, w):
        y = x @ w
        with torch.no_grad():
            z = y * 2
        return y + z

    x, w = real(3, 6).requires_grad_(), weight(6, 5)
    reference(f, w=gs.CSR)(x, w).sum().backward()
    expected = torch.autograd.grad(f(x, w).sum(), x)[0]
    torch.testing.assert_close(x.grad, expected)


def test_detach_inside_cuts():
    def f(x, m):
        s = (x @ x.mT).detach() + x @ x.mT
        return s.masked_fill(~m, -math.inf).softmax(-1) @ x

    x, m = real(S, D).requires_grad_(), allowed(S, S)
    reference(f, m=gs.CSR)(x, m).sum().backward()
    torch.testing.assert_close(x.grad, torch.autograd.grad(f(x, m).sum(), x)[0])


def test_without_gradients_nothing_is_kept():
    q, k, v = qkv()
    assert reference(masked_softmax, mask=gs.CSR)(q, k, v, allowed(S, T)).grad_fn is None
    with torch.no_grad():
        q.requires_grad_()
        assert reference(masked_softmax, mask=gs.CSR)(q, k, v, allowed(S, T)).grad_fn is None


@pytest.mark.filterwarnings("default::gossamer.FallbackWarning")
def test_a_gradient_of_a_gradient_is_dense_and_says_so_once():
    q, k, v = (t.requires_grad_() for t in qkv())
    f, mask = gs.sparse_jit(masked_softmax, mask=gs.CSR), allowed(S, T)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        torch.autograd.grad(f(q, k, v, mask).sum(), q)
    with pytest.warns(gs.FallbackWarning, match="create_graph=True"):
        first = torch.autograd.grad(f(q, k, v, mask).square().sum(), q, create_graph=True)[0]
    found = torch.autograd.grad(first.square().sum(), (q, k, v))
    first = torch.autograd.grad(masked_softmax(q, k, v, mask).square().sum(), q, create_graph=True)[0]
    for mine, theirs in zip(found, torch.autograd.grad(first.square().sum(), (q, k, v)), strict=True):
        torch.testing.assert_close(mine, theirs)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        torch.autograd.grad(f(q, k, v, mask).square().sum(), q, create_graph=True)


class _Doubled(torch.autograd.Function):
    """The identity, with a gradient of its own."""

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        return 2 * gradient


def test_a_gradient_of_ones_own_is_not_lost_in_silence():
    a = gs.sparsify(torch.eye(4), gs.CSR)
    x = torch.randn(4, 4, requires_grad=True)
    with pytest.warns(gs.FallbackWarning, match="backward of _Doubled is not used"):
        gs.sparse_jit(lambda a, x: a @ _Doubled.apply(x))(a, x)
    with pytest.raises(gs.UnsupportedError, match="_Doubled"):
        gs.sparse_jit(lambda a, x: a @ _Doubled.apply(x), fullgraph=True)(a, x)
    with torch.no_grad():
        gs.sparse_jit(lambda a, x: a @ _Doubled.apply(x), fullgraph=True)(a, x)
