"""The pattern of another tensor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from gossamer.errors import TensorError
from gossamer.formats import Format
from gossamer.pattern import Pattern
from gossamer.sparsifiers.base import Choosing
from gossamer.tensor import SparseTensor, from_torch


class Like(Choosing):
    """See `like`.

    Attributes:
        pattern: What is kept.
    """

    def __init__(self, pattern: Pattern):
        self.pattern = pattern

    def check(self, format: Format, shape: Sequence[int]) -> None:
        if tuple(shape) != tuple(self.pattern.shape):
            raise TensorError(f"{self!r}: the tensor is {tuple(shape)}, and the pattern {tuple(self.pattern.shape)}")

    def pattern_in(self, format: Format, device: torch.device) -> Pattern | None:
        """Returns the pattern in a format, kept by the one that was given; None where only a mask can tell."""
        if any(one.allows_duplicates or _is_structured(one) for one in (format, self.pattern.format)):
            return self.pattern.to(device) if format == self.pattern.format else None
        return self.pattern.to(device).converted_runs(format)[0]

    def mask(self, dense: Tensor) -> Tensor:
        pattern = self.pattern.to(dense.device)
        ones = torch.ones(pattern.values_shape, dtype=torch.bool, device=dense.device)
        return SparseTensor(pattern, ones).to_dense()

    def __repr__(self) -> str:
        return f"like({self.pattern!r})"


def _is_structured(format: Format) -> bool:
    return format.levels[-1].kind == "structured"


def like(sparse: Any) -> Like:
    """Returns a sparsifier that keeps what another tensor stores.

    In the format of that tensor, or any other without n:m levels, the pattern is shared, or converted once and kept by
    it: what is left of a call is to take the values.

    Args:
        sparse: A SparseTensor, a Pattern, or a torch sparse tensor.

    Raises:
        TensorError: It is none of these; in `gs.sparsify`: the tensor has another shape.
    """
    if isinstance(sparse, Tensor) and sparse.layout != torch.strided:
        sparse = from_torch(sparse)
    pattern = sparse.pattern if isinstance(sparse, SparseTensor) else sparse
    if not isinstance(pattern, Pattern):
        raise TensorError(f"like takes a SparseTensor, a Pattern or a torch sparse tensor, not {_described(sparse)}")
    return Like(pattern)


def _described(value: object) -> str:
    return f"a dense tensor of {tuple(value.shape)}" if isinstance(value, Tensor) else f"a {type(value).__name__}"
