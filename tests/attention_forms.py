"""Attention as people write it, and what it is compared with where a tile program computes it."""

import torch
from torch import Tensor
from torch.nn import functional as F

import gossamer as gs


def masked(q, k, v, mask):
    scores = q @ k.mT / q.shape[-1] ** 0.5
    return torch.softmax(scores.masked_fill(~mask, -torch.inf), -1) @ v


def sdpa(q, k, v, mask):
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, enable_gqa=True)


def scaled_queries_low_numbers(q, k, v, mask):
    scores = torch.matmul(q * 0.25, k.transpose(-1, -2)).float()
    weights = F.softmax(torch.where(mask, scores, -1e9) * 0.5, dim=-1, dtype=torch.float32).to(v.dtype)
    return weights.masked_fill(~mask, 0.0) @ v + q


def added(q, k, v, mask):
    bias = (1.0 - mask.to(torch.float32)) * -1e9
    return torch.softmax((q @ k.mT).float() * q.shape[-1] ** -0.5 + bias, -1).to(v.dtype) @ v


def einsums(q, k, v, mask):
    q, k, v = (x.transpose(1, 2).contiguous() for x in (q, k, v))
    scores = torch.einsum("bqhd,bkhd->bhqk", q, k) * 0.25
    out = torch.einsum("bhqk,bkhd->bqhd", torch.where(~mask, -torch.inf, scores).softmax(-1), v)
    return out.transpose(1, 2)


def batched(q, k, v, mask):
    q, k, v = (x.flatten(0, 1) for x in (q, k, v))
    out = torch.bmm(torch.softmax(torch.bmm(q, k.transpose(1, 2)).masked_fill(~mask, -torch.inf) / 3, -1), v)
    return out.unflatten(0, (2, -1))


FORMS = [masked, sdpa, scaled_queries_low_numbers, added, einsums, batched]


def leaves(queries=70, keys=65, heads=4, kv_heads=None, columns=24, dtype=torch.bfloat16, device="cpu") -> list[Tensor]:
    torch.manual_seed(0)
    shapes = (queries, heads), (keys, kv_heads or heads), (keys, kv_heads or heads)
    made = [torch.randn(2, length, h, columns).to(device, dtype).transpose(1, 2) for length, h in shapes]
    return [tensor.requires_grad_() for tensor in made]


def allowed(*shape: int, device="cpu") -> Tensor:
    torch.manual_seed(1)
    mask = torch.rand(shape, device=device) < 0.3
    mask[..., ::7, :] = False  # queries that see nothing
    return mask


def check(f, tensors, mask, dense) -> str:
    """As in float32 with every entry, forward and backward; and tensor cores say that they did it."""
    function = gs.sparse_jit(f, fullgraph=True)
    out = function(*tensors, mask)
    grad = torch.randn_like(out)
    got = out, *torch.autograd.grad(out, tensors, grad)
    exact = [tensor.detach().float().requires_grad_() for tensor in tensors]
    sees = dense.any(-1, keepdim=True)
    wanted = f(*exact, dense | ~sees)
    rows = sees.unflatten(0, (2, -1)) if f is batched and sees.dim() == 3 else sees
    tail = exact[0] if f is scaled_queries_low_numbers else 0
    wanted = torch.where(rows, wanted, tail)
    expected = wanted, *torch.autograd.grad(wanted, exact, grad.float())
    for one, other in zip(got, expected, strict=True):
        assert one.dtype == tensors[0].dtype
        largest = max(4.0, other.abs().max().item())
        torch.testing.assert_close(one.float(), other, rtol=4e-2, atol=1e-2 * largest)
    report = gs.explain(function, *tensors, mask)
    assert "tile.attention: fast road (tensor cores" in str(report)
    assert not report.backward
    return str(report)
