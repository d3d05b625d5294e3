"""Running a case, and comparing with dense PyTorch in float64."""

import warnings
from typing import Any

import torch
from torch import Tensor

import gossamer as gs

from .cases import Case, Operands, Signature, operands
from .operations import OPERATIONS, Operation

# Fallbacks that are not failures: what they say, and why.
ALLOWED: tuple[str, ...] = ()


class Failure(AssertionError):
    """A case that went wrong; says how."""


class Compiled:
    """One signature, compiled at its first case."""

    def __init__(self, signature: Signature):
        self.signature = signature
        self.operation = OPERATIONS[signature.operation]
        self.function = gs.sparse_jit(self.operation.function) if self.operation.compiled else self.operation.function

    def check(self, case: Case) -> None:
        """Runs a case.

        Raises:
            Failure: The result is wrong, or something ran densely, or raised an error.
        """
        made = operands(case)
        torch.set_num_threads(self.signature.threads)
        extra = {"to": gs.Format(case.target)} if case.target else {}
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                result = self.function(made.stored, **made.dense, **extra)
            except Exception as error:
                raise Failure(f"{type(error).__name__}: {error}") from error
        for warning in caught:
            text = str(warning.message)
            if isinstance(warning.message, gs.FallbackWarning) and not any(known in text for known in ALLOWED):
                raise Failure(f"FallbackWarning: {text}")
        _compare(self.operation, case, made, result)


def _compare(operation: Operation, case: Case, made: Operands, result: Any) -> None:
    if isinstance(result, gs.SparseTensor):
        result.validate()
        result = result.to_dense()
    exact = not result.dtype.is_floating_point
    expected = _expected(operation, made, absolute=False, exact=exact)
    if result.shape != expected.shape:
        raise Failure(f"shape {tuple(result.shape)}, not {tuple(expected.shape)}")
    if exact:
        if result.dtype != expected.dtype:
            raise Failure(f"dtype {result.dtype}, not {expected.dtype}")
        wrong = result != expected
    else:
        if str(result.dtype) != f"torch.{case.signature.dtype}":
            raise Failure(f"dtype {result.dtype}")
        result = result.double()
        limit = _tolerance(operation, case, made, expected)
        close = (result - expected).abs() <= limit
        wrong = ~(close | (result == expected) | (result.isnan() & expected.isnan()))
    if bool(wrong.any()):
        at = tuple(int(i) for i in wrong.nonzero()[0])
        bound = "" if exact else f", {limit:.2g} allowed"
        raise Failure(f"{int(wrong.sum())} of {wrong.numel()} wrong: {result[at]} at {at}, not {expected[at]}{bound}")


def _expected(operation: Operation, made: Operands, absolute: bool, exact: bool) -> Tensor:
    """The result of dense operands in float64; for integers as they are."""

    def wide(value: Tensor) -> Tensor:
        value = value if exact or not (value.is_floating_point() or absolute) else value.double()
        return value.abs().nan_to_num(0.0, 0.0, 0.0) if absolute and value.dtype != torch.bool else value

    own = made.stored.to_dense()
    if operation.fill:
        own = own.masked_fill(~made.keep, 0.0)  # the reference leaves out what is not kept
    dense = [wide(value) for value in (own, *made.dense.values())]
    if operation.reference is not None:
        return operation.reference(made.keep, *dense)
    function = operation.function
    return function(*dense)


def _tolerance(operation: Operation, case: Case, made: Operands, expected: Tensor) -> float:
    """What rounding may do: of each of the terms of a sum, and of the result."""
    dtype = getattr(torch, case.signature.dtype)
    finite = expected[expected.isfinite()]
    scale = max(1.0, float(finite.abs().max()) if finite.numel() else 0.0)
    terms = 1
    for letter in operation.sums:
        terms *= max(case.sizes[letter], 1)
    carried = torch.finfo(torch.promote_types(dtype, torch.float32)).eps
    largest = 1.0
    if operation.sums:
        sizes = _expected(operation, made, absolute=True, exact=False)
        largest = max(largest, scale, float(sizes.abs().max()) if sizes.numel() else 0.0)
    return operation.slack * 4 * torch.finfo(dtype).eps * scale + (terms + 16) * carried * largest
