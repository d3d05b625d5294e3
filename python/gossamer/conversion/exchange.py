"""Kernels from one pattern to another: in the same order, in another order, and into blocks."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from gossamer.conversion.flat import Levels, allocate, index_dtype_for, width_of
from gossamer.conversion.kernel import Kernel, count_parts
from gossamer.conversion.nodes import NodeWriter, Outline
from gossamer.conversion.walk import Walk, Widths, arrays_of, index_arrays, linear, widths_of
from gossamer.conversion.writer import Array, InParts, Once, Value, Writer, module
from gossamer.formats import Format
from gossamer.pattern import Storage

_FIRST = 2  # of the numbers behind the step and the number of parts


@dataclass(frozen=True)
class Exchange:
    """What is to be stored anew: entries, or whole blocks as entries.

    Attributes:
        storage, source, source_sizes: The pattern, as kernels see it.
        target, target_sizes: The format, without batch levels.
        size: How many values the pattern stores.
    """

    storage: Storage
    source: Format
    source_sizes: Sequence[int]
    target: Format
    target_sizes: Sequence[int]
    size: int

    @property
    def sizes(self) -> tuple[int, ...]:
        """Of all levels, those of the source first."""
        return *self.source_sizes, *self.target_sizes

    @property
    def formats(self) -> tuple[Format, Widths, Format]:
        """What kernels depend on."""
        return self.source, widths_of(self.storage), self.target

    def index_dtype(self, wanted: torch.dtype | None) -> torch.dtype:
        """Returns int32, or int64 if that is wanted or needed."""
        return index_dtype_for(max(1, *self.target_sizes, self.size), wanted)


def level_coordinates(w: Writer, source: Format, target: Format, coordinates: Sequence[Value]) -> list[Value]:
    """Returns the coordinates at the levels of another format."""
    dims: list[Value | None] = [None] * source.dim_rank
    for level, coordinate in zip(source.levels, coordinates, strict=True):
        block = level.expr.block
        part = w.mul(coordinate, w.constant(block)) if level.expr.op == "floordiv" else coordinate
        known = dims[level.expr.dim]
        dims[level.expr.dim] = part if known is None else w.add(known, part)
    result = []
    for level in target.levels:
        dim = dims[level.expr.dim]
        assert dim is not None
        block = w.constant(level.expr.block)
        result.append({"": lambda d, b: d, "floordiv": w.div, "mod": w.rem}[level.expr.op](dim, block))
    return result


def copy_in_order(
    exchange: Exchange, wants_gather: bool, index_dtype: torch.dtype | None
) -> tuple[Levels, Tensor | None]:
    """Stores the entries of a pattern in a format that has them in the same order, an entry a node.

    Args:
        exchange: What, to a format that has an `Outline`.
        wants_gather: Whether some of these are not in use, so that the others move.
        index_dtype: torch.int32 or torch.int64, widened where it is too small; None takes int32 where it is enough.

    Returns:
        The levels, and for each of their nodes the value that it has (None: the one of its number).
    """
    outline = Outline.of(exchange.target)
    assert outline is not None
    parts = count_parts(exchange.size)
    numbers = [0, parts, *exchange.sizes]
    state = torch.empty(parts, outline.state_size, dtype=torch.int64)
    index = exchange.index_dtype(index_dtype)
    kernel = _copier(*exchange.formats, width_of(index), wants_gather)
    none = torch.empty(0, dtype=torch.int64)
    unused = [none] * (len(outline.positions) + len(outline.coordinates))
    indices = index_arrays(exchange.storage)
    kernel(numbers, *indices, *unused, state, *([none] if wants_gather else []))
    begins, counts = outline.node_counts(state.tolist(), exchange.target_sizes)
    levels = allocate(outline, counts, exchange.target_sizes, index)
    gather = torch.empty(levels[2], dtype=torch.int64) if wants_gather else None
    arrays = [a for a in (*levels[0], *levels[1]) if a is not None]
    kernel([1, *numbers[1:]], *indices, *arrays, torch.tensor(begins), *([] if gather is None else [gather]))
    return levels, gather


@cache
def _copier(source: Format, widths: Widths, target: Format, index: str, wants_gather: bool) -> Kernel:
    outline = Outline.of(target)
    assert outline is not None

    def write(w: Writer, part: Value, stores: bool) -> None:
        nodes = NodeWriter(w, outline, part, _FIRST + source.lvl_rank, stores)
        walk = Walk(w, source, _FIRST, "old_")

        def copy(coordinates: list[Value], position: Value) -> None:
            entry = linear(w, level_coordinates(w, source, target, coordinates), nodes.sizes)
            nodes.entry(entry, (lambda node: w.store("gather", node, position)) if wants_gather else lambda node: None)

        walk.in_part(part, copy)
        nodes.finish()

    arrays = [Array("numbers", "i64"), *arrays_of(source, widths, "old_"), *outline.arrays(index)]
    arrays += [Array("gather", "i64")] if wants_gather else []
    return Kernel(
        module(arrays, [[InParts(lambda w, p: write(w, p, False))], [InParts(lambda w, p: write(w, p, True))]])
    )


def sort_by_parent(exchange: Exchange, count: int, index_dtype: torch.dtype | None) -> tuple[Levels, Tensor]:
    """Stores the entries of a pattern in dense levels and one compressed level, by a stable counting sort.

    The entries of one parent must be in order already: all transpositions, and rows out of blocks, are like that.

    Args:
        exchange: What.
        count: How many of the values are in use.
        index_dtype: As for `copy_in_order`.

    Returns:
        The levels, and for each node the value that it has: int64.
    """
    parents = math.prod(exchange.target_sizes[:-1])
    index = exchange.index_dtype(index_dtype)
    # Each part counts for itself: with many parents that would cost more than threads gain.
    parts = max(1, min(count_parts(exchange.size), exchange.size // max(parents, 1)))
    kernel = _sorter(*exchange.formats, width_of(index))
    positions = torch.empty(parents + 1, dtype=index)
    coordinates = torch.empty(count, dtype=index)
    gather = torch.empty(count, dtype=torch.int64)
    places = torch.empty(parts * parents, dtype=index)
    numbers = [0, parts, parents, *exchange.sizes]
    kernel(numbers, *index_arrays(exchange.storage), positions, coordinates, gather, places)
    rest: list[Tensor | None] = [None] * (exchange.target.lvl_rank - 1)
    return ([*rest, positions], [*rest, coordinates], count), gather


@cache
def _sorter(source: Format, widths: Widths, target: Format, index: str) -> Kernel:
    sizes_at = _FIRST + 1

    class Entry:
        """Of the walk of a part: its parent in the target, and its coordinate there."""

        def __init__(self, w: Writer, sizes: list[Value], coordinates: list[Value]):
            *above, self.coordinate = level_coordinates(w, source, target, coordinates)
            self.parent = linear(w, above, sizes[:-1])

    def begin(w: Writer, part: Value) -> tuple[Walk, list[Value], Value, Value]:
        walk = Walk(w, source, sizes_at, "old_")
        rank = target.lvl_rank
        sizes = [w.load("numbers", w.constant(sizes_at + source.lvl_rank + l)) for l in range(rank)]
        parents = w.load("numbers", w.constant(_FIRST))
        return walk, sizes, parents, w.mul(part, parents)

    def count(w: Writer, part: Value) -> None:
        walk, sizes, parents, own = begin(w, part)
        with w.loop(own, w.add(own, parents)) as i:
            w.store("places", i, w.constant(0))

        def add(coordinates: list[Value], position: Value) -> None:
            at = w.add(own, Entry(w, sizes, coordinates).parent)
            w.store("places", at, w.add(w.load("places", at), w.constant(1)))

        walk.in_part(part, add)

    def scan(w: Writer) -> None:
        zero, parts, parents = w.constant(0), w.load("numbers", w.constant(1)), w.load("numbers", w.constant(_FIRST))
        before = w.variable(zero)
        with w.loop(zero, parents) as parent:
            w.store("pos", parent, before.get())
            with w.loop(zero, parts) as part:
                at = w.add(w.mul(part, parents), parent)
                counted = w.load("places", at)
                w.store("places", at, before.get())
                before.add(counted)
        w.store("pos", parents, before.get())

    def scatter(w: Writer, part: Value) -> None:
        walk, sizes, _, own = begin(w, part)

        def put(coordinates: list[Value], position: Value) -> None:
            entry = Entry(w, sizes, coordinates)
            at = w.add(own, entry.parent)
            node = w.load("places", at)
            w.store("places", at, w.add(node, w.constant(1)))
            w.store("crd", node, entry.coordinate)
            w.store("gather", node, position)

        walk.in_part(part, put)

    arrays = [Array("numbers", "i64"), *arrays_of(source, widths, "old_"), Array("pos", index), Array("crd", index)]
    arrays += [Array("gather", "i64"), Array("places", index)]
    return Kernel(module(arrays, [[InParts(count), Once(scan), InParts(scatter)]]))


def mark_stored(exchange: Exchange) -> Tensor:
    """Returns which nodes of a format have an entry of a pattern: bool, of the sizes of the outer levels."""
    mask = torch.zeros(tuple(exchange.target_sizes[: exchange.target.outer]), dtype=torch.bool)
    kernel = _marker(*exchange.formats)
    numbers = [0, count_parts(exchange.size), *exchange.sizes]
    kernel(numbers, *index_arrays(exchange.storage), mask.view(torch.int8))
    return mask


@cache
def _marker(source: Format, widths: Widths, target: Format) -> Kernel:
    def write(w: Writer, part: Value) -> None:
        walk = Walk(w, source, _FIRST, "old_")
        rank = target.outer
        sizes = [w.load("numbers", w.constant(_FIRST + source.lvl_rank + l)) for l in range(rank)]
        yes = w.constant(1, "i8")

        def mark(coordinates: list[Value], position: Value) -> None:
            node = linear(w, level_coordinates(w, source, target, coordinates)[:rank], sizes)
            w.store_bits("mask", node, yes)  # several threads may, all of them the same

        walk.in_part(part, mark)

    return Kernel(
        module([Array("numbers", "i64"), *arrays_of(source, widths, "old_"), Array("mask", "i8")], [[InParts(write)]])
    )


def place_stored(exchange: Exchange, slots: Tensor, places: int) -> Tensor:
    """Returns where each value of a new pattern comes from: int64, -1 where nothing was stored.

    Args:
        exchange: What.
        slots: For every place in the space of the outer levels of the target its node, int64.
        places: How many values the new pattern stores.
    """
    gather = torch.full((places,), -1, dtype=torch.int64)
    kernel = _placer(*exchange.formats)
    numbers = [0, count_parts(exchange.size), *exchange.sizes]
    kernel(numbers, *index_arrays(exchange.storage), slots, gather)
    return gather


@cache
def _placer(source: Format, widths: Widths, target: Format) -> Kernel:
    def write(w: Writer, part: Value) -> None:
        walk = Walk(w, source, _FIRST, "old_")
        outer = target.outer
        sizes = [w.load("numbers", w.constant(_FIRST + source.lvl_rank + l)) for l in range(target.lvl_rank)]

        def place(coordinates: list[Value], position: Value) -> None:
            levels = level_coordinates(w, source, target, coordinates)
            at = w.load("slots", linear(w, levels[:outer], sizes[:outer]))
            for coordinate, size in zip(levels[outer:], sizes[outer:], strict=True):
                at = w.add(w.mul(at, size), coordinate)
            w.store("gather", at, position)

        walk.in_part(part, place)

    arrays = [Array("numbers", "i64"), *arrays_of(source, widths, "old_"), Array("slots", "i64")]
    return Kernel(module([*arrays, Array("gather", "i64")], [[InParts(write)]]))
