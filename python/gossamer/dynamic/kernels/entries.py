"""Kernels for block lists of masks that are known entry by entry; a rule gives 32 keys of a query at once.

The first counts what each block allows: a warp has a block, a lane words of it. The second lists the blocks that are
allowed as a whole and in part: a warp has a block of queries. The third writes bitmaps, one for each place of the list
of partial blocks that is used.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from gossamer.conversion.cuda.kernel import GpuKernel
from gossamer.conversion.cuda.writer import WARP, GpuWriter
from gossamer.conversion.writer import Array, Value

NUMBERS = ["matrices", "rows", "columns", "down", "across", "words", "queries", "keys", "width"]
OUTPUTS = [
    "states", "count", "index", "partial_count", "partial_index", "partial_bits", "bits", "needed",
]  # fmt: skip
_PARTIAL, _WHOLE = 1, 2
# Of a matrix, a query and the first of 32 keys (index): their bits (i32). Keys beyond the last one may be anything.
Word = Callable[[GpuWriter, Value, Value, Value], Value]


@dataclass(frozen=True)
class Rule:
    """What kernels are made for.

    Attributes:
        arrays: Names and elements of what the rule reads.
        numbers: Of the host, that it uses besides `NUMBERS`.
        word: Writes its statements.
        causal: Whether keys behind a query are out of its sight anyway.
    """

    arrays: tuple[tuple[str, str], ...]
    numbers: tuple[str, ...]
    word: Word
    causal: bool


@cache
def lister(rule: Rule) -> GpuKernel:
    """The kernels: `NUMBERS` and those of the rule; the rule's arrays, then `OUTPUTS`.

    Both lists have room for `width` blocks a row; `needed` says how many each row would need.
    """
    arrays = [*(Array(*one) for one in rule.arrays), *(Array(name, "i32") for name in OUTPUTS)]
    w = GpuWriter([*NUMBERS, *rule.numbers], arrays)
    matrices, rows, columns = (w.number(name) for name in ("matrices", "rows", "columns"))
    with w.parallel(matrices, rows, columns) as (matrix, row, column):
        _write_state(w, rule, matrix, row, column)
    with w.parallel(matrices, rows) as (matrix, row):
        _write_lists(w, w.add(w.mul(matrix, rows), row))
    with w.parallel(matrices, rows, w.number("width")) as (matrix, row, place):
        line = w.add(w.mul(matrix, rows), row)
        slot = w.add(w.mul(line, w.number("width")), place)
        with w.when(w.compare("ult", place, w.load("partial_count", line))):
            column, size = w.load("partial_index", slot), w.mul(w.number("down"), w.number("words"))
            with w.lane_loop(WARP, w.constant(0), size) as number:
                w.store_bits("bits", w.add(w.mul(slot, size), number), _word(w, rule, matrix, row, column, number))
    return GpuKernel(w.module())


def _word(w: GpuWriter, rule: Rule, matrix: Value, row: Value, column: Value, number: Value) -> Value:
    """The word of a number of a block's bitmap; 0 where there are no queries and keys."""
    line, word = w.split(number, [w.number("down"), w.number("words")], narrow=True)
    begin = w.mul(word, w.constant(WARP))
    query = w.add(w.mul(row, w.number("down")), line)
    first = w.add(w.mul(column, w.number("across")), begin)
    near = w.min(query, w.sub(w.number("queries"), w.constant(1)))
    inside = w.min(w.sub(w.number("keys"), first), w.sub(w.number("across"), begin))
    if rule.causal:
        inside = w.min(inside, w.sub(w.add(query, w.constant(1)), first))
    inside = w.select(w.compare("ult", query, w.number("queries")), inside, w.constant(0))
    bits = rule.word(w, matrix, near, first)
    return w.binary("andi", bits, _lowest(w, inside), "i32")


