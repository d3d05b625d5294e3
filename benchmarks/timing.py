"""Timing of functions beside one another on the CPU."""

import time
from collections.abc import Callable, Mapping
from statistics import median


def interleaved(runs: Mapping[str, Callable[[], object]], seconds: float = 1.0, warmup: int = 2) -> dict[str, float]:
    """Times functions by turns, so that whatever else the machine does hits all of them alike.

    Args:
        runs: What to time, by name.
        seconds: How long to go on, all of them together; each runs 5 times at least.
        warmup: Calls of each that are not timed.

    Returns:
        The median time of a call in milliseconds, by name.
    """
    for run in runs.values():
        for _ in range(warmup):
            run()
    times: dict[str, list[float]] = {name: [] for name in runs}
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or min(map(len, times.values())) < 5:
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            times[name].append(time.perf_counter() - start)
    return {name: median(taken) * 1e3 for name, taken in times.items()}
