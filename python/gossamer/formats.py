"""Storage formats: MLIR's map from the dimensions of a tensor to the levels of its storage.

A format says how a tensor is stored, not how large it is or which integers index it: torch's int64 CSR and an int32
one are both `gs.CSR`. The text of a format is the map of MLIR's `#sparse_tensor.encoding`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Any

from gossamer.errors import FormatError

KINDS = ("dense", "batch", "compressed", "loose_compressed", "singleton", "structured")
PROPERTIES = ("nonunique", "nonordered", "soa")  # in the order in which MLIR prints them
_WIDTHS = (0, 8, 16, 32, 64)
_DIM_NAMES = "ijkl"


@dataclass(frozen=True)
class Expr:
    """A level expression: `d`, `d floordiv block` or `d mod block`.

    Attributes:
        dim: The dimension.
        op: "" (the dimension itself), "floordiv" or "mod".
        block: The block size; 1 where `op` is "".
    """

    dim: int
    op: str = ""
    block: int = 1

    def text(self, names: Sequence[str]) -> str:
        """Returns the expression with the dimensions called `names`."""
        return f"{names[self.dim]} {self.op} {self.block}" if self.op else names[self.dim]


@dataclass(frozen=True)
class Level:
    """One level of storage.

    Attributes:
        kind: One of "dense", "batch", "compressed", "loose_compressed", "singleton", "structured".
        expr: What of a dimension the level stores.
        props: Those of "nonunique", "nonordered", "soa" that apply, in this order.
        n, m: For "structured": n of every m entries are stored; otherwise 0.
    """

    kind: str
    expr: Expr
    props: tuple[str, ...] = ()
    n: int = 0
    m: int = 0

    @property
    def is_sparse(self) -> bool:
        """Whether the level stores coordinates (is not dense or batch)."""
        return self.kind not in ("dense", "batch")

    @property
    def has_positions(self) -> bool:
        """Whether the level stores positions."""
        return self.kind in ("compressed", "loose_compressed")

    @property
    def is_unique(self) -> bool:
        """Whether the level forbids that one parent stores a coordinate twice."""
        return "nonunique" not in self.props

    @property
    def is_ordered(self) -> bool:
        """Whether the level keeps the coordinates of one parent sorted."""
        return "nonordered" not in self.props

    def text(self, names: Sequence[str]) -> str:
        """Returns the level as the map shows it, with the dimensions called `names`."""
        size = f"[{self.n}, {self.m}]" if self.kind == "structured" else ""
        props = f"({', '.join(self.props)})" if self.props else ""
        return f"{self.expr.text(names)} : {self.kind}{size}{props}"


class Format:
    """How a tensor is stored: an immutable, hashable map from dimensions to levels.

    Formats are equal when they store alike, whatever their text calls the dimensions.

    Args:
        text: The map in MLIR's syntax, such as "(i, j) -> (i : dense, j : compressed)". Level variables
            ("{r, c} (i = r, j = c) -> (r = i : dense, ...)") are allowed and have no effect.

    Attributes:
        dim_rank: Number of dimensions of the tensor.
        levels: The levels of storage, outermost first.

    Raises:
        FormatError: The text is malformed (`column` says where), or MLIR does not allow such a format.
    """

    dim_rank: int
    levels: tuple[Level, ...]

    def __init__(self, text: str):
        from gossamer.syntax import parse_map

        self._set(*parse_map(text))

    @classmethod
    def from_levels(cls, dim_rank: int, levels: Sequence[Level]) -> "Format":
        """Returns the format with these levels.

        Raises:
            FormatError: MLIR does not allow such a format.
        """
        return cls.__new__(cls)._set(dim_rank, tuple(levels))

    @classmethod
    def from_encoding(cls, text: str) -> "Format":
        """Parses `#sparse_tensor.encoding<{ map = ... }>`. Index widths belong to tensors, and are dropped.

        Raises:
            FormatError: The text is malformed, or has a field other than the map and the widths.
        """
        from gossamer.syntax import parse_encoding

        return cls.from_levels(*parse_encoding(text))

    @classmethod
    def of(cls, tensor: Any) -> "Format":
        """Returns the format in which a `SparseTensor`, or a torch tensor of any layout, is stored.

        Raises:
            FormatError: The layout is none that a format describes.
        """
        if isinstance(own := getattr(tensor, "format", None), Format):
            return own
        from gossamer.interop import torch_format

        return torch_format(tensor)

    def _set(self, dim_rank: int, levels: tuple[Level, ...]) -> "Format":
        _check(dim_rank, levels)
        object.__setattr__(self, "dim_rank", dim_rank)
        object.__setattr__(self, "levels", levels)
        return self

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"a Format is immutable: cannot set {name!r}")

    def __reduce__(self) -> tuple:
        return Format.from_levels, (self.dim_rank, self.levels)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Format) and self.dim_rank == other.dim_rank and self.levels == other.levels

    def __hash__(self) -> int:
        return self._hash

    @cached_property
    def _hash(self) -> int:
        return hash((self.dim_rank, self.levels))

    def __str__(self) -> str:
        return self._map(_DIM_NAMES if self.dim_rank <= len(_DIM_NAMES) else [f"d{d}" for d in range(self.dim_rank)])

    def __repr__(self) -> str:
        return f'Format("{self}")'

    def _map(self, names: Sequence[str]) -> str:
        return f"({', '.join(names[: self.dim_rank])}) -> ({', '.join(level.text(names) for level in self.levels)})"

    def encoding(self, pos_width: int = 0, crd_width: int = 0) -> str:
        """Returns the format as MLIR's attribute.

        Args:
            pos_width: Bits of a position: 8, 16, 32 or 64; 0 is MLIR's native width.
            crd_width: Bits of a coordinate, likewise.
        """
        fields = [f"map = {self._map([f'd{d}' for d in range(self.dim_rank)])}"]
        for key, width in (("posWidth", pos_width), ("crdWidth", crd_width)):
            if width not in _WIDTHS:
                raise FormatError(f"{key} = {width}: an index is 8, 16, 32 or 64 bits wide (0: the native width)")
            if width:
                fields.append(f"{key} = {width}")
        return f"#sparse_tensor.encoding<{{ {', '.join(fields)} }}>"

    @property
    def lvl_rank(self) -> int:
        """Number of levels."""
        return len(self.levels)

    @cached_property
    def batch_rank(self) -> int:
        """Number of leading `batch` levels."""
        return sum(level.kind == "batch" for level in self.levels)

    @cached_property
    def outer(self) -> int:
        """Number of levels up to and with the last sparse one; the levels after it are dense, and hold whole blocks."""
        return max((l + 1 for l, level in enumerate(self.levels) if level.is_sparse), default=0)

    @cached_property
    def leading(self) -> int:
        """Number of leading dimensions that are dense or batch levels of their own, in order and before all others."""
        plain = (level.expr == Expr(l) and not level.is_sparse for l, level in enumerate(self.levels))
        return next((l for l, is_plain in enumerate(plain) if not is_plain), self.lvl_rank)

    @cached_property
    def block(self) -> tuple[int, ...] | None:
        """Block size of the last two dimensions (of all, if one before them is blocked too); None without blocks."""
        sizes = [1] * self.dim_rank
        for level in self.levels:
            if level.expr.op == "mod" and level.kind == "dense":
                sizes[level.expr.dim] = level.expr.block
        if max(sizes) == 1:
            return None
        return tuple(sizes if max(sizes[:-2], default=1) > 1 else sizes[-2:])

    @cached_property
    def allows_duplicates(self) -> bool:
        """Whether one coordinate of the tensor may be stored more than once."""
        return any(
            not level.is_unique and (l + 1 == self.lvl_rank or self.levels[l + 1].kind != "singleton")
            for l, level in enumerate(self.levels)
        )

    def for_rank(self, rank: int) -> "Format":
        """Returns the format for a tensor of `rank` dimensions: leading ones become dense levels (batch, after batch).

        `gs.CSR.for_rank(4)` is `(i, j, k, l) -> (i : dense, j : dense, k : dense, l : compressed)`.

        Raises:
            FormatError: The format has more dimensions than that.
        """
        extra = rank - self.dim_rank
        if extra < 0:
            raise FormatError(
                f"the format {self} has {self.dim_rank} dimensions and does not fit a tensor of rank {rank}; "
                f"it fits rank {self.dim_rank} and, with leading dimensions, more"
            )
        return self._prepended(extra, "batch" if self.batch_rank else "dense")

    def with_batch(self, count: int = 1) -> "Format":
        """Returns the format with `count` more leading dimensions as `batch` levels: torch's batched CSR."""
        return self._prepended(count, "batch")

    def without_batch(self) -> "Format":
        """Returns the format with `dense` levels for its `batch` levels."""
        return self._unbatched

    @cached_property
    def _unbatched(self) -> "Format":
        if not self.batch_rank:
            return self
        levels = [replace(level, kind="dense") if level.kind == "batch" else level for level in self.levels]
        return Format.from_levels(self.dim_rank, levels)

    def permuted(self, dims: Sequence[int]) -> "Format":
        """Returns the format of the tensor whose dimension d is this one's `dims[d]`; the storage is the same."""
        new = {old: d for d, old in enumerate(dims)}
        levels = [replace(level, expr=replace(level.expr, dim=new[level.expr.dim])) for level in self.levels]
        return Format.from_levels(self.dim_rank, levels)

    @cached_property
    def kernel_format(self) -> "Format":
        """The format that kernels see: `batch` levels as `dense` ones, singletons as separate arrays (soa)."""
        levels = [
            replace(level, props=tuple(p for p in PROPERTIES if p in level.props or p == "soa"))
            if level.kind == "singleton"
            else level
            for level in self.without_batch().levels
        ]
        return Format.from_levels(self.dim_rank, levels)

    def _prepended(self, count: int, kind: str) -> "Format":
        if count == 0:
            return self
        old = [replace(level, expr=replace(level.expr, dim=level.expr.dim + count)) for level in self.levels]
        return Format.from_levels(self.dim_rank + count, [Level(kind, Expr(d)) for d in range(count)] + old)

    def level_sizes(self, shape: Sequence[int]) -> tuple[int, ...]:
        """Returns the size of every level for a tensor of this shape.

        Raises:
            FormatError: The shape has another rank, or a block does not divide it (says what to pad to).
        """
        return _level_sizes(self, tuple(shape))


