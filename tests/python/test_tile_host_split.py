"""Tile programs of few queries, and of keys that thread blocks share, on the processor against float64."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

import gossamer as gs
from gossamer.attention import kind_of
from gossamer.patterns.masks import listed
from gossamer.runtime import tiles
from gossamer.runtime.tile_split import Split
from test_tile_host import close, dense
from test_tile_host_backward import check as check_gradients
from tile_inputs import entries, inputs

pytestmark = pytest.mark.usefixtures("one_thread")
BLOCKS = [(64, 64), (64, 16), (64, 32), (64, 128), (128, 128), (128, 32), (1, 64)]


def check(shape, split, dtype=torch.bfloat16, mask=None, allowed: Tensor | None = None, parts=None) -> tiles.Kind:
    """Attention of (batch, heads, kv heads, queries, keys, columns), which is to be split so; or into other parts."""
    q, k, v = inputs(*shape, dtype)
    kind, blocks, why = kind_of(q, k, mask, 0.125, causal=False)
    assert kind is not None, why
    assert kind.split == Split(*split)
    if parts is not None:
        kind = replace(kind, split=Split(split[0], parts))
    got = tiles.run(kind, q, k, v, blocks, 0.125)
    assert got[0].shape == q.shape
    close(got, dense(q, k, v, allowed, 0.125), dtype)
    return kind


def random_list(lead: tuple[int, ...], block, queries: int, keys: int, density: float) -> tuple[gs.BlockList, Tensor]:
    blocks = torch.rand(*lead, -(-queries // block[0]), -(-keys // block[1])) < density
    return gs.BlockList.from_dense(blocks, block, (queries, keys)), entries(blocks, block, queries, keys)


@pytest.mark.parametrize("columns", [64, 128, 40])
@pytest.mark.parametrize(
    ("queries", "group", "split"), [(1, 1, (1, 9)), (1, 8, (8, 9)), (3, 4, (4, 6)), (16, 4, (4, 1))]
)
def test_all_keys(queries, group, split, columns):
    dtype = torch.bfloat16 if queries % 2 else torch.float16
    check((2, 2 * group, 2, queries, 1217, columns), split, dtype)


def test_more_parts_than_are_merged_at_once():
    check((1, 2, 1, 1, 2563, 64), (2, 20))
    for parts in (2, 7, 8, 9, 23):
        check((1, 4, 2, 1, 640, 128), (2, 5), parts=parts)


def test_heads_that_do_not_fit_a_tile():
    """Of six heads two share a tile, or three: as many as divide them."""
    check((1, 6, 1, 30, 1100, 64), (2, 1))
    check((1, 6, 1, 20, 2100, 64), (3, 2))
    check((1, 2, 1, 60, 2100, 64), (1, 2))


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_lists_of_each_batch(block):
    columns = 128 if block in ((64, 64), (64, 16)) else 64
    for queries, density in ((1, 0.3), (min(3, block[0]), 1.0)):
        mask, allowed = random_list((3, 1), block, queries, 1027, density)
        kind = check((3, 8, 2, queries, 1027, columns), (4, 8 if queries == 1 else 5), mask=mask, allowed=allowed)
        assert kind.block == (64, block[1])


def test_parts_with_nothing():
    for parts in (None, 2, 9, 40):
        blocks = torch.zeros(3, 1, 1, 17, dtype=torch.bool)
        blocks[1, ..., 5] = True  # one batch sees nothing, one a block, one two
        blocks[2, ..., [0, 16]] = True
        mask = gs.BlockList.from_dense(blocks, 64, (3, 1060))
        check((3, 4, 2, 3, 1060, 64), (2, 8), mask=mask, allowed=entries(blocks, (64, 64), 3, 1060), parts=parts)


@pytest.mark.parametrize("block", [(64, 64), (64, 16), (128, 128)], ids=str)
def test_bitmaps(block):
    """Whole blocks, blocks of which each query sees other keys, and lengths of each batch."""
    columns = 128 if block[1] == 128 else 64
    for queries in (1, 3):
        allowed = torch.rand(3, 1, queries, 1027) < 0.5
        allowed[..., 128:640] = True
        allowed[..., 768:960] = False
        allowed[1, ..., 300:] = False
        allowed[2, ..., -1, :] = False
        mask = gs.BlockList.of(allowed, block)
        assert mask.has_partial
        q, k, v = inputs(3, 4, 2, queries, 1027, columns, torch.bfloat16)
        kind, blocks, _ = kind_of(q, k, mask, 0.125, causal=False)
        assert kind is not None
        assert kind.split.heads == 2
        assert kind.split.parts > 1
        for parts in (kind.split.parts, 1, 11):
            one = replace(kind, split=Split(2, parts))
            close(tiles.run(one, q, k, v, blocks, 0.125), dense(q, k, v, allowed, 0.125), torch.bfloat16)


def test_padding_of_each_batch():
    lengths = torch.tensor([1, 700, 1100])
    q, k, _ = inputs(3, 4, 2, 2, 1100, 64, torch.bfloat16)
    mask = listed(gs.patterns.key_padding(lengths), q, k)
    allowed = (torch.arange(1100) < lengths[:, None])[:, None, None].expand(3, 1, 2, 1100)
    check((3, 4, 2, 2, 1100, 64), (2, 8), mask=mask, allowed=allowed)


def test_a_list_of_each_head():
    """Heads that share keys, but no list, share no tile."""
    mask, allowed = random_list((2, 4), (64, 64), 2, 1500, 0.4)
    check((2, 4, 2, 2, 1500, 64), (1, 11), mask=mask, allowed=allowed)


@pytest.mark.parametrize("block", [None, (128, 128), (128, 32), (64, 64)], ids=str)
def test_many_queries_of_few_heads(block):
    queries, keys = (139, 4200) if block is None or block[0] == 128 else (70, 2100)
    mask, allowed = (None, None) if block is None else random_list((), block, queries, keys, 0.9)
    check((1, 2, 1, queries, keys, 64), (1, 2), mask=mask, allowed=allowed)


def test_queries_that_lie_otherwise():
    """Heads of a tile follow one another in memory, or are copied."""
    q, k, v = inputs(2, 4, 1, 3, 600, 64, torch.bfloat16)
    expected = dense(q, k, v, None, 0.125)
    for given in (q, q.contiguous(), q.clone(memory_format=torch.preserve_format), torch.cat((q, q), 2)[:, :, :3]):
        kind, _, _ = kind_of(given, k, None, 0.125, causal=False)
        assert kind is not None
        for parts in (1, 4):
            one = replace(kind, split=Split(4, parts))
            close(tiles.run(one, given, k, v, None, 0.125), expected, torch.bfloat16)


def test_counters_are_left_at_zero(monkeypatch):
    """A stream's counters are those of its next call, too: here of one with fewer parts."""
    counters = torch.zeros(8, dtype=torch.int32)
    monkeypatch.setattr(tiles, "counter_of", lambda device, count: counters[:count])
    for parts in (7, 2, 5):
        check((2, 4, 2, 1, 640, 64), (2, 5), parts=parts)
        assert not counters.any()


