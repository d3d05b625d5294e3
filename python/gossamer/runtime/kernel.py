"""A compiled region as a Python callable: packs its arguments, allocates its results, calls the machine code.

The kernel takes one array of 64-bit words, arguments first, then results:

    dense            pointer, size of each dim
    sparse           for each level [positions, length] [coordinates, length], then values, length, size of each level
    sparse result    values, length

All memory is torch's. A call shares nothing with another, so threads may call at once.
"""

from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from time import perf_counter_ns

import torch
from torch import Tensor

from gossamer.compiler.library import Kernel
from gossamer.errors import TensorError
from gossamer.formats import Format
from gossamer.pattern import Pattern
from gossamer.runtime.signature import DenseSpec, Signature, SparseResultSpec, SparseSpec
from gossamer.tensor import Fill, SparseTensor

Argument = Tensor | SparseTensor


@dataclass
class Costs:
    """What calls have cost beside the kernel itself, and the kernel.

    Attributes:
        calls: How many there were.
        kernel_ns: Time inside the machine code, all calls together.
        copies: Dense arguments that were not contiguous.
        gathers: Times that values were reordered for another format (the pattern itself is converted once).
        conversions: (argument, from, to) of every pattern that was stored anew.
    """

    calls: int = 0
    kernel_ns: int = 0
    copies: int = 0
    gathers: int = 0
    conversions: list[tuple[int, Format, Format]] = field(default_factory=list)


class CompiledRegion:
    """A kernel with its signature.

    Attributes:
        signature: What it takes and gives, and the compiler's report.
        origin: "compiled" or "disk": where this process has it from.
        milliseconds: What having it took (compiling, or reading and linking).
        costs: What calls have cost so far.
    """

    def __init__(self, signature: Signature, kernel: Kernel, origin: str, milliseconds: float):
        self.signature = signature
        self.origin = origin
        self.milliseconds = milliseconds
        self.costs = Costs()
        self._kernel = kernel
        self._packers = [_packer(self, index, spec) for index, spec in enumerate(signature.args)]

    def __call__(self, args: Sequence[Argument], result_shapes: Sequence[Sequence[int] | None]) -> list[Argument]:
        """Runs the kernel.

        Args:
            args: As the signature has them: CPU tensors of the dtypes and ranks there, dense ones of any strides.
            result_shapes: For each result its shape; None for a sparse one, which has that of its pattern.

        Returns:
            The results, freshly allocated, outside autograd.

        Raises:
            TensorError: An argument that the kernel was not compiled for; says which, and what it takes.
        """
        if len(args) != len(self._packers) or len(result_shapes) != len(self.signature.results):
            raise TensorError(
                f"this region takes {len(self._packers)} arguments and gives {len(self.signature.results)} results, "
                f"not {len(args)} and {len(result_shapes)}"
            )
        packed: list[int] = []
        # What a packer made lives here until the kernel is done; so do the patterns that results are on.
        keep = [pack(arg, packed) for pack, arg in zip(self._packers, args, strict=True)]
        results: list[Argument] = []
        unsorted: list[tuple[int, Tensor, Tensor]] = []
        for spec, shape in zip(self.signature.results, result_shapes, strict=True):
            if isinstance(spec, DenseSpec):
                assert shape is not None
                result = torch.empty(shape, dtype=spec.dtype)
                packed.append(result.data_ptr())
                packed.extend(result.shape)
            else:
                result = _sparse_result(
                    spec, args[spec.pattern_of], keep[spec.pattern_of], packed, unsorted, len(results)
                )
            results.append(result)
        words = array("q", packed)
        start = perf_counter_ns()
        self._kernel.call(words.buffer_info()[0])
        self.costs.kernel_ns += perf_counter_ns() - start
        self.costs.calls += 1
        for index, values, gather in unsorted:
            _scatter(results[index], values, gather)
        return results


@dataclass
class _Passed:
    """A sparse argument as the kernel got it: the pattern, the values, and where they were gathered from."""

    pattern: Pattern
    values: Tensor
    gather: Tensor | None


def _packer(
    region: CompiledRegion, index: int, spec: DenseSpec | SparseSpec
) -> Callable[[Argument, list[int]], object]:
    if isinstance(spec, DenseSpec):
        return _dense_packer(region, index, spec)
    return _sparse_packer(region, index, spec)


