"""What a decorated function does when it is called: store arguments sparsely, find the program that fits, run it."""

from __future__ import annotations

import functools
import inspect
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.sparse import SparseSemiStructuredTensor
from torch.utils._pytree import keystr, tree_flatten, tree_flatten_with_path, tree_map, tree_unflatten

from gossamer.conversion.kept import why_not_stored
from gossamer.entry import MISS, Entry, make_entry, shared_patterns
from gossamer.errors import AnnotationError, TensorError, TraceError, UnsupportedError
from gossamer.execute import Warnings
from gossamer.formats import Format
from gossamer.frontend.leaf import MASKING, Leaf, Stored
from gossamer.sparsify import sparsify
from gossamer.state import ModuleState
from gossamer.tensor import SparseTensor, from_torch

if TYPE_CHECKING:
    from gossamer.frontend.program import Program
    from gossamer.jit import JitOptions


# how many programs a call looks at before it makes a key
_ENTRIES = 4


@dataclass
class Conversion:
    """An argument that was stored anew in a call."""

    name: str
    what: str
    milliseconds: float


@dataclass
class Call:
    """What one call did; filled in when somebody asks (`explain`)."""

    program: Program | None = None
    leaves: list[Any] = field(default_factory=list)
    conversions: list[Conversion] = field(default_factory=list)
    was_traced: bool = False
    milliseconds: float = 0.0


