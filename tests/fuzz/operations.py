"""What the cases compute: operations with a sparse operand, spelt as a user of PyTorch would."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

FLOATS = ("float64", "float32", "bfloat16", "float16")
INTEGERS = ("int8", "int32", "int64")
NUMBERS = FLOATS + INTEGERS


@dataclass(frozen=True)
class Operation:
    """An operation of one or two sparse operands and some dense ones.

    Attributes:
        name: What it is called.
        sparse: The letters of the sparse operand's dimensions; equal letters are equal sizes.
        other: Those of a second sparse operand, which has a pattern and a format of its own.
        dense: Name -> letters of the dense operands, in the order in which the function takes them.
        function: Of the sparse operand and the dense ones.
        sums: The letters that are summed over, which the error grows with.
        reference: Of (which entries are stored, the operands as dense tensors), where it is not `function`.
        dtypes: Of the operands, and of the result.
        stores: The dtype of the sparse operand, where it is another.
        slack: How many roundings of the result's dtype an entry goes through.
        special: Whether NaN and infinities among the stored values have the meaning that dense ones have.
        compiled: Whether it runs under sparse_jit.
        backward: Whether gradients are taken too.
        ones: Whether sizes of 1 are tried.
        filled: Letters whose sizes are not 0: there is no maximum of nothing.
        fill: What entries that are not stored are.
    """

    name: str
    sparse: str
    dense: Mapping[str, str]
    function: Callable[..., Any]
    sums: str = ""
    reference: Callable[..., Any] | None = None
    dtypes: tuple[str, ...] = FLOATS
    stores: str = ""
    slack: int = 2
    special: bool = False
    compiled: bool = True
    backward: bool = False
    ones: bool = True
    fill: float = 0
    other: str = ""
    filled: str = ""

    @property
    def letters(self) -> str:
        """All letters, each once."""
        return "".join(dict.fromkeys(self.sparse + self.other + "".join(self.dense.values())))


def softmax_where(keep: Tensor, scores: Tensor) -> Tensor:
    """Softmax over what is kept; a row of nothing is 0."""
    if not scores.shape[-1]:
        return scores * 0
    nothing = ~keep.any(-1, keepdim=True)
    weights = torch.softmax(scores.masked_fill(~keep, -math.inf).masked_fill(nothing, 0.0), -1)
    return weights.masked_fill(nothing, 0.0)


def _attention(mask: Tensor, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    scores = q @ k.mT * 0.25
    return torch.softmax(scores.masked_fill(~mask, -math.inf), -1) @ v


def _attention_reference(keep: Tensor, mask: Tensor, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    allowed = keep & mask.bool()
    return softmax_where(allowed.broadcast_to(*q.shape[:-1], k.shape[-2]), q @ k.mT * 0.25) @ v


def _additive(mask: Tensor, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return torch.softmax(q @ k.mT * 0.25 + mask, -1) @ v


def _additive_reference(keep: Tensor, mask: Tensor, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    allowed = keep & ~mask.isneginf()  # n:m fills its groups up with entries that are -inf
    return softmax_where(allowed.broadcast_to(*q.shape[:-1], k.shape[-2]), q @ k.mT * 0.25 + mask) @ v


def _sdpa(mask: Tensor, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=0.25)


def _graph_attention(a: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Scores on the edges of a graph, their softmax, and what follows on the same pattern."""
    return torch.softmax(torch.where(a, x @ y.mT, -math.inf), -1) * 0.5


def _graph_attention_reference(keep: Tensor, a: Tensor, x: Tensor, y: Tensor) -> Tensor:
    return softmax_where(keep & a.bool(), x @ y.mT) * 0.5


def _mean_of_products(keep: Tensor, a: Tensor, x: Tensor) -> Tensor:
    return (a @ x) / keep.sum(1, keepdim=True).clamp(min=1)


def _largest_product(keep: Tensor, a: Tensor, x: Tensor) -> Tensor:
    if not a.shape[1]:
        return a @ x
    products = (a[:, :, None] * x).masked_fill(~keep[:, :, None], -math.inf)
    return products.amax(1).masked_fill(~keep.any(1, keepdim=True), 0.0)


