"""Writes the MLIR text of a kernel for a GPU: parallel loops, and loops inside of them that lanes of a warp share.

Numbers that the host knows are arguments of type `index`; what is in memory is an `Array`.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from gossamer.conversion.writer import Array, Value, Writer

WARP = 32


class GpuWriter(Writer):
    """The statements of one kernel, or of several that are launched one after the other.

    Args:
        numbers: The names of the numbers, which are values under these names.
        arrays: The arrays.
    """

    def __init__(self, numbers: Sequence[str], arrays: Sequence[Array]):
        super().__init__(arrays)
        self.numbers = tuple(numbers)

    def number(self, name: str) -> Value:
        """Returns a number of the host."""
        assert name in self.numbers
        return f"%{name}"

    def module(self) -> str:
        """Returns the text of the kernel with all statements so far."""
        arguments = [f"%{name}: index" for name in self.numbers]
        arguments += [f"%{array.name}: {array.type}" for array in self.arrays.values()]
        unbound = ", ".join(["-1"] * len(self.arrays))
        head = f"func.func @main({', '.join(arguments)}) attributes {{gossamer.results = [{unbound}]}}"
        return f"{head} {{\n{self.text()}\n  return\n}}\n"

    @contextmanager
    def parallel(self, *sizes: Value, resident: int = 0) -> Iterator[list[Value]]:
        """The statements of `with` run for all indices below these sizes, neighbours at the last one side by side.

        `resident` blocks of 128 threads at least should fit a multiprocessor at once; 0: the assembler bounds registers
        as it likes.
        """
        zero, one = self.constant(0), self.constant(1)
        places = [self._name() for _ in sizes]
        bounds = (", ".join([value] * len(sizes)) for value in (zero, one))
        lower, step = bounds
        head = f"scf.parallel ({', '.join(places)}) = ({lower}) to ({', '.join(sizes)}) step ({step}) {{"
        with self._block(head):
            yield places
        if resident:
            self._lines[-1] += f" {{gossamer.resident = {resident} : i64}}"

    @contextmanager
    def lanes(self, count: int) -> Iterator[Value]:
        """The statements of `with` run for every lane of `count`, and may use `lane_prefix`."""
        zero, one, upper = self.constant(0), self.constant(1), self.constant(count)
        lane = self._name()
        self.statement(f"scf.parallel ({lane}) = ({zero}) to ({upper}) step ({one}) {{")
        self._depth += 1
        yield lane
        self._depth -= 1
        self.statement(f"}} {{gossamer.lanes = {count} : i64}}")

    @contextmanager
    def lane_loop(self, count: int, lower: Value, upper: Value) -> Iterator[Value]:
        """The statements of `with` run for every index of a range, dealt to `count` lanes (1: one thread's)."""
        one, place = self.constant(1), self._name()
        self.statement(f"scf.parallel ({place}) = ({lower}) to ({upper}) step ({one}) {{")
        self._depth += 1
        yield place
        self._depth -= 1
        self.statement(f"}} {{gossamer.lanes = {count} : i64}}")

    def reduce_lanes(
        self, count: int, upper: Value, operation: str, element: str, body: Callable[[Value], Value]
    ) -> Value:
        """Returns what `body` gives for all numbers below `upper`, dealt to `count` lanes, put together.

        Args:
            count: A power of two; 1 is a loop of one thread.
            upper: How many numbers.
            operation: "addi", "ori" or "addf": from 0.
            element: The type.
            body: Writes the statements, given the number.
        """
        zero, one = self.constant(0), self.constant(1)
        initial = self.value("arith.constant 0.0 : f32") if element == "f32" else self.constant(0, element)
        result, place = self._name(), self._name()
        self.statement(
            f"{result} = scf.parallel ({place}) = ({zero}) to ({upper}) step ({one}) init ({initial}) -> {element} {{"
        )
        self._depth += 1
        value = body(place)
        self.statement(f"scf.reduce({value} : {element}) {{")
        self.statement(f"^bb0(%lhs: {element}, %rhs: {element}):")
        self.statement(f"  %both = arith.{operation} %lhs, %rhs : {element}")
        self.statement(f"  scf.reduce.return %both : {element}")
        self.statement("}")
        self._depth -= 1
        self.statement(f"}} {{gossamer.lanes = {count} : i64}}")
        return result

    def lane_prefix(self, value: Value) -> tuple[Value, Value]:
        """Returns the sums (i32) of a number over the lanes before, and over all lanes."""
        result = self._name()
        self.statement(f"{result}:2 = gossamer.lane_prefix {value} : i32")
        return f"{result}#0", f"{result}#1"

    def ballot(self, condition: Callable[[Value], Value]) -> Value:
        """Returns a word (i32) of what `condition` (i1) says of each lane of a warp, given the lane (index)."""

        def bit(lane: Value) -> Value:
            place = self.value(f"arith.index_cast {lane} : index to i32")
            return self.binary("shli", self.counted(condition(lane)), place, "i32")

        return self.reduce_lanes(WARP, self.constant(WARP), "ori", "i32", bit)

    def in_ballot(self, word: Value, lane: Value) -> tuple[Value, Value]:
        """Returns what a ballot says of a lane (i1), and how many lanes before it say the same of themselves (i32)."""
        place, one = self.value(f"arith.index_cast {lane} : index to i32"), self.constant(1, "i32")
        bit = self.binary("shli", one, place, "i32")
        own = self.compare("ne", self.binary("andi", word, bit, "i32"), self.constant(0, "i32"), "i32")
        below = self.binary("andi", word, self.binary("subi", bit, one, "i32"), "i32")
        return own, self.ones(below)

    def ones(self, word: Value) -> Value:
        """Returns how many bits of a word (i32) are set."""
        return self.value(f"math.ctpop {word} : i32")

    def fold_all(
        self,
        lower: Value,
        upper: Value,
        step: int,
        element: str,
        initial: Sequence[Value],
        body: Callable[[Value, list[Value]], Sequence[Value]],
    ) -> list[Value]:
        """Returns what numbers of a type have become after a serial loop, as `fold` does of one index."""
        by, place = self.constant(step), self._name()
        names = [self._name() for _ in initial]
        carried = ", ".join(f"{name} = {value}" for name, value in zip(names, initial, strict=True))
        types = ", ".join([element] * len(names))
        result = self._name()
        head = f"{result}:{len(names)} = scf.for {place} = {lower} to {upper} step {by} iter_args({carried})"
        with self._block(f"{head} -> ({types}) {{"):
            self.statement(f"scf.yield {', '.join(body(place, names))} : {types}")
        return [f"{result}#{n}" for n in range(len(names))]

    def fold_while(
        self,
        element: str,
        initial: Sequence[Value],
        condition: Callable[[list[Value]], Value],
        body: Callable[[list[Value]], Sequence[Value]],
    ) -> list[Value]:
        """Returns what numbers of a type have become by `body` after as long as the condition of them holds (i1)."""
        result, before, after = self._name(), [self._name() for _ in initial], [self._name() for _ in initial]
        carried = ", ".join(f"{name} = {value}" for name, value in zip(before, initial, strict=True))
        types = ", ".join([element] * len(before))
        self.statement(f"{result}:{len(before)} = scf.while ({carried}) : ({types}) -> ({types}) {{")
        self._depth += 1
        self.statement(f"scf.condition({condition(before)}) {', '.join(before)} : {types}")
        self._depth -= 1
        self.statement("} do {")
        self._depth += 1
        self.statement(f"^bb0({', '.join(f'{name}: {element}' for name in after)}):")
        self.statement(f"scf.yield {', '.join(body(after))} : {types}")
        self._depth -= 1
        self.statement("}")
        return [f"{result}#{n}" for n in range(len(before))]

    def fold(
        self, lower: Value, upper: Value, step: int, initial: Value, body: Callable[[Value, Value], Value]
    ) -> Value:
        """Returns what an index has become after a serial loop, whose `body` gives the next one, given the place."""
        by = self.constant(step)
        result, place, carried = self._name(), self._name(), self._name()
        bounds = f"{place} = {lower} to {upper} step {by}"
        head = f"{result} = scf.for {bounds} iter_args({carried} = {initial}) -> (index) {{"
        with self._block(head):
            self.statement(f"scf.yield {body(place, carried)} : index")
        return result

    def both(self, a: Value, b: Value) -> Value:
        """Returns whether two conditions hold."""
        return self.binary("andi", a, b, "i1")

    def counted(self, condition: Value, element: str = "i32") -> Value:
        """Returns 1 or 0 for a condition."""
        if element == "index":
            return self.value(f"arith.index_castui {condition} : i1 to index")
        return self.value(f"arith.extui {condition} : i1 to {element}")

    def as_index(self, number: Value, element: str) -> Value:
        """Returns a number that is not negative as an index."""
        return self.value(f"arith.index_castui {number} : {element} to index")

    def widened(self, number: Value, element: str) -> Value:
        """Returns a number (i32) that is not negative in another width."""
        return number if element == "i32" else self.value(f"arith.extui {number} : i32 to {element}")

    def select(self, condition: Value, a: Value, b: Value, element: str = "index") -> Value:
        """Returns a if the condition holds, else b."""
        return self.value(f"arith.select {condition}, {a}, {b} : {element}")

    def split(self, place: Value, sizes: Sequence[Value], narrow: bool = False) -> list[Value]:
        """Returns the coordinates of a row-major place; the first size is not needed.

        Args:
            place: The place.
            sizes: Of the space.
            narrow: Whether all these numbers fit into 31 bits: a division of 64 is many instructions on a GPU.
        """
        if not narrow or len(sizes) < 2:
            coordinates = []
            for size in reversed(sizes[1:]):
                coordinates.insert(0, self.rem(place, size))
                place = self.div(place, size)
            return [place, *coordinates] if sizes else []
        short, found = self._narrowed(place), []
        for size in reversed(sizes[1:]):
            by = self._narrowed(size)
            found.insert(0, self.binary("remui", short, by, "i32"))
            short = self.binary("divui", short, by, "i32")
        return [self.value(f"arith.index_castui {n} : i32 to index") for n in (short, *found)]

    def _narrowed(self, number: Value) -> Value:
        return self.value(f"arith.index_cast {number} : index to i32")

    def dot(self, coordinates: Sequence[Value], strides: Sequence[Value]) -> Value:
        """Returns where coordinates are in memory."""
        at = self.constant(0)
        for coordinate, stride in zip(coordinates, strides, strict=True):
            at = self.add(at, self.mul(coordinate, stride))
        return at

    def bits_of_word(self, word: Value, element: str) -> Value:
        """Returns a number of the host as bits of an element."""
        wide = self.value(f"arith.index_cast {word} : index to i64")
        return wide if element == "i64" else self.value(f"arith.trunci {wide} : i64 to {element}")

    def _name(self) -> Value:
        self._count += 1
        return f"%{self._count}"