def _lowest(w: GpuWriter, count: Value) -> Value:
    """A word of which so many of the lowest bits are set: none below 0, all above 32."""
    zero, one = w.constant(0), w.constant(1)
    count = w.value(f"arith.maxsi {w.min(count, w.constant(WARP))}, {zero} : index")
    ones = w.sub(w.binary("shli", one, count), one)
    return w.value(f"arith.index_cast {ones} : index to i32")


def _write_state(w: GpuWriter, rule: Rule, matrix: Value, row: Value, column: Value) -> None:
    number, one = w.number, w.constant(1)

    def length(at: Value, size: str, all: str) -> Value:
        begin = w.mul(at, number(size))
        return w.sub(w.min(w.add(begin, number(size)), number(all)), begin)

    area = w.mul(length(row, "down", "queries"), length(column, "across", "keys"))
    upper = w.mul(number("down"), number("words"))
    if rule.causal:
        is_seen = w.compare("ult", w.mul(column, number("across")), w.mul(w.add(row, one), number("down")))
        upper = w.select(is_seen, upper, w.constant(0))
    allowed = w.reduce_lanes(WARP, upper, "addi", "i32", lambda n: w.ones(_word(w, rule, matrix, row, column, n)))
    allowed = w.as_index(allowed, "i32")
    some = w.select(w.compare("ne", allowed, w.constant(0)), w.constant(_PARTIAL), w.constant(0))
    state = w.select(w.compare("eq", allowed, area), w.constant(_WHOLE), some)
    w.store("states", w.add(w.mul(w.add(w.mul(matrix, number("rows")), row), number("columns")), column), state)


def _write_lists(w: GpuWriter, line: Value) -> None:
    zero, lanes, columns, width = w.constant(0), w.constant(WARP), w.number("columns"), w.number("width")
    last, base, to = w.sub(columns, w.constant(1)), w.mul(line, columns), w.mul(line, width)
    states = w.constant(_WHOLE), w.constant(_PARTIAL)

    def step(first: Value, carried: list[Value]) -> list[Value]:
        def votes(state: Value) -> Value:
            def is_so(lane: Value) -> Value:
                column = w.add(first, lane)
                found = w.load("states", w.add(base, w.min(column, last)))
                return w.both(w.compare("eq", found, state), w.compare("ult", column, columns))

            return w.ballot(is_so)

        words = [votes(state) for state in states]
        with w.lane_loop(WARP, zero, lanes) as lane:
            for word, before, name in zip(words, carried, ("", "partial_"), strict=True):
                own, own_before = w.in_ballot(word, lane)
                place = w.add(before, w.as_index(own_before, "i32"))
                with w.when(w.both(own, w.compare("ult", place, width))):
                    slot = w.add(to, place)
                    w.store(f"{name}index", slot, w.add(first, lane))
                    if name:
                        w.store("partial_bits", slot, slot)
        return [w.add(before, w.as_index(w.ones(word), "i32")) for word, before in zip(words, carried, strict=True)]

    whole, partial = w.fold_all(zero, columns, WARP, "index", [zero, zero], step)
    w.store("count", line, w.min(whole, width))
    w.store("partial_count", line, w.min(partial, width))
    w.store("needed", line, w.value(f"arith.maxsi {whole}, {partial} : index"))


# What rules are made of.


def bits_at(w: GpuWriter, array: str, base: Value, length: Value, first: Value) -> Value:
    """32 bits of a row of words (i32), from any bit on; 0 behind the row's end.

    Args:
        w: Where to write.
        array: The words.
        base, length: Where the row begins, and how many words it has.
        first: The first bit.
    """
    word, shift = w.div(first, w.constant(WARP)), w.rem(first, w.constant(WARP))
    parts = []
    for n in range(2):
        at = w.add(word, w.constant(n))
        inside = w.compare("ult", at, length)
        near = w.select(inside, at, w.constant(0))
        part = w.load_bits(array, w.add(base, near))
        part = w.select(inside, part, w.constant(0, "i32"), "i32")
        parts.append(w.value(f"arith.extui {part} : i32 to i64"))
    both = w.binary("ori", parts[0], w.binary("shli", parts[1], w.constant(WARP, "i64"), "i64"), "i64")
    shift = w.value(f"arith.index_cast {shift} : index to i64")
    return w.value(f"arith.trunci {w.binary('shrui', both, shift, 'i64')} : i64 to i32")


