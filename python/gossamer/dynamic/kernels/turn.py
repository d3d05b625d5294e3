"""The kernels that turn a block list over: of each block of keys the blocks of queries that see it.

First a list becomes bits: a thread has 32 columns of a row, and finds their first entry by bisection. Then a warp has a
column, 32 rows at a time, and stores those whose bit is set, by ballots. So rows ascend, and nothing is added up in
memory by several.
"""

from functools import cache

from gossamer.conversion.cuda.kernel import GpuKernel
from gossamer.conversion.cuda.writer import WARP, GpuWriter
from gossamer.conversion.writer import Array, Value

NUMBERS = ["matrices", "rows", "columns", "words", "width", "partial_width"]
# Of a list: what is read, scratch, what is written; of partial blocks the numbers of their bitmaps, too.
WHOLE = ["count", "index", "set", "turned_count", "turned_index"]
PARTIAL = [*(f"partial_{name}" for name in WHOLE), "partial_bits", "turned_bits"]


@cache
def turner(partial: bool) -> GpuKernel:
    """The kernels: arrays `WHOLE`, and `PARTIAL` if there are partial blocks. Scratch is [matrices, words, rows]."""
    w = GpuWriter(NUMBERS, [Array(name, "i32") for name in [*WHOLE, *(PARTIAL if partial else [])]])
    lists = ["", "partial_"] if partial else [""]
    matrices, rows, words = (w.number(name) for name in ("matrices", "rows", "words"))
    # Neighbours read the list of one row. What they write is read by columns.
    with w.parallel(matrices, rows, words) as (matrix, row, word):
        at = w.add(w.mul(w.add(w.mul(matrix, words), word), rows), row)
        line = w.add(w.mul(matrix, rows), row)
        for name in lists:
            _set_bits(w, name, line, word, at)
    with w.parallel(matrices, w.number("columns")) as (matrix, column):
        for name in lists:
            _store_column(w, name, matrix, column)
    return GpuKernel(w.module())


def first_not_below(w: GpuWriter, index: str, base: Value, count: Value, wanted: Value) -> Value:
    """Returns the place of the first of `count` ascending numbers that is not below another; `count` if there is none.

    Args:
        w: Where to write.
        index: The array, from `base` on.
        base, count, wanted: See above.
    """

    def step(carried: list[Value]) -> list[Value]:
        lower, upper = carried
        middle = w.binary("shrui", w.add(lower, upper), w.constant(1))
        below = w.compare("ult", w.load(index, w.add(base, middle)), wanted)
        return [w.select(below, w.add(middle, w.constant(1)), lower), w.select(below, upper, middle)]

    initial = [w.constant(0), count]
    return w.fold_while("index", initial, lambda ends: w.compare("ult", *ends), step)[0]


def _set_bits(w: GpuWriter, name: str, line: Value, word: Value, at: Value) -> None:
    count, one, zero = w.load(f"{name}count", line), w.constant(1), w.constant(0)
    base = w.mul(line, w.number(f"{name}width"))
    first = w.mul(word, w.constant(WARP))
    end, last = w.add(first, w.constant(WARP)), w.sub(count, one)

    def entry(place: Value) -> Value:
        return w.load(f"{name}index", w.add(base, w.value(f"arith.maxsi {w.min(place, last)}, {zero} : index")))

    def is_here(carried: list[Value]) -> Value:
        return w.both(w.compare("ult", carried[0], count), w.compare("ult", entry(carried[0]), end))

    def step(carried: list[Value]) -> list[Value]:
        place, bits = carried
        bit = w.binary("shli", one, w.sub(entry(place), first))
        return [w.add(place, one), w.binary("ori", bits, bit)]

    begin = first_not_below(w, f"{name}index", base, count, first)
    _, bits = w.fold_while("index", [begin, zero], is_here, step)
    w.store_bits(f"{name}set", at, w.value(f"arith.index_cast {bits} : index to i32"))


def _store_column(w: GpuWriter, name: str, matrix: Value, column: Value) -> None:
    zero, one, lanes = w.constant(0), w.constant(1), w.constant(WARP)
    rows, last = w.number("rows"), w.sub(w.number("rows"), one)
    word, bit = w.div(column, lanes), w.rem(column, lanes)
    bits = w.mul(w.add(w.mul(matrix, w.number("words")), word), rows)
    line = w.add(w.mul(matrix, w.number("columns")), column)
    to = w.mul(line, rows)
    shift = w.value(f"arith.index_cast {bit} : index to i32")

    def step(first: Value, carried: list[Value]) -> list[Value]:
        def is_set(lane: Value) -> Value:
            row = w.add(first, lane)
            own = w.load_bits(f"{name}set", w.add(bits, w.min(row, last)))
            own = w.value(f"arith.trunci {w.binary('shrui', own, shift, 'i32')} : i32 to i1")
            return w.both(own, w.compare("ult", row, rows))

        votes = w.ballot(is_set)
        with w.lane_loop(WARP, zero, lanes) as lane:
            own, before = w.in_ballot(votes, lane)
            with w.when(own):
                row, place = w.add(first, lane), w.add(to, w.add(carried[0], w.as_index(before, "i32")))
                w.store(f"{name}turned_index", place, row)
                if name:
                    old = w.add(w.mul(matrix, rows), row)
                    base = w.mul(old, w.number("partial_width"))
                    at = first_not_below(w, "partial_index", base, w.load("partial_count", old), column)
                    w.store_bits("turned_bits", place, w.load_bits("partial_bits", w.add(base, at)))
        return [w.add(carried[0], w.as_index(w.ones(votes), "i32"))]

    (count,) = w.fold_all(zero, rows, WARP, "index", [zero], step)
    w.store(f"{name}turned_count", line, count)
