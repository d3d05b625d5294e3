"""gs.by: what each sparsifier keeps, against its definition on dense tensors."""

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import gossamer as gs

FORMATS = [gs.CSR, gs.CSC, gs.COO, gs.DCSR]
SIZES = st.tuples(st.integers(1, 7), st.integers(1, 9))


def kept_of(dense, format, by):
    """Which entries are stored, zeros too."""
    t = gs.sparsify(dense, format, by)
    t.validate()
    assert torch.equal(t.to_dense(), torch.where(stored(t), dense, 0))
    return stored(t)


def stored(t):
    at = t.pattern.coo()
    kept = torch.zeros(t.shape, dtype=torch.bool)
    kept[tuple(at[:, at[0] >= 0])] = True
    return kept


def first_largest(row, count):
    """The definition: the largest, of equal ones the first."""
    order = sorted(range(len(row)), key=lambda n: (-row[n], n))
    return sorted(order[:count])


def numbers(shape, seed=0):
    """Small integers, so that many are equal, and some 0."""
    return torch.randint(-3, 4, shape, generator=torch.Generator().manual_seed(seed)).float()


@settings(max_examples=15)
@given(SIZES, st.sampled_from(FORMATS), st.floats(0, 1), st.integers(0, 99))
def test_a_fraction_of_every_row(size, format, density, seed):
    dense = numbers(size, seed)
    kept = kept_of(dense, format, gs.by.magnitude(density, per="row"))
    for row, marks in zip(dense.abs().tolist(), kept, strict=True):
        assert marks.nonzero()[:, 0].tolist() == first_largest(row, round(density * len(row)))


@given(
    st.sampled_from(FORMATS), st.sampled_from([(2, 3), (1, 4), (4, 12), (4, 1)]), st.floats(0, 1), st.integers(0, 99)
)
def test_a_fraction_of_every_tile(format, tile, density, seed):
    dense = numbers((4, 12), seed)
    kept = kept_of(dense, format, gs.by.magnitude(density, per=tile))
    for r, c in itertools.product(range(0, 4, tile[0]), range(0, 12, tile[1])):
        own = dense[r : r + tile[0], c : c + tile[1]].abs().reshape(-1).tolist()
        marks = kept[r : r + tile[0], c : c + tile[1]].reshape(-1)
        assert marks.nonzero()[:, 0].tolist() == first_largest(own, round(density * len(own)))


def test_tiles_and_rows_of_blocks():
    dense = torch.randn(8, 24)
    for format in (gs.BSR((2, 4)), gs.BSC((2, 4)), gs.DBSR((2, 4)), gs.BlockELL((2, 4))):
        norms = dense.unflatten(0, (4, 2)).unflatten(2, (6, 4)).abs().sum((1, 3))
        rows = kept_of(dense, format, gs.by.magnitude(0.5, per="row"))[::2, ::4]
        assert torch.equal(rows, norms >= norms.topk(3, -1).values[:, -1:])
        tiles = kept_of(dense, format, gs.by.magnitude(1 / 6, per=(4, 12)))[::2, ::4]
        best = norms.unflatten(0, (2, 2)).unflatten(2, (2, 3)).amax((1, 3), keepdim=True)
        assert torch.equal(tiles, (norms.unflatten(0, (2, 2)).unflatten(2, (2, 3)) == best).reshape(4, 6))


@pytest.mark.parametrize("norm", ["l1", "l2", "max"])
def test_norms_of_blocks(norm):
    dense = torch.randn(12, 8).to(torch.bfloat16)
    parts = dense.double().unflatten(0, (4, 3)).unflatten(2, (4, 2)).transpose(1, 2).flatten(2)
    size = {"l1": parts.abs().sum(-1), "l2": parts.square().sum(-1).sqrt(), "max": parts.abs().amax(-1)}[norm]
    chosen = torch.zeros(16, dtype=torch.bool)
    chosen[first_largest(size.reshape(-1).tolist(), 4)] = True
    right = chosen.view(4, 4).repeat_interleave(3, 0).repeat_interleave(2, 1)
    assert torch.equal(kept_of(dense, gs.BSR((3, 2)), gs.by.block_norm(0.25, norm)), right)
    for format in FORMATS:  # whose nodes are entries
        assert torch.equal(kept_of(dense, format, gs.by.block_norm(0.25, norm, block=(3, 2))), right)


