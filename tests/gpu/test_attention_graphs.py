"""gs.attention on tensor cores under torch.compile: one graph, CUDA graphs, and what an eager call gives."""

from typing import Any

import pytest
import torch
from torch import Tensor

import gossamer as gs
from tests.gpus import needs_cuda, needs_hopper

pytestmark = [needs_cuda, needs_hopper]
LENGTH = 521


@pytest.fixture(autouse=True)
def _fresh():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def leaves(dtype: torch.dtype = torch.bfloat16) -> list[Tensor]:
    torch.manual_seed(0)
    q, k, v = (torch.randn(2, LENGTH, heads, 64, device="cuda").to(dtype).transpose(1, 2) for heads in (4, 2, 2))
    return [tensor.requires_grad_() for tensor in (q, k, v)]


def block_list(seed: int = 0) -> gs.BlockList:
    torch.manual_seed(seed)
    blocks = -(-LENGTH // 128)
    return gs.BlockList.from_dense(torch.rand(4, blocks, blocks, device="cuda") < 0.5, 128, (LENGTH, LENGTH))


def cases() -> dict:
    return {
        "all": lambda: (None, {}),
        "causal": lambda: (None, {"causal": True}),
        "window": lambda: (None, {"causal": True, "window": 100}),
        "list": lambda: (block_list(), {}),
        "dense": lambda: (torch.rand(LENGTH, LENGTH, device="cuda") < 0.3, {}),
        "csr": lambda: (gs.from_torch((torch.rand(LENGTH, LENGTH, device="cuda") < 0.3).to_sparse_csr()), {}),
        "pattern": lambda: (gs.patterns.causal() & gs.patterns.sliding_window(100), {}),
        "pattern mask": lambda: (gs.patterns.causal().mask(LENGTH, LENGTH, device="cuda"), {}),
    }


def attention(q: Tensor, k: Tensor, v: Tensor, mask: Any, **options: Any) -> Any:
    return gs.attention(q * 2, k, v, mask, **options)


@pytest.mark.parametrize("mode", ["default", "reduce-overhead"])
@pytest.mark.parametrize("name", list(cases()))
def test_as_eager(name, mode):
    mask, options = cases()[name]()
    compiled = torch.compile(attention, fullgraph=True, mode=mode)
    tensors = leaves()
    for step in range(4):  # a CUDA graph warms up, is recorded and is replayed
        torch.manual_seed(step)
        tensors = [torch.randn_like(tensor).requires_grad_() for tensor in tensors]
        torch.compiler.cudagraph_mark_step_begin()
        out, lse = compiled(*tensors, mask, return_lse=True, **options)
        grads = torch.randn_like(out), torch.randn_like(lse)
        got = [one.clone() for one in (out, lse, *torch.autograd.grad([out, lse], tensors, list(grads)))]
        wanted, wanted_lse = attention(*tensors, mask, return_lse=True, **options)
        wanted = wanted, wanted_lse, *torch.autograd.grad([wanted, wanted_lse], tensors, list(grads))
        for one, other in zip(got, wanted, strict=True):
            # Gradients of q are sums in any order.
            torch.testing.assert_close(one, other, rtol=2e-2, atol=2e-2)


@pytest.mark.parametrize("mode", ["default", "reduce-overhead"])
def test_a_new_list_each_time(mode):
    compiled = torch.compile(attention, fullgraph=True, mode=mode)
    q, k, v = (tensor.detach() for tensor in leaves())
    for seed in range(5):
        mask = block_list(seed)
        for _ in range(3):
            torch.compiler.cudagraph_mark_step_begin()
            torch.testing.assert_close(compiled(q, k, v, mask), attention(q, k, v, mask), rtol=0, atol=0)


@pytest.mark.parametrize("kind", ["dense", "csr"])
def test_a_mask_that_changes_under_cuda_graphs(kind):
    compiled = torch.compile(attention, fullgraph=True, mode="reduce-overhead")
    q, k, v = (tensor.detach() for tensor in leaves())
    mask: Any = torch.rand(LENGTH, LENGTH, device="cuda") < 0.3
    values = mask
    if kind == "csr":
        mask = gs.from_torch(mask.to_sparse_csr())
        values = mask.values
    for _ in range(6):
        values.copy_(torch.rand(values.shape, device="cuda") < 0.3)
        torch.compiler.cudagraph_mark_step_begin()
        torch.testing.assert_close(compiled(q, k, v, mask), attention(q, k, v, mask), rtol=0, atol=0)


def test_a_layer():
    """Projections around it, of which Inductor chooses the strides."""
    torch.manual_seed(0)
    mask = block_list()
    w = (torch.randn(256, 768, device="cuda") / 16).bfloat16().requires_grad_()

    def layer(x: Tensor, w: Tensor) -> Tensor:
        q, k, v = ((x @ part).unflatten(-1, (4, 64)).transpose(1, 2) for part in w.chunk(3, 1))
        return attention(q, k, v, mask).transpose(1, 2).flatten(2)

    x = torch.randn(2, LENGTH, 256, device="cuda").bfloat16()
    got, wanted = torch.compile(layer, fullgraph=True)(x, w), layer(x, w)
    grad = torch.randn_like(got)
    torch.testing.assert_close(got, wanted, rtol=2e-2, atol=2e-2)
    (one,), (other,) = torch.autograd.grad(got, w, grad), torch.autograd.grad(wanted, w, grad)
    assert (one - other).float().norm() <= 1e-2 * other.float().norm()


def test_float32_runs_elsewhere():
    q, k, v = leaves(torch.float32)
    mask = block_list()
    got = torch.compile(attention, fullgraph=True)(q, k, v, mask)
    wanted = attention(q, k, v, mask)
    torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-4)
    for one, other in zip(
        torch.autograd.grad(got.sum(), (q, k, v)), torch.autograd.grad(wanted.sum(), (q, k, v)), strict=True
    ):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3)


def test_prepared_calls_of_tensors_that_require_gradients():
    """The second call is a prepared one; tensors at odd addresses and those without gradients come between."""
    mask = block_list()
    q, k, v = leaves()
    results = []
    for _ in range(3):
        out: Any = gs.attention(q, k, v, mask)
        results.append((out, *torch.autograd.grad(out.float().square().sum(), (q, k, v))))
        with torch.no_grad():
            again: Any = gs.attention(q, k, v, mask)
            assert torch.equal(again, out)
        odd = torch.empty(q.numel() + 1, dtype=q.dtype, device="cuda")[1:].view(q.shape).copy_(q.detach())
        torch.testing.assert_close(gs.attention(odd.requires_grad_(), k, v, mask), out, rtol=0, atol=0)
    for later in results[1:]:
        for one, other in zip(later, results[0], strict=True):
            torch.testing.assert_close(one, other, rtol=2e-2, atol=2e-2)
