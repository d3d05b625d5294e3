"""The kernel for formats that keep n of every m: a thread has a group, or several that are 16 bytes together."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import NoReturn

import torch
from torch import Tensor

from gossamer.conversion.cuda.compress import ALIGNMENT, Memory
from gossamer.conversion.cuda.kernel import GpuKernel
from gossamer.conversion.cuda.writer import GpuWriter
from gossamer.conversion.flat import Levels, bits_of, index_dtype_for, too_many, width_of
from gossamer.conversion.writer import Array, Value
from gossamer.formats import Format
from gossamer.runtime.allocation import empty


class Structurer:
    """Stores what is kept of tensors of one kind; groups with less are filled up with the first coordinates that are
    free, and the fill.

    Args:
        kept, test, source, fill_bits, index_dtype: As for `Compressor`; the source may be what decides.
        format: The format, without batch levels.
        sizes: Of its levels, none of them 0.
        largest: Whether the test is none, but the n of every group with the largest magnitude are kept: the bits of an
            element under the first number, and no more than the second one.
    """

    def __init__(
        self,
        kept: Memory,
        test: tuple[int, int],
        source: Memory,
        format: Format,
        sizes: Sequence[int],
        fill_bits: int,
        index_dtype: torch.dtype | None,
        largest: bool = False,
    ):
        level = format.levels[-1]
        self.kept, self.test, self.format, self.sizes = kept, test, format, tuple(sizes)
        groups = math.prod(sizes[:-1])
        self.count = groups * level.n
        self.index = index_dtype_for(max(self.count, *sizes), index_dtype)
        together = tuple(_together(memory, level.m) for memory in (kept, source))
        each = min(_side_by_side(memory, level.m, sizes) for memory in (kept, source)) if all(together) else 1
        elements = kept.element, source.element
        index = width_of(self.index)
        narrow = groups < 2**31
        self.kernel = structurer(level.n, level.m, len(sizes) - 1, index, *elements, *together, each, narrow, largest)
        self.chooses = largest
        strides = kept.strides if largest else (*kept.strides, *source.strides)
        self.numbers = [groups // each, *sizes[:-1], *strides, *test, fill_bits]

    def __call__(self, kept: Tensor, source: Tensor, fits: bool) -> tuple[Levels, Tensor]:
        """Returns the levels and the values; waits for the GPU unless every group is known to fit.

        Args:
            kept: What decides.
            source: Where values come from; if the largest are kept, what decides.
            fits: Whether no group has more than the format holds.

        Raises:
            TensorError: A group has more.
        """
        coordinates = empty(self.count, self.index, kept.device)
        values = empty(self.count, source.dtype, kept.device)
        if self.chooses:
            self.kernel(self.numbers, kept, coordinates, values)
        else:
            full = torch.zeros(1, dtype=torch.int32, device=kept.device)
            self.kernel(self.numbers, kept, coordinates, values, source, full)
            if not fits and int(full):
                self._refuse(kept)
        rest: list[Tensor | None] = [None] * len(self.sizes)
        return (rest, [*rest[1:], coordinates], self.count), values

    def _refuse(self, kept: Tensor) -> NoReturn:
        flat = kept.as_strided(self.sizes, self.kept.strides, kept.storage_offset())
        raise too_many(bits_of(flat).reshape(-1), self.test, self.format, self.sizes)


def _together(memory: Memory, m: int) -> bool:
    """Whether a group can be read in one piece."""
    if m * memory.bytes not in (4, 8, ALIGNMENT) or memory.strides[-1] != 1:
        return False
    return memory.aligned and not any(stride % m for stride in memory.strides[:-1])


def _side_by_side(memory: Memory, m: int, sizes: Sequence[int]) -> int:
    """How many groups a thread can read in one piece."""
    each = ALIGNMENT // (m * memory.bytes)
    return each if len(sizes) > 1 and memory.strides[-2] == m and not sizes[-2] % each else 1


@cache
def structurer(
    n: int,
    m: int,
    rank: int,
    index: str,
    keep: str,
    values: str,
    keep_together: bool,
    source_together: bool,
    each: int,
    narrow: bool,
    largest: bool = False,
) -> GpuKernel:
    """The kernel, of which a thread has `each` groups; `full` becomes 1 where a group has too much."""
    levels = range(rank)
    read_from = ("keep",) if largest else ("keep", "source")
    strides = [f"{name}_stride{l}" for name in read_from for l in range(rank + 1)]
    numbers = ["threads", *(f"size{l}" for l in levels), *strides, "mask", "unkept", "fill"]
    arrays = [Array("keep", keep), Array("crd", index), Array("values", values)]
    w = GpuWriter(numbers, arrays if largest else [*arrays, Array("source", values), Array("full", "i32")])
    with w.parallel(w.number("threads")) as (thread,):
        first = w.mul(thread, w.constant(each))
        coordinates = w.split(first, [w.number(f"size{l}") for l in levels], narrow)

        def read(array: str, element: str, together: bool) -> list[Value]:
            base = w.dot(coordinates, [w.number(f"{array}_stride{l}") for l in levels])
            if together:
                type = f"vector<{each * m}x{element}>"
                vector = w.value(f"vector.load %{array}[{base}] : memref<?x{element}>, {type}")
                return [w.value(f"vector.extract {vector}[{j}] : {element} from {type}") for j in range(each * m)]
            stride = w.number(f"{array}_stride{rank}")
            return [w.load_bits(array, w.add(base, w.mul(w.constant(j), stride))) for j in range(m)]

        decides = read("keep", keep, keep_together)
        taken = decides if largest else read("source", values, source_together)
        mask, unkept = (w.bits_of_word(w.number(name), keep) for name in ("mask", "unkept"))
        bits = [w.binary("andi", one, mask, keep) for one in decides]
        groups = []
        for j in range(0, each * m, m):
            own, values_of = bits[j : j + m], taken[j : j + m]
            if largest:
                groups.append(chosen_entries(w, _largest(w, n, own, unkept, keep), values_of))
            else:
                kept = [w.compare("ne", one, unkept, keep) for one in own]
                groups.append(_filled_entries(w, n, kept, values_of, w.bits_of_word(w.number("fill"), values), values))
        node = w.mul(first, w.constant(n))
        if n * m <= _MOST_SELECTS:
            store_slots(w, n, node, groups, ("crd", index), ("values", values))
        else:
            for number, entries in enumerate(groups):
                _store_each(w, w.add(node, w.constant(number * n)), entries, w.constant(n, "i32"))
    return GpuKernel(w.module())


def _largest(w: GpuWriter, n: int, bits: list[Value], most: Value, element: str) -> list[Value]:
    """Returns whether each is one of the n largest, where none counts for more than `most`; of equal ones the first."""
    wide = "i64" if element == "i64" else "i32"  # in which hardware compares
    extended = [
        one if element == wide else w.value(f"arith.extui {one} : {element} to {wide}") for one in (*bits, most)
    ]
    sizes = [w.binary("minui", one, extended[-1], wide) for one in extended[:-1]]
    zero, one = w.constant(0, "i32"), w.constant(1, "i32")
    before = [zero] * len(sizes)  # how many are ahead
    for j in range(len(sizes)):
        for i in range(j):
            ahead = w.counted(w.compare("uge", sizes[i], sizes[j], wide))
            before[j] = w.binary("addi", before[j], ahead, "i32")
            before[i] = w.binary("addi", before[i], w.binary("subi", one, ahead, "i32"), "i32")
    return [w.compare("slt", count, w.constant(n, "i32"), "i32") for count in before]


_MOST_SELECTS = 64  # of a group: where there are more, every entry is stored by itself


@dataclass(frozen=True)
class Entry:
    """Of a group: its coordinate, whether it is stored, in which slot (i32), and what."""

    coordinate: int
    stored: Value
    slot: Value
    value: Value


def chosen_entries(w: GpuWriter, kept: list[Value], taken: list[Value]) -> list[Entry]:
    """What is stored of a group of which exactly n are kept."""
    slot, entries = w.constant(0, "i32"), []
    for j, (condition, value) in enumerate(zip(kept, taken, strict=True)):
        entries.append(Entry(j, condition, slot, value))
        slot = w.binary("addi", slot, w.counted(condition), "i32")
    return entries


def _filled_entries(
    w: GpuWriter, n: int, kept: list[Value], taken: list[Value], fill: Value, element: str
) -> list[Entry]:
    """What is stored of a group, filled up to n; `full` becomes 1 if it has more."""
    zero, limit = w.constant(0, "i32"), w.constant(n, "i32")
    count = zero
    for condition in kept:
        count = w.binary("addi", count, w.counted(condition), "i32")
    with w.when(w.compare("sgt", count, limit, "i32")):
        w.store("full", w.constant(0), w.constant(1))
    free, slot = w.binary("subi", limit, count, "i32"), zero
    entries = []
    for j, (condition, value) in enumerate(zip(kept, taken, strict=True)):
        fills = w.both(w.compare("sgt", free, zero, "i32"), w.binary("xori", condition, w.constant(1, "i1"), "i1"))
        stored = w.binary("ori", condition, fills, "i1")
        entries.append(Entry(j, stored, slot, w.select(condition, value, fill, element)))
        free = w.binary("subi", free, w.counted(fills), "i32")
        slot = w.binary("addi", slot, w.counted(stored), "i32")
    return entries


def store_slots(
    w: GpuWriter,
    n: int,
    node: Value,
    groups: list[list[Entry]],
    to_coordinates: tuple[str, str],
    to_values: tuple[str, str],
) -> None:
    """Finds what is in every slot, and stores slots in pieces of 16 bytes, where hardware can.

    Args:
        w: Where to write.
        n: Slots of a group.
        node: The first slot.
        groups: Their entries.
        to_coordinates, to_values: Names and elements of arrays.
    """
    index, values = to_coordinates[1], to_values[1]
    coordinates, found = [], []
    for entries in groups:
        for slot in range(n):
            coordinate, value = w.constant(0, index), w.constant(0, values)
            for entry in entries:
                here = w.both(entry.stored, w.compare("eq", entry.slot, w.constant(slot, "i32"), "i32"))
                coordinate = w.select(here, w.constant(entry.coordinate, index), coordinate, index)
                value = w.select(here, entry.value, value, values)
            coordinates.append(coordinate)
            found.append(value)
    for (array, element), those in ((to_coordinates, coordinates), (to_values, found)):
        most = ALIGNMENT * 8 // int(element[1:])
        size = next(size for size in (most, most // 2, most // 4, most // 8, 1) if size and not len(those) % size)
        type = f"vector<{size}x{element}>"
        for first in range(0, len(those), size):
            at = w.add(node, w.constant(first))
            if size == 1:
                w.store_bits(array, at, those[first])
                continue
            vector = w.value(f"vector.from_elements {', '.join(those[first : first + size])} : {type}")
            w.statement(f"vector.store {vector}, %{array}[{at}] : memref<?x{element}>, {type}")


def _store_each(w: GpuWriter, node: Value, entries: list[Entry], limit: Value) -> None:
    for entry in entries:
        with w.when(w.both(entry.stored, w.compare("slt", entry.slot, limit, "i32"))):
            at = w.add(node, w.as_index(entry.slot, "i32"))
            w.store("crd", at, w.constant(entry.coordinate))
            w.store_bits("values", at, entry.value)
