"""torch's functions on sparse tensors outside compiled code."""

import warnings

import pytest
import torch
import torch.nn.functional as F

import gossamer as gs
from gossamer import ops

INF = float("inf")
DENSE = torch.tensor([[0.0, 1, 0, -2], [0, 0, 0, 0], [3, 0, 4, 0]])


@pytest.fixture(autouse=True)
def _warn_anew(monkeypatch):
    monkeypatch.setattr(ops, "_warned", set())


@pytest.fixture
def no_fallback():
    with warnings.catch_warnings():
        warnings.simplefilter("error", gs.FallbackWarning)
        yield


def assert_sparse(result: object, dense: torch.Tensor) -> None:
    assert isinstance(result, gs.SparseTensor)
    assert torch.equal(result.to_dense(), dense)
    assert result.dtype == dense.dtype


@pytest.mark.usefixtures("no_fallback")
@pytest.mark.parametrize(
    "function",
    [
        torch.abs,
        torch.exp,
        torch.sigmoid,
        torch.neg,
        torch.isfinite,
        torch.logical_not,
        F.relu,
        F.gelu,
        lambda x: -x,
        lambda x: abs(x),
        lambda x: x * 2,
        lambda x: 2 * x,
        lambda x: 1 - x,
        lambda x: 2 / (x + 1.5),
        lambda x: x / 3,
        lambda x: x**2,
        lambda x: x > 0,
        lambda x: x <= 0,
        lambda x: x.ne(0),
        lambda x: torch.eq(x, 0),
        lambda x: x.clamp(min=-1, max=2),
        lambda x: x.tanh(),
        lambda x: F.leaky_relu(x, 0.1),
        lambda x: F.softplus(x, beta=2),
        lambda x: x.half(),
        lambda x: x.bool(),
        lambda x: x.to(torch.float64),
        lambda x: torch.add(x, 1, alpha=2),
    ],
)
@pytest.mark.parametrize("fmt", [gs.CSR, gs.BSR((1, 2)), gs.BlockELL((3, 2))], ids=str)
def test_elementwise_functions_act_on_values_and_fill(function, fmt):
    assert_sparse(function(gs.sparsify(DENSE, fmt)), function(DENSE))


@pytest.mark.usefixtures("no_fallback")
def test_masks():
    mask = gs.sparsify(DENSE != 0, gs.BSR((1, 2)))
    assert_sparse(~mask, DENSE == 0)
    assert (~mask).fill is True
    scores = gs.sparsify(torch.where(DENSE != 0, DENSE, -INF), gs.CSR, fill=-INF)
    assert_sparse(scores * 2, torch.where(DENSE != 0, DENSE * 2, -INF))
    assert_sparse(scores.exp(), torch.where(DENSE != 0, DENSE.exp(), 0))
    assert (scores.exp()).fill == 0.0


@pytest.mark.usefixtures("no_fallback")
def test_elementwise_functions_keep_the_pattern_and_the_graph():
    x = gs.sparsify(DENSE, gs.CSR).requires_grad_()
    y = (x * 3).relu()
    assert y.pattern is x.pattern
    y.to_dense().sum().backward()
    assert x.values.grad.tolist() == [3, 0, 3, 3]


@pytest.mark.usefixtures("no_fallback")
@pytest.mark.parametrize(
    "function",
    [
        lambda x: x.view(2, 3, 3, 4),
        lambda x: x.reshape((1, 6, 3, 4)),
        lambda x: x.unsqueeze(0),
        lambda x: x[None],
        lambda x: x[:, None],
        lambda x: x[None, ..., :],
        lambda x: x.unsqueeze(1).squeeze(1),
        lambda x: x.view(2, 3, 3, 4).flatten(0, 1),
        lambda x: x.mT,
        lambda x: x.transpose(-1, -2),
        lambda x: x.transpose(0, 1),
        lambda x: torch.permute(x, (2, 0, 1)),
        lambda x: x.permute(2, 1, 0),
        lambda x: x.contiguous(),
        lambda x: x.clone(),
        lambda x: x.detach(),
        lambda x: torch.squeeze(x),
    ],
)
def test_views_stay_sparse_and_share_the_values(function):
    dense = DENSE.expand(6, 3, 4)
    x = gs.sparsify(dense, gs.CSR)
    y = function(x)
    assert_sparse(y, function(dense))


def test_transposes_are_relabelled():
    x = gs.sparsify(DENSE, gs.CSR)
    assert x.T.format == gs.CSC
    assert x.mT.coordinates(1) is x.coordinates(1)
    assert_sparse(x.t(), DENSE.T)


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (lambda x: x @ torch.ones(4), "matmul"),
        (lambda x: torch.ones(3) @ x, "matmul"),
        (lambda x: F.linear(torch.ones(2, 4), x), "linear"),
        (lambda x: x + torch.ones(4), "add"),
        (lambda x: torch.ones(4) - x, "sub"),
        (lambda x: x.sum(), "sum"),
        (lambda x: torch.ones(3, 4).masked_fill(x.bool(), 0), "masked_fill"),
        (lambda x: torch.cat([x, torch.ones(1, 4)]), "cat"),
        (lambda x: x[[0, 1], [2, 3]], "getitem"),
        (lambda x: x.softmax(-1), "softmax"),
    ],
)
def test_all_else_runs_densely_with_a_warning_that_names_it(function, name):
    x = gs.sparsify(DENSE, gs.CSR)
    with pytest.warns(gs.FallbackWarning, match=f"^{name} of a SparseTensor runs on dense tensors"):
        result = function(x)
    assert torch.equal(result, function(DENSE))


def test_one_warning_for_each_operation():
    x = gs.sparsify(DENSE, gs.CSR)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(3):
            x.sum()
            x.mean()
    assert [str(w.message).split()[0] for w in caught if w.category is gs.FallbackWarning] == ["sum", "mean"]


def test_dense_results_are_differentiable():
    x = gs.sparsify(DENSE, gs.CSR).requires_grad_()
    with pytest.warns(gs.FallbackWarning):
        (x @ torch.ones(4)).sum().backward()
    assert x.values.grad.tolist() == [1, 1, 1, 1]


def test_no_methods_that_change_a_tensor_in_place():
    x = gs.sparsify(DENSE, gs.CSR)
    with pytest.raises(AttributeError, match="no attribute 'add_'"):
        x.add_(1)
    with pytest.raises(AttributeError, match="no attribute 'colour'"):
        _ = x.colour
    with pytest.raises(AttributeError):
        _ = x.is_sparse


def test_tensors_compare_as_objects():
    x, y = (gs.sparsify(DENSE, gs.CSR) for _ in range(2))
    assert x != y
    assert x in {x}
