"""torch's and scipy's sparse tensors: the same arrays, not copies."""

import numpy as np
import pytest
import torch
from scipy import sparse

import gossamer as gs
from strategies import dense_tensor

DENSE = dense_tensor((4, 6), 0.4, torch.float32, seed=1)
BATCH = DENSE.expand(3, 4, 6).contiguous()
DEEP = DENSE.expand(2, 3, 4, 6).contiguous()


def compressed_arrays(x: torch.Tensor) -> list[torch.Tensor]:
    rows = x.layout in (torch.sparse_csr, torch.sparse_bsr)
    indices = (x.crow_indices(), x.col_indices()) if rows else (x.ccol_indices(), x.row_indices())
    return [*indices, x.values()]


def pointers(arrays: list[torch.Tensor]) -> list[int]:
    return [array.data_ptr() for array in arrays]


@pytest.mark.parametrize("dense", [DENSE, BATCH, DEEP], ids=["2-D", "3-D", "4-D"])
@pytest.mark.parametrize(
    "make",
    [
        lambda x: x.to_sparse_csr(),
        lambda x: x.to_sparse_csc(),
        lambda x: x.to_sparse_bsr((2, 3)),
        lambda x: x.to_sparse_bsc((2, 3)),
        lambda x: x.to_sparse_bsr((1, 3)),
        lambda x: x.to_sparse_bsc((2, 1)),
        lambda x: x.to_sparse_bsr((1, 1)),
    ],
    ids=["csr", "csc", "bsr", "bsc", "bsr of rows", "bsc of columns", "bsr of ones"],
)
def test_compressed_tensors_share_all_arrays(dense, make):
    there = make(dense)
    here = gs.from_torch(there)
    last = here.format.outer - 1
    arrays = [here.positions(last), here.coordinates(last), here.values]
    assert pointers(arrays) == pointers(compressed_arrays(there))
    assert here.format == gs.Format.of(there)
    assert here.format.batch_rank == dense.dim() - 2
    assert torch.equal(here.to_dense(), dense)
    back = here.to_torch()
    assert pointers(compressed_arrays(back)) == pointers(compressed_arrays(there))
    assert torch.equal(back.to_dense(), dense)


@pytest.mark.parametrize(
    ("dense", "hybrid"), [(DENSE[0], 0), (DENSE, 0), (DENSE, 1), (BATCH, 0), (BATCH, 1), (DEEP, 0), (DEEP, 2)]
)
def test_coo_tensors_share_all_arrays(dense, hybrid):
    there = dense.to_sparse(dense.dim() - hybrid)
    here = gs.from_torch(there)
    assert here.values.data_ptr() == there.values().data_ptr()
    assert here.coordinates(0).data_ptr() == there.indices().data_ptr()
    assert torch.equal(here.to_dense(), dense)
    back = here.to_torch()
    assert back.indices().data_ptr() == there.indices().data_ptr()
    assert back.values().data_ptr() == there.values().data_ptr()
    assert torch.equal(back.to_dense(), dense)


def test_hybrid_csr():
    there = DEEP.permute(2, 3, 0, 1)[..., 0].contiguous().to_sparse_csr(dense_dim=1)
    here = gs.from_torch(there)
    assert here.format == gs.Format("(i, j, k) -> (i : dense, j : compressed, k : dense)")
    assert here.values.data_ptr() == there.values().data_ptr()
    assert torch.equal(here.to_dense(), there.to_dense())
    assert torch.equal(here.to_torch().to_dense(), there.to_dense())


def test_coo_is_coalesced_first():
    there = torch.sparse_coo_tensor(
        torch.tensor([[1, 0, 1], [2, 0, 2]]), torch.tensor([1.0, 2.0, 3.0]), (2, 3), check_invariants=True
    )
    here = gs.from_torch(there)
    assert here.nnz == 2
    assert here.to_dense().tolist() == [[2, 0, 0], [0, 0, 4]]


@pytest.mark.parametrize("shape", [(0, 0), (0, 3), (3, 0), (2, 3)])
@pytest.mark.parametrize("make", [torch.Tensor.to_sparse_csr, torch.Tensor.to_sparse_csc, torch.Tensor.to_sparse])
def test_empty_tensors(shape, make):
    here = gs.from_torch(make(torch.zeros(shape)))
    assert here.nnz == 0
    assert torch.equal(here.to_dense(), torch.zeros(shape))
    assert here.to_torch().shape == shape


def test_gradients_pass_through():
    values = torch.randn(3, requires_grad=True)
    there = torch.sparse_csr_tensor(torch.tensor([0, 1, 3]), torch.tensor([1, 0, 2]), values, (2, 3))
    here = gs.from_torch(there)
    here.to_dense().sum().backward()
    assert values.grad.tolist() == [1, 1, 1]


def test_the_width_of_the_indices_stays():
    there = torch.sparse_csr_tensor(
        torch.tensor([0, 1], dtype=torch.int32), torch.tensor([1], dtype=torch.int32), torch.tensor([1.0]), (1, 2)
    )
    here = gs.from_torch(there)
    assert (here.pattern.pos_width, here.pattern.crd_width) == (32, 32)
    assert here.to_torch().crow_indices().dtype == torch.int32


