"""Timing of a function on the CPU."""

import time
from collections.abc import Callable
from statistics import median


def milliseconds(run: Callable[[], object], seconds: float = 0.5, warmup: int = 3) -> float:
    """Returns the median time of a call, over as many calls as fit into `seconds` (5 at least)."""
    for _ in range(warmup):
        run()
    times: list[float] = []
    end = time.perf_counter() + seconds
    while len(times) < 5 or time.perf_counter() < end:
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return median(times) * 1e3
