"""Code for NVIDIA GPUs, which needs no GPU: what is generated, and whether NVIDIA's assembler takes it."""

import re

import pytest
import torch
from torch.nn import functional as F

import gossamer as gs
from assembling import assemble

CHIPS = ["sm_80", "sm_90a"]


def attention(q, k, v, mask):
    scores = q @ k.mT * q.shape[-1] ** -0.5
    return torch.softmax(scores.masked_fill(~mask, -torch.inf), -1) @ v


def cases(dtype: torch.dtype) -> dict[str, tuple]:
    """Functions with arguments, of which the first is sparse."""
    w = (torch.randn(16, 16) * (torch.rand(16, 16) < 0.5)).to(dtype)
    x, v = torch.randn(16, 16).to(dtype), torch.randn(16).to(dtype)
    mask = gs.sparsify(w != 0, gs.BSR(4))
    scores = gs.sparsify(w.masked_fill(w == 0, -torch.inf), gs.CSR, fill=-torch.inf)
    line = gs.Format("(i) -> (i : compressed)")
    vector = gs.sparsify(v.masked_fill(v < 0, -torch.inf), line, fill=-torch.inf)
    found = {
        "attention": (lambda mask, q, k, v: attention(q, k, v, mask), mask, x, x, x),
        "softmax": (lambda s: torch.softmax(s, -1), scores),
        "softmax of a vector": (lambda s: torch.softmax(s, -1), vector),
    }
    for name, format in {"csr": gs.CSR, "bsr": gs.BSR(4), "coo": gs.COO}.items():
        stored = gs.sparsify(w, format)
        found |= {
            f"product {name}": (lambda w, x, v: F.relu(w @ x + v), stored, x, v),
            f"vector {name}": (lambda w, v: w @ v, stored, v),
            f"linear {name}": (lambda w, x: F.linear(x, w), stored, x),
            f"sampled {name}": (lambda w, x: w * (x @ x.mT), stored, x),
            f"map {name}": (lambda w, v: torch.exp(w) * w * v, stored, v),
            f"sum {name}": (lambda w: w.sum(), stored),
            f"row sums {name}": (lambda w: w.sum(1), stored),
        }
    return found


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64], ids=str)
@pytest.mark.parametrize("chip", CHIPS)
def test_every_mapping_is_assembled(chip, dtype, tmp_path) -> None:
    for name, (function, *args) in cases(dtype).items():
        ptx = gs.dump(gs.sparse_jit(function), *args, stage="ptx", target=chip)
        assert f".target {chip}" in ptx
        assert ".entry kernel_0" in ptx, name
        assert "call" not in re.sub(r"//.*", "", ptx), name  # there is nothing that could be called
        assemble(ptx, chip, tmp_path, name)


def test_the_text_is_the_same_for_every_size() -> None:
    f = gs.sparse_jit(lambda w, x: w @ x)
    texts = {
        gs.dump(f, gs.sparsify(torch.eye(n), gs.CSR), torch.randn(n, 3 * n), stage="ptx", target="sm_90a")
        for n in (4, 8)
    }
    assert len(texts) == 1


ELEMENTARY = ["acos", "asin", "atan", "cos", "erf", "exp", "exp2", "expm1", "log", "log10", "log1p", "log2", "rsqrt",
              "sigmoid", "sin", "sinh", "cosh", "sqrt", "tan", "tanh"]  # fmt: skip


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("chip", CHIPS)
def test_elementary_functions_are_assembled(chip, dtype, tmp_path) -> None:
    w = gs.sparsify(torch.eye(16, dtype=dtype) / 2, gs.CSR)
    for name in ELEMENTARY:
        function = getattr(torch, name)
        f = gs.sparse_jit(lambda w, x, function=function: w * function(x))
        ptx = gs.dump(f, w, torch.rand(16, 16, dtype=dtype), stage="ptx", target=chip)
        assert "call" not in re.sub(r"//.*", "", ptx), name
        assemble(ptx, chip, tmp_path, name)