def number_of(seed, *counters):
    """As gossamer.patterns.random says it."""

    def mix(x):
        x = (x ^ x >> 16) * 0x7FEB352D & 0xFFFFFFFF
        x = (x ^ x >> 15) * 0x846CA68B & 0xFFFFFFFF
        return x ^ x >> 16

    x = mix(seed & 0xFFFFFFFF ^ mix(seed >> 32))
    for n in counters:
        x = mix(x + 0x9E3779B9 * (n + 1) & 0xFFFFFFFF)
    return x


def test_random_is_a_number_of_the_seed():
    dense = torch.ones(6, 10)
    kept = kept_of(dense, gs.CSR, gs.by.random(0.3, seed=7 << 40))
    scores = [number_of(7 << 40, i, j) for i in range(6) for j in range(10)]
    assert kept.view(-1).nonzero()[:, 0].tolist() == sorted(sorted(range(60), key=scores.__getitem__)[-18:])
    for format in FORMATS:
        assert torch.equal(kept_of(dense, format, gs.by.random(0.3, seed=7 << 40)), kept)
    assert not torch.equal(kept_of(dense, gs.CSR, gs.by.random(0.3, seed=8)), kept)
    assert kept_of(dense, gs.CSR, gs.by.random(0.3, per="row")).sum(1).tolist() == [3] * 6
    blocks = kept_of(dense, gs.CSR, gs.by.random(0.4, block=(2, 5)))
    assert torch.equal(blocks, kept_of(dense, gs.BSR((2, 5)), gs.by.random(0.4)))
    assert blocks.sum() == 2 * 10
    of_four = kept_of(torch.ones(3, 8), gs.NM(1, 4), gs.by.random(0.25, 1))
    assert of_four.view(3, 2, 4).sum(-1).eq(1).all()


def test_random_of_many_is_uniform():
    kept = stored(gs.sparsify(torch.ones(200, 300), gs.CSR, gs.by.random(0.5)))
    assert kept.sum() == 30000
    # Five standard deviations of a hypergeometric count.
    for part in (kept[:100], kept[:, :150], kept[::2], kept[:, ::2]):
        assert abs(int(part.sum()) - 15000) < 5 * math.sqrt(60000 / 16)


def groups(marks, m):
    return marks.unflatten(-1, (-1, m))


@settings(max_examples=15)
@given(st.sampled_from([(1, 2), (2, 4), (1, 4), (3, 5)]), st.integers(1, 5), st.integers(0, 99))
def test_n_of_every_m(pair, rows, seed):
    n, m = pair
    dense = numbers((rows, 3 * m), seed)
    for format in (gs.CSR, gs.NM(n, m)):
        kept = groups(kept_of(dense, format, gs.by.n_of_m(n, m)), m).flatten(0, 1)
        for group, marks in zip(dense.abs().view(-1, m).tolist(), kept, strict=True):
            assert marks.nonzero()[:, 0].tolist() == first_largest(group, n)


def all_tiles(n):
    for rows in itertools.product(itertools.combinations(range(4), n), repeat=4):
        tile = torch.zeros(4, 4, dtype=torch.bool)
        for r, columns in enumerate(rows):
            tile[r, list(columns)] = True
        if (tile.sum(0) == n).all():
            yield tile


@pytest.mark.parametrize("n", [1, 2, 3])
def test_the_best_transposable_tile_is_the_best_of_all(n):
    dense = torch.randn(8, 12, dtype=torch.float64)
    kept = gs.by.n_of_m(n, 4, transposable=True).mask(dense)
    tiles = list(all_tiles(n))
    assert len(tiles) == {1: 24, 2: 90, 3: 24}[n]
    for r, c in itertools.product(range(0, 8, 4), range(0, 12, 4)):
        size, marks = dense[r : r + 4, c : c + 4].abs(), kept[r : r + 4, c : c + 4]
        assert marks.sum(0).eq(n).all()
        assert marks.sum(1).eq(n).all()
        assert size[marks].sum() >= max(size[tile].sum() for tile in tiles) - 1e-12


