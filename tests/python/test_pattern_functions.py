"""Patterns of Python functions: what they mean, which bounds are known of them, and what cannot be traced."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import gossamer as gs
from gossamer.errors import TraceError
from gossamer.patterns import sweep
from gossamer.patterns.base import Lengths, Place
from gossamer.patterns.interval import Interval
from gossamer.scalars import NumberTracing

P = gs.patterns
N, M, HEADS, TEXTS = 65, 70, 3, 2
IDS = torch.tensor([0] * 20 + [1] * 30 + [2] * 20)
TABLE = torch.rand(HEADS, M, generator=torch.Generator().manual_seed(0)) < 0.8
OFFSETS = torch.tensor([5, 1, 30], dtype=torch.int32)
BIAS = torch.linspace(-1, 1, M)
CUBE = torch.rand(TEXTS, HEADS, N, generator=torch.Generator().manual_seed(1)) < 0.5

# A function for single positions, and the same written out for numbers.
FUNCTIONS = {
    "window": (lambda b, h, q, k: (q - k < 9) & (q >= k), lambda b, h, q, k: 0 <= q - k < 9),
    "distance": (lambda b, h, q, k: torch.abs(q - k) <= 4, lambda b, h, q, k: abs(q - k) <= 4),
    "slope": (
        lambda b, h, q, k: 0.25 * abs(q - k) < 2.5 + h,
        lambda b, h, q, k: 0.25 * abs(q - k) < 2.5 + h,
    ),
    "look-up": (lambda b, h, q, k: IDS[q] == IDS[k], lambda b, h, q, k: int(IDS[q]) == int(IDS[k])),
    "look-up by two": (lambda b, h, q, k: TABLE[h, k] & (k <= q), lambda b, h, q, k: bool(TABLE[h, k]) and k <= q),
    "look-up twice": (lambda b, h, q, k: TABLE[h][k], lambda b, h, q, k: bool(TABLE[h, k])),
    "look-up by three": (lambda b, h, q, k: CUBE[b, h, q] | (k == 3), lambda b, h, q, k: bool(CUBE[b, h, q]) or k == 3),
    "look-up of an offset": (
        lambda b, h, q, k: q - k < OFFSETS[h] * 2 - b,
        lambda b, h, q, k: q - k < int(OFFSETS[h]) * 2 - b,
    ),
    "look-up from the end": (
        lambda b, h, q, k: IDS[q - N] == 2,  # below 0 for all queries
        lambda b, h, q, k: int(IDS[q - N]) == 2,
    ),
    "look-up of a number": (lambda b, h, q, k: BIAS[k] > 0.3, lambda b, h, q, k: float(BIAS[k]) > 0.3),
    "blocks": (
        lambda b, h, q, k: (q // 16 == k // 16) | (k % 16 == 15),
        lambda b, h, q, k: q // 16 == k // 16 or k % 16 == 15,
    ),
    "quotients towards zero": (
        lambda b, h, q, k: torch.div(q - k, 7, rounding_mode="trunc") == 0,
        lambda b, h, q, k: abs(q - k) < 7,
    ),
    "true quotients": (lambda b, h, q, k: (q - k) / 8 < 2.4, lambda b, h, q, k: (q - k) / 8 < 2.4),
    "where": (
        lambda b, h, q, k: torch.where(h == 1, q >= k, torch.where(k < 8, True, q == k)),
        lambda b, h, q, k: q >= k if h == 1 else k < 8 or q == k,
    ),
    "where, of numbers": (
        lambda b, h, q, k: k < torch.where(q < 30, q + 1, 40 - h),
        lambda b, h, q, k: k < (q + 1 if q < 30 else 40 - h),
    ),
    "minima and maxima": (
        lambda b, h, q, k: k < torch.maximum(torch.minimum(q, torch.tensor(50)), torch.tensor(9)),
        lambda b, h, q, k: k < max(min(q, 50), 9),
    ),
    "clamp": (lambda b, h, q, k: k >= (q - 5).clamp(0, 40), lambda b, h, q, k: k >= min(max(q - 5, 0), 40)),
    "products": (lambda b, h, q, k: (q - 30) * (k - 20) < 50, lambda b, h, q, k: (q - 30) * (k - 20) < 50),
    "exclusive or": (lambda b, h, q, k: (q < 20) ^ (k < 30), lambda b, h, q, k: (q < 20) != (k < 30)),
    "logical": (
        lambda b, h, q, k: torch.logical_and(torch.logical_not(q < 20), torch.logical_or(k < 30, k > 60)),
        lambda b, h, q, k: q >= 20 and (k < 30 or k > 60),
    ),
    "bits": (lambda b, h, q, k: ((q ^ k) & 3) == 0, lambda b, h, q, k: q % 4 == k % 4),
    "a bool as a number": (lambda b, h, q, k: (q > 5) + (k > 5) + (k > q), lambda b, h, q, k: q > 5 or k > 5 or k > q),
    "a number": (lambda b, h, q, k: (q - k) % 3, lambda b, h, q, k: (q - k) % 3 != 0),
    "square root": (lambda b, h, q, k: torch.sqrt(q.float()) > k, lambda b, h, q, k: math.sqrt(q) > k),
    "half precision": (lambda b, h, q, k: (q - k).to(torch.bfloat16) < 9, lambda b, h, q, k: q - k < 9),
    "few bits": (lambda b, h, q, k: (q * 4).to(torch.int8) > k, lambda b, h, q, k: (q * 4 + 128) % 256 - 128 > k),
    "a hash": (
        lambda b, h, q, k: ((q * 2654435761 + k * 40503) * 2246822519 >> 7) % 3 == 0,
        lambda b, h, q, k: (wrapped((q * 2654435761 + k * 40503) * 2246822519) >> 7) % 3 == 0,
    ),
    "a branch over numbers": (lambda b, h, q, k: k < sum(q > s for s in (3, 9, 27)), None),
    "constants like a position": (
        lambda b, h, q, k: torch.ones_like(b, dtype=torch.bool)
        & (q < torch.full_like(h, 50))
        & (k >= q.new_full((), 4) + torch.zeros((), dtype=torch.int64)),
        lambda b, h, q, k: q < 50 and k >= 4,
    ),
    "always": (lambda b, h, q, k: True, lambda b, h, q, k: True),
    "only the text": (lambda b, h, q, k: b == 1, lambda b, h, q, k: b == 1),
}  # fmt: skip
FUNCTIONS["a branch over numbers"] = (
    FUNCTIONS["a branch over numbers"][0],
    lambda b, h, q, k: k < (q > 3) + (q > 9) + (q > 27),
)


def wrapped(x):
    return (x + (1 << 63)) % (1 << 64) - (1 << 63)


def grid():
    return (
        torch.arange(TEXTS)[:, None, None, None],
        torch.arange(HEADS)[:, None, None],
        torch.arange(N)[:, None],
        torch.arange(M),
    )


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_means_what_it_says_of_single_positions(name):
    function, numbers = FUNCTIONS[name]
    expected = torch.tensor(
        [
            [[[bool(numbers(b, h, q, k)) for k in range(M)] for q in range(N)] for h in range(HEADS)]
            for b in range(TEXTS)
        ]
    )
    pattern = P.from_function(function)
    assert torch.equal(pattern(*grid()), expected)
    for block in (16, (5, 33)):
        got = pattern.blocks(N, M, block, batch=TEXTS, heads=HEADS).to_dense()
        assert torch.equal(got.expand_as(expected), expected)


def numbers() -> st.SearchStrategy:
    """Functions of (b, h, q, k) that are integers, as one makes them of positions."""
    leaves = st.one_of(
        st.sampled_from([lambda b, h, q, k: q, lambda b, h, q, k: k, lambda b, h, q, k: q - k]),
        st.sampled_from([lambda b, h, q, k: b, lambda b, h, q, k: h]),
        st.sampled_from([lambda b, h, q, k: IDS[q], lambda b, h, q, k: TABLE[h, k].long(), lambda *at: OFFSETS[at[1]]]),
        st.integers(-20, 70).map(lambda n: lambda b, h, q, k: q * 0 + n),
    )

    def joined(x: st.SearchStrategy) -> st.SearchStrategy:
        two = [torch.add, torch.sub, torch.minimum, torch.maximum, lambda a, b: torch.where(a < b, a, b + 3)]
        one = [
            lambda a, n: a * n,
            lambda a, n: a * -n,
            lambda a, n: a // n,
            lambda a, n: a % n,
            lambda a, n: n - a,
            lambda a, n: a + n,
            lambda a, n: -a,
            lambda a, n: torch.abs(a),
            lambda a, n: a.clamp(max=n),
            lambda a, n: torch.div(a, n, rounding_mode="trunc"),
            lambda a, n: (a / n).floor().long(),
            lambda a, n: a ^ n,
        ]
        pairs = st.builds(lambda f, a, b: lambda *at: f(a(*at), b(*at)), st.sampled_from(two), x, x)
        return pairs | st.builds(lambda f, a, n: lambda *at: f(a(*at), n), st.sampled_from(one), x, st.integers(1, 30))

    return st.recursive(leaves, joined, max_leaves=4)


def predicates() -> st.SearchStrategy:
    compare = st.sampled_from([torch.lt, torch.le, torch.gt, torch.ge, torch.eq, torch.ne])
    leaves = st.builds(lambda f, a, b: lambda *at: f(a(*at), b(*at)), compare, numbers(), numbers())
    join = st.sampled_from(
        [torch.logical_and, torch.logical_or, lambda a, b: a & b, lambda a, b: a | b, lambda a, b: a ^ ~b]
    )
    return st.recursive(
        leaves, lambda x: st.builds(lambda f, a, b: lambda *at: f(a(*at), b(*at)), join, x, x), max_leaves=3
    )


@given(predicates(), st.sampled_from([16, (5, 33), (64, 8)]))
@settings(max_examples=60)
def test_any_function_of_positions(function, block):
    pattern = P.from_function(function)
    with NumberTracing():
        alone = torch.vmap(torch.vmap(torch.vmap(torch.vmap(function, (None,) * 3 + (0,)), (None, None, 0, None)),
                                      (None, 0, None, None)), (0, None, None, None))  # fmt: skip
        expected = alone(*(x.reshape(-1) for x in grid()))
    assert torch.equal(pattern(*grid()), expected)
    got = pattern.blocks(N, M, block, batch=TEXTS, heads=HEADS)
    assert torch.equal(got.to_dense().expand_as(expected), expected)


UNBOUNDED = {"bits", "square root", "a hash", "look-up of a number", "look-up twice"}


@pytest.mark.parametrize("name", [name for name in FUNCTIONS if name not in UNBOUNDED])
def test_bounds_are_known(name):
    """Of some rectangle of a single position it is known whether the position is allowed."""
    pattern = P.from_function(FUNCTIONS[name][0])
    points = [Interval.of(x.expand(TEXTS, HEADS, N, M).reshape(-1)) for x in grid()]
    truth = pattern._truth(Place(*points, Lengths(N, M)))
    decided = truth.every | ~truth.some
    expected = pattern(*grid()).reshape(-1)
    assert bool((truth.every <= expected).all())
    assert bool((expected <= truth.some).all())
    assert float(decided.double().mean()) > (0 if name == "few bits" else 0.99)


def test_blocks_that_bounds_decide_are_not_looked_into(monkeypatch):
    looked_into = []
    entries = sweep._entries
    monkeypatch.setattr(
        sweep, "_entries", lambda blocks, row, column: looked_into.append(len(row)) or entries(blocks, row, column)
    )
    P.from_function(lambda b, h, q, k: (q - k < 1024) & (k <= q)).blocks(32768)
    assert sum(looked_into) == 2  # the diagonal and the end of the window, each once
    looked_into.clear()
    P.from_function(lambda b, h, q, k: q % 256 >= k % 256).blocks(32768)
    assert sum(looked_into) <= 2 * 4
    looked_into.clear()
    P.from_function(lambda b, h, q, k: (q.float().sin() > k) & (k < 128)).blocks(4096)
    assert sum(looked_into) == 32  # what has no bounds is still bounded by the rest


def test_functions_are_equal_that_compute_the_same_from_the_same_tables():
    def of(table, size):
        return P.from_function(lambda b, h, q, k: (table[q] == table[k]) & (q - k < size))

    assert of(IDS, 5) == of(IDS.clone(), 5)
    assert hash(of(IDS, 5)) == hash(of(IDS.clone(), 5))
    assert of(IDS, 5) != of(IDS + 1, 5)
    assert of(IDS, 5) != of(IDS, 6)


def test_a_table_is_copied():
    table = IDS.clone()
    pattern = P.from_function(lambda b, h, q, k: table[q] == table[k])
    expected = pattern(0, 0, torch.arange(N)[:, None], torch.arange(N))
    table.zero_()
    assert torch.equal(pattern(0, 0, torch.arange(N)[:, None], torch.arange(N)), expected)


def test_which_functions_differ_by_text_or_head():
    assert not P.from_function(lambda b, h, q, k: q >= k).by_head
    assert P.from_function(lambda b, h, q, k: q >= k + h).by_head
    assert P.from_function(lambda b, h, q, k: q >= k + b).by_batch
    assert P.from_function(lambda b, h, q, k: q >= k + h).blocks(64, block=16, heads=2).leading == (1, 2)


def test_mask_mods_of_flex_attention_that_are_joined():
    from torch.nn.attention.flex_attention import and_masks, or_masks

    joined = and_masks(
        lambda b, h, q, k: q >= k, or_masks(lambda b, h, q, k: IDS[q] == IDS[k], lambda b, h, q, k: k < 4)
    )
    pattern = P.from_function(joined)
    assert not pattern.by_batch  # though constants are made like b
    q, k = torch.arange(N)[:, None], torch.arange(M)
    expected = (q >= k) & ((IDS[q] == IDS[k]) | (k < 4))
    assert torch.equal(pattern.blocks(N, M, 16).to_dense()[0, 0], expected)
    kinds = P.from_function(and_masks(lambda b, h, q, k: q >= k)).blocks(64, block=16).kinds()
    assert kinds[0, 0].tolist() == [[1, 0, 0, 0], [2, 1, 0, 0], [2, 2, 1, 0], [2, 2, 2, 1]]


def test_functions_are_combined_with_patterns():
    pattern = P.from_function(lambda b, h, q, k: k % 2 == 0) & ~P.causal()
    q, k = torch.arange(N)[:, None], torch.arange(M)
    assert torch.equal(pattern.blocks(N, M, 16).to_dense()[0, 0], (k % 2 == 0) & (k > q))


def branch(b, h, q, k):
    if q > k:  # the line
        return k > 4
    return q == k


def conjunction(b, h, q, k):
    return q > 3 and k > 3  # the line


def item(b, h, q, k):
    return k < q.item() + 1  # the line


def loop(b, h, q, k):
    return sum(k == i for i in range(q)) > 0  # the line


def helped(b, h, q, k):
    return branch(b, h, q, k)


def unknown(b, h, q, k):
    return q > undefined  # noqa: F821  # the line


@pytest.mark.parametrize("function", [branch, conjunction, item, loop, helped, unknown], ids=lambda f: f.__name__)
def test_what_cannot_be_traced_names_the_line(function):
    source = branch if function is helped else function
    first = source.__code__.co_firstlineno
    with open(__file__, encoding="utf-8") as file:
        lines = file.readlines()
    line = next(n for n in range(first, first + 5) if "# the line" in lines[n - 1])
    with pytest.raises(TraceError) as caught:
        P.from_function(function)
    assert f"{__file__}:{line}: " in str(caught.value)
    assert function.__name__ in str(caught.value)
    if function is not unknown:
        assert "depends on a position" in str(caught.value)
        assert "torch.where" in str(caught.value)


@pytest.mark.parametrize(
    ("function", "text"),
    [
        (lambda b, h, q, k: torch.stack([q, k]) > 3, r"shape \[2\] for one position"),
        (lambda b, h, q, k: None, "returns NoneType"),
        (lambda b, h, q: q, "3 arguments but got 4"),
    ],
)
def test_what_is_no_predicate(function, text):
    with pytest.raises(TraceError, match=text):
        P.from_function(function)
