"""Sparse weights of modules."""

import copy

import pytest
import torch
from torch import nn

import gossamer as gs
from gossamer.parameters import attach, detach

pytestmark = pytest.mark.filterwarnings("ignore::gossamer.FallbackWarning")


def sparse_linear(fmt: gs.Format = gs.CSR, density: float = 0.5) -> nn.Linear:
    module = nn.Linear(8, 6)
    return attach(module, "weight", gs.sparsify(module.weight.detach(), fmt, by=gs.magnitude(density)))


@pytest.mark.parametrize("fmt", [gs.CSR, gs.COO, gs.BSR(2), gs.NM(2, 4)], ids=str)
def test_a_weight_is_its_values(fmt):
    module = sparse_linear(fmt)
    weight = module.weight
    assert isinstance(weight, gs.SparseTensor)
    assert isinstance(weight.values, nn.Parameter)
    assert weight.format == fmt
    named = dict(module.named_parameters())
    assert set(named) == {"bias", "parametrizations.weight.original"}
    assert named["parametrizations.weight.original"] is weight.values
    assert len(list(module.buffers())) == sum(a is not None for a in weight.pattern._arrays)
    x = torch.randn(3, 8)
    torch.testing.assert_close(module(x), x @ weight.to_dense().mT + module.bias)


def test_training():
    module = sparse_linear()
    before = module.weight.to_dense().detach().clone()
    optimizer = torch.optim.AdamW(module.parameters(), lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        module(torch.randn(3, 8)).square().sum().backward()
        assert module.weight.values.grad.shape == (24,)
        nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        optimizer.step()
    after = module.weight.to_dense().detach()
    assert not torch.equal(after, before)
    assert torch.equal(after != 0, before != 0)


def test_the_pattern_is_one_object():
    module = sparse_linear()
    assert module.weight.pattern is module.weight.pattern


def test_moves():
    module = sparse_linear().to(torch.float64)
    assert module.weight.dtype == torch.float64
    assert module.weight.coordinates(1).dtype == torch.int32
    module.to("meta")
    assert module.weight.device.type == "meta"
    assert module.weight.pattern.device.type == "meta"


def test_copies():
    module = sparse_linear()
    other = copy.deepcopy(module)
    assert other.weight.pattern == module.weight.pattern
    assert other.weight.coordinates(1).data_ptr() != module.weight.coordinates(1).data_ptr()
    with torch.no_grad():
        other.weight.values.zero_()
    assert module.weight.values.count_nonzero() == 24


def test_state_dict(tmp_path):
    module, other = sparse_linear(), sparse_linear()
    shared = other.weight.pattern
    assert other.weight.pattern != module.weight.pattern
    torch.save(module.state_dict(), tmp_path / "model.pt")
    assert set(module.state_dict()) == {
        "bias",
        "parametrizations.weight.original",
        "parametrizations.weight.0.positions_1",
        "parametrizations.weight.0.coordinates_1",
    }
    other.load_state_dict(torch.load(tmp_path / "model.pt", weights_only=True))
    assert other.weight.pattern == module.weight.pattern
    assert torch.equal(other.weight.to_dense(), module.weight.to_dense())
    assert shared != module.weight.pattern  # a pattern that others may share has not changed


def test_indices_are_checked_as_they_are_loaded():
    module = sparse_linear()
    state = module.state_dict()
    state["parametrizations.weight.0.coordinates_1"] = state["parametrizations.weight.0.coordinates_1"] + 100
    with pytest.raises(gs.TensorError, match="is out of range"):
        module.load_state_dict(state)


def test_other_numbers_of_entries_do_not_load():
    module = sparse_linear()
    with pytest.raises(
        RuntimeError, match=r"coordinates_1: the checkpoint stores another pattern, \(12,\) against \(24,\)"
    ):
        module.load_state_dict(sparse_linear(density=0.25).state_dict())
    module.weight.validate()


def test_functional_call():
    module = sparse_linear()
    values = {name: torch.zeros_like(p) for name, p in module.named_parameters()}
    assert torch.func.functional_call(module, values, (torch.randn(3, 8),)).count_nonzero() == 0


def test_a_new_name_and_a_frozen_one():
    module = nn.Module()
    attach(module, "mask", gs.sparsify(torch.eye(4) > 0, gs.CSR))
    assert module.mask.dtype == torch.bool
    assert not module.mask.requires_grad
    frozen = nn.Linear(4, 4).requires_grad_(False)
    attach(frozen, "weight", gs.sparsify(frozen.weight, gs.CSR))
    assert not frozen.weight.requires_grad


def test_two_weights_in_one_module():
    module = nn.Bilinear(2, 2, 2)
    module.other = nn.Parameter(torch.eye(4))
    attach(module, "other", gs.sparsify(torch.eye(4), gs.CSR))
    attach(module, "bias", gs.sparsify(torch.ones(2), gs.Format("(i) -> (i : compressed)")))
    assert module.bias.nnz == 2
    assert module.other.nnz == 4


def test_detach():
    module = sparse_linear()
    sparse = detach(module, "weight")
    assert isinstance(module.weight, nn.Parameter)
    assert torch.equal(module.weight, sparse.to_dense())
    assert type(module) is nn.Linear


@pytest.mark.parametrize(
    ("run", "message"),
    [
        (lambda m: attach(m, "weight", gs.sparsify(torch.eye(6), gs.CSR)), r"is \(6, 8\), and the tensor \(6, 6\)"),
        (lambda m: detach(m, "weight"), "Linear has no sparse parameter 'weight'"),
        (lambda m: [attach(m, "weight", gs.sparsify(m.weight, gs.CSR)) for _ in range(2)], "is parametrized already"),
    ],
)
def test_bad_input(run, message):
    with pytest.raises(gs.TensorError, match=message):
        run(nn.Linear(8, 6))
