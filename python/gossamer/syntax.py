"""Parser of the text of a format: MLIR's dim-to-level map, and the encoding attribute around it."""

import re
from typing import NoReturn

from gossamer.errors import FormatError, suggest
from gossamer.formats import KINDS, PROPERTIES, Expr, Level

_SPACE = re.compile(r"(?:\s|//[^\n]*)*")
_TOKEN = re.compile(r"->|0[xX][0-9a-fA-F]+|\d+|[A-Za-z_][\w$.]*|#[\w.]+|.", re.DOTALL)
_NAME = re.compile(r"[A-Za-z_][\w$.]*")
_OPERATORS = ("floordiv", "mod")


def parse_map(text: str) -> tuple[int, tuple[Level, ...]]:
    """Parses a map such as "(i, j) -> (i : dense, j : compressed)".

    Returns:
        The number of dimensions, and the levels.

    Raises:
        FormatError: The text is malformed; the message shows where.
    """
    if not isinstance(text, str):
        raise FormatError(f"a format is given as text, not as {type(text).__name__}")
    parser = _Parser(text)
    result = parser.map()
    parser.end()
    return result


def parse_encoding(text: str) -> tuple[int, tuple[Level, ...]]:
    """Parses `#sparse_tensor.encoding<{ map = ..., posWidth = 32, crdWidth = 32 }>`; the widths are dropped.

    Returns and raises as `parse_map`.
    """
    parser = _Parser(text)
    for token in ("#sparse_tensor.encoding", "<", "{"):
        parser.expect(token)
    result = None
    while True:
        column, key = parser.at, parser.name("a field (map, posWidth or crdWidth)")
        parser.expect("=")
        if key == "map":
            result = parser.map()
        elif key in ("posWidth", "crdWidth"):
            parser.integer("a width")
        else:
            parser.fail(f"a format has the fields map, posWidth and crdWidth, not {key!r}", column)
        if not parser.accept(","):
            break
    parser.expect("}")
    parser.expect(">")
    parser.end()
    return result or parser.fail("the encoding has no map", 0)


