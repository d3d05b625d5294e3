"""gradcheck of compiled regions, in values and in dense operands: families of operations x formats, in float64."""

import warnings
from dataclasses import dataclass
from typing import Any

import pytest
import torch
import torch.nn.functional as F

import gossamer as gs

FORMATS = {
    "csr": gs.CSR, "csc": gs.CSC, "coo": gs.COO, "dcsr": gs.DCSR, "bsr": gs.BSR((2, 3)), "bsc": gs.BSC((2, 3)),
    "n_m": gs.NM(2, 4), "ell": gs.Format("(i, j) -> (i : dense, j : loose_compressed)"),
}  # fmt: skip
ROWS, COLUMNS, WIDTH = 8, 12, 5


def real(*shape):
    return torch.randn(shape, dtype=torch.float64)


@dataclass
class Family:
    """A function of a sparse tensor of shape [8, 12] and dense ones of these shapes."""

    function: Any
    shapes: tuple[tuple[int, ...], ...]


FAMILIES = {
    "left": Family(lambda s, x: s @ x, ((COLUMNS, WIDTH),)),
    "right": Family(lambda s, x: x @ s, ((WIDTH, ROWS),)),
    "linear_relu": Family(lambda s, x, b: F.relu(F.linear(x, s, b)), ((3, WIDTH, COLUMNS), (ROWS,))),
    "linear_gelu_residual": Family(
        lambda s, x, b, r: F.gelu(F.linear(x, s, b)) * 0.5 + r, ((WIDTH, COLUMNS), (ROWS,), (WIDTH, ROWS))
    ),
    "vector": Family(lambda s, x: torch.tanh(s @ x), ((COLUMNS,),)),
    "computed": Family(lambda s, x: (torch.tanh(s) * 2) @ x, ((COLUMNS, WIDTH),)),
    "sddmm": Family(lambda s, a, b: s * (a @ b.mT), ((ROWS, WIDTH), (COLUMNS, WIDTH))),
    "sddmm_product": Family(lambda s, a, b: (s * torch.sigmoid(a @ b.mT)) @ b, ((ROWS, WIDTH), (COLUMNS, WIDTH))),
    "elementwise": Family(lambda s, d: torch.sin(s) * d, ((ROWS, COLUMNS),)),
    "row_scale": Family(lambda s, d: s * d[:, None], ((ROWS,),)),
    "sum": Family(lambda s, x: (s * s).sum(-1) * x, ((ROWS,),)),
}


def pattern(format):
    """A tensor with every kind of row: full, empty, one entry."""
    torch.manual_seed(0)
    dense = real(ROWS, COLUMNS) + 0.1
    kept = torch.rand(ROWS, COLUMNS) < 0.4
    kept[0], kept[1], kept[2, 1:] = True, False, False
    if format == FORMATS["n_m"]:
        kept = kept & (torch.arange(COLUMNS) % 4 < 2)
    return gs.sparsify(dense * kept, format)


def check(function, tensor, dense, fullgraph=True):
    f = gs.sparse_jit(function, fullgraph=fullgraph)
    values = tensor.values.clone().requires_grad_()
    dense = [d.requires_grad_() for d in dense]

    def run(values, *dense):
        result = f(tensor.with_values(values, tensor.fill), *dense)
        return result.values if isinstance(result, gs.SparseTensor) else result

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert torch.autograd.gradcheck(run, (values, *dense), fast_mode=True)


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("family", FAMILIES)
def test_family(family, format):
    chosen = FAMILIES[family]
    check(chosen.function, pattern(FORMATS[format]), [real(*shape) for shape in chosen.shapes])


def attention(m, q, k, v):
    return torch.softmax(q @ k.mT * 0.3 + m, -1) @ v


@pytest.mark.parametrize("format", [name for name in FORMATS if name != "n_m"])
def test_values_of_an_additive_mask(format):
    t = pattern(FORMATS[format])
    mask = t.with_values(t.values, -torch.inf)
    check(attention, mask, [real(ROWS, WIDTH), real(COLUMNS, WIDTH), real(COLUMNS, 3)])


@pytest.mark.parametrize("format", [gs.CSR, gs.Format("(i, j) -> (j : dense, i : dense)")], ids=str)
def test_a_broadcast_mask_and_its_values(format):
    t = pattern(format)
    mask = t.with_values(t.values, -torch.inf)
    check(attention, mask, [real(2, 3, ROWS, WIDTH), real(2, 3, COLUMNS, WIDTH), real(2, 3, COLUMNS, 3)])


def test_grouped_heads():
    torch.manual_seed(0)
    mask = gs.sparsify(torch.rand(ROWS, COLUMNS) < 0.4, gs.CSR)
    f = gs.sparse_jit(
        lambda q, k, v, m: F.scaled_dot_product_attention(q, k, v, attn_mask=m, enable_gqa=True), fullgraph=True
    )
    args = [real(2, 4, ROWS, WIDTH), real(2, 2, COLUMNS, WIDTH), real(2, 2, COLUMNS, 3)]
    assert torch.autograd.gradcheck(lambda *a: f(*a, mask), [a.requires_grad_() for a in args], fast_mode=True)
