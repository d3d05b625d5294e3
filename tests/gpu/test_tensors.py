"""Formats, conversions and interop on a GPU: nothing goes through the CPU."""

import pytest
import torch

from gossamer import magnitude
from gossamer.formats import BSC, BSR, COO, CSC, CSR, DCSR, NM, BlockELL, Format
from gossamer.sparsify import sparsify
from gossamer.tensor import from_torch
from tests.gpus import needs_cuda

pytestmark = needs_cuda

FORMATS = [
    CSR,
    CSC,
    COO,
    DCSR,
    BSR((2, 3)),
    BSC((2, 3)),
    BlockELL((2, 3)),
    Format("(i, j) -> (i : dense, j : dense)"),
    Format("(i, j) -> (i : dense, j : compressed(nonordered))"),
    Format("(i, j) -> (i : compressed(nonunique), j : compressed)"),
    Format("(i, j) -> (i : loose_compressed(nonunique), j : singleton(soa))"),
]


@pytest.mark.parametrize("shape", [(4, 6), (2, 3, 12, 6), (0, 6), (64, 0)])
def test_every_format_to_every_other(shape):
    dense = torch.randn(shape, device="cuda") * (torch.rand(shape, device="cuda") < 0.3)
    for first in FORMATS:
        start = sparsify(dense, first)
        start.validate()
        for second in FORMATS:
            there = start.to(second)
            there.validate()
            assert all(array is None or array.is_cuda for array in there.pattern._arrays)
            assert torch.equal(there.to_dense(), dense)
        home = start.to("cpu")
        assert home.pattern.device.type == "cpu"
        assert torch.equal(home.to_dense(), dense.cpu())


def test_pruning():
    weight = torch.randn(8, 16, device="cuda")
    sparse = sparsify(weight, NM(2, 4), by=magnitude(0.5))
    sparse.validate()
    assert torch.equal(sparse.to(CSR).to_dense(), sparse.to_dense())
    assert sparsify(weight, BSR(4), by=magnitude(0.25)).nnz == 32


def test_tensors_of_torch_share_their_arrays():
    dense = torch.eye(8, 16, device="cuda")
    batch = dense.expand(3, 8, 16).contiguous()
    for there in (dense.to_sparse_csr(), dense.to_sparse_bsr((2, 4)), dense.to_sparse(), batch.to_sparse_csr()):
        here = from_torch(there)
        assert here.values.data_ptr() == there.values().data_ptr()
        assert torch.equal(here.to_dense(), there.to_dense())
        assert torch.equal(here.to_torch().to_dense(), there.to_dense())
        assert all(array is None or array.is_cuda for arrays in here.pattern.storage() for array in arrays)
