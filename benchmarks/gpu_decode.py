"""`python -m benchmarks.gpu_decode`: gs.attention of few queries, and of very long sequences, on a Hopper GPU.

Few queries against a long cache of keys are read from memory and hardly computed, so the table has times, and what is
read of keys and values in TB/s (4.2 is what a copy reaches on an H200); the last row is of a video model's length, in
TFLOP/s. Results are compared with float32 before they are timed, all in one process and in changing order.
"""

import argparse
from collections.abc import Callable, Iterator
from functools import partial

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.nn import functional as F

import gossamer as gs
from benchmarks.gpu_timing import call_time, gpu_times

COLUMNS = 128


class Case:
    """Queries of all batches and heads, and which blocks of keys each batch sees: [batch, blocks]; None: all."""

    def __init__(self, name: str, batch: int, heads: int, kv_heads: int, queries: int, keys: int, block: int = 0):
        self.name, self.block = name, block
        self.q, self.k, self.v = (
            torch.randn(batch, h, n, COLUMNS, device="cuda", dtype=torch.bfloat16)
            for h, n in ((heads, queries), (kv_heads, keys), (kv_heads, keys))
        )
        self.blocks, self.mask = None, None
        entries = batch * keys
        if block:
            # As many in each batch, as a list that is made of scores has.
            chosen = torch.rand(batch, keys // block, device="cuda").topk(keys // block // 10).indices.sort().values
            self.blocks = torch.zeros(batch, keys // block, dtype=torch.bool, device="cuda").scatter(1, chosen, True)
            count = torch.full((batch, 1, 1), chosen.shape[1], dtype=torch.int32, device="cuda")
            index = chosen[:, None, None].to(torch.int32)
            self.mask = gs.BlockList(count, index, (max(64, block), block), (queries, keys))
            entries = chosen.numel() * block
        self.bytes = 4 * entries * kv_heads * COLUMNS

    def ours(self) -> Tensor:
        out = gs.attention(self.q, self.k, self.v, self.mask)
        assert isinstance(out, Tensor)
        return out

    def rivals(self, with_flex: bool) -> dict[str, Callable[[], Tensor]]:
        """SDPA, which knows no block lists; flex_attention, which compiles for seconds."""
        q, k, v, blocks, block = self.q, self.k, self.v, self.blocks, self.block
        found: dict[str, Callable[[], Tensor]] = {}
        if blocks is None:
            found["SDPA"] = partial(F.scaled_dot_product_attention, q, k, v, enable_gqa=True)
        elif with_flex:
            from torch.nn.attention.flex_attention import create_block_mask, flex_attention

            mask = create_block_mask(
                lambda b, h, i, j: blocks[b, j // block], q.shape[0], None, q.shape[2], k.shape[2], device="cuda"
            )
            found["flex"] = partial(
                torch.compile(flex_attention, dynamic=False), q, k, v, block_mask=mask, enable_gqa=True
            )
        return found

    def error(self) -> float:
        """Relative, of the last batch."""
        group = self.q.shape[1] // self.k.shape[1]
        q, k, v = self.q[-1].float(), *(x[-1].float().repeat_interleave(group, 0) for x in (self.k, self.v))
        scores = q @ k.transpose(1, 2) / COLUMNS**0.5
        if self.blocks is not None:
            scores = scores.masked_fill(~self.blocks[-1].repeat_interleave(self.block), -torch.inf)
        expected = scores.softmax(-1) @ v
        return ((self.ours()[-1].float() - expected).norm() / expected.norm()).item()


def cases() -> Iterator[Case]:
    for block in (64, 128):
        yield Case(f"decode, 10 % of blocks of {block}", 8, 32, 8, 1, 16384, block)
    yield Case("decode, all keys", 8, 32, 8, 1, 16384)
    yield Case("decode, 10 % of blocks of 64, one text", 1, 32, 8, 1, 65536, 64)
    yield Case("decode, all keys, one text", 1, 32, 8, 1, 65536)
    yield Case("8 queries, 10 % of blocks of 64", 8, 32, 8, 8, 16384, 64)
    yield Case("256 queries of 4 heads, all keys", 1, 4, 4, 256, 65536)


def video() -> tuple[Callable[[], Tensor], float, float]:
    """7 heads of 109632 tokens, each block of 64 of which sees 64 such blocks: the call, its error and its FLOPs."""
    heads, length, block, top = 7, 109632, 64, 64
    blocks = length // block
    q, k, v = (torch.randn(1, heads, length, COLUMNS, device="cuda", dtype=torch.bfloat16) for _ in range(3))
    index = torch.rand(1, heads, blocks, blocks, device="cuda").topk(top).indices.sort().values.to(torch.int32)
    count = torch.full((1, heads, blocks), top, dtype=torch.int32, device="cuda")
    mask = gs.BlockList(count, index, block, (length, length))
    out = gs.attention(q, k, v, mask)
    assert isinstance(out, Tensor)
    worst = 0.0
    for head, row in ((0, 0), (3, 777), (heads - 1, blocks - 1)):
        rows = slice(row * block, row * block + block)
        keys, values = (x[0, head].unflatten(0, (-1, block))[index[0, head, row].long()].flatten(0, 1) for x in (k, v))
        expected = (q[0, head, rows].float() @ keys.float().T / COLUMNS**0.5).softmax(-1) @ values.float()
        worst = max(worst, ((out[0, head, rows].float() - expected).norm() / expected.norm()).item())
    return partial(gs.attention, q, k, v, mask), worst, 4.0 * heads * length * top * block * COLUMNS  # type: ignore[return-value]


def main() -> None:
    """Runs all cases and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=0.1, help="GPU time for each function")
    parser.add_argument("--no-flex", action="store_true", help="without flex_attention, which compiles for seconds")
    parser.add_argument("--cases", nargs="*", default=[""], help="those whose name has one of these words")
    options = parser.parse_args()
    torch.manual_seed(0)
    torch._dynamo.config.recompile_limit = 64
    table = Table("case", "error", "ours ms", "rate", "rival", "its ms", "call us")
    console = Console(width=140)

    def add(*cells: str) -> None:
        console.print(", ".join(cells))  # so that a run that is cut off has shown what it had
        table.add_row(*cells)

    def checked(name: str, error: float) -> str:
        if not error < 1.5e-2:
            raise SystemExit(f"{name}: relative error {error}")
        return f"{error:.1e}"

    with torch.no_grad():
        for case in cases():
            if not any(word in case.name for word in options.cases):
                continue
            error = checked(case.name, case.error())
            rivals = case.rivals(not options.no_flex)
            times = gpu_times({"ours": case.ours, **rivals}, options.seconds)
            ours, rival = times["ours"], next(iter(rivals), "-")
            rate = f"{case.bytes / ours / 1e9:.2f} TB/s"
            other = f"{times[rival]:.4f}" if rivals else "-"
            add(case.name, error, f"{ours:.4f}", rate, rival, other, f"{call_time(case.ours):.0f}")
        name = "video: 64 of 1713 blocks of 64"
        if any(word in name for word in options.cases):
            run, worst, flops = video()
            error, ours = checked(name, worst), gpu_times({"ours": run}, options.seconds, batch=3)["ours"]
            add(name, error, f"{ours:.4f}", f"{flops / ours / 1e9:.0f} TFLOP/s", "-", "-", f"{call_time(run):.0f}")
    console.print(table)


if __name__ == "__main__":
    main()
