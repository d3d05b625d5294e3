"""Products as one operation."""

import pytest
import torch

import gossamer as gs
from frontend_cases import real
from gossamer.frontend.contract import contract, contract_all, matmul_equation
from gossamer.frontend.einsum import explicit


@pytest.mark.parametrize(
    ("a", "b"),
    [((4,), (4,)), ((3, 4), (4,)), ((4,), (4, 5)), ((3, 4), (4, 5)), ((2, 3, 4), (4, 5)), ((2, 1, 3, 4), (7, 4, 5))],
)
def test_matmul_equations(a, b):
    x, y = real(*a), real(*b)
    torch.testing.assert_close(contract(x, y, matmul_equation(x.dim(), y.dim())), x @ y)


@pytest.mark.parametrize(
    ("equation", "shapes"),
    [
        ("ij,jk", [(2, 3), (3, 4)]),
        ("b i j, b j k -> b k i", [(5, 2, 3), (5, 3, 4)]),
        ("...ij,...jk->...ik", [(5, 2, 3), (7, 5, 3, 4)]),
        ("i...,i...->...", [(3, 4), (3, 4)]),
        ("ij,jk->", [(2, 3), (3, 4)]),
    ],
)
def test_einsum_equations(equation, shapes):
    x, y = (real(*shape) for shape in shapes)
    names, out = explicit(equation, [x.dim(), y.dim()])
    torch.testing.assert_close(contract(x, y, f"{','.join(names)}->{out}"), torch.einsum(equation, x, y))


def test_products_of_several_check_their_operands():
    x = real(2, 3)
    with pytest.raises(gs.TensorError, match=r"a product of torch.float64 with torch.float32: cast"):
        contract_all(x, x, x.float(), "ij,ij,ij->")
