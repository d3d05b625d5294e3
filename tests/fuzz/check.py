"""Running a case, and comparing with dense PyTorch in float64."""

import math
import warnings
from typing import Any

import torch
from torch import Tensor

import gossamer as gs
from gossamer.execute import sample

from .cases import Case, Operands, Signature, operands
from .operations import OPERATIONS, Operation

# Fallbacks that are not failures: what they say, and why.
ALLOWED: tuple[str, ...] = ()


class Failure(AssertionError):
    """A case that went wrong; says how."""


class Compiled:
    """One signature, compiled at its first case for tensors on a device; what is right is computed on the CPU."""

    def __init__(self, signature: Signature, device: str = "cpu"):
        self.signature = signature
        self.device = torch.device(device)
        self.operation = OPERATIONS[signature.operation]
        self.function = gs.sparse_jit(self.operation.function) if self.operation.compiled else self.operation.function

    def dense_roads(self) -> list[str]:
        """The operations inside of kernels that got all entries of a sparse operand: right, and slow."""
        if not self.operation.compiled:
            return []
        kernels = [k for ps in self.function.engine.programs.values() for p in ps for k in p.kernels]
        entries = [entry for kernel in kernels for c in kernel.compiled.values() for entry in c.signature.report]
        return sorted({entry.op for entry in entries if entry.road == "dense"})

    def check(self, case: Case) -> None:
        """Runs a case.

        Raises:
            Failure: The result is wrong, or something ran densely, or raised an error.
        """
        made = operands(case)
        threads = torch.get_num_threads()
        torch.set_num_threads(self.signature.threads)
        extra = {"to": gs.Format(case.signature.target)} if case.signature.target else {}
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                there = made.to(self.device)
                result = self.function(*there.arguments, *there.dense.values(), **extra)
                gradients = _gradients(result, there, case.seed) if self.operation.backward else []
            except Exception as error:
                raise Failure(f"{type(error).__name__}: {error}") from error
            finally:
                torch.set_num_threads(threads)
        for warning in caught:
            text = str(warning.message)
            if isinstance(warning.message, gs.FallbackWarning) and not any(known in text for known in ALLOWED):
                raise Failure(f"FallbackWarning: {text}")
        _compare(self.operation, case, made, result)
        if gradients:
            home = [gradient.cpu() for gradient in gradients]
            _compare_gradients(self.operation, case, made, result.to("cpu"), home)


def _gradients(result: Any, made: Operands, seed: int) -> list[Tensor]:
    """Of the stored values, if they have one, and of the dense operands."""
    out = result.values if isinstance(result, gs.SparseTensor) else result
    wanted = _differentiated(made)
    found = torch.autograd.grad(out, wanted, _cotangent(out, seed).to(out.device), allow_unused=True)
    return [torch.zeros_like(w) if f is None else f for w, f in zip(wanted, found, strict=True)]


def _differentiated(made: Operands) -> list[Tensor]:
    return [t for t in (*(a.values for a in made.arguments), *made.dense.values()) if t.requires_grad]


def _cotangent(out: Tensor, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed + 1)
    return torch.randn(out.shape, generator=generator, dtype=torch.float64).to(out.dtype)


def _compare_gradients(operation: Operation, case: Case, made: Operands, result: Any, gradients: list[Tensor]) -> None:
    expected, largest = (_expected_gradients(operation, case, made, result, absolute) for absolute in (False, True))
    dtype = getattr(torch, case.signature.dtype)
    carried = torch.finfo(torch.promote_types(dtype, torch.float32)).eps
    terms = math.prod(sorted(case.sizes.values())[-2:])
    for number, (ours, theirs, size) in enumerate(zip(gradients, expected, largest, strict=True)):
        scale = max(1.0, float(theirs.abs().max()) if theirs.numel() else 0.0)
        bound = max(scale, float(size.abs().max()) if size.numel() else 0.0)
        limit = operation.slack * 4 * torch.finfo(dtype).eps * scale + (terms + 16) * carried * bound
        wrong = ~((ours.double() - theirs).abs() <= limit)
        if ours.dtype != dtype or ours.shape != theirs.shape:
            raise Failure(f"gradient {number}: {ours.dtype} {tuple(ours.shape)}, not {tuple(theirs.shape)}")
        if bool(wrong.any()):
            at = tuple(int(i) for i in wrong.nonzero()[0])
            raise Failure(
                f"gradient {number}: {int(wrong.sum())} of {wrong.numel()} wrong: {ours[at]} at {at}, not "
                f"{theirs[at]}, {limit:.2g} allowed"
            )


def _expected_gradients(operation: Operation, case: Case, made: Operands, result: Any, absolute: bool) -> list[Tensor]:
    """Of dense operands in float64; of the sparse one where it is stored."""
    sized = torch.abs if absolute else torch.clone

    def leaf(value: Tensor) -> Tensor:
        value = value.detach()
        return sized(value.double()).requires_grad_() if value.is_floating_point() else value

    own = [leaf(t.masked_fill(~made.keep, 0) if operation.fill else t) for t in made.sparse_entries]
    dense = [leaf(value) for value in made.dense.values()]
    out = operation.reference(made.keep, *own, *dense) if operation.reference else operation.function(*own, *dense)
    if isinstance(result, gs.SparseTensor):
        out = sample(out, result.pattern, 0.0).values
        cotangent = _cotangent(result.values, case.seed)
    else:
        cotangent = _cotangent(result, case.seed)
    wanted = [tensor for tensor in (*own, *dense) if tensor.requires_grad]
    found = torch.autograd.grad(out, wanted, sized(cotangent.double()), allow_unused=True)
    found = [torch.zeros_like(w) if f is None else f for w, f in zip(wanted, found, strict=True)]
    for number, argument in enumerate(made.arguments):
        if argument.requires_grad:
            found[number] = sample(found[number], argument.pattern, 0.0).values
    return found


def _compare(operation: Operation, case: Case, made: Operands, result: Any) -> None:
    if isinstance(result, gs.SparseTensor):
        result.validate()
        result = result.to_dense()
    result = result.detach().cpu()
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
        value = value.detach()
        value = value if exact or not (value.is_floating_point() or absolute) else value.double()
        return value.abs().nan_to_num(0.0, 0.0, 0.0) if absolute and value.dtype != torch.bool else value

    own = [
        t.masked_fill(~made.keep, 0) if operation.fill else t for t in made.sparse_entries
    ]  # what it leaves out is 0
    dense = [wide(value) for value in (*own, *made.dense.values())]
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
