"""Other shapes for the same storage: leading dimensions split or merged, dimensions permuted. Nothing is copied."""

import math
from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor

from gossamer.errors import TensorError
from gossamer.formats import Expr, Format, Level
from gossamer.pattern import Pattern


def view(pattern: Pattern, shape: Sequence[int]) -> Pattern:
    """Returns what `Pattern.view` does."""
    shape = _without_unknown(pattern, tuple(shape))
    if shape == tuple(pattern.shape):
        return pattern
    kept = _common_suffix(tuple(pattern.shape), shape)
    old_lead, new_lead = len(pattern.shape) - kept, len(shape) - kept
    batch = pattern.format.batch_rank
    changeable = batch or pattern.format.leading
    if old_lead > changeable or math.prod(pattern.shape[:old_lead]) != math.prod(shape[:new_lead]):
        raise TensorError(
            f"the shape {tuple(pattern.shape)}, stored as {pattern.format}, cannot be viewed as {shape}: "
            f"only its first {changeable} dimensions are not stored sparsely, and their product must stay the same"
        )
    kind = "batch" if batch else "dense"
    kept_levels = (
        replace(level, expr=replace(level.expr, dim=level.expr.dim + new_lead - old_lead))
        for level in pattern.format.levels[old_lead:]
    )
    format = Format.from_levels(len(shape), [*(Level(kind, Expr(d)) for d in range(new_lead)), *kept_levels])

    def reshaped(array: Tensor | None) -> Tensor | None:
        if array is None or not batch:  # the arrays of dense levels do not know the sizes of those
            return array
        return array.reshape(*shape[:new_lead], *array.shape[old_lead:])

    lead: list[Tensor | None] = [None] * new_lead
    positions, coordinates = (
        [*lead, *map(reshaped, arrays[old_lead:])] for arrays in (pattern._positions, pattern._coordinates)
    )
    return Pattern(format, shape, positions, coordinates, device=pattern.device, check=False)


def permute(pattern: Pattern, dims: Sequence[int]) -> Pattern:
    """Returns what `Pattern.permute` does."""
    rank = len(pattern.shape)
    order = [d + rank if d < 0 else d for d in dims]
    if sorted(order) != list(range(rank)):
        raise TensorError(f"permute({tuple(dims)}): not an order of the {rank} dimensions of {tuple(pattern.shape)}")
    if order == list(range(rank)):
        return pattern
    batch = pattern.format.batch_rank
    if order[:batch] != list(range(batch)):
        raise TensorError(
            f"permute({tuple(dims)}): the {batch} batch dimensions of {pattern.format} stay where they are"
        )
    shape = [pattern.shape[d] for d in order]
    return Pattern(
        pattern.format.permuted(order),
        shape,
        pattern._positions,
        pattern._coordinates,
        device=pattern.device,
        check=False,
    )


def _without_unknown(pattern: Pattern, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Replaces a size of -1 by what is left over."""
    if shape.count(-1) != 1:
        return shape
    known = -math.prod(shape)
    if known == 0 or math.prod(pattern.shape) % known:
        raise TensorError(f"the shape {tuple(pattern.shape)} cannot be viewed as {shape}: -1 has no one size")
    return tuple(math.prod(pattern.shape) // known if size == -1 else size for size in shape)


def _common_suffix(a: tuple[int, ...], b: tuple[int, ...]) -> int:
    pairs = zip(reversed(a), reversed(b), strict=False)
    return next((n for n, (x, y) in enumerate(pairs) if x != y), min(len(a), len(b)))
