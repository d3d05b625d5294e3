"""gs.attention under torch.compile: one graph, and what an eager call gives."""

import copy
import pickle
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._dynamo.testing import CompileCounterWithBackend

import gossamer as gs
from gossamer import attention_op, numbered
from gossamer.attention import _gradient_blocks, call_for, kind_of
from gossamer.runtime.tile_autograd import Attention
from tile_inputs import inputs

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(autouse=True)
def _fresh():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@pytest.fixture
def tile_programs(monkeypatch):
    """Has compiled calls run tile programs, on the processor."""
    monkeypatch.setattr(attention_op, "_where_not", lambda device: "")


def compiled(backend: Any = "aot_eager") -> Any:
    return torch.compile(
        lambda q, k, v, mask, **options: gs.attention(q, k, v, mask, **options), backend=backend, fullgraph=True
    )


def leaves(*tensors: Tensor) -> list[Tensor]:
    return [tensor.detach().clone().requires_grad_() for tensor in tensors]


def block_list(queries: int, keys: int, seed: int = 0) -> gs.BlockList:
    torch.manual_seed(seed)
    return gs.BlockList.from_dense(torch.rand(2, -(-queries // 128), -(-keys // 64)) < 0.5, (128, 64), (queries, keys))


def masks(queries: int, keys: int) -> dict:
    dense = torch.rand(queries, keys) < 0.3
    return {
        "all": (None, {}),
        "causal": (None, {"causal": True}),
        "window": (None, {"causal": True, "window": 40}),
        "sides": (None, {"window": (30, 20)}),
        "list": (block_list(queries, keys), {}),
        "dense": (dense, {}),
        "csr": (gs.from_torch(dense.to_sparse_csr()), {}),
        "pattern": (gs.patterns.causal() & gs.patterns.sliding_window(50), {}),
        "pattern mask": (gs.patterns.causal().mask(queries, keys), {}),
    }


NAMES = list(masks(8, 8))


@pytest.mark.parametrize("name", NAMES)
def test_tile_programs(name, tile_programs):
    q, k, v = inputs(1, 2, 1, 131, 131, 64, torch.bfloat16)
    mask, options = masks(131, 131)[name]
    ours, theirs = leaves(q, k, v), leaves(q, k, v)
    out, lse = compiled()(*ours, mask, return_lse=True, **options)
    expected, expected_lse = call_for(*theirs, mask, None, options.get("causal", False), options.get("window"))(*theirs)
    assert torch.equal(out, expected)
    assert torch.equal(lse, expected_lse)
    assert out.stride() == expected.stride()
    grads = torch.randn_like(out), torch.randn_like(lse)
    got = torch.autograd.grad([out, lse], ours, list(grads))
    for one, other in zip(got, torch.autograd.grad((expected, expected_lse), theirs, grads), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("name", NAMES)
def test_without_tile_programs(name):
    q, k, v = inputs(1, 2, 1, 65, 65, 16, torch.float32)
    mask, options = masks(65, 65)[name]
    ours, theirs = leaves(q, k, v), leaves(q, k, v)
    out, expected = compiled()(*ours, mask, **options), gs.attention(*theirs, mask, **options)
    torch.testing.assert_close(out, expected)
    grad = torch.randn_like(expected)
    for one, other in zip(
        torch.autograd.grad(out, ours, grad), torch.autograd.grad(expected, theirs, grad), strict=True
    ):
        torch.testing.assert_close(one, other)


def test_between_other_operations(tile_programs):
    """Inputs of any strides, gradients of some, and an output that is not the graph's."""
    plain: Any = gs.attention
    mask = block_list(100, 70)
    w = (torch.randn(48, 48) / 7).bfloat16().requires_grad_()

    def layer(x, y, w):
        q, k = ((t @ w).unflatten(-1, (2, 24)).transpose(1, 2) for t in (x, y))
        return plain(q * 2, k, k + 1, mask).transpose(1, 2).flatten(2) @ w

    x, y = torch.randn(1, 100, 48).bfloat16(), torch.randn(1, 70, 48).bfloat16()
    (got,) = torch.autograd.grad(torch.compile(layer, backend="aot_eager", fullgraph=True)(x, y, w).sum(), w)

    def dense(x, y, w):
        q, k = ((t @ w).unflatten(-1, (2, 24)).transpose(1, 2) for t in (x, y))
        scores = (q * 2 @ k.mT / 24**0.5).masked_fill(~mask.to_mask().to_dense(), -torch.inf)
        p = torch.softmax(scores, -1).nan_to_num(0)
        return (p @ (k + 1)).transpose(1, 2).flatten(2) @ w

    wide = w.detach().double().requires_grad_()
    (wanted,) = torch.autograd.grad(dense(x.double(), y.double(), wide).sum(), wide)
    assert (got.double() - wanted).norm() <= 3e-2 * wanted.norm()


@pytest.mark.parametrize("which", ["odd address", "odd strides", "no queries", "no keys"])
def test_tensors_that_are_copied_or_empty(which, tile_programs):
    """The strides of results are known before their addresses are."""
    queries, keys = (0 if which == "no queries" else 65), (0 if which == "no keys" else 65)
    q, k, v = inputs(1, 2, 2, queries, keys, 24, torch.bfloat16)
    if which == "odd address":
        q, k = (torch.randn(tensor.numel() + 1).bfloat16()[1:].view(1, 2, 65, 24) for tensor in (q, k))
    if which == "odd strides":
        q, k = (torch.randn(1, 2, 65, 25).bfloat16()[..., :24] for _ in range(2))
    options = None, 0, None, False, None, 0
    tensors = [tensor.detach().requires_grad_() for tensor in (q, k, v)]
    torch.library.opcheck(attention_op.tile_attention, (*tensors, *options))
    out, lse = compiled()(*tensors, None, return_lse=True)
    expected, expected_lse = call_for(*tensors, None, None, False, None)(*tensors)
    assert torch.equal(out, expected)
    assert torch.equal(lse, expected_lse)
    for got, tensor in zip(torch.autograd.grad(out.sum(), tensors), tensors, strict=True):
        assert got.shape == tensor.shape
        assert torch.isfinite(got).all()


@pytest.mark.parametrize("number", [False, True])
def test_operators(number, tile_programs):
    q, k, v = leaves(*inputs(1, 2, 2, 65, 70, 16, torch.bfloat16))
    mask = block_list(65, 70)
    torch.library.opcheck(attention_op.tile_attention, (q, k, v, None, mask._number * number, 0.3, False, None, 0))
    q, k, v = (tensor.detach().float().requires_grad_() for tensor in (q, k, v))
    # Its body is a call of sparse_jit, whose operations are no part of what is checked.
    tests = "test_schema", "test_autograd_registration"
    options = None, mask._number, 0.3, False, None, 0
    torch.library.opcheck(attention_op.sparse_attention, (q, k, v, *options), test_utils=tests)


def test_another_list_is_no_other_graph(tile_programs):
    q, k, v = inputs(1, 2, 2, 131, 131, 64, torch.bfloat16)
    count = CompileCounterWithBackend("aot_eager")
    call = compiled(count)
    for seed in range(12):
        mask = block_list(131, 131, seed)
        assert torch.equal(call(q, k, v, mask), call_for(q, k, v, mask, None, False, None)(q, k, v)[0])
    assert count.frame_count <= 2


def test_a_changed_mask_is_seen(tile_programs):
    q, k, v = inputs(1, 2, 2, 65, 65, 64, torch.bfloat16)
    dense = torch.rand(65, 65) < 0.3
    call = compiled()
    for mask, values in ((dense, dense), (sparse := gs.from_torch(dense.to_sparse_csr()), sparse.values)):
        before = call(q, k, v, mask)
        values[...] = torch.rand(values.shape) < 0.5
        after = call(q, k, v, mask)
        assert not torch.equal(before, after)
        assert torch.equal(after, call_for(q, k, v, mask, None, False, None)(q, k, v)[0])


def test_a_mask_lives_until_the_backward(tile_programs):
    q, k, v = leaves(*inputs(1, 2, 2, 131, 131, 64, torch.bfloat16))
    out = compiled()(q, k, v, block_list(131, 131))
    mask = block_list(131, 131)
    expected = call_for(q, k, v, mask, None, False, None)(q, k, v)[0]
    for got, other in zip(
        torch.autograd.grad(out.sum(), (q, k, v)), torch.autograd.grad(expected.sum(), (q, k, v)), strict=True
    ):
        assert torch.equal(got, other)


def test_numbers_are_of_one_mask_each(monkeypatch):
    mask = block_list(131, 131)
    others = copy.copy(mask), copy.deepcopy(mask), pickle.loads(pickle.dumps(mask))
    assert len({one._number for one in (mask, *others)}) == 4
    assert all(numbered.numbered(one._number) is one for one in others)
    monkeypatch.setattr(numbered, "_HELD", 1)
    gone = block_list(131, 131)._number
    with pytest.raises(gs.TensorError, match=rf"is gone \(number {gone}\)"):
        numbered.numbered(gone)


def test_bad_input(tile_programs):
    q, k, v = inputs(1, 2, 2, 131, 131, 64, torch.bfloat16)
    with pytest.raises(gs.TensorError, match="a mask of 100 queries and 131 keys"):
        compiled()(q, k, v, block_list(100, 131))
    with pytest.raises(gs.TensorError, match="is causal or has a mask"):
        compiled()(q, k, v, block_list(131, 131), causal=True)
    with pytest.raises(Exception, match="do not go together"):
        compiled()(q, k, v[:, :, 1:], None)


def test_no_log_sum_exp_without_a_tile_program():
    q, k, v = inputs(1, 2, 2, 65, 65, 64, torch.bfloat16)
    with pytest.raises(Exception, match="return_lse needs the tile program"):
        compiled()(q, k, v, None, return_lse=True)


@pytest.mark.usefixtures("tile_programs")
def test_functions_of_scores():
    table = torch.randn(2, 141)
    score = gs.Score(lambda s, b, h, q, k: 2 * torch.tanh(s / 2) + table[h, q - k + 70])
    q, k, v = leaves(*inputs(1, 2, 1, 70, 70, 64, torch.float16))
    call = compiled()
    kind, blocks, _ = kind_of(q, k, None, 0.125, True, None, score)
    eager = Attention(kind, blocks, 0.125, 0, partial(_gradient_blocks, 70, 70, True, None, q.device, 128))
    for _ in range(2):
        got = call(q, k, v, None, causal=True, score_mod=score, scale=0.125)
        wanted, _ = eager(q, k, v, score)
        assert torch.equal(got, wanted)
        weights = torch.randn_like(got)
        for one, other in zip(
            torch.autograd.grad(got, (q, k, v), weights), torch.autograd.grad(wanted, (q, k, v), weights), strict=True
        ):
            assert torch.equal(one, other)
        table.add_(1)


def test_functions_of_scores_where_there_is_no_tile_program():
    score = gs.Score(lambda s, b, h, q, k: s - 0.1 * (q - k).abs())
    q, k, v = leaves(*inputs(1, 2, 1, 9, 9, 8, torch.float32))
    for mask in (None, gs.BlockList.of(torch.rand(9, 9) < 0.5), torch.rand(9, 9) < 0.5):
        got, wanted = compiled()(q, k, v, mask, score_mod=score), gs.attention(q, k, v, mask, score_mod=score)
        torch.testing.assert_close(got, wanted)
        for one, other in zip(
            torch.autograd.grad(got.sum(), (q, k, v)), torch.autograd.grad(wanted.sum(), (q, k, v)), strict=True
        ):
            torch.testing.assert_close(one, other)
    with pytest.raises(torch._dynamo.exc.Unsupported, match=r"make score = gs\.Score\(score_mod\) outside"):
        compiled()(q, k, v, None, score_mod=lambda s, b, h, q, k: s)
