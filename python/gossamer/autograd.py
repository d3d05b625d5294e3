"""Gradients through regions: the backward of a region is compiled as the region is, at the first backward."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from gossamer.errors import TensorError, TraceError, UnsupportedError
from gossamer.expand import expand, expanded_pattern, summed
from gossamer.frontend.leaf import Leaf, Stored
from gossamer.pattern import Pattern
from gossamer.tensor import Fill, SparseTensor

if TYPE_CHECKING:
    from gossamer.execute import RegionKernel
    from gossamer.frontend.program import Program

Value = Any  # a Tensor or a SparseTensor
Shapes = Sequence[Sequence[int]]


def differentiable(kernel: RegionKernel, shapes: list[tuple[int, ...]], inputs: Sequence[Value]) -> tuple[Value, ...]:
    """Runs a region under autograd.

    Args:
        kernel: The region.
        shapes: Of its results.
        inputs: Its inputs, of which some require a gradient (of a SparseTensor its values do).

    Returns:
        Its results.
    """
    tensors = [i.values if isinstance(i, SparseTensor) else i for i in inputs]
    frames = [(i.pattern, i.fill) if isinstance(i, SparseTensor) else None for i in inputs]
    results = _RegionFunction.apply(kernel, shapes, frames, *tensors)
    if kernel.is_dense:
        return results
    return tuple(
        result if o.pattern_of is None else SparseTensor(inputs[o.pattern_of].pattern, result, o.fill)
        for result, o in zip(results, kernel.region.outputs, strict=True)
    )


# all of a SparseTensor but its values
_Frame = tuple[Pattern, Fill]


def _framed(frames: Sequence[_Frame | None], tensors: Sequence[Tensor]) -> list[Value]:
    return [
        tensor if frame is None else SparseTensor._make(frame[0], tensor, frame[1])
        for frame, tensor in zip(frames, tensors, strict=True)
    ]


def _flat(results: Sequence[Value]) -> tuple[Tensor, ...]:
    return tuple(result.values if isinstance(result, SparseTensor) else result for result in results)


class _RegionFunction(torch.autograd.Function):
    """The kernel forwards, compiled backwards; a gradient of the gradient is that of a dense run in PyTorch."""

    @staticmethod
    def forward(ctx: Any, kernel: RegionKernel, shapes: Any, frames: Any, *tensors: Tensor) -> Any:
        results = kernel.run(shapes, _framed(frames, tensors))
        if not kernel.is_dense:
            results = _flat(results)
        ctx.kernel, ctx.frames = kernel, frames
        ctx.save_for_backward(*tensors, *(results[number] for number in kernel.gradients.saved))
        ctx.set_materialize_grads(False)
        ctx.mark_non_differentiable(*(result for result in results if not result.is_floating_point()))
        return results

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> Any:
        frames, kept = ctx.frames, ctx.saved_tensors  # which may be read once
        tensors, saved = kept[: len(frames)], kept[len(frames) :]
        wanted = [number for number, needed in enumerate(ctx.needs_input_grad[3:]) if needed]
        found = None
        if not any(gradient is not None for gradient in gradients):
            found = [None] * len(wanted)
        elif not torch.is_grad_enabled():
            found = ctx.kernel.gradients(_framed(frames, tensors), saved, gradients, wanted)
        else:
            ctx.kernel.warn.once(
                "double backward",
                "create_graph=True: gradients that are themselves differentiated are computed in PyTorch on dense "
                "tensors, from a second forward run",
            )
        if found is None:
            found = _densely(ctx.kernel, frames, tensors, gradients, wanted)
        by_input = dict(zip(wanted, found, strict=True))
        return None, None, None, *(by_input.get(number) for number in range(len(tensors)))


def _densely(
    kernel: RegionKernel,
    frames: Sequence[_Frame | None],
    tensors: Sequence[Tensor],
    gradients: Sequence[Tensor | None],
    wanted: Sequence[int],
) -> Sequence[Tensor | None]:
    """The gradients from a second forward run in PyTorch, with all entries; differentiable where that is asked for."""
    again = torch.is_grad_enabled()
    tensors = list(tensors)
    with torch.enable_grad():
        if not again:
            tensors = [tensor.detach() for tensor in tensors]
            for number in wanted:
                tensors[number].requires_grad_()
        results = _flat(kernel.run_densely(_framed(frames, tensors)))
        pairs = [(r, d) for r, d in zip(results, gradients, strict=True) if r.requires_grad and d is not None]
        return torch.autograd.grad(
            [r for r, _ in pairs],
            [tensors[number] for number in wanted],
            [d for _, d in pairs],
            create_graph=again,
            allow_unused=True,
        )


class Gradients:
    """The backward of one region: a program for every choice of gradients, made when it is first needed.

    Attributes:
        saved: The results of the region that it wants to have.
        programs: What was made so far.
    """

    def __init__(self, kernel: RegionKernel):
        from gossamer.frontend.gradient import results_to_save

        self._kernel = kernel
        self._made: dict[Any, list[_Backward]] = {}
        self._last: tuple[Any, list[Pattern], _Backward] | None = None
        self._refused = False
        self.saved = results_to_save(kernel.region)

    @property
    def programs(self) -> list[Program]:
        """What was made so far."""
        return [made.program for several in self._made.values() for made in several]

    def __call__(
        self,
        inputs: Sequence[Value],
        saved: Sequence[Tensor],
        gradients: Sequence[Tensor | None],
        wanted: Sequence[int],
    ) -> list[Tensor | None] | None:
        """Computes gradients.

        Args:
            inputs: Of the region.
            saved: Its results with the numbers `self.saved`, or their values.
            gradients: Of its results, or of their values; None where there is none.
            wanted: The inputs whose gradients are wanted.

        Returns:
            For each of these its gradient, or that of its values; None if it has none. None for all of them if there is
            no program: then they are to be computed densely.
        """
        if self._refused or self._kernel.backend == "reference" or self._kernel.refused is not None:
            return None
        outputs = self._kernel.region.outputs
        given = {number: gradient for number, gradient in enumerate(gradients) if gradient is not None}

        def on_pattern(number: int, tensor: Tensor, fill: Any) -> Value:
            of = outputs[number].pattern_of
            return tensor if of is None else SparseTensor(inputs[of].pattern, tensor.contiguous(), fill)

        leaves = [
            *inputs,
            *(on_pattern(n, tensor, outputs[n].fill) for n, tensor in zip(self.saved, saved, strict=True)),
            *(on_pattern(n, gradient, 0) for n, gradient in given.items()),
        ]
        shapes = [leaf.shape for leaf in leaves]
        # dtypes and devices are the region's: with the same patterns and shapes the program is that of the last time
        call = list(wanted), list(given), shapes
        patterns = [leaf.pattern for leaf in leaves if isinstance(leaf, SparseTensor)]
        if self._last is None or self._last[0] != call or any(map(operator.is_not, self._last[1], patterns)):
            backward = self._find(leaves, *call)
            if backward is None:
                return None
            self._last = call, patterns, backward
        return self._last[2](leaves, shapes)

    def _find(
        self, leaves: Sequence[Value], wanted: Sequence[int], given: Sequence[int], shapes: Shapes
    ) -> _Backward | None:
        patterns = _numbered_patterns(leaves)
        key = (tuple(wanted), tuple(given), tuple(map(_kind, leaves)), patterns)
        fitting = self._made.setdefault(key, [])
        backward = next((made for made in fitting if made.fits(shapes)), None)
        if backward is None:
            backward = self._make(leaves, patterns, wanted, given)
            fitting += [] if backward is None else [backward]
        return backward

    def _make(
        self, leaves: Sequence[Value], patterns: tuple[int | None, ...], wanted: Sequence[int], given: Sequence[int]
    ) -> _Backward | None:
        from gossamer.frontend.program import build_gradient

        kernel = self._kernel
        described = [_leaf(number, leaf, of) for number, (leaf, of) in enumerate(zip(leaves, patterns, strict=True))]
        try:
            program, expanded, fits = build_gradient(
                kernel.region, described, wanted, given, self.saved, kernel.warn, kernel.fullgraph
            )
            for number, size in expanded.items():
                expanded_pattern(leaves[number].pattern, size([leaf.shape for leaf in leaves]))
        except (TraceError, UnsupportedError, TensorError) as error:
            if kernel.fullgraph:
                raise
            self._refused = True
            kernel.warn.once(
                f"backward {id(self)}",
                f"gradients of a region ({', '.join(dict.fromkeys(kernel.region.operations()))}) are computed in "
                f"PyTorch on dense tensors, from a second forward run: {error}",
            )
            return None
        return _Backward(program, expanded, fits, tuple(wanted))


@dataclass(eq=False)
class _Backward:
    """A program for gradients.

    Attributes:
        program: takes the leaves.
        expanded: the leaves that it wants with their pattern broadcast, and the shape as a function of all shapes.
        fits: whether leaves of these shapes may use it.
        wanted: which gradients it gives.
    """

    program: Program
    expanded: dict[int, Callable[[Shapes], tuple[int, ...]]]
    fits: Callable[[Shapes], bool]
    wanted: tuple[int, ...]

    def __call__(self, leaves: list[Value], shapes: list[Sequence[int]]) -> list[Tensor | None]:
        given = leaves
        if self.expanded:
            leaves, wide = list(leaves), {number: size(shapes) for number, size in self.expanded.items()}
            for number, shape in wide.items():
                leaves[number] = expand(leaves[number], shape)
            shapes = [leaf.shape for leaf in leaves]
        results = self.program(shapes, leaves)
        found: list[Tensor | None] = []
        for number, result in zip(self.wanted, results, strict=True):
            if isinstance(given[number], SparseTensor):
                result = None if result is None else self._values(given[number], leaves[number], result)
            elif isinstance(result, SparseTensor):  # the gradient of a dense operand that met a sparse one
                result = result.to_dense()
            found.append(result)
        return found

    @staticmethod
    def _values(given: SparseTensor, used: SparseTensor, result: Value) -> Tensor:
        from gossamer.execute import sample

        if not isinstance(result, SparseTensor):
            result = sample(result, used.pattern, 0)
        if used is given:
            return result.values
        return summed(result.values, given.pattern, used.shape)


def _numbered_patterns(leaves: Sequence[Value]) -> tuple[int | None, ...]:
    """For each SparseTensor a number, the same for those that share a pattern."""
    seen: dict[int, int] = {}
    return tuple(
        seen.setdefault(id(leaf.pattern), len(seen)) if isinstance(leaf, SparseTensor) else None for leaf in leaves
    )


def _kind(leaf: Value) -> Any:
    """What a program depends on, of a leaf."""
    ones = tuple(size == 1 for size in leaf.shape)
    if isinstance(leaf, Tensor):
        return leaf.dtype, leaf.device, ones
    pattern = leaf.pattern
    return leaf.dtype, leaf.device, ones, leaf.format, leaf.fill, pattern.pos_width, pattern.crd_width


def _leaf(number: int, leaf: Value, pattern: int | None) -> Leaf:
    stored = None
    if isinstance(leaf, SparseTensor):
        stored = Stored(leaf.format, leaf.fill, leaf.pattern.pos_width, leaf.pattern.crd_width)
    return Leaf(f"input {number}", tuple(leaf.shape), leaf.dtype, leaf.device, False, stored, pattern)
