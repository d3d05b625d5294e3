"""The gradients of attention as tile programs where there is no GPU, against float64."""

import math
from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import gossamer as gs
from gossamer.attention import _gradient_blocks, kind_of
from gossamer.runtime.tile_autograd import Attention
from tile_inputs import entries, inputs

BLOCKS = [(128, 128), (128, 64), (64, 64)]
DTYPES = [torch.bfloat16, torch.float16]


pytestmark = pytest.mark.usefixtures("one_thread")


def dense(q: Tensor, k: Tensor, v: Tensor, allowed: Tensor | None, scale: float) -> tuple[Tensor, Tensor]:
    """The output, and the log-sum-exp, 0 for rows without any."""
    repeat = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(repeat, 1), v.repeat_interleave(repeat, 1)
    scores = scale * (q @ k.transpose(-2, -1))
    if allowed is None:
        return torch.softmax(scores, -1) @ v, torch.logsumexp(scores, -1)
    some = allowed.any(-1, keepdim=True)
    scores = scores.masked_fill(~allowed, -math.inf).masked_fill(~some, 0)
    p = torch.softmax(scores, -1) * some
    return p @ v, torch.logsumexp(scores, -1) * some[..., 0]


def check(shape, dtype, mask=None, allowed=None, scale=None, with_lse=True, **options) -> None:
    """Gradients of (batch, heads, kv heads, queries, keys, columns), by tile programs on the processor."""
    tensors = inputs(*shape, dtype)
    queries, keys, columns = shape[3:]
    scale = 1 / math.sqrt(columns) if scale is None else scale
    causal, window = options.get("causal", False), options.get("window")
    kind, blocks, why = kind_of(tensors[0], tensors[1], mask, scale, causal, window)
    assert kind is not None, why
    band = partial(_gradient_blocks, queries, keys, causal, window, torch.device("cpu"), 128)
    narrow = [tensor.clone().requires_grad_() for tensor in tensors]
    wide = [tensor.double().requires_grad_() for tensor in tensors]
    out, lse = Attention(kind, blocks, scale, window or 0, band)(*narrow)
    expected, expected_lse = dense(*wide, allowed, scale)
    out_grad, lse_grad = torch.randn_like(out), torch.randn_like(lse)
    wanted = torch.autograd.grad(
        [expected, *([expected_lse] if with_lse else [])],
        wide,
        [out_grad.double(), *([lse_grad.double()] if with_lse else [])],
    )
    got = torch.autograd.grad(
        [out, *([lse] if with_lse else [])], narrow, [out_grad, *([lse_grad] if with_lse else [])]
    )
    # Probabilities, the output and the gradients of scores are rounded to 8 or 11 bits.
    bound = 3e-3 if dtype == torch.float16 else 2e-2
    for one, other in zip(got, wanted, strict=True):
        assert one.dtype == dtype
        assert torch.isfinite(one).all()
        assert (one.double() - other).norm() <= bound * other.norm() + 1e-6


def listed(blocks: Tensor, block: tuple[int, int], queries: int, keys: int) -> tuple[gs.BlockList, Tensor]:
    """The list of blocks, and which entries they allow."""
    mask = gs.BlockList.from_dense(blocks, block, (queries, keys))
    return mask, entries(blocks, block, queries, keys)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("columns", [64, 128, 40])
def test_all_keys(dtype, columns):
    check((2, 2, 2, 256, 256, columns), dtype)
    check((2, 2, 1, 128, 256, columns), dtype, with_lse=False)


@pytest.mark.parametrize("columns", [64, 128])
@pytest.mark.parametrize("length", [1, 7, 63, 65, 129, 131])
def test_ragged_lengths(columns, length):
    check((2, 2, 2, length, length, columns), torch.bfloat16)
    check((1, 2, 1, 139, length, columns), torch.bfloat16)
    check((1, 2, 1, length, 139, columns), torch.bfloat16, with_lse=False)


@pytest.mark.parametrize("columns", [64, 128])
@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_random_blocks_of_each_head(block, columns):
    for queries, keys in ((256, 384), (131, 263)):
        for density in (0.0, 0.1, 0.4, 1.0):
            blocks = torch.rand(2, 2, -(-queries // block[0]), -(-keys // block[1])) < density
            dtype = torch.bfloat16 if keys % 2 else torch.float16
            check((2, 2, 2, queries, keys, columns), dtype, *listed(blocks, block, queries, keys))


@pytest.mark.parametrize("lead", [(), (4,), (1, 4), (2, 1), (2, 4)], ids=str)
def test_a_list_for_some_heads_that_share_keys(lead):
    blocks = torch.rand(*lead, 2, 3) < 0.5
    check((2, 4, 2, 255, 383, 64), torch.bfloat16, *listed(blocks, (128, 128), 255, 383))


@given(st.data())
def test_any_list(data):
    block = data.draw(st.sampled_from([(128, 64), (64, 64)]))
    queries, keys = data.draw(st.integers(1, 200)), data.draw(st.integers(1, 200))
    heads, group = data.draw(st.integers(1, 2)), data.draw(st.integers(1, 2))
    shape = heads * group, -(-queries // block[0]), -(-keys // block[1])
    count = math.prod(shape)
    values = data.draw(st.lists(st.booleans(), min_size=count, max_size=count))
    mask = listed(torch.tensor(values).reshape(shape), block, queries, keys)
    check((1, heads * group, heads, queries, keys, 8), torch.bfloat16, *mask)


@pytest.mark.parametrize("columns", [64, 128])
@pytest.mark.parametrize("window", [None, 1, 100, 300])
def test_causal(columns, window):
    for length in (65, 263):
        allowed = torch.ones(length, length, dtype=torch.bool).tril().triu(1 - (window or length))
        check((1, 2, 1, length, length, columns), torch.bfloat16, None, allowed, causal=True, window=window)


@pytest.mark.parametrize("block", [(128, 128), (128, 32), (64, 64), (64, 16)], ids=str)
def test_blocks_that_are_allowed_in_part(block):
    for queries, keys in ((131, 263), (256, 128)):
        allowed = torch.rand(2, queries, keys) < 0.3
        allowed[:, : queries // 2, : keys // 2] = False
        allowed[0, ::7] = False
        mask = gs.BlockList.of(allowed, block)
        check((2, 2, 1, queries, keys, 64), torch.float16, mask, allowed)
