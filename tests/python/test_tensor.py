"""Sparse tensors: values on a pattern."""

import copy
import pickle

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils import _pytree as pytree

import gossamer as gs
from strategies import dtypes, formats, tensors

INF = float("inf")


def example(dtype: torch.dtype = torch.float32) -> gs.SparseTensor:
    return gs.sparsify(torch.tensor([[0, 1, 0, 2], [0, 0, 0, 0], [3, 0, 4, 0]]).to(dtype), gs.CSR)


def test_what_a_tensor_says_of_itself():
    x = example()
    assert (x.format, x.shape, x.dtype, x.device.type) == (gs.CSR, (3, 4), torch.float32, "cpu")
    assert (x.ndim, x.dim(), x.size(), x.size(-1), x.numel(), x.nnz) == (2, 2, (3, 4), 4, 12, 4)
    assert x.density == pytest.approx(1 / 3)
    assert x.positions(1).tolist() == [0, 2, 2, 4]
    assert x.coordinates(1).tolist() == [1, 3, 0, 2]
    assert (x.positions(0), x.coordinates(0)) == (None, None)
    assert not x.requires_grad
    assert "nnz=4" in repr(x)
    assert "fill" not in repr(x)
    assert "fill=-inf" in repr(gs.SparseTensor(x.pattern, x.values, -INF))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: gs.SparseTensor(p, torch.zeros(5)), r"values have shape \(5,\); .* stores \(4,\)$"),
        (lambda p: gs.SparseTensor(p, torch.zeros(2, 2)), r"\(as many: reshape them\)"),
        (lambda p: gs.SparseTensor(p, [1, 2, 3, 4]), "values must be a torch.Tensor, not list"),
        (lambda p: gs.SparseTensor(p, torch.zeros(4, device="meta")), "values are on meta and the pattern on cpu"),
        (lambda p: gs.SparseTensor(p, torch.zeros(4).int(), fill=-INF), "a fill of -inf is no value of torch.int32"),
        (lambda p: gs.SparseTensor(p, torch.zeros(4).int(), fill=0.5), "a fill of 0.5 is no value of torch.int32"),
        (lambda p: gs.SparseTensor(p, torch.zeros(4).bool(), fill=2), "a fill of 2 is no value of torch.bool"),
    ],
)
def test_values_that_do_not_belong(make, message):
    with pytest.raises(gs.TensorError, match=message):
        make(example().pattern)


@pytest.mark.parametrize(
    ("dtype", "fill", "kept"),
    [
        (torch.float16, None, 0.0),
        (torch.bool, None, False),
        (torch.int8, None, 0),
        (torch.bool, 1, True),
        (torch.float32, -INF, -INF),
    ],
)
def test_fills_are_numbers_of_the_kind_of_the_dtype(dtype, fill, kept):
    x = gs.SparseTensor(example().pattern, torch.zeros(4, dtype=dtype), fill)
    assert x.fill == kept
    assert type(x.fill) is type(kept)


@given(tensors, formats, st.sampled_from([0, 1]))
def test_dense_and_back(dense, fmt, fill):
    assert torch.equal(gs.sparsify(dense, fmt, fill=fill).to_dense(), dense)


def test_rows_without_entries_are_the_fill():
    x = gs.SparseTensor(example().pattern, torch.ones(4), -INF)
    assert x.to_dense()[1].tolist() == [-INF] * 4


@pytest.mark.parametrize("fmt", [gs.CSR, gs.CSC, gs.COO, gs.BSR((3, 2)), gs.BlockELL(1), gs.DCSR], ids=str)
def test_to_dense_is_differentiable(fmt):
    x = gs.sparsify(torch.rand(6, 4, dtype=torch.float64), fmt, by=gs.magnitude(0.5))
    values = x.values.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda v: x.with_values(v).to_dense(), values)


@given(tensors, formats, dtypes)
def test_dtypes(dense, fmt, dtype):
    x = gs.sparsify(dense, fmt).to(dtype)
    assert x.dtype == dtype
    assert torch.equal(x.to_dense(), dense.to(dtype))
    x.validate()


