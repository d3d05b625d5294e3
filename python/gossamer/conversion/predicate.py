"""Masks by a traced function of (value, position...), by one generated kernel on the CPU or on a GPU."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cache

import torch
from torch import Tensor
from torch.fx import Graph

from gossamer.conversion.arithmetic import TYPES, write_graph
from gossamer.conversion.cuda.kernel import GpuKernel
from gossamer.conversion.cuda.writer import GpuWriter
from gossamer.conversion.flat import bits_of
from gossamer.conversion.kernel import Kernel, count_parts
from gossamer.conversion.writer import Array, InParts, Value, Writer, module, part_range

_FIRST = 2  # of the numbers behind the step and the number of parts


class Predicate:
    """The kernels of one function.

    Args:
        graph: Of (value, position...), as `trace_numbers` traced it; one that passes `check_graph`.
        constants: The tensors without dimensions that it looks into. Kernels are told their numbers.
    """

    def __init__(self, graph: Graph, constants: Mapping[str, Tensor]):
        self._graph = graph
        self._dtypes = {name: constant.dtype for name, constant in constants.items()}
        self._words = [_word(constant) for constant in constants.values()]
        self._kernel = cache(self._write)
        self._gpu_kernel = cache(self._write_for_gpu)

    def __call__(self, dense: Tensor) -> Tensor:
        """Returns what is to be kept: bool of the shape of the tensor, contiguous.

        Args:
            dense: Memory of any strides, of the dtype that the function was traced for, with a dimension for each
                position.
        """
        mask = torch.empty(dense.shape, dtype=torch.bool, device=dense.device)
        if not dense.numel():
            return mask
        numbers = [*dense.shape, *dense.stride(), *self._words]
        kind = dense.dtype, dense.dim(), dense.stride(-1) == 1
        if dense.is_cuda:
            self._gpu_kernel(*kind)(numbers, dense, mask)
        else:
            parts = min(count_parts(dense.numel()), math.prod(dense.shape[:-1]))
            self._kernel(*kind)([0, parts, *numbers], bits_of(dense), bits_of(mask))
        return mask

    def _write(self, dtype: torch.dtype, rank: int, contiguous: bool) -> Kernel:
        def write(w: Writer, part: Value) -> None:
            numbers = [w.load_bits("numbers", w.constant(_FIRST + n)) for n in range(2 * rank + len(self._words))]
            sizes, strides = ([w.value(f"arith.index_cast {n} : i64 to index") for n in numbers[r : r + rank]]
                              for r in (0, rank))  # fmt: skip
            strides[-1] = w.constant(1) if contiguous else strides[-1]
            constants = self._constants(w, numbers[2 * rank :])
            rows = w.constant(1)
            for size in sizes[:-1]:
                rows = w.mul(rows, size)
            lower, upper = part_range(w, part, rows)
            with w.loop(lower, upper) as row:
                places = _places(w, row, sizes[:-1])
                with w.loop(w.constant(0), sizes[-1]) as column:
                    self._write_entry(w, dtype, [*places, column], sizes, strides, constants)

        return Kernel(module([Array("numbers", "i64"), *_arrays(dtype)], [[InParts(write)]]))

    def _write_for_gpu(self, dtype: torch.dtype, rank: int, contiguous: bool) -> GpuKernel:
        names = [f"{what}{d}" for what in ("size", "stride") for d in range(rank)]
        words = [f"constant{n}" for n in range(len(self._words))]
        w = GpuWriter([*names, *words], _arrays(dtype))
        sizes, strides = ([w.number(name) for name in names[first : first + rank]] for first in (0, rank))
        strides[-1] = w.constant(1) if contiguous else strides[-1]
        with w.parallel(*sizes) as places:
            bits = [w.value(f"arith.index_cast {w.number(word)} : index to i64") for word in words]
            self._write_entry(w, dtype, places, sizes, strides, self._constants(w, bits))
        return GpuKernel(w.module())

    def _constants(self, w: Writer, words: list[Value]) -> dict[str, Value]:
        """The numbers that the function looks into, of the bits that the kernel was told."""
        found = zip(self._dtypes.items(), words, strict=True)
        return {name: _of_bits(w, word, "i64", dtype) for (name, dtype), word in found}

    def _write_entry(
        self,
        w: Writer,
        dtype: torch.dtype,
        places: list[Value],
        sizes: list[Value],
        strides: list[Value],
        constants: dict[str, Value],
    ) -> None:
        at, to = w.constant(0), w.constant(0)
        for place, size, stride in zip(places, sizes, strides, strict=True):
            at = w.add(at, w.mul(place, stride))
            to = w.add(w.mul(to, size), place)
        element = w.arrays["dense"].element
        value = _of_bits(w, w.load_bits("dense", at), element, dtype)
        positions = [w.value(f"arith.index_cast {place} : index to i64") for place in places]
        kept = write_graph(w, self._graph, [value, *positions], constants)
        w.store_bits("mask", to, w.value(f"arith.extui {kept} : i1 to i8"))


def _arrays(dtype: torch.dtype) -> list[Array]:
    return [Array("dense", f"i{dtype.itemsize * 8}"), Array("mask", "i8")]


def _places(w: Writer, row: Value, sizes: list[Value]) -> list[Value]:
    """The coordinates of a row."""
    places: list[Value] = []
    for size in reversed(sizes[1:]):
        places.insert(0, w.rem(row, size))
        row = w.div(row, size)
    return [row, *places] if sizes else []


def _of_bits(w: Writer, bits: Value, element: str, dtype: torch.dtype) -> Value:
    """A number of the lowest bits of an integer."""
    if dtype == torch.bool:
        return w.compare("ne", bits, w.constant(0, element), element)
    width, type = f"i{dtype.itemsize * 8}", TYPES[dtype]
    if width != element:
        bits = w.value(f"arith.trunci {bits} : {element} to {width}")
    return w.value(f"arith.bitcast {bits} : {width} to {type}") if dtype.is_floating_point else bits


def _word(constant: Tensor) -> int:
    """The bits of a number, as a signed integer of 64."""
    return int(bits_of(constant.reshape(1))[0])
