"""Block lists with packed keys on tensor cores: outputs and gradients against float64, and against themselves."""

import math

import pytest
import torch
from test_tile_gradients import expected, inputs
from torch import Tensor

import gossamer as gs
from gossamer import packing
from gossamer.attention import attention_road
from gossamer.patterns.masks import list_of
from tests.gpus import needs_cuda, needs_hopper

pytestmark = [needs_cuda, needs_hopper]
P = gs.patterns


def scattered(queries: int, keys: int, stride: int, window: int = 40) -> Tensor:
    """Causal: a window, and every so many keys."""
    query, key = torch.arange(queries, device="cuda")[:, None], torch.arange(keys, device="cuda")
    return (key <= query) & ((query - key < window) | (key % stride == stride - 1))


def run(q: Tensor, k: Tensor, v: Tensor, mask, out_grad: Tensor, lse_grad: Tensor) -> list[Tensor]:
    """The output, its log-sum-exp, and the gradients."""
    out, lse = gs.attention(q, k, v, mask, return_lse=True)
    return [out, lse, *torch.autograd.grad((out, lse), (q, k, v), (out_grad, lse_grad))]


def check(shape, allowed: Tensor, mask, dtype=torch.bfloat16) -> None:
    """(batch, heads, kv heads, queries, keys, columns)."""
    torch.manual_seed(0)
    q, k, v, out_grad, lse_grad = inputs(*shape, dtype)
    scale = 1 / math.sqrt(shape[5])
    kind, why = attention_road(q, k, v, mask, scale, False, None)
    assert kind is not None, why
    assert kind.packed
    out, lse, *grads = run(q, k, v, mask, out_grad, lse_grad)
    torch.cuda.synchronize()
    repeat = shape[1] // shape[2]
    scores = scale * (q.double() @ k.double().repeat_interleave(repeat, 1).mT).masked_fill(~allowed, -math.inf)
    wanted = torch.softmax(scores, -1).nan_to_num(0.0) @ v.double().repeat_interleave(repeat, 1)
    bound = 2e-3 if dtype == torch.float16 else 1.2e-2
    assert (out.double() - wanted).norm() <= bound * wanted.norm()
    assert torch.allclose(lse.double(), torch.logsumexp(scores, -1), atol=1e-4)
    for name, one, other in zip("qkv", grads, expected(q, k, v, out_grad, lse_grad, allowed, scale), strict=True):
        assert torch.isfinite(one).all(), name
        assert (one.double() - other).norm() <= bound * other.norm(), name


@pytest.mark.parametrize("columns", [64, 128, 40])
@pytest.mark.parametrize("block", [(128, 128), (128, 64), (128, 32), (64, 64), (64, 32)], ids=str)
def test_blocks_of_packed_keys(block, columns):
    for length, stride in ((1024, 64), (1003, 33), (897, 40)):
        allowed = scattered(length, length, stride)
        mask = packing.packed(gs.BlockList.of(allowed, block))
        dtype = torch.float16 if length == 1024 else torch.bfloat16
        check((2, 4, 2, length, length, columns), allowed, mask, dtype)


@pytest.mark.parametrize("length", [2048, 3001])
def test_the_mask_alone_says_what_is_packed(length):
    allowed = scattered(length, length, 128, window=128)
    for mask in (allowed, gs.sparsify(allowed, gs.CSR)):
        check((1, 4, 4, length, length, 128), allowed, mask)


@pytest.mark.parametrize("is_causal", [True, False])
def test_patterns(is_causal):
    q_len, kv_len = 2000, 1777
    pattern = P.sliding_window(100) | P.global_tokens(list(range(5, kv_len, 90)), rows=False)
    pattern = P.causal() & pattern if is_causal else pattern
    mask = list_of(pattern, q_len, kv_len, torch.device("cuda", 0), 2, 4)
    assert mask.packed_rows
    allowed = pattern.blocks(q_len, kv_len, device="cuda").to_dense()
    assert torch.equal(mask.to_mask().to_dense(), allowed[0, 0])
    for one in (pattern, pattern.mask(q_len, kv_len, device="cuda")):
        check((2, 4, 1, q_len, kv_len, 64), allowed, one)


def test_keys_of_each_kv_head_made_on_the_device():
    keys = torch.stack([torch.randperm(900, device="cuda")[:128].sort().values for _ in range(4)]).view(2, 2, 128)
    allowed = torch.zeros(2, 4, 512, 900, dtype=torch.bool, device="cuda")
    allowed.scatter_(3, keys.repeat_interleave(2, 1)[:, :, None].expand(-1, -1, 512, -1), True)
    count = torch.ones(2, 4, 4, dtype=torch.int32, device="cuda")
    index = torch.zeros(2, 4, 4, 1, dtype=torch.int32, device="cuda")
    torch.cuda.set_sync_debug_mode("error")
    try:
        mask = gs.BlockList(count, index, 128, (512, 900), packed_keys=keys.to(torch.int32), check=False)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    check((2, 4, 2, 512, 900, 128), allowed, mask)
    gs.BlockList(count, index, 128, (512, 900), packed_keys=keys.to(torch.int32))  # nor does a check find fault


def test_the_same_every_time():
    allowed = scattered(4096, 4096, 128, window=128)
    q, k, v, out_grad, lse_grad = inputs(2, 8, 4, 4096, 4096, 128, torch.bfloat16)
    first = run(q, k, v, allowed, out_grad, lse_grad)
    for _ in range(20):
        for one, other in zip(run(q, k, v, allowed, out_grad, lse_grad), first, strict=True):
            assert torch.equal(one, other)


def test_in_a_graph():
    mask = gs.BlockList.of(scattered(1024, 1024, 64))
    assert mask.packed_rows
    q, k, v, *_ = (tensor.detach() for tensor in inputs(1, 2, 2, 1024, 1024, 128, torch.bfloat16))
    expected_out = gs.attention(q, k, v, mask)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out = gs.attention(q, k, v, mask)
    out.zero_()
    graph.replay()
    assert torch.equal(out, expected_out)
