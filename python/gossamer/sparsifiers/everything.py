"""All entries, zeros too."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gossamer.errors import FormatError
from gossamer.formats import Format
from gossamer.sparsifiers.base import Choosing


@dataclass(frozen=True)
class Everything(Choosing):
    """See `everything`."""

    def check(self, format: Format, shape: Sequence[int]) -> None:
        last = format.levels[format.outer - 1] if format.outer else None
        if last is not None and last.kind == "structured" and last.n < last.m:
            raise FormatError(f"{format} keeps {last.n} of every {last.m} entries, not everything")

    def mask(self, dense: Tensor) -> Tensor:
        return torch.ones(dense.shape, dtype=torch.bool, device=dense.device)

    def count(self, shape: Sequence[int]) -> int:
        return math.prod(shape)

    def __repr__(self) -> str:
        return "everything()"


def everything() -> Everything:
    """Returns a sparsifier that keeps all entries, those too that are equal to the fill."""
    return Everything()
