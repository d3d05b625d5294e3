"""Conversion kernels for GPUs, without one: run on the CPU, as far as they need no lanes, and given to an assembler."""

from array import array
from dataclasses import replace

import pytest
import torch

import gossamer as gs
from assembling import assemble
from gossamer.compiler.compile import compile_region, emit
from gossamer.conversion.cuda import compress, exchange
from gossamer.conversion.cuda import values as moved
from gossamer.conversion.cuda.kernel import GpuKernel
from gossamer.conversion.cuda.places import node_places
from gossamer.conversion.cuda.store import _plans, can_choose, has_kernels, store
from gossamer.conversion.orders import is_plain
from gossamer.convert import convert_by_sorting
from gossamer.coordinates import node_index
from gossamer.sparsify import sparsify_by_index
from gossamer.tensor import gather_runs, level_view
from strategies import NAMED
from test_gpu_code import CHIPS

WITHOUT = {"dense", "dense, by columns", "dense blocks", "loose rows"}
FORMATS = {name: fmt for name, fmt in NAMED.items() if has_kernels(fmt)}


@pytest.fixture
def on_the_cpu(monkeypatch):
    """Kernels run on the CPU; rows are read by threads, since lanes put numbers together as only a GPU can."""

    def call(self, numbers, *tensors):
        words = array("q", numbers)
        for tensor in tensors:
            words.extend((tensor.data_ptr(), tensor.numel()))
        compile_region(self.text, lambda: self.text).run_words(words)

    def cut(kept, sizes, cut=compress._cut):
        return cut(replace(kept, strides=(*kept.strides[:-1], 0)), sizes)

    monkeypatch.setattr(GpuKernel, "__call__", call)
    monkeypatch.setattr(compress, "_cut", cut)
    _plans.clear()
    yield
    _plans.clear()


@pytest.fixture
def texts(monkeypatch):
    """What would be compiled."""
    found: set[str] = set()

    def call(self, numbers, *tensors):
        found.add(self.text)
        for tensor in tensors:
            tensor.zero_()  # nothing is counted

    monkeypatch.setattr(GpuKernel, "__call__", call)
    _plans.clear()
    yield found
    _plans.clear()


def dense_of(shape, density, dtype=torch.float32):
    return torch.where(torch.rand(shape) < density, (torch.randn(shape) * 3).to(dtype), torch.zeros((), dtype=dtype))


def test_which_formats_have_kernels():
    assert has_kernels(gs.NM(2, 4))
    assert has_kernels(gs.BSR(4).with_batch(2))
    for name in ("CSR", "CSC", "COO", "DCSR", "DCSC", "BSR", "BSC", "DBSR", "BlockELL", "ELL"):
        assert name in FORMATS
    assert not any(fmt.allows_duplicates for fmt in FORMATS.values())


@pytest.mark.parametrize("name", FORMATS)
def test_kernels_on_the_cpu(name, on_the_cpu):
    fmt = FORMATS[name]
    for shape in [(12, 24)[: fmt.dim_rank], (2, 3, 12, 24)] if fmt.dim_rank <= 2 else [(12, 24, 12)[: fmt.dim_rank]]:
        fitted = fmt.for_rank(len(shape))
        for density, dtype in ((0, torch.float32), (0.3, torch.bfloat16), (0.3, torch.bool), (1, torch.float64)):
            dense, marks = dense_of(shape, density, dtype), torch.rand(shape) < 0.3
            for given in (dense, dense.mT.contiguous().mT if len(shape) > 1 else dense):
                for mask in (None, marks):
                    fill = False if dtype == torch.bool else 0.0
                    pattern, values = store(given, fitted, fill, mask, None, None, None)
                    by = None if mask is None else lambda x, mask=mask: mask
                    right = sparsify_by_index(dense, fitted, by, fill)
                    assert pattern == right.pattern
                    assert torch.equal(values, right.values)
                    assert torch.equal(node_places(pattern), node_index(pattern))
                    assert torch.equal(moved.put(values, pattern, fill), right.to_dense())
                    if mask is None:
                        assert torch.equal(moved.take(given, pattern, fill), values)


def test_groups_on_the_cpu(on_the_cpu):
    for shape in ((4, 8), (3, 16), (2, 3, 12)):
        for n, m in ((2, 4), (1, 4), (1, 2), (3, 4)):
            fmt = gs.NM(n, m).for_rank(len(shape))
            for dense in (torch.randn(shape), torch.randn(shape).bfloat16()):
                by = gs.magnitude(n / m)
                keep = by.keep(level_view(dense, fmt), fmt)
                right = sparsify_by_index(dense, fmt, by, 0.0)
                pattern, values = store(dense, fmt, 0.0, None, keep, int(keep.sum()), None)
                assert pattern == right.pattern
                assert torch.equal(values, right.values)
                dense.view(-1)[:6] = torch.tensor([torch.nan, torch.inf, 1, -1, 1, -torch.inf])
                right = sparsify_by_index(dense, fmt, by, 0.0)
                assert can_choose(fmt, dense.dtype)
                pattern, values = store(dense, fmt, 0.0, None, None, None, None, largest=True)
                assert pattern == right.pattern
                assert torch.equal(values.nan_to_num(), right.values.nan_to_num())
                with pytest.raises(gs.TensorError, match=f"holds {n}"):
                    store(dense, fmt, 0.0, None, None, None, None)
                less = right.to_dense()
                less.view(-1)[::3] = 0
                pattern, values = store(less, fmt, 0.0, None, None, None, None)
                right = sparsify_by_index(less, fmt, None, 0.0)
                assert pattern == right.pattern
                assert torch.equal(values, right.values)


def test_exchange_on_the_cpu(on_the_cpu):
    known = 0
    dense = dense_of((2, 12, 24), 0.2)
    for first in NAMED.values():
        if first.dim_rank > 3 or not is_plain(first):
            continue
        for old in (gs.sparsify(dense, first), gs.sparsify(torch.zeros_like(dense), first)):
            for second in NAMED.values():
                fitted = second.for_rank(3)
                mine = exchange.converted(old.pattern, fitted)
                if mine is None or fitted == old.format:
                    continue
                known += 1
                right = convert_by_sorting(old.pattern, fitted)
                assert mine[0] == right[0]
                values = [
                    old.values if gather is None else gather_runs(old.values, gather, size, 0)
                    for _, gather, size in (mine, right)
                ]
                assert torch.equal(*(one.reshape(-1) for one in values))
    assert known > 200


@pytest.mark.parametrize("chip", CHIPS)
def test_every_kernel_is_assembled(chip, texts, tmp_path):
    for name in ("CSR", "CSC", "COO", "DCSR", "BSR", "BlockELL", "ELL"):
        for dtype in (torch.float32, torch.bfloat16, torch.int8, torch.float64):
            dense = torch.zeros((64, 192), dtype=dtype)
            fmt = FORMATS[name]
            nodes = torch.zeros(fmt.level_sizes(dense.shape)[: fmt.outer], dtype=torch.bool)
            for kept in (None, nodes):
                store(dense, fmt, 0, None, kept, 5, None)
    assert any("lane_prefix" in text for text in texts)
    for text in texts:
        ptx = emit(text, "ptx", chip)
        assert ".entry kernel_0" in ptx
        assemble(ptx, chip, tmp_path, text)
