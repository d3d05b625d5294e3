"""Parts, joins, unions and intersections of sparse tensors, outside of compiled code, against dense ones."""

import warnings

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import gossamer as gs
import strategies
from gossamer import ops
from gossamer.derive import formats as derive_formats
from gossamer.derive import merge
from gossamer.formats import coo_format

INF = float("inf")
PLAIN = {name: fmt for name, fmt in strategies.NAMED.items() if name not in ("CSR with duplicates", "nonunique rows")}
formats = st.sampled_from(list(PLAIN.values()))
CSF = gs.Format("(i, j, k) -> (i : compressed, j : compressed, k : compressed)")


@pytest.fixture(autouse=True)
def _no_fallback(monkeypatch):
    monkeypatch.setattr(ops, "_warned", set())
    with warnings.catch_warnings():
        warnings.simplefilter("error", gs.FallbackWarning)
        yield


def stored(shape: tuple[int, ...], format: gs.Format, density: float = 0.3, seed: int = 0, fill=0.0):
    dense = strategies.dense_tensor(shape, density, torch.float64, seed)
    dense = torch.where(dense == 0, fill, dense)
    return gs.sparsify(dense, format, fill=fill), dense


def check(result: object, expected: torch.Tensor) -> gs.SparseTensor:
    assert isinstance(result, gs.SparseTensor)
    result.validate()
    assert result.shape == expected.shape
    assert torch.equal(result.to_dense(), expected)
    return result


PARTS = [
    lambda x: x[2:5],
    lambda x: x[:, 1:],
    lambda x: x[:, :-2],
    lambda x: x[..., ::3],
    lambda x: x[-4:, 1:5],
    lambda x: x[4:2],
    lambda x: x[3],
    lambda x: x[:, 4],
    lambda x: x[..., -1],
    lambda x: x[None, 1:],
    lambda x: x.narrow(1, 1, 3),
    lambda x: x.select(1, 2),
    lambda x: x[[5, 0, 0, 3]],
    lambda x: x.index_select(1, torch.tensor([4, 4, 1])),
    lambda x: x.index_select(0, torch.tensor([], dtype=torch.int64)),
    lambda x: x[1:5].index_select(1, torch.tensor([-1, 2]) % 6),
    lambda x: x.unsqueeze(-1),
    lambda x: x.unsqueeze(1),
    lambda x: x[:, 2:3].squeeze(1),
    lambda x: x.flatten(),
    lambda x: x.reshape(4, -1),
    lambda x: x.reshape(3, 2, -1),
    lambda x: x.diagonal(),
    lambda x: x.diagonal(1),
    lambda x: x.diagonal(-2),
    lambda x: x[:1].expand(3, -1),
    lambda x: x.expand(2, 6, 12),
    lambda x: x.T,
    lambda x: x.T[1:4],
    lambda x: x.split(4, 1)[2],
    lambda x: x.split([1, 3, 2])[1],
    lambda x: x.chunk(4)[1],
    lambda x: x.unbind(1)[3],
    lambda x: torch.cat([x, x[1:3]]),
    lambda x: torch.cat([x, x[:, :6]], 1),
    lambda x: torch.stack([x, x * 2]),
    lambda x: torch.stack([x, x * 2], -1),
]


@pytest.mark.parametrize("name", PLAIN)
def test_parts(name: str) -> None:
    for density in (0.0, 0.3):
        sparse, dense = stored((6, 12), PLAIN[name], density)
        for part in PARTS:
            check(part(sparse), part(dense))


@pytest.mark.parametrize("name", ["CSR", "COO", "BSR", "CSC"])
def test_parts_of_batches(name: str) -> None:
    for format in (PLAIN[name], PLAIN[name].with_batch(1)):
        blocks = torch.rand(3, 4, 4, 1, 1) < 0.5
        blocks[...] = blocks[:1]
        dense = (torch.randn(3, 4, 4, 2, 3) * blocks).permute(0, 1, 3, 2, 4).reshape(3, 8, 12)
        sparse = gs.sparsify(dense, format)
        for part in (
            lambda x: x[1],
            lambda x: x[1:],
            lambda x: x[:, 2:4],
            lambda x: x[:, :, 5],
            lambda x: x[[2, 0]],
            lambda x: x.permute(1, 0, 2),
            lambda x: x.permute(0, 2, 1),
            lambda x: x.unbind()[2],
            lambda x: x.reshape(6, -1),
            lambda x: x.reshape(24, 12),
            lambda x: torch.cat([x, x], 0),
            lambda x: torch.cat([x, x], 1),
            lambda x: x.diagonal(0, 0, 2),
            lambda x: x + x.roll(1, 0) if not isinstance(x, gs.SparseTensor) else x + x[[2, 0, 1]],
        ):
            check(part(sparse), part(dense))


