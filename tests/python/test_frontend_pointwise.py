"""Every pointwise operation that regions may hold is imported, and right."""

import warnings

import pytest
import torch
from torch.nn import functional as F

import gossamer as gs
from gossamer.frontend.pointwise import POINTWISE
from gossamer.jit import engine_of

aten = torch.ops.aten
NAMED = """
    exp2 expm1 log1p sqrt square asin acos atan sinh cosh tan sin cos erf exp tanh sigmoid relu abs neg floor ceil round
    trunc sign isnan reciprocal log log2 log10 rsqrt gelu silu softplus celu elu selu hardtanh relu6 hardswish
    hardsigmoid mish leaky_relu logical_not
"""
FUNCTIONS = {
    **{name: getattr(torch, name, None) or getattr(F, name) for name in NAMED.split()},
    "gelu_tanh": lambda a: F.gelu(a, approximate="tanh"),
    "clamp": lambda a: a.clamp(0.1, 0.5),
    "clamp_min": lambda a: a.clamp(min=0.3),
    "pow": lambda a: a**3 + 2**a + a**0.5,
    "arithmetic": lambda a: (1 - a) / 3 + a * 2 - 0.5,
    "compare": lambda a: ((a > 0.3) ^ (a <= 0.7)) | (a == 0) & (a != 0.1),
    "where": lambda a: torch.where(a > 0.3, a, 0.5),
    "masked_fill": lambda a: a.masked_fill(a > 0.3, 2.0),
    "maximum": lambda a: torch.maximum(a, a * a) - torch.minimum(a, a * a),
    "lerp": lambda a: torch.lerp(a, a * 2, 0.3),
    "addcmul": lambda a: torch.addcdiv(torch.addcmul(a, a, a, value=0.5), a, a + 1),
    "remainder": lambda a: torch.remainder(a, 0.3),
    "casts": lambda a: a.float().double() + a.long() + (a > 0.5),
    "nan_to_num": lambda a: torch.nan_to_num(1 / a),
    "threshold": lambda a: F.threshold(a, 0.2, 0.0) + F.hardshrink(a, 0.3) + F.softshrink(a, 0.3),
    "logit": lambda a: torch.logit(a * 0.5 + 0.2) + torch.frac(a * 3) + torch.atan2(a, a + 1),
    "log_sigmoid": lambda a: F.logsigmoid(a) + F.softsign(a) + F.tanhshrink(a),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_numbers(name):
    function = FUNCTIONS[name]
    dense = torch.rand(6, 5, dtype=torch.float64) * 0.9 * (torch.rand(6, 5) < 0.5)
    f = gs.sparse_jit(lambda m: function(m + 0.0))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = f(gs.sparsify(dense, gs.CSR))
    if isinstance(result, gs.SparseTensor):
        result = result.to_dense()
    torch.testing.assert_close(result, function(dense), equal_nan=True, atol=1e-13, rtol=1e-12)
    ((program,),) = engine_of(f).programs.values()
    assert len(program.kernels) == 1
    assert program.kernels[0].refused is None


def test_the_list_is_of_pure_operations():
    assert aten.add.Tensor in POINTWISE
    assert aten.where.ScalarOther in POINTWISE
    assert not any(operation._schema.is_mutable for operation in POINTWISE)
