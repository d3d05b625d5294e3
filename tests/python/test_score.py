"""gs.attention(..., score_mod=f) where there is no tile program, and what is said of functions that are refused."""

import math

import pytest
import torch
from torch import Tensor

import gossamer as gs
from score_functions import functions, whole

pytestmark = pytest.mark.usefixtures("one_thread")


def expected(q: Tensor, k: Tensor, v: Tensor, function, allowed: Tensor | None = None) -> Tensor:
    repeat = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(repeat, 1), v.repeat_interleave(repeat, 1)
    scores = whole(function, q @ k.transpose(-2, -1) / math.sqrt(q.shape[3]))
    if allowed is not None:
        scores = scores.masked_fill(~allowed, -math.inf)
    return torch.softmax(scores, -1).nan_to_num(0.0) @ v


def leaves(heads: int, kv_heads: int, queries: int, keys: int) -> list[Tensor]:
    shapes = (heads, queries), (kv_heads, keys), (kv_heads, keys)
    return [torch.randn(2, h, length, 8, dtype=torch.float64, requires_grad=True) for h, length in shapes]


@pytest.mark.parametrize("name", ["alibi", "softcap", "relative", "documents", "tempered"])
def test_dense(name):
    function = functions("cpu", length=20)[name]
    q, k, v = leaves(4, 2, 13, 17)
    got, wanted = gs.attention(q, k, v, score_mod=function), expected(q, k, v, function)
    torch.testing.assert_close(got, wanted, atol=1e-6, rtol=1e-6)
    weights = torch.randn_like(got)
    for one, other in zip(
        torch.autograd.grad(got, (q, k, v), weights), torch.autograd.grad(wanted, (q, k, v), weights), strict=True
    ):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-6)


def test_masks():
    function = functions("cpu", length=20)["softcap"]
    q, k, v = leaves(2, 2, 17, 17)
    allowed = torch.rand(17, 17) < 0.4
    allowed[3] = False
    tril = torch.ones(17, 17, dtype=torch.bool).tril()
    pattern = gs.patterns.causal()
    for mask, options, entries in (
        (allowed, {}, allowed),
        (gs.from_torch(allowed.to_sparse_csr()), {}, allowed),
        (gs.BlockList.of(allowed), {}, allowed),
        (pattern, {}, tril),
        (None, {"causal": True}, tril),
        (None, {"causal": True, "window": 5}, tril.triu(-4)),
        (None, {"window": (2, 3)}, torch.ones(17, 17, dtype=torch.bool).triu(-2).tril(3)),
    ):
        got = gs.attention(q, k, v, mask, score_mod=function, **options)
        torch.testing.assert_close(got, expected(q, k, v, function, entries))
        for grad in torch.autograd.grad(got.sum(), (q, k, v)):
            assert torch.isfinite(grad).all()


def test_a_function_is_traced_once_and_anew_when_what_it_captures_changes():
    calls = 0
    factor = 2.0

    def function(score, b, h, q, k):
        nonlocal calls
        calls += 1
        return score * factor

    def plain(score, b, h, q, k):
        return score * factor

    q, k, v = leaves(1, 1, 5, 5)
    first = gs.attention(q, k, v, score_mod=plain)
    from gossamer.score import score_of

    assert score_of(plain) is score_of(plain)
    factor = 3.0
    assert not torch.allclose(first, gs.attention(q, k, v, score_mod=plain))
    score = gs.Score(function)
    gs.attention(q, k, v, score_mod=score)
    gs.attention(q, k, v, score_mod=score)
    assert calls == 1


def test_an_index_beyond_a_table_is_the_nearest():
    table = torch.arange(3.0)
    q, k, v = leaves(1, 1, 6, 6)
    got = gs.attention(q, k, v, score_mod=lambda s, b, h, q, k: s + table[q])
    assert torch.isfinite(got).all()


def test_functions_that_differ_in_their_derivative_only():
    one = gs.Score(lambda s, b, h, q, k: s * 2.0)
    other = gs.Score(lambda s, b, h, q, k: s.detach() * 2.0)
    assert one.region == other.region
    assert one.code != other.code


def test_what_is_refused():
    slopes = torch.nn.Parameter(torch.rand(2))
    q, k, v = leaves(2, 2, 5, 5)

    def branch(score, b, h, q, k):
        return score if q > k else -score

    def bessel(score, b, h, q, k):
        return torch.special.i0(score)

    def rounds(score, b, h, q, k):
        return score + score.to(torch.int32)

    def learned(score, b, h, q, k):
        return score * slopes[h]

    def row(score, b, h, q, k):
        return slopes.detach() * score

    with pytest.raises(gs.TraceError, match=r'branch takes a branch.*test_score.py:\d+: "return score if q > k'):
        gs.attention(q, k, v, score_mod=branch)
    with pytest.raises(gs.UnsupportedError, match=r'no i0 of f32, at .*test_score.py:\d+: "return torch.special'):
        gs.Score(bessel).region  # noqa: B018
    with pytest.raises(gs.UnsupportedError, match=r"cannot be differentiated: a conversion to an integer.*score.to\("):
        gs.Score(rounds).derived_region  # noqa: B018
    assert "fptosi" in gs.Score(rounds).region
    with pytest.raises(gs.UnsupportedError, match=r"captures slopes \[2\], which requires a gradient.*slopes.detach"):
        gs.attention(q, k, v, score_mod=learned)
    with torch.no_grad():
        gs.attention(q, k, v, score_mod=learned)
    with pytest.raises(gs.TraceError, match=r"row returns shape \[2\] for one score"):
        gs.attention(q, k, v, score_mod=row)
    with pytest.raises(gs.TensorError, match=r"score_mod is a function of .* not a float"):
        gs.attention(q, k, v, score_mod=0.5)  # type: ignore[arg-type]
    empty = torch.zeros(0)
    with pytest.raises(gs.TensorError, match=r"looks into empty, which is empty"):
        gs.Score(lambda s, b, h, q, k: s + empty[q]).words(torch.device("cpu"))
    large = torch.empty(1 << 16, 1 << 16, device="meta")
    with pytest.raises(gs.UnsupportedError, match=r"counts in 32 bits, and large is \[65536, 65536\]"):
        gs.Score(lambda s, b, h, q, k: s + large[q, k]).words(torch.device("cpu"))


def test_explain_and_dump():
    q, k, v = (torch.zeros(1, 1, 64, 64, dtype=torch.float16) for _ in range(3))
    softcap = functions("cpu")["softcap"]
    assert "all scores in memory" in str(gs.explain(gs.attention, q, k, v, score_mod=softcap))
    assert "math.tanh" in gs.dump(gs.attention, q, k, v, score_mod=softcap, causal=True)
