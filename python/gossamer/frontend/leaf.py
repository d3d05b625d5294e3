"""What a call brings to a trace, and whether one is going on. Light to import, unlike tracing itself."""

from __future__ import annotations

import contextvars
from dataclasses import dataclass
from typing import Any

import torch

from gossamer.formats import Format

# numbers that models write for -inf into masks
MASKING = -1e9

# while a trace goes on: what it holds besides its graph, numbered (see marker.py)
TRACING: contextvars.ContextVar[list[Any] | None] = contextvars.ContextVar("gossamer_tracing", default=None)


def is_tracing() -> bool:
    """Whether a function is being captured in this thread."""
    return TRACING.get() is not None


@dataclass(frozen=True)
class Stored:
    """How a sparse leaf is stored, as far as code depends on it.

    Attributes:
        format: of the tensor's own rank.
        fill: what is not stored; 0, False or -inf.
        pos_width: bits of a position; 0 where there are none.
        crd_width: bits of a coordinate; 0 where there are none.
    """

    format: Format
    fill: float | int | bool
    pos_width: int = 0
    crd_width: int = 0

    @property
    def encoding(self) -> str:
        """The format as kernels see it, with index widths, as MLIR's attribute."""
        return self.format.kernel_format.encoding(self.pos_width, self.crd_width)


@dataclass(frozen=True)
class Leaf:
    """One tensor that a call brings along: an argument, a parameter or a buffer.

    Attributes:
        name: as the user knows it.
        static: its sizes are part of the code (parameters and buffers).
        stored: None for a dense tensor.
        pattern: sparse leaves with the same number here are on one and the same pattern.
    """

    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype
    device: torch.device
    static: bool = False
    stored: Stored | None = None
    pattern: int | None = None
