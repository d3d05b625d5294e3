"""Gradients under checkpointing, autocast, half precision, for parts of the arguments, and what is refused."""

import os
import subprocess
import sys
import textwrap
import warnings

import pytest
import torch
import torch.nn.functional as F
from torch.utils.checkpoint import checkpoint

import gossamer as gs

ROWS, COLUMNS, WIDTH = 16, 24, 8


@pytest.fixture(autouse=True)
def _no_fallback():
    with warnings.catch_warnings():
        warnings.simplefilter("error", gs.FallbackWarning)
        yield


def masked(q, k, v, mask):
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)


def arguments(dtype=torch.float32):
    mask = torch.rand(ROWS, COLUMNS) < 0.4
    mask[:, 0] = True
    q, k, v = (torch.randn(n, WIDTH, dtype=dtype, requires_grad=True) for n in (ROWS, COLUMNS, COLUMNS))
    return (q, k, v), mask


def gradients(function, inputs, *rest):
    return torch.autograd.grad(function(*inputs, *rest).float().square().sum(), inputs)


@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpoint(reentrant):
    inputs, mask = arguments()
    f = gs.sparse_jit(masked, mask=gs.CSR)
    expected = gradients(masked, inputs, mask)
    checkpoint(f, *inputs, mask, use_reentrant=reentrant).square().sum().backward()
    for mine, theirs in zip(inputs, expected, strict=True):
        torch.testing.assert_close(mine.grad, theirs)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision(dtype):
    inputs, mask = arguments(dtype)
    wide = [x.detach().float().requires_grad_() for x in inputs]
    found = gradients(gs.sparse_jit(masked, mask=gs.CSR), inputs, mask)
    for mine, theirs in zip(found, gradients(masked, wide, mask), strict=True):
        assert mine.dtype == dtype
        torch.testing.assert_close(mine.float(), theirs, atol=0.05, rtol=0.05)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_of_a_weight(dtype):
    w = gs.sparsify((torch.randn(ROWS, COLUMNS) * (torch.rand(ROWS, COLUMNS) < 0.4)).to(dtype), gs.CSR)
    values = w.values.clone().requires_grad_()
    x, b = torch.randn(WIDTH, COLUMNS, dtype=dtype, requires_grad=True), torch.randn(ROWS, dtype=dtype)
    y = gs.sparse_jit(lambda w, x, b: torch.tanh(F.linear(x, w, b)))(w.with_values(values), x, b)
    found = torch.autograd.grad(y.float().sum(), (x, values))
    dense = w.to_dense().float().requires_grad_()
    wide = x.detach().float().requires_grad_()
    expected = torch.autograd.grad(torch.tanh(F.linear(wide, dense, b.float())).sum(), (wide, dense))
    torch.testing.assert_close(found[0].float(), expected[0], atol=0.05, rtol=0.05)
    torch.testing.assert_close(found[1].float(), expected[1][w.to_dense() != 0], atol=0.05, rtol=0.05)


def test_autocast():
    inputs, mask = arguments()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = gradients(gs.sparse_jit(masked, mask=gs.CSR), inputs, mask)
        expected = gradients(masked, inputs, mask)
    for mine, theirs in zip(found, expected, strict=True):
        assert mine.dtype == torch.float32
        torch.testing.assert_close(mine, theirs, atol=0.1, rtol=0.1)


def test_some_of_the_arguments():
    (q, k, v), mask = arguments()
    f = gs.sparse_jit(masked, mask=gs.CSR)
    for wanted in ([0], [1], [2], [0, 2]):
        inputs = [x.detach().requires_grad_(n in wanted) for n, x in enumerate((q, k, v))]
        ours = torch.autograd.grad(f(*inputs, mask).sum(), [inputs[n] for n in wanted])
        theirs = torch.autograd.grad(masked(*inputs, mask).sum(), [inputs[n] for n in wanted])
        for mine, other in zip(ours, theirs, strict=True):
            torch.testing.assert_close(mine, other)