def _dense_packer(region: CompiledRegion, index: int, spec: DenseSpec) -> Callable[[Argument, list[int]], Tensor]:
    rank, dtype, strided = spec.rank, spec.dtype, torch.strided

    def pack(arg: Argument, packed: list[int]) -> Tensor:
        if not isinstance(arg, Tensor) or arg.dtype != dtype or arg.dim() != rank:
            raise _refusal(index, spec, arg)
        if arg.layout != strided or arg.device.type != "cpu":
            raise _refusal(index, spec, arg)
        if not arg.is_contiguous() or arg.is_neg():
            arg = arg.detach().resolve_neg().contiguous()
            region.costs.copies += 1
        packed.append(arg.data_ptr())
        packed.extend(arg.shape)
        return arg

    return pack


def _sparse_packer(region: CompiledRegion, index: int, spec: SparseSpec) -> Callable[[Argument, list[int]], _Passed]:
    def pack(arg: Argument, packed: list[int]) -> _Passed:
        if not isinstance(arg, SparseTensor) or arg.dtype != spec.dtype or arg.device.type != "cpu":
            raise _refusal(index, spec, arg)
        pattern, values, gather = arg.pattern, arg.values.detach().contiguous(), None
        if pattern.kernel_format != spec.format:
            if len(pattern.shape) != spec.format.dim_rank:
                raise _refusal(index, spec, arg)
            pattern, values, gather = _convert(region, index, spec, arg)
        head, sizes = pattern.derived(("packed", spec.levels, spec.widths), lambda: _pack_pattern(pattern, spec))
        packed.extend(head)
        packed.append(values.data_ptr())
        packed.append(values.numel())
        packed.extend(sizes)
        return _Passed(pattern, values, gather)

    return pack


def _refusal(index: int, spec: DenseSpec | SparseSpec, arg: object) -> TensorError:
    wanted = f"argument {index} of a compiled region must be {spec}"
    if isinstance(arg, SparseTensor):
        given = f"a {arg.dtype} SparseTensor stored as {arg.format}"
    elif isinstance(arg, Tensor):
        given = f"a {arg.dtype} tensor of rank {arg.dim()} ({arg.layout})"
    else:
        return TensorError(f"{wanted}, not a {type(arg).__name__}")
    return TensorError(f"{wanted} on the CPU, not {given} on {arg.device}")


def _pack_pattern(pattern: Pattern, spec: SparseSpec) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Returns the words of the index arrays, which `pattern.storage()` keeps alive, and those of the level sizes."""
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
    return tuple(head), tuple(pattern.level_sizes)


def _convert(
    region: CompiledRegion, index: int, spec: SparseSpec, arg: SparseTensor
) -> tuple[Pattern, Tensor, Tensor | None]:
    """The argument in the format that the kernel reads; the pattern keeps its part of the work."""
    pattern, gather = arg.pattern.converted(spec.format)
    change = (index, arg.format, spec.format)
    if change not in region.costs.conversions:
        region.costs.conversions.append(change)
    values = arg.values.detach().reshape(-1)
    if gather is None:
        return pattern, values.contiguous(), None
    region.costs.gathers += 1
    return pattern, gather_values(values, gather, arg.fill), gather


def gather_values(values: Tensor, gather: Tensor, fill: Fill) -> Tensor:
    """Returns `values[gather]` with the fill where `gather` is -1, flat."""
    if values.numel() == 0:
        return torch.full(gather.shape, fill, dtype=values.dtype)
    taken = values[gather.clamp(min=0)]
    return taken.masked_fill_(gather < 0, fill)


def _sparse_result(
    spec: SparseResultSpec,
    arg: Argument,
    passed: object,
    packed: list[int],
    unsorted: list[tuple[int, Tensor, Tensor]],
    index: int,
) -> SparseTensor:
    """Values for the kernel to write; in the argument's own order once `_scatter` has seen those of a converted one."""
    assert isinstance(arg, SparseTensor)
    assert isinstance(passed, _Passed)
    result = SparseTensor(arg.pattern, torch.empty(arg.values.shape, dtype=spec.dtype), fill=spec.fill)
    target = result.values
    if passed.gather is not None:
        target = torch.empty(passed.values.numel(), dtype=spec.dtype)
        unsorted.append((index, target, passed.gather))
    packed.append(target.data_ptr())
    packed.append(target.numel())
    return result


def _scatter(result: Argument, values: Tensor, gather: Tensor) -> None:
    assert isinstance(result, SparseTensor)
    stored = gather >= 0
    result.values.view(-1)[gather[stored]] = values[stored]