def _of_bits(w: GpuWriter, matrix: Value, query: Value, first: Value) -> Value:
    """A mask of bits: [matrices, queries, row_words]."""
    length = w.number("row_words")
    base = w.mul(w.add(w.mul(matrix, w.number("queries")), query), length)
    return bits_at(w, "mask", base, length, first)


def _of_buckets(w: GpuWriter, matrix: Value, query: Value, first: Value) -> Value:
    """Where numbers of queries and keys are equal, and not below 0: [matrices, queries], [matrices, keys]."""
    keys, zero = w.number("keys"), w.constant(0, "i32")
    own = w.load_bits("of_queries", w.add(w.mul(matrix, w.number("queries")), query))
    base, last = w.mul(matrix, keys), w.sub(keys, w.constant(1))
    is_some = w.compare("sge", own, zero, "i32")

    def step(place: Value, carried: list[Value]) -> list[Value]:
        other = w.load_bits("of_keys", w.add(base, w.min(w.add(first, place), last)))
        bit = w.counted(w.both(is_some, w.compare("eq", own, other, "i32")))
        place = w.value(f"arith.index_cast {place} : index to i32")
        return [w.binary("ori", carried[0], w.binary("shli", bit, place, "i32"), "i32")]

    return w.fold_all(w.constant(0), w.constant(WARP), 1, "i32", [zero], step)[0]


def _of_lines(w: GpuWriter, matrix: Value, query: Value, first: Value) -> Value:
    """Columns, and diagonals by their distance from the last query's own key: [matrices, column_words],
    [matrices, diagonal_words]."""
    columns, diagonals = w.number("column_words"), w.number("diagonal_words")
    vertical = bits_at(w, "of_columns", w.mul(matrix, columns), columns, first)
    place = w.add(w.sub(w.sub(w.number("queries"), w.constant(1)), query), first)
    slash = bits_at(w, "of_diagonals", w.mul(matrix, diagonals), diagonals, place)
    return w.binary("ori", vertical, slash, "i32")


def of_bits(causal: bool) -> Rule:
    """A mask of bits."""
    return Rule((("mask", "i32"),), ("row_words",), _of_bits, causal)


def of_buckets(causal: bool) -> Rule:
    """Queries see the keys of their bucket."""
    return Rule((("of_queries", "i32"), ("of_keys", "i32")), (), _of_buckets, causal)


def of_lines(causal: bool) -> Rule:
    """Queries see some columns and diagonals."""
    return Rule((("of_columns", "i32"), ("of_diagonals", "i32")), ("column_words", "diagonal_words"), _of_lines, causal)


@cache
def marker() -> GpuKernel:
    """The kernel that sets bits: numbers `entries`, `each`, `rows`, `row_words` and `keys`; arrays `row` (i64, of every
    `each` entries one), `key` (i64; what is no key is left out) and `mask`. Bits that several set are set once.
    """
    w = GpuWriter(["entries", "each", "rows", "row_words", "keys"], [
        Array("row", "i64"), Array("key", "i64"), Array("mask", "i32")
    ])  # fmt: skip
    with w.parallel(w.number("entries")) as (entry,):
        key, row = w.load("key", entry), w.load("row", w.div(entry, w.number("each")))
        with w.when(w.both(w.compare("ult", key, w.number("keys")), w.compare("ult", row, w.number("rows")))):
            place = w.value(f"arith.index_cast {w.rem(key, w.constant(WARP))} : index to i32")
            bit = w.binary("shli", w.constant(1, "i32"), place, "i32")
            at = w.add(w.mul(row, w.number("row_words")), w.div(key, w.constant(WARP)))
            w.value(f"memref.atomic_rmw ori {bit}, %mask[{at}] : (i32, memref<?xi32>) -> i32")
    return GpuKernel(w.module())
