"""`python -m benchmarks.gpu_rates`: what a tile of attention costs, as `gs.cost` counts: the table of gossamer/cost.py.

For each block and head size, lists whose rows have all the same number of blocks, few and many; the line through these
times gives what a tile takes and what each of its blocks adds.
"""

import argparse
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

import gossamer as gs
from benchmarks.gpu_attention import Run, gradients_of
from benchmarks.gpu_timing import gpu_times

BLOCKS = ((128, 128), (128, 64), (128, 32), (128, 16), (64, 64), (64, 32), (64, 16))
# Of the keys, how many a query sees: at the most and at the least.
SHARES = (0.5, 0.0625)


def rows_of(block: tuple[int, int], share: float, length: int) -> gs.BlockList:
    """A list whose rows have the same number of random blocks."""
    rows, columns = length // block[0], length // block[1]
    chosen = torch.rand(rows, columns).topk(int(columns * share)).indices
    return gs.BlockList.from_dense(
        torch.zeros(rows, columns, dtype=torch.bool).scatter(1, chosen, True).cuda(), block, (length, length)
    )


def attention_under(mask: gs.BlockList) -> Run:
    def run(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        out = gs.attention(q, k, v, mask)
        assert isinstance(out, Tensor)
        return out

    return run


def call_of(run: Run, tensors: Sequence[Tensor]) -> Callable[[], object]:
    return partial(run, *tensors)


def main() -> None:
    """Prints a line for each block, head size and direction."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--length", type=int, default=8192)
    parser.add_argument("--seconds", type=float, default=0.05)
    options = parser.parse_args()
    torch.manual_seed(0)
    length, multiprocessors = options.length, torch.cuda.get_device_properties(0).multi_processor_count
    for columns in (128, 64):
        qkv = [torch.randn(2, 16, length, columns, device="cuda", dtype=torch.bfloat16) for _ in range(3)]
        for block in BLOCKS:
            lists = {share: rows_of(block, share, length) for share in SHARES}
            for gradients in (False, True):
                if gradients and block[1] < 64:  # cut into other blocks
                    continue
                functions = {str(share): attention_under(mask) for share, mask in lists.items()}
                make = gradients_of if gradients else call_of
                runs = {name: make(function, qkv) for name, function in functions.items()}
                times = gpu_times(runs, options.seconds, batch=3)
                # Of one multiprocessor, in microseconds.
                tiles = 32 * length // block[0] / multiprocessors
                most, least = (times[str(share)] * 1e3 / tiles for share in SHARES)
                entries = [int(length // block[1] * share) for share in SHARES]
                step = (most - least) / (entries[0] - entries[1])
                print(f"    ({columns}, {block}, {gradients}): ({least - step * entries[1]:.2f}, {step:.3f}),")


if __name__ == "__main__":
    main()
