"""A transformer whose sparsity is a Python function: of positions for attention, of value and position for a weight.

    python examples/custom_sparsifier.py [--steps 60] [--length 64] [--device cuda]

Each step draws another random pattern of attention. Functions are traced and compiled; what differs from step to step
are numbers that kernels are told, so nothing is compiled again. Prints how the loss falls, and how far one step is from
the same in plain PyTorch.
"""

from __future__ import annotations

import argparse
import time

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import gossamer as gs

TOKENS, COLUMNS, HEADS, HIDDEN, BATCH = 16, 32, 2, 128, 8
LOW = 0xFFFFFFFF


def mix(x: Tensor) -> Tensor:
    """Scatters the bits of a number of 32."""
    x = ((x ^ (x >> 16)) * 0x7FEB352D) & LOW
    return x ^ (x >> 15)


def window_and_random(seed: int, window: int = 3, density: float = 0.1) -> gs.by.Sparsifier:
    """Keeps the last positions, and a random fraction of all before: causal."""
    start = torch.tensor(seed)

    def allowed(i: Tensor, j: Tensor) -> Tensor:
        number = mix(mix(i * 0x9E3779B9 + start & LOW) + j & LOW)
        return (j <= i) & ((i - j < window) | (number < int(density * 2**32)))

    return gs.by.where(allowed)


def large_or_near_the_diagonal(value: Tensor, i: Tensor, j: Tensor) -> Tensor:
    """Keeps the large values of a weight, and a band."""
    return (value.abs() > 0.1) | ((i // (HIDDEN // COLUMNS) - j).abs() <= 1)


PRUNED = gs.by.function(large_or_near_the_diagonal)


@gs.sparse_jit(mask=gs.CSR)
def attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    scores = q @ k.mT / q.shape[-1] ** 0.5
    return torch.softmax(scores.masked_fill(~mask, -torch.inf), -1) @ v


@gs.sparse_jit
def pruned_linear(weight: Tensor, x: Tensor) -> Tensor:
    return (gs.sparsify(weight, gs.CSR, by=PRUNED) @ x.mT).mT


class Model(nn.Module):
    """One layer; `sparse` says whether Gossamer or PyTorch computes it."""

    def __init__(self, length: int):
        super().__init__()
        self.sparse = True
        self.tokens, self.places = nn.Embedding(TOKENS, COLUMNS), nn.Parameter(torch.randn(length, COLUMNS) * 0.3)
        self.qkv, self.out = nn.Linear(COLUMNS, 3 * COLUMNS), nn.Linear(COLUMNS, COLUMNS)
        self.up, self.down = nn.Linear(COLUMNS, HIDDEN), nn.Linear(HIDDEN, COLUMNS)
        self.head = nn.Linear(COLUMNS, TOKENS)

    def forward(self, tokens: Tensor, mask: gs.SparseTensor) -> Tensor:
        x = self.tokens(tokens) + self.places
        q, k, v = self.qkv(x).unflatten(-1, (3, HEADS, -1)).permute(2, 0, 3, 1, 4)
        if self.sparse:
            mixed = attention(q, k, v, mask)
        else:
            mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask.to_dense())
        x = x + self.out(mixed.transpose(1, 2).flatten(-2))
        flat, weight = x.flatten(0, 1), self.up.weight
        if self.sparse:
            hidden = pruned_linear(weight, flat)
        else:
            places = (torch.arange(size, device=x.device) for size in weight.shape)
            i, j = torch.meshgrid(*places, indexing="ij")
            hidden = F.linear(flat, torch.where(large_or_near_the_diagonal(weight, i, j), weight, 0))
        return self.head(x + self.down(F.gelu(hidden + self.up.bias)).view_as(x))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--length", type=int, default=64)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    if options.steps < 2 or options.length < 4:
        parser.error("at least 2 steps, and a length of 4")
    torch.manual_seed(0)
    device, length = torch.device(options.device), options.length
    model = Model(length).to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    every = torch.ones(length, length, dtype=torch.bool, device=device)

    def loss_of(tokens: Tensor, mask: gs.SparseTensor) -> Tensor:
        """Every token is to say which one was before it."""
        return F.cross_entropy(model(tokens, mask)[:, 1:].flatten(0, 1), tokens[:, :-1].flatten())

    losses = []
    for step in range(options.steps):
        start = time.perf_counter()
        mask = gs.sparsify(every, gs.CSR, by=window_and_random(step))
        tokens = torch.randint(TOKENS, (BATCH, length), device=device)
        loss = loss_of(tokens, mask)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        if step in (0, 1, options.steps - 1) or step % 10 == 0:
            weight = gs.sparsify(model.up.weight.detach(), gs.CSR, by=PRUNED)
            ms = (time.perf_counter() - start) * 1e3
            print(f"step {step}: loss {losses[-1]:.3f}, {ms:.0f} ms, {mask.density:.1%} of the scores, "
                  f"{weight.density:.1%} of the weight")  # fmt: skip
    found = []
    for model.sparse in (True, False):
        model.zero_grad()
        loss = loss_of(tokens, mask)
        loss.backward()
        found.append([loss.detach(), *(parameter.grad for parameter in model.parameters())])
    difference = max(float((a - b).abs().max()) for a, b in zip(*found, strict=True))
    print(f"loss and gradients differ from PyTorch's by {difference:.1e}")
    if not difference < 1e-4:
        raise SystemExit("the sparse step is not PyTorch's")
    if not losses[-1] < losses[0]:
        raise SystemExit("the loss does not fall")


if __name__ == "__main__":
    main()
