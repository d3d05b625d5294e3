"""Kernels that count and store what is kept of rows: the places below the last but one of a format's outer levels.

A row is cut into pieces, whose entries are counted; the sums of all counts before say where a piece stores its own.
Where elements of a row are neighbours in memory, a warp, or a part of one, has a piece, and reads 16 bytes a lane;
otherwise a thread has one, and its neighbours have the same piece of other rows.
"""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cache

from gossamer.conversion.cuda import scan
from gossamer.conversion.cuda.kernel import GpuKernel
from gossamer.conversion.cuda.writer import GpuWriter
from gossamer.conversion.writer import Array, Value

STEP = 8  # elements that a thread reads at a time


@dataclass(frozen=True)
class Shape:
    """How pieces of rows are read.

    Attributes:
        element: Of what decides: "i8", "i16", "i32" or "i64".
        rank: Number of levels before the last one, of which a row has coordinates.
        lanes: For each piece; 1 is a thread.
        vector: Elements that a lane reads at once.
        unroll: How often it does. A piece has lanes * vector * unroll elements, or as many as the host says (lanes 1).
        whole: Whether rows have no piece with less.
        zero: Whether an element is kept if any of its bits under the mask is set.
    """

    element: str
    rank: int
    lanes: int
    vector: int
    unroll: int
    whole: bool = False
    zero: bool = False

    @property
    def numbers(self) -> list[str]:
        """What the host tells a kernel: sizes and strides of levels, the test, and how rows are cut."""
        levels = range(self.rank + 1)
        names = ["rows", "pieces", "piece_size", "mask", "unkept", *(f"size{l}" for l in levels)]
        return [*names, *(f"stride{l}" for l in levels)]


class Piece:
    """The statements of one piece, in a parallel loop.

    Args:
        w: Where to write.
        shape: How it is read.
        places: Of the row and the piece, in the order of `begin`.
    """

    def __init__(self, w: GpuWriter, shape: Shape, places: list[Value]):
        self.w, self.shape = w, shape
        self.row, self.piece = places if shape.lanes > 1 else reversed(places)
        rank = shape.rank
        self.size = w.number(f"size{rank}")
        self.coordinates = w.split(self.row, [w.number(f"size{l}") for l in range(rank)])
        self.base = w.dot(self.coordinates, [w.number(f"stride{l}") for l in range(rank)])
        self.number = w.add(w.mul(self.row, w.number("pieces")), self.piece)
        self.first = w.mul(self.piece, w.number("piece_size"))
        self.mask, self.unkept = (w.bits_of_word(w.number(name), shape.element) for name in ("mask", "unkept"))
        if shape.zero:
            self.unkept = w.constant(0, shape.element)

    @staticmethod
    def sizes(w: GpuWriter, shape: Shape) -> list[Value]:
        """Of the parallel loop. What is beside one another in memory is read at the same time."""
        rows, pieces = w.number("rows"), w.number("pieces")
        return [rows, pieces] if shape.lanes > 1 else [pieces, rows]

    def read(self, lane: Value) -> "list[tuple[Value, Value, Value | None]]":
        """Returns, for every vector of a lane, where it begins, its elements, whether it is in the row (None: yes)."""
        w, shape = self.w, self.shape
        vectors = []
        last = w.sub(self.size, w.constant(shape.vector))
        for n in range(shape.unroll):
            place = w.mul(w.add(lane, w.constant(n * shape.lanes)), w.constant(shape.vector))
            at = w.add(self.first, place)
            if shape.whole:
                vectors.append((at, self._load(w.add(self.base, at)), None))
                continue
            inside = w.compare("slt", at, self.size)
            # Behind the end the last elements are read again: no branch, so that all reads are on their way at once.
            memory = w.add(self.base, w.min(at, last))
            vectors.append((at, self._load(memory), inside))
        return vectors

    def _load(self, at: Value) -> Value:
        w, shape = self.w, self.shape
        if shape.vector == 1:
            return w.load_bits("keep", at)
        return w.value(f"vector.load %keep[{at}] : {w.arrays['keep'].type}, vector<{shape.vector}x{shape.element}>")

    def elements(self, vector: Value) -> list[Value]:
        """Returns the elements of what was read."""
        w, shape = self.w, self.shape
        if shape.vector == 1:
            return [vector]
        type = f"vector<{shape.vector}x{shape.element}>"
        return [w.value(f"vector.extract {vector}[{n}] : {shape.element} from {type}") for n in range(shape.vector)]

    def kept(self, element: Value, inside: Value | None) -> Value:
        """Returns whether an element is kept (i1)."""
        w, type = self.w, self.shape.element
        kept = w.compare("ne", w.binary("andi", element, self.mask, type), self.unkept, type)
        return kept if inside is None else w.both(kept, inside)

    def walk(self, place: Value, upper: Value) -> "list[tuple[Value, Value, Value]]":
        """Returns the same as `read` for the elements from `place` that a thread reads at a time."""
        w = self.w
        stride, one = w.number(f"stride{self.shape.rank}"), w.constant(1)
        last = w.sub(upper, one)
        found = []
        for n in range(STEP):
            at = w.add(place, w.constant(n))
            memory = w.add(self.base, w.mul(w.min(at, last), stride))
            found.append((at, w.load_bits("keep", memory), w.compare("slt", at, upper)))
        return found

    @property
    def end(self) -> Value:
        """Where a thread's piece ends."""
        return self.w.min(self.w.add(self.first, self.w.number("piece_size")), self.size)


