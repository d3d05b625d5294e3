"""Classes of blocks against dense masks: compositions of patterns, long sequences, and how bits are shared."""

import resource
import time

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import gossamer as gs
from gossamer.patterns import sweep
from gossamer.patterns.bits import count_ones, distinct_columns, distinct_rows, packed, unpacked
from gossamer.patterns.interval import Interval, Truth, maximum, minimum
from gossamer.patterns.tables import Table

P = gs.patterns
HEADS, TEXTS = 3, 2
counts = st.integers(1, 40)


def ids(size: int, seed: int) -> torch.Tensor:
    return torch.randint(-1, 4, (TEXTS, size), generator=torch.Generator().manual_seed(seed))


def leaves(queries: int, keys: int) -> st.SearchStrategy:
    """Patterns of all kinds for these lengths."""
    kinds = [
        st.builds(P.causal, st.sampled_from(["top-left", "bottom-right"])),
        st.builds(P.sliding_window, counts, sides=st.sampled_from([1, 2])),
        st.builds(lambda a, b: P.sliding_window((a, b)), st.none() | counts, counts),
        st.builds(P.dilated, st.integers(1, 6), st.integers(1, 9), sides=st.sampled_from([1, 2])),
        st.builds(P.strided, counts),
        st.builds(P.block_diagonal, counts),
        st.builds(P.block_window, counts, st.integers(0, 2), st.integers(0, 2)),
        st.builds(lambda a, b: P.fixed(a + b, b), st.integers(0, 20), st.integers(1, 9)),
        st.builds(P.variable_windows, st.lists(counts, min_size=1, max_size=4)),
        st.builds(P.butterfly, st.integers(1, 20), st.integers(0, 5)),
        st.builds(lambda t, r: P.global_tokens(t, rows=r), st.lists(st.integers(0, 99), min_size=1), st.booleans()),
        st.builds(
            P.random_blocks, st.integers(1, 20), st.integers(1, 5), seed=counts, causal=st.booleans(),
            by_head=st.booleans(),
        ),
        st.builds(lambda b, d: P.random_blocks(b, density=d, by_batch=True), st.integers(1, 20), st.floats(0, 1)),
        st.builds(P.prefix_lm, counts),
        st.builds(lambda a, b: P.key_padding([min(a, keys), min(b, keys)]), counts, counts),
        st.builds(lambda s: P.key_padding(ids(keys, s) > 0), counts),
        st.builds(lambda t: P.alibi(HEADS, t), st.floats(0, 20)),
        st.builds(lambda n: P.from_function(lambda b, h, q, k: (q + h) // 3 % 2 + b < (k - q) % n), st.integers(1, 9)),
        st.builds(
            lambda r, c, s: P.from_layout(
                torch.rand(HEADS, -(-queries // r), -(-keys // c), generator=torch.Generator().manual_seed(s)) < 0.5,
                (r, c),
            ),
            counts, counts, counts,
        ),
    ]  # fmt: skip
    if queries == keys:
        kinds.append(st.builds(lambda s: P.documents(ids=ids(keys, s)), counts))
        shape = next([n, queries // n] for n in (9, 5, 7, 1) if queries % n == 0)
        smaller = st.tuples(*(st.integers(1, n) for n in shape))
        causal = st.tuples(st.booleans(), st.booleans())
        kinds.append(st.builds(P.axial, st.just(shape), st.sampled_from([None, [0], [1]])))
        kinds.append(st.builds(lambda w, n: P.swin(shape, w, [n % size for size in w]), smaller, counts))
        kinds.append(st.builds(lambda w, c: P.neighbourhood(shape, w, causal=c), smaller, causal))
    return st.one_of(kinds)


def compositions(queries: int, keys: int) -> st.SearchStrategy:
    def joined(patterns: st.SearchStrategy) -> st.SearchStrategy:
        return st.one_of(
            st.builds(lambda a, b: a & b, patterns, patterns),
            st.builds(lambda a, b: a | b, patterns, patterns),
            st.builds(lambda a: ~a, patterns),
            st.builds(lambda a, b: P.per_head([a, b, a]), leaves(queries, keys), leaves(queries, keys)),
        )

    return st.recursive(leaves(queries, keys), joined, max_leaves=5)


lengths = st.sampled_from([(1, 1), (7, 7), (63, 63), (65, 65), (63, 65), (97, 40), (33, 101)])
blocks = st.sampled_from([16, 64, (8, 32), (5, 7), (64, 16), (1, 33), (128, 128)])
cases = lengths.flatmap(lambda size: st.tuples(st.just(size), compositions(*size), blocks))


def dense(pattern: gs.patterns.PositionPattern, queries: int, keys: int) -> torch.Tensor:
    b, h = torch.arange(TEXTS)[:, None, None, None], torch.arange(HEADS)[:, None, None]
    return pattern(b, h, torch.arange(queries)[:, None], torch.arange(keys), lengths=(queries, keys))


def tiles(mask: torch.Tensor, block: tuple[int, int], beyond: bool) -> torch.Tensor:
    """[texts, heads, blocks of rows, rows, blocks of columns, columns], filled up beyond the last query and key."""
    rows, columns = block
    padding = (0, -mask.shape[3] % columns, 0, -mask.shape[2] % rows)
    filled = torch.nn.functional.pad(mask, padding, value=beyond)
    return filled.unflatten(3, (-1, columns)).unflatten(2, (-1, rows))


def check(pattern: gs.patterns.PositionPattern, size: tuple[int, int], block: int | tuple[int, int]) -> None:
    """Blocks are of the class that the dense mask says, and the bits say what it says."""
    expected = dense(pattern, *size)
    found = pattern.blocks(*size, block, batch=TEXTS, heads=HEADS)
    assert torch.equal(found.to_dense().expand_as(expected), expected), pattern
    kinds = found.kinds().expand(TEXTS, HEADS, -1, -1)
    assert torch.equal(kinds == 0, ~tiles(expected, found.block, False).any(5).any(3))
    assert torch.equal(kinds == 2, tiles(expected, found.block, True).all(5).all(3))
    shared = TEXTS * HEADS // (found.leading[0] * found.leading[1])
    assert found.entries * shared == int(expected.sum())
    for count, index in ((found.full_count, found.full_index), (found.partial_count, found.partial_index)):
        places = torch.arange(index.shape[-1])
        used = places < count[..., None]
        assert bool(((index.diff() > 0) | ~used[..., 1:]).all())
        assert bool((index[~used] == 0).all())
    assert len(found.bits) == len(found.bits.flatten(1).unique(dim=0))  # the same bits are never there twice


@given(cases)
@settings(max_examples=80)
def test_blocks_are_those_of_the_dense_mask(case):
    size, pattern, block = case
    check(pattern, size, block)


@given(cases)
@settings(max_examples=30)
def test_so_they_are_where_wide_rectangles_are_cut_often(case):
    size, pattern, _ = case
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sweep, "_WIDEST", 2)
        patch.setattr(sweep, "_FAN", 3)
        patch.setattr(sweep, "_RECTANGLES", {"cpu": 7})
        patch.setattr(sweep, "_ENTRIES", {"cpu": 64})
        check(pattern, size, (9, 4))


@pytest.mark.parametrize("pattern", [
    P.causal() & (P.sliding_window(20) | P.global_tokens([3, (40, 50)])),
    P.variable_windows([9, 30]) | P.prefix_lm(4) | P.alibi(3, 2.0),
    P.per_head([P.butterfly(8, 2), P.random_blocks(8, 2), ~P.random_blocks(8, density=0.2)]),
    P.documents([20, 80]) | P.neighbourhood([10, 10], 3) | P.swin([10, 10], 5, 2),
    P.from_layout(torch.eye(10), 10) & P.key_padding([90]),
    P.from_function(lambda b, h, q, k: torch.where(q < 30, (q - k).clamp(min=2, max=30) < 9, k < 50)),
], ids=repr)  # fmt: skip
def test_the_default_device_does_not_matter(pattern):
    """As where it is a GPU, and the blocks are found on the CPU; here it is one that has no entries at all."""
    expected = pattern.blocks(100, block=16)
    with torch.device("meta"):
        got = pattern.blocks(100, block=16, device="cpu")
    assert torch.equal(got.to_dense(), expected.to_dense())


EMPTY = [(0, 0), (0, 9), (9, 0)]


@pytest.mark.parametrize("size", EMPTY, ids=str)
def test_no_queries_or_no_keys(size):
    found = (P.causal() | P.strided(3)).blocks(*size, 4)
    assert found.to_dense().shape == (1, 1, *size)
    assert found.counts == (0, 0)
    assert found.density == 0


def test_the_last_blocks_may_be_shorter():
    found = P.everything().blocks(130, 70, 64)
    assert found.counts == (6, 0)
    assert found.entries == 130 * 70
    assert found.density == 1


def test_blocks_of_equal_entries_share_bits():
    assert P.causal().blocks(1024).bits.shape == (1, 128, 4)
    assert P.sliding_window(200).blocks(1024).bits.shape[0] == 2 * 2
    causal = P.causal().blocks(64, block=32)
    assert causal.bits.tolist() == [[[(1 << (row + 1)) - 1 if row < 31 else -1] for row in range(32)]]
    assert causal.partial_index[0, 0].tolist() == [[0], [1]]
    assert causal.full_count[0, 0].tolist() == [0, 1]


def test_texts_and_heads_share_lists_where_nothing_differs():
    assert P.causal().blocks(64, batch=5, heads=7).leading == (1, 1)
    assert (P.causal() & P.key_padding([3, 64])).blocks(64, heads=7).leading == (2, 1)
    assert P.random_blocks(16, 2, by_head=True).blocks(64, heads=7).leading == (1, 7)


MILLION = 1_000_000


@pytest.mark.parametrize(
    ("pattern", "entries"),
    [
        (P.causal() & P.sliding_window(1024), 1024 * MILLION - 1024 * 1023 // 2),
        (P.block_diagonal(500), 500 * MILLION),
        (P.documents([250_000] * 4) & P.sliding_window(100, sides=1), 4 * (250_000 * 100 - 100 * 99 // 2)),
    ],
    ids=repr,
)
def test_a_million_tokens_take_seconds_and_little_memory(pattern, entries):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.process_time()
    found = pattern.blocks(MILLION)
    assert time.process_time() - start < 60  # a few seconds; a mask of 10^12 entries could not be made
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 1 << 20  # KiB
    assert found.entries == entries
    assert found.full_index.shape[-1] < 20


def test_many_tokens_of_random_blocks():
    found = (P.block_window(128, 1) | P.random_blocks(128, 3, seed=1)).blocks(MILLION // 4)
    assert found.partial_count.sum() == 0
    assert 3 <= int(found.full_count.min()) <= int(found.full_count.max()) == 6


@given(st.integers(1, 70), st.integers(0, 5), st.integers(0, 99))
def test_bits_are_packed_lowest_first(columns, rows, seed):
    allowed = torch.rand(rows, 3, columns, generator=torch.Generator().manual_seed(seed)) < 0.5
    bits = packed(allowed)
    assert bits.dtype == torch.int32
    assert bits.shape == (rows, 3, -(-columns // 32))
    for row in range(rows):
        for word, number in enumerate(bits[row, 1].tolist()):
            ones = [j for j in range(32) if number >> j & 1]
            assert ones == [j - 32 * word for j in allowed[row, 1].nonzero()[:, 0].tolist() if j // 32 == word]
    assert torch.equal(unpacked(bits, columns), allowed)
    assert count_ones(bits).tolist() == allowed.sum((1, 2)).tolist()


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(-5, 5), st.integers(0, 1)), min_size=1))
def test_equal_rows_get_equal_numbers(rows):
    numbers = distinct_columns([torch.tensor(column) for column in zip(*rows, strict=True)]).tolist()
    assert len(set(numbers)) == len(set(rows)) == max(numbers) + 1
    assert len({(row, number) for row, number in zip(rows, numbers, strict=True)}) == len(set(rows))
    table = torch.tensor(rows, dtype=torch.int32)[:, None]
    distinct, which = distinct_rows(table)
    assert torch.equal(distinct[which], table)
    assert len(distinct) == len(set(rows))


def test_rows_of_one_hash_are_told_apart(monkeypatch):
    monkeypatch.setattr("gossamer.patterns.bits._ODD", 0)
    table = torch.tensor([[1, 2], [2, 1], [1, 2], [3, 0]], dtype=torch.int32)[:, None]
    distinct, which = distinct_rows(table)
    assert len(distinct) == 3
    assert torch.equal(distinct[which], table)


bounds = st.tuples(st.integers(-30, 30), st.integers(0, 12)).map(lambda pair: (pair[0], pair[0] + pair[1]))


@given(bounds, bounds, st.integers(1, 9))
def test_bounds_hold_all_that_an_expression_can_be(x, y, n):
    expressions = [
        lambda a, b: a + b,
        lambda a, b: a - b,
        lambda a, b: n - a,
        lambda a, b: -a,
        lambda a, b: a * b,
        lambda a, b: a * -n,
        lambda a, b: a // n,
        lambda a, b: a % n,
        lambda a, b: abs(a),
        lambda a, b: minimum(a, b),
        lambda a, b: maximum(a, n),
    ]
    predicates = [
        lambda a, b: a < b,
        lambda a, b: a <= n,
        lambda a, b: a > b,
        lambda a, b: a >= b,
        lambda a, b: a == b,
        lambda a, b: a != n,
        lambda a, b: (a < n) & (b < n),
        lambda a, b: (a < n) | ~(b < n),
        lambda a, b: (a < n) ^ (b < n),
    ]
    intervals = [Interval(torch.tensor([lo]), torch.tensor([hi])) for lo, hi in (x, y)]
    a, b = torch.arange(x[0], x[1] + 1)[:, None], torch.arange(y[0], y[1] + 1)
    for f in expressions:
        got, values = f(*intervals), f(a, b)
        assert int(got.lo) <= int(values.min()) <= int(values.max()) <= int(got.hi)
    for f in predicates:
        got, values = f(*intervals), f(a, b)
        assert isinstance(got, Truth)
        assert bool(got.some) or not bool(values.any())
        assert not bool(got.every) or bool(values.all())


@given(st.lists(st.integers(-9, 9), min_size=1, max_size=70), st.booleans(), st.data())
def test_bounds_of_runs_of_a_table(entries, ordered, data):
    entries = sorted(entries) if ordered else entries
    table = Table(torch.tensor([entries, entries[::-1]]))
    row = data.draw(st.integers(0, 1))
    lo = data.draw(st.integers(0, len(entries) - 1))
    hi = data.draw(st.integers(lo, len(entries) - 1))
    run = [entries, entries[::-1]][row][lo : hi + 1]
    got = table.at(Interval(torch.tensor([lo]), torch.tensor([hi])), Interval.of(torch.tensor([row])))
    assert (int(got.lo), int(got.hi)) == (min(run), max(run))
    assert table.at(torch.tensor([lo, hi]), torch.tensor(row)).tolist() == [run[0], run[-1]]
