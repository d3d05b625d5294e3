"""Generated conversions give what the same work by operations of torch gives, array by array."""

import threading

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import gossamer as gs
from gossamer.conversion import flat, kernel
from gossamer.conversion.patterns import converted, has_kernels
from gossamer.convert import convert, convert_by_sorting
from gossamer.sparsify import sparsify_by_index
from gossamer.tensor import to_dense_by_index
from strategies import NAMED, dense_tensor, formats, tensors

# Formats that only operations of torch make: something else than singletons is below a loose level.
WITHOUT = {"dense", "dense, by columns", "dense blocks", "loose rows"}
COMMON = {name: NAMED[name] for name in ("CSR", "CSC", "COO", "DCSR", "DCSC", "BSR", "BSC", "DBSR", "BlockELL", "ELL")}


@pytest.fixture(autouse=True)
def _threads(monkeypatch):
    """In two parts that have little to do; other tests run in one."""
    monkeypatch.setattr(kernel, "_GRAIN", 16)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def assert_same(mine: gs.Pattern, oracle: gs.Pattern) -> None:
    mine.validate()
    assert mine == oracle
    for a, b in zip(mine._arrays, oracle._arrays, strict=True):
        assert (a is None) == (b is None)
        assert a is None or (torch.equal(a, b) and a.dtype == b.dtype)


def test_which_formats_have_kernels():
    assert {name for name, fmt in NAMED.items() if not has_kernels(fmt)} == WITHOUT
    assert has_kernels(gs.NM(2, 4))
    assert has_kernels(gs.CSR.with_batch(2))


@settings(max_examples=40)
@given(tensors, formats, st.sampled_from([None, torch.int32, torch.int64]))
def test_sparsify(dense, fmt, index_dtype):
    fmt = fmt.for_rank(dense.dim())
    mine = gs.sparsify(dense, fmt, index_dtype=index_dtype)
    oracle = sparsify_by_index(dense, fmt, None, mine.fill, index_dtype)
    assert_same(mine.pattern, oracle.pattern)
    assert torch.equal(mine.values, oracle.values)


@settings(max_examples=20)
@given(tensors, formats, st.integers(0, 100))
def test_sparsify_by_a_mask(dense, fmt, seed):
    fmt = fmt.for_rank(dense.dim())
    mask = dense_tensor(tuple(dense.shape), 0.3, torch.bool, seed)
    mine = gs.sparsify(dense, fmt, by=lambda _: mask)
    oracle = sparsify_by_index(dense, fmt, lambda _: mask, mine.fill)
    assert_same(mine.pattern, oracle.pattern)
    assert torch.equal(mine.values, oracle.values)


@settings(max_examples=40)
@given(tensors, formats, formats, st.sampled_from([torch.int32, torch.int64]))
def test_convert(dense, first, second, index_dtype):
    second = second.for_rank(dense.dim())
    start = gs.sparsify(dense, first, index_dtype=index_dtype)
    mine, oracle = start.to(second), convert_by_sorting(start.pattern, second)
    assert_same(mine.pattern, oracle[0])
    assert torch.equal(mine.to_dense(), dense)


@pytest.mark.parametrize("second", list(COMMON))
@pytest.mark.parametrize("first", list(COMMON))
def test_common_pairs_have_kernels(first, second):
    dense = dense_tensor((24, 36), 0.2, torch.float32, seed=1)
    start = gs.sparsify(dense, COMMON[first])
    if first != second:
        assert converted(start.pattern, COMMON[second]) is not None
    assert torch.equal(start.to(COMMON[second]).to_dense(), dense)


@settings(max_examples=40)
@given(tensors, formats, st.sampled_from([0, 1]))
def test_to_dense(dense, fmt, fill):
    start = gs.sparsify(dense, fmt)
    mine = start.with_values(start.values, fill).to_dense()
    assert torch.equal(mine, to_dense_by_index(start.pattern, start.values, start.with_values(start.values, fill).fill))


def test_zeros_and_nans():
    """A zero is dropped whatever its sign; a NaN is never equal to the fill."""
    for dtype in (torch.float64, torch.float32, torch.bfloat16, torch.float16, torch.complex64):
        dense = torch.tensor([[0.0, -0.0, torch.nan, 1.0], [-0.0, 2.0, 0.0, 0.0]], dtype=dtype)
        assert gs.sparsify(dense, gs.CSR).coordinates(1).tolist() == [2, 3, 1]
    complex_ = torch.tensor([[-0.0 + 0.0j, 1e-30j]])
    assert gs.sparsify(complex_, gs.CSR).coordinates(1).tolist() == [1]
    assert gs.sparsify(torch.tensor([[torch.nan, 1.0]]), gs.CSR, fill=torch.nan).nnz == 2


@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8, torch.int16, torch.float16, torch.complex128])
def test_every_size_of_element(dtype):
    dense = dense_tensor((12, 18), 0.3, torch.float32, 2).to(dtype)
    for fmt in (gs.CSR, gs.CSC, gs.BSR((2, 3)), gs.BlockELL(6)):
        assert torch.equal(gs.sparsify(dense, fmt).to_dense(), dense)


@pytest.mark.parametrize("size", [0, 1, 7, 63, 64, 65, 127, 131])
@pytest.mark.parametrize("density", [0.0, 0.1, 1.0])
def test_ragged_sizes(size, density):
    for shape in ((size, 67), (67, size), (1, size)):
        dense = dense_tensor(shape, density, torch.float32, size)
        for fmt in (gs.CSR, gs.CSC, gs.COO, gs.DCSR):
            start = gs.sparsify(dense, fmt)
            assert_same(start.pattern, sparsify_by_index(dense, fmt, None, 0.0).pattern)
            assert torch.equal(start.to_dense(), dense)
            assert_same(start.pattern.converted(gs.CSC)[0], convert_by_sorting(start.pattern, gs.CSC)[0])


