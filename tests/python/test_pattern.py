"""Patterns: what is checked, and the views that share storage."""

import copy
import pickle

import pytest
import torch
from hypothesis import given

import gossamer as gs
from gossamer.pattern import Pattern
from strategies import NAMED, formats, tensors


def t(*values: int, dtype: torch.dtype = torch.int64) -> torch.Tensor:
    return torch.tensor(values, dtype=dtype)


def csr(positions, coordinates, shape=(2, 4), fmt=gs.CSR) -> Pattern:
    return Pattern(fmt, shape, [None, positions], [None, coordinates])


def coo(rows, columns, shape=(3, 4), ends=None) -> Pattern:
    return Pattern(gs.COO, shape, [t(0, len(rows)) if ends is None else ends, None], [rows, columns])


LOOSE = NAMED["ELL"]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: csr(t(0, 1, 2), t(1, 4)), r"coordinate 4 at \[1\] is out of range, the level has size 4"),
        (lambda: csr(t(0, 1, 2), t(-1, 0)), r"coordinate -1 at \[0\] is out of range"),
        (lambda: csr(t(0, 2, 1), t(0)), r"level 1 .*positions decrease, from 2 to 1 at \[2\]"),
        (lambda: csr(t(0, 1, 3), t(1, 2)), "positions end at 3 and overrun the 2 coordinates"),
        (lambda: csr(t(0, 1, 1), t(1, 2)), "positions end at 1 and leave 1 of the 2 coordinates unused"),
        (lambda: csr(t(1, 1, 2), t(1, 2)), "positions start at 1, not 0"),
        (lambda: csr(t(0, 2, 2), t(2, 1)), r"unsorted, 2 is before 1 at \[1\]; sort them, or use a nonordered level"),
        (lambda: csr(t(0, 2, 2), t(1, 1)), r"duplicate coordinate 1 at \[1\]; sum the duplicates"),
        (lambda: csr(t(0, 1), t(1)), r"positions have shape \(2,\); a tensor of shape \(2, 4\) needs \(3,\)"),
        (lambda: csr(t(0, 1, 1).float(), t(1)), "have dtype torch.float32; indices are torch.int32 or torch.int64"),
        (lambda: csr(t(0, 1, 1), t(1, dtype=torch.int16)), "coordinates: have dtype torch.int16"),
        (lambda: csr(t(0, 1, 1), torch.empty(1, dtype=torch.int64, device="meta")), "are on meta, others on cpu"),
        (lambda: csr(t(0, 1, 1), None), "coordinates: must be a tensor of int32 or int64, not NoneType"),
        (lambda: csr([0, 1, 1], t(1)), "positions: must be a tensor of int32 or int64, not list"),
        (lambda: csr(t(0, 1, 1), torch.tensor(1)), "must be one-dimensional, not a scalar"),
        (lambda: csr(t(0, 1, 1), t(1)[None]), r"coordinates have shape \(1, 1\)"),
        (lambda: Pattern(gs.CSR, (2, 4), [t(0), t(0, 0, 0)], [None, t()]), "level 0 .*the level has none, give None"),
        (lambda: Pattern(gs.CSR, (2, 4), [t(0, 0, 0)], [t()]), "1 positions for .*: give one entry a level, 2"),
        (lambda: coo(t(0, 1, 1), t(0, 2, 1)), r"level 1 .*unsorted, 2 is before 1 at \[2\]"),
        (lambda: coo(t(0, 1, 0), t(0, 2, 1)), r"level 0 .*unsorted, 1 is before 0 at \[2\]"),
        (lambda: coo(t(0, 1, 1), t(0, 2, 2)), r"level 1 .*duplicate coordinate 2 at \[2\]"),
        (lambda: coo(t(0, 1, 1), t(0, 2)), r"level 1 .*coordinates have shape \(2,\); .* needs \(3,\)"),
        (lambda: coo(t(0, 1, 3), t(0, 2, 2)), r"level 0 .*coordinate 3 at \[2\] is out of range, the level has size 3"),
        (lambda: coo(t(0, 1), t(0, 2), ends=t(0, 1, 2)), r"level 0 .*positions have shape \(3,\); .* needs \(2,\)"),
        (
            lambda: Pattern(
                gs.DCSR,
                (3, 4),
                [t(0, 1), t(0, 1, dtype=torch.int32)],
                [t(1, dtype=torch.int64), t(1, dtype=torch.int64)],
            ),
            "the positions .* are of different dtypes",
        ),
        (
            lambda: csr(t(0, 3, 3), t(2, 1, 2), fmt=NAMED["unordered CSR"]),
            r"the level coordinates \[0, 2\] are stored twice",
        ),
        (lambda: csr(t(0, 1, 2, 1), t(1, 2), fmt=LOOSE), r"positions decrease, the pair \[1\] is \(2, 1\)"),
        (lambda: csr(t(0, 1, 1, 3), t(1, 2), fmt=LOOSE), r"the pair \[1\], \(1, 3\), overruns the 2 coordinates"),
        (lambda: csr(t(0, 2, 1, 3), t(1, 2, 3), fmt=LOOSE), "pairs of the positions overlap"),
        (lambda: csr(t(0, 2, 2, 2), t(2, 2), fmt=LOOSE), "duplicate coordinate 2"),
        (
            lambda: Pattern(gs.NM(2, 4), (1, 8), [None] * 3, [None, None, t(0, 1, 2)]),
            r"coordinates have shape \(3,\); .* needs \(4,\)",
        ),
        (lambda: Pattern(gs.NM(2, 4), (1, 8), [None] * 3, [None, None, t(0, 1, 3, 2)]), "unsorted, 3 is before 2"),
        (lambda: Pattern(gs.NM(2, 4), (1, 8), [None] * 3, [None, None, t(0, 1, 3, 3)]), "duplicate coordinate 3"),
        (lambda: Pattern(gs.NM(2, 4), (1, 8), [None] * 3, [None, None, t(0, 1, 3, 4)]), "4 .*is out of range"),
        (
            lambda: Pattern(
                gs.CSR.with_batch(),
                (2, 2, 4),
                [None, None, torch.stack([t(0, 1, 2), t(0, 1, 1)])],
                [None, None, t(1, 2).expand(2, 2)],
            ),
            "positions end at 1 and leave 1 of the 2 coordinates unused",
        ),
        (
            lambda: Pattern(
                gs.CSR.with_batch(), (2, 2, 4), [None, None, t(0, 1, 2)], [None, None, t(1, 2).expand(2, 2)]
            ),
            r"positions have shape \(3,\); a tensor of shape \(2, 2, 4\) needs \(2, 3\)",
        ),
    ],
)
def test_bad_arrays(make, message):
    with pytest.raises(gs.TensorError, match=message):
        make()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Pattern(gs.CSR, (4,), [None], [None]), "does not fit a tensor of rank 1"),
        (lambda: Pattern(gs.BSR(4), (6, 8), [None] * 4, [None] * 4), "pad the dimension from 6 to 8"),
    ],
)
def test_a_format_that_does_not_fit(make, message):
    with pytest.raises(gs.FormatError, match=message):
        make()


