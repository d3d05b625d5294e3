"""The short way into a kernel: a Python function written for it, for inputs that need no conversion.

The general way (`CompiledRegion.__call__`) takes whatever can be made to fit, converts it, and says what is wrong with
what cannot. The function written here checks that an input is passed as it is, and packs. It knows the kernel's
arguments by heart, so a call costs little more than the checks, the allocation of the results and the kernel.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from struct import Struct
from typing import Any

import torch
from torch import Tensor

from gossamer.runtime.memory import LEAN
from gossamer.runtime.signature import DenseSpec, Signature, SparseResultSpec, SparseSpec
from gossamer.tensor import Fill, SparseTensor

# Subclasses may have memory of their own kind.
PLAIN = frozenset((Tensor, torch.nn.Parameter))

_CPU = torch.device("cpu")

Caller = Callable[[Sequence[Any], Sequence[Any]], "tuple[Any, ...] | None"]


def make_caller(
    signature: Signature,
    kernel: Callable[[bytes], None],
    encodings: Sequence[str | None],
    fills: Sequence[Fill | None],
    device: torch.device = _CPU,
) -> Caller:
    """Writes the function.

    Args:
        signature: Of the kernel, which reads every sparse input in the format that the input has.
        kernel: Takes the packed words.
        encodings: For each input of the region its encoding, or None for a dense one.
        fills: For each result its fill, or None for a dense one.
        device: Where inputs and results are.

    Returns:
        Takes the shapes of the results, and the inputs; gives the results, or None for inputs that must go the general
        way.
    """
    writer = _Writer(encodings, device)
    for spec in signature.args:
        if isinstance(spec, DenseSpec):
            writer.dense(spec)
        else:
            writer.sparse(spec)
    for number, (spec, fill) in enumerate(zip(signature.results, fills, strict=True)):
        writer.result(number, spec, fill)
    return writer.function(kernel)


class _Writer:
    """Collects the function's lines, the words that it packs, and the objects that it names."""

    def __init__(self, encodings: Sequence[str | None], device: torch.device):
        self.encodings = encodings
        self.device = device
        self.names: dict[str, Any] = {
            "Sparse": SparseTensor,
            "make": SparseTensor._make,
            "plain": PLAIN,
            "strided": torch.strided,
            "empty": torch.empty,
            "lean": LEAN.get(device.type),
        }
        self.checks: list[str] = []
        self.made: list[str] = []
        self.words: list[str] = []
        self.length = 0
        self.results: list[str] = []
        self.checked: set[str] = set()

    def named(self, value: Any) -> str:
        """A name for an object."""
        name = next((name for name, known in self.names.items() if known is value), f"c{len(self.names)}")
        self.names[name] = value
        return name

    def unless(self, *conditions: str) -> None:
        self.checks.append(f"if {' or '.join(conditions)}: return None")

    def pack(self, length: int, *words: str) -> None:
        self.words += words
        self.length += length

    def memory(self, x: str, dtype: torch.dtype) -> None:
        """Checks that a tensor is its memory, row by row."""
        if x in self.checked:
            return
        self.checked.add(x)
        self.unless(
            f"type({x}) not in plain",
            f"{x}.dtype is not {self.named(dtype)}",
            f"not {x}.is_cpu" if self.device.type == "cpu" else f"{x}.get_device() != {self.device.index}",
            f"{x}.layout is not strided",
            f"not {x}.is_contiguous()",
            f"{x}.is_neg()",
        )

    def open(self, number: int) -> None:
        """Takes a SparseTensor apart."""
        if f"i{number}" in self.checked:
            return
        self.checked.add(f"i{number}")
        self.unless(f"type(i{number}) is not Sparse")
        self.checks.append(f"p{number} = i{number}.pattern; v{number} = i{number}.values")
        self.unless(f"p{number}._derived.get('kernel encoding') != {self.encodings[number]!r}")

    def dense(self, spec: DenseSpec) -> None:
        self.memory(f"i{spec.input}", spec.dtype)
        self.pack(1 + spec.rank, f"i{spec.input}.data_ptr()", f"*i{spec.input}.shape")

    def sparse(self, spec: SparseSpec) -> None:
        n, w = spec.input, f"w{len(self.words)}"
        length = 2 * sum(map(sum, spec.levels)) + 2 + len(spec.levels)
        self.open(n)
        if spec.places is not None:
            self.checks.append(f"{w} = p{n}._derived.get({self.named(spec.words)})")
            self.unless(f"{w} is None")
            self.pack(length, f"*{w}[0]")
            return
        self.memory(f"v{n}", spec.dtype)
        if spec.pattern_of is not None:
            self.open(spec.pattern_of)
            self.unless(f"p{n} is not p{spec.pattern_of}")
            self.pack(2, f"v{n}.data_ptr()", f"v{n}.numel()")
            return
        self.checks.append(f"{w} = p{n}._derived.get({self.named(spec.words)})")
        self.unless(f"{w} is None", f"v{n}.numel() != {w}[1]")
        self.pack(length, f"*{w}[0]", f"v{n}.data_ptr()", f"{w}[1]", f"*{w}[2]")

    def empty(self, shape: str, rank: int, dtype: torch.dtype) -> str:
        """A result, contiguous; `shape` is a tuple."""
        general = f"empty({shape}, dtype={self.named(dtype)}, device={self.named(self.device)})"
        if self.names["lean"] is None:
            return general
        strides = "".join(f"{_product(shape, range(dim + 1, rank))}, " for dim in range(rank))
        lean = f"lean({shape}, ({strides}), {self.named(dtype)})"
        if self.device.type == "cpu":
            return lean
        self.names["current"] = torch._C._cuda_getDevice
        return f"{lean} if current() == {self.device.index} else {general}"

    def result(self, number: int, spec: DenseSpec | SparseResultSpec, fill: Fill | None) -> None:
        r = f"r{number}"
        if isinstance(spec, DenseSpec):
            self.made.append(f"{r} = {self.empty(f'shapes[{number}]', spec.rank, spec.dtype)}")
            self.pack(1 + spec.rank, f"{r}.data_ptr()", f"*shapes[{number}]")
            self.results.append(r)
            return
        n = spec.pattern_of
        self.open(n)
        self.unless(f"p{n}.nnz != p{n}.storage_size")  # then somebody must fill the slots that are not used
        self.made.append(f"{r} = empty(v{n}.shape, dtype={self.named(spec.dtype)}, device={self.named(self.device)})")
        self.pack(2, f"{r}.data_ptr()", f"{r}.numel()")
        self.results.append(f"make(p{n}, {r}, {self.named(fill)})")

    def function(self, kernel: Callable[[bytes], None]) -> Caller:
        inputs = "".join(f"i{number}, " for number in range(len(self.encodings)))
        lines = [f"{inputs}= inputs"] if inputs else []
        lines += [*self.checks, *self.made]
        lines.append(f"kernel(pack({', '.join(self.words)}))")
        lines.append(f"return {''.join(f'{result}, ' for result in self.results) or '()'}")
        text = "def call(shapes, inputs):\n" + "".join(f"    {line}\n" for line in lines)
        space = {**self.names, "kernel": kernel, "pack": Struct(f"{self.length}q").pack}
        exec(text, space)
        return space["call"]


def _product(shape: str, dims: range) -> str:
    return "*".join(f"({shape}[{dim}] or 1)" for dim in dims) or "1"
