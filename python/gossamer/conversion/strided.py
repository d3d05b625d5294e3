"""Between dense tensors and patterns: which nodes have something in them, values taken and put back."""

import math
from functools import cache

import torch
from torch import Tensor

from gossamer.conversion.flat import bits_of
from gossamer.conversion.kernel import Kernel, count_parts
from gossamer.conversion.walk import Walk, Widths, arrays_of, index_arrays, linear, widths_of
from gossamer.conversion.writer import Array, InParts, Value, Writer, module, part_range
from gossamer.formats import Format
from gossamer.pattern import Pattern

_FIRST = 2  # of the numbers behind the step and the number of parts
_WIDEST = 128  # elements of a vector


def level_strides(format: Format, strides: tuple[int, ...]) -> tuple[int, ...]:
    """Returns how far apart neighbours at each level are in a tensor of these strides."""
    return tuple(
        strides[level.expr.dim] * (level.expr.block if level.expr.op == "floordiv" else 1) for level in format.levels
    )


def mark_nodes(dense: Tensor, test: tuple[int, int], format: Format) -> Tensor:
    """Returns which nodes of a format have an element that is kept: bool, of the sizes of the outer levels.

    Args:
        dense: The tensor, of any strides.
        test: Which of its elements are kept, as `kept_bits` says it.
        format: The format, without batch levels, with at least one sparse level.
    """
    sizes = format.level_sizes(dense.shape)
    strides = level_strides(format, dense.stride())
    # The largest strides outermost: memory is read as it lies, whatever the format.
    order = tuple(sorted(range(format.lvl_rank), key=lambda l: (-strides[l], l)))
    mask = torch.zeros(sizes[: format.outer], dtype=torch.bool, device=dense.device)
    if not dense.numel():
        return mask
    kernel = _mark(format, order, strides[order[-1]] == 1, f"i{dense.element_size() * 8}")
    together = _parallel(format, order)
    parts = min(count_parts(dense.numel()), math.prod(sizes[l] for l in order[:together]))
    kernel([0, parts, *test, *sizes, *strides], bits_of(dense), bits_of(mask))
    return mask


def _parallel(format: Format, order: tuple[int, ...]) -> int:
    """Returns the number of outermost loops that no two nodes share."""
    return next((n for n, l in enumerate(order) if l >= format.outer), len(order))


@cache
def _mark(format: Format, order: tuple[int, ...], contiguous: bool, element: str) -> Kernel:
    rank = format.lvl_rank
    together = _parallel(format, order)
    last = format.levels[order[-1]]
    width = last.expr.block if last.expr.op == "mod" and order[-1] >= format.outer else 1
    width = width if contiguous and width <= _WIDEST else 1
    nest = order[:-1] if width > 1 else order
    vector = f"vector<{width}x{element}>"

    def write(w: Writer, part: Value) -> None:
        numbers = [w.load("numbers", w.constant(n)) for n in range(_FIRST, _FIRST + 2 + 2 * rank)]
        sizes, strides = numbers[2 : 2 + rank], numbers[2 + rank :]
        mask, unkept = (w.value(f"arith.index_cast {n} : index to i64") for n in numbers[:2])
        if element != "i64":
            mask, unkept = (w.value(f"arith.trunci {n} : i64 to {element}") for n in (mask, unkept))
        if width > 1:
            mask, unkept = (w.value(f"vector.broadcast {n} : {element} to {vector}") for n in (mask, unkept))
        places: dict[int, Value] = {order[-1]: w.constant(0)}

        def mark() -> None:
            at = w.constant(0)
            for l in nest:
                at = w.add(at, w.mul(places[l], strides[l]))
            node = linear(w, [places[l] for l in range(format.outer)], sizes[: format.outer])
            if width > 1:
                elements = w.value(f"vector.load %dense[{at}] : memref<?x{element}>, {vector}")
                kept = w.compare("ne", w.binary("andi", elements, mask, vector), unkept, vector)
                found = w.value(f"vector.reduction <or>, {kept} : vector<{width}xi1> into i1")
            else:
                kept = w.binary("andi", w.load_bits("dense", at), mask, element)
                found = w.compare("ne", kept, unkept, element)
            byte = w.value(f"arith.extui {found} : i1 to i8")
            w.store_bits("mask", node, w.binary("ori", w.load_bits("mask", node), byte, "i8"))

        def loops(n: int) -> None:
            if n == len(nest):
                mark()
                return
            level = format.levels[nest[n]]
            size = w.constant(level.expr.block) if level.expr.op == "mod" else sizes[nest[n]]
            with w.loop(w.constant(0), size) as i:
                places[nest[n]] = i
                loops(n + 1)

        points = w.constant(1)
        for l in order[:together]:
            points = w.mul(points, sizes[l])
        lower, upper = part_range(w, part, points)
        with w.loop(lower, upper) as point:
            for l in reversed(order[1:together]):
                places[l] = w.rem(point, sizes[l])
                point = w.div(point, sizes[l])
            if together:
                places[order[0]] = point
            loops(together)

    return Kernel(module([Array("numbers", "i64"), Array("dense", element), Array("mask", "i8")], [[InParts(write)]]))


