"""Conversion kernels for GPUs, without one: run on the CPU, and given to an assembler."""

import ctypes
from array import array

import pytest
import torch

import gossamer as gs
from assembling import assemble
from gossamer.compiler.compile import compile_region, emit
from gossamer.conversion.cuda import compress, exchange, room, scan, scanned, whole_blocks
from gossamer.conversion.cuda import values as moved
from gossamer.conversion.cuda.kernel import GpuKernel
from gossamer.conversion.cuda.places import node_places
from gossamer.conversion.cuda.store import _plans, can_choose, has_kernels, store
from gossamer.conversion.orders import is_plain
from gossamer.convert import convert_by_sorting
from gossamer.coordinates import node_index
from gossamer.sparsify import sparsify_by_index
from gossamer.tensor import gather_runs, level_view
from lanes_on_cpu import without_prefixes
from strategies import NAMED
from test_gpu_code import CHIPS

WITHOUT = {"dense", "dense, by columns", "dense blocks", "loose rows"}
FORMATS = {name: fmt for name, fmt in NAMED.items() if has_kernels(fmt)}


class NotPinned(room.Words):
    """Words that no GPU writes to."""

    def _add(self):
        self._block = (ctypes.c_int64 * 64)()
        self._free += [ctypes.c_int64.from_buffer(self._block, 8 * n) for n in range(64)]


def fresh(monkeypatch, launch):
    """Conversions of tensors on the CPU, whose kernels are launched by a function."""
    monkeypatch.setattr(GpuKernel, "launch", launch)
    monkeypatch.setattr(GpuKernel, "wait", lambda self, device, word: ctypes.c_int64.from_address(word).value)
    for module in (scanned, whole_blocks):
        monkeypatch.setattr(module, "words", NotPinned())
    _plans.clear()


@pytest.fixture
def on_the_cpu(monkeypatch):
    """Kernels run on the CPU."""

    def launch(self, device, words):
        text = without_prefixes(self.text)
        compile_region(text, lambda: text).run_words(array("q", words))

    fresh(monkeypatch, launch)
    yield
    _plans.clear()


@pytest.fixture
def texts(monkeypatch):
    """What would be compiled."""
    found: set[str] = set()

    def launch(self, device, words):
        found.add(self.text)

    def call(self, numbers, *tensors):
        found.add(self.text)
        for tensor in tensors:
            tensor.zero_()  # nothing is counted

    fresh(monkeypatch, launch)
    monkeypatch.setattr(GpuKernel, "__call__", call)
    monkeypatch.setattr(GpuKernel, "wait", lambda self, device, word: 5)
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


def same(dense, format, index_dtype=None):
    pattern, values = store(dense, format, 0.0, None, None, None, index_dtype)
    right = sparsify_by_index(dense, format, None, 0.0, index_dtype)
    assert pattern == right.pattern
    assert torch.equal(values, right.values)
    return values


def test_sums_over_many_chunks(on_the_cpu, monkeypatch):
    # More than one chunk, more of them than the last warp takes at once, and one place more or less.
    for places in (511, 512, 513, 70001):
        same(dense_of((places, 1), 0.5), gs.CSR)
        same(dense_of((1, 4 * places), 0.5).mT.contiguous().mT, gs.CSC)
        same(dense_of((places, 2), 0.3), gs.BSR((1, 2)))
    monkeypatch.setattr(compress, "_INT32_MAX", 1)  # as if there could be more than 32 bits can count
    _plans.clear()
    same(dense_of((70001, 1), 0.5), gs.CSR)
    assert scan.Scan(1, wide=True).width == "i64"


def test_room_for_what_the_last_one_stored(on_the_cpu, monkeypatch):
    filled = []
    fill = room.Room.fill

    def counted(self, known, make, launch, most):
        return fill(self, known, make, lambda *a: (filled.append(a[0]), launch(*a)), most)

    monkeypatch.setattr(room.Room, "fill", counted)
    for format in (gs.CSR, gs.BSR(2)):
        nodes = torch.zeros(16, 32)

        def stored(count, nodes=nodes, format=format):
            filled.clear()
            order = torch.randperm(nodes.numel())
            marks = nodes.clone().view(-1).index_fill_(0, order[:count], 1).view(nodes.shape)
            block = format.block or (1, 1)
            dense = torch.kron(marks, torch.ones(block)) * torch.randn(16 * block[0], 32 * block[1])
            values = same(dense, format)
            assert values.untyped_storage().nbytes() <= values.nbytes * 8 / 7 + 32 * values.itemsize
            return list(filled)

        assert stored(320) == [320]  # nothing is known before
        assert stored(320) == [330]
        assert stored(330) == [330]  # one in 32 more is room enough
        assert stored(500) == [340, 500]
        assert stored(500) == [500]  # forgotten
        assert stored(512) == [512]  # not more than there are
        assert stored(100) == [512, 100]  # not much more than there is
        assert stored(0) == [0]
        assert stored(0) == [0]
        assert stored(7) == [0, 7]


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
