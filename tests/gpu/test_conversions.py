"""Generated conversions on a GPU give what operations of torch give on the CPU, array by array."""

import subprocess
import sys

import pytest
import torch

import gossamer as gs
from gossamer.conversion.cuda.store import has_kernels
from gossamer.conversion.values import put_values, take_values
from gossamer.coordinates import node_index
from gossamer.formats import BSC, BSR, COO, CSC, CSR, DBSR, DCSC, DCSR, NM, BlockELL, Format
from gossamer.sparsify import sparsify, sparsify_by_index
from tests.gpus import needs_cuda

pytestmark = needs_cuda

ENTRIES = {
    "CSR": CSR,
    "CSC": CSC,
    "COO": COO,
    "COO by columns": Format("(i, j) -> (j : compressed(nonunique), i : singleton(soa))"),
    "DCSR": DCSR,
    "DCSC": DCSC,
    "ELL": Format("(i, j) -> (i : dense, j : loose_compressed)"),
    "loose COO": Format("(i, j) -> (i : loose_compressed(nonunique), j : singleton(soa))"),
    "rows": Format("(i, j) -> (i : compressed, j : dense)"),
}
BLOCKS = {
    "BSR": BSR((2, 3)),
    "BSR 16": BSR((8, 16)),
    "BSC": BSC((2, 3)),
    "BSC 16": BSC((4, 16)),
    "DBSR": DBSR((2, 3)),
    "ELL": BlockELL((2, 3)),
    "in parts": Format("(i, j) -> (i floordiv 2 : compressed, j floordiv 3 : compressed, j mod 3 : compressed, "
                       "i mod 2 : dense)"),
}  # fmt: skip
DTYPES = [torch.float32, torch.bfloat16, torch.float16, torch.float64, torch.int8, torch.bool, torch.complex64]
SHAPES = [(1, 1), (1, 7), (63, 1), (7, 63), (64, 65), (128, 512), (127, 1031), (2, 10007), (3, 5, 70), (2, 3, 64, 256)]


