"""What torch-mlir's own tests of its sparse importer list, most of it switched off there, runs here compiled."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import gossamer as gs
from gossamer.jit import engine_of
from test_every_format import matrix

pytestmark = pytest.mark.filterwarnings("error::gossamer.FallbackWarning")  # nothing is to run densely


def roads(f) -> set[str]:
    """Which road each operation of each kernel took."""
    kernels = [
        kernel for fitting in engine_of(f).programs.values() for program in fitting for kernel in program.kernels
    ]
    return {e.road for kernel in kernels for region in kernel.compiled.values() for e in region.signature.report}


@torch.no_grad()
def check(function, *args, **formats):
    """Compiled with some arguments sparse, it gives what it gives densely; returns the results as they came."""
    f = gs.sparse_jit(function, **formats)
    got, expected = f(*args), function(*args)
    pairs = zip(got, expected, strict=True) if isinstance(got, tuple) else [(got, expected)]
    for ours, theirs in pairs:
        torch.testing.assert_close(ours.to_dense() if isinstance(ours, gs.SparseTensor) else ours, theirs)
    assert roads(f) == {"general"}
    return got


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def real(*shape: int) -> torch.Tensor:
    return torch.randn(shape, dtype=torch.float64)


@pytest.mark.parametrize("format", [gs.CSR, gs.CSC, gs.COO, gs.BSR(4), gs.NM(2, 4)], ids=str)
def test_spmv_and_spmm(format):
    check(lambda a, v, x: (a @ v, torch.mv(a, v), a @ x), matrix(24, 32), real(32), real(32, 5), a=format)


def test_coo_of_three_dimensions():
    x = torch.stack([matrix(8, 16), torch.zeros(8, 16).double(), matrix(8, 16) * 2])
    coo = gs.Format("(i, j, k) -> (i : compressed(nonunique), j : singleton(nonunique), k : singleton)")
    scaled, *_ = check(lambda x, y: (x * y, x.sum(), x.sum((1, 2))), x, real(3, 8, 16), x=coo)
    assert isinstance(scaled, gs.SparseTensor)
    assert scaled.format == coo


@pytest.mark.parametrize("format", [gs.CSR, gs.COO, gs.BSR(4)], ids=str)
def test_elementwise_and_sum(format):
    a, x = matrix(24, 32), real(24, 32)
    results = check(lambda a, x: (-a, a * x, x * a, (2 * a + a * x) / 3, a.sum(), a.sum(0)), a, x, a=format)
    assert all(isinstance(result, gs.SparseTensor) for result in results[:4])


def test_activations_stay_sparse():
    results = check(lambda a: (F.relu(a), torch.tanh(a), F.gelu(a), a.abs().sqrt()), matrix(24, 32), a=gs.CSR)
    assert all(isinstance(result, gs.SparseTensor) for result in results)


@torch.no_grad()
def test_an_activation_is_stored_sparsely():
    """torch-mlir's `x.relu().to_sparse()`, and a product with it."""

    def function(x, w):
        return gs.annotate(F.relu(x), gs.CSR) @ w

    x, w = real(24, 32), real(32, 5)
    f = gs.sparse_jit(function)
    torch.testing.assert_close(f(x, w), F.relu(x) @ w)
    assert roads(f) == {"general"}


def test_feature_scaling():
    """D^-1 X with D diagonal, stored as such."""
    x = torch.rand(24, 8, dtype=torch.float64) + 0.1
    check(lambda d, x: d @ x, torch.diag(1 / x.sum(1)), x, d=gs.CSR)
    # a sparse matrix scaled by its own row sums
    (scaled,) = (check(lambda a: a / (a.sum(1, keepdim=True) + 40), matrix(24, 32), a=gs.CSR),)
    assert isinstance(scaled, gs.SparseTensor)


class GraphConvolution(nn.Module):
    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.weight = nn.Parameter(real(inputs, outputs))
        self.bias = nn.Parameter(real(outputs))

    def forward(self, x, adjacency):
        return adjacency @ (x @ self.weight) + self.bias


class TwoLayers(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = GraphConvolution(8, 16), GraphConvolution(16, 4)

    def forward(self, x, adjacency):
        return F.log_softmax(self.second(F.relu(self.first(x, adjacency)), adjacency), -1)


def graph(nodes: int) -> torch.Tensor:
    edges = (torch.rand(nodes, nodes) < 0.2) | torch.eye(nodes, dtype=torch.bool)
    return edges / edges.sum(1, keepdim=True).double()


@pytest.mark.parametrize("format", [gs.CSR, gs.COO], ids=str)
@pytest.mark.parametrize("layers", [lambda: GraphConvolution(8, 4), TwoLayers], ids=["one layer", "two layers"])
@torch.no_grad()
def test_graph_convolution(layers, format):
    model, x, adjacency = layers(), real(24, 8), graph(24)
    compiled = gs.sparse_jit(adjacency=format)(model)
    torch.testing.assert_close(compiled(x, adjacency), model(x, adjacency))
    assert roads(compiled) == {"general"}


@torch.no_grad()
def test_graph_convolution_with_structured_weights():
    """The weights n:m; and a batch of graphs."""

    class Layer(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(16, 8, dtype=torch.float64)

        def forward(self, x, adjacency):
            return adjacency @ self.linear(x)

    model, x, adjacency = Layer(), real(24, 16), graph(24)
    compiled = gs.sparse_jit(model, {"linear.weight": gs.NM(2, 4)})
    weight = model.linear.weight.to_dense()  # two of every four are left
    torch.testing.assert_close(compiled(x, adjacency), adjacency @ F.linear(x, weight, model.linear.bias))
    batch = torch.stack([graph(24), graph(24), graph(24)])
    check(lambda a, x, w: a @ (x @ w), batch, real(3, 24, 8), real(8, 4), a=gs.CSR)
