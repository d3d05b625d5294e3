"""gs.attention under torch.compile: one graph, and what an eager call gives."""

import copy
import pickle

import pytest
import torch
from torch import Tensor

import gossamer as gs
from gossamer import attention_op, numbered
from gossamer.attention import call_for
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


def compiled(backend: str = "aot_eager"):
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
    got = torch.autograd.grad((out, lse), ours, grads)
    for one, other in zip(got, torch.autograd.grad((expected, expected_lse), theirs, grads), strict=True):
        assert torch.equal(one, other)
