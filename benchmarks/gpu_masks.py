"""`python -m benchmarks.gpu_masks`: what making a mask costs on a GPU, beside flex_attention's ways to make one.

GPU time of a call, all in one process, in an order that changes all the time; and CPU time of a call of ours. Lists are
compared with flex_attention's before anything is timed.
"""

import argparse
from collections.abc import Callable
from functools import partial

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

import gossamer as gs
from benchmarks.gpu_timing import call_time, gpu_times

Make = Callable[[], object]


def flex_list(scores: Tensor, k: int, block: int, length: int, transposed: bool) -> object:
    """flex_attention's list of the k largest, as whole blocks: what its users write."""
    from torch.nn.attention.flex_attention import BlockMask

    index = torch.zeros(scores.shape, dtype=torch.int32, device=scores.device)
    index[..., :k] = scores.topk(k, dim=-1).indices.sort(-1).values
    count = torch.full(scores.shape[:-1], k, dtype=torch.int32, device=scores.device)
    none = torch.zeros_like(count), torch.zeros_like(index)
    return BlockMask.from_kv_blocks(
        *none, count, index, BLOCK_SIZE=block, seq_lengths=(length, length), compute_q_blocks=transposed
    )


def our_list(scores: Tensor, k: int, block: int, length: int, transposed: bool, ordered: bool = False) -> gs.BlockList:
    """Ours; with the order of tiles of attention with heads of 128 columns, if that is wanted."""
    blocks = gs.topk_blocks(scores, k, block=block, shape=(length, length))
    lists = (blocks, blocks.transposed()) if transposed else (blocks,)
    if ordered:
        for one in lists:
            one.order(*scores.shape[:2], 2 * length * 128 * 2)
    return blocks


def topk(length: int, heads: int, k: int) -> dict[str, tuple[Make, Make | None]]:
    """Top-k of scores of blocks of 128: ours and flex_attention's by name."""
    block = 128
    count = length // block
    scores = torch.randn(1, heads, count, count, device="cuda")
    weights = scores.softmax(-1)
    ours, theirs = (make(scores, k, block, length, True) for make in (our_list, flex_list))
    assert torch.equal(ours.index, theirs.full_kv_indices[..., :k])  # type: ignore[attr-defined]
    turned, columns = ours.transposed(), torch.arange(count, device="cuda")
    assert torch.equal(turned.count, theirs.full_q_num_blocks)  # type: ignore[attr-defined]
    used = columns < turned.count[..., None]
    assert torch.equal(turned.index[used], theirs.full_q_indices[used])  # type: ignore[attr-defined]
    what = f"top-{k} of blocks, S={length}, {heads} heads"
    return {
        what: (
            lambda: our_list(scores, k, block, length, False),
            lambda: flex_list(scores, k, block, length, False),
        ),
        f"{what}, transposed": (
            lambda: our_list(scores, k, block, length, True),
            lambda: flex_list(scores, k, block, length, True),
        ),
        f"{what}, transposed, both in order": (lambda: our_list(scores, k, block, length, True, True), None),
        f"{what}, of the mass 0.9": (
            lambda: gs.threshold_blocks(weights, mass=0.9, block=block, shape=(length, length)),
            None,
        ),
    }


def masks(length: int) -> dict[str, tuple[Make, Make | None]]:
    """Masks entry by entry."""
    from torch.nn.attention.flex_attention import create_block_mask

    at = torch.arange(length, device="cuda")
    window = (at[:, None] >= at) & (at[:, None] - at < 1024)
    make = torch.compile(create_block_mask)
    ids = torch.randint(8, (length,), device="cuda").sort().values
    chosen = torch.randint(length, (length, 256), device="cuda")
    q, k = (torch.randn(1, 16, length, 128, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    p = gs.patterns
    named = {
        "causal": (p.causal(), lambda b, h, i, j: i >= j),
        "causal window of 1024": (p.causal() & p.sliding_window(1024), lambda b, h, i, j: (i >= j) & (i - j < 1024)),
        "causal, window, 64 global": (
            p.causal() & (p.sliding_window(256) | p.global_tokens(64)),
            lambda b, h, i, j: (i >= j) & ((i - j < 256) | (i < 64) | (j < 64)),
        ),
    }
    positions = {
        f"{name}, S={length}": (
            partial(gs.pattern_blocks, pattern, (length, length), block=128, device="cuda"),
            partial(make, function, None, None, length, length, device="cuda"),
        )
        for name, (pattern, function) in named.items()
    }
    return {
        **positions,
        f"dense mask (causal window), S={length}": (
            lambda: gs.mask_blocks(window, block=128),
            positions[f"causal window of 1024, S={length}"][1],
        ),
        f"buckets, S={length}": (
            lambda: gs.bucket_blocks(ids, ids, block=128),
            partial(make, lambda b, h, i, j: ids[i] == ids[j], None, None, length, length, device="cuda"),
        ),
        f"256 keys of each query, S={length}": (lambda: gs.token_blocks(chosen, length, block=128), None),
        f"vertical and slash, S={length}, 16 heads": (
            lambda: gs.vertical_slash_blocks(q, k, vertical=1000, slash=64, block=128),
            None,
        ),
    }


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--no-flex", action="store_true", help="leave flex_attention out")
    parser.add_argument("--seconds", type=float, default=0.1, help="GPU time for each function")
    options = parser.parse_args()
    torch.manual_seed(0)
    table = Table("mask", "us", "flex us", "ratio", "CPU us")
    console = Console(width=120)
    for name, (ours, theirs) in {**topk(65536, 16, 51), **topk(8192, 16, 16), **masks(8192)}.items():
        runs = {"ours": ours} if options.no_flex or theirs is None else {"ours": ours, "flex": theirs}
        times = {of: time * 1e3 for of, time in gpu_times(runs, options.seconds).items()}
        flex = times.get("flex")
        row = (
            name,
            f"{times['ours']:.1f}",
            "-" if flex is None else f"{flex:.1f}",
            "-" if flex is None else f"{flex / times['ours']:.1f}x",
            f"{call_time(ours):.0f}",
        )
        console.print(", ".join(row))  # so that a run that is cut off has shown what it had
        table.add_row(*row)
    console.print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}", table)


if __name__ == "__main__":
    main()