def test_to_takes_formats_dtypes_and_devices_in_any_order():
    x = example()
    assert x.to(gs.CSR) is x
    assert x.to("cpu") is x
    assert x.to(torch.float32) is x
    y = x.to(gs.CSC, torch.float64)
    assert (y.format, y.dtype) == (gs.CSC, torch.float64)
    y = x.to("meta", format=gs.CSR, dtype=torch.float16)
    assert (y.device.type, y.dtype, y.pattern.device.type) == ("meta", torch.float16, "meta")
    assert y.to_dense().shape == (3, 4)


def test_the_fill_follows_the_dtype():
    scores = gs.SparseTensor(example().pattern, torch.ones(4), -INF)
    assert scores.to(torch.bfloat16).fill == -INF
    with pytest.raises(gs.TensorError, match=r"a fill of -inf is no value of torch.int64"):
        scores.to(torch.int64)
    assert gs.SparseTensor(example().pattern, torch.ones(4).bool(), True).to(torch.float32).fill == 1.0


def test_many_tensors_share_one_pattern():
    x = example()
    y = x.with_values(x.values * 2)
    assert y.pattern is x.pattern
    assert x.clone().pattern is x.pattern
    assert x.clone().values.data_ptr() != x.values.data_ptr()
    assert x.detach().values.data_ptr() == x.values.data_ptr()
    assert x.to(torch.float64).pattern is x.pattern


def test_gradients_reach_the_values():
    x = example().requires_grad_()
    assert x.requires_grad
    x.to_dense().sum().backward()
    assert x.values.grad.tolist() == [1, 1, 1, 1]
    assert not x.detach().requires_grad


def test_pytree():
    x = example()
    (leaf,), spec = pytree.tree_flatten(x)
    assert leaf is x.values
    assert pytree.tree_unflatten([leaf], spec).pattern is x.pattern
    assert pytree.tree_map(lambda v: v * 2, {"w": x})["w"].values.tolist() == [2, 4, 6, 8]
    assert pytree.tree_unflatten(["anything"], spec).values == "anything"
    assert pytree.tree_structure(x) == pytree.tree_structure(copy.deepcopy(x))
    assert pytree.tree_structure(x) != pytree.tree_structure(x.to(gs.CSC))
    ((path, _),), _ = pytree.tree_flatten_with_path(x)
    assert pytree.keystr(path) == ".values"


def test_pytree_functions_of_torch():
    x = example(torch.float64)
    (tangent,) = torch.func.vjp(lambda s: s.to_dense().square().sum(), x)[1](torch.ones((), dtype=torch.float64))
    assert tangent.pattern is x.pattern
    assert tangent.values.tolist() == [2, 4, 6, 8]
    assert torch.func.grad(lambda s: s.to_dense().sum())(x).values.tolist() == [1, 1, 1, 1]


def test_copies():
    x = gs.SparseTensor(example().pattern, torch.ones(4), -INF)
    for y in (copy.deepcopy(x), pickle.loads(pickle.dumps(x))):
        assert (y.pattern, y.fill) == (x.pattern, -INF)
        assert torch.equal(y.to_dense(), x.to_dense())
        assert y.values.data_ptr() != x.values.data_ptr()


def test_saved_and_loaded_by_torch(tmp_path):
    torch.save({"w": example()}, tmp_path / "w.pt")
    assert torch.equal(torch.load(tmp_path / "w.pt", weights_only=False)["w"].to_dense(), example().to_dense())


def test_copies_of_several_tensors_still_share_a_pattern():
    x = example()
    a, b = copy.deepcopy((x, x.with_values(x.values * 2)))
    assert a.pattern is b.pattern


def test_validate_again():
    x = example()
    x.validate()
    x.coordinates(1)[0] = 17
    with pytest.raises(gs.TensorError, match="coordinate 17 at"):
        x.validate()
