"""The kernel that chooses blocks of keys by their scores: a warp has the scores of one block of queries.

It looks for the bound that lets through what is wanted, by bisection of the numbers of the scores' type in their order:
each step counts (or sums) once through the row, which stays in the cache, and ends as soon as exactly as many are let
through. Then what is chosen is stored in its order: 32 columns at a time, by ballots.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Literal

from gossamer.conversion.cuda.kernel import GpuKernel
from gossamer.conversion.cuda.writer import WARP, GpuWriter
from gossamer.conversion.writer import Array, Value
from gossamer.dynamic.kernels import RESIDENT

Rule = Literal["topk", "threshold", "mass"]
VECTOR = 4  # scores that a lane reads at once

NUMBERS = [
    "rows", "row_blocks", "column_blocks", "width", "wanted", "sinks", "local", "down", "across", "queries", "keys",
    "partial_width", "step", "kinds",
]  # fmt: skip


@dataclass(frozen=True)
class Choice:
    """What a kernel is made for.

    Attributes:
        element: Of the scores: "f32", "bf16" or "f16".
        rule: "topk": `wanted` is how many; "threshold", "mass": the bits of a float32.
        causal: Whether keys behind a query are out of its sight; blocks that are partly so have a list of their own.
        keeps: Whether `sinks` first blocks, and `local` ones up to the diagonal, are always chosen.
        together: Whether scores can be read `VECTOR` at a time.
    """

    element: str
    rule: Rule
    causal: bool
    keeps: bool
    together: bool


@cache
def chooser(choice: Choice) -> GpuKernel:
    """The kernel: arrays `scores`, `count`, `index`, of a causal one three more of partial blocks, and `needed`, how
    many each row would have, where that may be more than `width`.
    """
    names = ["count", "index", *(["partial_count", "partial_index", "partial_bits"] if choice.causal else [])]
    names += [] if choice.rule == "topk" else ["needed"]
    w = GpuWriter(NUMBERS, [Array("scores", choice.element), *(Array(name, "i32") for name in names)])
    with w.parallel(w.number("rows"), resident=RESIDENT) as (row,):
        _Row(w, choice, row).write()
    return GpuKernel(w.module())


class _Row:
    """The statements for one row."""

    def __init__(self, w: GpuWriter, choice: Choice, row: Value):
        self.w, self.choice, self.row = w, choice, row
        number = w.number
        one = w.constant(1)
        self.place = w.rem(row, number("row_blocks"))
        self.base = w.mul(row, number("column_blocks"))
        self.first_query = w.mul(self.place, number("down"))
        last_query = w.sub(w.min(w.add(self.first_query, number("down")), number("queries")), one)
        behind_diagonal = w.add(w.div(last_query, number("across")), one)
        self.end = number("column_blocks")
        if choice.causal:
            self.end = w.min(self.end, behind_diagonal)
        if choice.keeps:
            self.sinks = w.min(number("sinks"), self.end)
            begin = w.value(f"arith.maxsi {w.sub(behind_diagonal, number('local'))}, {self.sinks} : index")
            self.local = begin, w.min(behind_diagonal, self.end)

    # What is in a row.

    def score(self, column: Value) -> Value:
        return self._as_f32(self.w.load_bits("scores", self.w.add(self.base, column)))

    def _as_f32(self, bits: Value) -> Value:
        element = self.choice.element
        return bits if element == "f32" else self.w.value(f"arith.extf {bits} : {element} to f32")

    def above(self, predicate: str, score: Value, column: Value, bound: Value) -> Value:
        """Whether a score passes a bound ("ogt": is above it, "oge": at it, too), or its block is kept anyway."""
        passes = self.w.value(f"arith.cmpf {predicate}, {score}, {bound} : f32")
        return self.w.binary("ori", passes, self.kept(column), "i1") if self.choice.keeps else passes

    def kept(self, column: Value) -> Value:
        w = self.w
        is_local = w.both(w.compare("uge", column, self.local[0]), w.compare("ult", column, self.local[1]))
        return w.binary("ori", w.compare("ult", column, self.sinks), is_local, "i1")

    def over_row(self, operation: str, element: str, of: Callable[[Value, Value], Value]) -> Value:
        """What `of` gives for all scores and their columns, put together."""
        w, many = self.w, VECTOR if self.choice.together else 1
        zero = w.value("arith.constant 0.0 : f32") if element == "f32" else w.constant(0, element)

        def some(place: Value) -> Value:
            first, total = w.mul(place, w.constant(many)), zero
            for n, score in enumerate(self._scores(first, many)):
                column = w.add(first, w.constant(n))
                own = of(score, column)
                if self.choice.causal and many > 1:
                    own = w.select(w.compare("ult", column, self.end), own, zero, element)
                total = w.binary(operation, total, own, element)
            return total

        upper = w.value(f"arith.ceildivui {self.end}, {w.constant(many)} : index")
        return w.reduce_lanes(WARP, upper, operation, element, some)

    def _scores(self, first: Value, many: int) -> list[Value]:
        if many == 1:
            return [self.score(first)]
        w, element = self.w, self.choice.element
        type, at = f"vector<{many}x{element}>", w.add(self.base, first)
        vector = w.value(f"vector.load %scores[{at}] : {w.arrays['scores'].type}, {type}")
        parts = [w.value(f"vector.extract {vector}[{n}] : {element} from {type}") for n in range(many)]
        return [self._as_f32(part) for part in parts]

    # The bound.

    def bound_of(self, number: Value) -> Value:
        """The score (f32) of a number in the order of all scores."""
        w, element = self.w, self.choice.element
        bits = f"i{_bits(element)}"
        word = w.value(f"arith.index_cast {number} : index to {bits}")
        is_positive = w.compare("slt", word, w.constant(0, bits), bits)
        sign, all = w.constant(-_sign(element), bits), w.constant(-1, bits)
        word = w.binary("xori", word, w.select(is_positive, sign, all, bits), bits)
        return self._as_f32(w.value(f"arith.bitcast {word} : {bits} to {element}"))

    def bound(self) -> tuple[Value, Value]:
        """What scores must pass, and how many that are equal to it are let through (index)."""
        w, rule = self.w, self.choice.rule
        if rule == "topk":
            return self._bound_of_count()
        wanted = w.value(f"arith.bitcast {w.bits_of_word(w.number('wanted'), 'i32')} : i32 to f32")
        return (wanted if rule == "threshold" else self._bound_of_mass(wanted)), w.number("column_blocks")

    def _bound_of_count(self) -> tuple[Value, Value]:
        w, wanted, one, zero = self.w, self.w.number("wanted"), self.w.constant(1), self.w.constant(0)
        lowest, beyond = (w.constant(number) for number in _ends(self.choice.element))
        kept = zero
        if self.choice.keeps:
            begin, end = self.local
            local = w.value(f"arith.maxsi {w.sub(end, begin)}, {zero} : index")
            kept = w.add(self.sinks, local)

        def step(carried: list[Value]) -> list[Value]:
            lower, upper, above = carried
            middle = _middle(w, lower, upper)
            bound = self.bound_of(middle)
            count = w.as_index(
                self.over_row("addi", "i32", lambda s, c: w.counted(self.above("oge", s, c, bound))), "i32"
            )
            enough, exact = w.compare("uge", count, wanted), w.compare("eq", count, wanted)
            return [
                w.select(enough, middle, lower),
                w.select(exact, w.add(middle, one), w.select(enough, upper, middle)),
                # Exactly as many: then all that are equal are let through.
                w.select(exact, zero, w.select(enough, above, count)),
            ]

        all_fit = w.compare("ule", self.end, wanted)
        upper = w.select(all_fit, w.add(lowest, one), beyond)
        lower, _, above = w.fold_while("index", [lowest, upper, kept], lambda c: _apart(w, c), step)
        none = w.compare("eq", lower, lowest)
        return self.bound_of(lower), w.select(none, zero, w.sub(wanted, above))

    def _bound_of_mass(self, share: Value) -> Value:
        w = self.w
        nothing = w.value("arith.constant 0.0 : f32")

        def mass(bound: Value) -> Value:
            def of(score: Value, column: Value) -> Value:
                is_mass = w.value(f"arith.cmpf ogt, {score}, {nothing} : f32")
                return w.select(w.both(is_mass, self.above("oge", score, column, bound)), score, nothing, "f32")

            return self.over_row("addf", "f32", of)

        least = w.constant(_sign(self.choice.element) + 1)
        beyond = w.constant(_ends(self.choice.element)[1])
        wanted = w.binary("mulf", share, mass(self.bound_of(least)), "f32")

        def step(carried: list[Value]) -> list[Value]:
            lower, upper = carried
            middle = _middle(w, lower, upper)
            enough = w.value(f"arith.cmpf oge, {mass(self.bound_of(middle))}, {wanted} : f32")
            return [w.select(enough, middle, lower), w.select(enough, upper, middle)]

        is_some = w.value(f"arith.cmpf ogt, {wanted}, {nothing} : f32")
        lower = w.select(is_some, least, beyond)
        return self.bound_of(w.fold_while("index", [lower, beyond], lambda c: _apart(w, c), step)[0])

    # The lists.

    def write(self) -> None:
        w, number, zero = self.w, self.w.number, self.w.constant(0)
        bound, room = self.bound()
        whole_end = self._whole_end() if self.choice.causal else self.end
        above, equal = self._store(zero, whole_end, [zero, zero], bound, room, self._store_whole)
        whole = w.add(above, w.min(equal, room))
        w.store("count", self.row, w.min(whole, number("width")))
        if self.choice.rule != "topk":
            w.store("needed", self.row, whole)
        if self.choice.causal:

            def store(column: Value, place: Value) -> None:
                self._store_partial(column, w.sub(place, whole))

            above, equal = self._store(whole_end, self.end, [above, equal], bound, room, store)
            w.store("partial_count", self.row, w.sub(w.add(above, w.min(equal, room)), whole))

    def _whole_end(self) -> Value:
        """The first block of keys that is not all before the first query."""
        w = self.w
        seen = w.add(self.first_query, w.constant(1))
        return w.select(
            w.compare("uge", seen, w.number("keys")), self.end, w.min(self.end, w.div(seen, w.number("across")))
        )

    def _store(
        self,
        lower: Value,
        upper: Value,
        before: list[Value],
        bound: Value,
        room: Value,
        store: Callable[[Value, Value], None],
    ) -> list[Value]:
        """Stores what is chosen of some columns; carries on how many before are above the bound, and at it."""
        w, last = self.w, self.w.sub(upper, self.w.constant(1))

        def votes(first: Value, says: Callable[[Value, Value], Value]) -> Value:
            def says_in_row(lane: Value) -> Value:
                column = w.add(first, lane)
                near = w.min(column, last)
                return w.both(says(self.score(near), near), w.compare("ult", column, upper))

            return w.ballot(says_in_row)

        def is_equal(score: Value, column: Value) -> Value:
            equal = w.value(f"arith.cmpf oeq, {score}, {bound} : f32")
            if not self.choice.keeps:
                return equal
            return w.both(equal, w.binary("xori", self.kept(column), w.constant(1, "i1"), "i1"))

        def step(first: Value, carried: list[Value]) -> list[Value]:
            words = votes(first, lambda s, c: self.above("ogt", s, c, bound)), votes(first, is_equal)
            with w.lane_loop(WARP, w.constant(0), w.constant(WARP)) as lane:
                (is_above, own_above), (is_equal_, own_equal) = (w.in_ballot(word, lane) for word in words)
                above = w.add(carried[0], w.as_index(own_above, "i32"))
                equal = w.add(carried[1], w.as_index(own_equal, "i32"))
                fits = w.both(is_equal_, w.compare("ult", equal, room))
                with w.when(w.binary("ori", is_above, fits, "i1")):
                    store(w.add(first, lane), w.add(above, w.min(equal, room)))
            return [w.add(n, w.as_index(w.ones(word), "i32")) for n, word in zip(carried, words, strict=True)]

        return w.fold_all(lower, upper, WARP, "index", before, step)

    def _store_whole(self, column: Value, place: Value) -> None:
        w, width = self.w, self.w.number("width")
        with w.when(w.compare("ult", place, width)):
            w.store("index", w.add(w.mul(self.row, width), place), column)

    def _store_partial(self, column: Value, place: Value) -> None:
        w, number = self.w, self.w.number
        at = w.add(w.mul(self.row, number("partial_width")), place)
        w.store("partial_index", at, column)
        # How far it is from the diagonal, in steps, from the first distance that is partial (`diagonal.py`).
        key = w.mul(w.add(column, w.constant(1)), number("across"))
        distance = w.div(w.sub(w.sub(key, number("step")), self.first_query), number("step"))
        is_cut = w.compare("ugt", key, number("keys"))
        w.store("partial_bits", at, w.add(distance, w.select(is_cut, number("kinds"), w.constant(0))))


def _middle(w: GpuWriter, lower: Value, upper: Value) -> Value:
    return w.binary("shrui", w.add(lower, upper), w.constant(1))


def _apart(w: GpuWriter, carried: list[Value]) -> Value:
    return w.compare("ugt", w.sub(carried[1], carried[0]), w.constant(1))


def _bits(element: str) -> int:
    return int(element.lstrip("bf"))


def _sign(element: str) -> int:
    """Of the bits of a number that of its sign; in the order of all numbers it is that of 0."""
    return 1 << (_bits(element) - 1)


def _ends(element: str) -> tuple[int, int]:
    """Where -inf is in the order of all numbers, and what follows inf."""
    inf = {"f32": 0x7F80_0000, "bf16": 0x7F80, "f16": 0x7C00}[element]
    return _sign(element) - 1 - inf, _sign(element) + inf + 1
