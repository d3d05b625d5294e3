"""A compiled region as a Python callable: packs its arguments, allocates its results, calls the machine code.

The kernel takes one array of 64-bit words, arguments first, then results:

    dense            pointer, size of each dim
    sparse           for each level [positions, length] [coordinates, length], then values, length, size of each level;
                     values, length alone if its pattern is that of another argument
    sparse result    values, length

All memory is torch's. A call shares nothing with another, so threads may call at once.
"""

from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from gossamer.compiler.library import Kernel
from gossamer.errors import TensorError
from gossamer.formats import Format
from gossamer.pattern import Pattern
from gossamer.runtime.caller import Caller, make_caller
from gossamer.runtime.cuda import CudaKernel
from gossamer.runtime.host import HostPrograms
from gossamer.runtime.signature import DenseSpec, Signature, SparseResultSpec, SparseSpec
from gossamer.tensor import Fill, SparseTensor, gather_runs

Value = Tensor | SparseTensor
_Pack = Callable[[Value, list[int], torch.device], object]
_CPU = torch.device("cpu")


@dataclass
class Costs:
    """What calls have cost beside the kernel itself.

    Attributes:
        copies: Dense inputs that were not contiguous.
        gathers: Times that values were reordered for another format (the pattern itself is converted once).
        conversions: (input, from, to, why by operations of torch and not by kernels: None if by these) of every
            pattern that was stored anew.
    """

    copies: int = 0
    gathers: int = 0
    conversions: list[tuple[int, Format, Format, str | None]] = field(default_factory=list)

    def note_conversion(self, number: int, old: Pattern, new: Format) -> None:
        """Notes that the pattern of an input was stored in another format."""
        noted = number, old.format, new, old.why_sorted(new)
        if noted not in self.conversions:
            self.conversions.append(noted)


class CompiledRegion:
    """A kernel with its signature.

    Attributes:
        signature: What it takes and gives, and the compiler's report.
        origin: "compiled" or "disk": where this process has it from.
        milliseconds: What having it took (compiling, or reading and linking).
        costs: What calls have cost so far.
    """

    def __init__(
        self, signature: Signature, kernel: "Kernel | CudaKernel | HostPrograms", origin: str, milliseconds: float
    ):
        self.signature = signature
        self.origin = origin
        self.milliseconds = milliseconds
        self.costs = Costs()
        self._kernel = kernel
        self.device_type = "cuda" if isinstance(kernel, CudaKernel) else "cpu"
        self._packers = [(spec.input, _packer(self, spec)) for spec in signature.args]
        self._shared = dict.fromkeys(
            (spec.input, spec.pattern_of)
            for spec in signature.args
            if isinstance(spec, SparseSpec) and spec.pattern_of is not None
        )
        self._inputs = 1 + max((spec.input for spec in signature.args), default=-1)

    def __call__(self, inputs: Sequence[Value], result_shapes: Sequence[Sequence[int] | None]) -> list[Value]:
        """Runs the kernel.

        Args:
            inputs: Of the region's function, tensors of the dtypes and ranks there, dense ones of any strides; on the
                CPU, or on one GPU if the kernel is for that (numbers may be on the CPU there, too).
            result_shapes: For each result its shape; None for a sparse one, which has that of its pattern.

        Returns:
            The results, freshly allocated, outside autograd.

        Raises:
            TensorError: An input that the kernel was not compiled for; says which, and what it takes.
        """
        if len(inputs) < self._inputs or len(result_shapes) != len(self.signature.results):
            raise TensorError(
                f"this region takes {self._inputs} inputs and gives {len(self.signature.results)} results, "
                f"not {len(inputs)} and {len(result_shapes)}"
            )
        device = self._device(inputs)
        packed: list[int] = []
        # What a packer made must live until the kernel is done.
        keep = [pack(inputs[number], packed, device) for number, pack in self._packers]
        for number, other in self._shared:
            _check_shared(number, inputs[number], other, inputs[other])
        results: list[Value] = []
        for spec, shape in zip(self.signature.results, result_shapes, strict=True):
            if isinstance(spec, DenseSpec):
                assert shape is not None
                result = torch.empty(shape, dtype=spec.dtype, device=device)
                packed.append(result.data_ptr())
                packed.extend(result.shape)
            else:
                result = _sparse_result(spec, inputs[spec.pattern_of], packed)
            results.append(result)
        self.run_words(array("q", packed), device)
        del keep
        return results

    def run_words(self, words: "array[int]", device: torch.device = _CPU) -> None:
        """Runs the kernel on arguments that are packed already; what they point to must live until it is done."""
        self.on(device)(words.buffer_info()[0])

    def on(self, device: torch.device) -> Callable[[Any], None]:
        """Returns the kernel as a function of the address of packed words, or of their bytes."""
        return self._kernel.on(device) if isinstance(self._kernel, CudaKernel) else self._kernel.call

    def waiting_on(self, device: torch.device) -> Callable[[int], int]:
        """Returns a function of the address of a pinned word, which waits until a kernel of it has written there."""
        assert isinstance(self._kernel, CudaKernel)
        return self._kernel.waiting_on(device)

    def _device(self, inputs: Sequence[Value]) -> torch.device:
        """Where the results will be."""
        if self.device_type == "cpu":
            return _CPU
        return next((value.device for value in inputs if value.device.type == "cuda"), _CPU)

    def caller(self, inputs: Sequence[Value], fills: Sequence[Fill | None]) -> Caller | None:
        """Returns the short way in, for inputs like these; None if they must be converted.

        Args:
            inputs: Inputs that were passed the general way before.
            fills: For each result its fill, or None for a dense one.
        """
        for spec in self.signature.args:
            if isinstance(spec, DenseSpec) or spec.places is not None:
                continue
            value = inputs[spec.input]
            assert isinstance(value, SparseTensor)
            if value.pattern.kernel_format != spec.format:
                return None
        encodings = [encoding_of(value.pattern) if isinstance(value, SparseTensor) else None for value in inputs]
        device = self._device(inputs)
        return make_caller(self.signature, self.on(device), encodings, fills, device)


