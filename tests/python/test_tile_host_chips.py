"""Programs for GPUs that have no TMA and wgmma, on the processor, against float64: smaller steps, other numbers of
stages, and diagonals that are in several steps.
"""

from itertools import product

import pytest
import torch

import gossamer as gs
import test_packed_keys as packed
import test_tile_host as forward
import test_tile_host_backward as backward
import test_tile_host_masks as masks
import test_tile_scores as scores
from gossamer.attention import attention_kind, kind_of
from gossamer.errors import CompileError
from gossamer.runtime import tiles
from gossamer.runtime.tile_split import WHOLE
from tile_inputs import inputs


@pytest.fixture(autouse=True)
def chip(request, monkeypatch, one_thread) -> str:
    made_for = getattr(request, "param", "sm_80")
    monkeypatch.setattr(tiles, "chip_for", lambda device: made_for)
    return made_for


# With fewer stages.
SMALL = pytest.mark.parametrize("chip", ["sm_80", "sm_89"], indirect=True)


@SMALL
def test_all_keys_of_any_length(chip):
    for queries, keys in ((1, 1), (7, 63), (65, 129), (131, 64), (200, 257)):
        forward.check((1, 2, 1, queries, keys, 128), torch.bfloat16)


def test_causal():
    for length, columns in product((1, 63, 65, 127, 129, 257), (40, 128)):
        forward.check((1, 5, 5, length, length, columns), torch.float16, causal=True)


def test_windows():
    lengths = (1, 1), (65, 7), (64, 63), *product((327,), (2, 63, 64, 65, 66, 127, 128, 129, 190, 193, 300))
    for length, window in lengths:
        forward.check((1, 2, 1, length, length, 64), torch.bfloat16, causal=True, window=window)


@pytest.mark.parametrize("block", [(128, 128), (128, 64), (128, 16), (64, 64), (64, 32)], ids=str)
def test_lists(block):
    for (queries, keys), density in product(((131, 263), (256, 384)), (0.0, 0.4)):
        blocks = torch.rand(2, 2, -(-queries // block[0]), -(-keys // block[1])) < density
        forward.check((2, 2, 2, queries, keys, 128), torch.bfloat16, blocks, block)


@pytest.mark.parametrize("block", [(128, 128), (128, 64), (128, 16), (64, 32)], ids=str)
def test_partial_blocks(block):
    made = (block[0], min(block[1], 64))
    for seed, (queries, keys) in enumerate(((256, 384), (131, 263), (7, 65))):
        allowed = masks.random_mask(2, queries, keys, density=0.4, seed=seed)
        masks.check((1, 2, 1, queries, keys, 64), allowed, gs.BlockList.of(allowed, block), block=made)


@SMALL
@pytest.mark.parametrize("columns", [64, 128])
def test_gradients(columns, chip):
    backward.check((1, 4, 2, 130, 257, columns), torch.bfloat16)
    causal = torch.ones(193, 193, dtype=torch.bool).tril()
    backward.check((1, 2, 2, 193, 193, columns), torch.float16, allowed=causal, causal=True)
    for block in ((64, 64), (128, 64)):  # the latter are cut
        blocks = torch.rand(-(-190 // block[0]), 5) < 0.5
        backward.check((1, 2, 1, 190, 300, columns), torch.bfloat16, *backward.listed(blocks, block, 190, 300))


@pytest.mark.parametrize(("block", "columns"), [((128, 128), 64), ((128, 16), 64), ((64, 32), 128)], ids=str)
def test_packed_keys(block, columns):
    for count, length in ((1, 131), (65, 200)):
        keys = torch.randperm(length)[:count].sort().values
        allowed = packed.scattered(length, length, keys)[None, None]
        mask = packed.split(allowed, keys[None, None], block)
        packed.check((1, 2, 1, length, length, columns), allowed, mask, gradients=block[1] > 16)


@SMALL
def test_functions_of_scores(chip):
    scores.check("tempered", (1, 2, 1, 70, 139, 64))
    causal = torch.ones(150, 150, dtype=torch.bool).tril()
    scores.check("relative", (1, 2, 1, 150, 150, 128), None, causal, torch.bfloat16, causal=True)
    allowed = torch.rand(2, 131, 200) < 0.3
    kind = scores.check("softcap", (1, 2, 2, 131, 200, 64), gs.BlockList.of(allowed, (128, 16)), allowed)
    assert kind.chip == chip
    assert kind.block == (128, 16)


def test_few_queries_have_tiles_of_their_own():
    q, k, _ = inputs(1, 8, 2, 3, 1000, 64, torch.bfloat16)
    kind, _, _ = kind_of(q, k, None, 0.125, causal=False)
    assert kind is not None
    assert kind.split == WHOLE
    forward.check((1, 8, 2, 3, 1000, 64), torch.bfloat16)


def test_wide_heads_take_the_other_road(chip):
    q, k, v = inputs(1, 1, 1, 8, 8, 136, torch.bfloat16)
    kind, why = attention_kind(q, k, v, chip=chip)
    assert kind is None
    assert f"on {chip} it takes heads of 8, 16, ... or 128 columns, not 136" in why
    assert attention_kind(q, k, v, None, None, False, None)[0] is not None


def test_what_is_compiled(chip):
    q, k, v = inputs(1, 1, 1, 256, 256, 128, torch.bfloat16)
    kind, _, _ = kind_of(q, k, None, 0.125, causal=True)
    assert kind is not None
    assert kind.block == (128, 64)
    assert str(kind).endswith(f"causal, for {chip}")
    assert f'chip("{chip}")' in kind.text()
    assert attention_kind(q, k, v, None, None, True, None)[0] == tiles.Kind(
        torch.bfloat16, 128, (128, 128), False, True, False, False
    )


def test_a_list_that_steps_are_too_small_for(chip):
    q, k, v = inputs(1, 1, 1, 256, 256, 128, torch.bfloat16)
    blocks = gs.BlockList.from_dense(torch.ones(2, 2, dtype=torch.bool), 128, (256, 256))
    kind = tiles.Kind(torch.bfloat16, 128, (128, 128), True, False, False, False, chip=chip)
    with pytest.raises(CompileError, match=f"key blocks of 16, 32 or 64 on {chip}, not 128"):
        tiles.run(kind, q, k, v, blocks, 0.125)


def test_code_without_a_gpu():
    q, k, v = inputs(1, 1, 1, 64, 64, 64, torch.bfloat16)
    with pytest.raises(CompileError, match="older than sm_80"):
        gs.dump(gs.attention, q, k, v, stage="ptx", target="sm_75")
    text = gs.dump(gs.attention, q, k, v, stage="ptx", target="sm_80")
    assert "mma.sync" in text
    assert "wgmma" not in text
