"""Costs of the compiler itself: first calls in new processes, and the CPU time of a call.

    python -m benchmarks.costs

A first call is measured in processes of its own, after `import torch`, from `import gossamer` on; the median of
several. The CPU time of a call is that of this thread, all that the call does included, for a problem of next to no
work: the least of several means, on one thread of PyTorch.
"""

import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from statistics import median

import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

_PROCESSES = 3
_CALLS, _ROUNDS = 300, 15
_BLOCK, _SIZE = 16, 64


def attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    scores = (q @ k.mT / math.sqrt(q.shape[-1])).masked_fill(~mask, -math.inf)
    return torch.softmax(scores, -1) @ v


def linear(x: Tensor, weight: Tensor) -> Tensor:
    return F.linear(x, weight)


def small(name: str, grad: bool = False) -> Callable[[], object]:
    """A compiled call with next to no work: one stored block.

    Args:
        name: "attention", "linear" or "module".
        grad: Whether a dense operand requires a gradient.
    """
    import gossamer as gs

    block = gs.BSR(_BLOCK)
    one = torch.zeros(_SIZE, _SIZE)
    one[:_BLOCK, :_BLOCK] = 1.0
    if name == "attention":
        q = torch.randn(_SIZE, _BLOCK, requires_grad=grad)
        mask = gs.sparsify(one.bool(), block)
        attend = gs.sparse_jit(mask=block)(attention)
        return lambda: attend(q, q, q, mask)
    x = torch.randn(_SIZE, _SIZE, requires_grad=grad)
    if name == "linear":
        weight = gs.sparsify(one, block)
        apply = gs.sparse_jit(weight=block)(linear)
        return lambda: apply(x, weight)
    layer = nn.Sequential(nn.Linear(_SIZE, _SIZE, bias=False))
    layer[0].weight = nn.Parameter(one, requires_grad=grad)
    module = gs.sparse_jit(layer, {"0.weight": block})
    return lambda: module(x)


def first_call(name: str) -> float:
    """Seconds of `import gossamer` and the first call, in a process that has imported torch."""
    start = time.perf_counter()
    import gossamer  # noqa: F401

    imported = time.perf_counter()
    run = small(name)
    begin = time.perf_counter()
    run()
    return imported - start + time.perf_counter() - begin


def in_new_processes(name: str, folders: list[str]) -> float:
    """The median of `first_call` in one process for each cache folder, one after another."""
    code = f"import torch; from benchmarks.costs import first_call; print(first_call({name!r}))"
    seconds = []
    for folder in folders:
        environment = {**os.environ, "GOSSAMER_CACHE_DIR": folder}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)  # an installed package has its byte code
        output = subprocess.check_output([sys.executable, "-c", code], env=environment, text=True)
        seconds.append(json.loads(output.splitlines()[-1]))
    return median(seconds)


def call_time(run: Callable[[], object]) -> float:
    """Microseconds of CPU time of one call."""
    for _ in range(20):
        run()
    rounds = []
    for _ in range(_ROUNDS):
        start = time.thread_time()
        for _ in range(_CALLS):
            run()
        rounds.append((time.thread_time() - start) / _CALLS * 1e6)
    return min(rounds)


def compiles_for_new_sizes() -> int:
    """How many kernels a new mask, length and batch compile, after a first call."""
    import gossamer as gs
    from gossamer.compiler.library import Library

    texts = []
    compile = Library.compile
    Library.compile = lambda self, text, **options: texts.append(text) or compile(self, text, **options)
    try:
        attend = gs.sparse_jit(mask=gs.BSR(_BLOCK))(attention)
        for number, (batch, length) in enumerate([(2, 64), (2, 64), (2, 128), (3, 32)]):
            q = torch.randn(batch, length, _BLOCK)
            places = torch.arange(length) // _BLOCK
            mask = (places[:, None] - places).abs() <= number % 2
            attend(q, q, q, gs.sparsify(mask, gs.BSR(_BLOCK)))
            if number == 0:
                texts.clear()
    finally:
        Library.compile = compile
    return len(texts)


def main() -> int:
    """Prints the table.

    Returns:
        How many bars were missed.
    """
    from gossamer.compiler.library import library

    title = f"Costs of the compiler itself, {library().host_cpu}, torch {torch.__version__}"
    table = Table("what", "of", title=title)
    for column in ("measured", "must", "goal"):
        table.add_column(column, justify="right")
    missed = 0

    def row(what: str, of: str, measured: float, must: float, goal: float, unit: str) -> None:
        nonlocal missed
        missed += measured > must
        text = f"{measured:.3g} {unit}{' (missed)' if measured > must else ''}"
        table.add_row(what, of, text, f"{must:g} {unit}", f"{goal:g} {unit}")

    for name in ("attention", "linear"):
        with tempfile.TemporaryDirectory() as top:
            folders = [os.path.join(top, str(number)) for number in range(_PROCESSES)]
            row("first call, nothing cached", name, in_new_processes(name, folders), 3, 1, "s")
            row("first call, cache on disk", name, in_new_processes(name, folders), 1, 0.3, "s")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    for name in ("attention", "linear", "module"):
        with torch.no_grad():
            row("CPU time of a call, no grad", name, call_time(small(name)), 20, 8, "us")
        row("CPU time of a call, grad", name, call_time(small(name, grad=True)), 40, 20, "us")
    torch.set_num_threads(threads)
    row("kernels compiled", "a new mask, length, batch", compiles_for_new_sizes(), 0, 0, "")
    Console(width=120).print(table)
    return missed


if __name__ == "__main__":
    raise SystemExit(bool(main()))
