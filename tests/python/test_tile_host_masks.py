"""Tile programs of lists with blocks that are allowed in part, on the processor, against float64."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import gossamer as gs
from gossamer.attention import kind_of
from gossamer.runtime import tiles
from test_tile_host import BLOCKS, close, dense, inputs


def check(shape, allowed: Tensor, mask, dtype=torch.bfloat16, block=None, **options) -> None:
    q, k, v = inputs(*shape, dtype)
    kind, blocks, why = kind_of(q, k, mask, 0.125, options.get("causal", False), options.get("window"))
    assert kind is not None, why
    assert kind.partial
    assert block is None or kind.block == block
    close(tiles.run(kind, q, k, v, blocks, 0.125), dense(q, k, v, allowed, 0.125), dtype)


def random_mask(*shape: int, density: float, seed: int = 0) -> Tensor:
    """With blocks of all kinds: empty, whole, and those in which some entries are allowed."""
    torch.manual_seed(seed)
    rows, columns = shape[-2:]
    grid = torch.rand(*shape[:-2], -(-rows // 64), -(-columns // 16))
    state = grid.repeat_interleave(64, -2).repeat_interleave(16, -1)[..., :rows, :columns]
    allowed = (state > 0.7) | ((state > 0.4) & (torch.rand(shape) < density))
    allowed[..., 0, :2] = torch.tensor([True, False])  # one block is in part
    return allowed


@pytest.mark.parametrize("columns", [64, 128])
@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_random_masks_in_all_blocks(block, columns):
    tile = (64, 16) if block == (128, 16) and columns == 128 else block
    for seed, (queries, keys, density) in enumerate(((256, 384, 0.4), (131, 263, 0.01), (7, 65, 0.4))):
        allowed = random_mask(2, queries, keys, density=density, seed=seed)
        dtype = torch.bfloat16 if keys % 2 else torch.float16
        check((1, 2, 1, queries, keys, columns), allowed, gs.BlockList.of(allowed, block), dtype, tile)


@pytest.mark.parametrize("block", [(128, 128), (64, 16), (128, 32)], ids=str)
def test_every_number_of_whole_and_of_partial_blocks(block):
    gathered = block[0] // block[1]
    rows = (gathered + 2) * 3
    queries, keys = rows * block[0], (gathered + 4) * block[1]
    allowed = torch.zeros(queries, keys, dtype=torch.bool)
    for row in range(rows):
        full, partial = divmod(row, 3)
        here = allowed[row * block[0] : (row + 1) * block[0]]
        for n, place in enumerate(torch.randperm(keys // block[1]).tolist()[: full + partial]):
            part = here[:, place * block[1] : (place + 1) * block[1]]
            part.copy_(torch.rand(part.shape) < (2 if n < full else 0.5))
    for end in (keys, keys - 5):
        cut = allowed[:, :end]
        check((1, 1, 1, queries, end, 8), cut, gs.BlockList.of(cut, block), block=block)


def test_masks_of_some_heads_and_rows_without_keys():
    for lead in ((4,), (2, 1), (2, 4)):
        allowed = random_mask(*lead, 131, 140, density=0.3)
        allowed[..., 1::3, :] = False
        allowed[0, ..., 64:, :] = False
        check((2, 4, 2, 131, 140, 64), allowed, gs.BlockList.of(allowed, 64))


@pytest.mark.parametrize("options", [{"causal": True}, {"window": (90, 20)}, {"causal": True, "window": 200}], ids=str)
@pytest.mark.parametrize("lengths", [(131, 300), (300, 131)], ids=str)
def test_bands(options, lengths):
    query, key = torch.arange(lengths[0])[:, None], torch.arange(lengths[1])
    window = options.get("window", (-1, -1))
    left, right = (window - 1, -1) if isinstance(window, int) else window
    allowed = (key >= query - (left if left >= 0 else 1000)) & (key <= query + (right if right >= 0 else 1000))
    allowed = allowed & (key <= query) if "causal" in options else allowed
    check((1, 2, 1, *lengths, 64), allowed, None, **options)


@settings(max_examples=40, deadline=None)
@given(
    queries=st.integers(1, 200),
    keys=st.integers(1, 200),
    block=st.sampled_from([(128, 32), (64, 16)]),
    density=st.sampled_from([0.01, 0.5]),
    seed=st.integers(0, 1 << 16),
)
def test_any_mask(queries, keys, block, density, seed):
    allowed = random_mask(queries, keys + 1, density=density, seed=seed)
    check((1, 2, 1, queries, keys + 1, 8), allowed, gs.BlockList.of(allowed, block))
