"""Attention in half precision against float64, forward and backward: blocks that fill vectors and that do not."""

import math
import warnings

import pytest
import torch
from torch import Tensor

import gossamer as gs


def boolean(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    return torch.softmax((q @ k.mT * 0.25).masked_fill(~mask, -math.inf), -1) @ v


def additive(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    return torch.softmax(q @ k.mT * 0.25 + mask, -1) @ v


def reference(q: Tensor, k: Tensor, v: Tensor, bias: Tensor, keep: Tensor) -> Tensor:
    scores = (q @ k.mT * 0.25 + bias).masked_fill(~keep, -math.inf)
    nothing = ~keep.any(-1, keepdim=True)
    return torch.softmax(scores.masked_fill(nothing, 0.0), -1).masked_fill(nothing, 0.0) @ v


def allowed(heads: int, rows: int, columns: int, block: tuple[int, int]) -> Tensor:
    """Most of some blocks; the first row of blocks has nothing, nor has a row inside another."""
    blocks = torch.rand(heads, rows, 1, columns, 1) < 0.6
    keep = blocks.expand(heads, rows, block[0], columns, block[1]).flatten(3).flatten(1, 2)
    keep = keep & (torch.rand(keep.shape) < 0.7)
    keep[:, : block[0]] = False
    keep[:, block[0] + 1] = False
    return keep


def check(result: Tensor, expected: Tensor, dtype: torch.dtype) -> None:
    """Scores, weights and result are rounded, as PyTorch does it; sums are carried in float32."""
    assert result.dtype == dtype
    limit = 8 * torch.finfo(dtype).eps * max(1.0, expected.abs().max().item())
    torch.testing.assert_close(result.double(), expected, rtol=0.0, atol=limit)


@pytest.mark.parametrize(
    ("block", "dtype"),
    [((16, 16), torch.float16), ((24, 24), torch.bfloat16), ((64, 64), torch.bfloat16), ((1, 1), torch.float16)],
    ids=str,
)
def test_boolean(block: tuple[int, int], dtype: torch.dtype) -> None:
    _check_all(boolean, block, dtype)


@pytest.mark.parametrize(("block", "dtype"), [((32, 32), torch.bfloat16), ((24, 8), torch.float16)], ids=str)
def test_additive(block: tuple[int, int], dtype: torch.dtype) -> None:
    _check_all(additive, block, dtype)


def _check_all(function, block: tuple[int, int], dtype: torch.dtype) -> None:
    format = gs.BSR(block) if block != (1, 1) else gs.CSR
    compiled = gs.sparse_jit(function, mask=format)
    for heads, rows, columns, d, e in ((3, 3, 4, 16, 16), (2, 5, 2, 7, 13)):
        keep = allowed(heads, rows, columns, block)
        q, k, v = (
            torch.randn(2, heads, *size).to(dtype).requires_grad_()
            for size in ((keep.shape[1], d), (keep.shape[2], d), (keep.shape[2], e))
        )
        wide = [x.detach().double().requires_grad_() for x in (q, k, v)]
        bias = torch.zeros(keep.shape)
        if function is boolean:
            mask = gs.sparsify(keep, format)
        else:
            bias = torch.randn(keep.shape).to(dtype)
            mask = gs.sparsify(bias.masked_fill(~keep, -math.inf), format, fill=-math.inf)
        with warnings.catch_warnings():
            warnings.simplefilter("error", gs.FallbackWarning)
            result = compiled(q, k, v, mask)
            direction = torch.randn(result.shape).to(dtype)
            gradients = torch.autograd.grad(result, (q, k, v), direction)
        expected = reference(*wide, bias.double(), keep)
        check(result, expected, dtype)
        for got, want in zip(gradients, torch.autograd.grad(expected, wide, direction.double()), strict=True):
            check(got, want, dtype)
