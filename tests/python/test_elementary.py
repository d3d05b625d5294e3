"""Elementary functions in compiled regions, of numbers of all sizes."""

import pytest
import torch

import gossamer as gs


@pytest.mark.parametrize("name", ["sin", "cos"])
@pytest.mark.parametrize("count", [1, 7, 1000], ids=lambda count: f"{count} columns")
def test_sine_and_cosine_of_any_number(name, count):
    function = getattr(torch, name)
    f = gs.sparse_jit(lambda w, x: w * function(x))
    special = [0.0, -0.0, torch.pi, -torch.pi / 2, 1e-30, 11.0, 2.0**31, 3e38, torch.inf, -torch.inf, torch.nan]
    x = torch.cat([torch.tensor(special), 10 ** torch.linspace(-3, 9, 5000), -(10 ** torch.linspace(-3, 9, 5000))])
    x = torch.cat([x, torch.arange(1.0, 2000.0) * (torch.pi / 2)])
    x = x[: x.numel() // count * count].view(-1, count)
    ones = gs.sparsify(torch.ones_like(x), gs.CSR)
    found = f(ones, x).to_dense()
    torch.testing.assert_close(found, function(x.double()).float(), rtol=5e-7, atol=1e-30, equal_nan=True)
    doubles = f(gs.sparsify(torch.ones_like(x).double(), gs.CSR), x.double()).to_dense()
    torch.testing.assert_close(doubles, function(x.double()), rtol=1e-15, atol=0, equal_nan=True)
