"""The levels of a format written node by node, in order.

Up to its last sparse level, a format is a sequence of segments: dense levels, and then a chain, which is a compressed
level with the singletons after it. A node of a segment is a distinct beginning of the coordinates, up to its chain. A
writer goes through sorted entries: each one is a new node of the last segment, and of the others where the coordinates
above have changed. Positions of a chain are written when its parent changes, those of parents in between (with no
children) too.

Parts of the entries are written in parallel, so everything is done twice: once only to count nodes, and once from where
the counts of the parts before say that a part begins.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from gossamer.conversion.writer import Array, Value, Writer
from gossamer.formats import Format


@dataclass(frozen=True)
class Segment:
    """Levels `first`, ..., `chain - 1` are dense, `chain`, ..., `end - 1` the chain."""

    first: int
    chain: int
    end: int


@dataclass(frozen=True)
class Outline:
    """What of a format matters to the writer: its segments.

    Attributes:
        segments: At least one; the last ends with the last sparse level.
    """

    segments: tuple[Segment, ...]

    @classmethod
    @lru_cache(maxsize=4096)
    def of(cls, format: Format) -> "Outline | None":
        """Returns the outline of a format without batch levels; None if it has levels of other kinds."""
        segments, first, l = [], 0, 0
        while l < format.outer:
            kind = format.levels[l].kind
            if kind == "dense":
                l += 1
                continue
            if kind != "compressed":
                return None
            end = l + 1
            while end < format.outer and format.levels[end].kind == "singleton":
                end += 1
            segments.append(Segment(first, l, end))
            first = l = end
        return cls(tuple(segments)) if segments else None

    @property
    def outer(self) -> int:
        """Number of levels."""
        return self.segments[-1].end

    @property
    def positions(self) -> list[int]:
        """The levels with positions."""
        return [segment.chain for segment in self.segments]

    @property
    def coordinates(self) -> list[int]:
        """The levels with coordinates."""
        return [l for segment in self.segments for l in range(segment.chain, segment.end)]

    @property
    def state_size(self) -> int:
        """Numbers that a part is described by: nodes of every segment, first and last entry."""
        return len(self.segments) + 2

    def arrays(self, index: str) -> list[Array]:
        """Returns the arguments that a kernel writes the levels to: `pos<l>` and `crd<l>`, and `state`."""
        names = [f"pos{l}" for l in self.positions] + [f"crd{l}" for l in self.coordinates]
        return [*(Array(name, index) for name in names), Array("state", "i64")]

    def node_counts(self, state: Sequence[Sequence[int]], sizes: Sequence[int]) -> tuple[list[list[int]], list[int]]:
        """Adds up what the parts counted.

        Args:
            state: What the counting step left of every part: nodes of each segment, first and last entry (-1: none).
            sizes: Of the levels.

        Returns:
            For every part what the writing step begins with: nodes before it, an unused number, and the last entry
            before it; and all nodes of each segment.
        """
        totals, last, begins = [0] * len(self.segments), -1, []
        for *counts, first, own_last in state:
            begins.append([*totals, 0, last])
            if first < 0:
                continue
            for n, segment in enumerate(self.segments):
                below = _product(sizes[segment.end : self.outer])
                shared = last >= 0 and first // below == last // below
                totals[n] += counts[n] - (shared and n + 1 < len(self.segments))
            last = own_last
        return begins, totals


def _product(sizes: Sequence[int]) -> int:
    result = 1
    for size in sizes:
        result *= size
    return result


class NodeWriter:
    """Writes statements for the entries of one part, to be called in their order.

    Args:
        w: Where to; at the beginning of a function.
        outline: The format.
        part: The part.
        sizes_at: Where in `numbers` the sizes of the levels are.
        stores: Whether to store nodes, or to count them only.
    """

    def __init__(self, w: Writer, outline: Outline, part: Value, sizes_at: int, stores: bool):
        self.w, self.outline, self.stores = w, outline, stores
        self.part = part
        self.sizes = [w.load("numbers", w.constant(sizes_at + l)) for l in range(outline.outer)]
        self.zero, self.one, self.none = w.constant(0), w.constant(1), w.constant(-1)
        # For every level how many entries are below one of its places.
        self._spaces = [self.one]
        for size in reversed(self.sizes[1:]):
            self._spaces.insert(0, w.mul(self._spaces[0], size))
        self._state = w.mul(part, w.constant(outline.state_size))
        last = outline.segments[-1]
        self.nodes = [w.variable(self._begin(n) if stores else self.zero) for n in range(len(outline.segments))]
        self.last = w.variable(self._begin(len(outline.segments) + 1) if stores else self.none)
        self.first = w.variable(self.none)
        # Entries below this one are in the same row, which begins at the other.
        self.row_end, self.row_begin = w.variable(self.zero), w.variable(self.zero)
        self.chain = [w.variable(self.zero) for _ in range(last.chain, last.end - 1)]
        # For all segments but the last the node that entries are in now, by its place in the space of its levels.
        self.places = [w.variable(self.none) for _ in outline.segments[:-1]]
        self.parents = [w.variable(self.none) for _ in outline.segments] if stores else []
        if stores:
            with w.when(w.compare("sge", self.last.get(), self.zero)):
                self._resume()

    def _begin(self, number: int) -> Value:
        return self.w.load("state", self.w.add(self._state, self.w.constant(number)))

    def _quotients(self, entry: Value) -> list[Value]:
        """For every level but the last the place of an entry in the space of the levels up to it."""
        return [self.w.div(entry, space) for space in self._spaces[:-1]]

    def _parent(self, n: int, quotients: list[Value]) -> Value:
        """The number of the parent of a node of segment n, among all that have a segment of their own."""
        w, segment = self.w, self.outline.segments[n]
        if n == 0:
            return quotients[segment.chain - 1] if segment.chain else self.zero
        above = w.sub(self.nodes[n - 1].get(), self.one)
        if segment.chain == segment.first:
            return above
        size = self._size(segment)
        return w.add(w.mul(above, size), w.rem(quotients[segment.chain - 1], size))

    def _size(self, segment: Segment) -> Value:
        size = self.one
        for l in range(segment.first, segment.chain):
            size = self.w.mul(size, self.sizes[l])
        return size

    def _resume(self) -> None:
        """The state after the last entry of the parts before."""
        quotients = self._quotients(self.last.get())
        for n, segment in enumerate(self.outline.segments):
            self.parents[n].set(self._parent(n, quotients))
            if n < len(self.places):
                self.places[n].set(quotients[segment.end - 1])

    def entry(self, entry: Value, write: Callable[[Value], None] = lambda node: None) -> None:
        """Statements for an entry, given by its place in the space of all levels; `write` adds some, given its node."""
        w = self.w
        with w.when(w.compare("sge", entry, self.row_end.get())):
            self._row(entry)
        leaf, node = self.outline.segments[-1], self.nodes[-1].get()
        if self.stores:
            for l, coordinate in zip(range(leaf.chain, leaf.end - 1), self.chain, strict=True):
                w.store(f"crd{l}", node, coordinate.get())
            w.store(f"crd{leaf.end - 1}", node, w.sub(entry, self.row_begin.get()))
            write(node)
        else:
            with w.when(w.compare("slt", self.first.get(), self.zero)):
                self.first.set(entry)
            self.last.set(entry)
        self.nodes[-1].set(w.add(node, self.one))

    def _row(self, entry: Value) -> None:
        """The coordinates of an entry have changed in another level than the last one."""
        w, segments = self.w, self.outline.segments
        quotients = self._quotients(entry)
        begin = w.mul(quotients[-1], self.sizes[-1]) if quotients else self.zero
        self.row_begin.set(begin)
        self.row_end.set(w.add(begin, self.sizes[-1]))
        for n, place in enumerate(self.places):
            new = quotients[segments[n].end - 1]
            with w.when(w.compare("ne", new, place.get())):
                place.set(new)
                if self.stores:
                    self._advance(n, self._parent(n, quotients))
                    for l in range(segments[n].chain, segments[n].end):
                        w.store(f"crd{l}", self.nodes[n].get(), self._coordinate(l, quotients))
                self.nodes[n].add(self.one)
        if self.stores:
            self._advance(len(segments) - 1, self._parent(len(segments) - 1, quotients))
            for l, variable in zip(range(segments[-1].chain, segments[-1].end - 1), self.chain, strict=True):
                variable.set(self._coordinate(l, quotients))

    def _coordinate(self, l: int, quotients: list[Value]) -> Value:
        return self.w.rem(quotients[l], self.sizes[l]) if l else quotients[0]

    def _advance(self, n: int, parent: Value) -> None:
        """Positions up to the beginning of `parent`."""
        w = self.w
        with w.loop(w.add(self.parents[n].get(), self.one), w.add(parent, self.one)) as p:
            w.store(f"pos{self.outline.segments[n].chain}", p, self.nodes[n].get())
        self.parents[n].set(parent)

    def finish(self) -> None:
        """Statements after the last entry."""
        w = self.w
        if not self.stores:
            for number, variable in enumerate([*self.nodes, self.first, self.last]):
                w.store("state", w.add(self._state, w.constant(number)), variable.get())
            return
        parts = w.load("numbers", self.one)
        with w.when(w.compare("eq", w.add(self.part, self.one), parts)):
            for n, segment in enumerate(self.outline.segments):
                above = self.nodes[n - 1].get() if n else self.one
                self._advance(n, w.mul(above, self._size(segment)))
