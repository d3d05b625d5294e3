"""Tracing without torch.compile: of its packages, `make_fx` and fake tensors use next to nothing.

They import `torch._dynamo` and `torch._inductor` on their way, which takes longer than all the rest of a first call.
Here these packages become deferred ones: their submodules can be imported, and the first use of anything else runs
their own `__init__`, as if they had been imported then. Whoever uses torch.compile later finds what they expect.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import sys
import threading
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

from torch._logging import _internal
from torch.fx.experimental import _config as experimental

_loading = threading.RLock()


class _Deferred(ModuleType):
    """A module whose code runs when it is first asked for a name that it does not have."""

    def __getattr__(self, name: str) -> Any:
        # names that tools look for in every module
        if name.startswith("__") and name != "__all__":
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        _load(self)
        if name in vars(self):
            return vars(self)[name]
        if "__getattr__" in vars(self):
            return vars(self)["__getattr__"](name)
        raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")


def _load(module: ModuleType) -> None:
    """Run a deferred module's code; what it imports may find it half-way, as in any circular import."""
    with _loading:
        if module.__name__ != _PACKAGES[0]:  # the others import parts of it on their way, and expect it whole
            _load(sys.modules[_PACKAGES[0]])
        if not isinstance(module, _Deferred) or module.__name__ in _half_way:
            return
        _half_way.add(module.__name__)
        for function in _undecided:
            vars(function).pop("__dynamo_disable", None)
        _undecided.clear()
        try:
            assert module.__spec__ is not None
            assert module.__spec__.loader is not None
            module.__spec__.loader.exec_module(module)
            module.__class__ = ModuleType
        finally:
            _half_way.discard(module.__name__)


_half_way: set[str] = set()


def _defer(name: str, **known: Any) -> None:
    """Put a deferred module in the place of one that nobody has imported yet."""
    if name in sys.modules:
        return
    spec = importlib.util.find_spec(name)
    if spec is None:
        return
    module = importlib.util.module_from_spec(spec)
    module.__class__ = _Deferred
    vars(module).update(known)
    sys.modules[name] = module
    parent, _, last = name.rpartition(".")
    setattr(sys.modules[parent], last, module)


# torch's functions that asked to be kept out of torch.compile while it was not there; they ask again once it is
_undecided: list[Callable[..., Any]] = []


def _disable(function: Callable[..., Any], recursive: bool = True, *, wrapping: bool = True) -> Callable[..., Any]:
    _undecided.append(function)
    return function


@contextlib.contextmanager
def without_torch_compile() -> Iterator[bool]:
    """While tracing: keep torch.compile from being loaded; gives whether it is not there."""
    if experimental.translation_validation or not _prepare():
        yield False
        return
    dynamo = sys.modules["torch._dynamo"]
    vars(dynamo)["disable"] = _disable
    try:
        yield True
    finally:
        with _loading:
            if isinstance(dynamo, _Deferred):
                del vars(dynamo)["disable"]


def load_torch_compile() -> None:
    """Import what was kept from being imported."""
    for name in _PACKAGES:
        _load(importlib.import_module(name))


_PACKAGES = ("torch._dynamo", "torch._inductor", "torch.fx.experimental.validator")
# what tracing uses of them, and takes for imported
_USED = (
    "torch._dynamo.config",
    "torch._inductor.config",
    "torch._inductor.compiler_bisector",
    "torch._inductor.fx_passes.dedupe_symint_uses",
    "torch._higher_order_ops.triton_kernel_wrap",
)


def _prepare() -> bool:
    """Whether torch's packages are deferred."""
    _defer("torch._dynamo")
    _defer("torch._inductor")
    _defer("torch.fx.experimental.validator", translation_validation_enabled=lambda: False)
    if not isinstance(sys.modules["torch._dynamo"], _Deferred):
        return False
    for name in _USED:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    # the first record of torch's trace makes it find out whether anybody wants one
    _internal.trace_structured("artifact", lambda: {"name": "gossamer"}, expect_trace_id=False)
    return isinstance(sys.modules["torch._dynamo"], _Deferred)
