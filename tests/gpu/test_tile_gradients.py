"""Gradients of gs.attention on tensor cores against float64, and against themselves."""

import math

import pytest
import torch
from torch import Tensor

import gossamer as gs
from gossamer.attention import attention_road
from tests.gpus import needs_cuda, needs_hopper

pytestmark = [needs_cuda, needs_hopper]
BLOCKS = [(128, 128), (128, 64), (64, 64)]


def inputs(batch, heads, kv_heads, queries, keys, columns, dtype) -> tuple[Tensor, ...]:
    """q, k, v as a projection gives them, and gradients of the output and the log-sum-exp."""
    shapes = (queries, heads), (keys, kv_heads), (keys, kv_heads)
    qkv = (torch.randn(batch, length, h, columns, device="cuda").to(dtype).transpose(1, 2) for length, h in shapes)
    return (
        *(tensor.requires_grad_() for tensor in qkv),
        torch.randn(batch, queries, heads, columns, device="cuda").to(dtype).transpose(1, 2),
        torch.randn(batch, heads, queries, device="cuda"),
    )


def expected(q, k, v, out_grad, lse_grad, allowed: Tensor | None, scale: float) -> list[Tensor]:
    """In float64; a query that sees nothing has no gradient."""
    q, k, v = (tensor.detach().double().requires_grad_() for tensor in (q, k, v))
    repeat = q.shape[1] // k.shape[1]
    scores = scale * (q @ k.repeat_interleave(repeat, 1).transpose(-2, -1))
    some = torch.ones_like(scores[..., :1], dtype=torch.bool)
    if allowed is not None:
        some = allowed.expand(scores.shape).any(-1, keepdim=True)
        scores = scores.masked_fill(~allowed, -math.inf).masked_fill(~some, 0.0)
    p = torch.softmax(scores, -1) * some
    total = (out_grad.double() * (p @ v.repeat_interleave(repeat, 1))).sum()
    if lse_grad is not None:
        total = total + (lse_grad.double() * torch.logsumexp(scores, -1) * some[..., 0]).sum()
    return list(torch.autograd.grad(total, (q, k, v)))


def check(
    shape, dtype, blocks=None, block=None, scale=None, with_lse=False, seed=0, allowed=None, causal=False, window=None
) -> None:
    torch.manual_seed(seed)
    q, k, v, out_grad, lse_grad = inputs(*shape, dtype)
    queries, keys, columns = shape[3:]
    mask = None
    if blocks is not None:
        mask = gs.BlockList.from_dense(blocks, block, (queries, keys))
        whole = blocks.repeat_interleave(block[0], -2).repeat_interleave(block[1], -1)
        allowed = whole[..., :queries, :keys]
    elif allowed is not None:
        mask = gs.BlockList.of(allowed, block)
    elif causal or window is not None:
        apart = torch.arange(queries, device="cuda")[:, None] - torch.arange(keys, device="cuda")
        allowed = apart >= (0 if causal else -window[1])
        if window is not None:
            allowed &= apart <= (window - 1 if causal else window[0])
    scale = 1 / math.sqrt(columns) if scale is None else scale
    kind, why = attention_road(q, k, v, mask, scale, causal, window)
    assert kind is not None, why
    out, lse = gs.attention(q, k, v, mask, scale=scale, causal=causal, window=window, return_lse=True)
    if with_lse:
        got = torch.autograd.grad((out, lse), (q, k, v), (out_grad, lse_grad))
    else:
        got = torch.autograd.grad(out, (q, k, v), out_grad)
    torch.cuda.synchronize()
    wanted = expected(q, k, v, out_grad, lse_grad if with_lse else None, allowed, scale)
    bound = 2e-3 if dtype == torch.float16 else 1.2e-2
    for name, one, other in zip("qkv", got, wanted, strict=True):
        assert torch.isfinite(one).all(), name
        # One key has all of a query's attention, and their gradients are 0 but for what rounding leaves.
        error = (one.double() - other).norm() / (other.norm() + 1e-3 * scale * out_grad.double().norm())
        assert error <= bound, f"gradient of {name}: relative error {error:.2e}"


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("columns", [64, 128, 8, 40, 96])
def test_all_keys(dtype, columns):
    for length in (128, 512, 1024):
        check((2, 3, 3, length, length, columns), dtype)


@pytest.mark.parametrize("columns", [64, 128])
@pytest.mark.parametrize("length", [1, 7, 63, 65, 127, 129, 521, 1024])
def test_ragged_lengths(columns, length):
    check((2, 3, 3, length, length, columns), torch.bfloat16)
    check((1, 2, 2, 300, length, columns), torch.bfloat16, with_lse=True)
    check((1, 2, 2, length, 300, columns), torch.bfloat16)


