"""What a kernel takes and gives, as the compiler wrote it."""

import json
import re
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch

from gossamer.formats import Format

DTYPES = {
    "f64": torch.float64,
    "f32": torch.float32,
    "f16": torch.float16,
    "bf16": torch.bfloat16,
    "i64": torch.int64,
    "i32": torch.int32,
    "i16": torch.int16,
    "i8": torch.int8,
    "i1": torch.bool,
}


_WORDS: dict[Any, object] = {}


@dataclass(frozen=True)
class DenseSpec:
    """A dense argument or result, contiguous: pointer, sizes.

    Attributes:
        input: For an argument: which of the region's inputs it is.
    """

    rank: int
    dtype: torch.dtype
    input: int = -1

    def __str__(self) -> str:
        return f"a dense {_name(self.dtype)} tensor of rank {self.rank}"


@dataclass(frozen=True)
class SparseSpec:
    """A sparse argument: the index arrays of each level, the values, the level sizes.

    Attributes:
        input: Which of the region's inputs it is; a kernel may want the same one in several formats.
        encoding: As MLIR prints it, in the form that the kernel reads; the caller's tensor may have another.
        levels: For each level whether its positions and its coordinates are passed.
        places: "entries" or "blocks" where the values that are passed are places among the caller's values, of entries
            or of blocks; None for the values themselves.
        pattern_of: The input whose pattern it shares, and which is passed before it in the same format; of this one
            the values alone are passed. None if it brings its own pattern.
    """

    input: int
    encoding: str
    dtype: torch.dtype
    levels: tuple[tuple[bool, bool], ...]
    pattern_of: int | None = None
    places: str | None = None

    @cached_property
    def format(self) -> Format:
        return Format.from_encoding(self.encoding)

    @cached_property
    def widths(self) -> tuple[int, int]:
        """Bits of the positions and the coordinates; MLIR's default, 0, is index: 64."""
        found = (re.search(name + r"\s*=\s*(\d+)", self.encoding) for name in ("posWidth", "crdWidth"))
        pos, crd = (int(match[1]) if match else 0 for match in found)
        return pos or 64, crd or 64

    @cached_property
    def words(self) -> object:
        """The key under which a pattern keeps its part of the words; one object for all equal arguments."""
        key = self.encoding, self.levels, self.places, self.dtype if self.places else None
        return _WORDS.setdefault(key, object())

    def __str__(self) -> str:
        return f"a {_name(self.dtype)} SparseTensor that can be stored as {self.format}"


@dataclass(frozen=True)
class SparseResultSpec:
    """A sparse result: values on the pattern of an input, in its own order.

    Attributes:
        pattern_of: Which input.
        fill: What is not stored.
    """

    pattern_of: int
    dtype: torch.dtype
    fill: float | bool


@dataclass(frozen=True)
class ReportEntry:
    """Which road one operation took, and why not a faster one."""

    op: str
    road: str
    why: str = ""
    loc: str = ""


@dataclass(frozen=True)
class Signature:
    """Of a kernel: its symbol, arguments and results in order, and the compiler's account of itself.

    The arguments are the region's inputs as the kernel wants them: one may be passed in several formats, or not at all.
    """

    entry: str
    args: tuple[DenseSpec | SparseSpec, ...]
    results: tuple[DenseSpec | SparseResultSpec, ...]
    report: tuple[ReportEntry, ...]
    kernels: int = 0  # tile programs and other kernels of a GPU, that it launches

    @classmethod
    def parse(cls, text: str) -> "Signature":
        """Reads the JSON that the compiler wrote."""
        data = json.loads(text)
        report = (ReportEntry(e["op"], e["road"], e.get("why", ""), e.get("loc", "")) for e in data.get("report", ()))
        args = tuple(_argument(number, entry) for number, entry in enumerate(data["args"]))
        results = tuple(_result(entry) for entry in data["results"])
        return cls(data["entry"], args, results, tuple(report), data.get("kernels", 0))


def _argument(number: int, entry: dict[str, Any]) -> DenseSpec | SparseSpec:
    number, dtype = entry.get("input", number), DTYPES[entry["dtype"]]
    if entry["kind"] == "dense":
        return DenseSpec(entry["rank"], dtype, number)
    levels = tuple((level["positions"], level["coordinates"]) for level in entry["levels"])
    return SparseSpec(number, entry["encoding"], dtype, levels, entry.get("pattern_of"), entry.get("places"))


def _result(entry: dict[str, Any]) -> DenseSpec | SparseResultSpec:
    dtype = DTYPES[entry["dtype"]]
    if entry["kind"] == "dense":
        return DenseSpec(entry["rank"], dtype)
    return SparseResultSpec(entry["pattern_of"], dtype, entry.get("fill", dtype.is_floating_point and 0.0))


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
