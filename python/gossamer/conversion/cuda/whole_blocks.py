"""Dense tensors to blocks of one compressed level by two kernels: one marks them, one stores those that are."""

import math
from collections.abc import Sequence
from functools import cache

import torch
from torch import Tensor

from gossamer.conversion.cuda.blocks import Block, Marker, Units
from gossamer.conversion.cuda.compress import Memory
from gossamer.conversion.cuda.kernel import GpuKernel
from gossamer.conversion.cuda.room import Room, words
from gossamer.conversion.cuda.scan import Scan, begin_of, fits
from gossamer.conversion.cuda.writer import WARP, GpuWriter
from gossamer.conversion.flat import Levels, index_dtype_for, width_of
from gossamer.conversion.nodes import Outline
from gossamer.conversion.writer import Array
from gossamer.formats import Format
from gossamer.runtime.allocation import empty

_SLICE = 128  # units of a block that one warp copies


class BlockStorer:
    """Stores the blocks of tensors of one kind that have something in them.

    Args:
        kept, test: What decides, at all levels, and which of its elements are kept, as `kept_bits` says it.
        source: The tensor that values come from, at all levels.
        format: The format, without batch levels, with dense levels after the last sparse one.
        outline: Of it: one segment, compressed.
        sizes: Of its levels, none of them 0.
        index_dtype: As for `Compressor`.
    """

    def __init__(
        self,
        kept: Memory,
        test: tuple[int, int],
        source: Memory,
        format: Format,
        outline: Outline,
        sizes: Sequence[int],
        index_dtype: torch.dtype | None,
    ):
        units = Units.of(source, format, sizes)
        self.marker = Marker(kept, test, format, sizes)
        self.count, self.outer = units.outer, outline.outer
        self.each = units.count * units.bytes // units.width
        segment = outline.segments[0]
        self.chain = segment.chain
        self.inner = math.prod(sizes[segment.chain : segment.end - 1])
        self.parents = math.prod(sizes[: segment.chain])
        self.index = index_dtype_for(max(self.count, *sizes[: self.outer]), index_dtype)
        slices = max(1, units.count // _SLICE)
        lanes = WARP
        while lanes > 1 and lanes > units.count:
            lanes //= 2
        self.numbers = [*units.numbers, self.count, self.inner, slices]
        self.scan, self.room = Scan(self.count, wide=False), Room()
        self.scanner = self.marker.scanner(self.scan.width)
        chain = tuple(range(segment.chain, segment.end))
        self.kernel = _storer(units.block, chain, width_of(self.index), lanes)

    def __call__(self, kept: Tensor, dense: Tensor) -> tuple[Levels, Tensor]:
        """Returns the levels and the values of `dense`, flat; waits for the GPU once."""
        device, number, scan = dense.device, dense.get_device(), self.scan
        memory = scan.memory(device)
        positions = empty(self.parents + 1, self.index, device)
        fixed = dense.data_ptr(), dense.numel(), *scan.words(memory, "counts", "within", "begins")

        def make(count: int) -> list[Tensor]:
            found = [empty(count, self.index, device) for _ in range(self.chain, self.outer)]
            return [*found, empty(count * self.each, dense.dtype, device)]

        def store(capacity: int, tensors: Sequence[Tensor]) -> None:
            stored = [*self.numbers, scan.chunks, capacity, *fixed]
            for tensor in (positions, *tensors):
                stored += (tensor.data_ptr(), tensor.numel())
            self.kernel.launch(number, stored)

        with words.one() as word:
            marked = [*self.marker.numbers, *scan.numbers, kept.data_ptr(), kept.numel()]
            marked += (*scan.words(memory, "counts", "within", "totals", "begins"), word, 1)
            self.scanner.launch(number, marked)
            count, tensors = self.room.fill(lambda: self.scanner.wait(number, word), make, store, self.count)
        *found, values = tensors
        above: list[Tensor | None] = [None] * self.chain
        rest: list[Tensor | None] = [None] * (len(found) - 1)
        return ([*above, positions, *rest], [*above, *found], count), values


@cache
def _storer(block: Block, chain: tuple[int, ...], index: str, lanes: int) -> GpuKernel:
    """The kernel: a warp has a place of a block, or a slice of it, and copies it if it is marked."""
    element = block.moved
    arrays = [Array("dense", element), *(Array(name, "i32") for name in ("counts", "within", "begins"))]
    arrays += [Array("pos", index), *(Array(f"crd{l}", index) for l in chain), Array("values", element)]
    w = GpuWriter([*block.numbers, "nodes", "inner", "slices", "chunks", "capacity"], arrays)
    slices, zero, one = w.number("slices"), w.constant(0), w.constant(1)
    with w.parallel(w.mul(w.number("nodes"), slices)) as (number,):
        place, slice = w.split(number, [one, slices], block.narrow)
        coordinates = w.split(place, [w.number(f"size{l}") for l in range(block.outer)], block.narrow)
        begin = w.as_index(begin_of(w, place, "i32"), "i32")
        is_marked = w.both(w.compare("ne", w.load("counts", place), zero), fits(w))
        with w.when(w.compare("eq", slice, zero)):
            # A parent begins where all of its levels below are 0.
            parent, within = w.split(place, [one, w.mul(w.number("inner"), w.number(f"size{chain[-1]}"))], block.narrow)
            with w.when(w.compare("eq", within, zero)):
                w.store("pos", parent, begin)
            with w.when(w.compare("eq", w.add(place, one), w.number("nodes"))):
                w.store("pos", w.add(parent, one), w.load("begins", w.number("chunks")))
        with w.when(is_marked):
            with w.when(w.compare("eq", slice, zero)):
                for l in chain:
                    w.store(f"crd{l}", begin, coordinates[l])
            base = w.dot(coordinates, [w.number(f"stride{l}") for l in range(block.outer)])
            size = block.size(w)
            each = w.value(f"arith.ceildivui {size}, {slices} : index")
            lower = w.mul(slice, each)
            to = w.mul(begin, size)
            with w.lane_loop(lanes, lower, w.min(w.add(lower, each), size)) as unit:
                words = block.load(w, "dense", w.add(base, block.offset(w, unit)))
                block.store(w, "values", w.add(to, unit), words)
    return GpuKernel(w.module())
