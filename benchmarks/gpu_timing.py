"""Timing of functions beside one another on a CUDA GPU."""

import random
import time
from collections.abc import Callable, Mapping
from statistics import median

import torch

# Kernels wait behind this many cycles, so that the GPU has all of a batch before it begins: what is timed is the GPU's
# own time, and not how fast Python launches.
_HOLD = 4_000_000


def gpu_times(runs: Mapping[str, Callable[[], object]], seconds: float = 0.2, batch: int = 10) -> dict[str, float]:
    """GPU time of a call, without its launch.

    Args:
        runs: What to time, by name; taken in a new order every time, as a chip that was idle runs faster at first.
        seconds: GPU time for each.
        batch: Calls between two events.

    Returns:
        The median time of a call in milliseconds, by name.
    """
    for run in runs.values():
        for _ in range(3):
            run()
    taken: dict[str, list[float]] = {name: [] for name in runs}
    order = list(runs)
    while any(sum(times) * batch < seconds * 1e3 or len(times) < 5 for times in taken.values()):
        random.shuffle(order)
        for name in order:
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            torch.cuda.synchronize()
            torch.cuda._sleep(_HOLD)
            start.record()
            for _ in range(batch):
                runs[name]()
            end.record()
            torch.cuda.synchronize()
            taken[name].append(start.elapsed_time(end) / batch)
    return {name: median(times) for name, times in taken.items()}


def call_time(run: Callable[[], object], count: int = 200) -> float:
    """Time of a call among others, in microseconds: the median of batches. Of one that only launches, that is CPU time,
    as long as the GPU keeps up.
    """
    for _ in range(3):
        run()
    times = []
    for _ in range(20):
        torch.cuda.synchronize()
        start = time.perf_counter()
        for _ in range(count // 20):
            run()
        times.append((time.perf_counter() - start) / (count // 20))
    torch.cuda.synchronize()
    return median(times) * 1e6


def whole_time(run: Callable[[], object], count: int = 50) -> float:
    """Time of a call on an idle GPU until its result is there, in microseconds: the median."""
    for _ in range(3):
        run()
    times = []
    for _ in range(count):
        torch.cuda.synchronize()
        start = time.perf_counter()
        run()
        torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return median(times) * 1e6