@given(
    sparse=strategies.tensors, format=formats, dim=st.integers(0, 1), bounds=st.tuples(*[st.integers(-20, 20)] * 2),
    step=st.integers(1, 3),
)  # fmt: skip
def test_any_slice(sparse, format, dim, bounds, step) -> None:
    index = (slice(None),) * dim + (slice(*bounds, step),)
    check(gs.sparsify(sparse, format)[index], sparse[index])


def test_three_dimensions() -> None:
    for format in (CSF, coo_format(3), gs.CSR.for_rank(3)):
        sparse, dense = stored((5, 6, 7), format)
        for part in (
            lambda x: x[1],
            lambda x: x[:, 2],
            lambda x: x[:, :, 3],
            lambda x: x[1:4, ::2, 3:],
            lambda x: x.diagonal(0, 0, 1),
            lambda x: x.reshape(30, 7),
            lambda x: x.permute(2, 0, 1),
            lambda x: x.permute(2, 0, 1)[1:3],
            lambda x: torch.cat([x, x], 2),
            lambda x: x + x[[1, 2, 3, 4, 0]],
        ):
            check(part(sparse), part(dense))


def test_blocks_stay_where_bounds_lie_between_them() -> None:
    sparse, _ = stored((6, 12), gs.BSR((2, 3)))
    assert sparse[2:4].format == gs.BSR((2, 3))
    assert sparse[:, 3:].format == gs.BSR((2, 3))
    assert sparse[-4:, :-6].format == gs.BSR((2, 3))
    assert sparse[1:].format == gs.CSR
    assert sparse[3].format == coo_format(1)
    assert gs.sparsify(torch.eye(8), gs.NM(2, 4))[2:, 4:].format == gs.NM(2, 4)


def test_rows_share_the_arrays() -> None:
    sparse, _ = stored((6, 12), gs.CSR)
    rows = sparse[2:5]
    assert rows.values.data_ptr() == sparse.values[int(sparse.positions(1)[2])].data_ptr()
    assert rows.pattern is sparse[2:5].pattern
    assert sparse[:, 1:].pattern is (sparse * 2)[:, 1:].pattern


def test_single_entries_are_dense() -> None:
    sparse, dense = stored((6, 12), gs.CSR)
    assert all(torch.equal(sparse[i, j], dense[i, j]) for i in range(6) for j in range(12))


def test_bad_parts() -> None:
    sparse, _ = stored((6, 12), gs.CSR)
    with pytest.raises(IndexError, match="out of range for dimension 1 of size 12"):
        sparse[:, 12]
    with pytest.raises(IndexError, match="out of range"):
        sparse[[6]]
    with pytest.raises(gs.TensorError, match="the shapes"):
        torch.cat([sparse, sparse[:, 1:]])
    with pytest.raises(gs.TensorError, match=r"fills 0\.0 and -inf"):
        torch.cat([sparse, stored((6, 12), gs.CSR, fill=-INF)[0]])
    with pytest.raises(gs.FormatError, match=r"convert one to the format of the other, or both to entries, \.to"):
        torch.cat([stored((6, 12), gs.BSR(3))[0], stored((6, 12), gs.BSR(2))[0]])


BINARY = {
    "add": torch.add,
    "sub": lambda a, b: a - b,
    "mul": torch.mul,
    "maximum": torch.maximum,
    "minimum": torch.minimum,
    "where": lambda a, b: torch.where(a > 50, a, b),
    "lerp": lambda a, b: torch.lerp(a, b, 0.25),
    "shifted": lambda a, b: a * (b + 1),
    "ne": torch.ne,
    "gt": lambda a, b: a > b,
}


