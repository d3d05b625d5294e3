"""Products as one operation."""

import pytest
import torch

from frontend_cases import real
from gossamer.frontend.contract import contract, matmul_equation
from gossamer.frontend.decompose import Refused, _explicit


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
    torch.testing.assert_close(contract(x, y, _explicit(equation, [x.dim(), y.dim()])), torch.einsum(equation, x, y))


def test_a_diagonal_is_refused():
    with pytest.raises(Refused, match="diagonal"):
        _explicit("ii,ij->j", [2, 2])
