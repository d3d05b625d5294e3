"""From a tensor on a GPU to the levels of a format: count, scan, fill."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from gossamer.conversion.cuda.kernel import GpuKernel
from gossamer.conversion.cuda.rows import STEP, Fill, Shape, counter, filler
from gossamer.conversion.flat import Levels, index_dtype_for, width_of
from gossamer.conversion.nodes import Outline

_INT32_MAX = 2**31 - 1
ALIGNMENT = 16  # bytes that a lane reads at once
_THREADS = 1 << 17  # that keep a large chip busy
MASK = -1, 0  # the test of an element of a mask

Stored = tuple[Levels, Tensor | None, Tensor | None]


@dataclass(frozen=True)
class Memory:
    """What kernels are made for of a tensor that has an element for every place of some levels.

    Attributes:
        bytes: Of an element.
        strides: How far apart neighbours at every level are.
        aligned: Whether it begins where 16 bytes can be read at once.
    """

    bytes: int
    strides: tuple[int, ...]
    aligned: bool

    @classmethod
    def of(cls, tensor: Tensor, strides: Sequence[int]) -> Memory:
        """Returns that of a tensor with these strides of levels."""
        return cls(tensor.element_size(), tuple(strides), tensor.data_ptr() % ALIGNMENT == 0)

    @classmethod
    def of_nodes(cls, sizes: Sequence[int]) -> Memory:
        """Returns that of a mask of all places, contiguous."""
        strides = [1]
        for size in reversed(sizes[1:]):
            strides.insert(0, strides[0] * size)
        return cls(1, tuple(strides), True)

    @property
    def element(self) -> str:
        """How MLIR calls the bits of an element."""
        return f"i{self.bytes * 8}"


class Compressor:
    """Stores what is kept of tensors of one kind, of at least one place.

    Args:
        kept: What decides.
        test: Which of its elements are kept, as `kept_bits` says it.
        outline: The levels. Where it has several segments, upper ones come from which nodes have any below.
        sizes: Of the levels.
        source: Where values come from; None if none are wanted.
        has_own_source: Whether that is another tensor than what decides.
        fill: What a slot that is not used holds.
        loose: Whether the one segment is loose_compressed: every parent has the room of the largest.
        places: Whether the place of every node in the space of all levels is wanted.
        index_dtype: torch.int32 or torch.int64, widened where it is too small; None takes int32 where it is enough.
    """

    def __init__(
        self,
        kept: Memory,
        test: tuple[int, int],
        outline: Outline,
        sizes: Sequence[int],
        *,
        source: Memory | None = None,
        has_own_source: bool = False,
        fill: float = 0,
        loose: bool = False,
        places: bool = False,
        index_dtype: torch.dtype | None = None,
    ):
        self.kept, self.outline, self.sizes = kept, outline, tuple(sizes[: outline.outer])
        self.source, self.has_own_source, self.unused = source, has_own_source, fill
        self.loose, self.places = loose, places
        self.index_dtype = index_dtype
        self.leaf = outline.segments[-1]
        self.rows, self.inner = math.prod(self.sizes[:-1]), math.prod(self.sizes[self.leaf.chain : -1])
        self.shape, self.pieces, piece_size = _cut(kept, self.sizes)
        self.shape = replace(self.shape, zero=test[1] == 0)
        self.numbers = [self.rows, self.pieces, piece_size, *test, *self.sizes, *kept.strides]
        self.counter = counter(self.shape, None)
        self.wide = torch.int64 if self.rows * self.sizes[-1] > _INT32_MAX else torch.int32
        self.least_index = index_dtype_for(max(1, *self.sizes), index_dtype)
        self._fillers: dict[tuple[str, torch.dtype], GpuKernel] = {}
        self.above: Compressor | None = None
        if len(outline.segments) > 1:
            upper = Outline(outline.segments[:-1])
            sizes = self.sizes[: upper.outer]
            nodes = Memory.of_nodes(sizes)
            self.above = Compressor(nodes, MASK, upper, sizes, places=True, index_dtype=index_dtype)

    def __call__(self, kept: Tensor, source: Tensor | None, known: int | None = None) -> Stored:
        """Stores what is kept. Waits for the GPU once, to know how much that is.

        Args:
            kept: What decides.
            source: Where values come from, if it is another tensor.
            known: How many are kept, if that is known; of no use where there are several numbers to know.

        Returns:
            The levels; the values; the place of each node, int64 (of a slot that is not used: -1).
        """
        counted = self.count(kept)
        if self.loose:
            return self._fill_loose(kept, source, counted.ends)
        return self.fill(kept, source, counted, torch.stack(counted.totals()).tolist())

    def count(self, kept: Tensor) -> Counted:
        """Counts what is kept in every piece, and which nodes of segments above have any below."""
        counts = torch.empty(self.rows * self.pieces, dtype=torch.int32, device=kept.device)
        self.counter(self.numbers, kept, counts)
        ends = counts.cumsum(0, dtype=self.wide)
        if self.above is None:
            return Counted(ends)
        row_ends = ends[self.pieces - 1 :: self.pieces]
        starts = torch.cat([row_ends.new_zeros(1), row_ends])
        bounds = starts[:: self.rows // math.prod(self.above.sizes)]
        mask = bounds[1:] > bounds[:-1]
        return Counted(ends, starts, mask, self.above.count(mask))

    def fill(self, kept: Tensor, source: Tensor | None, counted: Counted, totals: Sequence[int]) -> Stored:
        """Stores the nodes, of which there are `totals`, those of the last segment first."""
        index = self.least_index if max(totals) <= _INT32_MAX else torch.int64
        leaf = self.leaf
        if self.above is None:
            nothing: list[Tensor | None] = [None] * leaf.chain
            written = torch.empty(self.rows // self.inner + 1, dtype=index, device=kept.device)
            return self._store(kept, source, counted.ends, False, written, nothing, nothing, totals[0])
        assert counted.starts is not None
        assert counted.mask is not None
        assert counted.above is not None
        upper, _, places = self.above.fill(counted.mask, None, counted.above, totals[1:])
        assert places is not None
        dense = math.prod(self.sizes[leaf.first : leaf.chain])
        begins = counted.starts[:-1].view(-1, dense, self.inner)[:, :, 0].index_select(0, places)
        written = torch.cat([begins.reshape(-1), counted.ends[-1:]]).to(index)
        rest: list[Tensor | None] = [None] * (leaf.chain - leaf.first)
        above = [[None if a is None else a.to(index) for a in arrays] + rest for arrays in upper[:2]]
        return self._store(kept, source, counted.ends, False, written, above[0], above[1], totals[0], stores=False)

    def _fill_loose(self, kept: Tensor, source: Tensor | None, counted: Tensor) -> Stored:
        """Stores the nodes with the same room for every parent."""
        device, parents = kept.device, self.rows // self.inner
        ends = torch.cat([counted.new_zeros(1), counted]).long()
        starts = ends[:: self.inner * self.pieces]
        used = starts.diff()
        room = int(used.max())
        first = torch.arange(parents, device=device) * room
        begins = ends[:-1] + (first - starts[:-1]).repeat_interleave(self.inner * self.pieces)
        index = self.least_index if parents * room <= _INT32_MAX else torch.int64
        positions = torch.stack([first, first + used], 1).reshape(-1).to(index)
        nothing: list[Tensor | None] = [None] * self.leaf.chain
        return self._store(kept, source, begins, True, positions, nothing, nothing, parents * room, stores=False)

    def _store(
        self,
        kept: Tensor,
        source: Tensor | None,
        begins: Tensor,
        exclusive: bool,
        positions: Tensor,
        above_positions: list[Tensor | None],
        above_coordinates: list[Tensor | None],
        count: int,
        stores: bool = True,
    ) -> Stored:
        """Stores the nodes of the last segment, and its positions, if it `stores` them."""
        device, leaf, index = kept.device, self.leaf, positions.dtype

        def make(dtype: torch.dtype, unused: float) -> Tensor:
            if exclusive:  # has slots that are not used
                return torch.full((count,), unused, dtype=dtype, device=device)
            return torch.empty(count, dtype=dtype, device=device)

        found = [make(index, 0) for _ in range(leaf.chain, leaf.end)]
        values = make(source.dtype if source is not None else kept.dtype, self.unused) if self.source else None
        places = make(torch.int64, -1) if self.places else None
        filler = self.filler(width_of(begins.dtype), "piece" if exclusive else "end", index, stores)
        numbers = self.numbers
        arrays = [kept, begins]
        if stores:
            numbers = [*numbers, self.inner]
            arrays.append(positions)
        arrays += found
        if source is not None:
            assert self.source is not None
            numbers = [*numbers, *self.source.strides]
            arrays.append(source)
        arrays += [a for a in (values, places) if a is not None]
        if count or stores:
            filler(numbers, *arrays)
        rest: list[Tensor | None] = [None] * (len(found) - 1)
        levels = [*above_positions, positions, *rest], [*above_coordinates, *found], count
        return levels, values, places

    def filler(self, begins: str, what: str, index: torch.dtype, stores: bool = True) -> GpuKernel:
        """Returns the kernel that stores nodes; the arguments are those of `Fill`."""
        key = begins, index
        if key not in self._fillers:
            fill = Fill(
                begins=begins,
                what=what,
                index=width_of(index),
                positions=stores,
                chain=tuple(range(self.leaf.chain, self.leaf.end - 1)),
                values=None if self.source is None else self.source.element,
                source=self.has_own_source,
                places=self.places,
            )
            self._fillers[key] = filler(self.shape, fill)
        return self._fillers[key]


@dataclass(frozen=True)
class Counted:
    """What was counted.

    Attributes:
        ends: For every piece how many are kept up to its end.
        starts: For every row, and the end, how many are kept before it; with segments above.
        mask: Which nodes of the segments above have any below.
        above: The same of those.
    """

    ends: Tensor
    starts: Tensor | None = None
    mask: Tensor | None = None
    above: Counted | None = None

    def totals(self) -> list[Tensor]:
        """Nodes of every segment, the last one first."""
        rest = self.above.totals() if self.above else []
        return [self.ends[-1].long(), *rest]


def _cut(kept: Memory, sizes: tuple[int, ...]) -> tuple[Shape, int, int]:
    """Returns how rows are read, how many pieces each has, and how many elements a piece has."""
    size, rank = sizes[-1], len(sizes) - 1
    if kept.strides[-1] != 1 or size <= STEP:
        # Pieces are as long as there are threads enough.
        rows = math.prod(sizes[:-1])
        wanted = max(1, min(_THREADS // rows, size // (2 * STEP)))
        piece = -(-size // wanted)
        piece += -piece % STEP
        return Shape(kept.element, rank, 1, 1, 1), -(-size // piece), piece
    vector = min(8, ALIGNMENT // kept.bytes)
    if not kept.aligned or any(number % vector for number in (size, *kept.strides[:-1])):
        vector = 1
    lanes = 8 if size <= 8 * vector else 32
    # More on its way hides more latency, until registers are short.
    unroll, most = 1, 8 if vector == 1 else 4
    while unroll < most and unroll * lanes * vector < size:
        unroll *= 2
    piece = lanes * vector * unroll
    return Shape(kept.element, rank, lanes, vector, unroll, size % piece == 0), -(-size // piece), piece
