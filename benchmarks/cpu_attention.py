"""`python -m benchmarks.cpu_attention`: attention under a sparse mask, forward and with gradients."""

import math
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

import gossamer as gs
from benchmarks.compare import Case, compare, random_blocks


@gs.sparse_jit
def attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    scores = (q @ k.mT / math.sqrt(q.shape[-1])).masked_fill(~mask, -math.inf)
    return torch.softmax(scores, -1) @ v


def forward(name: str, mask: Tensor, format: gs.Format, heads: int, width: int, bar: float) -> Case:
    """Attention of one sequence; the rival is torch's own with the mask as a dense tensor."""
    q, k, v = (torch.randn(1, heads, mask.shape[0], width) for _ in range(3))
    t = gs.sparsify(mask, format)
    return Case(
        f"attention, {name}",
        f"1 x {heads} x {mask.shape[0]} x {width}",
        t.density,
        lambda: attention(q, k, v, t),
        {"dense": lambda: F.scaled_dot_product_attention(q, k, v, mask)},
        lambda: _reference(q.double(), k.double(), v.double(), mask),
        {"dense": bar} if bar else {},
    )


def backward(name: str, mask: Tensor, format: gs.Format, heads: int, width: int, bar: float) -> Case:
    """Attention and the gradients of q, k and v."""
    leaves = q, k, v = [torch.randn(1, heads, mask.shape[0], width, requires_grad=True) for _ in range(3)]
    g = torch.randn(1, heads, mask.shape[0], width)
    t = gs.sparsify(mask, format)

    def expected() -> tuple[Tensor, ...]:
        wide = q, k, v = [leaf.detach().double().requires_grad_() for leaf in leaves]
        return torch.autograd.grad(_reference(q, k, v, mask), wide, g.double())

    return Case(
        f"attention + gradients, {name}",
        f"1 x {heads} x {mask.shape[0]} x {width}",
        t.density,
        lambda: torch.autograd.grad(attention(q, k, v, t), leaves, g),
        {"dense": lambda: torch.autograd.grad(F.scaled_dot_product_attention(q, k, v, mask), leaves, g)},
        expected,
        {"dense": bar} if bar else {},
    )


def _reference(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    scores = (q @ k.mT / math.sqrt(q.shape[-1])).masked_fill(~mask, -math.inf)
    return torch.nan_to_num(torch.softmax(scores, -1)) @ v


def table() -> Iterator[Case]:
    """The rows of the targets, then masks that are narrower or scattered."""
    scattered = random_blocks(4096, 4096, 64, 0.1) != 0
    place = torch.arange(2048)
    window = (place[:, None] // 64 - place // 64).abs() <= 1
    yield forward("random BSR 64", scattered, gs.BSR(64), 1, 64, 7)
    yield backward("random BSR 64", scattered, gs.BSR(64), 1, 64, 4)
    yield forward("window, BSR 64", window, gs.BSR(64), 4, 64, 0)
    yield backward("window, BSR 64", window, gs.BSR(64), 4, 64, 0)
    yield forward("window, CSR", window, gs.CSR, 4, 64, 0)
    yield backward("window, CSR", window, gs.CSR, 4, 64, 0)


def main() -> int:
    """Prints the table; the exit status says whether a bar was missed."""
    torch.manual_seed(0)
    return compare("attention, float32", table(), seconds=3)


if __name__ == "__main__":
    raise SystemExit(bool(main()))