def _products() -> list[Operation]:
    matrix: dict[str, Any] = {"sparse": "ij", "special": True}
    return [
        Operation("a @ v", **matrix, dense={"v": "j"}, sums="j", function=lambda a, v: a @ v, dtypes=NUMBERS),
        Operation("v @ a", **matrix, dense={"v": "i"}, sums="i", function=lambda a, v: v @ a, dtypes=NUMBERS),
        Operation("a @ x", **matrix, dense={"x": "jk"}, sums="j", function=lambda a, x: a @ x, dtypes=NUMBERS),
        Operation("x @ a", **matrix, dense={"x": "ki"}, sums="i", function=lambda a, x: x @ a, dtypes=NUMBERS),
        Operation("a.T @ x", **matrix, dense={"x": "ik"}, sums="i", function=lambda a, x: a.mT @ x, dtypes=NUMBERS),
        Operation("x @ a.T", **matrix, dense={"x": "kj"}, sums="j", function=lambda a, x: x @ a.mT, dtypes=NUMBERS),
        Operation(
            "mean of products", "ij", {"x": "jk"}, lambda a, x: torch.sparse.mm(a, x, "mean"),
            sums="j", reference=_mean_of_products,
        ),
        Operation(
            "largest product", "ij", {"x": "jk"}, lambda a, x: torch.sparse.mm(a, x, "amax"),
            reference=_largest_product,
        ),
        Operation("a @ x.T", **matrix, dense={"x": "kj"}, sums="j", function=lambda a, x: a @ x.mT),
        Operation("x.T @ a", **matrix, dense={"x": "ik"}, sums="i", function=lambda a, x: x.mT @ a),
        Operation("linear", **matrix, dense={"x": "kj"}, sums="j", function=lambda a, x: F.linear(x, a)),
        Operation("linear 3-D", **matrix, dense={"x": "lkj"}, sums="j", function=lambda a, x: F.linear(x, a)),
        Operation(
            "einsum ij,lkj->ilk",
            **matrix, dense={"x": "lkj"}, sums="j",
            function=lambda a, x: torch.einsum("ij,lkj->ilk", a, x),
        ),
        Operation(
            "linear, bias",
            **matrix, dense={"x": "kj", "b": "i"}, sums="j",
            function=lambda a, x, b: F.linear(x, a, b),
        ),
        Operation(
            "linear, bias, relu",
            **matrix, dense={"x": "kj", "b": "i"}, sums="j",
            function=lambda a, x, b: F.relu(F.linear(x, a, b)),
        ),
        Operation(
            "linear, bias, gelu",
            "ij", {"x": "kj", "b": "i"}, lambda a, x, b: F.gelu(F.linear(x, a, b)), sums="j", slack=4,
        ),
        Operation(
            "linear, bias, silu, residual",
            "ij", {"x": "kj", "b": "i", "r": "ki"}, lambda a, x, b, r: F.silu(F.linear(x, a, b)) * 0.5 + r,
            sums="j", slack=6,
        ),
        Operation(
            "tanh(a @ x + b)",
            "ij", {"x": "jk", "b": "k"}, lambda a, x, b: torch.tanh(a @ x + b), sums="j", slack=4,
        ),
        Operation(
            "addmm",
            "ij", {"c": "ik", "x": "jk"}, lambda a, c, x: torch.addmm(c, a, x, beta=0.5, alpha=2.0), sums="j", slack=4,
        ),
        Operation("batched a @ x", "hij", {"x": "hjk"}, lambda a, x: a @ x, sums="j", special=True),
        Operation("batched x @ a.T", "hij", {"x": "hkj"}, lambda a, x: x @ a.mT, sums="j", special=True),
        Operation("a @ batched x", "ij", {"x": "hjk"}, lambda a, x: a @ x, sums="j", special=True),
    ]  # fmt: skip


