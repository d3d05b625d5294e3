"""Functions of scores in tile programs on a Hopper GPU, against PyTorch in float32, and against themselves."""

import math
import sys
from pathlib import Path

import pytest
import torch
from test_tile_attention import pytestmark  # noqa: F401
from torch import Tensor

import gossamer as gs
from gossamer.attention import attention_road

sys.path.append(str(Path(__file__).parents[1] / "python"))
from score_functions import functions

NAMES = ["alibi", "softcap", "relative", "documents", "tempered"]


def inputs(batch, heads, kv_heads, queries, keys, columns, dtype=torch.bfloat16) -> list[Tensor]:
    torch.manual_seed(0)
    shapes = (queries, heads), (keys, kv_heads), (keys, kv_heads)
    return [
        torch.randn(batch, length, h, columns, device="cuda").to(dtype).transpose(1, 2).requires_grad_()
        for length, h in shapes
    ]


def expected(q: Tensor, k: Tensor, v: Tensor, function, allowed: Tensor | None, out_grad: Tensor) -> list[Tensor]:
    """The output and the gradients, in float32; only allowed places go through the function."""
    q, k, v = (tensor.detach().float().requires_grad_() for tensor in (q, k, v))
    repeat = q.shape[1] // k.shape[1]
    scores = q @ k.repeat_interleave(repeat, 1).transpose(-2, -1) / math.sqrt(q.shape[3])
    inside = torch.ones_like(scores, dtype=torch.bool) if allowed is None else allowed.expand(scores.shape)
    places = inside.nonzero(as_tuple=True)
    changed = torch.vmap(function)(scores[inside], *places)
    scores = torch.full_like(scores, -math.inf).index_put(places, changed)
    some = (scores > -math.inf).any(-1, keepdim=True)
    out = (torch.softmax(scores.masked_fill(~some, 0), -1) * some) @ v.repeat_interleave(repeat, 1)
    return [out, *torch.autograd.grad(out, (q, k, v), out_grad.float())]


def check(name: str, shape, mask=None, allowed=None, dtype=torch.bfloat16, **options) -> None:
    q, k, v = inputs(*shape, dtype)
    function = functions("cuda", shape[1], max(shape[3:5]))[name]
    kind, why = attention_road(q, k, v, mask, score_mod=function, **options)
    assert kind is not None, why
    out = gs.attention(q, k, v, mask, score_mod=function, **options)
    assert isinstance(out, Tensor)
    out_grad = torch.randn_like(out)
    got = [out, *torch.autograd.grad(out, (q, k, v), out_grad)]
    # tanh is the hardware's: 11 bits.
    bound = 1.5e-2 if dtype == torch.bfloat16 else 6e-3
    for what, one, other in zip(
        ("out", "dq", "dk", "dv"), got, expected(q, k, v, function, allowed, out_grad), strict=True
    ):
        assert torch.isfinite(one).all(), what
        assert (one.float() - other).norm() <= bound * other.norm() + 1e-4, what


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("columns", [64, 128])
@pytest.mark.parametrize("lengths", [(512, 512), (300, 333), (1, 65), (63, 1), (129, 7)], ids=str)
def test_all_keys(name, columns, lengths):
    check(name, (2, 4, 2, *lengths, columns))


@pytest.mark.parametrize("name", [*NAMES, "hostile"])
@pytest.mark.parametrize("columns", [64, 128])
@pytest.mark.parametrize("length", [640, 333])
def test_causal(name, columns, length):
    allowed = torch.ones(length, length, dtype=torch.bool, device="cuda").tril(-1 if name == "hostile" else 0)
    mask = gs.BlockList.of(allowed) if name == "hostile" else None
    check(name, (2, 4, 4, length, length, columns), mask, allowed, causal=mask is None)


@pytest.mark.parametrize("name", NAMES)
def test_windows(name):
    query, key = torch.arange(700, device="cuda")[:, None], torch.arange(700, device="cuda")
    before = query - key
    check(name, (1, 4, 2, 700, 700, 128), None, (before >= 0) & (before < 300), causal=True, window=300)
    check(name, (1, 4, 2, 700, 700, 128), None, (before <= 200) & (before >= -90), window=(200, 90))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("columns", [64, 128])
