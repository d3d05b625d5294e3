"""Attention as it is written in PyTorch, on the road of a Hopper GPU: what is recognised, computed and explained.

The device is pretended: `as_tiles` decides as it does for a GPU, and the tile programs run on the processor.
"""

import math

import pytest
import torch
from torch.nn import functional as F

import gossamer as gs
from gossamer.frontend import program
from gossamer.tile_region import as_tiles
from tests.attention_forms import FORMS, allowed, batched, check, leaves, masked, sdpa

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def hopper(monkeypatch):
    monkeypatch.setattr(program, "tile_region", as_tiles)


@pytest.mark.parametrize("f", FORMS, ids=lambda f: f.__name__)
def test_as_in_float32(hopper, f):
    dense = allowed(70, 65)
    check(f, leaves(), gs.sparsify(dense, gs.CSR), dense)


@pytest.mark.parametrize(
    ("f", "lead", "kv_heads"),
    [(sdpa, (2, 1), 2), (sdpa, (2, 4), 2), (sdpa, (4,), 4), (sdpa, (2, 4), 1), (batched, (8,), 4)],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_masks_of_texts_and_heads(hopper, f, lead, kv_heads):
    dense = allowed(*lead, 64, 48)
    check(f, leaves(64, 48, kv_heads=kv_heads, dtype=torch.float16), gs.sparsify(dense, gs.BSR(16)), dense)


def test_masks_of_patterns(hopper):
    mask = (gs.patterns.causal() & gs.patterns.sliding_window(20)).mask(128, 128)
    check(masked, leaves(128, 128, heads=1), mask, mask.to_dense())


def test_added_masks_are_looked_at(hopper):
    dense = allowed(33, 63)
    bias = torch.zeros(33, 63).masked_fill(~dense, -math.inf)
    function = gs.sparse_jit(lambda q, k, v, mask: torch.softmax((q @ k.mT).float() + mask, -1).to(v.dtype) @ v)
    q, k, v = leaves(33, 63)
    mask = gs.sparsify(bias, gs.CSR, fill=-math.inf)
    exact = torch.softmax((q.float() @ k.float().mT) + bias, -1).nan_to_num(0) @ v.float()
    torch.testing.assert_close(function(q, k, v, mask).float(), exact, rtol=2e-2, atol=2e-2)
    assert "fast road" in str(gs.explain(function, q, k, v, mask))
    biased = mask.with_values(mask.values + 1.5, -math.inf)
    torch.testing.assert_close(function(q, k, v, biased).float(), exact, rtol=2e-2, atol=2e-2)
    assert "tile.attention: no, the mask adds other numbers than 0" in str(gs.explain(function, q, k, v, biased))


def test_a_mask_with_other_values_is_another_mask(hopper):
    """Values that lie where others were, which are gone."""
    pattern = gs.sparsify(allowed(64, 64), gs.CSR)
    function = gs.sparse_jit(lambda q, k, v, a, b: F.scaled_dot_product_attention(q, k, v, attn_mask=a & b))
    q, k, v = (tensor.detach() for tensor in leaves(64, 64))
    for seed in range(4):
        torch.manual_seed(seed)
        other = pattern.with_values(torch.rand(pattern.values.shape) < 0.5)
        wanted = sdpa(q, k, v, (other.to_dense() & pattern.to_dense()) | ~other.to_dense().any(-1, keepdim=True))
        got = function(q, k, v, pattern, other)
        wanted = wanted.where(other.to_dense().any(-1, keepdim=True), 0)
        torch.testing.assert_close(got, wanted, rtol=2e-2, atol=2e-2)
        assert "fast road" in str(gs.explain(function, q, k, v, pattern, other))


def weights_too(q, k, v, mask):
    weights = torch.softmax((q @ k.mT).masked_fill(~mask, -torch.inf), -1)
    return weights @ v, weights


def softcapped(q, k, v, mask):
    return torch.softmax((20 * torch.tanh(q @ k.mT / 20)).masked_fill(~mask, -torch.inf), -1) @ v


def negated(q, k, v, mask):
    return torch.softmax((q @ k.mT * -0.5).masked_fill(~mask, -torch.inf), -1) @ v


def biased(q, k, v, mask):
    return torch.softmax((q @ k.mT + q[..., :1]).masked_fill(~mask, -torch.inf), -1) @ v


REFUSED = {
    "used elsewhere": (weights_too, leaves),
    "scores are changed by aten.tanh": (softcapped, leaves),
    "multiplied by -0.5": (negated, leaves),
    "scores are changed by aten.add.Tensor": (biased, leaves),
    "bfloat16 and float16, not torch.float32": (masked, lambda: leaves(dtype=torch.float32)),
    "columns, not 20": (masked, lambda: leaves(columns=20)),
    "as many columns as keys have, 24, not 16": (masked, lambda: [*leaves()[:2], leaves(columns=16)[2]]),
}


@pytest.mark.parametrize("reason", list(REFUSED))
def test_why_not(hopper, reason):
    f, make = REFUSED[reason]
    function, mask = gs.sparse_jit(f), gs.sparsify(allowed(70, 65), gs.CSR)
    tensors = make()
    report = str(gs.explain(function, *tensors, mask))
    assert "tile.attention: no, " in report
    assert reason in report
    assert "general road" in report


def test_nothing_of_it_on_the_processor():
    function, mask = gs.sparse_jit(masked), gs.sparsify(allowed(70, 65), gs.CSR)
    assert "tile.attention" not in str(gs.explain(function, *leaves(), mask))