class _Parser:
    """Recursive descent over the tokens; `at` is where the next token starts."""

    def __init__(self, text: str):
        self.text = text
        self.at = 0
        self._skip(0)

    def _skip(self, at: int) -> None:
        space = _SPACE.match(self.text, at)
        assert space is not None
        self.at = space.end()

    @property
    def token(self) -> str:
        found = _TOKEN.match(self.text, self.at)
        return found[0] if found else ""

    def fail(self, message: str, at: int | None = None) -> NoReturn:
        """Raises the FormatError that shows the line and, below, the column."""
        at = self.at if at is None else at
        start = self.text.rfind("\n", 0, at) + 1
        line = self.text[start:].split("\n", 1)[0]
        column = at - start + 1
        where = (
            f"column {column}"
            if "\n" not in self.text
            else f"line {self.text.count(chr(10), 0, at) + 1}, column {column}"
        )
        raise FormatError(f"malformed format, {where}: {message}\n  {line}\n  {' ' * (column - 1)}^", column)

    def expected(self, what: str) -> NoReturn:
        self.fail(f"expected {what}, found {repr(self.token) if self.token else 'the end'}")

    def accept(self, token: str) -> bool:
        if self.token != token:
            return False
        self._skip(self.at + len(token))
        return True

    def expect(self, token: str, why: str = "") -> None:
        if not self.accept(token):
            self.expected(repr(token) + why)

    def end(self) -> None:
        if self.token:
            self.expected("the end")

    def name(self, what: str) -> str:
        token = self.token
        if not _NAME.fullmatch(token):
            self.expected(what)
        self._skip(self.at + len(token))
        return token

    def integer(self, what: str) -> int:
        token = self.token
        if not token[:1].isdigit():
            self.expected(what)
        self._skip(self.at + len(token))
        return int(token, 0) if token[:2] in ("0x", "0X") else int(token)

    def map(self) -> tuple[int, tuple[Level, ...]]:
        variables = self._level_variables()
        if self.token == "[":
            self.fail("symbols (a counted dimension, as in ELL) are not supported; use loose_compressed")
        dims, inverses = self._dimensions(variables)
        self.expect("->")
        levels = self._levels(dims, variables)
        for dim, (at, inverse) in inverses.items():
            actual = [(variables[l], level.expr) for l, level in enumerate(levels) if level.expr.dim == dim]
            if sorted(inverse) != sorted((name, e.block if e.op == "floordiv" else 1) for name, e in actual):
                self.fail(f"{list(dims)[dim]} is not what its levels add up to", at)
        return len(dims), tuple(levels)

    def _level_variables(self) -> list[str]:
        """Parses "{l0, l1}", which may be left out."""
        names: list[str] = []
        while self.accept("," if names else "{"):
            self._declare(names, "a level variable")
        if names:
            self.expect("}")
        return names

    def _declare(self, names: list[str] | dict[str, int], what: str) -> str:
        at = self.at
        name = self.name(what)
        if name in names:
            self.fail(f"{name!r} is declared twice", at)
        if isinstance(names, dict):
            names[name] = len(names)
        else:
            names.append(name)
        return name

    def _dimensions(self, variables: list[str]) -> tuple[dict[str, int], dict[int, tuple[int, list[tuple[str, int]]]]]:
        """Parses "(i, j = l1 * 4 + l2)"; returns the dimensions, and the inverse expressions with where they stand."""
        dims: dict[str, int] = {}
        inverses = {}
        self.expect("(", " before the dimensions")
        while not dims or self.accept(","):
            self._declare(dims, "a dimension")
            if self.accept("="):
                inverses[len(dims) - 1] = (self.at, self._inverse(variables))
            if self.token == ":":
                self.fail("slices of a dimension are not supported")
        self.expect(")", " after the dimensions")
        return dims, inverses

    def _inverse(self, variables: list[str]) -> list[tuple[str, int]]:
        """Parses a sum such as "l1 * 4 + l2" into [(l1, 4), (l2, 1)]."""
        terms = []
        while not terms or self.accept("+"):
            factor = self.integer("a factor") if self.token[:1].isdigit() else 1
            if factor > 1:
                self.expect("*")
            at = self.at
            name = self.name("a level variable")
            if name not in variables:
                self.fail(f"{name!r} is no level variable{suggest(name, variables)}", at)
            terms.append((name, self.integer("a factor") if self.accept("*") else factor))
        return terms

    def _levels(self, dims: dict[str, int], variables: list[str]) -> list[Level]:
        levels: list[Level] = []
        self.expect("(", " before the levels")
        while not levels or self.accept(","):
            if variables:
                self._binding(variables, len(levels))
            expr = self._expression(dims)
            self.expect(":", " and the level kind")
            levels.append(self._kind(expr))
        if variables and len(levels) < len(variables):
            self.fail(f"the level variable {variables[len(levels)]!r} has no level")
        self.expect(")", " after the levels")
        return levels

    def _binding(self, variables: list[str], l: int) -> None:
        """Parses the "l0 =" before a level."""
        wanted = variables[l] if l < len(variables) else None
        if wanted is None:
            self.fail(f"there are {len(variables)} level variables and more levels")
        if not self.accept(wanted):
            self.expected(f"the level variable {wanted!r}")
        self.expect("=")

    def _expression(self, dims: dict[str, int]) -> Expr:
        if self.accept("("):
            expr = self._expression(dims)
            self.expect(")")
            if expr.op:
                return expr
        else:
            at = self.at
            name = self.name("a dimension")
            if name not in dims:
                self.fail(f"{name!r} is no dimension; the dimensions are {', '.join(dims)}{suggest(name, dims)}", at)
            expr = Expr(dims[name])
        for op in _OPERATORS:
            if self.accept(op):
                at = self.at
                block = self.integer(f"the size of the block after {op!r}")
                if block < 2:
                    self.fail(f"{op} {block}: a block has a size of at least 2", at)
                return Expr(expr.dim, op, block)
        if self.token not in (":", ")"):
            self.expected("':', 'floordiv' or 'mod' (a level stores d, d floordiv c or d mod c)")
        return expr

    def _kind(self, expr: Expr) -> Level:
        at = self.at
        kind = self.name("a level kind")
        if kind not in KINDS:
            self.fail(f"{kind!r} is no level kind; the kinds are {', '.join(KINDS)}{suggest(kind, KINDS)}", at)
        n = m = 0
        if kind == "structured":
            self.expect("[")
            n = self.integer("n, of structured[n, m]")
            self.expect(",")
            m = self.integer("m, of structured[n, m]")
            self.expect("]")
        return Level(kind, expr, self._properties(), n, m)

    def _properties(self) -> tuple[str, ...]:
        found: set[str] = set()
        if self.accept("(") and not self.accept(")"):
            while not found or self.accept(","):
                at = self.at
                name = self.name("a property")
                if name not in PROPERTIES:
                    self.fail(
                        f"{name!r} is no property; they are {', '.join(PROPERTIES)}{suggest(name, PROPERTIES)}", at
                    )
                found.add(name)
            self.expect(")")
        return tuple(name for name in PROPERTIES if name in found)
