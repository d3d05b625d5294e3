"""Functions of scores in tile programs, on the processor: outputs and gradients against float64."""

import math
from functools import partial

import pytest
import torch
from torch import Tensor

import gossamer as gs
from gossamer.attention import _gradient_blocks, kind_of
from gossamer.runtime import tiles
from gossamer.runtime.tile_autograd import Attention
from gossamer.runtime.tile_split import Split
from score_functions import functions, whole
from test_packed_keys import scattered
from test_packed_keys import split as with_packed_keys
from tile_inputs import inputs

pytestmark = pytest.mark.usefixtures("one_thread")


def dense(q: Tensor, k: Tensor, v: Tensor, function, allowed: Tensor | None, scale: float) -> tuple[Tensor, Tensor]:
    """The output, and the log-sum-exp, 0 for rows without any."""
    repeat = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(repeat, 1), v.repeat_interleave(repeat, 1)
    scores = scale * (q @ k.transpose(-2, -1))
    if allowed is not None:  # a place that is masked gives nothing to gradients, whatever its score
        inside = allowed.expand(scores.shape)
        scores = scores.where(inside, 0)
        function = partial(_inside, function, inside)
    scores = whole(function, scores) if allowed is None else function(scores)
    some = (scores > -math.inf).any(-1, keepdim=True)
    shares = torch.softmax(scores.masked_fill(~some, 0), -1) * some
    return shares @ v, torch.logsumexp(scores.masked_fill(~some, 0), -1) * some[..., 0]


def _inside(function, inside: Tensor, scores: Tensor) -> Tensor:
    b, h, q, k = inside.nonzero(as_tuple=True)
    changed = torch.vmap(function)(scores[inside], b, h, q, k)
    return torch.full_like(scores, -math.inf).index_put((b, h, q, k), changed)


def check(name: str, shape, mask=None, allowed=None, dtype=torch.float16, **options) -> tiles.Kind:
    """Of (batch, heads, kv heads, queries, keys, columns)."""
    q, k, v = inputs(*shape, dtype)
    queries, keys, columns = shape[3:]
    function = functions("cpu", length=max(300, keys))[name]
    scale, score = 1 / math.sqrt(columns), gs.Score(function)
    causal, window = options.get("causal", False), options.get("window")
    kind, blocks, why = kind_of(q, k, mask, scale, causal, window, score)
    assert kind is not None, why
    assert kind.score
    narrow = [tensor.clone().requires_grad_(columns <= 128) for tensor in (q, k, v)]
    wide = [tensor.double().requires_grad_() for tensor in (q, k, v)]
    band = partial(_gradient_blocks, queries, keys, causal, window, torch.device("cpu"), 128)
    out, lse = Attention(kind, blocks, scale, window or 0, band)(*narrow, score)
    expected, expected_lse = dense(*wide, function, allowed, scale)
    bound = 4e-3 if dtype == torch.float16 else 2e-2
    assert (out.double() - expected).norm() <= bound * expected.norm() + 1e-12
    some = torch.isfinite(lse)
    torch.testing.assert_close(lse.double()[some], expected_lse[some], atol=2e-5, rtol=1e-5)
    assert not expected[~some].any()
    if kind.head > 128:
        return kind
    weights, lse_weights = torch.randn_like(out), torch.randn_like(lse) * some
    got = torch.autograd.grad([out, lse], narrow, [weights, lse_weights])
    wanted = torch.autograd.grad([expected, expected_lse], wide, [weights.double(), lse_weights.double()])
    for one, other in zip(got, wanted, strict=True):
        assert torch.isfinite(one).all()
        assert (one.double() - other).norm() <= bound * other.norm() + 1e-6
    return kind


NAMES = [name for name in functions("cpu") if name != "hostile"]


@pytest.mark.parametrize("name", NAMES)
def test_all_keys_and_ragged_lengths(name):
    check(name, (2, 2, 1, 131, 139, 64) if name == "tempered" else (1, 2, 1, 70, 139, 64))


@pytest.mark.parametrize("name", [*NAMES, "hostile"])
def test_causal_with_wide_heads(name):
    allowed = torch.ones(150, 150, dtype=torch.bool).tril(-1 if name == "hostile" else 0)
    mask = gs.BlockList.of(allowed) if name == "hostile" else None
    check(name, (1, 2, 1, 150, 150, 128), mask, allowed, torch.bfloat16, causal=mask is None)


@pytest.mark.parametrize("name", ["alibi", "documents"])
@pytest.mark.parametrize("length", [1, 7, 63, 65])
def test_short_lengths(name, length):
    check(name, (1, 2, 2, length, length, 8))


def test_windows():
    query, key = torch.arange(290)[:, None], torch.arange(290)
    allowed = (key <= query) & (key > query - 200)
    check("relative", (1, 2, 1, 290, 290, 64), None, allowed, causal=True, window=200)