def _packer(region: CompiledRegion, spec: DenseSpec | SparseSpec) -> "_Pack":
    """Returns a function that appends a value's words and returns what must live during the call."""
    if isinstance(spec, DenseSpec):
        return _dense_packer(region, spec)
    return _sparse_packer(region, spec) if spec.places is None else _places_packer(region, spec)


def _dense_packer(region: CompiledRegion, spec: DenseSpec) -> "_Pack":
    rank, dtype, strided = spec.rank, spec.dtype, torch.strided

    def pack(value: Value, packed: list[int], device: torch.device) -> Tensor:
        if not isinstance(value, Tensor) or value.dtype != dtype or value.dim() != rank or value.layout != strided:
            raise _refusal(spec, value, device)
        if value.device != device:
            if rank or value.device.type != "cpu":
                raise _refusal(spec, value, device)
            value = value.to(device)  # a number, which torch takes from the CPU, too
            region.costs.copies += 1
        if not value.is_contiguous() or value.is_neg():
            value = value.detach().resolve_neg().contiguous()
            region.costs.copies += 1
        packed.append(value.data_ptr())
        packed.extend(value.shape)
        return value

    return pack


def _sparse_packer(region: CompiledRegion, spec: SparseSpec) -> "_Pack":
    def pack(value: Value, packed: list[int], device: torch.device) -> tuple[Pattern, Tensor]:
        if not isinstance(value, SparseTensor) or value.dtype != spec.dtype or value.device != device:
            raise _refusal(spec, value, device)
        pattern, values = value.pattern, value.values.detach().resolve_neg().contiguous()
        if pattern.kernel_format != spec.format:
            if len(pattern.shape) != spec.format.dim_rank:
                raise _refusal(spec, value, device)
            pattern, values = _convert(region, spec, value)
        if spec.pattern_of is not None:
            packed += (values.data_ptr(), values.numel())
            return pattern, values
        head, count, sizes = pattern.derived(spec.words, lambda: _pack_pattern(pattern, spec))
        if values.numel() != count:
            raise TensorError(
                f"input {spec.input} of a compiled region has {values.numel()} values on a pattern of {count}"
            )
        packed.extend(head)
        packed.append(values.data_ptr())
        packed.append(count)
        packed.extend(sizes)
        return pattern, values

    return pack


def _places_packer(region: CompiledRegion, spec: SparseSpec) -> "_Pack":
    def pack(value: Value, packed: list[int], device: torch.device) -> Pattern:
        if not isinstance(value, SparseTensor) or value.device != device:
            raise _refusal(spec, value, device)
        words, _ = value.pattern.derived(spec.words, lambda: _pack_places(value.pattern, spec))
        region.costs.note_conversion(spec.input, value.pattern, spec.format)
        packed.extend(words)
        return value.pattern

    return pack


def _pack_places(source: Pattern, spec: SparseSpec) -> tuple[tuple[int, ...], object]:
    """Returns the words, and what must live with the pattern."""
    pattern, places = _places(source, spec)
    head, _, sizes = _pack_pattern(pattern, spec)
    return (*head, places.data_ptr(), places.numel(), *sizes), (pattern, places)