def test_greedy_transposable_tiles():
    for n, m in ((2, 4), (4, 8), (1, 3)):
        dense = torch.randn(2, 3 * m, 2 * m)
        kept = gs.by.n_of_m(n, m, "greedy", transposable=True).mask(dense)
        assert groups(kept, m).sum(-1).le(n).all()
        assert groups(kept.mT, m).sum(-1).le(n).all()
        # Whatever is left out had no room in its row or in its column.
        tiles = kept.unflatten(1, (-1, m)).unflatten(3, (-1, m))
        full = (tiles.sum(2, keepdim=True) == n) | (tiles.sum(4, keepdim=True) == n)
        assert (tiles | full).all()
        if m == 4:
            best = gs.by.n_of_m(n, m, transposable=True).mask(dense)
            assert dense[best].abs().sum() >= dense[kept].abs().sum()
    greedy = gs.by.n_of_m(1, 2, "greedy", transposable=True).mask(torch.tensor([[5.0, 4], [4, 1]]))
    assert greedy.tolist() == [[True, False], [False, True]]  # the best would be 4 + 4


def test_groups_of_n_of_m_have_every_pattern_as_often():
    dense = torch.randn(24, 8)
    kept = gs.by.n_of_m(2, 4, group=2).mask(dense)
    for r, c in itertools.product(range(0, 24, 12), range(0, 8, 4)):
        patterns = [tuple(row) for row in kept[r : r + 12, c : c + 4].tolist()]
        assert sorted(patterns.count(one) for one in set(patterns)) == [2] * 6
    # One group of its best pattern for all: greedy gives each what it is best at.
    eye = torch.eye(4).repeat(2, 1)
    assert torch.equal(gs.by.n_of_m(1, 4, group=2).mask(eye), eye.bool())


def test_nan_is_kept():
    dense = torch.tensor([[0.0, math.nan, 5, math.inf], [1, 2, 3, math.nan]])
    for by in (gs.by.magnitude(0.5, "row"), gs.by.n_of_m(2, 4), gs.by.threshold(4)):
        assert gs.sparsify(dense, gs.CSR, by).to_dense().isnan().sum() == 2
    assert gs.by.n_of_m(2, 4, transposable=True).mask(dense.repeat(2, 1))[0, 1]


def test_like_shares_the_pattern():
    dense = torch.randn(6, 8)
    half = gs.sparsify(dense, gs.CSR, gs.by.magnitude(0.5))
    other = torch.randn(6, 8)
    same = gs.sparsify(other, gs.CSR, gs.by.like(half))
    assert same.pattern is half.pattern
    right = torch.where(stored(half), other, 0)
    for format in (*FORMATS, gs.COO.with_batch(0)):
        for given_ in (half, half.pattern, half.to(gs.COO), half.to_torch()):
            assert torch.equal(gs.sparsify(other, format, gs.by.like(given_)).to_dense(), right)
    assert gs.sparsify(other, gs.CSC, gs.by.like(half)).pattern is gs.sparsify(dense, gs.CSC, gs.by.like(half)).pattern
    blocks = gs.sparsify(other, gs.BSR(2), gs.by.like(half))
    right = torch.where(gs.sparsify(dense, gs.BSR(2), lambda x: stored(half)).to_dense() != 0, other, 0)
    assert torch.equal(blocks.to_dense(), right)
    pairs = gs.sparsify(dense, gs.NM(2, 4), gs.by.n_of_m(1, 4))
    assert gs.sparsify(other, gs.NM(2, 4), gs.by.like(pairs)).pattern is pairs.pattern
    assert gs.sparsify(other, gs.NM(2, 4), gs.by.like(gs.sparsify(dense, gs.CSR, gs.by.n_of_m(1, 4)))).nnz == 24


def test_everything_and_patterns_by_position():
    dense = numbers((6, 8))
    assert kept_of(dense, gs.CSR, gs.by.everything()).all()
    causal = torch.ones(6, 8, dtype=torch.bool).tril()
    assert torch.equal(kept_of(dense, gs.CSR, gs.by.where(gs.patterns.causal())), causal)
    heads = gs.patterns.per_head([gs.patterns.causal(), gs.patterns.everything()])
    kept = kept_of(numbers((2, 2, 6, 8)), gs.CSR, gs.by.where(heads))
    assert torch.equal(kept[1, 0], causal)
    assert kept[:, 1].all()


@pytest.mark.parametrize("shape", [(0, 4), (4, 0), (1, 1), (1, 7), (63, 1)])
def test_ragged_and_empty(shape):
    dense = torch.randn(shape)
    kinds = [gs.by.magnitude(0.5), gs.by.magnitude(0.5, "row"), gs.by.random(0.5), gs.by.threshold(0.3),
             gs.by.everything(), gs.by.where(lambda i, j: i == j), gs.by.block_norm(0.5, block=1)]  # fmt: skip
    for by in kinds:
        for format in (gs.CSR, gs.COO, gs.CSC):
            kept = kept_of(dense, format, by)
            if by is kinds[3]:
                assert torch.equal(kept, dense.abs() >= 0.3)
    assert gs.by.n_of_m(2, 4).mask(torch.zeros(0, 4)).shape == (0, 4)