def test_a_row_with_nothing_allowed_has_no_gradient():
    inputs, mask = arguments()
    mask[3], mask[:, 5] = False, False
    found = gradients(gs.sparse_jit(masked, mask=gs.CSR), inputs, mask)
    for gradient in found:
        assert gradient.isfinite().all()
    assert (found[0][3] == 0).all()
    assert (found[2][5] == 0).all()


@pytest.mark.parametrize("shape", [(0, 5), (5, 0), (1, 1), (7, 65), (63, 1)])
def test_ragged_sizes(shape):
    f = gs.sparse_jit(lambda w, x: torch.relu(x @ w.mT))
    w = gs.sparsify(torch.randn(shape) * (torch.rand(shape) < 0.5), gs.CSR)
    values, x = w.values.clone().requires_grad_(), torch.randn(3, shape[1], requires_grad=True)
    y = f(w.with_values(values), x)
    found = torch.autograd.grad(y.sum(), (values, x))
    dense = w.to_dense().requires_grad_()
    expected = torch.autograd.grad(torch.relu(x @ dense.mT).sum(), (dense, x))
    torch.testing.assert_close(found[0], expected[0][w.to_dense() != 0])
    torch.testing.assert_close(found[1], expected[1])


def test_one_program_for_all_sizes():
    f = gs.sparse_jit(masked, mask=gs.CSR)
    for n in (5, 17, 40):
        mask = torch.rand(n, n) < 0.5
        mask[:, 0] = True
        inputs = [torch.randn(n, WIDTH, requires_grad=True) for _ in range(3)]
        for mine, theirs in zip(gradients(f, inputs, mask), gradients(masked, inputs, mask), strict=True):
            torch.testing.assert_close(mine, theirs)
    (program,) = f.engine.programs.popitem()[1]
    assert len(program.kernels[0].gradients.programs) == 1


def test_integers_have_no_gradient():
    w = gs.sparsify(torch.randint(-3, 4, (ROWS, COLUMNS)), gs.CSR)
    with pytest.raises(RuntimeError, match="floating point"):
        w.requires_grad_()


_WARM = """
import sys, torch, gossamer as gs
w = gs.sparsify(torch.eye(8), gs.CSR)
values = w.values.clone().requires_grad_()
x = torch.randn(8, 4, requires_grad=True)
gs.sparse_jit(lambda w, x: torch.relu(w @ x))(w.with_values(values), x).sum().backward()
print("torch_mlir" in sys.modules)
"""


def test_a_warm_process_does_not_import_torch_mlir(tmp_path):
    environment = {**os.environ, "GOSSAMER_CACHE_DIR": str(tmp_path)}
    said = [
        subprocess.run([sys.executable, "-c", textwrap.dedent(_WARM)], env=environment, capture_output=True, text=True)
        for _ in range(2)
    ]
    assert [run.stdout.strip() for run in said] == ["True", "False"], said[1].stderr


def test_what_cannot_be_traced_backwards_is_dense_and_said(monkeypatch):
    def refuse(*_):
        raise gs.TraceError("no way back")

    monkeypatch.setattr("gossamer.frontend.program.trace_gradient", refuse)
    inputs, mask = arguments()
    f = gs.sparse_jit(masked, mask=gs.CSR)
    with pytest.warns(gs.FallbackWarning, match=r"from a second forward run: no way back"):
        found = gradients(f, inputs, mask)
    for mine, theirs in zip(found, gradients(masked, inputs, mask), strict=True):
        torch.testing.assert_close(mine, theirs)
    with pytest.raises(gs.TraceError, match="no way back"):
        gradients(gs.sparse_jit(masked, mask=gs.CSR, fullgraph=True), inputs, mask)


def test_a_training_step_derives_nothing_anew():
    inputs, mask = arguments()
    f, stored = gs.sparse_jit(masked), gs.sparsify(mask, gs.CSR)
    gradients(f, inputs, stored)
    known = set(stored.pattern._derived)
    gradients(f, inputs, stored)
    assert set(stored.pattern._derived) == known
