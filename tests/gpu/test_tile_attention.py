"""gs.attention on tensor cores against float64, and against itself."""

import math

import pytest
import torch
from torch import Tensor

import gossamer as gs
from gossamer.attention import kind_of
from tests.gpus import needs_cuda, needs_hopper

pytestmark = [needs_cuda, needs_hopper]
BLOCKS = [(128, 128), (128, 64), (128, 32), (128, 16), (64, 64), (64, 32), (64, 16)]


def dense(q: Tensor, k: Tensor, v: Tensor, allowed: Tensor | None, scale: float) -> tuple[Tensor, Tensor]:
    """In float64: the output, and the log-sum-exp."""
    q, k, v = q.double(), k.double(), v.double()
    repeat = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(repeat, 1), v.repeat_interleave(repeat, 1)
    scores = scale * (q @ k.transpose(-2, -1))
    if allowed is not None:
        scores = scores.masked_fill(~allowed, -math.inf)
    return torch.softmax(scores, -1).nan_to_num(0.0) @ v, torch.logsumexp(scores, -1)


def inputs(batch, heads, kv_heads, queries, keys, columns, dtype) -> tuple[Tensor, Tensor, Tensor]:
    """As a projection gives them: heads beside one another."""
    shapes = (queries, heads), (keys, kv_heads), (keys, kv_heads)
    return tuple(
        torch.randn(batch, length, h, columns, device="cuda").to(dtype).transpose(1, 2) for length, h in shapes
    )


def entries(blocks: Tensor, block: tuple[int, int], queries: int, keys: int) -> Tensor:
    whole = blocks.repeat_interleave(block[0], -2).repeat_interleave(block[1], -1)
    return whole[..., :queries, :keys]


def close(got: tuple[Tensor, Tensor], expected: tuple[Tensor, Tensor], dtype: torch.dtype) -> None:
    out, lse = got
    bound = 1.5e-3 if dtype == torch.float16 else 1e-2
    assert torch.isfinite(out).all()
    norm = expected[0].norm()
    assert (out.double() - expected[0]).norm() <= bound * norm + 1e-12
    assert (out.double() - expected[0]).abs().max() <= 6 * bound
    some = torch.isfinite(expected[1])
    assert torch.equal(some, torch.isfinite(lse))
    assert (lse[~some] == -math.inf).all()
    if some.any():
        assert ((lse.double() - expected[1])[some].abs() <= 1e-5 + 1e-6 * expected[1][some].abs()).all()


def check(shape, dtype, blocks=None, block=None, causal=False, window=None, scale=None, seed=0) -> None:
    torch.manual_seed(seed)
    q, k, v = inputs(*shape, dtype)
    queries, keys, columns = shape[3:]
    mask, allowed = None, None
    if blocks is not None:
        mask = gs.BlockList.from_dense(blocks, block, (queries, keys))
        allowed = entries(blocks, block, queries, keys)
    if causal:
        allowed = torch.ones(queries, keys, dtype=torch.bool, device="cuda").tril()
    if window is not None:
        allowed = allowed.triu(1 - window)
    scale = 1 / math.sqrt(columns) if scale is None else scale
    kind, _, why = kind_of(q, k, mask, scale, causal, window)
    assert kind is not None, why
    got = gs.attention(q, k, v, mask, scale=scale, causal=causal, window=window, return_lse=True)
    torch.cuda.synchronize()
    close(got, dense(q, k, v, allowed, scale), dtype)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("columns", [64, 128, 8, 40, 96])
def test_all_keys(dtype, columns):
    for length in (128, 512, 1024):
        check((2, 3, 3, length, length, columns), dtype)


@pytest.mark.parametrize("columns", [64, 128])
@pytest.mark.parametrize("length", [1, 7, 63, 65, 127, 129, 521, 1024])
def test_ragged_lengths(columns, length):
    check((2, 3, 3, length, length, columns), torch.bfloat16)
    check((1, 2, 2, 300, length, columns), torch.bfloat16)
    check((1, 2, 2, length, 300, columns), torch.bfloat16)


@pytest.mark.parametrize("columns", [64, 128])
@pytest.mark.parametrize("length", [1, 64, 65, 128, 521, 2048])
def test_causal(columns, length):
    check((2, 5, 5, length, length, columns), torch.bfloat16, causal=True)


