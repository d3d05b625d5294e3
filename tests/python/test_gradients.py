"""Compiled backward regions against PyTorch's gradients of the same function on dense tensors."""

import inspect
import warnings

import pytest
import torch

import gossamer as gs
from frontend_cases import CASES
from gossamer.execute import sample

# what PyTorch runs densely in the backward, beside what it runs so in the forward
DENSE_BACKWARD: dict[str, set[str]] = {}


def stored(case, args):
    """The arguments of a case, the annotated ones as SparseTensors, with all that is floating wanting a gradient."""
    names = list(inspect.signature(case.function).parameters)
    made = []
    for name, arg in zip(names, args, strict=True):
        if name in case.formats:
            fill = -torch.inf if bool((arg == -torch.inf).any()) else None
            arg = gs.sparsify(arg, case.formats[name], fill=fill)
        if arg.is_floating_point():
            (arg.values if isinstance(arg, gs.SparseTensor) else arg).requires_grad_()
        made.append(arg)
    return made


def leaves(args):
    return [arg.values if isinstance(arg, gs.SparseTensor) else arg for arg in args if arg.is_floating_point()]


def gradients(function, args, wanted, seeds):
    results = function(*args)
    results = results if isinstance(results, tuple) else (results,)
    results = [r.to_dense() if isinstance(r, gs.SparseTensor) else r for r in results]
    return torch.autograd.grad(results, wanted, seeds[: len(results)], allow_unused=True), results


@pytest.mark.parametrize("case", CASES, ids=str)
def test_like_dense(case):
    plain = case.args()
    args = stored(case, plain)
    for arg in plain:
        if arg.is_floating_point():
            arg.requires_grad_()
    results = case.function(*plain)
    seeds = [torch.randn_like(r) for r in (results if isinstance(results, tuple) else (results,))]
    f = gs.sparse_jit(case.function, **case.formats)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore" if case.fallbacks else "error")
        found, _ = gradients(f, args, leaves(args), seeds)
    expected, _ = gradients(case.function, plain, leaves(plain), seeds)
    floating = [arg for arg in args if arg.is_floating_point()]
    for arg, mine, theirs in zip(floating, found, expected, strict=True):
        if isinstance(arg, gs.SparseTensor):
            theirs = sample(theirs, arg.pattern, 0).values
        torch.testing.assert_close(mine, theirs)


def test_masks_broadcast_to_nothing() -> None:
    """No batches, and no rows under a dense level after the sparse ones."""
    rows_last = gs.Format("(i, j) -> (j : compressed, i : dense)")
    for format, batch, rows in ((rows_last, 2, 0), (rows_last, 0, 6), (gs.CSR, 0, 6), (gs.BSR(2), 0, 6)):
        mask = gs.sparsify(torch.rand(rows, 8) < 0.5, format)
        q, k, v = (torch.randn(batch, n, 4, requires_grad=True) for n in (rows, 8, 8))
        attention = gs.sparse_jit(lambda q, k, v, m: torch.softmax((q @ k.mT).masked_fill(~m, -torch.inf), -1) @ v)
        attention(q, k, v, mask).sum().backward()
        for tensor in (q, k, v):
            assert torch.equal(tensor.grad, torch.zeros_like(tensor))
