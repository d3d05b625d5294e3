"""What is rare on a GPU: no memory left, several devices, more entries than 32 bits count."""

import pytest
import torch

import gossamer as gs
from tests.gpus import needs_cuda

pytestmark = needs_cuda

two_devices = pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA devices")


@torch.no_grad()
def test_no_memory_for_a_temporary() -> None:
    """The error is torch's, and nothing is lost: afterwards, the same call works."""
    scores = gs.sparsify(torch.rand(4096, 4096, device="cuda"), gs.CSR, fill=-torch.inf)
    v = torch.randn(4096, 8, device="cuda")
    f = gs.sparse_jit(lambda s, v: torch.softmax(s, -1) @ v)
    expected = f(scores, v)
    torch.cuda.empty_cache()
    before = torch.cuda.memory_allocated()
    room = torch.cuda.memory_reserved() + (16 << 20)  # the result, but not the 64 MiB of shares that it is summed from
    torch.cuda.set_per_process_memory_fraction(room / torch.cuda.get_device_properties(0).total_memory)
    try:
        with pytest.raises(torch.OutOfMemoryError):
            f(scores, v)
        assert torch.cuda.memory_allocated() == before
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert torch.equal(f(scores, v), expected)


@two_devices
@torch.no_grad()
def test_every_device_runs_its_own() -> None:
    f = gs.sparse_jit(lambda w, y: torch.relu(w @ y))
    w, y = torch.randn(65, 63), torch.randn(63, 40)
    expected = torch.relu(w @ y)
    for device in ("cuda:1", "cuda:0", "cuda:1"):  # which is not the current one
        stored = gs.sparsify(w.to(device), gs.CSR)
        for _ in range(3):  # the general way, then the short one
            got = f(stored, y.to(device))
            assert got.device == torch.device(device)
            torch.testing.assert_close(got.cpu(), expected, rtol=1e-4, atol=1e-4)
    with torch.cuda.device(1):
        got = f(gs.sparsify(w.to("cuda:1"), gs.CSR), y.to("cuda:1"))
        torch.testing.assert_close(got.cpu(), expected, rtol=1e-4, atol=1e-4)


@two_devices
def test_operands_on_different_devices() -> None:
    f = gs.sparse_jit(lambda w, y: w @ y)
    stored = gs.sparsify(torch.eye(8, device="cuda:0"), gs.CSR)
    with pytest.raises(gs.TensorError, match="y is on cuda:1 and w is on cuda:0: move one of them"):
        f(stored, torch.randn(8, 4, device="cuda:1"))


@pytest.mark.skipif(
    not torch.cuda.is_available() or torch.cuda.mem_get_info()[0] < 100 << 30, reason="needs 100 GiB of GPU memory"
)
@torch.no_grad()
def test_more_entries_than_32_bits_count() -> None:
    rows, columns, stored = 70_000, 32_768, 30_700
    count = rows * stored
    assert count > 2**31
    positions = torch.arange(0, count + 1, stored, device="cuda")
    coordinates = torch.arange(stored, device="cuda").repeat(rows)
    values = torch.ones(count, dtype=torch.float16, device="cuda")
    values[-stored:] = 2
    matrix = gs.from_torch(torch.sparse_csr_tensor(positions, coordinates, values, (rows, columns)))
    v = torch.rand(columns, 1, device="cuda").half()
    got = gs.sparse_jit(lambda w, v: w @ v)(matrix, v).double()
    expected = v[:stored].double().sum().expand(rows).clone()
    expected[-1] *= 2
    torch.testing.assert_close(got[:, 0], expected, rtol=1e-3, atol=0)
    doubled = gs.sparse_jit(lambda w: w * 2)(matrix).values
    assert bool((doubled[:-stored] == 2).all())
    assert bool((doubled[-stored:] == 4).all())
