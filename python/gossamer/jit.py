"""`gs.sparse_jit`: run a PyTorch function or module with compiled sparse regions."""

from __future__ import annotations

import functools
import inspect
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from torch import nn

from gossamer.engine import Engine
from gossamer.errors import AnnotationError, suggest
from gossamer.formats import Format
from gossamer.frontend.leaf import is_tracing
from gossamer.weights import sparsify_parameters


@dataclass(frozen=True)
class JitOptions:
    """What `sparse_jit` was told.

    Attributes:
        formats: argument name -> format.
        parameters: parameter glob -> format, (format, sparsifier), or a function from the weight to a SparseTensor.
        fullgraph: whether a fallback to PyTorch is an error.
        backend: "compiled", or "reference" for regions that run densely in PyTorch (for tests).
    """

    formats: Mapping[str, Format] = field(default_factory=dict)
    parameters: Mapping[str, Any] = field(default_factory=dict)
    fullgraph: bool = False
    backend: str = "compiled"


def sparse_jit(
    target: Any = None,
    parameters: Mapping[str, Any] | None = None,
    /,
    *,
    fullgraph: bool = False,
    backend: str = "compiled",
    **formats: Format,
) -> Any:
    """Compiles the parts of a function or module that sparse tensors touch; the rest stays with PyTorch.

    A decorator, with or without arguments, or a call::

        @gs.sparse_jit
        @gs.sparse_jit(mask=gs.BSR(64))
        gs.sparse_jit(model, {"*.fc1.weight": gs.BSR(32)})
        gs.sparse_jit(mask=gs.CSR)(module)

    Compilation happens at the first call, for any sizes: every size other than 1 of an argument may change from call to
    call. A sparse argument is a SparseTensor, torch's own sparse tensor, or a dense tensor for an annotated name, which
    is then stored sparsely in each call (`explain` counts the cost). A float argument with -inf in it is an additive
    mask: entries that are -inf are not stored. Numbers of -1e9 and below that a mask puts in count as -inf, and a row
    of scores with nothing allowed has a softmax of 0.

    Args:
        target: A function, an nn.Module class (changed in place), or an nn.Module (which stays as it is, but for the
            parameters named: the result is a module of the same class that shares all its attributes).
        parameters: For parameters whose full name matches a glob (`*` crosses dots; the first that matches counts): a
            format (n:m keeps the n largest of every m, any other drops zeros only), a pair (format, sparsifier) such as
            `(gs.BSR(32), gs.magnitude(0.1))`, or a function from the weight to a SparseTensor. They are stored
            sparsely at once, see `gs.parameters.attach`.
        fullgraph: Whether an operation with a sparse operand that has to run densely in PyTorch is an error.
        backend: "compiled", or "reference" to run regions densely in PyTorch.
        formats: Argument name -> format.

    Raises:
        AnnotationError: No argument or parameter has such a name.
        TraceError: At the first call: the function cannot be traced.
        UnsupportedError: At the first call: an operation cannot be compiled, and `fullgraph` is set.
    """
    if isinstance(target, Mapping) and parameters is None:
        target, parameters = None, target
    options = JitOptions(dict(formats), dict(parameters or {}), fullgraph, backend)
    for name, format in options.formats.items():
        if not isinstance(format, Format):
            raise AnnotationError(f"{name}={format!r}: an argument is annotated with a Format such as gs.CSR")
    if target is None:
        return functools.partial(_apply, options=options)
    return _apply(target, options=options)


def engine_of(target: Any) -> Engine:
    """The engine of what `sparse_jit` returned, or of a plain function or module, as if it were decorated bare.

    Raises:
        AnnotationError: The target is nothing of the kind.
    """
    if isinstance(target, SparseFunction):
        return target.engine
    if isinstance(target, nn.Module):
        return _module_engine(target) if hasattr(type(target), _OPTIONS) else engine_of(sparse_jit(target))
    if callable(target):
        return SparseFunction(target, JitOptions()).engine
    raise AnnotationError(f"{target!r} is no function or module")


def _apply(target: Any, options: JitOptions) -> Any:
    if isinstance(target, type) and issubclass(target, nn.Module):
        return _decorate_class(target, options)
    if isinstance(target, nn.Module):
        return _decorate_instance(target, options)
    if callable(target):
        return SparseFunction(target, options)
    raise AnnotationError(
        f"sparse_jit takes a function, an nn.Module or an nn.Module class, not a {type(target).__name__}"
    )


