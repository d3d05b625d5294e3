"""Heads of 129 to 256 columns as tile programs, on the processor against float64; and what has no gradients."""

import math

import pytest
import torch
from torch import Tensor

import gossamer as gs
from gossamer.attention import attention_kind, kind_of
from gossamer.runtime import tiles
from tile_inputs import entries, inputs

pytestmark = pytest.mark.usefixtures("one_thread")


def check(shape, mask=None, allowed: Tensor | None = None, dtype=torch.bfloat16, **options) -> tiles.Kind:
    """Attention of (batch, heads, kv heads, queries, keys, columns)."""
    torch.manual_seed(0)
    q, k, v = inputs(*shape, dtype)
    scale = 1 / math.sqrt(shape[-1])
    kind, blocks, why = kind_of(q, k, mask, scale, options.get("causal", False), options.get("window"))
    assert kind is not None, why
    out, lse = tiles.run(kind, q, k, v, blocks, scale)
    repeat = q.shape[1] // k.shape[1]
    q, k, v = q.double(), *(x.double().repeat_interleave(repeat, 1) for x in (k, v))
    scores = scale * (q @ k.mT)
    scores = scores if allowed is None else scores.masked_fill(~allowed, -math.inf)
    wanted = torch.softmax(scores, -1).nan_to_num(0.0) @ v
    bound = 2e-3 if dtype == torch.float16 else 1.5e-2
    assert (out.double() - wanted).norm() <= bound * wanted.norm() + 1e-12
    assert (out.double() - wanted).abs().max() <= 4 * bound
    torch.testing.assert_close(lse.double(), torch.logsumexp(scores, -1), atol=1e-5, rtol=1e-6)
    return kind


@pytest.mark.parametrize(("columns", "head"), [(136, 192), (192, 192), (256, 256)])
def test_all_keys(columns, head):
    for queries, keys in ((1, 7), (63, 65), (257, 131)):
        kind = check((1, 2, 1, queries, keys, columns))
        assert (kind.head, kind.block) == (head, (128, 64))


@pytest.mark.parametrize("columns", [136, 256])
@pytest.mark.parametrize("block", [(128, 128), (128, 64), (128, 32), (128, 16), (64, 64), (64, 32), (64, 16)], ids=str)
def test_lists(columns, block):
    queries, keys = 257, 191
    torch.manual_seed(1)
    blocks = torch.rand(1, 2, -(-queries // block[0]), -(-keys // block[1])) < 0.4
    blocks[:, :, 0] = False
    mask = gs.BlockList.from_dense(blocks, block, (queries, keys))
    check((2, 2, 2, queries, keys, columns), mask, entries(blocks, block, queries, keys), torch.float16)


@pytest.mark.parametrize("block", [None, 128, (128, 32), (64, 64), (64, 16)], ids=str)
def test_blocks_allowed_in_part(block):
    torch.manual_seed(2)
    allowed = torch.rand(2, 131, 193) < 0.5
    allowed[:, :64, 64:128] = True
    allowed[:, 64:, :64] = False
    kind = check((1, 2, 1, 131, 193, 200), gs.BlockList.of(allowed, block), allowed)
    assert kind.partial


def test_causal_and_windows():
    ones = torch.ones(300, 300, dtype=torch.bool)
    assert check((1, 2, 1, 300, 300, 256), None, ones.tril(), causal=True).listed
    check((1, 1, 1, 300, 300, 160), None, ones.tril().triu(-99), causal=True, window=100)
    check((1, 1, 1, 300, 300, 160), None, ones.tril(200).triu(-200), window=(200, 200))


def test_gradients_take_another_road():
    q, k, v = inputs(1, 2, 1, 64, 64, 192, torch.bfloat16)
    assert attention_kind(q, k, v, None, None, False, None)[0] is not None
    q.requires_grad_()
    kind, why = attention_kind(q, k, v, None, None, False, None)
    assert kind is None
    assert why == "its gradients take heads of up to 128 columns, not 192"
    with torch.no_grad():
        assert attention_kind(q, k, v, None, None, False, None)[0] is not None
    assert "not 264" in attention_kind(*inputs(1, 1, 1, 8, 8, 264, torch.bfloat16), None, None, False, None)[1]
