"""Gradients of ``torch.sparse.mm(a, b, "amax" | "amin")``, from what is stored.

An element of the result is the largest (smallest) of the products of a row's stored entries; its gradient goes to the
entry that made it, and in equal parts to those that did where there are several, as ``torch.amax`` has it.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from gossamer.tensor import SparseTensor

from .rebuild import entries_of

_PRODUCTS_AT_ONCE = 2**22


def of_values(a: SparseTensor, b: Tensor, result: Tensor, gradient: Tensor) -> SparseTensor:
    """Returns the gradient of the values of `a`, on its pattern.

    Args:
        a: (I, J), what was multiplied.
        b: (J, N), dense.
        result: (I, N), the extrema.
        gradient: (I, N), theirs.
    """
    entries = _Entries.of(a)
    wide = torch.promote_types(a.dtype, torch.float32)
    sums = torch.zeros(entries.values.numel(), dtype=wide, device=b.device)
    for columns, share in entries.shares(b, result, gradient):
        sums += (share * b[:, columns][entries.column]).sum(1)
    values = torch.zeros(a.values.numel(), dtype=wide, device=b.device)
    values[entries.place] = sums
    return SparseTensor(a.pattern, values.to(a.dtype).view(a.values.shape), 0)


def of_dense(a: SparseTensor, b: Tensor, result: Tensor, gradient: Tensor) -> Tensor:
    """Returns the gradient of `b`; arguments as of `of_values`."""
    entries = _Entries.of(a)
    found = torch.zeros(b.shape, dtype=torch.promote_types(b.dtype, torch.float32), device=b.device)
    for columns, share in entries.shares(b, result, gradient):
        found[:, columns] = _summed(share * entries.values[:, None], entries.column, b.shape[0])
    return found.to(b.dtype)


def _summed(parts: Tensor, row: Tensor, rows: int) -> Tensor:
    """Sums of those with the same row."""
    return torch.zeros(rows, parts.shape[1], dtype=parts.dtype, device=parts.device).index_add_(0, row, parts)


@dataclass
class _Entries:
    """Stored entries: their coordinates, places among the values, and values."""

    row: Tensor
    column: Tensor
    place: Tensor
    values: Tensor

    @staticmethod
    def of(a: SparseTensor) -> "_Entries":
        (row, column), place = entries_of(a.pattern)
        return _Entries(row, column, place, a.values.detach().flatten()[place])

    def shares(self, b: Tensor, result: Tensor, gradient: Tensor) -> Iterator[tuple[slice, Tensor]]:
        """A few columns at a time, and for each entry its parts of the gradients in them."""
        wide = torch.promote_types(b.dtype, torch.float32)
        step = max(1, _PRODUCTS_AT_ONCE // max(self.row.numel(), 1))
        for first in range(0, b.shape[1], step):
            columns = slice(first, first + step)
            products = self.values[:, None] * b[:, columns][self.column]
            made = (products == result[:, columns][self.row]).to(wide)
            makers = _summed(made, self.row, result.shape[0]).clamp_(min=1)
            yield columns, made * (gradient[:, columns].to(wide) / makers)[self.row]
