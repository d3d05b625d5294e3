"""The fill analysis: which values are sparse, on which pattern, with which fill."""

import math

import pytest
import torch
from torch import nn

import gossamer as gs
from gossamer.frontend.fills import analyze
from gossamer.frontend.leaf import Leaf, Stored
from gossamer.frontend.normalize import normalize
from gossamer.frontend.trace import trace

CPU = torch.device("cpu")


def leaf(name, *shape, dtype=torch.float32, fill=None, format=gs.CSR):
    stored = None if fill is None else Stored(format.for_rank(len(shape)), fill, 32, 32)
    return Leaf(name, shape, dtype, CPU, stored=stored)


def analyzed(function, *leaves):
    traced = trace(lambda tensors: function(*tensors), leaves)
    normalize(traced)
    return traced.graph, analyze(traced)


def result_of(function, *leaves):
    """The sparsity of the function's only result."""
    graph, found = analyzed(function, *leaves)
    (output,) = next(node for node in graph.nodes if node.op == "output").args[0]
    return found.sparse.get(output), found


W = leaf("w", 6, 5, fill=0.0)
X = leaf("x", 6, 5)
MASK = leaf("mask", 6, 5, dtype=torch.bool, fill=False)
BIAS = leaf("bias", 6, 5, fill=-math.inf)
ROW = leaf("row", 1, 5)


@pytest.mark.parametrize(
    ("function", "leaves", "fill"),
    [
        (torch.relu, [W], 0),
        (torch.exp, [W], 1),
        (lambda w: 3 * w - 2, [W], -2),
        (lambda w, x: w * x, [W, X], 0),
        (lambda w, x: x * w, [W, X], 0),
        (lambda w, x: w / x, [W, X], 0),
        (lambda w, r: w * r, [W, ROW], 0),
        (lambda m: ~m, [MASK], True),
        (torch.logical_not, [MASK], True),
        (lambda m: m.float(), [MASK], 0),
        (lambda m, x: m & (x > 0), [MASK, X], False),
        (lambda m, x: m | (x > 0), [MASK, X], None),
        (lambda b, x: x + b, [BIAS, X], -math.inf),
        (lambda b: b * 2, [BIAS], -math.inf),
        (lambda b, x: b * x, [BIAS, X], None),
        (lambda m, x: x.masked_fill(~m, -math.inf), [MASK, X], -math.inf),
        (lambda m, x: x.masked_fill(~m, -1e9), [MASK, X], -math.inf),
        (lambda m, x: x.masked_fill(~m, torch.finfo(x.dtype).min), [MASK, X], -math.inf),
        (lambda m, x: x.masked_fill(~m, -1e4), [MASK, X], -1e4),
        (lambda m, x: x.masked_fill(m, -math.inf), [MASK, X], None),
        (lambda m, x: torch.where(m, x, 0.0), [MASK, X], 0),
        (lambda m, x: torch.where(~m, 7.0, x), [MASK, X], 7),
        (lambda m, x: torch.where(m, 0.0, x), [MASK, X], None),
        (lambda m, x: torch.where(m, x, torch.full_like(x, -math.inf)), [MASK, X], -math.inf),
        (lambda m: torch.where(m, torch.tensor(0.0), torch.tensor(-1e10)), [MASK], -math.inf),
        (lambda m: (1.0 - m.float()) * -1e9, [MASK], -math.inf),
        (lambda m, x: m * x, [MASK, X], 0),
        (lambda b: torch.softmax(b, -1), [BIAS], 0),
        (lambda b: torch.log_softmax(b, -1), [BIAS], -math.inf),
        (lambda w: torch.softmax(w, -1), [W], None),
        (lambda w, x: w + x, [W, X], None),
        (lambda w, x: w @ x.mT, [W, X], None),
        (lambda w: w.sum(0), [W], None),
        (lambda w: w.mT, [W], 0),
        (lambda w: w.unsqueeze(-1), [W], 0),
        (lambda w: nn.functional.dropout(w, 0.3, training=False), [W], 0),
        (lambda w: w.clone().contiguous().detach(), [W], 0),
        (lambda w: w.to(torch.float64), [W], 0),
    ],
)
def test_fill(function, leaves, fill):
    sparse, _ = result_of(function, *leaves)
    assert (None if sparse is None else sparse.fill) == fill


