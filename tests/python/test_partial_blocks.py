"""Block lists with blocks that are allowed in part: made of masks of all kinds, and what they refuse."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import gossamer as gs
from gossamer.bitmaps import pack, unpack
from gossamer.block_sources import band

SIZES = [1, 7, 63, 65, 127, 131, 256]
FORMATS = [gs.CSR, gs.CSC, gs.COO, gs.DCSR, gs.DCSC]


def random_mask(*shape: int, density: float = 0.3, seed: int = 0) -> torch.Tensor:
    torch.manual_seed(seed)
    return torch.rand(*shape) < density


def same(blocks: gs.BlockList, allowed: torch.Tensor) -> None:
    """Whether a list is this mask, and consistent."""
    checked(blocks)
    while allowed.dim() > 2 and allowed.shape[0] == 1:
        allowed = allowed[0]
    assert torch.equal(blocks.to_mask().to_dense(), allowed)


def checked(blocks: gs.BlockList, **changed) -> gs.BlockList:
    parts = {name: getattr(blocks, name) for name in ("partial_count", "partial_index", "partial_bits", "bits")}
    parts |= changed
    return gs.BlockList(blocks.count, blocks.index, blocks.block, blocks.shape, **parts)


@pytest.mark.parametrize("columns", [1, 7, 16, 31, 32, 33, 64, 65, 128])
def test_bits_and_back(columns):
    allowed = random_mask(3, 5, columns)
    bits = pack(allowed)
    assert bits.shape == (3, 5, -(-columns // 32))
    for j in range(columns):
        assert torch.equal(((bits[..., j // 32] >> (j % 32)) & 1).bool(), allowed[..., j])
    assert torch.equal(unpack(bits, columns), allowed)


@settings(max_examples=150, deadline=None)
@given(
    lead=st.sampled_from([(), (1,), (2,), (1, 3), (2, 1), (2, 2)]),
    queries=st.sampled_from(SIZES),
    keys=st.sampled_from(SIZES),
    block=st.sampled_from([None, 128, 64, (128, 32), (64, 16), (256, 128), (128, 256), (48, 16), (8, 8), 1]),
    density=st.sampled_from([0.0, 0.002, 0.3, 0.999, 1.0]),
    head=st.sampled_from([64, 128, 256]),
    seed=st.integers(0, 1 << 20),
)
def test_any_mask_and_back(lead, queries, keys, block, density, head, seed):
    if block == 1:
        queries, keys = min(queries, 65), min(keys, 65)
    allowed = random_mask(*lead, queries, keys, density=density, seed=seed)
    blocks = gs.BlockList.of(allowed, block)
    same(blocks, allowed)
    same(blocks.tiled(head), allowed)


@pytest.mark.parametrize("format", FORMATS, ids=str)
@pytest.mark.parametrize("lead", [(), (2,), (1, 2)], ids=str)
def test_sparse_masks_of_any_format(format, lead):
    allowed = random_mask(*lead, 131, 200, density=0.02)
    stored = gs.sparsify(allowed, format)
    same(gs.BlockList.of(stored, (64, 64)), allowed)
    some = stored.with_values(stored.values & (torch.rand(stored.values.shape) < 0.5))
    same(gs.BlockList.of(some), some.to_dense())


def test_entries_that_are_stored_twice_count_once():
    format = gs.Format("(i, j) -> (i : compressed(nonunique), j : singleton(nonunique))")
    rows, columns = torch.tensor([0, 0, 3]), torch.tensor([5, 5, 2])
    pattern = gs.Pattern(format, (4, 9), [torch.tensor([0, 3]), None], [rows, columns])
    mask = gs.SparseTensor(pattern, torch.ones(3, dtype=torch.bool))
    allowed = torch.zeros(4, 9, dtype=torch.bool)
    allowed[0, 5] = allowed[3, 2] = True
    same(gs.BlockList.of(mask), allowed)


@pytest.mark.parametrize("block", [(64, 64), (128, 16), (16, 8)], ids=str)
def test_blocks_with_entries_that_are_false(block):
    allowed = random_mask(2, 256, 384, density=0.7)
    allowed[:, :128] = True
    allowed[:, 128:200, :200] = False
    blocks = gs.BlockList.of(gs.sparsify(allowed, gs.BSR(block)))
    assert blocks.block == block
    assert blocks.has_partial
    same(blocks, allowed)
    same(blocks.tiled(), allowed)


def test_a_mask_of_which_everything_is_stored():
    allowed = random_mask(70, 90)
    same(gs.BlockList.of(gs.sparsify(allowed, gs.Format("(i, j) -> (i : dense, j : dense)"))), allowed)


def test_whole_blocks_need_no_bits():
    allowed = random_mask(3, 4).repeat_interleave(64, 0).repeat_interleave(64, 1)
    blocks = gs.BlockList.of(allowed, 64)
    assert not blocks.has_partial
    same(blocks, allowed)
    ragged = allowed[:, :240].contiguous()
    assert not gs.BlockList.of(ragged, 64).has_partial


def test_the_blocks_are_chosen_by_the_mask():
    whole = torch.zeros(1024, 1024, dtype=torch.bool)
    whole[:128, 128:256] = True
    assert gs.BlockList.of(whole).block == (128, 128)
    scattered = torch.zeros(1024, 1024, dtype=torch.bool)
    for row in range(0, 1024, 64):  # other keys for each 64 queries: none are packed
        scattered[row, row // 8 :: 128] = True
    assert gs.BlockList.of(scattered).block == (128, 16)
    assert gs.BlockList.of(gs.sparsify(scattered, gs.CSR)).block == (128, 16)
    assert gs.BlockList.of(scattered).tiled(128).block == (64, 16)
    tall = torch.zeros(1024, 1024, dtype=torch.bool)
    tall[64:128, 64:128] = True
    assert gs.BlockList.of(tall).block[0] == 64


def test_an_expanded_mask_is_one_list():
    allowed = random_mask(70, 90)
    assert gs.BlockList.of(allowed.expand(2, 3, 70, 90)).count.shape[:2] == (1, 1)


@pytest.mark.parametrize("block", [(256, 256), (128, 256), (256, 64), (64, 128), (48, 48), (32, 32), (8, 8)], ids=str)
@pytest.mark.parametrize("shape", [(768, 768), (520, 1000)], ids=str)
def test_other_blocks_become_those_of_tiles(block, shape):
    grid = -(-shape[0] // block[0]), -(-shape[1] // block[1])
    allowed = random_mask(2, *grid)
    blocks = gs.BlockList.from_dense(allowed, block, shape)
    tiled = blocks.tiled()
    assert tiled.block in {(128, 128), (128, 64), (128, 32), (128, 16), (64, 64), (64, 32), (64, 16)}
    assert tiled is blocks.tiled()
    entries = allowed.repeat_interleave(block[0], 1).repeat_interleave(block[1], 2)[:, : shape[0], : shape[1]]
    same(tiled, entries)
    if all(not size % tile for size, tile in zip(block, tiled.block, strict=True)):
        assert not tiled.has_partial


@pytest.mark.parametrize(("queries", "keys"), [(1, 1), (100, 300), (300, 100), (256, 256), (129, 511), (7, 0), (0, 7)])
@pytest.mark.parametrize("sides", [(None, 0), (0, 0), (5, 7), (100, None), (200, 3), (0, 500), (None, None)], ids=str)
@pytest.mark.parametrize("block", [(128, 128), (64, 64)], ids=str)
def test_bands(queries, keys, sides, block):
    left, right = sides
    query, key = torch.arange(queries)[:, None], torch.arange(keys)
    allowed = torch.ones(queries, keys, dtype=torch.bool)
    allowed = allowed if left is None else allowed & (key >= query - left)
    allowed = allowed if right is None else allowed & (key <= query + right)
    blocks = band(queries, keys, left, right, block, torch.device("cpu"))
    same(blocks, allowed)
    assert blocks is band(queries, keys, left, right, block, torch.device("cpu"))


def test_a_band_has_few_bitmaps():
    blocks = band(4096, 4096, 700, 300, (128, 128), torch.device("cpu"))
    assert blocks.bits is not None
    assert blocks.bits.shape[0] <= 5
    causal = band(4096, 4000, None, 0, (128, 128), torch.device("cpu"))
    assert causal.bits is not None
    assert causal.bits.shape[0] == 2  # the diagonal, and the end of the keys


@pytest.mark.parametrize("lead", [(), (2,), (2, 3)], ids=str)
@pytest.mark.parametrize("block", [(64, 64), (128, 32)], ids=str)
@pytest.mark.parametrize("lengths", [(256, 384), (131, 200)], ids=str)
def test_transposed(lead, block, lengths):
    allowed = random_mask(*lead, *lengths)
    allowed[..., :128, :64] = True
    allowed[..., 128:, 64:128] = False
    blocks = gs.BlockList.of(allowed, block)
    turned = blocks.transposed()
    assert turned.block == block[::-1]
    assert turned is blocks.transposed()
    assert torch.equal(turned.to_mask().to_dense(), allowed.mT)
    assert gs.BlockList.of(torch.ones(128, 64, dtype=torch.bool), 64).transposed().count.tolist() == [[[2]]]


def test_the_longest_tiles_come_first_whatever_they_are_made_of():
    count = torch.tensor([[[1, 0, 2]]], dtype=torch.int32)
    index = torch.arange(3, dtype=torch.int32).expand(1, 1, 3, 3).contiguous()
    blocks = gs.BlockList(
        count, index, 64, (192, 192), partial_count=count.flip(-1) * 3, partial_index=index, partial_bits=index,
        bits=torch.zeros(3, 64, 2, dtype=torch.int32), check=False,
    )  # fmt: skip
    assert blocks.order(1, 1, 1).tolist() == [0, 2, 1]


def arguments() -> dict[str, torch.Tensor]:
    """Blocks (0, 0) and (1, 1) whole, (1, 0) in part."""
    return {
        "partial_count": torch.tensor([[[0, 1]]], dtype=torch.int32),
        "partial_index": torch.zeros(1, 1, 2, 1, dtype=torch.int32),
        "partial_bits": torch.zeros(1, 1, 2, 1, dtype=torch.int32),
        "bits": torch.ones(1, 64, 2, dtype=torch.int32),
    }


def listed(keys: int = 128, **changed) -> gs.BlockList:
    count = torch.ones(1, 1, 2, dtype=torch.int32)
    index = torch.tensor([[[[0], [1]]]], dtype=torch.int32)
    return gs.BlockList(count, index, 64, (128, keys), **(arguments() | changed))


def test_partial_lists_that_are_wrong():
    assert listed().to_mask().to_dense().sum() == 2 * 64 * 64 + 2 * 64
    parts = arguments()
    for changed, message in [
        ({"bits": None}, "has partial_count, partial_index, partial_bits, bits; bits is None"),
        ({"bits": parts["bits"].long()}, r"bits of a block list is int32, not torch\.int64"),
        ({"partial_count": parts["partial_count"][..., :1]}, r"partial_count is \[1, 1, 1\], count \[1, 1, 2\]"),
        ({"partial_bits": parts["partial_bits"][0]}, r"with \[1, 1, 2\] in front, not \[1, 1, 2, 1\] and \[1, 2, 1\]"),
        ({"bits": parts["bits"][:, :, :1]}, r"64 x 64 are \[bitmaps, 64, 2\], not \[1, 64, 1\]"),
        ({"partial_count": parts["partial_count"] + 1}, "a partial_count of a block list is below 0 or above 1"),
        ({"partial_index": parts["partial_index"] + 2}, r"partial_index\[0, 0, 1, 0\] of a block list is 2"),
        ({"partial_index": parts["partial_index"] + 1}, "allowed as a whole and in part"),
        (
            {"partial_bits": parts["partial_bits"] - 1},
            "partial_bits of a block list is out of range; there are 1 bitmaps",
        ),
    ]:
        with pytest.raises(gs.TensorError, match=message):
            listed(**changed)
    full = torch.full((1, 64, 2), -1, dtype=torch.int32)
    last = {"partial_index": parts["partial_index"] + 1, "partial_count": torch.tensor([[[1, 0]]], dtype=torch.int32)}
    with pytest.raises(gs.TensorError, match="a bitmap of a block list allows keys behind the last of 100"):
        listed(100, bits=full, **last)
    fitting = pack(torch.arange(64).expand(1, 64, 64) < 36)
    assert listed(100, bits=fitting, **last).has_partial


def test_masks_that_are_wrong():
    for mask in (torch.ones(4, 4), torch.ones(4, dtype=torch.bool), gs.sparsify(torch.ones(4, 4), gs.CSR)):
        with pytest.raises(gs.TensorError, match="a mask is bool"):
            gs.BlockList.of(mask)
    with pytest.raises(gs.TensorError, match="on the meta device"):
        gs.BlockList.of(torch.ones(4, 4, dtype=torch.bool, device="meta"))


@pytest.mark.parametrize("lengths", [(256, 256), (300, 500), (500, 70)], ids=str)
@pytest.mark.parametrize("size", [128, 64, (128, 64)], ids=str)
def test_block_masks_with_functions(lengths, size):
    from torch.nn.attention.flex_attention import create_block_mask

    queries, keys = lengths
    document = torch.arange(max(lengths)) // 90
    functions = {
        "causal": lambda b, h, i, j: i >= j,
        "documents": lambda b, h, i, j: document[i] == document[j],
        "heads": lambda b, h, i, j: (i - j).abs() < 40 * (h + 1) + 10 * b,
    }
    query, key = torch.arange(queries)[:, None], torch.arange(keys)
    for name, function in functions.items():
        batch, heads = (2, 3) if name == "heads" else (None, None)
        mask = create_block_mask(function, batch, heads, queries, keys, device="cpu", BLOCK_SIZE=size)
        blocks = gs.from_block_mask(mask)
        b, h = torch.arange(batch or 1)[:, None, None, None], torch.arange(heads or 1)[:, None, None]
        same(blocks, function(b, h, query, key).expand(batch or 1, heads or 1, queries, keys))
        assert blocks.partial_index.data_ptr() == mask.kv_indices.data_ptr()
        assert blocks.index.data_ptr() == mask.full_kv_indices.data_ptr()
