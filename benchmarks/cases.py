"""What is measured on the CPU: one operation each, beside what PyTorch has for it."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

import gossamer as gs


@dataclass
class Case:
    """One operation.

    Attributes:
        name: What it is.
        shape: Sizes, for the reader.
        density: Stored part of the sparse operand.
        ours: The compiled function, called on its operands.
        rivals: The same in PyTorch: "dense", and its own sparse kernels where it has them.
        tolerance: Largest difference to the dense result, as a part of the largest entry.
    """

    name: str
    shape: str
    density: float
    ours: Callable[[], Tensor]
    rivals: dict[str, Callable[[], Tensor]] = field(default_factory=dict)
    tolerance: float = 1e-4


def matmul(a: Tensor, b: Tensor) -> Tensor:
    return a @ b


def linear(x: Tensor, weight: Tensor) -> Tensor:
    return F.linear(x, weight)


def attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    scores = (q @ k.mT / math.sqrt(q.shape[-1])).masked_fill(~mask, -math.inf)
    return torch.softmax(scores, -1) @ v


def blocks(rows: int, columns: int, block: int, density: float) -> Tensor:
    """A random float32 matrix of which only some blocks are not zero."""
    kept = torch.rand(rows // block, columns // block) < density
    return torch.randn(rows, columns) * kept.repeat_interleave(block, 0).repeat_interleave(block, 1)


def products(size: int, width: int) -> Iterator[Case]:
    """A sparse matrix times a dense one, in the formats that torch has too."""
    b = torch.randn(size, width)
    for name, format, block, density in [
        ("CSR", gs.CSR, 1, 0.01),
        ("CSR", gs.CSR, 1, 0.1),
        ("CSC", gs.CSC, 1, 0.1),
        ("COO", gs.COO, 1, 0.1),
        ("BSR 16", gs.BSR(16), 16, 0.1),
        ("BSR 64", gs.BSR(64), 64, 0.1),
    ]:
        dense = blocks(size, size, block, density)
        t = gs.sparsify(dense, format)
        theirs = t.to_torch()
        run = gs.sparse_jit(a=format)(matmul)
        yield Case(
            f"{name} @ dense",
            f"{size} x {size} @ {size} x {width}",
            t.density,
            lambda run=run, t=t: run(t, b),
            {"dense": lambda dense=dense: dense @ b, "torch.sparse": lambda theirs=theirs: theirs @ b},
        )


def linears(tokens: int, width: int, hidden: int) -> Iterator[Case]:
    """A linear layer with a block-sparse weight."""
    x = torch.randn(tokens, width)
    for block in (16, 32):
        weight = blocks(hidden, width, block, 0.1)
        t = gs.sparsify(weight, gs.BSR(block))
        run = gs.sparse_jit(weight=gs.BSR(block))(linear)
        yield Case(
            f"linear, BSR {block}",
            f"{tokens} x {width} -> {hidden}",
            t.density,
            lambda run=run, t=t: run(x, t),
            {"dense": lambda weight=weight: linear(x, weight)},
        )


def attentions(length: int) -> Iterator[Case]:
    """Attention under a sliding window, one head dimension of 64."""
    q, k, v = (torch.randn(1, 4, length, 64) for _ in range(3))
    place = torch.arange(length)
    mask = (place[:, None] // 64 - place // 64).abs() <= 1
    for name, format in [("BSR 64", gs.BSR(64)), ("CSR", gs.CSR)]:
        t = gs.sparsify(mask, format)
        run = gs.sparse_jit(mask=format)(attention)
        yield Case(
            f"attention, {name} mask",
            f"1 x 4 x {length} x 64",
            t.density,
            lambda run=run, t=t: run(q, k, v, t),
            {"dense": lambda: F.scaled_dot_product_attention(q, k, v, mask)},
        )


def all_cases() -> Iterator[Case]:
    """Makes the cases one after another, so that only one is in memory."""
    yield from products(size=2048, width=128)
    yield from linears(tokens=512, width=1024, hidden=4096)
    yield from attentions(length=2048)