def _places(source: Pattern, spec: SparseSpec) -> tuple[Pattern, Tensor]:
    """The pattern as the kernel wants it, and for every entry, or block, of it which one of the source it is."""
    pattern, gather, size = source.converted_runs(spec.format)
    inner = pattern.inner_size if spec.places == "blocks" else 1
    if gather is None:
        gather = torch.arange(pattern.storage_size // max(inner, 1), device=source.device)
    elif size != inner:  # a block is where the first of its entries is
        gather = source.converted(spec.format)[1]
        assert gather is not None
        gather = gather.reshape(-1, inner)[:, 0].div(inner, rounding_mode="floor")
    return pattern, gather.to(spec.dtype)


def _check_shared(number: int, value: Value, other: int, shared: Value) -> None:
    """Raises TensorError unless both inputs are on one pattern."""
    assert isinstance(value, SparseTensor)
    assert isinstance(shared, SparseTensor)
    if value.pattern is not shared.pattern and value.pattern != shared.pattern:
        raise TensorError(
            f"input {number} of a compiled region must have the very pattern of input {other}; it has another, with "
            f"{value.pattern.nnz} stored entries beside {shared.pattern.nnz}"
        )


def _refusal(spec: DenseSpec | SparseSpec, value: object, device: torch.device) -> TensorError:
    wanted = f"input {spec.input} of a compiled region must be {spec}"
    if isinstance(value, SparseTensor):
        given = f"a {value.dtype} SparseTensor stored as {value.format}"
    elif isinstance(value, Tensor):
        given = f"a {value.dtype} tensor of rank {value.dim()} ({value.layout})"
    else:
        return TensorError(f"{wanted}, not a {type(value).__name__}")
    where = "the CPU" if device.type == "cpu" else device
    return TensorError(f"{wanted} on {where}, not {given} on {value.device}")


def encoding_of(pattern: Pattern) -> str:
    """The encoding of a pattern as kernels see it, index widths included.

    A pattern without positions (n:m) has some once it is converted, as wide as its coordinates; one without any
    indices gets them in 32 bits.
    """
    widths = pattern.pos_width or pattern.crd_width or 32, pattern.crd_width or pattern.pos_width or 32
    return pattern.derived("kernel encoding", lambda: pattern.kernel_format.encoding(*widths))


def _pack_pattern(pattern: Pattern, spec: SparseSpec) -> tuple[tuple[int, ...], int, tuple[int, ...]]:
    """Returns the words of the index arrays, which `pattern.storage()` keeps alive, the number of values, and the words
    of the level sizes.
    """
    head: list[int] = []
    for level, (passed, arrays) in enumerate(zip(spec.levels, pattern.storage(), strict=True)):
        for wanted, indices, width, name in zip(passed, arrays, spec.widths, ("positions", "coordinates"), strict=True):
            if not wanted:
                continue
            if indices is None or indices.element_size() * 8 != width:
                given = "none" if indices is None else str(indices.dtype)
                raise TensorError(
                    f"level {level}: the kernel was compiled for int{width} {name}, the pattern has {given}"
                )
            head += (indices.data_ptr(), indices.numel())
    return tuple(head), pattern.storage_size, tuple(pattern.level_sizes)


def _convert(region: CompiledRegion, spec: SparseSpec, value: SparseTensor) -> tuple[Pattern, Tensor]:
    """The input in the format that the kernel reads; the pattern keeps its part of the work."""
    pattern, gather, size = value.pattern.converted_runs(spec.format)
    region.costs.note_conversion(spec.input, value.pattern, spec.format)
    values = value.values.detach().reshape(-1)
    if gather is None:
        return pattern, values.contiguous()
    region.costs.gathers += 1
    return pattern, gather_values(values, gather, value.fill, size)


def gather_values(values: Tensor, gather: Tensor, fill: Fill, size: int = 1) -> Tensor:
    """Returns the runs of `size` values that `gather` names, with the fill where it is -1, flat."""
    return gather_runs(values, gather, size, fill).reshape(-1)


def _sparse_result(spec: SparseResultSpec, source: Value, packed: list[int]) -> SparseTensor:
    """A SparseTensor on the pattern of an input, with values for the kernel to write."""
    assert isinstance(source, SparseTensor)
    values = torch.empty(source.values.shape, dtype=spec.dtype, device=source.device)
    packed.append(values.data_ptr())
    packed.append(values.numel())
    return SparseTensor(source.pattern, values, fill=spec.fill)
