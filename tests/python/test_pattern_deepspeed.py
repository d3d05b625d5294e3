"""DeepSpeed's layouts against what their documentation says of single blocks, and the order in which it draws."""

import random

import pytest
import torch

import gossamer as gs
from gossamer.errors import TensorError

D = gs.patterns.deepspeed
BLOCKS = [4, 8, 11, 16, 17]
DIRECTIONS = ["bidirectional", "unidirectional"]
WAYS = [("bidirectional", False), ("bidirectional", True), ("unidirectional", False)]


def layout_of(config, blocks):
    layout = config.make_layout(blocks * config.block)
    assert layout.dtype == torch.int64
    assert layout.shape == (config.num_heads, blocks, blocks)
    return layout


def table(blocks, allowed):
    return torch.tensor([[int(allowed(i, j)) for j in range(blocks)] for i in range(blocks)])


@pytest.mark.parametrize("blocks", BLOCKS)
@pytest.mark.parametrize(("attention", "horizontal"), WAYS)
@pytest.mark.parametrize(("local", "count"), [(4, 1), (4, 2), (6, 3), (3, 3)])
def test_fixed(blocks, attention, horizontal, local, count):
    one_way = attention == "unidirectional"
    config = D.FixedSparsityConfig(3, 8, False, local, count, attention, horizontal)
    # The representatives are the last blocks of each segment; of a short last one the last of the sequence.
    begins = [min(start + local, blocks) - count for start in range(0, blocks, local)]

    def allowed(i, j):
        same = i // local == j // local and (j <= i or not one_way)
        column = any(begin <= j < begin + count and (i >= begin or not one_way) for begin in begins)
        row = horizontal and any(begin <= i < begin + count for begin in begins)
        return same or column or row

    assert torch.equal(layout_of(config, blocks), table(blocks, allowed).expand(3, -1, -1))


