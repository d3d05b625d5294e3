"""Masks of patterns: sparse tensors in every format, lists for attention, and pictures."""

import math
import pickle
import sys

import pytest
import torch
from torch.utils import _pytree as pytree

import gossamer as gs
from gossamer.attention import attention_kind
from gossamer.errors import FormatError, TensorError, UnsupportedError
from gossamer.patterns import masks
from gossamer.patterns.show import picture

P = gs.patterns
PATTERN = P.causal() & (P.sliding_window(20) | P.global_tokens(7))
BY_HEAD = P.per_head([P.causal(), PATTERN, P.sliding_window(3)])
BY_TEXT = BY_HEAD & P.key_padding([40, 96])
FORMATS = [
    gs.CSR,
    gs.CSC,
    gs.COO,
    gs.DCSR,
    gs.BSR(32),
    gs.BSR((16, 48)),
    gs.BSR((1, 8)),
    gs.BSC(32),
    gs.DBSR((16, 32)),
    gs.BlockELL(48),
    gs.Format("(i, j) -> (i : dense, j : dense)"),
    gs.Format("(i, j) -> (i : dense, j : loose_compressed)"),
]


def dense(pattern, queries, keys):
    b = torch.arange(pattern.own_batch or 1)[:, None, None, None]
    h = torch.arange(pattern.own_heads or 1)[:, None, None]
    allowed = pattern(b, h, torch.arange(queries)[:, None], torch.arange(keys))
    lead = allowed.shape[:2] if pattern.by_batch else allowed.shape[1:2] if pattern.by_head else ()
    return allowed.reshape(*lead, queries, keys)


CASES = [(BY_TEXT, format) for format in FORMATS]
CASES += [
    (pattern, format) for pattern in (PATTERN, BY_HEAD, ~P.everything()) for format in (gs.CSR, gs.BSR(32), gs.BSC(32))
]


@pytest.mark.parametrize(("pattern", "format"), CASES, ids=lambda x: str(x)[:40])
def test_a_mask_in_a_format(pattern, format):
    expected = dense(pattern, 192, 96)
    mask = pattern.mask(192, 96, format)
    assert mask.format == format.for_rank(expected.dim())
    assert mask.shape == expected.shape
    assert mask.dtype == torch.bool
    assert mask.fill is False
    mask.validate()
    assert torch.equal(mask.to_dense(), expected)
    assert torch.equal(gs.SparseTensor(mask.pattern, mask.values).to_dense(), expected)  # from its own arrays
    again = pattern.mask(192, 96, gs.BSR(48)).to(format)
    again.validate()
    assert again.format == mask.format
    assert torch.equal(again.to_dense(), expected)


@pytest.mark.parametrize("size", [(1, 1), (7, 7), (63, 65), (130, 3)], ids=str)
def test_lengths_that_blocks_do_not_divide(size):
    expected = dense(PATTERN, *size)
    mask = PATTERN.mask(*size)
    assert mask.shape == size
    assert torch.equal(mask.to_dense(), expected)
    for format in (gs.CSR, gs.COO, gs.DCSC):
        stored = mask.to(format)
        stored.validate()
        assert torch.equal(stored.to_dense(), expected)
        assert stored.nnz == int(expected.sum())
    assert torch.equal(pickle.loads(pickle.dumps(mask)).to_dense(), expected)
    assert torch.equal(mask.clone().detach().to_dense(), expected)
    assert 0 < mask.density <= 1
    if size == (130, 3):  # two blocks of 128 and 2 rows
        assert mask.nnz == 390
    with pytest.raises(FormatError, match=r"128 does not divide .* queries.* gs.CSR, or make it of \d+ queries"):
        _ = mask.values, mask.pattern


def test_a_stored_format_needs_blocks_that_divide():
    with pytest.raises(FormatError, match="block of 48 does not divide"):
        PATTERN.mask(100, 100, gs.BSC(48))
    with pytest.raises(TensorError, match="entries are stored in group"):
        P.causal().mask(8, 8, gs.NM(2, 4))
    strided = P.strided(4).mask(8, 8, gs.NM(2, 4))
    assert torch.equal(strided.to_dense(), dense(P.strided(4), 8, 8))


