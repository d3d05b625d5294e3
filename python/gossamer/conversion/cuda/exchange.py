"""From one pattern to another on a GPU: a kernel says where every entry belongs, torch sorts, patterns are built."""

import math
from collections.abc import Sequence
from functools import cache

import torch
from torch import Tensor

from gossamer.build import build
from gossamer.conversion.cuda.kernel import GpuKernel
from gossamer.conversion.cuda.writer import GpuWriter
from gossamer.conversion.exchange import level_coordinates
from gossamer.conversion.orders import is_plain
from gossamer.conversion.patterns import Plan, index_dtype_of, plan_of, shape_of
from gossamer.conversion.walk import linear
from gossamer.conversion.writer import Array
from gossamer.coordinates import node_index
from gossamer.formats import Format
from gossamer.pattern import Converted, Pattern

_NARROW = 2**31
# Few passes of a radix sort are enough for few values.
_SORTED_AS = ((2**7, torch.int8), (2**15, torch.int16), (2**31, torch.int32))


def converted(pattern: Pattern, format: Format) -> Converted | None:
    """Returns what `Pattern.converted_runs` does; None for formats, or sizes, that have no kernels.

    Waits for the GPU only where blocks are to be found, slots are not in use, or the target has more than one
    compressed level.

    Args:
        pattern: On a GPU.
        format: One that fits.
    """
    source = pattern.kernel_format
    plan = plan_of(source, format.without_batch()) if is_plain(pattern.format) else None
    if plan is None or not pattern.storage_size:
        return None
    rank = plan.source.lvl_rank
    sizes, size = pattern.level_sizes[:rank], math.prod(pattern.level_sizes[rank:])
    target_sizes = plan.target.level_sizes(shape_of(plan.source, sizes))
    if math.prod(target_sizes) >= 2**63:
        return None
    keys = _keys(node_index(pattern), plan, sizes, target_sizes)
    origin = None
    if plan.has_gaps:
        origin = (keys >= 0).nonzero()[:, 0]
        keys = keys[origin]
    # Slots that a loose level uses may lie in any order.
    if plan.has_gaps or not plan.is_ordered:
        order = _order(keys, plan, target_sizes)
        keys = keys[order]
        origin = order if origin is None else origin[order]
    outer = plan.target.outer
    inner = math.prod(target_sizes[outer:])
    if inner == 1:
        nodes, node = keys, None
    else:
        nodes, node = torch.unique_consecutive(keys.div(inner, rounding_mode="floor"), return_inverse=True)
    built, slot = build(format, pattern.shape, nodes.long(), index_dtype=index_dtype_of(pattern))
    if slot is None and node is None:
        return built, origin, 1 if origin is None else size
    if slot is None:
        slot = torch.arange(nodes.numel(), device=keys.device)
    place = slot if node is None else slot[node] * inner + keys % inner
    if origin is None:
        origin = torch.arange(keys.numel(), device=keys.device)
    gather = torch.full((math.prod(built.values_shape) // max(size, 1),), -1, dtype=torch.int64, device=keys.device)
    gather[place] = origin
    return built, gather, size


def _keys(places: Tensor, plan: Plan, sizes: Sequence[int], target_sizes: Sequence[int]) -> Tensor:
    """Where each entry belongs, in the row-major space of the target's levels; -1 for a slot that is not in use."""
    narrow = max(math.prod(sizes), math.prod(target_sizes)) < _NARROW
    inner = math.prod(sizes[plan.source.outer :])
    keys = torch.empty(places.numel() * inner, dtype=torch.int32 if narrow else torch.int64, device=places.device)
    kernel = _placer(plan.source, plan.target, narrow)
    kernel([places.numel(), inner, *sizes, *target_sizes], places, keys)
    return keys


@cache
def _placer(source: Format, target: Format, narrow: bool) -> GpuKernel:
    """The kernel: a thread has an entry."""
    numbers = [f"{name}{l}" for name, fmt in (("size", source), ("new", target)) for l in range(fmt.lvl_rank)]
    w = GpuWriter(["nodes", "inner", *numbers], [Array("places", "i64"), Array("keys", "i32" if narrow else "i64")])
    sizes, news = (
        [w.number(f"{name}{l}") for l in range(fmt.lvl_rank)] for name, fmt in (("size", source), ("new", target))
    )
    with w.parallel(w.number("nodes"), w.number("inner")) as (node, offset):
        place, zero = w.load("places", node), w.constant(0)
        used = w.compare("sge", place, zero)
        place = w.value(f"arith.maxsi {place}, {zero} : index")
        coordinates = w.split(place, sizes[: source.outer], narrow) + w.split(offset, sizes[source.outer :], narrow)
        key = linear(w, level_coordinates(w, source, target, coordinates), news)
        w.store("keys", w.add(w.mul(node, w.number("inner")), offset), w.select(used, key, w.constant(-1)))
    return GpuKernel(w.module())


def _order(keys: Tensor, plan: Plan, target_sizes: Sequence[int]) -> Tensor:
    """What sorts the entries. Where those of one parent are in order already, only parents are sorted, and stably."""
    largest = math.prod(target_sizes)
    if plan.by_rows is not None and not plan.has_gaps:
        last = target_sizes[-1]
        keys = keys.div(last, rounding_mode="floor")
        largest //= max(last, 1)
    narrow = next((dtype for most, dtype in _SORTED_AS if largest <= most), torch.int64)
    return keys.to(narrow).sort(stable=True).indices
