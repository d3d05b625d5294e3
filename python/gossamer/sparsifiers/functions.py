"""What a function of value and position says, compiled to one kernel that writes a mask."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.fx import Graph

from gossamer.conversion.arithmetic import TYPES, NotWritten, check_graph
from gossamer.conversion.predicate import Predicate
from gossamer.conversion.values import is_plain_memory
from gossamer.errors import FallbackWarning, FormatError, TensorError, TraceError
from gossamer.patterns import PositionPattern
from gossamer.scalars import run_numbers, trace_numbers
from gossamer.sparsifiers.base import Choosing


class Function(Choosing):
    """See `function` and `where`.

    Args:
        given: The function.
        who: The public name, for errors.
        of_value: Whether its first argument is the value.
        name: How it is shown.
    """

    def __init__(self, given: Callable[..., Any], who: str, of_value: bool, name: str):
        self._given, self._who, self._of_value, self._name = given, who, of_value, name
        self._traced: dict[tuple[torch.dtype, int], _Traced] = {}

    def mask(self, dense: Tensor) -> Tensor:
        dense = dense.resolve_conj().resolve_neg()
        traced = self._trace(dense.dtype, dense.dim())
        predicate = traced.predicate
        if isinstance(predicate, Predicate) and is_plain_memory(dense):
            return predicate(dense)
        places = [torch.arange(size, device=dense.device) for size in dense.shape]
        places = [place.reshape(-1, *[1] * (dense.dim() - 1 - d)) for d, place in enumerate(places)]
        constants = {name: constant.to(dense.device) for name, constant in traced.constants.items()}
        return run_numbers(traced.graph, torch.broadcast_tensors(dense, *places), constants, dense.device)

    def _trace(self, dtype: torch.dtype, rank: int) -> _Traced:
        key = dtype, rank
        if key not in self._traced:
            self._check_arguments(rank)
            given = self._given if self._of_value else lambda value, *place: self._given(*place)
            traced = _Traced(*trace_numbers(given, [dtype, *[torch.int64] * rank], self._who, self._name), dtype)
            if isinstance(traced.predicate, str):
                warnings.warn(
                    f"{self!r} runs in PyTorch, operation by operation: kernels have no {traced.predicate}",
                    FallbackWarning,
                    stacklevel=2,
                )
            self._traced[key] = traced
        return self._traced[key]

    def _check_arguments(self, rank: int) -> None:
        try:
            inspect.signature(self._given).bind(*[None] * (rank + self._of_value))
        except TypeError as error:
            given = [*(["value"] if self._of_value else []), *(f"position {d}" for d in range(rank))]
            raise TraceError(
                f"{self!r} is called with ({', '.join(given)}) for a tensor of rank {rank}, and cannot be: {error}"
            ) from None
        except ValueError:  # a function of C says nothing of its arguments
            pass

    def __repr__(self) -> str:
        return f"{self._who}({self._name})"


class _Traced:
    """A function for one dtype and rank."""

    def __init__(self, graph: Graph, constants: dict[str, Tensor], dtype: torch.dtype):
        self.graph, self.constants, self._dtype = graph, constants, dtype

    @cached_property
    def predicate(self) -> Predicate | str:
        """Its kernels, or what they do not have."""
        if self._dtype not in TYPES:
            return f"numbers of {self._dtype}"
        try:
            check_graph(self.graph)
        except NotWritten as missing:
            return str(missing)
        return Predicate(self.graph, self.constants)


class Where(Choosing):
    """See `where`, of a pattern.

    Attributes:
        pattern: The pattern.
    """

    def __init__(self, pattern: PositionPattern):
        self.pattern = pattern

    def mask(self, dense: Tensor) -> Tensor:
        if not 2 <= dense.dim() <= 4:
            raise TensorError(f"{self!r}: a pattern is of 2, 3 or 4 dimensions (b, h, q, k), not of {dense.dim()}")
        places = [torch.arange(size, device=dense.device) for size in dense.shape]
        places = [place.reshape(-1, *[1] * (dense.dim() - 1 - d)) for d, place in enumerate(places)]
        lengths = dense.shape[-2], dense.shape[-1]
        return self.pattern(*[0] * (4 - dense.dim()), *places, lengths=lengths)

    def __repr__(self) -> str:
        return f"where({self.pattern!r})"


def function(f: Callable[..., Any]) -> Function:
    """Returns a sparsifier that keeps the entries for which a function says so.

    The function is traced once for a dtype and a number of dimensions, on tensors without dimensions, and compiled to
    one kernel for the CPU or the GPU, which reads the tensor and writes a mask; the conversion stores what the mask
    says. Kernels know arithmetic, comparisons, `torch.where`, minima, maxima, shifts, what joins bools and integers,
    exp, log, sqrt, sin, cos, tanh, floor, ceil and trunc; numbers of tensors without dimensions that it looks into are
    those of the first call. With anything else, such as look-ups in tables, it runs in PyTorch, and a FallbackWarning
    names the operation.

    Args:
        f: Of the value (a tensor without dimensions, of the dtype of the tensor) and a position for each dimension
            (int64); returns a bool, or a number: not 0 means kept.

    Raises:
        TraceError: In `gs.sparsify`: it cannot be traced, as where a branch depends on a value; names the line.
        TensorError: It is no function.
    """
    return Function(_function(f, "function"), "function", True, _name_of(f))


def where(f: Callable[..., Any] | PositionPattern) -> Function | Where:
    """Returns a sparsifier that keeps the entries at the positions that a function or a pattern allows.

    Args:
        f: A function of a position for each dimension, traced and compiled as by `function`; or one of `gs.patterns`,
            of (b, h, q, k), for tensors of 2, 3 (h) or 4 dimensions.

    Raises:
        TraceError, TensorError: As `function` does.
    """
    if isinstance(f, PositionPattern):
        return Where(f)
    return Function(_function(f, "where"), "where", False, _name_of(f))


def threshold(least: float) -> Function:
    """Returns a sparsifier that keeps the entries whose absolute value is not less than a number: NaNs, too.

    Raises:
        FormatError: The number is no number, or below 0.
    """
    if isinstance(least, bool) or not isinstance(least, int | float) or not least >= 0:
        raise FormatError(f"threshold({least!r}): the least absolute value that is kept is a number of 0 or more")
    limit = torch.tensor(float(least), dtype=torch.float64)  # a constant, which kernels are told: one serves all

    def is_kept(value: Tensor, *place: Tensor) -> Tensor:
        size = value.abs() if value.dtype.is_complex else value
        wide = torch.float64 if size.dtype in (torch.float64, torch.int32, torch.int64) else torch.float32
        return ~(size.to(wide).abs() < limit.to(wide))

    return Function(is_kept, "threshold", True, f"{least:g}")


def _function(f: Any, who: str) -> Callable[..., Any]:
    if not callable(f):
        raise TensorError(f"{who} takes a function, not a {type(f).__name__}")
    return f


def _name_of(f: Any) -> str:
    return getattr(f, "__name__", type(f).__name__)
