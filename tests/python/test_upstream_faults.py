"""Faults of MLIR 22, LLVM 22 and torch-mlir that Gossamer works around: each test would see one if it came through.

docs/upstream.md lists them, and what is done about each. What a pass has to keep from happening is in tests/lit.
"""

import math
import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import gossamer as gs
from gossamer.compiler.library import library
from gossamer.execute import safe_softmax

pytestmark = [
    pytest.mark.filterwarnings("error::gossamer.FallbackWarning"),
    pytest.mark.filterwarnings("ignore:The PyTorch API of SparseSemiStructuredTensor:UserWarning"),
]


def sparse(rows: int, columns: int, density: float = 0.3) -> Tensor:
    """With an empty row and a full one."""
    matrix = torch.randn(rows, columns, dtype=torch.float64) * (torch.rand(rows, columns) < density)
    matrix[rows // 2] = 0
    matrix[-1] = torch.randn(columns, dtype=torch.float64)
    return matrix


def with_garbage(size: int) -> None:
    """Leaves memory full of NaN behind, which the next tensor of this size is likely to get."""
    torch.full((size,), math.nan, dtype=torch.float64)


# --- wrong in silence


@pytest.mark.parametrize("format", [gs.CSC, gs.DCSC, gs.COO, gs.BSC(4)], ids=str)
def test_parallel_loops_that_reduce(format):
    """`parallelization-strategy=any-storage-*` adds to one row from two threads, with plain loads and stores."""
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        a, x = sparse(64, 512), torch.randn(512, 32).double()
        stored = gs.sparsify(a, format)
        compiled = gs.sparse_jit(lambda a, x: (a @ x, a.sum(1)))
        for _ in range(20):
            product, sums = compiled(stored, x)
            torch.testing.assert_close(product, a @ x)
            torch.testing.assert_close(sums, a.sum(1))
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("format", [gs.CSR, gs.BSR(4), gs.BSR((2, 8)), gs.BSC(4), gs.BlockELL(4)], ids=str)
def test_reductions_over_blocks(format):
    """`sparse_tensor.reduce` keeps the maximum of a row's last block only: exp overflows where scores are large."""
    mask = torch.rand(16, 32) < 0.4
    mask[:, 0] = True
    q, k = (torch.randn(n, 64).double() * 10 for n in (16, 32))
    assert (q @ k.mT).abs().max() > 200

    def scores(mask, q, k):
        return torch.softmax(torch.where(mask, q @ k.mT, -math.inf), -1)

    got = gs.sparse_jit(scores)(gs.sparsify(mask, format), q, k)
    torch.testing.assert_close(got.to_dense(), scores(mask, q, k))


@pytest.mark.parametrize("format", [gs.CSR, gs.CSC, gs.COO, gs.BSR(4), gs.BlockELL(1), gs.NM(2, 4)], ids=str)
def test_initial_values_of_sparse_results(format):
    """A sparse `outs` keeps or drops what it held; a plain product into one may return its input as it was."""
    a = sparse(16, 24)
    a[:, 1::4] = a[:, 3::4] = 0
    x, y = torch.randn(16, 24).double(), torch.randn(16, 5).double()
    z = torch.randn(24, 5).double()
    stored = gs.sparsify(a, format)
    compiled = gs.sparse_jit(lambda a, x, y, z: (a * x, (y @ z.mT) * a))
    for _ in range(3):
        with_garbage(stored.values.numel())
        got = compiled(stored, x, y, z)
        for ours, expected in zip(got, (a * x, (y @ z.mT) * a), strict=True):
            assert ours.pattern is stored.pattern
            torch.testing.assert_close(ours.to_dense(), expected)


@pytest.mark.parametrize("block", [1, 4])
def test_padding_of_loose_results(block):
    """Sparse results in `loose_compressed` are compacted, and lose the padding between rows."""
    a = sparse(16, 24, 0.1)
    stored = gs.sparsify(a, gs.BlockELL(block))
    got = gs.sparse_jit(lambda a: a * 3)(stored)
    assert got.values.shape == stored.values.shape
    torch.testing.assert_close(got.to_dense(), a * 3)


@pytest.mark.parametrize("format", [gs.CSR, gs.BSR(4), gs.BSR(16)], ids=str)
def test_vectors_of_bools(format):
    """`vector.load` of `memref<?xi1>` reads packed bits, and a bool is a byte."""
    mask = torch.rand(48, 64) < 0.5
    q, k, v = (torch.randn(2, n, 8) for n in (48, 64, 64))

    def attention(q, k, v, mask):
        return torch.softmax((q @ k.mT).masked_fill(~mask, -math.inf), -1) @ v

    expected = attention(q.double(), k.double(), v.double(), mask)
    stored = gs.sparsify(mask, format)  # blocks hold false entries too
    torch.testing.assert_close(gs.sparse_jit(attention)(q, k, v, stored).double(), expected, atol=1e-5, rtol=0)
    other = torch.rand(48, 64) < 0.5
    assert torch.equal(gs.sparse_jit(lambda a, x: a & x)(stored, other).to_dense(), mask & other)


@pytest.mark.parametrize("format", [gs.BSR((8, 1)), gs.BSC((1, 4)), gs.BSC((8, 1))], ids=str)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16], ids=str)
def test_coordinates_where_one_dimension_is_blocked(format, dtype):
    """`inferLvlToDim` gives the dimensions in the order of the levels: rows and columns were swapped, out of bounds."""
    a = sparse(16, 24).to(dtype)
    x = torch.randn(24, 5).to(dtype)
    got = gs.sparse_jit(lambda a, x: (a @ x, a * 2))(gs.sparsify(a, format), x)
    expected = a.double() @ x.double()
    torch.testing.assert_close(got[0].double(), expected, atol=8 * torch.finfo(dtype).eps * 10, rtol=0)
    assert torch.equal(got[1].to_dense(), a * 2)


