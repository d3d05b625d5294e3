"""Functions that torch.compile leaves as they are: what they make is memory of this moment, and no part of a graph."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

Function = TypeVar("Function", bound=Callable[..., Any])


def eager(function: Function) -> Function:
    """A function that breaks a graph, and runs as without torch.compile; which it does not load."""
    disabled: Callable[..., Any] | None = None

    @wraps(function)
    def call(*args: Any, **options: Any) -> Any:
        nonlocal disabled
        dynamo = sys.modules.get("torch._dynamo")
        if dynamo is None:
            return function(*args, **options)
        run = disabled = disabled or dynamo.disable(function)
        return run(*args, **options)

    call._torchdynamo_disable = True  # type: ignore[attr-defined]
    return call  # type: ignore[return-value]
