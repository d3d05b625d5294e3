"""Attention as it is written in PyTorch, on tensor cores: values, gradients, CUDA graphs, and what explain says."""

import pytest
import torch
from torch.nn import functional as F

import gossamer as gs
from tests.attention_forms import FORMS, allowed, batched, check, leaves, masked, sdpa
from tests.gpus import needs_cuda, needs_hopper

pytestmark = [needs_cuda, needs_hopper]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("f", FORMS, ids=lambda f: f.__name__)
def test_as_in_float32(f, dtype):
    dense = allowed(517, 389, device="cuda")
    check(f, leaves(517, 389, columns=64, dtype=dtype, device="cuda"), gs.sparsify(dense, gs.CSR), dense)


@pytest.mark.parametrize(
    ("f", "lead", "kv_heads"),
    [(sdpa, (2, 1), 2), (sdpa, (2, 4), 2), (sdpa, (4,), 4), (sdpa, (2, 4), 1), (batched, (8,), 4)],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_masks_of_texts_and_heads(f, lead, kv_heads):
    dense = allowed(*lead, 512, 384, device="cuda")
    tensors = leaves(512, 384, kv_heads=kv_heads, columns=128, device="cuda")
    check(f, tensors, gs.sparsify(dense, gs.BSR(64)), dense)


def test_masks_of_patterns():
    mask = (gs.patterns.causal() & gs.patterns.sliding_window(100)).mask(512, 512, device="cuda")
    check(masked, leaves(512, 512, columns=64, device="cuda"), mask, mask.to_dense())


def test_a_module_and_its_training_step():
    class Attention(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.qkv, self.out = torch.nn.Linear(256, 768), torch.nn.Linear(256, 256)

        def forward(self, x, mask):
            q, k, v = self.qkv(x).unflatten(-1, (3, 4, 64)).permute(2, 0, 3, 1, 4)
            return self.out(F.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2).flatten(2))

    torch.manual_seed(0)
    module = Attention().cuda().bfloat16()
    sparse = gs.sparse_jit(module, {})
    x, window = torch.randn(2, 500, 256, device="cuda").bfloat16(), allowed(500, 500, device="cuda").tril()
    window |= torch.eye(500, dtype=torch.bool, device="cuda")
    mask = gs.sparsify(window, gs.CSR)
    sparse(x, mask).float().square().mean().backward()
    got = [parameter.grad.clone() for parameter in module.parameters()]
    module.zero_grad()
    module(x, window).float().square().mean().backward()
    for one, parameter in zip(got, module.parameters(), strict=True):
        torch.testing.assert_close(one, parameter.grad, rtol=5e-2, atol=2e-3)
    assert "tile.attention: fast road" in str(gs.explain(sparse, x, mask))


def test_in_a_cuda_graph():
    function = gs.sparse_jit(masked)
    q, k, v = (tensor.detach() for tensor in leaves(512, 512, columns=64, device="cuda"))
    mask = gs.sparsify(allowed(512, 512, device="cuda"), gs.BSR(64))
    function(q, k, v, mask)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out = function(q, k, v, mask)
    for tensor in (q, k, v):
        tensor.normal_()
    graph.replay()
    torch.testing.assert_close(out, function(q, k, v, mask), rtol=0, atol=0)


@pytest.mark.parametrize(("dtype", "why"), [(torch.float32, "multiplies bfloat16 and float16"), (torch.bfloat16, "")])
def test_the_general_road_says_why(dtype, why):
    def softcapped(q, k, v, mask):
        return torch.softmax((20 * torch.tanh(q @ k.mT / 20)).masked_fill(~mask, -torch.inf), -1) @ v

    f = masked if why else softcapped
    tensors = leaves(columns=64, dtype=dtype, device="cuda")
    report = str(gs.explain(gs.sparse_jit(f), *tensors, gs.sparsify(allowed(70, 65, device="cuda"), gs.CSR)))
    assert f"tile.attention: no, {'it ' + why if why else 'scores are changed by aten.tanh'}" in report
    assert "gossamer.attention: general road" in report