def test_sizes_beyond_32_bits():
    """Coordinates are as wide as the sizes ask, and what has no 64-bit index is refused, not wrapped."""
    rows = t(5, 2**32 + 7, 2**33 - 1)
    coo = Pattern(gs.COO, (2**33, 4), [t(0, 3), None], [rows, t(2, 0, 3)])
    assert coo.converted(gs.DCSR)[0].coordinates(0).tolist() == rows.tolist()
    assert coo.converted(gs.DCSC)[0].coordinates(1).tolist() == [2**32 + 7, 5, 2**33 - 1]
    assert coo.converted(gs.DBSR(2))[0].coordinates(0).tolist() == [2, 2**31 + 3, 2**32 - 1]
    narrow = [t(0, 2, dtype=torch.int32), None], [t(5, 7, dtype=torch.int32), t(0, 1, dtype=torch.int32)]
    with pytest.raises(gs.TensorError, match=r"coordinates are torch\.int32, and the level has size 8589934592"):
        Pattern(gs.COO, (2**33, 4), *narrow)
    assert Pattern(gs.COO, (2**31, 4), *narrow).nnz == 2
    huge = Pattern(gs.COO, (2**33, 2**33), [t(0, 3), None], [rows, rows])
    with pytest.raises(gs.TensorError, match="more places than a 64-bit index can tell apart"):
        huge.converted(gs.DCSR)


