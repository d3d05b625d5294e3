"""What is made for good while PyTorch warms up a CUDA graph, whose pool of memory is for what goes with the graph; and
what operators of PyTorch do as if they were none."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from functools import cache
from typing import Any, TypeVar

import torch

_T = TypeVar("_T")


def apart(make: Callable[[], _T], device: torch.device) -> _T:
    """What a function returns on a thread of its own, on the current stream: pools are of a thread. So is what keeps an
    operator from tracing (as some patterns do).

    While a graph is captured nothing can be made at all but in its pool.
    """
    if device.type == "cuda" and torch.cuda.is_current_stream_capturing():
        return make()
    return on_a_thread(make, device)


def on_a_thread(make: Callable[[], _T], device: torch.device) -> _T:
    """What a function returns on a thread of its own, on the current stream, and without gradients unless it asks."""
    stream = torch.cuda.current_stream(device) if device.type == "cuda" else None

    def run() -> _T:
        with torch.no_grad(), torch.cuda.stream(stream):  # type: ignore[arg-type]
            return make()

    with ThreadPoolExecutor(1) as threads:
        return threads.submit(run).result()


def outside_of_operators() -> AbstractContextManager[Any]:
    """In an operator of PyTorch functions are neither traced nor differentiated; under this they are, on this thread.

    Gradients of tensors on a GPU are computed by one thread of PyTorch, which would wait for ever for another one that
    asked it for some.
    """
    return torch._C._ForceDispatchKeyGuard(*_plain_keys())


@cache
def _plain_keys() -> tuple[Any, Any]:
    """What a thread that does nothing else includes and excludes when it looks for an operation's kernel."""
    keys = torch._C._dispatch_tls_local_include_set, torch._C._dispatch_tls_local_exclude_set
    return on_a_thread(lambda: (keys[0](), keys[1]()), torch.device("cpu"))
