"""gs.attention with heads of 129 to 256 columns on tensor cores, against float32; its gradients on another road."""

import math

import pytest
import torch

import gossamer as gs
from tests.gpus import needs_cuda, needs_hopper

pytestmark = [needs_cuda, needs_hopper]
QUERIES, KEYS = 521, 389


def qkv(columns, dtype=torch.bfloat16, queries=QUERIES, keys=KEYS, heads=4, kv_heads=2):
    torch.manual_seed(0)
    shapes = (queries, heads), (keys, kv_heads), (keys, kv_heads)
    return [torch.randn(2, length, h, columns, device="cuda").to(dtype).transpose(1, 2) for length, h in shapes]


def check(tensors, mask, allowed, **options):
    out, lse = gs.attention(*tensors, mask, return_lse=True, **options)
    again, _ = gs.attention(*tensors, mask, return_lse=True, **options)
    assert torch.equal(out, again)
    q, k, v = (tensor.double() for tensor in tensors)
    repeat = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(repeat, 1), v.repeat_interleave(repeat, 1)
    scores = q @ k.mT / math.sqrt(q.shape[3])
    scores = scores if allowed is None else scores.masked_fill(~allowed, -math.inf)
    wanted = torch.softmax(scores, -1).nan_to_num(0.0) @ v
    bound = 2e-3 if out.dtype == torch.float16 else 1.5e-2
    assert (out.double() - wanted).norm() <= bound * wanted.norm() + 1e-12
    assert (out.double() - wanted).abs().max() <= 4 * bound
    torch.testing.assert_close(lse.double(), torch.logsumexp(scores, -1), atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("columns", [136, 192, 200, 256])
def test_all_keys(columns, dtype):
    for queries, keys in ((1, 1), (7, 63), (65, 131), (2048, 1024)):
        check(qkv(columns, dtype, queries, keys), None, None)


@pytest.mark.parametrize("columns", [160, 256])
@pytest.mark.parametrize("block", [(128, 128), (128, 64), (128, 32), (128, 16), (64, 64), (64, 32), (64, 16)], ids=str)
def test_lists(columns, block):
    torch.manual_seed(1)
    rows, across = -(-QUERIES // block[0]), -(-KEYS // block[1])
    blocks = torch.rand(1, 4, rows, across, device="cuda") < 0.4
    blocks[:, :, 1] = False
    whole = blocks.repeat_interleave(block[0], 2).repeat_interleave(block[1], 3)
    check(qkv(columns), gs.BlockList.from_dense(blocks, block, (QUERIES, KEYS)), whole[..., :QUERIES, :KEYS])


@pytest.mark.parametrize("columns", [160, 256])
@pytest.mark.parametrize("block", [None, 128, (128, 64), (128, 32), (64, 64), (64, 32), (64, 16)], ids=str)
def test_masks_within_blocks(columns, block):
    torch.manual_seed(2)
    allowed = torch.rand(4, QUERIES, KEYS, device="cuda") < 0.5
    allowed[:, 100:200, 64:256] = True
    allowed[:, 200:300] = False
    check(qkv(columns), gs.BlockList.of(allowed, block), allowed)


@pytest.mark.parametrize("columns", [136, 256])
def test_causal_and_windows(columns):
    ones = torch.ones(1000, 1000, dtype=torch.bool, device="cuda")
    tensors = qkv(columns, queries=1000, keys=1000)
    check(tensors, None, ones.tril(), causal=True)
    check(tensors, None, ones.tril().triu(-99), causal=True, window=100)
    check(tensors, None, ones.tril(300).triu(-600), window=(600, 300))
    check(tensors, gs.patterns.causal(), ones.tril())


def test_many_tiles_of_a_head_are_the_same_every_time():
    tensors = qkv(256, queries=4096, keys=4096, heads=16, kv_heads=16)
    mask = gs.BlockList.from_dense(torch.rand(16, 32, 64, device="cuda") < 0.2, (128, 64), (4096, 4096))
    first = gs.attention(*tensors, mask)
    for _ in range(50):
        assert torch.equal(gs.attention(*tensors, mask), first)


def test_gradients_take_another_road():
    tensors = [tensor.requires_grad_() for tensor in qkv(256, kv_heads=4)]
    with torch.no_grad():
        kept = gs.attention(*tensors)
        assert "heads of 256" in str(gs.explain(gs.attention, *tensors))
    out = gs.attention(*tensors)
    torch.testing.assert_close(out, kept, rtol=2e-2, atol=2e-2)
    assert "its gradients take heads of up to 128 columns, not 256" in str(gs.explain(gs.attention, *tensors))
    assert all(grad.isfinite().all() for grad in torch.autograd.grad(out, tensors, torch.randn_like(out)))


def test_under_torch_compile():
    compiled = torch.compile(lambda q, k, v: gs.attention(q * 2, k, v, causal=True), fullgraph=True)
    q, k, v = qkv(192, keys=QUERIES)
    torch.testing.assert_close(compiled(q, k, v), gs.attention(q * 2, k, v, causal=True), rtol=0, atol=0)
    leaves = [tensor.clone().requires_grad_() for tensor in (q, k, v)]
    assert torch.autograd.grad(compiled(*leaves).sum(), leaves)[0].shape == q.shape
