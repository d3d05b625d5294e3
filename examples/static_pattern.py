"""Attention under static patterns: what a pattern allows, how its blocks look, and that the result is right.

    python examples/static_pattern.py [--length 1024] [--device cuda] [--show pattern.png]

For each pattern: its blocks and density, the time that its list took, attention under it by Gossamer and by PyTorch
with a dense mask, and how far they are apart.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

import gossamer as gs

HEADS, COLUMNS = 4, 64


def patterns(length: int) -> dict[str, gs.patterns.PositionPattern]:
    """Some patterns for a length that is a multiple of 64."""
    p = gs.patterns
    side = length // 64
    return {
        "causal window": p.causal() & p.sliding_window(256),
        "window and global tokens": p.causal() & (p.sliding_window(128) | p.global_tokens(32)),
        "BigBird": p.bigbird(64, random=2, seed=1),
        "four documents": p.causal() & p.documents([length // 8, length // 4, length // 8, length // 2]),
        "rows and columns of a picture": p.axial([side, 64]),
        "neighbours in a picture": p.neighbourhood([side, 64], min(side, 9)),
        "a window for each head": p.per_head([p.causal() & p.sliding_window(32 << 2 * h) for h in range(HEADS)]),
        "DeepSpeed's fixed layout": p.deepspeed.FixedSparsityConfig(HEADS, block=64).pattern(length),
        "a function": p.from_function(lambda b, h, q, k: (q - k < 200) & ((q + k) % (h + 1) == 0) & (k <= q)),
    }


def timed(f: Callable[[], Any], device: torch.device) -> tuple[Any, float]:
    """Returns what a function returns, and the milliseconds that it took."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    start = time.perf_counter()
    result = f()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return result, (time.perf_counter() - start) * 1e3


def dense_mask(pattern: gs.patterns.PositionPattern, length: int, device: torch.device) -> Tensor:
    """The mask by the pattern's definition: bool [1, heads, length, length]."""
    place = torch.arange(length, device=device)
    heads = torch.arange(HEADS, device=device)[None, :, None, None]
    return pattern(0, heads, place[:, None], place, lengths=(length, length))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--length", type=int, default=1024, help="queries and keys, a multiple of 64")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--show", type=Path, help="where to draw the second pattern, which needs matplotlib")
    options = parser.parse_args()
    if options.length < 64 or options.length % 64:
        parser.error(f"--length {options.length}: a multiple of 64")
    length, device = options.length, torch.device(options.device)
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    torch.manual_seed(0)
    q, k, v = (torch.randn(1, HEADS, length, COLUMNS, device=device, dtype=dtype) for _ in range(3))
    for name, pattern in patterns(length).items():
        blocks, list_ms = timed(lambda pattern=pattern: pattern.blocks(length, device=device, heads=HEADS), device)
        gs.attention(q, k, v, mask=pattern)  # compiles, once for all patterns, and makes the list
        got, ms = timed(lambda pattern=pattern: gs.attention(q, k, v, mask=pattern), device)
        allowed = dense_mask(pattern, length, device)
        expected, dense_ms = timed(
            lambda allowed=allowed: F.scaled_dot_product_attention(q, k, v, attn_mask=allowed), device
        )
        difference = float((got - expected.nan_to_num()).abs().max())  # where a query sees nothing it gets 0
        print(f"{name}: {pattern}")
        print(f"  {blocks}, in {list_ms:.1f} ms")
        if not difference <= (2e-2 if dtype == torch.bfloat16 else 1e-4):
            raise SystemExit(f"{name}: attention differs by {difference} from that with a dense mask")
        print(f"  attention {ms:.2f} ms, PyTorch with a dense mask {dense_ms:.2f} ms, difference {difference:.1e}")
    if options.show is not None:
        patterns(length)["window and global tokens"].show(length, path=options.show)
        print(f"drawn to {options.show}")


if __name__ == "__main__":
    main()