def test_the_same_every_time():
    q, k, v = inputs(1, 2, 1, 1, 2000, 64, torch.bfloat16)
    kind, _, _ = kind_of(q, k, None, 0.125, causal=False)
    assert kind is not None
    first = tiles.run(kind, q, k, v, None, 0.125)
    for _ in range(5):
        assert all(map(torch.equal, tiles.run(kind, q, k, v, None, 0.125), first))


def test_a_score_that_is_no_number():
    q, k, v = inputs(1, 2, 1, 1, 1000, 64, torch.bfloat16)
    k[0, 0, 700, 3] = math.nan
    kind, _, _ = kind_of(q, k, None, 0.125, causal=False)
    assert kind is not None
    assert kind.split.parts > 1
    out, lse = tiles.run(kind, q, k, v, None, 0.125)
    assert out.isnan().all()
    assert lse.isnan().all()


@pytest.mark.parametrize("block", [(64, 128), (1, 64)], ids=str)
def test_gradients(block):
    """Are those of any other attention, from what split programs leave."""
    mask, allowed = random_list((2, 1), block, 1, 700, 0.4)
    check_gradients((2, 4, 2, 1, 700, 40), torch.bfloat16, mask, allowed)


def choice(batch, heads, kv_heads, queries, keys, mask=None) -> tuple[int, int]:
    q, k = (
        torch.empty(batch, h, n, 128, dtype=torch.bfloat16, device="meta")
        for h, n in ((heads, queries), (kv_heads, keys))
    )
    kind, _, _ = kind_of(q, k, mask, 0.125, causal=False)
    assert kind is not None
    return kind.split.heads, kind.split.parts


def test_how_calls_are_split():
    """On 132 multiprocessors."""
    assert choice(8, 32, 8, 1, 16384) == (4, 4)
    assert choice(1, 32, 8, 1, 16384) == (4, 33)
    assert choice(64, 32, 8, 1, 16384) == (4, 1)
    assert choice(8, 32, 8, 1, 511) == (1, 1)
    assert choice(1, 1, 1, 1, 1 << 20) == (1, 64)
    assert choice(1, 4, 4, 256, 65536) == (1, 16)
    assert choice(2, 16, 16, 8192, 8192) == (1, 1)
    # A list has room for fewer keys.
    few = gs.BlockList(
        torch.full((8, 1, 1), 4, dtype=torch.int32),
        torch.arange(4, dtype=torch.int32).expand(8, 1, 1, 4),
        64,
        (1, 16384),
    )
    assert choice(8, 32, 8, 1, 16384, few) == (4, 2)


def test_what_is_said_of_it():
    q, k, v = inputs(1, 4, 1, 1, 1024, 64, torch.bfloat16)
    kind, _, _ = kind_of(q, k, None, 0.125, causal=False)
    assert "bar.red.or.pred" in gs.dump(gs.attention, q, k, v, stage="ptx", target="sm_90a")
    assert str(kind).endswith("tiles of 64 x 64, all keys, 4 heads a tile, keys in 8 parts")
