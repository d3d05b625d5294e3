"""Conversions between all formats, against dense tensors."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import gossamer as gs
from strategies import NAMED, dense_tensor, formats, tensors

RAGGED = [0, 1, 7, 13, 63, 64, 65]
ENTRYWISE = [fmt for fmt in NAMED.values() if not any(level.expr.op for level in fmt.levels)]


def assert_is(tensor: gs.SparseTensor, dense: torch.Tensor) -> None:
    tensor.validate()
    assert tensor.shape == dense.shape
    assert torch.equal(tensor.to_dense(), dense)


@settings(max_examples=50)
@given(tensors, formats, formats)
def test_every_format_to_every_other(dense, first, second):
    start = gs.sparsify(dense, first)
    assert_is(start, dense)
    there = start.to(second)
    assert there.format == second.for_rank(dense.dim())
    assert_is(there, dense)
    assert_is(there.to(first), dense)
    assert there.nnz >= start.nnz or first.block  # nothing that is stored is dropped


@pytest.mark.parametrize("first", list(NAMED))
@pytest.mark.parametrize("second", list(NAMED))
def test_every_pair(first, second):
    dense = dense_tensor((2, 12, 6), 0.2, torch.float32, seed=3)
    assert_is(gs.sparsify(dense, NAMED[first]).to(NAMED[second]), dense)


@settings(max_examples=50)
@given(
    st.sampled_from(RAGGED),
    st.sampled_from(RAGGED),
    st.sampled_from([(), (1,), (3,), (2, 3), (0, 2)]),
    st.sampled_from(ENTRYWISE),
    st.sampled_from(ENTRYWISE),
)
def test_ragged_sizes(rows, columns, leading, first, second):
    dense = dense_tensor((*leading, rows, columns), 0.1, torch.float32, seed=rows * columns)
    start = gs.sparsify(dense, first)
    assert_is(start, dense)
    assert_is(start.to(second), dense)


def test_ragged_batches_have_one_positions_array():
    mask = torch.zeros(2, 3, 4, 5, dtype=torch.bool)
    mask[0, 1, 2, 3] = mask[1, 2, 0] = True
    sparse = gs.sparsify(mask, gs.CSR)
    assert sparse.positions(3).shape == (2 * 3 * 4 + 1,)
    assert sparse.nnz == 6
    assert_is(sparse.to(gs.COO), mask)


@settings(max_examples=60)
@given(tensors, formats, formats)
def test_gather_says_where_every_value_comes_from(dense, first, second):
    pattern = gs.sparsify(dense, first).pattern
    other, gather = pattern.converted(second)
    if gather is None:
        assert pattern.storage_size == other.storage_size
        return
    assert gather.dtype == torch.int64
    assert gather.shape == (other.storage_size,)
    old, new = pattern.coo(), other.coo()
    taken = gather >= 0
    assert torch.equal(new[:, taken], old[:, gather[taken]])
    assert taken.sum() == pattern.nnz
    assert gather[taken].unique().numel() == pattern.nnz


def test_a_conversion_is_kept():
    pattern = gs.sparsify(torch.eye(6), gs.CSR).pattern
    assert pattern.converted(gs.CSC)[0] is pattern.converted(gs.CSC)[0]
    assert pattern.converted(gs.CSR) == (pattern, None)


@pytest.mark.parametrize(("first", "second"), [("COO", "CSR"), ("CSR", "DCSR"), ("CSR", "COO of structures")])
def test_values_in_the_same_order_are_not_copied(first, second):
    start = gs.sparsify(torch.eye(6), NAMED[first])
    assert start.pattern.converted(NAMED[second])[1] is None
    assert start.to(NAMED[second]).values.data_ptr() == start.values.data_ptr()


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
def test_conversions_keep_the_width_of_the_indices(dtype):
    start = gs.sparsify(torch.eye(6), gs.CSR, index_dtype=dtype)
    for name, fmt in NAMED.items():
        arrays = [a for a in start.to(fmt).pattern._arrays if a is not None]
        assert all(a.dtype == dtype for a in arrays), name


def test_blocks_store_the_fill_around_what_was_stored():
    dense = torch.full((4, 6), float("-inf"))
    dense[1, 2] = 3.0
    start = gs.sparsify(dense, gs.CSR, fill=float("-inf"))
    blocks = start.to(gs.BSR((2, 3)))
    assert blocks.nnz == 6
    assert blocks.values.isneginf().sum() == 5
    assert_is(blocks, dense)
    assert blocks.to(gs.CSR).nnz == 6  # a conversion drops nothing


def test_conversions_are_differentiable():
    start = gs.sparsify(dense_tensor((6, 6), 0.4, torch.float64, 1), gs.CSR)
    values = start.values.clone().requires_grad_()
    weights = torch.randn(6, 6, dtype=torch.float64)
    for fmt in (gs.CSC, gs.BSR(3), gs.BlockELL(2)):
        (grad,) = torch.autograd.grad((start.with_values(values).to(fmt).to_dense() * weights).sum(), values)
        rows, columns = start.pattern.coo()
        assert torch.equal(grad, weights[rows, columns])


def test_structured():
    dense = torch.tensor([[1.0, 0, 0, 2, 0, 0, 3, 0], [0, 0, 0, 0, 4, 5, 0, 0]])
    start = gs.sparsify(dense, gs.NM(2, 4))
    assert start.coordinates(2).tolist() == [0, 3, 0, 2, 0, 1, 0, 1]
    assert start.nnz == 8
    assert_is(start, dense)
    for fmt in (gs.CSR, gs.CSC, gs.COO, gs.BSR(2), gs.DCSC):
        assert_is(start.to(fmt), dense)
        assert_is(gs.sparsify(dense, gs.CSR).to(fmt).to(gs.CSR), dense)
    assert_is(gs.sparsify(dense, gs.CSR).to(gs.NM(2, 4)), dense)
    assert_is(gs.sparsify(dense.expand(3, 2, 8), gs.NM(2, 4)).to(gs.COO), dense.expand(3, 2, 8))


def test_structured_cannot_hold_more():
    with pytest.raises(gs.TensorError, match=r"3 of 4 entries are stored in group \[1, 0\] .* holds 2; prune first"):
        gs.sparsify(torch.tensor([[1, 0, 0, 0], [1, 1, 0, 1]]), gs.NM(2, 4))


@pytest.mark.parametrize("fmt", [gs.CSR, gs.CSC, gs.COO, gs.DCSR, gs.BSR((2, 3)), gs.BlockELL((2, 3))], ids=str)
@pytest.mark.parametrize("shape", [(3, 4, 6), (2, 3, 4, 6), (0, 4, 6), (3, 0, 6), (1, 4, 6)])
def test_batches(fmt, shape):
    dense = dense_tensor(shape[-2:], 0.3, torch.float32, 5).expand(shape).contiguous()
    start = gs.sparsify(dense, fmt)
    batched = fmt.with_batch(len(shape) - 2)
    there = start.to(batched)
    there.validate()
    assert there.values.shape[: len(shape) - 2] == shape[:-2]
    assert_is(there, dense)
    assert_is(there.to(fmt), dense)
    assert_is(there.to(gs.CSC), dense)
    assert_is(gs.sparsify(dense, batched), dense)
    assert there.pattern.kernel_format == fmt.for_rank(len(shape)).kernel_format


def test_batches_of_different_length():
    dense = torch.stack([torch.eye(3), torch.ones(3, 3)])
    with pytest.raises(gs.TensorError, match=r"batch 0 has 3 and batch 1 has 9: use dense leading levels"):
        gs.sparsify(dense, gs.CSR.with_batch())
    assert_is(gs.sparsify(dense, gs.BlockELL(1).with_batch()), dense)  # has room for the longest row anyway


def test_duplicates_are_summed_densely_and_not_converted_in_silence():
    fmt = NAMED["CSR with duplicates"]
    ends, columns = torch.tensor([0, 3, 3]), torch.tensor([1, 1, 2])
    pattern = gs.Pattern(fmt, (2, 4), [None, ends], [None, columns])
    twice = gs.SparseTensor(pattern, torch.tensor([1.0, 2.0, 4.0]))
    assert twice.to_dense().tolist() == [[0, 3, 4, 0], [0, 0, 0, 0]]
    assert_is(twice.to(gs.Format("(i, j) -> (i : compressed, j : compressed(nonunique))")), twice.to_dense())
    with pytest.raises(gs.TensorError, match="more than once"):
        twice.to(gs.COO)
    scores = gs.SparseTensor(pattern, torch.tensor([1.0, 2.0, 4.0]), fill=float("-inf"))
    assert scores.to_dense()[0].tolist() == [float("-inf"), 3, 4, float("-inf")]
    mask = gs.SparseTensor(pattern, torch.tensor([False, True, False]))
    assert mask.to_dense().tolist() == [[False, True, False, False], [False] * 4]


def test_one_child_for_each_node():
    fmt = gs.Format("(i, j) -> (i : compressed, j : singleton)")
    assert_is(gs.sparsify(torch.eye(4), fmt), torch.eye(4))
    with pytest.raises(gs.TensorError, match="duplicate coordinate 0"):
        gs.sparsify(torch.ones(2, 2), fmt)


def test_unordered_coordinates_are_sorted_by_a_conversion():
    fmt = NAMED["unordered CSR"]
    pattern = gs.Pattern(fmt, (2, 4), [None, torch.tensor([0, 3, 4])], [None, torch.tensor([3, 0, 2, 1])])
    start = gs.SparseTensor(pattern, torch.arange(1.0, 5.0))
    assert start.to_dense().tolist() == [[2, 0, 3, 1], [0, 4, 0, 0]]
    assert start.to(gs.CSR).coordinates(1).tolist() == [0, 2, 3, 1]
    assert_is(start.to(gs.CSR), start.to_dense())


def test_slots_of_a_loose_level():
    """Rows in any order, and room between them."""
    fmt = NAMED["ELL"]
    bounds = torch.tensor([4, 6, 1, 2, 7, 7])
    pattern = gs.Pattern(fmt, (3, 4), [None, bounds], [None, torch.tensor([9, 3, 9, 9, 0, 2, 9])])
    values = torch.tensor([0.0, 5.0, 0.0, 0.0, 6.0, 7.0, 0.0])
    start = gs.SparseTensor(pattern, values)
    assert (start.nnz, pattern.storage_size) == (3, 7)
    assert start.to_dense().tolist() == [[6, 0, 7, 0], [0, 0, 0, 5], [0, 0, 0, 0]]
    assert pattern.coo()[:, 0].tolist() == [-1, -1]
    assert_is(start.to(gs.CSR), start.to_dense())
    assert start.to(gs.CSR).values.tolist() == [6, 7, 5]


def test_block_ell_is_a_count_and_index_list():
    mask = torch.zeros(4, 4, 4, 4, dtype=torch.bool)
    mask[0, :, 1] = mask[0, :, 3] = mask[2, :, 0] = mask[3, :, 2] = True
    sparse = gs.sparsify(mask.reshape(16, 16), gs.BlockELL(4))
    begin, end = sparse.positions(1).view(4, 2).unbind(1)
    assert begin.tolist() == [0, 2, 4, 6]
    assert (end - begin).tolist() == [2, 0, 1, 1]
    index = sparse.coordinates(1).view(4, 2)
    assert [index[r, :n].tolist() for r, n in enumerate(end - begin)] == [[1, 3], [], [0], [2]]
    assert not sparse.values.view(4, 2, 4, 4)[1].any()


def test_too_many_places():
    pattern = gs.Pattern(
        gs.DCSR, (2**40, 2**40), [torch.tensor([0, 0]), torch.tensor([0])], [torch.tensor([]).long()] * 2
    )
    with pytest.raises(gs.TensorError, match="more places than a 64-bit index"):
        pattern.coo()


def test_a_block_that_does_not_divide():
    with pytest.raises(gs.FormatError, match="pad the dimension from 6 to 8"):
        gs.sparsify(torch.eye(6), gs.CSR).to(gs.BSR(4))


def test_nothing_to_convert_on_meta():
    with pytest.raises(gs.TensorError, match="meta device has no coordinates"):
        gs.sparsify(torch.eye(6), gs.CSR).to("meta").to(gs.CSC)


@pytest.mark.parametrize("fmt", list(NAMED.values()), ids=str)
def test_a_pattern_knows_its_device_without_index_arrays(fmt):
    start = gs.sparsify(torch.eye(6), fmt).to("meta")
    assert start.pattern.device.type == "meta"
    for same in (start.pattern.unsqueeze(0), start.pattern.permute((1, 0))):
        assert same.device.type == "meta"
    assert start.pattern != gs.sparsify(torch.eye(6), fmt).pattern
