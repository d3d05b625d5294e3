"""Kernels for GPUs that choose n:m and pack it: run on the CPU, and given to an assembler."""

import math
import re
from array import array

import pytest
import torch

import gossamer as gs
from assembling import assemble
from gossamer.compiler.compile import compile_region, emit
from gossamer.conversion.cuda import tiles
from gossamer.conversion.cuda.groups import structurer
from gossamer.conversion.cuda.kernel import GpuKernel
from gossamer.sparsifiers import both
from gossamer.sparsifiers.n_of_m import groups_of, tiles_of


def packer(n, dtype, index="i32"):
    groups = tuple(tuple(mark.nonzero()[:, 0].tolist()) for mark in groups_of(n, 4))
    return tiles.packer(n, dtype, index, groups, tuple(map(tuple, tiles_of(n, 4).tolist())))


@pytest.mark.parametrize(("n", "dtype"), [(2, torch.bfloat16), (1, torch.float32), (2, torch.float32), (3, torch.half)])
def test_both_are_those_of_the_mask(n, dtype, monkeypatch):
    def launch(self, device, words):
        compile_region(self.text, lambda: self.text).run_words(array("q", words))

    monkeypatch.setattr(GpuKernel, "launch", launch)
    by, format = gs.by.n_of_m(n, 4, transposable=True), gs.NM(n, 4)
    for shape in ((4, 4), (20, 36), (2, 3, 8, 68)):
        for dense in (torch.randn(shape).to(dtype), torch.randint(-3, 4, shape).to(dtype)):
            dense.view(-1)[:4] = torch.tensor([math.nan, math.inf, -math.inf, 0.0])
            fitted = format.for_rank(len(shape))
            found = both._packed(dense, fitted, by, 0.0)
            right = gs.sparsify_both(dense, format, by)
            for mine, theirs in zip(found, right, strict=True):
                mine.validate()
                assert mine.pattern == theirs.pattern
                assert torch.equal(mine.values.nan_to_num(), theirs.values.nan_to_num())
    x = torch.randn(8, 12, dtype=dtype, requires_grad=True)
    rows, columns = both._packed(x, format, by, 0.0)
    weight = torch.randn(8, 12).to(dtype)
    (gradient,) = torch.autograd.grad((columns.to_dense() * weight.mT).sum(), x)
    assert torch.equal(gradient, torch.where(rows.to_dense() != 0, weight, 0))


@pytest.mark.parametrize("chip", ["sm_80", "sm_90a"])
def test_two_groups_are_read_and_stored_at_once(chip, tmp_path):
    kernel = structurer(2, 4, 2, "i32", "i16", "i16", True, True, each=2, narrow=True, largest=True)
    ptx = emit(kernel.text, "ptx", chip)
    assert len(re.findall(r"ld\.global\S*\.v4\.b32", ptx)) == ptx.count("ld.global") == 1
    assert len(re.findall(r"st\.global\S*\.v4", ptx)) == ptx.count("st.global") == 2
    assert "64 " not in "".join(re.findall(r"(?:div|rem)\.\S+ ", ptx))  # divisions of 64 bits are slow
    assemble(ptx, chip, tmp_path, "2:4")


@pytest.mark.parametrize("chip", ["sm_80", "sm_90a"])
def test_the_kernel_is_assembled(chip, tmp_path):
    for n, dtype in ((2, torch.bfloat16), (3, torch.float32)):
        ptx = emit(packer(n, dtype).text, "ptx", chip)
        assert ptx.count("ld.global") == 4
        assemble(ptx, chip, tmp_path, (n, dtype))