@pytest.mark.parametrize("columns", [64, 128])
@pytest.mark.parametrize("window", [1, 2, 100, 127, 128, 129, 130, 300, 512, 513, 2000, 5000])
def test_windows(columns, window):
    for length in (65, 640, 1031, 2048):
        check((1, 3, 1, length, length, columns), torch.bfloat16, causal=True, window=window)


@pytest.mark.parametrize("columns", [64, 128])
@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_random_blocks_of_each_head(block, columns):
    for queries, keys in ((1024, 1024), (640, 1280), (777, 1031)):
        for seed, density in enumerate((0.0, 0.02, 0.3, 1.0)):
            torch.manual_seed(seed)
            shape = (2, 3, -(-queries // block[0]), -(-keys // block[1]))
            blocks = torch.rand(shape, device="cuda") < density
            check((2, 3, 3, queries, keys, columns), torch.bfloat16, blocks, block, seed=seed)


@pytest.mark.parametrize("lead", [(), (4,), (1, 4), (2, 1), (2, 4)], ids=str)
def test_a_list_for_some_heads(lead):
    blocks = torch.rand(*lead, 5, 5, device="cuda") < 0.5
    check((2, 4, 2, 600, 600, 128), torch.float16, blocks, (128, 128))


def test_large_and_small_scores():
    for scale in (1e-6, 1.0, 30.0):
        check((1, 2, 2, 512, 512, 64), torch.float16, scale=scale)


def test_a_mask_stored_as_blocks_and_views():
    allowed = (torch.rand(6, 6, device="cuda") < 0.4).repeat_interleave(128, 0).repeat_interleave(128, 1)
    qkv = torch.randn(2, 768, 3, 4, 64, device="cuda", dtype=torch.bfloat16)
    q, k, v = (part.transpose(1, 2) for part in qkv.unbind(2))
    mask = gs.sparsify(allowed, gs.BSR(128))
    out, lse = gs.attention(q, k, v, mask, return_lse=True)
    close((out, lse), dense(q, k, v, allowed, 0.125), torch.bfloat16)
    assert "fast" in str(gs.explain(gs.attention, q, k, v, mask))


@pytest.mark.parametrize("block", [(128, 128), (64, 64), (128, 32)], ids=str)
@pytest.mark.parametrize("columns", [64, 128])
def test_the_same_every_time(block, columns):
    torch.manual_seed(3)
    q, k, v = inputs(2, 8, 8, 2048, 2048, columns, torch.bfloat16)
    blocks = torch.rand(2, 8, 2048 // block[0], 2048 // block[1], device="cuda") < 0.2
    mask = gs.BlockList.from_dense(blocks, block, (2048, 2048))
    first = gs.attention(q, k, v, mask, return_lse=True)
    for _ in range(150):
        junk = torch.full_like(q, math.nan)  # what the next output is written over
        del junk
        again = gs.attention(q, k, v, mask, return_lse=True)
        assert torch.equal(again[0], first[0])
        assert torch.equal(again[1], first[1])


def test_in_a_graph_and_on_another_stream():
    q, k, v = inputs(2, 8, 8, 1024, 1024, 128, torch.bfloat16)
    expected = gs.attention(q, k, v)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        assert torch.equal(gs.attention(q, k, v), expected)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out = gs.attention(q, k, v)
    for _ in range(3):
        out.fill_(math.nan)
        graph.replay()
        torch.cuda.synchronize()
        assert torch.equal(out, expected)


def test_nothing_to_do():
    for queries, keys in ((0, 128), (128, 0), (0, 0)):
        q, k, v = inputs(2, 2, 2, queries, keys, 64, torch.bfloat16)
        out, lse = gs.attention(q, k, v, return_lse=True)
        assert out.shape == q.shape
        assert (out == 0).all()
        assert (lse == -math.inf).all()


def test_what_is_not_for_tensor_cores_runs_otherwise():
    q, k, v = inputs(1, 2, 2, 256, 256, 64, torch.float32)
    blocks = torch.eye(2, dtype=torch.bool, device="cuda")
    mask = gs.BlockList.from_dense(blocks, 128, (256, 256))
    out = gs.attention(q, k, v, mask)
    expected, _ = dense(q, k, v, entries(blocks, (128, 128), 256, 256), 0.125)
    torch.testing.assert_close(out.double(), expected, atol=1e-3, rtol=1e-3)
    with pytest.raises(gs.UnsupportedError, match=r"bfloat16 and float16, not torch\.float32"):
        gs.attention(q, k, v, mask, return_lse=True)
