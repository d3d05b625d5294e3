"""Block lists with packed keys: tile programs on the processor against float64, the lists, and what is refused."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import gossamer as gs
from gossamer import packing
from gossamer.attention import kind_of
from gossamer.block_states import arrays_of
from gossamer.patterns.masks import block_list
from gossamer.runtime import tiles
from gossamer.runtime.tile_autograd import Attention
from test_tile_host import close
from test_tile_host_backward import dense
from tile_inputs import inputs

pytestmark = pytest.mark.usefixtures("one_thread")
P = gs.patterns


def split(allowed: Tensor, keys: Tensor, block: tuple[int, int], groups: int = 1) -> gs.BlockList:
    """The list of a mask [B, H, queries, keys] in which queries see these keys [B, KV heads, n] packed, if at all."""
    batch, heads, queries, length = allowed.shape
    index = keys.long().repeat_interleave(groups, 1).expand(batch, heads, -1)[:, :, None].expand(-1, -1, queries, -1)
    packed = allowed.gather(3, index)
    rest = allowed.clone().scatter_(3, index, False)
    fill = -keys.shape[2] % block[1]
    joined = torch.cat([torch.nn.functional.pad(packed, (0, fill)), rest], 3)
    whole = gs.BlockList.of(joined, block)
    parts = {name: getattr(whole, name) for name in ("partial_count", "partial_index", "partial_bits", "bits")}
    return gs.BlockList(whole.count, whole.index, block, (queries, length), **parts, packed_keys=keys.to(torch.int32))


def check(shape, allowed: Tensor, mask: gs.BlockList, dtype=torch.bfloat16, gradients: bool = True) -> None:
    """Output and gradients of (batch, heads, kv heads, queries, keys, columns), by tile programs on the processor."""
    tensors = inputs(*shape, dtype)
    scale = 1 / math.sqrt(shape[5])
    kind, blocks, why = kind_of(tensors[0], tensors[1], mask, scale, False)
    assert kind is not None, why
    assert kind.packed
    narrow = [tensor.clone().requires_grad_(gradients) for tensor in tensors]
    wide = [tensor.double().requires_grad_() for tensor in tensors]
    out, lse = Attention(kind, blocks, scale, 0, lambda: mask)(*narrow)
    expected, expected_lse = dense(*wide, allowed, scale)
    some = allowed.any(-1).expand(expected_lse.shape)
    close((out.detach(), lse.detach()), (expected.detach(), expected_lse.detach().where(some, -math.inf)), dtype)
    if not gradients:
        return
    out_grad = torch.randn_like(out)
    wanted = torch.autograd.grad(expected, wide, out_grad.double())
    got = torch.autograd.grad(out, narrow, out_grad)
    bound = 3e-3 if dtype == torch.float16 else 1.2e-2
    for one, other in zip(got, wanted, strict=True):
        assert torch.isfinite(one).all()
        assert (one.double() - other).norm() <= bound * other.norm() + 1e-6


def scattered(queries: int, keys: int, packed: Tensor, window: int = 40) -> Tensor:
    """Causal: a window, and some keys for all: [queries, keys]."""
    query, key = torch.arange(queries)[:, None], torch.arange(keys)
    return (key <= query) & ((query - key < window) | torch.isin(key, packed))


@pytest.mark.parametrize(
    ("block", "columns"),
    [((128, 128), 64), ((128, 64), 128), ((128, 32), 64), ((64, 64), 64), ((64, 64), 128), ((64, 16), 128)],
    ids=str,
)
def test_blocks_of_packed_keys(block, columns):
    for count, length in ((1, 131), (63, 200), (65, 263)):
        keys = torch.randperm(length)[:count].sort().values
        allowed = scattered(length, length, keys)[None, None]
        mask = split(allowed, keys[None, None], block)
        dtype = torch.float16 if count == 63 else torch.bfloat16
        check((1, 2, 1, length, length, columns), allowed, mask, dtype, gradients=block[1] > 16)


def test_keys_of_each_kv_head_and_batch():
    for batch, heads in ((1, 2), (2, 2), (2, 1)):
        keys = torch.stack([torch.randperm(150)[:20].sort().values for _ in range(batch * heads)]).view(
            batch, heads, 20
        )
        allowed = torch.rand(batch, 4, 139, 150) < 0.1
        allowed.scatter_(3, keys.repeat_interleave(4 // heads, 1)[:, :, None].expand(-1, -1, 139, -1), True)
        allowed[:, 1, 3:70] = False
        mask = split(allowed, keys, (64, 64), 4 // heads)
        assert torch.equal(mask.to_mask().to_dense().view(allowed.shape), allowed)
        check((batch, 4, 2, 139, 150, 64), allowed, mask)


def test_packed_keys_that_all_queries_see_are_whole_blocks():
    keys = torch.arange(128) * 2
    allowed = torch.zeros(1, 1, 130, 300, dtype=torch.bool)
    allowed[..., keys] = True
    mask = split(allowed, keys[None, None], (128, 128))
    assert mask.count.tolist() == [[[1, 1]]]
    whole = gs.BlockList(mask.count, mask.index, 128, (130, 300), packed_keys=mask.packed_keys)
    for one in (mask, whole):
        assert torch.equal(one.to_mask().to_dense(), allowed[0, 0])
        check((1, 1, 1, 130, 300, 64), allowed, one)


@pytest.mark.parametrize("block", [(256, 128), (48, 40), (128, 16), (256, 256)], ids=str)
def test_other_blocks_are_cut_or_looked_up(block):
    for count in (41, 256):
        keys = torch.randperm(500)[:count].sort().values
        allowed = scattered(500, 500, keys)[None, None]
        mask = split(allowed, keys[None, None], block)
        for one in (mask, mask.tiled(128), mask.differentiable()):
            assert torch.equal(one.to_mask().to_dense(), allowed[0, 0])
        assert min(mask.differentiable().block) >= 64


def packs(mask: gs.BlockList) -> int:
    return 0 if mask.packed_keys is None else mask.packed_keys.shape[-1]


def test_scattered_keys_of_a_mask_are_packed():
    keys = torch.arange(31, 1000, 32)
    allowed = scattered(1000, 1000, keys, window=20)
    for mask in (allowed, gs.sparsify(allowed, gs.CSR)):
        blocks = gs.BlockList.of(mask)
        assert packs(blocks) >= 24
        assert set(blocks.packed_keys.flatten().tolist()) <= set(keys.tolist())
        assert torch.equal(blocks.to_mask().to_dense(), allowed)
        # Not in their own blocks, too, so that their gradients are rounded once.
        own = packing.states_of(blocks)[..., blocks.packed_rows // blocks.block[1] :]
        rest = gs.BlockList(**arrays_of(own, blocks.bits), block=blocks.block, shape=blocks.shape).to_mask().to_dense()
        assert not rest[:, blocks.packed_keys[0, 0].long()].any()
    check((1, 2, 1, 1000, 1000, 64), allowed[None, None], blocks)


def test_what_is_not_scattered_is_not_packed():
    at = torch.arange(1024)
    distance = at[:, None] - at
    for allowed in (distance >= 0, (distance >= 0) & (distance % 64 == 0), torch.rand(1024, 1024) < 0.02):
        assert gs.BlockList.of(allowed, 64).packed_keys is None
        assert packs(gs.BlockList.of(allowed)) == 0
        assert packs(packing.packed(gs.BlockList.of(allowed, 64))) == 0


@settings(max_examples=30, deadline=None)
@given(
    queries=st.integers(1, 600),
    keys=st.integers(1, 600),
    block=st.sampled_from([(128, 128), (64, 64), (128, 32)]),
    stride=st.integers(20, 90),
    offset=st.integers(0, 19),
    window=st.integers(1, 100),
    tokens=st.lists(st.integers(0, 599), min_size=1, max_size=6),
    is_causal=st.booleans(),
    heads=st.integers(1, 2),
)
def test_any_composition(queries, keys, block, stride, offset, window, tokens, is_causal, heads):
    every = P.from_function(lambda b, h, q, k: k % stride == offset)
    pattern = P.sliding_window(window) | every | P.global_tokens(tokens, rows=False)
    pattern = P.causal() & pattern if is_causal else pattern
    if heads > 1:
        pattern = P.per_head([pattern, every])
    classes = pattern.blocks(queries, keys, block, heads=heads)
    mask = packing.packed(block_list(classes))
    expected = classes.to_dense()
    assert torch.equal(mask.to_mask().to_dense().reshape(expected.shape), expected)
    turned, states = mask.transposed(), packing.states_of(mask)
    assert torch.equal(packing.states_of(turned).mT, states)
    parts = {name: getattr(mask, name) for name in ("partial_count", "partial_index", "partial_bits", "bits")}
    gs.BlockList(mask.count, mask.index, block, mask.shape, **parts, packed_keys=mask.packed_keys)  # raises nothing


# 64 keys of 200 packed in blocks of 64: packed block 0 for both blocks of queries, and block 3 of all keys.
KEYS = torch.arange(0, 192, 3, dtype=torch.int32)[None, None]


def listed(states: list[list[int]], bits: Tensor | None = None, **options) -> gs.BlockList:
    arrays = arrays_of(torch.tensor(states, dtype=torch.int32)[None, None], bits)
    return gs.BlockList(**arrays, block=64, shape=(128, 200), **{"packed_keys": KEYS, **options})


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        (KEYS.long(), "int32"),
        (KEYS[0], "int32 .B, H, keys."),
        (KEYS.expand(2, 1, 64), "do not go with a count"),
        (KEYS.expand(1, 2, 64), "do not go with a count"),
        (KEYS + 11, "out of range; there are 200 keys"),
        (KEYS - 1, "out of range; there are 200 keys"),
        (KEYS.flip(-1), "not ascending"),
        (KEYS // 6, "repeated or not ascending"),
        (KEYS[..., :-1], "block 0 of the packed keys .* do not exist"),
    ],
    ids=["int64", "rank", "batches", "heads", "above", "below", "falling", "repeated", "not filled"],
)
def test_packed_keys_that_are_refused(keys, text):
    with pytest.raises(gs.TensorError, match=text):
        listed([[-1, -2, -2, -2, -1]] * 2, packed_keys=keys)


def test_a_key_is_not_seen_twice():
    listed([[-1, -2, -2, -2, -1]] * 2)
    with pytest.raises(gs.TensorError, match="sees a key twice"):
        listed([[-1, -2, -2, -2, -1], [-1, -2, -1, -2, -2]])
    bits = torch.zeros(2, 64, 2, dtype=torch.int32)
    bits[0, 5, 0] = 2  # key 1 of block 0, which is not packed
    listed([[-1, 0, -2, -2, -2]] * 2, bits)
    bits[0, 5, 0] = 8  # key 3, which is
    with pytest.raises(gs.TensorError, match="sees a key twice"):
        listed([[-1, 0, -2, -2, -2]] * 2, bits)
    bits[1, 7, 0] = 2  # the second packed key is key 3, too, of another query
    listed([[1, 0, -2, -2, -2]] * 2, bits)


def test_bits_of_packed_keys_that_do_not_exist_are_refused():
    bits = torch.zeros(1, 64, 2, dtype=torch.int32)
    bits[0, 0, 1] = -(1 << 31)  # the last of 64
    listed([[0, -2, -2, -2, -1]] * 2, bits)
    with pytest.raises(gs.TensorError, match="packed keys behind the last of 63"):
        listed([[0, -2, -2, -2, -1]] * 2, bits, packed_keys=KEYS[..., :-1])


def test_keys_of_other_heads_are_refused():
    q, k = torch.zeros(1, 4, 128, 64), torch.zeros(1, 2, 200, 64)
    states = torch.tensor([-1, -2, -2, -2, -1], dtype=torch.int32).expand(1, 4, 2, 5)
    mask = gs.BlockList(**arrays_of(states, None), block=64, shape=(128, 200), packed_keys=KEYS.expand(1, 4, 64))
    with pytest.raises(gs.TensorError, match=r"packs keys of \(batch, heads\) \(1, 4\), for keys of \(1, 2\)"):
        gs.attention(q, k, k, mask)


def test_the_general_road_takes_packed_keys():
    q, k, v = inputs(1, 2, 1, 128, 200, 16, torch.float32)
    mask = listed([[-1, -2, -2, -2, -1], [-2, -1, -1, -2, -1]])
    allowed = mask.to_mask().to_dense()
    expected, _ = dense(q.double(), k.double(), v.double(), allowed, 0.25)
    assert torch.allclose(gs.attention(q, k, v, mask).double(), expected, atol=1e-5)
    assert (
        tiles.Kind(torch.bfloat16, 64, mask.block, True, False, False, False, packed=True).text().count("packed") == 1
    )
