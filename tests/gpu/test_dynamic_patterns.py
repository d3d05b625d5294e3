"""Patterns by content on a GPU: lists as the CPU makes them, without waiting for it, and in CUDA graphs."""

import gc
import math
from collections.abc import Callable
from functools import partial
from typing import TypeVar

import pytest
import torch
from torch import Tensor

import gossamer as gs
from gossamer.turned import transposed
from tests.block_scores import scores_of
from tests.gpus import needs_cuda, needs_hopper

pytestmark = needs_cuda
Made = TypeVar("Made")
SIZES = [(1, 7, 64), (65, 129, 64), (500, 700, (64, 32)), (2048, 4096, 128), (130, 65, (128, 16))]


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


def waiting_is_an_error(make: Callable[[], Made]) -> Made:
    """Runs a function whose kernels are compiled, and does not let it wait."""
    make()
    torch.cuda.synchronize()
    mode = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("error")
    try:
        return make()
    finally:
        torch.cuda.set_sync_debug_mode(mode)


def assert_same(one: gs.BlockList, other: gs.BlockList) -> None:
    """A list of a GPU has what one of the CPU has, in all places that are used."""

    def listed(count: Tensor | None, index: Tensor | None) -> Tensor:
        assert count is not None
        assert index is not None
        return torch.where(torch.arange(index.shape[-1]) < count.cpu()[..., None], index.cpu(), -1)

    assert (one.block, one.shape) == (other.block, other.shape)
    assert torch.equal(one.count.cpu(), other.count)
    assert torch.equal(listed(one.count, one.index), listed(other.count, other.index))
    assert one.has_partial == other.has_partial
    if one.has_partial:
        assert one.bits is not None
        assert other.bits is not None
        assert torch.equal(
            listed(one.partial_count, one.partial_index), listed(other.partial_count, other.partial_index)
        )
        numbers = [listed(of.partial_count, of.partial_bits) for of in (one, other)]
        assert torch.equal(numbers[0] >= 0, numbers[1] >= 0)
        mine, wanted = (number[number >= 0].long() for number in numbers)
        assert torch.equal(one.bits.cpu()[mine], other.bits[wanted])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", ["any", "ties", "odd"])
