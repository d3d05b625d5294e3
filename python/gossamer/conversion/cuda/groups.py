"""The kernel for formats that keep n of every m: a thread has a group."""

import math
from collections.abc import Sequence
from functools import cache

import torch
from torch import Tensor

from gossamer.conversion.cuda.compress import ALIGNMENT, Memory
from gossamer.conversion.cuda.kernel import GpuKernel
from gossamer.conversion.cuda.writer import GpuWriter
from gossamer.conversion.flat import Levels, index_dtype_for, too_many, width_of
from gossamer.conversion.writer import Array, Value
from gossamer.formats import Format


class Structurer:
    """Stores what is kept of tensors of one kind; groups with less are filled up with the first coordinates that are
    free, and the fill.

    Args:
        kept, test, source, fill_bits, index_dtype: As for `Compressor`; the source may be what decides.
        format: The format, without batch levels.
        sizes: Of its levels, none of them 0.
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
    ):
        level = format.levels[-1]
        self.kept, self.test, self.format, self.sizes = kept, test, format, tuple(sizes)
        groups = math.prod(sizes[:-1])
        self.count = groups * level.n
        self.index = index_dtype_for(max(self.count, *sizes), index_dtype)
        together = (_together(memory, level.m) for memory in (kept, source))
        elements = kept.element, source.element
        self.kernel = structurer(level.n, level.m, len(sizes) - 1, width_of(self.index), *elements, *together)
        self.numbers = [groups, *sizes[:-1], *kept.strides, *source.strides, *test, fill_bits]

    def __call__(self, kept: Tensor, source: Tensor, fits: bool) -> tuple[Levels, Tensor]:
        """Returns the levels and the values; waits for the GPU unless every group is known to fit.

        Args:
            kept: What decides, as integers of the elements' size.
            source: Where values come from, likewise.
            fits: Whether no group has more than the format holds.

        Raises:
            TensorError: A group has more.
        """
        coordinates = torch.empty(self.count, dtype=self.index, device=kept.device)
        values = torch.empty(self.count, dtype=source.dtype, device=kept.device)
        full = torch.zeros(1, dtype=torch.int32, device=kept.device)
        self.kernel(self.numbers, kept, source, coordinates, values, full)
        if not fits and int(full):
            flat = kept.as_strided(self.sizes, self.kept.strides, kept.storage_offset())
            raise too_many(flat.reshape(-1), self.test, self.format, self.sizes)
        rest: list[Tensor | None] = [None] * len(self.sizes)
        return (rest, [*rest[1:], coordinates], self.count), values


def _together(memory: Memory, m: int) -> bool:
    """Whether a group can be read in one piece."""
    if m * memory.bytes not in (4, 8, ALIGNMENT) or memory.strides[-1] != 1:
        return False
    return memory.aligned and not any(stride % m for stride in memory.strides[:-1])


@cache
def structurer(
    n: int, m: int, rank: int, index: str, keep: str, values: str, keep_together: bool, source_together: bool
) -> GpuKernel:
    """The kernel; `full` becomes 1 where a group has too much."""
    levels = range(rank)
    strides = [f"{name}{l}" for name in ("keep_stride", "source_stride") for l in range(rank + 1)]
    numbers = ["groups", *(f"size{l}" for l in levels), *strides, "mask", "unkept", "fill"]
    arrays = [Array("keep", keep), Array("source", values), Array("crd", index), Array("values", values)]
    w = GpuWriter(numbers, [*arrays, Array("full", "i32")])
    with w.parallel(w.number("groups")) as (group,):
        coordinates = w.split(group, [w.number(f"size{l}") for l in levels])

        def read(array: str, element: str, together: bool) -> list[Value]:
            base = w.dot(coordinates, [w.number(f"{array}_stride{l}") for l in levels])
            if together:
                type = f"vector<{m}x{element}>"
                vector = w.value(f"vector.load %{array}[{base}] : memref<?x{element}>, {type}")
                return [w.value(f"vector.extract {vector}[{j}] : {element} from {type}") for j in range(m)]
            stride = w.number(f"{array}_stride{rank}")
            return [w.load_bits(array, w.add(base, w.mul(w.constant(j), stride))) for j in range(m)]

        decides, taken = read("keep", keep, keep_together), read("source", values, source_together)
        mask, unkept = (w.bits_of_word(w.number(name), keep) for name in ("mask", "unkept"))
        fill = w.bits_of_word(w.number("fill"), values)
        kept = [w.compare("ne", w.binary("andi", one, mask, keep), unkept, keep) for one in decides]
        zero, limit = w.constant(0), w.constant(n)
        count = zero
        for condition in kept:
            count = w.add(count, w.counted(condition, "index"))
        with w.when(w.compare("sgt", count, limit)):
            w.store("full", zero, w.constant(1))
        free, node = w.sub(limit, count), w.mul(group, limit)
        last = w.add(node, w.constant(n))
        for j, (condition, value) in enumerate(zip(kept, taken, strict=True)):
            fills = w.binary("andi", w.compare("sgt", free, zero), _not(w, condition), "i1")
            stored = w.both(w.binary("ori", condition, fills, "i1"), w.compare("slt", node, last))
            with w.when(stored):
                w.store("crd", node, w.constant(j))
                w.store_bits("values", node, w.select(condition, value, fill, values))
            free = w.sub(free, w.counted(fills, "index"))
            node = w.add(node, w.counted(stored, "index"))
    return GpuKernel(w.module())


def _not(w: GpuWriter, condition: Value) -> Value:
    return w.binary("xori", condition, w.constant(1, "i1"), "i1")