def test_unused_slots_may_hold_anything():
    pattern = csr(t(2, 3, 0, 1), t(3, 99, 0, -5), fmt=LOOSE)
    assert pattern.nnz == 2


def test_checks_can_be_skipped():
    Pattern(gs.CSR, (2, 4), [None, t(0, 1, 2)], [None, t(7, 9)], check=False)


@given(tensors, formats)
def test_what_sparsify_makes_is_valid(dense, fmt):
    gs.sparsify(dense, fmt).pattern.validate()


def test_what_a_pattern_says_of_itself():
    pattern = gs.sparsify(torch.eye(8), gs.BSR((2, 4))).pattern
    assert repr(pattern) == f'Pattern("{gs.BSR((2, 4))}", shape=(8, 8), nnz=32)'
    assert (pattern.nnz, pattern.density, pattern.values_shape) == (32, 0.5, (4, 2, 4))
    assert (pattern.pos_width, pattern.crd_width) == (32, 32)
    assert pattern.encoding == gs.BSR((2, 4)).encoding(32, 32)
    assert pattern.coo().shape == (2, 32)
    assert pattern.coo()[:, :5].tolist() == [[0, 0, 0, 0, 1], [0, 1, 2, 3, 0]]


def test_empty_patterns():
    for shape in [(0, 0), (0, 3), (3, 0), (2, 0, 3)]:
        pattern = gs.sparsify(torch.zeros(shape), gs.CSR).pattern
        assert (pattern.nnz, pattern.density) == (0, 0.0)
        assert pattern.coo().shape == (len(shape), 0)


def test_patterns_are_immutable_values():
    pattern, same = (csr(t(0, 1, 2), t(1, 2)) for _ in range(2))
    assert pattern == same
    assert hash(pattern) == hash(same)
    assert pattern != csr(t(0, 1, 2), t(1, 3))
    assert pattern != csr(t(0, 1, 2, dtype=torch.int32), t(1, 2, dtype=torch.int32))
    assert pattern != csr(t(0, 1, 2), t(1, 2), shape=(2, 5))
    with pytest.raises(AttributeError, match="immutable"):
        pattern.shape = (3, 3)


def test_copies_have_the_content_and_not_what_was_derived():
    pattern = csr(t(0, 1, 2), t(1, 2))
    pattern.converted(gs.CSC)
    for other in (copy.deepcopy(pattern), pickle.loads(pickle.dumps(pattern))):
        assert other == pattern
        assert other.coordinates(1).data_ptr() != pattern.coordinates(1).data_ptr()
        assert not other._derived
    assert copy.copy(pattern).coordinates(1) is pattern.coordinates(1)


def test_storage_is_flat_and_zero_copy_where_it_can_be():
    pattern = csr(t(0, 1, 2), t(1, 2))
    assert pattern.storage()[0] == (None, None)
    assert pattern.storage()[1][0].data_ptr() == pattern.positions(1).data_ptr()
    assert pattern.storage() is pattern.storage()
    strided = coo(*torch.tensor([[0, 1], [2, 0], [2, 3]]).T)
    assert all(array.is_contiguous() for arrays in strided.storage() for array in arrays if array is not None)
    assert strided.coo().tolist() == [[0, 2, 2], [1, 0, 3]]


