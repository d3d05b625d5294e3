"""From one format to another: the same entries, and where each value of the new storage comes from."""

import math

import torch
from torch import Tensor

from gossamer.build import build
from gossamer.conversion.cuda import exchange as cuda
from gossamer.conversion.cuda.kernel import in_transform
from gossamer.conversion.orders import is_plain, shared_suffix
from gossamer.conversion.patterns import converted, index_dtype_of, plan_of
from gossamer.coordinates import children, dims_of_levels, levels_of_dims, node_index, ravel, unravel, used_nodes
from gossamer.errors import TensorError
from gossamer.formats import Format
from gossamer.pattern import Converted, Pattern


def convert(pattern: Pattern, format: Format) -> Converted:
    """Returns what `Pattern.converted_runs` does, for a format that fits."""
    if format == pattern.kernel_format:
        positions, coordinates = zip(*pattern.storage(), strict=True)
        return Pattern(format, pattern.shape, positions, coordinates, device=pattern.device, check=False), None, 1
    by_kernels = {"cpu": converted, "cuda": cuda.converted}.get(pattern.device.type)
    if pattern.device.type == "cuda" and in_transform():
        by_kernels = None
    made = by_kernels(pattern, format) if by_kernels else None
    if made is None:
        pattern.derived(("sorted", format), lambda: _why_sorted(pattern, format))
        made = convert_by_sorting(pattern, format)
    return made


def _why_sorted(pattern: Pattern, format: Format) -> str:
    if pattern.device.type not in ("cpu", "cuda"):
        return f"there are no kernels for a device of type {pattern.device.type}"
    if pattern.device.type == "cuda" and in_transform():
        return "in a function of torch.func new tensors are no memory"
    if not is_plain(pattern.format):
        return "the pattern may have entries twice, or out of order"
    if not pattern.storage_size:
        return "nothing is stored"
    if plan_of(pattern.kernel_format, format.without_batch()) is None:
        return "there are no kernels for these formats"
    return "the space of its nodes is too large beside what is stored"


def convert_by_sorting(pattern: Pattern, format: Format) -> Converted:
    """Does it by operations of torch, on any device: for what has no kernels, and as their oracle."""
    # Dense levels that both formats end with move as a whole: only what is before them is looked at.
    shared = shared_suffix(pattern.format, format)
    index, source = _entries(pattern, shared)
    complete = source is None
    levels, sizes = format.levels[: format.lvl_rank - shared], format.level_sizes(pattern.shape)
    if levels:
        old = pattern.format.levels[: pattern.format.lvl_rank - shared]
        dims = dims_of_levels(old, unravel(index, pattern.level_sizes[: len(old)]), format.dim_rank)
        index = ravel(levels_of_dims(levels, dims), sizes[: len(levels)], index)
    index, order = _sorted(index)
    if order is not None:
        source = order if source is None else source[order]
    inner = math.prod(sizes[format.outer : len(levels)])
    nodes, node = _grouped(index, inner, format)
    built, slot = build(format, pattern.shape, nodes, index_dtype=index_dtype_of(pattern))
    slot = torch.arange(nodes.numel(), device=nodes.device) if slot is None else slot
    place = (slot if node is None else slot[node]) * inner + index % max(inner, 1)
    places = math.prod(built.values_shape[: len(built.values_shape) - shared])
    source = torch.arange(index.numel(), device=index.device) if source is None else source
    if complete and places == place.numel() and torch.equal(place, source):
        return built, None, 1
    gather = torch.full((places,), -1, dtype=torch.int64, device=index.device)
    gather[place] = source
    return built, gather, math.prod(sizes[len(levels) :])


def _entries(pattern: Pattern, shared: int) -> tuple[Tensor, Tensor | None]:
    """Returns what is stored, as indices in the space of all levels but the last `shared`.

    Returns:
        The indices, and which stored values these are (None: all, in order).
    """
    inner = math.prod(pattern.level_sizes[pattern.format.outer : pattern.format.lvl_rank - shared])
    index = children(node_index(pattern), inner, torch.arange(inner, device=pattern.device))
    if used_nodes(pattern) * inner == index.numel():
        return index, None
    used = (index >= 0).nonzero()[:, 0]
    return index[used], used


def _sorted(index: Tensor) -> tuple[Tensor, Tensor | None]:
    """Returns the indices sorted, and the order that sorts them (None: they are sorted)."""
    if bool((index[1:] >= index[:-1]).all()):
        return index, None
    return index.sort(stable=True)


def _grouped(index: Tensor, inner: int, format: Format) -> tuple[Tensor, Tensor | None]:
    """Returns the nodes that hold sorted entries, `inner` each, and the node of every entry (None: one each)."""
    if inner == 1 and format.outer and not format.levels[format.outer - 1].is_unique:
        return index, None
    if bool((index[1:] == index[:-1]).any()):
        raise TensorError(
            f"the pattern stores a coordinate more than once, and the format {format} cannot; "
            f"sum the duplicates first (coalesce() of a torch COO tensor)"
        )
    if inner == 1:
        return index, None
    return torch.unique_consecutive(index.div(max(inner, 1), rounding_mode="floor"), return_inverse=True)