def take(dense: Tensor, pattern: Pattern, fill: float) -> Tensor:
    """Returns the elements of a dense tensor, of any strides, at the places of a pattern, as its values.

    Slots that the pattern does not use hold the fill.
    """
    loose = any(level.kind == "loose_compressed" for level in pattern.format.levels)
    shape = tuple(pattern.values_shape)
    values = torch.full(shape, fill, dtype=dense.dtype) if loose else torch.empty(shape, dtype=dense.dtype)
    _move(pattern, dense, values, None)
    return values


def put(values: Tensor, pattern: Pattern, fill: float) -> Tensor:
    """Returns the dense tensor with these values where a pattern, which stores no entry twice, has them; else fill."""
    dense = torch.empty(tuple(pattern.shape), dtype=values.dtype)
    _move(pattern, dense, values.contiguous(), fill)
    return dense


def _move(pattern: Pattern, dense: Tensor, values: Tensor, fill: float | None) -> None:
    if not dense.numel():
        return
    format, storage = pattern.kernel_format, pattern.storage()
    strides = level_strides(format, dense.stride())
    element = f"i{dense.element_size() * 8}"
    kernel = _mover(format, widths_of(storage), element, strides[-1] == 1, fill is not None)
    bits = 0 if fill is None else int(bits_of(torch.tensor([fill], dtype=dense.dtype))[0])
    parts = count_parts(max(values.numel(), dense.numel() if fill is not None else 0))
    numbers = [0, parts, bits, dense.numel(), *pattern.level_sizes, *strides]
    kernel(numbers, *index_arrays(storage), bits_of(dense), bits_of(values).reshape(-1))


@cache
def _mover(format: Format, widths: Widths, element: str, contiguous: bool, puts: bool) -> Kernel:
    rank = format.lvl_rank

    def fill_part(w: Writer, part: Value) -> None:
        word = w.load_bits("numbers", w.constant(_FIRST))
        bits = word if element == "i64" else w.value(f"arith.trunci {word} : i64 to {element}")
        lower, upper = part_range(w, part, w.load("numbers", w.constant(_FIRST + 1)))
        with w.loop(lower, upper) as i:
            w.store_bits("dense", i, bits)

    def move_part(w: Writer, part: Value) -> None:
        walk = Walk(w, format, _FIRST + 2)
        strides = [w.load("numbers", w.constant(_FIRST + 2 + rank + l)) for l in range(rank)]
        if contiguous:
            strides[-1] = w.constant(1)

        def move(coordinates: list[Value], position: Value) -> None:
            at = w.constant(0)
            for coordinate, stride in zip(coordinates, strides, strict=True):
                at = w.add(at, w.mul(coordinate, stride))
            if puts:
                w.store_bits("dense", at, w.load_bits("values", position))
            else:
                w.store_bits("values", position, w.load_bits("dense", at))

        walk.in_part(part, move)

    arrays = [Array("numbers", "i64"), *arrays_of(format, widths), Array("dense", element), Array("values", element)]
    return Kernel(module(arrays, [[*([InParts(fill_part)] if puts else []), InParts(move_part)]]))
