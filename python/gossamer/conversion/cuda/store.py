"""Sparsifying on a GPU by generated kernels: dense tensors to patterns and values."""

from typing import Any

import torch
from torch import Tensor

from gossamer.conversion.cuda.blocks import BlockMover, Marker
from gossamer.conversion.cuda.compress import ALIGNMENT, MASK, Compressor, Memory
from gossamer.conversion.cuda.groups import Structurer
from gossamer.conversion.flat import bits_of, fill_bits, kept_bits
from gossamer.conversion.nodes import Outline
from gossamer.conversion.patterns import is_structured, loose_level, make_pattern, tight
from gossamer.conversion.strided import level_strides
from gossamer.formats import Format
from gossamer.pattern import Pattern


def has_kernels(format: Format) -> bool:
    """Whether there are kernels that store dense tensors in a format."""
    dense = format.without_batch()
    if not dense.outer or dense.allows_duplicates:
        return False
    if is_structured(dense):
        return True
    outline = Outline.of(tight(dense))
    return outline is not None and (loose_level(dense) is None or len(outline.segments) == 1)


def store(
    dense: Tensor,
    format: Format,
    fill: float,
    mask: Tensor | None,
    nodes: Tensor | None,
    known: int | None,
    index_dtype: torch.dtype | None,
) -> tuple[Pattern, Tensor]:
    """Does what `store_kept` does, outside autograd, for a tensor on a GPU that is not empty.

    Waits for the GPU once, for the number of nodes, unless `known` says it; for batch levels once more, to see that
    all batches store equally many.

    Args:
        dense: A tensor of any strides, neither conjugate nor negative.
        format: One that `has_kernels`.
        fill, mask, nodes, index_dtype: As for `store_kept`.
        known: How many of `nodes` there are, if that is known.
    """
    if nodes is not None:
        nodes = nodes.contiguous()
    aligned = tuple(a is None or a.data_ptr() % ALIGNMENT == 0 for a in (dense, mask, nodes))
    strides = dense.stride(), None if mask is None else mask.stride()
    bits = fill_bits(dense.dtype, fill)
    key = format, dense.shape, dense.dtype, strides, aligned, bits, nodes is None, index_dtype
    plan = _plans.get(key)
    if plan is None:
        if len(_plans) >= _MOST_PLANS:
            _plans.clear()
        plan = _plans[key] = _Plan(dense, format, fill, mask, nodes, index_dtype)
    return plan(dense, mask, nodes, known)


class _Plan:
    """What is known of a conversion before the data: the kernels, and the numbers that they are told.

    Args:
        dense, format, fill, mask, nodes, index_dtype: As for `store`; a call may have other tensors like these.
    """

    def __init__(
        self,
        dense: Tensor,
        format: Format,
        fill: float,
        mask: Tensor | None,
        nodes: Tensor | None,
        index_dtype: torch.dtype | None,
    ):
        target = format.without_batch()
        sizes = target.level_sizes(dense.shape)
        bits = fill_bits(dense.dtype, fill)
        self.format, self.target, self.shape, self.dtype = format, target, dense.shape, dense.dtype
        source = Memory.of(dense, level_strides(target, dense.stride()))
        kept, test = source, kept_bits(dense.dtype, fill)
        if mask is not None:
            kept, test = Memory.of(mask, level_strides(target, mask.stride())), MASK
        self.structurer = self.marker = self.mover = None
        if is_structured(target):
            if nodes is not None:
                kept, test = Memory.of(nodes, nodes.stride()), MASK
            self.structurer = Structurer(kept, test, source, target, sizes, bits, index_dtype)
            return
        outline = Outline.of(tight(target))
        assert outline is not None
        is_entrywise = target.outer == target.lvl_rank
        if nodes is not None:
            kept, test = Memory.of(nodes, nodes.stride()), MASK
        elif not is_entrywise:
            self.marker = Marker(kept, test, target, sizes)
            kept, test = Memory.of_nodes(sizes[: target.outer]), MASK
        if not is_entrywise:
            self.mover = BlockMover(source, target, sizes, bits)
        self.compressor = Compressor(
            kept,
            test,
            outline,
            sizes,
            source=source if is_entrywise else None,
            has_own_source=is_entrywise and (mask is not None or nodes is not None),
            fill_bits=bits,
            loose=loose_level(target) is not None,
            places=not is_entrywise,
            index_dtype=index_dtype,
        )

    def __call__(
        self, dense: Tensor, mask: Tensor | None, nodes: Tensor | None, known: int | None
    ) -> tuple[Pattern, Tensor]:
        """Returns the pattern and the values."""
        source = bits_of(dense)
        kept = bits_of(nodes) if nodes is not None else source if mask is None else bits_of(mask)
        if self.structurer is not None:
            levels, values = self.structurer(kept, source, known is not None)
        else:
            if self.marker is not None:
                kept = bits_of(self.marker(kept))
            own = source if self.compressor.has_own_source else None
            levels, values, places = self.compressor(kept, own, known)
            if self.mover is not None:
                assert places is not None
                values = self.mover.take(source, places)
        assert values is not None
        pattern = make_pattern(self.target, self.format, self.shape, levels)
        return pattern, values.view(self.dtype).view(pattern.values_shape)


_MOST_PLANS = 4096
_plans: dict[Any, _Plan] = {}