@pytest.mark.parametrize("columns", [64, 128])
@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_random_blocks_of_each_head(block, columns):
    for queries, keys in ((1024, 1024), (640, 1280), (777, 1031)):
        for seed, density in enumerate((0.0, 0.02, 0.3, 1.0)):
            torch.manual_seed(seed)
            shape = (2, 3, -(-queries // block[0]), -(-keys // block[1]))
            blocks = torch.rand(shape, device="cuda") < density
            check((2, 3, 3, queries, keys, columns), torch.bfloat16, blocks, block, with_lse=seed == 2, seed=seed)


@pytest.mark.parametrize("columns", [64, 128])
@pytest.mark.parametrize("length", [1, 64, 65, 128, 521, 2048])
def test_causal(columns, length):
    check((2, 5, 5, length, length, columns), torch.bfloat16, causal=True, with_lse=True)
    check((1, 4, 2, length, 300, columns), torch.bfloat16, causal=True)


@pytest.mark.parametrize("columns", [64, 128])
@pytest.mark.parametrize("window", [1, 2, 100, 128, 129, 513, 5000])
def test_windows(columns, window):
    for length in (65, 640, 1031):
        check((1, 4, 2, length, length, columns), torch.bfloat16, causal=True, window=window)
        check((1, 2, 1, length, length, columns), torch.bfloat16, window=(window, window // 2))


@pytest.mark.parametrize("columns", [64, 128])
@pytest.mark.parametrize("block", [(128, 128), (128, 64), (64, 64), (128, 16), (64, 32), (256, 128)], ids=str)
def test_blocks_that_are_allowed_in_part(block, columns):
    """Of each head, with queries that see nothing and keys that nobody sees."""
    for queries, keys in ((512, 512), (300, 777), (777, 300)):
        torch.manual_seed(queries)
        coarse = torch.rand(2, 4, -(-queries // 48), -(-keys // 80), device="cuda") < 0.3
        allowed = coarse.repeat_interleave(48, 2).repeat_interleave(80, 3)[..., :queries, :keys].clone()
        allowed &= torch.rand(allowed.shape, device="cuda") < 0.9
        allowed[:, :, 100:230] = False
        allowed[:, 1, :, 130:] = True
        for kv_heads in (4, 1):
            check((2, 4, kv_heads, queries, keys, columns), torch.bfloat16, allowed=allowed, block=block, with_lse=True)


def test_a_mask_that_is_a_tensor_and_one_that_is_sparse():
    q, k, v, out_grad, _ = inputs(1, 2, 2, 384, 384, 64, torch.float16)
    allowed = torch.rand(384, 384, device="cuda") < 0.3
    wanted = expected(q, k, v, out_grad, None, allowed, 0.125)
    for mask in (allowed, gs.sparsify(allowed, gs.BSR(64)), gs.sparsify(allowed, gs.CSR)):
        got = torch.autograd.grad(gs.attention(q, k, v, mask), (q, k, v), out_grad)
        for one, other in zip(got, wanted, strict=True):
            assert (one.double() - other).norm() <= 2e-3 * other.norm()


@pytest.mark.parametrize("lead", [(), (4,), (1, 4), (2, 1), (2, 4)], ids=str)
def test_heads_that_share_keys(lead):
    blocks = torch.rand(*lead, 5, 5, device="cuda") < 0.5
    for kv_heads in (1, 2, 4):
        check((2, 4, kv_heads, 600, 600, 128), torch.float16, blocks, (128, 128))
        check((2, 4, kv_heads, 600, 600, 64), torch.float16)


@pytest.mark.parametrize("columns", [64, 128])
def test_more_tiles_than_fit_at_once(columns):
    check((4, 150, 50, 190, 190, columns), torch.bfloat16)
    for block in BLOCKS:
        blocks = torch.rand(150, -(-190 // block[0]), -(-190 // block[1]), device="cuda") < 0.6
        check((4, 150, 50, 190, 190, columns), torch.bfloat16, blocks, block)


def test_large_and_small_scores():
    check((1, 2, 2, 500, 500, 64), torch.bfloat16, scale=1e-6)  # too small for float16
    for scale in (0.5, 2.0):
        check((1, 2, 2, 500, 500, 64), torch.float16, scale=scale)


def test_scores_far_below_zero():
    """The end of the keys is read as zeros, whose score is far above all others."""
    q = torch.full((1, 1, 100, 64), 4.0, device="cuda", dtype=torch.bfloat16, requires_grad=True)
    k = torch.full((1, 1, 100, 64), -4.0, device="cuda", dtype=torch.bfloat16, requires_grad=True)
    v = torch.randn(1, 1, 100, 64, device="cuda", dtype=torch.bfloat16, requires_grad=True)
    gs.attention(q, k, v, scale=1.0).float().square().sum().backward()
    for tensor in (q, k, v):
        assert torch.isfinite(tensor.grad).all()


def test_gradients_of_what_is_asked_for():
    q, k, v, out_grad, _ = inputs(1, 2, 2, 256, 256, 64, torch.bfloat16)
    whole = torch.autograd.grad(gs.attention(q, k, v), (q, k, v), out_grad)
    one = torch.autograd.grad(gs.attention(q, k.detach(), v.detach()), q, out_grad)
    assert torch.equal(one[0], whole[0])
    gs.attention(q, k, v).sum().backward()  # the gradient of the output is one number, expanded
    assert torch.isfinite(v.grad).all()


@pytest.mark.parametrize("block", [(128, 128), (64, 64)], ids=str)
@pytest.mark.parametrize("columns", [64, 128])
def test_the_same_every_time(block, columns):
    torch.manual_seed(3)
    q, k, v, out_grad, _ = inputs(2, 8, 4, 2048, 2048, columns, torch.bfloat16)
    blocks = torch.rand(2, 8, 2048 // block[0], 2048 // block[1], device="cuda") < 0.2
    mask = gs.BlockList.from_dense(blocks, block, (2048, 2048))
    first = torch.autograd.grad(gs.attention(q, k, v, mask), (q, k, v), out_grad)
    for _ in range(100):
        junk = [torch.full_like(tensor, math.nan) for tensor in (q, k, v)]  # what the next ones are written over
        del junk
        again = torch.autograd.grad(gs.attention(q, k, v, mask), (q, k, v), out_grad)
        assert all(torch.equal(*pair) for pair in zip(first, again, strict=True))


def test_nothing_to_do():
    for queries, keys in ((0, 128), (128, 0), (0, 0)):
        q, k, v, out_grad, _ = inputs(2, 2, 2, queries, keys, 64, torch.bfloat16)
        grads = torch.autograd.grad(gs.attention(q, k, v), (q, k, v), out_grad)
        assert all((grad == 0).all() for grad in grads)
