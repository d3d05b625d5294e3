"""Sparsifiers on a GPU keep what they keep on the CPU."""

import pytest
import torch

import gossamer as gs
from tests.gpus import needs_cuda

pytestmark = needs_cuda

SHAPES = [(1, 1), (7, 63), (64, 65), (127, 1031), (256, 512), (2, 3, 16, 96)]
LIMIT = torch.tensor(3)
ANY_SHAPE = {
    "row": gs.by.magnitude(0.3, per="row"),
    "tensor": gs.by.magnitude(0.1),
    "random": gs.by.random(0.2, seed=5 << 33),
    "random rows": gs.by.random(0.2, per="row"),
    "threshold": gs.by.threshold(0.7),
    "everything": gs.by.everything(),
    "where": gs.by.where(lambda *at: ((at[-2] * 7 + at[-1]) % 5 < LIMIT) & (at[-1] - at[-2] < 40)),
    "function": gs.by.function(lambda x, *at: (x.abs() + 1).log() * 3 > (at[-1] % 4) + 0.5),
}
OF_BLOCKS = {
    "tile": gs.by.magnitude(0.25, per=(8, 16)),
    "l2": gs.by.block_norm(0.3, "l2"),
    "blocks of 8": gs.by.block_norm(0.3, "max", block=8),
    "random blocks": gs.by.random(0.3, block=(4, 8)),
    "2:4": gs.by.n_of_m(2, 4),
    "greedy": gs.by.n_of_m(2, 4, "greedy", transposable=True),
    "grouped": gs.by.n_of_m(1, 4, group=2),
}


def check(dense, format, by):
    mine, right = gs.sparsify(dense.cuda(), format, by), gs.sparsify(dense, format, by)
    mine.validate()
    assert mine.device.type == "cuda"
    assert mine.pattern.to("cpu") == right.pattern
    assert torch.equal(mine.values.cpu().nan_to_num(), right.values.nan_to_num())


def numbers(shape, dtype=torch.float32):
    """Multiples of 1/8, so that sums are exact, and many are equal."""
    return (torch.randint(-20, 21, shape) / 8).to(dtype)


@pytest.mark.parametrize("name", ANY_SHAPE)
def test_what_takes_any_shape(name):
    for shape in SHAPES:
        for dtype in (torch.float32, torch.bfloat16):
            dense = numbers(shape, dtype)
            for format in (gs.CSR, gs.CSC, gs.COO):
                check(dense, format, ANY_SHAPE[name])
            check(dense.mT.contiguous().mT, gs.CSR, ANY_SHAPE[name])


@pytest.mark.parametrize("name", OF_BLOCKS)
def test_what_takes_blocks(name):
    for shape in [(8, 16), (64, 96), (3, 24, 48)]:
        for format in (gs.CSR, gs.BSR((4, 8)), gs.COO):
            check(numbers(shape), format, OF_BLOCKS[name])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64], ids=str)
def test_groups_are_chosen_and_packed(dtype):
    for shape in [(1, 4), (1, 16), (3, 20), (64, 256), (257, 1032), (2, 3, 8, 24)]:
        for n, m in ((2, 4), (1, 4), (1, 2), (3, 4), (4, 8), (3, 5)):
            columns = shape[-1] // m * m
            if columns:
                dense = torch.randn(*shape[:-1], columns).to(dtype)
                dense.view(-1)[: m // 2] = torch.nan
                check(dense, gs.NM(n, m), gs.by.n_of_m(n, m))
                check(dense, gs.NM(n, m), gs.by.magnitude(n / m))


def test_nothing_waits_where_the_number_is_known():
    dense = torch.randn(64, 128, device="cuda")
    kinds = [(gs.CSR, gs.by.magnitude(0.1, "row")), (gs.CSR, gs.by.random(0.1)), (gs.NM(2, 4), gs.by.n_of_m(2, 4)),
             (gs.CSC, gs.by.n_of_m(2, 4)), (gs.NM(2, 4), gs.by.n_of_m(2, 4, transposable=True))]  # fmt: skip
    kept = gs.sparsify(dense, gs.CSR, gs.by.magnitude(0.5))
    kinds.append((gs.CSR, gs.by.like(kept)))
    for format, by in kinds:
        gs.sparsify(dense, format, by)  # compiles
        kept.resparsify_(dense)
        torch.cuda.set_sync_debug_mode("error")
        try:
            gs.sparsify(dense, format, by)
            kept.resparsify_(dense)
        finally:
            torch.cuda.set_sync_debug_mode("default")


def test_both_directions():
    for dtype in (torch.float32, torch.bfloat16, torch.float16, torch.float64):
        for shape in [(4, 4), (20, 36), (128, 512), (2, 3, 8, 68)]:
            for n in (1, 2, 3):
                by, dense = gs.by.n_of_m(n, 4, transposable=True), torch.randn(shape).to(dtype)
                right = gs.sparsify_both(dense, gs.NM(n, 4), by)
                for given in (
                    dense.cuda(),
                    dense.mT.contiguous().mT.cuda(),
                    torch.cat([dense, dense]).cuda()[: shape[0]],
                ):
                    for mine, theirs in zip(gs.sparsify_both(given, gs.NM(n, 4), by), right, strict=True):
                        mine.validate()
                        assert mine.pattern.to("cpu") == theirs.pattern
                        assert torch.equal(mine.values.cpu(), theirs.values)
                x = dense.cuda().requires_grad_()
                rows, columns = gs.sparsify_both(x, gs.NM(n, 4), by)
                (gradient,) = torch.autograd.grad(rows.to_dense().sum() + 2 * columns.to_dense().sum(), x)
                assert torch.equal(gradient, 3 * (rows.to_dense() != 0).to(dtype))
    for format, by in ((gs.CSR, gs.by.magnitude(0.3)), (gs.BSR(4), gs.by.block_norm(0.5))):
        rows, columns = gs.sparsify_both(torch.randn(16, 32).cuda(), format, by)
        assert torch.equal(rows.to_dense().mT, columns.to_dense())


def test_gradients_and_renewal():
    dense, weight = torch.randn(32, 64), torch.randn(32, 64)
    for by in (*ANY_SHAPE.values(), *OF_BLOCKS.values()):
        if by is OF_BLOCKS["grouped"]:
            continue  # 32 rows are not its tiles
        for device in ("cpu", "cuda"):
            x = dense.to(device).clone().requires_grad_()
            t = gs.sparsify(x, gs.CSR, by)
            (gradient,) = torch.autograd.grad((t.to_dense() * weight.to(device)).sum(), x)
            assert torch.equal(gradient, torch.where(t.to_dense() != 0, weight.to(device), 0))
    t = gs.sparsify(dense.cuda(), gs.CSR, gs.by.magnitude(0.25))
    memory = t.values.data_ptr()
    t.resparsify_(weight.cuda(), gs.by.magnitude(0.25))
    assert t.values.data_ptr() == memory
    assert torch.equal(t.to_dense().cpu(), gs.sparsify(weight, gs.CSR, gs.by.magnitude(0.25)).to_dense())


def test_the_example_runs():
    import runpy
    import sys
    from pathlib import Path
    from unittest import mock

    example = Path(__file__).parents[2] / "examples" / "custom_sparsifier.py"
    with mock.patch.object(sys, "argv", [str(example), "--device", "cuda", "--steps", "12"]):
        runpy.run_path(str(example), run_name="__main__")
