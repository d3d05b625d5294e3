"""Straight through: a tensor that is sparse going forward, whose gradient reaches all entries."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from gossamer.errors import UnsupportedError
from gossamer.formats import Format
from gossamer.frontend.leaf import is_tracing
from gossamer.sparsify import By, sparsify
from gossamer.tensor import Fill


def straight_through(dense: Tensor, format: Format, by: By | None = None, fill: Fill | None = None) -> Tensor:
    """Returns the dense tensor that `gs.sparsify` gives, with the gradient passed on to every entry as it is.

    The straight-through estimator (Bengio et al., 2013, "Estimating or propagating gradients through stochastic
    neurons"), with which entries that are not kept can come back. It needs the gradient of entries that are not stored,
    which a product of a SparseTensor does not compute: so the result is dense, and so are the products with it.

    Args:
        dense, format, by, fill: As for `gs.sparsify`.

    Raises:
        FormatError, TensorError: As `gs.sparsify` does.
        UnsupportedError: It is called in a function that `gs.sparse_jit` compiles, where nothing would be sparse.
    """
    if is_tracing():
        raise UnsupportedError(
            "straight_through in a function under sparse_jit: its result is dense, and so is its gradient; call it "
            "outside, and pass the result"
        )
    return _StraightThrough.apply(dense, format, by, fill)


class _StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, dense: Tensor, format: Format, by: By | None, fill: Fill | None) -> Tensor:
        return sparsify(dense.detach(), format, by, fill).to_dense()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        return gradients[0], None, None, None
