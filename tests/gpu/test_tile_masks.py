"""gs.attention on tensor cores under masks that allow blocks in part, against float64."""

import pytest
import torch
from test_tile_attention import BLOCKS, close, dense, inputs, pytestmark  # noqa: F401
from torch import Tensor

import gossamer as gs
from gossamer.attention import kind_of

LENGTHS = [(1024, 1024), (777, 1031), (1, 300), (300, 1), (129, 640), (63, 65)]


def check(shape, allowed: Tensor, mask=None, dtype=torch.bfloat16, seed=0, **options) -> None:
    """Of a mask (None: `options` say it), that it runs on tensor cores and gives what `allowed` gives."""
    torch.manual_seed(seed)
    q, k, v = inputs(*shape, dtype)
    scale = 0.125
    kind, _, why = kind_of(q, k, mask, scale, options.get("causal", False), options.get("window"))
    assert kind is not None, why
    got = gs.attention(q, k, v, mask, scale=scale, return_lse=True, **options)
    torch.cuda.synchronize()
    close(got, dense(q, k, v, allowed, scale), dtype)


def random_mask(*shape: int, density: float = 0.3, seed: int = 0) -> Tensor:
    """With blocks of all kinds: empty, full, and some of each entry."""
    torch.manual_seed(seed)
    rows, columns = shape[-2:]
    grid = torch.rand(*shape[:-2], -(-rows // 64), -(-columns // 64), device="cuda")
    state = grid.repeat_interleave(64, -2).repeat_interleave(64, -1)[..., :rows, :columns]
    return (state > 0.8) | ((state > 0.4) & (torch.rand(shape, device="cuda") < density))


def positions(queries: int, keys: int) -> tuple[Tensor, Tensor]:
    return torch.arange(queries, device="cuda")[:, None], torch.arange(keys, device="cuda")


@pytest.mark.parametrize("columns", [64, 128])
@pytest.mark.parametrize("block", BLOCKS, ids=str)
@pytest.mark.parametrize("lengths", LENGTHS, ids=str)
def test_random_masks_in_all_blocks(block, columns, lengths):
    for seed, density in enumerate((0.0, 0.001, 0.3, 1.0)):
        allowed = random_mask(2, 3, *lengths, density=density, seed=seed)
        blocks = gs.BlockList.of(allowed, block)
        check((2, 3, 3, *lengths, columns), allowed, blocks, seed=seed)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_whole_blocks_beside_partial_ones(block, dtype):
    """Every number of whole and of partial blocks that a step is gathered of."""
    gathered = block[0] // block[1]
    rows = (gathered + 2) ** 2
    queries, keys = rows * block[0], (2 * gathered + 4) * block[1]
    allowed = torch.zeros(queries, keys, dtype=torch.bool, device="cuda")
    for row in range(rows):
        full, partial = divmod(row, gathered + 2)
        here = allowed[row * block[0] : (row + 1) * block[0]]
        chosen = torch.randperm(keys // block[1], generator=torch.Generator().manual_seed(row)).tolist()
        for place in chosen[:full]:
            here[:, place * block[1] : (place + 1) * block[1]] = True
        for place in chosen[full : full + partial]:
            part = here[:, place * block[1] : (place + 1) * block[1]]
            part.copy_(torch.rand(part.shape, device="cuda") < 0.5)
            part[0, 0], part[0, 1] = True, False
    for end in (keys, keys - 5):
        cut = allowed[:, :end]
        check((1, 2, 1, queries, end, 64), cut, gs.BlockList.of(cut, block), dtype)
        check((1, 2, 1, queries, end, 128), cut, gs.BlockList.of(cut, block), dtype)


@pytest.mark.parametrize("lead", [(), (4,), (1, 4), (2, 1), (2, 4)], ids=str)
def test_masks_for_some_heads(lead):
    allowed = random_mask(*lead, 600, 600)
    check((2, 4, 2, 600, 600, 128), allowed, gs.BlockList.of(allowed, 128))
    check((2, 4, 2, 600, 600, 64), allowed, allowed)


def test_rows_without_keys():
    allowed = random_mask(2, 777, 1031)
    allowed[:, ::3] = False
    allowed[0, 128:400] = False
    allowed[1] = False
    for columns in (64, 128):
        check((1, 2, 2, 777, 1031, columns), allowed, allowed)


@pytest.mark.parametrize("columns", [64, 128])
@pytest.mark.parametrize(
    "lengths", [(1, 1), (128, 300), (300, 128), (1000, 64), (64, 1000), (1031, 777), (2048, 1024)], ids=str
)
def test_causal_with_other_numbers_of_keys(lengths, columns):
    query, key = positions(*lengths)
    check((2, 3, 3, *lengths, columns), key <= query, causal=True)
    for window in (1, 65, 500):
        check((1, 3, 1, *lengths, columns), (key <= query) & (key > query - window), causal=True, window=window)


@pytest.mark.parametrize("columns", [64, 128])
@pytest.mark.parametrize(
    "window", [(0, 0), (3, 5), (64, 64), (100, 0), (0, 300), (-1, 10), (200, -1), (700, 700)], ids=str
)
def test_windows_on_both_sides(window, columns):
    left, right = window
    for lengths in ((65, 65), (1031, 1031), (640, 1280), (1280, 640)):
        query, key = positions(*lengths)
        allowed = torch.ones(lengths, dtype=torch.bool, device="cuda")
        allowed = allowed if left < 0 else allowed & (key >= query - left)
        allowed = allowed if right < 0 else allowed & (key <= query + right)
        check((1, 3, 1, *lengths, columns), allowed, window=window)
        check((1, 3, 1, *lengths, columns), allowed & (key <= query), window=window, causal=True)


def test_causal_by_bits_is_causal():
    """The kernel that knows the diagonal and the one that reads it differ in rounding at most."""
    from gossamer.block_sources import band

    q, k, v = inputs(2, 4, 4, 1031, 1031, 128, torch.bfloat16)
    blocks = band(1031, 1031, None, 0, (128, 128), q.device)
    by_bits, causal = (
        gs.attention(q, k, v, blocks, return_lse=True),
        gs.attention(q, k, v, causal=True, return_lse=True),
    )
    assert (by_bits[0].float() - causal[0].float()).norm() <= 1e-2 * causal[0].float().norm()
    torch.testing.assert_close(by_bits[1], causal[1], atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize("columns", [64, 128])
def test_documents(columns):
    document = torch.randint(0, 9, (1500,), device="cuda").sort().values
    allowed = document[:, None] == document
    check((2, 2, 2, 1500, 1500, columns), allowed, allowed)
    causal = allowed.tril()
    check((2, 2, 2, 1500, 1500, columns), causal, gs.sparsify(causal, gs.CSR))


@pytest.mark.parametrize("block", [(128, 128), (64, 64), (128, 16), (32, 32), (256, 128), (16, 8)], ids=str)
def test_stored_blocks_with_entries_that_are_false(block):
    allowed = random_mask(2, 1024, 768, density=0.5)
    mask = gs.sparsify(allowed, gs.BSR(block))
    check((2, 2, 1, 1024, 768, 64), allowed, mask)
    check((2, 2, 1, 1024, 768, 128), allowed, mask)


@pytest.mark.parametrize("block", [(256, 256), (128, 256), (256, 64), (64, 128), (48, 48), (32, 32)], ids=str)
def test_lists_of_other_blocks(block):
    for queries, keys in ((1024, 1024), (777, 1031)):
        grid = torch.rand(3, -(-queries // block[0]), -(-keys // block[1]), device="cuda") < 0.4
        entries = grid.repeat_interleave(block[0], 1).repeat_interleave(block[1], 2)[:, :queries, :keys]
        blocks = gs.BlockList.from_dense(grid, block, (queries, keys))
        check((2, 3, 3, queries, keys, 128), entries, blocks)


@pytest.mark.parametrize("format", [gs.CSR, gs.CSC, gs.COO], ids=str)
def test_sparse_masks_of_any_format(format):
    allowed = torch.rand(3, 700, 900, device="cuda") < 0.02
    check((1, 3, 3, 700, 900, 64), allowed, gs.sparsify(allowed, format))


@pytest.mark.parametrize("lengths", [(1024, 1024), (1000, 600)], ids=str)
def test_block_masks_with_functions(lengths):
    from torch.nn.attention.flex_attention import create_block_mask

    queries, keys = lengths
    document = torch.arange(max(lengths), device="cuda") // 190
    functions = {
        "causal": (lambda b, h, i, j: i >= j, None, None),
        "documents": (lambda b, h, i, j: (document[i] == document[j]) & (i >= j), None, None),
        "heads": (lambda b, h, i, j: (i - j).abs() < 60 * (h + 1) + 100 * b, 2, 3),
    }
    query, key = positions(queries, keys)
    for size in (128, 64, (128, 64)):
        for function, batch, heads in functions.values():
            mask = create_block_mask(function, batch, heads, queries, keys, device="cuda", BLOCK_SIZE=size)
            b = torch.arange(batch or 1, device="cuda")[:, None, None, None]
            h = torch.arange(heads or 1, device="cuda")[:, None, None]
            check((2, 3, 3, queries, keys, 128), function(b, h, query, key), gs.from_block_mask(mask))


def test_a_new_mask_compiles_nothing():
    from gossamer.runtime.tiles import kernel_of

    q, k, v = inputs(1, 2, 2, 512, 512, 64, torch.bfloat16)
    gs.attention(q, k, v, gs.BlockList.of(random_mask(512, 512), 128))
    before = kernel_of.cache_info().misses
    for seed in range(3):
        for lengths in ((512, 512), (500, 601)):
            q, k, v = inputs(1, 2, 2, *lengths, 64, torch.bfloat16)
            gs.attention(q, k, v, gs.BlockList.of(random_mask(*lengths, seed=seed), 128))
    assert kernel_of.cache_info().misses == before


def test_a_dense_mask_is_looked_at_again_when_it_changes():
    q, k, v = inputs(1, 2, 2, 512, 512, 64, torch.bfloat16)
    allowed = random_mask(512, 512)
    for _ in range(2):
        out, lse = gs.attention(q, k, v, allowed, scale=0.125, return_lse=True)
        close((out, lse), dense(q, k, v, allowed, 0.125), torch.bfloat16)
        out, lse = gs.attention(q, k, v, allowed, scale=0.125, return_lse=True)
        close((out, lse), dense(q, k, v, allowed, 0.125), torch.bfloat16)
        allowed.logical_not_()


@pytest.mark.parametrize("block", [(128, 128), (64, 64), (128, 32)], ids=str)
@pytest.mark.parametrize("columns", [64, 128])
def test_the_same_every_time(block, columns):
    torch.manual_seed(3)
    q, k, v = inputs(2, 8, 8, 2048, 2048, columns, torch.bfloat16)
    mask = gs.BlockList.of(random_mask(2, 8, 2048, 2048), block)
    first = gs.attention(q, k, v, mask, return_lse=True)
    for _ in range(100):
        junk = torch.full_like(q, float("nan"))  # what the next output is written over
        del junk
        again = gs.attention(q, k, v, mask, return_lse=True)
        assert torch.equal(again[0], first[0])
        assert torch.equal(again[1], first[1])
