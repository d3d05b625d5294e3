"""Sparsifiers that are functions of value and position: what kernels compute is what PyTorch does."""

import math
from array import array

import pytest
import torch

import gossamer as gs
from assembling import assemble
from gossamer.compiler.compile import compile_region, emit
from gossamer.patterns.random import random_numbers
from gossamer.sparsifiers.functions import Function
from lanes_on_cpu import without_prefixes
from test_gpu_code import CHIPS

SEED = torch.tensor(12345)
FUNCTIONS = {
    "integers": lambda x, i, j: ((i * 3 + j - 7) % 5 < 2) | (-(j - i) // 3 == 1) & (x != 0),
    "by positions": lambda x, i, j: torch.where(x > 1, j, i).clamp(2, 5) != torch.minimum(i, j) + (i < j),
    "bits": lambda x, i, j: (((i << 3) ^ j) >> 1 & 5 | ~i) % 4 == 3,
    "a hash": lambda x, i, j: random_numbers(12345678912345, i, j) < 1 << 30,
    "a constant tensor": lambda x, i, j: (i * 7 + j) % 3 < SEED % 2 + x.abs(),
    "products": lambda x, i, j: (x * x - 1.5 * x + 0.25) / 3 > j * 0.125,
    "functions": lambda x, i, j: (x.abs() + 1).log() + x.exp() * (j * 0.5).sin() > (x**2 + 1).sqrt() + i.cos(),
    "rounding": lambda x, i, j: x.floor() + x.ceil() - x.trunc() + x.tanh().neg() >= (1 - x).maximum(i / 8),
    "what is no number": lambda x, i, j: x.isnan() ^ (x > math.inf) | (x == -math.inf) & ~(x <= 0),
    "always": lambda x, i, j: True,
    "a number": lambda x, i, j: (i - j) * 2,
    "conversions": lambda x, i, j: ((x * 4).to(torch.int32) + i.to(torch.int32)).float().half() > j.double() - 2,
    "bools": lambda x, i, j: (x > 0).logical_xor(i > j).logical_and(((x > 0) > (j > 2)) | (i == 3)),
}
DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16]


def places(shape):
    return [torch.arange(size).view(-1, *[1] * (len(shape) - 1 - d)) for d, size in enumerate(shape)]


def expected(f, x):
    return (torch.as_tensor(f(x, *places(x.shape))) != 0).expand(x.shape)


def numbers(dtype, shape=(7, 13)):
    x = (torch.randn(shape, generator=torch.Generator().manual_seed(1)) * 3).to(dtype)
    x.view(-1)[:6] = torch.tensor([math.nan, math.inf, -math.inf, 0.0, -0.0, 1.0])
    return x


def on_the_cpu(kernel, numbers, dense, mask):
    """Runs a kernel for GPUs."""
    text = without_prefixes(kernel.text)
    words = array("q", [*numbers, dense.data_ptr(), dense.numel(), mask.data_ptr(), mask.numel()])
    compile_region(text, lambda: text).run_words(words)
    return mask


def predicate_of(f, dtype, rank=2):
    predicate = gs.by.function(f)._trace(dtype, rank).predicate
    assert not isinstance(predicate, str), predicate
    return predicate


# Every function, and those whose numbers are rounded in every width.
CASES = [(name, torch.float32) for name in FUNCTIONS]
CASES += [(name, d) for name in ("products", "functions", "conversions") for d in DTYPES[1:]]


@pytest.mark.parametrize(("name", "dtype"), CASES, ids=str)
def test_kernels_compute_what_pytorch_does(name, dtype):
    f, x = FUNCTIONS[name], numbers(dtype)
    assert torch.equal(gs.by.function(f).mask(x), expected(f, x))


