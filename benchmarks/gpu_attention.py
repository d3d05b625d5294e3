"""`python -m benchmarks.gpu_attention`: gs.attention on a Hopper GPU beside flex_attention and cuDNN's SDPA.

All in one process, in an order that changes all the time: the chip is limited by power, and whoever runs first on a
cold card reads 3-5 % high. Outputs are compared with float32 on a few heads before anything is timed. Effective TFLOP/s
are 4 x allowed entries x columns x batch x heads over the time.
"""

import argparse
import math
from collections.abc import Callable, Iterator

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

import gossamer as gs
from benchmarks.gpu_timing import call_time, gpu_times

Run = Callable[[], Tensor]
# Of batch, head, query and key, as flex_attention's masks: whether it is allowed.
Function = Callable[..., Tensor]


class Case:
    """One mask at one head size; all tensors are [batch, heads, length, columns].

    `function` is a mask entry by entry, of which blocks are allowed in part.
    """

    def __init__(
        self, name: str, q: Tensor, k: Tensor, v: Tensor, blocks: Tensor | None, block: int, window: int,
        function: Function | None = None,
    ):  # fmt: skip
        self.name, self.qkv, self.blocks, self.block, self.window = name, (q, k, v), blocks, block, window
        self.causal = window > 0
        batch, heads, length, columns = q.shape
        entries = window * (2 * length - window + 1) // 2 if self.causal else length * length
        if blocks is not None:
            entries = int(blocks.sum()) * block * block
        self.mask = None if blocks is None else gs.BlockList.from_dense(blocks, block, (length, length))
        self.function, self.allowed = function, None
        if function is not None:
            places = torch.arange(length, device="cuda")
            self.allowed = function(0, 0, places[:, None], places)
            entries = int(self.allowed.sum())
            self.mask = gs.BlockList.of(self.allowed)
        self.flops = 4 * batch * heads * columns * entries

    @property
    def limit(self) -> int | None:
        """Of the keys of a window."""
        return self.window if 0 < self.window < self.qkv[0].shape[2] else None

    def ours(self) -> Tensor:
        out = gs.attention(*self.qkv, self.mask, causal=self.causal, window=self.limit)
        assert isinstance(out, Tensor)
        return out

    def cudnn(self) -> Run | None:
        """SDPA, which knows no block lists and no windows."""
        if self.mask is not None or self.limit:
            return None

        def run() -> Tensor:
            with sdpa_kernel(SDPBackend.CUDNN_ATTENTION):
                return F.scaled_dot_product_attention(*self.qkv, is_causal=self.causal)

        return run

    def flex(self) -> Run | None:
        """flex_attention, for what is not dense."""
        if self.mask is None and not self.causal:
            return None
        from torch.nn.attention.flex_attention import create_block_mask, flex_attention

        q, k, v = self.qkv
        length, block, blocks = q.shape[2], self.block, self.blocks
        if self.function is not None:
            mask = create_block_mask(self.function, None, None, length, length, device="cuda")
        elif blocks is None:
            window = self.window
            mask = create_block_mask(
                lambda b, h, i, j: (i >= j) & (i - j < window), None, None, length, length, device="cuda"
            )
        else:
            mask = create_block_mask(
                lambda b, h, i, j: blocks[i // block, j // block],
                None,
                None,
                length,
                length,
                device="cuda",
                BLOCK_SIZE=max(block, 64),
            )
        compiled = torch.compile(flex_attention, dynamic=False)
        return lambda: compiled(q, k, v, block_mask=mask)

    def check(self) -> float:
        """The relative error of the first and the last head."""
        out = self.ours()
        worst = 0.0
        for b, h in ((0, 0), (-1, -1)):
            q, k, v = (tensor[b, h].float() for tensor in self.qkv)
            scores = q @ k.T / math.sqrt(q.shape[1])
            if self.causal:
                scores = scores.masked_fill(torch.ones_like(scores, dtype=torch.bool).triu(1), -math.inf)
                scores = scores.masked_fill(torch.ones_like(scores, dtype=torch.bool).tril(-self.window), -math.inf)
            if self.allowed is not None:
                scores = scores.masked_fill(~self.allowed, -math.inf)
            if self.blocks is not None:
                allowed = self.blocks.repeat_interleave(self.block, 0).repeat_interleave(self.block, 1)
                scores = scores.masked_fill(~allowed, -math.inf)
            expected = torch.softmax(scores, -1).nan_to_num(0.0) @ v
            worst = max(worst, ((out[b, h].float() - expected).norm() / expected.norm()).item())
        return worst


def cases(columns: int, length: int, dtype: torch.dtype) -> Iterator[Case]:
    """Rows of the targets; B = 2, H = 16."""
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(2, 16, length, columns, device="cuda", dtype=dtype) for _ in range(3))
    yield Case("dense", q, k, v, None, 128, window=0)
    yield Case("causal", q, k, v, None, 128, window=length)
    yield Case("causal, window of 1024", q, k, v, None, 128, window=1024)
    for block in (128, 64):
        blocks = torch.rand(length // block, length // block, generator=generator) < 0.1
        blocks.fill_diagonal_(True)
        yield Case(f"random, 10 % of blocks of {block}", q, k, v, blocks.cuda(), block, window=0)
    yield Case("BigBird, blocks of 64", q, k, v, big_bird(length // 64, generator).cuda(), 64, window=0)
    yield Case("Longformer, 256 on each side, 64 global", q, k, v, None, 128, window=0, function=longformer)
    yield Case("causal, by bits", q, k, v, None, 128, window=0, function=lambda b, h, i, j: i >= j)


def big_bird(blocks: int, generator: torch.Generator) -> Tensor:
    """Of blocks: a window of 3, 2 that see all and that all see, and 3 at random."""
    place = torch.arange(blocks)
    allowed = (place[:, None] - place).abs() <= 1
    allowed[:2] = allowed[:, :2] = True
    return allowed.scatter(1, torch.rand(blocks, blocks, generator=generator).topk(3).indices, True)


def longformer(b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
    """A window of 256 on each side, and 64 tokens that see all and that all see."""
    return ((i - j).abs() <= 256) | (i < 64) | (j < 64)


def main() -> None:
    """Runs all cases and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--columns", type=int, nargs="*", default=[128, 64])
    parser.add_argument("--length", type=int, default=8192)
    parser.add_argument("--seconds", type=float, default=0.2, help="GPU time for each function")
    parser.add_argument("--no-flex", action="store_true", help="without flex_attention, which compiles for seconds")
    options = parser.parse_args()
    torch.manual_seed(0)
    # One function for dynamo, whatever the mask: it would stop compiling after eight of them.
    torch._dynamo.config.recompile_limit = 64
    table = Table("mask", "columns", "error", "ours ms", "TFLOP/s", "cuDNN TFLOP/s", "flex TFLOP/s", "call us")
    console = Console(width=120)
    with torch.no_grad():
        for columns in options.columns:
            for case in cases(columns, options.length, torch.bfloat16):
                cells = row(case, options.seconds, flex=not options.no_flex)
                console.print(", ".join(cells))  # so that a run that is cut off has shown what it had
                table.add_row(*cells)
    console.print(table)


def row(case: Case, seconds: float, flex: bool) -> list[str]:
    """Times a case with its rivals, and cuDNN's dense attention as a yardstick."""
    error = case.check()
    if not error < 1e-2:
        raise SystemExit(f"{case.name}: relative error {error}")
    runs: dict[str, Run] = {"ours": case.ours}
    for name, rival in (("cuDNN", case.cudnn()), ("flex", case.flex() if flex else None)):
        if rival is not None:
            runs[name] = rival
    times = gpu_times(runs, seconds, batch=3)
    rates = {name: f"{case.flops / ms / 1e9:.0f}" for name, ms in times.items()}
    return [
        case.name,
        str(case.qkv[0].shape[3]),
        f"{error:.1e}",
        f"{times['ours']:.4f}",
        rates["ours"],
        rates.get("cuDNN", "-"),
        rates.get("flex", "-"),
        f"{call_time(case.ours):.0f}",
    ]


if __name__ == "__main__":
    main()
