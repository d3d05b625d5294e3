"""From a traced call to something that runs: normalize, analyze, cut, split."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx

from gossamer.execute import RegionKernel, Warnings

from . import autocast
from .cut import find_groups
from .fills import analyze
from .leaf import Leaf
from .normalize import normalize
from .split import Split, split
from .trace import Shapes, Trace, trace


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
        parts, kernels = _cut(traced, autocasts, backend, warn, fullgraph)
    module = fx.GraphModule(torch.nn.Module(), parts.graph)
    elapsed = (time.perf_counter() - start) * 1e3
    return Program(traced, traced.guard(), module, kernels, parts.fallbacks, elapsed, autocasts)


def _cut(
    traced: Trace, autocasts: bool, backend: str, warn: Warnings, fullgraph: bool
) -> tuple[Split, list[RegionKernel]]:
    if autocasts:
        autocast.spell_out(traced.graph)
    shapes = normalize(traced)
    found = analyze(traced)
    groups = find_groups(traced.graph, found)
    kernels: list[RegionKernel] = []

    def make_call(region: Any, sizes: Any) -> RegionKernel:
        kernels.append(RegionKernel(region, sizes, backend, warn, fullgraph))
        return kernels[-1]

    return split(traced, shapes, found, groups, make_call), kernels
