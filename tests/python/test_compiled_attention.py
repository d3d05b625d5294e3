"""Compiled attention against float64: mask formats, ragged sizes, masked rows, GQA, large scores, score changes."""

import itertools
import math
import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import gossamer as gs

FORMATS = {
    "CSR": gs.CSR,
    "CSC": gs.CSC,
    "COO": gs.COO,
    "BSR4": gs.BSR(4),
    "BSR16": gs.BSR(16),
    "BSR8x24": gs.BSR((8, 24)),
}
DTYPES = {torch.float32: 3e-6, torch.float64: 1e-13}


@pytest.fixture(autouse=True)
def _no_fallback():
    """A region that runs densely would make every test here pass for nothing."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", gs.FallbackWarning)
        yield


def masked_softmax(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    scores = q @ k.mT * 0.25
    return torch.softmax(scores.masked_fill(~mask, -math.inf), -1) @ v


def additive(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    return torch.softmax(q @ k.mT * 0.25 + mask, -1) @ v


def sdpa(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=0.25)


def spelt_out(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    scores = (q @ k.mT * 0.25).masked_fill(~mask, -math.inf)
    powers = torch.exp(scores - scores.amax(-1, keepdim=True))
    return (powers / powers.sum(-1, keepdim=True)) @ v


def reference(q: Tensor, k: Tensor, v: Tensor, allowed: Tensor, change=lambda s: s) -> Tensor:
    """In float64; rows with nothing allowed are 0."""
    scores = change(q.double() @ k.double().mT * 0.25).masked_fill(~allowed, -math.inf)
    return torch.softmax(scores, -1).nan_to_num(0.0) @ v.double()


def random_mask(*shape: int, density: float = 0.3) -> Tensor:
    """With one full row and one masked row, where there are as many."""
    mask = torch.rand(shape) < density
    if shape[-2] > 2:
        mask[..., 1, :] = False
        mask[..., 2, :] = True
    return mask


def check(result: Tensor, expected: Tensor, tolerance: float) -> None:
    assert result.shape == expected.shape
    scale = max(1.0, expected.abs().max().item()) if expected.numel() else 1.0
    torch.testing.assert_close(result.double(), expected, rtol=0.0, atol=tolerance * scale)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("form", FORMATS)
def test_formats(form: str, dtype: torch.dtype) -> None:
    compiled = gs.sparse_jit(masked_softmax, mask=FORMATS[form])
    for batch, heads, rows, columns, d in (
        (2, 3, 48, 48, 16),
        (1, 2, 48, 96, 7),
        (3, 1, 96, 48, 64),
        (1, 1, 48, 48, 1),
    ):
        q, k, v = (torch.randn(batch, heads, n, d, dtype=dtype) for n in (rows, columns, columns))
        mask = random_mask(1, 1, rows, columns)
        check(compiled(q, k, v, mask), reference(q, k, v, mask), DTYPES[dtype])


@pytest.mark.parametrize("size", [1, 2, 7, 63, 65, 127])
@pytest.mark.parametrize("function", [masked_softmax, spelt_out, sdpa])
def test_ragged_sizes(function, size: int) -> None:
    compiled = gs.sparse_jit(function, mask=gs.CSR)
    for rows, columns in ((size, size), (size, 5), (5, size)):
        q, k, v = (torch.randn(2, 2, n, 8, dtype=torch.float64) for n in (rows, columns, columns))
        # A single score is no softmax to the compiler; spelt out it is NaN where torch's is.
        mask = random_mask(rows, columns) if columns > 1 else torch.ones(rows, 1, dtype=torch.bool)
        check(compiled(q, k, v, mask), reference(q, k, v, mask), 1e-13)


@pytest.mark.parametrize("form", ["CSR", "BSR4", "BSR16"])
def test_large_scores(form: str) -> None:
    """Scores near 200: a wrong row maximum overflows or vanishes instead of hiding."""
    compiled = gs.sparse_jit(masked_softmax, mask=FORMATS[form])
    q, k, v = (torch.randn(2, 2, 48, 64, dtype=torch.float64) * s for s in (8.0, 8.0, 1.0))
    mask = random_mask(1, 1, 48, 48)
    largest = (q @ k.mT * 0.25).abs().max()
    assert largest > 200
    check(compiled(q, k, v, mask), reference(q, k, v, mask), 1e-12)
    check(compiled(-q.float(), k.float(), v.float(), mask), reference(-q.float(), k.float(), v.float(), mask), 2e-4)


@pytest.mark.parametrize("form", ["CSR", "COO", "BSR4", "BSR16"])
@pytest.mark.parametrize("leading", list(itertools.product((1, 2), (1, 3))), ids=str)
def test_masks_of_batches_and_heads(form: str, leading: tuple[int, int]) -> None:
    compiled = gs.sparse_jit(masked_softmax, mask=FORMATS[form])
    q, k, v = (torch.randn(2, 3, n, 8) for n in (48, 64, 64))
    mask = random_mask(*leading, 48, 64)
    check(compiled(q, k, v, mask), reference(q, k, v, mask), 3e-6)


@pytest.mark.parametrize("form", ["CSR", "BSR16"])
def test_additive_mask(form: str) -> None:
    """Entries that are -inf are not stored; the others are added."""
    compiled = gs.sparse_jit(additive, mask=FORMATS[form])
    q, k, v = (torch.randn(2, 2, 48, 16) for _ in range(3))
    allowed = random_mask(48, 48)
    mask = torch.randn(48, 48).masked_fill(~allowed, -math.inf)
    check(compiled(q, k, v, mask), reference(q, k, v, allowed, lambda s: s + mask.double()), 3e-6)


@pytest.mark.parametrize("form", ["CSR", "BSR16"])
@pytest.mark.parametrize("groups", [1, 2, 4])
def test_grouped_queries(form: str, groups: int) -> None:
    def grouped(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=0.25, enable_gqa=True)

    compiled = gs.sparse_jit(grouped, mask=FORMATS[form])
    q = torch.randn(2, 4, 48, 16)
    k, v = (torch.randn(2, 4 // groups, 64, 16) for _ in range(2))
    for mask in (random_mask(48, 64), random_mask(2, 1, 48, 64), random_mask(1, 4, 48, 64)):
        repeated = (x.repeat_interleave(groups, 1) for x in (k, v))
        check(compiled(q, k, v, mask), reference(q, *repeated, mask), 3e-6)


@pytest.mark.parametrize("form", ["CSR", "BSR16"])
def test_score_changes(form: str) -> None:
    """ALiBi, soft cap and a learned relative bias, between the product and the mask."""

    def changed(q: Tensor, k: Tensor, v: Tensor, mask: Tensor, slopes: Tensor, bias: Tensor) -> Tensor:
        scores = q @ k.mT * 0.25
        distance = torch.arange(k.shape[-2])[None, :] - torch.arange(q.shape[-2])[:, None]
        scores = 20 * torch.tanh((scores + slopes[:, None, None] * distance) / 20) + bias
        return torch.softmax(scores.masked_fill(~mask, -math.inf), -1) @ v

    compiled = gs.sparse_jit(changed, mask=FORMATS[form])
    q, k, v = (torch.randn(2, 3, n, 16) for n in (48, 64, 64))
    slopes, bias, mask = torch.rand(3), torch.randn(3, 48, 64), random_mask(48, 64)
    distance = torch.arange(64.0)[None, :] - torch.arange(48.0)[:, None]

    def change(scores: Tensor) -> Tensor:
        return 20 * torch.tanh((scores + slopes.double()[:, None, None] * distance) / 20) + bias.double()

    check(compiled(q, k, v, mask, slopes, bias), reference(q, k, v, mask, change), 3e-6)


def test_projections_stay_views() -> None:
    """Heads split off by view and transpose, as models do, without a copy in the region."""

    def heads(x: Tensor, mask: Tensor) -> Tensor:
        q, k, v = (x.view(x.shape[0], x.shape[1], 4, 8).transpose(1, 2) * s for s in (1.0, 0.5, 2.0))
        return sdpa(q, k, v, mask).transpose(1, 2).flatten(2)

    x, mask = torch.randn(2, 48, 32), random_mask(48, 48)
    compiled = gs.sparse_jit(heads, mask=gs.BSR(16))
    parts = [x.view(2, 48, 4, 8).transpose(1, 2) * s for s in (1.0, 0.5, 2.0)]
    check(compiled(x, mask), reference(*parts, mask).transpose(1, 2).flatten(2), 3e-6)


@pytest.mark.parametrize("form", ["CSR", "COO", "BSR16"])
def test_empty(form: str) -> None:
    """No batch, no queries, no keys, and a mask that stores nothing."""
    compiled = gs.sparse_jit(masked_softmax, mask=FORMATS[form])
    for batch, rows, columns in ((0, 48, 48), (2, 0, 48), (2, 48, 0), (2, 48, 48)):
        q, k, v = (torch.randn(batch, 2, n, 8) for n in (rows, columns, columns))
        result = compiled(q, k, v, torch.zeros(rows, columns, dtype=torch.bool))
        assert result.shape == (batch, 2, rows, 8)
        assert not result.any()


def test_not_a_number_passes_through() -> None:
    q, k, v = (torch.randn(1, 1, 48, 8) for _ in range(3))
    q[0, 0, 5, 3] = math.nan
    mask = torch.rand(48, 48) < 0.5
    mask.fill_diagonal_(True)
    for form in (gs.CSR, gs.BSR(16)):
        result = gs.sparse_jit(masked_softmax, mask=form)(q, k, v, mask)
        assert result[0, 0, 5].isnan().all()
        assert not result[0, 0, :5].isnan().any()
        assert not result[0, 0, 6:].isnan().any()


def test_threads_agree() -> None:
    """A changing result is a race."""
    compiled = gs.sparse_jit(masked_softmax, mask=gs.CSR)
    q, k, v = (torch.randn(2, 4, 130, 32) for _ in range(3))
    mask = gs.sparsify(random_mask(130, 130), gs.CSR)
    first = compiled(q, k, v, mask)
    threads = torch.get_num_threads()
    try:
        for count in (1, 2, 4, 7):
            torch.set_num_threads(count)
            for _ in range(10):
                assert torch.equal(compiled(q, k, v, mask), first)
    finally:
        torch.set_num_threads(threads)