@lru_cache(maxsize=4096)
def _level_sizes(fmt: Format, shape: tuple[int, ...]) -> tuple[int, ...]:
    if len(shape) != fmt.dim_rank:
        raise FormatError(
            f"the format {fmt} has {fmt.dim_rank} dimensions and the shape {shape} has {len(shape)}; "
            f"fmt.for_rank({len(shape)}) adds leading dimensions"
        )
    for level in fmt.levels:
        dim, block = level.expr.dim, level.expr.block
        if shape[dim] % block:
            padded = -shape[dim] // block * -block
            divisor = math.gcd(shape[dim], block)
            other = f", or choose a block that divides {shape[dim]}, such as {divisor}" if divisor > 1 else ""
            raise FormatError(
                f"a block of {block} does not divide dimension {dim} of the shape {shape}; "
                f"pad the dimension from {shape[dim]} to {padded}{other}"
            )
    sizes = {
        "": lambda size, block: size,
        "floordiv": lambda size, block: size // block,
        "mod": lambda size, block: block,
    }
    return tuple(sizes[e.op](shape[e.dim], e.block) for e in (level.expr for level in fmt.levels))


def _check(dim_rank: int, levels: tuple[Level, ...]) -> None:
    """Checks what MLIR's verifier checks, and that the levels hold every dimension exactly once."""
    if dim_rank == 0 or not levels:
        raise FormatError("a format has at least one dimension and one level")
    names = _DIM_NAMES if dim_rank <= len(_DIM_NAMES) else [f"d{d}" for d in range(dim_rank)]
    for l, level in enumerate(levels):
        where = f"level {l} ({level.text(names)})"
        before = levels[l - 1].kind if l else ""
        if level.kind not in KINDS:
            raise FormatError(f"{where}: {level.kind!r} is no level kind; the kinds are {', '.join(KINDS)}")
        if level.props and level.kind not in ("compressed", "loose_compressed", "singleton"):
            raise FormatError(f"{where}: a {level.kind} level has no properties")
        if "soa" in level.props and level.kind != "singleton":
            raise FormatError(f"{where}: soa is a property of singleton levels only")
        if level.kind == "batch" and ((l and before != "batch") or level.expr != Expr(l)):
            raise FormatError(f"{where}: batch levels are the leading ones, and each is a whole dimension, in order")
        if level.kind == "singleton" and before not in ("compressed", "loose_compressed", "singleton"):
            raise FormatError(
                f"{where}: a singleton level follows a compressed(nonunique), loose_compressed or singleton level, "
                f"not {before or 'nothing'}"
            )
        if level.kind == "dense" and l and not levels[l - 1].is_unique:
            raise FormatError(f"{where}: a dense level cannot follow a nonunique one")
        if level.kind == "structured":
            _check_structured(where, l, level, levels)
    if len({"soa" in level.props for level in levels if level.kind == "singleton"}) > 1:
        raise FormatError("singleton levels are all soa (an array each) or none is (one array of structures)")
    for d in range(dim_rank):
        _check_dimension(names[d], [level.expr for level in levels if level.expr.dim == d])


