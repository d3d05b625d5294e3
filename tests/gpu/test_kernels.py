"""Compiled kernels on a GPU against PyTorch on dense tensors."""

import pytest
import torch
from torch.nn import functional as F

import gossamer as gs
from tests.gpus import needs_cuda

pytestmark = [
    needs_cuda,
    pytest.mark.filterwarnings("error::gossamer.FallbackWarning"),  # nothing is to run densely
]

FORMATS = {
    "CSR": gs.CSR,
    "CSC": gs.CSC,
    "COO": gs.COO,
    "DCSR": gs.DCSR,
    "BSR(4)": gs.BSR(4),
    "BSR((2, 8))": gs.BSR((2, 8)),
    "BSC(4)": gs.BSC(4),
    "BlockELL(4)": gs.BlockELL(4),
    "NM(2, 4)": gs.NM(2, 4),
}
DTYPES = [torch.float32, torch.float16, torch.bfloat16, torch.float64]


def matrix(rows: int, columns: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Entries 0 and 2 of every four, but for some empty blocks and rows: fits every format."""
    dense = torch.zeros(rows, columns, dtype=dtype, device="cuda")
    dense[:, ::2] = torch.randn(rows, columns // 2, device="cuda").to(dtype)
    dense[4:8, 8:24] = 0
    dense[16:20] = 0
    return dense


def random(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(shape, device="cuda").to(dtype)


def close(got, expected, dtype: torch.dtype) -> None:
    """Sums of half precision are made in f32, and rounded once."""
    bound = {torch.float64: 1e-12, torch.float32: 1e-4, torch.float16: 1e-2, torch.bfloat16: 6e-2}[dtype]
    if isinstance(got, gs.SparseTensor):
        got = got.to_dense()
    assert got.is_cuda
    torch.testing.assert_close(got.double(), expected.double(), rtol=bound, atol=bound)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("format", FORMATS.values(), ids=FORMATS)
@torch.no_grad()
def test_products(format, dtype) -> None:
    w = matrix(24, 32, dtype)
    stored = gs.sparsify(w, format)
    x, b = random(7, 32, dtype=dtype), random(24, dtype=dtype)
    wide = w.double()
    for columns in (1, 5, 8, 64):
        y = random(32, columns, dtype=dtype)
        close(gs.sparse_jit(lambda w, y: w @ y)(stored, y), wide @ y.double(), dtype)
    close(gs.sparse_jit(lambda w, v: w @ v)(stored, x[0]), wide @ x[0].double(), dtype)
    linear = gs.sparse_jit(lambda x, w, b: F.relu(F.linear(x, w, b)))
    close(linear(x, stored, b), F.relu(x.double() @ wide.T + b.double()), dtype)


@pytest.mark.parametrize("depth", [1, 8, 64, 100])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("format", FORMATS.values(), ids=FORMATS)
@torch.no_grad()
def test_sampled_product(format, dtype, depth) -> None:
    w = matrix(24, 32, dtype)
    a, b = random(24, depth, dtype=dtype), random(depth, 32, dtype=dtype)
    f = gs.sparse_jit(lambda w, a, b: w * (a @ b))
    close(f(gs.sparsify(w, format), a, b), w.double() * (a.double() @ b.double()), dtype)
    f = gs.sparse_jit(lambda w, a, b: w * (a @ b.mT))
    close(f(gs.sparsify(w, format), a, b.mT.contiguous()), w.double() * (a.double() @ b.double()), dtype)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("format", FORMATS.values(), ids=FORMATS)
@torch.no_grad()
def test_elementwise(format, dtype) -> None:
    w, row = matrix(24, 32, dtype), random(32, dtype=dtype)
    stored = gs.sparsify(w, format)
    close(gs.sparse_jit(lambda w: F.relu(w) * 2)(stored), F.relu(w) * 2, dtype)
    close(gs.sparse_jit(lambda w, row: w * row)(stored, row), w * row, dtype)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("format", [gs.CSR, gs.BSR(4), gs.COO, gs.CSC], ids=["CSR", "BSR", "COO", "CSC"])
@torch.no_grad()
def test_softmax_and_attention(format, dtype) -> None:
    mask = matrix(24, 32) != 0
    scores = random(24, 32, dtype=dtype).masked_fill(~mask, -torch.inf)
    stored = gs.sparsify(scores, format, fill=-torch.inf)
    expected = torch.softmax(scores.double(), -1).nan_to_num(0)
    close(gs.sparse_jit(lambda s: torch.softmax(s, -1))(stored), expected, dtype)

    def attention(q, k, v, mask):
        scores = q @ k.mT * q.shape[-1] ** -0.5
        return torch.softmax(scores.masked_fill(~mask, -torch.inf), -1) @ v

    q, k, v = (random(2, n, 40, dtype=dtype) for n in (24, 32, 32))
    got = gs.sparse_jit(attention)(q, k, v, gs.sparsify(mask, format))
    close(got, attention(q.double(), k.double(), v.double(), mask).nan_to_num(0), dtype)


@pytest.mark.parametrize("dim", [0, 1, None])
@pytest.mark.parametrize("format", FORMATS.values(), ids=FORMATS)
@torch.no_grad()
def test_reductions(format, dim) -> None:
    w = matrix(24, 32)
    stored = gs.sparsify(w, format)
    for f in (torch.sum, torch.amax):
        reduce = (lambda w, f=f: f(w)) if dim is None else (lambda w, f=f: f(w, dim))
        close(gs.sparse_jit(reduce)(stored), reduce(w), torch.float32)


@pytest.mark.parametrize("format", [gs.CSR, gs.BSR(4), gs.COO], ids=["CSR", "BSR", "COO"])
def test_gradients(format) -> None:
    w, x, mask = matrix(24, 32), random(7, 32), matrix(24, 32)
    results = []
    for sparse in (True, False):
        leaf, y = w.clone().requires_grad_(), x.clone().requires_grad_()

        def loss(w, y):
            return (F.gelu(F.linear(y, w)) ** 2).sum()

        if sparse:
            stored = gs.sparsify(leaf, format)
            gs.sparse_jit(loss)(stored, y).backward()
        else:
            loss(leaf, y).backward()
        results.append((leaf.grad * (mask != 0), y.grad))
    for got, expected in zip(*results, strict=True):
        close(got, expected, torch.float32)


@torch.no_grad()
def test_rows_of_every_length() -> None:
    dense = torch.zeros(300, 5000, device="cuda")
    dense[0] = torch.randn(5000)
    dense[7:9, ::3] = 1.5
    dense[100:200] = torch.randn(100, 5000) * (torch.rand(100, 5000) < 0.01)
    stored = gs.sparsify(dense, gs.CSR)
    y = random(5000, 32)
    close(gs.sparse_jit(lambda w, y: w @ y)(stored, y), dense.double() @ y.double(), torch.float32)
    close(gs.sparse_jit(lambda w, y: w @ y)(stored, y[:, 0]), dense.double() @ y[:, 0].double(), torch.float32)


def skewed(rows: int, columns: int) -> torch.Tensor:
    """Row lengths as of a graph, in no order, down to none: 0 for a third of the rows, `columns` for one."""
    lengths = (columns / torch.arange(1, rows + 1).pow(1.1)).long()
    lengths[rows * 2 // 3 :] = 0
    kept = torch.rand(rows, columns).argsort(1).argsort(1) < lengths[torch.randperm(rows)][:, None]
    return (torch.randn(rows, columns) * kept).cuda()


# Rows of every kind: few and long, many and short, one longer than all others together, none at all, all empty.
SHAPES = {
    "few": lambda: random(13, 700) * (random(13, 700) > 0),
    "many": lambda: random(3200, 150) * (random(3200, 150) > 1.8),
    "skewed": lambda: skewed(517, 2003),
    "long": lambda: torch.cat([random(1, 6000), torch.zeros(36, 6000, device="cuda"), random(1, 6000)]),
    "one": lambda: random(1, 3001),
    "one entry": lambda: torch.eye(9, 3000, device="cuda") * torch.eye(9, 1, device="cuda"),
    "no rows": lambda: torch.zeros(0, 17, device="cuda"),
    "empty": lambda: torch.zeros(70, 2000, device="cuda"),
}


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@torch.no_grad()
def test_rows_of_every_kind(shape, dtype) -> None:
    """Widths for strips of a line and of a warp, whole and ragged, and ones that are no multiple of 16 bytes."""
    dense = shape().to(dtype)
    stored = gs.sparsify(dense, gs.CSR)
    f = gs.sparse_jit(lambda w, y: w @ y)
    for columns in (0, 1, 7, 8, 63, 64, 65, 128, 136, 264):
        y = random(dense.shape[1], columns, dtype=dtype) if columns else random(dense.shape[1], dtype=dtype)
        expected = dense.double() @ y.double()
        scale = expected.abs().max() if expected.numel() else torch.ones(())
        scale = scale.clamp(min=1)
        got = f(stored, y)
        close(got.double() / scale, expected / scale, dtype)
        assert torch.equal(got, f(stored, y))  # in the same order every time


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("format", [gs.CSR, gs.BSR(4)], ids=["CSR", "BSR"])
@torch.no_grad()
def test_linear(format, dtype) -> None:
    """Few tokens, as many as fill a vector and not, and of several batches; depths of whole vectors, and not."""
    f = gs.sparse_jit(lambda x, w, b: torch.relu(F.linear(x, w, b)))
    for depth in (32, 36, 2048):
        w = matrix(24, depth, dtype)
        stored, b = gs.sparsify(w, format), random(24, dtype=dtype)
        for tokens in ((1,), (4,), (5,), (64,), (2, 2), (3, 8)):
            x = random(*tokens, depth, dtype=dtype)
            expected = torch.relu(F.linear(x.double(), w.double(), b.double()))
            scale = expected.abs().max()
            close(f(x, stored, b).double() / scale, expected / scale, dtype)


@torch.no_grad()
def test_what_is_not_stored_does_not_count() -> None:
    """Lanes beyond the end of a row load what others do, and sum nothing: not even 0 times infinity."""
    dense = torch.zeros(5000, 40, device="cuda")
    dense[::7, 3] = 1.0
    dense[1, 5:9] = 2.0
    y = random(40, 128)
    y[4], y[9:] = torch.inf, torch.nan
    stored = gs.sparsify(dense, gs.CSR)
    for rows in (5000, 100):
        part = stored if rows == 5000 else gs.sparsify(dense[:rows], gs.CSR)
        close(gs.sparse_jit(lambda w, y: w @ y)(part, y), dense[:rows] @ y.nan_to_num(0, 0, 0), torch.float32)


@torch.no_grad()
def test_graph_capture_and_streams() -> None:
    w, y = matrix(24, 32), random(32, 16)
    stored = gs.sparsify(w, gs.CSR)
    scores = gs.sparsify(w.masked_fill(w == 0, -torch.inf), gs.COO, fill=-torch.inf)  # its softmax has temporaries
    f = gs.sparse_jit(lambda w, y, s: (w @ y, torch.softmax(s, -1)))
    f(stored, y, scores)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        f(stored, y, scores)
        close(f(stored, y, scores)[0], w @ y, torch.float32)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        got, shares = f(stored, y, scores)
    y.copy_(torch.randn(32, 16))
    graph.replay()
    close(got, w @ y, torch.float32)
    close(shares, torch.softmax(scores.to_dense(), -1).nan_to_num(0), torch.float32)


@pytest.mark.parametrize("shape", ["skewed", "long", "one"])
@torch.no_grad()
def test_graph_capture_with_rows_in_pieces(shape) -> None:
    """A kernel that may begin before the one ahead of it is done is captured as such."""
    dense = SHAPES[shape]()
    stored, f = gs.sparsify(dense, gs.CSR), gs.sparse_jit(lambda w, y: torch.relu(w @ y))
    for columns in (1, 64, 100, 512):
        y = random(dense.shape[1], columns)
        f(stored, y)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            for _ in range(3):
                got = f(stored, y)
        for _ in range(3):
            y.copy_(random(dense.shape[1], columns))
            graph.replay()
            close(got, torch.relu(dense.double() @ y.double()), torch.float32)


@torch.no_grad()
def test_kernels_that_overlap() -> None:
    """Nothing is read before it is there, nor overwritten before it was read: many calls in a row, with the memory of
    temporaries full of what others left in it, give the same bits as one alone.
    """
    f = gs.sparse_jit(lambda w, y: w @ y)
    cases = []
    for shape in ("skewed", "long", "one", "few"):
        for dtype in (torch.float32, torch.float16):
            dense = SHAPES[shape]().to(dtype)
            stored = gs.sparsify(dense, gs.CSR)
            for columns in (64, 100, 256):
                y = random(dense.shape[1], columns, dtype=dtype)
                torch.cuda.synchronize()
                alone = f(stored, y)
                torch.cuda.synchronize()
                close(alone, dense.double() @ y.double(), dtype)
                cases.append((stored, y, alone))
    for _ in range(20):
        found = []
        for stored, y, _ in cases:
            torch.full((1 << 18,), torch.nan, device="cuda")  # and what was there is given back
            found.append(f(stored, y))
        assert all(torch.equal(got, alone) for got, (_, _, alone) in zip(found, cases, strict=True))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@torch.no_grad()
def test_softmax_of_a_vector(dtype) -> None:
    line = gs.Format("(i) -> (i : compressed)")
    for length, density in ((1, 1), (7, 0.5), (65, 0.5), (10007, 0.3), (100, 0)):
        scores = random(length, dtype=dtype).masked_fill(torch.rand(length, device="cuda") >= density, -torch.inf)
        stored = gs.sparsify(scores, line, fill=-torch.inf)
        expected = torch.softmax(scores.double(), -1).nan_to_num(0)
        close(gs.sparse_jit(lambda s: torch.softmax(s, -1))(stored), expected, dtype)


@torch.no_grad()
def test_operands_that_do_not_lie_well() -> None:
    w = matrix(24, 32)
    stored = gs.sparsify(w, gs.CSR)
    f = gs.sparse_jit(lambda w, y: w @ y)
    memory = random(32 * 16 + 1)
    y = memory[1:].view(32, 16)  # four bytes off
    close(f(stored, y), w @ y, torch.float32)
    y = random(16, 32).mT
    close(f(stored, y), w @ y, torch.float32)
    with pytest.raises(gs.GossamerError, match="cpu"):
        f(stored, y.cpu())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
@torch.no_grad()
def test_long_rows_are_cut_into_pieces(dtype) -> None:
    """Of a matrix wide enough for that; the last piece is short, and so is the row behind it."""
    dense = torch.zeros(40, 20_000, device="cuda")
    dense[3] = torch.randn(20_000, device="cuda")
    dense[4, :700] = 1.0
    dense[10:30, ::17] = 0.5
    dense[39, 5:9000] = torch.randn(8995, device="cuda")
    dense = dense.to(dtype)
    stored, b = gs.sparsify(dense, gs.CSR), random(20_000, 40, dtype=dtype)
    f = gs.sparse_jit(lambda w, y: torch.relu(w @ y + 1))
    for columns in (40, 7):
        y = b[:, :columns].contiguous()
        expected = torch.relu(dense.double() @ y.double() + 1)
        scale = expected.abs().max()
        got = f(stored, y)
        close(got.double() / scale, expected / scale, torch.float32 if dtype == torch.float32 else torch.float16)
        assert torch.equal(got, f(stored, y))  # in the same order every time
    expected = dense.double() @ b[:, 0].double()
    got = gs.sparse_jit(lambda w, v: w @ v)(stored, b[:, 0].contiguous())
    close(got.double() / expected.abs().max(), expected / expected.abs().max(), torch.float16)


ELEMENTARY = ["acos", "acosh", "asin", "asinh", "atan", "atanh", "cos", "cosh", "exp2", "expm1", "log10", "log1p",
              "log2", "sin", "sinh", "tan", "tanh"]  # fmt: skip


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("name", ELEMENTARY)
@torch.no_grad()
def test_elementary_functions(name, dtype) -> None:
    """As PyTorch's on the CPU in f64, but for the last bits; of large numbers, too, and of what has no value."""
    function, wide = getattr(torch, name), torch.float64
    special = [0.0, -0.0, 1, -1, torch.inf, -torch.inf, torch.nan, 2.0**31, 1e22, 0.5]
    numbers = [
        torch.tensor(special),
        torch.linspace(-1, 1, 1001),
        torch.linspace(-30, 700, 4001),
        10 * torch.randn(4000),
    ]
    if name in ("sin", "cos", "tan"):
        numbers.append(
            torch.rand(4000) * 10 ** torch.linspace(0, 37 if dtype == torch.float32 else 300, 4000, dtype=wide)
        )
    x = torch.cat([one.to(dtype) for one in numbers])
    ones = gs.sparsify(torch.ones(x.numel(), 1, dtype=dtype), gs.CSR)
    found = gs.sparse_jit(lambda w, x: w * function(x))(ones.to("cuda"), x[:, None].cuda()).to_dense().cpu()[:, 0]
    bound = 2e-15 if dtype == wide else 1e-6
    torch.testing.assert_close(found, function(x.double()).to(dtype), rtol=bound, atol=0, equal_nan=True)