def test_inputs_are_not_memory_to_work_in():
    """One-shot bufferization takes the arguments of a function for memory that it may write."""
    a, x, b = sparse(16, 24), torch.randn(24, 5).double(), torch.randn(5).double()
    stored = gs.sparsify(a, gs.CSR)
    before = [t.clone() for t in (stored.values, x, b)]
    gs.sparse_jit(lambda a, x, b: (torch.relu(a @ x + b), a * 2, b * 2 + (a @ x).sum(0)))(stored, x, b)
    for now, then in zip((stored.values, x, b), before, strict=True):
        assert torch.equal(now, then)


def test_reads_of_what_was_written_before():
    """Canonicalization turns a load from `to_buffer` into an extract from the tensor as it was (a sum stays 0)."""
    a, x = torch.randint(-9, 9, (31,)), torch.randint(-9, 9, (31,))
    compiled = gs.sparse_jit(lambda a, x: a @ x)
    assert compiled(gs.sparsify(a, gs.Format("(i) -> (i : compressed)")), x) == a @ x


def test_the_result_is_in_the_callers_memory():
    """A `linalg.fill` that is fused into its reader becomes an allocation, and the result is never seen."""
    a, x, b = sparse(16, 24), torch.randn(24, 5).double(), torch.randn(16, 5).double()
    stored = gs.sparsify(a, gs.CSR)
    for function in (lambda a, x, b: a @ x, lambda a, x, b: a @ x + b, lambda a, x, b: torch.addmm(b, a, x)):
        with_garbage(16 * 5)
        torch.testing.assert_close(gs.sparse_jit(function)(stored, x, b), function(a, x, b))


# --- crashes


@pytest.mark.parametrize("format", [gs.NM(2, 4), gs.BSR((1, 4)), gs.BSR((4, 1)), gs.BSC((4, 1)), gs.BSR(4)], ids=str)
def test_one_of_two_dimensions_that_are_multiplied_is_blocked(format):
    """`sparse-reinterpret-map` crashes: n:m or 1xV as the right operand, Vx1 as the left one."""
    a = sparse(16, 24)
    a[:, 1::4] = a[:, 3::4] = 0
    x, y = torch.randn(24, 5).double(), torch.randn(5, 16).double()
    stored = gs.sparsify(a, format)
    got = gs.sparse_jit(lambda a, x, y: (a @ x, y @ a, a.mT @ y.mT, F.linear(x.mT, a)))(stored, x, y)
    for ours, expected in zip(got, (a @ x, y @ a, a.mT @ y.mT, x.mT @ a.mT), strict=True):
        torch.testing.assert_close(ours, expected)


@pytest.mark.parametrize("shape", [(1, 24), (16, 1), (1, 1)], ids=str)
def test_constants_in_indexing_maps(shape):
    """Sorting of loops crashes on a broadcast, an index that is the constant 0."""
    a = sparse(*shape, density=1.0) + 1
    x, y = torch.randn(16, 24).double(), torch.randn(shape[1], 5).double()
    stored = gs.sparsify(a, gs.CSR)
    torch.testing.assert_close(gs.sparse_jit(lambda a, y: a @ y)(stored, y), a @ y)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", gs.FallbackWarning)  # of a broadcast pattern
        torch.testing.assert_close(dense(gs.sparse_jit(lambda a, x: a * x)(stored, x)), a * x)


def dense(result):
    return result.to_dense() if isinstance(result, gs.SparseTensor) else result