def _check_structured(where: str, l: int, level: Level, levels: tuple[Level, ...]) -> None:
    if not 1 <= level.n <= level.m <= 255:
        raise FormatError(f"{where}: structured[n, m] needs 1 <= n <= m <= 255")
    if l + 1 != len(levels) or any(other.kind != "dense" for other in levels[:l]):
        raise FormatError(f"{where}: a structured level is the last one, after dense levels only")
    blocks = [other.expr for other in levels if other.expr.op]
    if len(blocks) != 2 or level.expr != Expr(level.expr.dim, "mod", level.m):
        raise FormatError(
            f"{where}: structured[{level.n}, {level.m}] splits one dimension d into "
            f"'d floordiv {level.m} : dense' and 'd mod {level.m} : structured[{level.n}, {level.m}]', and no other"
        )


def _check_dimension(name: str, exprs: list[Expr]) -> None:
    ops = [expr.op for expr in exprs]
    if ops == [""]:
        return
    if ops == ["floordiv", "mod"] and exprs[0].block == exprs[1].block and exprs[0].block > 1:
        return
    raise FormatError(
        f"dimension {name} is stored as [{', '.join(expr.text([name] * (expr.dim + 1)) for expr in exprs)}]; "
        f"it must be stored once, as '{name}', or as '{name} floordiv c' and later '{name} mod c' with one c > 1"
    )


