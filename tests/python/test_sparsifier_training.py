"""Sparsifiers in training: gradients, renewal in place, both directions, whole models, compiled functions."""

import pytest
import torch
from torch import nn

import gossamer as gs
from gossamer.parameters import renew

KINDS = {
    "row": gs.by.magnitude(0.5, per="row"),
    "tile": gs.by.magnitude(0.25, per=(4, 4)),
    "norm": gs.by.block_norm(0.5, "l2", block=4),
    "random": gs.by.random(0.3, seed=3),
    "threshold": gs.by.threshold(0.5),
    "2:4": gs.by.n_of_m(2, 4),
    "transposable": gs.by.n_of_m(2, 4, transposable=True),
    "like": gs.by.like(gs.sparsify(torch.eye(4).repeat(1, 2), gs.CSR)),
    "where": gs.by.where(lambda i, j: (i + j) % 3 == 0),
}


@pytest.mark.parametrize("name", KINDS)
def test_gradients_of_what_is_kept(name):
    torch.manual_seed(0)
    x = torch.randn(4, 8, dtype=torch.float64, requires_grad=True)
    formats = [gs.CSR, gs.CSC, gs.BSR(2)] + ([gs.NM(2, 4)] if name in ("2:4", "transposable", "like") else [])
    for format in formats:
        assert torch.autograd.gradcheck(lambda x, f=format: gs.sparsify(x, f, KINDS[name]).to_dense().sin(), x)
        t = gs.sparsify(x, format, KINDS[name])
        (gradient,) = torch.autograd.grad(t.to_dense().sum(), x)
        assert torch.equal(gradient, (t.to_dense() != 0).double())


def test_straight_through():
    x = torch.randn(4, 8, dtype=torch.float64, requires_grad=True)
    for format in (gs.CSR, gs.BSR(4), gs.NM(2, 4)):
        y = gs.straight_through(x, format, gs.by.n_of_m(1, 4))
        assert torch.equal(y, gs.sparsify(x, format, gs.by.n_of_m(1, 4)).to_dense())
        weight = torch.randn_like(x)
        assert torch.equal(torch.autograd.grad((y * weight).sum(), x)[0], weight)


def test_straight_through_is_not_compiled():
    @gs.sparse_jit
    def product(w, x):
        return gs.straight_through(w, gs.CSR, gs.by.magnitude(0.5)) @ x

    with pytest.raises(gs.UnsupportedError, match="call it outside, and pass the result"):
        product(torch.randn(4, 4), torch.randn(4))


FORMATS = [gs.CSR, gs.CSC, gs.COO, gs.BSR(2), gs.BlockELL(2), gs.NM(2, 4), gs.CSR.with_batch(0)]
FORMATS.append(gs.Format("(i, j) -> (j : dense, i : dense)"))


@pytest.mark.parametrize("format", FORMATS, ids=str)
def test_values_are_renewed_on_the_same_pattern(format):
    old, new = torch.randn(6, 8), torch.randn(6, 8)
    t = gs.sparsify(old, format, gs.by.magnitude(0.5) if format.outer else None)
    pattern, memory, kept = t.pattern, t.values.data_ptr(), t.to_dense() != 0
    assert t.resparsify_(new) is t
    assert t.pattern is pattern
    assert t.values.data_ptr() == memory
    assert torch.equal(t.to_dense(), torch.where(kept, new, 0))


def test_patterns_are_renewed_in_the_same_memory():
    by = gs.by.magnitude(0.25)
    for format in (gs.CSR, gs.BSR(2)):
        old, new = torch.randn(6, 8), torch.randn(6, 8)
        t = gs.sparsify(old, format, by, index_dtype=torch.int64)
        t.requires_grad_()
        other, memory = gs.SparseTensor(t.pattern, t.values.detach().clone()), t.values.data_ptr()
        t.resparsify_(new, by)
        assert t.values.data_ptr() == memory
        assert t.requires_grad
        assert t.coordinates(1).dtype == torch.int64
        assert torch.equal(t.to_dense(), gs.sparsify(new, format, by).to_dense())
        assert torch.equal(other.to_dense(), gs.sparsify(old, format, by).to_dense())


