"""The formats of derived tensors: from formats and constants alone, so that code can be compiled for them."""

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache, reduce

from gossamer.errors import FormatError
from gossamer.formats import CSR, Expr, Format, Level, coo_format


@lru_cache(maxsize=1024)
def entrywise(format: Format) -> Format:
    """The format without blocks, and without bounds on how many entries are stored: BSR and n:m become CSR.

    Dimensions stay in the order of their outer levels; one of which any level is sparse is compressed.
    """
    levels: dict[int, Level] = {}
    for level in format.without_batch().levels:
        dim = level.expr.dim
        before = levels.get(dim)
        if before is None or (level.is_sparse and not before.is_sparse):
            kind = level.kind if level.kind in ("dense", "singleton") else "compressed"
            levels[dim] = replace(level, kind=kind, expr=Expr(dim), n=0, m=0)
    return _normal(format.dim_rank, list(levels.values()))


def _normal(rank: int, levels: list[Level]) -> Format:
    """Makes a format of levels of which some were taken away."""
    for l, level in enumerate(levels):
        chained = l + 1 < len(levels) and levels[l + 1].kind == "singleton"
        if level.kind == "singleton" and (l == 0 or not levels[l - 1].is_sparse):
            level = replace(level, kind="compressed", props=tuple(p for p in level.props if p != "soa"))
        if not chained:
            level = replace(level, props=tuple(p for p in level.props if p != "nonunique"))
        levels[l] = level
    if not any(level.is_sparse for level in levels):
        levels[-1] = replace(levels[-1], kind="compressed")
    return Format.from_levels(rank, levels)


@lru_cache(maxsize=1024)
def block_of(format: Format, dim: int) -> int:
    """The block size of a dimension, or the m of n:m; 1 without."""
    return max(level.expr.block for level in format.levels if level.expr.dim == dim)


def without_batch_but(format: Format, dim: int) -> Format:
    """Batches store equally many nodes, which only a change of whole batches keeps so."""
    return format if dim < format.batch_rank else format.without_batch()


def sliced(format: Format, dim: int, begin: int | None, end: int | None, step: int | None) -> Format:
    """Of `x[begin:end:step]` along `dim`; a bound is None where it is not known before the call.

    Blocks are kept if the bounds are known to lie between them.
    """
    block = block_of(format, dim)
    between = step == 1 and all(bound is not None and (bound % block == 0 or bound >= END) for bound in (begin, end))
    return without_batch_but(format, dim) if block == 1 or between else entrywise(format)


END = 2**62  # a bound at or beyond this is the end of the dimension, as torch writes it into graphs


def taken(format: Format, dim: int) -> Format:
    """Of any entries along `dim`, in any order."""
    return without_batch_but(format, dim) if block_of(format, dim) == 1 else entrywise(format)


@lru_cache(maxsize=1024)
def without_dim(format: Format, dim: int) -> Format:
    """Of one entry along `dim`, which is a dimension no more; the tensor has others."""
    if dim >= format.batch_rank:
        format = format.without_batch()
    if block_of(format, dim) > 1:
        format = entrywise(format)
    return _normal(format.dim_rank - 1, renumbered(format.levels, dim))


def renumbered(levels: Sequence[Level], dim: int) -> list[Level]:
    """The levels that there are without a dimension."""
    return [
        replace(level, expr=replace(level.expr, dim=level.expr.dim - (level.expr.dim > dim)))
        for level in levels
        if level.expr.dim != dim
    ]


def diagonal(format: Format) -> Format:
    """Of a diagonal through two dimensions: rank one less, compressed rows."""
    return reshaped(format, format.dim_rank - 1)


@lru_cache(maxsize=1024)
def with_dim(format: Format, dim: int) -> Format:
    """With one more dimension, stored as the outermost dense level."""
    rank = format.dim_rank + 1
    order = list(range(1, rank))
    order.insert(dim, 0)
    return format.without_batch().for_rank(rank).permuted(order)


def expanded(format: Format, rank: int) -> Format:
    """Of a tensor that is repeated along dimensions of size 1, and along new leading ones."""
    return format.without_batch().for_rank(rank)


@lru_cache(maxsize=1024)
def reshaped(format: Format, rank: int) -> Format:
    """Of any other shape of that rank: coordinates stay coordinates, all else becomes compressed rows."""
    first = format.levels[0]
    if first.kind == "compressed" and not first.is_unique:
        return coo_format(rank)
    return coo_format(1) if rank == 1 else CSR.for_rank(rank)


@lru_cache(maxsize=1024)
def common(*formats: Format) -> Format:
    """The format in which tensors of these formats are merged or joined.

    That of the first, without blocks if another one is stored without blocks, or holds n of every m entries.

    Raises:
        FormatError: They have blocks of different sizes; says what to convert to.
    """
    first = formats[0].without_batch()
    blocks = [blocks_of(format) for format in formats]
    sizes = {size for size in blocks if size}
    if len(sizes) > 1:
        other = next(format for format, size in zip(formats, blocks, strict=True) if size and size != blocks[0])
        raise FormatError(
            f"tensors stored as {first} and as {other} have blocks of different sizes, and are not merged: convert one "
            f"to the format of the other, or both to entries, .to({entrywise(first)!r}), first"
        )
    return first if all(blocks) or not (sizes or _bounded(first)) else entrywise(first)


def _bounded(format: Format) -> bool:
    return any(level.kind == "structured" for level in format.levels)


def blocks_of(format: Format) -> tuple[int, ...]:
    """The block size of every dimension; () where none is blocked, and for n:m, whose groups are no blocks."""
    sizes = tuple(block_of(format, dim) for dim in range(format.dim_rank))
    return sizes if max(sizes) > 1 and not _bounded(format) else ()


def joined(formats: Sequence[Format]) -> Format:
    """Of tensors one after the other: an n:m stays one, for nothing is added to its groups.

    Raises:
        FormatError: As in `common`.
    """
    if len({format.without_batch() for format in formats}) == 1:
        return formats[0].without_batch()
    return reduce(common, formats)
