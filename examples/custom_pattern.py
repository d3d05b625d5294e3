"""Attention under a pattern of one's own: a Python function of batch, head, query and key, as FlexAttention takes it.

    python examples/custom_pattern.py [--length 1024] [--device cuda]

Two conversations are packed into one sequence. A token sees earlier tokens of its conversation that are near, all of
its own turn, and the first token of every turn; each head has a window of its own. The function is traced once and cut
into blocks by bounds of what it computes, never entry by entry where these decide. Prints the blocks, what attention
will take on an H200, and how far output and gradients are from PyTorch's under the dense mask.
"""

from __future__ import annotations

import argparse

import torch
from torch import Tensor
from torch.nn import functional as F

import gossamer as gs

HEADS, COLUMNS = 4, 64


def conversations(length: int) -> tuple[Tensor, Tensor]:
    """Of each token its conversation, and its turn, counted on: int64 [length]."""
    conversation = (torch.arange(length) >= length // 3).long()
    begins = torch.rand(length, generator=torch.Generator().manual_seed(0)) < 0.02
    begins[0] = begins[length // 3] = True
    return conversation, begins.long().cumsum(0)


def pattern(length: int) -> gs.patterns.PositionPattern:
    """The pattern; whatever the function captures is copied into it."""
    conversation, turn = conversations(length)
    is_first = torch.cat([torch.ones(1, dtype=torch.bool), turn[1:] != turn[:-1]])
    windows = torch.tensor([32, 64, 128, 256])

    def sees(b: Tensor, h: Tensor, q: Tensor, k: Tensor) -> Tensor:
        wanted = (q - k < windows[h]) | (turn[q] == turn[k]) | is_first[k]
        return (q >= k) & (conversation[q] == conversation[k]) & wanted

    return gs.patterns.from_function(sees)


def compare(mask: gs.patterns.PositionPattern, q: Tensor, k: Tensor, v: Tensor) -> dict[str, float]:
    """The largest differences to PyTorch's attention in float64 under the dense mask, over the largest number."""
    place = torch.arange(q.shape[2])
    head = torch.arange(HEADS)[:, None, None]
    allowed = mask(torch.tensor(0), head, place[:, None], place).to(q.device)
    out = gs.attention(q, k, v, mask)
    assert isinstance(out, Tensor)
    exact = [tensor.detach().double().requires_grad_() for tensor in (q, k, v)]
    wanted = F.scaled_dot_product_attention(exact[0], exact[1], exact[2], attn_mask=allowed)
    out_grad = torch.randn_like(out)
    got = out, *torch.autograd.grad(out, (q, k, v), out_grad)
    right = wanted, *torch.autograd.grad(wanted, exact, out_grad.double())
    names = "output", "gradient of q", "gradient of k", "gradient of v"
    return {
        name: ((one - other).abs().max() / other.abs().max()).item()
        for name, one, other in zip(names, got, right, strict=True)
    }


def main() -> None:
    """Prints what the module's text says."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--length", type=int, default=1024, help="tokens, 3 at least")
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    if options.length < 3:
        parser.error("--length is 3 at least")
    mask = pattern(options.length)
    classes = mask.blocks(options.length, options.length, 64, heads=HEADS).kinds()[0]
    for head, kinds in enumerate(classes):
        print(f"head {head}: {(kinds == 2).sum()} full blocks, {(kinds == 1).sum()} in part of {kinds.numel()}")
    print(gs.cost(mask, (1, HEADS, options.length, COLUMNS)))
    device = torch.device(options.device)
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    torch.manual_seed(0)
    q, k, v = (torch.randn(1, HEADS, options.length, COLUMNS).to(device, dtype).requires_grad_() for _ in range(3))
    for name, difference in compare(mask, q, k, v).items():
        print(f"{name}: difference {difference:.1e}")


if __name__ == "__main__":
    main()