def test_indices_are_checked():
    there = torch.sparse_csr_tensor(
        torch.tensor([0, 1]), torch.tensor([5]), torch.tensor([1.0]), (1, 2), check_invariants=False
    )
    with pytest.raises(gs.TensorError, match=r"coordinate 5 .* is out of range"):
        gs.from_torch(there)
    assert gs.from_torch(there, check=False).nnz == 1


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (torch.eye(3), r"not a dense tensor; gs.sparsify\(x, format\) makes one sparse"),
        ([1, 2], "not a list"),
        (np.eye(3), "not a ndarray"),
    ],
)
def test_from_torch_of_something_else(given, message):
    with pytest.raises(gs.TensorError, match=message):
        gs.from_torch(given)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: gs.sparsify(DENSE, gs.DCSR), r"torch has no layout for .*convert it with .to\(gs.CSR\)"),
        (lambda: gs.sparsify(BATCH, gs.CSR), r"try .to\(gs.CSR.with_batch\(k\)\)"),
        (
            lambda: gs.sparsify(DENSE, gs.CSR, fill=-1.0),
            "entries that torch does not store are 0, and here they are -1.0",
        ),
    ],
)
def test_torch_has_no_such_tensor(make, message):
    with pytest.raises(gs.TensorError, match=message):
        make().to_torch()


def test_made_here_and_given_to_torch():
    for fmt in (gs.CSR, gs.CSC, gs.COO, gs.BSR((2, 3)), gs.BSC((2, 3))):
        there = gs.sparsify(DENSE, fmt).to_torch()
        assert torch.equal(there.to_dense(), DENSE)
        assert gs.Format.of(there) == fmt
    assert torch.equal(gs.sparsify(DENSE, gs.Format("(i, j) -> (i : dense, j : dense)")).to_torch(), DENSE)
    assert torch.equal(gs.sparsify(BATCH, gs.CSR).to(gs.CSR.with_batch()).to_torch().to_dense(), BATCH)


def sorted_bsr(x: np.ndarray) -> sparse.bsr_array:
    array = sparse.bsr_array(x, blocksize=(2, 3))
    array.sort_indices()
    return array


SCIPY = {
    "csr": sparse.csr_array,
    "csc": sparse.csc_array,
    "bsr": sorted_bsr,
    "csr matrix": sparse.csr_matrix,
}


@pytest.mark.parametrize("kind", SCIPY)
def test_scipy_shares_all_arrays(kind):
    there = SCIPY[kind](DENSE.numpy())
    here = gs.from_scipy(there)
    assert here.positions(1).data_ptr() == there.indptr.ctypes.data
    assert here.coordinates(1).data_ptr() == there.indices.ctypes.data
    assert here.values.data_ptr() == there.data.ctypes.data
    assert torch.equal(here.to_dense(), DENSE)
    back = here.to_scipy()
    assert back.indptr.ctypes.data == there.indptr.ctypes.data
    assert back.indices.ctypes.data == there.indices.ctypes.data
    assert back.data.ctypes.data == there.data.ctypes.data
    assert back.format == there.format
    assert (back @ np.ones(6, np.float32)).tolist() == DENSE.sum(1).tolist()


def test_scipy_coo_shares_all_arrays():
    there = sparse.coo_array(DENSE.numpy())
    here = gs.from_scipy(there)
    assert here.format == gs.COO
    assert here.values.data_ptr() == there.data.ctypes.data
    assert [here.coordinates(l).data_ptr() for l in (0, 1)] == [c.ctypes.data for c in there.coords]
    back = here.to_scipy()
    assert [c.ctypes.data for c in back.coords] == [c.ctypes.data for c in there.coords]
    assert torch.equal(torch.from_numpy(back.toarray()), DENSE)


def test_wide_indices_stay_wide_in_scipy():
    here = gs.sparsify(DENSE, gs.CSR, index_dtype=torch.int64)
    assert here.to_scipy().indices.dtype == np.int64


def test_scipy_arrays_that_are_not_sorted_are_sorted_in_a_copy():
    there = sparse.csr_array((np.array([1.0, 2, 4]), np.array([2, 0, 2]), np.array([0, 3])), shape=(1, 3))
    assert gs.from_scipy(there).to_dense().tolist() == [[2, 0, 5]]
    assert there.indices.tolist() == [2, 0, 2]
    by_columns = sparse.coo_array((np.array([1.0, 2, 4]), (np.array([1, 0, 0]), np.array([0, 1, 1]))), shape=(2, 2))
    assert gs.from_scipy(by_columns).to_dense().tolist() == [[0, 6], [1, 0]]


@pytest.mark.parametrize(
    ("run", "message"),
    [
        (lambda: gs.from_scipy(sparse.lil_array(np.eye(2))), r"not scipy's lil; convert it, .tocsr\(\)"),
        (lambda: gs.from_scipy(np.eye(2)), "not a ndarray"),
        (lambda: gs.sparsify(DENSE, gs.DCSR).to_scipy(), "scipy has no layout"),
        (lambda: gs.sparsify(DENSE.bfloat16(), gs.CSR).to_scipy(), "numpy has no torch.bfloat16"),
        (lambda: gs.sparsify(DENSE, gs.CSR, fill=1.0).to_scipy(), "entries that scipy does not store are 0"),
        (lambda: gs.sparsify(DENSE, gs.CSR).to("meta").to_scipy(), "on the CPU, and the values are on meta"),
    ],
)
def test_scipy_has_no_such_array(run, message):
    with pytest.raises(gs.TensorError, match=message):
        run()
