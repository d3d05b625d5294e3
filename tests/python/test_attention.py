"""gs.attention and block lists where there is no GPU: what they refuse, say and mean."""

import math
import struct

import pytest
import torch
from torch.nn import functional as F

import gossamer as gs
from gossamer.attention import attention_kind
from gossamer.runtime import tiles


def qkv(*lead: int, queries: int = 128, keys: int = 128, columns: int = 64, dtype=torch.float32):
    torch.manual_seed(0)
    batch, heads = lead or (2, 3)
    sizes = queries, keys, keys
    return tuple(torch.randn(batch, heads, size, columns).to(dtype) for size in sizes)


def expected(q, k, v, allowed):
    scores = (q @ k.transpose(-2, -1)) / math.sqrt(q.shape[3])
    return torch.softmax(scores.masked_fill(~allowed, -math.inf), -1).nan_to_num(0.0) @ v


LIST = torch.tensor([[True, False], [True, True]])


def test_a_list_of_dense_blocks():
    blocks = gs.BlockList.from_dense(LIST, 64, (128, 128))
    assert blocks.count.tolist() == [[[1, 2]]]
    assert blocks.index[0, 0, 1].tolist() == [0, 1]
    assert blocks.block == (64, 64)
    allowed = LIST.repeat_interleave(64, 0).repeat_interleave(64, 1)
    assert torch.equal(blocks.to_mask().to_dense(), allowed)


@pytest.mark.parametrize("lead", [(), (3,), (2, 3)], ids=str)
def test_a_list_of_a_mask_and_back(lead):
    allowed = (torch.rand(*lead, 3, 5) < 0.5).repeat_interleave(32, -2).repeat_interleave(16, -1)
    blocks = gs.BlockList.of(gs.sparsify(allowed, gs.BSR((32, 16))))
    assert blocks.block == (32, 16)
    assert torch.equal(blocks.to_mask().to_dense(), allowed)


def test_a_list_is_made_once():
    mask = gs.sparsify(torch.ones(128, 128, dtype=torch.bool), gs.BSR(64))
    assert gs.BlockList.of(mask) is gs.BlockList.of(mask)


def test_the_order_has_every_tile_once_longest_first_in_groups():
    rows = 400
    count = torch.ones(1, 3, rows, dtype=torch.int32)
    count[0, 1, 7] = count[0, 2, 5] = 2
    count[0, 2, 9] = 6  # would still run when everything else is done
    index = torch.arange(6, dtype=torch.int32).expand(1, 3, rows, 6).contiguous()
    blocks = gs.BlockList(count, index, 64, (64 * rows, 384))
    order = blocks.order(1, 3, 8 << 20)  # two heads fit
    assert sorted(order.tolist()) == list(range(3 * rows))
    assert order[:2].tolist() == [2 * rows + 9, rows + 7]
    assert order[2 * rows + 1] == 2 * rows + 5  # the longest of the second group
    assert order[2 : 2 * rows + 1].max() < 2 * rows
    assert sorted(blocks.order(2, 3, 1).tolist()) == list(range(6 * rows))


