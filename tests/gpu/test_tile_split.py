"""gs.attention of few queries and of keys that thread blocks share, on tensor cores against float64 and itself."""

import pytest
import torch
from test_tile_attention import close, dense, entries, inputs, pytestmark  # noqa: F401
from torch import Tensor

import gossamer as gs
from gossamer.attention import kind_of

BLOCKS = [(64, 64), (64, 128), (128, 128), (64, 32), (64, 16), (1, 64)]


def check(shape, dtype=torch.bfloat16, mask=None, allowed: Tensor | None = None, splits=True, seed=0) -> None:
    torch.manual_seed(seed)
    q, k, v = inputs(*shape, dtype)
    kind, _, why = kind_of(q, k, mask, 0.125, causal=False)
    assert kind is not None, why
    assert (kind.split.parts > 1) == splits
    got = gs.attention(q, k, v, mask, scale=0.125, return_lse=True)
    torch.cuda.synchronize()
    close(got, dense(q, k, v, allowed, 0.125), dtype)
    assert got[0].shape == q.shape
    for _ in range(3):  # whichever part is last
        again = gs.attention(q, k, v, mask, scale=0.125, return_lse=True)
        assert torch.equal(again[0], got[0])
        assert torch.equal(again[1], got[1])


def random_list(lead, block, queries: int, keys: int, density: float) -> tuple[gs.BlockList, Tensor]:
    blocks = torch.rand(*lead, -(-queries // block[0]), -(-keys // block[1]), device="cuda") < density
    return gs.BlockList.from_dense(blocks, block, (queries, keys)), entries(blocks, block, queries, keys)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("columns", [64, 128, 40])
def test_all_keys(columns, dtype):
    for batch, heads, kv_heads, queries, keys in (
        (8, 32, 8, 1, 4096), (1, 8, 8, 1, 16384), (1, 32, 8, 3, 5003), (2, 16, 1, 4, 2111), (3, 4, 2, 7, 1031),
    ):  # fmt: skip
        check((batch, heads, kv_heads, queries, keys, columns), dtype)


@pytest.mark.parametrize("columns", [64, 128])
@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_lists_of_each_batch(block, columns):
    for keys in (4096, 3011):
        for density in (0.0, 0.1, 0.5, 1.0):
            mask, allowed = random_list((4, 1), block, 1, keys, density)
            check((4, 32, 8, 1, keys, columns), mask=mask, allowed=allowed)


@pytest.mark.parametrize("columns", [64, 128])
@pytest.mark.parametrize("block", [(64, 64), (128, 128), (64, 16)], ids=str)
@pytest.mark.parametrize("queries", [1, 3, 16])
def test_bitmaps(queries, block, columns):
    torch.manual_seed(queries)
    keys = 4101
    allowed = torch.rand(4, 1, queries, keys, device="cuda") < 0.3
    allowed[..., 128:2048] = True
    allowed[..., 2500:3000] = False
    for batch, length in enumerate((4101, 65, 1, 3000)):
        allowed[batch, ..., length:] = False
    allowed[2, ..., -1, :] = False
    mask = gs.BlockList.of(allowed, block)
    assert mask.has_partial
    check((4, 16, 4, queries, keys, columns), mask=mask, allowed=allowed)


def test_padding():
    lengths = torch.tensor([1, 700, 4000], device="cuda")
    torch.manual_seed(0)
    q, k, v = inputs(3, 16, 4, 2, 4000, 128, torch.bfloat16)
    allowed = (torch.arange(4000, device="cuda") < lengths[:, None])[:, None, None].expand(3, 1, 2, 4000)
    got = gs.attention(q, k, v, gs.patterns.key_padding(lengths), scale=0.125, return_lse=True)
    close(got, dense(q, k, v, allowed, 0.125), torch.bfloat16)


def test_lists_of_each_head():
    mask, allowed = random_list((2, 8), (64, 64), 1, 4096, 0.3)
    check((2, 8, 4, 1, 4096, 128), mask=mask, allowed=allowed)


@pytest.mark.parametrize("block", [None, (128, 128), (128, 32), (64, 64)], ids=str)
def test_many_queries_of_few_heads(block):
    for queries, keys in ((256, 16384), (139, 9001)):
        mask, allowed = (None, None) if block is None else random_list((2, 1), block, queries, keys, 0.6)
        check((2, 4, 2, queries, keys, 128), mask=mask, allowed=allowed)


def test_a_cache_that_grows():
    """Views of one, whose strides stay; and lists of the last blocks, with room for as many."""
    torch.manual_seed(0)
    q, k, v = inputs(2, 16, 4, 1, 3000, 128, torch.bfloat16)
    for length in (600, 601, 1000, 1023, 1024, 2999):
        keys, values = k[:, :, :length], v[:, :, :length]
        got = gs.attention(q, keys, values, scale=0.125, return_lse=True)
        close(got, dense(q, keys, values, None, 0.125), torch.bfloat16)
        blocks = -(-length // 64)
        index = torch.arange(blocks - 9, blocks, dtype=torch.int32, device="cuda").expand(2, 1, 1, 9)
        count = torch.full((2, 1, 1), 9, dtype=torch.int32, device="cuda")
        mask = gs.BlockList(count, index, 64, (1, length))
        allowed = torch.arange(length, device="cuda").expand(2, 1, 1, length) >= (blocks - 9) * 64
        got = gs.attention(q, keys, values, mask, scale=0.125, return_lse=True)
        close(got, dense(q, keys, values, allowed, 0.125), torch.bfloat16)


@pytest.mark.parametrize("block", [None, (64, 64), (128, 128)], ids=str)
def test_cuda_graphs(block):
    torch.manual_seed(0)
    q, k, v = inputs(4, 32, 8, 1, 4096, 128, torch.bfloat16)
    mask, allowed = (None, None) if block is None else random_list((4, 1), block, 1, 4096, 0.2)
    gs.attention(q, k, v, mask, scale=0.125)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out, lse = gs.attention(q, k, v, mask, scale=0.125, return_lse=True)
    for _ in range(5):
        for tensor in (q, k, v):
            tensor.copy_(torch.randn_like(tensor))
        out.fill_(7)
        graph.replay()
        graph.replay()
        close((out, lse), dense(q, k, v, allowed, 0.125), torch.bfloat16)


def test_streams_side_by_side():
    """Parts of calls on several streams meet at counters of their own."""
    torch.manual_seed(0)
    q, k, v = inputs(2, 8, 2, 1, 4096, 128, torch.bfloat16)
    expected = gs.attention(q, k, v, scale=0.125)
    torch.cuda.synchronize()
    streams, results = [torch.cuda.Stream() for _ in range(4)], []
    for _ in range(50):
        for stream in streams:
            with torch.cuda.stream(stream):
                results.append(gs.attention(q, k, v, scale=0.125))
    torch.cuda.synchronize()
    assert all(torch.equal(result, expected) for result in results)


def test_gradients():
    torch.manual_seed(0)
    mask, allowed = random_list((2, 1), (64, 128), 2, 2048, 0.4)
    q, k, v = (tensor.requires_grad_() for tensor in inputs(2, 8, 2, 2, 2048, 128, torch.bfloat16))
    out = gs.attention(q, k, v, mask, scale=0.125)
    grad = torch.randn_like(out)
    got = torch.autograd.grad(out, (q, k, v), grad)
    wanted = torch.autograd.grad(dense(q, k, v, allowed, 0.125)[0], (q, k, v), grad.double())
    for one, other in zip(got, wanted, strict=True):
        assert (one - other).float().norm() <= 2e-2 * other.float().norm()


@pytest.mark.parametrize("mode", ["default", "reduce-overhead"])
def test_under_torch_compile(mode):
    torch._dynamo.reset()
    torch.manual_seed(0)
    q, k, v = inputs(2, 8, 2, 3, 2048, 128, torch.bfloat16)
    mask, _ = random_list((2, 1), (64, 64), 3, 2048, 0.4)
    compiled = torch.compile(lambda q, k, v: gs.attention(q * 2, k, v, mask), fullgraph=True, mode=mode)
    for _ in range(4):
        torch.compiler.cudagraph_mark_step_begin()
        torch.testing.assert_close(compiled(q, k, v).clone(), gs.attention(q * 2, k, v, mask), rtol=0, atol=0)


def test_what_is_said_of_it():
    q, k, v = inputs(8, 32, 8, 1, 4096, 128, torch.bfloat16)
    assert "4 heads a tile, keys in 4 parts" in str(gs.explain(gs.attention, q, k, v))
