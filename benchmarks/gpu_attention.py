"""`python -m benchmarks.gpu_attention`: gs.attention on a GPU beside flex_attention and cuDNN's SDPA.

All in one process, in an order that changes all the time: the chip is limited by power, and whoever runs first on a
cold card reads 3-5 % high. Outputs and gradients are compared with float32 on a few heads before anything is timed.
Effective TFLOP/s are 4 x allowed entries x columns x batch x heads over the time, 2.5 times that for gradients of q,
k and v, which are timed without the forward.
"""

import argparse
import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import torch
import torch._functorch.config as functorch_config
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

import gossamer as gs
from benchmarks.gpu_timing import call_time, gpu_times
from gossamer.runtime import tiles

Run = Callable[..., Tensor]  # of q, k and v
# Of batch, head, query and key, as flex_attention's masks: whether it is allowed.
Function = Callable[..., Tensor]
# Of a score and these: what becomes of the score.
Score = Callable[..., Tensor]


class Case:
    """One mask at one head size; all tensors are [batch, heads, length, columns].

    `function` is a mask entry by entry, of which blocks are allowed in part; `score` changes scores.
    """

    sdpa = SDPBackend.CUDNN_ATTENTION

    def __init__(
        self, name: str, q: Tensor, k: Tensor, v: Tensor, blocks: Tensor | None, block: int, window: int,
        function: Function | None = None, score: Score | None = None,
    ):  # fmt: skip
        self.name, self.qkv, self.blocks, self.block, self.window = name, (q, k, v), blocks, block, window
        self.causal, self.score = window > 0, score
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

    def ours(self, *qkv: Tensor) -> Tensor:
        out = gs.attention(*qkv, self.mask, causal=self.causal, window=self.limit, score_mod=self.score)
        assert isinstance(out, Tensor)
        return out

    def dense(self) -> Run | None:
        """SDPA, which knows no block lists, no windows and no functions of scores."""
        if self.mask is not None or self.limit or self.score is not None:
            return None

        def run(*qkv: Tensor) -> Tensor:
            with sdpa_kernel(self.sdpa):
                return F.scaled_dot_product_attention(*qkv, is_causal=self.causal)

        return run

    def flex(self) -> Run | None:
        """flex_attention, for what is not dense."""
        if self.mask is None and not self.causal:
            return None
        from torch.nn.attention.flex_attention import create_block_mask, flex_attention

        length, block, blocks = self.qkv[0].shape[2], self.block, self.blocks
        if self.function is not None:
            mask = create_block_mask(self.function, None, None, length, length, device="cuda")
        elif blocks is None:
            window = self.window
            mask = create_block_mask(
                lambda b, h, i, j: (i >= j) & (i - j < window), None, None, length, length, device="cuda"
            )
        else:
            # In blocks of 128: those of 64 it does not compile for all head sizes.
            mask = create_block_mask(
                lambda b, h, i, j: blocks[i // block, j // block], None, None, length, length, device="cuda"
            )
        compiled = torch.compile(flex_attention, dynamic=False)
        return lambda *qkv: compiled(*qkv, block_mask=mask, score_mod=self.score)

    def check(self, with_gradients: bool) -> float:
        """The relative error of the first and the last head; of gradients the worst of the three."""
        tensors, out_grad = [tensor.detach().requires_grad_(with_gradients) for tensor in self.qkv], None
        out = self.ours(*tensors)
        results = [out]
        if with_gradients:
            out_grad = torch.randn_like(out)
            results = list(torch.autograd.grad(out, tensors, out_grad))
        worst = 0.0
        for b, h in ((0, 0), (-1, -1)):
            q, k, v = (tensor[b, h].detach().float().requires_grad_() for tensor in self.qkv)
            expected = self.expected(q, k, v, h % self.qkv[0].shape[1])
            wanted = [expected]
            if out_grad is not None:
                wanted = list(torch.autograd.grad(expected, (q, k, v), out_grad[b, h].float()))
            for got, one in zip(results, wanted, strict=True):
                worst = max(worst, ((got[b, h].float() - one).norm() / one.norm()).item())
        return worst

    def expected(self, q: Tensor, k: Tensor, v: Tensor, head: int) -> Tensor:
        """The output of one head."""
        scores = q @ k.T / math.sqrt(q.shape[1])
        if self.score is not None:
            places = torch.arange(len(scores), device="cuda")
            scores = self.score(scores, 0, head, places[:, None], places)
        if self.causal:
            scores = scores.masked_fill(torch.ones_like(scores, dtype=torch.bool).triu(1), -math.inf)
            scores = scores.masked_fill(torch.ones_like(scores, dtype=torch.bool).tril(-self.window), -math.inf)
        if self.allowed is not None:
            scores = scores.masked_fill(~self.allowed, -math.inf)
        if self.blocks is not None:
            allowed = self.blocks.repeat_interleave(self.block, 0).repeat_interleave(self.block, 1)
            scores = scores.masked_fill(~allowed, -math.inf)
        return torch.softmax(scores, -1).nan_to_num(0.0) @ v


def gradients_of(run: Run, tensors: Sequence[Tensor]) -> Callable[[], object]:
    """The backward of a function of tensors, again and again."""
    tensors = [tensor.detach().requires_grad_() for tensor in tensors]
    out = run(*tensors)
    out_grad = torch.randn_like(out)
    return lambda: torch.autograd.grad(out, tensors, out_grad, retain_graph=True)


def cases(columns: int, length: int, dtype: torch.dtype) -> Iterator[Case]:
    """Rows of the targets; B = 2, H = 16."""
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(2, 16, length, columns, device="cuda", dtype=dtype) for _ in range(3))
    yield Case("dense", q, k, v, None, 128, window=0)
    yield Case("causal", q, k, v, None, 128, window=length)
    yield Case("causal, window of 1024", q, k, v, None, 128, window=1024)
    slopes = 0.5 ** torch.arange(0.5, 8.5, 0.5, device="cuda")
    yield Case("causal, ALiBi", q, k, v, None, 128, window=length, score=lambda s, b, h, i, j: s - slopes[h] * (i - j))
    yield Case(
        "causal, soft cap of 20", q, k, v, None, 128, window=length,
        score=lambda s, b, h, i, j: 20 * torch.tanh(s / 20),
    )  # fmt: skip
    for block in (128, 64):
        blocks = torch.rand(length // block, length // block, generator=generator) < 0.1
        blocks.fill_diagonal_(True)
        yield Case(f"random, 10 % of blocks of {block}", q, k, v, blocks.cuda(), block, window=0)
    yield Case("BigBird, blocks of 64", q, k, v, big_bird(length // 64, generator).cuda(), 64, window=0)
    yield Case("Longformer, 256 on each side, 64 global", q, k, v, None, 128, window=0, function=longformer)
    yield Case("strided, causal: 128 and every 128th", q, k, v, None, 128, window=0, function=strided)
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


def strided(b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
    """Of the keys before a query the last 128, and every 128th."""
    return (i >= j) & ((i - j < 128) | (j % 128 == 127))


def main() -> None:
    """Runs all cases and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--columns", type=int, nargs="*", default=[128, 64])
    parser.add_argument("--length", type=int, default=8192)
    parser.add_argument("--seconds", type=float, default=0.2, help="GPU time for each function")
    parser.add_argument("--no-flex", action="store_true", help="without flex_attention, which compiles for seconds")
    parser.add_argument("--cases", nargs="*", default=[""], help="those whose name has one of these words")
    parser.add_argument("--flash", action="store_true", help="beside PyTorch's FlashAttention-2 instead of cuDNN")
    parser.add_argument("--chip", help="run programs that are made for this one, as sm_80, which the GPU runs, too")
    options = parser.parse_args()
    if options.chip:
        tiles.chip_for = lambda device: options.chip
    if options.flash:
        Case.sdpa = SDPBackend.FLASH_ATTENTION
    torch.manual_seed(0)
    functorch_config.donated_buffer = False  # a backward is run again and again
    # One function for dynamo, whatever the mask: it would stop compiling after eight of them.
    torch._dynamo.config.recompile_limit = 64
    heads = "mask", "columns", "what", "error", "ours ms", "TFLOP/s", "SDPA TFLOP/s", "flex TFLOP/s", "flex ms"
    table, console = Table(*heads, "call us"), Console(width=140)
    for columns in options.columns:
        for case in cases(columns, options.length, torch.bfloat16):
            if not any(word in case.name for word in options.cases):
                continue
            for with_gradients in (False, True):
                cells = row(case, options.seconds, not options.no_flex, with_gradients)
                console.print(", ".join(cells))  # so that a run that is cut off has shown what it had
                table.add_row(*cells)
    console.print(table)


def row(case: Case, seconds: float, flex: bool, with_gradients: bool) -> list[str]:
    """Times a case, or its gradients, with its rivals."""
    error = case.check(with_gradients)
    if not error < 1.5e-2:
        raise SystemExit(f"{case.name}: relative error {error}")
    functions: dict[str, Run] = {"ours": case.ours}
    for name, rival in (("SDPA", case.dense()), ("flex", case.flex() if flex else None)):
        if rival is not None:
            functions[name] = rival
    runs: dict[str, Callable[[], object]] = {}
    for name, function in functions.items():
        runs[name] = gradients_of(function, case.qkv) if with_gradients else partial(function, *case.qkv)
    times = gpu_times(runs, seconds, batch=3)
    flops = case.flops * (2.5 if with_gradients else 1)
    rates = {name: f"{flops / ms / 1e9:.0f}" for name, ms in times.items()}
    return [
        case.name,
        str(case.qkv[0].shape[3]),
        "bwd" if with_gradients else "fwd",
        f"{error:.1e}",
        f"{times['ours']:.4f}",
        rates["ours"],
        rates.get("SDPA", "-"),
        rates.get("flex", "-"),
        f"{times['flex']:.4f}" if "flex" in times else "-",
        f"{call_time(runs['ours']):.0f}",
    ]


if __name__ == "__main__":
    main()