def test_what_cannot_be_renewed():
    t = gs.sparsify(torch.eye(4), gs.CSR)
    with pytest.raises(gs.TensorError, match=r"keeps values of shape \(8,\), and there is memory for \(4,\)"):
        t.resparsify_(torch.randn(4, 4), gs.by.magnitude(0.5))
    with pytest.raises(gs.TensorError, match=r"the shape of the dense tensor is \(4, 5\)"):
        t.resparsify_(torch.randn(4, 5))
    with pytest.raises(gs.TensorError, match=r"the dtype of the dense tensor is torch.float64"):
        t.resparsify_(torch.randn(4, 4).double())
    with pytest.raises(gs.TensorError, match="takes a dense tensor, not SparseTensor"):
        t.resparsify_(t)
    with pytest.raises(gs.TensorError, match=r"part of a graph.*detach\(\) it first"):
        gs.sparsify(torch.ones(4, 4, requires_grad=True), gs.CSR).resparsify_(torch.randn(4, 4))
    twice = gs.Format("(i, j) -> (i : dense, j : compressed(nonunique))")
    with pytest.raises(gs.TensorError, match="may store an entry twice"):
        t.to(twice).resparsify_(torch.randn(4, 4))


def test_both_directions():
    x = torch.randn(2, 8, 12, dtype=torch.float64, requires_grad=True)
    for format, by in (
        (gs.CSR, gs.by.magnitude(0.3)), (gs.COO, gs.by.threshold(1)), (gs.BSR(4), gs.by.block_norm(0.5)),
        (gs.NM(2, 4), gs.by.n_of_m(2, 4, transposable=True)),
        (gs.NM(2, 4), gs.by.n_of_m(2, 4, "greedy", transposable=True)),
    ):  # fmt: skip
        rows, columns = gs.sparsify_both(x, format, by)
        assert rows.format == columns.format == format.for_rank(3)
        assert torch.equal(rows.to_dense(), gs.sparsify(x, format, by).to_dense())
        assert torch.equal(columns.to_dense(), rows.to_dense().mT)
        weights = torch.randn(2, 12, 8, dtype=torch.float64)
        (gradient,) = torch.autograd.grad((columns.to_dense() * weights).sum(), x)
        assert torch.equal(gradient, torch.where(rows.to_dense() != 0, weights.mT, 0))
    with pytest.raises(gs.FormatError, match=r"use gs.by.n_of_m\(2, 4, transposable=True\)"):
        gs.sparsify_both(x, gs.NM(2, 4), gs.by.n_of_m(2, 4))
    with pytest.raises(gs.TensorError, match="takes a dense tensor, not a SparseTensor"):
        gs.sparsify_both(rows, gs.CSR)
    with pytest.raises(gs.FormatError, match="does not fit a tensor of rank 1"):
        gs.sparsify_both(x[0, 0], gs.CSR)
    with pytest.raises(gs.FormatError, match=r"a block of \(2, 4\) has another shape"):
        gs.sparsify_both(x, gs.BSR((2, 4)))


def test_a_whole_model():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 12), nn.Linear(12, 4))
    with torch.no_grad():
        model[1].weight.mul_(3)
    dense = [layer.weight.detach().clone() for layer in model]
    gs.sparsify_model(model, {"0.weight": gs.CSR, "*.weight": gs.CSC}, gs.by.magnitude(0.25))
    every = torch.cat([one.reshape(-1) for one in dense]).abs()
    least = every.topk(36).values[-1]
    for layer, weight, format in zip(model, dense, (gs.CSR, gs.CSC), strict=True):
        assert layer.weight.format == format
        assert torch.equal(layer.weight.to_dense(), torch.where(weight.abs() >= least, weight, 0))
    assert model[1].weight.density > 2 * model[0].weight.density
    compiled = gs.sparse_jit(model)
    x = torch.randn(5, 8)
    right = (x @ model[0].weight.to_dense().T + model[0].bias) @ model[1].weight.to_dense().T + model[1].bias
    assert torch.allclose(compiled(x), right, atol=1e-5)


