"""A small model that chooses what it attends to: top-k of blocks in every step, forward, backward and in a CUDA graph.

    python examples/dynamic_pattern.py [--length 512] [--steps 20] [--device cuda]

One layer of attention learns to copy: each block of queries has a marked block of keys, whose mean it is to give.
Blocks are chosen by the product of means of queries and keys, which are learned, too.
"""

from __future__ import annotations

import argparse

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import gossamer as gs

BLOCK, HEADS, COLUMNS = 64, 2, 64


class Attention(nn.Module):
    """Attention to the k blocks of keys that score best for each block of queries, and to its own."""

    def __init__(self, k: int):
        super().__init__()
        self.k = k
        self.project = nn.Linear(HEADS * COLUMNS, 3 * HEADS * COLUMNS, bias=False)

    def forward(self, x: Tensor) -> tuple[Tensor, gs.BlockList]:
        """x: [batch, length, HEADS * COLUMNS]. Returns as much, and the blocks."""
        q, k, v = self.project(x).unflatten(-1, (3, HEADS, COLUMNS)).permute(2, 0, 3, 1, 4)
        length = x.shape[1]
        with torch.no_grad():
            scores = gs.pooled_scores(q, k, BLOCK)
            blocks = gs.topk_blocks(scores, self.k, block=BLOCK, shape=(length, length), local=1)
        out = gs.attention(q, k, v, blocks)
        assert isinstance(out, Tensor)
        return out.transpose(1, 2).flatten(2), blocks


def data(length: int, device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Tokens, and for each block of them the mean of the block that it is to find."""
    count = length // BLOCK
    tokens = torch.randn(2, count, BLOCK, HEADS * COLUMNS)
    partner = torch.randperm(count)
    names = torch.randn(count, HEADS * COLUMNS)
    tokens += names[partner.argsort()][:, None] + names[:, None]
    wanted = tokens[:, partner].mean(2, keepdim=True).expand_as(tokens)
    return tokens.flatten(1, 2).to(device, dtype), wanted.flatten(1, 2).to(device, dtype)


def main() -> None:
    """Prints the loss, and which blocks were chosen first and last."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--length", type=int, default=512, help=f"tokens, a multiple of {BLOCK}")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    if options.length < 4 * BLOCK or options.length % BLOCK:
        parser.error(f"the length is a multiple of {BLOCK}, of 4 blocks at least, not {options.length}")
    device = torch.device(options.device)
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    torch.manual_seed(0)
    model = Attention(3).to(device, dtype)
    tokens, wanted = data(options.length, device, dtype)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for step in range(options.steps):
        out, blocks = model(tokens)
        loss = F.mse_loss(out.float(), wanted.float())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step in (0, options.steps - 1):
            chosen = blocks.index[0, 0, :4, : blocks.index.shape[-1]].tolist()
            print(f"step {step}: loss {loss.item():.4f}; blocks of the first queries {chosen}")
    if device.type != "cuda":
        return
    # The same in a graph: the choice is made anew in each replay.
    with torch.no_grad():
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            captured, _ = model(tokens)
        tokens.copy_(tokens.roll(BLOCK, 1))
        graph.replay()
        print(f"a graph replayed with other tokens: off by {(captured - model(tokens)[0]).abs().max().item()}")


if __name__ == "__main__":
    main()