def test_no_values_are_made_before_they_are_asked_for(monkeypatch):
    monkeypatch.setattr(masks, "_bsr_values", lambda classes: pytest.fail("values"))
    monkeypatch.setattr(masks, "_bsr_pattern", lambda classes, shape: pytest.fail("pattern"))
    mask = PATTERN.mask(256, 256, gs.BSR(64))
    assert "PatternMask(shape=(256, 256)" in repr(mask)
    assert mask.density == mask.nnz / 256**2
    assert mask.nnz == sum(mask.classes.counts) * 64**2
    assert mask.device.type == "cpu"
    assert mask.ndim == mask.dim() == 2
    assert mask.to(gs.BSR(64)) is mask
    assert isinstance(mask.to("cpu"), P.PatternMask)


def test_a_mask_is_a_sparse_tensor():
    mask = PATTERN.mask(96, 96, gs.BSR(32))
    assert isinstance(mask, gs.SparseTensor)
    leaves, structure = pytree.tree_flatten(mask)
    assert torch.equal(pytree.tree_unflatten(leaves, structure).to_dense(), mask.to_dense())
    assert torch.equal(pickle.loads(pickle.dumps(mask)).to_dense(), mask.to_dense())
    assert torch.equal((~mask).to_dense(), ~mask.to_dense())
    assert torch.equal(mask.mT.to_dense(), mask.to_dense().mT)
    assert torch.equal(mask.to(torch.float32).to_dense(), mask.to_dense().float())