def test_blocks_of_a_model_are_ranked_by_their_mean():
    model = nn.ModuleDict({"a": nn.Linear(8, 8), "b": nn.Linear(8, 8)})
    with torch.no_grad():
        model["a"].weight.fill_(1)
        model["a"].weight[:4, :4] = 3
        model["b"].weight.fill_(2)
    gs.sparsify_model(model, {"a.weight": gs.BSR(4), "b.weight": gs.BSR(2)}, gs.by.block_norm(0.25, "l2"))
    assert model["a"].weight.nnz == 16
    assert model["b"].weight.nnz == 16  # four blocks: 32 of the 128 entries in all


def test_a_sparse_parameter_is_renewed():
    by = gs.by.magnitude(0.25)
    layer = gs.sparse_jit(nn.Linear(8, 4), {"weight": (gs.CSR, by)})
    parameter, x = layer.parametrizations.weight.original, torch.randn(3, 8)
    for new, how in ((torch.randn(4, 8), by), (torch.randn(4, 8), None)):
        old = layer.weight
        renew(layer, "weight", new, how)
        right = gs.sparsify(new, gs.CSR, by if how else gs.by.like(old))
        assert layer.parametrizations.weight.original is parameter
        assert torch.equal(layer.weight.to_dense(), right.to_dense())
        assert torch.equal(layer.state_dict()["parametrizations.weight.0.coordinates_1"], right.coordinates(1))
        assert torch.allclose(layer(x), x @ right.to_dense().T + layer.bias, atol=1e-5)
    with pytest.raises(gs.TensorError, match="no sparse parameter 'bias'"):
        renew(layer, "bias", torch.randn(4))


def test_bad_models():
    model = nn.Linear(8, 8)
    for formats, by, error, message in (
        ({"wait": gs.CSR}, gs.by.magnitude(0.1), gs.AnnotationError, "no parameter matches 'wait'"),
        ({"weight": 3}, gs.by.magnitude(0.1), gs.AnnotationError, "'weight' is mapped to 3, which is no format"),
        ({"weight": gs.NM(2, 4)}, gs.by.magnitude(0.1), gs.FormatError, "stores as much of every weight"),
        ({"weight": gs.CSR}, gs.by.threshold(1), gs.FormatError, r"not by threshold\(1\)"),
        ({"weight": gs.CSR}, gs.by.magnitude(0.1, "row"), gs.FormatError, "weights are ranked by"),
    ):
        with pytest.raises(error, match=message):
            gs.sparsify_model(model, formats, by)
    assert isinstance(model.weight, nn.Parameter)


def test_sparsifiers_in_compiled_functions():
    def kept(x, i, j):
        return (x.abs() > 0.5) & ((i + j) % 3 != 0)

    @gs.sparse_jit(fullgraph=True)
    def product(w, x):
        return gs.sparsify(w, gs.CSR, by=gs.by.function(kept)) @ x

    w = torch.randn(8, 24, requires_grad=True)
    x = torch.randn(24, 5)
    mask = kept(w, torch.arange(8)[:, None], torch.arange(24))
    y = product(w, x)
    assert torch.allclose(y, torch.where(mask, w, 0) @ x, atol=1e-5)
    (gradient,) = torch.autograd.grad(y.sum(), w)
    assert torch.allclose(gradient, torch.where(mask, x.sum(1), 0), atol=1e-5)
    assert "annotate: (i, j) -> (i : dense, j : compressed)" in str(gs.explain(product, w, x))
