"""n:4 in both directions, chosen and packed in one pass over a matrix: a thread has a tile of 4 x 4.

A warp has 4 x 8 tiles, so that what it reads and what it writes of both results is together.
"""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

from gossamer.conversion.arithmetic import TYPES
from gossamer.conversion.cuda.groups import Entry, chosen_entries, store_slots
from gossamer.conversion.cuda.kernel import GpuKernel
from gossamer.conversion.cuda.writer import WARP, GpuWriter
from gossamer.conversion.flat import width_of
from gossamer.conversion.writer import Array, Value
from gossamer.runtime.allocation import empty

SIDE = 4
_ROWS, _COLUMNS = 4, 8  # tiles of a warp
DTYPES = (torch.float32, torch.bfloat16, torch.float16)

Packed = tuple[Tensor, Tensor]


def pack_both(dense: Tensor, n: int, marks: Tensor, tiles: Tensor, index: torch.dtype) -> tuple[Packed, Packed]:
    """Returns (coordinates, values) of the n:4 matrix with the largest sum of magnitudes, and of its transpose.

    Args:
        dense: [..., rows, columns], contiguous, of one of `DTYPES`, sizes that `SIDE` divides; not empty.
        n: Entries of a group.
        marks, tiles: All groups, and the groups of the rows of all tiles, as `sparsifiers.n_of_m` numbers them.
        index: Of coordinates.
    """
    rows, columns = dense.shape[-2] // SIDE, dense.shape[-1] // SIDE
    batches = dense.numel() // (rows * columns * SIDE**2)
    count = dense.numel() // SIDE * n
    packed = [empty(count, dtype, dense.device) for dtype in (index, dense.dtype) * 2]
    groups = tuple(tuple(int(c) for c in mark.nonzero()[:, 0]) for mark in marks)
    kernel = packer(n, dense.dtype, width_of(index), groups, tuple(map(tuple, tiles.tolist())))
    kernel([batches, rows, columns, -(-rows // _ROWS), -(-columns // _COLUMNS)], dense, *packed)
    return (packed[0], packed[1]), (packed[2], packed[3])


@cache
def packer(
    n: int, dtype: torch.dtype, index: str, groups: tuple[tuple[int, ...], ...], tiles: tuple[tuple[int, ...], ...]
) -> GpuKernel:
    """The kernel."""
    element = f"i{dtype.itemsize * 8}"
    results = [Array("crd", index), Array("values", element), Array("turned_crd", index), Array("turned", element)]
    w = GpuWriter(["batches", "rows", "columns", "row_warps", "column_warps"], [Array("dense", element), *results])
    rows, columns = w.number("rows"), w.number("columns")
    sizes = w.number("batches"), w.number("row_warps"), w.number("column_warps"), w.constant(WARP)
    with w.parallel(*sizes) as (batch, row_warp, column_warp, lane):
        side, across = w.constant(SIDE), w.constant(_COLUMNS)
        row = w.add(w.mul(row_warp, w.constant(_ROWS)), w.div(lane, across))
        column = w.add(w.mul(column_warp, across), w.rem(lane, across))
        with w.when(w.both(w.compare("slt", row, rows), w.compare("slt", column, columns))):
            first_row = w.mul(w.add(w.mul(batch, rows), row), side)
            first_column = w.mul(w.add(w.mul(batch, columns), column), side)
            lines = [_line(w, w.mul(w.add(first_row, w.constant(r)), columns), column, element) for r in range(SIDE)]
            kept = _best(w, [[_magnitude(w, bits, dtype) for bits in line] for line in lines], groups, tiles)
            for place in range(SIDE):
                own = chosen_entries(w, kept[place], lines[place])
                at = w.add(w.mul(w.add(first_row, w.constant(place)), columns), column)
                _store(w, n, at, own, ("crd", index), ("values", element))
                own = chosen_entries(w, [line[place] for line in kept], [line[place] for line in lines])
                at = w.add(w.mul(w.add(first_column, w.constant(place)), rows), row)
                _store(w, n, at, own, ("turned_crd", index), ("turned", element))
    return GpuKernel(w.module())


def _line(w: GpuWriter, groups_before: Value, column: Value, element: str) -> list[Value]:
    """The elements of a row of a tile."""
    type = f"vector<{SIDE}x{element}>"
    at = w.mul(w.add(groups_before, column), w.constant(SIDE))
    vector = w.value(f"vector.load %dense[{at}] : {w.arrays['dense'].type}, {type}")
    return [w.value(f"vector.extract {vector}[{c}] : {element} from {type}") for c in range(SIDE)]


def _magnitude(w: GpuWriter, bits: Value, dtype: torch.dtype) -> Value:
    """The absolute value in float32, and for what is none, or too large for sums of tiles, the largest that is not."""
    number = w.value(f"arith.bitcast {bits} : i{dtype.itemsize * 8} to {TYPES[dtype]}")
    if dtype != torch.float32:
        number = w.value(f"arith.extf {number} : {TYPES[dtype]} to f32")
    most = w.value(f"arith.constant {torch.finfo(torch.float32).max / SIDE**2!r} : f32")
    return w.value(f"arith.minnumf {w.value(f'math.absf {number} : f32')}, {most} : f32")


def _best(
    w: GpuWriter, sizes: list[list[Value]], groups: tuple[tuple[int, ...], ...], tiles: tuple[tuple[int, ...], ...]
) -> list[list[Value]]:
    """Whether each entry is in the tile with the largest sum, of equal ones the first."""

    def plus(a: Value, b: Value) -> Value:
        return w.value(f"arith.addf {a}, {b} : f32")

    @cache
    def of_row(row: int, group: int) -> Value:
        first, *others = (sizes[row][column] for column in groups[group])
        for other in others:
            first = plus(first, other)
        return first

    @cache
    def of_rows(row: int, group: int, other: int) -> Value:
        return plus(of_row(row, group), of_row(row + 1, other))

    best, most = "", ""
    for tile in tiles:
        bits = sum(1 << SIDE * row + column for row, group in enumerate(tile) for column in groups[group])
        sum_, these = plus(of_rows(0, *tile[:2]), of_rows(2, *tile[2:])), w.constant(bits, "i32")
        if best:
            larger = w.value(f"arith.cmpf ogt, {sum_}, {most} : f32")
            these, sum_ = w.select(larger, these, best, "i32"), w.select(larger, sum_, most, "f32")
        best, most = these, sum_
    zero = w.constant(0, "i32")

    def is_kept(row: int, column: int) -> Value:
        bit = w.binary("andi", best, w.constant(1 << SIDE * row + column, "i32"), "i32")
        return w.compare("ne", bit, zero, "i32")

    return [[is_kept(row, column) for column in range(SIDE)] for row in range(SIDE)]


def _store(
    w: GpuWriter, n: int, group: Value, entries: list[Entry], coordinates: tuple[str, str], values: tuple[str, str]
) -> None:
    store_slots(w, n, w.mul(group, w.constant(n)), [entries], coordinates, values)
