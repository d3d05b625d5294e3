"""``torch.sparse.mm(a, b, reduce)``: products of the stored entries of a row, of which the mean or an extreme is taken.

What is stored takes part, and nothing else: this is no operation on the dense tensor that ``a`` stands for.
"""

from __future__ import annotations

from typing import Any, NoReturn

import torch

from gossamer.errors import UnsupportedError

from .marker import STORED, library

REDUCE = ("mean", "amax", "amin")


def _run(a: torch.Tensor, b: torch.Tensor, reduce: str) -> NoReturn:
    raise UnsupportedError(f"torch.sparse.mm(..., {reduce!r}) where it is not compiled: what is stored is not known")


def _shape(a: torch.Tensor, b: torch.Tensor, reduce: str) -> torch.Tensor:
    return a.new_empty(a.shape[0], b.shape[1])


def _setup(ctx: Any, inputs: Any, output: torch.Tensor) -> None:
    a, b, ctx.reduce = inputs
    ctx.save_for_backward(a, b, output)


def _backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, torch.Tensor | None, None]:
    """A mean is a sum over as many as a row stores; the gradient is that of the sum, so divided."""
    a, b, result = ctx.saved_tensors
    of_a, of_b, _ = ctx.needs_input_grad
    if ctx.reduce != "mean":
        args = a, b, result, gradient
        return EXTREMUM_VALUES(*args) if of_a else None, EXTREMUM_DENSE(*args) if of_b else None, None
    # counted in float32: halves end at 65504, and skip whole numbers long before
    stored = STORED(torch.ones(a.shape, dtype=torch.float32, device=a.device), a).sum(1, keepdim=True)
    share = (gradient / stored.clamp(min=1)).to(gradient.dtype)
    return share @ b.mT if of_a else None, a.mT @ share if of_b else None, None


library.define("reduced_product(Tensor a, Tensor b, str reduce) -> Tensor")
library.impl("reduced_product", _run, "CompositeExplicitAutograd")
library.impl("reduced_product", _shape, "Meta")
# the product of a sparse and a dense matrix, with the mean, amax or amin of the products of each row's stored entries
REDUCED = torch.ops.gossamer.reduced_product.default

library.define("extremum_values(Tensor a, Tensor b, Tensor result, Tensor gradient) -> Tensor")
library.impl("extremum_values", lambda a, b, result, gradient: torch.empty_like(a), "Meta")
library.define("extremum_dense(Tensor a, Tensor b, Tensor result, Tensor gradient) -> Tensor")
library.impl("extremum_dense", lambda a, b, result, gradient: torch.empty_like(b), "Meta")
# gradients of the operands of a product with amax or amin, which the runtime takes from what is stored
EXTREMUM_VALUES = torch.ops.gossamer.extremum_values.default
EXTREMUM_DENSE = torch.ops.gossamer.extremum_dense.default

torch.library.register_autograd("gossamer::reduced_product", _backward, setup_context=_setup, lib=library)

# torch has it for sparse tensors only, and traces are made of dense stand-ins: their shapes, then
_meta = torch.library.Library("aten", "IMPL", "Meta")
_meta.impl("_sparse_mm_reduce_impl", lambda a, b, reduce: (_shape(a, b, reduce), a.new_empty(0, dtype=torch.int64)))