def test_operands_on_one_pattern_combine():
    sparse, found = result_of(lambda w, x: (w * x + 2 * w).relu() - w, W, X)
    assert sparse.fill == 0
    assert not found.fallbacks


def test_operands_on_two_patterns():
    other = leaf("v", 6, 5, fill=0.0)
    sparse, _ = result_of(lambda w, v: w * v, W, other)
    assert sparse.fill == 0
    sparse, found = result_of(lambda w, v: w + v, W, other)
    assert (sparse.source in found.derived, sparse.fill) == (True, 0)
    sparse, _ = result_of(lambda w: w + w.mT, leaf("w", 6, 6, fill=0.0))
    assert sparse.fill == 0
    _, found = result_of(lambda w, v: w / v, W, other)
    assert "its result would be dense" in next(iter(found.fallbacks.values()))


def test_dims_follow_broadcasts_and_transposes():
    mask = leaf("mask", 1, 1, 6, 5, dtype=torch.bool, fill=False)
    scores = leaf("s", 2, 3, 6, 5)
    sparse, _ = result_of(lambda m, s: s.masked_fill(~m, -math.inf), mask, scores)
    assert sparse.dims == (None, None, 2, 3)
    sparse, _ = result_of(lambda w, x: (w * x).mT * 2, W, X)
    assert sparse.dims == (1, 0)
    sparse, found = result_of(lambda w, x: (w * x).mT, W, X)  # leaves: the same storage, named anew
    assert (sparse.source in found.derived, sparse.dims) == (True, (0, 1))


@pytest.mark.parametrize(
    ("function", "shape", "format"),
    [
        (lambda w: w[None], (6, 5), gs.CSR.for_rank(3)),
        (lambda w: w.view(1, 1, *w.shape), (6, 5), gs.CSR.for_rank(4)),
        (lambda w: w.flatten(0, 1), (2, 6, 5), gs.CSR),
        (lambda w: w.unflatten(0, (2, 3)), (6, 6, 5), gs.CSR.for_rank(4)),
        (lambda w: w.reshape(-1, w.shape[-1]), (2, 6, 5), gs.CSR),
        (lambda w: w[0], (1, 6, 5), gs.CSR),
        (lambda w: w.mT.relu(), (6, 5), gs.CSC),
        (lambda w: w.view(2, *w.shape[1:])[:, :, :99], (2, 6, 5), None),
    ],
)
def test_views_that_a_sparse_tensor_gives(function, shape, format):
    _, found = analyzed(function, leaf("w", *shape, fill=0.0))
    views = [stored.format for node, stored in found.sources.items() if node.op != "placeholder"]
    assert views[-1:] == ([] if format is None else [format])
    assert not found.fallbacks


def test_a_slice_that_keeps_all_is_nothing():
    mask = leaf("mask", 1, 1, 6, 5, dtype=torch.bool, fill=False)
    sparse, found = result_of(lambda m, x: ~m[:, :, :, : x.shape[-1]], mask, X)
    assert sparse.fill is True
    assert not found.fallbacks


def test_reasons_are_given():
    _, found = result_of(lambda w: w.cumsum(0), W)
    assert list(found.fallbacks.values()) == ["there is no sparse form of it"]
    _, found = result_of(lambda w, x: w + x, W, X)
    assert "its result would be dense" in next(iter(found.fallbacks.values()))
    _, found = result_of(lambda w: nn.functional.dropout(w, 0.5, training=True), W)
    assert len(found.fallbacks) == 1
    _, found = result_of(lambda w: w.roll(1, 0), W)
    assert len(found.fallbacks) == 1
