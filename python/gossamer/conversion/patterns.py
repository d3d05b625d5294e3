"""Patterns from what is kept of a dense tensor, and from other patterns, by generated kernels. On the CPU only."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import torch
from torch import Tensor

from gossamer.batches import split_batches
from gossamer.conversion.exchange import Exchange, copy_in_order, mark_stored, place_stored, sort_by_parent
from gossamer.conversion.flat import Levels, compress_flat, pad_rows, structure_flat
from gossamer.conversion.nodes import Outline
from gossamer.conversion.orders import is_plain, order_of, order_within, shared_suffix, without_suffix
from gossamer.formats import Format, Level
from gossamer.pattern import Converted, Pattern

# What marks the nodes of a format may be this many times as large as the number of its entries, or this large.
_SPARE, _SMALL = 16, 1 << 20


@lru_cache(maxsize=4096)
def has_kernels(format: Format) -> bool:
    """Whether patterns of a format come from generated kernels; the others from tensor operations (`build`)."""
    dense = format.without_batch()
    return bool(format.outer) and (is_structured(dense) or Outline.of(tight(dense)) is not None)


def is_structured(format: Format) -> bool:
    """Whether a format keeps n of every m."""
    return format.levels[format.outer - 1].kind == "structured"


@lru_cache(maxsize=4096)
def loose_level(format: Format) -> int | None:
    """Returns the loose_compressed level, if there is one and no other sparse level than singletons is below it."""
    loose = next((l for l, level in enumerate(format.levels) if level.kind == "loose_compressed"), None)
    if loose is None or any(level.kind != "singleton" for level in format.levels[loose + 1 : format.outer]):
        return None
    return loose


@lru_cache(maxsize=4096)
def tight(format: Format) -> Format:
    """Returns the format with a compressed level for a loose_compressed one that `pad_rows` can make of it."""
    loose = loose_level(format)
    if loose is None:
        return format
    levels = list(format.levels)
    levels[loose] = replace(levels[loose], kind="compressed")
    return Format.from_levels(format.dim_rank, levels)


def pattern_of_kept(
    keep: Tensor,
    test: tuple[int, int],
    format: Format,
    shape: Sequence[int],
    *,
    source: Tensor | None = None,
    fill: float = 0,
    slots: bool = False,
    index_dtype: torch.dtype | None = None,
) -> tuple[Pattern, Tensor | None, Tensor | None]:
    """Stores what is kept.

    Args:
        keep, test, source, slots, index_dtype: As for `compress_flat`.
        format: One that has kernels.
        shape: Of the tensor.
        fill: The value of nodes that the format stores besides.

    Returns:
        The pattern; the values; where the node of every place that is kept is stored, int64 of the size of `keep`.

    Raises:
        TensorError: The format cannot hold what is kept.
    """
    dense = format.without_batch()
    sizes = dense.level_sizes(shape)
    if is_structured(dense):
        levels, values, nodes = structure_flat(keep, test, dense, sizes, source, fill, slots, index_dtype)
        return make_pattern(dense, format, shape, levels), values, nodes
    outline = Outline.of(tight(dense))
    assert outline is not None
    levels, values, nodes = compress_flat(
        keep, test, outline, sizes, source=source, slots=slots, index_dtype=index_dtype
    )
    loose = loose_level(dense)
    if loose is not None:
        levels, moved = pad_rows(levels, loose, index_dtype)
        if values is not None:
            values = torch.full((levels[2],), fill, dtype=values.dtype).index_put_((moved,), values)
        if nodes is not None:
            nodes = moved[nodes.clamp_(0, max(moved.numel() - 1, 0))] if moved.numel() else nodes
    return make_pattern(dense, format, shape, levels), values, nodes


def make_pattern(dense: Format, format: Format, shape: Sequence[int], levels: Levels) -> Pattern:
    """Returns the pattern of these levels, those of `format` without batch levels, in `format`.

    Raises:
        TensorError: A level that allows one child for each node has more; or batches store different numbers of nodes.
    """
    rest = [None] * (dense.lvl_rank - len(levels[0]))
    pattern = Pattern(dense, shape, [*levels[0], *rest], [*levels[1], *rest], device="cpu", check=False)
    if has_only_children(dense):
        pattern.validate()  # one child for each node: not every pattern is like that
    return split_batches(pattern, format) if format.batch_rank else pattern


@lru_cache(maxsize=4096)
def has_only_children(format: Format) -> bool:
    """Whether a format has a level of one child for each node, below one that has every coordinate once."""
    return any(a.is_unique and b.kind == "singleton" for a, b in zip(format.levels, format.levels[1:], strict=False))


def converted(pattern: Pattern, format: Format) -> Converted | None:
    """Returns what `Pattern.converted_runs` does; None for formats, or sizes, that have no kernels."""
    source, target = pattern.kernel_format, format.without_batch() if format.batch_rank else format
    plan = plan_of(source, target) if is_plain(pattern.format) else None
    if plan is None:
        return None
    rank = plan.source.lvl_rank
    sizes, size = pattern.level_sizes[:rank], math.prod(pattern.level_sizes[rank:])
    runs = math.prod(pattern.values_shape) // max(1, size)
    target_sizes = plan.target.level_sizes(shape_of(plan.source, sizes))
    if math.prod(target_sizes) >= 2**63:  # entries are known by a number; what sorts them refuses the shape
        return None
    exchange = Exchange(pattern.storage()[:rank], plan.source, sizes, plan.target, target_sizes, runs)
    made = _stored_anew(plan, exchange, index_dtype_of(pattern))
    if made is None:
        return None
    levels, gather = made
    if loose_level(target) is not None:
        levels, gather = _padded(levels, gather, target)
    return make_pattern(target, format, pattern.shape, levels), gather, 1 if gather is None else size


@dataclass(frozen=True)
class Plan:
    """How one format becomes another.

    Attributes:
        source, target: The formats without what both end with, which moves as a whole, with the dimensions in the
            order in which the source stores them, and with compressed levels for loose ones in the target.
        by_rows: The target with dense levels above its last one, if entries are in order below those.
        is_entrywise: Whether nodes of the target are entries.
        is_ordered: Whether the source has the entries in the order of the target.
        has_gaps: Whether the source has slots that are not in use.
    """

    source: Format
    target: Format
    by_rows: Format | None
    is_entrywise: bool
    is_ordered: bool
    has_gaps: bool


@lru_cache(maxsize=4096)
def plan_of(source: Format, target: Format) -> Plan | None:
    """Returns how one format becomes another; None where there is no such way."""
    if not has_kernels(target) or not source.outer:
        return None
    shared = shared_suffix(source, target)
    old, new = without_suffix(source, shared), without_suffix(target, shared)
    if old is None or new is None:
        return None
    dims = list(dict.fromkeys(level.expr.dim for level in old.levels))
    old, new = old.permuted(dims), tight(new).permuted(dims)
    is_entrywise = new.outer == new.lvl_rank and not is_structured(new)
    *above, last = (level.expr for level in new.levels)
    by_rows = None
    if is_entrywise and order_within(old.levels, above) == [last]:
        rows = [Level("dense", expr) for expr in above]
        by_rows = Format.from_levels(new.dim_rank, [*rows, Level("compressed", last)])
    has_gaps = any(level.kind == "loose_compressed" for level in old.levels)
    return Plan(old, new, by_rows, is_entrywise, order_of(old.levels) == order_of(new.levels), has_gaps)


def _padded(levels: Levels, gather: Tensor | None, target: Format) -> tuple[Levels, Tensor]:
    """With the same room for every parent; `gather` has as many numbers for each node as a node has values."""
    loose = loose_level(target)
    assert loose is not None
    padded, moved = pad_rows(levels, loose, None)
    gather = torch.arange(moved.numel()) if gather is None else gather
    each = gather.numel() // max(1, moved.numel())
    spread = torch.full((padded[2], each), -1).index_copy_(0, moved, gather.view(moved.numel(), each))
    return padded, spread.view(-1)


def index_dtype_of(pattern: Pattern) -> torch.dtype | None:
    """The width that a converted pattern should keep; None if the pattern has no index arrays."""
    widths = [array.dtype for array in pattern._arrays if array is not None]
    return torch.int64 if torch.int64 in widths else widths[0] if widths else None


def _stored_anew(
    plan: Plan, exchange: Exchange, index_dtype: torch.dtype | None
) -> tuple[Levels, Tensor | None] | None:
    """Takes the first road that there is."""
    if plan.is_entrywise and plan.is_ordered:
        return copy_in_order(exchange, plan.has_gaps, index_dtype)
    if plan.by_rows and math.prod(exchange.target_sizes[:-1]) <= max(_SMALL, 4 * exchange.size):
        return _sorted(exchange, plan.by_rows, index_dtype)
    if math.prod(exchange.target_sizes[: plan.target.outer]) <= max(_SMALL, _SPARE * exchange.size):
        return _marked(exchange, index_dtype)
    return None


def _sorted(exchange: Exchange, by_rows: Format, index_dtype: torch.dtype | None) -> tuple[Levels, Tensor]:
    target, sizes = exchange.target, exchange.target_sizes
    levels, gather = sort_by_parent(replace(exchange, target=by_rows), _count_used(exchange), index_dtype)
    if Outline.of(target) == Outline.of(by_rows):
        return levels, gather
    storage = tuple(zip(levels[0], levels[1], strict=True))
    return copy_in_order(Exchange(storage, by_rows, sizes, target, sizes, levels[2]), False, index_dtype)[0], gather


def _count_used(exchange: Exchange) -> int:
    """How many values are not in slots that a loose_compressed level does not use."""
    count = 1
    for (positions, coordinates), level, size in zip(
        exchange.storage, exchange.source.levels, exchange.source_sizes, strict=True
    ):
        if level.kind == "loose_compressed":
            assert positions is not None
            count = int((positions[1::2] - positions[::2]).sum())
        elif coordinates is None:
            count *= size
        elif level.kind != "singleton":
            count = coordinates.numel()
    return count


def _marked(exchange: Exchange, index_dtype: torch.dtype | None) -> tuple[Levels, Tensor]:
    target, sizes = exchange.target, exchange.target_sizes
    mask = mark_stored(exchange)
    if is_structured(target):
        levels, _, slots = structure_flat(mask, (-1, 0), target, sizes, None, 0, True, index_dtype)
    else:
        outline = Outline.of(target)
        assert outline is not None
        levels, _, slots = compress_flat(mask, (-1, 0), outline, sizes, slots=True, index_dtype=index_dtype)
    assert slots is not None
    return levels, place_stored(exchange, slots, levels[2] * math.prod(sizes[target.outer :]))


def shape_of(format: Format, sizes: Sequence[int]) -> tuple[int, ...]:
    """Returns the shape of a tensor whose levels have these sizes."""
    shape = [1] * format.dim_rank
    for level, size in zip(format.levels, sizes, strict=True):
        shape[level.expr.dim] *= size
    return tuple(shape)
