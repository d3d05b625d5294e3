"""In what order a format stores entries, and what that says about storing them in another one."""

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache

from gossamer.formats import Expr, Format, Level


def shared_suffix(a: Format, b: Format) -> int:
    """Returns the number of equal dense levels that both formats have after their last sparse level."""
    most = min(a.lvl_rank - a.outer, b.lvl_rank - b.outer)
    pairs = zip(reversed(a.levels), reversed(b.levels), strict=False)
    return next((n for n, (x, y) in enumerate(pairs) if n == most or x != y), most)


def without_suffix(format: Format, count: int) -> Format | None:
    """Returns a format without its last levels: that of whole blocks, as entries of a smaller tensor.

    None if nothing is left, or what is left is no format.
    """
    kept, dropped = format.levels[: format.lvl_rank - count], format.levels[format.lvl_rank - count :]
    gone = {level.expr for level in dropped}
    left = sorted({level.expr.dim for level in kept})
    if not kept or any(level.expr.op == "floordiv" for level in dropped):
        return None
    levels = []
    for level in kept:
        expr = replace(level.expr, dim=left.index(level.expr.dim))
        inner = Expr(level.expr.dim, "mod", level.expr.block)
        levels.append(replace(level, expr=Expr(expr.dim) if expr.op == "floordiv" and inner in gone else expr))
    return Format.from_levels(len(left), levels)


@lru_cache(maxsize=4096)
def is_plain(format: Format) -> bool:
    """Whether every entry is stored once, and in the order of its levels."""
    return not format.allows_duplicates and all(level.is_ordered for level in format.levels)


def order_of(levels: Sequence[Level]) -> list[Expr]:
    """Returns the order of entries: by the first expression, then by the second, and so on."""
    return _joined([level.expr for level in levels])


def _joined(exprs: Sequence[Expr]) -> list[Expr]:
    """The same order with `d floordiv b, d mod b` as `d`."""
    result: list[Expr] = []
    for expr in exprs:
        if expr.op == "mod" and result and result[-1] == Expr(expr.dim, "floordiv", expr.block):
            result[-1] = Expr(expr.dim)
        else:
            result.append(expr)
    return result


def order_within(levels: Sequence[Level], fixed: Sequence[Expr]) -> list[Expr]:
    """Returns the order of those entries for which the expressions in `fixed` have one value."""
    left = []
    known = _joined(fixed)
    for expr in _joined([level.expr for level in levels]):
        if expr in known or Expr(expr.dim) in known:
            continue
        if expr.op == "":
            part = next((e for e in known if e.dim == expr.dim), None)
            if part is not None:
                expr = Expr(expr.dim, "mod" if part.op == "floordiv" else "floordiv", part.block)
        left.append(expr)
    return _joined(left)


@lru_cache(maxsize=4096)
def is_row_major(format: Format) -> bool:
    """Whether the places of the outer levels are the entries of the tensor, row by row."""
    return format.outer == format.lvl_rank and order_of(format.levels) == [Expr(d) for d in range(format.dim_rank)]


@lru_cache(maxsize=4096)
def is_entrywise(format: Format) -> bool:
    """Whether the levels are the dimensions, in any order, to the last a sparse one."""
    return format.outer == format.lvl_rank and not any(level.expr.op for level in format.levels)
