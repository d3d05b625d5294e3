"""From a tensor on a GPU to one compressed segment, by kernels alone: count and scan in one launch, fill in another."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from gossamer.conversion.cuda.compress import Compressor, Stored
from gossamer.conversion.cuda.room import Room, words
from gossamer.conversion.cuda.rows import counter
from gossamer.conversion.cuda.scan import Scan
from gossamer.runtime.allocation import empty

_INT32_MAX = 2**31 - 1


class ScanCompressor(Compressor):
    """A `Compressor` for outlines of one segment, all of whose nodes are in use."""

    def __init__(self, *arguments: Any, **options: Any):
        super().__init__(*arguments, **options)
        assert self.above is None
        assert not self.loose
        self.scan = Scan(self.rows * self.pieces, self.wide == torch.int64)
        self.counter = counter(self.shape, self.scan.width)
        self.room = Room()

    def __call__(self, kept: Tensor, source: Tensor | None, known: int | None = None) -> Stored:
        """Stores what is kept. Waits for the GPU once, to know how much that is, unless `known` says it.

        Args:
            kept: What decides.
            source: Where values come from, if it is another tensor.
            known: How many are kept, if that is known.

        Returns:
            The levels; the values; the place of each node, int64.
        """
        device, leaf, scan = kept.device, self.leaf, self.scan
        number, chain = kept.get_device(), leaf.end - leaf.chain
        memory = scan.memory(device)
        counted = [*self.numbers, *scan.numbers, kept.data_ptr(), kept.numel()]
        counted += scan.words(memory, "counts", "within", "totals", "begins")
        value_dtype = (kept if source is None else source).dtype
        positions = None

        def make(count: int) -> list[Tensor]:
            nonlocal positions
            index = self.least_index if count <= _INT32_MAX else torch.int64
            positions = empty(self.rows // self.inner + 1, index, device)
            tensors = [empty(count, index, device) for _ in range(chain)]
            if self.source is not None:
                tensors.append(empty(count, value_dtype, device))
            if self.places:
                tensors.append(empty(count, torch.int64, device))
            return tensors

        def store(capacity: int, tensors: Sequence[Tensor]) -> None:
            assert positions is not None
            filled = [*self.numbers, scan.chunks, capacity, self.inner]
            if source is not None:
                assert self.source is not None
                filled += self.source.strides
            filled += (kept.data_ptr(), kept.numel(), *scan.words(memory, "begins", "within"))
            for tensor in (positions, *tensors[:chain], source, *tensors[chain:]):
                if tensor is not None:
                    filled += (tensor.data_ptr(), tensor.numel())
            self.filler(scan.width, "chunk", positions.dtype).launch(number, filled)

        if known is not None:
            self.counter.launch(number, [*counted, *scan.words(memory, "total")])
            count, tensors = known, make(known)
            store(known, tensors)
        else:
            with words.one() as word:
                self.counter.launch(number, [*counted, word, 1])
                most = self.rows * self.sizes[-1]
                count, tensors = self.room.fill(lambda: self.counter.wait(number, word), make, store, most)
        rest: list[Tensor | None] = [None] * (chain - 1)
        above: list[Tensor | None] = [None] * leaf.chain
        levels = [*above, positions, *rest], [*above, *tensors[:chain]], count
        more = list(tensors[chain:])
        values = more.pop(0) if self.source is not None else None
        return levels, values, more[0] if more else None
