"""Sampled products against float64: block shapes, layouts of the operands, depths, dtypes, broadcast batches."""

import warnings

import pytest
import torch
from torch import Tensor

import gossamer as gs

LAYOUTS = {
    "a @ b": lambda s, a, b: s * (a @ b),
    "a @ b.T": lambda s, a, b: s * (a @ b.mT.contiguous().mT),
    "a.T @ b": lambda s, a, b: s * (a.mT.contiguous().mT @ b),
}
# Entries; blocks too narrow for tiles, of one dimension, odd; tiles of whole, half and many vectors.
SHAPES = [(1, 1), (4, 4), (1, 16), (16, 1), (3, 5), (16, 16), (8, 24), (16, 64), (64, 32)]
TOLERANCE = {torch.float64: 1e-11, torch.float32: 1e-4, torch.bfloat16: 0.1, torch.float16: 0.02}


@pytest.fixture(autouse=True)
def _no_fallback():
    with warnings.catch_warnings():
        warnings.simplefilter("error", gs.FallbackWarning)
        yield


def blocks(rows: int, columns: int, shape: tuple[int, int], density: float) -> Tensor:
    """A matrix of rows x columns blocks, of which some are stored."""
    keep = (torch.rand(rows, 1, columns, 1) < density).expand(rows, shape[0], columns, shape[1])
    return (keep * torch.randn(rows, shape[0], columns, shape[1])).reshape(rows * shape[0], columns * shape[1])


def check(result: gs.SparseTensor, expected: Tensor, dtype: torch.dtype) -> None:
    assert result.dtype == dtype
    scale = max(1.0, expected.abs().max().item() if expected.numel() else 0.0)
    torch.testing.assert_close(
        result.to_dense().double(), expected, rtol=0.0, atol=TOLERANCE[dtype] * scale, equal_nan=False
    )


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_block_shapes(shape: tuple[int, int], dtype: torch.dtype) -> None:
    compiled = gs.sparse_jit(lambda s, a, b: s * (a @ b))
    for rows, columns, depth, density in [
        (1, 1, 1, 1.0),
        (3, 2, 7, 0.5),
        (7, 9, 65, 0.4),
        (4, 4, 64, 0.0),
        (2, 3, 0, 1),
    ]:
        s = blocks(rows, columns, shape, density).to(dtype)
        stored = gs.sparsify(s, gs.CSR if shape == (1, 1) else gs.BSR(shape))
        a, b = torch.randn(s.shape[0], depth).to(dtype), torch.randn(depth, s.shape[1]).to(dtype)
        check(compiled(stored, a, b), s.double() * (a.double() @ b.double()), dtype)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", [(1, 1), (16, 16), (3, 5)], ids=str)
def test_layouts(shape: tuple[int, int], layout: str) -> None:
    compiled = gs.sparse_jit(LAYOUTS[layout])
    s = blocks(5, 7, shape, 0.5)
    stored = gs.sparsify(s, gs.CSR if shape == (1, 1) else gs.BSR(shape))
    for depth in (3, 16, 33):
        a, b = torch.randn(s.shape[0], depth), torch.randn(depth, s.shape[1])
        check(compiled(stored, a, b), s.double() * (a.double() @ b.double()), torch.float32)


@pytest.mark.parametrize("shape", [(1, 1), (16, 16)], ids=str)
def test_body_and_long_rows(shape: tuple[int, int]) -> None:
    """What is elementwise behind the product runs on its sums; rows from no to all columns."""
    compiled = gs.sparse_jit(lambda s, a, b, c, d: torch.relu(s * (a @ b) * c + 0.0 * s) * d)
    s = blocks(9, 40, shape, 0.7)
    s[: shape[0]] = 0
    stored = gs.sparsify(s, gs.CSR if shape == (1, 1) else gs.BSR(shape))
    a, b = torch.randn(s.shape[0], 20), torch.randn(20, s.shape[1])
    c, d = torch.randn(s.shape), torch.randn(s.shape[1])
    expected = torch.relu(s.double() * (a.double() @ b.double()) * c.double()) * d.double()
    check(compiled(stored, a, b, c, d), expected, torch.float32)
