"""The operations that stand in a traced graph for what tracing itself does not see."""

from __future__ import annotations

from typing import Any

import torch

from gossamer.formats import Format

from .leaf import TRACING

library = torch.library.Library("gossamer", "DEF")
library.define("annotate(Tensor x, str format, int options) -> Tensor")
library.impl("annotate", lambda x, format, options: x.clone(), "CompositeExplicitAutograd")
library.impl("annotate", lambda x, format, options: torch.empty_like(x), "Meta")
library.define("captured(int number, int[] size, *, ScalarType dtype, Device device) -> Tensor")
library.impl("captured", lambda number, size, *, dtype, device: torch.empty(size, dtype=dtype, device=device),
              "CompositeExplicitAutograd")  # fmt: skip

library.define("stored(Tensor x, Tensor on) -> Tensor")
library.impl("stored", lambda x, on: x.expand(on.shape).clone(), "CompositeExplicitAutograd")
library.impl("stored", lambda x, on: x.new_empty(on.shape), "Meta")

# a tensor is stored in a format here; `options` numbers further arguments of sparsify among what the trace holds
ANNOTATE = torch.ops.gossamer.annotate.default
# a SparseTensor of the enclosing scope, numbered likewise
CAPTURED = torch.ops.gossamer.captured.default
# a tensor of which only the entries of the sparse tensor `on` are needed is stored on its pattern here
STORED = torch.ops.gossamer.stored.default


def stored_on(x: torch.Tensor, on: torch.Tensor, fill: float | int | bool) -> torch.Tensor:
    """``STORED`` in a region, where it is known what is not stored; on dense tensors there is nothing to do."""
    return x


def mark(x: torch.Tensor, format: Format, **options: Any) -> torch.Tensor:
    """Mark in the trace that goes on that ``x`` is stored in a format here; ``options`` go to ``sparsify``."""
    fitted = format.for_rank(x.dim())
    if all(isinstance(size, int) for size in x.shape):
        fitted.level_sizes(x.shape)
    return ANNOTATE(x, str(fitted), _number(options) if options else -1)


def capture(tensor: Any) -> torch.Tensor:
    """The dense stand-in, in the trace that goes on, of a SparseTensor that is no argument; it is a constant."""
    return CAPTURED(_number(tensor), list(tensor.shape), dtype=tensor.dtype, device=tensor.device)


def _number(thing: Any) -> int:
    held = TRACING.get()
    assert held is not None
    for number, other in enumerate(held):
        if other is thing:
            return number
    held.append(thing)
    return len(held) - 1