@pytest.mark.parametrize("block", [(128, 128), (128, 64), (128, 32), (128, 16), (64, 64), (64, 32), (64, 16)], ids=str)
def test_lists(name, block, columns):
    torch.manual_seed(1)
    grid = torch.rand(4, -(-450 // block[0]), -(-520 // block[1]), device="cuda")
    state = grid.repeat_interleave(block[0], -2).repeat_interleave(block[1], -1)[..., :450, :520]
    check(name, (2, 4, 2, 450, 520, columns), gs.BlockList.of(state > 0.5, block), state > 0.5)
    allowed = (state > 0.7) | ((state > 0.3) & (torch.rand(4, 450, 520, device="cuda") < 0.5))
    allowed[:, 3::7] = False
    check(name, (2, 4, 2, 450, 520, columns), gs.BlockList.of(allowed, block), allowed, torch.float16)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("columns", [64, 128])
def test_keys_in_parts(name, columns):
    check(name, (1, 4, 2, 3, 2000, columns))
    check(name, (1, 4, 4, 1, 1217, columns))
    torch.manual_seed(2)
    allowed = torch.rand(1, 1, 60, 2100, device="cuda") < 0.3
    for block in ((64, 64), (64, 128)):
        check(name, (1, 4, 2, 60, 2100, columns), gs.BlockList.of(allowed, block), allowed)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("columns", [64, 128])
def test_masks_whose_keys_are_packed_without_a_function(name, columns):
    query, key = torch.arange(1100, device="cuda")[:, None], torch.arange(1100, device="cuda")
    allowed = (key <= query) & ((query - key < 40) | (key % 128 == 5))
    mask = gs.BlockList.of(allowed)
    assert mask.packed_rows
    check(name, (2, 4, 2, 1100, 1100, columns), mask, allowed)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("columns", [136, 192, 256])
def test_wide_heads(name, columns):
    """Which have no gradients."""
    torch.manual_seed(3)
    for queries, keys in ((300, 333), (1, 65), (129, 640)):
        q, k, v = (tensor.detach() for tensor in inputs(2, 4, 2, queries, keys, columns))
        function = functions("cuda", 4, max(queries, keys))[name]
        allowed = torch.rand(1, 1, queries, keys, device="cuda") < 0.4
        for mask, inside in ((None, None), (gs.BlockList.of(allowed, (64, 32)), allowed)):
            assert attention_road(q, k, v, mask, score_mod=function)[0] is not None
            out = gs.attention(q, k, v, mask, score_mod=function)
            wanted = expected(q, k, v, function, inside, out)[0]
            assert isinstance(out, Tensor)
            assert (out.float() - wanted).norm() <= 1.5e-2 * wanted.norm()


@pytest.mark.parametrize("name", ["softcap", "relative"])
def test_the_same_a_thousand_times(name):
    function = functions("cuda", 4, 777)[name]
    q, k, v = inputs(2, 4, 2, 777, 777, 128)
    out_grad = torch.randn_like(q)
    first: list[Tensor] = []
    for n in range(1000):
        out = gs.attention(q, k, v, score_mod=function, causal=True)
        assert isinstance(out, Tensor)
        got = [out, *torch.autograd.grad(out, (q, k, v), out_grad)]
        first = first or got
        assert all(torch.equal(one, other) for one, other in zip(got, first, strict=True)), n


def test_compiled():
    q, k, v = inputs(1, 4, 4, 256, 256, 64)
    score = gs.Score(functions("cuda", 4, 256)["softcap"])
    compiled = torch.compile(lambda q, k, v: gs.attention(q, k, v, score_mod=score, causal=True), fullgraph=True)
    got, wanted = compiled(q, k, v), gs.attention(q, k, v, score_mod=score, causal=True)
    assert torch.equal(got, wanted)
    weights = torch.randn_like(got)
    for one, other in zip(
        torch.autograd.grad(got, (q, k, v), weights), torch.autograd.grad(wanted, (q, k, v), weights), strict=True
    ):
        assert torch.equal(one, other)