def test_storage_of_batches_is_that_of_dense_levels():
    dense = torch.eye(3, 4).expand(2, 3, 4).contiguous()
    pattern = gs.from_torch(dense.to_sparse_csr()).pattern
    assert pattern.kernel_format == gs.CSR.for_rank(3)
    positions, coordinates = pattern.storage()[2]
    assert positions.tolist() == [0, 1, 2, 3, 4, 5, 6]
    assert coordinates.data_ptr() == pattern.coordinates(2).data_ptr()


@pytest.mark.parametrize("fmt", [gs.CSR, gs.COO, gs.BSR(2), gs.CSR.with_batch(2), gs.BSR(2).with_batch(2)], ids=str)
@pytest.mark.parametrize("leading", [(6,), (3, 2), (1, 2, 3), (2, 3, 1)])
def test_leading_dimensions_are_relabelled(fmt, leading):
    dense = torch.eye(4).expand(2, 3, 4, 4)
    sparse = gs.sparsify(dense, fmt)
    seen = sparse.pattern.view_leading(leading)
    seen.validate()
    last = seen.format.outer - 1
    assert seen.coordinates(last).data_ptr() == sparse.coordinates(sparse.format.outer - 1).data_ptr()
    values = sparse.values.reshape(seen.values_shape)
    assert torch.equal(gs.SparseTensor(seen, values).to_dense(), dense.reshape(*leading, 4, 4))


def test_dimensions_of_one_come_and_go():
    pattern = gs.sparsify(torch.eye(4), gs.CSR).pattern
    up = pattern.unsqueeze().unsqueeze(0)
    assert up.shape == (1, 1, 4, 4)
    assert up.format == gs.CSR.for_rank(4)
    assert up.view((4, 4)) == pattern
    batched = gs.sparsify(torch.eye(4)[None], gs.CSR.with_batch()).pattern
    assert batched.view((4, 4)).format == gs.CSR
    assert batched.view((-1, 1, 4, 4)).format == gs.CSR.with_batch(2)


@pytest.mark.parametrize("shape", [(4, 1, 4), (16,), (2, 2, 4), (3, 4, 4), (-1, -1, 4)])
def test_views_of_what_is_stored_sparsely(shape):
    pattern = gs.sparsify(torch.eye(4), gs.DCSR).pattern
    with pytest.raises(gs.TensorError, match=r"cannot be viewed as .*: only its first 0 dimensions"):
        pattern.view(shape)


@given(tensors, formats)
def test_permuted_dimensions_share_the_storage(dense, fmt):
    sparse = gs.sparsify(dense, fmt)
    order = list(range(dense.dim()))[::-1]
    pattern = sparse.pattern.permute(order)
    pattern.validate()
    assert torch.equal(gs.SparseTensor(pattern, sparse.values).to_dense(), dense.permute(order))


def test_orders_that_are_none():
    pattern = gs.sparsify(torch.eye(4), gs.CSR).pattern
    assert pattern.permute((0, 1)) is pattern
    with pytest.raises(gs.TensorError, match="not an order of the 2 dimensions"):
        pattern.permute((0, 0))
    with pytest.raises(gs.TensorError, match=r"the 1 batch dimensions of .* stay where they are"):
        gs.sparsify(torch.eye(4)[None], gs.CSR.with_batch()).pattern.permute((2, 1, 0))


def test_devices():
    pattern = gs.sparsify(torch.eye(4), gs.CSR).pattern
    assert pattern.to("cpu") is pattern
    meta = pattern.to("meta")
    assert meta.device.type == "meta"
    assert meta is pattern.to(torch.device("meta"))
    assert (meta.nnz, meta.values_shape, meta.encoding) == (pattern.nnz, pattern.values_shape, pattern.encoding)
    meta.validate()  # what can be checked without the indices: the shapes