@cache
def counter(shape: Shape, scanned: str | None) -> GpuKernel:
    """The kernel that counts what is kept of every piece: arrays `keep` and `counts`, [rows, pieces] (i32).

    If these are to be `scanned`, it is followed by those that sum them; the width of `begins` is given.
    """
    own = scan.arrays(scanned) if scanned else [Array("counts", "i32")]
    w = GpuWriter([*shape.numbers, *(scan.NUMBERS if scanned else ())], [Array("keep", shape.element), *own])
    with w.parallel(*Piece.sizes(w, shape)) as places:
        piece = Piece(w, shape, places)

        def count(lane: Value) -> Value:
            total = w.constant(0, "i32")
            for _, vector, inside in piece.read(lane):
                for element in piece.elements(vector):
                    total = w.binary("addi", total, w.counted(piece.kept(element, inside)), "i32")
            return total

        def count_step(place: Value, total: Value) -> Value:
            for _, element, inside in piece.walk(place, upper):
                total = w.add(total, w.counted(piece.kept(element, inside), "index"))
            return total

        if shape.lanes > 1:
            total = w.reduce_lanes(shape.lanes, w.constant(shape.lanes), "addi", "i32", count)
            w.store_bits("counts", piece.number, total)
        else:
            upper = piece.end
            w.store("counts", piece.number, w.fold(piece.first, upper, STEP, w.constant(0), count_step))
    if scanned:
        scan.write_scan(w)
    return GpuKernel(w.module())


@dataclass(frozen=True)
class Fill:
    """What is stored of every entry that is kept.

    Attributes:
        begins: The width of `begins`: "i32" or "i64".
        what: Of what `begins` says where it begins, "chunk" (`scan`) or "piece"; or where it ends, "end" of a piece.
        index: The width of positions and coordinates.
        positions: Whether positions are written: one for every `inner` rows, a number of the host.
        chain: The levels before the last one whose coordinates are stored.
        values: The width of values: None if there are none, the element if they are what decides.
        source: Whether values come from another array than what decides, with strides of its own.
        places: Whether the place of every entry in the space of all levels is wanted.
    """

    begins: str
    what: str
    index: str
    positions: bool
    chain: tuple[int, ...]
    values: str | None
    source: bool
    places: bool

    def arrays(self, shape: Shape) -> list[Array]:
        """The arrays of the kernel, in order."""
        arrays = [Array("keep", shape.element), Array("begins", self.begins)]
        arrays += [Array("within", "i32")] if self.what == "chunk" else []
        arrays += [Array("pos", self.index)] if self.positions else []
        arrays += [Array(f"crd{l}", self.index) for l in (*self.chain, shape.rank)]
        arrays += [Array("source", self.values or "")] if self.source else []
        arrays += [Array("values", self.values)] if self.values else []
        return [*arrays, *([Array("places", "i64")] if self.places else [])]

    def numbers(self, shape: Shape) -> list[str]:
        """What the host tells the kernel."""
        strides = [f"source_stride{l}" for l in range(shape.rank + 1)] if self.source else []
        scanned = ["chunks", "capacity"] if self.what == "chunk" else []
        return [*shape.numbers, *scanned, *(["inner"] if self.positions else []), *strides]


@cache
def filler(shape: Shape, fill: Fill) -> GpuKernel:
    """The kernel that stores what is kept of every piece, from where `begins` says."""
    w = GpuWriter(fill.numbers(shape), fill.arrays(shape))
    with w.parallel(*Piece.sizes(w, shape)) as places:
        # What was counted last is still in the cache: it is the first to be read again.
        last = [w.sub(size, w.constant(1)) for size in Piece.sizes(w, shape)]
        piece = Piece(w, shape, [w.sub(end, place) for end, place in zip(last, places, strict=True)])
        begin = _begin(w, fill, piece.number)
        if fill.positions:
            _write_positions(w, piece, fill, w.as_index(begin, fill.begins))
        writer = _EntryWriter(w, piece, fill)
        room = w.when(scan.fits(w)) if fill.what == "chunk" else nullcontext()
        if shape.lanes > 1:
            with w.lanes(shape.lanes) as lane:
                _fill_lane(w, piece, lane, begin, writer, room)
        else:
            upper = piece.end

            def step(place: Value, node: Value) -> Value:
                for at, element, inside in piece.walk(place, upper):
                    kept = piece.kept(element, inside)
                    writer.write(kept, node, at, element)
                    node = w.add(node, w.counted(kept, "index"))
                return node

            with room:
                w.fold(piece.first, upper, STEP, w.as_index(begin, fill.begins), step)
    return GpuKernel(w.module())