def expected_attention(q, k, v, allowed):
    q, k, v = (x.double() for x in (q, k, v))
    k, v = (x.repeat_interleave(q.shape[1] // k.shape[1], 1) for x in (k, v))
    scores = (q @ k.transpose(-2, -1)) / math.sqrt(q.shape[3])
    return (torch.softmax(scores.masked_fill(~allowed, -math.inf), -1).nan_to_num(0.0) @ v).float()


ATTENTION = {
    "causal": (P.causal(), 65, 65),
    "from the end": (P.causal("bottom-right"), 63, 128),
    "queries that see nothing": (~P.causal() & ~P.global_tokens(9, columns=False), 63, 65),
    "a window": (P.causal() & P.sliding_window(20), 256, 256),
    "a layout": (P.deepspeed.BigBirdSparsityConfig(4, 16, True, seed=3).pattern(128), 128, 128),
    "heads": (P.per_head([P.causal(), PATTERN, P.sliding_window(3), ~P.causal()]), 101, 101),
    "texts": (P.key_padding([40, 96]) & P.causal(), 96, 96),
    "documents": (P.documents([[40, 23], [1, 62]]), 63, 63),
    "a function": (P.from_function(lambda b, h, q, k: (q + k + h) % 3 == b), 65, 63),
    "whole blocks": (P.block_diagonal(128), 256, 256),
}


@pytest.mark.parametrize("name", ATTENTION)
def test_attention_under_a_pattern(name):
    pattern, queries, keys = ATTENTION[name]
    q = torch.randn(2, 4, queries, 16)
    k, v = (torch.randn(2, 2, keys, 16) for _ in range(2))
    place = torch.arange(queries)[:, None], torch.arange(keys)
    b, h = torch.arange(2)[:, None, None, None], torch.arange(4)[:, None, None]
    expected = expected_attention(q, k, v, pattern(b, h, *place, lengths=(queries, keys)))
    torch.testing.assert_close(gs.attention(q, k, v, mask=pattern), expected, atol=1e-5, rtol=1e-5)
    mask = pattern.mask(queries, keys, gs.BSR(32), batch=2, heads=4)
    torch.testing.assert_close(gs.attention(q, k, v, mask=mask), expected, atol=1e-5, rtol=1e-5)


def test_a_mask_goes_through_sparse_jit():
    @gs.sparse_jit
    def attend(q, k, v, mask):
        return torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)

    q, k, v = (torch.randn(1, 2, 64, 16) for _ in range(3))
    got = attend(q, k, v, PATTERN.mask(64, 64, gs.BSR(16)))
    torch.testing.assert_close(got, expected_attention(q, k, v, dense(PATTERN, 64, 64)), atol=1e-5, rtol=1e-5)


def test_explain_takes_a_pattern():
    q = torch.randn(1, 2, 64, 16)
    assert "runs on a GPU, not on cpu" in str(gs.explain(gs.attention, q, q, q, PATTERN))


def test_lists_of_a_pattern_are_kept():
    P.clear_cache()
    q, k, v = (torch.randn(1, 1, 40, 8) for _ in range(3))
    for _ in range(3):
        gs.attention(q, k, v, mask=P.causal() & P.sliding_window(8))
    assert len(masks._lists) == 1
    gs.attention(q[:, :, :9], k, v, mask=P.causal() & P.sliding_window(8))
    assert len(masks._lists) == 2
    P.clear_cache()
    assert not masks._lists


def test_gradients_under_a_pattern():
    leaves = [torch.randn(1, 2, 65, 8, requires_grad=True) for _ in range(3)]
    allowed = dense(PATTERN, 65, 65)
    weight = torch.randn(1, 2, 65, 8)
    got = torch.autograd.grad((gs.attention(*leaves, mask=PATTERN) * weight).sum(), leaves)
    expected = torch.autograd.grad((expected_attention(*leaves, allowed) * weight).sum(), leaves)
    for one, other in zip(got, expected, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


def test_attention_refuses_patterns_for_other_lengths():
    q, k, v = (torch.randn(2, 3, 40, 8) for _ in range(3))
    with pytest.raises(TensorError, match="41 tokens is made for 41 queries, not for 40 queries"):
        gs.attention(q, k, v, mask=P.documents([41]))
    with pytest.raises(TensorError, match="4 heads, not for 3 heads"):
        gs.attention(q, k, v, mask=P.alibi(4, 3.0))
    with pytest.raises(TensorError, match="causal or has a mask"):
        gs.attention(q, k, v, mask=P.causal(), causal=True)
    with pytest.raises(TensorError, match="mask of 41 queries and 40 keys, for 40 and 40"):
        gs.attention(q, k, v, mask=P.causal().mask(41, 40))


def test_a_list_has_the_arrays_of_the_blocks():
    classes = PATTERN.blocks(300, 260, 64)
    blocks = classes.block_list()
    assert blocks.block == (64, 64)
    assert blocks.shape == (300, 260)
    assert blocks.count is classes.full_count
    assert torch.equal(blocks.to_mask().to_dense(), classes.to_dense()[0, 0])
    assert not P.block_diagonal(64).blocks(128, block=64).block_list().has_partial


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_attention_takes_the_tile_program(device):
    q = torch.empty(1, 2, 256, 64, dtype=torch.bfloat16, device=device)
    kind, reason = attention_kind(q, q, q, PATTERN, None, False, None)
    assert reason == ""
    assert kind.block == (64, 64)
    assert kind.partial
    assert "partial" in gs.dump(gs.attention, q, q, q, PATTERN, stage="import")
    kind, _ = attention_kind(q, q, q, P.block_diagonal(128), None, False, None)
    assert kind.block == (128, 128)
    assert not kind.partial
    assert attention_kind(q, q, q, P.block_diagonal(64), None, False, None)[0].block == (64, 64)


def test_a_picture_shows_entries_or_blocks():
    small = picture(PATTERN.blocks(63, 65, 16))
    allowed = dense(PATTERN, 63, 65)
    assert torch.equal(small[0, 0] > 0, allowed)
    assert torch.equal(picture(P.everything().blocks(20, block=16))[0, 0], torch.full((20, 20), 2, dtype=torch.int8))
    large = picture(P.causal().blocks(1280))
    assert torch.equal(large[0, 0], torch.ones(10, 10).tril(-1).mul(2).add(torch.eye(10)).to(torch.int8))
    assert max(picture(P.sliding_window(64).blocks(200_000, block=64)).shape) <= 1024


def test_work_of_rows():
    blocks = BY_HEAD.blocks(144, 96, 32)
    expected = dense(BY_HEAD, 160, 96)[:, :144]
    padded = torch.nn.functional.pad(expected, (0, 0, 0, 16)).unflatten(1, (5, 32))
    assert torch.equal(blocks.row_entries()[0], padded.sum((2, 3)))


def test_a_picture_is_written(tmp_path):
    pytest.importorskip("matplotlib")
    path = tmp_path / "pattern.png"
    figure = BY_HEAD.show(96, path=path, block=16)
    assert path.read_bytes().startswith(b"\x89PNG")
    assert len(figure.axes) == 4
    assert "density" in figure.get_suptitle()


def test_a_picture_needs_matplotlib(monkeypatch):
    for name in ("matplotlib", "matplotlib.figure", "matplotlib.colors"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UnsupportedError, match="pip install matplotlib"):
        PATTERN.show(64)