def block_size(block: int | Sequence[int], who: str) -> tuple[int, int]:
    """Returns the (rows, columns) of a block given as one number or two.

    Raises:
        FormatError: It is neither, or not positive.
    """
    pair = (block, block) if isinstance(block, int) else tuple(block) if isinstance(block, Sequence) else ()
    if len(pair) != 2 or not all(isinstance(b, int) and not isinstance(b, bool) and b > 0 for b in pair):
        raise FormatError(f"{who}({block!r}): a block is a positive integer, or two: (rows, columns)")
    return pair[0], pair[1]


def _blocked(who: str, block: int | Sequence[int], order: tuple[int, int], kinds: tuple[str, str]) -> Format:
    """Two outer levels over blocks, in the order given, then the rows and the columns of the block."""
    return _of_blocks(block_size(block, who), order, kinds)


@lru_cache(maxsize=4096)
def _of_blocks(size: tuple[int, int], order: tuple[int, int], kinds: tuple[str, str]) -> Format:
    # MLIR simplifies `d floordiv 1` to `d` and then finds no `mod`: a dimension in blocks of one is not split.
    outer = [
        Level(kind, Expr(d, "floordiv", size[d]) if size[d] > 1 else Expr(d))
        for d, kind in zip(order, kinds, strict=True)
    ]
    inner = [Level("dense", Expr(d, "mod", size[d])) for d in (0, 1) if size[d] > 1]
    return Format.from_levels(2, outer + inner)


