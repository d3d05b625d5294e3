"""From a flat array, an element for each place in the space of a format's outer levels, to a pattern."""

import math
from collections.abc import Sequence
from functools import cache, lru_cache

import torch
from torch import Tensor

from gossamer.conversion.kernel import Kernel, count_parts
from gossamer.conversion.nodes import NodeWriter, Outline
from gossamer.conversion.writer import Array, InParts, Value, Writer, module, part_range
from gossamer.coordinates import unravel
from gossamer.errors import TensorError
from gossamer.formats import Format

_WORD = 64
_INT32_MAX = 2**31 - 1
_STEP, _PARTS, _TOTAL, _MASK, _UNKEPT, _SIZES = range(6)


def kept_bits(dtype: torch.dtype, fill: float) -> tuple[int, int]:
    """Returns (mask, bits): an element is kept unless its bits under the mask are these.

    So a zero is dropped whatever its sign, a NaN is kept, and one kernel serves all dtypes of a size.
    """
    width = dtype.itemsize * 8
    every = -1
    if fill != fill:
        return 0, 1  # nothing equals a NaN
    if fill == 0:
        parts = 2 if dtype.is_complex else 1 if dtype.is_floating_point else 0
        sign = sum(1 << (width // parts * (n + 1) - 1) for n in range(parts))
        return _signed(every & ~sign, width), 0
    return every, int(torch.tensor(fill, dtype=dtype).view(_BITS[dtype.itemsize]))


_BITS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def _signed(number: int, width: int) -> int:
    number &= (1 << width) - 1
    return number - (1 << width) if number >> (width - 1) else number


def bits_of(tensor: Tensor) -> Tensor:
    """Returns a tensor as integers of its size."""
    return tensor.view(_BITS[tensor.element_size()])


@lru_cache(maxsize=256)
def fill_bits(dtype: torch.dtype, fill: float) -> int:
    """Returns a number of some dtype as the integer of its bits."""
    return int(bits_of(torch.tensor([fill], dtype=dtype))[0])


class KeptElement:
    """The test of an element of array `keep`, by the numbers in `numbers`."""

    def __init__(self, w: Writer):
        self.w = w
        self.element = w.arrays["keep"].element
        self.mask, self.unkept = self._number(_MASK), self._number(_UNKEPT)

    def _number(self, at: int) -> Value:
        word = self.w.load_bits("numbers", self.w.constant(at))
        return word if self.element == "i64" else self.w.value(f"arith.trunci {word} : i64 to {self.element}")

    def kept(self, at: Value) -> Value:
        """Returns whether one element is kept (i1)."""
        element = self.w.binary("andi", self.w.load_bits("keep", at), self.mask, self.element)
        return self.w.compare("ne", element, self.unkept, self.element)


class KeptWords(KeptElement):
    """The elements of array `keep` that a part is to keep, 64 at a time.

    Args:
        w: Where to write, at the beginning of a function.
        total: How many elements there are: 64 at least.
    """

    def __init__(self, w: Writer, total: Value):
        super().__init__(w)
        self.total = total
        self.vector = f"vector<{_WORD}x{self.element}>"
        self.masks, self.unkepts = (
            w.value(f"vector.broadcast {value} : {self.element} to {self.vector}") for value in (self.mask, self.unkept)
        )
        self.word = w.variable(w.constant(0, "i64"), "i64")

    def read(self, begin: Value) -> None:
        """Sets `word`: bit n says whether element begin + n is kept."""
        w = self.w
        # The last word is read in one piece too, of elements before it, which are shifted out.
        at = w.min(begin, w.sub(self.total, w.constant(_WORD)))
        elements = w.value(f"vector.load %keep[{at}] : {w.arrays['keep'].type}, {self.vector}")
        masked = w.binary("andi", elements, self.masks, self.vector)
        kept = w.compare("ne", masked, self.unkepts, self.vector)
        packed = w.value(f"vector.bitcast {kept} : vector<{_WORD}xi1> to vector<1xi64>")
        word = w.value(f"vector.extract {packed}[0] : i64 from vector<1xi64>")
        before = w.value(f"arith.index_cast {w.sub(begin, at)} : index to i64")
        self.word.set(w.binary("shrui", word, before, "i64"))

    def some(self) -> Value:
        """Returns whether the word has a bit that is set (i1)."""
        return self.w.compare("ne", self.word.get(), self.w.constant(0, "i64"), "i64")

    def take_first(self) -> Value:
        """Returns the number of the first bit that is set, and clears it."""
        w, word = self.w, self.word.get()
        first = w.value(f"arith.index_castui {w.value(f'math.cttz {word} : i64')} : i64 to index")
        less = w.binary("subi", word, w.constant(1, "i64"), "i64")
        self.word.set(w.binary("andi", word, less, "i64"))
        return first


def _count(w: Writer, part: Value, outline: Outline) -> None:
    total = w.load("numbers", w.constant(_TOTAL))
    nodes = NodeWriter(w, outline, part, _SIZES, stores=False)
    words = KeptWords(w, total)
    lower, upper = part_range(w, part, total, _WORD)
    with w.loop(lower, upper, _WORD) as begin:
        words.read(begin)
        if len(outline.segments) > 1:
            with w.loop_while(words.some):
                nodes.entry(w.add(begin, words.take_first()))
        else:
            with w.when(words.some()):
                word = words.word.get()
                high, set_bits = (
                    w.value(f"arith.index_castui {w.value(f'math.{name} {word} : i64')} : i64 to index")
                    for name in ("ctlz", "ctpop")
                )
                nodes.nodes[0].add(set_bits)
                nodes.last.set(w.sub(w.add(begin, w.constant(_WORD - 1)), high))
                nodes.first.set(w.value(f"arith.maxsi {nodes.first.get()}, {w.constant(0)} : index"))
    nodes.finish()


def _fill(w: Writer, part: Value, outline: Outline) -> None:
    total = w.load("numbers", w.constant(_TOTAL))
    nodes = NodeWriter(w, outline, part, _SIZES, stores=True)
    words = KeptWords(w, total)

    def write(node: Value) -> None:
        if "values" in w.arrays:
            w.store_bits("values", node, w.load_bits("source", entry))
        if "slots" in w.arrays:
            w.store("slots", entry, node)

    lower, upper = part_range(w, part, total, _WORD)
    with w.loop(lower, upper, _WORD) as begin:
        words.read(begin)
        with w.loop_while(words.some):
            entry = w.add(begin, words.take_first())
            nodes.entry(entry, write)
    nodes.finish()


@cache
def _kernel(outline: Outline, index: str, keep: str, values: str | None, slots: bool) -> Kernel:
    arrays = [Array("numbers", "i64"), Array("keep", keep), *outline.arrays(index)]
    if values:
        arrays += [Array("source", values), Array("values", values)]
    if slots:
        arrays += [Array("slots", "i64")]
    steps = [[InParts(lambda w, part: _count(w, part, outline))], [InParts(lambda w, part: _fill(w, part, outline))]]
    return Kernel(module(arrays, steps))


def index_dtype_for(largest: int, wanted: torch.dtype | None) -> torch.dtype:
    """Returns int32, or int64 if that is wanted or needed for numbers up to `largest`."""
    return torch.int64 if wanted == torch.int64 or largest > _INT32_MAX else torch.int32


def _padded(keep: Tensor, test: tuple[int, int]) -> Tensor:
    """A whole word of what to keep."""
    padded = torch.zeros(_WORD, dtype=torch.int8)
    padded[: keep.numel()] = (keep & test[0]) != test[1]
    return padded


Levels = tuple[list[Tensor | None], list[Tensor | None], int]


def allocate(outline: Outline, counts: Sequence[int], sizes: Sequence[int], index: torch.dtype) -> Levels:
    """Returns empty positions and coordinates for the levels of an outline, and the number of nodes of its last one."""
    positions: list[Tensor | None] = [None] * outline.outer
    coordinates: list[Tensor | None] = [None] * outline.outer
    above = 1
    for segment, count in zip(outline.segments, counts, strict=True):
        parents = above * math.prod(sizes[segment.first : segment.chain])
        positions[segment.chain] = torch.empty(parents + 1, dtype=index)
        for l in range(segment.chain, segment.end):
            coordinates[l] = torch.empty(count, dtype=index)
        above = count
    return positions, coordinates, above


def width_of(index: torch.dtype) -> str:
    """Returns how MLIR calls an index dtype."""
    return "i64" if index == torch.int64 else "i32"


def compress_flat(
    keep: Tensor,
    test: tuple[int, int],
    outline: Outline,
    sizes: Sequence[int],
    *,
    source: Tensor | None = None,
    slots: bool = False,
    index_dtype: torch.dtype | None = None,
) -> tuple[Levels, Tensor | None, Tensor | None]:
    """Stores what is kept of a flat array.

    Args:
        keep: What decides: an element for each place in the space of the levels, contiguous.
        test: Which of its elements are kept, as `kept_bits` says it.
        outline: The levels.
        sizes: Their sizes.
        source: Values to go with the nodes, of the places of `keep`.
        slots: Whether the node of every place that is kept is wanted.
        index_dtype: torch.int32 or torch.int64, widened where it is too small; None takes int32 where it is enough.

    Returns:
        The levels; the values; int64 of the size of `keep` with the node of each place that is kept.
    """
    sizes = list(sizes[: outline.outer])
    keep = bits_of(keep).reshape(-1)
    if keep.numel() < _WORD:
        keep, test = _padded(keep, test), (-1, 0)
    total = keep.numel()
    parts = count_parts(total)
    numbers = [0, parts, total, *test, *sizes]
    state = torch.empty(parts, outline.state_size, dtype=torch.int64)
    none = torch.empty(0, dtype=torch.int64)
    index = index_dtype_for(max(1, *sizes), index_dtype)
    element = f"i{keep.element_size() * 8}"
    value_bits = None if source is None else bits_of(source).reshape(-1)
    value_element = None if value_bits is None else f"i{value_bits.element_size() * 8}"
    kernel = _kernel(outline, width_of(index), element, value_element, slots)
    unused = [none] * (len(outline.positions) + len(outline.coordinates))
    extra = [none] * (2 * (value_bits is not None) + slots)
    kernel(numbers, keep, *unused, state, *extra)
    begins, counts = outline.node_counts(state.tolist(), sizes)
    if index_dtype_for(max(1, *counts), index_dtype) != index:
        index = torch.int64
        kernel = _kernel(outline, width_of(index), element, value_element, slots)
    levels = allocate(outline, counts, sizes, index)
    values = None if value_bits is None else torch.empty(levels[2], dtype=value_bits.dtype)
    places = torch.empty(total, dtype=torch.int64) if slots else None
    extra = [a for a in (value_bits, values, places) if a is not None]
    arrays = [a for a in (*levels[0], *levels[1]) if a is not None]
    kernel([1, *numbers[1:]], keep, *arrays, torch.tensor(begins), *extra)
    if values is not None and source is not None:
        values = values.view(source.dtype)
    return levels, values, places


def structure_flat(
    keep: Tensor,
    test: tuple[int, int],
    format: Format,
    sizes: Sequence[int],
    source: Tensor | None,
    fill: float,
    slots: bool,
    index_dtype: torch.dtype | None,
) -> tuple[Levels, Tensor | None, Tensor | None]:
    """Does what `compress_flat` does for a format that keeps n of every m.

    Groups with less are filled up with the first coordinates that are free, and the fill.

    Raises:
        TensorError: A group has more.
    """
    level = format.levels[format.outer - 1]
    keep = bits_of(keep).reshape(-1)
    groups = keep.numel() // level.m
    parts = count_parts(keep.numel())
    index = index_dtype_for(max([groups * level.n, *sizes]), index_dtype)
    coordinates = torch.empty(groups * level.n, dtype=index)
    most = torch.empty(parts, dtype=torch.int64)
    places = torch.empty(keep.numel() if slots else 0, dtype=torch.int64)
    bits = torch.empty(0, dtype=torch.int8) if source is None else bits_of(source).reshape(-1)
    values = torch.empty(coordinates.numel() if source is not None else 0, dtype=bits.dtype)
    fill_bits = 0 if source is None else int(bits_of(torch.tensor([fill], dtype=source.dtype))[0])
    elements = tuple(f"i{a.element_size() * 8}" for a in (keep, bits))
    kernel = _structurer(level.n, level.m, width_of(coordinates.dtype), *elements, source is not None, slots)
    kernel([0, parts, groups, *test, fill_bits], keep, coordinates, most, bits, values, places)
    if int(most.max()) > level.n:
        raise too_many(keep, test, format, sizes)
    rest: list[Tensor | None] = [None] * format.outer
    levels = rest, [*rest[1:], coordinates], coordinates.numel()
    return levels, None if source is None else values.view(source.dtype), places if slots else None


def too_many(keep: Tensor, test: tuple[int, int], format: Format, sizes: Sequence[int]) -> TensorError:
    """Returns what to say of a group that has more than its format, which keeps n of every m, holds."""
    level = format.levels[format.outer - 1]
    counts = ((keep & test[0]) != test[1]).view(-1, level.m).sum(1)
    group = int((counts > level.n).nonzero()[0, 0])
    at = [int(c) for c in unravel(torch.tensor(group), sizes[: format.outer - 1])]
    return TensorError(
        f"{int(counts[group])} of {level.m} entries are stored in group {at} of {format}, which holds {level.n}; "
        f"prune first, with sparsify(..., by=gs.magnitude({level.n}/{level.m}))"
    )


@cache
def _structurer(n: int, m: int, index: str, keep: str, values: str, has_values: bool, slots: bool) -> Kernel:
    def write(w: Writer, part: Value) -> None:
        zero, one, limit = w.constant(0), w.constant(1), w.constant(n)
        tested = KeptElement(w)
        most, count, free, node = (w.variable(zero) for _ in range(4))
        fill = w.load_bits("numbers", w.constant(_SIZES))
        fill = fill if values == "i64" else w.value(f"arith.trunci {fill} : i64 to {values}")
        lower, upper = part_range(w, part, w.load("numbers", w.constant(_TOTAL)))
        with w.loop(lower, upper) as group:
            first = w.mul(group, w.constant(m))
            count.set(zero)
            with w.loop(zero, w.constant(m)) as j:
                kept = tested.kept(w.add(first, j))
                count.add(w.value(f"arith.index_castui {kept} : i1 to index"))
            most.set(w.value(f"arith.maxsi {most.get()}, {count.get()} : index"))
            free.set(w.sub(limit, count.get()))
            node.set(w.mul(group, limit))
            with w.when(w.compare("sge", free.get(), zero)), w.loop(zero, w.constant(m)) as j:
                place = w.add(first, j)
                kept = tested.kept(place)
                taken = w.binary("ori", kept, w.compare("sgt", free.get(), zero), "i1")
                with w.when(taken):
                    w.store("crd", node.get(), j)
                    if has_values:
                        value = w.value(f"arith.select {kept}, {w.load_bits('source', place)}, {fill} : {values}")
                        w.store_bits("values", node.get(), value)
                    with w.when(kept):
                        if slots:
                            w.store("slots", place, node.get())
                    with w.otherwise():
                        free.set(w.sub(free.get(), one))
                    node.add(one)
        w.store("most", part, most.get())

    arrays = [Array("numbers", "i64"), Array("keep", keep), Array("crd", index), Array("most", "i64")]
    arrays += [Array("source", values), Array("values", values), Array("slots", "i64")]
    return Kernel(module(arrays, [[InParts(write)]]))


def pad_rows(levels: Levels, l: int, index_dtype: torch.dtype | None) -> tuple[Levels, Tensor]:
    """Gives every parent at the last level with positions, l, the same room: (begin, end) pairs for positions.

    Returns:
        The levels, and where each of their nodes is now: int64.
    """
    positions, coordinates, nodes = levels
    ends, chain = positions[l], [array for array in coordinates[l:] if array is not None]
    assert ends is not None
    parents = ends.numel() - 1
    room = int(ends.diff().max()) if parents else 0
    index = index_dtype_for(parents * room, index_dtype if index_dtype else ends.dtype)
    pairs = torch.empty(2 * parents, dtype=index)
    padded = [torch.empty(parents * room, dtype=index) for _ in chain]
    moved = torch.empty(nodes, dtype=torch.int64)
    kernel = _padder(len(chain), width_of(ends.dtype), width_of(index))
    kernel([0, count_parts(parents * room), parents, room], ends, *chain, pairs, *padded, moved)
    new = [*positions[:l], pairs, *positions[l + 1 :]], [*coordinates[:l], *padded], parents * room
    return new, moved


@cache
def _padder(chain: int, old: str, new: str) -> Kernel:
    def write(w: Writer, part: Value) -> None:
        zero = w.constant(0)
        parents, room = w.load("numbers", w.constant(2)), w.load("numbers", w.constant(3))
        lower, upper = part_range(w, part, parents)
        with w.loop(lower, upper) as parent:
            begin, end = w.load("ends", parent), w.load("ends", w.add(parent, w.constant(1)))
            slot = w.mul(parent, room)
            used = w.sub(end, begin)
            pair = w.mul(parent, w.constant(2))
            w.store("pairs", pair, slot)
            w.store("pairs", w.add(pair, w.constant(1)), w.add(slot, used))
            with w.loop(zero, used) as i:
                for c in range(chain):
                    w.store(f"new{c}", w.add(slot, i), w.load(f"old{c}", w.add(begin, i)))
                w.store("moved", w.add(begin, i), w.add(slot, i))
            with w.loop(used, room) as i:
                for c in range(chain):
                    w.store(f"new{c}", w.add(slot, i), zero)

    arrays = [Array("numbers", "i64"), Array("ends", old), *(Array(f"old{c}", old) for c in range(chain))]
    arrays += [Array("pairs", new), *(Array(f"new{c}", new) for c in range(chain)), Array("moved", "i64")]
    return Kernel(module(arrays, [[InParts(write)]]))
