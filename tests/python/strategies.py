"""Hypothesis strategies: formats, and dense tensors of few nonzeros."""

import math

import torch
from hypothesis import strategies as st

import gossamer as gs
from gossamer.formats import PROPERTIES, Expr, Format, Level

BLOCK = (2, 3)  # blocks of all formats below, so that shapes of their multiples fit any
NAMED = {
    "CSR": gs.CSR,
    "CSC": gs.CSC,
    "COO": gs.COO,
    "DCSR": gs.DCSR,
    "DCSC": gs.DCSC,
    "BSR": gs.BSR(BLOCK),
    "BSC": gs.BSC(BLOCK),
    "DBSR": gs.DBSR(BLOCK),
    "BlockELL": gs.BlockELL(BLOCK),
    "BSR of rows": gs.BSR((1, 3)),
    "BSC of columns": gs.BSC((2, 1)),
    "COO of structures": Format("(i, j) -> (i : compressed(nonunique), j : singleton)"),
    "COO of blocks": Format(
        "(i, j) -> (i floordiv 2 : compressed(nonunique), j floordiv 3 : singleton(soa), "
        "i mod 2 : dense, j mod 3 : dense)"
    ),
    "dense": Format("(i, j) -> (i : dense, j : dense)"),
    "dense, by columns": Format("(i, j) -> (j : dense, i : dense)"),
    "dense blocks": Format("(i, j) -> (i floordiv 2 : dense, j : dense, i mod 2 : dense)"),
    "rows": Format("(i, j) -> (i : compressed, j : dense)"),
    "nonunique rows": Format("(i, j) -> (i : compressed(nonunique), j : compressed)"),
    "unordered CSR": Format("(i, j) -> (i : dense, j : compressed(nonordered))"),
    "CSR with duplicates": Format("(i, j) -> (i : dense, j : compressed(nonunique))"),
    "ELL": Format("(i, j) -> (i : dense, j : loose_compressed)"),
    "loose rows": Format("(i, j) -> (i : loose_compressed, j : compressed)"),
    "loose COO": Format("(i, j) -> (i : loose_compressed(nonunique), j : singleton(soa))"),
    "sparse blocks": Format(
        "(i, j) -> (i floordiv 2 : compressed, j floordiv 3 : compressed, i mod 2 : dense, j mod 3 : compressed)"
    ),
    "dense between": Format("(i, j) -> (i floordiv 2 : compressed, j : dense, i mod 2 : compressed)"),
}

formats = st.sampled_from(list(NAMED.values()))
sizes = st.sampled_from([0, 6, 12, 18])
shapes = st.one_of(
    st.tuples(sizes, sizes), st.tuples(st.integers(0, 3), sizes, sizes), st.tuples(st.just(2), st.just(3), sizes, sizes)
)
densities = st.sampled_from([0.0, 0.05, 0.3, 1.0])
dtypes = st.sampled_from([torch.float32, torch.float64, torch.bfloat16, torch.int64, torch.bool])


def dense_tensor(shape: tuple[int, ...], density: float, dtype: torch.dtype, seed: int) -> torch.Tensor:
    """Returns a tensor of which about `density` is not zero."""
    generator = torch.Generator().manual_seed(seed)
    values = torch.randint(1, 100, shape, generator=generator).to(dtype)
    return torch.where(torch.rand(shape, generator=generator) < density, values, torch.zeros((), dtype=dtype))


tensors = st.builds(dense_tensor, shapes, densities, dtypes, st.integers(0, 1000))


@st.composite
def levels(draw: st.DrawFn) -> tuple[int, list[Level]]:
    """Levels of one to three dimensions in any order and of any kinds: most are no format."""
    rank = draw(st.integers(1, 3))
    exprs = []
    for d in range(rank):
        block = draw(st.sampled_from([1, 1, 2, 64]))
        exprs += [Expr(d)] if block == 1 else [Expr(d, "floordiv", block), Expr(d, "mod", block)]
    exprs = draw(st.permutations(exprs)) if draw(st.booleans()) else exprs
    kinds = st.sampled_from(
        ["dense", "dense", "batch", "compressed", "compressed", "loose_compressed", "singleton", "structured"]
    )
    result = []
    for expr in exprs:
        kind = draw(kinds)
        props = draw(st.sets(st.sampled_from(PROPERTIES))) if kind not in ("dense", "batch", "structured") else ()
        m = math.lcm(expr.block, 2) if kind == "structured" else 0
        result.append(Level(kind, expr, tuple(p for p in PROPERTIES if p in props), n=min(1, m), m=m))
    return rank, result
