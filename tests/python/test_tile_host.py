"""Tile programs where there is no GPU: every kind of attention against float64."""

import math
from itertools import product

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import gossamer as gs
from gossamer.attention import kind_of
from gossamer.runtime import tiles
from tile_inputs import entries, inputs

BLOCKS = [(128, 128), (128, 64), (128, 32), (128, 16), (64, 64), (64, 32), (64, 16)]
DTYPES = [torch.bfloat16, torch.float16]


pytestmark = pytest.mark.usefixtures("one_thread")


def dense(q: Tensor, k: Tensor, v: Tensor, allowed: Tensor | None, scale: float) -> tuple[Tensor, Tensor]:
    """In float64: the output, and the log-sum-exp."""
    q, k, v = q.double(), k.double(), v.double()
    repeat = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(repeat, 1), v.repeat_interleave(repeat, 1)
    scores = scale * (q @ k.transpose(-2, -1))
    if allowed is not None:
        scores = scores.masked_fill(~allowed, -math.inf)
    return torch.softmax(scores, -1).nan_to_num(0.0) @ v, torch.logsumexp(scores, -1)


def close(got: tuple[Tensor, Tensor], expected: tuple[Tensor, Tensor], dtype: torch.dtype) -> None:
    out, lse = got
    # Probabilities and the output are rounded to 8 or 11 bits.
    bound = 2e-3 if dtype == torch.float16 else 1.5e-2
    assert out.dtype == dtype
    assert torch.isfinite(out).all()
    assert (out.double() - expected[0]).norm() <= bound * expected[0].norm() + 1e-12
    assert (out.double() - expected[0]).abs().max() <= 4 * bound
    some = torch.isfinite(expected[1])
    assert torch.equal(some, torch.isfinite(lse))
    assert (lse[~some] == -math.inf).all()
    torch.testing.assert_close(lse.double()[some], expected[1][some], atol=1e-5, rtol=1e-6)


def check(shape, dtype, blocks=None, block=None, causal=False, window=None, scale=None) -> None:
    """Attention of (batch, heads, kv heads, queries, keys, columns) as a tile program on the processor."""
    q, k, v = inputs(*shape, dtype)
    queries, keys, columns = shape[3:]
    mask, allowed = None, None
    if blocks is not None:
        mask = gs.BlockList.from_dense(blocks, block, (queries, keys))
        allowed = entries(blocks, block, queries, keys)
    if causal:
        allowed = torch.ones(queries, keys, dtype=torch.bool).tril()
    if window is not None:
        assert allowed is not None
        allowed = allowed.triu(1 - window)
    scale = 1 / math.sqrt(columns) if scale is None else scale
    kind, made, why = kind_of(q, k, mask, scale, causal, window)
    assert kind is not None, why
    close(tiles.run(kind, q, k, v, made, scale, window or 0), dense(q, k, v, allowed, scale), dtype)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("columns", [64, 128, 8, 40, 96])
def test_all_keys(dtype, columns):
    check((2, 2, 2, 256, 256, columns), dtype)


@pytest.mark.parametrize("columns", [64, 128])
@pytest.mark.parametrize("length", [1, 7, 63, 65, 129, 131])
def test_ragged_lengths(columns, length):
    check((2, 3, 3, length, length, columns), torch.bfloat16)
    check((1, 2, 2, 139, length, columns), torch.float16)
    check((1, 2, 2, length, 139, columns), torch.bfloat16)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("columns", [64, 128])
def test_causal(dtype, columns):
    for length in (1, 64, 65, 257):
        check((1, 5, 5, length, length, columns), dtype, causal=True)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("columns", [64, 128])
def test_windows(dtype, columns):
    for length, window in ((1, 1), (65, 7), (263, 1), *product((391,), (2, 127, 128, 129, 130, 300, 1000))):
        check((1, 2, 1, length, length, columns), dtype, causal=True, window=window)


@pytest.mark.parametrize("columns", [64, 128])
@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_random_blocks_of_each_head(block, columns):
    for (queries, keys), density in product(((256, 384), (131, 263)), (0.0, 0.1, 0.4, 1.0)):
        blocks = torch.rand(2, 2, -(-queries // block[0]), -(-keys // block[1])) < density
        dtype = torch.bfloat16 if keys % 2 else torch.float16
        check((2, 2, 2, queries, keys, columns), dtype, blocks, block)


@pytest.mark.parametrize("lead", [(), (4,), (1, 4), (2, 1), (2, 4)], ids=str)
def test_a_list_for_some_heads(lead):
    blocks = torch.rand(*lead, 2, 3) < 0.5
    check((2, 4, 2, 255, 383, 64), torch.bfloat16, blocks, (128, 128))


@given(st.data())
def test_any_list(data):
    block = data.draw(st.sampled_from([(128, 32), (64, 16)]))
    queries, keys = data.draw(st.integers(1, 200)), data.draw(st.integers(1, 200))
    heads, group = data.draw(st.integers(1, 2)), data.draw(st.integers(1, 2))
    shape = heads, -(-queries // block[0]), -(-keys // block[1])
    count = math.prod(shape)
    listed = data.draw(st.lists(st.booleans(), min_size=count, max_size=count))
    sizes = 1, heads * group, heads, queries, keys, 8
    blocks = torch.tensor(listed).reshape(shape).repeat_interleave(group, 0)
    check(sizes, torch.bfloat16, blocks, block)


def test_large_and_small_scores():
    for scale in (1e-6, 1.0, 30.0):
        check((1, 2, 2, 200, 200, 64), torch.float16, scale=scale)


def test_the_same_every_time():
    q, k, v = inputs(2, 3, 3, 300, 300, 64, torch.bfloat16)
    kind, _, _ = kind_of(q, k, None, 0.125, causal=True)
    assert kind is not None
    first = tiles.run(kind, q, k, v, None, 0.125)
    for _ in range(5):
        again = tiles.run(kind, q, k, v, None, 0.125)
        assert torch.equal(first[0], again[0])
        assert torch.equal(first[1], again[1])


def test_nothing_to_do():
    for queries, keys in ((0, 128), (128, 0), (0, 0)):
        q, k, v = inputs(2, 2, 2, queries, keys, 64, torch.bfloat16)
        kind, _, _ = kind_of(q, k, None, 0.125, causal=False)
        assert kind is not None
        out, lse = tiles.run(kind, q, k, v, None, 0.125)
        assert out.shape == q.shape
        assert (out == 0).all()
        assert (lse == -math.inf).all()
