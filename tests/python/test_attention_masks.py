"""gs.attention under masks of every kind where there is no GPU, against float64; and the code that a GPU would run."""

import math

import pytest
import torch

import gossamer as gs
from gossamer.attention import attention_kind


def qkv(queries: int, keys: int, heads: int = 3, columns: int = 16, dtype=torch.float32):
    torch.manual_seed(0)
    return tuple(torch.randn(2, heads, length, columns).to(dtype) for length in (queries, keys, keys))


def expected(q, k, v, allowed):
    q, k, v = q.double(), k.double(), v.double()
    scores = (q @ k.transpose(-2, -1)) / math.sqrt(q.shape[3])
    return torch.softmax(scores.masked_fill(~allowed, -math.inf), -1).nan_to_num(0.0) @ v


def close(got, wanted):
    torch.testing.assert_close(got.double(), wanted, atol=2e-5, rtol=2e-5)


def random_mask(*shape: int, seed: int = 0):
    torch.manual_seed(seed)
    allowed = torch.rand(shape) < 0.3
    allowed[..., ::5, :] = False  # queries that see nothing
    return allowed


def band(queries: int, keys: int, left: int, right: int):
    query, key = torch.arange(queries)[:, None], torch.arange(keys)
    allowed = torch.ones(queries, keys, dtype=torch.bool)
    allowed = allowed if left < 0 else allowed & (key >= query - left)
    return allowed if right < 0 else allowed & (key <= query + right)


@pytest.mark.parametrize(("queries", "keys"), [(64, 128), (7, 65), (131, 1)])
@pytest.mark.parametrize("lead", [(), (3,), (2, 1), (2, 3)], ids=str)
def test_dense_masks(queries, keys, lead):
    q, k, v = qkv(queries, keys)
    allowed = random_mask(*lead, queries, keys)
    close(gs.attention(q, k, v, allowed), expected(q, k, v, allowed))


@pytest.mark.parametrize(("queries", "keys"), [(128, 192), (100, 70)])
@pytest.mark.parametrize("lead", [(), (2, 3)], ids=str)
def test_lists_with_blocks_that_are_allowed_in_part(queries, keys, lead):
    q, k, v = qkv(queries, keys)
    allowed = random_mask(*lead, queries, keys)
    allowed[..., :64, :64] = True
    blocks = gs.BlockList.of(allowed, 64)
    assert blocks.has_partial
    close(gs.attention(q, k, v, blocks), expected(q, k, v, allowed))


def test_block_masks_with_functions():
    from torch.nn.attention.flex_attention import create_block_mask

    document = torch.arange(200) // 33
    mask = create_block_mask(
        lambda b, h, i, j: (document[i] == document[j]) & (i >= j), None, None, 200, 200, device="cpu"
    )
    q, k, v = qkv(200, 200)
    allowed = (document[:, None] == document).tril()
    close(gs.attention(q, k, v, gs.from_block_mask(mask)), expected(q, k, v, allowed))


@pytest.mark.parametrize(("queries", "keys"), [(1, 1), (64, 150), (150, 64), (7, 63)])
def test_causal_counts_from_the_first_key(queries, keys):
    q, k, v = qkv(queries, keys)
    close(gs.attention(q, k, v, causal=True), expected(q, k, v, band(queries, keys, -1, 0)))
    for window in (1, 10, 1000):
        got = gs.attention(q, k, v, causal=True, window=window)
        close(got, expected(q, k, v, band(queries, keys, window - 1, 0)))


@pytest.mark.parametrize("window", [(0, 0), (3, 5), (-1, 4), (9, -1), (-1, -1), (500, 500)], ids=str)
@pytest.mark.parametrize(("queries", "keys"), [(65, 65), (64, 150), (150, 64)])
def test_windows_on_both_sides(window, queries, keys):
    q, k, v = qkv(queries, keys)
    allowed = band(queries, keys, *window)
    close(gs.attention(q, k, v, window=window), expected(q, k, v, allowed))
    close(gs.attention(q, k, v, window=window, causal=True), expected(q, k, v, allowed & band(queries, keys, -1, 0)))


@pytest.mark.parametrize("kind", ["dense", "list", "ragged list", "window"])
def test_gradients(kind):
    queries, keys = (64, 64) if kind == "list" else (50, 70)
    q, k, v = (tensor.requires_grad_() for tensor in qkv(queries, keys))
    allowed = band(queries, keys, 5, 3) if kind == "window" else random_mask(queries, keys)
    if kind == "window":
        out = gs.attention(q, k, v, window=(5, 3))
    else:
        out = gs.attention(q, k, v, allowed if kind == "dense" else gs.BlockList.of(allowed, 32))
    out.square().sum().backward()
    got = [tensor.grad.clone() for tensor in (q, k, v)]
    wide = [tensor.detach().double().requires_grad_() for tensor in (q, k, v)]
    scores = (wide[0] @ wide[1].transpose(-2, -1)) / 4
    scores = torch.where(allowed, scores, -1e300)
    p = torch.softmax(scores, -1).where(allowed, 0)
    (p @ wide[2]).square().sum().backward()
    for grad, tensor in zip(got, wide, strict=True):
        torch.testing.assert_close(grad.double(), tensor.grad, atol=1e-4, rtol=1e-4)


def test_every_mask_has_the_kernel_of_its_blocks():
    q, k, v = qkv(640, 1280, columns=64, dtype=torch.float16)
    scattered = torch.zeros(640, 1280, dtype=torch.bool)
    scattered[::64, ::128] = True
    kinds = {
        attention_kind(q, k, v, mask, None, causal, window)[0].text()
        for mask, causal, window in [
            (None, True, None),
            (None, False, (700, 10)),
            (None, True, 900),
            (random_mask(640, 1280), False, None),
            (gs.sparsify(random_mask(640, 1280), gs.BSR(128)), False, None),
        ]
    }
    assert kinds == {"tile.attention @attention element(f16) head(64) blocks(128, 128) listed partial\n"}
    narrow, _ = attention_kind(q, k, v, None, None, False, (64, 64))
    assert narrow.block == (64, 64)
    vertical, _ = attention_kind(q, k, v, scattered, None, False, None)
    assert vertical.block == (64, 64)
    assert vertical.packed
    # As many queries as keys, causal: no list.
    square, _ = attention_kind(q, q, q, None, None, True, (99, 5))
    assert (square.listed, square.causal, square.window) == (False, True, True)
    everything, _ = attention_kind(q, k, v, None, None, False, (2000, 2000))
    assert not everything.listed


def test_the_code_is_there_without_a_gpu():
    q, k, v = qkv(128, 256, columns=64, dtype=torch.bfloat16)
    ptx = gs.dump(gs.attention, q, k, v, random_mask(128, 256), stage="ptx", target="sm_90a")
    assert "ld.global.v4.b32" in ptx
    assert "ld.global.v4.b32" not in gs.dump(gs.attention, q, k, v, stage="ptx", target="sm_90a")
    assert "with bitmaps" in str(attention_kind(q, k, v, random_mask(128, 256), None, False, None)[0])
