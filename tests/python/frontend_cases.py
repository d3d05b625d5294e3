"""Functions that the frontend's tests share, with arguments and the same function in plain PyTorch."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

import gossamer as gs

B, H, S, T, D = 2, 4, 9, 11, 8


@dataclass
class Case:
    """A function of dense tensors, which is also compiled with some of its arguments sparse.

    Attributes:
        operations: operations of each region, or None where they are not checked.
    """

    name: str
    function: Callable[..., Any]
    args: Callable[[], tuple[Any, ...]]
    formats: dict[str, gs.Format]
    operations: list[str] | None = None
    fallbacks: set[str] = field(default_factory=set)

    def __str__(self) -> str:
        return self.name


def real(*shape: int) -> Tensor:
    return torch.randn(shape, dtype=torch.float64)


def qkv(kv_heads: int = H) -> tuple[Tensor, Tensor, Tensor]:
    return real(B, H, S, D), real(B, kv_heads, T, D), real(B, kv_heads, T, D)


def allowed(*shape: int) -> Tensor:
    mask = torch.rand(shape) < 0.5
    mask[..., 0] = True  # no row without an entry: plain PyTorch gives NaN there
    return mask


def additive(mask: Tensor, low: float = -math.inf) -> Tensor:
    return torch.zeros(mask.shape, dtype=torch.float64).masked_fill(~mask, low)


def weight(*shape: int) -> Tensor:
    return real(*shape) * (torch.rand(shape) < 0.3)


def masked_softmax(q, k, v, mask):
    return torch.softmax((q @ k.mT * 0.125).masked_fill(~mask, -math.inf), -1) @ v


def added_mask(q, k, v, mask):
    return torch.softmax(q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1]) + mask, -1) @ v


def alibi_softcap(q, k, v, mask, slopes):
    distance = torch.arange(k.shape[-2])[None, :] - torch.arange(q.shape[-2])[:, None]
    scores = 20 * torch.tanh((q @ k.mT * 0.3 + slopes[:, None, None] * distance) / 20)
    return torch.where(mask, scores, -math.inf).softmax(-1) @ v


def sdpa(q, k, v, mask):
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)


def grouped(q, k, v, mask):
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, enable_gqa=True, scale=0.3)


def softmax_by_hand(q, k, v, mask):
    scores = (q @ k.mT).masked_fill(~mask, -1e9)
    exp = (scores - scores.amax(-1, keepdim=True)).exp()
    return exp / exp.sum(-1, keepdim=True).clamp(min=1e-9) @ v


def huggingface(q, k, v, mask):
    bias = torch.where(mask, torch.tensor(0.0, dtype=q.dtype), torch.finfo(q.dtype).min)
    for _ in range(2):
        expanded = bias[:, :, :, : k.shape[-2]].expand(q.shape[0], -1, -1, -1)
        weights = torch.matmul(q, k.transpose(2, 3)) * 0.3 + expanded
        weights = F.dropout(F.softmax(weights, dim=-1, dtype=torch.float64).to(q.dtype), 0.1, False)
        out = torch.matmul(weights, v).transpose(1, 2).contiguous()
        q = out.reshape(q.shape[0], q.shape[2], -1).view(q.shape[0], q.shape[2], q.shape[1], -1).transpose(1, 2)
    return q


def arithmetic_mask(q, k, v, mask):
    return torch.softmax(q @ k.mT + (1.0 - mask.double()) * -1e9, -1) @ v


def in_place(q, k, v, mask):
    scores = q @ k.mT
    scores *= 0.2
    scores.masked_fill_(~mask, -math.inf)
    with torch.no_grad():
        shift = scores.shape[-1] * q.mean()
    return scores.softmax(-1) @ v + shift


def bmm_scores(q, k, v, mask):
    scores = torch.baddbmm(torch.ones(1, dtype=q.dtype), q[0], k[0].mT, beta=0.5, alpha=0.3)
    return torch.bmm(torch.softmax(scores.masked_fill(~mask[0], -math.inf), -1), v[0])


def ffn(x, w1, b1, w2):
    return x + F.linear(F.gelu(F.linear(x, w1, b1)), w2)


def reused_probabilities(q, k, v, mask):
    weights = torch.softmax((q @ k.mT).masked_fill(~mask, -math.inf), -1)
    first = weights @ v
    norm = F.layer_norm(first, (first.shape[-1],))
    return weights @ (v + norm.mean()), first


ATTENTION = "contract mul.Tensor bitwise_not.default masked_fill.Scalar softmax.int contract"

CASES = [
    Case("masked_softmax", masked_softmax, lambda: (*qkv(), allowed(1, 1, S, T)), {"mask": gs.CSR}, [ATTENTION]),
    Case("mask_2d", masked_softmax, lambda: (*qkv(), allowed(S, T)), {"mask": gs.CSR}, [ATTENTION]),
    Case("mask_per_head", masked_softmax, lambda: (*qkv(), allowed(1, H, S, T)), {"mask": gs.CSC}, [ATTENTION]),
    Case("mask_full", masked_softmax, lambda: (*qkv(), allowed(B, H, S, T)), {"mask": gs.COO}, [ATTENTION]),
    Case("mask_blocks", masked_softmax, lambda: (*qkv(), allowed(S, T)), {"mask": gs.BSR((3, 11))}, [ATTENTION]),
    Case(
        "added_mask",
        added_mask,
        lambda: (*qkv(), additive(allowed(1, 1, S, T))),
        {"mask": gs.CSR},
        ["contract div.Tensor add.Tensor softmax.int contract"],
    ),
    Case("alibi_softcap", alibi_softcap, lambda: (*qkv(), allowed(S, T), torch.rand(H).double()), {"mask": gs.CSR}),
    Case("sdpa_bool", sdpa, lambda: (*qkv(), allowed(1, 1, S, T)), {"mask": gs.CSR}, [ATTENTION]),
    Case(
        "sdpa_float",
        sdpa,
        lambda: (*qkv(), additive(allowed(S, T))),
        {"mask": gs.CSR},
        ["contract mul.Tensor add.Tensor softmax.int contract"],
    ),
    Case("gqa", grouped, lambda: (*qkv(2), allowed(1, 1, S, T)), {"mask": gs.CSR}, [ATTENTION]),
    Case("gqa_per_head", grouped, lambda: (*qkv(2), allowed(1, H, S, T)), {"mask": gs.CSR}, [ATTENTION]),
    Case("gqa_2d", grouped, lambda: (*qkv(2), allowed(S, T)), {"mask": gs.CSR}, [ATTENTION]),
    Case("mqa", grouped, lambda: (*qkv(1), allowed(B, 1, S, T)), {"mask": gs.CSR}, [ATTENTION]),
    Case("softmax_by_hand", softmax_by_hand, lambda: (*qkv(), allowed(1, 1, S, T)), {"mask": gs.CSR}),
    Case(
        "huggingface",
        huggingface,
        lambda: (*qkv(), allowed(1, 1, S, T)),
        {"mask": gs.CSR},
        ["where.ScalarOther contract mul.Tensor add.Tensor softmax.int contract"] * 2,
    ),
    Case("arithmetic_mask", arithmetic_mask, lambda: (*qkv(), allowed(1, 1, S, T)), {"mask": gs.CSR}),
    Case("in_place", in_place, lambda: (*qkv(), allowed(1, 1, S, T)), {"mask": gs.CSR}, [ATTENTION + " add.Tensor"]),
    Case("bmm_scores", bmm_scores, lambda: (*qkv(), allowed(1, 1, S, T)), {"mask": gs.CSR}),
    Case(
        "reused_probabilities",
        reused_probabilities,
        lambda: (*(t[0, 0] for t in qkv()), allowed(S, T)),
        {"mask": gs.CSR},
        ["contract bitwise_not.default masked_fill.Scalar softmax.int contract", "contract"],
    ),
    Case(
        "ffn",
        ffn,
        lambda: (real(2, 5, 32), weight(64, 32), real(64), weight(32, 64)),
        {"w1": gs.BSR(16), "w2": gs.CSC},
        ["contract add.Tensor gelu.default", "contract add.Tensor"],
    ),
    Case("left", lambda a, x: a @ x, lambda: (weight(64, 32), real(32, 7)), {"a": gs.CSR}, ["contract"]),
    Case("vector", lambda a, x: a @ x, lambda: (weight(64, 32), real(32)), {"a": gs.CSR}, ["contract"]),
    Case("batched", lambda a, x: a @ x, lambda: (weight(3, 6, 4), real(3, 4, 7)), {"a": gs.CSR}, ["contract"]),
    Case("transposed", lambda a, x: a.mT @ x + 1, lambda: (weight(32, 64), real(32, 7)), {"a": gs.CSR}),
    Case(
        "einsum",
        lambda a, x: torch.einsum("ij,bjk->bik", a, x) * 2,
        lambda: (weight(6, 4), real(3, 4, 5)),
        {"a": gs.CSR},
        ["contract mul.Tensor"],
    ),
    Case(
        "einsum_ellipsis",
        lambda a, x: torch.einsum("...j,ij", x, a),
        lambda: (weight(6, 4), real(3, 2, 4)),
        {"a": gs.CSR},
        ["contract"],
    ),
    Case(
        "addmm",
        lambda a, b, x: torch.addmm(b, x, a, beta=2, alpha=0.5),
        lambda: (weight(6, 4), real(4), real(3, 6)),
        {"a": gs.CSR},
    ),
    Case(
        "sddmm",
        lambda m, a, b: m * (a @ b),
        lambda: (weight(64, 32), real(64, 4), real(4, 32)),
        {"m": gs.CSR},
        ["contract mul.Tensor"],
    ),
    Case(
        "sampled_sum",
        lambda m, a, b: (m * (a @ b)).sum(-1),
        lambda: (weight(64, 32), real(64, 4), real(4, 32)),
        {"m": gs.CSR},
        ["contract mul.Tensor sum.dim_IntList"],
    ),
    Case("relu", lambda m: torch.relu(m) * 2, lambda: (weight(6, 5),), {"m": gs.CSR}, ["relu.default mul.Tensor"]),
    Case("cos", lambda m: torch.cos(m), lambda: (weight(6, 5),), {"m": gs.CSR}, ["cos.default"]),
    Case("two_sparse", lambda a, b: a @ b, lambda: (weight(6, 5), weight(5, 4)), {"a": gs.CSR, "b": gs.CSR}),
    Case(
        "two_masks",
        lambda q, k, v, m, n: (q @ k.mT).masked_fill(~(m & n), -math.inf).softmax(-1) @ v,
        lambda: (*qkv(), allowed(S, T), allowed(S, T)),
        {"m": gs.CSR, "n": gs.CSR},
    ),
    Case(
        "mask_transposed",
        lambda q, k, v, m: (q @ k.mT).masked_fill(~m.mT, -math.inf).softmax(-1) @ v,
        lambda: (*qkv(), allowed(S, T).mT.contiguous()),
        {"m": gs.CSR},
    ),
    Case(
        "mask_viewed",
        lambda q, k, v, m: (q @ k.mT).masked_fill(~m[None].unsqueeze(0), -math.inf).softmax(-1) @ v,
        lambda: (*qkv(), allowed(S, T)),
        {"m": gs.CSR},
    ),
    Case(
        "falls_back",
        lambda m: torch.cumsum(torch.relu(m), -1) + 1,
        lambda: (weight(6, 5),),
        {"m": gs.CSR},
        ["relu.default"],
        {"aten.cumsum.default"},
    ),
    Case("dense_sum", lambda m, x: m + x, lambda: (weight(6, 5), real(6, 5)), {"m": gs.CSR}, [], {"aten.add.Tensor"}),
]