def _stored() -> list[Operation]:
    return [
        Operation("a * 2", "ij", {}, lambda a: a * 2, dtypes=NUMBERS, special=True),
        Operation("relu(a)", "ij", {}, lambda a: F.relu(a), dtypes=NUMBERS, special=True),
        Operation("abs(a)", "ij", {}, lambda a: a.abs(), dtypes=NUMBERS, special=True),
        Operation("-a", "ij", {}, lambda a: -a, dtypes=NUMBERS, special=True),
        Operation("sin(a) * a", "ij", {}, lambda a: a.sin() * a, slack=4),
        Operation("tanh(a)", "ij", {}, lambda a: a.tanh(), special=True),
        Operation("a * x", "ij", {"x": "ij"}, lambda a, x: a * x, dtypes=NUMBERS, special=True),
        Operation("a * row", "ij", {"x": "j"}, lambda a, x: a * x, dtypes=NUMBERS, special=True),
        Operation("a * column", "ij", {"x": "i"}, lambda a, x: x[:, None] * a, dtypes=NUMBERS, special=True),
        Operation("a / x", "ij", {"x": "ij"}, lambda a, x: a / (x * x + 1), slack=4),
        Operation("3-D a * 2", "hij", {}, lambda a: a * 2, dtypes=NUMBERS, special=True),
        Operation("3-D a * x", "hij", {"x": "hij"}, lambda a, x: a * x, dtypes=NUMBERS, special=True),
        Operation("3-D a * row", "hij", {"x": "j"}, lambda a, x: a * x, special=True),
        Operation(
            "sampled product",
            "ij", {"x": "ik", "y": "jk"}, lambda a, x, y: (x @ y.mT) * a, sums="k", slack=3, dtypes=NUMBERS,
        ),
        Operation(
            "sampled product, scaled",
            "ij", {"x": "ik", "y": "kj"}, lambda a, x, y: (x @ y * 0.5 + 1) * a, sums="k", slack=5,
        ),
        Operation(
            "sampled product where a is positive",
            "ij", {"x": "ik", "y": "jk", "r": "i", "c": "j"},
            lambda a, x, y, r, c: torch.where(a > 0, (x @ y.mT) * r[:, None] + c, 0.0), sums="k", slack=6,
        ),
        Operation(
            "batched sampled product",
            "hij", {"x": "hik", "y": "hjk"}, lambda a, x, y: (x @ y.mT) * a, sums="k", slack=3,
        ),
        Operation(
            "graph attention scores",
            "ij", {"x": "ik", "y": "jk"}, _graph_attention, reference=_graph_attention_reference,
            stores="bool", sums="k", slack=12, ones=False,
        ),
        Operation("logical", "ij", {"x": "ij"}, lambda a, x: a & x, dtypes=("bool",)),
        Operation("bool * x", "ij", {"x": "ij"}, lambda a, x: a * x, stores="bool", dtypes=NUMBERS),
    ]  # fmt: skip


def _sums() -> list[Operation]:
    return [
        Operation("sum", "ij", {}, lambda a: a.sum(), sums="ij", special=True, dtypes=NUMBERS),
        Operation("sum over rows", "ij", {}, lambda a: a.sum(0), sums="i", special=True, dtypes=NUMBERS),
        Operation("sum over columns", "ij", {}, lambda a: a.sum(1), sums="j", special=True, dtypes=NUMBERS),
        Operation("mean", "ij", {}, lambda a: a.mean(-1), sums="j", special=True),
        Operation("3-D sum", "hij", {}, lambda a: a.sum((0, 2)), sums="hj", special=True, dtypes=NUMBERS),
        Operation("3-D sum over the last", "hij", {}, lambda a: a.sum(-1), sums="j", special=True),
    ]