@pytest.mark.parametrize("block", [(128, 128), (128, 16), (64, 32)], ids=str)
def test_lists_of_whole_and_of_partial_blocks(block):
    torch.manual_seed(1)
    grid = torch.rand(2, -(-200 // block[0]), -(-260 // block[1]))
    grid[:, 0, :2] = torch.tensor([0.9, 0.4])
    state = grid.repeat_interleave(block[0], -2).repeat_interleave(block[1], -1)[..., :200, :260]
    check("relative", (1, 2, 1, 200, 260, 64), gs.BlockList.of(state > 0.5, block), state > 0.5)
    allowed = (state > 0.7) | ((state > 0.3) & (torch.rand(2, 200, 260) < 0.5))
    allowed[:, 3::7] = False
    check("tempered", (1, 2, 2, 200, 260, 64), gs.BlockList.of(allowed, block), allowed)


@pytest.mark.parametrize("block", [(128, 128), (64, 32)], ids=str)
def test_packed_keys_are_at_their_own_places(block):
    torch.manual_seed(2)
    keys = torch.stack([torch.randperm(200)[:21].sort().values for _ in range(2)])
    allowed = torch.stack([scattered(200, 200, one) for one in keys]).repeat_interleave(2, 0)[None]
    mask = with_packed_keys(allowed, keys[None], block, 2)
    assert mask.packed_rows
    assert torch.equal(mask.unpacked().to_mask().to_dense().view(allowed.shape), allowed)
    assert not check("relative", (2, 4, 2, 200, 200, 64), mask, allowed).packed


def test_a_mask_whose_keys_are_packed_where_it_is_cut():
    allowed = scattered(1100, 1100, torch.arange(0, 1100, 128))
    mask = gs.BlockList.of(allowed)
    assert mask.packed_rows
    assert mask.unpacked() is mask.unpacked()
    check("alibi", (1, 1, 1, 1100, 1100, 64), mask, allowed)


@pytest.mark.parametrize(("queries", "parts"), [(1, 9), (3, 9), (130, 1)])
def test_keys_in_parts(queries, parts):
    """Heads that share keys do not share a tile."""
    kind = check("relative", (1, 4, 2, queries, 1217, 64), dtype=torch.bfloat16)
    assert kind.split == Split(1, parts)


def test_wide_heads():
    torch.manual_seed(4)
    check("relative", (1, 2, 1, 70, 139, 136), dtype=torch.bfloat16)
    allowed = torch.rand(1, 1, 130, 150) < 0.3
    check("tempered", (1, 2, 2, 130, 150, 256), gs.BlockList.of(allowed, (64, 32)), allowed)


def test_lists_in_parts():
    torch.manual_seed(3)
    allowed = torch.rand(1, 1, 7, 1100) < 0.3
    mask = gs.BlockList.of(allowed, (64, 64))
    assert check("tempered", (1, 2, 2, 7, 1100, 128), mask, allowed).split.parts > 1
    mask = gs.BlockList.of(allowed, (64, 32))
    assert check("tempered", (1, 2, 2, 7, 1100, 64), mask, allowed).split.parts > 1
    assert check("tempered", (1, 2, 2, 7, 1100, 128), mask, allowed).split.parts == 1  # registers are full


def test_tables_are_read_as_they_are():
    """Other numbers, and other tensors of the same kind, are the same kernel."""
    q, k, v = inputs(1, 2, 2, 70, 70, 64, torch.float16)
    bias = torch.zeros(70)
    other = torch.randn(140)[::2]
    before = gs.Score(lambda s, b, h, q, k: s + bias[k])
    after = gs.Score(lambda s, b, h, q, k: s + other[k])
    assert before.region == after.region
    bias.copy_(other)
    kind, _, _ = kind_of(q, k, None, 0.125, False, None, before)
    assert kind is not None
    calls = [Attention(kind, None, 0.125, 0, lambda: None)(q, k, v, score) for score in (before, after)]  # type: ignore[arg-type]
    assert torch.equal(calls[0][0], calls[1][0])
    wide = dense(q.double(), k.double(), v.double(), lambda s, b, h, q, k: s + other[k], None, 0.125)
    assert (calls[0][0].double() - wide[0]).norm() <= 4e-3 * wide[0].norm()


def test_a_table_that_changes_before_the_backward():
    q, k, v = (tensor.requires_grad_() for tensor in inputs(1, 1, 1, 7, 7, 8, torch.float16))
    bias = torch.zeros(7)
    score = gs.Score(lambda s, b, h, q, k: s + bias[k])
    kind, _, _ = kind_of(q, k, None, 0.125, False, None, score)
    assert kind is not None
    out, _ = Attention(kind, None, 0.125, 0, partial(_gradient_blocks, 7, 7, False, None, q.device, 128))(
        q, k, v, score
    )
    bias.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        out.sum().backward()
