"""Dense tensors to blocks of one compressed level by two kernels: one marks them, one stores those that are."""

import math
from collections.abc import Sequence
from functools import cache

import torch
from torch import Tensor

from gossamer.conversion.cuda.blocks import Block, Marker, Units
from gossamer.conversion.cuda.compress import Memory
from gossamer.conversion.cuda.kernel import GpuKernel
from gossamer.conversion.cuda.writer import WARP, GpuWriter
from gossamer.conversion.flat import Levels, index_dtype_for, width_of
from gossamer.conversion.nodes import Outline
from gossamer.conversion.writer import Array
from gossamer.formats import Format

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
        chain = tuple(range(segment.chain, segment.end))
        self.kernel = _storer(units.block, chain, width_of(self.index), lanes)

    def __call__(self, kept: Tensor, dense: Tensor) -> tuple[Levels, Tensor]:
        """Returns the levels and the values of `dense`, flat; waits for the GPU once."""
        counts = torch.empty(self.count, dtype=torch.int32, device=dense.device)
        self.marker.count(kept, counts)
        sums = counts.cumsum(0, dtype=torch.int32)
        positions = torch.empty(self.parents + 1, dtype=self.index, device=dense.device)
        nodes = int(sums[-1])
        found = [torch.empty(nodes, dtype=self.index, device=dense.device) for _ in range(self.chain, self.outer)]
        values = torch.empty(nodes * self.each, dtype=dense.dtype, device=dense.device)
        self.kernel(self.numbers, dense, sums, positions, *found, values)
        above: list[Tensor | None] = [None] * self.chain
        rest: list[Tensor | None] = [None] * (len(found) - 1)
        return ([*above, positions, *rest], [*above, *found], nodes), values


@cache
def _storer(block: Block, chain: tuple[int, ...], index: str, lanes: int) -> GpuKernel:
    """The kernel: a warp has a place of a block, or a slice of it, and copies it if it is marked."""
    element = block.moved
    arrays = [Array("dense", element), Array("sums", "i32"), Array("pos", index)]
    arrays += [*(Array(f"crd{l}", index) for l in chain), Array("values", element)]
    w = GpuWriter([*block.numbers, "nodes", "inner", "slices"], arrays)
    slices, zero, one = w.number("slices"), w.constant(0), w.constant(1)
    with w.parallel(w.mul(w.number("nodes"), slices)) as (number,):
        place, slice = w.split(number, [one, slices], block.narrow)
        coordinates = w.split(place, [w.number(f"size{l}") for l in range(block.outer)], block.narrow)
        end = w.load("sums", place)
        before = w.load("sums", w.value(f"arith.maxsi {w.sub(place, one)}, {zero} : index"))
        begin = w.select(w.compare("eq", place, zero), zero, before)
        with w.when(w.compare("eq", slice, zero)):
            # A parent begins where all of its levels below are 0.
            parent, within = w.split(place, [one, w.mul(w.number("inner"), w.number(f"size{chain[-1]}"))], block.narrow)
            with w.when(w.compare("eq", within, zero)):
                w.store("pos", parent, begin)
            with w.when(w.compare("eq", w.add(place, one), w.number("nodes"))):
                w.store("pos", w.add(parent, one), end)
        with w.when(w.compare("sgt", end, begin)):
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