def _reductions() -> list[Operation]:
    """What is not stored takes part in extrema and products."""
    matrix: dict[str, Any] = {"sparse": "ij", "dense": {}, "ones": False}
    masked: dict[str, Any] = {"sparse": "ij", "dense": {}, "fill": -math.inf, "ones": False}
    return [
        Operation("amax", **matrix, function=lambda a: a.amax(), dtypes=NUMBERS, filled="ij"),
        Operation("amax of rows", **matrix, function=lambda a: a.amax(1), dtypes=NUMBERS, filled="j"),
        Operation("amin of columns", **matrix, function=lambda a: a.amin(0), dtypes=NUMBERS, filled="i"),
        Operation("any", **matrix, function=lambda a: a.any(1), dtypes=("bool",)),
        Operation("all", **matrix, function=lambda a: a.all(0), dtypes=("bool",)),
        Operation("sum of squares", **matrix, function=lambda a: (a * a).sum(1), sums="j", slack=4),
        Operation("norms of rows", **matrix, function=lambda a: torch.linalg.vector_norm(a, 2, 1), sums="j", slack=4),
        Operation("3-D amax", "hij", {}, lambda a: a.amax((0, 2)), ones=False, filled="hj"),
        Operation(
            "softmax of scores", **masked, function=lambda s: torch.softmax(s, -1), sums="j", slack=8,
            reference=lambda keep, s: softmax_where(keep & ~s.isneginf(), s),
        ),
        Operation(
            "softmax of scores, by columns", **masked, function=lambda s: torch.softmax(s, 0), sums="i", slack=8,
            reference=lambda keep, s: softmax_where((keep & ~s.isneginf()).mT, s.mT).mT,
        ),
        Operation(
            "log_softmax of scores", **masked, function=lambda s: torch.log_softmax(s, -1), sums="j", slack=8,
            reference=lambda keep, s: softmax_where(keep & ~s.isneginf(), s).log(),
        ),
    ]  # fmt: skip


def _contractions() -> list[Operation]:
    """Of two sparse operands, and of tensors of three dimensions."""
    return [
        Operation("a @ b", "ij", {}, lambda a, b: a @ b, other="jk", sums="j", dtypes=NUMBERS, ones=False),
        Operation(
            "relu(a @ b + c)", "ij", {"c": "k"}, lambda a, b, c: F.relu(a @ b + c), other="jk", sums="j", ones=False
        ),
        Operation("a @ a.T", "ij", {}, lambda a: a @ a.mT, sums="j", ones=False, slack=4),
        Operation("batched a @ b", "hij", {}, lambda a, b: a @ b, other="hjk", sums="j", ones=False),
        Operation(
            "MTTKRP", "hij", {"x": "ik", "y": "jk"}, lambda a, x, y: torch.einsum("hij,ik,jk->hk", a, x, y),
            sums="ij", slack=6, ones=False,
        ),
        Operation(
            "tensor times matrix", "hij", {"x": "ik"}, lambda a, x: torch.einsum("hij,ik->hkj", a, x),
            sums="i", ones=False,
        ),
        Operation(
            "tensor times vector", "hij", {"x": "i"}, lambda a, x: torch.einsum("hij,i->hj", a, x), sums="i", ones=False
        ),
    ]  # fmt: skip


def _attentions() -> list[Operation]:
    heads = {"q": "bhid", "k": "bhjd", "v": "bhje"}
    common: dict[str, Any] = {"sums": "d", "slack": 16, "ones": False}
    boolean: dict[str, Any] = {**common, "stores": "bool", "reference": _attention_reference}
    return [
        Operation("attention", "ij", heads, _attention, **boolean),
        Operation("attention, a mask a head", "hij", heads, _attention, **boolean),
        Operation("attention without heads", "ij", {"q": "id", "k": "jd", "v": "je"}, _attention, **boolean),
        Operation("scaled_dot_product_attention", "ij", heads, _sdpa, **boolean),
        Operation(
            "additive attention", "ij", heads, _additive, reference=_additive_reference, fill=-math.inf, **common
        ),
    ]


