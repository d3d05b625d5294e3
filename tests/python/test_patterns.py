"""Patterns by position against their definitions, written out one position at a time; and what they refuse."""

import copy
import math
import pickle

import pytest
import torch

import gossamer as gs
from gossamer.errors import GossamerError, UnsupportedError

P = gs.patterns
SIZES = [(1, 1), (7, 7), (63, 65), (65, 63), (37, 101)]


def near(q, k, size, dilation):
    return any(k == q + sign * step * dilation for step in range(size) for sign in (-1, 1))


def cut(x, sizes):
    """The number of the window that x is in, where windows follow each other and the last size repeats."""
    window = 0
    while True:
        size = sizes[min(window, len(sizes) - 1)]
        if x < size:
            return window
        x -= size
        window += 1


# A pattern, and whether query q may see key k of n queries and m keys.
DEFINITIONS = {
    "everything": (P.everything(), lambda q, k, n, m: True),
    "nothing": (~P.everything(), lambda q, k, n, m: False),
    "causal": (P.causal(), lambda q, k, n, m: k <= q),
    "causal, from the end": (P.causal("bottom-right"), lambda q, k, n, m: n - 1 - q <= m - 1 - k),
    "window": (P.sliding_window(5), lambda q, k, n, m: abs(q - k) in range(5)),
    "window of one": (P.sliding_window(1), lambda q, k, n, m: q == k),
    "window longer than all": (P.sliding_window(1000), lambda q, k, n, m: True),
    "window before": (P.sliding_window(9, sides=1), lambda q, k, n, m: q - k in range(9)),
    "window of two sides": (P.sliding_window((3, 11)), lambda q, k, n, m: k in range(q - 3, q + 12)),
    "window without a left end": (P.sliding_window((None, 2)), lambda q, k, n, m: k < q + 3),
    "window without a right end": (P.sliding_window((4, None)), lambda q, k, n, m: k > q - 5),
    "window, from the end": (
        P.sliding_window((3, 1), align="bottom-right"),
        lambda q, k, n, m: k in range(q + m - n - 3, q + m - n + 2),
    ),
    "causal window": (P.causal() & P.sliding_window(6), lambda q, k, n, m: q - 6 < k <= q),
    "dilated": (P.dilated(4, 3), lambda q, k, n, m: near(q, k, 4, 3)),
    "dilated before": (P.dilated(4, 3, sides=1), lambda q, k, n, m: k in (q, q - 3, q - 6, q - 9)),
    "strided": (P.strided(7), lambda q, k, n, m: math.fmod(q - k, 7) == 0),
    "Sparse Transformer, strided": (
        P.causal() & (P.sliding_window(8) | P.strided(8)),
        lambda q, k, n, m: q - k >= 0 and (q - k < 8 or (q - k) % 8 == 0),
    ),
    "block diagonal": (P.block_diagonal(10), lambda q, k, n, m: q // 10 == k // 10),
    "block window": (P.block_window(5, 2, 1), lambda q, k, n, m: q // 5 - 2 <= k // 5 <= q // 5 + 1),
    "fixed": (P.fixed(8, 3), lambda q, k, n, m: q // 8 == k // 8 or k % 8 in (5, 6, 7)),
    "Sparse Transformer, fixed": (
        P.causal() & P.fixed(16),
        lambda q, k, n, m: k <= q and (q // 16 == k // 16 or k % 16 == 15),
    ),
    "variable windows": (
        P.variable_windows([3, 20, 6]),
        lambda q, k, n, m: cut(q, [3, 20, 6]) == cut(k, [3, 20, 6]),
    ),
    "one variable window": (P.variable_windows([9]), lambda q, k, n, m: q // 9 == k // 9),
    "butterfly": (P.butterfly(6, 3), lambda q, k, n, m: (q // 6) ^ (k // 6) in (0, 1, 2, 4)),
    "diagonal of a butterfly": (P.butterfly(6, 0), lambda q, k, n, m: q // 6 == k // 6),
    "pixelfly": (P.pixelfly(4, 2, 2), lambda q, k, n, m: (q // 4) ^ (k // 4) in (0, 1, 2) or q < 8 or k < 8),
    "global tokens": (P.global_tokens(5), lambda q, k, n, m: q < 5 or k < 5),
    "global rows": (P.global_tokens(5, columns=False), lambda q, k, n, m: q < 5),
    "global columns": (P.global_tokens([6, 40], rows=False), lambda q, k, n, m: k in (6, 40)),
    "global runs": (
        P.global_tokens([(30, 33), 2, (31, 36)]),
        lambda q, k, n, m: not {q, k}.isdisjoint({2, 30, 31, 32, 33, 34, 35}),
    ),
    "longformer": (P.longformer(8, 2), lambda q, k, n, m: abs(q - k) <= 4 or q < 2 or k < 2),
    "dilated longformer": (
        P.longformer(8, [3], dilation=2),
        lambda q, k, n, m: (abs(q - k) <= 8 and (q - k) % 2 == 0) or q == 3 or k == 3,
    ),
    "prefix": (P.prefix_lm(20), lambda q, k, n, m: k <= q or k < 20),
    "no prefix": (P.prefix_lm(0), lambda q, k, n, m: k <= q),
}


def written_out(allowed, n, m):
    return torch.tensor([[bool(allowed(q, k, n, m)) for k in range(m)] for q in range(n)])


def positions(n, m):
    return torch.arange(n)[:, None], torch.arange(m)


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("name", DEFINITIONS)
def test_a_pattern_is_what_its_definition_says(name, size):
    pattern, allowed = DEFINITIONS[name]
    expected = written_out(allowed, *size)
    assert torch.equal(pattern(0, 0, *positions(*size), lengths=size), expected)
    for block in (16, (8, 32)):
        blocks = pattern.blocks(*size, block)
        assert torch.equal(blocks.to_dense()[0, 0], expected)
        assert blocks.entries == int(expected.sum())


GRIDS = {
    "axial": (P.axial([6, 11]), (6, 11), lambda q, k: q[0] == k[0] or q[1] == k[1]),
    "rows": (P.axial([6, 11], [-1]), (6, 11), lambda q, k: q[0] == k[0]),
    "columns": (P.axial([6, 11], [0]), (6, 11), lambda q, k: q[1] == k[1]),
    "axial in 3-D": (
        P.axial([3, 4, 5]),
        (3, 4, 5),
        lambda q, k: sum(a != b for a, b in zip(q, k, strict=True)) <= 1,
    ),
    "axial in 3-D along two": (
        P.axial([3, 4, 5], [0, 2]),
        (3, 4, 5),
        lambda q, k: q[1] == k[1] and (q[0] == k[0] or q[2] == k[2]),
    ),
    "swin": (P.swin([8, 12], 4), (8, 12), lambda q, k: all(a // 4 == b // 4 for a, b in zip(q, k, strict=True))),
    "swin that does not divide": (
        P.swin([5, 7], [2, 3]),
        (5, 7),
        lambda q, k: q[0] // 2 == k[0] // 2 and q[1] // 3 == k[1] // 3,
    ),
    "neighbourhood": (
        P.neighbourhood([9, 8], [3, 5]),
        (9, 8),
        lambda q, k: k[0] in neighbours(q[0], 9, 3) and k[1] in neighbours(q[1], 8, 5),
    ),
    "neighbourhood of an even kernel": (P.neighbourhood([13], 4), (13,), lambda q, k: k[0] in neighbours(q[0], 13, 4)),
    "all are neighbours": (P.neighbourhood([13], 13), (13,), lambda q, k: True),
    "dilated neighbourhood": (
        P.neighbourhood([29], 3, dilation=4),
        (29,),
        lambda q, k: k[0] in dilated_neighbours(q[0], 29, 3, 4),
    ),
    "causal neighbourhood": (
        P.neighbourhood([7, 9], 3, causal=[True, False]),
        (7, 9),
        lambda q, k: k[0] in (q[0], q[0] - 1, q[0] - 2) and k[1] in neighbours(q[1], 9, 3),
    ),
}


def neighbours(q, size, kernel):
    """The window with q in its middle, moved step by step until it is within the size."""
    window = list(range(q - kernel // 2, q - kernel // 2 + kernel))
    while window[0] < 0:
        window = [k + 1 for k in window]
    while window[-1] >= size:
        window = [k - 1 for k in window]
    return window


def dilated_neighbours(q, size, kernel, dilation):
    own = list(range(q % dilation, size, dilation))
    return [own[i] for i in neighbours(own.index(q), len(own), kernel)]


def shifted_windows(shape, window, shift):
    """Swin's own way: roll, cut into windows, and let only those see each other that the mask of regions joins."""
    height, width = shape
    regions = torch.zeros(height, width, dtype=torch.long)
    slices = (slice(0, -window), slice(-window, -shift), slice(-shift, None))
    for n, (rows, columns) in enumerate((r, c) for r in slices for c in slices):
        regions[rows, columns] = n
    windows = (torch.arange(height)[:, None] // window) * width + torch.arange(width) // window
    back = [torch.roll(x, (shift, shift), (0, 1)).reshape(-1) for x in (windows, regions)]
    return (back[0][:, None] == back[0]) & (back[1][:, None] == back[1])


@pytest.mark.parametrize("name", GRIDS)
def test_a_pattern_of_a_grid_is_what_its_definition_says(name):
    pattern, shape, allowed = GRIDS[name]
    points = torch.cartesian_prod(*(torch.arange(size) for size in shape)).reshape(-1, len(shape)).tolist()
    expected = torch.tensor([[bool(allowed(q, k)) for k in points] for q in points])
    size = len(points)
    assert torch.equal(pattern(0, 0, *positions(size, size)), expected)
    assert torch.equal(pattern.blocks(size, block=16).to_dense()[0, 0], expected)


@pytest.mark.parametrize("shift", [1, 2, 3])
def test_shifted_windows_are_those_of_swin(shift):
    pattern = P.swin([8, 12], 4, shift)
    assert torch.equal(pattern.blocks(96, block=32).to_dense()[0, 0], shifted_windows((8, 12), 4, shift))


@pytest.mark.parametrize("block", [16, (32, 8)], ids=str)
def test_documents(block):
    ids = [0] * 5 + [1] * 40 + [2] + [3] * 17
    expected = torch.tensor([[a == b for b in ids] for a in ids])
    packed = P.documents([5, 40, 1, 17])
    assert torch.equal(packed(0, 0, *positions(63, 63)), expected)
    assert torch.equal(packed.blocks(63, block=block).to_dense()[0, 0], expected)
    assert P.documents(ids=ids) == packed
    assert P.documents([5, 0, 40, 1, 17]).blocks(63).entries == int(expected.sum())


def test_documents_of_texts_in_any_order_with_padding():
    ids = torch.tensor([[3, 3, 1, 1, 3, -1, -2, 7, 7], [0, 0, 0, 0, 0, 0, 0, 0, -1]])
    expected = (ids[:, :, None] == ids[:, None, :]) & (ids[:, :, None] >= 0)
    pattern = P.documents(ids=ids)
    assert torch.equal(pattern.blocks(9, block=4).to_dense()[:, 0], expected)
    b = torch.arange(2)[:, None, None]
    assert torch.equal(pattern(b, 0, *positions(9, 9)), expected)
    texts = P.documents([[4, 5], [9]])
    assert texts.own_batch == 2
    assert texts.blocks(9, block=4).entries == 16 + 25 + 81


def test_padding_and_prefixes_by_text():
    lengths = [0, 3, 33, 40]
    expected = torch.arange(40) < torch.tensor(lengths)[:, None, None]
    by_length, by_mask = P.key_padding(lengths), P.key_padding(expected[:, 0])
    for pattern in (by_length, by_mask):
        assert torch.equal(pattern.blocks(9, 40, 8).to_dense()[:, 0], expected.expand(4, 9, 40))
    q, k = positions(40, 40)
    prefix = P.prefix_lm(lengths).blocks(40, block=16).to_dense()[:, 0]
    assert torch.equal(prefix, expected | (k <= q))
    holes = torch.rand(2, 40) < 0.5
    assert torch.equal(P.key_padding(holes).blocks(7, 40, 8).to_dense()[:, 0], holes[:, None].expand(2, 7, 40))


def test_a_pattern_for_each_head():
    patterns = [P.causal(), P.sliding_window(3), ~P.causal(), P.causal()]
    pattern = P.per_head(patterns) & P.global_tokens(20)
    q, k = positions(65, 63)
    expected = torch.stack([p(0, 0, q, k) & ((q < 20) | (k < 20)) for p in patterns])
    assert torch.equal(pattern(0, torch.arange(4)[:, None, None], q, k), expected)
    blocks = pattern.blocks(65, 63, 16)
    assert blocks.leading == (1, 4)
    assert torch.equal(blocks.to_dense()[0], expected)
    assert P.per_head([P.causal()] * 3).blocks(65, block=16).leading == (1, 1)  # all share one list


def test_a_pattern_for_each_head_in_texts_of_their_own():
    pattern = P.per_head([P.causal(), P.key_padding([5, 9]), P.everything()])
    q, k = positions(9, 9)
    b, h = torch.arange(2)[:, None, None, None], torch.arange(3)[:, None, None]
    got = pattern.blocks(9, block=4, batch=2).to_dense()
    assert torch.equal(got, pattern(b, h, q, k))
    assert got.shape == (2, 3, 9, 9)


@pytest.mark.parametrize("heads", [1, 2, 8, 12])
def test_alibi(heads):
    # A power of two: 2^-8/n and its powers. Otherwise also every other slope of the next power of two.
    def slopes(n):
        if n & (n - 1) == 0:
            return [2 ** (-8 / n) ** 1 * (2 ** (-8 / n)) ** i for i in range(n)]
        below = 2 ** math.floor(math.log2(n))
        return slopes(below) + slopes(2 * below)[0::2][: n - below]

    q, k = positions(101, 101)
    bias = -torch.tensor(slopes(heads), dtype=torch.float64)[:, None, None] * (q - k).abs()
    pattern = P.alibi(heads, 6.3)
    assert torch.equal(pattern.blocks(101, block=16).to_dense()[0], (bias >= -6.3).expand(heads, -1, -1))
    assert (
        P.alibi([0.5, 0.25], 2.0).blocks(9).entries
        == P.per_head([P.sliding_window(5), P.sliding_window(9)]).blocks(9).entries
    )


def test_bigbird_is_a_window_global_blocks_and_random_ones():
    pattern = P.bigbird(8, window=3, global_blocks=2, random=3, seed=5)
    i, j = (x // 8 for x in positions(127, 127))
    sure = ((i - j).abs() <= 1) | (i < 2) | (j < 2)
    got = pattern.blocks(127, block=16).to_dense()[0, 0]
    assert bool((got | ~sure).all())
    assert torch.equal(
        got & ~sure, P.random_blocks(8, 3, seed=5)(0, 0, *positions(127, 127), lengths=(127, 127)) & ~sure
    )
    assert torch.equal(P.bigbird(8, global_blocks=0, random=0)(0, 0, *positions(127, 127)), (i - j).abs() <= 1)


def test_a_layout_of_blocks():
    layout = torch.rand(3, 5, 4) < 0.4
    expected = layout.repeat_interleave(12, 1).repeat_interleave(16, 2)[:, :57, :63]
    for given in (layout, layout.long()):
        pattern = P.from_layout(given, (12, 16))
        for block in (8, (12, 16), 32):
            assert torch.equal(pattern.blocks(57, 63, block).to_dense()[0], expected)
    assert P.from_layout(layout[0], (12, 16)).blocks(57, 63, heads=7).leading == (1, 1)


def test_patterns_are_values():
    first = P.causal() & (P.sliding_window(9) | P.global_tokens(3))
    second = P.causal() & (P.sliding_window(9) | P.global_tokens(3))
    assert first == second
    assert hash(first) == hash(second)
    assert first != P.causal() & (P.sliding_window(8) | P.global_tokens(3))
    assert ~~first == first
    assert P.causal() & P.causal() == P.causal()
    assert P.documents([3, 4]) == P.documents([3, 4]) != P.documents([4, 3])
    assert len({P.key_padding([3]), P.key_padding([3]), P.key_padding([4])}) == 2
    with pytest.raises(AttributeError):
        first.parts = ()


def test_the_text_of_a_pattern_makes_it_again():
    patterns = [pattern for pattern, _ in DEFINITIONS.values()] + [pattern for pattern, _, _ in GRIDS.values()]
    for pattern in patterns:
        assert eval(repr(pattern), vars(P)) == pattern, repr(pattern)


def test_patterns_are_copied_and_pickled():
    patterns = [pattern for pattern, _ in DEFINITIONS.values()] + [P.documents([3, 4]), P.per_head([P.causal()])]
    for pattern in patterns:
        assert copy.deepcopy(pattern) is pattern
        assert pickle.loads(pickle.dumps(pattern)) == pattern
    function = P.from_function(lambda b, h, q, k: q >= k)
    assert copy.copy(function) is function
    with pytest.raises(UnsupportedError, match="pickle the function"):
        pickle.dumps(function)


def test_positions_may_be_numbers():
    assert P.causal()(0, 0, 4, 3).item() is True
    assert P.causal()(0, 0, 3, torch.tensor([3, 4])).tolist() == [True, False]


ERRORS = {
    "a window of 0": (lambda: P.sliding_window(0), "window.* 1 or more, not 0"),
    "a negative side": (lambda: P.sliding_window((2, -1)), "side of a window.* 0 or more, not -1"),
    "three sides": (lambda: P.sliding_window((1, 2, 3)), "two, .left, right., not 3"),
    "sides of what has them": (lambda: P.sliding_window((1, 2), sides=1), "leave `sides` out"),
    "a third side": (lambda: P.sliding_window(3, sides=3), "sides is 1 or 2, not 3"),
    "no ends": (lambda: P.sliding_window((None, None)), "everything"),
    "an alignment": (lambda: P.causal("left"), "'top-left', 'bottom-right', not 'left'"),
    "a fraction": (lambda: P.sliding_window(2.5), "integer of 1 or more, not 2.5"),
    "a flag": (lambda: P.block_diagonal(True), "integer of 1 or more, not True"),
    "a dilation of 0": (lambda: P.dilated(3, 0), "dilation is an integer of 1 or more, not 0"),
    "a stride of 0": (lambda: P.strided(0), "stride is an integer of 1 or more"),
    "a long summary": (lambda: P.fixed(4, 5), "summary of 5 keys is longer than a segment of 4"),
    "no windows": (lambda: P.variable_windows([]), "list of one or more integers"),
    "an empty window": (lambda: P.variable_windows([3, 0]), "size is an integer of 1 or more, not 0"),
    "many strides": (lambda: P.butterfly(8, 41), "40 of them, not 41"),
    "an even window of blocks": (lambda: P.bigbird(8, window=4), "no middle; take 5"),
    "an odd window": (lambda: P.longformer(7, 1), "take 8"),
    "neither rows nor columns": (lambda: P.global_tokens(3, rows=False, columns=False), "neither rows nor columns"),
    "no tokens": (lambda: P.global_tokens([]), "list of tokens is empty"),
    "a negative token": (lambda: P.global_tokens([-1]), "position is an integer of 0 or more, not -1"),
    "tokens that end before": (lambda: P.global_tokens([(4, 4)]), "end of the tokens from 4 on is an integer of 5"),
    "a negative prefix": (lambda: P.prefix_lm([3, -1]), "prefixes are 0 or more, and the one at .1. is -1"),
    "a negative document": (lambda: P.documents([3, -2]), "lengths are 0 or more, and the one at .1. is -2"),
    "documents of nothing": (lambda: P.documents([]), "no tokens"),
    "lengths and ids": (lambda: P.documents([3], ids=[0, 0, 0]), "lengths, or ids, and not both"),
    "neither of them": (lambda: P.documents(), "lengths, or ids"),
    "texts of different sums": (lambda: P.documents([[3, 4], [3, 5]]), "text 0 have 7 tokens .* text 1 8"),
    "ids of floats": (lambda: P.documents(ids=torch.ones(3)), "integers of 1 or 2 dimensions, not torch.float32"),
    "padding of another shape": (lambda: P.key_padding(torch.ones(3, dtype=torch.bool)), "texts, keys., not of shape"),
    "no texts": (lambda: P.key_padding([]), "at least one text"),
    "no patterns": (lambda: P.per_head([]), "at least one head"),
    "something else for a head": (lambda: P.per_head([P.causal(), 3]), "head 1 has a int"),
    "no heads": (lambda: P.alibi(0, 1.0), "number of heads"),
    "a slope of 0": (lambda: P.alibi([0.5, 0], 1.0), "head 1 is 0"),
    "a negative threshold": (lambda: P.alibi(2, -1.0), "threshold is a finite number of 0 or more"),
    "one dimension": (lambda: P.axial([8]), "2 or more sizes"),
    "an axis": (lambda: P.axial([4, 4], [2]), "0 to 1, not 2"),
    "no axes": (lambda: P.axial([4, 4], []), "at least one axis"),
    "a shift of a window": (lambda: P.swin([8, 8], 4, 4), "shift of 4 in dimension 0 is not less than the window"),
    "windows of other dimensions": (lambda: P.swin([8, 8], [4]), "has 1 sizes, and the grid 2 dimensions"),
    "a long kernel": (lambda: P.neighbourhood([8, 20], 5, dilation=2), "over 10 positions, and dimension 0 has 8"),
    "flags of other dimensions": (lambda: P.neighbourhood([8], 3, causal=[True, False]), "2 flags"),
    "a layout of twos": (lambda: P.from_layout(torch.full((2, 2), 2), 8), "entries of 0 and 1, and at .0, 0. 2"),
    "a layout of one dimension": (lambda: P.from_layout(torch.ones(2), 8), "MB, NB"),
    "a count and a density": (lambda: P.random_blocks(8, 2, density=0.1), "and not both"),
    "a seed": (lambda: P.random_blocks(8, 2, seed=-1), "seed is an integer of 0 or more"),
    "a large density": (lambda: P.random_blocks(8, density=1.5), "between 0 and 1"),
    "a causal density": (lambda: P.random_blocks(8, density=0.5, causal=True), r"causal\(\) & random_blocks"),
    "a block of 0": (lambda: P.causal().blocks(8, block=0), "positive integer"),
    "a negative length": (lambda: P.causal().blocks(-1), "number of queries is an integer of 0 or more"),
    "a length that is none": (lambda: P.causal().blocks(8, 8.0), "number of keys is an integer"),
    "a format that is none": (lambda: P.causal().mask(8, 8, 16), "gs.BSR.128. or gs.CSR"),
    "other lengths": (lambda: P.documents([3, 4]).blocks(8), "7 tokens is made for 7 queries, not for 8 queries"),
    "one query": (lambda: P.documents([3, 4]).blocks(1), "7 queries, not for 1 query"),
    "a long text": (lambda: P.key_padding([9]).blocks(8), "a text of 9 keys, where there are 8"),
    "another grid": (lambda: P.swin([4, 4], 2).blocks(17), "grid of 4 x 4 .* 16 queries, not for 17"),
    "another layout": (lambda: P.from_layout(torch.ones(2, 2), 8).blocks(17), "are 3 x 3 blocks"),
    "other heads": (lambda: P.per_head([P.causal()] * 2).blocks(8, heads=3), "2 heads, not for 3 heads"),
    "other texts": (lambda: P.key_padding([1, 2]).blocks(8, batch=3), "2 texts, not for 3 texts"),
    "other heads in a part": (
        lambda: (P.causal() & (P.alibi(2, 3.0) | P.per_head([P.causal()] * 3))).blocks(8),
        "3 heads, not for 2 heads",
    ),
    "unknown lengths": (lambda: P.causal("bottom-right")(0, 0, 1, 1), "lengths=.queries, keys."),
    "a text that is not there": (lambda: P.key_padding([3])(1, 0, 0, 0), "text 1: .* 0 to 0"),
    "a position that is not there": (lambda: P.documents([3])(0, 0, 0, torch.tensor([1, 3])), "key 3: .* 0 to 2"),
    "a position between two": (lambda: P.causal()(0, 0, torch.ones(2), 1), "q of a pattern is a tensor of integers"),
    "a key that is no number": (lambda: P.causal()(0, 0, 1, "1"), "k of a pattern is an integer"),
    "and": (lambda: P.causal() and P.causal(), "not and, or and not"),
}


@pytest.mark.parametrize("name", ERRORS)
def test_what_is_refused(name):
    make, text = ERRORS[name]
    with pytest.raises(GossamerError, match=text):
        make()