class Engine:
    """Compiles and runs one function or module.

    Args:
        target: The function or module.
        signature: Its arguments, without self.
        options: What `sparse_jit` was told.
    """

    def __init__(self, target: Callable[..., Any], signature: inspect.Signature, options: JitOptions):
        self.target = target
        self.signature = signature
        self.options = options
        self.warn = Warnings()
        self.programs: dict[Any, list[Program]] = {}
        self._shortened: dict[Program, Entry | None] = {}
        self._entries: tuple[Entry, ...] = ()  # of the programs that were used last
        self._positions = {
            name: number
            for number, (name, parameter) in enumerate(signature.parameters.items())
            if parameter.kind in (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
        }
        self._state = ModuleState(target) if isinstance(target, nn.Module) else None

    def __call__(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run on the arguments."""
        for enter in self._entries:
            result = enter(args, kwargs)
            if result is not MISS:
                return result
        return self.run(args, kwargs, None)

    def run(self, args: tuple[Any, ...], kwargs: dict[str, Any], call: Call | None) -> Any:
        """Run on the arguments, and write down in `call` what was done."""
        program, leaves, shapes = self._prepare(args, kwargs, call)
        start = time.perf_counter()
        result = program(shapes, leaves)
        if call is not None:
            call.milliseconds = (time.perf_counter() - start) * 1e3
        self._shorten(program, args, kwargs, leaves)
        return result

    def _shorten(self, program: Program, args: tuple[Any, ...], kwargs: dict[str, Any], leaves: list[Any]) -> None:
        """Next time, arguments like these go the short way."""
        if program not in self._shortened:
            values = [*args, *kwargs.values()]
            tensors = [value for value in values if isinstance(value, _TENSORS)]
            as_given = all(given is leaf for given, leaf in zip(tensors, leaves, strict=False))
            self._shortened[program] = (
                make_entry(program, len(args), tuple(kwargs), values, self._state) if as_given else None
            )
        enter = self._shortened[program]
        if enter is not None and enter not in self._entries[:1]:
            self._entries = (enter, *(other for other in self._entries[: _ENTRIES - 1] if other is not enter))

    def program(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Program:
        """The program for these arguments, which may be on the meta device; nothing is run."""
        return self._prepare(args, kwargs, None, runs=False)[0]

    def _prepare(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], call: Call | None, runs: bool = True
    ) -> tuple[Program, list[Any], list[torch.Size]]:
        args, kwargs = self._stored(args, kwargs, call, runs)
        values, spec = _flatten(args, kwargs)
        key = [spec]
        leaves: list[Any] = []
        for value in values:
            if isinstance(value, _TENSORS):
                leaves.append(value)
                key.append(_leaf_key(value))
            else:
                # as text, 0.0 is not -0.0 and nan is nan
                key.append((type(value), value.hex() if isinstance(value, float) else value))
        if self._state is not None:
            own, state_key = self._state.read()
            leaves += own
            key.append(state_key)
        patterns = shared_patterns(leaves)
        key.append((*_mode_key(), patterns))
        shapes = [leaf.shape for leaf in leaves]
        try:
            fitting = self.programs.setdefault(tuple(key), [])
        except TypeError:
            raise self._unhashable(values) from None
        program = next((program for program in fitting if program.fits(shapes)), None)
        if program is None:
            program = self._build(args, kwargs, values, spec, leaves, patterns, fitting, shapes)
            if call is not None:
                call.was_traced = True
        if call is not None:
            call.program, call.leaves = program, leaves
        return program, leaves, shapes

    # --- arguments

    def _stored(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], call: Call | None, runs: bool
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments with the annotated ones as SparseTensors."""
        if not self.options.formats:
            return args, kwargs

        def store(name: str, format: Format, value: Any) -> Any:
            return self._store(name, value, format, call, runs)

        return self._mapped(args, kwargs, store)

    def _mapped(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], change: Callable[[str, Format, Any], Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments with `change(name, format, value)` for each tensor of an annotated one."""
        positional, named = list(args), kwargs
        for name, format in self.options.formats.items():
            place = self._positions.get(name, len(positional))
            if place < len(positional):
                positional[place] = _each(positional[place], functools.partial(change, name, format))
            elif named.get(name) is not None:
                named = {**named, name: _each(named[name], functools.partial(change, name, format))}
        return tuple(positional), named

    def _store(self, name: str, value: Any, format: Format, call: Call | None, runs: bool) -> Any:
        _check_plain(value, name)
        if isinstance(value, Tensor) and value.layout != torch.strided:
            value = from_torch(value)
        if not isinstance(value, Tensor | SparseTensor):
            raise AnnotationError(
                f"the argument {name!r} is annotated with {format} and must be a tensor, not a {type(value).__name__}"
            )
        fitted = _fitted(format, value.dim())
        if isinstance(value, SparseTensor) and value.format == fitted:
            return value
        if value.device.type == "meta":
            fill = value.fill if isinstance(value, SparseTensor) else None
            return _MetaSparse(value.shape, value.dtype, fitted, fill)
        start = time.perf_counter()
        before = value
        value = value.to(fitted) if isinstance(value, SparseTensor) else _sparsified(value, fitted)
        if call is not None:
            origin = f"from {before.format}" if isinstance(before, SparseTensor) else "from a dense tensor"
            elapsed = (time.perf_counter() - start) * 1e3
            is_sparse = isinstance(before, SparseTensor)
            why = before.pattern.why_sorted(fitted) if is_sparse else why_not_stored(before, fitted)
            by = f", by PyTorch operations ({why})" if why else ""
            call.conversions.append(Conversion(name, f"{origin} to {fitted}{by}", elapsed))
        return value

    def _unhashable(self, values: Sequence[Any]) -> TraceError:
        for value in values:
            try:
                hash(value)
            except TypeError:
                return TraceError(
                    f"an argument of type {type(value).__name__} is neither a tensor, nor a container that torch's "
                    "pytree knows, nor a hashable constant; pass tensors, numbers or strings instead"
                )
        raise AssertionError("all values are hashable")

    # --- tracing

    def _build(
        self,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        values: list[Any],
        spec: Any,
        leaves: list[Any],
        patterns: tuple[int, ...],
        fitting: list[Program],
        shapes: list[torch.Size],
    ) -> Program:
        from gossamer.frontend.program import build

        names = self._names(args, kwargs) + (self._state.names if self._state else [])
        slots = [number for number, value in enumerate(values) if isinstance(value, _TENSORS)]
        static = range(len(slots), len(slots) + (self._state.static if self._state else 0))
        numbers = iter(patterns)
        described = [
            _leaf(name, leaf, number in static, next(numbers) if _is_leaf(leaf) else None)
            for number, (name, leaf) in enumerate(zip(names, leaves, strict=True))
        ]
        state, target = self._state, self.target

        def call(tensors: list[Tensor]) -> Any:
            filled = list(values)
            for number, tensor in zip(slots, tensors, strict=False):
                filled[number] = tensor
            args, kwargs = _unflatten(filled, spec)
            if state is None:
                return target(*args, **kwargs)
            return state.call(tensors[len(slots) :], args, kwargs)

        try:
            program = build(call, described, self.options.backend, self.warn, self.options.fullgraph)
        except TraceError as error:
            raise _other_devices(described) or error from error
        if not program.fits(shapes):
            # an empty tensor was traced as if it had some length, and the function asks
            described = [replace(leaf, static=leaf.static or 0 in leaf.shape) for leaf in described]
            program = build(call, described, self.options.backend, self.warn, self.options.fullgraph)
        self._report_fallbacks(program)
        self._report_gradients(program)
        if any(0 in leaf.shape and leaf.static for leaf in described) or not program.fits(shapes):
            program.fits = functools.partial(_same_shapes, tuple(map(tuple, shapes)))
        fitting.append(program)
        return program

    def _report_gradients(self, program: Program) -> None:
        """Says that a gradient of the user's own making is not what backward will compute."""
        if not torch.is_grad_enabled():
            return
        for name in program.trace.own_gradients:
            text = f"the backward of {name} is not used: gradients are those of what its forward computes"
            if self.options.fullgraph:
                raise UnsupportedError(
                    f"{text}. Keep {name} out of the compiled function, or compile without fullgraph"
                )
            self.warn.once(f"autograd.Function {name}", text)

    def _report_fallbacks(self, program: Program) -> None:
        if not program.fallbacks:
            return
        if self.options.fullgraph:
            operation, reason = next(iter(program.fallbacks.items()))
            raise UnsupportedError(f"fullgraph=True, but {operation} cannot be compiled: {reason}")
        for operation, reason in program.fallbacks.items():
            self.warn.once(operation, f"{operation} runs in PyTorch on dense tensors: {reason}")

    def _names(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[str]:
        """What the user calls the tensors among the arguments."""
        bound = self.signature.bind(*args, **kwargs)
        pairs: list[Any]
        pairs, _ = tree_flatten_with_path((bound.args, bound.kwargs), is_leaf=_is_leaf)
        positional = list(bound.arguments)
        names = []
        for path, value in pairs:
            if not isinstance(value, _TENSORS):
                continue
            index = getattr(path[1], "idx", None)
            if path[0].idx == 0 and index is not None and index < len(positional):
                names.append(positional[index] + keystr(path[2:]))
            else:
                names.append(str(getattr(path[1], "key", keystr(path[1:]))) + keystr(path[2:]))
        return names

    def annotated(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments of a call that another trace sees, with the annotated ones marked."""
        from gossamer.annotation import annotate

        if not self.options.formats:
            return args, kwargs
        return self._mapped(
            args, kwargs, lambda _, format, value: annotate(value, format) if isinstance(value, Tensor) else value
        )


@dataclass(frozen=True)
class _MetaSparse:
    """A sparse argument without data, for `dump`."""

    shape: torch.Size
    dtype: torch.dtype
    format: Format
    given_fill: Any = None

    @property
    def fill(self) -> Any:
        return (False if self.dtype == torch.bool else 0.0) if self.given_fill is None else self.given_fill

    @property
    def device(self) -> torch.device:
        return torch.device("meta")

    def dim(self) -> int:
        return len(self.shape)


def _is_leaf(value: Any) -> bool:
    return isinstance(value, SparseTensor)


_TENSORS = (Tensor, SparseTensor, _MetaSparse)
_SIMPLE = (*_TENSORS, int, float, bool, str, type(None), torch.dtype)


def _flatten(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[list[Any], Any]:
    values = [*args, *kwargs.values()]
    if all(isinstance(value, _SIMPLE) for value in values):
        spec: Any = (len(args), tuple(kwargs))
    else:
        values, spec = tree_flatten((args, kwargs), is_leaf=_is_leaf)
    for number, value in enumerate(values):
        if isinstance(value, Tensor) and (value.layout != torch.strided or type(value) not in _PLAIN):
            _check_plain(value, "an argument")
            values[number] = value if value.layout == torch.strided else from_torch(value)
    return values, spec


_PLAIN = {Tensor, nn.Parameter, nn.Buffer}


def _check_plain(value: Any, name: str) -> None:
    """torch's 2:4 tensors say that they are dense, and are not."""
    if isinstance(value, SparseSemiStructuredTensor):
        raise TensorError(
            f"{name} is a {type(value).__name__}, whose packed values kernels do not read; give the dense tensor, "
            "stored by gs.sparsify(w, gs.NM(2, 4))"
        )


def _unflatten(values: list[Any], spec: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    if isinstance(spec, tuple):
        count, names = spec
        return tuple(values[:count]), dict(zip(names, values[count:], strict=True))
    return tree_unflatten(values, spec)


def _sparsified(value: Tensor, format: Format) -> SparseTensor:
    """A float tensor that forbids some entries is an additive mask, and its fill -inf."""
    if value.is_floating_point() and value.numel():
        limit = max(MASKING, torch.finfo(value.dtype).min)
        # Most are no masks, and this is the cheapest way to see it. The minimum of what has a NaN is NaN.
        if not float(value.detach().amin()) > limit:
            forbidden = value <= limit
            if bool(forbidden.any()):
                return sparsify(value.masked_fill(forbidden, -torch.inf), format, fill=-torch.inf)
    return sparsify(value, format)


def _other_devices(leaves: Sequence[Leaf]) -> TensorError | None:
    """Says which operands are on another device than the rest, which is why most such functions cannot be traced."""
    first = next((leaf for leaf in leaves if leaf.shape), None)
    other = next((leaf for leaf in leaves if leaf.shape and first and leaf.device != first.device), None)
    if first is None or other is None:
        return None
    return TensorError(f"{other.name} is on {other.device} and {first.name} is on {first.device}: move one of them")


def _each(value: Any, change: Callable[[Any], Any]) -> Any:
    """`change` of a tensor, or of every tensor in a container; None stays."""
    if isinstance(value, Tensor | SparseTensor):
        return change(value)
    return None if value is None else tree_map(change, value, is_leaf=_is_leaf)


@functools.lru_cache(maxsize=1024)
def _fitted(format: Format, rank: int) -> Format:
    return format.for_rank(rank)


def _same_shapes(own: tuple[tuple[int, ...], ...], others: Sequence[Sequence[int]]) -> bool:
    return tuple(map(tuple, others)) == own


def _leaf_key(value: Any) -> Any:
    ones = tuple(size == 1 for size in value.shape)
    if isinstance(value, Tensor):
        return value.dtype, value.device, ones
    if isinstance(value, _MetaSparse):
        return value.dtype, value.format, value.fill, ones
    pattern = value.pattern
    return value.dtype, value.device, ones, value.format, value.fill, pattern.pos_width, pattern.crd_width


def _mode_key() -> Any:
    autocast = torch.is_autocast_enabled("cpu"), torch.is_autocast_enabled("cuda")
    dtypes = (torch.get_autocast_dtype("cpu"), torch.get_autocast_dtype("cuda")) if any(autocast) else ()
    return torch.is_grad_enabled(), autocast, dtypes, torch.get_default_dtype()


def _leaf(name: str, value: Any, static: bool, pattern: int | None) -> Leaf:
    stored = None
    _check_plain(value, name)
    if value.dtype.is_complex and isinstance(value, SparseTensor | _MetaSparse):
        raise UnsupportedError(
            f"{name} is sparse and {value.dtype}: compiled functions take real numbers; compute with the real and the "
            "imaginary part, s.with_values(s.values.real), or give it as a dense tensor"
        )
    if isinstance(value, SparseTensor):
        stored = Stored(value.format, value.fill, value.pattern.pos_width, value.pattern.crd_width)
    elif isinstance(value, _MetaSparse):
        stored = Stored(value.format, value.fill, 32, 32)
    # code does not depend on the device yet, and a dump on the meta device shows that for the CPU
    device = torch.device("cpu") if value.device.type == "meta" else value.device
    return Leaf(name, tuple(value.shape), value.dtype, device, static, stored, pattern)
