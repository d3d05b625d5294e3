"""Sparsifying on a GPU by generated kernels: dense tensors to patterns and values."""

import math
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from gossamer.conversion.cuda.blocks import BlockMover, Marker
from gossamer.conversion.cuda.compress import ALIGNMENT, MASK, Compressor, Memory
from gossamer.conversion.cuda.groups import Structurer
from gossamer.conversion.cuda.scanned import ScanCompressor
from gossamer.conversion.cuda.whole_blocks import BlockStorer
from gossamer.conversion.flat import fill_bits, kept_bits
from gossamer.conversion.nodes import Outline
from gossamer.conversion.patterns import has_only_children, is_structured, loose_level, make_pattern, tight
from gossamer.conversion.strided import level_strides
from gossamer.formats import Format
from gossamer.pattern import Pattern


@lru_cache(maxsize=4096)
def has_kernels(format: Format) -> bool:
    """Whether there are kernels that store dense tensors in a format."""
    dense = format.without_batch()
    if not dense.outer or dense.allows_duplicates:
        return False
    if is_structured(dense):
        return True
    outline = Outline.of(tight(dense))
    return outline is not None and (loose_level(dense) is None or len(outline.segments) == 1)


def can_choose(format: Format, dtype: torch.dtype) -> bool:
    """Whether a kernel finds the largest n of every m by itself."""
    last = format.levels[-1]
    return last.kind == "structured" and last.m <= _MOST_COMPARED and dtype.is_floating_point


_MOST_COMPARED = 8


def _magnitudes(dtype: torch.dtype) -> tuple[int, int]:
    """Under which bits elements compare as their magnitudes do, and what infinity is: a NaN counts as much."""
    mask, _ = kept_bits(dtype, 0.0)
    return mask, fill_bits(dtype, math.inf)


def store(
    dense: Tensor,
    format: Format,
    fill: float,
    mask: Tensor | None,
    nodes: Tensor | None,
    known: int | None,
    index_dtype: torch.dtype | None,
    largest: bool = False,
) -> tuple[Pattern, Tensor]:
    """Does what `store_kept` does, outside autograd, for a tensor on a GPU that is not empty.

    Waits for the GPU once, for the number of nodes, unless `known` says it; for batch levels once more, to see that
    all batches store equally many.

    Args:
        dense: A tensor of any strides, neither conjugate nor negative.
        format: One that `has_kernels`.
        fill, mask, nodes, index_dtype: As for `store_kept`.
        known: How many of `nodes` there are, if that is known.
        largest: Whether the n of every group of m with the largest magnitude are kept (`can_choose`).
    """
    if nodes is not None:
        nodes = nodes.contiguous()
    aligned = tuple(a is None or a.data_ptr() % ALIGNMENT == 0 for a in (dense, mask, nodes))
    strides = dense.stride(), None if mask is None else mask.stride()
    bits = fill_bits(dense.dtype, fill)
    key = format, dense.shape, dense.dtype, strides, aligned, bits, nodes is None, index_dtype, largest
    plan = _plans.get(key)
    if plan is None:
        if len(_plans) >= _MOST_PLANS:
            _plans.clear()
        plan = _plans[key] = _Plan(dense, format, fill, mask, nodes, index_dtype, largest)
    return plan(dense, mask, nodes, known)


class _Plan:
    """What is known of a conversion before the data: the kernels, and the numbers that they are told.

    Args:
        dense, format, fill, mask, nodes, index_dtype, largest: As for `store`; calls may have other tensors like these.
    """

    def __init__(
        self,
        dense: Tensor,
        format: Format,
        fill: float,
        mask: Tensor | None,
        nodes: Tensor | None,
        index_dtype: torch.dtype | None,
        largest: bool,
    ):
        target = format.without_batch()
        sizes = target.level_sizes(dense.shape)
        bits = fill_bits(dense.dtype, fill)
        self.format, self.target, self.shape, self.dtype = format, target, dense.shape, dense.dtype
        source = Memory.of(dense, level_strides(target, dense.stride()))
        kept, test = source, kept_bits(dense.dtype, fill)
        if mask is not None:
            kept, test = Memory.of(mask, level_strides(target, mask.stride())), MASK
        self.is_plain = not format.batch_rank and not has_only_children(target)
        self.sizes, self.inner, self.rest = sizes, sizes[target.outer :], [None] * (target.lvl_rank - target.outer)
        self.structurer = self.storer = self.marker = self.mover = None
        if is_structured(target):
            if nodes is not None:
                kept, test = Memory.of(nodes, nodes.stride()), MASK
            self.largest = largest
            if largest:
                test = _magnitudes(dense.dtype)
            self.structurer = Structurer(kept, test, source, target, sizes, bits, index_dtype, largest)
            return
        outline = Outline.of(tight(target))
        assert outline is not None
        is_entrywise = target.outer == target.lvl_rank
        if nodes is not None:
            kept, test = Memory.of(nodes, nodes.stride()), MASK
        elif not is_entrywise:
            if len(outline.segments) == 1 and loose_level(target) is None and _few(target, sizes):
                self.storer = BlockStorer(kept, test, source, target, outline, sizes, index_dtype)
                return
            self.marker = Marker(kept, test, target, sizes)
            kept, test = Memory.of_nodes(sizes[: target.outer]), MASK
        if not is_entrywise:
            self.mover = BlockMover(source, target, sizes, bits)
        self.has_own_source = is_entrywise and (mask is not None or nodes is not None)
        is_loose = loose_level(target) is not None
        make = Compressor if is_loose or len(outline.segments) > 1 else ScanCompressor
        self.compressor = make(
            kept,
            test,
            outline,
            sizes,
            source=source if is_entrywise else None,
            has_own_source=self.has_own_source,
            fill=fill,
            loose=is_loose,
            places=not is_entrywise,
            index_dtype=index_dtype,
        )

    def __call__(
        self, dense: Tensor, mask: Tensor | None, nodes: Tensor | None, known: int | None
    ) -> tuple[Pattern, Tensor]:
        """Returns the pattern and the values."""
        kept = nodes if nodes is not None else dense if mask is None else mask
        if self.structurer is not None:
            levels, values = self.structurer(kept, dense, self.largest or known is not None)
        elif self.storer is not None:
            levels, values = self.storer(kept, dense)
        else:
            if self.marker is not None:
                kept = self.marker(kept)
            levels, values, places = self.compressor(kept, dense if self.has_own_source else None, known)
            if self.mover is not None:
                assert places is not None
                values = self.mover.take(dense, places)
        assert values is not None
        if self.is_plain:
            # None of the checks that a stranger's arrays need.
            shape = torch.Size((levels[2], *self.inner))
            rest = self.rest
            arrays = [*levels[0], *rest], [*levels[1], *rest]
            pattern = Pattern.trusted(self.format, self.shape, self.sizes, *arrays, dense.device, shape)
            return pattern, values if len(shape) == 1 else values.view(shape)
        pattern = make_pattern(self.target, self.format, self.shape, levels)
        return pattern, values.view(pattern.values_shape)


def _few(format: Format, sizes: tuple[int, ...]) -> bool:
    """Whether 31 bits are enough for the places of the outer levels."""
    return math.prod(sizes[: format.outer]) < 2**31


_MOST_PLANS = 4096
_plans: dict[Any, _Plan] = {}