def _merged() -> list[Operation]:
    """Of two patterns: what either or both store. Their formats are equal, or store entries one by one."""
    matrices: dict[str, Any] = {"sparse": "ij", "other": "ij", "dense": {}, "ones": False}
    return [
        Operation("a + b", **matrices, function=lambda a, b: a + b, dtypes=NUMBERS, special=True),
        Operation("a - 3 b", **matrices, function=lambda a, b: torch.sub(a, b, alpha=3), slack=4),
        Operation("a * b", **matrices, function=lambda a, b: a * b, dtypes=NUMBERS),
        Operation("maximum of a and b", **matrices, function=torch.maximum),
        Operation("(a + b) (a - b)", **matrices, function=lambda a, b: (a + b) * (a - b), slack=6),
        Operation("a where positive, else b", **matrices, function=lambda a, b: torch.where(a > 0, a, b)),
        Operation("a or b", **matrices, function=lambda a, b: a | b, dtypes=("bool",)),
        Operation("a and not b", **matrices, function=lambda a, b: a & ~b, dtypes=("bool",)),
        Operation("a below b", **matrices, function=lambda a, b: torch.cat([a, b * 2])),
        Operation("3-D a + b", "hij", {}, lambda a, b: a + b, other="hij", ones=False),
        Operation(
            "(a * b) @ x", "ij", {"x": "jk"}, lambda a, b, x: (a * b) @ x, other="ij", sums="j", slack=4, ones=False
        ),
    ]


def _parts() -> list[Operation]:
    matrix: dict[str, Any] = {"sparse": "ij", "dense": {}, "ones": False, "special": True}
    return [
        Operation("rows of a", **matrix, function=lambda a: a[1:-1] * 2),
        Operation("columns of a", **matrix, function=lambda a: a[:, 1:-2]),
        Operation("every second row of a", **matrix, function=lambda a: a[::2]),
        Operation("a.T * 2", **matrix, function=lambda a: (a * 2).T),
        Operation("a beside a", **matrix, function=lambda a: torch.cat([a, a * 2], 1)),
        Operation("rows of a, in a product", "ij", {"x": "jk"}, lambda a, x: a[1:] @ x, sums="j", ones=False),
        Operation("3-D a without its first", "hij", {}, lambda a: a[1:], ones=False),
    ]


def _conversions() -> list[Operation]:
    """Of the formats' own conversions, outside of compiled functions; `to` is drawn for each case."""
    every: dict[str, Any] = {"dtypes": (*NUMBERS, "bool"), "compiled": False, "special": True, "slack": 0}
    return [
        Operation("to_dense", "ij", {}, lambda a, to: a.to_dense(), reference=lambda keep, a: a, **every),
        Operation("to another format", "ij", {}, lambda a, to: a.to(to), reference=lambda keep, a: a, **every),
        Operation("to another format, 3-D", "hij", {}, lambda a, to: a.to(to), reference=lambda keep, a: a, **every),
        Operation("back from another format", "ij", {}, lambda a, to: a.to(to).to(a.format),
                  reference=lambda keep, a: a, **every),
        Operation("transposed", "ij", {}, lambda a, to: a.T.to(to), reference=lambda keep, a: a.T, **every),
    ]  # fmt: skip


DIFFERENTIATED = (
    "a @ v", "a @ x", "x @ a", "a.T @ x", "linear", "linear, bias", "linear, bias, gelu", "tanh(a @ x + b)", "addmm",
    "mean of products",
    "batched a @ x", "a @ batched x", "a * 2", "sin(a) * a", "tanh(a)", "a * x", "a * row", "a / x", "3-D a * x",
    "sampled product", "sampled product, scaled", "sampled product where a is positive", "graph attention scores",
    "sum", "sum over rows", "sum over columns", "mean", "sum of squares", "softmax of scores", "a + b", "a * b",
    "(a * b) @ x", "a @ b", "tensor times matrix", "rows of a", "a beside a", "attention", "attention, a mask a head",
    "scaled_dot_product_attention", "additive attention",
)  # fmt: skip


def _gradients(operations: list[Operation]) -> list[Operation]:
    """The smooth ones again, with the gradients of all operands."""
    return [
        replace(
            operation, name=f"gradients of {operation.name}", backward=True, special=False, dtypes=FLOATS,
            slack=operation.slack + 4,
        )
        for operation in operations
        if operation.name in DIFFERENTIATED
    ]  # fmt: skip


_FORWARD = [
    *_products(), *_stored(), *_sums(), *_reductions(), *_attentions(), *_merged(), *_contractions(), *_parts(),
    *_conversions(),
]  # fmt: skip
OPERATIONS = {operation.name: operation for operation in _FORWARD + _gradients(_FORWARD)}
