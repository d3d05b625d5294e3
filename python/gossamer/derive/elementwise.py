"""Elementwise functions of several sparse tensors, outside of compiled code.

The result is stored where the function may give something else than at the fills: on the one operand's pattern that
makes all other operands irrelevant where it is not stored (``mask * x``), on the intersection where each of two does
(``x * y``), and on the union otherwise (``x + y``).
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from gossamer.derive.merge import intersection, lookup, union
from gossamer.derive.wholes import expand
from gossamer.pattern import Pattern
from gossamer.tensor import Fill, SparseTensor

# what operands are tried at to see whether they matter
PROBES = {
    "bool": [False, True],
    "int": [0, -3, -1, 1, 2, 5],
    "float": [0.0, -3.1, -1.0, -0.5, 0.25, 1.0, 2.7],
}


def probes(dtype: torch.dtype) -> Tensor:
    """Values of that dtype, of all kinds that make a difference to a function."""
    kind = "bool" if dtype == torch.bool else "float" if dtype.is_floating_point or dtype.is_complex else "int"
    return torch.tensor(PROBES[kind], dtype=dtype)


def apply(function: Callable[..., Tensor], operands: Sequence[SparseTensor]) -> SparseTensor | None:
    """Returns `function` of the operands, of broadcast shapes, as a sparse tensor; None if its result would be dense.

    Args:
        function: takes one dense tensor for each operand and works entry by entry.
        operands: the sparse tensors, with any patterns and fills.

    Raises:
        FormatError: The patterns have no format in common; says what to convert to.
    """
    fill = _fill(function, operands, range(len(operands)))
    if fill is None:
        return None
    shape = torch.broadcast_shapes(*(operand.shape for operand in operands))
    operands = [operand if operand.shape == shape else expand(operand, shape) for operand in operands]
    pattern = _pattern(function, operands, fill)
    values = function(*(placed(operand, pattern).values for operand in operands))
    return SparseTensor(pattern, values.reshape(pattern.values_shape), fill)


def placed(tensor: SparseTensor, pattern: Pattern) -> SparseTensor:
    """Returns the entries of the tensor at the places that a pattern stores; the fill where the tensor has none."""
    gather = lookup(tensor.pattern, pattern)
    if gather is None:
        return tensor
    values = gather(tensor.values, tensor.fill).reshape(pattern.values_shape)
    return SparseTensor._make(pattern, values, tensor.fill)


def _pattern(function: Callable[..., Tensor], operands: Sequence[SparseTensor], fill: Fill) -> Pattern:
    patterns = list({id(operand.pattern): operand.pattern for operand in operands}.values())
    if len(patterns) == 1:
        return patterns[0]
    deciding = [
        pattern
        for pattern in patterns
        if _fill(function, operands, [n for n, o in enumerate(operands) if o.pattern is pattern]) is not None
    ]
    if len(deciding) == 2 == len(patterns):
        return intersection(deciding)
    return deciding[0] if deciding else union(patterns)


def _fill(function: Callable[..., Tensor], operands: Sequence[SparseTensor], at_fill: Sequence[int]) -> Fill | None:
    """The result with these operands at their fill, if it depends on no other one, and is a number."""
    others = [number for number in range(len(operands)) if number not in at_fill]
    samples: list[Tensor] = []
    zeros = torch.zeros((), dtype=torch.bool)
    for number, operand in enumerate(operands):
        values = probes(operand.dtype) if number in others else torch.tensor([operand.fill], dtype=operand.dtype)
        axis = others.index(number) if number in others else 0
        samples.append(values.reshape([-1 if a == axis else 1 for a in range(max(1, len(others)))]))
        if number in others:
            zeros = zeros | (samples[-1] == 0)
    return agreed(function(*torch.broadcast_tensors(*samples)), zeros)


def agreed(results: Tensor, zeros: Tensor) -> Fill | None:
    """The number that all results are, if there is one; a NaN that a zero of another operand made is not asked."""
    nan = results.isnan()
    if bool((nan & ~zeros).any()):
        return None
    known = results[~nan]
    return known[0].item() if bool((known == known[:1]).all()) and known.numel() else None


def split_operands(args: Sequence[Any], kwargs: dict[str, Any]) -> tuple[list[SparseTensor], Callable[..., Any]] | None:
    """The sparse operands among arguments of which all others are numbers, and what puts others in their places."""
    values = [*args, *kwargs.values()]
    if not all(isinstance(v, SparseTensor | bool | int | float | complex | str | None) for v in values):
        return None
    operands = [value for value in values if isinstance(value, SparseTensor)]

    def fill_in(function: Callable[..., Any], tensors: Sequence[Tensor]) -> Any:
        supply = iter(tensors)
        filled = [next(supply) if isinstance(value, SparseTensor) else value for value in values]
        return function(*filled[: len(args)], **dict(zip(kwargs, filled[len(args) :], strict=True)))

    return operands, fill_in
