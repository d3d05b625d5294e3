"""Writes the MLIR text of a kernel, statement by statement.

Kernels here are loops over flat arrays. Values are names ("%12"), of type `index` unless said otherwise. What a loop
changes lives in a `Variable`, a scalar on the stack that LLVM keeps in a register.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

Value = str


@dataclass(frozen=True)
class Array:
    """A flat argument of a kernel.

    Attributes:
        name: Without the percent sign.
        element: "i8", "i16", "i32" or "i64": values move as bits, whatever they mean.
    """

    name: str
    element: str

    @property
    def type(self) -> str:
        """As MLIR writes it."""
        return f"memref<?x{self.element}>"


@dataclass(frozen=True)
class Variable:
    """A scalar that statements read and write."""

    writer: "Writer"
    name: Value
    element: str = "index"

    def get(self) -> Value:
        """Returns its value here."""
        return self.writer.value(f"memref.load {self.name}[] : memref<{self.element}>")

    def set(self, value: Value) -> None:
        """Gives it another value."""
        self.writer.statement(f"memref.store {value}, {self.name}[] : memref<{self.element}>")

    def add(self, amount: Value) -> None:
        """Adds to it."""
        self.set(self.writer.add(self.get(), amount))


class Writer:
    """The statements of one function, and what makes them."""

    def __init__(self, arrays: Sequence[Array]):
        self.arrays = {array.name: array for array in arrays}
        self._lines: list[str] = []
        self._count = 0
        self._depth = 1

    def text(self) -> str:
        """Returns the statements."""
        return "\n".join(self._lines)

    def statement(self, text: str) -> None:
        """Appends a line."""
        self._lines.append("  " * self._depth + text)

    def value(self, text: str) -> Value:
        """Appends an operation with a result, and returns that."""
        self._count += 1
        self.statement(f"%{self._count} = {text}")
        return f"%{self._count}"

    def constant(self, number: int, element: str = "index") -> Value:
        """Returns a constant."""
        return self.value(f"arith.constant {number} : {element}")

    def binary(self, name: str, a: Value, b: Value, element: str = "index") -> Value:
        """Returns `arith.<name>` of two values."""
        return self.value(f"arith.{name} {a}, {b} : {element}")

    def add(self, a: Value, b: Value) -> Value:
        """Returns a + b."""
        return self.binary("addi", a, b)

    def sub(self, a: Value, b: Value) -> Value:
        """Returns a - b."""
        return self.binary("subi", a, b)

    def mul(self, a: Value, b: Value) -> Value:
        """Returns a * b."""
        return self.binary("muli", a, b)

    def div(self, a: Value, b: Value) -> Value:
        """Returns a // b of numbers that are not negative."""
        return self.binary("divui", a, b)

    def rem(self, a: Value, b: Value) -> Value:
        """Returns a % b, likewise."""
        return self.binary("remui", a, b)

    def min(self, a: Value, b: Value) -> Value:
        """Returns the smaller one."""
        return self.binary("minsi", a, b)

    def compare(self, predicate: str, a: Value, b: Value, element: str = "index") -> Value:
        """Returns `arith.cmpi` (i1)."""
        return self.value(f"arith.cmpi {predicate}, {a}, {b} : {element}")

    def load(self, name: str, at: Value) -> Value:
        """Returns an element as an index; indices and numbers are not negative, but for those of i64 arrays."""
        array = self.arrays[name]
        cast = "index_cast" if array.element == "i64" else "index_castui"
        return self.value(f"arith.{cast} {self.load_bits(name, at)} : {array.element} to index")

    def load_bits(self, name: str, at: Value) -> Value:
        """Returns an element as it is."""
        return self.value(f"memref.load %{name}[{at}] : {self.arrays[name].type}")

    def store(self, name: str, at: Value, value: Value) -> None:
        """Stores an index."""
        self.store_bits(name, at, self.value(f"arith.index_cast {value} : index to {self.arrays[name].element}"))

    def store_bits(self, name: str, at: Value, value: Value) -> None:
        """Stores an element of the array's type."""
        self.statement(f"memref.store {value}, %{name}[{at}] : {self.arrays[name].type}")

    def variable(self, initial: Value, element: str = "index") -> Variable:
        """Returns a new variable. Only at the beginning of a function: in a loop it would need more stack each time."""
        variable = Variable(self, self.value(f"memref.alloca() : memref<{element}>"), element)
        variable.set(initial)
        return variable

    @contextmanager
    def loop(self, lower: Value, upper: Value, step: int = 1) -> Iterator[Value]:
        """The statements of `with` run for every index of a range."""
        by = self.constant(step)
        self._count += 1
        induction = f"%{self._count}"
        with self._block(f"scf.for {induction} = {lower} to {upper} step {by} {{"):
            yield induction

    @contextmanager
    def when(self, condition: Value) -> Iterator[None]:
        """They run if the condition (i1) holds."""
        with self._block(f"scf.if {condition} {{"):
            yield

    @contextmanager
    def otherwise(self) -> Iterator[None]:
        """They run if the condition of the `when` just before did not hold."""
        assert self._lines[-1].strip() == "}"
        self._lines.pop()
        with self._block("} else {"):
            yield

    @contextmanager
    def loop_while(self, condition: Callable[[], Value]) -> Iterator[None]:
        """They run as long as the condition, written anew each time, holds."""
        self.statement("scf.while : () -> () {")
        self._depth += 1
        self.statement(f"scf.condition({condition()})")
        self._depth -= 1
        with self._block("} do {"):
            yield
            self.statement("scf.yield")

    @contextmanager
    def _block(self, head: str) -> Iterator[None]:
        self.statement(head)
        self._depth += 1
        yield
        self._depth -= 1
        self.statement("}")