@pytest.mark.parametrize("format", [gs.CSR, gs.CSC, gs.BSR(4)], ids=str)
def test_maxima_of_rows(format):
    """`pre-sparsification-rewrite` crashes on reductions by `maximumf`; so does softmax over a sparse operand."""
    mask = torch.rand(16, 24) < 0.5
    q, k = torch.randn(16, 8).double(), torch.randn(24, 8).double()

    def spelt_out(mask, q, k):
        scores = torch.where(mask, q @ k.mT, -math.inf)
        powers = torch.exp(scores - scores.amax(-1, keepdim=True))
        return powers / powers.sum(-1, keepdim=True)

    mask[:, 0] = True
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", gs.FallbackWarning)
        got = gs.sparse_jit(spelt_out)(gs.sparsify(mask, format), q, k)
    torch.testing.assert_close(dense(got), safe_softmax((q @ k.mT).masked_fill(~mask, -math.inf), -1))


@pytest.mark.parametrize("dtype", [torch.int8, torch.int16], ids=str)
def test_narrow_integers_and_numbers(dtype):
    """torch-mlir crashes on `mul` of int8 and a Python number, and of int8 and bool."""
    a = (torch.randint(-3, 4, (7, 9)) * (torch.rand(7, 9) < 0.5)).to(dtype)
    functions = {
        "*": lambda a: a * 2, "%": lambda a: a % 3, "-": lambda a: (a - 1) * a, "r-": lambda a: (1 - a) * a,
        "/": lambda a: a / 2, "bool": lambda a: a * (a > 1),
        "/ trunc": lambda a: torch.div(a, 2, rounding_mode="trunc"),
    }  # fmt: skip
    for name, function in functions.items():
        got = gs.sparse_jit(function)(gs.sparsify(a, gs.CSR)).to_dense()
        assert got.dtype == function(a).dtype, name
        assert torch.equal(got, function(a)), name


# --- limits that would show as wrong results, or as dense code


def test_transposes_keep_the_encoding():
    """`linalg.transpose` of an operand with an encoding drops that; the product would run on all entries."""
    a, x = sparse(16, 24), torch.randn(5, 16).double()
    stored = gs.sparsify(a, gs.CSR)
    for function in (lambda a, x: x @ a, lambda a, x: a.mT @ x.mT, lambda a, x: F.linear(x, a.mT)):
        compiled = gs.sparse_jit(function, fullgraph=True)
        torch.testing.assert_close(compiled(stored, x), function(a, x))
        assert "dense road" not in str(gs.explain(compiled, stored, x))


def test_named_operations_are_not_skipped():
    """The sparsifier says nothing of a named operation that was not generalised, and leaves it dense."""
    a, x = torch.stack([sparse(8, 12) for _ in range(3)]), torch.randn(3, 12, 5).double()
    stored = gs.sparsify(a, gs.CSR)
    for function in (torch.bmm, lambda a, x: torch.einsum("bij,bjk->bki", a, x)):
        compiled = gs.sparse_jit(function if function is not torch.bmm else lambda a, x: torch.bmm(a, x))
        torch.testing.assert_close(compiled(stored, x), function(a, x))
        assert "dense road" not in str(gs.explain(compiled, stored, x))


def test_the_same_tensor_twice():
    """Exporting a call with one object in several places merges the inputs (q = k = v becomes one argument)."""
    mask = torch.rand(16, 16) < 0.5

    def attention(q, k, v, mask):
        return torch.softmax((q @ k.mT).masked_fill(~mask, -math.inf), -1) @ v

    x, y = torch.randn(2, 16, 8).double(), torch.randn(2, 16, 8).double()
    compiled, stored = gs.sparse_jit(attention), gs.sparsify(mask, gs.CSR)
    for args in ((x, x, x), (x, y, y), (y, x, x), (x, y, x)):
        expected = safe_softmax((args[0] @ args[1].mT).masked_fill(~mask, -math.inf), -1) @ args[2]
        torch.testing.assert_close(compiled(*args, stored), expected)
    a = gs.sparsify(sparse(8, 8), gs.CSR)
    product = gs.sparse_jit(lambda a, b: a.to_dense() @ b)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", gs.FallbackWarning)
        torch.testing.assert_close(product(a, a.to_dense()), a.to_dense() @ a.to_dense())


