"""The kernel for formats that keep n of every m: a thread has a group, or several that are 16 bytes together."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from gossamer.conversion.cuda.compress import ALIGNMENT, Memory
from gossamer.conversion.cuda.kernel import GpuKernel
from gossamer.conversion.cuda.writer import GpuWriter
from gossamer.conversion.flat import Levels, bits_of, index_dtype_for, too_many, width_of
from gossamer.conversion.writer import Array, Value
from gossamer.formats import Format


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
        self.kernel = structurer(level.n, level.m, len(sizes) - 1, index, *elements, *together, each, largest)
        self.chooses = largest
        self.numbers = [groups // each, *sizes[:-1], *kept.strides, *source.strides, *test, fill_bits]

    def __call__(self, kept: Tensor, source: Tensor, fits: bool) -> tuple[Levels, Tensor]:
        """Returns the levels and the values; waits for the GPU unless every group is known to fit.

        Args:
            kept: What decides.
            source: Where values come from.
            fits: Whether no group has more than the format holds.

        Raises:
            TensorError: A group has more.
        """
        coordinates = torch.empty(self.count, dtype=self.index, device=kept.device)
        values = torch.empty(self.count, dtype=source.dtype, device=kept.device)
        arrays = [kept, source, coordinates, values]
        if not self.chooses:
            arrays.append(torch.zeros(1, dtype=torch.int32, device=kept.device))
        self.kernel(self.numbers, *arrays)
        if not fits and not self.chooses and int(arrays[-1]):
            flat = kept.as_strided(self.sizes, self.kept.strides, kept.storage_offset())
            raise too_many(bits_of(flat).reshape(-1), self.test, self.format, self.sizes)
        rest: list[Tensor | None] = [None] * len(self.sizes)
        return (rest, [*rest[1:], coordinates], self.count), values


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
    largest: bool = False,
) -> GpuKernel:
    """The kernel, of which a thread has `each` groups; `full` becomes 1 where a group has too much."""
    levels = range(rank)
    strides = [f"{name}{l}" for name in ("keep_stride", "source_stride") for l in range(rank + 1)]
    numbers = ["threads", *(f"size{l}" for l in levels), *strides, "mask", "unkept", "fill"]
    arrays = [Array("keep", keep), Array("source", values), Array("crd", index), Array("values", values)]
    w = GpuWriter(numbers, arrays if largest else [*arrays, Array("full", "i32")])
    with w.parallel(w.number("threads")) as (thread,):
        first = w.mul(thread, w.constant(each))
        coordinates = w.split(first, [w.number(f"size{l}") for l in levels])

        def read(array: str, element: str, together: bool) -> list[Value]:
            base = w.dot(coordinates, [w.number(f"{array}_stride{l}") for l in levels])
            if together:
                type = f"vector<{each * m}x{element}>"
                vector = w.value(f"vector.load %{array}[{base}] : memref<?x{element}>, {type}")
                return [w.value(f"vector.extract {vector}[{j}] : {element} from {type}") for j in range(each * m)]
            stride = w.number(f"{array}_stride{rank}")
            return [w.load_bits(array, w.add(base, w.mul(w.constant(j), stride))) for j in range(m)]

        decides, taken = read("keep", keep, keep_together), read("source", values, source_together)
        mask, unkept = (w.bits_of_word(w.number(name), keep) for name in ("mask", "unkept"))
        fill = w.bits_of_word(w.number("fill"), values)
        bits = [w.binary("andi", one, mask, keep) for one in decides]
        groups = []
        for j in range(0, each * m, m):
            if largest:
                kept = _largest(w, n, [w.binary("minui", one, unkept, keep) for one in bits[j : j + m]], keep)
            else:
                kept = [w.compare("ne", one, unkept, keep) for one in bits[j : j + m]]
            groups.append(_entries(w, n, kept, taken[j : j + m], fill, values, is_checked=not largest))
        node = w.mul(first, w.constant(n))
        if n * m <= _MOST_SELECTS:
            _store_slots(w, n, node, groups, index, values)
        else:
            for number, entries in enumerate(groups):
                _store_each(w, w.add(node, w.constant(number * n)), entries, w.constant(n, "i32"))
    return GpuKernel(w.module())


def _largest(w: GpuWriter, n: int, sizes: list[Value], element: str) -> list[Value]:
    """Returns whether each is one of the n largest; of equal ones the first are."""
    limit, kept = w.constant(n, "i32"), []
    for j, own in enumerate(sizes):
        before = w.constant(0, "i32")
        for i, other in enumerate(sizes):
            if i != j:
                ahead = w.compare("uge" if i < j else "ugt", other, own, element)
                before = w.binary("addi", before, w.counted(ahead), "i32")
        kept.append(w.compare("slt", before, limit, "i32"))
    return kept


_MOST_SELECTS = 64  # of a group: where there are more, every entry is stored by itself


@dataclass(frozen=True)
class _Entry:
    """Of a group: its coordinate, whether it is stored, in which slot (i32), and what."""

    coordinate: int
    stored: Value
    slot: Value
    value: Value


def _entries(
    w: GpuWriter, n: int, kept: list[Value], taken: list[Value], fill: Value, element: str, is_checked: bool
) -> list[_Entry]:
    """What is stored of a group, filled up to n; `full` becomes 1 if it has more, which is looked for if asked."""
    zero, limit = w.constant(0, "i32"), w.constant(n, "i32")
    count = zero
    for condition in kept:
        count = w.binary("addi", count, w.counted(condition), "i32")
    if is_checked:
        with w.when(w.compare("sgt", count, limit, "i32")):
            w.store("full", w.constant(0), w.constant(1))
    free, slot = w.binary("subi", limit, count, "i32"), zero
    entries = []
    for j, (condition, value) in enumerate(zip(kept, taken, strict=True)):
        fills = w.both(w.compare("sgt", free, zero, "i32"), w.binary("xori", condition, w.constant(1, "i1"), "i1"))
        stored = w.binary("ori", condition, fills, "i1")
        entries.append(_Entry(j, stored, slot, w.select(condition, value, fill, element)))
        free = w.binary("subi", free, w.counted(fills), "i32")
        slot = w.binary("addi", slot, w.counted(stored), "i32")
    return entries


def _store_slots(w: GpuWriter, n: int, node: Value, groups: list[list[_Entry]], index: str, values: str) -> None:
    """Finds what is in every slot, and stores slots in pieces of 16 bytes, where hardware can."""
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
    for array, element, those in (("crd", index, coordinates), ("values", values, found)):
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


def _store_each(w: GpuWriter, node: Value, entries: list[_Entry], limit: Value) -> None:
    for entry in entries:
        with w.when(w.both(entry.stored, w.compare("slt", entry.slot, limit, "i32"))):
            at = w.add(node, w.as_index(entry.slot, "i32"))
            w.store("crd", at, w.constant(entry.coordinate))
            w.store_bits("values", at, entry.value)
