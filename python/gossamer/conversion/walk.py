"""Loops over what a pattern stores, in storage order, in parts that run in parallel."""

from collections.abc import Callable

from torch import Tensor

from gossamer.conversion.writer import Array, Value, Writer, part_range
from gossamer.formats import Format
from gossamer.pattern import Storage

Body = Callable[[list[Value], Value], None]


Widths = tuple[str, str]  # of positions and coordinates, as MLIR calls them


def arrays_of(format: Format, widths: Widths, prefix: str = "") -> list[Array]:
    """Returns the arguments that stand for the levels of a format, in the order of `index_arrays`."""
    arrays = []
    for l, level in enumerate(format.levels):
        arrays += [Array(f"{prefix}pos{l}", widths[0])] if level.has_positions else []
        arrays += [Array(f"{prefix}crd{l}", widths[1])] if level.is_sparse else []
    return arrays


def index_arrays(storage: Storage) -> list[Tensor]:
    """Returns the index arrays of the storage of a pattern."""
    return [array for pair in storage for array in pair if array is not None]


def widths_of(storage: Storage) -> Widths:
    """Returns how wide the index arrays of a pattern are."""
    positions, coordinates = (
        next((array.element_size() * 8 for array in arrays if array is not None), 64)
        for arrays in zip(*storage, strict=True)
    )
    return f"i{positions}", f"i{coordinates}"


class Walk:
    """The loops over one pattern, whose levels are the arguments of `arrays_of`.

    Args:
        w: Where to write, at the beginning of a function.
        format: Of the pattern, as kernels see it.
        sizes_at: Where in `numbers` the sizes of the levels are.
        prefix: Of the names of the arguments.
    """

    def __init__(self, w: Writer, format: Format, sizes_at: int, prefix: str = ""):
        self.w, self.format, self.prefix = w, format, prefix
        self.sizes = []
        for l, level in enumerate(format.levels):
            # The size of a block is in the format: loops over it have a known length.
            fixed = level.expr.op == "mod"
            self.sizes.append(w.constant(level.expr.block) if fixed else w.load("numbers", w.constant(sizes_at + l)))
        self.zero = w.constant(0)

    def in_part(self, part: Value, body: Body) -> None:
        """Statements for every stored value of a part; `body` gets level coordinates and the value's position.

        Parts are ranges of the points of the leading dense levels, or of the nodes of a leading sparse one.
        """
        w = self.w
        leading = next((l for l, level in enumerate(self.format.levels) if level.is_sparse), self.format.lvl_rank)
        if leading:
            points = self.sizes[0]
            for size in self.sizes[1:leading]:
                points = w.mul(points, size)
            lower, upper = part_range(w, part, points)
            with w.loop(lower, upper) as point:
                self._visit(leading, self._split(point, leading), point, body)
            return
        begin, end = self._segment(0, self.zero)
        lower, upper = part_range(w, part, w.sub(end, begin))
        with w.loop(w.add(begin, lower), w.add(begin, upper)) as node:
            self._visit(1, [self._coordinate(0, node)], node, body)

    def _split(self, point: Value, count: int) -> list[Value]:
        coordinates = []
        for size in reversed(self.sizes[1:count]):
            coordinates.insert(0, self.w.rem(point, size))
            point = self.w.div(point, size)
        return [point, *coordinates]

    def _segment(self, l: int, parent: Value) -> tuple[Value, Value]:
        w, name = self.w, f"{self.prefix}pos{l}"
        first = w.mul(parent, w.constant(2)) if self.format.levels[l].kind == "loose_compressed" else parent
        return w.load(name, first), w.load(name, w.add(first, w.constant(1)))

    def _coordinate(self, l: int, node: Value) -> Value:
        return self.w.load(f"{self.prefix}crd{l}", node)

    def _visit(self, l: int, coordinates: list[Value], parent: Value, body: Body) -> None:
        w = self.w
        if l == self.format.lvl_rank:
            body(coordinates, parent)
            return
        level = self.format.levels[l]
        if level.kind == "singleton":
            self._visit(l + 1, [*coordinates, self._coordinate(l, parent)], parent, body)
            return
        if level.has_positions:
            lower, upper = self._segment(l, parent)
        else:
            size = w.constant(level.n) if level.kind == "structured" else self.sizes[l]
            lower = w.mul(parent, size)
            upper = w.add(lower, size)
        with w.loop(lower, upper) as node:
            coordinate = self._coordinate(l, node) if level.is_sparse else w.sub(node, lower)
            self._visit(l + 1, [*coordinates, coordinate], node, body)


def linear(w: Writer, coordinates: list[Value], sizes: list[Value]) -> Value:
    """Returns the row-major place of coordinates in a space of these sizes."""
    place = coordinates[0] if coordinates else w.constant(0)
    for coordinate, size in zip(coordinates[1:], sizes[1:], strict=True):
        place = w.add(w.mul(place, size), coordinate)
    return place