@pytest.mark.parametrize(("queries", "keys"), [(128, 128), (192, 64)])
def test_attention_under_a_list(queries, keys):
    q, k, v = qkv(queries=queries, keys=keys)
    blocks = torch.rand(2, 3, queries // 64, keys // 64) < 0.6
    allowed = blocks.repeat_interleave(64, -2).repeat_interleave(64, -1)
    got = gs.attention(q, k, v, gs.BlockList.from_dense(blocks, 64, (queries, keys)))
    torch.testing.assert_close(got, expected(q, k, v, allowed), atol=1e-5, rtol=1e-5)


def test_attention_with_fewer_heads_of_keys():
    q, _, _ = qkv(2, 4)
    _, k, v = qkv(2, 2)
    got = gs.attention(q, k, v, gs.BlockList.from_dense(LIST, 64, (128, 128)))
    allowed = LIST.repeat_interleave(64, 0).repeat_interleave(64, 1)
    k, v = k.repeat_interleave(2, 1), v.repeat_interleave(2, 1)
    torch.testing.assert_close(got, expected(q, k, v, allowed), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("causal", [False, True])
def test_attention_without_a_mask(causal):
    q, k, v = qkv()
    got = gs.attention(q, k, v, causal=causal, scale=0.3)
    torch.testing.assert_close(got, F.scaled_dot_product_attention(q, k, v, is_causal=causal, scale=0.3))


def test_a_window():
    q, k, v = qkv()
    allowed = torch.ones(128, 128, dtype=torch.bool).tril().triu(-9)
    got = gs.attention(q, k, v, causal=True, window=10)
    torch.testing.assert_close(got, expected(q, k, v, allowed), atol=1e-5, rtol=1e-5)
    with pytest.raises(gs.TensorError, match="a window of a number of keys is of causal attention"):
        gs.attention(q, k, v, window=10)
    half = qkv(dtype=torch.float16)
    assert "mbarrier" in gs.dump(gs.attention, *half, causal=True, window=10, stage="ptx", target="sm_90a")


def test_gradients():
    q, k, v = (tensor.requires_grad_() for tensor in qkv(1, 2))
    blocks = gs.BlockList.from_dense(LIST, 64, (128, 128))
    allowed = LIST.repeat_interleave(64, 0).repeat_interleave(64, 1)
    gs.attention(q, k, v, blocks).square().sum().backward()
    got = [tensor.grad.clone() for tensor in (q, k, v)]
    for tensor in (q, k, v):
        tensor.grad = None
    expected(q, k, v, allowed).square().sum().backward()
    for grad, tensor in zip(got, (q, k, v), strict=True):
        torch.testing.assert_close(grad, tensor.grad, atol=1e-4, rtol=1e-4)


def test_the_words_of_a_call(monkeypatch):
    given = []

    class Kernel:
        def on(self, device):
            return given.append

    counter = torch.zeros(1, dtype=torch.int32)
    monkeypatch.setattr(tiles, "kernel_of", lambda *_: Kernel())
    monkeypatch.setattr(tiles, "counter_of", lambda device, count: counter)
    q = torch.randn(2, 200, 4, 64).half().transpose(1, 2)
    k, v = (torch.randn(2, 2, 320, 64).half() for _ in range(2))
    blocks = gs.BlockList.from_dense(torch.ones(4, 4, 5, dtype=torch.bool), 64, (200, 320))
    kind, _ = attention_kind(q, k, v, blocks, None, False, None)
    assert kind == tiles.Kind(torch.float16, 64, (64, 64), True, False, False, False)
    out, lse = tiles.run(kind, q, k, v, blocks, 0.5)
    words = struct.unpack("37q", given[0])
    assert words[:4] == (q.data_ptr(), k.data_ptr(), v.data_ptr(), out.data_ptr())
    assert words[4:7] == (lse.data_ptr(), blocks.count.data_ptr(), blocks.index.data_ptr())
    assert words[8:15] == (counter.data_ptr(), 2, 4, 2, 200, 320, 64)
    assert words[15:18] == (51200, 64, 256)
    assert words[24:27] == out.stride()[:3] == q.stride()[:3]
    assert words[27:] == (0, 4, 5, 0, struct.unpack("I", struct.pack("f", 0.5))[0], 0, 0, 0, 0, 0)

    allowed = torch.rand(4, 200, 320) < 0.5
    blocks = gs.BlockList.of(allowed, 128)
    kind, _ = attention_kind(q, k, v, blocks, None, False, None)
    assert kind == tiles.Kind(torch.float16, 64, (128, 128), True, False, False, False, partial=True)
    tiles.run(kind, q, k, v, blocks, 0.5)
    words = struct.unpack("37q", given[1])
    arrays = blocks.partial_count, blocks.partial_index, blocks.partial_bits, blocks.bits
    assert words[27:30] == (0, 2, 1)
    assert words[32:] == (*(array.data_ptr() for array in arrays), 3)


def test_the_compiler_reads_as_many_words_as_a_call_has():
    text = "tile.attention @attention element(f16) head(64) blocks(64, 64) listed\n"
    from gossamer.compiler.compile import emit

    lowered = emit(text, "lower", "sm_90a")
    entry = lowered[lowered.index("llvm.func @gs_entry") : lowered.index("module @kernels")]
    assert "llvm.getelementptr %arg0[36]" in entry
    assert "llvm.getelementptr %arg0[37]" not in entry


def test_explain_says_why_not():
    q, k, v = qkv()
    assert "tile.attention: no, it runs on a GPU, not on cpu" in str(gs.explain(gs.attention, q, k, v))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_the_code_is_there_without_a_gpu(dtype):
    q, k, v = qkv(dtype=dtype)
    blocks = gs.BlockList.from_dense(LIST, 64, (128, 128))
    ptx = gs.dump(gs.attention, q, k, v, blocks, stage="ptx", target="sm_90a")
    assert ".target sm_90a" in ptx
    assert "wgmma.mma_async" in ptx
    assert "tile.attention" in gs.dump(gs.attention, q, k, v, blocks, stage="annotate")


def test_what_has_no_code():
    blocks = gs.BlockList.from_dense(LIST, 64, (128, 128))
    with pytest.raises(gs.UnsupportedError, match=r"bfloat16 and float16, not torch\.float32"):
        gs.dump(gs.attention, *qkv(), blocks, stage="ptx", target="sm_90a")
    half = qkv(dtype=torch.float16)
    with pytest.raises(gs.UnsupportedError, match=r"NVIDIA GPUs \('sm_90a', 'sm_80', ...\), not for 'znver4'"):
        gs.dump(gs.attention, *half, blocks, stage="llvm", target="znver4")
    with pytest.raises(gs.UnsupportedError, match="heads of 8, 16"):
        gs.dump(gs.attention, *qkv(columns=36, dtype=torch.float16), blocks, stage="ptx", target="sm_90a")
    with pytest.raises(gs.UnsupportedError, match="scale is above 0, not -1"):
        gs.dump(gs.attention, *half, blocks, scale=-1.0, stage="ptx", target="sm_90a")
    with pytest.raises(
        gs.UnsupportedError, match="return_lse needs the tile program of attention, and it runs on a GPU"
    ):
        gs.attention(*half, blocks, return_lse=True)


def test_what_does_not_go_together():
    q, k, v = qkv()
    blocks = gs.BlockList.from_dense(LIST, 64, (128, 128))
    for arguments, message in [
        ((q[0], k, v), r"q of attention is a tensor \[batch, heads, length, columns\], not of shape \[3, 128, 64\]"),
        ((q, k.half(), v), r"q is torch.float32 on cpu, k is torch.float16"),
        ((q, k, v[:, :, :64]), "do not go together"),
        ((q, k[:, :2], v[:, :2]), "3 heads of q are no multiple of 2 heads of k and v"),
        ((q, k, v, [[True]]), "a BlockList, a bool SparseTensor or a bool tensor, not a list"),
        ((q, k, v, torch.ones(128, 128)), r"a mask is bool, .* not torch\.float32 of shape \[128, 128\]"),
        ((q[:, :, :64], k, v, blocks), "a mask of 128 queries and 128 keys, for 64 and 128"),
        (
            (q, k, v, gs.BlockList.from_dense(LIST.expand(2, 2, 2, 2), 64, (128, 128))),
            r"leading dimensions \(2, 2\) for batch and heads \(2, 3\)",
        ),
    ]:
        with pytest.raises(gs.TensorError, match=message):
            gs.attention(*arguments)
    with pytest.raises(gs.TensorError, match="causal or has a mask"):
        gs.attention(q, k, v, blocks, causal=True)
    with pytest.raises(gs.TensorError, match="a window or a mask"):
        gs.attention(q, k, v, blocks, window=(3, 3))
    with pytest.raises(gs.TensorError, match=r"a number of keys or \(left, right\), not \[3, 3\]"):
        gs.attention(q, k, v, window=[3, 3])


def test_lists_that_are_wrong():
    count = torch.tensor([[[1, 2]]], dtype=torch.int32)
    index = torch.tensor([[[[0, 0], [0, 1]]]], dtype=torch.int32)
    for arguments, message in [
        ((count.long(), index), "int32, not torch.int64 and torch.int32"),
        ((count[0], index), r"count \[B, H, MB\] and index \[B, H, MB, max\], not \[1, 2\]"),
        ((count[:, :, :1], index[:, :, :1]), "128 queries in blocks of 64 are 2 blocks, and count has 1"),
        ((count + 1, index), "above 2, the length of its lists"),
        ((count, index + 1), r"index\[0, 0, 1, 1\] of a block list is 2; there are 2 blocks of keys"),
        ((count, index.flip(-1)), r"index\[0, 0, 1, 1\] of a block list is repeated or not ascending"),
    ]:
        with pytest.raises(gs.TensorError, match=message):
            gs.BlockList(*arguments, 64, (128, 128))
    with pytest.raises(gs.TensorError, match=r"has \(2, 2\) blocks, not \(2, 3\)"):
        gs.BlockList.from_dense(torch.ones(2, 3, dtype=torch.bool), 64, (128, 128))


def test_a_list_of_a_block_mask():
    from torch.nn.attention.flex_attention import BlockMask, create_block_mask

    allowed = torch.tensor([[True, False, True], [False, True, False]])
    mask = create_block_mask(lambda b, h, i, j: allowed[i // 128, j // 128], None, None, 256, 384, device="cpu")
    blocks = gs.from_block_mask(mask)
    assert blocks.shape == (256, 384)
    assert blocks.block == (128, 128)
    assert blocks.count.data_ptr() == mask.full_kv_num_blocks.data_ptr()
    assert torch.equal(blocks.to_mask().to_dense(), allowed.repeat_interleave(128, 0).repeat_interleave(128, 1))
    plain = BlockMask.from_kv_blocks(mask.full_kv_num_blocks, mask.full_kv_indices, BLOCK_SIZE=128)
    assert gs.from_block_mask(plain).count.tolist() == [[[2, 1]]]