@dataclass(frozen=True)
class Once:
    """Statements that run once; `write` appends them."""

    write: Callable[[Writer], None]


@dataclass(frozen=True)
class InParts:
    """Statements that run for every part, in parallel; `write` appends them, given the number of the part."""

    write: Callable[[Writer, Value], None]


def module(arrays: Sequence[Array], steps: Sequence[Sequence[Once | InParts]]) -> str:
    """Returns the text of a kernel.

    Args:
        arrays: Its arguments. The first is `numbers` (i64), which begins with the step to run and the number of parts.
        steps: For each step what happens in it, one after the other.
    """
    functions: list[str] = []
    arguments = ", ".join(f"%{array.name}: {array.type}" for array in arrays)
    names = ", ".join(f"%{array.name}" for array in arrays)
    types = ", ".join(array.type for array in arrays)
    main = Writer(arrays)
    zero, one = main.constant(0), main.constant(1)
    wanted, parts = main.load("numbers", zero), main.load("numbers", one)
    for number, step in enumerate(steps):
        with main.when(main.compare("eq", wanted, main.constant(number))):
            for phase in step:
                name, inner = f"phase_{len(functions)}", Writer(arrays)
                if isinstance(phase, Once):
                    phase.write(inner)
                    main.statement(f"func.call @{name}({names}) : ({types}) -> ()")
                else:
                    phase.write(inner, "%part")
                    main.statement(f"scf.parallel (%{name}) = ({zero}) to ({parts}) step ({one}) {{")
                    main.statement(f"  func.call @{name}(%{name}, {names}) : (index, {types}) -> ()")
                    main.statement("}")
                part = "%part: index, " if isinstance(phase, InParts) else ""
                functions.append(f"func.func private @{name}({part}{arguments}) {{\n{inner.text()}\n  return\n}}")
    bound = ", ".join(["-1"] * len(arrays))
    functions.append(
        f"func.func @main({arguments}) attributes {{gossamer.results = [{bound}]}} {{\n{main.text()}\n  return\n}}"
    )
    return "\n".join(functions) + "\n"


def part_range(w: Writer, part: Value, total: Value, multiple: int = 1) -> tuple[Value, Value]:
    """Writes the range of 0, ..., total - 1 that a part has, in multiples of `multiple`, but for the end."""
    parts = w.load("numbers", w.constant(1))
    grain = w.constant(multiple)
    grains = w.value(f"arith.ceildivui {total}, {grain} : index")
    each = w.mul(w.value(f"arith.ceildivui {grains}, {parts} : index"), grain)
    lower = w.min(w.mul(part, each), total)
    return lower, w.min(w.add(lower, each), total)