def dense_of(shape, density: float, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    base = (torch.randn(shape) * 3).to(dtype)
    return torch.where(torch.rand(shape) < density, base, torch.zeros((), dtype=dtype))


def assert_same(mine: gs.SparseTensor, right: gs.SparseTensor) -> None:
    mine.validate()
    assert mine.device.type == "cuda"
    assert mine.pattern.to("cpu") == right.pattern
    assert torch.equal(mine.values.cpu().nan_to_num(), right.values.nan_to_num())


def check(dense: torch.Tensor, format: Format, by=None, fill=None, index_dtype=None) -> gs.SparseTensor:
    """`dense` is on the GPU."""
    fitted = format.for_rank(dense.dim())
    assert has_kernels(fitted)
    mine = sparsify(dense, format, by, fill, index_dtype=index_dtype)
    assert_same(mine, sparsify_by_index(dense.cpu(), fitted, by, mine.fill, index_dtype))
    return mine


@pytest.mark.parametrize("name", ENTRIES)
def test_entries(name):
    for shape in SHAPES:
        for density in (0, 0.02, 0.5, 1):
            dense = dense_of(shape, density).cuda()
            check(dense, ENTRIES[name])
            check(dense.mT.contiguous().mT, ENTRIES[name])


@pytest.mark.parametrize("name", BLOCKS)
def test_blocks(name):
    for shape in [(8, 48), (64, 96), (2, 16, 48), (2, 3, 8, 48)]:
        for density in (0, 0.02, 0.5, 1):
            dense = dense_of(shape, density).cuda()
            check(dense, BLOCKS[name])
            check(dense.mT.contiguous().mT, BLOCKS[name])


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_dtypes(dtype):
    for shape in [(7, 63), (64, 256), (16, 1024)]:
        dense = dense_of(shape, 0.2, dtype)
        if dtype.is_floating_point:
            dense[0, 0], dense[1, 1] = -0.0, torch.nan
        for format in (CSR, CSC, COO):
            check(dense.cuda(), format)
        if shape != (7, 63):
            for format in (BSR(8), BSC((8, 32)), BSR((2, 4))):
                check(dense.cuda(), format)


def test_what_is_in_memory_in_another_way():
    dense = dense_of((64, 256), 0.2).cuda()
    for view in (dense[:, 1:65], dense[::2], dense[:, ::2], dense.mT, dense[:1].expand(64, 256)):
        for format in (CSR, CSC, COO, BSR(4), BSC((8, 4))):
            check(view, format)


def test_masks_fills_and_widths():
    dense = dense_of((64, 256), 0.2)
    marks = torch.rand(dense.shape) < 0.3
    for format in (CSR, CSC, COO, DCSR, BSR((4, 8)), BlockELL(8)):
        check(dense.cuda(), format, lambda x: marks.to(x.device))
        check(dense.cuda(), format, lambda x: marks.mT.contiguous().mT.to(x.device))
        check(torch.where(marks, dense, -torch.inf).cuda(), format, fill=-torch.inf)
        check(dense.cuda(), format, index_dtype=torch.int64)


def test_pruning_waits_for_nothing():
    weight = torch.randn(64, 128)
    for dtype in (torch.float32, torch.bfloat16):
        on_gpu = weight.to(dtype).cuda()
        for format, density in ((CSR, 0.3), (BSR(16), 0.5), (NM(2, 4), 0.5), (NM(1, 4), 0.25), (CSC, 0.1)):
            by = gs.magnitude(density)
            check(on_gpu, format, by)
            torch.cuda.set_sync_debug_mode("error")
            try:
                sparsify(on_gpu, format, by)
            finally:
                torch.cuda.set_sync_debug_mode("default")


def test_room_for_what_the_last_one_stored():
    # As many, a few more, many more, many less, none: whatever room there was before.
    for format in (CSR, CSC, COO, BSR(8), BSR((2, 4))):
        for density in (0.2, 0.2, 0.205, 0.9, 0.9, 0.01, 0.01, 0, 0, 1):
            dense = dense_of((64, 256), 1) * (torch.rand(64, 256) < density)
            if format.block:
                dense = dense * (torch.rand(8, 32) < density).repeat_interleave(8, 0).repeat_interleave(8, 1)
            mine = check(dense.cuda(), format)
            assert mine.values.untyped_storage().nbytes() <= 8 / 7 * mine.values.nbytes + 4096


def test_many_pieces():
    for shape in ((70001, 3), (4096, 4099), (3, 1_000_003), (1 << 20, 7)):
        dense = torch.randn(shape, device="cuda") * (torch.rand(shape, device="cuda") < 0.1)
        for _ in range(2):
            mine = sparsify(dense, CSR)
            mine.validate()
            assert torch.equal(mine.to_dense(), dense)


def test_on_several_streams():
    dense = [dense_of((512, 512), density).cuda() for density in (0.1, 0.5, 0.1, 0.11)]
    streams = [torch.cuda.Stream() for _ in dense]
    torch.cuda.synchronize()
    for _ in range(3):
        made = []
        for stream, one in zip(streams, dense, strict=True):
            with torch.cuda.stream(stream):
                made.append(sparsify(one, CSR))
        torch.cuda.synchronize()
        assert all(torch.equal(mine.to_dense(), one) for mine, one in zip(made, dense, strict=True))


def test_waiting_is_said():
    dense = dense_of((64, 256), 0.2).cuda()
    for format in (CSR, BSR(8)):
        sparsify(dense, format)
        torch.cuda.set_sync_debug_mode("error")
        try:
            with pytest.raises(gs.CudaError, match="a conversion waits for the GPU"):
                sparsify(dense, format)
        finally:
            torch.cuda.set_sync_debug_mode("default")
        check(dense, format)


CAPTURE = """
import gossamer as gs, torch
dense = torch.eye(64, device="cuda")
gs.sparsify(dense, gs.CSR)
try:
    with torch.cuda.graph(torch.cuda.CUDAGraph()):
        try:
            gs.sparsify(dense, gs.CSR)
        except gs.CudaError as error:
            print(error)
            raise
except RuntimeError:
    pass
"""


def test_what_waits_cannot_be_captured():
    # In a process of its own: a capture that fails leaves torch's stream and memory as they were in it.
    done = subprocess.run([sys.executable, "-c", CAPTURE], capture_output=True, text=True, check=False)
    assert "a conversion failed on cuda:0: cuStreamQuery" in done.stdout, done.stderr


def test_groups():
    dense = sparsify(torch.randn(64, 128).bfloat16(), NM(2, 4), gs.magnitude(0.5)).to_dense()
    dense.view(-1)[::3] = 0
    check(dense.cuda(), NM(2, 4))
    with pytest.raises(gs.TensorError, match="holds 2"):
        sparsify(torch.ones(4, 8, device="cuda"), NM(2, 4))


def test_batch_levels():
    one = dense_of((16, 64), 0.2)
    dense = torch.stack([one, one.flip(0)]).cuda()
    check(dense, CSR.with_batch(1))
    with pytest.raises(gs.TensorError, match="equally many"):
        sparsify(torch.stack([one, torch.zeros_like(one)]).cuda(), CSR.with_batch(1))


@pytest.mark.parametrize("format", [*ENTRIES.values(), *BLOCKS.values(), NM(2, 4)], ids=str)
def test_values_there_and_back(format):
    dense = dense_of((3, 16, 48), 0.3)
    by = gs.magnitude(0.5) if format == NM(2, 4) else None
    mine, right = sparsify(dense.cuda(), format, by), sparsify(dense, format, by)
    assert torch.equal(node_index(mine.pattern).cpu(), node_index(right.pattern))
    other = torch.randn(dense.shape)
    for strided in (other, other.mT.contiguous().mT):
        taken = take_values(strided.cuda(), mine.pattern, 7.0)
        assert torch.equal(taken.cpu(), take_values(other, right.pattern, 7.0))
    values = torch.randn(mine.values.shape)
    assert torch.equal(put_values(values.cuda(), mine.pattern, -1.0).cpu(), put_values(values, right.pattern, -1.0))


@pytest.mark.parametrize("format", [CSR, CSC, BSR((4, 8)), BlockELL(8), NM(2, 4)], ids=str)
def test_gradients(format):
    dense, weight = torch.randn(16, 64), torch.randn(16, 64)
    by = gs.magnitude(0.5)
    found = []
    for device in ("cpu", "cuda"):
        x = dense.clone().to(device).requires_grad_()
        (sparsify(x, format, by).to_dense() * weight.to(device)).square().sum().backward()
        assert x.grad is not None
        found.append(x.grad.cpu())
    assert torch.equal(*found)


def test_results_do_not_depend_on_timing():
    dense = dense_of((512, 4096), 0.1).cuda()
    first = sparsify(dense, CSR)
    for _ in range(20):
        again = sparsify(dense, CSR)
        assert again.pattern == first.pattern
        assert torch.equal(again.values, first.values)
