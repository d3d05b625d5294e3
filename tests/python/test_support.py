"""Every cell of the table in docs/operations.md: compiled, right, and differentiable without a dense detour."""

import importlib.util
import sys
import warnings
from pathlib import Path

import pytest
import torch

import gossamer as gs

_spec = importlib.util.spec_from_file_location("support", Path(__file__).parents[2] / "docs" / "support.py")
support = importlib.util.module_from_spec(_spec)
sys.modules["support"] = support
_spec.loader.exec_module(support)

OPERATIONS = {operation.text: operation for group in support.OPERATIONS.values() for operation in group}


def matrix(fill: float, other: bool = False) -> torch.Tensor:
    """Two of every four entries, but for an empty block and, of numbers, an empty row of blocks; `other` differs."""
    stored = torch.zeros(support.ROWS, support.COLUMNS, dtype=torch.bool)
    stored[:, other::2] = True
    stored[0:4, 4:12] = False
    if not other and fill == 0:
        stored[8:12] = False
    values = torch.randn(stored.shape, dtype=torch.float64)
    return values.masked_fill(~stored, fill)


def as_dense(result):
    return result.to_dense() if isinstance(result, gs.SparseTensor) else result


@pytest.mark.parametrize("format", support.FORMATS)
@pytest.mark.parametrize("text", OPERATIONS)
def test_support(text, format):
    operation = OPERATIONS[text]
    densely = (text, format) in support.DENSELY
    a = gs.sparsify(matrix(operation.fill), support.FORMATS[format], fill=operation.fill)
    sparse = [a]
    if operation.second:
        dense = matrix(operation.fill, other=operation.second == "other")
        same = operation.second == "same"
        values = torch.randn_like(a.values)
        sparse.append(gs.SparseTensor(a.pattern, values, a.fill) if same else gs.sparsify(dense, a.format))
    for tensor in sparse:
        tensor.values.requires_grad_()
    dense = [torch.randn(*shape, dtype=torch.float64, requires_grad=True) for shape in operation.dense]
    leaves = [tensor.values for tensor in sparse] + dense

    expected = operation.run(*(tensor.to_dense() for tensor in sparse), *dense)

    compiled = gs.sparse_jit(operation.run)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always", gs.FallbackWarning)
        result = as_dense(compiled(*sparse, *dense))
    torch.testing.assert_close(result, expected)
    assert densely == bool(said), [str(warning.message) for warning in said]

    finite = expected.detach().isfinite()
    weight = torch.randn_like(expected) * finite
    right = torch.autograd.grad((expected.masked_fill(~finite, 0.0) * weight).sum(), leaves)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always", gs.FallbackWarning)
        ours = torch.autograd.grad((result.masked_fill(~finite, 0.0) * weight).sum(), leaves)
    for leaf, gradient in zip(ours, right, strict=True):
        torch.testing.assert_close(leaf, gradient.nan_to_num(0.0))
    if operation.gradients and not densely:
        assert not said, [str(warning.message) for warning in said]
