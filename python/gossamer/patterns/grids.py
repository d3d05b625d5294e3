"""Patterns of images and volumes, whose positions are a grid read row by row: axial, Swin, neighbourhood."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gossamer.errors import TensorError
from gossamer.patterns.base import Place, PositionPattern, count_of
from gossamer.patterns.interval import maximum, minimum


@dataclass(frozen=True)
class _Grid(PositionPattern):
    """What patterns of a grid share."""

    shape: tuple[int, ...]

    @property
    def _extent(self) -> tuple[int | None, int | None]:
        return math.prod(self.shape), math.prod(self.shape)

    @property
    def _extent_reason(self) -> str:
        return f"a grid of {' x '.join(map(str, self.shape))} ({self!r})"

    def _coordinates(self, x: Any) -> list[Any]:
        """The coordinates of positions, outermost first."""
        coordinates = []
        for d, size in enumerate(self.shape):
            inner = math.prod(self.shape[d + 1 :])
            along = x // inner if inner > 1 else x
            coordinates.append(along % size if d else along)  # nothing is beyond the outermost
        return coordinates


@dataclass(frozen=True)
class Axial(_Grid):
    """See `axial`."""

    axes: tuple[int, ...]

    def _period_of(self, at: Place) -> int:
        return math.prod(self.shape[1:])  # one step along the outermost dimension

    def _allowed(self, at: Place) -> Any:
        same = [q == k for q, k in zip(self._coordinates(at.q), self._coordinates(at.k), strict=True)]
        allowed = None
        for axis in self.axes:
            others = [one for d, one in enumerate(same) if d != axis]
            line = others[0]
            for one in others[1:]:
                line = line & one
            allowed = line if allowed is None else allowed | line
        return allowed

    def __repr__(self) -> str:
        axes = f", axes={list(self.axes)}" if len(self.axes) < len(self.shape) else ""
        return f"axial({list(self.shape)}{axes})"


def axial(shape: Sequence[int], axes: Sequence[int] | None = None) -> PositionPattern:
    """Keys on a line with the query along one of some axes of a grid: in 2-D its row and its column.

    Args:
        shape: Of the grid, two or more dimensions; its positions are numbered row by row.
        axes: Along which; None: all. An axis of -1 is the last: lines along it are the rows of a picture.

    Raises:
        TensorError: A size below 1, fewer than two dimensions, or an axis that there is not.
    """
    sizes = _shape(shape, "axial", 2)
    if axes is None:
        return Axial(sizes, tuple(range(len(sizes))))
    if not axes:
        raise TensorError("axial: there is at least one axis")
    for axis in axes:
        if isinstance(axis, bool) or not isinstance(axis, int) or not -len(sizes) <= axis < len(sizes):
            raise TensorError(
                f"axial: axes of a grid of {len(sizes)} dimensions are 0 to {len(sizes) - 1}, not {axis!r}"
            )
    return Axial(sizes, tuple(sorted({axis % len(sizes) for axis in axes})))


@dataclass(frozen=True)
class Swin(_Grid):
    """See `swin`."""

    window: tuple[int, ...]
    shift: tuple[int, ...]

    def _period_of(self, at: Place) -> int:
        return self.window[0] * math.prod(self.shape[1:])  # one window along the outermost dimension

    def _allowed(self, at: Place) -> Any:
        # A window that wraps round after the shift falls apart again into the parts that were never neighbours.
        allowed = None
        for q, k, w, s in zip(self._coordinates(at.q), self._coordinates(at.k), self.window, self.shift, strict=True):
            same = (q + (w - s)) // w == (k + (w - s)) // w
            allowed = same if allowed is None else allowed & same
        return allowed

    def __repr__(self) -> str:
        shift = f", {list(self.shift)}" if any(self.shift) else ""
        return f"swin({list(self.shape)}, {list(self.window)}{shift})"


def swin(shape: Sequence[int], window: int | Sequence[int], shift: int | Sequence[int] = 0) -> PositionPattern:
    """Keys in the query's own window of a grid cut into windows; Swin Transformer's, with its cyclic shift.

    Args:
        shape: Of the grid; windows at its ends may be shorter.
        window: Sizes of a window along each dimension, or one for all.
        shift: How far the windows are shifted, at least 0 and less than the window. After a cyclic shift Swin lets no
            two positions see each other that were not neighbours before; so does this.

    Raises:
        TensorError: Sizes below 1, other numbers of them than dimensions, or a shift that is out of range.
    """
    sizes = _shape(shape, "swin", 1)
    windows = _for_each(window, len(sizes), "swin", "a window", 1)
    shifts = _for_each(shift, len(sizes), "swin", "a shift", 0)
    for d, (w, s) in enumerate(zip(windows, shifts, strict=True)):
        if s >= w:
            raise TensorError(f"swin: a shift of {s} in dimension {d} is not less than the window of {w}")
    return Swin(sizes, windows, shifts)


@dataclass(frozen=True)
class Neighbourhood(_Grid):
    """See `neighbourhood`."""

    kernel: tuple[int, ...]
    dilation: tuple[int, ...]
    causal: tuple[bool, ...]

    def _allowed(self, at: Place) -> Any:
        allowed = None
        for d, (q, k) in enumerate(zip(self._coordinates(at.q), self._coordinates(at.k), strict=True)):
            near = self._near(d, q, k)
            allowed = near if allowed is None else allowed & near
        return allowed

    def _signature(self, corner: Place, rectangle: Place) -> list[Tensor]:
        """Away from the borders of the outermost dimension it does not matter how far along it a query is."""
        size, kernel = self.shape[0], self.kernel[0]
        if self.dilation[0] > 1:
            return super()._signature(corner, rectangle)
        step = math.prod(self.shape[1:])
        i = rectangle.q // step
        inside = (i.lo >= kernel // 2) & (i.hi <= size - kernel + kernel // 2)
        if self.causal[0]:
            inside = torch.ones_like(inside)
        return [torch.where(inside, -1, corner.q), corner.q - corner.k, corner.q % step]

    def _near(self, d: int, q: Any, k: Any) -> Any:
        size, kernel, dilation = self.shape[d], self.kernel[d], self.dilation[d]
        # Among the positions of its own residue, the query is number i of so many.
        i, j = (q // dilation, k // dilation) if dilation > 1 else (q, k)
        if self.causal[d]:
            near = (j <= i) & (j > i - kernel)
        else:
            last = (size - 1 - q % dilation) // dilation if dilation > 1 else size - 1
            start = maximum(minimum(i - kernel // 2, last + 1 - kernel), 0)
            near = (j >= start) & (j < start + kernel)
        return near & (q % dilation == k % dilation) if dilation > 1 else near

    def __repr__(self) -> str:
        dilation = f", dilation={list(self.dilation)}" if max(self.dilation) > 1 else ""
        causal = f", causal={list(self.causal)}" if any(self.causal) else ""
        return f"neighbourhood({list(self.shape)}, {list(self.kernel)}{dilation}{causal})"


def neighbourhood(
    shape: Sequence[int],
    kernel: int | Sequence[int],
    *,
    dilation: int | Sequence[int] = 1,
    causal: bool | Sequence[bool] = False,
) -> PositionPattern:
    """The nearest `kernel` keys along each dimension of a grid, as many at the borders: NATTEN's neighbourhoods.

    Args:
        shape: Of the grid.
        kernel: Keys along each dimension, or one number for all. Half of them (rounded down) are before the query,
            unless the border is nearer; the window is then moved into the grid.
        dilation: Gaps: only every so many-th position is a neighbour.
        causal: Along which dimensions a query sees itself and what is before it only, `kernel` keys where there are.

    Raises:
        TensorError: Sizes below 1, other numbers of them than dimensions, or a kernel that, dilated, is longer than the
            grid.
    """
    who = "neighbourhood"
    sizes = _shape(shape, who, 1)
    kernels = _for_each(kernel, len(sizes), who, "a kernel", 1)
    dilations = _for_each(dilation, len(sizes), who, "a dilation", 1)
    flags = (bool(causal),) * len(sizes) if isinstance(causal, bool | int) else tuple(bool(c) for c in causal)
    if len(flags) != len(sizes):
        raise TensorError(f"{who}: {len(flags)} flags of causality for {len(sizes)} dimensions")
    for d, (size, w, step) in enumerate(zip(sizes, kernels, dilations, strict=True)):
        if w * step > size:
            raise TensorError(
                f"{who}: a kernel of {w} with a dilation of {step} reaches over {w * step} positions, and dimension "
                f"{d} has {size}"
            )
    return Neighbourhood(sizes, kernels, dilations, flags)


def _shape(shape: Any, who: str, least: int) -> tuple[int, ...]:
    if not isinstance(shape, Sequence) or len(shape) < least:
        raise TensorError(f"{who}: the shape of a grid has {least} or more sizes, not {shape!r}")
    return tuple(count_of(size, who, "a size of the grid") for size in shape)


def _for_each(value: Any, rank: int, who: str, what: str, least: int) -> tuple[int, ...]:
    values = (value,) * rank if isinstance(value, int) else tuple(value)
    if len(values) != rank:
        raise TensorError(f"{who}: {what} has {len(values)} sizes, and the grid {rank} dimensions")
    return tuple(count_of(size, who, f"{what}, in each dimension,", least) for size in values)
