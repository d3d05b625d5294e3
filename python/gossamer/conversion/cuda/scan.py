"""How much is kept before every place: counts are summed by two kernels, launched with the one that counts.

Places are cut into chunks. A warp sums a chunk, and says for each of its places what is kept before it in the chunk;
then one warp says what is kept before every chunk, and in all.
"""

import torch
from torch import Tensor

from gossamer.conversion.cuda.writer import WARP, GpuWriter
from gossamer.conversion.flat import width_of
from gossamer.conversion.writer import Array, Value
from gossamer.runtime.allocation import empty

CHUNK = 512  # places, of which every lane has neighbours
_VECTOR = 4  # that are read at once
_TOGETHER = 4  # chunks that a lane of the last warp takes at a time
_HALF = 16  # bits
_ALIGNMENT = 16

NUMBERS = ["places", "padded", "chunks"]
ARRAYS = ["counts", "within", "totals", "begins", "total"]


class Scan:
    """The memory of what is counted at so many places, and of its sums.

    Args:
        places: How many there are, at least one.
        wide: Whether more may be kept than 32 bits can count. Of a chunk, they can always: there is no memory for more.

    Attributes:
        numbers: Of `NUMBERS`.
        chunks: How many there are.
        width: Of what is kept before a chunk: "i32" or "i64".
    """

    def __init__(self, places: int, wide: bool):
        padded = places + -places % _VECTOR
        self.chunks = -(-places // CHUNK)
        self.numbers = [places, padded, self.chunks]
        index = torch.int64 if wide else torch.int32
        self.width = width_of(index)
        self._parts: dict[str, tuple[int, int]] = {}
        self._bytes = 0
        for name, length, size in (
            ("counts", padded, 4), ("within", padded, 4), ("totals", self.chunks, 4),
            ("begins", self.chunks + 1, index.itemsize), ("total", 1, 8),
        ):  # fmt: skip
            self._parts[name] = self._bytes, length
            self._bytes += length * size + -(length * size) % _ALIGNMENT

    def memory(self, device: torch.device) -> Tensor:
        """Returns memory for all of it."""
        return empty(self._bytes, torch.uint8, device)

    def words(self, memory: Tensor, *names: str) -> list[int]:
        """Returns addresses and lengths of some of `ARRAYS` in such memory."""
        first, words = memory.data_ptr(), []
        for name in names:
            offset, length = self._parts[name]
            words += (first + offset, length)
        return words


def arrays(width: str) -> list[Array]:
    """Returns `ARRAYS` for kernels, with this width of "begins"."""
    return [Array(name, {"begins": width, "total": "i64"}.get(name, "i32")) for name in ARRAYS]


def write_scan(w: GpuWriter) -> None:
    """Writes the kernels that sum what is in "counts"; all that is kept is in "total", and behind the last chunk."""
    with w.parallel(w.number("chunks")) as (chunk,):
        first = w.mul(chunk, w.constant(CHUNK))  # stands between the loops, which would become one else
        with w.lanes(WARP) as lane:
            _sum_chunk(w, chunk, first, lane)
    # One, which must not be known: a loop of one iteration is none, and lanes stand in a kernel's.
    with w.parallel(w.min(w.number("chunks"), w.constant(1))):
        _sum_chunks(w)


def _sum_chunk(w: GpuWriter, chunk: Value, first: Value, lane: Value) -> None:
    each = CHUNK // WARP
    first = w.add(first, w.mul(lane, w.constant(each)))
    places, padded = w.number("places"), w.number("padded")
    type, vector = w.arrays["counts"].type, f"vector<{_VECTOR}xi32>"
    begins = [w.add(first, w.constant(n)) for n in range(0, each, _VECTOR)]
    last = w.sub(padded, w.constant(_VECTOR))
    loaded = [w.value(f"vector.load %counts[{w.min(at, last)}] : {type}, {vector}") for at in begins]
    zero = w.constant(0, "i32")
    sum, before = zero, []
    for at, counts in zip(begins, loaded, strict=True):
        for n in range(_VECTOR):
            count = w.value(f"vector.extract {counts}[{n}] : i32 from {vector}")
            inside = w.compare("slt", w.add(at, w.constant(n)), places)
            before.append(sum)
            sum = w.binary("addi", sum, w.select(inside, count, zero, "i32"), "i32")
    lanes_before, total = w.lane_prefix(sum)
    for n, at in enumerate(begins):
        found = [w.binary("addi", lanes_before, one, "i32") for one in before[n * _VECTOR : (n + 1) * _VECTOR]]
        made = w.value(f"vector.from_elements {', '.join(found)} : {vector}")
        with w.when(w.compare("slt", at, padded)):
            w.statement(f"vector.store {made}, %within[{at}] : {type}, {vector}")
    with w.when(w.compare("eq", lane, w.constant(0))):
        w.store_bits("totals", chunk, total)


def _sum_chunks(w: GpuWriter) -> None:
    zero, chunks = w.constant(0), w.number("chunks")
    last = w.sub(chunks, w.constant(1))

    def totals(first: Value) -> list[tuple[Value, Value]]:
        """The places of a lane's chunks, and what is kept of them (index)."""
        found = []
        for n in range(_TOGETHER):
            at = w.add(first, w.constant(n))
            total = w.load("totals", w.min(at, last))
            found.append((at, w.select(w.compare("slt", at, chunks), total, zero)))
        return found

    def step(first: Value, before: Value) -> Value:
        with w.lanes(WARP) as lane:
            own = totals(w.add(first, w.mul(lane, w.constant(_TOGETHER))))
            begin = w.add(before, _wide_prefix(w, _sum(w, [total for _, total in own])))
            for at, total in own:
                with w.when(w.compare("slt", at, chunks)):
                    w.store("begins", at, begin)
                begin = w.add(begin, total)

        def of_lane(lane: Value) -> Value:
            own = totals(w.add(first, w.mul(lane, w.constant(_TOGETHER))))
            return w.value(f"arith.index_cast {_sum(w, [total for _, total in own])} : index to i64")

        all = w.reduce_lanes(WARP, w.constant(WARP), "addi", "i64", of_lane)
        return w.add(before, w.value(f"arith.index_cast {all} : i64 to index"))

    total = w.fold(zero, chunks, _TOGETHER * WARP, zero, step)
    w.store("begins", chunks, total)
    w.store("total", zero, total)


def _sum(w: GpuWriter, numbers: list[Value]) -> Value:
    first, *rest = numbers
    for number in rest:
        first = w.add(first, number)
    return first


def _wide_prefix(w: GpuWriter, number: Value) -> Value:
    """What lanes before have of a number of up to 41 bits (index), from prefixes of two parts of it."""
    wide = w.value(f"arith.index_cast {number} : index to i64")
    half = w.constant(_HALF, "i64")
    low = w.binary("andi", wide, w.constant((1 << _HALF) - 1, "i64"), "i64")
    parts = []
    for part in (low, w.binary("shrui", wide, half, "i64")):
        before, _ = w.lane_prefix(w.value(f"arith.trunci {part} : i64 to i32"))
        parts.append(w.value(f"arith.extui {before} : i32 to i64"))
    sum = w.binary("addi", parts[0], w.binary("shli", parts[1], half, "i64"), "i64")
    return w.value(f"arith.index_cast {sum} : i64 to index")


def begin_of(w: GpuWriter, place: Value, width: str) -> Value:
    """Returns what is kept before a place, of the width of "begins"."""
    chunk = w.load_bits("begins", w.div(place, w.constant(CHUNK)))
    return w.binary("addi", chunk, w.widened(w.load_bits("within", place), width), width)


def fits(w: GpuWriter) -> Value:
    """Returns whether all that is kept has room (i1): "capacity" is a number of the host."""
    return w.compare("sle", w.load("begins", w.number("chunks")), w.number("capacity"))