def test_semi_structured_tensors_are_refused():
    """torch-mlir imports a SparseSemiStructuredTensor as if it were dense, in silence."""
    from torch.sparse import SparseSemiStructuredTensorCUTLASS

    half = torch.zeros(8, 4)  # packing needs a GPU; what a packed one is, does not
    packed = SparseSemiStructuredTensorCUTLASS(torch.Size([8, 8]), half, half, None, None, None)
    with pytest.raises(gs.TensorError, match=r"w is a SparseSemiStructuredTensorCUTLASS.*gs.NM\(2, 4\)"):
        gs.sparse_jit(lambda w, x: F.linear(x, w), w=gs.CSR)(packed, torch.randn(3, 8))
    with pytest.raises(gs.TensorError, match="an argument is a SparseSemiStructuredTensorCUTLASS"):
        gs.sparse_jit(lambda w, x: F.linear(x, w))(gs.sparsify(torch.eye(8), gs.CSR), packed)


def test_the_hand_off_is_text_without_weights():
    """MLIR 22 does not read the wheel's bytecode; and parameters are inlined as hexadecimal, unless arguments."""
    weight = torch.nn.Linear(512, 512)
    layer = gs.sparse_jit(weight, {"weight": gs.BSR(16)})
    text = gs.dump(layer, torch.randn(4, 512), stage="annotate")
    assert "func.func @main" in text
    assert len(text) < 20_000


def test_pipelines_are_not_given_as_text():
    """`parsePassPipeline` with a `builtin.module(...)` anchor runs nothing, and says nothing."""
    a, x = sparse(16, 24), torch.randn(24, 5).double()
    stored = gs.sparsify(a, gs.CSR)
    assert "gossamer.matmul" in gs.dump(lambda a, x: a @ x, stored, x, stage="raise")
    assert "linalg." not in gs.dump(lambda a, x: a @ x, stored, x, stage="lower")


def test_sums_of_half_precision():
    """torch-mlir sums bfloat16 in bfloat16: from 256 on, adding 1 changes nothing."""
    ones = gs.sparsify(torch.ones(40, 50, dtype=torch.bfloat16), gs.CSR)
    total, rows, mean = gs.sparse_jit(lambda a: (a.sum(), a.sum(0), a.mean()))(ones)
    assert total == 2000
    assert mean == 1
    assert torch.equal(rows, torch.full((50,), 40, dtype=torch.bfloat16))


def test_gelu_by_tanh():
    """torch-mlir has 0.797724 for sqrt(2 / pi)."""
    a, x = sparse(16, 24), torch.randn(24, 5).double()
    function = lambda a, x: F.gelu(a @ x, approximate="tanh")  # noqa: E731
    got = gs.sparse_jit(function)(gs.sparsify(a, gs.CSR), x)
    torch.testing.assert_close(got, function(a, x), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("processor", ["x86-64-v3", "native"])
def test_rounding_to_half_precision(processor):
    """LLVM calls the compiler's library to round to bfloat16, or has the processor do it, which flushes subnormals."""
    numbers = torch.tensor([[1e-40, 1.00390625, 1.01171875, -65519.0, math.inf, math.nan, 3.0e38, -1e-39]])
    for wide in (torch.float32, torch.float64):
        stored = gs.sparsify(numbers.to(wide), gs.CSR)
        for half in (torch.bfloat16, torch.float16):
            narrow = {torch.bfloat16: lambda a: a.to(torch.bfloat16), torch.float16: lambda a: a.to(torch.float16)}[
                half
            ]
            assert "__trunc" not in gs.dump(narrow, stored, stage="asm", target=processor)
            got = gs.sparse_jit(narrow)(stored).to_dense()
            torch.testing.assert_close(got, numbers.to(wide).to(half), rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize(
    ("half", "processor", "called"),
    [(torch.bfloat16, "x86-64-v3", "__truncsfbf2"), (torch.float16, "x86-64", "__truncsfhf2")],
    ids=["bfloat16", "float16"],
)
def test_halves_on_a_processor_without_them(
    monkeypatch: pytest.MonkeyPatch, half: torch.dtype, processor: str, called: str
) -> None:
    """LLVM keeps what goes from block to block in float32 there, and rounds it by a call."""
    monkeypatch.setitem(library().__dict__, "host_cpu", processor)
    monkeypatch.setitem(library().__dict__, "host_features", "")
    dense = torch.randn(2, 7, 16).to(half) * (torch.rand(2, 7, 16) < 0.3)
    dense[0, 3, 1] = math.nan
    csf = gs.Format("(i, j, k) -> (k : compressed, i : compressed, j : compressed)")
    stored = gs.sparsify(dense, csf)
    compiled = gs.sparse_jit(lambda a: a.amax((0, 2)))
    assert called in gs.dump(compiled, stored, stage="asm", target=processor)
    result = compiled(stored)
    torch.testing.assert_close(result, dense.amax((0, 2)), rtol=0, atol=0, equal_nan=True)
