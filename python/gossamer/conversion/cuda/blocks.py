"""Kernels for what a node of a format holds besides itself: the dense levels after the last sparse one, its block."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, partial

import torch
from torch import Tensor

from gossamer.conversion.cuda import scan
from gossamer.conversion.cuda.compress import ALIGNMENT, Memory
from gossamer.conversion.cuda.kernel import GpuKernel
from gossamer.conversion.cuda.writer import WARP, GpuWriter
from gossamer.conversion.writer import Array, Value
from gossamer.formats import Format
from gossamer.runtime.allocation import empty


@dataclass(frozen=True)
class Block:
    """How the elements of a block are read.

    Attributes:
        element: What is read at once: "i8", ..., "i64", or "i128" for 16 bytes.
        outer: Number of levels before the block's.
        sizes: Of the block's levels, in units of what is read at once; None where only the host knows it.
        narrow: Whether 31 bits are enough for places in the space of the outer levels.
    """

    element: str
    outer: int
    sizes: tuple[int | None, ...]
    narrow: bool

    @property
    def numbers(self) -> list[str]:
        """Sizes of all levels and their strides; in units of what is read at once."""
        levels = range(self.outer + len(self.sizes))
        return [*(f"size{l}" for l in levels), *(f"stride{l}" for l in levels)]

    def _inner(self, w: GpuWriter) -> list[Value]:
        numbers = (w.number(f"size{self.outer + n}") for n in range(len(self.sizes)))
        return [n if size is None else w.constant(size) for n, size in zip(numbers, self.sizes, strict=True)]

    def size(self, w: GpuWriter) -> Value:
        """Number of units of a block."""
        size = w.constant(1)
        for one in self._inner(w):
            size = w.mul(size, one)
        return size

    @property
    def moved(self) -> str:
        """What moves: 16 bytes are two words."""
        return "i64" if self.element == "i128" else self.element

    def load(self, w: GpuWriter, array: str, at: Value) -> list[Value]:
        """Returns the words of a unit."""
        return _words(w, array, at, self.element == "i128")

    def store(self, w: GpuWriter, array: str, at: Value, words: list[Value]) -> None:
        """Stores them."""
        _store_words(w, array, at, words, self.element == "i128")

    def base(self, w: GpuWriter, node: Value) -> Value:
        """Where the block of a place in the space of the outer levels begins."""
        outer = range(self.outer)
        coordinates = w.split(node, [w.number(f"size{l}") for l in outer], self.narrow)
        return w.dot(coordinates, [w.number(f"stride{l}") for l in outer])

    def offset(self, w: GpuWriter, place: Value) -> Value:
        """Where a unit of a block is, from where the block begins."""
        strides = [w.number(f"stride{self.outer + n}") for n in range(len(self.sizes))]
        return w.dot(w.split(place, self._inner(w)), strides)


@dataclass(frozen=True)
class Units:
    """Tensors of one kind, and a format, in units of what is read at once.

    Attributes:
        block: How that is.
        bytes: Of a unit.
        width: Bytes of an element.
        numbers: Sizes and strides of all levels.
        outer, count: Places of the outer levels, and units of a block.
    """

    block: Block
    bytes: int
    width: int
    numbers: tuple[int, ...]
    outer: int
    count: int

    @classmethod
    def of(cls, memory: Memory, format: Format, sizes: Sequence[int]) -> "Units":
        """Sixteen bytes if they are together everywhere, else an element.

        Args:
            memory: Of the tensor, at all levels.
            format: The format, without batch levels.
            sizes: Of its levels.
        """
        outer, bytes, sizes, strides = format.outer, memory.bytes, tuple(sizes), memory.strides
        many = ALIGNMENT // bytes
        *rest, last = strides
        whole = outer < len(sizes) and last == 1 and not sizes[-1] % many and not any(n % many for n in rest)
        if whole and memory.aligned:
            bytes, sizes, strides = ALIGNMENT, (*sizes[:-1], sizes[-1] // many), (*(n // many for n in rest), 1)
        known = tuple(
            size if level.expr.op == "mod" else None
            for level, size in zip(format.levels[outer:], sizes[outer:], strict=True)
        )
        places = math.prod(sizes[:outer])
        block = Block(f"i{bytes * 8}", outer, known, places < 2**31)
        return cls(block, bytes, memory.bytes, (*sizes, *strides), places, math.prod(sizes[outer:]))


class Marker:
    """Says which nodes of a format have an element that is kept, of tensors of one kind that are not empty.

    Args:
        memory: What decides, at all levels.
        test: Which of its elements are kept, as `kept_bits` says it.
        format: The format, without batch levels.
        sizes: Of its levels.
    """

    def __init__(self, memory: Memory, test: tuple[int, int], format: Format, sizes: Sequence[int]):
        units = Units.of(memory, format, sizes)
        # Whether any element of several is kept is whether anything of them all is not as it would be: their width is
        # no matter.
        words = [_repeated(number, units.width, min(units.bytes, 8)) for number in test]
        lanes = WARP
        while lanes > 1 and lanes > units.count:
            lanes //= 2
        together = 4 if None not in units.block.sizes and not units.count % (4 * lanes) else 1
        self.sizes = tuple(sizes[: format.outer])
        self.numbers = [*units.numbers, *words, units.outer]
        self._marker = partial(marker, units.block, lanes, together)
        self.kernel = self._marker(None)

    def __call__(self, kept: Tensor) -> Tensor:
        """Returns bool of the sizes of the outer levels."""
        mask = torch.empty(self.sizes, dtype=torch.bool, device=kept.device)
        self.kernel(self.numbers, kept, mask)
        return mask

    def scanner(self, width: str) -> GpuKernel:
        """Returns the kernel that writes 1 or 0 (i32) for every place instead, and those that sum them (`scan`)."""
        return self._marker(width)


def _repeated(number: int, width: int, word: int) -> int:
    """A number of some bytes as often as it fits into a word, as a signed number of that many bytes."""
    bits = number & ((1 << 8 * width) - 1)
    result = sum(bits << 8 * width * n for n in range(word // width))
    return result - (1 << 8 * word) if result >> (8 * word - 1) else result


@cache
def marker(block: Block, lanes: int, together: int, scanned: str | None) -> GpuKernel:
    """The kernel that says of every place of the outer levels whether its block has something that is kept.

    A warp, or less of one where blocks are small, has a block; a lane reads so many units `together`. Answers are i8 in
    `marks`; if they are to be `scanned`, they are `counts`, and the width of `begins` is given.
    """
    wide = block.element == "i128"
    element = "i64" if wide else block.element
    answers = scan.arrays(scanned) if scanned else [Array("marks", "i8")]
    numbers = [*block.numbers, "mask", "unkept", "nodes", *(scan.NUMBERS if scanned else ())]
    w = GpuWriter(numbers, [Array("keep", element), *answers])
    with w.parallel(w.number("nodes")) as (node,):
        base = block.base(w, node)
        mask, unkept = (w.bits_of_word(w.number(name), element) for name in ("mask", "unkept"))
        each = w.div(block.size(w), w.constant(together))

        def differs(place: Value) -> Value:
            found = w.constant(0, element)
            units = [w.add(place, w.mul(each, w.constant(n))) for n in range(together)]
            for words in [_words(w, "keep", w.add(base, block.offset(w, unit)), wide) for unit in units]:
                for word in words:
                    other = w.binary("xori", w.binary("andi", word, mask, element), unkept, element)
                    found = w.binary("ori", found, other, element)
            return w.counted(w.compare("ne", found, w.constant(0, element), element))

        found = w.reduce_lanes(lanes, each, "ori", "i32", differs)
        if scanned:
            w.store_bits("counts", node, found)
        else:
            w.store_bits("marks", node, w.value(f"arith.trunci {found} : i32 to i8"))
    if scanned:
        scan.write_scan(w)
    return GpuKernel(w.module())


def _words(w: GpuWriter, array: str, at: Value, wide: bool) -> list[Value]:
    if not wide:
        return [w.load_bits(array, at)]
    at = w.mul(at, w.constant(2))
    pair = w.value(f"vector.load %{array}[{at}] : memref<?xi64>, vector<2xi64>")
    return [w.value(f"vector.extract {pair}[{n}] : i64 from vector<2xi64>") for n in range(2)]


class BlockMover:
    """Copies blocks between dense tensors of one kind and values, which have their elements one after the other.

    Args:
        memory: Of the dense tensors, at all levels.
        format: The format, without batch levels.
        sizes: Of its levels.
        fill_bits: The values of a node that is nowhere.
    """

    def __init__(self, memory: Memory, format: Format, sizes: Sequence[int], fill_bits: int = 0):
        self.units = units = Units.of(memory, format, sizes)
        self.numbers = [*units.numbers, _repeated(fill_bits, units.width, min(units.bytes, 8))]
        self.each = units.count * units.bytes // units.width

    def take(self, dense: Tensor, places: Tensor) -> Tensor:
        """Returns the elements of the blocks at these places (int64; -1: nowhere) of the outer levels."""
        values = empty(places.numel() * self.each, dense.dtype, dense.device)
        if values.numel():
            mover(self.units.block, False)([*self.numbers, places.numel()], dense, places, values)
        return values

    def put(self, dense: Tensor, places: Tensor, values: Tensor) -> None:
        """Writes blocks to where they are; the inverse of `take`."""
        if values.data_ptr() % self.units.bytes:
            values = values.clone()
        if values.numel():
            mover(self.units.block, True)([*self.numbers, places.numel()], dense, places, values)


@cache
def mover(block: Block, puts: bool) -> GpuKernel:
    """The kernel that copies blocks from array `dense` to `values`, or back.

    A thread has 16 bytes, where they are together, or an element.
    """
    wide = block.element == "i128"
    element = "i64" if wide else block.element
    arrays = [Array("dense", element), Array("places", "i64"), Array("values", element)]
    w = GpuWriter([*block.numbers, "fill", "nodes"], arrays)
    size = block.size(w)
    with w.parallel(w.number("nodes"), size) as (node, inner):
        place, zero = w.load("places", node), w.constant(0)
        used = w.compare("sge", place, zero)
        base = block.base(w, w.value(f"arith.maxsi {place}, {zero} : index"))
        there, here = w.add(base, block.offset(w, inner)), w.add(w.mul(node, size), inner)
        if puts:
            with w.when(used):
                _store_words(w, "dense", there, _words(w, "values", here, wide), wide)
        else:
            fill = w.bits_of_word(w.number("fill"), element)
            words = [w.select(used, word, fill, element) for word in _words(w, "dense", there, wide)]
            _store_words(w, "values", here, words, wide)
    return GpuKernel(w.module())


def _store_words(w: GpuWriter, array: str, at: Value, words: list[Value], wide: bool) -> None:
    if not wide:
        w.store_bits(array, at, words[0])
        return
    pair = w.value(f"vector.from_elements {', '.join(words)} : vector<2xi64>")
    at = w.mul(at, w.constant(2))
    w.statement(f"vector.store {pair}, %{array}[{at}] : memref<?xi64>, vector<2xi64>")
