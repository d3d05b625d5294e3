"""`gs.annotate`: say how a tensor is stored, at the place where it is made."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from gossamer.errors import AnnotationError
from gossamer.formats import Format
from gossamer.frontend.leaf import is_tracing
from gossamer.frontend.marker import capture, mark
from gossamer.sparsify import sparsify
from gossamer.tensor import SparseTensor, from_torch


def annotate(x: Any, format: Format) -> Any:
    """Stores a tensor in a format; nothing but entries equal to the fill (0, False) is dropped.

    Inside a function under `sparse_jit` this makes an intermediate sparse from here on: it is stored when the compiled
    function runs, and what follows is compiled for it. Elsewhere it returns a SparseTensor at once; of an nn.Parameter
    one whose `values` is an nn.Parameter.

    Args:
        x: A tensor, a SparseTensor, or torch's own sparse tensor.
        format: The format; leading dims are added to it as dense levels.

    Raises:
        AnnotationError: `x` is no tensor, or `format` no format.
        FormatError: The format does not fit the tensor.
    """
    if not isinstance(format, Format):
        raise AnnotationError(f"annotate takes a Format such as gs.CSR or gs.BSR(64), not {format!r}")
    if is_tracing():
        x = capture(x) if isinstance(x, SparseTensor) else x
    elif isinstance(x, SparseTensor):
        return x.to(format)
    if not isinstance(x, Tensor):
        raise AnnotationError(f"annotate takes a tensor, not a {type(x).__name__}")
    if x.layout != torch.strided:
        return from_torch(x).to(format)
    if is_tracing():
        return mark(x, format)
    stored = sparsify(x, format)
    if isinstance(x, nn.Parameter):
        return stored.with_values(nn.Parameter(stored.values.detach(), x.requires_grad), stored.fill)
    return stored