def test_topk(kind, dtype):
    for queries, keys, block in SIZES:
        scores = scores_of(kind, queries, keys, block, dtype)
        there = scores.cuda()
        for k in {1, -(-scores.shape[-1] // 3), scores.shape[-1]}:
            for options in ({}, {"causal": True}, {"causal": True, "sinks": 1, "local": 1}, {"local": 1}):
                if sum(value for value in options.values() if value is not True) > k:
                    continue
                options = {"block": block, "shape": (queries, keys), **options}
                made = waiting_is_an_error(partial(gs.topk_blocks, there, k, **options))
                wanted = gs.topk_blocks(scores, k, **options)
                assert_same(made, wanted)
                assert_same(waiting_is_an_error(partial(transposed, made)), wanted.transposed())
                assert torch.equal(made.order(2, 3, 1 << 22).cpu(), wanted.order(2, 3, 1 << 22))


def test_topk_of_large_rows():
    scores = torch.randn(1, 2, 64, 4096)
    made = gs.topk_blocks(scores.cuda(), 300, block=(64, 16), shape=(4096, 65536))
    wanted = gs.topk_blocks(scores, 300, block=(64, 16), shape=(4096, 65536))
    assert_same(made, wanted)
    assert_same(made.transposed(), wanted.transposed())


def test_thresholds():
    for queries, keys, block in SIZES:
        scores = scores_of("weights", queries, keys, block, torch.float32)
        there = scores.cuda()
        for given in ({"threshold": 0.25}, {"mass": 0.5}, {"mass": 1.0, "sinks": 1, "capacity": 3}):
            options = {"block": block, "shape": (queries, keys), "causal": True, **given}
            made = waiting_is_an_error(partial(gs.threshold_blocks, there, **options))
            wanted = gs.threshold_blocks(scores, **options)
            assert_same(made, wanted)
            assert torch.equal(made.needed.cpu(), wanted.needed)
    with pytest.raises(gs.TensorError, match="capacity of 2"):
        gs.threshold_blocks(torch.ones(4, 5, device="cuda"), 0.5, block=64, shape=(256, 320), capacity=2).check()


def test_masks_of_entries():
    for queries, keys, block in SIZES:
        allowed = torch.rand(1, 2, queries, keys) < 0.05
        allowed[0, 0, : queries // 2] = True
        there = allowed.cuda()
        wanted = gs.mask_blocks(allowed, block=block)
        for given in (there, there.to_sparse()):
            assert_same(waiting_is_an_error(partial(gs.mask_blocks, given, block=block)), wanted)
        csr = allowed[0, 1].to_sparse_csr()
        made = waiting_is_an_error(partial(gs.mask_blocks, csr.cuda(), block=block))
        assert_same(made, gs.mask_blocks(csr, block=block))
        chosen = torch.randint(-2, keys + 2, (2, queries, 9))
        made = waiting_is_an_error(partial(gs.token_blocks, chosen.cuda(), keys, block=block, causal=True))
        assert_same(made, gs.token_blocks(chosen, keys, block=block, causal=True))
        ids = torch.randint(-1, 4, (2, queries)), torch.randint(-1, 4, (2, keys))
        made = waiting_is_an_error(partial(gs.bucket_blocks, ids[0].cuda(), ids[1].cuda(), block=block))
        assert_same(made, gs.bucket_blocks(*ids, block=block))


P = gs.patterns


def test_patterns_by_position():
    patterns = [
        P.causal(),
        P.causal() & P.sliding_window(100),
        P.causal("bottom-right") & (P.sliding_window((37, 5), align="bottom-right") | P.global_tokens(9)),
        P.strided(7) | P.dilated(5, 3) | P.block_window(24, 2, 1),
        ~P.everything(),
    ]
    for pattern in patterns:
        for queries, keys, block in SIZES:
            options = {"shape": (queries, keys), "block": block}
            made = waiting_is_an_error(partial(gs.pattern_blocks, pattern, **options, device="cuda"))
            assert_same(made, gs.pattern_blocks(pattern, **options, device="cpu"))


@needs_hopper
def test_attention_under_a_pattern():
    pattern = P.causal() & (P.sliding_window(100) | P.global_tokens(40))
    q, k, v = (torch.randn(2, 4, 1000, 64, device="cuda", dtype=torch.bfloat16).requires_grad_() for _ in range(3))
    blocks = gs.pattern_blocks(pattern, (1000, 1000), block=128, device="cuda")
    wanted = gs.attention(q, k, v, pattern)
    out = gs.attention(q, k, v, blocks)
    assert (out - wanted).norm() < 1e-2 * wanted.norm()
    grads, others = (torch.autograd.grad(one.float().square().sum(), (q, k, v)) for one in (out, wanted))
    for one, other in zip(grads, others, strict=True):
        assert (one - other).norm() < 2e-2 * other.norm()


def test_vertical_and_slash_lines():
    # Whole numbers: scores, and what the last queries choose, are the same on both devices.
    for length, block in ((150, (64, 32)), (1024, 128)):
        q, k = torch.randint(-3, 4, (1, 4, length, 16)).float(), torch.randint(-3, 4, (1, 2, length, 16)).float()
        options = {"vertical": 1, "slash": 1, "block": block, "last": 32}
        there = q.cuda(), k.cuda()
        made = waiting_is_an_error(partial(gs.vertical_slash_blocks, *there, **options))
        assert_same(made, gs.vertical_slash_blocks(q, k, **options))
        many = gs.vertical_slash_blocks(*there, vertical=20, slash=10, block=block)
        mask = many.to_mask().to_dense()
        assert not mask.triu(1).any()
        assert mask[..., 0].all()
        assert mask.diagonal(dim1=-2, dim2=-1).all()


def expected(q: Tensor, k: Tensor, v: Tensor, blocks: gs.BlockList) -> list[Tensor]:
    """The output in float32, and the gradients of its sum of squares."""
    tensors = [tensor.detach().float().requires_grad_() for tensor in (q, k, v)]
    scores = tensors[0] @ tensors[1].mT / math.sqrt(q.shape[-1])
    mask = blocks.to_mask().to_dense().expand(scores.shape)
    scores = scores.masked_fill(~mask, -math.inf)
    out = torch.softmax(scores, -1).nan_to_num(0.0) @ tensors[2]
    return [out, *torch.autograd.grad(out.square().sum(), tensors)]


def step(q: Tensor, k: Tensor, v: Tensor, count: int) -> tuple[Tensor, ...]:
    """Attention to the blocks that q and k choose, and its gradients."""
    with torch.no_grad():
        scores = gs.pooled_scores(q, k, 128)
        blocks = gs.topk_blocks(scores, count, block=128, shape=(q.shape[2], k.shape[2]), causal=True, local=1)
    out = gs.attention(q, k, v, blocks)
    assert isinstance(out, Tensor)
    return out, *torch.autograd.grad(out.float().square().sum(), (q, k, v))


@needs_hopper
@pytest.mark.parametrize("length", [1024, 1000])
def test_attention(length):
    for seed in range(3):
        torch.manual_seed(seed)
        q, k, v = (torch.randn(2, 4, length, 64, device="cuda", dtype=torch.bfloat16) for _ in range(3))
        tensors = [tensor.requires_grad_() for tensor in (q, k, v)]
        blocks = gs.topk_blocks(gs.pooled_scores(q, k, 128).detach(), 3, block=128, shape=(length, length), causal=True)
        out = gs.attention(*tensors, blocks)
        got = out, *torch.autograd.grad(out.float().square().sum(), tensors)
        for one, wanted in zip(got, expected(*tensors, blocks), strict=True):
            assert (one.float() - wanted).norm() < 0.02 * wanted.norm()


@needs_hopper
def test_a_step_in_a_graph():
    tensors = [torch.randn(1, 4, 1024, 64, device="cuda", dtype=torch.bfloat16).requires_grad_() for _ in range(3)]
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(2):
            step(*tensors, 3)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = step(*tensors, 3)
    for seed in range(4):
        torch.manual_seed(seed)
        with torch.no_grad():
            for tensor in tensors:
                tensor.copy_(torch.randn_like(tensor))
        graph.replay()
        got = [one.clone() for one in captured]
        for one, wanted in zip(got, step(*tensors, 3), strict=True):
            assert torch.equal(one, wanted)


@needs_hopper
def test_new_lists_are_no_leak():
    q, k, v = (torch.randn(1, 4, 1024, 64, device="cuda", dtype=torch.bfloat16).requires_grad_() for _ in range(3))
    for _ in range(3):
        step(q, k, v, 3)
    gc.collect()
    gc.disable()
    try:
        before = torch.cuda.memory_allocated()
        for _ in range(5):
            step(q, k, v, 3)
        assert torch.cuda.memory_allocated() == before
    finally:
        gc.enable()


@needs_hopper
def test_a_step_does_not_wait():
    q, k, v = (torch.randn(1, 4, 1024, 64, device="cuda", dtype=torch.bfloat16).requires_grad_() for _ in range(3))
    waiting_is_an_error(partial(step, q, k, v, 3))