def BSR(block: int | Sequence[int]) -> Format:
    """Compressed rows of dense blocks, as torch's BSR; a block of one row or column is not a level of its own."""
    return _blocked("BSR", block, (0, 1), ("dense", "compressed"))


def BSC(block: int | Sequence[int]) -> Format:
    """Compressed columns of dense blocks; inside a block rows come first, as in torch's BSC."""
    return _blocked("BSC", block, (1, 0), ("dense", "compressed"))


def DBSR(block: int | Sequence[int]) -> Format:
    """As BSR, but only block rows with something in them are stored."""
    return _blocked("DBSR", block, (0, 1), ("compressed", "compressed"))


def BlockELL(block: int | Sequence[int]) -> Format:
    """Block rows of equal capacity: `loose_compressed`, whose positions are (begin, end) pairs.

    Block row r has the slots [r * width, (r + 1) * width), where width is the largest number of blocks in a row, and
    uses the first of them; the coordinates of the slots are the `index[rows, width]` of a count/index block list and
    `count[r] = end - begin`. Slots that are not used hold the fill.
    """
    return _blocked("BlockELL", block, (0, 1), ("dense", "loose_compressed"))


def NM(n: int, m: int) -> Format:
    """n of every m consecutive entries of a row are stored (2:4 is `NM(2, 4)`), n <= m <= 255."""
    if not all(isinstance(k, int) and not isinstance(k, bool) for k in (n, m)) or not (1 <= n <= m <= 255 and m > 1):
        raise FormatError(f"NM({n!r}, {m!r}): n of every m entries, with 1 <= n <= m and 2 <= m <= 255")
    return _of_groups(n, m)


@lru_cache(maxsize=4096)
def _of_groups(n: int, m: int) -> Format:
    levels = [
        Level("dense", Expr(0)),
        Level("dense", Expr(1, "floordiv", m)),
        Level("structured", Expr(1, "mod", m), n=n, m=m),
    ]
    return Format.from_levels(2, levels)


def coo_format(rank: int, dense: int = 0) -> Format:
    """Sorted coordinates of `rank` dimensions, an array each, then `dense` dense dimensions: torch's COO layout."""
    middle = [Level("singleton", Expr(d), ("nonunique", "soa")) for d in range(1, rank - 1)]
    last = [Level("singleton", Expr(rank - 1), ("soa",))] if rank > 1 else []
    first = Level("compressed", Expr(0), ("nonunique",) if rank > 1 else ())
    return Format.from_levels(rank + dense, [first, *middle, *last, *dense_levels(rank, dense)])


def dense_levels(first: int, count: int) -> list[Level]:
    """Returns dense levels for the dimensions first, ..., first + count - 1."""
    return [Level("dense", Expr(d)) for d in range(first, first + count)]


CSR = Format("(i, j) -> (i : dense, j : compressed)")
CSC = Format("(i, j) -> (j : dense, i : compressed)")
COO = coo_format(2)
DCSR = Format("(i, j) -> (i : compressed, j : compressed)")
DCSC = Format("(i, j) -> (j : compressed, i : compressed)")