def test_integers_and_bools():
    for dtype in (torch.int32, torch.int64, torch.int8):
        x = torch.randint(-9, 9, (5, 6)).to(dtype)
        for f in (lambda x, i, j: x % 3 == j, lambda x, i, j: x * 2 + i > 0.5, lambda x, i, j: x.abs() // 2 <= i):
            assert torch.equal(gs.by.function(f).mask(x), expected(f, x))
    x = torch.rand(5, 6) < 0.5
    f = lambda x, i, j: x & (i > 1) | ~x & (j == 0)  # noqa: E731
    assert torch.equal(gs.by.function(f).mask(x), expected(f, x))


def test_any_strides_and_ranks():
    def f(x, *at):
        return (x > 0.5) | (sum(at) % 3 == 0)

    base = torch.randn(6, 8)
    for x in (base.mT, base[::2], base[:, ::3], base[:1].expand(5, 8), base[0], torch.randn(2, 3, 4, 5), base[:0]):
        assert torch.equal(gs.by.function(f).mask(x), expected(f, x))
    x = torch.randn(400, 300)  # more than one part
    assert torch.equal(gs.by.function(f).mask(x), expected(f, x))


def test_thresholds_need_one_kernel():
    x = numbers(torch.float16)
    texts = set()
    for least in (0, 0.1, 1, 2.5):
        assert torch.equal(gs.by.threshold(least).mask(x), ~(x.abs() < least))
        texts.add(gs.by.threshold(least)._trace(x.dtype, 2).predicate._kernel(x.dtype, 2, True).text)
    assert len(texts) == 1
    assert torch.equal(gs.by.threshold(0.1).mask(x.double()), ~(x.double().abs() < 0.1))


def test_kernels_for_gpus_on_the_cpu():
    for name in ("integers", "a hash", "a constant tensor", "functions"):
        f, x = FUNCTIONS[name], numbers(torch.float32)
        predicate, mask = predicate_of(f, x.dtype), torch.empty(x.shape, dtype=torch.bool)
        numbers_ = [*x.shape, *x.stride(), *predicate._words]
        found = on_the_cpu(predicate._gpu_kernel(x.dtype, 2, True), numbers_, x, mask)
        assert torch.equal(found, expected(f, x)), name


def test_numbers_that_kernels_do_not_know():
    x = torch.tensor([[3 + 4j, 1, 0]])
    with pytest.warns(gs.FallbackWarning, match="kernels have no numbers of torch.complex64"):
        assert gs.by.threshold(2).mask(x).tolist() == [[True, False, False]]
    with pytest.warns(gs.FallbackWarning, match="kernels have no numbers of torch.uint8"):
        assert gs.by.where(lambda i, j: j > 0).mask(torch.ones(1, 2, dtype=torch.uint8)).tolist() == [[False, True]]


def test_kernels_are_assembled(tmp_path):
    for number, (name, f) in enumerate(FUNCTIONS.items()):
        chip, dtype = CHIPS[number % 2], (torch.float64, torch.bfloat16, torch.float32)[number % 3]
        kernel = predicate_of(f, dtype)._gpu_kernel(dtype, 2, False)
        assemble(emit(kernel.text, "ptx", chip), chip, tmp_path, name)


def test_what_kernels_do_not_have_runs_in_pytorch():
    table = torch.rand(4, 5) < 0.5

    def layout(x, i, j):
        return table[i // 2, j // 3]

    x = numbers(torch.float32)
    by = gs.by.function(layout)
    with pytest.warns(
        gs.FallbackWarning, match=r"function\(layout\) runs in PyTorch.* kernels have no look-up in a table"
    ):
        mask = by.mask(x)
    assert torch.equal(mask, expected(layout, x))
    assert torch.equal(by.mask(x), mask)  # and is said once
    for f, what in ((lambda x, i, j: x.erf() > 0, "erf"), (lambda x, i, j: i % (j + 1) == 0, "no positive constant")):
        with pytest.warns(gs.FallbackWarning, match=what):
            assert torch.equal(gs.by.function(f).mask(x), expected(f, x))


def branches(x, i, j):
    if x > 0:
        return True
    return i == j


@pytest.mark.parametrize(
    ("by", "message"),
    [
        (gs.by.function(branches), r"function: branches takes a branch.*test_sparsifier_functions.py:\d+: \"if x > 0"),
        (gs.by.where(lambda i, j: int(i) < 3), "takes a branch, or a number, that depends on a position"),
        (gs.by.where(lambda i, j: torch.arange(3) < i), r"a tensor of shape \[3\] for one position"),
        (gs.by.where(lambda i, j: "yes"), "returns str"),
        (gs.by.where(lambda i: i < 3), r"where\(<lambda>\) is called with \(position 0, position 1\).*too many"),
        (gs.by.function(lambda x, i, j, k: k > 1), r"\(value, position 0, position 1\).*missing .* argument: 'k'"),
    ],
)
def test_what_cannot_be_traced(by, message):
    with pytest.raises(gs.TraceError, match=message):
        gs.sparsify(torch.randn(3, 4), gs.CSR, by)


def test_functions_are_traced_once_for_a_dtype():
    calls = []

    def f(x, i, j):
        calls.append(x.dtype)
        return x > i

    by: Function = gs.by.function(f)
    for _ in range(3):
        by.mask(torch.randn(3, 4))
        by.mask(torch.randn(5, 2))
    by.mask(torch.randn(3, 4).double())
    assert calls == [torch.float32, torch.float64]
