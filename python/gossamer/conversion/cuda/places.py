"""The kernel that says where the nodes of a pattern are in the space of the outer levels."""

import math
from functools import cache

import torch
from torch import Tensor

from gossamer.conversion.cuda.kernel import GpuKernel
from gossamer.conversion.cuda.writer import WARP, GpuWriter
from gossamer.conversion.walk import Widths, arrays_of, index_arrays, widths_of
from gossamer.conversion.writer import Array, Value
from gossamer.formats import Format
from gossamer.pattern import Pattern


def node_places(pattern: Pattern) -> Tensor:
    """Returns for every node its index in the row-major space of the outer levels: int64 [nodes], -1 if not in use.

    Args:
        pattern: On a GPU, with at least one sparse level.
    """
    format, storage = pattern.kernel_format, pattern.storage()
    outer = format.outer
    last = storage[outer - 1][1]
    assert last is not None
    has_gaps = any(level.kind == "loose_compressed" for level in format.levels)
    places = torch.full_like(last, -1, dtype=torch.int64) if has_gaps else torch.empty_like(last, dtype=torch.int64)
    leading = _leading(format)
    first = storage[0][1]
    units = math.prod(pattern.level_sizes[:leading]) if first is None else first.numel()
    if not units or not places.numel():
        return places
    lanes = 8 if places.numel() < units * WARP // 2 else WARP
    kernel = walker(format, widths_of(storage), lanes)
    kernel([units, *pattern.level_sizes[:outer]], *index_arrays(storage), places)
    return places


def _leading(format: Format) -> int:
    """Number of leading dense levels."""
    return next(l for l, level in enumerate(format.levels) if level.is_sparse)


@cache
def walker(format: Format, widths: Widths, lanes: int) -> GpuKernel:
    """The kernel: parallel over the points of the leading dense levels, or the nodes of a leading sparse one.

    The nodes of the last level with positions, below that, are dealt to lanes.
    """
    outer, leading = format.outer, _leading(format)
    numbers = ["units", *(f"size{l}" for l in range(outer))]
    w = GpuWriter(numbers, [*arrays_of(format, widths), Array("places", "i64")])
    dealt = max((l for l, level in enumerate(format.levels) if level.has_positions), default=-1)

    def visit(l: int, place: Value, parent: Value) -> None:
        if l == outer:
            w.store("places", parent, place)
            return
        level = format.levels[l]
        size = w.number(f"size{l}")
        if level.kind == "singleton":
            visit(l + 1, w.add(w.mul(place, size), w.load(f"crd{l}", parent)), parent)
            return
        if level.has_positions:
            lower, upper = segment(l, parent)
        else:
            count = w.constant(level.n) if level.kind == "structured" else size
            lower = w.mul(parent, count)
            upper = w.add(lower, count)
        with w.lane_loop(lanes, lower, upper) if l == dealt else w.loop(lower, upper) as node:
            coordinate = w.load(f"crd{l}", node) if level.is_sparse else w.sub(node, lower)
            visit(l + 1, w.add(w.mul(place, size), coordinate), node)

    def segment(l: int, parent: Value) -> tuple[Value, Value]:
        first = w.mul(parent, w.constant(2)) if format.levels[l].kind == "loose_compressed" else parent
        return w.load(f"pos{l}", first), w.load(f"pos{l}", w.add(first, w.constant(1)))

    with w.parallel(w.number("units")) as (unit,):
        if leading:
            visit(leading, unit, unit)
        else:
            begin, end = segment(0, w.constant(0))
            used = w.both(w.compare("sge", unit, begin), w.compare("slt", unit, end))
            with w.when(used):
                visit(1, w.load("crd0", unit), unit)
    return GpuKernel(w.module())
