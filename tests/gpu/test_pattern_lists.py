"""Patterns by position on a GPU: the blocks are those that the CPU finds, and attention under them is right."""

import math

import pytest
import torch

import gossamer as gs
from gossamer.attention import attention_road
from gossamer.patterns import classes
from tests.gpus import needs_cuda, needs_hopper

pytestmark = needs_cuda
P = gs.patterns
TEXTS, HEADS, LENGTH = 2, 4, 600
IDS = torch.arange(TEXTS * LENGTH).reshape(TEXTS, LENGTH) // 70 % 5 - 1
LAYOUT = torch.rand(HEADS, 10, 10, generator=torch.Generator().manual_seed(0)) < 0.3
TABLE = torch.arange(LENGTH) // 90

PATTERNS = {
    "causal": P.causal(),
    "causal window": P.causal() & P.sliding_window(100),
    "window": P.sliding_window((37, 200)),
    "dilated": P.dilated(20, 7),
    "strided": P.causal() & (P.sliding_window(64) | P.strided(64)),
    "fixed": P.causal() & P.fixed(32, 4),
    "variable windows": P.variable_windows([50, 7, 130]),
    "butterfly": P.butterfly(32, 4),
    "global tokens": P.global_tokens([0, (200, 210)]) | P.sliding_window(3),
    "random": P.random_blocks(64, 3, seed=4, by_head=True),
    "random of a density": P.random_blocks(24, density=0.2, seed=4, by_head=True, by_batch=True),
    "bigbird": P.bigbird(64, seed=1),
    "longformer": P.longformer(64, 5),
    "axial": P.axial([20, 30]),
    "axial in 3-D": P.axial([5, 10, 12]),
    "swin": P.swin([20, 30], 5, 2),
    "neighbourhood": P.neighbourhood([20, 30], [7, 9]),
    "documents": P.documents([100, 1, 250, 249]) & P.causal(),
    "documents of texts": P.documents(ids=IDS),
    "padding": P.key_padding([LENGTH, 77]),
    "padding by a mask": P.key_padding(IDS > 0),
    "prefix": P.prefix_lm([300, 3]),
    "alibi": P.alibi(HEADS, 8.0),
    "heads": P.per_head([P.causal(), P.sliding_window(9), ~P.causal(), P.everything()]),
    "layout": P.from_layout(LAYOUT, 64),
    "function": P.from_function(lambda b, h, q, k: (q - k < 50 * (h + 1)) & (TABLE[q] == TABLE[k]) & (k <= q)),
    "function without bounds": P.from_function(lambda b, h, q, k: torch.where(b == 1, q ^ k, q & k) % 5 == h),
    "nothing": ~P.everything(),
    "queries that see nothing": ~P.global_tokens(70, columns=False) & ~P.causal(),
}


def dense(pattern: gs.patterns.PositionPattern, device: str) -> torch.Tensor:
    place = torch.arange(LENGTH, device=device)
    b, h = torch.arange(TEXTS, device=device)[:, None, None, None], torch.arange(HEADS, device=device)[:, None, None]
    return pattern(b, h, place[:, None], place, lengths=(LENGTH, LENGTH))


@pytest.mark.parametrize("name", PATTERNS)
@pytest.mark.parametrize("found_there", [True, False], ids=["found on the GPU", "copied"])
def test_blocks_are_those_of_the_cpu(name, found_there, monkeypatch):
    pattern = PATTERNS[name]
    if found_there:
        monkeypatch.setattr(classes, "_FEW_BLOCKS", 0)
    expected = pattern.blocks(LENGTH, block=64, batch=TEXTS, heads=HEADS)
    got = pattern.blocks(LENGTH, block=64, device="cuda", batch=TEXTS, heads=HEADS)
    assert got.device.type == "cuda"
    for field in ("full_count", "full_index", "partial_count", "partial_index"):
        assert torch.equal(getattr(got, field).cpu(), getattr(expected, field)), field
    assert torch.equal(got.to_dense().cpu(), expected.to_dense())
    assert torch.equal(got.to_dense().expand(TEXTS, HEADS, -1, -1), dense(pattern, "cuda"))


@needs_hopper
@pytest.mark.parametrize("name", PATTERNS)
@pytest.mark.parametrize("columns", [64, 128])
def test_attention_under_a_pattern(name, columns):
    pattern = PATTERNS[name]
    torch.manual_seed(0)
    q = torch.randn(TEXTS, HEADS, LENGTH, columns, device="cuda", dtype=torch.bfloat16)
    k, v = (torch.randn(TEXTS, 2, LENGTH, columns, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    kind, reason = attention_road(q, k, v, pattern, None, False, None)
    assert kind is not None, reason
    wide = [x.repeat_interleave(2, 1).double() for x in (k, v)]
    scores = (q.double() @ wide[0].mT) / math.sqrt(columns)
    scores = scores.masked_fill(~dense(pattern, "cuda"), -math.inf)
    expected = torch.softmax(scores, -1).nan_to_num(0.0) @ wide[1]
    for mask in (pattern, pattern.mask(LENGTH, LENGTH, gs.BSR(128), device="cuda", batch=TEXTS, heads=HEADS)):
        out, lse = gs.attention(q, k, v, mask=mask, return_lse=True)
        assert torch.isfinite(out).all()
        assert (out.double() - expected).norm() <= 1e-2 * expected.norm() + 1e-12
        assert torch.equal(torch.isfinite(lse), torch.isfinite(scores.logsumexp(-1)))


def test_tables_may_be_there():
    ids, flags, limit = (x.cuda() for x in (IDS, IDS > 0, torch.tensor(50)))
    same = P.documents(ids=ids) == P.documents(ids=IDS), P.key_padding(flags) == P.key_padding(IDS > 0)
    assert same == (True, True)
    table = TABLE.cuda()
    pattern = P.from_function(lambda b, h, q, k: (table[q] == table[k]) & (q - k < limit) & flags[b, k])
    other = P.from_function(lambda b, h, q, k: (TABLE[q] == TABLE[k]) & (q - k < 50) & (IDS > 0)[b, k])
    for device in ("cuda", "cpu"):
        assert torch.equal(dense(pattern, device), dense(other, device))
        got = pattern.blocks(LENGTH, block=64, device=device, batch=TEXTS)
        assert torch.equal(got.to_dense().expand(TEXTS, HEADS, -1, -1), dense(other, device))


def test_a_million_tokens():
    torch.cuda.reset_peak_memory_stats()
    pattern = P.causal() & P.sliding_window(1024)
    got = pattern.blocks(1_000_000, device="cuda")
    assert torch.cuda.max_memory_allocated() < 4 << 30
    expected = pattern.blocks(1_000_000)
    assert torch.equal(got.full_index.cpu(), expected.full_index)
    assert torch.equal(got.partial_index.cpu(), expected.partial_index)


@needs_hopper
def test_attention_over_many_tokens():
    """Of which some rows are compared: all would be too many."""
    length, columns, window = 200_000, 64, 300
    torch.manual_seed(0)
    q, k, v = (torch.randn(1, 1, length, columns, device="cuda", dtype=torch.bfloat16) for _ in range(3))
    out = gs.attention(q, k, v, mask=P.causal() & P.sliding_window(window))
    for row in (0, 299, 300, 77_777, length - 1):
        keys = slice(max(0, row - window + 1), row + 1)
        scores = (q[0, 0, row].double() @ k[0, 0, keys].double().T) / math.sqrt(columns)
        expected = torch.softmax(scores, -1) @ v[0, 0, keys].double()
        assert float((out[0, 0, row].double() - expected).abs().max()) < 2e-2