def test_fixed_with_other_representatives_for_each_head():
    config = D.FixedSparsityConfig(6, 16, True, 4, 1, num_different_global_patterns=3)
    layout = layout_of(config, 12)
    for head in range(6):
        own = 3 - head % 3
        assert torch.equal(layout[head], table(12, lambda i, j, own=own: i // 4 == j // 4 or j % 4 == own))


def test_fixed_moves_the_representatives_of_a_short_last_segment_to_the_end():
    # Segments 0-3, 4-7 and 8: with two representatives the last ones are 7 and 8, though 7 is in another segment.
    layout = layout_of(D.FixedSparsityConfig(1, 16, num_local_blocks=4, num_global_blocks=2), 9)[0]
    assert torch.equal(layout, table(9, lambda i, j: i // 4 == j // 4 or j in (2, 3, 6, 7, 8)))
    # The second pattern's offset would be within a last segment of three: 8, and stays there.
    config = D.FixedSparsityConfig(
        2, 16, True, num_local_blocks=4, num_global_blocks=2, num_different_global_patterns=2
    )
    assert torch.equal(layout_of(config, 11)[1], table(11, lambda i, j: i // 4 == j // 4 or j in (0, 1, 4, 5, 8, 9)))


@pytest.mark.parametrize("blocks", BLOCKS)
@pytest.mark.parametrize(("attention", "horizontal"), WAYS)
@pytest.mark.parametrize("ranges", [([0], None), ([2, 30], None), ([1, 9], [3, 40])], ids=str)
def test_variable(blocks, attention, ranges, horizontal):
    one_way = attention == "unidirectional"
    sizes = [2, 5, 3]
    config = D.VariableSparsityConfig(2, 16, False, 0, sizes, *ranges, attention, horizontal)
    begins, ends = ranges[0], ranges[1] or [begin + 1 for begin in ranges[0]]
    segment = [0] * 2 + [1] * 5 + [2 + n // 3 for n in range(30)]

    def allowed(i, j):
        same = segment[i] == segment[j] and (j <= i or not one_way)
        column = any(a <= j < e and (i >= a or not one_way) for a, e in zip(begins, ends, strict=True))
        row = horizontal and any(a <= i < e for a, e in zip(begins, ends, strict=True))
        return same or column or row

    assert torch.equal(layout_of(config, blocks), table(blocks, allowed).expand(2, -1, -1))


@pytest.mark.parametrize("attention", DIRECTIONS)
def test_variable_draws_random_blocks_row_by_row_and_head_by_head(attention):
    config = D.VariableSparsityConfig(3, 16, True, 2, [1], [], attention=attention)
    random.seed(5)
    layout = layout_of(config, 10)
    random.seed(5)
    for head in range(3):
        for row in range(10):
            columns = {row, *random.sample(range(10), 2)}  # on both sides, one-way or not
            assert layout[head, row].nonzero()[:, 0].tolist() == sorted(columns)


@pytest.mark.parametrize("blocks", BLOCKS)
@pytest.mark.parametrize("attention", DIRECTIONS)
@pytest.mark.parametrize("per_head", [False, True])
@pytest.mark.parametrize(("window", "count"), [(3, 1), (4, 2), (1, 0)])
def test_bigbird(blocks, attention, per_head, window, count):
    one_way = attention == "unidirectional"
    config = D.BigBirdSparsityConfig(2, 16, per_head, 1, window, count, attention)
    random.seed(blocks)
    layout = layout_of(config, blocks)
    random.seed(blocks)
    for head in range(2):
        if head == 0 or per_head:
            drawn = [random.sample(range(i + 1 if one_way else blocks), 1)[0] for i in range(blocks)]
        expected = table(
            blocks,
            lambda i, j, drawn=drawn: (
                (abs(i - j) <= window // 2 or i < count or j < count or j == drawn[i]) and (j <= i or not one_way)
            ),
        )
        assert torch.equal(layout[head], expected)


def test_bigbird_takes_all_blocks_where_a_row_has_fewer_than_are_drawn():
    layout = layout_of(D.BigBirdSparsityConfig(1, 16, False, 3, 1, 0, "unidirectional", seed=1), 8)[0]
    assert layout.sum(1).tolist()[:3] == [1, 2, 3]
    assert torch.equal(layout, layout.tril())


@pytest.mark.parametrize("blocks", BLOCKS)
@pytest.mark.parametrize("attention", DIRECTIONS)
@pytest.mark.parametrize("ranges", [([0], None), ([2, 30], None), ([1, 9], [3, 40])], ids=str)
def test_longformer(blocks, attention, ranges):
    config = D.BSLongformerSparsityConfig(2, 16, True, 4, *ranges, attention)
    begins, ends = ranges[0], ranges[1] or [begin + 1 for begin in ranges[0]]
    chosen = {x for a, e in zip(begins, ends, strict=True) for x in range(a, e)}
    expected = table(
        blocks,
        lambda i, j: (abs(i - j) <= 2 or i in chosen or j in chosen) and (j <= i or attention == "bidirectional"),
    )
    assert torch.equal(layout_of(config, blocks), expected.expand(2, -1, -1))


@pytest.mark.parametrize("blocks", BLOCKS)
@pytest.mark.parametrize("window", [1, 3, 4])
def test_local_sliding_window(blocks, window):
    one_way = D.LocalSlidingWindowSparsityConfig(2, 16, window)
    assert torch.equal(layout_of(one_way, blocks)[1], table(blocks, lambda i, j: i - window // 2 <= j <= i))
    both = D.LocalSlidingWindowSparsityConfig(2, 16, window, "bidirectional")
    assert torch.equal(layout_of(both, blocks)[1], table(blocks, lambda i, j: abs(i - j) <= window // 2))


CONFIGS = [
    D.FixedSparsityConfig(2, 16),
    D.FixedSparsityConfig(4, 16, True, num_different_global_patterns=4),
    D.VariableSparsityConfig(2, 16, num_random_blocks=2, seed=3),
    D.BigBirdSparsityConfig(3, 16, True, seed=4),
    D.BSLongformerSparsityConfig(2, 16),
    D.LocalSlidingWindowSparsityConfig(2, 16),
]


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: type(config).__name__)
def test_a_layout_is_a_pattern(config):
    layout = config.make_layout(144)
    expected = layout.bool().repeat_interleave(16, 1).repeat_interleave(16, 2)
    pattern = config.pattern(144)
    assert pattern.by_head is config.different_layout_per_head
    blocks = pattern.blocks(144, heads=config.num_heads)
    assert torch.equal(blocks.to_dense()[0].expand_as(expected), expected)
    lower = (pattern & gs.patterns.causal()).mask(144, format=gs.BSR(16), heads=config.num_heads).to_dense()
    assert torch.equal(lower.expand_as(expected), expected.tril())


def test_a_seed_gives_the_same_layout_again():
    first, second = (D.BigBirdSparsityConfig(2, 16, True, seed=7).make_layout(320) for _ in range(2))
    assert torch.equal(first, second)
    assert not torch.equal(first[0], first[1])
    assert not torch.equal(first, D.BigBirdSparsityConfig(2, 16, True, seed=8).make_layout(320))


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: D.FixedSparsityConfig(0), "num_heads is an integer of 1 or more"),
        (lambda: D.FixedSparsityConfig(2, block=0), "block is an integer of 1 or more"),
        (lambda: D.FixedSparsityConfig(2, num_local_blocks=4, num_global_blocks=3), "3 global blocks do not divide"),
        (lambda: D.FixedSparsityConfig(2, attention="both"), "'bidirectional', 'unidirectional', not 'both'"),
        (
            lambda: D.FixedSparsityConfig(2, attention="unidirectional", horizontal_global_attention=True),
            "horizontal global attention is bidirectional",
        ),
        (lambda: D.FixedSparsityConfig(2, num_different_global_patterns=2), "different_layout_per_head=True"),
        (
            lambda: D.FixedSparsityConfig(8, different_layout_per_head=True, num_different_global_patterns=5),
            "room for 4 patterns .* not for 5",
        ),
        (lambda: D.VariableSparsityConfig(2, local_window_blocks=[]), "at least one number"),
        (lambda: D.VariableSparsityConfig(2, global_block_end_indices=[1, 2]), "1 global_block_indices and 2"),
        (lambda: D.BSLongformerSparsityConfig(2, global_block_indices=[3], global_block_end_indices=[3]), "behind"),
        (lambda: D.FixedSparsityConfig(2).make_layout(100), "16 does not divide a length of 100; pad to 112"),
        (lambda: D.FixedSparsityConfig(2).make_layout(0), "length is an integer of 1 or more"),
        (lambda: D.BigBirdSparsityConfig(2, num_sliding_window_blocks=9).make_layout(64), "9 blocks in the sliding"),
        (lambda: D.BigBirdSparsityConfig(2, num_random_blocks=5).make_layout(64), "5 random blocks"),
        (lambda: D.BigBirdSparsityConfig(2, num_global_blocks=5).make_layout(64), "5 global blocks"),
    ],
)
def test_what_is_refused(make, text):
    with pytest.raises(TensorError, match=text):
        make()