def _fill_lane(
    w: GpuWriter,
    piece: Piece,
    lane: Value,
    begin: Value,
    writer: "_EntryWriter",
    room: AbstractContextManager[None],
) -> None:
    shape, width = piece.shape, writer.fill.begins
    vectors = piece.read(lane)
    elements = [piece.elements(vector) for _, vector, _ in vectors]
    kept = [
        [piece.kept(element, inside) for element in those]
        for those, (_, _, inside) in zip(elements, vectors, strict=True)
    ]
    prefixes = _prefixes(w, kept, shape)
    with room:
        for (at, _, _), those, conditions, (before, total) in zip(vectors, elements, kept, prefixes, strict=True):
            node = w.binary("addi", begin, w.widened(before, width), width)
            for n, (condition, element) in enumerate(zip(conditions, those, strict=True)):
                writer.write(condition, w.as_index(node, width), w.add(at, w.constant(n)), element)
                node = w.binary("addi", node, w.counted(condition, width), width)
            begin = w.binary("addi", begin, w.widened(total, width), width)


def _prefixes(w: GpuWriter, kept: list[list[Value]], shape: Shape) -> list[tuple[Value, Value]]:
    """For every vector how many are kept in the lanes before, and in all lanes (i32).

    Several are summed at once, each in some bits of a number.
    """
    bits = next((bits for bits in (8, 16) if shape.lanes * shape.vector < 1 << bits), 32)
    together = 32 // bits
    found = []
    for first in range(0, len(kept), together):
        group = kept[first : first + together]
        packed = w.constant(0, "i32")
        for n, conditions in enumerate(group):
            one = w.constant(1 << bits * n, "i32")
            for condition in conditions:
                more = w.select(condition, one, w.constant(0, "i32"), "i32")
                packed = w.binary("addi", packed, more, "i32")
        sums = w.lane_prefix(packed)
        for n in range(len(group)):
            parts = [w.binary("shrui", both, w.constant(bits * n, "i32"), "i32") for both in sums]
            mask = w.constant((1 << bits) - 1 if bits < 32 else -1, "i32")
            before, total = (w.binary("andi", part, mask, "i32") for part in parts)
            found.append((before, total))
    return found


def _begin(w: GpuWriter, fill: Fill, number: Value) -> Value:
    """Where a piece begins, of the width of `begins`."""
    if fill.what == "chunk":
        return scan.begin_of(w, number, fill.begins)
    if fill.what == "piece":
        return w.load_bits("begins", number)
    zero = w.constant(0)
    before = w.value(f"arith.maxsi {w.sub(number, w.constant(1))}, {zero} : index")
    is_first, nothing = w.compare("eq", number, zero), w.constant(0, fill.begins)
    return w.select(is_first, nothing, w.load_bits("begins", before), fill.begins)


def _write_positions(w: GpuWriter, piece: Piece, fill: Fill, begin: Value) -> None:
    inner, zero, one = w.number("inner"), w.constant(0), w.constant(1)
    is_first = w.both(
        w.compare("eq", piece.piece, zero),
        w.compare("eq", w.rem(piece.row, inner), zero),
    )
    with w.when(is_first):
        w.store("pos", w.div(piece.row, inner), begin)
    rows = w.number("rows")
    last = w.sub(w.mul(rows, w.number("pieces")), one)
    with w.when(w.compare("eq", piece.number, last)):
        w.store("pos", w.div(rows, inner), w.load("begins", w.number("chunks") if fill.what == "chunk" else last))


class _EntryWriter:
    """Writes the statements for one element of a piece."""

    def __init__(self, w: GpuWriter, piece: Piece, fill: Fill):
        self.w, self.piece, self.fill = w, piece, fill
        rank = piece.shape.rank
        if fill.source:
            strides = [w.number(f"source_stride{l}") for l in range(rank + 1)]
            self.source_base, self.source_stride = w.dot(piece.coordinates, strides[:-1]), strides[-1]
        if fill.places:
            self.row_place = w.mul(piece.row, piece.size)

    def write(self, kept: Value, node: Value, at: Value, element: Value) -> None:
        """If it is kept, it becomes this node; `at` is its place in the row."""
        w, fill = self.w, self.fill
        with w.when(kept):
            for l in fill.chain:
                w.store(f"crd{l}", node, self.piece.coordinates[l])
            w.store(f"crd{self.piece.shape.rank}", node, at)
            if fill.source:
                element = w.load_bits("source", w.add(self.source_base, w.mul(at, self.source_stride)))
            if fill.values:
                w.store_bits("values", node, element)
            if fill.places:
                w.store("places", node, w.add(self.row_place, at))
