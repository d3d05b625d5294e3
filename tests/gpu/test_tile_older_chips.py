"""gs.attention by programs that are made for GPUs without TMA and wgmma, on whatever GPU there is, against float64."""

import math
from itertools import product

import pytest
import test_packed_keys_on_gpu as packed
import test_score_functions as scores
import test_tile_attention as forward
import test_tile_gradients as backward
import test_tile_masks as masks
import torch

import gossamer as gs
from gossamer import packing
from gossamer.attention import _calls, kind_of
from gossamer.runtime import tiles

CAPABILITY = torch.cuda.get_device_capability() if torch.cuda.is_available() else (0, 0)
pytestmark = pytest.mark.skipif(CAPABILITY < (8, 0), reason="needs a GPU of compute capability 8.0")


@pytest.fixture(autouse=True)
def chip(request, monkeypatch):
    made_for = getattr(request, "param", "sm_80")
    if (int(made_for[3]), int(made_for[4])) > CAPABILITY:
        pytest.skip(f"{made_for} is newer than this GPU")
    monkeypatch.setattr(tiles, "chip_for", lambda device: made_for)
    _calls.clear()
    yield made_for
    _calls.clear()


# With less shared memory, and so fewer stages.
SMALL = pytest.mark.parametrize("chip", ["sm_80", "sm_89"], indirect=True)


@SMALL
def test_the_program_is_of_that_chip(chip):
    q, k, v = forward.inputs(1, 2, 2, 300, 300, 64, torch.bfloat16)
    kind, _, why = kind_of(q, k, None, 0.125, True)
    assert kind is not None, why
    assert kind.chip == chip
    assert f"for {chip}" in str(gs.explain(gs.attention, q, k, v, causal=True))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("columns", [64, 128, 8, 40, 96])
def test_all_keys(dtype, columns):
    for length in (128, 512, 1024):
        forward.check((2, 3, 3, length, length, columns), dtype)


@pytest.mark.parametrize("columns", [64, 128])
@pytest.mark.parametrize("length", [1, 7, 63, 65, 127, 129, 521])
def test_ragged_lengths(columns, length):
    forward.check((2, 3, 3, length, length, columns), torch.bfloat16)
    forward.check((1, 2, 2, 300, length, columns), torch.bfloat16)
    forward.check((1, 2, 2, length, 300, columns), torch.bfloat16)


@SMALL
@pytest.mark.parametrize("columns", [64, 128])
@pytest.mark.parametrize("length", [1, 63, 64, 65, 128, 521, 2048])
def test_causal(columns, length, chip):
    forward.check((2, 5, 5, length, length, columns), torch.bfloat16, causal=True)


@pytest.mark.parametrize("columns", [64, 128])
@pytest.mark.parametrize("window", [1, 63, 64, 65, 100, 128, 129, 300, 513, 5000])
def test_windows(columns, window):
    for length in (65, 640, 1031):
        forward.check((1, 3, 1, length, length, columns), torch.bfloat16, causal=True, window=window)


@pytest.mark.parametrize("columns", [64, 128])
@pytest.mark.parametrize("block", forward.BLOCKS, ids=str)
def test_random_blocks_of_each_head(block, columns):
    for (queries, keys), (seed, density) in product(((640, 1280), (777, 1031)), enumerate((0.0, 0.02, 0.3, 1.0))):
        torch.manual_seed(seed)
        blocks = torch.rand(2, 3, -(-queries // block[0]), -(-keys // block[1]), device="cuda") < density
        forward.check((2, 3, 3, queries, keys, columns), torch.bfloat16, blocks, block, seed=seed)


@pytest.mark.parametrize("columns", [64, 128])
@pytest.mark.parametrize("block", forward.BLOCKS, ids=str)
def test_random_masks(block, columns):
    for lengths, (seed, density) in product(((777, 1031), (63, 65)), enumerate((0.001, 0.3))):
        allowed = masks.random_mask(2, 3, *lengths, density=density, seed=seed)
        masks.check((2, 3, 3, *lengths, columns), allowed, gs.BlockList.of(allowed, block), seed=seed)


@SMALL
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("columns", [64, 128, 40])
def test_gradients(dtype, columns, chip):
    for queries, keys in ((1, 1), (65, 63), (512, 512), (521, 777)):
        backward.check((2, 4, 2, queries, keys, columns), dtype, with_lse=True)
    for length in (65, 521):
        backward.check((2, 3, 3, length, length, columns), dtype, causal=True)
        backward.check((2, 3, 3, length, length, columns), dtype, causal=True, window=100)


@pytest.mark.parametrize("columns", [64, 128])
@pytest.mark.parametrize("block", backward.BLOCKS, ids=str)
def test_gradients_under_masks(block, columns):
    for seed, (queries, keys) in enumerate(((640, 1280), (777, 1031))):
        torch.manual_seed(seed)
        blocks = torch.rand(2, 3, -(-queries // block[0]), -(-keys // block[1]), device="cuda") < 0.3
        backward.check((2, 3, 3, queries, keys, columns), torch.bfloat16, blocks, block, seed=seed)
        allowed = masks.random_mask(2, 3, queries, keys, seed=seed)
        backward.check((2, 3, 3, queries, keys, columns), torch.bfloat16, allowed=allowed, block=block, seed=seed)


@SMALL
@pytest.mark.parametrize("columns", [64, 128])
@pytest.mark.parametrize("block", [(128, 128), (128, 32), (64, 64)], ids=str)
def test_packed_keys(block, columns, chip):
    for length, stride in ((1024, 64), (1003, 33)):
        mask = packing.packed(gs.BlockList.of(packed.scattered(length, length, stride), block))
        packed.check((2, 4, 2, length, length, columns), packed.scattered(length, length, stride), mask)


@SMALL
@pytest.mark.parametrize("columns", [64, 128])
@pytest.mark.parametrize("name", scores.NAMES)
def test_functions_of_scores(name, columns, chip):
    scores.check(name, (2, 4, 2, 300, 333, columns))
    causal = torch.ones(333, 333, dtype=torch.bool, device="cuda").tril()
    scores.check(name, (2, 4, 4, 333, 333, columns), None, causal, causal=True)
    allowed = masks.random_mask(2, 4, 300, 333, seed=0)
    scores.check(name, (2, 4, 2, 300, 333, columns), gs.BlockList.of(allowed, (128, 32)), allowed)


def test_few_queries_and_wide_heads():
    forward.check((2, 8, 2, 3, 1031, 64), torch.bfloat16)
    q, k, v = forward.inputs(1, 2, 2, 65, 129, 192, torch.bfloat16)
    text = str(gs.explain(gs.attention, q, k, v))
    assert "heads of 8, 16, ... or 128 columns, not 192" in text


@pytest.mark.parametrize("columns", [64, 128])
def test_the_same_every_time(columns):
    torch.manual_seed(3)
    q, k, v = (x.requires_grad_() for x in forward.inputs(2, 8, 8, 1024, 1024, columns, torch.bfloat16))
    mask = gs.BlockList.from_dense(torch.rand(2, 8, 8, 16, device="cuda") < 0.3, (128, 64), (1024, 1024))
    first = None
    for _ in range(50):
        junk = torch.full_like(q, math.nan)  # what the next output is written over
        del junk
        out = gs.attention(q, k, v, mask)
        now = out, *torch.autograd.grad(out, (q, k, v), torch.ones_like(out))
        first = first or now
        assert all(torch.equal(one, other) for one, other in zip(now, first, strict=True))