BAD = [
    (lambda x: gs.by.magnitude(1.5), gs.FormatError, r"magnitude\(1.5\): the density is the fraction"),
    (lambda x: gs.by.random(-0.1), gs.FormatError, r"random\(-0.1\): the density is the fraction"),
    (lambda x: gs.by.block_norm("all"), gs.FormatError, r"block_norm\('all'\): the density is the fraction"),
    (lambda x: gs.by.block_norm(0.1, "l3"), gs.FormatError, "the norm is .* not 'l3'"),
    (lambda x: gs.by.block_norm(0.1, block=0), gs.FormatError, "a block is a positive integer"),
    (lambda x: gs.by.magnitude(0.1, per="column"), gs.FormatError, "per is .* not 'column'"),
    (lambda x: gs.by.magnitude(0.1, per=(2, 0)), gs.FormatError, "a block is a positive integer"),
    (lambda x: gs.by.random(0.1, seed=-1), gs.TensorError, "random: a seed is an integer"),
    (lambda x: gs.by.threshold(-1), gs.FormatError, r"threshold\(-1\)"),
    (lambda x: gs.by.function(3), gs.TensorError, "function takes a function, not a int"),
    (lambda x: gs.by.like(x), gs.TensorError, r"not a dense tensor of \(6, 10\)"),
    (lambda x: gs.by.n_of_m(5, 4), gs.FormatError, "1 <= n <= m"),
    (lambda x: gs.by.n_of_m(2, 4, "fast"), gs.FormatError, "not 'fast'"),
    (lambda x: gs.by.n_of_m(4, 8, transposable=True), gs.FormatError, 'use how="greedy"'),
    (lambda x: gs.by.n_of_m(2, 4, transposable=True, group=1), gs.FormatError, "either transposable, or a group"),
    (lambda x: gs.by.n_of_m(2, 4, group=0), gs.FormatError, "a positive number of groups"),
    (lambda x: gs.sparsify(x, gs.CSR, gs.by.n_of_m(2, 4)), gs.FormatError, "4 does not divide dimension -1 .* to 12"),
    (
        lambda x: gs.sparsify(x[:, :8], gs.CSR, gs.by.n_of_m(2, 4, transposable=True)),
        gs.FormatError,
        "4 does not divide dimension -2 .* to 8",
    ),
    (
        lambda x: gs.sparsify(x[:, :8], gs.CSR, gs.by.n_of_m(2, 4, group=2)),
        gs.FormatError,
        "12 does not divide dimension -2",
    ),
    (lambda x: gs.sparsify(x, gs.CSR, gs.by.magnitude(0.1, per=(4, 2))), gs.FormatError, "tiles of 4 rows do not"),
    (lambda x: gs.sparsify(x, gs.BSR(2), gs.by.magnitude(0.1, per=(3, 2))), gs.FormatError, "do not hold whole nodes"),
    (lambda x: gs.sparsify(x, gs.CSR, gs.by.random(0.1, block=4)), gs.FormatError, "a block of 4 does not divide"),
    (lambda x: gs.sparsify(x[:, :8], gs.NM(2, 4), gs.by.everything()), gs.FormatError, "not everything"),
    (lambda x: gs.sparsify(x[:, :8], gs.NM(2, 4), gs.by.random(0.1)), gs.FormatError, r"use random\(0.5\)"),
    (lambda x: gs.sparsify(x[:, :8], gs.NM(1, 4), gs.by.n_of_m(2, 4)), gs.TensorError, "which holds 1"),
    (
        lambda x: gs.sparsify(x, gs.CSR, gs.by.like(torch.eye(6).to_sparse_csr())),
        gs.TensorError,
        r"the tensor is \(6, 10\), and the pattern \(6, 6\)",
    ),
    (lambda x: gs.sparsify(x[None, None, None], gs.CSR, gs.by.where(gs.patterns.causal())), gs.TensorError, "2, 3 or"),
]  # fmt: skip


@pytest.mark.parametrize(("run", "error", "message"), BAD, ids=range(len(BAD)))
def test_bad_input(run, error, message):
    with pytest.raises(error, match=message):
        run(torch.randn(6, 10))
