"""How sparse operands of the cases are stored: every ready-made format, formats of the literature, random maps."""

import itertools
import random
from dataclasses import dataclass

import torch

import gossamer as gs
from gossamer.formats import PROPERTIES, Expr, Level

MATRICES = {
    "CSR": gs.CSR,
    "CSC": gs.CSC,
    "COO": gs.COO,
    "COO of structures": gs.Format("(i, j) -> (i : compressed(nonunique), j : singleton)"),
    "DCSR": gs.DCSR,
    "DCSC": gs.DCSC,
    "BSR 4": gs.BSR(4),
    "BSR 16": gs.BSR(16),
    "BSR 24": gs.BSR(24),
    "BSR 32": gs.BSR(32),
    "BSR 64": gs.BSR(64),
    "BSR 2 x 8": gs.BSR((2, 8)),
    "BSR 7 x 3": gs.BSR((7, 3)),
    "1 x 8": gs.BSR((1, 8)),
    "8 x 1": gs.BSR((8, 1)),
    "BSC 4": gs.BSC(4),
    "BSC 5 x 2": gs.BSC((5, 2)),
    "BSC 8 x 1": gs.BSC((8, 1)),
    "DBSR 4": gs.DBSR(4),
    "DBSR 3 x 5": gs.DBSR((3, 5)),
    "ELL": gs.BlockELL(1),
    "BlockELL 4": gs.BlockELL(4),
    "BlockELL 2 x 6": gs.BlockELL((2, 6)),
    "2:4": gs.NM(2, 4),
    "1:8": gs.NM(1, 8),
    "3:5": gs.NM(3, 5),
    "rows": gs.Format("(i, j) -> (i : compressed, j : dense)"),
    "dense": gs.Format("(i, j) -> (i : dense, j : dense)"),
    "dense by columns": gs.Format("(i, j) -> (j : dense, i : dense)"),
    "unordered CSR": gs.Format("(i, j) -> (i : dense, j : compressed(nonordered))"),
    "loose COO": gs.Format("(i, j) -> (i : loose_compressed(nonunique), j : singleton(soa))"),
    "sparse blocks": gs.Format(
        "(i, j) -> (i floordiv 2 : compressed, j floordiv 3 : compressed, i mod 2 : dense, j mod 3 : compressed)"
    ),
}
TENSORS = {
    "CSF": gs.Format("(i, j, k) -> (i : compressed, j : compressed, k : compressed)"),
    "COO": gs.Format("(i, j, k) -> (i : compressed(nonunique), j : singleton(nonunique, soa), k : singleton(soa))"),
    "CSF by k, i, j": gs.Format("(i, j, k) -> (k : compressed, i : compressed, j : compressed)"),
    "dense, CSR": gs.CSR.for_rank(3),
    "batch, CSR": gs.CSR.with_batch(),
    "dense, BSR 4": gs.BSR(4).for_rank(3),
    "batch, BSR 2 x 3": gs.BSR((2, 3)).with_batch(),
    "dense, COO": gs.COO.for_rank(3),
    "dense, 2:4": gs.NM(2, 4).for_rank(3),
    "dense, CSC": gs.CSC.for_rank(3),
    "compressed, dense, compressed": gs.Format("(i, j, k) -> (i : compressed, j : dense, k : compressed)"),
    "slices": gs.Format("(i, j, k) -> (j : compressed, i : compressed, k : dense)"),
}
NAMED = {2: MATRICES, 3: TENSORS}


@dataclass(frozen=True)
class Storage:
    """A format and the widths of its index arrays in bits."""

    format: gs.Format
    pos_width: int = 32
    crd_width: int = 32


def random_format(rng: random.Random, rank: int) -> gs.Format:
    """Returns a map with its dimensions in any order, in blocks or not, and levels of any kind."""
    while True:
        exprs = []
        for d in range(rank):
            block = rng.choice([1, 1, 2, 3, 4])
            exprs += [Expr(d)] if block == 1 else [Expr(d, "floordiv", block), Expr(d, "mod", block)]
        rng.shuffle(exprs)
        levels = [_random_level(rng, expr) for expr in exprs]
        try:
            format = gs.Format.from_levels(rank, levels)
        except gs.FormatError:
            continue
        # Entries stored more than once have no dense counterpart that all operations agree on.
        if format.outer and not format.allows_duplicates and _one_child_each(format):
            return format


def _random_level(rng: random.Random, expr: Expr) -> Level:
    kind = rng.choice(["dense", "dense", "compressed", "compressed", "compressed", "loose_compressed", "singleton"])
    props = [p for p in PROPERTIES if rng.random() < 0.25] if kind != "dense" else []
    return Level(kind, expr, tuple(props))


def _one_child_each(format: gs.Format) -> bool:
    """Whether every node above a singleton stands for one entry: a unique one cannot, in most patterns."""
    levels = format.levels
    return all(not a.is_unique for a, b in itertools.pairwise(levels) if b.kind == "singleton")


def unit(format: gs.Format, dim: int) -> int:
    """What the size of a dimension must be a multiple of."""
    return max(level.expr.block for level in format.levels if level.expr.dim == dim)


def with_widths(tensor: gs.SparseTensor, pos_width: int, crd_width: int) -> gs.SparseTensor:
    """The tensor with its index arrays in other widths."""
    pattern, count = tensor.pattern, tensor.format.lvl_rank
    wide = {32: torch.int32, 64: torch.int64}
    positions, coordinates = (
        [None if array is None else array.to(wide[width]) for array in map(get, range(count))]
        for get, width in ((pattern.positions, pos_width), (pattern.coordinates, crd_width))
    )
    pattern = gs.Pattern(pattern.format, pattern.shape, positions, coordinates, device=pattern.device)
    return gs.SparseTensor(pattern, tensor.values, tensor.fill)


def structured(format: gs.Format) -> tuple[int, int] | None:
    """n and m where n of every m entries of a row are stored."""
    last = format.levels[-1]
    return (last.n, last.m) if last.kind == "structured" else None