def test_tensors_of_any_strides():
    base = dense_tensor((3, 36, 24), 0.2, torch.float64, 4)
    for dense in (base.transpose(1, 2), base[:, ::2, ::2], base[:1].expand(4, 36, 24), base.permute(2, 0, 1)):
        for fmt in (gs.CSR, gs.CSC, gs.BSR((2, 3)), gs.BSC((6, 2))):
            if dense.shape[-2] % 6 or dense.shape[-1] % 6:
                continue
            start = gs.sparsify(dense, fmt)
            assert torch.equal(start.to_dense(), dense)
            assert_same(start.pattern, sparsify_by_index(dense, fmt.for_rank(3), None, 0.0).pattern)


def test_blocks_of_every_width():
    dense = dense_tensor((2 * 3 * 64, 2 * 3 * 256), 0.001, torch.float32, 5)
    for block in (1, 2, 3, 4, 6, 8, 16, 24, 32, 48, 64, 96, (1, 16), (16, 1), (128, 4), (3, 192), (2, 256)):
        start = gs.sparsify(dense, gs.BSR(block))
        assert_same(start.pattern, sparsify_by_index(dense, gs.BSR(block), None, 0.0).pattern)
        assert torch.equal(start.to_dense(), dense)


def test_blocks_move_as_a_whole():
    start = gs.sparsify(dense_tensor((24, 24), 0.1, torch.float32, 6), gs.BSR(4))
    pattern, gather, size = start.pattern.converted_runs(gs.BSC(4))
    assert size == 16
    assert gather is not None
    assert gather.numel() == start.values.shape[0]
    one_by_one = start.pattern.converted(gs.BSC(4))
    assert one_by_one[0] is pattern
    assert torch.equal(one_by_one[1].view(-1, 16)[:, 0], gather * 16)
    assert convert(start.pattern, gs.BSR(2))[2] == 1


def test_groups_that_are_not_full_have_no_gradient_elsewhere():
    dense = torch.arange(1.0, 17.0).reshape(2, 8).requires_grad_()
    sparse = gs.sparsify(dense, gs.NM(2, 4), by=lambda x: x % 4 == 0)
    assert sparse.values.tolist()[1::2] == [4, 8, 12, 16]
    (grad,) = torch.autograd.grad(sparse.values.sum(), dense)
    assert torch.equal(grad, (dense.detach() % 4 == 0).float())


def test_gradients_to_the_second_order():
    dense = dense_tensor((6, 6), 0.5, torch.float64, 7)
    mask = dense != 0
    for fmt in (gs.CSR, gs.CSC, gs.BSR(2), gs.BlockELL(3), gs.COO):

        def square(x, fmt=fmt):
            return gs.sparsify(x, fmt, by=lambda _: mask).to_dense() ** 2

        assert torch.autograd.gradcheck(square, dense.requires_grad_())
        assert torch.autograd.gradgradcheck(square, dense)


def test_hypersparse_tensors_are_sorted():
    """Where marking or counting places would take far more memory than there are entries."""
    size = 1 << 28
    entries = torch.tensor([[5, 5, size - 1], [7, size - 2, 0]])
    start = gs.from_torch(torch.sparse_coo_tensor(entries, torch.arange(1.0, 4), (size, size)).coalesce())
    assert converted(start.pattern, gs.DCSC) is None
    assert start.to(gs.DCSC).coordinates(0).tolist() == [0, 7, size - 2]
    assert start.to(gs.DCSR).coordinates(0).tolist() == [5, size - 1]
    assert converted(start.pattern, gs.DCSR) is not None


@pytest.mark.parametrize("fmt", [gs.CSR, gs.DCSR, gs.CSC, gs.BSR((2, 1)), gs.BlockELL((1, 2)), gs.NM(2, 4)], ids=str)
def test_indices_are_widened_where_32_bits_are_too_few(fmt, monkeypatch):
    dense = torch.ones(8, 12).masked_fill(torch.arange(12) % 4 > 1, 0)
    monkeypatch.setattr(flat, "_INT32_MAX", 20)  # sizes fit, numbers of nodes do not
    for start in (gs.sparsify(dense, fmt), gs.sparsify(dense, gs.COO).to(fmt)):
        start.validate()
        assert all(array is None or array.dtype == torch.int64 for array in start.pattern._arrays)
        assert torch.equal(start.to_dense(), dense)


def test_more_places_than_numbers_are_refused():
    size = 1 << 32
    ends, columns = torch.tensor([0, 1]), torch.tensor([5])
    pattern = gs.Pattern(gs.DCSR, (size, size), [ends, ends], [columns, columns])
    with pytest.raises(gs.TensorError, match="more places than a 64-bit index"):
        pattern.converted(gs.COO)


def test_many_threads_may_convert_at_once():
    dense = dense_tensor((96, 96), 0.2, torch.float32, 8)
    wanted = sparsify_by_index(dense, gs.CSC, None, 0.0)
    failures = []

    torch.set_num_threads(1)  # each of its own: with more, they would spin for each other

    def run() -> None:
        for _ in range(20):
            made = gs.sparsify(dense, gs.CSR).to(gs.CSC)
            if made.pattern != wanted.pattern or not torch.equal(made.values, wanted.values):
                failures.append(made)

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