def _signature(function: Callable[..., Any]) -> inspect.Signature:
    try:
        return inspect.signature(function)
    except ValueError:  # a built-in: its arguments have no names
        return inspect.Signature([inspect.Parameter("args", inspect.Parameter.VAR_POSITIONAL)])


def _check_names(signature: inspect.Signature, options: JitOptions, where: str) -> None:
    kinds = {name: parameter.kind for name, parameter in signature.parameters.items()}
    known = [name for name, kind in kinds.items() if kind not in _COLLECTING]
    if inspect.Parameter.VAR_KEYWORD in kinds.values():
        return
    for name in options.formats:
        if name not in known:
            raise AnnotationError(
                f"{where} has no argument {name!r}{suggest(name, known)} (it has {', '.join(known) or 'none'})"
            )


_COLLECTING = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


class SparseFunction:
    """A function under `sparse_jit`."""

    def __init__(self, function: Callable[..., Any], options: JitOptions):
        functools.update_wrapper(self, function)
        self.function = function
        signature = _signature(function)
        _check_names(signature, options, getattr(function, "__name__", "the function"))
        if options.parameters:
            raise AnnotationError("parameter globs belong to modules; a function has only arguments")
        self.engine = Engine(function, signature, options)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Runs the function."""
        if is_tracing():
            args, kwargs = self.engine.annotated(args, kwargs)
            return self.function(*args, **kwargs)
        return self.engine(args, kwargs)

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        """A method binds as functions do."""
        return self if instance is None else functools.partial(self, instance)


# --- modules: their __call__ is ours while nothing is being traced, and nn.Module's while something is

_OPTIONS = "_gossamer_options"
_engines: weakref.WeakKeyDictionary[nn.Module, Engine] = weakref.WeakKeyDictionary()


def _decorate_class(cls: type[nn.Module], options: JitOptions) -> type[nn.Module]:
    _check_names(_forward_signature(cls), options, f"{cls.__name__}.forward")
    original_init = cls.__init__

    @functools.wraps(original_init)
    def init(self: nn.Module, *args: Any, **kwargs: Any) -> None:
        original_init(self, *args, **kwargs)
        sparsify_parameters(self, options.parameters)

    if options.parameters:
        cls.__init__ = init
    setattr(cls, _OPTIONS, options)
    cls.__call__ = _call_module
    return cls


def _decorate_instance(module: nn.Module, options: JitOptions) -> nn.Module:
    _check_names(_forward_signature(type(module)), options, f"{type(module).__name__}.forward")
    sparsify_parameters(module, options.parameters)
    twin = _twin_class(type(module), replace(options, parameters={}))
    return _with_dict(twin, module.__dict__)


def _twin_class(cls: type[nn.Module], options: JitOptions) -> type[nn.Module]:
    body = {"__call__": _call_module, "__reduce_ex__": _reduce, "__module__": cls.__module__, _OPTIONS: options}
    return type(cls.__name__, (cls,), body)


def _with_dict(cls: type[nn.Module], attributes: dict[str, Any]) -> nn.Module:
    """A module that shares all attributes, parameters and submodules with the one whose ``__dict__`` this is."""
    twin = cls.__new__(cls)
    object.__setattr__(twin, "__dict__", attributes)
    return twin


def _reduce(self: nn.Module, protocol: Any) -> Any:
    return _rebuild, (type(self).__mro__[1], getattr(type(self), _OPTIONS), self.__dict__.copy())


def _rebuild(cls: type[nn.Module], options: JitOptions, attributes: dict[str, Any]) -> nn.Module:
    return _with_dict(_twin_class(cls, options), attributes)


def _forward_signature(cls: type[nn.Module]) -> inspect.Signature:
    signature = inspect.signature(cls.forward)
    return signature.replace(parameters=list(signature.parameters.values())[1:])


def _call_module(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
    engine = _module_engine(self)
    if is_tracing():
        args, kwargs = engine.annotated(args, kwargs)
        return nn.Module.__call__(self, *args, **kwargs)
    return engine(args, kwargs)


def _module_engine(module: nn.Module) -> Engine:
    if module not in _engines:
        options = getattr(type(module), _OPTIONS)
        _engines[module] = Engine(module, _forward_signature(type(module)), options)
    return _engines[module]