@pytest.mark.parametrize("name", BINARY)
@given(first=formats, second=formats, density=strategies.densities, leading=st.booleans())
def test_two_patterns(name: str, first, second, density, leading) -> None:
    shape = (2, 6, 12) if leading else (6, 12)
    (a, dense_a), (b, dense_b) = stored(shape, first, density, 1), stored(shape, second, 0.4, 2)
    sizes = {derive_formats.blocks_of(fmt.format) for fmt in (a, b)} - {()}
    if len(sizes) > 1 and name != "shifted":  # which is stored as the first one is
        with pytest.raises(gs.FormatError, match="convert one to the format of the other"):
            BINARY[name](a, b)
        return
    check(BINARY[name](a, b), BINARY[name](dense_a, dense_b))


def test_what_two_patterns_store() -> None:
    (a, _), (b, _) = stored((6, 12), gs.CSR, 0.5, 1), stored((6, 12), gs.CSR, 0.5, 2)
    both = (a.to_dense() != 0) & (b.to_dense() != 0)
    either = (a.to_dense() != 0) | (b.to_dense() != 0)
    assert (a * b).nnz == both.sum()
    assert (a + b).nnz == either.sum()
    assert (a * (b + 1)).pattern is a.pattern
    assert (a + a * 2).pattern is a.pattern
    assert (a + b).pattern is (a * 3 - b).pattern
    assert (a + a * b).pattern is a.pattern
    assert (a * b + a).pattern is a.pattern


def test_fills() -> None:
    (a, dense_a), (b, dense_b) = stored((6, 12), gs.CSR, 0.5, 1, -INF), stored((6, 12), gs.COO, 0.5, 2, -INF)
    result = check(a + b, dense_a + dense_b)
    assert result.nnz == (torch.isfinite(dense_a) & torch.isfinite(dense_b)).sum()
    check(torch.maximum(a, b), torch.maximum(dense_a, dense_b))
    zero, dense_zero = stored((6, 12), gs.CSR, 0.5, 3)
    check(a + zero, dense_a + dense_zero)
    masks = [gs.sparsify(torch.rand(6, 12) < 0.5, gs.CSR) for _ in range(2)]
    assert check(masks[0] & masks[1], masks[0].to_dense() & masks[1].to_dense()).dtype == torch.bool
    check(masks[0] | masks[1], masks[0].to_dense() | masks[1].to_dense())


def test_broadcast() -> None:
    (a, dense_a), (b, dense_b) = stored((4, 6, 12), gs.CSR), stored((6, 12), gs.COO, 0.3, 5)
    check(a + b, dense_a + dense_b)
    check(b * a, dense_b * dense_a)
    row, dense_row = stored((1, 12), gs.CSR, 0.5, 6)
    check(a * row, dense_a * dense_row)


def test_dense_results_fall_back() -> None:
    (a, dense_a), (b, dense_b) = stored((6, 12), gs.CSR), stored((6, 12), gs.CSR, 0.3, 7)
    with pytest.warns(gs.FallbackWarning, match="truediv"):
        assert torch.equal((a / b).nan_to_num(), (dense_a / dense_b).nan_to_num())


def test_gradients() -> None:
    a, b = stored((6, 8), gs.CSR, 0.4, 1)[0], stored((6, 8), gs.CSC, 0.4, 2)[0]

    def function(x, y):
        left, right = gs.SparseTensor(a.pattern, x), gs.SparseTensor(b.pattern, y)
        merged = torch.cat([left * right + left, (right - left)[:, 1:4]], 1)[1:]
        return merged.index_select(0, torch.tensor([0, 3, 3])).to_dense()

    values = [t.values.clone().requires_grad_() for t in (a, b)]
    assert torch.autograd.gradcheck(function, values)
    assert torch.autograd.gradgradcheck(function, values)


def test_pairs_are_forgotten() -> None:
    a = stored((6, 12), gs.CSR)[0]
    for seed in range(40):
        a + stored((6, 12), gs.CSR, 0.3, seed)[0]
    assert len(a.pattern.derived("pairs", dict)) <= merge._PAIRS
    for end in range(100):
        a[:, : end % 12]
