"""From a traced call to something that runs: normalize, analyze, cut, split."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx

from gossamer.errors import UnsupportedError
from gossamer.execute import RegionKernel, Warnings
from gossamer.tile_region import tile_region

from . import autocast
from .cut import find_groups
from .fills import Analysis, analyze
from .gradient import (
    broadcast_leaf,
    broadcast_patterns,
    has_softmax,
    sample_needed,
    store_shared,
    trace_gradient,
    wants_spelled_out,
)
from .leaf import Leaf
from .normalize import normalize
from .region import Region
from .repetition import repeat_patterns
from .split import split
from .trace import Shapes, Trace, trace

Sizes = Callable[[Shapes], tuple[int, ...]]


@dataclass(eq=False)
class Program:
    """A traced function, its regions cut out.

    Attributes:
        trace: where it comes from.
        fits: whether leaves of these shapes may use it.
        module: takes the shapes of the leaves, then the leaves.
        kernels: its regions, in the order in which they run.
        fallbacks: operations that get a sparse operand densely, and why.
        milliseconds: what tracing and cutting took.
        autocasts: whether it was traced under autocast; its casts are part of it.
    """

    trace: Trace
    fits: Callable[[Shapes], bool]
    module: fx.GraphModule
    kernels: list[RegionKernel]
    fallbacks: dict[str, str]
    milliseconds: float
    autocasts: bool = False

    def __call__(self, shapes: Shapes, leaves: Sequence[Any]) -> Any:
        """Run on the leaves; returns what the function returns."""
        # not through Module.__call__, which costs more than a small region
        if not self.autocasts:
            return self.trace.rebuild(self.module.forward(shapes, *leaves))
        with autocast.switched_off():
            return self.trace.rebuild(self.module.forward(shapes, *leaves))


def build(
    call: Callable[[list[torch.Tensor]], Any],
    leaves: Sequence[Leaf],
    backend: str,
    warn: Warnings,
    fullgraph: bool,
) -> Program:
    """Trace ``call`` for leaves like these.

    Raises:
        TraceError: it cannot be traced.
    """
    start = time.perf_counter()
    traced = trace(call, leaves)
    autocasts = autocast.is_active()
    with autocast.switched_off():
        if autocasts:
            autocast.spell_out(traced.graph)
        shapes = normalize(traced)
        found = analyze(traced)
        while repeat_patterns(traced, found):
            found = analyze(traced)
        return assemble(traced, shapes, found, backend, warn, fullgraph, start, autocasts)


def build_gradient(
    region: Region,
    leaves: Sequence[Leaf],
    wanted: Sequence[int],
    given: Sequence[int],
    saved: Sequence[int],
    warn: Warnings,
    fullgraph: bool,
) -> tuple[Program, dict[int, Sizes], Callable[[Shapes], bool]]:
    """The backward of a region, for leaves as `trace_gradient` describes them.

    Returns:
        The program, for leaves of which some have their pattern broadcast; the shapes of those, as functions of the
        shapes of all leaves; whether it is for leaves of these shapes, before that.

    Raises:
        TraceError: it cannot be traced.
        UnsupportedError: an operation cannot be compiled, and `fullgraph` is set.
    """
    start = time.perf_counter()
    expanded: dict[int, Sizes] = {}
    with autocast.switched_off():
        traced, shapes, found = _analyzed_gradient(region, leaves, wanted, given, saved)
        fits = traced.guard()
        broadcast = broadcast_patterns(traced, found)
        if broadcast:
            wide = list(leaves)
            for number, shape in broadcast.items():
                sizes = expanded[number] = traced.sizes(shape)
                wide[number] = broadcast_leaf(leaves[number], sizes([leaf.shape for leaf in leaves]), -1 - number)
            traced, shapes, found = _analyzed_gradient(region, wide, wanted, given, saved)
        found = store_shared(traced, sample_needed(traced, found))
        program = assemble(traced, shapes, found, "compiled", warn, fullgraph, start, finds_attention=False)
    for operation, reason in program.fallbacks.items():
        if fullgraph:
            raise UnsupportedError(f"fullgraph=True, but {operation} in the backward cannot be compiled: {reason}")
        warn.once(f"backward {operation}", f"{operation}, in the backward, runs in PyTorch on dense tensors: {reason}")
    return program, expanded, _both(fits, program.fits, expanded) if expanded else fits


def _analyzed_gradient(
    region: Region, leaves: Sequence[Leaf], wanted: Sequence[int], given: Sequence[int], saved: Sequence[int]
) -> tuple[Trace, fx.Node, Analysis]:
    def analyzed(spelled_out: bool) -> tuple[Trace, fx.Node, Analysis]:
        traced = trace_gradient(region, leaves, wanted, given, saved, spelled_out)
        shapes = normalize(traced)
        return traced, shapes, analyze(traced)

    # a softmax in a region is sparse, and so is what its backward computes
    if has_softmax(region):
        return analyzed(spelled_out=True)
    whole = analyzed(spelled_out=False)
    return analyzed(spelled_out=True) if wants_spelled_out(whole[2]) else whole


def _both(
    before: Callable[[Shapes], bool], after: Callable[[Shapes], bool], expanded: dict[int, Sizes]
) -> Callable[[Shapes], bool]:
    def fits(shapes: Shapes) -> bool:
        if not before(shapes):
            return False
        wide = list(shapes)
        for number, sizes in expanded.items():
            wide[number] = sizes(shapes)
        return after(wide)

    return fits


def assemble(
    traced: Trace,
    shapes: fx.Node,
    found: Analysis,
    backend: str,
    warn: Warnings,
    fullgraph: bool,
    start: float,
    autocasts: bool = False,
    finds_attention: bool = True,
) -> Program:
    """Cut regions out of a trace that is normalized (which gave `shapes`) and analyzed; `start` is when it began.

    With `finds_attention`, regions that are attention run as tile programs where these run.
    """
    groups = find_groups(traced.graph, found)
    kernels: list[RegionKernel] = []

    def make_call(region: Any, sizes: Any, numbers: Any) -> RegionKernel:
        tiles = tile_region(region, numbers) if finds_attention and backend == "compiled" else None
        kernels.append(RegionKernel(region, sizes, backend, warn, fullgraph, tiles))
        return kernels[-1]

    parts = split(traced, shapes, found, groups, make_call)
    module = fx.GraphModule(torch.nn.Module(), parts.graph)
    elapsed = (time.perf_counter() - start) * 1e3
    return Program(traced, traced.guard(), module, kernels, parts.fallbacks, elapsed, autocasts)
