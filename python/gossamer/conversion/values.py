"""Values between dense tensors and patterns, differentiable to any order."""

from typing import Any

import torch
from torch import Tensor, nn
from torch._C._functorch import is_functorch_wrapped_tensor  # pyright: ignore[reportMissingImports]

from gossamer.conversion import strided
from gossamer.conversion.cuda import values as cuda
from gossamer.conversion.cuda.kernel import in_transform
from gossamer.formats import Format
from gossamer.pattern import Pattern


def is_plain_tensor(tensor: Tensor) -> bool:
    """Whether a tensor is memory of the CPU that kernels can read, of a dtype that they can move."""
    return tensor.device.type == "cpu" and is_plain_memory(tensor)


def is_plain_memory(tensor: Tensor) -> bool:
    """Whether a tensor is memory, of the CPU or a GPU, of a dtype that kernels can move."""
    return (
        type(tensor) in (Tensor, nn.Parameter)
        and (tensor.is_cpu or (tensor.is_cuda and not in_transform()))
        and tensor.layout == torch.strided
        and tensor.element_size() <= 8
        and not is_functorch_wrapped_tensor(tensor)
    )


def has_mover(format: Format) -> bool:
    """Whether `put` and `take` know the format: something is sparse, and no entry is stored more than once."""
    return bool(format.outer) and not format.allows_duplicates


def put_values(values: Tensor, pattern: Pattern, fill: float) -> Tensor:
    """Does what `put` does, differentiable in the values."""
    return _Put.apply(values, pattern, fill) if _is_differentiated(values) else put(_resolved(values), pattern, fill)


def take_values(dense: Tensor, pattern: Pattern, fill: float) -> Tensor:
    """Does what `take` does, differentiable in the dense tensor."""
    return _Take.apply(dense, pattern, fill) if _is_differentiated(dense) else take(_resolved(dense), pattern, fill)


def with_gradient(dense: Tensor, pattern: Pattern, values: Tensor, kept: Tensor | None = None) -> Tensor:
    """Returns the values that were taken of a dense tensor as a function of it.

    Args:
        dense, pattern, values: What `take` gives, however it was made.
        kept: Of the shape of the tensor: what of it the values are, where the pattern stores more than that.
    """
    return _Taken.apply(dense, pattern, values, kept) if _is_differentiated(dense) else values


def put(values: Tensor, pattern: Pattern, fill: float) -> Tensor:
    """Returns the dense tensor with these values where a pattern has them, and the fill elsewhere."""
    by = strided.put if values.device.type == "cpu" else cuda.put
    return by(values, pattern, fill)


def take(dense: Tensor, pattern: Pattern, fill: float) -> Tensor:
    """Returns the elements of a dense tensor at the places of a pattern, and the fill in slots that are not used."""
    by = strided.take if dense.device.type == "cpu" else cuda.take
    return by(dense, pattern, fill)


def _is_differentiated(tensor: Tensor) -> bool:
    return tensor.requires_grad and torch.is_grad_enabled()


def _resolved(tensor: Tensor) -> Tensor:
    return tensor.detach().resolve_conj().resolve_neg()


class _Put(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, pattern: Pattern, fill: float) -> Tensor:
        ctx.pattern = pattern
        return put(_resolved(values), pattern, fill)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        return take_values(gradients[0], ctx.pattern, 0), None, None


class _Take(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, dense: Tensor, pattern: Pattern, fill: float) -> Tensor:
        ctx.pattern = pattern
        return take(_resolved(dense), pattern, fill)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        return put_values(gradients[0], ctx.pattern, 0), None, None


class _Taken(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, dense: Tensor, pattern: Pattern, values: Tensor, kept: Tensor | None) -> Tensor:
        ctx.pattern, ctx.kept = pattern, kept
        return values

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        gradient = put_values(gradients[0], ctx.pattern, 0)
        return gradient if ctx.kept is None else gradient.masked_fill(~ctx.kept, 0), None, None, None
